//! Message types, their codec, frame constants and version numbers.
//!
//! A session carries *frames* (one Noise message each); a frame carries *records* of one lane; a record is one
//! message of one subprotocol.

pub mod codec;
pub mod directory;
pub mod events;
pub mod migration;
mod subprotocol;

pub use subprotocol::{Lane, Subprotocol};
