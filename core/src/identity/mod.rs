//! Who is who: entity ids, key pairs, the addresses and keys derived from them, lives (incarnation, lineage, epoch), the
//! sealed envelope in which a daemon's secret moves, the tokens that grant rights on channels, and the revocations that take
//! them back.
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
mod revocation;
mod token;
mod token_cache;
mod token_chain;
#[cfg(test)]
mod vectors;

pub use channel::{channel_hash, check_channel_name, queue_group_hash};
pub use derive::{fork_sentinel, group_id, replica_keypair};
pub use envelope::{ENVELOPE_LEN, EnvelopeContext, IdentityEnvelope};
pub use error::{EnvelopeError, IdentityError, TokenError};
pub use ids::{EntityId, NodeId, OriginHash};
pub use keypair::{EntityKeypair, Signature};
pub use life::{Epoch, Incarnation, Lineage, MigrationId, RuntimeLife};
pub use node_static::NodeStaticSecret;
pub use revocation::{MAX_REVOKED_ISSUERS, REVOCATION_LEN, Revocation, RevocationFloors};
pub use token::{MAX_TOKEN_TTL, PermissionToken, TOKEN_LEN, TokenGrant, TokenScope, TokenTarget};
pub use token_cache::{MAX_TOKEN_SLOTS, MAX_TOKENS_PER_SLOT, TokenCache};
pub use token_chain::{MAX_CHAIN_TOKENS, TokenChain, TokenRequest};
