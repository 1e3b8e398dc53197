//! The way out: finding the host of a daemon, and the stream that leads there.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::engine::{Engine, Now};
use super::error::RuntimeError;
use super::reaching::Then;
use super::recovery::peer_lost;
use super::replies::remote_as_error;
use super::rerouting::{has_moved_too_often, moved_too_often};
use super::seeking::Seeking;
use super::timers::{TimerKey, Timers};
use super::work::{Settlement, Work};
use crate::daemon::{Expiry, Ticket};
use crate::directory::{ClaimBody, Found, Haste, Pointer};
use crate::events::{KeptReply, OutStream, Outgoing, Word};
use crate::identity::{EntityId, Epoch, Lineage, NodeId, OriginHash};
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::events::{EventsMessage, Failure, FailureKind, Opening, Reply, StreamId};

/// Most events of this node that wait for one daemon.
const MOST_WAITING: usize = 65_536;
/// Most of their payload bytes; one event may exceed it alone.
const MOST_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// Finished replies are acknowledged at once when there are this many, else with the next message or a little later.
const ACKNOWLEDGE_AT: u64 = 256;
pub(super) const ACKNOWLEDGE_AFTER: std::time::Duration = std::time::Duration::from_millis(50);
/// Whose patience ends within so long of another's ends together with it: all positions are looked at for that.
const EXPIRE_EVERY: std::time::Duration = std::time::Duration::from_millis(5);
/// How long the host of an event that was given up may take to say whether it had accepted it.
const LAST_WORD: std::time::Duration = std::time::Duration::from_secs(5);
/// A stream that nobody has used for so long is closed.
pub(super) const IDLE_STREAM: std::time::Duration = std::time::Duration::from_secs(300);

/// The way to a daemon that this node sends to.
#[derive(Debug)]
pub(super) struct Route {
    /// The stream, once the host is known.
    pub(super) stream: Option<OutStream>,
    /// Events that wait for the host to be found.
    pub(super) waiting: VecDeque<Outgoing>,
    waiting_bytes: usize,
    /// Whether the stream stands in its host's list of streams with something to send.
    pub(super) queued: bool,
    /// When it was used last.
    pub(super) used_at: Instant,
    /// Since when the host is out of reach, or nobody names it.
    pub(super) silent_since: Option<Instant>,
    /// When the host was reminded last that somebody waits.
    pub(super) reminded_at: Instant,
    /// The search for the daemon while the host is out of reach.
    pub(super) seeking: Seeking,
    /// Whether whoever was named as the host refused the stream, and nobody has accepted anything since.
    pub(super) refused: bool,
}

impl Route {
    fn new(timers: &mut Timers, now: Now) -> Self {
        timers.sweep_later(now);
        Self {
            stream: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            queued: false,
            used_at: now.instant,
            silent_since: None,
            reminded_at: now.instant,
            seeking: Seeking::new(now.instant),
            refused: false,
        }
    }

    /// Enters what waits for the host to be found, in its order.
    pub(super) fn wait(&mut self, outgoing: impl IntoIterator<Item = Outgoing>) {
        for outgoing in outgoing {
            self.waiting_bytes += outgoing.payload.len();
            self.waiting.push_back(outgoing);
        }
    }

    /// Whether events of this node are on the way that a later one must not overtake.
    pub(super) fn has_unaccepted(&self) -> bool {
        !self.waiting.is_empty() || self.stream.as_ref().is_some_and(OutStream::has_unaccepted)
    }

    /// How many events of an emitter are not accepted, and how many more of its calls are not answered.
    pub(super) fn unsettled_of(&self, emitter: OriginHash) -> (usize, usize) {
        let waiting = self.waiting.iter().filter(|outgoing| outgoing.link.origin == emitter).count();
        let (unaccepted, unanswered) = self.stream.as_ref().map_or((0, 0), |stream| stream.unsettled_of(emitter));
        (waiting + unaccepted, unanswered)
    }

    /// Bytes of events that are not accepted.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.stream.as_ref().map_or(self.waiting_bytes, OutStream::pending_bytes)
    }

    /// Whether events wait for the host to be found.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().filter_map(|outgoing| outgoing.expires).map(|expires| expires.at).min();
        let stream = self.stream.as_ref().and_then(OutStream::next_expiry);
        waiting.into_iter().chain(stream).min()
    }
}

