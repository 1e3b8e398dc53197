//! Migrations that this node drives, wherever the daemon lives.

use std::time::Duration;

use tokio::time::Instant;

use super::engine::{Engine, Now};
use super::error::RuntimeError;
use super::reaching::Then;
use super::timers::TimerKey;
use super::work::{MigrationStarted, Notice, Role, Settlement, Work};
use crate::daemon::Ticket;
use crate::directory::{Finding, Haste};
use crate::identity::{MigrationId, NodeId, OriginHash};
use crate::migration::{
    Ask, MigrationFailure, MigrationOptions, Orchestrator, OrchestratorAction, Outcome, Progress, Sighting, Subject,
    Wanted,
};
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::migration::{FailureReason, MigrationMessage, MoveId, Stage};

/// Progress is told at most this often while bytes flow; phases are told at once.
const PROGRESS_STEP: u64 = 1024 * 1024;

/// A migration that this node drives.
#[derive(Debug)]
pub(super) struct Orchestration {
    pub(super) machine: Orchestrator,
    told_bytes: u64,
}

/// A move whose source is being looked for.
#[derive(Debug)]
pub(super) struct Sought {
    ticket: Ticket,
    target: NodeId,
    options: MigrationOptions,
}

impl Engine {
    /// Moves a daemon; `ticket` is settled with [`Settlement::Migrating`] and what comes of it arrives in notices.
    ///
    /// Without a `source` the daemon is looked for, and followed when it moves on meanwhile. Fails, or settles the ticket
    /// with a failure, for what this node knows by itself.
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
            if self.reach_first(node, || Then::Start { ticket, origin, source, target, options }) {
                return Ok(());
            }
        }
        let here = self.local(origin).is_ok();
        let (source, follow) = match source {
            Some(source) => (source, false),
            None if here => (self.me(), true),
            None => {
                self.sought.entry(origin).or_default().push(Sought { ticket, target, options });
                self.look_up(origin, Haste::SkipSilent, now);
                return Ok(());
            }
        };
        let migration = self.drive_from(origin, source, target, follow, options, now)?;
        self.begin(migration, Some(ticket), now);
        Ok(())
    }

    /// The directory answered those who want to move a daemon from wherever it lives.
    pub(super) fn sought_found(&mut self, origin: OriginHash, node: Option<NodeId>, now: Now) {
        let node = node.or_else(|| self.pointers.get(origin).map(|pointer| pointer.node));
        for Sought { ticket, target, options } in self.sought.remove(&origin).unwrap_or_default() {
            if let Some(node) = node
                && self.reach_first(node, || Then::Start { ticket, origin, source: Some(node), target, options })
            {
                continue;
            }
            let driven = match node {
                Some(source) => self.drive_from(origin, source, target, true, options, now),
                None => Err(RuntimeError::Migration(MigrationFailure::DaemonNotFound(origin))),
            };
            match driven {
                Ok(started) => self.begin(started, Some(ticket), now),
                Err(error) => self.settle(ticket, Err(error)),
            }
        }
    }

    /// Enters a migration that this node is to drive, unless it knows that nothing can come of it.
    pub(super) fn drive_from(
        &mut self,
        origin: OriginHash,
        source: NodeId,
        target: NodeId,
        follow: bool,
        options: MigrationOptions,
        now: Now,
    ) -> Result<MigrationStarted, RuntimeError> {
        let me = self.me();
        let fails = |failure| RuntimeError::Migration(failure);
        let refused = |reason| fails(MigrationFailure::Refused(reason, Outcome::Source));
        if source == me {
            self.movable(origin, target, options.transport_identity).map_err(|reason| match reason {
                FailureReason::DaemonNotFound => fails(MigrationFailure::DaemonNotFound(origin)),
                FailureReason::TargetUnavailable => fails(MigrationFailure::TargetUnavailable(target)),
                reason => refused(reason),
            })?;
        } else if !self.peers.is_up(source) {
            // It may be there: nobody can say so.
            return Err(fails(MigrationFailure::DaemonNotFound(origin)));
        }
        if target != me && !self.peers.is_up(target) {
            return Err(fails(MigrationFailure::TargetUnavailable(target)));
        }
        if self.orchestrations.contains_key(&origin) {
            return Err(refused(FailureReason::AlreadyMigrating));
        }
        let migration = MigrationId::new((self.entropy)());
        let wanted = Wanted { migration, origin, source, target, follow, options };
        let (machine, _) = Orchestrator::new(wanted, self.options.migration.silence, now.instant);
        self.orchestrations.insert(origin, Orchestration { machine, told_bytes: 0 });
        Ok(MigrationStarted { migration, origin, source, target })
    }

    /// Tells whoever wanted it that a migration is under way, and asks the source.
    pub(super) fn begin(&mut self, started: MigrationStarted, ticket: Option<Ticket>, now: Now) {
        if let Some(ticket) = ticket {
            self.settle(ticket, Ok(Settlement::Migrating(started)));
        }
        self.drive(started.origin, vec![OrchestratorAction::Ask(Ask::Inquire)], now);
        self.settle_own(now);
    }

    /// Gives a migration up, with the reason that its caller is told.
    pub fn abort_migration(&mut self, migration: MigrationId, timeout: Option<Duration>, now: Now) {
        let reason = match timeout {
            None => FailureReason::Cancelled,
            Some(limit) => FailureReason::Timeout { detail: format!("not complete within {} ms", limit.as_millis()) },
        };
        let found = self.orchestrations.iter().find(|(_, o)| o.machine.wanted.migration == migration);
        let Some(origin) = found.map(|(origin, _)| *origin) else { return };
        self.drive_input(origin, now, |machine| machine.abort(reason, now.instant));
        self.settle_own(now);
    }

    /// The phase of a migration of this daemon that this node has a part in.
    pub fn migration_phase(&self, origin: OriginHash) -> Option<Stage> {
        self.orchestrations.get(&origin).and_then(|orchestration| orchestration.machine.stage()).or_else(|| {
            let leaving = self.departures.of(origin).map(|departure| departure.source.stage());
            leaving.or_else(|| self.arrivals.of(origin).map(|arrival| arrival.target.stage()))
        })
    }

    /// The parts that this node has in migrations: role, daemon, source, target, stage, attempt.
    pub fn migrations(&self) -> Vec<(Role, OriginHash, NodeId, NodeId, Option<Stage>, u32)> {
        let me = self.me();
        let driven = self.orchestrations.values().map(|o| {
            let m = &o.machine;
            (Role::Orchestrator, m.wanted.origin, m.wanted.source, m.wanted.target, m.stage(), m.attempt)
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

    fn orchestration_of(&mut self, id: &MoveId, from: NodeId) -> Option<&mut Orchestration> {
        let orchestration = self.orchestrations.get_mut(&id.entity.origin_hash())?;
        let machine = &orchestration.machine;
        let theirs = from == machine.wanted.source || from == machine.wanted.target;
        (machine.id() == Some(*id) && theirs).then_some(orchestration)
    }

    /// Feeds an input to the driver of a daemon's migration and carries out what it wants.
    pub(super) fn drive_input(
        &mut self,
        origin: OriginHash,
        now: Now,
        input: impl FnOnce(&mut Orchestrator) -> Vec<OrchestratorAction>,
    ) {
        if let Some(orchestration) = self.orchestrations.get_mut(&origin) {
            let actions = input(&mut orchestration.machine);
            self.drive(origin, actions, now);
        }
    }

    /// Carries out what the driver wants.
    fn drive(&mut self, origin: OriginHash, actions: Vec<OrchestratorAction>, now: Now) {
        for action in actions {
            let Some(orchestration) = self.orchestrations.get(&origin) else { return };
            let machine = &orchestration.machine;
            let Wanted { migration, source, target, .. } = machine.wanted;
            let attempt = machine.attempt;
            let part = Part { role: Role::Orchestrator, origin, migration, attempt, source, target };
            match action {
                OrchestratorAction::Ask(ask) => self.ask(origin, ask, now),
                OrchestratorAction::Phase(stage) => {
                    self.work.push(Work::Notice(Notice::Phase { migration, stage }));
                    self.note_part(part, Some(stage), None);
                }
                OrchestratorAction::Progress(progress) => self.tell_progress(origin, progress, now),
                OrchestratorAction::Finished(result) => self.finished(origin, part, result, now),
            }
        }
        let deadline = self.orchestrations.get(&origin).and_then(|o| o.machine.deadline());
        if let Some(at) = deadline {
            self.timers.arm(TimerKey::Orchestration(origin), at);
        }
    }

    fn ask(&mut self, origin: OriginHash, ask: Ask, now: Now) {
        let Some(orchestration) = self.orchestrations.get(&origin) else { return };
        let machine = &orchestration.machine;
        let Wanted { migration, source, target, options, .. } = machine.wanted;
        let transport_identity = options.transport_identity;
        if ask == Ask::Inquire {
            let attempt = machine.attempt;
            let message = MigrationMessage::Inquire { origin, migration, attempt, target, transport_identity };
            return self.say(source, &message);
        }
        if ask == Ask::Search {
            return self.search(origin, now);
        }
        if let Ask::CallOff(id) = ask {
            let reason = FailureReason::Cancelled;
            return self.say(target, &MigrationMessage::MigrationFailed { id, reason });
        }
        let (Some(id), Some(subject)) = (machine.id(), machine.subject()) else { return };
        match ask {
            Ask::Inquire | Ask::Search | Ask::CallOff(_) => {}
            Ask::Prepare => {
                let (kind, state_bytes) = (subject.kind.clone(), subject.state_bytes);
                let message = MigrationMessage::Prepare { id, kind: &kind, source, transport_identity, state_bytes };
                self.say(target, &message);
            }
            Ask::TakeSnapshot => {
                self.say(source, &MigrationMessage::TakeSnapshot { id, target, transport_identity });
            }
            Ask::CutoverNotify => self.say(source, &MigrationMessage::CutoverNotify { id }),
            Ask::Cancel(reason) => self.say(source, &MigrationMessage::Cancel { id, reason: reason.bounded() }),
            Ask::QueryTarget => self.say(target, &MigrationMessage::StatusQuery { id }),
        }
    }

    /// Looks for a daemon whose source cannot say that it has it.
    fn search(&mut self, origin: OriginHash, now: Now) {
        if self.local(origin).is_ok() {
            let here = Sighting::On(self.me());
            self.drive_input(origin, now, |machine| machine.searched(here));
        } else {
            self.look_up(origin, Haste::SkipSilent, now);
        }
    }

    /// The directory has answered, perhaps about a daemon that a driver of this node searches for.
    pub(super) fn search_over(&mut self, origin: OriginHash, finding: &Finding, now: Now) {
        let Some(orchestration) = self.orchestrations.get(&origin) else { return };
        let vouched_at = orchestration.machine.vouched_at();
        let sighting = match finding {
            // What others say of a host is as old as what they know.
            Finding::Found(found) if found.by == found.claim.body().node() => Sighting::On(found.by),
            Finding::NotFound(_) if self.holds_in_doubt(origin) || self.anybody_may_host(vouched_at) => {
                Sighting::Unclear
            }
            Finding::NotFound(_) => Sighting::Nowhere,
            Finding::Found(_) | Finding::InDoubt(_) | Finding::Unanswered(_) | Finding::HostSilent(..) => {
                Sighting::Unclear
            }
        };
        self.drive_input(origin, now, |machine| machine.searched(sighting));
    }

    /// Whether somebody who cannot be asked may have got a daemon that was on its source at that instant.
    fn anybody_may_host(&self, vouched_at: Instant) -> bool {
        let silent = self.peers.all().filter(|(_, answers)| !answers).any(|(node, _)| {
            self.peers.get(node).is_some_and(|peer| !self.graves.holds(node, peer.identity.incarnation))
        });
        // What was in doubt elsewhere for that long was decided by then.
        silent || self.graves.misses_any_since(vouched_at, self.options.migration.handover_hold)
    }

    fn finished(&mut self, origin: OriginHash, part: Part, result: Result<(), MigrationFailure>, now: Now) {
        let id = self.orchestrations.remove(&origin).and_then(|orchestration| orchestration.machine.id());
        self.timers.disarm(TimerKey::Orchestration(origin));
        if let Err(failure) = &result {
            // The target may still hold a place for it.
            if let (Outcome::Source | Outcome::Lost, Some(id)) = (failure.outcome(), id) {
                self.say(part.target, &MigrationMessage::MigrationFailed { id, reason: failure.reason().bounded() });
            }
            self.note_part(part, None, Some(failure.clone()));
        }
        let migration = part.migration;
        self.drained(migration, &result, now);
        self.work.push(Work::Notice(Notice::MigrationOver { migration, result }));
    }

    fn tell_progress(&mut self, origin: OriginHash, progress: Progress, now: Now) {
        let Some(orchestration) = self.orchestrations.get_mut(&origin) else { return };
        let whole = progress.bytes_sent == progress.bytes_total;
        if !whole && progress.bytes_sent < orchestration.told_bytes + PROGRESS_STEP {
            return;
        }
        orchestration.told_bytes = progress.bytes_sent;
        let machine = &orchestration.machine;
        let (migration, stage, elapsed) = (machine.wanted.migration, machine.stage(), machine.elapsed(now.instant));
        self.work.push(Work::Notice(Notice::Progress { migration, stage, progress, elapsed }));
    }

    /// A role of a migration on this node reached a stage, or failed.
    pub(super) fn note_migration(
        &mut self,
        role: Role,
        id: &MoveId,
        (source, target): (NodeId, NodeId),
        stage: Option<Stage>,
        failure: Option<MigrationFailure>,
    ) {
        let (origin, migration, attempt) = (id.entity.origin_hash(), id.migration, id.attempt);
        self.note_part(Part { role, origin, migration, attempt, source, target }, stage, failure);
    }

    fn note_part(&mut self, part: Part, stage: Option<Stage>, failure: Option<MigrationFailure>) {
        let Part { role, origin, migration, attempt, source, target } = part;
        let live = self.departures.len() + self.arrivals.len() + self.orchestrations.len();
        let over = failure.is_some() || stage == Some(Stage::Complete);
        self.spans.of(role, origin, migration, live, over).in_scope(|| match &failure {
            None => tracing::debug!(attempt, %source, %target, stage = stage.map(Stage::name), "migration"),
            Some(failure) => tracing::debug!(attempt, %source, %target, %failure, "migration failed"),
        });
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
        self.drive_input(origin, now, |machine| machine.tick(now.instant));
    }

    /// The source describes a daemon that this node wants to move.
    pub(super) fn on_described(&mut self, from: NodeId, id: &MoveId, kind: &str, state_bytes: u64, now: Now) {
        let origin = id.entity.origin_hash();
        if self.asks(from, origin, id.migration, id.attempt) {
            let subject = Subject { entity: id.entity, epoch: id.epoch, kind: kind.into(), state_bytes };
            self.drive_input(origin, now, |machine| machine.described(subject, now.instant));
        }
    }

    /// The source does not let it go.
    pub(super) fn on_declined(
        &mut self,
        from: NodeId,
        (origin, migration, attempt): (OriginHash, MigrationId, u32),
        reason: &FailureReason,
        moved: Option<NodeId>,
        now: Now,
    ) {
        if self.asks(from, origin, migration, attempt) {
            let moved = moved.filter(|node| *node == self.me() || self.peers.is_up(*node));
            self.drive_input(origin, now, |machine| machine.declined(reason.clone(), moved, now.instant));
        }
    }

    /// Whether this node put that question to that node.
    fn asks(&self, source: NodeId, origin: OriginHash, migration: MigrationId, attempt: u32) -> bool {
        self.orchestrations.get(&origin).is_some_and(|orchestration| {
            let machine = &orchestration.machine;
            let wanted = &machine.wanted;
            (wanted.source, wanted.migration, machine.attempt) == (source, migration, attempt)
        })
    }

    /// A node that this one drives with says when it is ready.
    pub(super) fn on_now_ready(&mut self, from: NodeId, origin: OriginHash, migration: MigrationId, now: Now) {
        self.drive_input(origin, now, |machine| {
            let theirs = machine.wanted.target == from && machine.wanted.migration == migration;
            if theirs { machine.now_ready(now.instant) } else { Vec::new() }
        });
    }

    /// A message to the driver of a migration.
    pub(super) fn on_orchestrator_message(&mut self, from: NodeId, message: &MigrationMessage<'_>, now: Now) {
        let Some(id) = message.id() else { return };
        let origin = id.entity.origin_hash();
        let Some(orchestration) = self.orchestration_of(id, from) else {
            tracing::debug!(peer = %from, message = message.name(), "no such migration is driven here");
            return;
        };
        let machine = &mut orchestration.machine;
        let (from_source, from_target) = (from == machine.wanted.source, from == machine.wanted.target);
        let instant = now.instant;
        let actions = match message {
            MigrationMessage::Prepared { .. } if from_target => machine.prepared(instant),
            MigrationMessage::RestoreComplete { .. } if from_target => machine.restored(instant),
            MigrationMessage::ReplayComplete { staged, .. } if from_target => machine.staged(*staged, instant),
            MigrationMessage::Status { stage, bytes_sent, bytes_total, events, .. } if from_source => {
                let progress = Progress {
                    bytes_sent: *bytes_sent,
                    bytes_total: *bytes_total,
                    events_buffered: *events,
                    events_replayed: 0,
                };
                machine.status(*stage, progress, instant)
            }
            MigrationMessage::Status { .. } => {
                machine.still_at_work(instant);
                Vec::new()
            }
            MigrationMessage::CleanupComplete { .. } if from_source => machine.completed(),
            MigrationMessage::MigrationFailed { reason, .. } if from_source => {
                machine.source_failed(reason.clone(), instant)
            }
            MigrationMessage::MigrationFailed { reason, .. } => machine.target_refused(reason.clone(), instant),
            MigrationMessage::TooLate { .. } if from_source => {
                machine.too_late();
                self.work.push(Work::Notice(Notice::TooLate { migration: id.migration }));
                Vec::new()
            }
            MigrationMessage::InDoubt { .. } if from_source => machine.source_in_doubt(),
            MigrationMessage::StatusAnswer { copy, .. } if from_target => machine.target_copy(*copy, instant),
            // From a node that has not the role to say so.
            MigrationMessage::Prepared { .. }
            | MigrationMessage::RestoreComplete { .. }
            | MigrationMessage::ReplayComplete { .. }
            | MigrationMessage::CleanupComplete { .. }
            | MigrationMessage::TooLate { .. }
            | MigrationMessage::InDoubt { .. }
            | MigrationMessage::StatusAnswer { .. }
            // Not for this role.
            | MigrationMessage::Prepare { .. }
            | MigrationMessage::TakeSnapshot { .. }
            | MigrationMessage::Reserve { .. }
            | MigrationMessage::Reserved { .. }
            | MigrationMessage::Chunk { .. }
            | MigrationMessage::SnapshotReady { .. }
            | MigrationMessage::BufferedEvents { .. }
            | MigrationMessage::CutoverNotify { .. }
            | MigrationMessage::ActivateTarget { .. }
            | MigrationMessage::ActivateAck { .. }
            | MigrationMessage::StatusQuery { .. }
            | MigrationMessage::Cancel { .. }
            | MigrationMessage::NowReady { .. }
            | MigrationMessage::Inquire { .. }
            | MigrationMessage::Described { .. }
            | MigrationMessage::Declined { .. }
            | MigrationMessage::CanHost { .. }
            | MigrationMessage::Hosts { .. } => return,
        };
        self.drive(origin, actions, now);
    }

    /// The session with a node broke, and may come back.
    pub(super) fn drives_cut(&mut self, node: NodeId, now: Now) {
        for origin in self.driven() {
            self.drive_input(origin, now, |machine| machine.peer_cut(node, now.instant));
        }
    }

    /// A node was declared lost; `dead` when its process is proven to be gone.
    pub(super) fn drives_lost(&mut self, node: NodeId, dead: bool, now: Now) {
        for origin in self.driven() {
            self.drive_input(origin, now, |machine| machine.peer_lost(node, dead, now.instant));
        }
    }

    /// The session with a node is back.
    pub(super) fn drives_back(&mut self, node: NodeId, now: Now) {
        for origin in self.driven() {
            self.drive_input(origin, now, |machine| machine.peer_back(node));
        }
    }

    /// The runtime shuts down: whoever waits for a migration learns that this node gives it up.
    pub(super) fn end_drives(&mut self, now: Now) {
        for origin in self.driven() {
            // Frozen or not, what this node has not released is here.
            let here = self.local(origin).is_ok();
            self.drive_input(origin, now, |machine| machine.shut_down(here));
        }
        for (_, sought) in std::mem::take(&mut self.sought) {
            for Sought { ticket, .. } in sought {
                self.settle(ticket, Err(RuntimeError::ShuttingDown));
            }
        }
    }

    fn driven(&self) -> Vec<OriginHash> {
        let mut origins: Vec<OriginHash> = self.orchestrations.keys().copied().collect();
        origins.sort_unstable();
        origins
    }
}

/// The part of this node in a migration, as observers are told of it.
#[derive(Clone, Copy)]
struct Part {
    role: Role,
    origin: OriginHash,
    migration: MigrationId,
    attempt: u32,
    source: NodeId,
    target: NodeId,
}
