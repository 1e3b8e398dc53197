//! Copies of one daemon that came to be on both sides of a partition: how their hosts hear of each other.
//!
//! Members name their daemons to homes, and a home that hears two hosts of one tells the later one. Peers that share no homes
//! compare at the beginning of every session. One of the two, the one with the smaller id, leads: it hears how many daemons the
//! other one hosts, and decides once. Whoever hosts fewer names its own, in batches and unsigned. The other one tells of those
//! that it hosts too, or knows a later host of. Then claims are shown, a few at a time because they are signed, and the loser
//! gives way. Daemons that were taken over are shown to every peer at the beginning of a session, also to those that host none:
//! what a former copy says is not to be believed there.
//!
//! Whatever is to be said to a peer that has much to take waits for it, and holds up nothing for others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::engine::{Engine, Now, Slot};
use super::placing::{MUCH, PAUSE, STEP, TOGETHER};
use super::reaching::Then;
use super::timers::TimerKey;
use crate::daemon::Presence;
use crate::directory::{Contested, Newcomers, Next};
use crate::identity::{Epoch, NodeId, OriginHash};
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::directory::{DirectoryMessage, Hosted, MOST_PAIRS, Rival};

/// Claims that are shown in one step.
const SHOWN: usize = 64;
/// Most claims that are remembered to have been shown.
const SHOWN_LATELY: usize = 4_096;
/// Pause between two steps.
const BREATH: Duration = Duration::from_millis(5);
/// Daemons are not named to a peer while so many wait of what it told of others.
const MANY_CONTESTED: usize = 8_192;

/// What a node goes through its daemons for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Walk {
    /// To show the claims of those that were taken over.
    ShowTakenOver,
    /// To name all.
    NameAll,
}

/// Comparisons under way.
#[derive(Debug, Default)]
pub(super) struct Comparing {
    /// For whom daemons are gone through, and at which slot that goes on.
    walks: BTreeMap<(NodeId, Walk), usize>,
    /// Others that say they host daemons of this node, and are to be shown its claims.
    contested: Contested,
    /// Who of them was shown some last.
    shown: Option<NodeId>,
    /// What others were shown last: it does not arrive when the session breaks.
    shown_lately: VecDeque<(NodeId, OriginHash)>,
    /// Daemons that have arrived: hosts that this node has compared with have not heard of them.
    arrived: Newcomers,
    /// Peers that lead and were told how many daemons this node hosts: what they say of theirs crossed that word.
    told: BTreeSet<NodeId>,
}

impl Comparing {
    /// The session with a peer is gone: the next one begins anew. Gives the daemons whose claims it may not have seen.
    pub(super) fn cut(&mut self, peer: NodeId) -> Vec<OriginHash> {
        self.walks.retain(|(of, _), _| *of != peer);
        self.told.remove(&peer);
        self.arrived.forget(peer);
        let unseen = self.shown_lately.iter().filter(|(to, _)| *to == peer).map(|(_, origin)| *origin).collect();
        self.shown_lately.retain(|(to, _)| *to != peer);
        unseen
    }

    /// A claim was shown.
    fn showed(&mut self, to: NodeId, origin: OriginHash) {
        if self.shown_lately.len() == SHOWN_LATELY {
            self.shown_lately.pop_front();
        }
        self.shown_lately.push_back((to, origin));
    }

    fn is_idle(&self) -> bool {
        self.walks.is_empty() && self.contested.is_empty() && self.arrived.is_empty()
    }
}

impl Engine {
    /// A peer has a new session: what both host is to be compared, unless homes do that.
    pub(super) fn compare_with(&mut self, peer: NodeId) {
        self.comparing.arrived.skip(peer);
        let hosted = self.daemons.len() as u64;
        // The one that leads may have asked already.
        if hosted > 0 && !self.placing.view.contains(peer) && !self.comparing.told.contains(&peer) {
            self.tell_tally(peer, hosted, false);
        }
    }

    /// A peer is a member no more: so far homes compared, and they do not any more.
    pub(super) fn compare_anew(&mut self, peer: NodeId) {
        self.comparing.arrived.skip(peer);
        let hosted = self.daemons.len() as u64;
        if hosted > 0 {
            self.tell_tally(peer, hosted, true);
        }
    }

    fn tell_tally(&mut self, to: NodeId, hosted: u64, anew: bool) {
        if to < self.me() {
            self.comparing.told.insert(to);
        }
        self.say_tally(to, &DirectoryMessage::Tally { hosted, yours: false, anew });
    }

    fn say_tally(&mut self, to: NodeId, tally: &DirectoryMessage<'_>) {
        self.send(to, Subprotocol::Directory, codec::encode(tally));
    }

