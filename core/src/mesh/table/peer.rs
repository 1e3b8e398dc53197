//! What the table keeps of one peer.

use super::{ConnId, DialTarget, Duration, Incarnation, Instant, PeerIdentity, PeerState, ProvenPeer, SessionId, Way};

/// One node id.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Absent until the first session is up.
    pub(super) known: Option<Known>,
    pub(super) live: Option<Live>,
    /// A dial from here that was finished on this side and not welcomed yet.
    pub(super) pending: Option<Pending>,
    pub(super) redial: Option<Redial>,
}

/// A peer that has had a session.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) identity: PeerIdentity,
    /// The way of the latest session.
    pub(super) way: Way,
    pub(super) state: PeerState,
    pub(super) since: Instant,
    /// The latest session, dead or alive.
    pub(super) session: SessionId,
    /// The session with which began what is shared with this life of it: the latest one that was not resumed.
    pub(super) began: SessionId,
    /// When something was last heard on a connection that is gone.
    pub(super) heard: Instant,
    /// When this peer is to be looked at again.
    pub(super) check: Option<Instant>,
}

/// The session that is up.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) conn: ConnId,
    pub(super) session: SessionId,
    pub(super) dialled: Dialled,
    pub(super) opened: Instant,
    pub(super) pinged: Instant,
}

/// Who dialled a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialled {
    Here,
    There { attempt: u64 },
}

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) conn: ConnId,
    pub(super) peer: ProvenPeer,
    pub(super) session: Option<SessionId>,
    /// What the listener was told to be held here.
    pub(super) holds: Option<SessionId>,
    pub(super) target: DialTarget,
}

/// Where to find a peer again.
#[derive(Debug)]
pub(super) struct Redial {
    pub(super) target: DialTarget,
    pub(super) failures: u32,
    pub(super) plan: Plan,
    /// When to stop trying; set once the peer said goodbye.
    pub(super) until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    Idle,
    At(Instant),
    UnderWay,
}

impl Peer {
    pub(super) fn is_present(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.state != PeerState::Lost)
    }

    /// The session with which began what is shared with that life of the peer, as long as it is held here.
    pub(super) fn holds(&self, life: Incarnation) -> Option<SessionId> {
        let known = self.known.as_ref().filter(|known| known.identity.incarnation == life);
        known.filter(|_| self.is_present()).map(|known| known.began)
    }

    /// A session that works as far as is known.
    pub(super) fn healthy(&self) -> Option<&Live> {
        let known = self.known.as_ref()?;
        self.live.as_ref().filter(|_| known.state == PeerState::Connected)
    }

    /// Its session, if there is one, goes through a relay.
    pub(super) fn is_relayed(&self) -> bool {
        self.live.is_some() && self.known.as_ref().is_some_and(|known| known.way.via().is_some())
    }

    /// A session that works, and nothing better is to be had by dialling again.
    pub(super) fn is_settled(&self) -> bool {
        let better = self.redial.as_ref().is_some_and(|redial| redial.target.way.via().is_none());
        self.healthy().is_some() && !(better && self.is_relayed())
    }

    /// When it is to be looked at; `remember` is how long a peer is known after its loss that nobody dials.
    pub(super) fn due(&self, started: bool, remember: Duration) -> Option<Instant> {
        let known = self.known.as_ref();
        let check = known.and_then(|known| known.check).filter(|_| started || self.live.is_none());
        let redial = self.redial.as_ref();
        let forget = known.filter(|known| known.state == PeerState::Lost && redial.is_none());
        let forget = forget.filter(|_| self.pending.is_none()).map(|known| known.since + remember);
        let dial = redial.and_then(|redial| match redial.plan {
            Plan::At(at) => Some(at),
            Plan::Idle | Plan::UnderWay => None,
        });
        [check, forget, dial].into_iter().flatten().min()
    }

    /// Since when it is lost, unless it is being dialled, or was by somebody here who knew its address.
    pub(super) fn forgettable_since(&self) -> Option<Instant> {
        let wanted = self.redial.as_ref().is_some_and(|redial| !redial.target.hearsay);
        let known = self.known.as_ref().filter(|known| known.state == PeerState::Lost);
        known.filter(|_| !wanted && self.pending.is_none()).map(|known| known.since)
    }

    pub(super) fn incarnation(&self) -> Option<Incarnation> {
        self.known.as_ref().map(|known| known.identity.incarnation)
    }
}
