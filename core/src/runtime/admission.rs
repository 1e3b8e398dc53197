//! May a daemon come, and may it go? Asked before it is frozen, so that a refusal costs nothing.

use std::sync::Arc;

use super::arrivals::{Arrival, Welcome};
use super::engine::{Engine, Lifecycle, Now};
use super::policy::{ArrivalPolicy, Verdict};
use super::questions::Question;
use super::reaching::Then;
use crate::daemon::Presence;
use crate::identity::{MigrationId, NodeId, OriginHash};
use crate::migration::{MigrationFailure, Outcome, Subject, Target, TargetState};
use crate::wire::migration::{CopyState, FailureReason, MigrationMessage, MoveId, Unwelcome};

/// Most orchestrators that wait until this node is ready, or until a daemon has wholly arrived here.
const MOST_EARLY: usize = 4096;

/// Most daemons that one orchestrator is promised a place for, and that all of them are, as long as they have not come;
/// daemons that were announced do not count. Whoever comes then is told that this node is not ready.
const MOST_PROMISED_TO_ONE: usize = 1024;
const MOST_PROMISED: usize = 8192;
/// A state may be so much larger than its source had said before the policy is asked again.
const UNTOLD_BYTES: u64 = 64 * 1024;

/// What an orchestrator asks the source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inquiry {
    pub(super) from: NodeId,
    pub(super) origin: OriginHash,
    pub(super) migration: MigrationId,
    pub(super) attempt: u32,
    pub(super) target: NodeId,
    pub(super) transport_identity: bool,
}

/// What an orchestrator asks the target, beside the daemon's kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Proposal {
    pub(super) from: NodeId,
    pub(super) id: MoveId,
    pub(super) source: NodeId,
    pub(super) transport_identity: bool,
    pub(super) state_bytes: u64,
}

impl Engine {
    /// An orchestrator asks about a daemon: strangers learn nothing, not even whether it lives here.
    pub(super) fn on_inquire(&mut self, inquiry: Inquiry, now: Now) {
        let Inquiry { from, origin, migration, .. } = inquiry;
        let known = self
            .departures
            .of(origin)
            .filter(|departure| departure.source.id.migration == migration && departure.source.orchestrator == from);
        if let Some(departure) = known {
            // It asks again what became of its move.
            let (id, stage) = (departure.source.id, departure.source.stage());
            if departure.source.is_in_doubt() {
                self.say(from, &MigrationMessage::InDoubt { id });
            }
            return self.say_status(id.entity, stage);
        }
        match self.options.orchestrator(from, self.me()) {
            Verdict::Yes => self.answer_inquiry(inquiry),
            Verdict::No => self.decline_inquiry(&inquiry, FailureReason::NotAuthorized, None),
            Verdict::Ask => self.ask_policy(Question::Inquiry(inquiry), now),
        }
    }

    /// An orchestrator wants a daemon of this node to leave.
    pub(super) fn on_departure_wish(
        &mut self,
        from: NodeId,
        id: MoveId,
        target: NodeId,
        transport_identity: bool,
        now: Now,
    ) {
        match self.options.orchestrator(from, self.me()) {
            Verdict::Yes => self.on_take_snapshot(from, id, target, transport_identity, now),
            Verdict::No => self.decline(from, id, FailureReason::NotAuthorized),
            Verdict::Ask => {
                self.ask_policy(Question::Departure { from, id, target, transport_identity }, now);
            }
        }
    }

    pub(super) fn answer_inquiry(&mut self, inquiry: Inquiry) {
        let (here, target) = (self.local(inquiry.origin).is_ok(), inquiry.target);
        if here && self.reach_first(target, || Then::Describe(inquiry)) {
            return;
        }
        let Inquiry { from, origin, migration, attempt, target, transport_identity } = inquiry;
        let arrives = self.arrivals.of(origin).map(|arrival| &arrival.target);
        let arrives_from = arrives.map(|target| target.source);
        if arrives.is_some_and(|target| target.may_be_released() && !target.is_in_doubt()) {
            // A daemon leaves again only when its former host has let go.
            let same = |early: &Inquiry| (early.from, early.origin, early.migration) == (from, origin, migration);
            self.early_inquiries.retain(|early| !same(early));
            if self.early_inquiries.len() < MOST_EARLY {
                self.early_inquiries.push(inquiry);
            } else {
                self.decline_inquiry(&inquiry, FailureReason::AlreadyMigrating, None);
            }
            return;
        }
        match self.movable(origin, target, transport_identity) {
            Ok(Subject { entity, epoch, kind, state_bytes }) => {
                let id = MoveId { entity, migration, attempt, epoch };
                self.say(from, &MigrationMessage::Described { id, kind: &kind, state_bytes });
            }
            Err(reason) => {
                let elsewhere = || arrives_from.or_else(|| self.pointers.get(origin).map(|pointer| pointer.node));
                let moved = if reason == FailureReason::DaemonNotFound { elsewhere() } else { None };
                self.decline_inquiry(&inquiry, reason, moved);
            }
        }
    }

