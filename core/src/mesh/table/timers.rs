//! What the passing of time does: heartbeats, suspicion, loss, dialling again, forgetting.

use super::peer::{Known, Plan};
use super::peers::Place;
use super::{Action, Activity, CloseReason, Duration, Instant, NodeId, PeerState, PeerTable};
use crate::mesh::handler::Loss;

/// For how many session timeouts the older lives of a lost peer stay refused; so long it is remembered if nobody dials it.
const REMEMBER: u32 = 20;

impl PeerTable {
    /// From now on peers are asked for signs of life and judged by them.
    pub fn start(&mut self, now: Instant) {
        self.started = true;
        for peer in self.peers.iter_mut() {
            if let (Some(known), Some(live)) = (&mut peer.known, &mut peer.live) {
                // Silence before this moment was allowed.
                live.opened = now;
                known.check = Some(now + self.config.heartbeat);
            }
        }
    }

    /// When [`on_timer`](Self::on_timer) has something to do.
    pub fn next_timer(&mut self) -> Option<Instant> {
        self.settle();
        self.peers.first_due()
    }

    /// Does what is due at `now`.
    pub fn on_timer(&mut self, now: Instant, activity: &dyn Activity) {
        self.settle();
        for node in self.peers.due(now) {
            self.check_peer(now, node, activity);
            self.dial_if_due(now, node);
            self.forget_if_old(now, node);
        }
    }

    /// Puts peers that changed in the order in which they are to be looked at.
    pub(super) fn settle(&mut self) {
        let (started, remember) = (self.started, self.remember());
        self.peers.settle(|peer| Place { due: peer.due(started, remember), lost: peer.forgettable_since() });
    }

    /// A background dial ended without a session. Calling this once more, or after a success, does nothing.
    pub fn redial_failed(&mut self, now: Instant, node: NodeId) {
        let Some(entry) = self.peers.get_mut(node) else { return };
        let settled = entry.is_settled();
        let Some(redial) = entry.redial.as_mut().filter(|redial| redial.plan == Plan::UnderWay) else { return };
        redial.plan = Plan::Idle;
        if !settled {
            redial.failures = redial.failures.saturating_add(1);
            self.plan_redial(now, node);
        }
    }

    pub(super) fn plan_redial(&mut self, now: Instant, node: NodeId) {
        let Some(redial) = self.peers.get_mut(node).and_then(|entry| entry.redial.as_mut()) else { return };
        if redial.plan != Plan::Idle {
            return;
        }
        let at = now + self.config.backoff.delay(redial.failures);
        if redial.until.is_some_and(|until| at > until) {
            if let Some(entry) = self.peers.get_mut(node) {
                entry.redial = None;
            }
            return;
        }
        redial.plan = Plan::At(at);
    }

    fn check_peer(&mut self, now: Instant, node: NodeId, activity: &dyn Activity) {
        let (heartbeat, timeout) = (self.config.heartbeat, self.config.session_timeout);
        let started = self.started;
        let Some(entry) = self.peers.get_mut(node) else { return };
        let Some(known) = &mut entry.known else { return };
        if known.check.is_none_or(|check| check > now) {
            return;
        }
        let Some(live) = &mut entry.live else {
            if now >= known.heard + timeout {
                self.lose(now, node, Loss::Silence);
            }
            return;
        };
        if !started {
            return;
        }
        let (heard, sent) = activity.of(live.conn).unwrap_or((live.opened, live.opened));
        let (heard, sent) = (heard.max(live.opened), sent.max(live.opened));
        let conn = live.conn;
        if now >= heard + timeout {
            known.heard = heard;
            entry.live = None;
            self.close(conn, CloseReason::Silence);
            self.lose(now, node, Loss::Silence);
            self.plan_redial(now, node);
            return;
        }
        let due = live.pinged.max(heard.min(sent)) + heartbeat;
        let due = if now >= due {
            live.pinged = now;
            self.actions.push_back(Action::Ping { conn });
            now + heartbeat
        } else {
            due
        };
        let silent = now >= heard + timeout / 2;
        let deadline = if silent { heard + timeout } else { heard + timeout / 2 };
        known.check = Some(due.min(deadline));
        if silent && known.state == PeerState::Connected {
            self.suspect(now, node);
            self.actions.push_back(Action::Watch { conn });
            // A connection can be dead without anybody being told: try another one beside it.
            self.plan_redial(now, node);
        } else if !silent && known.state == PeerState::Suspected {
            self.heard_again(now, conn);
        }
    }

    fn dial_if_due(&mut self, now: Instant, node: NodeId) {
        let Some(redial) = self.peers.get_mut(node).and_then(|entry| entry.redial.as_mut()) else { return };
        if matches!(redial.plan, Plan::At(at) if at <= now) {
            redial.plan = Plan::UnderWay;
            let target = redial.target.clone();
            self.actions.push_back(Action::Dial { node, target });
        }
    }

    fn forget_if_old(&mut self, now: Instant, node: NodeId) {
        let old = self.peers.get(node).is_some_and(|entry| {
            let long_lost = entry.known.as_ref().is_some_and(|known| self.is_long_lost(known, now));
            long_lost && entry.redial.is_none() && entry.pending.is_none()
        });
        if old {
            self.peers.remove(node);
        }
    }

    /// Whether an older life of this peer need not be refused any more.
    pub(super) fn is_long_lost(&self, known: &Known, now: Instant) -> bool {
        known.state == PeerState::Lost && now >= known.since + self.remember()
    }

    fn remember(&self) -> Duration {
        self.config.session_timeout.saturating_mul(REMEMBER)
    }
}
