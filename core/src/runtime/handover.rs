//! The hand-over of a leaving daemon: staging what waits, closing the mailbox, the decision, and its three ends.

use std::collections::VecDeque;

use super::departures::Departure;
use super::engine::{Engine, Now};
use super::error::RuntimeError;
use super::peers::BulkMessage;
use super::routes::Route;
use super::timers::TimerKey;
use super::work::{DaemonEvent, Role, Settlement, StopReason, Work};
use crate::daemon::{Control, DaemonKey, Presence, ReplyTo, Ticket};
use crate::directory::{Claim, ClaimBody, ClaimError};
use crate::events::{OutItem, OutStream, Outgoing};
use crate::identity::{EntityId, Epoch, NodeId, OriginHash};
use crate::migration::{End, MigrationFailure, Outcome};
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::events::{Event, EventsMessage, Item, StreamId};
use crate::wire::migration::{FailureReason, MOST_STAGED_TOGETHER, MigrationMessage, Stage, StagedItem, StreamMark};

/// Payload bytes after which a message of waiting events is sent.
const SHIP_BYTES: usize = 16 * 1024;
/// Held events of this node while its daemon's mailbox is closed.
const MOST_HELD: usize = 4096;
/// Most of their payload bytes; a single event may be larger.
const MOST_HELD_BYTES: usize = 16 * 1024 * 1024;