    fn decline_inquiry(&mut self, inquiry: &Inquiry, reason: FailureReason, moved: Option<NodeId>) {
        let Inquiry { from, origin, migration, attempt, .. } = *inquiry;
        let reason = reason.bounded();
        self.say(from, &MigrationMessage::Declined { origin, migration, attempt, reason, moved });
    }

    /// A daemon's arrival here is over: those who want to move it on are answered.
    pub(super) fn answer_early_inquiries(&mut self, origin: OriginHash) {
        let (due, rest) = std::mem::take(&mut self.early_inquiries).into_iter().partition(|i| i.origin == origin);
        self.early_inquiries = rest;
        let due: Vec<Inquiry> = due;
        for inquiry in due {
            self.answer_inquiry(inquiry);
        }
    }

    /// What there is to say of a daemon of this node that is to move to `target`, or why it cannot.
    pub(super) fn movable(
        &self,
        origin: OriginHash,
        target: NodeId,
        transport_identity: bool,
    ) -> Result<Subject, FailureReason> {
        let slot = self.local(origin).ok().and_then(|key| self.slot(key)).ok_or(FailureReason::DaemonNotFound)?;
        let host = &slot.host;
        let entity = host.entity();
        let arriving = self.arrivals.get(&entity).is_some_and(|arrival| arrival.target.copy() != CopyState::Active);
        if arriving || self.departures.contains_key(&entity) || host.presence != Presence::Live {
            return Err(FailureReason::AlreadyMigrating);
        }
        let state_bytes = host.last_snapshot.as_ref().map_or(0, |snapshot| snapshot.len() as u64);
        let here = target == self.me();
        let kind = match &host.kind {
            Some(kind) => kind.clone(),
            None if here => Arc::from(""),
            None => return Err(FailureReason::FactoryNotFound { kind: String::new(), why: Unwelcome::NoKind }),
        };
        if !here && !self.peers.is_up(target) {
            return Err(FailureReason::TargetUnavailable);
        }
        if !here && transport_identity && host.keypair.is_read_only() {
            let detail = "the daemon's key is not on its host".to_owned();
            return Err(FailureReason::IdentityTransportFailed { detail });
        }
        Ok(Subject { entity, epoch: host.epoch, kind, state_bytes })
    }

