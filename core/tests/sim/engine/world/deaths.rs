//! Nodes that die and return, and partitions that outlast the detection of losses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_daemon_core::identity::{Incarnation, RuntimeLife};
use mesh_daemon_core::mesh::{Loss, PeerEvent, PeerIdentity};
use mesh_daemon_core::runtime::RuntimeError;

use super::super::daemon::Objects;
use super::{Event, World, begun, make_engine, pair};

/// What keeps pairs apart.
#[derive(Default)]
pub(super) struct Mortality {
    down: BTreeSet<usize>,
    walls: BTreeSet<(usize, usize)>,
    /// Pairs whose ends declared each other lost: their next session is a new one.
    pub(super) given_up: BTreeSet<(usize, usize)>,
    /// How often somebody was told that a peer is lost.
    pub(super) losses: u64,
    /// Whether the end of a process is heard of by each of the others in its own time: first that the session broke.
    late_news: bool,
    /// Who has yet to hear of whose end.
    unheard: BTreeMap<(usize, usize), PeerEvent>,
}

impl World {
    /// From here on the others hear of the end of a process late, and not at once.
    pub(crate) fn bring_news_late(&mut self) {
        self.mortality.late_news = true;
    }

    /// A node hears now of the end of another one's process, if it has not yet.
    pub(super) fn hear_of_end(&mut self, node: usize, peer: usize) {
        if let Some(lost) = self.mortality.unheard.remove(&(node, peer)) {
            self.note(&format!("n{node} hears of the end of n{peer}"));
            self.peer_event(node, &lost);
        }
    }

    /// Kills the process of a node and starts another one. Its peers learn that from the newer incarnation.
    pub(crate) fn restart(&mut self, index: usize) {
        self.restart_unready(index);
        self.make_ready(index);
    }

    /// The same when its peers have given it up before: they meet the new life and hear nothing of the old one's end.
    pub(crate) fn restart_after_silence(&mut self, index: usize) {
        self.lose_all(index);
        self.restart_as(index, false);
        self.make_ready(index);
    }

    /// The same, without making its runtime ready.
    pub(crate) fn restart_unready(&mut self, index: usize) {
        self.restart_as(index, true);
    }

    fn restart_as(&mut self, index: usize, told: bool) {
        self.note(&format!("n{index} restarts"));
        let old = self.begin_life(index);
        for other in (0..self.nodes.len()).filter(|other| *other != index) {
            self.sessions.remove(&pair(index, other));
            let lost = PeerEvent::Lost { node: old.node, incarnation: old.incarnation, how: Loss::NewerIncarnation };
            if told {
                self.peer_event(other, &lost);
            }
            self.connect(index, other, false);
        }
    }

    /// Starts a node anew, alone. Returns who it was before.
    pub(super) fn begin_life(&mut self, index: usize) -> PeerIdentity {
        let life = self.nodes[index].life + 1;
        self.mortality.unheard.retain(|(node, _), _| *node != index);
        let old = self.identity(index);
        self.begin_engine(index, begun(life, index), RuntimeLife::FIRST);
        self.nodes[index].bare = false;
        old
    }

    /// Puts a new engine, which knows nothing, in the place of a node's.
    pub(super) fn begin_engine(&mut self, index: usize, incarnation: Incarnation, runtime: RuntimeLife) {
        let life = self.nodes[index].life + 1;
        for wait in self.waits.values_mut().filter(|wait| wait.node == index && wait.result.is_none()) {
            wait.result = Some(Err(RuntimeError::ShuttingDown));
        }
        self.speech.forget(index);
        let options = &self.nodes[index].options;
        let (engine, keypair) = make_engine(self.seed, index, (life, incarnation, runtime), options);
        let members = std::mem::take(&mut self.members[index]);
        let node = &mut self.nodes[index];
        node.engine = engine;
        node.keypair = keypair;
        (node.incarnation, node.runtime) = (incarnation, runtime);
        node.objects = Objects::default();
        node.open.clear();
        node.life = life;
        self.tell_members(index, &members);
    }

    /// The runtime of a node that was restarted becomes ready.
    pub(crate) fn make_ready(&mut self, index: usize) {
        self.get_ready(index);
        self.settle(index);
    }

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
                    self.tell_of_end(other, victim, lost, silently);
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

    fn tell_of_end(&mut self, node: usize, peer: usize, lost: PeerEvent, silently: bool) {
        if !self.mortality.late_news {
            return self.peer_event(node, &lost);
        }
        self.mortality.unheard.insert((node, peer), lost);
        let broken = Duration::from_micros(self.chance(2_000));
        let patience = if silently { Duration::from_secs(5) } else { Duration::from_millis(2) };
        let session = self.last_session;
        self.at(broken, Event::Suspect { node, peer, session });
        self.at(broken + patience, Event::HearOfEnd { node, peer });
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
