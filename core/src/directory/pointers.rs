//! Where daemons went that lived here: kept for a bounded time, so that stragglers are sent on.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::claim::Claim;
use crate::identity::{EntityId, Epoch, Lineage, NodeId, OriginHash};

/// How long a former host remembers.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// Most daemons that it remembers.
const MOST: usize = 65_536;

/// Where a daemon went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Which daemon.
    pub entity: EntityId,
    /// Its life.
    pub lineage: Lineage,
    /// To which node.
    pub node: NodeId,
    /// At which epoch it lives there.
    pub epoch: Epoch,
}

/// The pointers of one node.
#[derive(Debug, Default)]
pub struct Pointers {
    by_origin: HashMap<OriginHash, (Pointer, Claim)>,
    order: VecDeque<(Instant, OriginHash, Epoch)>,
}

impl Pointers {
    /// A daemon left for the host that this claim names.
    pub fn left(&mut self, claim: Claim, now: Instant) {
        let body = *claim.body();
        let pointer =
            Pointer { entity: body.entity, lineage: body.lineage, node: body.node(), epoch: body.epoch };
        let origin = pointer.entity.origin_hash();
        self.by_origin.insert(origin, (pointer, claim));
        self.order.push_back((now + KEPT_FOR, origin, pointer.epoch));
        self.sweep(now);
    }

    /// Where it went.
    pub fn get(&self, origin: OriginHash) -> Option<&Pointer> {
        self.by_origin.get(&origin).map(|(pointer, _)| pointer)
    }

    /// The claim that it left with, for those who look for it.
    pub fn claim(&self, origin: OriginHash) -> Option<&Claim> {
        self.by_origin.get(&origin).map(|(_, claim)| claim)
    }

    /// It came back, or is known to be elsewhere.
    pub fn forget(&mut self, origin: OriginHash) {
        self.by_origin.remove(&origin);
    }

    fn sweep(&mut self, now: Instant) {
        while let Some((until, origin, epoch)) = self.order.front().copied() {
            if until > now && self.order.len() <= MOST {
                break;
            }
            self.order.pop_front();
            if self.by_origin.get(&origin).is_some_and(|(pointer, _)| pointer.epoch == epoch) {
                self.by_origin.remove(&origin);
            }
        }
    }
}
