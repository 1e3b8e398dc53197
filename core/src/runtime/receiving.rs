//! The state of an arriving daemon on its way in: room for it, chunks, and the seal behind them.

use bytes::Bytes;

use super::arrivals::Arrival;
use super::engine::{Engine, Now};
use crate::directory::Claim;
use crate::identity::{EntityId, NodeId, Signature};
use crate::migration::{Target, TargetState};
use crate::snapshot::{
    Placement, ReassembleError, ReassemblerEvent, Reservation, SnapshotDigest, TransferId, TransferKey,
};
use crate::wire::migration::{FailureReason, MigrationMessage, MoveId};

/// States of at most so many chunks are put together at once, for what that takes is less than handing it to another thread.
const PLACED_AT_ONCE: u32 = 16;

/// A chunk of a large state that has yet to be put in its place.
#[derive(Debug)]
pub struct ChunkPlacement {
    id: MoveId,
    placement: Placement,
    bytes: Bytes,
}

impl ChunkPlacement {
    /// Puts it there; names the move whose state is whole with it, for [`Engine::placed`].
    pub fn place(self) -> Option<MoveId> {
        self.placement.place(&self.bytes).then_some(self.id)
    }

    /// The last chunk of a state of `len` bytes, with as many bytes as `bytes` has.
    #[cfg(test)]
    pub(super) fn only_one(id: MoveId, len: u64, bytes: Bytes, now: tokio::time::Instant) -> Self {
        let mut arriving = crate::snapshot::SnapshotReassembler::new(len, std::time::Duration::from_secs(30));
        arriving.reserve(transfer(&id), len, now).expect("new");
        let accepted = usize::try_from(len).expect("a small state");
        let placement = arriving.accept(transfer(&id), 0, 1, accepted, now).expect("granted").expect("new");
        Self { id, placement, bytes }
    }
}

/// What a source vouches for its snapshot with.
pub(super) struct Seal {
    pub(super) digest: SnapshotDigest,
    pub(super) signature: Signature,
    pub(super) envelope: Option<Vec<u8>>,
}

impl Engine {
    /// The recorded source asks for room for the whole state.
    pub(super) fn on_reserve(
        &mut self,
        from: NodeId,
        id: MoveId,
        orchestrator: NodeId,
        (total, claim): (u64, &[u8]),
        now: Now,
    ) {
        self.choose_place(&id, from, orchestrator);
        let meant = |arrival: &&mut Arrival| arrival.target.id == id && arrival.target.orchestrator == orchestrator;
        let known = self.arrivals.get_mut(&id.entity).filter(meant);
        let Some(arrival) = known else {
            // Another migration of this daemon took its place here: the source need not wait for a grant.
            if self.arrived.of(&id).is_none() {
                self.say(from, &MigrationMessage::MigrationFailed { id, reason: FailureReason::AlreadyMigrating });
            }
            return;
        };
        if arrival.target.source != from || !arrival.target.reserve(now.instant) {
            return;
        }
        let host = self.peers.get(from).map(|peer| peer.identity.entity);
        let checked = Claim::decode(claim).ok().filter(|claim| {
            let body = claim.body();
            body.entity == id.entity && body.epoch == id.epoch && Some(body.host) == host
        });
        let Some(claim) = checked else {
            self.refuse(from, "claim", &"it does not show that the source hosts the daemon");
            let detail = "the source's claim does not hold".to_owned();
            return self.arrival_input(id.entity, now, |target| target.fail(FailureReason::StateFailed { detail }));
        };
        let outlived = self.pointers.claim(id.entity.origin_hash()).filter(|known| {
            let known = known.body();
            known.entity == id.entity && known.min_epoch > id.epoch
        });
        if let Some(known) = outlived.filter(|known| !self.is_dead(known)).cloned() {
            // The source cannot have heard of it yet.
            self.say_claim(from, &known);
            let detail = "the daemon was taken over elsewhere".to_owned();
            return self.arrival_input(id.entity, now, |target| target.fail(FailureReason::StateFailed { detail }));
        }
        if let Some(arrival) = self.arrivals.get_mut(&id.entity) {
            arrival.claim = Some(claim);
        }
        // The source has decided whose move it is.
        self.give_up_places(&id.entity, &FailureReason::AlreadyMigrating, |_| true);
        if !self.asks_about_size(from, &id, total, now) {
            self.make_room(from, &id, total, now);
        }
    }

    /// Reserves room for a state, or has its source wait for some.
    pub(super) fn make_room(&mut self, source: NodeId, id: &MoveId, total: u64, now: Now) {
        match self.reassembler.reserve(transfer(id), total, now.instant) {
            Ok(Reservation::Granted) => self.arrival_input(id.entity, now, Target::granted),
            Ok(Reservation::Waiting) => {}
            Ok(Reservation::TooLarge { size, max }) => {
                let reason = FailureReason::SnapshotTooLarge { size, max };
                self.arrival_input(id.entity, now, |target| target.fail(reason));
            }
            Err(ReassembleError::TooManyTransfers(_)) => {
                self.arrival_input(id.entity, now, |target| target.fail(FailureReason::NotReady));
            }
            Err(error) => self.refuse(source, "reservation", &error),
        }
        self.timers.sweep_later(now);
        // Feeding forgets silent transfers, so room may have come free for others.
        self.reassembler_events(now);
    }

