//! Spawning and stopping. Every kind of spawn takes this one path: admit, look whether the daemon lives elsewhere, make
//! the object, restore it, go live.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::engine::{Engine, Lifecycle, Now, Slot, shut_down};
use super::error::{Executed, RuntimeError};
use super::finding::Asked;
use super::intake::Waiting;
use super::peers::Peers;
use super::recovery::peer_lost;
use super::rerouting::Refusal;
use super::timers::TimerKey;
use super::work::{ConstructFor, DaemonEvent, Settlement, StopReason, Work};
use crate::causal::ChainBuilder;
use crate::daemon::{
    Control, DaemonHost, DaemonKey, Expectation, HostConfig, Presence, ReplyTo, Running, Stats, Ticket,
};
use crate::directory::{Claim, Graves, Haste, Homes};
use crate::events::{InStream, Inbound};
use crate::identity::{EntityKeypair, Epoch, IdentityError, Incarnation, Lineage, NodeId, OriginHash, Signature};
use crate::membership::LONGEST_JOIN;
use crate::snapshot::StateSnapshot;
use crate::wire::events::{Answers, FailureKind, Thrown};
use crate::wire::migration::FailureReason;

/// What is to be spawned.
#[derive(Debug)]
pub struct SpawnRequest {
    /// The factory's name; none for a ready instance that never moves.
    pub kind: Option<String>,
    /// Its full key pair.
    pub keypair: EntityKeypair,
    /// Its settings.
    pub config: HostConfig,
    /// An encoded snapshot to restore.
    pub snapshot: Option<Bytes>,
    /// Whether the embedder brings the object, so that the kind needs no factory.
    pub instance: bool,
}

/// A spawn under way.
#[derive(Debug)]
pub(super) struct Spawning {
    ticket: Ticket,
    state: Option<Bytes>,
    /// The directory has not answered yet whether the daemon lives elsewhere.
    looking: bool,
    /// Since when it waits for a host that is named and silent, or for this node to join.
    begun: Instant,
    /// Nodes that are about to host it as well. Those that wait for what becomes of it, with what they asked, are answered
    /// then; the others are shown its claim once it lives.
    rivals: Rivals,
}

type Rivals = BTreeMap<NodeId, Option<Asked>>;

/// How long a spawn waits for a host that is named and does not answer: homes give a silent node up after a session timeout,
/// half a minute unless that is set, and name it no longer.
const SILENT_HOST: Duration = Duration::from_secs(35);
/// Most rivals among which there may be some that are neither peers nor members. Peers and members are always remembered:
/// whoever was left out would begin a second copy.
const MOST_STRANGERS: usize = 8;

impl Engine {
    /// Spawns a daemon; `ticket` is settled with [`Settlement::Spawned`].
    pub fn spawn(&mut self, ticket: Ticket, request: SpawnRequest, now: Now) -> Result<(), RuntimeError> {
        self.check_ready()?;
        if self.drain.is_some() {
            return Err(RuntimeError::Draining);
        }
        let kind = match &request.kind {
            Some(kind) => match self.factories.kind(kind) {
                Some(kind) => Some(kind),
                None if request.instance => Some(Arc::from(kind.as_str())),
                None => return Err(RuntimeError::FactoryNotFound(kind.clone())),
            },
            None if request.instance => None,
            None => return Err(RuntimeError::InvalidArgument("kind must be a string".into())),
        };
        let origin = request.keypair.origin_hash();
        if self.is_taken(origin) || self.is_arriving(&request.keypair.entity_id()) {
            return Err(RuntimeError::AlreadyRegistered(origin));
        }
        if request.keypair.is_read_only() {
            return Err(RuntimeError::InvalidArgument("identity must be able to sign, got a public one".into()));
        }
        let snapshot = request
            .snapshot
            .as_ref()
            .map(StateSnapshot::decode)
            .transpose()
            .map_err(|e| RuntimeError::SnapshotInvalid(e.to_string()))?;
        if let Some(snapshot) = &snapshot
            && snapshot.head.entity != request.keypair.entity_id()
        {
            return Err(RuntimeError::SnapshotIdentityMismatch {
                expected: origin,
                got: snapshot.head.entity.origin_hash(),
            });
        }

        if let Some(channel) = &request.config.output_channel {
            self.open_output_channel(channel)?;
        }

        let lineage = Lineage::new((self.entropy)());
        let key = self.next_key();
        let mut host = DaemonHost::new(
            key,
            request.keypair,
            kind,
            request.config,
            lineage,
            Epoch::FIRST,
            Presence::Starting,
            now.instant,
        );
        let state = snapshot.and_then(|snapshot| adopt(&mut host, snapshot));
        self.insert(
            host,
            Inbound::new(),
            Some(Box::new(Spawning { ticket, state, looking: true, begun: now.instant, rivals: Rivals::new() })),
        );
        let others = self.peers.connected().next().is_some() || self.placing.view.nodes().len() > 1;
        if others || self.placing.standing.is_passing() {
            // Whoever was asked before did not hear that this node is about to host it.
            self.lookups.begin_anew(origin);
            self.look_up(origin, Haste::SkipSilent, now);
        } else {
            self.construct(key, now);
        }
        Ok(())
    }

