//! Messages of migrations: each goes to the role that it is for. Who may send it is checked there.

use bytes::Bytes;

use super::admission::{Inquiry, Proposal};
use super::engine::{Engine, Now};
use super::error::RuntimeError;
use super::work::Role;
use crate::identity::{EntityId, NodeId};
use crate::migration::{MigrationFailure, Outcome, Source, Target, TargetState};
use crate::wire::codec;
use crate::wire::migration::{FailureReason, MigrationMessage, MoveId};

/// Longest message of those that anybody may send, in bytes. Waiting events are longer, and come from a daemon's source.
const LONGEST_OF_ANYBODY: usize = 256 * 1024;

impl Engine {
    /// A message of the migration subprotocol.
    pub(super) fn on_migration(&mut self, from: NodeId, body: &Bytes, now: Now) {
        if body.len() > LONGEST_OF_ANYBODY && !self.arrivals.values().any(|arrival| arrival.target.source == from) {
            // Perhaps of a move that has ended here in between.
            tracing::debug!(peer = %from, len = body.len(), "dropped a long message of a node that no daemon comes from");
            return;
        }
        let message = match codec::decode::<MigrationMessage<'_>>(body) {
            Ok(message) => message,
            Err(error) => return self.refuse(from, "migration message", &error),
        };
        #[cfg(feature = "test-hooks")]
        if self.gates.holds(from, message.name(), body) {
            self.work.push(super::work::Work::Notice(super::work::Notice::GateReached { message: message.name() }));
            return;
        }
        self.on_migration_message(from, &message, body, now);
    }

    pub(super) fn on_migration_message(
        &mut self,
        from: NodeId,
        message: &MigrationMessage<'_>,
        body: &Bytes,
        now: Now,
    ) {
        let instant = now.instant;
        match *message {
            MigrationMessage::Prepare { id, kind, source, transport_identity, state_bytes } => {
                let proposal = Proposal { from, id, source, transport_identity, state_bytes };
                self.on_prepare(proposal, kind, now);
            }
            MigrationMessage::TakeSnapshot { id, target, transport_identity } => {
                self.on_departure_wish(from, id, target, transport_identity, now);
            }
            MigrationMessage::Inquire { origin, migration, attempt, target, transport_identity } => {
                self.on_inquire(Inquiry { from, origin, migration, attempt, target, transport_identity }, now);
            }
            MigrationMessage::Described { id, kind, state_bytes } => {
                self.on_described(from, &id, kind, state_bytes, now);
            }
            MigrationMessage::Declined { origin, migration, attempt, ref reason, moved } => {
                self.on_declined(from, (origin, migration, attempt), reason, moved, now);
            }
            MigrationMessage::NowReady { origin, migration } => self.on_now_ready(from, origin, migration, now),
            MigrationMessage::CanHost { query, ref kinds } => self.on_can_host(from, query, kinds),
            MigrationMessage::Hosts { query, ref kinds, open, daemons } => {
                self.on_hosts(from, query, kinds, open, daemons, now);
            }
            MigrationMessage::Reserve { id, total, claim, orchestrator } => {
                self.on_reserve(from, id, orchestrator, (total, claim), now);
            }
            MigrationMessage::Chunk { id, index, total, bytes } => {
                self.on_chunk(from, id, (index, total), body.slice_ref(bytes), now);
            }
            MigrationMessage::SnapshotReady { id, digest, signature, envelope } => {
                self.on_snapshot_ready(from, id, digest, signature, envelope, now);
            }
            MigrationMessage::BufferedEvents { id, first, .. } => self.on_buffered(from, id, first, body, now),
            MigrationMessage::ActivateTarget { id, claim } => self.on_activate(from, id, claim, now),
            MigrationMessage::CleanupComplete { id } => {
                self.source_says(from, &id, now, Target::cleaned_up);
                self.on_orchestrator_message(from, message, now);
            }
            MigrationMessage::Reserved { id } => {
                self.target_says(from, &id, now, |source| source.reserved(instant));
            }
            MigrationMessage::RestoreComplete { id } => {
                self.target_says(from, &id, now, |source| source.restored(instant));
                self.on_orchestrator_message(from, message, now);
            }
            MigrationMessage::ReplayComplete { id, staged, head, complete } => {
                self.target_says(from, &id, now, |source| source.replayed(staged, head, complete, instant));
                self.on_orchestrator_message(from, message, now);
            }
            MigrationMessage::ActivateAck { id } => {
                if self.departures.contains_key(&id.entity) {
                    self.target_says(from, &id, now, Source::activated);
                } else {
                    // It was let go here before, and the target did not hear of it.
                    self.say(from, &MigrationMessage::CleanupComplete { id });
                }
            }
            MigrationMessage::StatusAnswer { id, copy } => {
                self.on_orchestrator_message(from, message, now);
                if self.departures.contains_key(&id.entity) {
                    self.target_says(from, &id, now, |source| source.target_copy(copy));
                } else {
                    self.source_says(from, &id, now, |target| target.source_answered(copy));
                }
            }
            MigrationMessage::CutoverNotify { id } => {
                if self.departures.get(&id.entity).is_some_and(|departure| departure.source.id == id) {
                    self.orchestrator_says(from, &id, now, |source| source.cutover(instant));
                } else {
                    self.on_cutover_of_none(from, id);
                }
            }
            MigrationMessage::Cancel { id, ref reason } => {
                let reason = reason.clone();
                self.withdraw_questions(|question| question.is(from, &id));
                if self.departures.get(&id.entity).is_some_and(|departure| departure.source.id == id) {
                    self.orchestrator_says(from, &id, now, |source| source.cancel(reason, from));
                } else {
                    self.on_cancel_of_none(from, id, reason);
                }
            }
            MigrationMessage::MigrationFailed { id, ref reason } => self.on_failed(from, &id, reason, now),
            MigrationMessage::StatusQuery { id } => self.on_status_query(from, id),
            MigrationMessage::Status { id, .. } => {
                self.places.heard(from, &id, instant);
                self.source_says(from, &id, now, |target| {
                    target.heard(instant);
                    Vec::new()
                });
                self.touch_transfer(from, &id, now);
                self.heard_of_target(from, &id, now);
                self.on_orchestrator_message(from, message, now);
            }
            MigrationMessage::Prepared { .. } | MigrationMessage::InDoubt { .. } | MigrationMessage::TooLate { .. } => {
                self.on_orchestrator_message(from, message, now);
            }
        }
    }

    /// An input of the recorded target for the source here.
    fn target_says(
        &mut self,
        from: NodeId,
        id: &MoveId,
        now: Now,
        input: impl FnOnce(&mut Source) -> Vec<crate::migration::SourceAction>,
    ) {
        match self.departures.get(&id.entity) {
            Some(departure) if departure.source.id == *id && departure.source.target == from => {
                self.departure_input(id.entity, now, input);
            }
            Some(_) => self.refuse(from, "migration message", &"not from the recorded target"),
            None => {}
        }
    }

    fn heard_of_target(&mut self, from: NodeId, id: &MoveId, now: Now) {
        if let Some(departure) = self.departures.get_mut(&id.entity)
            && departure.source.id == *id
            && departure.source.target == from
        {
            departure.source.heard(now.instant);
        }
    }

    /// An input of the recorded orchestrator for the source here.
    fn orchestrator_says(
        &mut self,
        from: NodeId,
        id: &MoveId,
        now: Now,
        input: impl FnOnce(&mut Source) -> Vec<crate::migration::SourceAction>,
    ) {
        match self.departures.get(&id.entity) {
            Some(departure) if departure.source.id == *id && departure.source.orchestrator == from => {
                self.departure_input(id.entity, now, input);
            }
            Some(_) => self.refuse(from, "migration message", &"not from the recorded orchestrator"),
            // The attempt ended in between; its end was told.
            None => {}
        }
    }

    /// An input of the recorded source for the target here.
    fn source_says(
        &mut self,
        from: NodeId,
        id: &MoveId,
        now: Now,
        input: impl FnOnce(&mut Target) -> Vec<crate::migration::TargetAction>,
    ) {
        let recorded = self
            .arrivals
            .get(&id.entity)
            .is_some_and(|arrival| arrival.target.id == *id && arrival.target.source == from);
        if recorded {
            self.arrival_input(id.entity, now, input);
        }
    }

    fn on_failed(&mut self, from: NodeId, id: &MoveId, reason: &FailureReason, now: Now) {
        self.withdraw_questions(|question| question.is(from, id));
        if let Some(departure) = self.departures.get(&id.entity) {
            let source = &departure.source;
            if source.id == *id && (source.target == from || source.orchestrator == from) {
                self.departure_input(id.entity, now, |source| source.failed(reason.clone()));
                return;
            }
        }
        self.give_up_places(&id.entity, reason, |target| {
            target.id == *id && (target.source == from || target.orchestrator == from)
        });
        if let Some(arrival) = self.arrivals.get(&id.entity) {
            let target = &arrival.target;
            // An orchestrator's word ends only what is not fully staged: behind that the source may have decided.
            let undecided = !matches!(target.state, TargetState::Staged { complete: true });
            if target.id == *id && (target.source == from || (target.orchestrator == from && undecided)) {
                let outcome = Outcome::told_by(target.source, reason);
                self.arrival_input(id.entity, now, |target| target.called_off(reason.clone(), outcome));
            } else if target.id == *id && target.orchestrator == from {
                // Whoever drove it has reason to believe that the source has not got it any more.
                let source = target.source;
                self.say(source, &MigrationMessage::StatusQuery { id: *id });
            }
        }
        let message = MigrationMessage::MigrationFailed { id: *id, reason: reason.clone() };
        self.on_orchestrator_message(from, &message, now);
    }

    fn on_status_query(&mut self, from: NodeId, id: MoveId) {
        if let Some(departure) = self.departures.get(&id.entity)
            && departure.source.id == id
            && departure.source.target == from
        {
            // The target asks. While nothing is decided the move goes on by itself.
            if departure.source.is_released() {
                self.say_activate(id.entity);
            }
            return;
        }
        let copy = match self.arrivals.get(&id.entity) {
            // The orchestrator asks when it has lost the source.
            Some(arrival)
                if arrival.target.id == id
                    && (arrival.target.source == from || arrival.target.orchestrator == from) =>
            {
                arrival.target.copy()
            }
            Some(arrival) if arrival.target.id == id => {
                return self.refuse(from, "StatusQuery", &"not from the recorded source");
            }
            // Of another attempt, or of none: what is known of the one that is asked about.
            Some(_) | None => self.fate(&id),
        };
        self.say(from, &MigrationMessage::StatusAnswer { id, copy });
    }

    /// The session with a node broke; `dead` when its process is proven to be gone.
    pub(super) fn migrations_cut(&mut self, node: NodeId, dead: bool, now: Now) {
        self.turned_away.retain(|(from, ..)| *from != node);
        self.withdraw_questions(|question| question.from() == node);
        self.early_inquiries.retain(|inquiry| inquiry.from != node);
        self.give_up_all_places(&FailureReason::lost("source", node), |target| target.source == node);
        for entity in self.departing() {
            self.departure_input(entity, now, |source| source.peer_lost(node, dead));
        }
        for entity in self.arriving() {
            self.arrival_input(entity, now, |target| {
                if target.source == node { target.source_cut_off(dead, now.instant) } else { Vec::new() }
            });
        }
        self.settle_own(now);
        self.drives_cut(node, now);
        self.drain_peer_gone(node, now);
    }

    /// A node was declared lost: what it drove is over, unless the word for the cutover was given.
    pub(super) fn migrations_lost(&mut self, node: NodeId, dead: bool, now: Now) {
        self.called_off.forget_driver(node);
        self.reaching.forget_departures(|driver, _| driver == node);
        for entity in self.departing() {
            self.departure_input(entity, now, |source| source.orchestrator_lost(node));
        }
        let lost = FailureReason::lost("orchestrator", node);
        self.give_up_all_places(&lost, |target| target.orchestrator == node);
        for entity in self.arriving() {
            self.arrival_input(entity, now, |target| {
                let unheard = target.state == TargetState::Prepared && target.orchestrator == node;
                if unheard { target.called_off(lost.clone(), Outcome::Source) } else { Vec::new() }
            });
        }
        self.settle_own(now);
        self.drives_lost(node, dead, now);
    }

    /// The session with a node is back.
    pub(super) fn migrations_back(&mut self, node: NodeId, now: Now) {
        for entity in self.departing() {
            self.departure_input(entity, now, |source| source.peer_back(node, now.instant));
        }
        for entity in self.arriving() {
            self.arrival_input(entity, now, |target| {
                if target.source == node { target.source_back(now.instant) } else { Vec::new() }
            });
        }
        self.drives_back(node, now);
    }

    fn departing(&self) -> Vec<EntityId> {
        let mut entities: Vec<EntityId> = self.departures.keys().copied().collect();
        entities.sort_unstable();
        entities
    }

    fn arriving(&self) -> Vec<EntityId> {
        let mut entities: Vec<EntityId> = self.arrivals.keys().copied().collect();
        entities.sort_unstable();
        entities
    }

    /// The runtime shuts down: what is undecided is called off.
    pub(super) fn end_migrations(&mut self, now: Now) {
        self.give_up_all_places(&FailureReason::Cancelled, |_| true);
        self.settle_own(now);
        self.end_drain();
        // First those who drive: they know what the roles of this node, which end now, are in.
        self.end_drives(now);
        let me = self.me();
        for entity in self.departing() {
            // What is not released ends with this runtime.
            self.departure_input(entity, now, |source| source.failed(FailureReason::lost("source", me)));
        }
        for entity in self.arriving() {
            self.arrival_input(entity, now, |target| target.fail(FailureReason::Cancelled));
        }
        self.settle_own(now);
        for (_, departure) in std::mem::take(&mut self.departures) {
            self.word_fails(departure.search, &RuntimeError::ShuttingDown);
            let source = departure.source;
            let failure = MigrationFailure::Refused(FailureReason::Cancelled, Outcome::Unknown);
            self.note_migration(Role::Source, &source.id, (me, source.target), None, Some(failure));
        }
        self.arrivals.clear();
        self.early_inquiries.clear();
        self.decline_asked();
    }
}
