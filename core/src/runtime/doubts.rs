//! Copies in doubt: whole, and of no use before somebody says what became of the other one.
//!
//! A source that has released a daemon keeps its copy until the target says that it is live, and a target keeps its own until
//! the source says whether it released it. While the other node is lost, nobody runs the daemon for sure: whoever asks
//! hears that it is in doubt, not that there is none, and calls end with the word that they did not run.

use super::arrivals::Arrival;
use super::departures::Departure;
use super::engine::{Engine, Now};
use super::peers::Peers;
use super::rerouting::Refusal;
use crate::directory::Claim;
use crate::identity::{EntityId, NodeId, OriginHash};
use crate::migration::{MigrationFailure, Outcome};
use crate::wire::events::{Answers, StreamId};
use crate::wire::migration::FailureReason;

/// Whether the source of a whole copy is lost, so that nobody says what became of it.
fn is_orphaned(arrival: &Arrival, peers: &Peers) -> bool {
    arrival.target.is_in_doubt() && peers.get(arrival.target.source).is_none()
}

impl Engine {
    /// Whether a copy of a daemon waits here for what became of the other one.
    pub(super) fn holds_in_doubt(&self, origin: OriginHash) -> bool {
        self.is_released(origin) || self.arrivals.of(origin).is_some_and(|arrival| is_orphaned(arrival, &self.peers))
    }

    /// The source's claim for a daemon that is about to live here, while the source can say so. Of one that has lived here and
    /// ended before its source let go nothing is claimed any more.
    pub(super) fn arriving_claim(&self, origin: OriginHash) -> Option<&Claim> {
        let is_to_come = |arrival: &&Arrival| arrival.is_undecided() && !is_orphaned(arrival, &self.peers);
        self.arrivals.of(origin).filter(is_to_come)?.source_claim()
    }

    /// The last claim of a daemon whose host is not in reach, for whoever begins it anew.
    pub(super) fn former_claim(&self, origin: OriginHash) -> Option<&Claim> {
        let orphan = || self.arrivals.of(origin).filter(|arrival| is_orphaned(arrival, &self.peers));
        self.pointers.claim(origin).or_else(|| orphan()?.source_claim())
    }

    /// The loss of a node was declared: frozen copies of daemons that were handed over to it are in doubt.
    pub(super) fn targets_lost(&self, node: NodeId) {
        let doubtful = |departure: &&Departure| departure.source.target == node && departure.source.is_in_doubt();
        let mut origins: Vec<_> = self.departures.values().filter(doubtful).map(|departure| departure.origin).collect();
        origins.sort_unstable();
        for origin in origins {
            tracing::warn!(
                %origin,
                target = %node,
                "the target of a daemon was lost at the hand-over: its copy here runs nothing until the target is back, or \
                 `recover` says that it is gone"
            );
        }
    }

    /// The loss of a node was declared: whole copies of daemons that came from it are in doubt from now on, and whoever sent
    /// them events is told so.
    pub(super) fn sources_lost(&mut self, node: NodeId, now: Now) {
        let orphaned =
            |(_, arrival): &(&EntityId, &Arrival)| arrival.target.source == node && is_orphaned(arrival, &self.peers);
        let mut entities: Vec<EntityId> = self.arrivals.iter().filter(orphaned).map(|(entity, _)| *entity).collect();
        entities.sort_unstable();
        for entity in entities {
            let Some(arrival) = self.arrivals.get(&entity) else { continue };
            let (id, key, origin) = (arrival.target.id, arrival.key, entity.origin_hash());
            tracing::warn!(
                %origin,
                source = %node,
                "the source of a daemon was lost at the hand-over: its copy here runs nothing until the source is back, or \
                 `recover` says that it is gone"
            );
            let failure = MigrationFailure::Refused(FailureReason::lost("source", node), Outcome::Unknown);
            self.note_arrival(&id, node, None, Some(failure));
            if let Some(key) = key {
                // Whoever looks for the daemon is to hear of this copy.
                self.place(key, now);
                self.refuse_whoever_came_early(key);
            }
        }
    }

    fn refuse_whoever_came_early(&mut self, key: crate::daemon::DaemonKey) {
        let Some(slot) = self.slot_mut(key) else { return };
        let early: Vec<u32> =
            slot.inbound.iter().filter(|(_, stream)| stream.holds_early()).map(|(index, _)| index).collect();
        for index in early {
            let Some(stream) = self.slot_mut(key).and_then(|slot| slot.inbound.get_mut(index)) else { continue };
            // It is told to be not run, so it must not run either when the doubt is over.
            let answered = stream.last_of_each_way();
            stream.drop_early();
            let (id, via, accepted) = (stream.id, stream.via, Some(stream.accepted()));
            let to = self.way_back(id.sender, via);
            for answers in answered {
                self.say_unknown(to, &id, Refusal { accepted, answers, ..Refusal::UNSURE });
            }
        }
    }

    /// Refuses the batch that ends with this number, if it is for a copy in doubt.
    pub(super) fn refuse_in_doubt(&mut self, from: NodeId, id: &StreamId, last: u64) -> bool {
        let orphan = self.arrivals.get(&id.entity).filter(|arrival| is_orphaned(arrival, &self.peers));
        let Some(key) = orphan.and_then(|arrival| arrival.key) else { return false };
        let held = self.slot(key).and_then(|slot| slot.inbound.get(slot.inbound.find(id)?));
        let accepted = held.map(crate::events::InStream::accepted).or_else(|| self.accepted_of_unknown());
        self.say_unknown(from, id, Refusal { accepted, answers: Answers::batch_to(last), ..Refusal::UNSURE });
        true
    }
}
