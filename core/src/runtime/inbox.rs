//! The way in: messages of event streams from other nodes, and from this one.

use std::time::Duration;

use bytes::Bytes;

use super::engine::{Engine, Now, Slot};
use super::intake::{Source, takes};
use super::replies::{NOT_BEGUN, failed};
use super::rerouting::Refusal;
use super::work::Work;
use crate::daemon::{DaemonKey, Delivery, Presence, ReplyTo};
use crate::events::Held;
use crate::identity::{EntityId, Epoch, NodeId, RuntimeLife};
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::events::{Answers, Course, EventsMessage, FailureKind, Item, Missing, StreamId};

/// Marks of a sender that was silent for so long end. One that waits reminds its host more often than that, and gives up
/// sooner when it cannot.
pub(super) const MARKS_KEPT: Duration = Duration::from_secs(600);

/// What a message has gone through.
#[derive(Clone, Copy)]
pub(super) struct Passed {
    /// The highest epoch of the daemon that anyone on the way knew.
    pub(super) epoch: Epoch,
    /// How often it was sent on.
    pub(super) hops: u8,
}

/// The fields of a batch.
struct Batch<'b> {
    id: StreamId,
    passed: Passed,
    first: u64,
    items: Vec<Item<'b>>,
    through: u64,
}

