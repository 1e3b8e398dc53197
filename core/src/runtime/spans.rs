//! One `tracing` span for each part of this node in a migration, so that what is logged of one can be told from another.

use std::collections::HashMap;

use tracing::Span;

use super::work::Role;
use crate::identity::{MigrationId, OriginHash};

/// Spans of parts that ended without a word are forgotten when there are so many more than parts.
const MOST_STALE: usize = 64;

/// The spans of one runtime.
#[derive(Debug, Default)]
pub(super) struct Spans {
    open: HashMap<(Role, OriginHash), (MigrationId, Span)>,
}

impl Spans {
    /// The span of a part. `live` is how many parts there are now; `over` when this is the last that is heard of it.
    pub(super) fn of(
        &mut self,
        role: Role,
        origin: OriginHash,
        migration: MigrationId,
        live: usize,
        over: bool,
    ) -> Span {
        let known = self.open.remove(&(role, origin)).map(|(known, span)| (known == migration, span));
        // While nobody listened there was nothing to open.
        let known = known.and_then(|(same, span)| Some(span).filter(|span| same && !span.is_disabled()));
        let span = known.unwrap_or_else(|| {
            let (migration, role) = (format_args!("{:032x}", migration.get()), role.name());
            tracing::debug_span!("migration", %origin, %migration, role)
        });
        if !over {
            if self.open.len() > live + MOST_STALE {
                self.open.clear();
            }
            self.open.insert((role, origin), (migration, span.clone()));
        }
        span
    }
}
