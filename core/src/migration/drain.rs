//! Moves every daemon of a node away: which one goes where, and what came of it.
//!
//! Peers say what they can host and how much lives there; each daemon goes to the least loaded of those that can take it,
//! a bounded number at a time. What one peer refuses is offered to the next one.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::failure::{MigrationFailure, Outcome};
use crate::identity::{NodeId, OriginHash};
use crate::wire::migration::{FailureReason, Unwelcome};

/// Moves of one drain at once.
const MOST_MOVING: usize = 32;
/// How long peers may take to say what they can host.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often daemons that somebody else is moving are looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How long moves may take to end once they were given up.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What became of one daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainReport {
    /// Which one.
    pub origin: OriginHash,
    /// Where that leaves it.
    pub outcome: Outcome,
    /// Where it went, or may have gone.
    pub target: Option<NodeId>,
    /// Why it did not surely go.
    pub failure: Option<MigrationFailure>,
}

/// A daemon that has to go.
#[derive(Debug)]
struct Item {
    origin: OriginHash,
    kind: Arc<str>,
    refused_by: BTreeSet<NodeId>,
    /// What became of the last attempt.
    failure: Option<MigrationFailure>,
}

#[derive(Debug)]
struct Offer {
    kinds: HashSet<Arc<str>>,
    /// Its policy may admit what was not announced to it.
    open: bool,
    load: u64,
}

/// A drain under way.
#[derive(Debug)]
pub struct Drain {
    /// Every daemon that is, or was, taken care of.
    known: HashSet<OriginHash>,
    /// Every kind that was asked about, in the order of the question.
    kinds: Vec<Arc<str>>,
    asked: BTreeSet<NodeId>,
    offers: BTreeMap<NodeId, Offer>,
    answers_until: Instant,
    waiting: VecDeque<Item>,
    /// Somebody else moves them.
    blocked: Vec<Item>,
    look_at: Option<Instant>,
    moving: BTreeMap<OriginHash, (Item, NodeId)>,
    reports: Vec<DrainReport>,
    until: Option<Instant>,
    /// Time is up: nothing new begins.
    ending: bool,
}

impl Drain {
    /// Begins for these daemons and their kinds; `peers` were asked what they can host. A daemon without a kind cannot
    /// move.
    pub fn new(
        daemons: impl IntoIterator<Item = (OriginHash, Option<Arc<str>>)>,
        peers: impl IntoIterator<Item = NodeId>,
        timeout: Option<Duration>,
        now: Instant,
    ) -> Self {
        let mut drain = Self {
            known: HashSet::new(),
            kinds: Vec::new(),
            asked: peers.into_iter().collect(),
            offers: BTreeMap::new(),
            answers_until: now + PATIENCE,
            waiting: VecDeque::new(),
            blocked: Vec::new(),
            look_at: None,
            moving: BTreeMap::new(),
            reports: Vec::new(),
            until: timeout.map(|timeout| now + timeout),
            ending: false,
        };
        drain.add(daemons);
        drain
    }

    /// More daemons that turned out to live here.
    pub fn add(&mut self, daemons: impl IntoIterator<Item = (OriginHash, Option<Arc<str>>)>) {
        for (origin, kind) in daemons {
            self.known.insert(origin);
            let Some(kind) = kind else {
                let reason = FailureReason::FactoryNotFound { kind: String::new(), why: Unwelcome::NoKind };
                self.stays(origin, MigrationFailure::Refused(reason, Outcome::Source));
                continue;
            };
            self.waiting.push_back(Item { origin, kind, refused_by: BTreeSet::new(), failure: None });
        }
    }

    /// Sets the kinds that are asked about.
    pub fn ask_about(&mut self, kinds: Vec<Arc<str>>) {
        self.kinds = kinds;
    }

    /// A peer says which of these kinds it can build, by their places in the question.
    pub fn offered(&mut self, node: NodeId, kinds: &[u32], open: bool, load: u64) {
        if self.asked.remove(&node) {
            let named = |place: &u32| self.kinds.get(usize::try_from(*place).ok()?).cloned();
            let kinds = kinds.iter().filter_map(named).collect();
            self.offers.insert(node, Offer { kinds, open, load });
        }
    }

    /// The session with a peer broke.
    pub fn peer_gone(&mut self, node: NodeId) {
        self.asked.remove(&node);
        self.offers.remove(&node);
    }

    /// Whether this daemon is, or was, taken care of.
    pub fn knows(&self, origin: OriginHash) -> bool {
        self.known.contains(&origin)
    }