impl Engine {
    /// Enters an event into the stream to its daemon, finding the daemon first if need be.
    pub(super) fn send_out(&mut self, outgoing: Outgoing, origin: OriginHash, now: Now) -> Result<(), RuntimeError> {
        let Self { routes, timers, .. } = self;
        let route = routes.entry(origin).or_insert_with(|| Route::new(timers, now));
        route.used_at = now.instant;
        let count = route.stream.as_ref().map_or(route.waiting.len(), OutStream::len);
        let bytes = route.waiting_bytes();
        if count >= MOST_WAITING || (count > 0 && bytes + outgoing.payload.len() > MOST_WAITING_BYTES) {
            return Err(RuntimeError::Backpressure(origin));
        }
        if let Some(expires) = outgoing.expires {
            self.timers.arm(TimerKey::Route(origin), expires.at);
        }
        if let Some(stream) = &mut route.stream {
            stream.push(outgoing);
            if !route.queued {
                self.has_unsent(origin);
            }
            self.seek_soon(origin, now);
            self.settle_own(now);
        } else {
            route.wait([outgoing]);
            self.resolve(origin, now);
        }
        Ok(())
    }

    /// Tells the mesh that a stream has something to send.
    pub(super) fn has_unsent(&mut self, origin: OriginHash) {
        let Some(route) = self.routes.get_mut(&origin) else { return };
        let Some(stream) = &route.stream else { return };
        let speaks = stream.has_unsent() || stream.word != Word::Nothing || stream.untold_replies() > 0;
        if route.queued || !speaks {
            return;
        }
        let host = stream.host;
        if host == self.node.keypair.node_id() {
            route.queued = true;
            self.own_streams.push(origin);
        } else if let Some(peer) = self.peers.up(host) {
            route.queued = true;
            peer.out.push(origin);
            self.wakes.insert(host);
        }
    }

    fn resolve(&mut self, origin: OriginHash, now: Now) {
        if let Ok(key) = self.local(origin) {
            self.lead_home(key, now);
        } else if let Some(pointer) = self.pointer_ahead(origin) {
            let id = self.new_stream(pointer.entity, pointer.lineage);
            self.open_route(id, (pointer.node, pointer.epoch), Some(self.me()), now);
        } else {
            self.look_up(origin, Haste::WaitForAll, now);
        }
    }

    /// Where a daemon went, while that node is expected back and cannot be asked, or has yet to say that the daemon is live
    /// there: until then nobody else knows of it. Otherwise it is asked: the daemon may have ended there, and may live another
    /// life.
    pub(super) fn pointer_ahead(&self, origin: OriginHash) -> Option<Pointer> {
        let pointer = self.pointers.get(origin)?;
        let ahead = !self.answers(pointer.node) || self.is_released(origin);
        (self.peers.get(pointer.node).is_some() && ahead).then_some(*pointer)
    }

    /// The directory says where a daemon lives.
    pub(super) fn located(&mut self, origin: OriginHash, found: &Found, now: Now) {
        self.finish_locating(origin, Some(found.claim.body().node()), now);
        self.refuse_spawn(origin, now);
        self.route_to(origin, found, now);
        self.lead_anew(origin, found, now);
        self.follow(origin, found, now);
    }

    /// A daemon lives nowhere.
    pub(super) fn not_located(&mut self, origin: OriginHash, now: Now) {
        self.finish_locating(origin, None, now);
        self.go_on_spawning(origin, now);
        self.end_unfound(origin, |_| RuntimeError::NotFound(origin));
    }

    /// Nobody runs a daemon, of which a copy is in doubt: it would be lost, with its state, if the daemon was begun anew, and
    /// whoever waits for it to be found is told that its host is lost.
    pub(super) fn located_in_doubt(&mut self, origin: OriginHash, now: Now) {
        self.finish_locating(origin, None, now);
        self.refuse_spawn(origin, now);
        self.end_unfound(origin, |maybe| peer_lost(origin, maybe));
    }

    /// Ends the waiting of those whose daemon was not found.
    fn end_unfound(&mut self, origin: OriginHash, error: impl Fn(bool) -> RuntimeError) {
        if self.routes.get(&origin).is_some_and(|route| route.stream.is_none()) {
            self.end_route(origin, error);
        }
    }

    /// Sends what waits for a daemon to the host that was found, once there is a session with it.
    pub(super) fn route_to(&mut self, origin: OriginHash, found: &Found, now: Now) {
        if self.routes.get(&origin).is_none_or(|route| route.stream.is_some()) {
            return;
        }
        let ClaimBody { entity, lineage, epoch, .. } = *found.claim.body();
        let host = found.claim.body().node();
        if host == self.me() || self.peers.is_up(host) {
            let id = self.new_stream(entity, lineage);
            self.open_route(id, (host, epoch), Some(found.by).filter(|by| *by != host), now);
        } else if self.reach_first(host, || Then::Route { origin, found: found.clone() }) {
            // Done again then.
        } else if self.peers.is_up(found.by) {
            // Through the former host, which forwards what comes from before the move.
            let id = self.new_stream(entity, lineage);
            self.open_route(id, (found.by, Epoch::default()), None, now);
        } else if self.peers.get(host).is_some() {
            // It is expected back.
            let id = self.new_stream(entity, lineage);
            self.open_route(id, (host, epoch), None, now);
        } else {
            // Both are gone meanwhile, and nobody says the same any more.
            self.look_up(origin, Haste::WaitForAll, now);
        }
    }

