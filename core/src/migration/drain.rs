//! Moves every daemon of a node away: which one goes where, and what came of it.
//!
//! Peers say what they can host and how much lives there; each daemon goes to the least loaded of those that can take it,
//! a bounded number at a time. What one peer refuses is offered to the next one; a peer that only has no room now, or whose
//! session broke, is asked again. A daemon that does not come to rest would not for any other peer: it is left alone for a
//! while, and tried again for as long as the drain may take, or once.
//!
//! One that was handed over to a host which has not said that it has it may live nowhere else: it is waited for, until time is
//! up, or as long as that host is in reach when there is no such time.

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
/// How often daemons that somebody else is moving, or that a peer could not take just then, are looked at again; each time
/// that a daemon finds no room it waits twice as long.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(16);
/// How often a daemon may fail to come to rest in a drain that may take any time.
const MOST_RESTLESS: u32 = 2;
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
    /// Those of them that may take it later.
    later: BTreeSet<NodeId>,
    /// How long it waits when nobody has room for it.
    patience: Duration,
    /// What became of the last attempt.
    failure: Option<MigrationFailure>,
    rest: Rest,
}

/// Whether a daemon comes to rest when it is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// As far as is known it does.
    Comes,
    /// It has not so often; [`Item::failure`] says what it waited for.
    Failed(u32),
    /// The same, and the attempt under way is failing for it.
    Fails(u32),
}

