//! Daemons whose host is out of reach while somebody waits: they may live elsewhere by now.
//!
//! A host that dies is silent for long before its loss is declared. Meanwhile the daemon may be begun anew, or taken over, on
//! another node. So a stream that leads to a silent host looks for its daemon again, more and more seldom, and at once for what
//! is sent when it was not looked for lately. A host in reach that speaks for itself is followed. What was on its way to the
//! silent one is not repeated to another life of the daemon: whoever waits for it is told that nobody knows. What never left
//! this node goes on, in its order.

use std::time::Duration;

use tokio::time::Instant;

use super::engine::{Engine, Now};
use super::recovery::peer_lost;
use super::routes::Route;
use super::timers::TimerKey;
use crate::directory::{Found, Haste};
use crate::events::OutStream;
use crate::identity::{NodeId, OriginHash};

/// How long a host is out of reach before its daemon is looked for, and how soon it is looked for again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How seldom it is looked for at last.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// The search for a daemon whose host is out of reach.
#[derive(Debug)]
pub(super) struct Seeking {
    /// When the host was in reach, or the daemon was looked for, last.
    last: Instant,
    pause: Duration,
}

impl Seeking {
    pub(super) fn new(now: Instant) -> Self {
        Self { last: now, pause: FIRST_PAUSE }
    }

    fn due(&self) -> Instant {
        self.last + self.pause
    }
}

impl Engine {
    pub(super) fn is_reached(&self, node: NodeId) -> bool {
        node == self.me() || self.peers.is_heard(node)
    }

    /// Whether somebody waits for a stream whose host is out of reach.
    fn leads_nowhere(&self, origin: OriginHash) -> bool {
        let stream = self.routes.get(&origin).and_then(|route| route.stream.as_ref());
        stream.is_some_and(|stream| !stream.is_settled() && !self.is_reached(stream.host))
    }

    /// The host of a stream went out of reach, or was so when the stream began.
    pub(super) fn seek_later(&mut self, origin: OriginHash, now: Now) {
        if let Some(route) = self.routes.get_mut(&origin) {
            route.seeking = Seeking::new(now.instant);
        }
        self.arm_seeking(origin);
    }

    fn arm_seeking(&mut self, origin: OriginHash) {
        if self.leads_nowhere(origin)
            && let Some(route) = self.routes.get(&origin)
        {
            self.timers.arm(TimerKey::Route(origin), route.seeking.due());
        }
    }

    /// Looks for the daemon of a stream that leads nowhere, when it is time.
    pub(super) fn seek(&mut self, origin: OriginHash, now: Now) {
        if !self.leads_nowhere(origin) {
            return;
        }
        if let Some(route) = self.routes.get_mut(&origin).filter(|route| route.seeking.due() <= now.instant) {
            let pause = (2 * route.seeking.pause).min(LONGEST_PAUSE);
            route.seeking = Seeking { last: now.instant, pause };
            self.look_up(origin, Haste::SkipSilent, now);
        }
        self.arm_seeking(origin);
    }

    /// The same for somebody who comes: not later than it would be without those before.
    pub(super) fn seek_soon(&mut self, origin: OriginHash, now: Now) {
        if !self.leads_nowhere(origin) {
            return;
        }
        if let Some(route) = self.routes.get_mut(&origin) {
            route.seeking.pause = FIRST_PAUSE;
        }
        self.seek(origin, now);
    }

    /// A daemon was found. One of another life is followed when it speaks for itself and the host of the stream is silent.
    pub(super) fn follow(&mut self, origin: OriginHash, found: &Found, now: Now) {
        let body = found.claim.body();
        let host = body.node();
        let Some(stream) = self.routes.get(&origin).and_then(|route| route.stream.as_ref()) else { return };
        if self.is_reached(stream.host) || host != found.by || !self.is_reached(host) {
            return;
        }
        if stream.id.entity != body.entity {
            return;
        }
        if stream.id.lineage != body.lineage {
            self.leave_life(origin, false);
            self.route_to(origin, found, now);
        } else if body.epoch > stream.told_epoch && !stream.told_epoch.is_far_behind(body.epoch) {
            let id = stream.id;
            self.on_moved(&id, host, body.epoch, now);
        }
    }

    /// The life of a daemon that a stream leads to is over, or was left behind: of what may have run there nobody knows any
    /// more. What certainly did not waits for the daemon to be found; `refused`: its host has just said so of more than what
    /// never left this node.
    pub(super) fn leave_life(&mut self, origin: OriginHash, refused: bool) {
        let Some(route) = self.routes.get_mut(&origin) else { return };
        let Some(mut stream) = route.stream.take() else { return };
        route.wait(stream.take_not_run(refused));
        route.queued = false;
        if !route.waits() {
            self.end_route(origin, |maybe| peer_lost(origin, maybe));
        }
        for (ticket, maybe) in stream.end(refused) {
            self.settle(ticket, Err(peer_lost(origin, maybe)));
        }
    }

    /// A daemon begins a life on this node: what waits for a host of another one that is out of reach does so no more.
    pub(super) fn leave_silent(&mut self, origin: OriginHash) {
        let stream = self.routes.get(&origin).and_then(|route| route.stream.as_ref());
        if stream.is_some_and(|stream| !self.is_reached(stream.host)) {
            self.leave_life(origin, false);
        }
    }

    /// A node refuses a stream of which it has accepted nothing since it was named: the daemon is looked for once more before
    /// its callers are told that there is none. It may live in another life, or be in doubt.
    pub(super) fn seek_after_refusal(&mut self, origin: OriginHash, now: Now) -> bool {
        let Some(route) = self.routes.get_mut(&origin) else { return false };
        if route.refused || !route.stream.as_ref().is_some_and(OutStream::is_host_unproven) {
            return false;
        }
        route.refused = true;
        self.leave_life(origin, true);
        if self.routes.get(&origin).is_some_and(Route::waits) {
            self.look_up(origin, Haste::WaitForAll, now);
        }
        true
    }
}