    /// Names a stream of this node that was not there before.
    pub(super) fn new_stream(&mut self, entity: EntityId, lineage: Lineage) -> StreamId {
        self.openings += 1;
        let (sender, incarnation) = (self.me(), self.node.incarnation);
        let opening = Opening::new(self.openings, (self.entropy)());
        StreamId { sender, incarnation, entity, lineage, opening }
    }

    /// The stream of this node to that life of a daemon.
    pub(super) fn own_stream_to(&self, entity: EntityId, lineage: Lineage) -> Option<StreamId> {
        let stream = self.routes.get(&entity.origin_hash())?.stream.as_ref()?;
        (stream.id.entity == entity && stream.id.lineage == lineage).then_some(stream.id)
    }

    pub(super) fn open_route(
        &mut self,
        id: StreamId,
        (host, epoch): (NodeId, Epoch),
        former: Option<NodeId>,
        now: Now,
    ) {
        let origin = id.entity.origin_hash();
        let Some(route) = self.routes.get_mut(&origin) else { return };
        let mut stream = OutStream::new(id, origin, host, epoch, 1);
        stream.former = former;
        route.waiting_bytes = 0;
        route.silent_since = None;
        for outgoing in route.waiting.drain(..) {
            stream.push(outgoing);
        }
        route.stream = Some(stream);
        self.seek_later(origin, now);
        self.has_unsent(origin);
        self.settle_own(now);
    }

