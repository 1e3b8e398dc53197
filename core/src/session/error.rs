//! What ends a handshake or a session. These texts stay on this side; the peer sees a closed connection.

use crate::identity::EntityId;
use crate::wire::frame::FrameError;

/// A failed handshake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The first message does not authenticate. The peer's key or protocol differs, or it is not a node at all.
    #[error("the peer has another pre-shared key or another major version of the wire (here: {ours})")]
    NotAuthentic {
        /// The major version spoken here.
        ours: u8,
    },
    /// The first message authenticates under another major version, so the pre-shared key is right.
    #[error("the peer speaks major version {theirs} of the wire, this node {ours}")]
    OtherMajor {
        /// The major version spoken here.
        ours: u8,
        /// The major version the peer speaks.
        theirs: u8,
    },
    /// A message that is not one of this handshake.
    #[error("malformed handshake message: {0}")]
    Malformed(String),
    /// The peer does not hold the key that it claims.
    #[error("the signature of {0} does not verify")]
    BadSignature(EntityId),
    /// The cryptographic library refused.
    #[error("handshake state: {0}")]
    Noise(String),
}

/// What ends an established session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A frame does not authenticate. Nothing after it is believed.
    #[error("a frame does not authenticate")]
    BadTag,
    /// A frame with an impossible length.
    #[error("a frame of {0} bytes")]
    BadLength(usize),
    /// A decrypted frame that is not well formed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A session message that is not well formed.
    #[error("malformed session message: {0}")]
    Message(String),
    /// The peer sent more bulk data than it was allowed.
    #[error("the peer overran its bulk credit by {0} bytes")]
    CreditOverrun(u64),
    /// The peer gave back more credit than was used.
    #[error("the peer returned {0} bytes of credit that were not used")]
    CreditForged(u64),
    /// The cryptographic library refused.
    #[error("cipher state: {0}")]
    Noise(String),
}
