//! Links between events, chains and horizons.
//!
//! Every daemon's outputs form one chain: a [`CausalLink`] names its emitter, its position, the hash of what came before,
//! and what the emitter had observed by then. [`ChainBuilder`] makes links, [`ChainHead`] checks them, [`Horizon`] keeps
//! what was observed. A host observes the inbound link *before* the daemon processes the event, and reads the summary only
//! when there are outputs.

mod chain;
mod horizon;
mod link;

pub use chain::{CausalEvent, ChainBuilder, ChainError, ChainHead};
pub use horizon::{Horizon, MAX_HORIZON_ORIGINS};
pub use link::{CausalLink, HorizonBloom, LINK_LEN, ParentHash, Sequence};
