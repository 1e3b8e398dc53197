//! Daemons that leave this node.

use std::collections::VecDeque;

use bytes::Bytes;

use super::engine::{Engine, Now};
use super::error::RuntimeError;
use super::routes::Route;
use super::state_reader::{encode_streams, snapshot_head};
use super::timers::TimerKey;
use super::work::{DaemonEvent, Role, Settlement, StopReason, Work};
use crate::daemon::{Control, DaemonKey, ReplyTo, Running, Standing};
use crate::directory::{Claim, ClaimBody, ClaimError};
use crate::events::{OutStream, Outgoing};
use crate::identity::{EntityId, EnvelopeContext, IdentityEnvelope, NodeId, OriginHash, Signature};
use crate::mesh::RecordSink;
use crate::migration::{MigrationFailure, Outcome, Source, SourceAction, SourceState, Transfer};
use crate::snapshot::SnapshotDigest;
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::events::{Event, EventsMessage, Item, StreamId, Thrown};
use crate::wire::migration::{FailureReason, MigrationMessage, MoveId, Stage, StagedItem, StreamMark};

/// Payload bytes after which a message of waiting events is sent.
const SHIP_BYTES: usize = 16 * 1024;
/// Most waiting events in one message.
const SHIP_EVENTS: usize = 512;
/// Held events of this node while its daemon's mailbox is closed.
const MOST_HELD: usize = 4096;
/// A chunk's message is at most so much longer than its bytes.
const CHUNK_OVERHEAD: usize = 256;
const SNAPSHOT_LABEL: &[u8] = b"mesh-daemon snapshot v1";

