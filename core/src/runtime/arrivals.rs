//! Daemons that come to this node.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::departures::vouched;
use super::engine::{Engine, Now};
use super::receiving::Seal;
use super::spawn::adopt;
use super::timers::TimerKey;
use super::work::{ConstructFor, DaemonEvent, Role, StopReason, Work};
use crate::causal::Sequence;
use crate::daemon::{DaemonHost, DaemonKey, Delivery, HostConfig, ReplyTo, Standing};
use crate::directory::Claim;
use crate::events::{Held, Inbound};
use crate::identity::{EntityId, EntityKeypair, EnvelopeContext, IdentityEnvelope, NodeId};
use crate::migration::{MigrationFailure, Outcome, Target, TargetAction, TargetState};
use crate::snapshot::{SnapshotDigest, StateSnapshot};
use crate::wire::codec;
use crate::wire::events::Thrown;
use crate::wire::migration::{CopyState, FailureReason, MigrationMessage, MoveId, Stage, truncate};

/// Most messages of waiting events that are held because one before them is missing.
const MOST_EARLY: usize = 4096;

/// Most waiting events that are taken over with a daemon.
const MOST_STAGED: usize = 1 << 20;
/// Most of their payload bytes.
const MOST_STAGED_BYTES: usize = 256 * 1024 * 1024;

/// A daemon that comes.
pub(super) struct Arrival {
    pub(super) target: Target,
    kind: Arc<str>,
    pub(super) config: HostConfig,
    /// The key that was provisioned for it.
    provisioned: Option<EntityKeypair>,
    /// It was announced without a key, so the key must come with it.
    key_must_come: bool,
    transport_identity: bool,
    /// The source's claim, and then this node's own.
    pub(super) claim: Option<Claim>,
    /// What arrived, with the digest taken on the way.
    pub(super) snapshot: Option<(Bytes, SnapshotDigest)>,
    pub(super) seal: Option<Seal>,
    state: Option<Bytes>,
    pub(super) key: Option<DaemonKey>,
    /// Waiting events that came before their turn, by position.
    early: BTreeMap<u64, Bytes>,
}

impl Arrival {
    /// One that was agreed to; `announced` is what was provisioned for it here.
    pub(super) fn new(
        target: Target,
        kind: Arc<str>,
        transport_identity: bool,
        announced: Option<(HostConfig, Option<EntityKeypair>)>,
    ) -> Self {
        let key_must_come = announced.as_ref().is_some_and(|(_, key)| key.is_none());
        let (config, provisioned) = announced.unwrap_or_default();
        Self {
            target,
            kind,
            config,
            provisioned,
            key_must_come,
            transport_identity,
            claim: None,
            snapshot: None,
            seal: None,
            state: None,
            key: None,
            early: BTreeMap::new(),
        }
    }

    /// The daemon's kind.
    pub(super) fn kind(&self) -> Arc<str> {
        self.kind.clone()
    }
}

impl Engine {
    /// How many daemons are here and not live yet.
    pub(super) fn arrivals_not_live(&self) -> usize {
        self.arrivals
            .values()
            .filter(|arrival| arrival.key.is_some() && arrival.target.copy() == CopyState::Undecided)
            .count()
    }

    /// Feeds an input to the target of a daemon and carries out what it wants.
    pub(super) fn arrival_input(
        &mut self,
        entity: EntityId,
        now: Now,
        input: impl FnOnce(&mut Target) -> Vec<TargetAction>,
    ) {
        if let Some(arrival) = self.arrivals.get_mut(&entity) {
            let actions = input(&mut arrival.target);
            self.arrive(entity, actions, now);
        }
    }

    pub(super) fn tick_arrival(&mut self, entity: EntityId, now: Now) {
        self.arrival_input(entity, now, |target| target.tick(now.instant));
    }

