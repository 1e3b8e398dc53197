//! Who gets a session, and what becomes of the one before.

use super::peer::{Dialled, Known, Plan};
use super::{
    Accepted, Action, CloseReason, ConnId, DialDecision, DialIntent, DialTarget, Duration, Instant, Live, NodeId, Peer,
    PeerEvent, PeerRefusal, PeerState, PeerTable, Pending, ProvenPeer, Redial, SessionId, Way, identity_of,
};
use crate::mesh::handler::Loss;

/// How long a peer that said goodbye is dialled again: long enough for a restart.
const REDIAL_AFTER_GOODBYE: Duration = Duration::from_secs(600);
/// How long a lost peer is dialled again that nobody here asked for by its address.
const REDIAL_IN_VAIN: Duration = Duration::from_secs(600);

impl PeerTable {
    /// A dial has proven who listens at `target`. `expected` is the peer that a background dial was for.
    pub fn dial_proven(
        &mut self,
        now: Instant,
        peer: &ProvenPeer,
        target: &DialTarget,
        expected: Option<NodeId>,
    ) -> DialDecision {
        let another = expected.filter(|&expected| expected != peer.node);
        if let Some(old) = another.and_then(|expected| self.peers.get_mut(expected)) {
            if target.way.leads_to_one() {
                // Somebody else lives at that address now.
                old.redial = None;
            } else if let Some(redial) = &mut old.redial {
                redial.until.get_or_insert(now + REDIAL_IN_VAIN);
            }
        }
        if let Err(refusal) = self.admissible(now, peer) {
            return DialDecision::Refused(refusal);
        }
        let entry = self.peers.entry(peer.node);
        let same_life = entry.incarnation() == Some(peer.incarnation);
        let direct = target.way.via().is_none();
        if same_life && entry.healthy().is_some() && !(direct && entry.is_relayed()) {
            if another.is_none() {
                self.remember_target(peer.node, target);
            }
            return DialDecision::AlreadyConnected;
        }
        let further = |pending: &Pending| pending.target.way.via().is_none() || !direct;
        if entry
            .pending
            .as_ref()
            .is_some_and(|pending| pending.peer.incarnation >= peer.incarnation && further(pending))
        {
            return DialDecision::AlreadyDialling;
        }
        let stale = entry.pending.take();
        let after = entry.known.as_ref().filter(|_| same_life).map(|known| known.session);
        let holds = entry.holds(peer.incarnation);
        self.attempts += 1;
        let attempt = self.attempts;
        if let Some(stale) = stale {
            let newer = stale.peer.incarnation < peer.incarnation;
            self.close(stale.conn, if newer { CloseReason::NewerIncarnation } else { CloseReason::Replaced });
        }
        let conn = self.conn(peer.node);
        let pending = Pending { conn, peer: peer.clone(), session: None, holds, target: target.clone() };
        self.peers.entry(peer.node).pending = Some(pending);
        DialDecision::Proceed { conn, intent: DialIntent { attempt, after, holds, ready: false } }
    }

    /// The handshake of a dial is finished on this side; its session has a name.
    pub fn dial_finished(&mut self, conn: ConnId, session: SessionId) {
        let node = self.conns.get(&conn);
        let pending = node.and_then(|node| self.peers.get_mut(*node)).and_then(|peer| peer.pending.as_mut());
        if let Some(pending) = pending.filter(|pending| pending.conn == conn) {
            pending.session = Some(session);
        }
    }

    /// The listener welcomed a dial. False when the dial was given up meanwhile, or the listener would go on with what is not
    /// held here (any more): then the connection is to be closed.
    pub fn dial_welcomed(&mut self, now: Instant, conn: ConnId, resumed: bool) -> bool {
        let Some(&node) = self.conns.get(&conn) else { return false };
        let Some(entry) = self.peers.get_mut(node) else { return false };
        let still_holds =
            |pending: &Pending| pending.holds.is_some() && entry.holds(pending.peer.incarnation) == pending.holds;
        let fits = |pending: &&Pending| pending.conn == conn && (!resumed || still_holds(pending));
        let session = entry.pending.as_ref().filter(fits).and_then(|pending| pending.session);
        let (Some(session), Some(pending)) = (session, entry.pending.take_if(|_| session.is_some())) else {
            return false;
        };
        let target = pending.target;
        let taken = Taken { conn, session, dialled: Dialled::Here, way: target.way.clone(), resumed };
        self.take(now, &pending.peer, taken);
        self.remember_target(node, &target);
        true
    }

    /// A dial ended; nothing changes if it was welcomed before.
    pub fn dial_ended(&mut self, now: Instant, conn: ConnId) {
        let Some(&node) = self.conns.get(&conn) else { return };
        let Some(peer) = self.peers.get_mut(node) else { return };
        if peer.pending.take_if(|pending| pending.conn == conn).is_none() {
            return;
        }
        self.conns.remove(&conn);
        self.redial_failed(now, node);
        self.forget_if_unknown(node);
    }