    /// Room came free: those who wait for it are granted theirs, in their order.
    pub(super) fn free_room(&mut self, id: &MoveId, now: Now) {
        self.reassembler.release(transfer(id));
        self.reassembler_events(now);
    }

    fn reassembler_events(&mut self, now: Now) {
        while let Some(event) = self.reassembler.poll_event() {
            let (ReassemblerEvent::Granted(id) | ReassemblerEvent::Dropped(id)) = event;
            let about = self.arrivals.iter().find(|(_, arrival)| transfer(&arrival.target.id) == id);
            let Some(entity) = about.map(|(entity, _)| *entity) else { continue };
            match event {
                ReassemblerEvent::Granted(_) => self.arrival_input(entity, now, Target::granted),
                // Its bytes are gone: a target that something else keeps alive must not wait for the rest.
                ReassemblerEvent::Dropped(_) => self.arrival_input(entity, now, |target| {
                    target.fail(FailureReason::Timeout { detail: "no state arrived".into() })
                }),
            }
        }
    }

    /// The source is at work: what it has reserved or begun to send is waited for.
    pub(super) fn touch_transfer(&mut self, from: NodeId, id: &MoveId, now: Now) {
        if self.arrivals.get(&id.entity).is_some_and(|a| a.target.id == *id && a.target.source == from) {
            self.reassembler.touch(transfer(id), now.instant);
        }
    }

    /// Forgets transfers that are silent, so that those behind them get their room though nobody feeds.
    pub(super) fn sweep_arrivals(&mut self, now: Now) {
        self.reassembler.sweep(now.instant);
        self.reassembler_events(now);
    }

    /// A piece of the state.
    pub(super) fn on_chunk(&mut self, from: NodeId, id: MoveId, place: (u32, u32), bytes: Bytes, now: Now) {
        let Some(arrival) = self.arrivals.get_mut(&id.entity) else { return };
        if arrival.target.id != id || arrival.target.source != from || arrival.target.state != TargetState::Receiving {
            return;
        }
        arrival.target.heard(now.instant);
        self.note_state_bytes();
        let (index, total) = place;
        match self.reassembler.accept(transfer(&id), index, total, bytes.len(), now.instant) {
            Ok(None) => {}
            Ok(Some(placement)) if total <= PLACED_AT_ONCE => {
                if placement.place(&bytes) {
                    self.placed(&id, now);
                }
            }
            Ok(Some(placement)) => self.placements.push(ChunkPlacement { id, placement, bytes }),
            Err(error) => self.refuse(from, "chunk", &error),
        }
        self.reassembler_events(now);
    }

    /// Takes the chunks of large states that arrived, to be put in their places while others use the engine.
    pub fn take_placements(&mut self) -> Vec<ChunkPlacement> {
        std::mem::take(&mut self.placements)
    }

    /// The last chunk of a state is in its place.
    pub fn placed(&mut self, id: &MoveId, now: Now) {
        // One that was given up meanwhile is not there any more.
        let Some(whole) = self.reassembler.take_whole(transfer(id)) else { return };
        if let Some(arrival) = self.arrivals.get_mut(&id.entity) {
            arrival.snapshot = Some(whole);
        }
        self.received(id.entity, now);
        self.settle_own(now);
    }

    /// The seal of the state.
    pub(super) fn on_snapshot_ready(
        &mut self,
        from: NodeId,
        id: MoveId,
        digest: [u8; 32],
        signature: [u8; 64],
        envelope: Option<&[u8]>,
        now: Now,
    ) {
        let Some(arrival) = self.arrivals.get_mut(&id.entity) else { return };
        if arrival.target.id != id || arrival.target.source != from || arrival.seal.is_some() {
            return;
        }
        let envelope = envelope.map(<[u8]>::to_vec);
        let digest = SnapshotDigest::from_bytes(digest);
        arrival.seal = Some(Seal { digest, signature: Signature::from_bytes(signature), envelope });
        self.received(id.entity, now);
    }

    fn received(&mut self, entity: EntityId, now: Now) {
        if self.arrivals.get(&entity).is_some_and(|arrival| arrival.snapshot.is_some() && arrival.seal.is_some()) {
            let timeout = self.arrivals.get(&entity).map(|arrival| arrival.config().callback_timeout);
            let timeout = timeout.unwrap_or_default();
            self.arrival_input(entity, now, |target| target.received(timeout, now.instant));
        }
    }
}

fn transfer(id: &MoveId) -> TransferId {
    let key = TransferKey { origin: id.entity.origin_hash(), migration: id.migration };
    TransferId { key, attempt: id.attempt }
}
