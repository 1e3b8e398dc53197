//! Where the streams of this node lead when daemons move, and when their hosts go away, come back or say that they have not
//! got the daemon.

use bytes::Bytes;
use tokio::time::Instant;

use super::engine::{Engine, Now};
use super::error::{Executed, RuntimeError};
use super::forwards::MOST_HOPS;
use super::recovery::peer_lost;
use super::routes::IDLE_STREAM;
use super::timers::TimerKey;
use crate::daemon::DaemonKey;
use crate::directory::{Found, Haste};
use crate::events::OutStream;
use crate::identity::{Epoch, NodeId, OriginHash};
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::events::{Answers, EventsMessage, Missing, StreamId};

/// Nobody waits longer for a daemon whose host is out of reach, or that nobody names the host of.
pub(super) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);

/// How often the host of a stream hears that somebody still waits: it forgets senders that are silent for longer.
const REMIND_EVERY: std::time::Duration = std::time::Duration::from_secs(120);

/// How long after a daemon was looked for it is looked for again, while what is sent to it goes astray.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// Whether the daemon of a stream moved on faster than what waits could follow.
pub(super) fn has_moved_too_often(stream: &OutStream) -> bool {
    stream.astray.is_some() || stream.moves() > u64::from(MOST_HOPS)
}

pub(super) fn moved_too_often(origin: OriginHash, maybe: bool, waited: std::time::Duration) -> RuntimeError {
    RuntimeError::MovedTooOften { origin, executed: Executed::of(maybe), waited }
}

/// What a node says of a stream that is unknown there, as `EventsMessage::Unknown` tells.
#[derive(Clone, Copy)]
pub(super) struct Refusal {
    pub(super) missing: Missing,
    pub(super) accepted: Option<u64>,
    pub(super) answers: Answers,
}

impl Refusal {
    /// The daemon is not there, by who does not know what was accepted, and in answer to nothing.
    pub(super) const UNSURE: Self = Self { missing: Missing::Daemon, accepted: None, answers: Answers::Nothing };

    /// As it is said of a stream.
    pub(super) const fn of(self, id: &StreamId) -> EventsMessage<'static> {
        let Self { missing, accepted, answers } = self;
        EventsMessage::Unknown { stream: *id, missing, hops: 0, accepted, answers }
    }
}

/// What is known of a host that is not spoken to any more.
#[derive(Clone, Copy)]
enum Told {
    /// It says that the daemon is not there.
    NotThere,
    /// It is out of reach.
    Lost,
}

impl Engine {
    /// Another node says that the daemon of a stream lives elsewhere now.
    pub(super) fn on_told_moved(&mut self, from: NodeId, id: &StreamId, node: NodeId, epoch: Epoch, now: Now) {
        let stream = self.routes.get(&id.entity.origin_hash()).and_then(|route| route.stream.as_ref());
        if stream.is_some_and(|stream| stream.id == *id && stream.told_epoch.is_far_behind(epoch)) {
            return self.refuse(from, "address", &"its epoch is too far ahead");
        }
        self.on_moved(id, node, epoch, now);
    }

    /// The daemon of a stream lives elsewhere now: what is not accepted is repeated there.
    pub(super) fn on_moved(&mut self, id: &StreamId, node: NodeId, epoch: Epoch, now: Now) {
        let origin = id.entity.origin_hash();
        let reachable = node == self.me() || self.peers.is_up(node);
        let Some(route) = self.routes.get_mut(&origin) else { return };
        let Some(stream) = route.stream.as_mut().filter(|stream| stream.id == *id) else { return };
        // Told again, perhaps, by the former host that could not send it on: by now this node may reach the new one itself.
        let reachable_now = epoch == stream.told_epoch && stream.host != node && reachable;
        if epoch <= stream.refuted || (epoch <= stream.told_epoch && !reachable_now) {
            return;
        }
        stream.tell(node, epoch);
        // Without a session of its own to the new host, it goes on through the former one, which forwards only what comes
        // from before the move.
        if reachable {
            stream.lead_to(node, epoch);
        }
        self.repeat_stream(origin, now);
        if !reachable {
            self.want_peer(node);
        }
    }

