//! Copies of one daemon that came to be on both sides of a partition: how their hosts hear of each other.
//!
//! Members name their daemons to homes, and a home that hears two hosts of one tells the later one. Peers that share no homes
//! compare at the beginning of every session: both say how many daemons they host, and whoever hosts fewer names its own, in
//! batches and unsigned. The other one tells of those that it hosts too, or knows a later host of. Then claims are shown, a
//! few at a time because they are signed, and the loser gives way. Daemons that were taken over are shown to every peer at the
//! beginning of a session, also to those that host none: what a former copy says is not to be believed there.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::engine::{Engine, Now};
use super::placing::{MUCH, PAUSE, STEP, TOGETHER};
use super::reaching::Then;
use super::timers::TimerKey;
use crate::daemon::Standing;
use crate::identity::{Epoch, NodeId, OriginHash};
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::directory::{DirectoryMessage, Hosted, MOST_NAMED, Rival};

/// Claims that are shown in one step.
const SHOWN: usize = 64;
/// Pause between two steps.
const BREATH: Duration = Duration::from_millis(5);
/// Most rivals that wait to be shown a claim; what comes beyond is found by the next comparison.
const MOST_CONTESTED: usize = 65_536;
/// Daemons are not named while so many rivals wait.
const MANY_CONTESTED: usize = 8_192;
/// Most daemons that arrived and are named together; beyond this they are named when their hosts compare.
const MOST_ARRIVED: usize = 65_536;

/// What a node goes through its daemons for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Errand {
    /// To show the claims of those that were taken over.
    ShowTakenOver,
    /// To name all.
    NameAll,
}

/// Comparisons under way.
#[derive(Debug, Default)]
pub(super) struct Comparing {
    /// For whom daemons are gone through, and at which slot that goes on.
    walks: BTreeMap<(NodeId, Errand), usize>,
    /// Others that say they host daemons of this node, and are to be shown its claims.
    contested: VecDeque<Rival>,
    /// Daemons that have arrived: hosts that this node has compared with have not heard of them.
    arrived: Vec<OriginHash>,
}

impl Comparing {
    /// The session with a peer is gone: the next one begins anew.
    pub(super) fn cut(&mut self, peer: NodeId) {
        self.walks.retain(|(of, _), _| *of != peer);
    }

    fn is_idle(&self) -> bool {
        self.walks.is_empty() && self.contested.is_empty() && self.arrived.is_empty()
    }

    /// Whether more rivals wait than were to be heard of now.
    pub(super) fn is_busy(&self) -> bool {
        self.contested.len() > MANY_CONTESTED
    }
}

impl Engine {
    /// A peer has a new session, or is a member no more: what both host is to be compared, unless homes do that.
    pub(super) fn compare_with(&mut self, peer: NodeId) {
        let hosted = self.daemons.len() as u64;
        if hosted > 0 && !self.placing.view.contains(peer) {
            self.say_tally(peer, hosted, false);
        }
    }

    fn say_tally(&mut self, to: NodeId, hosted: u64, yours: bool) {
        self.send(to, Subprotocol::Directory, codec::encode(&DirectoryMessage::Tally { hosted, yours }));
    }

    /// A peer that shares no homes with this node says how many daemons it hosts.
    pub(super) fn on_tally(&mut self, from: NodeId, hosted: u64, yours: bool, now: Now) {
        let mine = self.daemons.len() as u64;
        if mine == 0 {
            return;
        }
        if yours || (mine, self.me()) < (hosted, from) {
            self.comparing.walks.entry((from, Errand::NameAll)).or_insert(0);
            self.timers.arm(TimerKey::Comparing, now.instant + TOGETHER);
        } else {
            self.say_tally(from, mine, true);
        }
    }

    /// A peer has a new session: the first few claims of daemons that were taken over come before everything else there.
    pub(super) fn announce_all_to(&mut self, peer: NodeId, now: Now) {
        self.comparing.walks.insert((peer, Errand::ShowTakenOver), 0);
        self.walk(peer, Errand::ShowTakenOver);
        self.compare_later(now);
    }

    fn compare_later(&mut self, now: Now) {
        if !self.comparing.is_idle() {
            self.timers.arm(TimerKey::Comparing, now.instant + BREATH);
        }
    }

    /// A daemon has arrived: peers that were compared with before are to hear of it.
    pub(super) fn compare_arrived(&mut self, origin: OriginHash, now: Now) {
        let strangers = self.peers.connected().any(|(peer, _)| !self.placing.view.contains(peer));
        if strangers && self.comparing.arrived.len() < MOST_ARRIVED {
            self.comparing.arrived.push(origin);
            self.timers.arm(TimerKey::Comparing, now.instant + TOGETHER);
        }
    }

    /// Goes on with what is under way.
    pub(super) fn tick_comparing(&mut self, now: Now) {
        self.show_contested();
        let walks: Vec<(NodeId, Errand)> = self.comparing.walks.keys().copied().collect();
        let mut waits = false;
        for (peer, errand) in walks {
            if self.comparing.is_busy() || self.peers.waiting_bytes(peer) > MUCH {
                waits = true;
            } else {
                self.walk(peer, errand);
            }
        }
        self.name_arrived();
        if !self.comparing.is_idle() {
            self.timers.arm(TimerKey::Comparing, now.instant + if waits { PAUSE } else { BREATH });
        }
    }

