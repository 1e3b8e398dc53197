//! The roles of a live move, as state machines: [`Orchestrator`] drives, [`Source`] alone decides, [`Target`] waits for
//! that decision.
//!
//! Each machine is told what happened and answers with actions; the runtime's engine carries them out, sends the
//! messages, and routes those a node addresses to itself through the same handlers.

mod called_off;
mod drain;
mod ended;
mod errand;
mod failure;
mod orchestrator;
mod settings;
mod source;
mod target;
mod transfer;

pub use called_off::CalledOff;
pub use drain::{Drain, DrainReport, out_of_time};
pub use ended::{End, EndedMoves};
pub use errand::{Ask, OrchestratorAction, Progress, Subject, Wanted};
pub use failure::{MigrationFailure, Outcome};
pub use orchestrator::{Orchestrator, Sighting};
pub use settings::{MigrationOptions, MigrationSettings};
pub use source::{Source, SourceAction, SourceState};
pub use target::{Target, TargetAction, TargetState};
pub use transfer::{Chunk, SliceHash, StateChanged, Transfer, Want};