    /// A listener has proven who dialled. On success the session is the peer's; the welcome comes first on it.
    pub fn accept(
        &mut self,
        now: Instant,
        peer: &ProvenPeer,
        session: SessionId,
        intent: DialIntent,
        way: &Way,
    ) -> Result<Accepted, PeerRefusal> {
        self.admissible(now, peer)?;
        let me = self.me;
        let entry = self.peers.entry(peer.node);
        let same_life = entry.incarnation() == Some(peer.incarnation);
        let direct = way.via().is_none();
        if let Some(live) = entry.live.as_ref().filter(|_| same_life) {
            let newer = match live.dialled {
                Dialled::There { attempt } => intent.attempt > attempt,
                Dialled::Here => intent.after == Some(live.session),
            };
            let replaces = newer || (direct && entry.is_relayed());
            if !replaces {
                return Err(PeerRefusal::Duplicate);
            }
        }
        if let Some(pending) = entry.pending.take() {
            let same = pending.peer.incarnation == peer.incarnation;
            let mine_goes_first = match (pending.target.way.via().is_none(), direct) {
                (true, false) => true,
                (false, true) => false,
                (true, true) | (false, false) => me < peer.entity,
            };
            if (same && mine_goes_first) || pending.peer.incarnation > peer.incarnation {
                entry.pending = Some(pending);
                return Err(PeerRefusal::Duplicate);
            }
            self.close(pending.conn, CloseReason::Replaced);
        }
        let entry = self.peers.entry(peer.node);
        let resumed = intent.holds.is_some() && entry.holds(peer.incarnation) == intent.holds;
        let conn = self.conn(peer.node);
        let dialled = Dialled::There { attempt: intent.attempt };
        self.take(now, peer, Taken { conn, session, dialled, way: way.clone(), resumed });
        Ok(Accepted { conn, resumed })
    }

    /// The connection of a session broke or ended; something was last heard on it at `heard`.
    pub fn connection_lost(&mut self, now: Instant, conn: ConnId, heard: Instant) {
        let Some(&node) = self.conns.get(&conn) else { return };
        let Some(entry) = self.peers.get_mut(node) else { return };
        let Some(live) = entry.live.take_if(|live| live.conn == conn) else { return };
        let long_enough = now.duration_since(live.opened) >= self.config.heartbeat;
        if let Some(redial) = entry.redial.as_mut().filter(|_| long_enough) {
            redial.failures = 0;
        }
        self.close(conn, CloseReason::Broken);
        self.cut(now, node);
        if let Some(known) = self.peers.get_mut(node).and_then(|entry| entry.known.as_mut()) {
            known.heard = heard;
            known.check = Some(heard + self.config.session_timeout);
        }
        self.plan_redial(now, node);
    }

    /// The peer said goodbye on this session.
    pub fn goodbye(&mut self, now: Instant, conn: ConnId) {
        let Some(&node) = self.conns.get(&conn) else { return };
        let Some(entry) = self.peers.get_mut(node) else { return };
        if entry.live.take_if(|live| live.conn == conn).is_none() {
            return;
        }
        if let Some(redial) = &mut entry.redial {
            redial.until = Some(now + REDIAL_AFTER_GOODBYE);
        }
        self.close(conn, CloseReason::Goodbye);
        self.lose(now, node, Loss::Goodbye);
        self.plan_redial(now, node);
    }

    /// Something was heard on a session that was suspected for its silence. It goes on where it was: the other side may know
    /// nothing of the silence, so neither may take anything for lost.
    pub fn heard_again(&mut self, now: Instant, conn: ConnId) {
        let Some(&node) = self.conns.get(&conn) else { return };
        let Some(entry) = self.peers.get_mut(node) else { return };
        if entry.live.as_ref().is_none_or(|live| live.conn != conn) {
            return;
        }
        let Some(known) = entry.known.as_mut().filter(|known| known.state == PeerState::Suspected) else { return };
        (known.state, known.since) = (PeerState::Connected, now);
        if entry.is_settled()
            && let Some(redial) = entry.redial.as_mut().filter(|redial| matches!(redial.plan, Plan::At(_)))
        {
            redial.plan = Plan::Idle;
        }
        self.event(PeerEvent::Heard { node });
    }

    /// Everything ends because this node leaves: every peer is told lost, every connection that is still named is not
    /// touched (the shell says goodbye on it).
    pub fn leave(&mut self, now: Instant) {
        for node in self.peers.nodes() {
            self.lose(now, node, Loss::Silence);
        }
        self.peers.clear();
        self.conns.clear();
    }

    fn admissible(&self, now: Instant, peer: &ProvenPeer) -> Result<(), PeerRefusal> {
        if peer.entity == self.me || peer.node == self.me.node_id() {
            return Err(PeerRefusal::Myself);
        }
        let entry = self.peers.get(peer.node);
        if let Some(known) = entry.and_then(|entry| entry.known.as_ref()) {
            if known.identity.entity != peer.entity {
                return Err(PeerRefusal::IdTaken);
            }
            // A clock may have been set back: whoever dials for ever would refuse the node for ever.
            if known.identity.incarnation > peer.incarnation && !self.is_long_lost(known, now) {
                return Err(PeerRefusal::OlderIncarnation);
            }
        }
        // Whoever is being dialled will take a place.
        let has_place = |entry: &Peer| entry.is_present() || entry.pending.is_some();
        let places = || self.peers.iter().filter(|entry| has_place(entry)).count();
        let room = entry.is_some_and(has_place) || places() < self.config.max_peers;
        if room { Ok(()) } else { Err(PeerRefusal::Full) }
    }

