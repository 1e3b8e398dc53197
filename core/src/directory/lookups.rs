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
    Found(Found),
    /// Every connected peer was asked and knows of none: perhaps of one that its own host denies.
    NotFound(Option<Claim>),
    /// Some did not answer in time, and the others know of none.
    Unanswered,
}

#[derive(Debug)]
struct Open {
    origin: OriginHash,
    waiting_for: BTreeSet<NodeId>,
    /// Who answered, with the claim that they know.
    answers: BTreeMap<NodeId, Option<Claim>>,
    until: Instant,
}

/// A claim that was found, and who told of it: the host itself, or one that it left and that forwards to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The best claim.
    pub claim: Claim,
    /// Who told of it.
    pub by: NodeId,
}

impl Open {
    /// The best claim. What a former host says is not believed against the word of the host that it names.
    fn best(&self) -> Option<Found> {
        let mut best: Option<Found> = None;
        for (by, claim) in &self.answers {
            let Some(claim) = claim else { continue };
            let denied = matches!(self.answers.get(&claim.body().node()), Some(None));
            if !denied && best.as_ref().is_none_or(|best| claim.beats(&best.claim)) {
                best = Some(Found { claim: claim.clone(), by: *by });
            }
        }
        best
    }

    /// The newest claim of one that has left its host.
    fn denied(&self) -> Option<Claim> {
        let claims = self.answers.values().flatten();
        claims.reduce(|best, claim| if claim.beats(best) { claim } else { best }).cloned()
    }

    /// A host that speaks for itself ends the question: an older claim is put right by the host that it names.
    fn is_over(&self, now: Instant) -> bool {
        let own_word =
            |(by, claim): (&NodeId, &Option<Claim>)| claim.as_ref().is_some_and(|claim| claim.body().node() == *by);
        self.waiting_for.is_empty() || self.until <= now || self.answers.iter().any(own_word)
    }
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
    pub fn begin(&mut self, origin: OriginHash, peers: impl Iterator<Item = NodeId>, now: Instant) -> Option<Query> {
        if self.by_origin.contains_key(&origin) {
            return None;
        }
        self.last += 1;
        let query = Query(self.last);
        let open = Open { origin, waiting_for: peers.collect(), answers: BTreeMap::new(), until: now + PATIENCE };
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
        let claim = claim.filter(|claim| claim.body().entity.origin_hash() == open.origin);
        open.answers.insert(from, claim);
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

    /// Takes the questions that are over.
    pub fn finished(&mut self, now: Instant) -> Vec<(OriginHash, Finding)> {
        let over: Vec<Query> =
            self.open.iter().filter(|(_, open)| open.is_over(now)).map(|(query, _)| *query).collect();
        over.into_iter()
            .filter_map(|query| self.open.remove(&query))
            .map(|open| {
                self.by_origin.remove(&open.origin);
                let finding = match open.best() {
                    Some(found) => Finding::Found(found),
                    None if open.waiting_for.is_empty() => Finding::NotFound(open.denied()),
                    None => Finding::Unanswered,
                };
                (open.origin, finding)
            })
            .collect()
    }
}
