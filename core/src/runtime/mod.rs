//! The engine that joins the layers, and the face shown to an embedding language.
//!
//! [`Engine`] is all state of one runtime, without I/O; [`DaemonRuntime`] drives it from a mesh and from an embedder that
//! runs user code. An embedder implements [`Embedder`], pulls [`Work`] on its own thread and reports back.

mod admission;
mod arrivals;
mod by_daemon;
mod comparing;
mod departures;
mod direct;
mod doubts;
mod drains;
mod elsewhere;
mod engine;
mod error;
mod finding;
mod forwards;
#[cfg(feature = "test-hooks")]
mod gates;
mod handover;
mod inbox;
mod intake;
mod moves;
mod orchestrations;
mod outputs;
mod peer_events;
mod peers;
mod places;
mod placing;
mod policy;
mod questions;
mod reaching;
mod receiving;
mod recovery;
mod replies;
mod requests;
mod rerouting;
mod routes;
mod run;
mod seeking;
mod sending;
mod shell;
mod spans;
mod spawn;
mod staging;
mod state_reader;
mod subscriptions;
mod sweeps;
mod timeouts;
mod timers;
mod transmit;
mod unsettled;
mod work;

pub use engine::{Census, Engine, Entropy, NodeSelf, Now};
pub use error::{Executed, RuntimeError};
pub use policy::{ArrivalPolicy, OrchestratorPolicy, RuntimeOptions, Verdict};
pub use receiving::ChunkPlacement;
pub use run::{LocalResult, Rest};
pub use shell::{DaemonRuntime, Embedder, answer_without_runtime, said_without_runtime};
pub use spawn::SpawnRequest;
pub use work::{
    ConstructFor, DaemonEvent, MigrationRequest, MigrationStarted, Notice, Role, Settlement, StopReason,
    SubscriptionNews, Work,
};
