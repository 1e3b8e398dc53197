//! Places that several orchestrators were promised here for one daemon.
//!
//! Until the daemon's source shows itself with its claim, nobody knows which of them speaks for it: a promise to one must
//! not shut the others out. The newest stands in [`Engine`]'s arrivals and the others wait in [`Places`]; what the source
//! says when it asks for room decides, and the others are forgotten.

use std::collections::HashMap;

use tokio::time::Instant;

use super::arrivals::Arrival;
use super::engine::{Engine, Now};
use crate::identity::{EntityId, NodeId};
use crate::migration::{MigrationFailure, Outcome, Target, TargetState};
use crate::wire::migration::{FailureReason, MoveId};

/// Most orchestrators that are promised a place for one daemon besides the newest.
const MOST: usize = 16;

/// Promised places besides the newest ones; of each orchestrator at most one for a daemon.
#[derive(Default)]
pub(super) struct Places {
    waiting: HashMap<EntityId, Vec<Arrival>>,
}

impl Places {
    fn all(&self, entity: &EntityId) -> &[Arrival] {
        self.waiting.get(entity).map_or(&[], Vec::as_slice)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arrival> {
        self.waiting.values().flatten()
    }

    /// Whether there are as many for this daemon as there may be.
    pub(super) fn full(&self, entity: &EntityId) -> bool {
        self.all(entity).len() >= MOST
    }

    /// What this orchestrator was promised.
    pub(super) fn of(&self, entity: &EntityId, orchestrator: NodeId) -> Option<&Target> {
        self.all(entity).iter().map(|place| &place.target).find(|target| target.orchestrator == orchestrator)
    }

    /// Keeps one that is not the newest any more.
    pub(super) fn keep(&mut self, place: Arrival) {
        self.waiting.entry(place.target.id.entity).or_default().push(place);
    }

    /// The one to go on with when the newest has come to nothing.
    pub(super) fn take_newest(&mut self, entity: &EntityId) -> Option<Arrival> {
        let places = self.waiting.get_mut(entity)?;
        let newest = places.pop();
        if places.is_empty() {
            self.waiting.remove(entity);
        }
        newest
    }

    /// Takes out those of a daemon for which something holds.
    fn take(&mut self, entity: &EntityId, gone: impl Fn(&Target) -> bool) -> Vec<Arrival> {
        let Some(places) = self.waiting.get_mut(entity) else { return Vec::new() };
        let taken = places.extract_if(.., |place| gone(&place.target)).collect();
        if places.is_empty() {
            self.waiting.remove(entity);
        }
        taken
    }

    /// The source of a move is at work.
    pub(super) fn heard(&mut self, source: NodeId, id: &MoveId, now: Instant) {
        let places = self.waiting.get_mut(&id.entity).into_iter().flatten();
        for place in places.filter(|place| place.target.id == *id && place.target.source == source) {
            place.target.heard(now);
        }
    }

    /// When the first of a daemon ends.
    pub(super) fn deadline(&self, entity: &EntityId) -> Option<Instant> {
        self.all(entity).iter().filter_map(|place| place.target.deadline()).min()
    }
}

impl Engine {
    /// Forgets places of a daemon for which something holds; whoever watches this node's part hears why.
    pub(super) fn give_up_places(&mut self, entity: &EntityId, reason: &FailureReason, gone: impl Fn(&Target) -> bool) {
        for place in self.places.take(entity, gone) {
            // Whether a source that is out of reach goes on with the daemon is not known.
            let lost = matches!(reason, FailureReason::PeerLost { node, .. } if *node == Some(place.target.source));
            let outcome = if lost { Outcome::Unknown } else { Outcome::Source };
            let failure = MigrationFailure::Refused(reason.clone(), outcome);
            self.note_arrival(&place.target.id, place.target.source, None, Some(failure));
        }
    }

    /// The same for all daemons.
    pub(super) fn give_up_all_places(&mut self, reason: &FailureReason, gone: impl Fn(&Target) -> bool) {
        let mut entities: Vec<EntityId> = self.places.waiting.keys().copied().collect();
        entities.sort_unstable();
        for entity in entities {
            self.give_up_places(&entity, reason, &gone);
        }
    }

    /// The daemon lives here: nobody comes to the places that were promised for it.
    pub(super) fn end_bare_places(&mut self, entity: &EntityId, now: Now) {
        self.give_up_places(entity, &FailureReason::AlreadyMigrating, |_| true);
        if !self.is_arriving(entity) {
            self.arrival_input(*entity, now, |target| target.fail(FailureReason::AlreadyMigrating));
        }
    }

    /// A source asks for room for a move that this orchestrator drives: that place is the one to use, if there is one.
    pub(super) fn choose_place(&mut self, id: &MoveId, source: NodeId, orchestrator: NodeId) {
        let meant = |target: &Target| (target.id, target.source, target.orchestrator) == (*id, source, orchestrator);
        let Some(newest) = self.arrivals.get_mut(&id.entity) else { return };
        if newest.target.state != TargetState::Prepared || meant(&newest.target) {
            return;
        }
        let places = self.places.waiting.get_mut(&id.entity).into_iter().flatten();
        if let Some(place) = places.into_iter().find(|place| meant(&place.target)) {
            std::mem::swap(place, newest);
        }
    }
}