    /// A daemon lives on this node from now on: its stream leads here, and what waits for it is not looked for elsewhere.
    pub(super) fn lead_home(&mut self, key: DaemonKey, now: Now) {
        let Some(host) = self.slot(key).map(|slot| &slot.host) else { return };
        let (entity, lineage, epoch, origin, me) = (host.entity(), host.lineage, host.epoch, host.origin, self.me());
        self.finish_locating(origin, Some(me), now);
        if let Some(own) = self.own_stream_to(entity, lineage) {
            return self.on_moved(&own, me, epoch, now);
        }
        self.leave_silent(origin);
        if self.routes.get(&origin).is_some_and(|route| route.stream.is_none()) {
            let id = self.new_stream(entity, lineage);
            self.open_route(id, (me, epoch), None, now);
        }
    }

    /// There is a session with the new host of streams' daemons: nothing needs to be forwarded any more.
    pub(super) fn routes_back(&mut self, node: NodeId, now: Now) {
        self.routes_heard(node);
        for origin in self.routes_where(|stream| stream.told_host == node && stream.host != node) {
            if let Some(stream) = self.routes.get_mut(&origin).and_then(|route| route.stream.as_mut()) {
                stream.lead_to(node, stream.told_epoch);
                self.repeat_stream(origin, now);
            }
        }
    }

    /// What the host of a stream did not accept is sent again, to where the stream leads now.
    pub(super) fn repeat_stream(&mut self, origin: OriginHash, now: Now) {
        if let Some(route) = self.routes.get_mut(&origin) {
            route.queued = false;
            if let Some(stream) = &mut route.stream {
                stream.rewind();
            }
        }
        self.has_unsent(origin);
        self.settle_own(now);
    }

    /// The host knows nothing of the stream: that life of the daemon has ended there. Or it saw a later batch of a stream
    /// that nobody accepted anything of: the first one was held by a host that let the daemon go, and is sent again. Some say
    /// what was `accepted` there, and vouch for nothing else having been.
    pub(super) fn on_unknown(&mut self, id: &StreamId, from: NodeId, refusal: Refusal, now: Now) {
        let Refusal { missing, accepted, answers } = refusal;
        let origin = id.entity.origin_hash();
        if !self.leads_to(id, from) {
            return;
        }
        if let Some(through) = accepted {
            self.on_answers(id, through, &[], &Bytes::new(), now);
        }
        let Some(current) = self.routes.get_mut(&origin).and_then(|route| route.stream.as_mut()) else { return };
        if accepted.is_some() && !current.is_answered(answers) {
            // What is still on its way there has an answer of its own, and may find that the daemon has come.
            return;
        }
        if matches!(missing, Missing::Before(first) if first.get() > 1) && current.is_unheard() {
            return self.repeat_stream(origin, now);
        }
        let detoured = current.is_detoured();
        if self.fall_back(origin, Told::NotThere, now) {
            return;
        }
        if accepted.is_some() && !detoured && self.seek_after_refusal(origin, now) {
            return;
        }
        // One that only sends on does not know whether the host ran it.
        let error = |maybe| if maybe || detoured { peer_lost(origin, maybe) } else { RuntimeError::NotFound(origin) };
        self.close_route(origin, accepted.is_some() && !detoured, error);
    }

    /// The host, or the former one that forwards, has room for what it could not keep, or reaches the daemon again.
    pub(super) fn on_again(&mut self, id: &StreamId, from: NodeId, now: Now) {
        if self.leads_to(id, from) {
            self.repeat_stream(id.entity.origin_hash(), now);
        }
    }

    /// The host begins no further stream that comes this way.
    pub(super) fn on_full(&mut self, id: &StreamId, from: NodeId) {
        if self.leads_to(id, from) {
            let origin = id.entity.origin_hash();
            let error = |maybe| if maybe { peer_lost(origin, true) } else { RuntimeError::Backpressure(origin) };
            self.close_route(origin, true, error);
        }
    }