    /// Whether an address belongs to a daemon, or to one that is expected.
    pub(super) fn is_taken(&self, origin: OriginHash) -> bool {
        self.by_origin.contains_key(&origin) || self.factories.expected(origin).is_some()
    }

    pub(super) fn insert(&mut self, host: DaemonHost, inbound: Inbound, spawning: Option<Box<Spawning>>) {
        let (key, origin) = (host.key, host.origin);
        let index = self.daemons.insert(Slot {
            host,
            inbound,
            reader: None,
            spawning,
            claim: None,
            homes: Homes::default(),
            waiting: Waiting::default(),
            comes_round: false,
        });
        debug_assert_eq!(index, key.slot as usize);
        self.by_origin.insert(origin, key);
    }

    /// The daemon of a spawn that asks the directory.
    pub(super) fn looking(&self, origin: OriginHash) -> Option<DaemonKey> {
        let key = self.by_origin.get(&origin).copied()?;
        self.slot(key)?.spawning.as_ref().filter(|spawning| spawning.looking).map(|_| key)
    }

    /// The directory says that the daemon of a spawn lives elsewhere, or may yet go on there.
    pub(super) fn refuse_spawn(&mut self, origin: OriginHash, now: Now) {
        if let Some(key) = self.looking(origin) {
            self.fail_spawn(key, RuntimeError::AlreadyRegistered(origin), now);
        }
    }

    /// The directory knows of nobody who hosts the daemon of a spawn.
    pub(super) fn go_on_spawning(&mut self, origin: OriginHash, now: Now) {
        if let Some(key) = self.looking(origin) {
            self.construct(key, now);
        }
    }

    /// Whether a spawn goes on waiting for a node that is named as the daemon's host, and is silent. One that is proven dead
    /// is not waited for; one that may live is, for a while, and then the spawn is refused.
    pub(super) fn spawn_waits_for(&mut self, origin: OriginHash, host: NodeId, now: Now) -> bool {
        let Some(key) = self.by_origin.get(&origin).copied() else { return false };
        let spawning = self.slot(key).and_then(|slot| slot.spawning.as_ref()).filter(|spawning| spawning.looking);
        let Some(patience) = spawning.map(|spawning| spawning.begun + SILENT_HOST) else { return false };
        // A later life of it than the one that ended may be the host.
        let ended = self.graves.holds(host, Incarnation::EARLIEST)
            && self.peers.get(host).is_none()
            && !self.graves.misses(host);
        if !ended && patience <= now.instant {
            self.fail_spawn(key, RuntimeError::HostSilent { origin, host }, now);
        }
        !ended && patience > now.instant
    }

    /// Whether a spawn goes on waiting for this node to join those who would know. A node that was not started joins nobody, and
    /// is not waited for without end.
    pub(super) fn spawn_waits_to_join(&self, origin: OriginHash, now: Now) -> bool {
        let slot = self.by_origin.get(&origin).and_then(|key| self.slot(*key));
        let spawning = slot.and_then(|slot| slot.spawning.as_ref()).filter(|spawning| spawning.looking);
        self.placing.standing.is_passing()
            && spawning.is_some_and(|spawning| spawning.begun + LONGEST_JOIN > now.instant)
    }

