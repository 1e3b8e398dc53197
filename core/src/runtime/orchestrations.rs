//! Migrations that this node drives.

use std::sync::Arc;
use std::time::Duration;

use super::engine::{Engine, Now};
use super::error::RuntimeError;
use super::reaching::Then;
use super::timers::TimerKey;
use super::work::{MigrationStarted, Notice, Role, Settlement, Work};
use crate::daemon::Ticket;
use crate::identity::{MigrationId, NodeId, OriginHash};
use crate::migration::{Ask, MigrationFailure, MigrationOptions, Orchestrator, OrchestratorAction, Outcome, Progress};
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::migration::{CopyState, FailureReason, MigrationMessage, MoveId, Stage};

/// Progress is told at most this often while bytes flow; phases are told at once.
const PROGRESS_STEP: u64 = 1024 * 1024;

/// A migration that this node drives.
#[derive(Debug)]
pub(super) struct Orchestration {
    pub(super) machine: Orchestrator,
    kind: Arc<str>,
    state_bytes: u64,
    told_bytes: u64,
    /// What it begins with, while the daemon's arrival here is not wholly over.
    waiting: Vec<OrchestratorAction>,
}

impl Engine {
    /// Moves a daemon of this node; `ticket` is settled with [`Settlement::Migrating`] and what comes of it arrives in
    /// notices. `source` must be this node: a node drives only its own daemons so far.
    pub fn start_migration(
        &mut self,
        ticket: Ticket,
        origin: OriginHash,
        source: Option<NodeId>,
        target: NodeId,
        options: MigrationOptions,
        now: Now,
    ) -> Result<(), RuntimeError> {
        self.check_ready()?;
        for node in source.into_iter().chain([target]) {
            if self.reach_first(node, || Then::Start { ticket, origin, source, target, options: options.clone() }) {
                return Ok(());
            }
        }
        let me = self.me();
        let not_here = || RuntimeError::Migration(MigrationFailure::DaemonNotFound(origin));
        let key = self.local(origin).map_err(|_| not_here())?;
        if source.is_some_and(|source| source != me) {
            return Err(not_here());
        }
        let Some(slot) = self.slot(key) else { return Err(not_here()) };
        let refused = |reason| RuntimeError::Migration(MigrationFailure::Refused(reason, Outcome::Source));
        let entity = slot.host.entity();
        let epoch = slot.host.epoch;
        let started = |migration| MigrationStarted { migration, origin, source: me, target };
        let migration = MigrationId::new((self.entropy)());
        if target == me {
            self.settle(ticket, Ok(Settlement::Migrating(started(migration))));
            self.work.push(Work::Notice(Notice::Phase { migration, stage: Stage::Complete }));
            self.work.push(Work::Notice(Notice::MigrationOver { migration, result: Ok(()) }));
            return Ok(());
        }
        let Some(slot) = self.slot(key) else { return Err(not_here()) };
        let Some(kind) = slot.host.kind.clone() else {
            return Err(refused(FailureReason::FactoryNotFound { kind: String::new() }));
        };
        if !self.peers.is_up(target) {
            return Err(RuntimeError::Migration(MigrationFailure::TargetUnavailable(target)));
        }
        if self.orchestrations.contains_key(&origin)
            || self.departures.contains_key(&entity)
            || self.arrivals.get(&entity).is_some_and(|arrival| arrival.target.copy() != CopyState::Active)
        {
            return Err(refused(FailureReason::AlreadyMigrating));
        }
        if options.transport_identity && slot.host.keypair.is_read_only() {
            let detail = "the daemon's key is not on this node".to_owned();
            return Err(refused(FailureReason::IdentityTransportFailed { detail }));
        }
        let state_bytes = slot.host.last_snapshot.as_ref().map_or(0, |snapshot| snapshot.len() as u64);
        let id = MoveId { entity, migration, attempt: 1, epoch };
        let silence = self.options.migration.silence;
        let (machine, actions) = Orchestrator::new(id, (me, target), options, silence, now.instant);
        // A daemon leaves again only when its former host has let go.
        let (waiting, actions) =
            if self.arrivals.contains_key(&entity) { (actions, Vec::new()) } else { (Vec::new(), actions) };
        self.orchestrations.insert(origin, Orchestration { machine, kind, state_bytes, told_bytes: 0, waiting });
        self.settle(ticket, Ok(Settlement::Migrating(started(migration))));
        self.drive(origin, actions, now);
        self.settle_own(now);
        Ok(())
    }

    /// The daemon's arrival here is over: it may leave again.
    pub(super) fn begin_waiting(&mut self, origin: OriginHash, now: Now) {
        if let Some(orchestration) = self.orchestrations.get_mut(&origin) {
            let actions = std::mem::take(&mut orchestration.waiting);
            self.drive(origin, actions, now);
        }
    }