    /// A peer that shares no homes with this node says how many daemons it hosts.
    pub(super) fn on_tally(&mut self, from: NodeId, hosted: u64, yours: bool, anew: bool, now: Now) {
        let mine = self.daemons.len() as u64;
        if mine == 0 {
            return;
        }
        let leads = self.me() < from;
        if yours || (leads && mine <= hosted) {
            self.comparing.walks.entry((from, Walk::NameAll)).or_insert(0);
            self.timers.arm(TimerKey::Comparing, now.instant + TOGETHER);
        } else if leads {
            self.say_tally(from, &DirectoryMessage::Tally { hosted: mine, yours: true, anew: false });
        } else if anew || !self.comparing.told.contains(&from) {
            self.tell_tally(from, mine, false);
        }
    }

    /// A peer has a new session: the first few claims of daemons that were taken over come before everything else there.
    pub(super) fn announce_all_to(&mut self, peer: NodeId, now: Now) {
        self.comparing.walks.insert((peer, Walk::ShowTakenOver), 0);
        self.walk(peer, Walk::ShowTakenOver);
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
        if strangers {
            self.comparing.arrived.push(origin);
            self.timers.arm(TimerKey::Comparing, now.instant + TOGETHER);
        }
    }

    /// Goes on with what is under way.
    pub(super) fn tick_comparing(&mut self, now: Now) {
        let mut waits = self.show_contested(now);
        let walks: Vec<(NodeId, Walk)> = self.comparing.walks.keys().copied().collect();
        for (peer, walk) in walks {
            if self.comparing.contested.held_of(peer) > MANY_CONTESTED || self.has_much(peer) {
                waits = true;
            } else {
                self.walk(peer, walk);
            }
        }
        waits |= self.name_arrived();
        if !self.comparing.is_idle() {
            self.timers.arm(TimerKey::Comparing, now.instant + if waits { PAUSE } else { BREATH });
        }
    }

    /// One step through the daemons of this node, for one peer.
    fn walk(&mut self, peer: NodeId, walk: Walk) {
        let Some(cursor) = self.comparing.walks.get(&(peer, walk)).copied() else { return };
        let mut hosted = Vec::new();
        let mut next = cursor;
        while next < self.daemons.capacity() && next < cursor + STEP && hosted.len() < walk.most() {
            if let Some(slot) = self.daemons.get(next) {
                let named = match (walk, slot.host.presence) {
                    (
                        Walk::NameAll,
                        Presence::Starting
                        | Presence::Live
                        | Presence::Freezing(_)
                        | Presence::Frozen(_)
                        | Presence::Closed(_),
                    ) => true,
                    (
                        Walk::ShowTakenOver,
                        Presence::Live | Presence::Freezing(_) | Presence::Frozen(_) | Presence::Closed(_),
                    ) => slot.host.min_epoch > Epoch::FIRST,
                    (Walk::ShowTakenOver, Presence::Starting) | (_, Presence::Released(_) | Presence::Arriving(_)) => {
                        false
                    }
                };
                if named {
                    hosted.push(Hosted { origin: slot.host.origin, epoch: slot.host.epoch });
                }
            }
            next += 1;
        }
        if next < self.daemons.capacity() {
            self.comparing.walks.insert((peer, walk), next);
        } else {
            self.comparing.walks.remove(&(peer, walk));
        }
        match walk {
            Walk::ShowTakenOver => {
                for Hosted { origin, .. } in hosted {
                    self.show_claim(origin, peer);
                }
            }
            Walk::NameAll => self.say_hosting(peer, hosted),
        }
    }

    fn say_hosting(&mut self, to: NodeId, hosted: Vec<Hosted>) {
        if !hosted.is_empty() {
            self.send(to, Subprotocol::Directory, codec::encode(&DirectoryMessage::Hosting { hosted }));
        }
    }

    /// Whether a peer has to take so much that more is not said to it now.
    fn has_much(&self, peer: NodeId) -> bool {
        self.peers.waiting_bytes(peer) > MUCH
    }

    /// Names the daemons that have arrived. True when somebody is yet to hear of them.
    fn name_arrived(&mut self) -> bool {
        let peers = self.peers.connected().filter(|(peer, ready)| *ready && !self.placing.view.contains(*peer));
        let strangers: Vec<NodeId> = peers.map(|(peer, _)| peer).collect();
        for &stranger in &strangers {
            while !self.has_much(stranger) {
                match self.comparing.arrived.take(stranger, STEP) {
                    Next::Some(origins) => {
                        let slots = origins.into_iter().filter_map(|origin| self.slot(self.local(origin).ok()?));
                        let named = |slot: &Slot| Hosted { origin: slot.host.origin, epoch: slot.host.epoch };
                        let hosted = slots.map(named).collect();
                        self.say_hosting(stranger, hosted);
                    }
                    Next::Everything => {
                        self.comparing.walks.insert((stranger, Walk::NameAll), 0);
                    }
                    Next::Nothing => break,
                }
            }
        }
        self.comparing.arrived.forget_heard(&strangers);
        !self.comparing.arrived.is_empty()
    }

