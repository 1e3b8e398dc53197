//! The hand-over on the side of the target: waiting events are staged, and run once the source has released the daemon.

use bytes::Bytes;

use super::arrivals::Arrival;
use super::engine::{Engine, Now};
use super::work::DaemonEvent;
use crate::channel::ChannelName;
use crate::daemon::{Delivery, Presence, ReplyTo};
use crate::directory::Claim;
use crate::events::{Held, InStream, Inbound};
use crate::identity::{EntityId, NodeId};
use crate::migration::{End, TargetState};
use crate::wire::codec;
use crate::wire::migration::{CopyState, FailureReason, MOST_HANDED_STREAMS, MigrationMessage, MoveId, Stage};

/// Most messages of waiting events that are held because one before them is missing.
const MOST_EARLY: usize = 4096;

/// Most waiting events that are taken over with a daemon.
const MOST_STAGED: usize = 1 << 20;
/// Most of their bytes. Those of all arriving daemons together may be as many as their states.
const MOST_STAGED_BYTES: usize = 256 * 1024 * 1024;

impl Engine {
    /// Waiting events of the daemon, to be staged in their order.
    pub(super) fn on_buffered(&mut self, from: NodeId, id: MoveId, first: u64, body: &Bytes, now: Now) {
        let Some(arrival) = self.arrivals.get_mut(&id.entity) else { return };
        let target = &arrival.target;
        if target.id != id || target.source != from || !matches!(target.state, TargetState::Staged { .. }) {
            return;
        }
        if first > target.staged {
            let known = arrival.early.get(&first).map_or(0, Bytes::len);
            let more = body.len().saturating_sub(known);
            if arrival.early.len() >= MOST_EARLY || more > self.room_for_staged(&id.entity) {
                return self.arrival_input(id.entity, now, |target| target.fail(FailureReason::BufferFull));
            }
            let Some(arrival) = self.arrivals.get_mut(&id.entity) else { return };
            arrival.early_bytes = arrival.early_bytes - known + body.len();
            arrival.early.insert(first, body.clone());
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
                arrival.early_bytes -= due.as_ref().map_or(0, Bytes::len);
            }
        }
    }

    /// How many more bytes are taken for a daemon that arrives, besides its state.
    pub(super) fn room_for_staged(&self, entity: &EntityId) -> usize {
        let staged_with = |arrival: &Arrival| {
            let undecided = arrival.target.copy() == CopyState::Undecided;
            if undecided { arrival.staged_bytes + arrival.early_bytes } else { 0 }
        };
        let own = self.arrivals.get(entity).map_or(0, staged_with);
        let all: usize = self.arrivals.values().map(staged_with).sum();
        let budget = usize::try_from(self.options.migration.arrival_budget).unwrap_or(usize::MAX);
        MOST_STAGED_BYTES.saturating_sub(own).min(budget.saturating_sub(all))
    }

    fn stage(&mut self, entity: EntityId, from: NodeId, body: &Bytes, now: Now) -> Result<(), FailureReason> {
        let Ok(MigrationMessage::BufferedEvents { first, streams, items, total, marks, ledger, .. }) =
            codec::decode(body)
        else {
            return Ok(());
        };
        self.timers.sweep_later(now);
        let Some(arrival) = self.arrivals.get(&entity) else { return Ok(()) };
        let (already, key) = (arrival.target.staged, arrival.key);
        let room = self.room_for_staged(&entity);
        let Some(slot) = key.and_then(|key| self.slot_mut(key)) else { return Ok(()) };
        // Those that came with the state, and those that the messages name.
        if slot.inbound.len() + streams.len() + marks.len() > 2 * MOST_HANDED_STREAMS {
            return Err(FailureReason::BufferFull);
        }
        let (mut staged, mut taken) = (already, 0);
        let known = slot.inbound.len();
        let began = |inbound: &Inbound| inbound.len().saturating_sub(known) * size_of::<InStream>();
        for (position, item) in (first..).zip(&items) {
            if position < already {
                continue;
            }
            let Some(id) = streams.get(item.stream as usize) else {
                return Err(FailureReason::StateFailed { detail: "a waiting event names no stream".into() });
            };
            let stream = slot.inbound.take_over(*id, from, now.instant);
            let channel = item.channel.map(ChannelName::new).transpose().map_err(|error| {
                FailureReason::StateFailed { detail: format!("a waiting event names no channel: {error}") }.bounded()
            })?;
            if let Held::Event { link, payload, call } = Held::from_wire(&item.item, body) {
                let delivery = Delivery {
                    link,
                    payload,
                    received_at: item.received_at,
                    channel: channel.map(|name| name.shared()),
                    reply: ReplyTo::Stream { stream, number: item.number, call },
                    expires: None,
                    accepted_at: now.instant,
                    withdrawn: false,
                };
                // The bounds here may be tighter, and what was handed out there and given back stands above them.
                taken += delivery.footprint();
                if slot.host.mailbox.len() >= MOST_STAGED || taken + began(&slot.inbound) > room {
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
        if let Some(ledger) = ledger {
            taken += ledger.len();
        }
        taken += began(&slot.inbound);
        if taken > room {
            return Err(FailureReason::BufferFull);
        }
        if let Some(ledger) = ledger {
            slot.host.ledger = Bytes::copy_from_slice(ledger);
        }
        if let Some(arrival) = self.arrivals.get_mut(&entity) {
            arrival.staged_bytes += taken;
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
            return match self.fate(&id) {
                CopyState::Active => self.say(from, &MigrationMessage::ActivateAck { id }),
                copy => self.say(from, &MigrationMessage::StatusAnswer { id, copy }),
            };
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

    /// What became of a copy whose arrival here is over.
    pub(super) fn fate(&self, id: &MoveId) -> CopyState {
        let origin = id.entity.origin_hash();
        let later = |entity: EntityId, epoch| entity == id.entity && epoch > id.epoch;
        let here = self.local(origin).ok().and_then(|key| self.slot(key));
        match self.arrived.of(id).or_else(|| self.departed.of(id)) {
            Some(End::Arrived | End::Left) => CopyState::Active,
            Some(End::Discarded | End::Kept) => CopyState::Discarded,
            None if here.is_some_and(|slot| later(slot.host.entity(), slot.host.epoch)) => CopyState::Active,
            None if self.pointers.get(origin).is_some_and(|p| later(p.entity, p.epoch)) => CopyState::Active,
            // That it lives here at the epoch of the move shows nothing: it may have been begun anew.
            None if self.arrived.is_complete() => CopyState::Discarded,
            None => CopyState::Gone,
        }
    }

    pub(super) fn activate(&mut self, entity: EntityId, now: Now) {
        let Some(arrival) = self.arrivals.get_mut(&entity) else { return };
        let (id, source, claim, key) = (arrival.target.id, arrival.target.source, arrival.claim.clone(), arrival.key);
        let origin = entity.origin_hash();
        let Some(key) = key else { return };
        let Some(slot) = self.slot_mut(key) else { return };
        slot.host.presence = Presence::Live;
        slot.host.progress_at = now.instant;
        if let Some(claim) = &claim {
            slot.host.epoch = claim.body().epoch;
            slot.host.min_epoch = claim.body().min_epoch;
        }
        let about = (origin, slot.host.kind.clone(), key);
        // With the key at hand a fresh claim is signed on first need; without it this chain of hand-overs is the proof.
        slot.claim = if slot.host.keypair.is_read_only() { claim } else { None };
        self.factories.take(origin);
        self.pointers.forget(origin);
        self.note_arrival(&id, source, Some(Stage::Complete), None);
        self.notice_daemon(DaemonEvent::MigratedIn, about);
        self.place(key, now);
        self.compare_arrived(origin, now);
        self.lead_home(key, now);
        self.go_on_receiving(key, true);
        self.pump(key, now);
        self.feed_all(key, now);
    }
}