    /// Former hosts sent on too often what the stream said: the daemon is looked for anew, and again after a while, for as long
    /// as somebody waits.
    pub(super) fn on_astray(&mut self, id: &StreamId, from: NodeId, now: Now) {
        let origin = id.entity.origin_hash();
        let stream = self.routes.get_mut(&origin).and_then(|route| route.stream.as_mut());
        let Some(stream) = stream.filter(|stream| stream.id == *id && stream.host == from) else { return };
        if stream.astray.is_none() && stream.has_unaccepted() {
            stream.astray = Some(now.instant);
            self.look_again(origin, now);
        }
    }

    /// Looks for the daemon of a stream that went astray, when it is time.
    pub(super) fn look_again(&mut self, origin: OriginHash, now: Now) {
        let Some(stream) = self.routes.get_mut(&origin).and_then(|route| route.stream.as_mut()) else { return };
        if stream.astray.is_some_and(|at| at <= now.instant) {
            let at = now.instant + LOOK_AGAIN;
            stream.astray = Some(at);
            self.timers.arm(TimerKey::Route(origin), at);
            self.look_up(origin, Haste::WaitForAll, now);
        }
    }

    /// A daemon was found whose stream went astray: it goes on there, or through whoever told of it.
    pub(super) fn lead_anew(&mut self, origin: OriginHash, found: &Found, now: Now) {
        let body = found.claim.body();
        let host = body.node();
        let reachable = host == self.me() || self.peers.is_up(host);
        let through = Some(found.by).filter(|by| self.peers.is_up(*by));
        let Some(stream) = self.routes.get_mut(&origin).and_then(|route| route.stream.as_mut()) else { return };
        let meant = stream.id.entity == body.entity && stream.id.lineage == body.lineage;
        if stream.astray.is_none() || !meant || body.epoch <= stream.refuted {
            return;
        }
        if body.epoch > stream.told_epoch {
            stream.tell(host, body.epoch);
        }
        if reachable {
            stream.lead_to(host, body.epoch);
        } else if let Some(former) = through {
            // It sends on what comes from before the move.
            (stream.host, stream.epoch) = (former, Epoch::default());
        }
        self.repeat_stream(origin, now);
    }

    /// Whether this is the stream of this node to its daemon, and that node its host as far as is known.
    fn leads_to(&self, id: &StreamId, host: NodeId) -> bool {
        let route = self.routes.get(&id.entity.origin_hash());
        route.and_then(|route| route.stream.as_ref()).is_some_and(|stream| stream.id == *id && stream.host == host)
    }

    /// The hosts of streams came back: what they did not accept is repeated, and lost replies are asked for.
    pub(super) fn routes_resume(&mut self, node: NodeId) {
        for origin in self.routes_to(node) {
            if let Some(route) = self.routes.get_mut(&origin) {
                route.queued = false;
                if let Some(stream) = &mut route.stream {
                    stream.rewind();
                }
            }
            self.has_unsent(origin);
        }
    }

    /// The host of streams is lost: whoever waits is told what is known of their events.
    pub(super) fn routes_lost(&mut self, node: NodeId, now: Now) {
        for origin in self.routes_to(node) {
            if !self.fall_back(origin, Told::Lost, now) {
                self.end_route(origin, |maybe| peer_lost(origin, maybe));
            }
        }
    }

    /// Asks the former host of a stream, which may have the daemon back, or still reach the one that is lost here. It tells
    /// of either, or that it knows of none.
    fn fall_back(&mut self, origin: OriginHash, told: Told, now: Now) -> bool {
        let me = self.me();
        // This node waits only for the end of its own doubt: else it knows of none.
        let own = self.is_released(origin);
        let Some(stream) = self.routes.get_mut(&origin).and_then(|route| route.stream.as_mut()) else { return false };
        let may_know = |former: &NodeId| if *former == me { own } else { self.peers.is_up(*former) };
        let Some(former) = stream.former.take().filter(may_know).filter(|_| !stream.is_settled()) else {
            return false;
        };
        // As if it had heard of no move: so what it sends is sent on.
        (stream.host, stream.epoch) = (former, Epoch::default());
        match told {
            Told::NotThere => (stream.told_host, stream.refuted) = (former, stream.told_epoch),
            Told::Lost => {}
        }
        self.repeat_stream(origin, now);
        true
    }

