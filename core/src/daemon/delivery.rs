//! An event on its way into a daemon, and where its answer goes.

use std::sync::Arc;

use bytes::Bytes;

use crate::causal::CausalLink;

/// The embedder's number for something it waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Where the answer to an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    /// To a caller in this environment.
    Local(Ticket),
    /// Nobody waits; the outcome counts all the same.
    Nobody,
    /// It was answered with a timeout, and its outcome is dropped.
    TimedOut,
    /// To the sender of a stream.
    Stream {
        /// Which of the host's streams.
        stream: u32,
        /// The event's number in it.
        number: u64,
        /// Whether the sender waits for outputs, not only for acceptance.
        call: bool,
    },
}

impl ReplyTo {
    /// Whether somebody waits for what comes of the event. An event that nobody waits for was promised to run.
    pub fn is_awaited(&self) -> bool {
        match self {
            Self::Local(_) | Self::Stream { call: true, .. } => true,
            Self::Stream { call: false, .. } | Self::Nobody | Self::TimedOut => false,
        }
    }
}

/// How long a caller waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// When it stops.
    pub at: tokio::time::Instant,
    /// What it asked for, for the message.
    pub timeout: std::time::Duration,
}

/// An event in a mailbox.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its place in its emitter's chain.
    pub link: CausalLink,
    /// The user's bytes.
    pub payload: Bytes,
    /// When it was received, unix nanoseconds.
    pub received_at: u64,
    /// The channel it came through.
    pub channel: Option<Arc<str>>,
    /// Where its answer goes.
    pub reply: ReplyTo,
    /// How long its local caller waits; the event itself does not end with that wait once it has begun.
    pub expires: Option<Expiry>,
    /// When it was accepted here; its own timeout counts from then while the daemon makes no progress.
    pub accepted_at: tokio::time::Instant,
    /// It was given up in the hands of the embedder: unless it has begun, it is dropped when it comes back.
    pub withdrawn: bool,
}

impl Delivery {
    /// What it counts for against the bounds of a mailbox.
    pub fn weight(&self) -> usize {
        self.payload.len()
    }

    /// What it takes here.
    pub fn footprint(&self) -> usize {
        size_of::<Self>() + self.payload.len() + self.channel.as_ref().map_or(0, |name| name.len())
    }
}
