//! Daemons as actors: configuration, mailbox, the execution fence and the registry of factories.
//!
//! A daemon runs one batch at a time, in order; control operations (snapshot, freeze, stop) take their turn between
//! batches. Nothing here calls user code: a [`DaemonHost`] only decides what may run next, and an embedding language
//! runs it and reports back.

mod config;
mod delivery;
mod factories;
mod host;
mod mailbox;

pub use config::HostConfig;
pub use delivery::{Delivery, Expiry, ReplyTo, Ticket};
pub use factories::{Expectation, FactoryRegistry};
pub use host::{
    BATCH_BYTES, BATCH_EVENTS, BatchId, Control, DaemonHost, DaemonKey, EventOutcome, InFlight, Presence, Running,
    Stats,
};
pub use mailbox::{Mailbox, MailboxFull};