    /// Nobody hosts a daemon that is to be spawned, though somebody may remember one.
    pub(super) fn spawn_where_none_lives(&mut self, origin: OriginHash, former: Option<&Claim>) {
        if let (Some(key), Some(former)) = (self.by_origin.get(&origin).copied(), former)
            && self.slot(key).is_some_and(|slot| slot.host.presence == Presence::Starting)
        {
            self.outrank(key, former.body().epoch);
        }
    }

    /// Whether the host that a claim names is proven dead.
    pub(super) fn is_dead(&self, claim: &Claim) -> bool {
        is_dead(claim, &self.graves, &self.peers)
    }

    /// A spawn takes the place of a copy that is gone: at a higher epoch, so that it is the right one if that is not so.
    fn outrank(&mut self, key: DaemonKey, former: Epoch) {
        if let Some(slot) = self.slot_mut(key)
            && let Some(epoch) = former.next()
            && epoch > slot.host.epoch
        {
            (slot.host.epoch, slot.host.min_epoch) = (epoch, epoch);
        }
    }

    fn construct(&mut self, key: DaemonKey, now: Now) {
        let pointer = self.slot(key).and_then(|slot| self.pointers.get(slot.host.origin));
        if let Some(former) = pointer.map(|pointer| pointer.epoch) {
            self.outrank(key, former);
        }
        let Some(slot) = self.slot_mut(key) else { return };
        slot.host.progress_at = now.instant;
        let (origin, entity, kind) = (slot.host.origin, slot.host.entity(), slot.host.kind.clone());
        let spawn = slot.spawning.as_mut().map(|spawning| {
            spawning.looking = false;
            spawning.ticket
        });
        let purpose = ConstructFor::Spawn;
        self.work.push(Work::Construct { daemon: key, origin, entity, kind, purpose, spawn });
        self.arm_callback_timeout(key, now);
    }

    /// The embedder made the object, or could not.
    pub fn constructed(&mut self, key: DaemonKey, result: Result<(), Thrown>, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        let Some(spawning) = &mut slot.spawning else {
            self.arrival_constructed(key, result, now);
            return;
        };
        match (result, spawning.state.take()) {
            (Err(thrown), _) => self.fail_spawn(key, RuntimeError::ConstructFailed(thrown), now),
            (Ok(()), Some(state)) => self.work.push(Work::Restore { daemon: key, state }),
            (Ok(()), None) => self.finish_spawn(key, now),
        }
    }

    /// The daemon took its state, or could not.
    pub fn restored(&mut self, key: DaemonKey, result: Result<(), Thrown>, now: Now) {
        let Some(slot) = self.slot(key) else { return };
        if slot.spawning.is_none() {
            self.arrival_restored(key, result, now);
            return;
        }
        match result {
            Err(thrown) => self.fail_spawn(key, RuntimeError::RestoreFailed(thrown), now),
            Ok(()) => self.finish_spawn(key, now),
        }
    }

    /// Another node is about to host what is being spawned here.
    pub(super) fn spawn_has_rival(&mut self, origin: OriginHash, rival: NodeId) {
        self.enter_rival(origin, rival, None);
    }

    /// Enters a rival, with what it asked.
    fn enter_rival(&mut self, origin: OriginHash, node: NodeId, asked: Option<Asked>) {
        let Self { by_origin, daemons, peers, placing, .. } = self;
        let slot = by_origin.get(&origin).and_then(|key| daemons.get_mut(key.slot as usize));
        let Some(spawning) = slot.and_then(|slot| slot.spawning.as_mut()) else { return };
        let known = spawning.rivals.entry(node).or_default();
        *known = asked.or(*known);
        if spawning.rivals.len() > MOST_STRANGERS {
            spawning.rivals.retain(|node, _| peers.get(*node).is_some() || placing.view.contains(*node));
        }
    }

    /// A node that is about to host a daemon asks this one, which perhaps is as well. True when it has to wait for what becomes
    /// of the spawn here: it is answered then. Whoever has asked everybody goes first, and of two that are asking the one with
    /// the smaller id; the other one waits for that, so that one of them is refused.
    pub(super) fn spawn_goes_first(&mut self, origin: OriginHash, asked: Asked) -> bool {
        let slot = self.by_origin.get(&origin).and_then(|key| self.slot(*key));
        let Some(looking) = slot.and_then(|slot| slot.spawning.as_ref()).map(|spawning| spawning.looking) else {
            return false;
        };
        if !looking || self.me() < asked.from {
            self.enter_rival(origin, asked.from, Some(asked));
            return true;
        }
        self.enter_rival(origin, asked.from, None);
        let answers = self.answers(asked.from);
        if let Some(query) = self.lookups.ask_rival(origin, asked.from, answers) {
            self.ask_where(asked.from, query, origin);
        }
        false
    }

