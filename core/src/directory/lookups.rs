//! Questions under way: who hosts this daemon? All connected peers are asked; the best answer wins.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::claim::Claim;
use crate::identity::{NodeId, OriginHash};

/// When nobody's silence is waited for any longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Numbers a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Query(pub u64);

/// How a question ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The best claim that anyone knows.
    Found(Claim),
    /// Every connected peer was asked and knows of none.
    NotFound,
    /// Some did not answer in time, and the others know of none.
    Unanswered,
}

#[derive(Debug)]
struct Open {
    origin: OriginHash,
    waiting_for: BTreeSet<NodeId>,
    best: Option<Claim>,
    until: Instant,
}

/// The questions of one node.
#[derive(Debug, Default)]
pub struct Lookups {
    open: BTreeMap<Query, Open>,
    by_origin: HashMap<OriginHash, Query>,
    last: u64,
}

impl Lookups {
    /// Begins a question to `peers`, unless it is being asked already. Gives its number when it is new.
    pub fn begin(
        &mut self,
        origin: OriginHash,
        peers: impl Iterator<Item = NodeId>,
        now: Instant,
    ) -> Option<Query> {
        if self.by_origin.contains_key(&origin) {
            return None;
        }
        self.last += 1;
        let query = Query(self.last);
        let open = Open { origin, waiting_for: peers.collect(), best: None, until: now + PATIENCE };
        self.open.insert(query, open);
        self.by_origin.insert(origin, query);
        Some(query)
    }

    /// An answer arrived.
    pub fn answer(&mut self, query: Query, from: NodeId, claim: Option<Claim>) {
        let Some(open) = self.open.get_mut(&query) else { return };
        if !open.waiting_for.remove(&from) {
            return;
        }
        let Some(claim) = claim.filter(|claim| claim.body().entity.origin_hash() == open.origin) else { return };
        if open.best.as_ref().is_none_or(|best| claim.beats(best)) {
            open.best = Some(claim);
        }
    }

    /// A peer will not answer any more.
    pub fn peer_gone(&mut self, node: NodeId) {
        for open in self.open.values_mut() {
            open.waiting_for.remove(&node);
        }
    }

    /// The next instant at which a question runs out of patience.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.open.values().map(|open| open.until).min()
    }

    /// Takes the questions that are over. A claim ends its question at once: it is signed, and an older one is put
    /// right by the host that it names.
    pub fn finished(&mut self, now: Instant) -> Vec<(OriginHash, Finding)> {
        let over: Vec<Query> = self
            .open
            .iter()
            .filter(|(_, open)| open.best.is_some() || open.waiting_for.is_empty() || open.until <= now)
            .map(|(query, _)| *query)
            .collect();
        over.into_iter()
            .filter_map(|query| self.open.remove(&query))
            .map(|open| {
                self.by_origin.remove(&open.origin);
                let finding = match open.best {
                    Some(claim) => Finding::Found(claim),
                    None if open.waiting_for.is_empty() => Finding::NotFound,
                    None => Finding::Unanswered,
                };
                (open.origin, finding)
            })
            .collect()
    }
}
