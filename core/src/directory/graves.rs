//! Lives of nodes that are proven to be over: a claim that names one of them names nobody. And nodes that fell silent, of
//! which nobody can say that.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::identity::{Incarnation, NodeId};

/// Most nodes that are remembered.
const MOST: usize = 4096;

/// The newest life of each node that has ended.
#[derive(Debug, Default)]
pub struct Graves {
    ended: HashMap<NodeId, Incarnation>,
    order: VecDeque<NodeId>,
    missing: BTreeSet<NodeId>,
}

impl Graves {
    /// A life of a node has ended, with all that it hosted.
    pub fn bury(&mut self, node: NodeId, life: Incarnation) {
        self.missing.remove(&node);
        if let Some(newest) = self.ended.get_mut(&node) {
            *newest = life.max(*newest);
        } else {
            self.ended.insert(node, life);
            self.order.push_back(node);
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }

    /// A node was given up because it was silent: it may live, and host whatever it hosted.
    pub fn miss(&mut self, node: NodeId) {
        if self.missing.len() < MOST {
            self.missing.insert(node);
        }
    }

    /// A node is there.
    pub fn seen(&mut self, node: NodeId) {
        self.missing.remove(&node);
    }

    /// Whether somebody who was given up may be alive.
    pub fn misses_any(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Whether that life of the node is over.
    pub fn holds(&self, node: NodeId, life: Incarnation) -> bool {
        self.ended.get(&node).is_some_and(|newest| life <= *newest)
    }
}
