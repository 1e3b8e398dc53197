//! The way in: messages of event streams from other nodes, and from this one.

use std::time::Duration;

use bytes::Bytes;

use super::engine::{Engine, Now, Slot};
use super::replies::failed;
use super::timers::TimerKey;
use crate::daemon::{DaemonHost, DaemonKey, Delivery, ReplyTo, Standing};
use crate::directory::Pointer;
use crate::events::{Held, InStream, Refused};
use crate::identity::{EntityId, Epoch, NodeId};
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::events::{EventsMessage, FailureKind, Item, StreamId};

/// How often silent streams are looked for.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Marks of a sender that was silent for so long end.
const MARKS_KEPT: Duration = Duration::from_secs(600);
/// Most times that an event is sent on.
const MOST_HOPS: u8 = 4;
/// So many accepted events are told at once; fewer with the next reply, or a little later.
const TELL_AT: u64 = 256;

/// What a message has gone through.
#[derive(Clone, Copy)]
struct Passed {
    /// The highest epoch of the daemon that anyone on the way knew.
    epoch: Epoch,
    /// How often it was sent on.
    hops: u8,
}

/// The fields of a batch.
struct Batch<'b> {
    id: StreamId,
    passed: Passed,
    first: u64,
    items: Vec<Item<'b>>,
    through: u64,
}

/// What a stream gave to its daemon's mailbox.
#[derive(Default)]
struct Intake {
    /// Any event.
    accepted: bool,
    /// One whose sender waits for just that.
    sends: bool,
}

impl Intake {
    /// Accepts what is due on a stream, which `me` holds under a number, while the mailbox has room.
    fn take(
        &mut self,
        host: &mut DaemonHost,
        held: &mut InStream,
        (me, stream): (NodeId, u32),
        starved: &mut Vec<u32>,
        now: Now,
    ) {
        // Callers of this node get the next numbers of its stream when the daemon is handed over.
        if held.id.sender == me && matches!(host.standing, Standing::Frozen(_)) {
            return;
        }
        while host.accepts() {
            let Some(due) = held.ready() else { break };
            if let Held::Event { payload, .. } = due
                && !host.mailbox.has_room(payload.len())
            {
                if !starved.contains(&stream) {
                    starved.push(stream);
                }
                break;
            }
            let Some((number, due)) = held.accept() else { break };
            if let Held::Event { link, payload, call } = due {
                self.sends |= !call;
                self.accepted = true;
                let delivery = Delivery {
                    link,
                    payload,
                    received_at: now.unix_ns,
                    channel: None,
                    reply: ReplyTo::Stream { stream, number, call },
                    expires: None,
                    accepted_at: now.instant,
                };
                // There is room: it was looked for above.
                let taken = host.accept(delivery);
                debug_assert!(taken.is_ok());
            }
        }
    }
}

