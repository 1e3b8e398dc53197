//! Daemons that leave this node.

use std::collections::VecDeque;

use bytes::Bytes;

use super::elsewhere::Search;
use super::engine::{Engine, Now};
use super::policy::Verdict;
use super::reaching::Then;
use super::state_reader::{encode_streams, snapshot_head};
use super::timers::TimerKey;
use super::work::{Role, Work};
use crate::daemon::{Control, DaemonKey, Presence, ReplyTo, Running};
use crate::directory::Claim;
use crate::events::Outgoing;
use crate::identity::{EntityId, NodeId, OriginHash};
use crate::migration::{End, Source, SourceAction, SourceState, Transfer};
use crate::snapshot::SnapshotDigest;
use crate::wire::events::{StreamId, Thrown};
use crate::wire::migration::{FailureReason, MigrationMessage, MoveId, Stage};

const SNAPSHOT_LABEL: &[u8] = b"mesh-daemon snapshot v1";

/// A daemon that leaves.
pub(super) struct Departure {
    pub(super) source: Source,
    pub(super) key: DaemonKey,
    pub(super) origin: OriginHash,
    /// The claim that the target gets, made before the decision: it must not fail behind it.
    pub(super) claim: Option<Claim>,
    /// Events of this node that came while the mailbox was closed, and how many bytes they are.
    pub(super) held: VecDeque<Outgoing>,
    pub(super) held_bytes: usize,
    /// The stream of this node that its waiting callers go on in.
    pub(super) own: Option<StreamId>,
    /// What it had to do with channels when its mailbox was closed.
    pub(super) ledger: Bytes,
    /// The search for it, once the target's copy is gone.
    pub(super) search: Search,
    /// The embedder knows of nothing more on its way that the daemon sent, but it has yet to accept what it asked of itself.
    pub(super) hushed: bool,
}

/// What a source vouches for: the move, both nodes, the epoch and the digest of the snapshot.
pub(super) fn vouched(id: &MoveId, source: NodeId, target: NodeId, digest: &SnapshotDigest) -> Vec<u8> {
    let mut message = SNAPSHOT_LABEL.to_vec();
    message.extend_from_slice(&id.migration.to_bytes());
    message.extend_from_slice(&id.attempt.to_le_bytes());
    message.extend_from_slice(&source.get().to_le_bytes());
    message.extend_from_slice(&target.get().to_le_bytes());
    message.extend_from_slice(&id.epoch.get().to_le_bytes());
    message.extend_from_slice(digest.as_bytes());
    message
}

/// Why a move failed of which the orchestrator did not hear the end.
fn ended_unheard(orchestrator: NodeId) -> FailureReason {
    let detail = "the source went on before its orchestrator heard of it".to_owned();
    FailureReason::PeerLost { detail, node: Some(orchestrator) }
}

impl Engine {
    /// An orchestrator that may move daemons of this node wants one to leave.
    pub(super) fn on_take_snapshot(&mut self, from: NodeId, id: MoveId, target: NodeId, transport: bool, now: Now) {
        if let Some(departure) = self.departures.get(&id.entity) {
            let known = departure.source.id == id && departure.source.orchestrator == from;
            if !known {
                // Who has it once another move has released it is not known here.
                let released = departure.source.is_released();
                let reason = if released { FailureReason::DaemonNotFound } else { FailureReason::AlreadyMigrating };
                self.say(from, &MigrationMessage::MigrationFailed { id, reason });
            }
            return;
        }
        if let Some(end) = self.departed.of_driver(&id, from) {
            return self.say_ended(from, id, end, ended_unheard(from));
        }
        if self.called_off.holds(from, &id) {
            return self.say_ended(from, id, End::Kept, FailureReason::Cancelled);
        }
        if self.reach_first(target, || Then::Depart { from, id, target, transport }) {
            return;
        }
        let origin = id.entity.origin_hash();
        let refusal = if self.arrivals.contains_key(&id.entity) {
            Some(FailureReason::AlreadyMigrating)
        } else if self.work.is_behind() {
            Some(FailureReason::NotReady)
        } else if !self.peers.is_up(target) {
            Some(FailureReason::TargetUnavailable)
        } else {
            match self.local(origin).ok().and_then(|key| self.slot(key)) {
                None => Some(FailureReason::DaemonNotFound),
                Some(slot) if slot.host.entity() != id.entity || slot.host.epoch != id.epoch => {
                    Some(FailureReason::DaemonNotFound)
                }
                Some(slot) if slot.host.presence != Presence::Live => Some(FailureReason::AlreadyMigrating),
                Some(slot) if transport && slot.host.keypair.is_read_only() => {
                    let detail = "the daemon's key is not on its host".to_owned();
                    Some(FailureReason::IdentityTransportFailed { detail })
                }
                Some(_) => None,
            }
        };
        if let Some(reason) = refusal {
            return self.say(from, &MigrationMessage::MigrationFailed { id, reason });
        }
        let Ok(key) = self.local(origin) else { return };
        let settings = &self.options.migration;
        let limits = (settings.freeze_timeout, settings.silence);
        let (source, actions) = Source::new(id, (from, target), transport, limits, now.instant);
        let departure = Departure {
            source,
            key,
            origin,
            claim: None,
            held: VecDeque::new(),
            held_bytes: 0,
            own: None,
            ledger: Bytes::new(),
            search: Search::default(),
            hushed: false,
        };
        self.departures.insert(id.entity, departure);
        self.depart(id.entity, actions, now);
    }