    /// It is known what became of a spawn: those that wait for it are answered, the others shown the claim.
    fn tell_rivals(&mut self, origin: OriginHash, rivals: Rivals, now: Now) {
        let mut others = Vec::new();
        for (node, asked) in rivals {
            match asked {
                Some(asked) => self.answer_where(origin, asked),
                None => others.push(node),
            }
        }
        self.contest(origin, others, now);
    }

    fn finish_spawn(&mut self, key: DaemonKey, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        let Some(spawning) = slot.spawning.take() else { return };
        slot.host.presence = Presence::Live;
        let (entity, about) = (slot.host.entity(), (slot.host.origin, slot.host.kind.clone(), key));
        self.timers.disarm(TimerKey::Daemon(key));
        self.end_bare_places(&entity, now);
        self.pointers.forget(about.0);
        self.settle(spawning.ticket, Ok(Settlement::Spawned(key)));
        self.tell_rivals(about.0, spawning.rivals, now);
        self.notice_daemon(DaemonEvent::Spawned, about);
        if self.slot(key).is_some_and(|slot| slot.host.min_epoch > Epoch::FIRST) {
            self.announce(key);
        }
        self.go_on_receiving(key, false);
        self.lead_home(key, now);
        self.settle_own(now);
    }

    pub(super) fn fail_spawn(&mut self, key: DaemonKey, error: RuntimeError, now: Now) {
        let Some(slot) = self.take_slot(key, now) else { return };
        self.work.push(Work::Retire { daemon: key, reason: StopReason::Stopped });
        if let Some(spawning) = slot.spawning {
            self.settle(spawning.ticket, Err(error));
            self.tell_rivals(slot.host.origin, spawning.rivals, now);
        }
    }

    /// Stops a daemon behind the events that it accepted.
    pub fn stop(&mut self, ticket: Ticket, origin: OriginHash, now: Now) -> Result<(), RuntimeError> {
        if self.lifecycle == Lifecycle::ShuttingDown {
            self.settle(ticket, Ok(Settlement::Done));
            return Ok(());
        }
        self.check_ready()?;
        let key = self.local(origin)?;
        let Some(slot) = self.slot_mut(key) else { return Err(RuntimeError::NotFound(origin)) };
        slot.host.enter_control(Control::Stop(ticket));
        if slot.host.is_late() {
            self.stop_late(key, now);
        } else {
            self.pump(key, now);
        }
        Ok(())
    }

    /// A daemon whose promise outlived its timeout: whoever wants it stopped does not wait for that promise.
    pub(super) fn stop_late(&mut self, key: DaemonKey, now: Now) {
        let stops = self.slot(key).filter(|slot| slot.host.is_to_stop());
        if let Some(entity) = stops.map(|slot| slot.host.entity()) {
            // It was to freeze behind that promise as well.
            self.end_departure(entity, FailureReason::DaemonNotFound);
            self.settle_own(now);
            self.remove_daemon(key, StopReason::Stopped, DaemonEvent::Stopped, now);
        }
    }

    /// A daemon of this node that is not still being spawned.
    pub(super) fn local(&self, origin: OriginHash) -> Result<DaemonKey, RuntimeError> {
        self.by_origin
            .get(&origin)
            .copied()
            .filter(|key| {
                self.slot(*key).is_some_and(|slot| match slot.host.presence {
                    Presence::Live | Presence::Freezing(_) | Presence::Frozen(_) | Presence::Closed(_) => true,
                    Presence::Starting | Presence::Released(_) | Presence::Arriving(_) => false,
                })
            })
            .ok_or(RuntimeError::NotFound(origin))
    }

    /// The daemon with this address, while it lives here.
    pub fn find(&self, origin: OriginHash) -> Option<DaemonKey> {
        self.local(origin).ok()
    }