    /// An orchestrator asks whether a daemon may come.
    pub(super) fn on_prepare(&mut self, proposal: Proposal, kind: &str, now: Now) {
        let Proposal { from, id, source, .. } = proposal;
        self.call_off_former(from, &id, source, now);
        let held = self.arrivals.get(&id.entity).map(|arrival| &arrival.target);
        let own = held.filter(|target| target.orchestrator == from).or_else(|| self.places.of(&id.entity, from));
        let own = own.filter(|target| target.id.migration == id.migration).map(|target| (target.id, target.state));
        if let Some((known, state)) = own {
            if known == id {
                // The answer, and what came after it, may have been lost with a session.
                let staged = matches!(state, TargetState::Staged { .. });
                self.say(from, &MigrationMessage::Prepared { id });
                if staged {
                    self.say_staged(id.entity);
                }
                return;
            }
            if known.attempt > id.attempt || state != TargetState::Prepared {
                return;
            }
        } else if held.is_some_and(|target| target.state != TargetState::Prepared) || self.places.full(&id.entity) {
            // Before the source has shown itself anybody may have used the daemon's name: that shuts nobody out.
            return self.decline(from, id, FailureReason::AlreadyMigrating);
        }
        if self.arrived.of_driver(&id, from).is_some() {
            // A repetition of what is over. It is not answered: the source, if it asks, has its own question.
            return;
        }
        if self.work.is_behind() {
            return self.decline(from, id, FailureReason::NotReady);
        }
        let origin = id.entity.origin_hash();
        match self.lifecycle {
            Lifecycle::Ready if self.drain.is_none() => {}
            Lifecycle::Ready | Lifecycle::Registering => {
                let caller = (from, origin, id.migration);
                if self.turned_away.len() < MOST_EARLY && !self.turned_away.contains(&caller) {
                    self.turned_away.push(caller);
                }
                return self.decline(from, id, FailureReason::NotReady);
            }
            Lifecycle::ShuttingDown => return self.decline(from, id, FailureReason::ComputeNotSupported),
        }
        if self.by_origin.contains_key(&origin) {
            return self.decline(from, id, FailureReason::AlreadyMigrating);
        }
        let unwelcome = |why| FailureReason::FactoryNotFound { kind: kind.to_owned(), why }.bounded();
        if let Some(expected) = self.factories.expected(origin) {
            let provisioned = expected.keypair.clone();
            if expected.orchestrator.is_some_and(|bound| bound != from) {
                return self.decline(from, id, FailureReason::WrongPeer);
            }
            if *expected.kind != *kind || provisioned.as_ref().is_some_and(|key| key.entity_id() != id.entity) {
                return self.decline(from, id, unwelcome(Unwelcome::ExpectedOtherwise));
            }
            let (kind, config) = (expected.kind.clone(), expected.config.clone());
            return self.agree(proposal, kind, Welcome::Announced { config, provisioned }, now);
        }
        if own.is_none() && self.has_promised_enough(from) {
            return self.decline(from, id, FailureReason::NotReady);
        }
        let not_expected = unwelcome(Unwelcome::NotExpected);
        let Some(kind) = self.factories.kind(kind) else {
            return self.decline(from, id, unwelcome(Unwelcome::NoFactory));
        };
        match self.options.arrivals {
            ArrivalPolicy::Announced => self.decline(from, id, not_expected),
            ArrivalPolicy::AnyKind => self.agree(proposal, kind, Welcome::Any, now),
            ArrivalPolicy::Ask => self.ask_policy(Question::Arrival { proposal, kind }, now),
        }
    }

    /// Calls off what an orchestrator asks anew: what is left of it here was given up elsewhere.
    fn call_off_former(&mut self, from: NodeId, id: &MoveId, source: NodeId, now: Now) {
        let Some(target) = self.arrivals.get(&id.entity).map(|arrival| &arrival.target) else { return };
        let former = target.id;
        let same = former.migration == id.migration && target.orchestrator == from;
        // A source that begins anew has not released the daemon to the copy that may still be here.
        let begun_anew = !same && target.source == from && source == from;
        // The source went on, and its word for that has not come: it may have decided only when all is staged.
        let retried = same && former.attempt < id.attempt && target.is_under_way();
        if begun_anew || retried {
            self.arrival_input(id.entity, now, |target| target.called_off(FailureReason::Cancelled, Outcome::Source));
        }
        if begun_anew {
            self.arrived.forget(&former);
        }
    }

    /// Whether no more may be promised to an orchestrator: a flood of its questions must not fill this node, and not shut
    /// out others.
    fn has_promised_enough(&self, orchestrator: NodeId) -> bool {
        let all = self.arrivals.len() + self.places.count() + self.asked.len();
        if all < MOST_PROMISED_TO_ONE {
            return false;
        }
        let promised = self.arrivals.values().chain(self.places.iter()).filter(|arrival| !arrival.is_announced());
        let promised = self.asked.who_would_come().chain(promised.map(|arrival| arrival.target.orchestrator));
        let (mut all, mut own) = (0, 0);
        for to in promised {
            all += 1;
            own += usize::from(to == orchestrator);
        }
        all >= MOST_PROMISED || own >= MOST_PROMISED_TO_ONE
    }

    /// Room is asked for. Whether the policy, which was told another size, is asked first.
    pub(super) fn asks_about_size(&mut self, source: NodeId, id: &MoveId, total: u64, now: Now) -> bool {
        let Some(arrival) = self.arrivals.get(&id.entity) else { return false };
        if arrival.admitted_bytes().is_none_or(|admitted| total <= admitted.saturating_add(UNTOLD_BYTES)) {
            return false;
        }
        let (kind, orchestrator) = (arrival.kind(), arrival.target.orchestrator);
        self.ask_policy(Question::Size { source, orchestrator, id: *id, kind, total }, now);
        true
    }

    /// The embedder's policy decided.
    pub fn admitted(&mut self, question: u64, yes: bool, now: Now) {
        if let Some(question) = self.asked.take(question) {
            self.answer_question(question, Some(yes), now);
            self.settle_own(now);
        }
    }