    /// The session with the host broke: nothing of its streams stands in a list any more.
    pub(super) fn routes_cut(&mut self, node: NodeId, now: Now) {
        for origin in self.routes_to(node) {
            if let Some(route) = self.routes.get_mut(&origin) {
                route.queued = false;
            }
        }
        self.routes_silent(node, now);
    }

    /// The host of streams is out of reach, or silent.
    pub(super) fn routes_silent(&mut self, node: NodeId, now: Now) {
        for origin in self.routes_to(node) {
            if let Some(route) = self.routes.get_mut(&origin) {
                route.silent_since.get_or_insert(now.instant);
            }
            self.seek_later(origin, now);
        }
    }

    /// It was silent only for a while.
    pub(super) fn routes_heard(&mut self, node: NodeId) {
        for origin in self.routes_to(node) {
            if let Some(route) = self.routes.get_mut(&origin) {
                route.silent_since = None;
            }
        }
    }

    fn routes_to(&self, node: NodeId) -> Vec<OriginHash> {
        self.routes_where(|stream| stream.host == node)
    }

    fn routes_where(&self, which: impl Fn(&OutStream) -> bool) -> Vec<OriginHash> {
        let mut origins: Vec<_> = self
            .routes
            .iter()
            .filter(|(_, route)| route.stream.as_ref().is_some_and(&which))
            .map(|(origin, _)| *origin)
            .collect();
        origins.sort_unstable();
        origins
    }

    /// Ends the waiting of those whose daemons were out of reach for long.
    fn end_silent_routes(&mut self, now: Instant) {
        let Self { routes, peers, node, .. } = self;
        let me = node.keypair.node_id();
        let mut silent = Vec::new();
        for (origin, route) in routes {
            let reached = match &route.stream {
                Some(stream) => (stream.host == me || peers.is_heard(stream.host)) && stream.astray.is_none(),
                None => route.waiting.is_empty(),
            };
            let since = *route.silent_since.get_or_insert(now);
            if reached {
                route.silent_since = None;
            } else if since + PATIENCE <= now {
                silent.push(*origin);
            }
        }
        silent.sort_unstable();
        for origin in silent {
            let route = self.routes.get(&origin);
            if route.and_then(|route| route.stream.as_ref()).is_some_and(has_moved_too_often) {
                self.end_route(origin, |maybe| moved_too_often(origin, maybe, PATIENCE));
            } else {
                self.end_route(origin, |maybe| peer_lost(origin, maybe));
            }
        }
    }

    /// Tells hosts, and whoever sends on to them, that what they were sent is still waited for, however long it takes.
    fn remind_hosts(&mut self, now: Instant) {
        for origin in self.routes_where(|stream| !stream.is_settled()) {
            let Some(route) = self.routes.get_mut(&origin) else { continue };
            if route.reminded_at + REMIND_EVERY <= now {
                route.reminded_at = now;
                if let Some(stream) = &mut route.stream {
                    stream.remind();
                }
                self.has_unsent(origin);
            }
        }
    }

    /// Closes streams that nobody uses, or that lead nowhere for long; the others are kept alive.
    pub(super) fn sweep_routes(&mut self, now: Instant) {
        self.end_silent_routes(now);
        self.remind_hosts(now);
        let idle: Vec<OriginHash> = self
            .routes
            .iter()
            .filter(|(_, route)| {
                route.used_at + IDLE_STREAM <= now
                    && route.waiting.is_empty()
                    && route.stream.as_ref().is_none_or(OutStream::is_settled)
            })
            .map(|(origin, _)| *origin)
            .collect();
        for origin in idle {
            if let Some(stream) = self.routes.remove(&origin).and_then(|route| route.stream) {
                let body = codec::encode(&EventsMessage::Close { stream: stream.id });
                self.send(stream.host, Subprotocol::Events, body);
            }
        }
    }
}