    /// Ends a daemon: whoever waits for it is told.
    pub(super) fn remove_daemon(&mut self, key: DaemonKey, reason: StopReason, event: DaemonEvent, now: Now) {
        let Some(slot) = self.take_slot(key, now) else { return };
        let Slot { mut host, mut inbound, spawning, .. } = slot;
        let origin = host.origin;
        self.stop_receiving(key, host.entity(), false);
        let ended = match reason {
            StopReason::Shutdown => RuntimeError::ShuttingDown,
            StopReason::Stopped | StopReason::Migrated | StopReason::Fenced => RuntimeError::Stopped(origin),
        };
        if let Some(spawning) = spawning {
            self.settle(spawning.ticket, Err(ended.clone()));
        }
        let mut stops = Vec::new();
        for (_, control) in std::mem::take(&mut host.control) {
            match control {
                Control::Snapshot(ticket) => self.settle(ticket, Err(ended.clone())),
                Control::Stop(ticket) => stops.push(ticket),
                Control::AutoSnapshot | Control::MoveSnapshot(_) => {}
            }
        }
        let fenced = reason == StopReason::Fenced;
        if fenced {
            self.drop_outputs(key);
        }
        // What was handed over runs at the target, if anywhere, and is answered there.
        let handed_over = matches!(host.presence, Presence::Released(_));
        // Of a fenced copy nothing is said any more; whoever waits for what had begun cannot know.
        let gone = |maybe| match reason {
            StopReason::Fenced => peer_lost(origin, maybe),
            StopReason::Shutdown => shut_down(maybe),
            StopReason::Stopped | StopReason::Migrated => {
                RuntimeError::StoppedMeanwhile { origin, executed: Executed::of(maybe) }
            }
        };
        let mut unanswered: Vec<_> = match std::mem::replace(&mut host.running, Running::Idle) {
            Running::Batch(batch) => batch.events.into_iter().map(|delivery| (delivery, true)).collect(),
            Running::Control { control: Control::Snapshot(ticket), timed_out: false } => {
                self.settle(ticket, Err(ended.clone()));
                Vec::new()
            }
            Running::Idle | Running::Queued | Running::Direct | Running::Control { .. } => Vec::new(),
        };
        let waiting = host.mailbox.take(usize::MAX, usize::MAX);
        unanswered.extend(waiting.into_iter().map(|delivery| (delivery, false)));
        for (delivery, begun) in unanswered {
            match delivery.reply {
                ReplyTo::Local(ticket) => self.settle(ticket, Err(gone(begun))),
                ReplyTo::Stream { stream, number, call } if call && !fenced && !handed_over => {
                    if let Some(stream) = inbound.get_mut(stream) {
                        let kind = if begun { FailureKind::Interrupted } else { FailureKind::ShuttingDown };
                        stream.keep(super::replies::failed(number, kind, "the daemon was stopped"));
                    }
                }
                ReplyTo::Stream { .. } | ReplyTo::Nobody | ReplyTo::TimedOut => {}
            }
        }
        if fenced {
            self.refuse_streams(&inbound, |_| None);
        } else {
            self.say_last_replies(&mut inbound);
            self.refuse_streams(&inbound, |stream| (!handed_over).then(|| stream.accepted()));
        }
        self.work.push(Work::Retire { daemon: key, reason });
        self.notice_daemon(event, (origin, host.kind.clone(), key));
        for ticket in stops {
            self.settle(ticket, Ok(Settlement::Done));
        }
    }

    /// Tells the senders of streams that these lead nowhere any more, and what was accepted of them, if that is known: their
    /// next event asks where the daemon lives then, and is not refused for the sake of its former life. That word may overtake
    /// replies, which may be large.
    pub(super) fn refuse_streams(&mut self, ended: &Inbound, accepted: impl Fn(&InStream) -> Option<u64>) {
        for (_, stream) in ended.iter() {
            self.refuse_stream(stream, accepted(stream));
        }
    }

    /// Tells the senders of events that were held here and never accepted that they will not run.
    pub(super) fn refuse_early(&mut self, inbound: &Inbound) {
        for (_, stream) in inbound.iter().filter(|(_, stream)| stream.holds_early()) {
            self.refuse_stream(stream, Some(stream.accepted()));
        }
    }

    /// Tells the other senders of a copy that goes with its source: that may have told them that the daemon is here, and took
    /// with it what they wait for. Who still speaks to the source does not believe this node.
    pub(super) fn refuse_told(&mut self, inbound: &Inbound) {
        for (_, stream) in inbound.iter().filter(|(_, stream)| !stream.holds_early()) {
            self.say_unknown(stream.id.sender, &stream.id, Refusal::UNSURE);
        }
    }