    /// A peer that shares no homes with this node names its daemons.
    pub(super) fn on_hosting(&mut self, from: NodeId, hosted: &[Hosted]) {
        let mut rivals = Vec::new();
        for &Hosted { origin, epoch } in hosted {
            if self.local(origin).is_ok() {
                rivals.push(Rival { origin, host: self.me() });
            } else if self.is_spawning(origin) {
                self.spawn_has_rival(origin, from);
            } else if self.epoch_in_doubt(origin).is_some_and(|here| here < epoch) {
                // The copy here waits for what became of the other one: a claim tells.
                rivals.push(Rival { origin, host: self.me() });
            } else if let Some(later) = self.departed_claim(origin).map(|claim| *claim.body())
                && later.epoch >= epoch
                && later.node() != from
            {
                rivals.push(Rival { origin, host: later.node() });
            }
        }
        self.say_rivals(from, &rivals);
    }

    /// The epoch of a whole copy that waits here for the word of its source.
    fn epoch_in_doubt(&self, origin: OriginHash) -> Option<Epoch> {
        let target = &self.arrivals.of(origin)?.target;
        target.is_in_doubt().then_some(target.id.epoch)
    }

    /// Tells a host of others that say to host the same daemons; false when there is no room for all of it.
    pub(super) fn say_rivals(&mut self, to: NodeId, rivals: &[Rival]) -> bool {
        rivals.chunks(MOST_PAIRS).all(|rivals| {
            let body = codec::encode(&DirectoryMessage::Rivals { rivals: rivals.to_vec() });
            self.try_send(to, Subprotocol::Directory, body)
        })
    }

    /// Others say that they host daemons of this node: each of them is shown this node's claim, and either gives way or
    /// shows a better one.
    pub(super) fn on_rivals(&mut self, from: NodeId, rivals: &[Rival], now: Now) {
        let idle = self.comparing.contested.is_empty();
        for &Rival { origin, host } in rivals {
            if host == self.me() {
                continue;
            }
            // Whoever names itself is asked by nobody: two copies in doubt would ask each other for ever.
            if from != host && self.epoch_in_doubt(origin).is_some() && self.peers.is_up(host) {
                let me = self.me();
                self.say_rivals(host, &[Rival { origin, host: me }]);
            }
            if self.local(origin).is_err() {
                // One that is still being spawned shows its claim once it lives, unless it is asked for its own now.
                if self.hear_of_host(from, origin, host) {
                    continue;
                }
                if self.is_spawning(origin) && self.is_known_node(host) {
                    self.spawn_has_rival(origin, host);
                } else {
                    self.name_again(origin);
                }
            } else {
                self.comparing.contested.add(from, host, origin);
            }
        }
        if idle {
            self.show_contested(now);
            self.compare_later(now);
        }
    }

    /// A daemon has begun to live here that these say to host as well, or one of them is reached now.
    pub(super) fn contest(&mut self, origin: OriginHash, hosts: Vec<NodeId>, now: Now) {
        let (me, idle) = (self.me(), self.comparing.contested.is_empty());
        for host in hosts.into_iter().filter(|&host| host != me) {
            self.comparing.contested.add(host, host, origin);
        }
        if idle {
            self.show_contested(now);
            self.compare_later(now);
        }
    }

    /// Shows a few claims, to each host in turn. True when somebody has too much to take as to be shown any.
    fn show_contested(&mut self, now: Now) -> bool {
        let hosts = self.comparing.contested.hosts().min(SHOWN);
        let mut waits = false;
        for _ in 0..hosts {
            let Some(host) = self.comparing.contested.next_host(self.comparing.shown) else { break };
            self.comparing.shown = Some(host);
            for _ in 0..SHOWN / hosts {
                let Some(origin) = self.comparing.contested.first(host) else { break };
                if !self.show_rival(origin, host) {
                    waits = true;
                    break;
                }
                self.comparing.contested.done(host, origin);
            }
        }
        for teller in self.comparing.contested.take_beyond() {
            if self.placing.view.contains(teller) {
                self.place_anew(teller, now);
            } else if self.peers.is_up(teller) {
                self.comparing.walks.insert((teller, Walk::NameAll), 0);
            }
        }
        waits
    }

    /// Shows a host the claim for a daemon of this node that it says to host, as soon as it is reached; false when that has to
    /// wait.
    fn show_rival(&mut self, origin: OriginHash, host: NodeId) -> bool {
        if self.local(origin).is_err() {
            return true;
        }
        if !self.peers.is_up(host) {
            // Nodes that there are not are named by the thousand: nobody looks for those. One that there is may be known later.
            if !self.is_known_node(host) {
                self.name_again(origin);
                return true;
            }
            return self.reach_first(host, || Then::ShowClaim { origin });
        }
        let shown = !self.has_much(host);
        if shown {
            self.show_claim(origin, host);
            self.comparing.showed(host, origin);
        }
        shown
    }

    /// Shows a node the claim for a daemon of this one.
    pub(super) fn show_claim(&mut self, origin: OriginHash, to: NodeId) {
        if let Ok(key) = self.local(origin) {
            self.announce_to(key, to);
        }
    }
}

impl Walk {
    /// Most daemons of one step.
    const fn most(self) -> usize {
        match self {
            Self::ShowTakenOver => SHOWN,
            Self::NameAll => STEP,
        }
    }
}
