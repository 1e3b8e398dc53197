//! Where a daemon may live whose other copy is gone. A target that went live may have handed it on, long ago, to a node of
//! which the source was never told, and a source that did not release it may have moved it elsewhere: so it is looked for
//! before the copy here goes on as a new life.
//!
//! A later claim of somebody who is not proven dead shows that the daemon went on: the copy here goes, and what is sent to it
//! is sent on to that host. When everybody who can be asked knows of none, the copy is taken over, later than any claim that was
//! heard of. Who cannot be asked is waited for: after the operator's word for as long as a question lasts, with proof of the
//! target's death for as long as a target holds an undecided copy.

use tokio::time::Instant;

use super::engine::{Engine, Lifecycle, Now};
use super::error::RuntimeError;
use super::recovery::outdone;
use super::work::Settlement;
use crate::daemon::Ticket;
use crate::directory::{Claim, Finding, Found, Haste};
use crate::identity::{EntityId, Epoch, NodeId, OriginHash};
use crate::migration::{MigrationFailure, Outcome, Source, Target};
use crate::wire::migration::FailureReason;

/// The search for a daemon whose other copy is gone.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Under way; those who cannot be asked are waited for until then.
    until: Option<Instant>,
    /// The newest epoch of the daemon that was heard of.
    newest: Epoch,
    /// Who gave the word that the other copy is gone.
    waiting: Vec<Ticket>,
}

impl Search {
    /// The daemon was heard of at this epoch, by a copy that was released at `own`. One that is too far ahead of that nobody
    /// would believe.
    fn heard(&mut self, epoch: Epoch, own: Epoch) {
        if !own.is_far_behind(epoch) {
            self.newest = self.newest.max(epoch);
        }
    }

    /// The epoch at which a copy goes on that would do so at `usual`.
    pub(super) fn outranking(&self, usual: Epoch) -> Epoch {
        self.newest.next().map_or(usual, |later| later.max(usual))
    }

    /// Somebody waits for its end.
    pub(super) fn wait(&mut self, ticket: Ticket) {
        self.waiting.push(ticket);
    }
}

/// A daemon that is looked for.
struct Missing {
    entity: EntityId,
    /// Of the copy that is here.
    epoch: Epoch,
    /// The host of the copy that is gone.
    gone: NodeId,
    until: Instant,
}

impl Engine {
    fn missing(&self, origin: OriginHash) -> Option<Missing> {
        let leaving = self.departures.of(origin).and_then(|departure| {
            let (source, until) = (&departure.source, departure.search.until?);
            Some(Missing { entity: source.id.entity, epoch: source.id.epoch, gone: source.target, until })
        });
        leaving.or_else(|| {
            let arrival = self.arrivals.of(origin)?;
            let (target, until) = (&arrival.target, arrival.search.until?);
            Some(Missing { entity: target.id.entity, epoch: target.id.epoch, gone: target.source, until })
        })
    }

    /// Whether a daemon with this address is looked for because its other copy is gone.
    pub(super) fn is_missing(&self, origin: OriginHash) -> bool {
        self.missing(origin).is_some()
    }

    /// The search for a daemon that leaves, or else for one that arrives.
    fn search_mut(&mut self, entity: &EntityId) -> Option<&mut Search> {
        match self.departures.get_mut(entity) {
            Some(departure) => Some(&mut departure.search),
            None => self.arrivals.get_mut(entity).map(|arrival| &mut arrival.search),
        }
    }

    /// The other copy of a daemon is gone.
    pub(super) fn look_elsewhere(&mut self, entity: EntityId, proven: bool, now: Now) {
        let hold = self.options.migration.handover_hold;
        let Some(search) = self.search_mut(&entity) else { return };
        let until = if proven { now.instant + hold } else { now.instant };
        search.until = Some(search.until.map_or(until, |known| known.min(until)));
        let origin = entity.origin_hash();
        // What was answered while the other one was expected back says nothing about now.
        self.lookups.begin_anew(origin);
        self.look_up(origin, Haste::WaitForAll, now);
    }

