//! Who is who: entity ids, key pairs, the addresses and keys derived from them, lives (incarnation, lineage, epoch), and
//! the sealed envelope in which a daemon's secret moves.
//!
//! Two entities can share an [`OriginHash`]: wherever identity decides something, the whole [`EntityId`] is compared.

mod channel;
mod derive;
mod envelope;
mod error;
mod ids;
mod keypair;
mod life;
mod node_static;
#[cfg(test)]
mod vectors;

pub use channel::{channel_hash, check_channel_name};
pub use derive::{fork_sentinel, group_id, replica_keypair};
pub use envelope::{ENVELOPE_LEN, EnvelopeContext, IdentityEnvelope};
pub use error::{EnvelopeError, IdentityError};
pub use ids::{EntityId, NodeId, OriginHash};
pub use keypair::{EntityKeypair, Signature};
pub use life::{Epoch, Incarnation, Lineage, MigrationId};
pub use node_static::NodeStaticSecret;
