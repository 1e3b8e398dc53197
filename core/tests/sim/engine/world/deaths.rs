//! Nodes that die and return, and partitions that outlast the detection of losses.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_daemon_core::mesh::{Loss, PeerEvent};

use super::{Event, World, pair};

/// What keeps pairs apart.
#[derive(Default)]
pub(super) struct Mortality {
    down: BTreeSet<usize>,
    walls: BTreeSet<(usize, usize)>,
    /// Pairs whose ends declared each other lost: their next session is a new one.
    pub(super) given_up: BTreeSet<(usize, usize)>,
    /// How often somebody was told that a peer is lost.
    pub(super) losses: u64,
}

impl World {
    /// Whether anybody ever declared anybody lost.
    pub(crate) fn was_any_lost(&self) -> bool {
        self.mortality.losses > 0
    }

    pub(crate) fn is_down(&self, node: usize) -> bool {
        self.mortality.down.contains(&node)
    }

    /// Connects again what may meet. Shared state goes on unless the ends gave each other up.
    pub(super) fn heal(&mut self, one: usize, other: usize) {
        let apart = self.is_down(one) || self.is_down(other) || self.mortality.walls.contains(&pair(one, other));
        if !apart && !self.is_connected(one, other) {
            let resumed = !self.mortality.given_up.contains(&pair(one, other));
            self.connect(one, other, resumed);
        }
    }

    /// Keeps two nodes apart for `time`. They give each other up after `patience`, if that comes first.
    pub(crate) fn part(&mut self, one: usize, other: usize, patience: Duration, time: Duration) {
        if !self.mortality.walls.insert(pair(one, other)) {
            return;
        }
        self.note(&format!("n{one} | n{other} for {time:?}"));
        self.cut(one, other, time);
        self.at(patience.min(time), Event::GiveUp { one, other });
        self.at(time, Event::Unwall { one, other });
    }

    pub(super) fn give_up(&mut self, one: usize, other: usize) {
        let walled = self.mortality.walls.contains(&pair(one, other));
        if walled && !self.is_connected(one, other) && !self.mortality.given_up.contains(&pair(one, other)) {
            self.lose(one, other, Loss::Silence);
        }
    }

    pub(super) fn unwall(&mut self, one: usize, other: usize) {
        self.mortality.walls.remove(&pair(one, other));
        self.heal(one, other);
    }

    /// Ends the processes of nodes at one instant; each is back after its pause. `silently`: the others give them up
    /// long before that; otherwise they only meet the next life.
    pub(crate) fn crash(&mut self, victims: &[usize], silently: bool, pause: Duration) {
        self.note(&format!("{victims:?} die, silently {silently}"));
        let others: Vec<usize> = (0..self.nodes.len()).filter(|node| !victims.contains(node)).collect();
        let before: Vec<_> = victims.iter().map(|&victim| self.identity(victim)).collect();
        for &victim in victims {
            // No word of a dying process reaches anybody.
            for other in 0..self.nodes.len() {
                self.sessions.remove(&pair(victim, other));
            }
            self.begin_life(victim);
            self.mortality.down.insert(victim);
        }
        for (&victim, old) in victims.iter().zip(before) {
            for &other in &others {
                let how = if silently { Loss::Silence } else { Loss::NewerIncarnation };
                if self.mortality.given_up.insert(pair(victim, other)) && !self.is_down(other) {
                    let lost = PeerEvent::Lost { node: old.node, incarnation: old.incarnation, how };
                    self.peer_event(other, &lost);
                }
            }
            self.at(pause, Event::Revive { node: victim });
        }
        // Those who died together know nothing of each other.
        for (index, &one) in victims.iter().enumerate() {
            for &other in &victims[index + 1..] {
                self.mortality.given_up.insert(pair(one, other));
            }
        }
    }

    pub(super) fn revive(&mut self, node: usize) {
        if !self.mortality.down.remove(&node) {
            return;
        }
        self.note(&format!("n{node} lives again"));
        self.make_ready(node);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.heal(node, other);
        }
    }

    /// Everybody lives, and everybody reaches everybody.
    pub(crate) fn make_whole(&mut self) {
        for (one, other) in std::mem::take(&mut self.mortality.walls) {
            self.heal(one, other);
        }
        for node in 0..self.nodes.len() {
            self.revive(node);
        }
        for one in 0..self.nodes.len() {
            for other in one + 1..self.nodes.len() {
                self.heal(one, other);
            }
        }
    }
}