    /// Gives a migration up, with the reason that its caller is told.
    pub fn abort_migration(&mut self, migration: MigrationId, timeout: Option<Duration>, now: Now) {
        let reason = match timeout {
            None => FailureReason::Cancelled,
            Some(limit) => FailureReason::Timeout { detail: format!("not complete within {} ms", limit.as_millis()) },
        };
        let found = self.orchestrations.iter_mut().find(|(_, o)| o.machine.id.migration == migration);
        let Some((origin, orchestration)) = found else { return };
        let origin = *origin;
        let actions = orchestration.machine.abort(reason);
        self.drive(origin, actions, now);
        self.settle_own(now);
    }

    /// The phase of a migration of this daemon that this node has a part in.
    pub fn migration_phase(&self, origin: OriginHash) -> Option<Stage> {
        self.orchestrations.get(&origin).and_then(|orchestration| orchestration.machine.stage()).or_else(|| {
            let departure = self.departures.values().find(|departure| departure.origin == origin);
            departure.map(|departure| departure.source.stage())
        })
    }

    /// The parts that this node has in migrations: role, daemon, source, target, stage, attempt.
    pub fn migrations(&self) -> Vec<(Role, OriginHash, NodeId, NodeId, Option<Stage>, u32)> {
        let me = self.me();
        let driven = self.orchestrations.values().map(|o| {
            let m = &o.machine;
            (Role::Orchestrator, m.origin, m.source, m.target, m.stage(), m.id.attempt)
        });
        let leaving = self
            .departures
            .values()
            .map(|d| (Role::Source, d.origin, me, d.source.target, Some(d.source.stage()), d.source.id.attempt));
        let coming = self.arrivals.iter().map(|(entity, a)| {
            (Role::Target, entity.origin_hash(), a.target.source, me, Some(a.target.stage()), a.target.id.attempt)
        });
        let mut all: Vec<_> = driven.chain(leaving).chain(coming).collect();
        all.sort_unstable_by_key(|(_, origin, ..)| *origin);
        all
    }

    pub(super) fn orchestration_of(&mut self, id: &MoveId, from: NodeId) -> Option<&mut Orchestration> {
        let orchestration = self.orchestrations.get_mut(&id.entity.origin_hash())?;
        let machine = &orchestration.machine;
        let theirs = from == machine.source || from == machine.target;
        (machine.id == *id && theirs).then_some(orchestration)
    }

    /// Carries out what the driver wants.
    pub(super) fn drive(&mut self, origin: OriginHash, actions: Vec<OrchestratorAction>, now: Now) {
        for action in actions {
            let Some(orchestration) = self.orchestrations.get_mut(&origin) else { return };
            let machine = &orchestration.machine;
            let (id, source, target) = (machine.id, machine.source, machine.target);
            let transport_identity = machine.options.transport_identity;
            let migration = id.migration;
            match action {
                OrchestratorAction::Ask(Ask::Prepare) => {
                    let kind = orchestration.kind.clone();
                    let state_bytes = orchestration.state_bytes;
                    let message =
                        MigrationMessage::Prepare { id, kind: &kind, source, transport_identity, state_bytes };
                    self.say(target, &message);
                }
                OrchestratorAction::Ask(Ask::TakeSnapshot) => {
                    self.say(source, &MigrationMessage::TakeSnapshot { id, target, transport_identity });
                }
                OrchestratorAction::Ask(Ask::CutoverNotify) => {
                    self.say(source, &MigrationMessage::CutoverNotify { id });
                }
                OrchestratorAction::Ask(Ask::Cancel(reason)) => {
                    self.say(source, &MigrationMessage::Cancel { id, reason });
                }
                OrchestratorAction::Phase(stage) => {
                    self.work.push(Work::Notice(Notice::Phase { migration, stage }));
                    self.note_migration(Role::Orchestrator, &id, (source, target), Some(stage), None);
                }
                OrchestratorAction::Progress(progress) => self.tell_progress(origin, progress, now),
                OrchestratorAction::Finished(result) => {
                    self.orchestrations.remove(&origin);
                    self.timers.disarm(TimerKey::Orchestration(origin));
                    if let Err(failure) = &result {
                        // The target may still hold a place for it.
                        let reason = match failure {
                            MigrationFailure::Refused(reason, _) => reason.clone(),
                            MigrationFailure::NotReadyTimeout { .. } => FailureReason::NotReady,
                            MigrationFailure::TargetUnavailable(_) | MigrationFailure::DaemonNotFound(_) => {
                                FailureReason::Cancelled
                            }
                        };
                        if failure.outcome() == Outcome::Source {
                            self.say(target, &MigrationMessage::MigrationFailed { id, reason: reason.bounded() });
                        }
                        self.note_migration(Role::Orchestrator, &id, (source, target), None, Some(failure.clone()));
                    }
                    self.work.push(Work::Notice(Notice::MigrationOver { migration, result }));
                }
            }
        }
        let deadline = self.orchestrations.get(&origin).and_then(|o| o.machine.deadline());
        if let Some(at) = deadline {
            self.timers.arm(TimerKey::Orchestration(origin), at);
        }
    }