    /// Makes a connection the peer's session, and tells in order what becomes of the one before.
    fn take(&mut self, now: Instant, peer: &ProvenPeer, taken: Taken) {
        let Taken { conn, session, dialled, way, resumed } = taken;
        let entry = self.peers.entry(peer.node);
        let same_life = entry.incarnation() == Some(peer.incarnation);
        let old = entry.live.take();
        if let Some(old) = old {
            let why = if same_life { CloseReason::Replaced } else { CloseReason::NewerIncarnation };
            self.close(old.conn, why);
            if same_life {
                self.cut(now, peer.node);
            }
        }
        if !same_life {
            self.lose(now, peer.node, Loss::NewerIncarnation);
        } else if !resumed {
            // One of the two has dropped what they shared, so the other one must too.
            self.lose(now, peer.node, Loss::Silence);
        }
        let identity = identity_of(peer);
        let entry = self.peers.entry(peer.node);
        let began = entry.holds(peer.incarnation).filter(|_| resumed).unwrap_or(session);
        let mut stands_in = false;
        if let Some(redial) = &mut entry.redial {
            redial.until = None;
            stands_in = way.via().is_some() && redial.target.way.via().is_none();
            if matches!(redial.plan, Plan::At(_)) && !stands_in {
                redial.plan = Plan::Idle;
            }
        }
        entry.live = Some(Live { conn, session, dialled, opened: now, pinged: now });
        entry.known = Some(Known {
            identity: identity.clone(),
            way,
            state: PeerState::Connected,
            since: now,
            session,
            began,
            heard: now,
            check: Some(now + self.config.heartbeat),
        });
        self.actions.push_back(Action::Open { conn, node: peer.node });
        self.event(PeerEvent::Connected { peer: identity, resumed });
        if stands_in {
            self.plan_redial(now, peer.node);
        }
    }

    pub(super) fn suspect(&mut self, now: Instant, node: NodeId) {
        let known = self.peers.get_mut(node).and_then(|entry| entry.known.as_mut());
        let Some(known) = known.filter(|known| known.state == PeerState::Connected) else { return };
        (known.state, known.since) = (PeerState::Suspected, now);
        self.event(PeerEvent::Suspected { node });
    }

    /// The session is gone.
    fn cut(&mut self, now: Instant, node: NodeId) {
        self.suspect(now, node);
        self.event(PeerEvent::Cut { node });
    }

    pub(super) fn lose(&mut self, now: Instant, node: NodeId, how: Loss) {
        let known = self.peers.get_mut(node).and_then(|entry| entry.known.as_mut());
        let Some(known) = known.filter(|known| known.state != PeerState::Lost) else { return };
        (known.state, known.since, known.check) = (PeerState::Lost, now, None);
        let incarnation = known.identity.incarnation;
        if let Some(entry) = self.peers.get_mut(node) {
            // Whoever needs it will ask the peers of that time.
            entry.redial.take_if(|redial| redial.target.way.via().is_some());
            if let Some(redial) = entry.redial.as_mut().filter(|redial| redial.target.hearsay) {
                redial.until.get_or_insert(now + REDIAL_IN_VAIN);
            }
        }
        self.event(PeerEvent::Lost { node, incarnation, how });
    }

    /// Notes that a peer with a session can be found at `target`, though the session came about otherwise.
    pub fn found_at(&mut self, node: NodeId, target: &DialTarget) {
        if self.session(node).is_some() {
            self.remember_target(node, target);
        }
    }

    fn remember_target(&mut self, node: NodeId, target: &DialTarget) {
        if !self.config.reconnect {
            return;
        }
        let Some(entry) = self.peers.get_mut(node) else { return };
        let relayed = target.way.via().is_some();
        let better = |known: &DialTarget| known.way.via().is_none() && (relayed || (target.hearsay && !known.hearsay));
        if entry.redial.as_ref().is_some_and(|redial| better(&redial.target)) {
            return;
        }
        let settled = entry.healthy().is_some() && (relayed || !entry.is_relayed());
        let (failures, plan) = match &entry.redial {
            Some(redial) => (redial.failures, if settled { Plan::Idle } else { redial.plan }),
            None => (0, Plan::Idle),
        };
        entry.redial = Some(Redial { target: target.clone(), failures, plan, until: None });
    }

    fn forget_if_unknown(&mut self, node: NodeId) {
        if self.peers.get(node).is_some_and(|entry| entry.known.is_none() && entry.pending.is_none()) {
            self.peers.remove(node);
        }
    }
}

struct Taken {
    conn: ConnId,
    session: SessionId,
    dialled: Dialled,
    way: Way,
    resumed: bool,
}