    /// The directory answered, perhaps about a daemon whose other copy is gone.
    pub(super) fn looked_elsewhere(&mut self, origin: OriginHash, finding: &Finding, now: Now) {
        let Some(Missing { entity, epoch, until, .. }) = self.missing(origin) else { return };
        let known = match finding {
            Finding::Found(found) => Some(&found.claim),
            Finding::NotFound(former)
            | Finding::InDoubt(former)
            | Finding::Unanswered(former)
            | Finding::HostSilent(_, former) => former.as_ref(),
        };
        let newest = known.map(Claim::body).filter(|body| body.entity == entity).map(|body| body.epoch);
        // A copy in doubt may go live yet, one epoch on.
        let newest =
            newest.and_then(|epoch| if matches!(finding, Finding::InDoubt(_)) { epoch.next() } else { Some(epoch) });
        if let Some(search) = self.search_mut(&entity) {
            search.heard(newest.unwrap_or_default(), epoch);
        }
        match finding {
            Finding::Found(found) => {
                if found.claim.body().entity == entity && !self.is_of_former(&found.claim, found.by) {
                    return self.lives_elsewhere(entity, found, now);
                }
            }
            Finding::Unanswered(_) | Finding::HostSilent(..) if until > now.instant => {
                return self.look_up(origin, Haste::WaitForAll, now);
            }
            Finding::NotFound(_) | Finding::InDoubt(_) | Finding::Unanswered(_) | Finding::HostSilent(..) => {}
        }
        if self.departures.contains_key(&entity) {
            self.departure_input(entity, now, Source::lives_nowhere);
        } else {
            self.arrival_input(entity, now, Target::lives_nowhere);
        }
    }

    /// Whether what somebody shows of a daemon that is looked for does not tell where it went on: it is no later than the copy
    /// here or later than anybody believes, or of this one, or of the copy that is gone, unless that one's host says so itself. It does not answer the
    /// question, so that whoever is silent is waited for.
    pub(super) fn is_of_former(&self, claim: &Claim, by: NodeId) -> bool {
        let (body, host) = (claim.body(), claim.body().node());
        self.missing(body.entity.origin_hash()).is_some_and(|Missing { entity, epoch, gone, .. }| {
            let told_of = by != host && (host == gone || host == self.me());
            body.entity == entity && (body.epoch <= epoch || epoch.is_far_behind(body.epoch) || told_of)
        })
    }

    /// The daemon went on elsewhere: this node lets go, and sends on to where it is now.
    fn lives_elsewhere(&mut self, entity: EntityId, found: &Found, now: Now) {
        let Some(key) = self.departures.get(&entity).map(|departure| departure.key) else {
            self.yield_arrival(entity, now);
            self.pointers.told(found.claim.clone(), found.by, now.instant);
            return self.answer_early_inquiries(entity.origin_hash());
        };
        self.pointers.told(found.claim.clone(), found.by, now.instant);
        let streams =
            self.slot(key).map(|slot| slot.inbound.iter().map(|(_, stream)| (stream.id, stream.via)).collect());
        let body = found.claim.body();
        self.tell_moved(streams.unwrap_or_default(), (body.node(), body.epoch), now);
        self.departure_input(entity, now, Source::activated);
    }

    /// A copy that arrived and has not gone live ends for the sake of a later one.
    pub(super) fn yield_arrival(&mut self, entity: EntityId, now: Now) {
        let Some(arrival) = self.arrivals.get_mut(&entity) else { return };
        let search = std::mem::take(&mut arrival.search);
        self.word_is_done(search);
        self.arrival_input(entity, now, |target| target.called_off(outdone(), Outcome::Unknown));
    }

    /// Whoever said that the other copy is gone hears that the daemon lives, here or elsewhere.
    pub(super) fn word_is_done(&mut self, search: Search) {
        for ticket in search.waiting {
            self.settle(ticket, Ok(Settlement::Done));
        }
    }

    /// The search ended without an answer.
    pub(super) fn word_fails(&mut self, search: Search, error: &RuntimeError) {
        for ticket in search.waiting {
            self.settle(ticket, Err(error.clone()));
        }
    }

    /// The copy that was to go on is dropped.
    pub(super) fn word_is_moot(&mut self, search: Search, origin: OriginHash) {
        let ends = self.lifecycle == Lifecycle::ShuttingDown;
        let error = if ends { RuntimeError::ShuttingDown } else { RuntimeError::NotFound(origin) };
        self.word_fails(search, &error);
    }

    /// A node that was said to be gone is there.
    pub(super) fn word_is_void(&mut self, entity: EntityId) {
        let Some(search) = self.search_mut(&entity).map(std::mem::take) else { return };
        self.word_fails(search, &not_lost());
    }
}

/// Nobody is lost whose daemon could be taken over.
pub(super) fn not_lost() -> RuntimeError {
    let expected = "a lost peer".to_owned();
    let reason = FailureReason::WrongPhase { expected, got: "recover".to_owned() };
    RuntimeError::Migration(MigrationFailure::Refused(reason, Outcome::Unknown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_goes_on_later_than_all_that_was_heard_of_and_can_be_believed() {
        let (own, usual, mut search) = (Epoch::new(1), Epoch::new(3), Search::default());
        assert_eq!(search.outranking(usual), usual);
        search.heard(Epoch::new(1), own);
        assert_eq!(search.outranking(usual), usual, "no earlier than usual");
        for epoch in [7, 2, u64::MAX / 2, u64::MAX] {
            search.heard(Epoch::new(epoch), own);
            assert_eq!(search.outranking(usual), Epoch::new(8), "{epoch}");
        }
    }
}