    pub(super) fn arrive(&mut self, entity: EntityId, actions: Vec<TargetAction>, now: Now) {
        for action in actions {
            let Some(arrival) = self.arrivals.get_mut(&entity) else { return };
            let (id, source, orchestrator) = (arrival.target.id, arrival.target.source, arrival.target.orchestrator);
            match action {
                TargetAction::Agree => {
                    self.note_arrival(&id, source, Some(Stage::Snapshot), None);
                    self.say(orchestrator, &MigrationMessage::Prepared { id });
                }
                TargetAction::Grant => {
                    self.note_arrival(&id, source, Some(Stage::Transfer), None);
                    self.say(source, &MigrationMessage::Reserved { id });
                }
                TargetAction::Build => {
                    self.note_arrival(&id, source, Some(Stage::Restore), None);
                    if let Err(reason) = self.build(entity, now) {
                        self.arrival_input(entity, now, |target| target.fail(reason.bounded()));
                    }
                }
                TargetAction::Restore => {
                    if let (Some(daemon), Some(state)) = (arrival.key, arrival.state.take()) {
                        self.work.push(Work::Restore { daemon, state });
                    }
                }
                TargetAction::SayRestored => {
                    self.note_arrival(&id, source, Some(Stage::Replay), None);
                    self.say_both(source, orchestrator, &MigrationMessage::RestoreComplete { id });
                }
                TargetAction::SayStaged => self.say_staged(entity),
                TargetAction::Activate => self.activate(entity, now),
                TargetAction::Acknowledge => self.say(source, &MigrationMessage::ActivateAck { id }),
                TargetAction::AskSource => self.say(source, &MigrationMessage::StatusQuery { id }),
                TargetAction::Discard(reason) => self.discard(entity, reason, now),
                TargetAction::StillAtWork => {
                    let stage = arrival.target.stage();
                    let message = MigrationMessage::Status { id, stage, bytes_sent: 0, bytes_total: 0, events: 0 };
                    self.say_both(source, orchestrator, &message);
                }
                TargetAction::Finish => {
                    self.arrivals.remove(&entity);
                    self.timers.disarm(TimerKey::Arrival(entity));
                    self.free_room(&id, now);
                    self.answer_early_inquiries(entity.origin_hash());
                }
            }
        }
        let deadline = self.arrivals.get(&entity).and_then(|arrival| arrival.target.deadline());
        if let Some(at) = deadline {
            self.timers.arm(TimerKey::Arrival(entity), at);
        }
    }

    fn note_arrival(&mut self, id: &MoveId, source: NodeId, stage: Option<Stage>, failure: Option<MigrationFailure>) {
        let me = self.me();
        self.note_migration(Role::Target, id, (source, me), stage, failure);
    }

    fn say_both(&mut self, source: NodeId, orchestrator: NodeId, message: &MigrationMessage<'_>) {
        self.say(source, message);
        self.say(orchestrator, message);
    }

    pub(super) fn say_staged(&mut self, entity: EntityId) {
        let Some(arrival) = self.arrivals.get(&entity) else { return };
        let target = &arrival.target;
        let (id, source, orchestrator, staged) = (target.id, target.source, target.orchestrator, target.staged);
        let complete = matches!(target.state, TargetState::Staged { complete: true });
        let head = arrival
            .key
            .and_then(|key| self.slot(key))
            .map_or(Sequence::GENESIS, |slot| slot.host.chain.head().link().sequence);
        let message = MigrationMessage::ReplayComplete { id, staged, head: head.get(), complete };
        self.say_both(source, orchestrator, &message);
    }