/// A daemon that leaves.
pub(super) struct Departure {
    pub(super) source: Source,
    pub(super) key: DaemonKey,
    pub(super) origin: OriginHash,
    /// The claim that the target gets, made before the decision: it must not fail behind it.
    claim: Option<Claim>,
    /// Events of this node that came while the mailbox was closed.
    held: VecDeque<Outgoing>,
    /// The stream of this node that its waiting callers go on in.
    own: Option<StreamId>,
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

impl Engine {
    /// An orchestrator wants a daemon of this node to leave.
    pub(super) fn on_take_snapshot(&mut self, from: NodeId, id: MoveId, target: NodeId, transport: bool, now: Now) {
        if let Some(departure) = self.departures.get(&id.entity) {
            let known = departure.source.id == id && departure.source.orchestrator == from;
            if !known {
                self.say(from, &MigrationMessage::MigrationFailed { id, reason: FailureReason::AlreadyMigrating });
            }
            return;
        }
        let origin = id.entity.origin_hash();
        let refusal = if !self.options.admits_orchestrator(from, self.me()) {
            Some(FailureReason::NotAuthorized)
        } else if self.arrivals.contains_key(&id.entity) {
            Some(FailureReason::AlreadyMigrating)
        } else if !self.peers.is_up(target) {
            Some(FailureReason::PeerLost { detail: format!("target {target}") })
        } else {
            match self.local(origin).ok().and_then(|key| self.slot(key)) {
                None => Some(FailureReason::DaemonNotFound),
                Some(slot) if slot.host.entity() != id.entity || slot.host.epoch != id.epoch => {
                    Some(FailureReason::DaemonNotFound)
                }
                Some(slot) if slot.host.standing != Standing::Live => Some(FailureReason::AlreadyMigrating),
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
        let departure = Departure { source, key, origin, claim: None, held: VecDeque::new(), own: None };
        self.departures.insert(id.entity, departure);
        self.depart(id.entity, actions, now);
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
                        slot.host.standing = Standing::Freezing(id.migration);
                        if matches!(slot.host.running, Running::Batch(_)) {
                            self.work.push(Work::Yield { daemon: key });
                        }
                    }
                    self.pump(key, now);
                }
                SourceAction::TakeSnapshot => {
                    if let Some(slot) = self.slot_mut(key) {
                        slot.host.standing = Standing::Frozen(id.migration);
                        // Nobody waits at the end of a stream that has ended; what it brought runs all the same.
                        for delivery in slot.host.mailbox.iter_mut() {
                            if let ReplyTo::Stream { stream, .. } = delivery.reply
                                && slot.inbound.get(stream).is_none()
                            {
                                delivery.reply = ReplyTo::Nobody;
                            }
                        }
                        slot.host.running = Running::Control(Control::MoveSnapshot(id.migration));
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
                SourceAction::Cleanup => self.clean_up(entity),
                SourceAction::TakeBack => self.take_back(entity, now),
                SourceAction::InDoubt => self.say(orchestrator, &MigrationMessage::InDoubt { id }),
                SourceAction::Report(stage) => self.report(entity, stage),
                SourceAction::StillAtWork => {
                    let stage = departure.source.stage();
                    self.say_status(entity, stage);
                }
                SourceAction::TooLate { to } => self.say(to, &MigrationMessage::TooLate { id }),
                SourceAction::WrongPhase { to, got } => {
                    let expected = format!("{:?}", departure.source.stage());
                    let reason = FailureReason::WrongPhase { expected, got: got.to_owned() };
                    if to == orchestrator {
                        self.note_migration(
                            Role::Source,
                            &id,
                            (self.me(), target),
                            None,
                            Some(MigrationFailure::Refused(reason, Outcome::Source)),
                        );
                    }
                }
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
        self.departure_input(entity, now, |source| source.tick(now.instant));
    }

    fn report(&mut self, entity: EntityId, stage: Stage) {
        let Some(departure) = self.departures.get(&entity) else { return };
        let (id, target) = (departure.source.id, departure.source.target);
        let me = self.me();
        self.note_migration(Role::Source, &id, (me, target), Some(stage), None);
        self.say_status(entity, stage);
    }

    fn say_status(&mut self, entity: EntityId, stage: Stage) {
        let Some(departure) = self.departures.get(&entity) else { return };
        let (bytes_sent, bytes_total) = departure.source.bytes();
        let (id, orchestrator, events) = (departure.source.id, departure.source.orchestrator, departure.source.shipped);
        let target = departure.source.target;
        let status = MigrationMessage::Status { id, stage, bytes_sent, bytes_total, events };
        self.say(orchestrator, &status);
        if matches!(stage, Stage::Snapshot) {
            // The target waits for the first byte.
            self.say(target, &status);
        }
    }

    /// Nothing of the daemon runs any more.
    pub(super) fn departure_frozen(&mut self, key: DaemonKey, now: Now) {
        let Some(entity) = self.slot(key).map(|slot| slot.host.entity()) else { return };
        let timeout = self.slot(key).map(|slot| slot.host.config.callback_timeout).unwrap_or_default();
        self.departure_input(entity, now, |source| source.frozen(timeout, now.instant));
    }

    /// The daemon gave its state.
    pub(super) fn departure_snapshot(&mut self, key: DaemonKey, result: Result<Option<u64>, Thrown>, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        let entity = slot.host.entity();
        if !matches!(slot.host.standing, Standing::Frozen(_)) {
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
                let head = snapshot_head(&slot.host, encode_streams(&slot.inbound), now);
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
        let SourceState::Reserving { transfer, .. } = &departure.source.state else { return };
        let total = transfer.total();
        match self.claim_of(key) {
            Ok(claim) => self.say(target, &MigrationMessage::Reserve { id, total, claim: &claim.encode() }),
            Err(error) => {
                let detail = format!("cannot claim the daemon: {error}");
                self.departure_input(entity, now, |source| source.failed(FailureReason::StateFailed { detail }));
            }
        }
    }

    /// Asks the daemon's own thread for the next slices of its state.
    fn pull_state(&mut self, entity: EntityId) {
        let Some(departure) = self.departures.get_mut(&entity) else { return };
        let SourceState::Sending(transfer) = &mut departure.source.state else { return };
        let daemon = departure.key;
        while let Some((offset, len)) = transfer.want() {
            self.work.push(Work::ReadState { daemon, offset, len });
        }
    }

    /// A slice arrived.
    pub(super) fn departure_slice(&mut self, key: DaemonKey, offset: u64, result: Result<Bytes, Thrown>, now: Now) {
        let Some(entity) = self.slot(key).map(|slot| slot.host.entity()) else { return };
        let Some(departure) = self.departures.get_mut(&entity) else { return };
        let SourceState::Sending(transfer) = &mut departure.source.state else { return };
        match result {
            Ok(bytes) => match transfer.slice(offset, bytes) {
                Ok(()) => {
                    self.note_state_bytes();
                    self.pull_state(entity);
                    self.offer_transfer(entity);
                }
                Err(error) => {
                    let reason = FailureReason::StateFailed { detail: error.to_string() };
                    self.departure_input(entity, now, |source| source.failed(reason));
                }
            },
            Err(thrown) => {
                let detail = format!("snapshot failed: {}", thrown.message);
                let reason = FailureReason::StateFailed { detail }.bounded();
                self.departure_input(entity, now, |source| source.failed(reason));
                self.settle_own(now);
            }
        }
    }

    /// Tells the mesh that chunks are ready.
    fn offer_transfer(&mut self, entity: EntityId) {
        let Some(departure) = self.departures.get(&entity) else { return };
        let SourceState::Sending(transfer) = &departure.source.state else { return };
        let target = departure.source.target;
        if (transfer.has_chunk() || transfer.seal().is_some())
            && let Some(peer) = self.peers.up(target)
        {
            if !peer.transfers.contains(&entity) {
                peer.transfers.push_back(entity);
            }
            self.wakes.insert(target);
        }
    }

    /// Writes chunks of daemons that move to this peer, one daemon after another.
    pub(super) fn fill_transfers(&mut self, to: NodeId, sink: &mut dyn RecordSink, now: Now) {
        let Some(entity) = self.peers.up(to).and_then(|peer| peer.transfers.pop_front()) else { return };
        let Some(departure) = self.departures.get_mut(&entity) else { return };
        let id = departure.source.id;
        let SourceState::Sending(transfer) = &mut departure.source.state else { return };
        if sink.room() < crate::snapshot::SNAPSHOT_CHUNK_LEN + CHUNK_OVERHEAD {
            // The next frame has room.
            if let Some(peer) = self.peers.up(to) {
                peer.transfers.push_front(entity);
            }
            return;
        }
        if let Some(chunk) = transfer.chunk() {
            let message = MigrationMessage::Chunk { id, index: chunk.index, total: chunk.total, bytes: &chunk.bytes };
            let written = sink.record(Subprotocol::Migration, &mut |out| codec::encode_into(&message, out));
            debug_assert!(written.is_some(), "there was room");
        }
        departure.source.heard(now.instant);
        let SourceState::Sending(transfer) = &departure.source.state else { return };
        if let Some(digest) = transfer.seal() {
            self.say_status(entity, Stage::Transfer);
            self.seal(entity, &digest, now);
        } else {
            if transfer.progress().0 % (256 * 1024) < crate::snapshot::SNAPSHOT_CHUNK_LEN as u64 {
                self.say_status(entity, Stage::Transfer);
            }
            self.pull_state(entity);
            self.offer_transfer(entity);
        }
        self.settle_own(now);
    }

    /// Vouches for the snapshot that was sent, and seals the daemon's key.
    fn seal(&mut self, entity: EntityId, digest: &SnapshotDigest, now: Now) {
        let Some(departure) = self.departures.get(&entity) else { return };
        let (id, key, target) = (departure.source.id, departure.key, departure.source.target);
        let transport = departure.source.transport_identity;
        let sealed = self.envelope(key, target, &id, digest, transport);
        match sealed {
            Err(detail) => {
                let reason = FailureReason::IdentityTransportFailed { detail };
                self.departure_input(entity, now, |source| source.failed(reason));
            }
            Ok((signature, envelope)) => {
                let message = MigrationMessage::SnapshotReady {
                    id,
                    digest: *digest.as_bytes(),
                    signature: *signature.as_bytes(),
                    envelope: envelope.as_deref(),
                };
                // Behind the last chunk, in the same lane.
                let body = codec::encode(&message);
                if let Some(peer) = self.peers.up(target) {
                    peer.bulk.push_back(super::peers::BulkMessage {
                        subprotocol: Subprotocol::Migration,
                        body: body.into(),
                        sent: 0,
                    });
                    self.wakes.insert(target);
                }
                self.departure_input(entity, now, |source| source.transferred(now.instant));
            }
        }
    }

    fn envelope(
        &self,
        key: DaemonKey,
        target: NodeId,
        id: &MoveId,
        digest: &SnapshotDigest,
        transport: bool,
    ) -> Result<(Signature, Option<Vec<u8>>), String> {
        let slot = self.slot(key).ok_or("the daemon is gone")?;
        let message = vouched(id, self.me(), target, digest);
        let signer = if slot.host.keypair.is_read_only() { &self.node.keypair } else { &slot.host.keypair };
        let signature = signer.sign(&message).map_err(|e| e.to_string())?;
        if !transport {
            return Ok((signature, None));
        }
        // Only a key that this node's own handshake with the target proved.
        let peer = self.peers.get(target).ok_or("no session with the target")?;
        let context = EnvelopeContext {
            link: slot.host.chain.head().link().to_bytes(),
            migration: id.migration,
            epoch: id.epoch,
            snapshot_digest: *digest.as_bytes(),
        };
        let envelope = IdentityEnvelope::seal(&slot.host.keypair, &peer.identity.static_key, &context)
            .map_err(|e| e.to_string())?;
        Ok((signature, Some(envelope.to_bytes().to_vec())))
    }

    /// Sends waiting events that were not sent yet to be staged.
    fn ship(&mut self, entity: EntityId, last: bool) {
        let Some(departure) = self.departures.get(&entity) else { return };
        let (id, key, target) = (departure.source.id, departure.key, departure.source.target);
        let mut shipped = departure.source.shipped;
        let own = self.stream_for_own(entity, key);
        let Some(slot) = self.daemons.get(key.slot as usize).filter(|slot| slot.host.key == key) else { return };
        let total = slot.host.mailbox.len() as u64;
        // Events of callers on this node become events of this node's own stream: then they are answered like all others.
        let base = own
            .and_then(|own| slot.inbound.find(&own))
            .and_then(|key| slot.inbound.get(key))
            .map_or(1, crate::events::InStream::next);
        let is_own = |reply: &ReplyTo| matches!(reply, ReplyTo::Local(_) | ReplyTo::Nobody | ReplyTo::TimedOut);
        let mut next_own = base
            + slot
                .host
                .mailbox
                .iter()
                .take(usize::try_from(shipped).unwrap_or(usize::MAX))
                .filter(|delivery| is_own(&delivery.reply))
                .count() as u64;
        let mut bodies = Vec::new();
        loop {
            let first = shipped;
            let mut streams: Vec<StreamId> = Vec::new();
            let mut items = Vec::new();
            let mut bytes = 0;
            while items.len() < SHIP_EVENTS && (items.is_empty() || bytes < SHIP_BYTES) {
                let Some(delivery) = usize::try_from(shipped).ok().and_then(|at| slot.host.mailbox.get(at)) else {
                    break;
                };
                let (stream, number, call) = match delivery.reply {
                    ReplyTo::Stream { stream, number, call } => {
                        let Some(held) = slot.inbound.get(stream) else { break };
                        (held.id, number, call)
                    }
                    reply @ (ReplyTo::Local(_) | ReplyTo::Nobody | ReplyTo::TimedOut) => {
                        let Some(own) = own else { break };
                        next_own += 1;
                        (own, next_own - 1, matches!(reply, ReplyTo::Local(_)))
                    }
                };
                let index = streams.iter().position(|known| *known == stream).unwrap_or_else(|| {
                    streams.push(stream);
                    streams.len() - 1
                });
                let event = Event { link: delivery.link, payload: &delivery.payload };
                items.push(StagedItem {
                    stream: u32::try_from(index).unwrap_or(u32::MAX),
                    number,
                    item: if call { Item::Call(event) } else { Item::Send(event) },
                    received_at: delivery.received_at,
                });
                bytes += delivery.payload.len();
                shipped += 1;
            }
            let done = shipped == total || items.is_empty();
            let marks = if last && done {
                let mut marks: Vec<StreamMark> = slot
                    .inbound
                    .iter()
                    .filter(|(_, stream)| Some(stream.id) != own)
                    .map(|(_, stream)| StreamMark { stream: stream.id, next: stream.next() })
                    .collect();
                if let Some(own) = own {
                    marks.push(StreamMark { stream: own, next: next_own });
                }
                marks.sort_unstable_by_key(|mark| (mark.stream.sender, mark.stream.incarnation, mark.stream.opening));
                marks
            } else {
                Vec::new()
            };
            let total = (last && done).then_some(shipped);
            let message = MigrationMessage::BufferedEvents { id, first, streams, items, total, marks };
            bodies.push(codec::encode(&message));
            if done {
                break;
            }
        }
        // In one queue, so that they arrive in order whatever their size.
        if let Some(peer) = self.peers.up(target) {
            for body in bodies {
                let subprotocol = Subprotocol::Migration;
                peer.bulk.push_back(super::peers::BulkMessage { subprotocol, body: body.into(), sent: 0 });
            }
            self.wakes.insert(target);
        }
        if let Some(departure) = self.departures.get_mut(&entity) {
            departure.source.shipped = shipped;
            if last {
                departure.source.closed(shipped);
            }
        }
    }

    /// The stream of this node to the daemon: the one that it came with, or a new one.
    fn stream_for_own(&mut self, entity: EntityId, key: DaemonKey) -> Option<StreamId> {
        let lineage = self.slot(key)?.host.lineage;
        let chosen = self.departures.get(&entity)?.own;
        let own =
            chosen.or_else(|| self.own_stream_to(entity, lineage)).unwrap_or_else(|| self.new_stream(entity, lineage));
        self.departures.get_mut(&entity)?.own = Some(own);
        Some(own)
    }

    /// From here on what arrives is held. The claim of the next host is made now, while it may still fail.
    fn close_mailbox(&mut self, entity: EntityId, now: Now) {
        let Some(departure) = self.departures.get(&entity) else { return };
        let (id, key, target) = (departure.source.id, departure.key, departure.source.target);
        match self.next_claim(key, target) {
            Ok(claim) => {
                if let Some(departure) = self.departures.get_mut(&entity) {
                    departure.claim = Some(claim);
                }
                if let Some(slot) = self.slot_mut(key) {
                    slot.host.standing = Standing::Closed(id.migration);
                }
            }
            Err(error) => {
                let detail = format!("cannot name the next host: {error}");
                self.departure_input(entity, now, |source| source.failed(FailureReason::StateFailed { detail }));
            }
        }
    }

    fn next_claim(&mut self, key: DaemonKey, target: NodeId) -> Result<Claim, ClaimError> {
        let claim = self.claim_of(key)?;
        let peer = self.peers.get(target).ok_or(ClaimError::NoKey)?;
        let (host, incarnation) = (peer.identity.entity, Some(peer.identity.incarnation));
        let slot = self.slot(key).ok_or(ClaimError::NoKey)?;
        let epoch = slot.host.epoch.next().ok_or(ClaimError::BrokenChain)?;
        let body = ClaimBody { epoch, host, incarnation, ..*claim.body() };
        if slot.host.keypair.is_read_only() {
            claim.hand_over(body, &self.node.keypair)
        } else {
            Claim::sign(body, &slot.host.keypair)
        }
    }

    /// An event of this node for a daemon whose mailbox is closed for the hand-over.
    pub(super) fn hold_for_hand_over(&mut self, outgoing: Outgoing, origin: OriginHash) -> Result<(), RuntimeError> {
        let departure = self.departures.values_mut().find(|departure| departure.origin == origin);
        match departure {
            Some(departure) if departure.held.len() < MOST_HELD => {
                departure.held.push_back(outgoing);
                Ok(())
            }
            _ => Err(RuntimeError::MailboxFull(origin)),
        }
    }

    /// The decision: from here on the daemon is the target's.
    fn release(&mut self, entity: EntityId, now: Now) {
        let own = self.departures.get(&entity).and_then(|departure| departure.own);
        let Some(departure) = self.departures.get_mut(&entity) else { return };
        let Some(claim) = departure.claim.clone() else { return };
        let (id, key, origin, target) = (departure.source.id, departure.key, departure.origin, departure.source.target);
        departure.source.claim = claim.encode();
        let held = std::mem::take(&mut departure.held);
        let ClaimBody { lineage, epoch, .. } = *claim.body();
        let me = self.me();
        let Some(slot) = self.daemons.get_mut(key.slot as usize).filter(|slot| slot.host.key == key) else { return };
        slot.host.standing = Standing::Released(id.migration);

        // What waited for callers of this node goes on as this node's stream to the target.
        let mut handed = Vec::new();
        let mut first = 1;
        if let Some(own) = own {
            let index = slot.inbound.take_over(own, me, now.instant);
            first = slot.inbound.get(index).map_or(1, crate::events::InStream::next);
            let mut number = first;
            for delivery in slot.host.mailbox.iter_mut() {
                let ticket = match delivery.reply {
                    ReplyTo::Local(ticket) => Some(ticket),
                    ReplyTo::Nobody | ReplyTo::TimedOut => None,
                    ReplyTo::Stream { .. } => continue,
                };
                handed.push((ticket, delivery.expires.take()));
                delivery.reply = ReplyTo::Stream { stream: index, number, call: ticket.is_some() };
                number += 1;
            }
            if let Some(stream) = slot.inbound.get_mut(index) {
                stream.advance(number);
            }
        }
        let mut senders = Vec::new();
        for (index, _) in slot.inbound.iter().map(|(index, stream)| (index, stream.id)).collect::<Vec<_>>() {
            if let Some(stream) = slot.inbound.get_mut(index) {
                // Its sender repeats it at the target.
                stream.drop_early();
                senders.push((stream.id, stream.via));
            }
        }
        self.pointers.left(claim, now.instant);
        if let Some(own) = own
            && !(handed.is_empty() && held.is_empty())
        {
            let fresh = OutStream::new(own, origin, target, epoch, first);
            let mut sent = Vec::new();
            if let Some(stream) = self.own_stream(origin, fresh, now) {
                // What this copy accepted of it last may not have been told yet.
                stream.accepted(first - 1, &mut sent);
                stream.hand_over(handed.into_iter());
                for outgoing in held {
                    stream.push(outgoing);
                }
            }
            for ticket in sent {
                self.settle(ticket, Ok(Settlement::Done));
            }
            self.on_moved(&own, target, epoch, now);
            if let Some(at) = self.routes.get(&origin).and_then(Route::next_expiry) {
                self.timers.arm(TimerKey::Route(origin), at);
            }
            self.has_unsent(origin);
        }
        for (stream, via) in senders {
            if stream.sender == me {
                self.on_moved(&stream, target, epoch, now);
            } else {
                let to = self.way_to(stream.sender, via);
                self.send(
                    to,
                    Subprotocol::Events,
                    codec::encode(&EventsMessage::Moved { stream, node: target, epoch }),
                );
            }
        }
        self.say_activate(entity);
    }

    pub(super) fn say_activate(&mut self, entity: EntityId) {
        let Some(departure) = self.departures.get(&entity) else { return };
        let (id, target, claim) = (departure.source.id, departure.source.target, departure.source.claim.clone());
        self.say(target, &MigrationMessage::ActivateTarget { id, claim: &claim });
    }

    /// The daemon goes on here, with everything that it was sent.
    fn resume(&mut self, entity: EntityId, reason: FailureReason, now: Now) {
        let Some(departure) = self.departures.remove(&entity) else { return };
        self.timers.disarm(TimerKey::Departure(entity));
        let Departure { source, key, origin, held, .. } = departure;
        let (id, target, orchestrator) = (source.id, source.target, source.orchestrator);
        self.work.push(Work::ReleaseState { daemon: key });
        if let Some(slot) = self.slot_mut(key) {
            slot.host.standing = Standing::Live;
            slot.host.progress_at = now.instant;
        }
        if let Some(peer) = self.peers.get_mut(target) {
            peer.transfers.retain(|moving| *moving != entity);
        }
        let failure = MigrationFailure::Refused(reason.clone(), Outcome::Source);
        self.note_migration(Role::Source, &id, (self.me(), target), None, Some(failure));
        self.say(target, &MigrationMessage::MigrationFailed { id, reason: reason.clone() });
        self.say(orchestrator, &MigrationMessage::MigrationFailed { id, reason });
        for outgoing in held {
            let ticket = outgoing.ticket;
            if let Err(error) = self.reenter(outgoing, origin, now) {
                self.settle(ticket, Err(error));
            }
        }
        self.feed_all(key, now);
        self.pump(key, now);
        self.arm_callback_timeout(key, now);
    }

    /// The target holds the daemon: this copy and its secret go.
    fn clean_up(&mut self, entity: EntityId) {
        let Some(departure) = self.departures.remove(&entity) else { return };
        self.timers.disarm(TimerKey::Departure(entity));
        let Departure { source, key, origin, .. } = departure;
        let (id, target, orchestrator) = (source.id, source.target, source.orchestrator);
        if let Some(slot) = self.take_slot(key) {
            let waiting = slot.host.control.iter().filter_map(|(_, control)| match control {
                Control::Snapshot(ticket) | Control::Stop(ticket) => Some(*ticket),
                Control::AutoSnapshot | Control::MoveSnapshot(_) => None,
            });
            for ticket in waiting.collect::<Vec<_>>() {
                self.settle(ticket, Err(RuntimeError::NotFound(origin)));
            }
            self.work.push(Work::ReleaseState { daemon: key });
            self.work.push(Work::Retire { daemon: key, reason: StopReason::Migrated });
            self.notice_daemon(DaemonEvent::MigratedOut, (origin, slot.host.kind.clone(), key));
        }
        self.note_migration(Role::Source, &id, (self.me(), target), Some(Stage::Complete), None);
        self.say(target, &MigrationMessage::CleanupComplete { id });
        self.say(orchestrator, &MigrationMessage::CleanupComplete { id });
    }

    /// The target discarded its copy though it was released: the daemon goes on here, two epochs on.
    fn take_back(&mut self, entity: EntityId, now: Now) {
        let Some(departure) = self.departures.remove(&entity) else { return };
        self.timers.disarm(TimerKey::Departure(entity));
        let Departure { key, origin, .. } = departure;
        self.work.push(Work::ReleaseState { daemon: key });
        self.pointers.forget(origin);
        let me = self.me();
        let Some(slot) = self.slot_mut(key) else { return };
        let epoch = slot.host.epoch.next().and_then(crate::identity::Epoch::next);
        slot.host.epoch = epoch.unwrap_or(slot.host.epoch);
        slot.host.standing = Standing::Live;
        slot.host.progress_at = now.instant;
        slot.claim = None;
        let epoch = slot.host.epoch;
        let senders: Vec<_> = slot.inbound.iter().map(|(_, stream)| (stream.id, stream.via)).collect();
        for (stream, via) in senders {
            if stream.sender == me {
                self.on_moved(&stream, me, epoch, now);
            } else {
                let to = self.way_to(stream.sender, via);
                self.send(to, Subprotocol::Events, codec::encode(&EventsMessage::Moved { stream, node: me, epoch }));
            }
        }
        self.feed_all(key, now);
        self.pump(key, now);
    }
}