impl Item {
    /// What is said of it when time is up: for whom it waited, where that is known.
    fn why_it_stays(self, otherwise: MigrationFailure) -> MigrationFailure {
        let known = match self.rest {
            Rest::Comes => None,
            Rest::Failed(_) | Rest::Fails(_) => self.failure,
        };
        known.unwrap_or(otherwise)
    }
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
    /// Peers whose session broke, or that are back and were asked again: until then nobody is given up for want of them.
    away: BTreeMap<NodeId, Instant>,
    offers: BTreeMap<NodeId, Offer>,
    answers_until: Instant,
    /// Those that wait, also to be looked at again. An item of another daemon is passed over: it went by another way.
    unmoved: HashSet<OriginHash>,
    waiting: VecDeque<Item>,
    /// They are looked at again then: somebody else moves them, or nobody had room.
    blocked: Vec<(Instant, Item)>,
    moving: BTreeMap<OriginHash, (Item, NodeId)>,
    /// Handed over to hosts that have yet to say so, and why that is in doubt.
    unconfirmed: BTreeMap<OriginHash, (NodeId, Option<MigrationFailure>)>,
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
            away: BTreeMap::new(),
            offers: BTreeMap::new(),
            answers_until: now + PATIENCE,
            unmoved: HashSet::new(),
            waiting: VecDeque::new(),
            blocked: Vec::new(),
            moving: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
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
            self.wait(Item {
                origin,
                kind,
                refused_by: BTreeSet::new(),
                later: BTreeSet::new(),
                patience: LOOK_AGAIN,
                failure: None,
                rest: Rest::Comes,
            });
        }
    }

    /// Sets the kinds that are asked about.
    pub fn ask_about(&mut self, kinds: Vec<Arc<str>>) {
        self.kinds = kinds;
    }

    /// A peer says which of these kinds it can build, by their places in the question.
    pub fn offered(&mut self, node: NodeId, kinds: &[u32], open: bool, load: u64) {
        if self.asked.remove(&node) || self.away.remove(&node).is_some() {
            let named = |place: &u32| self.kinds.get(usize::try_from(*place).ok()?).cloned();
            let kinds = kinds.iter().filter_map(named).collect();
            self.offers.insert(node, Offer { kinds, open, load });
        }
    }

    /// The session with a peer broke. It may come back.
    pub fn peer_gone(&mut self, node: NodeId, now: Instant) {
        let counted = self.asked.remove(&node) || self.offers.remove(&node).is_some();
        if counted {
            self.away.insert(node, now + PATIENCE);
        }
    }

    /// A peer came, or came back. Gives what it is to be asked about.
    pub fn peer_back(&mut self, node: NodeId, now: Instant) -> &[Arc<str>] {
        if !self.asked.contains(&node) && !self.offers.contains_key(&node) {
            self.away.insert(node, now + PATIENCE);
        }
        &self.kinds
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
            if !self.unmoved.remove(&item.origin) {
                continue;
            }
            let takes =
                |node: NodeId, offer: &Offer| offer.kinds.contains(&item.kind) && !item.refused_by.contains(&node);
            let best = self
                .offers
                .iter_mut()
                .filter(|(node, offer)| takes(**node, offer))
                .min_by_key(|(node, offer)| (!offer.open, offer.load, **node));
            let Some((node, offer)) = best else {
                let hopes = item.later.iter().any(|node| self.offers.contains_key(node));
                if hopes || self.away.values().any(|until| *until > now) {
                    item.refused_by.retain(|node| !item.later.contains(node));
                    item.later.clear();
                    self.put_off(item, now);
                } else {
                    self.stays(item.origin, item.failure.unwrap_or(MigrationFailure::NoTargetAvailable));
                }
                continue;
            };
            offer.load = offer.load.saturating_add(1);
            let (origin, node) = (item.origin, *node);
            item.refused_by.insert(node);
            self.moving.insert(origin, (item, node));
            return Some((origin, node));
        }
        None
    }

    fn wait(&mut self, item: Item) {
        self.unmoved.insert(item.origin);
        self.waiting.push_back(item);
    }

    fn look_again(&mut self, item: Item, at: Instant) {
        self.unmoved.insert(item.origin);
        self.blocked.push((at, item));
    }

    fn put_off(&mut self, mut item: Item, now: Instant) {
        let wait = item.patience;
        item.patience = (wait * 2).min(LONGEST_WAIT);
        self.look_again(item, now + wait);
    }

    /// The move of a daemon under way is about to fail, whoever its target is: it does not come to rest.
    pub fn restless(&mut self, origin: OriginHash) {
        if let Some((item, _)) = self.moving.get_mut(&origin) {
            item.rest = match item.rest {
                Rest::Comes => Rest::Fails(1),
                Rest::Failed(times) => Rest::Fails(times + 1),
                known @ Rest::Fails(_) => known,
            };
        }
    }

    /// A move that this drain began is over.
    pub fn moved(&mut self, origin: OriginHash, result: Result<(), MigrationFailure>, now: Instant) {
        let Some((mut item, node)) = self.moving.remove(&origin) else { return };
        match result {
            Ok(()) => self.went(origin, node),
            Err(failure) if failure.outcome() == Outcome::Source => {
                if let Some(offer) = self.offers.get_mut(&node) {
                    offer.load = offer.load.saturating_sub(1);
                }
                if let Rest::Fails(times) = item.rest {
                    item.rest = Rest::Failed(times);
                    item.refused_by.remove(&node);
                    item.failure = Some(failure.clone());
                    if self.ending || (self.until.is_none() && times >= MOST_RESTLESS) {
                        self.stays(origin, failure);
                    } else {
                        self.put_off(item, now);
                    }
                } else if self.ending {
                    self.stays(origin, item.why_it_stays(failure));
                } else {
                    if may_pass(&failure) {
                        item.later.insert(node);
                    }
                    item.failure = Some(failure);
                    self.wait(item);
                }
            }
            Err(failure) if failure.outcome() == Outcome::Unknown && !self.ending => {
                self.unconfirmed.insert(origin, (node, Some(failure)));
            }
            Err(failure) => self.failed(origin, Some(node), failure),
        }
    }

    /// A daemon was handed over to a host that has not said that it has it, by whatever move. `doubt` is why it may never say so.
    pub fn released(&mut self, origin: OriginHash, node: NodeId, doubt: Option<MigrationFailure>) {
        if self.moving.contains_key(&origin) {
            return;
        }
        let waited = self.unmoved.remove(&origin);
        if self.known.insert(origin) || waited {
            self.unconfirmed.insert(origin, (node, None));
        }
        let Some((_, known)) = self.unconfirmed.get_mut(&origin) else { return };
        let is_in_doubt = doubt.is_some();
        *known = known.take().or(doubt);
        if self.ending || (is_in_doubt && self.until.is_none()) {
            self.report_unconfirmed(origin);
        }
    }

    /// Daemons that were handed over, as far as is known, to hosts that have yet to say so.
    pub fn unconfirmed(&self) -> Vec<OriginHash> {
        self.unconfirmed.keys().copied().collect()
    }

    /// The hand-over of a daemon is over: it went to `node`, or is not known to have gone anywhere.
    pub fn confirmed(&mut self, origin: OriginHash, node: Option<NodeId>) {
        match (self.unconfirmed.remove(&origin), node) {
            (Some(_), Some(node)) => self.went(origin, node),
            (Some((node, Some(failure))), None) => self.failed(origin, Some(node), failure),
            (Some((_, None)) | None, _) => {}
        }
    }

    /// The hand-over of a daemon is over, and it lives here as before.
    pub fn came_back(&mut self, origin: OriginHash) {
        if self.unconfirmed.remove(&origin).is_some() {
            self.known.remove(&origin);
        }
    }

    fn report_unconfirmed(&mut self, origin: OriginHash) {
        if let Some((node, failure)) = self.unconfirmed.remove(&origin) {
            let failure = failure.unwrap_or_else(|| MigrationFailure::Refused(out_of_time(), Outcome::Unknown));
            self.failed(origin, Some(node), failure);
        }
    }

    /// Somebody else is moving it: it is looked at again a little later.
    pub fn busy(&mut self, origin: OriginHash, now: Instant) {
        if let Some((mut item, node)) = self.moving.remove(&origin) {
            item.refused_by.remove(&node);
            if let Some(offer) = self.offers.get_mut(&node) {
                offer.load = offer.load.saturating_sub(1);
            }
            self.look_again(item, now + LOOK_AGAIN);
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
        self.unmoved.is_empty() && self.moving.is_empty() && self.unconfirmed.is_empty()
    }

    /// The next instant at which [`tick`](Self::tick) or [`next`](Self::next) has something to do by itself.
    pub fn deadline(&self) -> Option<Instant> {
        let answers = (!self.asked.is_empty()).then_some(self.answers_until);
        let blocked = self.blocked.iter().map(|(at, _)| *at).min();
        [answers, blocked, self.until].into_iter().flatten().min()
    }

    /// A deadline passed. Gives the moves that are to be given up.
    pub fn tick(&mut self, now: Instant) -> Vec<OriginHash> {
        self.waiting.extend(self.blocked.extract_if(.., |(at, _)| *at <= now).map(|(_, item)| item));
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
        self.away.clear();
        let blocked = self.blocked.drain(..).map(|(_, item)| item);
        let left: Vec<Item> = self.waiting.drain(..).chain(blocked).collect();
        for item in left {
            if !self.unmoved.remove(&item.origin) {
                continue;
            }
            let origin = item.origin;
            self.stays(origin, item.why_it_stays(MigrationFailure::Refused(out_of_time(), Outcome::Source)));
        }
        for origin in self.unconfirmed() {
            self.report_unconfirmed(origin);
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

/// Whether the same target may take it a little later.
fn may_pass(failure: &MigrationFailure) -> bool {
    match failure {
        MigrationFailure::Refused(reason, _) => {
            matches!(reason, FailureReason::NotReady | FailureReason::PeerLost { .. })
        }
        MigrationFailure::NotReadyTimeout { .. } | MigrationFailure::TargetUnavailable(_) => true,
        MigrationFailure::DaemonNotFound(_)
        | MigrationFailure::NotAuthorized { .. }
        | MigrationFailure::WrongPeer { .. }
        | MigrationFailure::NoTargetAvailable => false,
    }
}

/// Why the rest stays when time is up.
pub fn out_of_time() -> FailureReason {
    FailureReason::Timeout { detail: "the drain's time is up".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A drain of one daemon with peers that can take it, and their loads.
    fn drain(loads: &[u64], timeout: Option<Duration>, now: Instant) -> (Drain, OriginHash) {
        let (origin, kind): (_, Arc<str>) = (OriginHash::new(1), "kind".into());
        let peers = || (1..).zip(loads).map(|(node, load)| (NodeId::new(node), *load));
        let mut drain = Drain::new([(origin, Some(kind.clone()))], peers().map(|(node, _)| node), timeout, now);
        drain.ask_about(vec![kind]);
        for (node, load) in peers() {
            drain.offered(node, &[0], false, load);
        }
        (drain, origin)
    }

    #[test]
    fn a_peer_that_says_that_it_is_as_loaded_as_can_be_is_asked_last_and_counted_on() {
        let now = Instant::now();
        let (mut drain, origin) = drain(&[u64::MAX, 5], None, now);
        assert_eq!(drain.next(now), Some((origin, NodeId::new(2))));
        drain.moved(origin, Err(MigrationFailure::Refused(FailureReason::BufferFull, Outcome::Source)), now);
        assert_eq!(drain.next(now), Some((origin, NodeId::new(1))));
        drain.moved(origin, Ok(()), now);
        assert!(drain.is_over());
    }

    #[test]
    fn a_daemon_that_does_not_come_to_rest_is_tried_for_as_long_as_the_drain_may_take() {
        let mut now = Instant::now();
        let (mut drain, origin) = drain(&[1, 2, 3], Some(Duration::from_secs(60)), now);
        let waited = MigrationFailure::Refused(FailureReason::Timeout { detail: "for one".into() }, Outcome::Source);
        for _ in 0..5 {
            assert_eq!(drain.next(now), Some((origin, NodeId::new(1))), "the peer is as good as before");
            drain.restless(origin);
            drain.moved(origin, Err(waited.clone()), now);
            assert_eq!(drain.next(now), None, "not at once");
            now = drain.deadline().expect("it is looked at again");
            assert_eq!(drain.tick(now), []);
        }
        assert_eq!(drain.next(now), Some((origin, NodeId::new(1))));
        assert_eq!(drain.tick(drain.deadline().expect("the end")), [origin], "it is given up");
        drain.moved(origin, Err(MigrationFailure::Refused(out_of_time(), Outcome::Source)), now);
        let why: Vec<_> = drain.into_reports().into_iter().map(|report| report.failure).collect();
        assert_eq!(why, [Some(waited)], "what it waited for is said");
    }
}