    /// Verifies everything that came, then has the object made.
    fn build(&mut self, entity: EntityId, now: Now) -> Result<(), FailureReason> {
        let me = self.me();
        let Some(arrival) = self.arrivals.get_mut(&entity) else { return Ok(()) };
        let (id, source) = (arrival.target.id, arrival.target.source);
        let failed = |detail: &str| FailureReason::StateFailed { detail: detail.to_owned() };
        let identity_failed = |detail: String| FailureReason::IdentityTransportFailed { detail };
        let (Some((bytes, digest)), Some(seal), Some(claim)) =
            (arrival.snapshot.take(), arrival.seal.take(), arrival.claim.as_ref())
        else {
            return Err(failed("the state is not whole"));
        };
        let source_key = claim.body().host;
        let message = vouched(&id, source, me, &seal.digest);
        let by_daemon = entity.verify(&message, &seal.signature).is_ok();
        if !by_daemon && source_key.verify(&message, &seal.signature).is_err() {
            return Err(failed("the signature over the state does not verify"));
        }
        if digest != seal.digest {
            return Err(failed("the state is not the one that was signed"));
        }
        let snapshot = StateSnapshot::decode_signed(&bytes).map_err(|e| failed(&e.to_string()))?;
        let head = &snapshot.head;
        if head.entity != entity || head.epoch != id.epoch || head.lineage != claim.body().lineage {
            return Err(failed("the state is of another daemon, or of another time"));
        }
        let keypair = match (&seal.envelope, &arrival.provisioned) {
            // A bad envelope never falls back to a provisioned key.
            (Some(envelope), _) => {
                let context = EnvelopeContext {
                    link: head.chain.link().to_bytes(),
                    migration: id.migration,
                    epoch: id.epoch,
                    snapshot_digest: *seal.digest.as_bytes(),
                };
                IdentityEnvelope::from_bytes(envelope)
                    .and_then(|envelope| self.node.static_secret.open(&envelope, entity, &context))
                    .map_err(|e| identity_failed(e.to_string()))?
            }
            (None, _) if arrival.transport_identity => {
                return Err(identity_failed("the key was announced and did not come".into()));
            }
            (None, Some(provisioned)) => provisioned.clone(),
            (None, None) if arrival.key_must_come => {
                return Err(identity_failed("no key is provisioned here and none came".into()));
            }
            (None, None) => EntityKeypair::public_only(entity),
        };
        let inbound = Inbound::decode(&head.streams, source, now.instant).map_err(|e| failed(&e.to_string()))?;
        let (kind, config) = (arrival.kind.clone(), arrival.config.clone());
        let (lineage, epoch) = (head.lineage, head.epoch);
        let key = self.next_key();
        let standing = Standing::Arriving(id.migration);
        let mut host = DaemonHost::new(key, keypair, Some(kind.clone()), config, lineage, epoch, standing, now.instant);
        let state = adopt(&mut host, snapshot);
        self.insert(host, inbound, None);
        if let Some(arrival) = self.arrivals.get_mut(&entity) {
            arrival.key = Some(key);
            arrival.state = state;
        }
        let (origin, purpose) = (entity.origin_hash(), ConstructFor::Arrival);
        self.work.push(Work::Construct { daemon: key, origin, entity, kind: Some(kind), purpose, spawn: None });
        Ok(())
    }

    /// The source's claim for a daemon that is about to live here.
    pub(super) fn arriving_claim(&self, origin: crate::identity::OriginHash) -> Option<Vec<u8>> {
        let arrival = self.arrivals.iter().find(|(entity, _)| entity.origin_hash() == origin)?.1;
        arrival.claim.as_ref().map(Claim::encode)
    }

    fn arrival_at(&self, key: DaemonKey) -> Option<EntityId> {
        let entity = self.slot(key)?.host.entity();
        self.arrivals.get(&entity).filter(|arrival| arrival.key == Some(key)).map(|_| entity)
    }

    /// The object of an arriving daemon was made, or could not be.
    pub(super) fn arrival_constructed(&mut self, key: DaemonKey, result: Result<(), Thrown>, now: Now) {
        let Some(entity) = self.arrival_at(key) else { return };
        let stateful = self.arrivals.get(&entity).is_some_and(|arrival| arrival.state.is_some());
        self.arrival_input(entity, now, |target| match result {
            Ok(()) => target.built(stateful),
            Err(thrown) => target.fail(state_failed("the factory failed", &thrown)),
        });
        self.settle_own(now);
    }

