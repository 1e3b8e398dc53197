//! What creating a node or connecting it can fail with.

use std::io;
use std::sync::Arc;

use super::table::PeerRefusal;
use crate::identity::NodeId;
use crate::session::{HandshakeError, SessionError};
use crate::wire::session::Refusal;

/// A failed operation of a [`MeshNode`](super::MeshNode). Every text names the address it is about.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MeshError {
    /// An argument that cannot be used.
    #[error("{0}")]
    InvalidArgument(String),
    /// Somebody else listens there.
    #[error("cannot listen on {address}: the address is in use")]
    AddressInUse {
        /// As it was given.
        address: String,
    },
    /// The name does not resolve, or is not an address of this machine.
    #[error("{address}: address not found: {source}")]
    AddressNotFound {
        /// As it was given.
        address: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// No connection could be made.
    #[error("{address} cannot be reached: {source}")]
    Unreachable {
        /// As it was given.
        address: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A connection was made and no session came of it.
    #[error("handshake with {address} failed: {reason}")]
    HandshakeFailed {
        /// As it was given.
        address: String,
        /// Why, as far as this side can know.
        reason: HandshakeFailure,
    },
    /// Somebody else than expected answered.
    #[error("{address} answered as node {got}, which is not the pinned {what}")]
    PinMismatch {
        /// As it was given.
        address: String,
        /// Which pin.
        what: &'static str,
        /// Who answered.
        got: NodeId,
    },
    /// There is no session with that node, and no peer has one that would relay.
    #[error("node {node} has no session here, and no common peer relays to it")]
    NoRelay {
        /// Who was wanted.
        node: NodeId,
    },
    /// The node is shut down.
    #[error("the mesh node is shut down")]
    ShutDown,
}

/// Why no session came of a connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum HandshakeFailure {
    /// It took too long.
    #[error("the peer did not answer in time")]
    TimedOut,
    /// The peer closed without a word, which is all that a refused one is told.
    #[error(
        "the peer closed the connection: its pre-shared key or its major version of the wire differs, it is busy, or it \
         is not a mesh node"
    )]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(Arc<io::Error>),
    /// A message did not fit.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The first frame did not fit.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// This node refused the peer.
    #[error(transparent)]
    RefusedHere(#[from] PeerRefusal),
    /// The peer, proven and having proven this node, refused.
    #[error("the peer refused: {0}")]
    RefusedThere(Refusal),
    /// The session was given up for another one, which did not come.
    #[error("another session with the peer was expected and did not come")]
    GivenUp,
}

/// Why a handler was not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstallError {
    /// One of the subprotocols has a handler.
    #[error("subprotocol {0:?} has a handler already")]
    Taken(crate::wire::Subprotocol),
    /// The subprotocols of the mesh itself cannot be handled from outside.
    #[error("subprotocol {0:?} belongs to the mesh itself")]
    Reserved(crate::wire::Subprotocol),
    /// The node is shut down.
    #[error("the mesh node is shut down")]
    ShutDown,
}
