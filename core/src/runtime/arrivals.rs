//! Daemons that come to this node.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::departures::vouched;
use super::elsewhere::Search;
use super::engine::{Engine, Now};
use super::receiving::Seal;
use super::recovery::outdone;
use super::spawn::adopt;
use super::timers::TimerKey;
use super::work::{ConstructFor, Role, StopReason, Work};
use crate::causal::Sequence;
use crate::daemon::{DaemonHost, DaemonKey, HostConfig, Presence};
use crate::directory::Claim;
use crate::events::Inbound;
use crate::identity::{EntityId, EntityKeypair, EnvelopeContext, IdentityEnvelope, NodeId};
use crate::migration::{End, MigrationFailure, Outcome, Target, TargetAction, TargetState};
use crate::snapshot::{SnapshotDigest, StateSnapshot};
use crate::wire::events::Thrown;
use crate::wire::migration::{CopyState, FailureReason, MigrationMessage, MoveId, Stage, truncate};

/// Why a daemon may come.
pub(super) enum Welcome {
    /// It was announced here, with how it is to be hosted, and perhaps with its key.
    Announced { config: HostConfig, provisioned: Option<EntityKeypair> },
    /// Any of a registered kind may.
    Any,
    /// The embedder's policy agreed to a state of this size; 0 when the size was not known.
    ByPolicy { state_bytes: u64 },
}

/// A daemon that comes.
pub(super) struct Arrival {
    pub(super) target: Target,
    kind: Arc<str>,
    welcome: Welcome,
    transport_identity: bool,
    /// The source's claim, and then this node's own.
    pub(super) claim: Option<Claim>,
    /// What arrived, with the digest taken on the way.
    pub(super) snapshot: Option<(Bytes, SnapshotDigest)>,
    pub(super) seal: Option<Seal>,
    state: Option<Bytes>,
    pub(super) key: Option<DaemonKey>,
    /// Waiting events that came before their turn, by position, and how many bytes they are.
    pub(super) early: BTreeMap<u64, Bytes>,
    pub(super) early_bytes: usize,
    /// What was staged, with all that it takes here.
    pub(super) staged_bytes: usize,
    /// The search for it, once its source is said to be gone.
    pub(super) search: Search,
}

impl Arrival {
    /// One that was agreed to.
    pub(super) fn new(target: Target, kind: Arc<str>, transport_identity: bool, welcome: Welcome) -> Self {
        Self {
            target,
            kind,
            welcome,
            transport_identity,
            claim: None,
            snapshot: None,
            seal: None,
            state: None,
            key: None,
            early: BTreeMap::new(),
            early_bytes: 0,
            staged_bytes: 0,
            search: Search::default(),
        }
    }

    /// How it will be hosted.
    pub(super) fn config(&self) -> HostConfig {
        match &self.welcome {
            Welcome::Announced { config, .. } => config.clone(),
            Welcome::Any | Welcome::ByPolicy { .. } => HostConfig::default(),
        }
    }

    /// Whether it was announced here.
    pub(super) fn is_announced(&self) -> bool {
        match self.welcome {
            Welcome::Announced { .. } => true,
            Welcome::Any | Welcome::ByPolicy { .. } => false,
        }
    }

    /// How large a state the policy agreed to, if it was asked.
    pub(super) fn admitted_bytes(&self) -> Option<u64> {
        match self.welcome {
            Welcome::ByPolicy { state_bytes } => Some(state_bytes),
            Welcome::Announced { .. } | Welcome::Any => None,
        }
    }

    /// The policy agreed to a state of this size.
    pub(super) fn admit(&mut self, state_bytes: u64) {
        self.welcome = Welcome::ByPolicy { state_bytes };
    }

    /// The daemon's kind.
    pub(super) fn kind(&self) -> Arc<str> {
        self.kind.clone()
    }
}

impl Arrival {
    /// The source's claim, until this node's own takes its place.
    pub(super) fn source_claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// Whether it has yet to become live.
    pub(super) fn is_undecided(&self) -> bool {
        self.target.copy() == CopyState::Undecided
    }

    pub(super) fn into_claim(self) -> Option<Claim> {
        self.claim
    }
}

impl Engine {
    /// Whether a daemon is on its way here, as its source has shown.
    pub(super) fn is_arriving(&self, entity: &EntityId) -> bool {
        self.arrivals.get(entity).is_some_and(|arrival| arrival.is_undecided() && arrival.claim.is_some())
    }