    /// What has come and was not accepted has no other answer than this one.
    fn refuse_stream(&mut self, stream: &InStream, accepted: Option<u64>) {
        let to = self.way_back(stream.id.sender, stream.via);
        // Without a word of what was accepted the stream ends at the first one, whatever else is on its way.
        let answered = if accepted.is_some() { stream.last_of_each_way() } else { vec![Answers::Nothing] };
        for answers in answered {
            self.say_unknown(to, &stream.id, Refusal { accepted, answers, ..Refusal::UNSURE });
        }
    }

    /// The node to which a word about the way of a stream goes: the one that spoke for it. Its sender believes nobody but the
    /// one that it speaks to.
    pub(super) fn way_back(&self, sender: NodeId, via: NodeId) -> NodeId {
        if sender != self.me() && self.peers.is_up(via) { via } else { sender }
    }

    /// The node through which a sender is reached: itself, when it is connected.
    pub(super) fn way_to(&self, sender: NodeId, via: NodeId) -> NodeId {
        if sender == self.me() || self.peers.is_up(sender) { sender } else { via }
    }

    /// Announces that a daemon will arrive. A key that is provisioned for it is the one of that address.
    pub fn expect_migration(
        &mut self,
        kind: &str,
        origin: OriginHash,
        config: HostConfig,
        keypair: Option<EntityKeypair>,
    ) -> Result<(), RuntimeError> {
        if self.lifecycle == Lifecycle::ShuttingDown {
            return Err(RuntimeError::ShuttingDown);
        }
        let Some(kind) = self.factories.kind(kind) else {
            return Err(RuntimeError::FactoryNotFound(kind.to_owned()));
        };
        if keypair.as_ref().is_some_and(|keypair| keypair.origin_hash() != origin) {
            return Err(RuntimeError::InvalidArgument("identity must be the one of originHash".into()));
        }
        if self.by_origin.contains_key(&origin)
            || !self.factories.expect(origin, Expectation { kind, config, keypair, orchestrator: None })
        {
            return Err(RuntimeError::AlreadyRegistered(origin));
        }
        Ok(())
    }

    /// Binds the only orchestrator that may bring an announced daemon.
    pub fn bind_orchestrator(&mut self, origin: OriginHash, node: NodeId) -> bool {
        self.factories.bind_orchestrator(origin, node)
    }

    /// The counters of a daemon, and how many events wait for it.
    pub fn stats(&self, key: DaemonKey) -> Option<(Stats, usize)> {
        let slot = self.slot(key)?;
        Some((slot.host.stats, slot.host.mailbox.len()))
    }

    /// Bytes of the events that wait for a daemon.
    pub fn mailbox_bytes(&self, key: DaemonKey) -> Option<usize> {
        Some(self.slot(key)?.host.mailbox.bytes())
    }

    /// Signs with a daemon's key.
    pub fn sign(&self, key: DaemonKey, message: &[u8]) -> Option<Result<Signature, IdentityError>> {
        Some(self.slot(key)?.host.keypair.sign(message))
    }

    /// The newest automatic snapshot.
    pub fn last_snapshot(&self, key: DaemonKey) -> Option<Bytes> {
        self.slot(key)?.host.last_snapshot.clone()
    }
}

/// Whether the host that a claim names is proven dead.
pub(super) fn is_dead(claim: &Claim, graves: &Graves, peers: &Peers) -> bool {
    let body = claim.body();
    let newer = |life| peers.get(body.node()).is_some_and(|peer| peer.identity.incarnation > life);
    body.incarnation.is_some_and(|life| graves.holds(body.node(), life) || newer(life))
}

/// Gives a new host what a snapshot holds, and returns the state that its object must be given.
pub(super) fn adopt(host: &mut DaemonHost, snapshot: StateSnapshot) -> Option<Bytes> {
    let head = snapshot.head;
    host.chain = ChainBuilder::resume(head.chain);
    host.horizon = head.horizon;
    host.stats = Stats {
        events_processed: head.stats.events_processed,
        events_emitted: head.stats.events_emitted,
        errors: head.stats.errors,
        snapshots_taken: head.stats.snapshots_taken,
    };
    host.ledger = head.ledger;
    snapshot.state
}
