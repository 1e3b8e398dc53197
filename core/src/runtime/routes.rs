//! The way out: finding the host of a daemon, and the stream that leads there.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::engine::{Engine, Now};
use super::error::RuntimeError;
use super::reaching::Then;
use super::recovery::peer_lost;
use super::replies::remote_as_error;
use super::timers::TimerKey;
use super::work::{Settlement, Work};
use crate::daemon::Ticket;
use crate::directory::{Claim, ClaimBody, Finding, Found, Haste, Pointer, Query};
use crate::events::{KeptReply, OutStream, Outgoing};
use crate::identity::{EntityId, Epoch, Lineage, NodeId, OriginHash};
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::directory::DirectoryMessage;
use crate::wire::events::{EventsMessage, Opening, Reply, StreamId};

/// Most events of this node that wait for one daemon.
const MOST_WAITING: usize = 65_536;
/// Most of their payload bytes; one event may exceed it alone.
const MOST_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// Finished replies are acknowledged at once when there are this many, else with the next message or a little later.
const ACKNOWLEDGE_AT: u64 = 256;
pub(super) const ACKNOWLEDGE_AFTER: std::time::Duration = std::time::Duration::from_millis(50);
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
}

impl Route {
    fn new(now: Instant) -> Self {
        Self {
            stream: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            queued: false,
            used_at: now,
            silent_since: None,
        }
    }

