//! Messages of the session itself, and what each side tells the other inside the handshake.

use minicbor::{Decode, Encode};

/// Version of the wire that must be equal on both sides; part of the handshake's prologue.
pub const WIRE_MAJOR: u8 = 1;

/// Version of the wire within the major one; told in the handshake, the smaller one of the two counts.
pub const WIRE_MINOR: u16 = 0;

/// Upper bound for a handshake message, prefix excluded. Keeps what a stranger can make a node buffer small.
pub const MAX_HANDSHAKE_MESSAGE: usize = 1024;

/// A message of subprotocol [`Session`](super::Subprotocol::Session).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SessionMessage {
    /// The listener took the session. First message of every session; the dialler may not use it before.
    #[n(0)]
    Welcome {
        /// Both sides still hold what they shared with this incarnation of the other, and it began with the same session.
        #[n(0)]
        resumed: bool,
        /// The listener's subprotocols run already, as [`Ready`](Self::Ready) is about to say: so the dialler knows it the
        /// moment it has the session.
        #[n(1)]
        ready: Option<bool>,
    },
    /// The listener does not take the session, though both sides are who they say.
    #[n(1)]
    Refused(#[n(0)] Refusal),
    /// The sender's subprotocols run: from now on it may be sent records of theirs.
    #[n(2)]
    Ready,
    /// Asks for a [`Pong`](Self::Pong) with the same number.
    #[n(3)]
    Ping(#[n(0)] u64),
    /// Answers a ping.
    #[n(4)]
    Pong(#[n(0)] u64),
    /// Gives back this many bytes of bulk credit.
    #[n(5)]
    Credit(#[n(0)] u64),
    /// The sender's process is leaving and holds nothing any more.
    #[n(6)]
    Goodbye,
}

/// Why a proven peer was not given a session, in words for that peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[cbor(index_only)]
pub enum Refusal {
    /// Another session with it lives or is about to.
    #[n(0)]
    #[error("there is another session between the two nodes")]
    Duplicate,
    /// A newer incarnation of that node has been here.
    #[n(1)]
    #[error("a newer life of this node has been there")]
    OlderIncarnation,
    /// No room for another peer.
    #[n(2)]
    #[error("it has as many peers as it may have")]
    Full,
    /// A node with another key has the same node id, or the peer is this very node.
    #[n(3)]
    #[error("it has this node's id itself, or knows another node with the same id")]
    IdTaken,
    /// This node is going away.
    #[n(4)]
    #[error("it is shutting down")]
    Leaving,
}

/// The encrypted payload of handshake messages two and three.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HandshakePayload {
    /// The node's public key.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub entity: [u8; 32],
    /// The node's incarnation in its wire form.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub incarnation: [u8; 16],
    /// Signature of the node's key; see [`handshake`](crate::session).
    #[cbor(n(2), with = "minicbor::bytes")]
    pub signature: [u8; 64],
    /// Minor version of the wire.
    #[n(3)]
    pub minor: u16,
    /// Features as bits; unknown ones are ignored.
    #[n(4)]
    pub features: u64,
    /// Largest payload the node accepts, in bytes.
    #[n(5)]
    pub max_payload: u64,
    /// Bytes of bulk bodies that may be on their way to the node at once.
    #[n(6)]
    pub bulk_window: u64,
    /// From the dialler: how many sessions it has asked for in this incarnation. A later one replaces an earlier one.
    #[n(7)]
    pub attempt: Option<u64>,
    /// From the dialler: the last session it had with this peer, which it knows to be dead.
    #[cbor(n(8), with = "minicbor::bytes")]
    pub after: Option<[u8; 16]>,
    // Field 9 said that the dialler held something of before, and not of which beginning: nobody goes on with that.
    /// From the dialler: its subprotocols run already.
    #[n(10)]
    pub ready: Option<bool>,
    /// From the dialler: the session with which began what it still holds of what it shared with this incarnation of the peer.
    #[cbor(n(11), with = "minicbor::bytes")]
    pub holds: Option<[u8; 16]>,
}