    /// It took its state, or could not.
    pub(super) fn arrival_restored(&mut self, key: DaemonKey, result: Result<(), Thrown>, now: Now) {
        let Some(entity) = self.arrival_at(key) else { return };
        self.arrival_input(entity, now, |target| match result {
            Ok(()) => target.restored(),
            Err(thrown) => target.fail(state_failed("restore failed", &thrown)),
        });
        self.settle_own(now);
    }

    /// Waiting events of the daemon, to be staged in their order.
    pub(super) fn on_buffered(&mut self, from: NodeId, id: MoveId, first: u64, body: &Bytes, now: Now) {
        let Some(arrival) = self.arrivals.get_mut(&id.entity) else { return };
        let target = &arrival.target;
        if target.id != id || target.source != from || !matches!(target.state, TargetState::Staged { .. }) {
            return;
        }
        if first > target.staged {
            if arrival.early.len() < MOST_EARLY {
                arrival.early.insert(first, body.clone());
            }
            return;
        }
        let mut due = Some(body.clone());
        while let Some(body) = due.take() {
            if let Err(reason) = self.stage(id.entity, from, &body, now) {
                return self.arrival_input(id.entity, now, |target| target.fail(reason));
            }
            let Some(arrival) = self.arrivals.get_mut(&id.entity) else { return };
            let staged = arrival.target.staged;
            if arrival.early.first_key_value().is_some_and(|(first, _)| *first <= staged) {
                due = arrival.early.pop_first().map(|(_, body)| body);
            }
        }
    }

    fn stage(&mut self, entity: EntityId, from: NodeId, body: &Bytes, now: Now) -> Result<(), FailureReason> {
        let Ok(MigrationMessage::BufferedEvents { first, streams, items, total, marks, .. }) = codec::decode(body)
        else {
            return Ok(());
        };
        let Some(arrival) = self.arrivals.get(&entity) else { return Ok(()) };
        let (already, key) = (arrival.target.staged, arrival.key);
        let Some(slot) = key.and_then(|key| self.slot_mut(key)) else { return Ok(()) };
        let mut staged = already;
        for (position, item) in (first..).zip(&items) {
            if position < already {
                continue;
            }
            let Some(id) = streams.get(item.stream as usize) else {
                return Err(FailureReason::StateFailed { detail: "a waiting event names no stream".into() });
            };
            let stream = slot.inbound.take_over(*id, from, now.instant);
            if let Held::Event { link, payload, call } = Held::from_wire(&item.item, body) {
                let delivery = Delivery {
                    link,
                    payload,
                    received_at: item.received_at,
                    channel: None,
                    reply: ReplyTo::Stream { stream, number: item.number, call },
                    expires: None,
                    accepted_at: now.instant,
                };
                // The bounds here may be tighter, and what was handed out there and given back stands above them.
                if slot.host.mailbox.len() >= MOST_STAGED
                    || slot.host.mailbox.bytes() + delivery.weight() > MOST_STAGED_BYTES
                {
                    return Err(FailureReason::BufferFull);
                }
                slot.host.take_over(delivery);
            }
            if let Some(held) = slot.inbound.get_mut(stream) {
                held.advance(item.number + 1);
            }
            staged = position + 1;
        }
        for mark in marks {
            let stream = slot.inbound.take_over(mark.stream, from, now.instant);
            if let Some(held) = slot.inbound.get_mut(stream) {
                held.advance(mark.next);
            }
        }
        self.arrival_input(entity, now, |target| target.staged(staged, total, now.instant));
        if total.is_some()
            && let Some(arrival) = self.arrivals.get(&entity)
            && arrival.target.stage() == Stage::Cutover
        {
            let (id, source) = (arrival.target.id, arrival.target.source);
            self.note_arrival(&id, source, Some(Stage::Cutover), None);
        }
        Ok(())
    }