impl Engine {
    /// A message of the event streams.
    pub(super) fn on_events(&mut self, from: NodeId, body: &Bytes, now: Now) {
        let message = match codec::decode::<EventsMessage<'_>>(body) {
            Ok(message) => message,
            Err(error) => return self.refuse(from, "event message", &error),
        };
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
                self.on_withdraw(from, &stream, Passed { epoch, hops }, number);
            }
            EventsMessage::Accepted { stream, through } => {
                if !self.pass_back(&stream, body) {
                    self.on_answers(&stream, through, &[], body, now);
                }
            }
            EventsMessage::Replies { stream, through, replies } => {
                if !self.pass_back(&stream, body) {
                    self.on_answers(&stream, through, &replies, body, now);
                }
            }
            EventsMessage::Moved { stream, node, epoch } => {
                if !self.pass_back(&stream, body) {
                    self.on_moved(&stream, node, epoch, now);
                }
            }
            EventsMessage::Unknown { stream, first } => {
                if !self.pass_back(&stream, body) {
                    self.on_unknown(&stream, from, first, now);
                }
            }
            EventsMessage::Close { stream } => {
                if let Some(key) = self.host_of(&stream.entity)
                    && let Some(slot) = self.slot_mut(key)
                    && slot.host.may_end_streams()
                {
                    slot.inbound.close(&stream);
                }
            }
        }
    }

    /// An answer for another node that reaches its sender only through this one.
    fn pass_back(&mut self, stream: &StreamId, body: &Bytes) -> bool {
        if stream.sender == self.me() {
            return stream.incarnation != self.node.incarnation;
        }
        if self.peers.is_up(stream.sender) {
            self.send_any_size(stream.sender, Subprotocol::Events, body.to_vec());
        }
        true
    }

    fn host_of(&self, entity: &EntityId) -> Option<DaemonKey> {
        let key = self.by_origin.get(&entity.origin_hash()).copied()?;
        self.slot(key).filter(|slot| slot.host.entity() == *entity).map(|slot| slot.host.key)
    }

    fn on_batch(&mut self, from: NodeId, body: &Bytes, batch: Batch<'_>, now: Now) {
        let Batch { id, passed, first, items, through } = batch;
        let Some(key) = self.stands_here(&id) else {
            return self.forward(from, &id, passed, |Passed { epoch, hops }| EventsMessage::Batch {
                stream: id,
                epoch,
                hops,
                first,
                items,
                replies_through: through,
            });
        };
        let me = self.me();
        let Some(slot) = self.slot_mut(key) else { return };
        if slot.host.may_end_streams() && first == 1 && slot.inbound.find(&id).is_none() {
            slot.inbound.end_older(&id);
        }
        let stream = match slot.inbound.open(id, from, first, now.instant) {
            Ok(stream) => stream,
            Err(Refused::Unknown | Refused::BeyondWindow) => return self.say_unknown(from, &id, first),
        };
        let Slot { host, inbound, starved, .. } = slot;
        let Some(held) = inbound.get_mut(stream) else { return };
        held.acknowledge(through);
        let mut intake = Intake::default();
        let mut refused = false;
        for (number, item) in (first..).zip(Held::all_from_wire(&items, body)) {
            if held.offer(number, item).is_err() {
                refused = true;
                break;
            }
            // One by one, so that what comes in its order is never stored.
            intake.take(host, held, (me, stream), starved, now);
        }
        self.took_in(key, stream, intake, now);
        if refused {
            self.refuse(from, "event", &"beyond the window of its stream");
        }
    }

    /// The daemon of a stream, when this node is, or is about to be, its host in that life.
    fn stands_here(&self, id: &StreamId) -> Option<DaemonKey> {
        let key = self.host_of(&id.entity)?;
        let host = &self.slot(key)?.host;
        let here = match host.standing {
            // What comes before an arriving daemon is live is held in its streams.
            Standing::Live
            | Standing::Freezing(_)
            | Standing::Frozen(_)
            | Standing::Closed(_)
            | Standing::Arriving(_) => true,
            Standing::Starting | Standing::Released(_) => false,
        };
        (here && host.lineage == id.lineage).then_some(key)
    }

    /// Accepts what is due on a stream while the mailbox has room.
    pub(super) fn feed(&mut self, key: DaemonKey, stream: u32, now: Now) {
        let me = self.me();
        let Some(slot) = self.slot_mut(key) else { return };
        let Slot { host, inbound, starved, .. } = slot;
        let Some(held) = inbound.get_mut(stream) else { return };
        let mut intake = Intake::default();
        intake.take(host, held, (me, stream), starved, now);
        self.took_in(key, stream, intake, now);
    }

    /// Tells of what was accepted, and has it run.
    fn took_in(&mut self, key: DaemonKey, stream: u32, Intake { accepted, sends }: Intake, now: Now) {
        let held = self.slot(key).and_then(|slot| slot.inbound.get(stream));
        let untold = held.map_or(0, InStream::untold);
        if untold > 0 {
            if sends || untold >= TELL_AT {
                self.answer(key, stream);
            } else {
                self.untold_streams.insert((key, stream));
                self.timers.arm(TimerKey::Acknowledge, now.instant + super::routes::ACKNOWLEDGE_AFTER);
            }
        }
        if accepted {
            self.pump(key, now);
        }
    }

    /// The mailbox has room again.
    pub(super) fn feed_starved(&mut self, key: DaemonKey, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        if slot.starved.is_empty() {
            return;
        }
        for stream in std::mem::take(&mut slot.starved) {
            self.feed(key, stream, now);
        }
    }

    /// Offers everything that streams hold, after a hand-over that did not take place.
    pub(super) fn feed_all(&mut self, key: DaemonKey, now: Now) {
        let Some(slot) = self.slot(key) else { return };
        let streams: Vec<u32> = slot.inbound.iter().map(|(stream, _)| stream).collect();
        for stream in streams {
            self.feed(key, stream, now);
        }
    }

    /// A stream has something to tell its sender.
    pub(super) fn answer(&mut self, key: DaemonKey, stream: u32) {
        let me = self.me();
        let Some(held) = self.slot(key).and_then(|slot| slot.inbound.get(stream)) else { return };
        let to = self.way_to(held.id.sender, held.via);
        if to == me {
            self.own_answers.push((key, stream));
        } else if let Some(peer) = self.peers.up(to) {
            if !peer.answers.contains(&(key, stream)) {
                peer.answers.push_back((key, stream));
            }
            self.wakes.insert(to);
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
            return self.forward(from, id, passed, |Passed { epoch, hops }| EventsMessage::Await {
                stream: *id,
                epoch,
                hops,
                replies_through: through,
                repeat,
            });
        };
        let Some(slot) = self.slot_mut(key) else { return };
        // Only a stream that was begun has replies; one that was not is not begun by asking.
        let Some(stream) = slot.inbound.find(id) else {
            if repeat {
                self.say_unknown(from, id, 0);
            }
            return;
        };
        let Some(held) = slot.inbound.get_mut(stream) else { return };
        held.heard_at = now.instant;
        held.via = from;
        held.acknowledge(through);
        if repeat {
            held.repeat();
            self.answer(key, stream);
        }
        // Room for kept replies may have come free.
        self.feed(key, stream, now);
    }

    fn on_withdraw(&mut self, from: NodeId, id: &StreamId, passed: Passed, number: u64) {
        let Some(key) = self.stands_here(id) else {
            return self.forward(from, id, passed, |Passed { epoch, hops }| EventsMessage::Withdraw {
                stream: *id,
                epoch,
                hops,
                number,
            });
        };
        let Some(slot) = self.slot_mut(key) else { return };
        // What is handed over may be staged on the target already: there it stays once accepted.
        if !slot.host.may_withdraw() {
            return;
        }
        let Some(stream) = slot.inbound.find(id) else { return };
        let out = slot.host.withdraw(|delivery| {
            matches!(delivery.reply, ReplyTo::Stream { stream: s, number: n, .. } if s == stream && n == number)
        });
        if !out.is_empty() {
            if let Some(held) = slot.inbound.get_mut(stream) {
                held.keep(failed(number, FailureKind::Withdrawn, "withdrawn before it began"));
            }
            self.answer(key, stream);
        }
    }

    fn say_unknown(&mut self, to: NodeId, id: &StreamId, first: u64) {
        let body = codec::encode(&EventsMessage::Unknown { stream: *id, first });
        self.send(to, Subprotocol::Events, body);
    }

    /// Where a daemon went that is not here, if the message does not come from a later time than that is known of.
    fn pointer_for(&self, id: &StreamId, epoch: Epoch) -> Option<Pointer> {
        let pointer = self.pointers.get(id.entity.origin_hash())?;
        (pointer.entity == id.entity && pointer.lineage == id.lineage && pointer.epoch > epoch).then_some(*pointer)
    }

    // Tells the sender where the daemon lives, and sends the message on for one that cannot reach it.
    fn forward<'b>(
        &mut self,
        from: NodeId,
        id: &StreamId,
        passed: Passed,
        message: impl FnOnce(Passed) -> EventsMessage<'b>,
    ) {
        let Some(pointer) = self.pointer_for(id, passed.epoch) else {
            if passed.hops == 0 {
                self.say_unknown(from, id, 0);
            }
            return;
        };
        if self.way_to(id.sender, from) == id.sender {
            let moved = EventsMessage::Moved { stream: *id, node: pointer.node, epoch: pointer.epoch };
            self.send(id.sender, Subprotocol::Events, codec::encode(&moved));
        }
        if passed.hops < MOST_HOPS && self.peers.is_up(pointer.node) {
            let next = Passed { epoch: pointer.epoch, hops: passed.hops + 1 };
            self.send_any_size(pointer.node, Subprotocol::Events, codec::encode(&message(next)));
        } else if passed.hops == 0 && self.peers.get(pointer.node).is_none() {
            // Its host is given up: who was told above and reaches that host all the same is on its way there already.
            self.say_unknown(from, id, 0);
        }
    }

    /// Ends the marks of senders that were not heard for long, and streams that nobody uses.
    pub(super) fn sweep_streams(&mut self, now: Now) {
        for (_, slot) in self.daemons.iter_mut().filter(|(_, slot)| slot.host.may_end_streams()) {
            slot.inbound.retain(|stream| stream.heard_at + MARKS_KEPT > now.instant);
        }
        self.sweep_routes(now.instant);
        self.timers.arm(TimerKey::Sweep, now.instant + SWEEP_EVERY);
    }

    /// A message that could not be read, or that its sender may not send.
    pub(super) fn refuse(&mut self, from: NodeId, what: &'static str, why: &dyn std::fmt::Display) {
        self.refused += 1;
        tracing::warn!(peer = %from, what, %why, "refused a message");
    }
}