    fn tell_progress(&mut self, origin: OriginHash, progress: Progress, now: Now) {
        let Some(orchestration) = self.orchestrations.get_mut(&origin) else { return };
        let whole = progress.bytes_sent == progress.bytes_total;
        if !whole && progress.bytes_sent < orchestration.told_bytes + PROGRESS_STEP {
            return;
        }
        orchestration.told_bytes = progress.bytes_sent;
        let machine = &orchestration.machine;
        let (migration, stage, elapsed) = (machine.id.migration, machine.stage(), machine.elapsed(now.instant));
        self.work.push(Work::Notice(Notice::Progress { migration, stage, progress, elapsed }));
    }

    pub(super) fn note_migration(
        &mut self,
        role: Role,
        id: &MoveId,
        (source, target): (NodeId, NodeId),
        stage: Option<Stage>,
        failure: Option<MigrationFailure>,
    ) {
        let (migration, origin) = (id.migration, id.entity.origin_hash());
        tracing::debug!(?role, %origin, ?migration, ?stage, ?failure, "migration");
        let attempt = id.attempt;
        self.work.push(Work::Notice(Notice::Migration {
            migration,
            role,
            origin,
            source,
            target,
            attempt,
            stage,
            failure,
        }));
    }

    /// Sends a message of a migration.
    pub(super) fn say(&mut self, to: NodeId, message: &MigrationMessage<'_>) {
        // What clears up a doubt is worth a way around a broken session.
        if matches!(
            message,
            MigrationMessage::StatusQuery { .. }
                | MigrationMessage::ActivateTarget { .. }
                | MigrationMessage::ActivateAck { .. }
        ) {
            self.want_peer(to);
        }
        self.send_any_size(to, Subprotocol::Migration, codec::encode(message));
    }

    pub(super) fn tick_orchestration(&mut self, origin: OriginHash, now: Now) {
        if let Some(orchestration) = self.orchestrations.get_mut(&origin) {
            let actions = orchestration.machine.tick(now.instant);
            self.drive(origin, actions, now);
        }
    }

    /// A message to the driver of a migration.
    pub(super) fn on_orchestrator_message(&mut self, from: NodeId, message: &MigrationMessage<'_>, now: Now) {
        let origin;
        let actions = match message {
            MigrationMessage::NowReady { origin: whose, migration } => {
                origin = *whose;
                let Some(orchestration) = self.orchestrations.get_mut(whose) else { return };
                let machine = &mut orchestration.machine;
                if machine.target != from || machine.id.migration != *migration {
                    return;
                }
                machine.now_ready(now.instant)
            }
            message => {
                let Some(id) = message.id() else { return };
                origin = id.entity.origin_hash();
                let Some(orchestration) = self.orchestration_of(id, from) else {
                    tracing::debug!(peer = %from, message = message.name(), "no such migration is driven here");
                    return;
                };
                let machine = &mut orchestration.machine;
                let (from_source, from_target) = (from == machine.source, from == machine.target);
                match message {
                    MigrationMessage::Prepared { .. } if from_target => machine.prepared(now.instant),
                    MigrationMessage::RestoreComplete { .. } if from_target => machine.restored(now.instant),
                    MigrationMessage::ReplayComplete { staged, .. } if from_target => {
                        machine.staged(*staged, now.instant)
                    }
                    MigrationMessage::Status { stage, bytes_sent, bytes_total, events, .. } if from_source => {
                        let progress = Progress {
                            bytes_sent: *bytes_sent,
                            bytes_total: *bytes_total,
                            events_buffered: *events,
                            events_replayed: 0,
                        };
                        machine.status(*stage, progress, now.instant)
                    }
                    MigrationMessage::CleanupComplete { .. } if from_source => machine.completed(),
                    // Behind the source's decision only the source's word counts.
                    MigrationMessage::MigrationFailed { reason, .. } if from_source || machine.stage().is_none() => {
                        machine.failed(reason.clone(), Outcome::Source, now.instant)
                    }
                    MigrationMessage::TooLate { .. } if from_source => {
                        let migration = id.migration;
                        self.work.push(Work::Notice(Notice::TooLate { migration }));
                        return;
                    }
                    MigrationMessage::Status { .. } if from_target => machine.still_at_work(now.instant),
                    MigrationMessage::InDoubt { .. } if from_source => {
                        let detail = format!("target {}", machine.target);
                        machine.failed(FailureReason::PeerLost { detail }, Outcome::Unknown, now.instant)
                    }
                    _ => return,
                }
            }
        };
        self.drive(origin, actions, now);
    }
}