impl Engine {
    /// A message of the event streams.
    pub(super) fn on_events(&mut self, from: NodeId, body: &Bytes, now: Now) {
        let message = match codec::decode::<EventsMessage<'_>>(body) {
            Ok(message) => message,
            Err(error) => return self.refuse(from, "event message", &error),
        };
        match message.course() {
            // A session proves which node speaks: what was not sent on comes from its sender.
            Course::ToHost if message.hops() == 0 && message.stream().sender != from => {
                return self.refuse(from, "event message", &"in the name of another node");
            }
            Course::ToSender | Course::Back if message.stream().sender != self.me() => {
                return self.send_back(from, message);
            }
            Course::ToSender | Course::Back if !self.knows_name(from, message.stream()) => return,
            Course::ToHost | Course::ToSender | Course::Back => {}
        }
        match message {
            EventsMessage::Batch { stream, epoch, hops, first, items, replies_through } => {
                let passed = Passed { epoch, hops };
                let batch = Batch { id: stream, passed, first, items, through: replies_through };
                self.on_batch(from, body, batch, now);
            }
            EventsMessage::Await { stream, epoch, hops, replies_through, repeat } => {
                self.on_await(from, &stream, Passed { epoch, hops }, replies_through, repeat, now);
            }
            EventsMessage::Withdraw { stream, epoch, hops, number } => {
                self.on_withdraw(from, &stream, Passed { epoch, hops }, number, now);
            }
            EventsMessage::Accepted { stream, through, .. } => self.on_answers(&stream, through, &[], body, now),
            EventsMessage::Replies { stream, through, replies, .. } => {
                self.on_answers(&stream, through, &replies, body, now);
            }
            EventsMessage::Moved { stream, node, epoch, .. } => self.on_told_moved(from, &stream, node, epoch, now),
            EventsMessage::Unknown { stream, missing, accepted, answers, .. } => {
                self.on_unknown(&stream, from, Refusal { missing, accepted, answers }, now);
            }
            EventsMessage::Again { stream, .. } => self.on_again(&stream, from, now),
            EventsMessage::Full { stream, .. } => self.on_full(&stream, from),
            EventsMessage::Astray { stream, .. } => self.on_astray(&stream, from, now),
            EventsMessage::Close { stream } => {
                if let Some(key) = self.host_of(&stream.entity)
                    && let Some(slot) = self.slot_mut(key)
                    && slot.host.owns_waiting()
                {
                    slot.inbound.close(&stream);
                    self.feed_waiting(key, now);
                    self.go_on(key, now);
                }
            }
        }
    }

    fn host_of(&self, entity: &EntityId) -> Option<DaemonKey> {
        let key = self.by_origin.get(&entity.origin_hash()).copied()?;
        self.slot(key).filter(|slot| slot.host.entity() == *entity).map(|slot| slot.host.key)
    }

    fn on_batch(&mut self, from: NodeId, body: &Bytes, batch: Batch<'_>, now: Now) {
        let Batch { id, passed, first, items, through } = batch;
        let Some(key) = self.stands_here(&id) else {
            return self.forward(from, &id, passed, now, |Passed { epoch, hops }| EventsMessage::Batch {
                stream: id,
                epoch,
                hops,
                first,
                items,
                replies_through: through,
            });
        };
        let reach = (first, first.saturating_add(items.len() as u64).saturating_sub(1));
        if self.refuse_in_doubt(from, &id, reach.1) {
            return;
        }
        let known = self.slot(key).and_then(|slot| slot.inbound.find(&id));
        let Some(stream) = known.or_else(|| self.begin_stream(key, from, &id, passed, reach, now)) else { return };
        self.heard(key, stream, from, now);
        let me = self.me();
        let Some(Slot { host, inbound, waiting, .. }) = self.slot_mut(key) else { return };
        let Some(held) = inbound.get_mut(stream) else { return };
        held.acknowledge(through);
        let takes = takes(host, held, me);
        let mut intake = waiting.intake(stream);
        let mut waits = false;
        let mut refused = false;
        let known = usize::try_from(held.next().saturating_sub(first)).unwrap_or(usize::MAX).min(items.len());
        for (number, item) in (first + known as u64..).zip(Held::all_from_wire(&items[known..], body)) {
            // What comes in its order is not stored.
            if takes && intake.has_room(host, item.weight()) && held.pass(number) {
                intake.enter(host, item, (stream, number), now);
                continue;
            }
            if held.offer(number, item.alone()).is_err() {
                refused = true;
                break;
            }
            waits = intake.take(host, held, (me, stream), now);
            if !held.keeps(number) {
                break;
            }
        }
        if held.lacks().is_some() {
            waits = intake.take(host, held, (me, stream), now);
        }
        waiting.came_in(stream, &intake);
        if waits {
            waiting.enter(Source::Stream(stream));
        }
        self.took_in(key, stream, &intake, now);
        self.feed_waiting(key, now);
        self.go_on(key, now);
        if refused {
            self.refuse(from, "event", &"beyond the window of its stream");
        }
    }

    /// Begins a stream that is not known here.
    fn begin_stream(
        &mut self,
        key: DaemonKey,
        from: NodeId,
        id: &StreamId,
        passed: Passed,
        (first, last): (u64, u64),
        now: Now,
    ) -> Option<u32> {
        if self.speaks_for_itself(key, id, passed, now) {
            return None;
        }
        if first != 1 {
            let (missing, answers) = (Missing::before(first), Answers::batch_to(last));
            self.say_unknown(from, id, Refusal { missing, accepted: self.accepted_of_unknown(), answers });
            return None;
        }
        let slot = self.slot_mut(key)?;
        // What was sent before its sender gave it up may have run when it was known here.
        if slot.inbound.is_over(id) {
            self.say_unknown(from, id, Refusal::UNSURE);
            return None;
        }
        if slot.host.owns_waiting() {
            slot.inbound.end_older(id, from);
        }
        let begun = slot.inbound.begin(*id, from, now.instant);
        self.timers.sweep_later(now);
        if begun.is_none() {
            self.refuse(from, "event stream", &"it began too many to one daemon");
            self.send(from, Subprotocol::Events, codec::encode(&EventsMessage::Full { stream: *id, hops: 0 }));
        }
        begun
    }

    /// Whether the sender of a stream that somebody else sent on is in reach: then nobody begins that stream in its name, and it
    /// is told where the daemon is.
    fn speaks_for_itself(&mut self, key: DaemonKey, id: &StreamId, passed: Passed, now: Now) -> bool {
        let in_reach = passed.hops > 0 && (id.sender == self.me() || self.peers.is_up(id.sender));
        if in_reach {
            self.say_here(key, id, passed, now);
        }
        in_reach
    }

    /// Tells a sender in reach that the daemon is here.
    fn say_here(&mut self, key: DaemonKey, id: &StreamId, passed: Passed, now: Now) {
        let Some(slot) = self.slot(key) else { return };
        let epoch = match slot.host.presence {
            // Its own epoch is that of its last host.
            Presence::Arriving(_) => passed.epoch,
            Presence::Starting
            | Presence::Live
            | Presence::Freezing(_)
            | Presence::Frozen(_)
            | Presence::Closed(_)
            | Presence::Released(_) => slot.host.epoch,
        };
        let me = self.me();
        if id.sender == me {
            self.on_moved(id, me, epoch, now);
        } else {
            let moved = EventsMessage::Moved { stream: *id, node: me, epoch, hops: 0 };
            self.send(id.sender, Subprotocol::Events, codec::encode(&moved));
        }
    }

    /// A sender spoke through a peer, which answers for what is held from here on.
    fn heard(&mut self, key: DaemonKey, stream: u32, via: NodeId, now: Now) {
        let Some(held) = self.slot_mut(key).and_then(|slot| slot.inbound.get_mut(stream)) else { return };
        if !held.heard(via, now.instant) {
            let account = self.accounts.of(via);
            if let Some(held) = self.slot_mut(key).and_then(|slot| slot.inbound.get_mut(stream)) {
                held.comes_through(via, account);
            }
        }
    }

    /// The daemon of a stream, when this node is, or is about to be, its host in that life.
    pub(super) fn stands_here(&self, id: &StreamId) -> Option<DaemonKey> {
        let key = self.host_of(&id.entity)?;
        let host = &self.slot(key)?.host;
        let here = match host.presence {
            // What comes before an arriving daemon is live is held in its streams.
            Presence::Live
            | Presence::Freezing(_)
            | Presence::Frozen(_)
            | Presence::Closed(_)
            | Presence::Arriving(_) => true,
            Presence::Starting | Presence::Released(_) => false,
        };
        (here && host.lineage == id.lineage).then_some(key)
    }

    /// A stream has something to tell its sender.
    pub(super) fn answer(&mut self, key: DaemonKey, stream: u32) {
        let me = self.me();
        let Some(held) = self.slot(key).and_then(|slot| slot.inbound.get(stream)).filter(|held| !held.queued) else {
            return;
        };
        let to = self.way_to(held.id.sender, held.via);
        if to == me {
            self.own_answers.push((key, stream));
        } else if let Some(peer) = self.peers.up(to) {
            peer.answers.push((key, stream));
            self.wakes.insert(to);
            if let Some(held) = self.slot_mut(key).and_then(|slot| slot.inbound.get_mut(stream)) {
                held.queued = true;
            }
        }
    }

    /// Tells the senders and hosts of streams what was not told on the way.
    pub(super) fn acknowledge_all(&mut self) {
        for origin in std::mem::take(&mut self.untold_routes) {
            self.has_unsent(origin);
        }
        for (key, stream) in std::mem::take(&mut self.untold_streams) {
            self.answer(key, stream);
        }
    }

    fn on_await(&mut self, from: NodeId, id: &StreamId, passed: Passed, through: u64, repeat: bool, now: Now) {
        let Some(key) = self.stands_here(id) else {
            return self.forward(from, id, passed, now, |Passed { epoch, hops }| EventsMessage::Await {
                stream: *id,
                epoch,
                hops,
                replies_through: through,
                repeat,
            });
        };
        // Only a stream that was begun has replies; one that was not is not begun by asking.
        let Some(stream) = self.slot(key).and_then(|slot| slot.inbound.find(id)) else {
            // What it sent before this was not begun either.
            if self.speaks_for_itself(key, id, passed, now) {
                return;
            }
            let arrives = self.slot(key).is_some_and(|slot| matches!(slot.host.presence, Presence::Arriving(_)));
            if repeat {
                self.say_unknown(from, id, Refusal { accepted: self.accepted_of_unknown(), ..Refusal::UNSURE });
            } else if !arrives {
                // What was said when it ended did not get there; of one that arrives, its streams may not be here yet.
                self.say_unknown(from, id, Refusal::UNSURE);
            }
            return;
        };
        self.heard(key, stream, from, now);
        let Some(held) = self.slot_mut(key).and_then(|slot| slot.inbound.get_mut(stream)) else { return };
        held.acknowledge(through);
        if repeat {
            held.repeat();
            self.answer(key, stream);
        }
        // Room for kept replies may have come free.
        self.feed(key, stream, now);
        self.go_on(key, now);
    }

    fn on_withdraw(&mut self, from: NodeId, id: &StreamId, passed: Passed, number: u64, now: Now) {
        let Some(key) = self.stands_here(id) else {
            return self.forward(from, id, passed, now, |Passed { epoch, hops }| EventsMessage::Withdraw {
                stream: *id,
                epoch,
                hops,
                number,
            });
        };
        let Some(Slot { host, inbound, .. }) = self.slot_mut(key) else { return };
        let Some(stream) = inbound.find(id) else { return };
        let Some(held) = inbound.get_mut(stream) else { return };
        let is_call = matches!(held.held(number), Some(Held::Event { call: true, .. }));
        if held.give_up(number) {
            // Whoever sent it is told when it is sure that it will not run; a caller does not wait for that.
            if !is_call && matches!(held.held(number), Some(Held::Skip)) {
                let reply = failed(number, FailureKind::Withdrawn, "withdrawn before it was accepted");
                let (id, through, via) = (held.id, held.accepted(), held.via);
                let message = EventsMessage::Replies { stream: id, through, replies: vec![reply.as_wire()], hops: 0 };
                let body = codec::encode(&message);
                self.send(self.way_to(id.sender, via), Subprotocol::Events, body);
            }
            return self.feed(key, stream, now);
        }
        // What was only sent has been accepted, and its sender hears that. What is handed over may be staged on the target
        // already: there it stays once accepted.
        if !host.owns_waiting() {
            return;
        }
        let its = |delivery: &Delivery| delivery.reply == ReplyTo::Stream { stream, number, call: true };
        if !host.withdraw(its).is_empty() {
            held.keep(failed(number, FailureKind::Withdrawn, NOT_BEGUN));
            self.answer(key, stream);
            self.room_came_free(key);
        } else if host.withdraw_handed_out(its) {
            self.work.push(Work::Yield { daemon: key });
        }
    }

    /// Tells that a stream leads nowhere here, and what was accepted of it.
    pub(super) fn say_unknown(&mut self, to: NodeId, id: &StreamId, refusal: Refusal) {
        self.send(to, Subprotocol::Events, codec::encode(&refusal.of(id)));
    }

    /// What is known to be accepted here of a stream that is not known: nothing, unless a former runtime of this node, of which
    /// this one knows nothing either, did so.
    pub(super) fn accepted_of_unknown(&self) -> Option<u64> {
        (self.node.runtime == RuntimeLife::FIRST).then_some(0)
    }

    /// Ends the marks of senders that were not heard for long.
    pub(super) fn sweep_streams(&mut self, now: Now) {
        for (_, slot) in self.daemons.iter_mut().filter(|(_, slot)| slot.host.owns_waiting()) {
            slot.inbound.retain(|stream| stream.heard_at + MARKS_KEPT > now.instant);
        }
        // Those whose replies there was no room for may be among them, or for whom others waited.
        let all: Vec<DaemonKey> = self.daemons.iter().map(|(_, slot)| slot.host.key).collect();
        for key in all {
            self.feed_waiting(key, now);
            self.go_on(key, now);
        }
        self.accounts.forget_unused();
    }

    /// A message that could not be read, or that its sender may not send.
    pub(super) fn refuse(&mut self, from: NodeId, what: &'static str, why: &dyn std::fmt::Display) {
        self.refused += 1;
        tracing::warn!(peer = %from, what, %why, "refused a message");
    }
}
