//! Test hooks: hold a migration at a message, look that it got there, let it go on.

use std::collections::HashSet;

use bytes::Bytes;

use super::engine::{Engine, Now};
use crate::identity::NodeId;
use crate::wire::codec;

/// Messages that are held back on arrival.
#[derive(Debug, Default)]
pub(super) struct Gates {
    closed: HashSet<String>,
    held: Vec<(NodeId, String, Bytes)>,
}

impl Gates {
    /// Takes a message out of the way when its gate is closed.
    pub(super) fn holds(&mut self, from: NodeId, message: &str, body: &Bytes) -> bool {
        let holds = self.closed.contains(message);
        if holds {
            self.held.push((from, message.to_owned(), body.clone()));
        }
        holds
    }
}

impl Engine {
    /// From now on this node does not handle messages of this name.
    pub fn close_gate(&mut self, message: &str) {
        self.gates.closed.insert(message.to_owned());
    }

    /// Handles what was held, and whatever comes from now on.
    pub fn open_gate(&mut self, message: &str, now: Now) {
        self.gates.closed.remove(message);
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.gates.held).into_iter().partition(|(_, name, _)| name == message);
        self.gates.held = rest;
        for (from, _, body) in due {
            if let Ok(message) = codec::decode(&body) {
                self.on_migration_message(from, &message, &body, now);
            }
        }
        self.settle_own(now);
    }
}