    /// An orchestrator wants a move undone that does not take place here (any more): it hears how it ended. One that has not
    /// begun never will.
    pub(super) fn on_cancel_of_none(&mut self, from: NodeId, id: MoveId, reason: FailureReason) {
        self.reaching.forget_departures(|driver, waiting| driver == from && *waiting == id);
        if let Some(end) = self.departed.of_driver(&id, from) {
            return self.say_ended(from, id, end, reason);
        }
        match self.options.orchestrator(from, self.me()) {
            Verdict::No => self.decline(from, id, FailureReason::NotAuthorized),
            Verdict::Yes | Verdict::Ask => {
                // The request itself may still be on its way. It begins nothing unless the daemon is here as it was then.
                if self.stays(&id) {
                    self.called_off.note(from, id);
                }
                let reason = if self.has(id.entity) { reason } else { FailureReason::DaemonNotFound };
                self.decline(from, id, reason);
            }
        }
    }

    /// An orchestrator gives the word for a cutover that is over, and did not hear how it ended.
    pub(super) fn on_cutover_of_none(&mut self, from: NodeId, id: MoveId) {
        if let Some(end) = self.departed.of_driver(&id, from) {
            return self.say_ended(from, id, end, ended_unheard(from));
        }
        match self.options.orchestrator(from, self.me()) {
            Verdict::No => self.decline(from, id, FailureReason::NotAuthorized),
            Verdict::Yes | Verdict::Ask => {
                // Otherwise it has left, so long ago that it is forgotten, or ended with another runtime of this node.
                self.decline(
                    from,
                    id,
                    if self.stays(&id) { ended_unheard(from) } else { FailureReason::DaemonNotFound },
                );
            }
        }
    }

    /// Whether the daemon is here and has not been released.
    fn has(&self, entity: EntityId) -> bool {
        let here = self.local(entity.origin_hash()).ok().and_then(|key| self.slot(key));
        here.is_some_and(|slot| slot.host.entity() == entity)
    }

    /// Whether it is here at the epoch of a move.
    fn stays(&self, id: &MoveId) -> bool {
        let here = self.local(id.entity.origin_hash()).ok().and_then(|key| self.slot(key));
        here.is_some_and(|slot| slot.host.entity() == id.entity && slot.host.epoch == id.epoch)
    }

    fn say_ended(&mut self, to: NodeId, id: MoveId, end: End, reason: FailureReason) {
        let message = match end {
            End::Left | End::Arrived => MigrationMessage::CleanupComplete { id },
            // What stayed then may have left since, or ended.
            End::Kept if !self.has(id.entity) => {
                MigrationMessage::MigrationFailed { id, reason: FailureReason::DaemonNotFound }
            }
            End::Kept | End::Discarded => MigrationMessage::MigrationFailed { id, reason },
        };
        self.say(to, &message);
    }