    /// How many daemons are here and not live yet.
    pub(super) fn arrivals_not_live(&self) -> usize {
        self.arrivals.values().filter(|arrival| arrival.key.is_some() && arrival.is_undecided()).count()
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
        let silent = FailureReason::Timeout { detail: "the source was not heard".to_owned() };
        self.give_up_places(&entity, &silent, |target| target.deadline().is_none_or(|at| at <= now.instant));
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
                TargetAction::Discard(reason, outcome) => {
                    // The source decides, and tells the orchestrator; one that waits only for the target is told as well.
                    self.say(source, &MigrationMessage::MigrationFailed { id, reason: reason.clone() });
                    // One that has released the daemon to this copy takes it back.
                    self.say(source, &MigrationMessage::StatusAnswer { id, copy: CopyState::Discarded });
                    if orchestrator != source {
                        self.say(orchestrator, &MigrationMessage::MigrationFailed { id, reason: reason.clone() });
                    }
                    // Then what this copy says of its streams: a source that has released it has the daemon back by then.
                    self.drop_arrival(entity, reason, outcome, now);
                }
                TargetAction::CallOff(reason, outcome) => self.drop_arrival(entity, reason, outcome, now),
                TargetAction::StillAtWork => {
                    let stage = arrival.target.stage();
                    let message = MigrationMessage::Status { id, stage, bytes_sent: 0, bytes_total: 0, events: 0 };
                    self.say_both(source, orchestrator, &message);
                }
                TargetAction::LookElsewhere => self.look_elsewhere(entity, false, now),
                TargetAction::StopLooking => self.word_is_void(entity),
                TargetAction::TakeOver => self.take_over_staged(entity, now),
                TargetAction::Finish => {
                    self.arrivals.remove(&entity);
                    self.arrived.note(&id, orchestrator, End::Arrived);
                    self.timers.disarm(TimerKey::Arrival(entity));
                    self.free_room(&id, now);
                    self.answer_early_inquiries(entity.origin_hash());
                }
            }
        }
        let here = self.arrivals.get(&entity).and_then(|arrival| arrival.target.deadline());
        if let Some(at) = here.into_iter().chain(self.places.deadline(&entity)).min() {
            self.timers.arm(TimerKey::Arrival(entity), at);
        }
    }

    pub(super) fn note_arrival(
        &mut self,
        id: &MoveId,
        source: NodeId,
        stage: Option<Stage>,
        failure: Option<MigrationFailure>,
    ) {
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
        // `None`: the key may be missing. `Some(None)`: it was announced without one, so the key must come with it.
        let provisioned = match &arrival.welcome {
            Welcome::Announced { provisioned, .. } => Some(provisioned.as_ref()),
            Welcome::Any | Welcome::ByPolicy { .. } => None,
        };
        let keypair = match (&seal.envelope, provisioned) {
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
            (None, Some(Some(provisioned))) if provisioned.entity_id() == entity => provisioned.clone(),
            (None, Some(Some(_))) => {
                return Err(identity_failed("the key that is provisioned here is another daemon's".into()));
            }
            (None, Some(None)) => {
                return Err(identity_failed("no key is provisioned here and none came".into()));
            }
            (None, None) => EntityKeypair::public_only(entity),
        };
        if self.by_origin.contains_key(&entity.origin_hash()) {
            // It was spawned here since it was let in.
            return Err(FailureReason::AlreadyMigrating);
        }
        let (kind, config) = (arrival.kind.clone(), arrival.config());
        let room = self.room_for_staged(&entity);
        let (inbound, taken) =
            Inbound::decode(&head.streams, source, room, now.instant).map_err(|e| failed(&e.to_string()))?;
        let (lineage, epoch) = (head.lineage, head.epoch);
        let key = self.next_key();
        let presence = Presence::Arriving(id.migration);
        let mut host = DaemonHost::new(key, keypair, Some(kind.clone()), config, lineage, epoch, presence, now.instant);
        let state = adopt(&mut host, snapshot);
        self.insert(host, inbound, None);
        if let Some(arrival) = self.arrivals.get_mut(&entity) {
            arrival.key = Some(key);
            arrival.state = state;
            arrival.staged_bytes = taken;
        }
        self.bring_output_channel(key).map_err(|e| failed(&e.to_string()))?;
        let (origin, purpose) = (entity.origin_hash(), ConstructFor::Arrival);
        self.work.push(Work::Construct { daemon: key, origin, entity, kind: Some(kind), purpose, spawn: None });
        Ok(())
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

    fn drop_arrival(&mut self, entity: EntityId, reason: FailureReason, outcome: Outcome, now: Now) {
        if reason != outdone() {
            // They hear where it came from, which may have it still; where there is a later copy, of that one, once it is known.
            self.answer_early_inquiries(entity.origin_hash());
        }
        let Some(mut arrival) = self.arrivals.remove(&entity) else { return };
        self.timers.disarm(TimerKey::Arrival(entity));
        self.word_is_moot(std::mem::take(&mut arrival.search), entity.origin_hash());
        let (id, source, orchestrator) = (arrival.target.id, arrival.target.source, arrival.target.orchestrator);
        // Before the source showed itself, anybody may have used the name of its move.
        if arrival.claim.is_some() {
            self.arrived.note(&id, orchestrator, End::Discarded);
        }
        if let Some(key) = arrival.key
            && let Some(slot) = self.take_slot(key, now)
        {
            // Whoever found the daemon through this copy, while its source was out of reach.
            self.refuse_early(&slot.inbound);
            if outcome != Outcome::Source {
                self.refuse_told(&slot.inbound);
            }
            self.work.push(Work::Retire { daemon: key, reason: StopReason::Stopped });
        }
        // Of a copy in doubt it was told before that nobody knows: its phase is that of its end once more.
        let stage = arrival.target.was_whole_when_cut_off().then_some(Stage::Cutover);
        drop(arrival);
        self.free_room(&id, now);
        self.note_arrival(&id, source, stage, Some(MigrationFailure::Refused(reason, outcome)));
        // Whoever else was promised a place for it may still come.
        if let Some(other) = self.places.take_newest(&entity) {
            self.arrivals.insert(entity, other);
        }
    }
}

fn state_failed(what: &str, thrown: &Thrown) -> FailureReason {
    let mut detail = format!("{what}: {}", thrown.message);
    truncate(&mut detail);
    FailureReason::StateFailed { detail }
}
