//! The state of a leaving daemon on its way out: slices in, chunks out, the seal behind them.

use bytes::Bytes;

use super::departures::vouched;
use super::engine::{Engine, Now};
use super::peers::BulkMessage;
use super::work::Work;
use crate::daemon::DaemonKey;
use crate::identity::{EntityId, EnvelopeContext, IdentityEnvelope, NodeId, Signature};
use crate::mesh::RecordSink;
use crate::migration::{SliceHash, SourceState};
use crate::snapshot::{SNAPSHOT_CHUNK_LEN, SnapshotDigest};
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::events::Thrown;
use crate::wire::migration::{FailureReason, MigrationMessage, MoveId, Stage};

/// A chunk's message is at most so much longer than its bytes.
const CHUNK_OVERHEAD: usize = 256;
/// Progress is told after so many bytes.
const SAY_EVERY: u64 = 4 * 1024 * 1024;

impl Engine {
    /// Asks the daemon's own thread for the next slices of its state.
    pub(super) fn pull_state(&mut self, entity: EntityId) {
        let Some(departure) = self.departures.get_mut(&entity) else { return };
        let SourceState::Sending(transfer) = &mut departure.source.state else { return };
        let daemon = departure.key;
        while let Some(want) = transfer.want() {
            self.work.push(Work::of_state(daemon, want));
        }
    }

    /// A slice arrived.
    pub(super) fn departure_slice(&mut self, key: DaemonKey, offset: u64, result: Result<Bytes, Thrown>, now: Now) {
        let Some(entity) = self.slot(key).map(|slot| slot.host.entity()) else { return };
        let Some(departure) = self.departures.get_mut(&entity) else { return };
        let SourceState::Sending(transfer) = &mut departure.source.state else { return };
        match result {
            Ok(bytes) => {
                transfer.slice(offset, bytes);
                self.note_state_bytes();
                self.pull_state(entity);
                self.offer_transfer(entity);
            }
            Err(thrown) => self.state_failed(entity, &thrown.message, now),
        }
    }

    /// A slice was looked at a second time.
    pub(super) fn departure_checked(
        &mut self,
        key: DaemonKey,
        offset: u64,
        result: Result<SliceHash, Thrown>,
        now: Now,
    ) {
        let Some(entity) = self.slot(key).map(|slot| slot.host.entity()) else { return };
        let Some(departure) = self.departures.get_mut(&entity) else { return };
        let SourceState::Sending(transfer) = &mut departure.source.state else { return };
        let checked = result
            .map_err(|thrown| thrown.message)
            .and_then(|hash| transfer.checked(offset, hash).map_err(|changed| changed.to_string()));
        match checked {
            Ok(()) => {
                departure.source.heard(now.instant);
                if offset % SAY_EVERY < SNAPSHOT_CHUNK_LEN as u64 {
                    self.say_status(entity, Stage::Transfer);
                }
                self.pull_state(entity);
                self.offer_transfer(entity);
            }
            Err(message) => self.state_failed(entity, &message, now),
        }
    }

    fn state_failed(&mut self, entity: EntityId, message: &str, now: Now) {
        let reason = FailureReason::StateFailed { detail: format!("snapshot failed: {message}") }.bounded();
        self.departure_input(entity, now, |source| source.failed(reason));
        self.settle_own(now);
    }

    /// Tells the mesh that chunks are ready.
    pub(super) fn offer_transfer(&mut self, entity: EntityId) {
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

    /// Whose chunk is next. Moves that have ended are passed by.
    fn next_transfer(&mut self, to: NodeId) -> Option<EntityId> {
        let Self { peers, departures, .. } = self;
        let transfers = &mut peers.up(to)?.transfers;
        let sends = |entity: &EntityId| {
            departures.get(entity).is_some_and(|moving| matches!(moving.source.state, SourceState::Sending(_)))
        };
        while let Some(entity) = transfers.pop_front() {
            if sends(&entity) {
                return Some(entity);
            }
        }
        None
    }

    /// Writes chunks of daemons that move to this peer, one daemon after another.
    pub(super) fn fill_transfers(&mut self, to: NodeId, sink: &mut dyn RecordSink, now: Now) {
        let Some(entity) = self.next_transfer(to) else { return };
        let Some(departure) = self.departures.get_mut(&entity) else { return };
        let id = departure.source.id;
        let SourceState::Sending(transfer) = &mut departure.source.state else { return };
        if sink.room() < SNAPSHOT_CHUNK_LEN + CHUNK_OVERHEAD {
            // The next frame has room.
            if let Some(peer) = self.peers.up(to) {
                peer.transfers.push_front(entity);
            }
            return;
        }
        let chunk = match transfer.chunk() {
            Ok(chunk) => chunk,
            Err(error) => {
                let reason = FailureReason::StateFailed { detail: error.to_string() };
                return self.departure_input(entity, now, |source| source.failed(reason));
            }
        };
        if let Some(chunk) = chunk {
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
            if transfer.progress().0 % SAY_EVERY < SNAPSHOT_CHUNK_LEN as u64 {
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
                let detail = format!("daemon {}: {detail}", entity.origin_hash());
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
                    peer.push_bulk(BulkMessage::of_move(body));
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
}
