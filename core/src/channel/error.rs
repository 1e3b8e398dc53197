//! What can go wrong with a channel.

use crate::identity::{IdentityError, NodeId, TokenError};

/// Why something with a channel did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// An argument is out of range.
    #[error("{0}")]
    InvalidArgument(String),
    /// The publisher has no such channel.
    #[error("the publisher has no channel '{0}'")]
    Unknown(String),
    /// The publisher refused, or no longer lets the subscriber in.
    #[error("the publisher of '{channel}' refused: {why}")]
    Unauthorized {
        /// Which channel.
        channel: String,
        /// What it says of the reason.
        why: Denial,
    },
    /// Too many refused attempts; later ones are not looked at for a while.
    #[error("too many refused attempts to subscribe to '{0}'; try again later")]
    Throttled(String),
    /// More messages per second than the channel allows.
    #[error("channel '{channel}' allows {max_rate} messages per second")]
    RateLimited {
        /// Which channel.
        channel: String,
        /// What it allows.
        max_rate: u32,
    },
    /// The payload is too large.
    #[error("payload of {size} bytes is larger than the limit of {limit}")]
    PayloadTooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The publisher, or the subscriber of a message, was lost.
    #[error("node {0} was lost")]
    PeerLost(NodeId),
    /// The subscriber left before a message reached it.
    #[error("node {0} has left the channel")]
    Left(NodeId),
    /// The subscriber itself left before it was let in.
    #[error("channel '{0}' was left before its publisher had answered")]
    Unsubscribed(String),
    /// The daemon has gone on from another node.
    #[error("the daemon receives '{0}' on another node now")]
    Moved(String),
    /// The subscriber took nothing of what waited for it, for too long.
    #[error("the subscriber took nothing for too long")]
    Stalled,
    /// The daemon's key is not on its node.
    #[error(transparent)]
    Identity(IdentityError),
    /// A queue is full.
    #[error("{0}")]
    Backpressure(&'static str),
    /// There is no session with the peer.
    #[error("no session with node {0}")]
    NotConnected(NodeId),
    /// A revocation that its issuer did not sign.
    #[error(transparent)]
    Revocation(TokenError),
    /// This node was shut down.
    #[error("the mesh node was shut down")]
    ShutDown,
}

/// Why a publisher lets somebody in no longer, or not at all, as far as it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No token, a wrong one, or the channel is not to be seen from there.
    #[error("not authorised")]
    NotAuthorized,
    /// This node itself may not publish on its channel: it has not announced what that asks of publishers.
    #[error("its node has not announced what the channel asks of publishers")]
    Incapable,
    /// The token's time has not come: it was made ahead, or its issuer's clock is.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// The token's time is over.
    #[error("the token has expired")]
    Expired,
    /// The token was revoked.
    #[error("the token was revoked")]
    Revoked,
}
