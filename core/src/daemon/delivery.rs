//! An event on its way into a daemon, and where its answer goes.

use std::sync::Arc;

use bytes::Bytes;

use crate::identity::OriginHash;

/// The embedder's number for something it waits on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Where the answer to an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyTo {
    /// To a caller in this environment.
    Local(Ticket),
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

/// What an emitter says of an event, beside its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emission {
    /// Who emitted it.
    pub origin: OriginHash,
    /// The emitter's number for it.
    pub sequence: u64,
    /// Hash of the emitter's previous link; 0 when it keeps no chain.
    pub parent_hash: u64,
    /// Bloom summary of what the emitter had observed; 0 when it keeps no chain.
    pub horizon: u64,
}

/// An event in a mailbox.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What its emitter says of it.
    pub emission: Emission,
    /// The user's bytes.
    pub payload: Bytes,
    /// When it was received, unix nanoseconds.
    pub received_at: u64,
    /// The channel it came through.
    pub channel: Option<Arc<str>>,
    /// Where its answer goes.
    pub reply: ReplyTo,
    /// When it was accepted here; its own timeout counts from then while the daemon makes no progress.
    pub accepted_at: tokio::time::Instant,
}

impl Delivery {
    /// What it counts for against the bounds of a mailbox.
    pub fn weight(&self) -> usize {
        self.payload.len()
    }
}