    /// Goes on with what the embedder was asked about; without an answer nobody could be asked.
    pub(super) fn answer_question(&mut self, question: Question, answer: Option<bool>, now: Now) {
        let refusal =
            answer.map_or(Some(FailureReason::NotReady), |yes| (!yes).then_some(FailureReason::NotAuthorized));
        match question {
            Question::Arrival { proposal, kind } => {
                let Proposal { from, id, state_bytes, .. } = proposal;
                let held = self.arrivals.get(&id.entity);
                let taken = self.by_origin.contains_key(&id.entity.origin_hash())
                    || held.is_some_and(|arrival| arrival.target.state != TargetState::Prepared);
                match answer {
                    Some(true) if !taken => {
                        self.agree(proposal, kind, Welcome::ByPolicy { state_bytes }, now);
                    }
                    Some(true) => self.decline(from, id, FailureReason::AlreadyMigrating),
                    Some(false) => {
                        let why = Unwelcome::ByPolicy;
                        let reason = FailureReason::FactoryNotFound { kind: kind.to_string(), why };
                        self.decline(from, id, reason.bounded());
                    }
                    None => self.decline(from, id, FailureReason::NotReady),
                }
            }
            Question::Size { id, kind, total, .. } => {
                let waits = self.arrivals.get_mut(&id.entity).filter(|arrival| arrival.target.id == id);
                let Some(arrival) = waits else { return };
                match answer {
                    Some(true) => {
                        arrival.admit(total);
                        let source = arrival.target.source;
                        self.make_room(source, &id, total, now);
                    }
                    Some(false) => {
                        let reason =
                            FailureReason::FactoryNotFound { kind: kind.to_string(), why: Unwelcome::ByPolicy };
                        self.arrival_input(id.entity, now, |target| target.fail(reason.bounded()));
                    }
                    None => self.arrival_input(id.entity, now, |target| target.fail(FailureReason::NotReady)),
                }
            }
            Question::Inquiry(inquiry) => match refusal {
                Some(reason) => self.decline_inquiry(&inquiry, reason, None),
                None => self.answer_inquiry(inquiry),
            },
            Question::Departure { from, id, target, transport_identity } => match refusal {
                Some(reason) => self.decline(from, id, reason),
                None => self.on_take_snapshot(from, id, target, transport_identity, now),
            },
        }
    }

    fn agree(&mut self, proposal: Proposal, kind: Arc<str>, welcome: Welcome, now: Now) {
        let Proposal { from, id, source, transport_identity, .. } = proposal;
        if source != from && !self.peers.is_up(source) {
            return self.decline(from, id, FailureReason::TargetUnavailable);
        }
        let settings = &self.options.migration;
        let limits = (settings.silence, settings.handover_hold);
        let (target, actions) = Target::new(id, (from, source), limits, now.instant);
        let arrival = Arrival::new(target, kind, transport_identity, welcome);
        self.give_up_places(&id.entity, &FailureReason::Cancelled, |target| target.orchestrator == from);
        if let Some(former) = self.arrivals.insert(id.entity, arrival) {
            let target = &former.target;
            if target.orchestrator != from {
                self.places.keep(former);
            } else if target.id.migration != id.migration {
                let failure = MigrationFailure::Refused(FailureReason::Cancelled, Outcome::Source);
                self.note_arrival(&target.id, target.source, None, Some(failure));
            }
        }
        self.arrive(id.entity, actions, now);
    }

    pub(super) fn decline(&mut self, to: NodeId, id: MoveId, reason: FailureReason) {
        self.say(to, &MigrationMessage::MigrationFailed { id, reason });
    }

    /// The policy's answers will not be waited for any more.
    pub(super) fn decline_asked(&mut self) {
        let reason = FailureReason::ComputeNotSupported;
        for question in self.asked.take_all() {
            match question {
                Question::Arrival { proposal: Proposal { from, id, .. }, .. }
                | Question::Departure { from, id, .. } => {
                    self.decline(from, id, reason.clone());
                }
                Question::Inquiry(inquiry) => self.decline_inquiry(&inquiry, reason.clone(), None),
                // Its arrival has ended.
                Question::Size { .. } => {}
            }
        }
    }

    /// Those who came too early are told that this node is ready.
    pub(super) fn call_back_turned_away(&mut self) {
        for (node, origin, migration) in std::mem::take(&mut self.turned_away) {
            self.say(node, &MigrationMessage::NowReady { origin, migration });
        }
    }
}
