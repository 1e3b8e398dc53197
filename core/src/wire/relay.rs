//! Messages between the ends of a circuit and the peer in the middle (subprotocol 0x0700).
//!
//! A circuit carries the bytes of a whole session between two nodes that have none of their own, through a peer that has
//! one with both. That peer forwards ciphertext; the handshake inside the circuit proves the two ends to each other. A
//! circuit has one name on both of its hops. [`Data`](RelayMessage::Data) travels in the bulk lane, everything else in
//! the fast one; the two directions of a circuit are independent.

use minicbor::{Decode, Encode};

use crate::identity::NodeId;

/// Bytes of one direction of a circuit that were sent and not yet read at its other end. So much a relay holds at most.
pub const CIRCUIT_WINDOW: u64 = 512 * 1024;

/// Most bytes of a [`Data`](RelayMessage::Data) message beside those it carries.
pub const DATA_OVERHEAD: usize = 48;

/// Names a circuit. The number is the opener's, and never again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(array)]
pub struct CircuitId {
    /// The node that asked for it.
    #[n(0)]
    pub opener: NodeId,
    /// Which one of that node's.
    #[n(1)]
    pub number: u64,
}

/// A message of the relay subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum RelayMessage<'b> {
    /// To a peer: has it a session of its own with this node, and would it relay?
    #[n(0)]
    Ask {
        /// The node that is wanted.
        #[n(0)]
        node: NodeId,
    },
    /// Answers [`Ask`](Self::Ask).
    #[n(1)]
    Answer {
        /// The node that was asked about.
        #[n(0)]
        node: NodeId,
        /// Whether it can be reached.
        #[n(1)]
        yes: bool,
    },
    /// Opener → relay: a circuit to this node. Answered by [`Accepted`](Self::Accepted) or [`Close`](Self::Close).
    #[n(2)]
    Open {
        /// Its name.
        #[n(0)]
        circuit: CircuitId,
        /// The far end.
        #[n(1)]
        to: NodeId,
    },
    /// Relay → far end: the opener named in the circuit wants to speak. Answered in the same way.
    #[n(3)]
    Incoming {
        /// Its name.
        #[n(0)]
        circuit: CircuitId,
    },
    /// Far end → relay → opener: go on.
    #[n(4)]
    Accepted {
        /// Which one.
        #[n(0)]
        circuit: CircuitId,
    },
    /// The next bytes of one direction; none at all is its end.
    #[n(5)]
    Data {
        /// Which one.
        #[n(0)]
        circuit: CircuitId,
        /// The bytes.
        #[b(1)]
        #[cbor(with = "minicbor::bytes")]
        bytes: &'b [u8],
    },
    /// From the reading end to the writing one: so many bytes were read.
    #[n(6)]
    Credit {
        /// Which one.
        #[n(0)]
        circuit: CircuitId,
        /// How many.
        #[n(1)]
        bytes: u64,
    },
    /// The circuit is gone, or never came to be.
    #[n(7)]
    Close {
        /// Which one.
        #[n(0)]
        circuit: CircuitId,
    },
}
