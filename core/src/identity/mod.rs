//! Who is who: entity ids, key pairs, the addresses derived from them, and lives (incarnation, lineage, epoch).

mod ids;
mod life;

pub use ids::{EntityId, NodeId, OriginHash};
pub use life::{Epoch, Incarnation, Lineage, MigrationId};
