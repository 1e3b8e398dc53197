//! Message types, their codec, frame constants and version numbers.
//!
//! A session carries *frames* (one Noise message each); a frame carries *records* of one lane; a record is one
//! message of one subprotocol.

pub mod capabilities;
pub mod channels;
pub mod codec;
pub mod directory;
mod event_failure;
mod event_refusal;
pub mod events;
mod failure_reason;
pub mod frame;
pub mod membership;
pub mod migration;
mod outputs;
pub mod relay;
pub mod session;
mod subprotocol;

pub use frame::MAX_RECORD_BODY;
pub use subprotocol::{Lane, Subprotocol};