    /// Carries out what the source wants.
    pub(super) fn depart(&mut self, entity: EntityId, actions: Vec<SourceAction>, now: Now) {
        for action in actions {
            let Some(departure) = self.departures.get_mut(&entity) else { return };
            let (id, key, target) = (departure.source.id, departure.key, departure.source.target);
            let orchestrator = departure.source.orchestrator;
            match action {
                SourceAction::Freeze => {
                    if let Some(slot) = self.slot_mut(key) {
                        slot.host.presence = Presence::Freezing(id.migration);
                        if matches!(slot.host.running, Running::Batch(_)) {
                            self.work.push(Work::Yield { daemon: key });
                        }
                    }
                    self.pump(key, now);
                }
                SourceAction::Hush => self.work.push(Work::Hush { daemon: key }),
                SourceAction::TakeSnapshot => {
                    if let Some(slot) = self.slot_mut(key) {
                        slot.host.presence = Presence::Frozen(id.migration);
                        // Nobody waits at the end of a stream that has ended; what it brought runs all the same.
                        for delivery in slot.host.mailbox.iter_mut() {
                            if let ReplyTo::Stream { stream, .. } = delivery.reply
                                && slot.inbound.get(stream).is_none()
                            {
                                delivery.reply = ReplyTo::Nobody;
                            }
                        }
                        slot.host.begin_control(Control::MoveSnapshot(id.migration), now.instant);
                    }
                    self.work.push(Work::Snapshot { daemon: key });
                }
                SourceAction::Reserve => self.ask_for_room(entity, now),
                SourceAction::Transfer => {
                    self.pull_state(entity);
                    self.offer_transfer(entity);
                }
                SourceAction::Ship { last } => self.ship(entity, last),
                SourceAction::Close => self.close_mailbox(entity, now),
                SourceAction::Release => self.release(entity, now),
                SourceAction::Activate => self.say_activate(entity),
                SourceAction::QueryTarget => self.say(target, &MigrationMessage::StatusQuery { id }),
                SourceAction::Resume(reason) => self.resume(entity, reason, now),
                SourceAction::Cleanup => self.clean_up(entity, now),
                SourceAction::TakeBack => self.take_back(entity, now),
                SourceAction::LookElsewhere { proven } => self.look_elsewhere(entity, proven, now),
                SourceAction::StopLooking => self.word_is_void(entity),
                SourceAction::TakeOver => self.take_over(entity, now),
                SourceAction::InDoubt => self.say(orchestrator, &MigrationMessage::InDoubt { id }),
                SourceAction::Report(stage) => self.report(entity, stage),
                SourceAction::StillAtWork => {
                    let stage = departure.source.stage();
                    self.say_status(entity, stage);
                }
                SourceAction::TooLate { to } => self.say(to, &MigrationMessage::TooLate { id }),
            }
        }
        if let Some(departure) = self.departures.get(&entity)
            && let Some(at) = departure.source.deadline()
        {
            self.timers.arm(TimerKey::Departure(entity), at);
        }
    }

    /// Feeds an input to the source of a daemon and carries out what it wants.
    pub(super) fn departure_input(
        &mut self,
        entity: EntityId,
        now: Now,
        input: impl FnOnce(&mut Source) -> Vec<SourceAction>,
    ) {
        if let Some(departure) = self.departures.get_mut(&entity) {
            let actions = input(&mut departure.source);
            self.depart(entity, actions, now);
        }
    }

    pub(super) fn tick_departure(&mut self, entity: EntityId, now: Now) {
        self.expire_held(entity, now);
        let restless = self.departures.get(&entity).filter(|departure| departure.source.is_restless(now.instant));
        let restless = restless.map(|departure| departure.origin);
        let unsettled = restless.and_then(|origin| self.unsettled_of(origin));
        if let Some(origin) = restless {
            self.drain_restless(origin);
        }
        self.departure_input(entity, now, |source| source.tick(unsettled.as_deref(), now.instant));
    }

    fn report(&mut self, entity: EntityId, stage: Stage) {
        let Some(departure) = self.departures.get(&entity) else { return };
        let (id, target) = (departure.source.id, departure.source.target);
        let me = self.me();
        self.note_migration(Role::Source, &id, (me, target), Some(stage), None);
        self.say_status(entity, stage);
    }