    /// One step through the daemons of this node, for one peer.
    fn walk(&mut self, peer: NodeId, errand: Errand) {
        let Some(cursor) = self.comparing.walks.get(&(peer, errand)).copied() else { return };
        let mut hosted = Vec::new();
        let mut next = cursor;
        while next < self.daemons.capacity() && next < cursor + STEP && hosted.len() < errand.most() {
            if let Some(slot) = self.daemons.get(next) {
                let named = match (errand, slot.host.standing) {
                    (
                        Errand::NameAll,
                        Standing::Starting
                        | Standing::Live
                        | Standing::Freezing(_)
                        | Standing::Frozen(_)
                        | Standing::Closed(_),
                    ) => true,
                    (
                        Errand::ShowTakenOver,
                        Standing::Live | Standing::Freezing(_) | Standing::Frozen(_) | Standing::Closed(_),
                    ) => slot.host.min_epoch > Epoch::FIRST,
                    (Errand::ShowTakenOver, Standing::Starting)
                    | (_, Standing::Released(_) | Standing::Arriving(_)) => false,
                };
                if named {
                    hosted.push(Hosted { origin: slot.host.origin, epoch: slot.host.epoch });
                }
            }
            next += 1;
        }
        if next < self.daemons.capacity() {
            self.comparing.walks.insert((peer, errand), next);
        } else {
            self.comparing.walks.remove(&(peer, errand));
        }
        match errand {
            Errand::ShowTakenOver => {
                for Hosted { origin, .. } in hosted {
                    self.show_claim(origin, peer);
                }
            }
            Errand::NameAll => self.say_hosting(peer, hosted),
        }
    }

    fn say_hosting(&mut self, to: NodeId, hosted: Vec<Hosted>) {
        if !hosted.is_empty() {
            self.send(to, Subprotocol::Directory, codec::encode(&DirectoryMessage::Hosting { hosted }));
        }
    }

    fn name_arrived(&mut self) {
        let arrived = std::mem::take(&mut self.comparing.arrived);
        let of = |origin: &OriginHash| {
            let slot = self.local(*origin).ok().and_then(|key| self.slot(key))?;
            Some(Hosted { origin: *origin, epoch: slot.host.epoch })
        };
        let hosted: Vec<Hosted> = arrived.iter().filter_map(of).collect();
        let peers = self.peers.connected().filter(|(peer, ready)| *ready && !self.placing.view.contains(*peer));
        let strangers: Vec<NodeId> = peers.map(|(peer, _)| peer).collect();
        for stranger in strangers {
            for some in hosted.chunks(STEP) {
                self.say_hosting(stranger, some.to_vec());
            }
        }
    }

    /// A peer that shares no homes with this node names its daemons.
    pub(super) fn on_hosting(&mut self, from: NodeId, hosted: &[Hosted]) {
        let mut rivals = Vec::new();
        for &Hosted { origin, epoch } in hosted {
            if self.local(origin).is_ok() {
                rivals.push(Rival { origin, host: self.me() });
            } else if self.is_spawning(origin) {
                self.spawn_has_rival(origin, from);
            } else if let Some(later) =
                self.departed_claim(origin).filter(|claim| !self.is_dead(claim)).map(|claim| *claim.body())
                && later.epoch >= epoch
                && later.node() != from
            {
                rivals.push(Rival { origin, host: later.node() });
            }
        }
        self.say_rivals(from, &rivals);
    }

    /// Tells a host of others that say to host the same daemons.
    pub(super) fn say_rivals(&mut self, to: NodeId, rivals: &[Rival]) {
        for rivals in rivals.chunks(MOST_NAMED) {
            let body = codec::encode(&DirectoryMessage::Rivals { rivals: rivals.to_vec() });
            self.send(to, Subprotocol::Directory, body);
        }
    }

    /// Others say that they host daemons of this node: each of them is shown this node's claim, and either gives way or
    /// shows a better one.
    pub(super) fn on_rivals(&mut self, rivals: &[Rival], now: Now) {
        let idle = self.comparing.contested.is_empty();
        for &Rival { origin, host } in rivals {
            if host == self.me() {
                continue;
            }
            if self.local(origin).is_err() {
                // One that is still being spawned shows its claim once it lives.
                self.spawn_has_rival(origin, host);
            } else if self.comparing.contested.len() < MOST_CONTESTED {
                self.comparing.contested.push_back(Rival { origin, host });
            }
        }
        if idle {
            self.show_contested();
            self.compare_later(now);
        }
    }

    fn show_contested(&mut self) {
        for _ in 0..SHOWN {
            let Some(Rival { origin, host }) = self.comparing.contested.pop_front() else { return };
            if self.peers.is_up(host) {
                self.show_claim(origin, host);
            } else if self.local(origin).is_ok() {
                self.reach_first(host, || Then::ShowClaim { origin });
            }
        }
    }

    /// Shows a node the claim for a daemon of this one.
    pub(super) fn show_claim(&mut self, origin: OriginHash, to: NodeId) {
        if let Ok(key) = self.local(origin) {
            self.announce_to(key, to);
        }
    }
}

impl Errand {
    /// Most daemons of one step.
    const fn most(self) -> usize {
        match self {
            Self::ShowTakenOver => SHOWN,
            Self::NameAll => STEP,
        }
    }
}
