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
        let pointer = Pointer { entity: body.entity, lineage: body.lineage, node: body.node(), epoch: body.epoch };
        let origin = pointer.entity.origin_hash();
        self.by_origin.insert(origin, (pointer, claim));
        self.order.push_back((now + KEPT_FOR, origin, pointer.epoch));
        if self.order.len() > MOST {
            self.forget_first();
        }
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

    /// Forgets those whose time is over, but for those that are still `used`: their time begins anew.
    pub fn sweep(&mut self, now: Instant, used: impl Fn(&Pointer) -> bool) {
        while self.order.front().is_some_and(|(until, ..)| *until <= now) {
            if let Some(pointer) = self.forget_first().filter(|(pointer, _)| used(pointer)) {
                let (origin, epoch) = (pointer.0.entity.origin_hash(), pointer.0.epoch);
                self.by_origin.insert(origin, pointer);
                self.order.push_back((now + KEPT_FOR, origin, epoch));
            }
        }
    }

    /// Whether it remembers nothing.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many daemons it remembers.
    pub fn len(&self) -> usize {
        self.by_origin.len()
    }

    /// Takes out the one whose time ends first, unless something later is known of that daemon.
    fn forget_first(&mut self) -> Option<(Pointer, Claim)> {
        let (_, origin, epoch) = self.order.pop_front()?;
        if self.by_origin.get(&origin).is_none_or(|(pointer, _)| pointer.epoch != epoch) {
            return None;
        }
        self.by_origin.remove(&origin)
    }
}
