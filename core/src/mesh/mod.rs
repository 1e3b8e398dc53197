//! Nodes, peers, dialling, heartbeats, failure detection.

mod handler;
pub mod table;

pub use handler::{Loss, PeerEvent, PeerIdentity, Record, RecordSink, SubprotocolHandler};
