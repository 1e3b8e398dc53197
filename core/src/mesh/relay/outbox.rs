//! What waits to be said to one peer about circuits.

use std::collections::VecDeque;

use super::switch::Switch;
use crate::identity::NodeId;
use crate::mesh::handler::RecordSink;
use crate::wire::relay::{CircuitId, RelayMessage};
use crate::wire::{Subprotocol, codec};

/// Answers and refusals that may wait; more are dropped, for nobody who waits for so many reads them.
const MOST_SAID: usize = 512;

/// A message in the fast lane.
#[derive(Clone, Copy, Debug)]
pub(super) enum Say {
    Ask(NodeId),
    Answer(NodeId, bool),
    Open(CircuitId, NodeId),
    Incoming(CircuitId),
    Accepted(CircuitId),
    Credit(CircuitId, u64),
    /// The credit that the switch has gathered meanwhile.
    CreditOf(CircuitId),
    Close(CircuitId),
}

/// Everything for one peer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    said: VecDeque<Say>,
    /// Circuits with bytes for the peer, each once.
    pub(super) data: VecDeque<CircuitId>,
}

impl Outbox {
    /// Enters a message. What begins something is refused when too much waits; what a circuit that exists needs is not:
    /// circuits are bounded themselves.
    pub(super) fn say(&mut self, say: Say) -> bool {
        let bounded = match say {
            Say::Ask(_) | Say::Answer(..) | Say::Open(..) | Say::Incoming(_) => true,
            Say::Accepted(_) | Say::Credit(..) | Say::CreditOf(_) | Say::Close(_) => self.said.len() >= 8 * MOST_SAID,
        };
        if bounded && self.said.len() >= MOST_SAID {
            return false;
        }
        self.said.push_back(say);
        true
    }

    /// Writes what fits; true when more waits.
    pub(super) fn fill(&mut self, to: NodeId, switch: &mut Switch, sink: &mut dyn RecordSink) -> bool {
        while let Some(&say) = self.said.front() {
            let message = match say {
                Say::Ask(node) => RelayMessage::Ask { node },
                Say::Answer(node, yes) => RelayMessage::Answer { node, yes },
                Say::Open(circuit, to) => RelayMessage::Open { circuit, to },
                Say::Incoming(circuit) => RelayMessage::Incoming { circuit },
                Say::Accepted(circuit) => RelayMessage::Accepted { circuit },
                Say::Credit(circuit, bytes) => RelayMessage::Credit { circuit, bytes },
                Say::Close(circuit) => RelayMessage::Close { circuit },
                Say::CreditOf(circuit) => {
                    if sink.room() < DECENT {
                        return true;
                    }
                    let Some(bytes) = switch.take_credit(circuit, to) else {
                        self.said.pop_front();
                        continue;
                    };
                    RelayMessage::Credit { circuit, bytes }
                }
            };
            if sink.record(Subprotocol::Relay, &mut |out| codec::encode_into(&message, out)).is_none() {
                return true;
            }
            self.said.pop_front();
        }
        false
    }
}

/// Every message of this kind fits in so much.
const DECENT: usize = 64;