    /// The host accepted events of a stream of this node, and perhaps answers some.
    pub(super) fn on_answers(
        &mut self,
        id: &StreamId,
        through: u64,
        replies: &[Reply<'_>],
        body: &bytes::Bytes,
        now: Now,
    ) {
        let origin = id.entity.origin_hash();
        let Self { routes, work, .. } = self;
        let Some(route) = routes.get_mut(&origin) else { return };
        let Some(stream) = route.stream.as_mut().filter(|stream| stream.id == *id) else { return };
        route.used_at = now.instant;
        route.refused &= through == 0;
        stream.accepted(through, |ticket| work.push(Work::Settle { ticket, result: Ok(Settlement::Done) }));
        let mut again = false;
        for reply in replies {
            if let Err(Failure { kind: FailureKind::PayloadTooLarge, message, .. }) = &reply.result
                && reply.number > through
                && stream.is_unaccepted(reply.number)
            {
                // By a former host, which sent nothing of that batch on; nobody may wait for this event any more.
                again = true;
                if let Some((ticket, maybe)) = stream.refused(reply.number) {
                    let too_large = || RuntimeError::OutputTooLarge(message.clone());
                    let error = if maybe { peer_lost(origin, true) } else { too_large() };
                    work.push(Work::Settle { ticket, result: Err(error) });
                    continue;
                }
            }
            let withdrawn = stream.is_withdrawn(reply.number);
            if let Some(ticket) = stream.replied(reply.number) {
                let result = match KeptReply::from_wire(reply, body).result {
                    // It waited for room until its sender waited no longer.
                    Err(Failure { kind: FailureKind::Withdrawn, .. }) if withdrawn => {
                        Err(RuntimeError::MailboxFull(origin))
                    }
                    Ok(outputs) => Ok(Settlement::Outputs(outputs)),
                    Err(failure) => Err(remote_as_error(failure, origin)),
                };
                work.push(Work::Settle { ticket, result });
            }
        }
        if stream.untold_replies() > 0 && stream.untold_replies() < ACKNOWLEDGE_AT {
            self.untold_routes.insert(origin);
            self.timers.arm(TimerKey::Acknowledge, now.instant + ACKNOWLEDGE_AFTER);
        }
        if again {
            self.repeat_stream(origin, now);
        } else if stream.has_unsent() || stream.untold_replies() >= ACKNOWLEDGE_AT {
            self.has_unsent(origin);
        }
        self.hushed_meanwhile(&id.entity, now);
    }

    /// Ends a way out: everybody who waits gets an error, chosen by whether the event was accepted or may have been.
    pub(super) fn end_route(&mut self, origin: OriginHash, error: impl Fn(bool) -> RuntimeError) {
        self.close_route(origin, false, error);
    }

    pub(super) fn close_route(&mut self, origin: OriginHash, refused: bool, error: impl Fn(bool) -> RuntimeError) {
        let Some(route) = self.routes.remove(&origin) else { return };
        self.timers.disarm(TimerKey::Route(origin));
        self.untold_routes.remove(&origin);
        for outgoing in route.waiting {
            self.settle(outgoing.ticket, Err(error(false)));
        }
        if let Some(mut stream) = route.stream {
            for (ticket, maybe) in stream.end(refused) {
                self.settle(ticket, Err(error(maybe)));
            }
        }
    }

    /// Looks whether callers of a daemon have waited long enough.
    pub(super) fn check_route(&mut self, origin: OriginHash, now: Now) {
        self.look_again(origin, now);
        self.seek(origin, now);
        let me = self.me();
        let Some(route) = self.routes.get_mut(&origin) else { return };
        let mut late = Vec::new();
        let mut bytes = 0;
        route.waiting.retain(|outgoing| match outgoing.expires {
            Some(expires) if expires.at <= now.instant => {
                let error = if outgoing.call {
                    RuntimeError::CallTimeout(expires.timeout)
                } else {
                    // No host was found that could have had room.
                    peer_lost(origin, false)
                };
                late.push((outgoing.ticket, error));
                bytes += outgoing.payload.len();
                false
            }
            _ => true,
        });
        route.waiting_bytes -= bytes;
        let mut withdrawn = Vec::new();
        if let Some(stream) = &mut route.stream {
            // Only a host that is in reach, and did not accept it, has no room. A former one that sends on does not know.
            let is_host = !stream.is_detoured() && stream.epoch != Epoch::default();
            let reached = is_host && (stream.host == me || self.peers.is_heard(stream.host));
            for (number, ticket, expires) in stream.expired(now.instant) {
                let asked = stream.is_withdrawn(number);
                let error = if asked {
                    peer_lost(origin, true)
                } else if !stream.is_accepted_through(number) && has_moved_too_often(stream) {
                    moved_too_often(origin, stream.was_sent(number), expires.timeout)
                } else if stream.is_call(number) {
                    RuntimeError::CallTimeout(expires.timeout)
                } else if reached && !stream.was_sent(number) {
                    RuntimeError::MailboxFull(origin)
                } else if reached && !stream.is_doubtful(number) {
                    // That it was accepted may be on its way here.
                    stream.withdraw(number, Expiry { at: now.instant + LAST_WORD, timeout: expires.timeout });
                    withdrawn.push(number);
                    continue;
                } else {
                    peer_lost(origin, stream.was_sent(number))
                };
                late.push((ticket, error));
                if stream.give_up(number) && !asked {
                    withdrawn.push(number);
                }
            }
        }
        if let Some(at) = route.next_expiry() {
            self.timers.arm(TimerKey::Route(origin), at.max(now.instant + EXPIRE_EVERY));
        }
        for (ticket, error) in late {
            self.settle(ticket, Err(error));
        }
        for number in withdrawn {
            self.say_withdrawn(origin, number);
        }
        self.has_unsent(origin);
        let stream = self.routes.get(&origin).and_then(|route| route.stream.as_ref());
        if let Some(entity) = stream.map(|stream| stream.id.entity) {
            self.hushed_meanwhile(&entity, now);
        }
    }

    /// A caller on this node gave up.
    pub(super) fn withdraw_from_route(&mut self, ticket: Ticket, origin: OriginHash) {
        let Some(route) = self.routes.get_mut(&origin) else { return };
        if let Some(at) = route.waiting.iter().position(|outgoing| outgoing.ticket == ticket) {
            if let Some(outgoing) = route.waiting.remove(at) {
                route.waiting_bytes -= outgoing.payload.len();
            }
            return;
        }
        let Some(stream) = &mut route.stream else { return };
        let Some(number) = stream.find(ticket) else { return };
        if stream.give_up(number) {
            self.say_withdrawn(origin, number);
        }
        self.has_unsent(origin);
    }

    fn say_withdrawn(&mut self, origin: OriginHash, number: u64) {
        let Some(stream) = self.routes.get(&origin).and_then(|route| route.stream.as_ref()) else { return };
        let (host, message) =
            (stream.host, EventsMessage::Withdraw { stream: stream.id, epoch: stream.epoch, hops: 0, number });
        let body = codec::encode(&message);
        self.send(host, Subprotocol::Events, body);
    }

    /// The stream of this node to a daemon, made anew if there is none or it leads to another life of it.
    pub(super) fn own_stream(&mut self, origin: OriginHash, make: OutStream, now: Now) -> Option<&mut OutStream> {
        let Self { routes, timers, .. } = self;
        let route = routes.entry(origin).or_insert_with(|| Route::new(timers, now));
        if route.stream.as_ref().is_none_or(|stream| stream.id != make.id)
            && let Some(mut former) = route.stream.replace(make)
        {
            for (ticket, maybe) in former.end(false) {
                self.settle(ticket, Err(peer_lost(origin, maybe)));
            }
        }
        self.routes.get_mut(&origin)?.stream.as_mut()
    }
}