    /// The next move to begin, if one can begin now.
    pub fn next(&mut self, now: Instant) -> Option<(OriginHash, NodeId)> {
        // Who has not answered by now is not counted on.
        if self.answers_until <= now {
            self.asked.clear();
        }
        if !self.asked.is_empty() || self.moving.len() >= MOST_MOVING || self.ending {
            return None;
        }
        while let Some(mut item) = self.waiting.pop_front() {
            let takes =
                |node: NodeId, offer: &Offer| offer.kinds.contains(&item.kind) && !item.refused_by.contains(&node);
            let best = self
                .offers
                .iter_mut()
                .filter(|(node, offer)| takes(**node, offer))
                .min_by_key(|(node, offer)| (!offer.open, offer.load, **node));
            let Some((node, offer)) = best else {
                self.stays(item.origin, item.failure.unwrap_or(MigrationFailure::NoTargetAvailable));
                continue;
            };
            offer.load += 1;
            let (origin, node) = (item.origin, *node);
            item.refused_by.insert(node);
            self.moving.insert(origin, (item, node));
            return Some((origin, node));
        }
        None
    }

    /// A move that this drain began is over.
    pub fn moved(&mut self, origin: OriginHash, result: Result<(), MigrationFailure>) {
        let Some((mut item, node)) = self.moving.remove(&origin) else { return };
        match result {
            Ok(()) => self.went(origin, node),
            Err(failure) if failure.outcome() == Outcome::Source => {
                if let Some(offer) = self.offers.get_mut(&node) {
                    offer.load = offer.load.saturating_sub(1);
                }
                if self.ending {
                    self.stays(origin, failure);
                } else {
                    item.failure = Some(failure);
                    self.waiting.push_back(item);
                }
            }
            Err(failure) => self.failed(origin, Some(node), failure),
        }
    }

    /// Somebody else is moving it: it is looked at again a little later.
    pub fn busy(&mut self, origin: OriginHash, now: Instant) {
        if let Some((mut item, node)) = self.moving.remove(&origin) {
            item.refused_by.remove(&node);
            if let Some(offer) = self.offers.get_mut(&node) {
                offer.load = offer.load.saturating_sub(1);
            }
            self.blocked.push(item);
            self.look_at.get_or_insert(now + LOOK_AGAIN);
        }
    }

    /// It is not here any more: moved by somebody else, or stopped.
    pub fn gone(&mut self, origin: OriginHash, node: Option<NodeId>) {
        self.moving.remove(&origin);
        if let Some(node) = node {
            self.went(origin, node);
        }
    }

    /// Whether nothing is left to do.
    pub fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.blocked.is_empty() && self.moving.is_empty()
    }

    /// The next instant at which [`tick`](Self::tick) or [`next`](Self::next) has something to do by itself.
    pub fn deadline(&self) -> Option<Instant> {
        let answers = (!self.asked.is_empty()).then_some(self.answers_until);
        [answers, self.look_at, self.until].into_iter().flatten().min()
    }

    /// A deadline passed. Gives the moves that are to be given up.
    pub fn tick(&mut self, now: Instant) -> Vec<OriginHash> {
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = None;
            self.waiting.extend(self.blocked.drain(..));
        }
        if self.until.is_none_or(|until| until > now) {
            return Vec::new();
        }
        if self.ending {
            // They did not end: whoever waits is told what is known.
            for (origin, (_, node)) in std::mem::take(&mut self.moving) {
                self.failed(origin, Some(node), MigrationFailure::Refused(out_of_time(), Outcome::Unknown));
            }
            self.until = None;
            return Vec::new();
        }
        self.end(now)
    }

    /// Nothing new begins. Gives the moves that are to be given up.
    pub fn end(&mut self, now: Instant) -> Vec<OriginHash> {
        self.ending = true;
        self.until = Some(now + LAST_WORDS);
        self.asked.clear();
        self.look_at = None;
        let left: Vec<Item> = self.waiting.drain(..).chain(self.blocked.drain(..)).collect();
        for item in left {
            self.stays(item.origin, MigrationFailure::Refused(out_of_time(), Outcome::Source));
        }
        self.moving.keys().copied().collect()
    }

    /// Whether time is up.
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    fn went(&mut self, origin: OriginHash, node: NodeId) {
        self.reports.push(DrainReport { origin, outcome: Outcome::Target, target: Some(node), failure: None });
    }

    fn stays(&mut self, origin: OriginHash, failure: MigrationFailure) {
        self.failed(origin, None, failure);
    }

    fn failed(&mut self, origin: OriginHash, target: Option<NodeId>, failure: MigrationFailure) {
        self.reports.push(DrainReport { origin, outcome: failure.outcome(), target, failure: Some(failure) });
    }

    /// What became of all of them.
    pub fn into_reports(self) -> Vec<DrainReport> {
        self.reports
    }
}

/// Why the rest stays when time is up.
pub fn out_of_time() -> FailureReason {
    FailureReason::Timeout { detail: "the drain's time is up".to_owned() }
}
