//! The peers by node id, and which of them is next to be looked at or forgotten.

use std::collections::{BTreeSet, HashMap};

use super::{Instant, NodeId, Peer};

/// Lost peers that are remembered; the one that is lost longest is forgotten for another one.
pub(super) const MOST_LOST: usize = 4096;

/// All peers. Whoever was handed out for a change finds its place in the orders when the table [settles](Self::settle).
#[derive(Debug, Default)]
pub(super) struct Peers {
    all: HashMap<NodeId, Peer>,
    changed: BTreeSet<NodeId>,
    places: HashMap<NodeId, Place>,
    due: BTreeSet<(Instant, NodeId)>,
    lost: BTreeSet<(Instant, NodeId)>,
}

/// Where a peer stands in the orders.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// When it is to be looked at.
    pub(super) due: Option<Instant>,
    /// Since when it is lost, if it may be forgotten for that.
    pub(super) lost: Option<Instant>,
}

impl Peers {
    pub(super) fn get(&self, node: NodeId) -> Option<&Peer> {
        self.all.get(&node)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.all.values()
    }

    /// Sorted.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<_> = self.all.keys().copied().collect();
        nodes.sort_unstable();
        nodes
    }

    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Peer> {
        let peer = self.all.get_mut(&node)?;
        self.changed.insert(node);
        Some(peer)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Peer> {
        self.changed.extend(self.all.keys());
        self.all.values_mut()
    }

    /// The peer, known or new.
    pub(super) fn entry(&mut self, node: NodeId) -> &mut Peer {
        self.changed.insert(node);
        self.all.entry(node).or_default()
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        self.all.remove(&node);
        self.changed.insert(node);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Puts all that changed in its place, and forgets who is lost longest of too many.
    pub(super) fn settle(&mut self, place: impl Fn(&Peer) -> Place) {
        while let Some(node) = self.changed.pop_first() {
            self.displace(node);
            let Some(place) = self.all.get(&node).map(&place) else { continue };
            self.due.extend(place.due.map(|at| (at, node)));
            self.lost.extend(place.lost.map(|at| (at, node)));
            self.places.insert(node, place);
        }
        while self.lost.len() > MOST_LOST
            && let Some(&(_, node)) = self.lost.first()
        {
            self.displace(node);
            self.all.remove(&node);
        }
    }

    fn displace(&mut self, node: NodeId) {
        let Some(Place { due, lost }) = self.places.remove(&node) else { return };
        if let Some(at) = due {
            self.due.remove(&(at, node));
        }
        if let Some(at) = lost {
            self.lost.remove(&(at, node));
        }
    }

    /// When the first one is to be looked at, as of the last [`settle`](Self::settle).
    pub(super) fn first_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Who is to be looked at by `now`, sorted.
    pub(super) fn due(&self, now: Instant) -> Vec<NodeId> {
        let mut nodes: Vec<_> = self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, node)| *node).collect();
        nodes.sort_unstable();
        nodes
    }
}