    pub(super) fn say_status(&mut self, entity: EntityId, stage: Stage) {
        let Some(departure) = self.departures.get(&entity) else { return };
        let (bytes_sent, bytes_total) = departure.source.bytes();
        let (id, orchestrator, events) = (departure.source.id, departure.source.orchestrator, departure.source.shipped);
        let target = departure.source.target;
        let status = MigrationMessage::Status { id, stage, bytes_sent, bytes_total, events };
        self.say(orchestrator, &status);
        if matches!(stage, Stage::Snapshot | Stage::Transfer) {
            // The target waits for the first byte, or for its turn to grant.
            self.say(target, &status);
        }
    }

    /// Nothing of the daemon runs any more.
    pub(super) fn departure_frozen(&mut self, key: DaemonKey, now: Now) {
        let Some(entity) = self.slot(key).map(|slot| slot.host.entity()) else { return };
        self.departure_input(entity, now, Source::frozen);
    }

    /// All that a daemon sent through its contexts was accepted, and what it called has answered. While one of its events
    /// runs that may be over at once, so it counts for one whose freeze has come that far.
    pub fn hushed(&mut self, key: DaemonKey, now: Now) {
        let Some(slot) = self.slot(key) else { return };
        let (entity, timeout, origin) = (slot.host.entity(), slot.host.config.callback_timeout, slot.host.origin);
        // A call to itself moves with it once it is in its mailbox. Behind others that wait for room there it would stay here.
        let waits = self.routes.get(&origin).is_some_and(|route| route.unsettled_of(origin).0 > 0);
        if let Some(departure) = self.departures.get_mut(&entity) {
            departure.hushed = waits && matches!(departure.source.state, SourceState::Hushing { .. });
        }
        if !waits {
            self.departure_input(entity, now, |source| source.hushed(timeout, now.instant));
            self.settle_own(now);
        }
    }

    /// Something of this node's stream to a daemon does not wait any more: perhaps what that has asked of itself.
    pub(super) fn hushed_meanwhile(&mut self, entity: &EntityId, now: Now) {
        if let Some(departure) = self.departures.get(entity).filter(|departure| departure.hushed) {
            self.hushed(departure.key, now);
        }
    }

    /// The daemon gave its state.
    pub(super) fn departure_snapshot(&mut self, key: DaemonKey, result: Result<Option<u64>, Thrown>, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        let entity = slot.host.entity();
        if !matches!(slot.host.presence, Presence::Frozen(_)) {
            // The move was given up while the snapshot was taken.
            self.work.push(Work::ReleaseState { daemon: key });
            self.pump(key, now);
            return;
        }
        let made = match result {
            Err(thrown) => Err(format!("snapshot failed: {}", thrown.message)),
            Ok(state_len) => {
                if state_len.is_some() {
                    slot.host.stats.snapshots_taken += 1;
                }
                let ledger = self.channel_ledger(key);
                let Some(slot) = self.slot(key) else { return };
                let head = snapshot_head(&slot.host, encode_streams(&slot.inbound), ledger, now);
                let sequence = head.through_seq().get();
                Transfer::new(&head, state_len).map(|transfer| (transfer, sequence)).map_err(|e| e.to_string())
            }
        };
        let freeze_timeout = self.options.migration.freeze_timeout;
        self.departure_input(entity, now, |source| match made {
            Ok((transfer, head)) => source.snapshot_taken(transfer, head, freeze_timeout, now.instant),
            Err(mut detail) => {
                crate::wire::migration::truncate(&mut detail);
                source.failed(FailureReason::StateFailed { detail })
            }
        });
        self.settle_own(now);
    }

    fn ask_for_room(&mut self, entity: EntityId, now: Now) {
        let Some(departure) = self.departures.get(&entity) else { return };
        let (id, key, target) = (departure.source.id, departure.key, departure.source.target);
        let orchestrator = departure.source.orchestrator;
        let SourceState::Reserving { transfer, .. } = &departure.source.state else { return };
        let total = transfer.total();
        match self.claim_of(key) {
            Ok(claim) => {
                let claim = claim.encode();
                self.say(target, &MigrationMessage::Reserve { id, total, claim: &claim, orchestrator });
            }
            Err(error) => {
                let detail = format!("cannot claim the daemon: {error}");
                self.departure_input(entity, now, |source| source.failed(FailureReason::StateFailed { detail }));
            }
        }
    }
}