impl Engine {
    /// Sends waiting events that were not sent yet to be staged.
    pub(super) fn ship(&mut self, entity: EntityId, last: bool) {
        let Some(departure) = self.departures.get(&entity) else { return };
        let (id, key, target) = (departure.source.id, departure.key, departure.source.target);
        let mut shipped = departure.source.shipped;
        let ledger = departure.ledger.clone();
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
            while items.len() < MOST_STAGED_TOGETHER && (items.is_empty() || bytes < SHIP_BYTES) {
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
                    channel: delivery.channel.as_deref(),
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
            let ledger = total.map(|_| &*ledger);
            let message = MigrationMessage::BufferedEvents { id, first, streams, items, total, marks, ledger };
            bodies.push(codec::encode(&message));
            if done {
                break;
            }
        }
        // In one queue, so that they arrive in order whatever their size.
        if let Some(peer) = self.peers.up(target) {
            for body in bodies {
                peer.push_bulk(BulkMessage::of_move(body));
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
    pub(super) fn close_mailbox(&mut self, entity: EntityId, now: Now) {
        let Some(departure) = self.departures.get(&entity) else { return };
        let (id, key, target) = (departure.source.id, departure.key, departure.source.target);
        match self.next_claim(key, target) {
            Ok(claim) => {
                if let Some(departure) = self.departures.get_mut(&entity) {
                    departure.claim = Some(claim);
                }
                if let Some(slot) = self.slot_mut(key) {
                    slot.host.presence = Presence::Closed(id.migration);
                }
                let ledger = self.close_subscriptions(key);
                if let Some(departure) = self.departures.get_mut(&entity) {
                    departure.ledger = ledger;
                }
            }
            Err(error) => {
                let detail = format!("cannot name the next host: {error}");
                self.departure_input(entity, now, |source| {
                    source.failed(FailureReason::IdentityTransportFailed { detail })
                });
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
        let Some((entity, departure)) = self.departures.of_mut(origin) else {
            return Err(RuntimeError::MailboxFull(origin));
        };
        let bytes = departure.held_bytes + outgoing.payload.len();
        let fits = departure.held.len() < MOST_HELD && bytes <= MOST_HELD_BYTES;
        if !fits && !departure.held.is_empty() {
            return Err(RuntimeError::MailboxFull(origin));
        }
        if let Some(expires) = outgoing.expires {
            self.timers.arm(TimerKey::Departure(entity), expires.at);
        }
        departure.held.push_back(outgoing);
        departure.held_bytes = bytes;
        Ok(())
    }

    /// How many more events of this node are held for a daemon that is handed over, and how many more bytes of them.
    pub(super) fn hand_over_room(&self, origin: OriginHash) -> Option<(usize, usize)> {
        let departure = self.departures.of(origin)?;
        Some((MOST_HELD - departure.held.len(), MOST_HELD_BYTES.saturating_sub(departure.held_bytes)))
    }

    /// A caller of this node gave up an event that is held.
    pub(super) fn withdraw_held(&mut self, ticket: Ticket, origin: OriginHash) {
        if let Some((_, departure)) = self.departures.of_mut(origin) {
            let at = departure.held.iter().position(|outgoing| outgoing.ticket == ticket);
            if let Some(outgoing) = at.and_then(|at| departure.held.remove(at)) {
                departure.held_bytes -= outgoing.payload.len();
            }
        }
    }

    /// Ends the waiting of those whose events are held and who have waited long enough.
    pub(super) fn expire_held(&mut self, entity: EntityId, now: Now) {
        let Some(departure) = self.departures.get_mut(&entity) else { return };
        let origin = departure.origin;
        let is_late = |outgoing: &Outgoing| outgoing.expires.is_some_and(|expires| expires.at <= now.instant);
        let (late, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut departure.held).into_iter().partition(is_late);
        departure.held = rest.into();
        departure.held_bytes -= late.iter().map(|outgoing| outgoing.payload.len()).sum::<usize>();
        if let Some(at) = departure.held.iter().filter_map(|outgoing| outgoing.expires).map(|expires| expires.at).min()
        {
            self.timers.arm(TimerKey::Departure(entity), at);
        }
        for Outgoing { ticket, call, expires, .. } in late {
            let error = match expires {
                Some(expires) if call => RuntimeError::CallTimeout(expires.timeout),
                Some(_) | None => RuntimeError::MailboxFull(origin),
            };
            self.settle(ticket, Err(error));
        }
    }

    /// The decision: from here on the daemon is the target's.
    pub(super) fn release(&mut self, entity: EntityId, now: Now) {
        let own = self.departures.get(&entity).and_then(|departure| departure.own);
        let Some(departure) = self.departures.get_mut(&entity) else { return };
        let Some(claim) = departure.claim.clone() else { return };
        let (id, key, origin, target) = (departure.source.id, departure.key, departure.origin, departure.source.target);
        departure.source.claim = claim.encode();
        let held = std::mem::take(&mut departure.held);
        let epoch = claim.body().epoch;
        let me = self.me();
        let Some(slot) = self.daemons.get_mut(key.slot as usize).filter(|slot| slot.host.key == key) else { return };
        slot.host.presence = Presence::Released(id.migration);

        // What waited for callers of this node goes on as this node's stream to the target.
        let mut handed = Vec::new();
        let mut first = 1;
        if let Some(own) = own {
            let index = slot.inbound.take_over(own, me, now.instant);
            first = slot.inbound.get(index).map_or(1, crate::events::InStream::next);
            let mut number = first;
            for delivery in slot.host.mailbox.iter_mut() {
                let (expires, emitter) = (delivery.expires.take(), delivery.link.origin);
                let (item, call) = match delivery.reply {
                    ReplyTo::Local(ticket) => (OutItem::Awaiting { ticket, expires, emitter }, true),
                    ReplyTo::Nobody | ReplyTo::TimedOut => (OutItem::Done, false),
                    ReplyTo::Stream { .. } => continue,
                };
                handed.push(item);
                delivery.reply = ReplyTo::Stream { stream: index, number, call };
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
        self.remember_left(claim, now);
        if let Some(own) = own
            && !(handed.is_empty() && held.is_empty())
        {
            let mut fresh = OutStream::new(own, origin, target, epoch, first);
            fresh.former = Some(me);
            let mut sent = Vec::new();
            if let Some(stream) = self.own_stream(origin, fresh, now) {
                // What this copy accepted of it last may not have been told yet.
                stream.accepted(first - 1, |ticket| sent.push(ticket));
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
        self.refuse_held_questions(key, origin);
        self.tell_moved(senders, (target, epoch), now);
        self.say_activate(entity);
    }

    /// Tells the senders of streams, each with the node that spoke for it last, where their daemon lives.
    pub(super) fn tell_moved(&mut self, senders: Vec<(StreamId, NodeId)>, (host, epoch): (NodeId, Epoch), now: Now) {
        for (stream, via) in senders {
            if stream.sender == self.me() {
                self.on_moved(&stream, host, epoch, now);
            } else {
                self.forwards.left(stream, via, host, now.instant);
                let to = self.way_to(stream.sender, via);
                let body = codec::encode(&EventsMessage::Moved { stream, node: host, epoch, hops: 0 });
                self.send(to, Subprotocol::Events, body);
            }
        }
    }

    pub(super) fn say_activate(&mut self, entity: EntityId) {
        let Some(departure) = self.departures.get(&entity) else { return };
        let (id, target, claim) = (departure.source.id, departure.source.target, departure.source.claim.clone());
        self.say(target, &MigrationMessage::ActivateTarget { id, claim: &claim });
    }

    /// The daemon goes on here, with everything that it was sent.
    pub(super) fn resume(&mut self, entity: EntityId, reason: FailureReason, now: Now) {
        let Some(departure) = self.departures.remove(&entity) else { return };
        self.timers.disarm(TimerKey::Departure(entity));
        let Departure { source, key, origin, held, .. } = departure;
        self.departed.note(&source.id, source.orchestrator, End::Kept);
        let (id, target, orchestrator) = (source.id, source.target, source.orchestrator);
        self.work.push(Work::ReleaseState { daemon: key });
        if let Some(slot) = self.slot_mut(key) {
            slot.host.presence = Presence::Live;
            slot.host.progress_at = now.instant;
        }
        if let Some(peer) = self.peers.get_mut(target) {
            peer.transfers.retain(|moving| *moving != entity);
        }
        let failure = MigrationFailure::Refused(reason.clone(), Outcome::told_by(self.me(), &reason));
        self.note_migration(Role::Source, &id, (self.me(), target), None, Some(failure));
        self.say(target, &MigrationMessage::MigrationFailed { id, reason: reason.clone() });
        self.say(orchestrator, &MigrationMessage::MigrationFailed { id, reason });
        self.reenter_held(key, origin, held, now);
        self.ask_held_questions(key, origin);
        self.feed_all(key, now);
        self.pump(key, now);
        self.arm_callback_timeout(key, now);
    }

    /// Enters what was held during a hand-over that failed. It was not refused when it came: what the mailbox has no room for
    /// waits in the stream.
    fn reenter_held(&mut self, key: DaemonKey, origin: OriginHash, held: VecDeque<Outgoing>, now: Now) {
        let mut in_stream = false;
        for outgoing in held {
            let ticket = outgoing.ticket;
            in_stream |= !self.slot(key).is_some_and(|slot| slot.has_room_for_own(outgoing.payload.len()));
            let entered =
                if in_stream { self.send_out(outgoing, origin, now) } else { self.reenter(outgoing, origin, now) };
            if let Err(error) = entered {
                self.settle(ticket, Err(error));
            }
        }
        if in_stream {
            self.lead_home(key, now);
        }
    }

    /// The target holds the daemon: this copy and its secret go.
    pub(super) fn clean_up(&mut self, entity: EntityId, now: Now) {
        let Some(departure) = self.departures.remove(&entity) else { return };
        self.timers.disarm(TimerKey::Departure(entity));
        let Departure { source, key, origin, search, .. } = departure;
        self.departed.note(&source.id, source.orchestrator, End::Left);
        self.word_is_done(search);
        let (id, target, orchestrator) = (source.id, source.target, source.orchestrator);
        if let Some(slot) = self.take_slot(key, now) {
            self.stop_receiving(key, entity, true);
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
}
