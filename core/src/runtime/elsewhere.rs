//! Where a daemon may live whose target is gone. A target that went live may have handed it on, long ago, to a node of which
//! the source was never told: so it is looked for before the source's copy goes on as a new life.
//!
//! A later claim of somebody who is not proven dead shows that the target went live: the source lets go, and sends on to that
//! host. When everybody who can be asked knows of none, the copy is taken over, later than any claim that was heard of. Who
//! cannot be asked is waited for: after the operator's word for as long as a question lasts, with proof of the target's death
//! for as long as a target holds an undecided copy.

use tokio::time::Instant;

use super::engine::{Engine, Now};
use super::error::RuntimeError;
use super::work::Settlement;
use crate::daemon::Ticket;
use crate::directory::{Claim, Finding, Found, Haste};
use crate::identity::{EntityId, Epoch, OriginHash};
use crate::migration::{MigrationFailure, Outcome, Source};
use crate::wire::migration::FailureReason;

/// The search for a daemon whose target is gone.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Under way; those who cannot be asked are waited for until then.
    until: Option<Instant>,
    /// The newest epoch of the daemon that was heard of.
    newest: Epoch,
    /// Who gave the word that the target is gone.
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

impl Engine {
    /// The target's copy of a daemon is gone.
    pub(super) fn look_elsewhere(&mut self, entity: EntityId, proven: bool, now: Now) {
        let hold = self.options.migration.handover_hold;
        let Some(departure) = self.departures.get_mut(&entity) else { return };
        let until = if proven { now.instant + hold } else { now.instant };
        let search = &mut departure.search;
        search.until = Some(search.until.map_or(until, |known| known.min(until)));
        let origin = departure.origin;
        // What was answered while the target was expected back says nothing about now.
        self.lookups.begin_anew(origin);
        self.look_up(origin, Haste::WaitForAll, now);
    }

    /// The directory answered, perhaps about a daemon whose target is gone.
    pub(super) fn looked_elsewhere(&mut self, origin: OriginHash, finding: &Finding, now: Now) {
        let Some((entity, departure)) = self.departures.of_mut(origin) else { return };
        let Some(until) = departure.search.until else { return };
        let (epoch, target) = (departure.source.id.epoch, departure.source.target);
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
        departure.search.heard(newest.unwrap_or_default(), epoch);
        match finding {
            Finding::Found(found) => {
                let body = found.claim.body();
                // Of the copy that is gone others may still tell.
                let lives = found.by == body.node() || body.node() != target;
                if lives && body.entity == entity && body.epoch > epoch {
                    return self.lives_elsewhere(entity, found, now);
                }
            }
            Finding::Unanswered(_) | Finding::HostSilent(..) if until > now.instant => {
                return self.look_up(origin, Haste::WaitForAll, now);
            }
            Finding::NotFound(_) | Finding::InDoubt(_) | Finding::Unanswered(_) | Finding::HostSilent(..) => {}
        }
        self.departure_input(entity, now, Source::lives_nowhere);
    }

    /// The target went live and handed the daemon on: this node lets go, and sends on to where it is now.
    fn lives_elsewhere(&mut self, entity: EntityId, found: &Found, now: Now) {
        let Some(key) = self.departures.get(&entity).map(|departure| departure.key) else { return };
        self.pointers.told(found.claim.clone(), found.by, now.instant);
        let streams =
            self.slot(key).map(|slot| slot.inbound.iter().map(|(_, stream)| (stream.id, stream.via)).collect());
        let body = found.claim.body();
        self.tell_moved(streams.unwrap_or_default(), (body.node(), body.epoch), now);
        self.departure_input(entity, now, Source::activated);
    }

    /// Whoever said that a target is gone hears that its daemon lives, here or elsewhere.
    pub(super) fn word_is_done(&mut self, search: Search) {
        for ticket in search.waiting {
            self.settle(ticket, Ok(Settlement::Done));
        }
    }

    /// The runtime ends before it is known.
    pub(super) fn word_is_shut_down(&mut self, search: Search) {
        for ticket in search.waiting {
            self.settle(ticket, Err(RuntimeError::ShuttingDown));
        }
    }

    /// A target that was said to be gone is there.
    pub(super) fn word_is_void(&mut self, entity: EntityId) {
        let Some(departure) = self.departures.get_mut(&entity) else { return };
        let search = std::mem::take(&mut departure.search);
        for ticket in search.waiting {
            self.settle(ticket, Err(not_lost()));
        }
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