    /// The source released the daemon to this node.
    pub(super) fn on_activate(&mut self, from: NodeId, id: MoveId, claim: &[u8], now: Now) {
        let me = self.node.keypair.entity_id();
        let Some(arrival) = self.arrivals.get_mut(&id.entity) else {
            // It finished here before, and the source did not hear of it.
            let active = self
                .local(id.entity.origin_hash())
                .ok()
                .and_then(|key| self.slot(key))
                .is_some_and(|slot| slot.host.entity() == id.entity && slot.host.epoch > id.epoch);
            let message = if active {
                MigrationMessage::ActivateAck { id }
            } else {
                MigrationMessage::StatusAnswer { id, copy: CopyState::Discarded }
            };
            return self.say(from, &message);
        };
        if arrival.target.id != id || arrival.target.source != from {
            return self.refuse(from, "ActivateTarget", &"not from the recorded source");
        }
        if arrival.target.copy() == CopyState::Undecided {
            let next = id.epoch.next();
            let good = Claim::decode(claim).ok().filter(|claim| {
                let body = claim.body();
                body.entity == id.entity && Some(body.epoch) == next && body.host == me
            });
            match good {
                Some(claim) => arrival.claim = Some(claim),
                None => return self.refuse(from, "ActivateTarget", &"without a good claim for this node"),
            }
        }
        self.arrival_input(id.entity, now, |target| target.activate(now.instant));
    }

    fn activate(&mut self, entity: EntityId, now: Now) {
        let Some(arrival) = self.arrivals.get_mut(&entity) else { return };
        let (id, source, claim, key) = (arrival.target.id, arrival.target.source, arrival.claim.clone(), arrival.key);
        let me = self.me();
        let origin = entity.origin_hash();
        let Some(key) = key else { return };
        let Some(slot) = self.slot_mut(key) else { return };
        slot.host.standing = Standing::Live;
        slot.host.progress_at = now.instant;
        if let Some(claim) = &claim {
            slot.host.epoch = claim.body().epoch;
            slot.host.min_epoch = claim.body().min_epoch;
        }
        let epoch = slot.host.epoch;
        let about = (origin, slot.host.kind.clone(), key);
        let lineage = slot.host.lineage;
        // With the key at hand a fresh claim is signed on first need; without it this chain of hand-overs is the proof.
        slot.claim = if slot.host.keypair.is_read_only() { claim } else { None };
        self.factories.take(origin);
        self.pointers.forget(origin);
        self.note_arrival(&id, source, Some(Stage::Complete), None);
        self.notice_daemon(DaemonEvent::MigratedIn, about);
        // This node's own stream to the daemon leads to itself now.
        if let Some(own) = self.own_stream_to(entity, lineage) {
            self.on_moved(&own, me, epoch, now);
        }
        self.pump(key, now);
        self.feed_all(key, now);
    }

    fn discard(&mut self, entity: EntityId, reason: Option<FailureReason>, now: Now) {
        let Some(arrival) = self.arrivals.remove(&entity) else { return };
        self.timers.disarm(TimerKey::Arrival(entity));
        let (id, source, orchestrator) = (arrival.target.id, arrival.target.source, arrival.target.orchestrator);
        if let Some(key) = arrival.key
            && let Some(slot) = self.take_slot(key)
        {
            // Whoever found the daemon through this copy, while its source was out of reach.
            self.refuse_early(&slot.inbound);
            self.work.push(Work::Retire { daemon: key, reason: StopReason::Stopped });
        }
        drop(arrival);
        self.free_room(&id, now);
        if let Some(reason) = reason {
            let failure = MigrationFailure::Refused(reason.clone(), Outcome::Source);
            self.note_arrival(&id, source, None, Some(failure));
            // The source decides, and tells the orchestrator; one that waits only for the target is told as well.
            self.say(source, &MigrationMessage::MigrationFailed { id, reason: reason.clone() });
            if orchestrator != source {
                self.say(orchestrator, &MigrationMessage::MigrationFailed { id, reason });
            }
        }
    }
}

fn state_failed(what: &str, thrown: &Thrown) -> FailureReason {
    let mut detail = format!("{what}: {}", thrown.message);
    truncate(&mut detail);
    FailureReason::StateFailed { detail }
}