    /// Whether events of this node are on the way that a later one must not overtake.
    pub(super) fn has_unaccepted(&self) -> bool {
        !self.waiting.is_empty() || self.stream.as_ref().is_some_and(OutStream::has_unaccepted)
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
        let route = self.routes.entry(origin).or_insert_with(|| Route::new(now.instant));
        route.used_at = now.instant;
        let (count, bytes) = match &route.stream {
            Some(stream) => (stream.len(), stream.pending_bytes()),
            None => (route.waiting.len(), route.waiting_bytes),
        };
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
            self.settle_own(now);
        } else {
            route.waiting_bytes += outgoing.payload.len();
            route.waiting.push_back(outgoing);
            self.resolve(origin, now);
        }
        Ok(())
    }

    /// Tells the mesh that a stream has something to send.
    pub(super) fn has_unsent(&mut self, origin: OriginHash) {
        let Some(route) = self.routes.get_mut(&origin) else { return };
        let Some(stream) = &route.stream else { return };
        if route.queued || !(stream.has_unsent() || stream.ask_again || stream.untold_replies() > 0) {
            return;
        }
        let host = stream.host;
        if host == self.node.keypair.node_id() {
            route.queued = true;
            self.own_streams.push(origin);
        } else if let Some(peer) = self.peers.up(host) {
            route.queued = true;
            peer.out.push_back(origin);
            self.wakes.insert(host);
        }
    }

    fn resolve(&mut self, origin: OriginHash, now: Now) {
        if let Some(pointer) = self.pointer_to_silent(origin) {
            let id = self.new_stream(pointer.entity, pointer.lineage);
            self.open_route(id, (pointer.node, pointer.epoch), Some(self.me()), now);
        } else {
            self.look_up(origin, Haste::WaitForAll, now);
        }
    }

    /// Where a daemon went, while that node is expected back and cannot be asked. Otherwise it is asked: the daemon may have
    /// ended there, and may live another life.
    fn pointer_to_silent(&self, origin: OriginHash) -> Option<Pointer> {
        let pointer = self.pointers.get(origin)?;
        self.peers.get(pointer.node).is_some_and(|peer| !peer.ready).then_some(*pointer)
    }

    /// Asks every connected peer who hosts a daemon.
    pub(super) fn look_up(&mut self, origin: OriginHash, haste: Haste, now: Now) {
        let peers: Vec<(NodeId, bool)> = match haste {
            // Who is out of reach for the moment may host it.
            Haste::WaitForAll => self.peers.all().collect(),
            Haste::SkipSilent => self.peers.connected().collect(),
        };
        if let Some(query) = self.lookups.begin(origin, haste, peers.iter().copied(), now.instant) {
            for (peer, _) in peers.into_iter().filter(|(_, ready)| *ready) {
                self.ask_where(peer, query, origin);
            }
        }
        self.check_lookups(now);
    }

    pub(super) fn ask_where(&mut self, peer: NodeId, query: Query, origin: OriginHash) {
        let body = codec::encode(&DirectoryMessage::Lookup { query: query.0, origin });
        self.send(peer, Subprotocol::Directory, body);
    }

    /// Ends the questions that are answered or out of patience.
    pub(super) fn check_lookups(&mut self, now: Now) {
        for (origin, finding) in self.lookups.finished(now.instant) {
            match finding {
                Finding::Found(found) => self.located(origin, Some(&found), now),
                Finding::NotFound(former) => {
                    self.spawn_where_none_lives(origin, former.as_ref());
                    self.located(origin, None, now);
                }
                // Whoever still waits does so for as long as [`PATIENCE`] says; a spawn or `locate` does not.
                Finding::Unanswered => {
                    let waits = self.routes.get(&origin).is_some_and(|route| !route.waiting.is_empty());
                    self.finish_locating(origin, None, now);
                    self.spawn_looked_up(origin, None, now);
                    if waits {
                        self.look_up(origin, Haste::WaitForAll, now);
                    }
                }
            }
        }
        if let Some(at) = self.lookups.next_deadline() {
            self.timers.arm(TimerKey::Lookups, at);
        }
    }

    fn located(&mut self, origin: OriginHash, found: Option<&Found>, now: Now) {
        let claim = found.map(|found| &found.claim);
        self.finish_locating(origin, claim.map(|claim| claim.body().node()), now);
        self.spawn_looked_up(origin, claim, now);
        match found {
            Some(found) => self.route_to(origin, found, now),
            None if self.routes.get(&origin).is_some_and(|route| route.stream.is_none()) => {
                if self.is_released(origin) {
                    self.end_route(origin, |maybe| peer_lost(origin, maybe));
                } else {
                    self.end_route(origin, |_| RuntimeError::NotFound(origin));
                }
            }
            None => {}
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
        } else if !self.reach_first(host, || Then::Route { origin, found: found.clone() }) {
            // Through the former host, which forwards what comes from before the move.
            let id = self.new_stream(entity, lineage);
            self.open_route(id, (found.by, Epoch::default()), None, now);
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

    fn open_route(&mut self, id: StreamId, (host, epoch): (NodeId, Epoch), former: Option<NodeId>, now: Now) {
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
        self.has_unsent(origin);
        self.settle_own(now);
    }

    /// Where a daemon lives; `ticket` is settled with [`Settlement::Located`].
    pub fn locate(&mut self, ticket: Ticket, origin: OriginHash, now: Now) -> Result<(), RuntimeError> {
        self.check_ready()?;
        if self.local(origin).is_ok() {
            let me = self.me();
            self.settle(ticket, Ok(Settlement::Located(Some(me))));
        } else if let Some(pointer) = self.pointer_to_silent(origin) {
            self.settle(ticket, Ok(Settlement::Located(Some(pointer.node))));
        } else {
            self.locating.entry(origin).or_default().push(ticket);
            self.look_up(origin, Haste::SkipSilent, now);
        }
        Ok(())
    }

    fn finish_locating(&mut self, origin: OriginHash, node: Option<NodeId>, now: Now) {
        for ticket in self.locating.remove(&origin).unwrap_or_default() {
            self.settle(ticket, Ok(Settlement::Located(node)));
        }
        self.sought_found(origin, node, now);
    }

    /// A message of the directory arrived.
    pub(super) fn on_directory(&mut self, from: NodeId, body: &[u8], now: Now) {
        match codec::decode(body) {
            Ok(DirectoryMessage::Lookup { query, origin }) => {
                let claim = self.claim_for(origin);
                let body = codec::encode(&DirectoryMessage::Answer { query, claim: claim.as_deref() });
                self.send(from, Subprotocol::Directory, body);
            }
            Ok(DirectoryMessage::Answer { query, claim }) => {
                let claim = match claim.map(Claim::decode) {
                    None => None,
                    // A former host that knows only that the daemon came here.
                    Some(Ok(claim)) if claim.body().node() == self.me() && !self.is_hosted(&claim) => None,
                    Some(Ok(claim)) => Some(claim),
                    Some(Err(error)) => {
                        self.refuse(from, "claim", &error);
                        None
                    }
                };
                let claim = claim.filter(|claim| !self.is_outlived(claim));
                self.lookups.answer(Query(query), from, claim);
                self.check_lookups(now);
            }
            Ok(DirectoryMessage::Claim { claim }) => self.on_claim(from, claim, now),
            Err(error) => self.refuse(from, "directory message", &error),
        }
    }

    fn is_hosted(&self, claim: &Claim) -> bool {
        let key = self.by_origin.get(&claim.body().entity.origin_hash()).copied();
        key.and_then(|key| self.slot(key)).is_some_and(|slot| slot.spawning.is_none())
    }

    fn claim_for(&mut self, origin: OriginHash) -> Option<Vec<u8>> {
        let Ok(key) = self.local(origin) else {
            // One that left, or that its former host has yet to release to this node.
            return self.departed_claim(origin).map(Claim::encode).or_else(|| self.arriving_claim(origin));
        };
        match self.claim_of(key) {
            Ok(claim) => Some(claim.encode()),
            Err(error) => {
                tracing::warn!(%origin, %error, "cannot claim a daemon that lives here");
                None
            }
        }
    }

    /// Whether a takeover that this node knows of refuses the copy that a claim names.
    fn is_outlived(&self, claim: &Claim) -> bool {
        let body = claim.body();
        let known = self.pointers.claim(body.entity.origin_hash()).map(Claim::body);
        known.is_some_and(|known| known.entity == body.entity && known.min_epoch > body.epoch)
    }

    /// The claim of a daemon that left. Once its host is given up this node knows of no daemon, as for its own callers.
    fn departed_claim(&self, origin: OriginHash) -> Option<&Claim> {
        let claim = self.pointers.claim(origin)?;
        self.peers.get(claim.body().node()).is_some().then_some(claim)
    }

    /// The claim for a daemon of this node, signed on first need.
    pub(super) fn claim_of(&mut self, key: crate::daemon::DaemonKey) -> Result<Claim, crate::directory::ClaimError> {
        let (host, incarnation) = (self.node.keypair.entity_id(), self.node.incarnation);
        let Some(slot) = self.slot_mut(key) else { return Err(crate::directory::ClaimError::NoKey) };
        if let Some(claim) = &slot.claim {
            return Ok(claim.clone());
        }
        let body = ClaimBody {
            entity: slot.host.entity(),
            lineage: slot.host.lineage,
            epoch: slot.host.epoch,
            min_epoch: slot.host.min_epoch,
            host,
            incarnation: Some(incarnation),
        };
        let claim = Claim::sign(body, &slot.host.keypair)?;
        slot.claim = Some(claim.clone());
        Ok(claim)
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
        stream.accepted(through, |ticket| work.push(Work::Settle { ticket, result: Ok(Settlement::Done) }));
        for reply in replies {
            if let Some(ticket) = stream.replied(reply.number) {
                let result = match KeptReply::from_wire(reply, body).result {
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
        if stream.has_unsent() || stream.untold_replies() >= ACKNOWLEDGE_AT {
            self.has_unsent(origin);
        }
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
        let Some(route) = self.routes.get_mut(&origin) else { return };
        let mut late = Vec::new();
        let mut bytes = 0;
        route.waiting.retain(|outgoing| match outgoing.expires {
            Some(expires) if expires.at <= now.instant => {
                late.push((outgoing.ticket, outgoing.call, expires.timeout));
                bytes += outgoing.payload.len();
                false
            }
            _ => true,
        });
        route.waiting_bytes -= bytes;
        let mut withdrawn = Vec::new();
        if let Some(stream) = &mut route.stream {
            for (number, ticket, expires) in stream.expired(now.instant) {
                late.push((ticket, stream.is_call(number), expires.timeout));
                if stream.give_up(number) {
                    withdrawn.push(number);
                }
            }
        }
        if let Some(at) = route.next_expiry() {
            self.timers.arm(TimerKey::Route(origin), at);
        }
        for (ticket, call, timeout) in late {
            let error = if call { RuntimeError::CallTimeout(timeout) } else { RuntimeError::MailboxFull(origin) };
            self.settle(ticket, Err(error));
        }
        for number in withdrawn {
            self.say_withdrawn(origin, number);
        }
        self.has_unsent(origin);
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
        let route = self.routes.entry(origin).or_insert_with(|| Route::new(now.instant));
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
