//! Nodes, peers, dialling, heartbeats, failure detection.
//!
//! [`MeshNode`] is the tokio shell around [`session`](crate::session) and the [`PeerTable`](table::PeerTable): it listens
//! and dials, runs a reader and a writer per session, and carries the records of the layers above, which implement
//! [`SubprotocolHandler`]. Which peer has which session is decided by the table alone; who else belongs to the mesh, and is
//! to be dialled, by the [`membership`](crate::membership).

mod config;
mod counters;
mod dial;
mod error;
mod handler;
mod handlers;
mod inner;
mod limits;
mod link;
mod listen;
mod members;
mod node;
mod reader;
mod relay;
mod stream;
pub mod table;
mod timer;
mod writer;

pub use config::MeshConfig;
pub use counters::MeshCounters;
pub use error::{HandshakeFailure, InstallError, MeshError};
pub use handler::{Loss, PeerEvent, PeerIdentity, Record, RecordSink, SubprotocolHandler, keep_part};
pub use handlers::{ObserverId, PeerObserver, Responder};
pub use node::{MeshNode, PeerInfo};
#[cfg(feature = "test-hooks")]
pub use relay::Tamper;
pub use relay::switch;
pub use table::{PeerRefusal, PeerState};
pub(crate) use timer::{Timed, Timer, unix_now};
