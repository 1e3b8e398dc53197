//! What stands in a stream at its sender: events at their numbers, and who waits for what.

use bytes::Bytes;

use crate::causal::CausalLink;
use crate::daemon::{Expiry, Ticket};
use crate::identity::OriginHash;

/// An event that leaves this node.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Its place in its emitter's chain.
    pub link: CausalLink,
    /// The user's bytes.
    pub payload: Bytes,
    /// Who waits.
    pub ticket: Ticket,
    /// Whether outputs are awaited, not only acceptance.
    pub call: bool,
    /// How long.
    pub expires: Option<Expiry>,
}

/// A numbered position at its sender.
#[derive(Clone, Debug)]
pub enum OutItem {
    /// Not accepted yet.
    Pending(Outgoing),
    /// Accepted; the reply is awaited.
    Awaiting {
        /// Who waits.
        ticket: Ticket,
        /// How long.
        expires: Option<Expiry>,
        /// Who emitted the event.
        emitter: OriginHash,
    },
    /// Its sender's patience ended and the host was told so: it says that the event will not run, or that it was accepted.
    Withdrawn {
        /// Who waits.
        ticket: Ticket,
        /// How long for the host's word.
        expires: Expiry,
        /// Who emitted the event.
        emitter: OriginHash,
    },
    /// Given up before it was accepted; the number is still due.
    Skip,
    /// Nothing more to come.
    Done,
}

/// What a host is told about a stream when there are no events to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Word {
    /// No more than which positions are finished.
    Nothing,
    /// That somebody waits.
    Waiting,
    /// That replies may have been lost on the way, and are to be sent again.
    Repeat,
}

impl OutItem {
    /// Who waits, and how long.
    pub(super) fn waiting(&self) -> Option<(Ticket, Option<Expiry>)> {
        match self {
            Self::Pending(outgoing) => Some((outgoing.ticket, outgoing.expires)),
            Self::Awaiting { ticket, expires, .. } => Some((*ticket, *expires)),
            Self::Withdrawn { ticket, expires, .. } => Some((*ticket, Some(*expires))),
            Self::Skip | Self::Done => None,
        }
    }
}
