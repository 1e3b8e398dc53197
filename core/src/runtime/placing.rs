//! Home nodes: this one as a home of others' daemons, and what it tells the homes of its own.
//!
//! A spawn names its daemon to the homes with the question whether it lives elsewhere; an arrival names it when it goes
//! live. When the members change, or a home has a new session, the daemons that this concerns are named in batches, and at
//! the end of such a pass every home is told that all are named for this view of the members. What is said is unsigned:
//! claims are signed when somebody asks for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::engine::{Engine, Now, Slot};
use super::timers::TimerKey;
use crate::daemon::{DaemonKey, Presence};
use crate::directory::{Homes, Hosts, View, ViewName};
use crate::identity::{NodeId, OriginHash, RuntimeLife};
use crate::membership::Standing;
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::directory::{Between, DirectoryMessage, MOST_PAIRS, Rival};

/// Daemons that are looked at in one step of a pass. No message names more than a home can be told by one step.
pub(super) const STEP: usize = 2048;
/// Changes that come within so short a time make one pass.
pub(super) const TOGETHER: Duration = Duration::from_millis(30);
/// Pause between two steps.
const BREATH: Duration = Duration::from_millis(1);
/// Pause of a pass while some peer has much to take.
pub(super) const PAUSE: Duration = Duration::from_millis(10);
/// Control messages for one peer beyond which a pass waits.
pub(super) const MUCH: usize = 1024 * 1024;
/// Daemons that left and are still named at their homes; beyond this they are withdrawn at once.
const MOST_LEFT: usize = 65_536;

/// What an engine keeps for the directory.
#[derive(Debug, Default)]
pub(super) struct Placing {
    /// The members that keep addresses, this node among them.
    pub(super) view: View,
    /// How far this node has come with joining them.
    pub(super) standing: Standing,
    /// As a home: who hosts what.
    pub(super) hosts: Hosts,
    /// Which of its runtimes each peer has; the first one where nothing was heard.
    lives: BTreeMap<NodeId, RuntimeLife>,
    /// The slot at which the pass under way goes on.
    cursor: Option<usize>,
    /// Homes that know nothing of this node's daemons any more.
    anew: BTreeSet<NodeId>,
    /// Those of them that have not been told so in this pass.
    untold: BTreeSet<NodeId>,
    /// Nodes for which something was dropped since the last pass began: the next one tells them everything anew.
    lost: BTreeSet<NodeId>,
    /// Nodes that were told of daemons of this one. They hear that there are none when they are its homes no more, as soon as
    /// they can be told.
    named: BTreeSet<NodeId>,
    /// Daemons that left since the last sweep, and before it. A home goes on naming this node for a while: it knows where
    /// they went.
    left: Vec<(OriginHash, Homes)>,
    left_before: Vec<(OriginHash, Homes)>,
    /// Daemons that are said to have another host, which may not have been shown their claims. Homes tell of that host when
    /// they are named again: the next pass does.
    unshown: BTreeSet<OriginHash>,
    /// Those of them that the pass under way names again.
    again: BTreeSet<OriginHash>,
}

/// What a node says of its daemons to a home, as `DirectoryMessage::Place` tells.
pub(super) struct Placed {
    pub(super) anew: bool,
    pub(super) hosted: Vec<OriginHash>,
    pub(super) gone: Vec<OriginHash>,
    pub(super) settled: Option<u64>,
    pub(super) between: Between,
}

#[derive(Debug, Default)]
struct News {
    hosted: Vec<OriginHash>,
    gone: Vec<OriginHash>,
}

impl Placing {
    /// A daemon is not here any more.
    pub(super) fn gone(&mut self, origin: OriginHash, homes: Homes) {
        self.unshown.remove(&origin);
        self.again.remove(&origin);
        self.left(origin, homes);
    }

    /// These nodes are no homes of a daemon any more.
    fn left(&mut self, origin: OriginHash, homes: Homes) {
        if !homes.as_slice().is_empty() {
            self.left.push((origin, homes));
        }
    }

    /// Whether homes are yet to hear of daemons that left.
    pub(super) fn is_withdrawing(&self) -> bool {
        !self.left.is_empty() || !self.left_before.is_empty()
    }

    /// A peer is gone: whoever has its name next says which runtime it is.
    pub(super) fn peer_gone(&mut self, peer: NodeId) {
        self.hosts.forget(peer);
        self.lives.remove(&peer);
    }

    /// Something for a peer was dropped: it is told everything anew.
    pub(super) fn lost_something(&mut self, to: NodeId, subprotocol: Subprotocol) {
        if subprotocol == Subprotocol::Directory && (self.view.contains(to) || self.named.contains(&to)) {
            self.lost.insert(to);
        }
    }
}

impl Engine {
    /// The live members that keep addresses, this node among them if it does; none while it takes no part. `standing` is how
    /// far this node has come with joining them.
    pub fn members(&mut self, members: &[NodeId], standing: Standing, now: Now) {
        let view = View::new(members);
        let stood = std::mem::replace(&mut self.placing.standing, standing);
        if view == self.placing.view && standing == stood {
            return;
        }
        self.lookups.stand(standing, now.instant);
        let before = std::mem::replace(&mut self.placing.view, view);
        self.begin_pass(now);
        self.ask_new_homes(now);
        for &former in before.nodes() {
            if !self.placing.view.contains(former) && self.peers.get(former).is_some_and(|peer| peer.ready) {
                self.compare_anew(former);
            }
        }
        self.settle_own(now);
    }

    /// A home has a new session: what it was told before may be lost.
    pub(super) fn place_anew(&mut self, home: NodeId, now: Now) {
        if !self.placing.view.is_empty() || self.placing.named.contains(&home) {
            self.placing.anew.insert(home);
            self.begin_pass(now);
        }
    }

    /// Begins a pass for those for whom something was dropped.
    pub(super) fn make_up_for_lost(&mut self, now: Now) {
        if !self.placing.lost.is_empty() {
            self.begin_pass(now);
        }
    }

    fn begin_pass(&mut self, now: Now) {
        let mut lost = std::mem::take(&mut self.placing.lost);
        self.placing.anew.append(&mut lost);
        let mut unshown = std::mem::take(&mut self.placing.unshown);
        self.placing.again.append(&mut unshown);
        self.placing.cursor = Some(0);
        self.placing.untold = self.placing.anew.clone();
        self.timers.arm(TimerKey::Placing, now.instant + TOGETHER);
    }

    /// Goes on with a pass.
    pub(super) fn tick_placing(&mut self, now: Now) {
        let Some(cursor) = self.placing.cursor else { return };
        let me = self.me();
        if self.placing.view.nodes().iter().any(|&home| self.peers.waiting_bytes(home) > MUCH) {
            self.timers.arm(TimerKey::Placing, now.instant + PAUSE);
            return;
        }
        let end = cursor + STEP;
        let mut news: BTreeMap<NodeId, News> = BTreeMap::new();
        let Self { daemons, placing, peers, .. } = self;
        for index in cursor..end {
            let Some(slot) = daemons.get_mut(index).filter(|slot| is_named(slot)) else { continue };
            let origin = slot.host.origin;
            let homes = placing.view.homes_of(origin).filtered(|home| home != me && peers.is_up(home));
            let again = placing.again.contains(&origin);
            for &home in homes.as_slice() {
                if again || !slot.homes.contains(home) || placing.anew.contains(&home) {
                    news.entry(home).or_default().hosted.push(origin);
                }
            }
            for &home in slot.homes.as_slice() {
                if !homes.contains(home) {
                    news.entry(home).or_default().gone.push(origin);
                }
            }
            slot.homes = homes;
        }
        for (home, News { hosted, gone }) in news {
            let anew = self.placing.untold.remove(&home);
            self.say_place(home, anew, hosted, gone, None);
        }
        if end < self.daemons.capacity() {
            self.placing.cursor = Some(end);
            self.timers.arm(TimerKey::Placing, now.instant + BREATH);
        } else {
            self.end_pass();
        }
    }

    fn end_pass(&mut self) {
        let me = self.me();
        self.placing.cursor = None;
        // Who has yet to hear of the members has named its daemons to the homes of no mesh.
        let settled = (self.placing.standing != Standing::Seeking).then_some(self.placing.view.name().0);
        let homes: Vec<NodeId> = self.placing.view.nodes().iter().copied().filter(|&home| home != me).collect();
        for home in homes {
            // One for whom some of this pass was dropped has not been told all.
            if self.peers.is_up(home) && !self.placing.lost.contains(&home) {
                let anew = self.placing.untold.remove(&home);
                self.say_place(home, anew, Vec::new(), Vec::new(), settled);
            }
        }
        for former in std::mem::take(&mut self.placing.untold) {
            if self.peers.is_up(former) && self.placing.named.contains(&former) {
                self.say_place(former, true, Vec::new(), Vec::new(), None);
                if !self.placing.lost.contains(&former) {
                    self.placing.named.remove(&former);
                }
            }
        }
        self.placing.anew.clear();
        self.placing.again.clear();
    }

    /// Another node is said to host a daemon of this one, and may not have been shown its claim: who told of that node is to
    /// tell again.
    pub(super) fn name_again(&mut self, origin: OriginHash) {
        if self.by_origin.contains_key(&origin) {
            self.placing.unshown.insert(origin);
        }
    }

    fn say_place(
        &mut self,
        home: NodeId,
        anew: bool,
        hosted: Vec<OriginHash>,
        gone: Vec<OriginHash>,
        settled: Option<u64>,
    ) {
        if !hosted.is_empty() {
            self.placing.named.insert(home);
        }
        let of_home = self.placing.lives.get(&home).copied().unwrap_or_default();
        let between = Between { from: self.node.runtime.get(), to: of_home.get() };
        let body = codec::encode(&DirectoryMessage::Place { anew, hosted, gone, settled, between });
        self.send(home, Subprotocol::Directory, body);
    }

    /// Names a daemon that has begun to live here to those of its homes that do not know.
    pub(super) fn place(&mut self, key: DaemonKey, now: Now) {
        let me = self.me();
        let Some(slot) = self.slot(key) else { return };
        let (origin, known) = (slot.host.origin, slot.homes);
        let homes = self.placing.view.homes_of(origin).filtered(|home| home != me && self.peers.is_up(home));
        for &home in homes.as_slice() {
            if !known.contains(home) {
                self.say_place(home, false, vec![origin], Vec::new(), None);
            }
        }
        // The pass that would withdraw it from a former home may not have come to it.
        let former = known.filtered(|home| !homes.contains(home));
        if !former.as_slice().is_empty() {
            self.placing.left(origin, former);
            self.timers.sweep_later(now);
        }
        if let Some(slot) = self.slot_mut(key) {
            slot.homes = homes;
        }
    }

    /// A spawn goes on though not all of its homes have answered whether the daemon lives elsewhere. Those that were asked tell
    /// of another host once more when it is named to them, as do those that could not be asked and have a session.
    pub(super) fn place_unheard(&mut self, key: DaemonKey, unheard: &BTreeSet<NodeId>, now: Now) {
        let Some(slot) = self.slot(key) else { return };
        let homes = self.placing.view.homes_of(slot.host.origin);
        if let Some(slot) = self.slot_mut(key) {
            slot.homes = slot.homes.filtered(|home| !homes.contains(home) || !unheard.contains(&home));
        }
        self.place(key, now);
    }

    /// Whether a spawn of this daemon is being looked up.
    pub(super) fn is_spawning(&self, origin: OriginHash) -> bool {
        let slot = self.by_origin.get(&origin).and_then(|key| self.slot(*key));
        slot.is_some_and(|slot| slot.host.presence == Presence::Starting)
    }

    /// A home was told with a question that this node is about to host a daemon.
    pub(super) fn note_home(&mut self, origin: OriginHash, home: NodeId) {
        let homes = self.placing.view.homes_of(origin);
        if !homes.contains(home) {
            return;
        }
        self.placing.named.insert(home);
        if let Some(slot) = self.by_origin.get(&origin).copied().and_then(|key| self.slot_mut(key)) {
            let known = slot.homes;
            slot.homes = homes.filtered(|other| other == home || known.contains(other));
            self.placing.left(origin, known.filtered(|former| !homes.contains(former)));
        }
    }

    /// Withdraws daemons that left a while ago.
    pub(super) fn sweep_placing(&mut self) {
        let left = std::mem::take(&mut self.placing.left);
        let mut over = std::mem::replace(&mut self.placing.left_before, left);
        if self.placing.left_before.len() > MOST_LEFT {
            over.append(&mut self.placing.left_before);
        }
        let mut gone: BTreeMap<NodeId, Vec<OriginHash>> = BTreeMap::new();
        for (origin, homes) in over {
            // It may be here again, and have other homes now.
            let here = self.by_origin.get(&origin).and_then(|key| self.slot(*key));
            let homes = homes.filtered(|home| here.is_none_or(|slot| !slot.homes.contains(home)));
            for &home in homes.as_slice() {
                gone.entry(home).or_default().push(origin);
            }
        }
        for (home, origins) in gone {
            for origins in origins.chunks(STEP) {
                self.say_place(home, false, Vec::new(), origins.to_vec(), None);
            }
        }
    }

    /// A node says to this one, as a home, that it is about to host a daemon.
    pub(super) fn about_to_host(&mut self, from: NodeId, origin: OriginHash) {
        if self.placing.hosts.add(from, origin).is_err() {
            tracing::debug!(host = %from, %origin, "no room to remember a host");
        }
    }

    /// Answers as a home: who hosts a daemon, and whether knowing of none means that there is none.
    pub(super) fn as_home(
        &mut self,
        from: NodeId,
        origin: OriginHash,
        view: u64,
    ) -> (Option<Vec<NodeId>>, Option<bool>) {
        let me = self.me();
        let hosts: Vec<NodeId> = self.placing.hosts.of(origin).filter(|&host| host != from).collect();
        let Placing { view: mine, hosts: known, .. } = &self.placing;
        let view = ViewName(view);
        let others = mine.nodes().iter().filter(|&&member| member != me && member != from);
        let settled = self.placing.standing != Standing::Seeking
            && mine.name() == view
            && others.into_iter().all(|&member| known.is_settled(member, view));
        ((!hosts.is_empty()).then_some(hosts), Some(settled))
    }

    /// A node names its daemons.
    pub(super) fn on_place(&mut self, from: NodeId, placed: &Placed, now: Now) {
        let Placed { anew, hosted, gone, settled, between } = placed;
        let life = RuntimeLife::new(between.from);
        let begun_anew = self.placing.lives.insert(from, life).unwrap_or_default() != life;
        if begun_anew {
            // What this node told its forerunner it does not know.
            self.place_anew(from, now);
        }
        let hosts = &mut self.placing.hosts;
        if *anew || begun_anew {
            hosts.begin_anew(from);
        }
        for &origin in gone {
            hosts.remove(from, origin);
        }
        let origins: BTreeSet<OriginHash> = hosted.iter().copied().collect();
        for &origin in &origins {
            if hosts.add(from, origin).is_err() {
                tracing::debug!(host = %from, %origin, "no room to remember a host");
            }
        }
        // Some of what is said to be named may have been named to a forerunner of this runtime. It is named anew once the
        // sender has heard of this one.
        if let Some(view) = settled.filter(|_| between.to == self.node.runtime.get()) {
            hosts.settle(from, ViewName(view));
        }
        let mut rivals = Vec::new();
        for origin in origins {
            // A home hosts as well.
            let mine = self.local(origin).is_ok().then_some(self.me());
            let others = self.placing.hosts.of(origin).filter(|&host| host != from).chain(mine);
            rivals.extend(others.map(|host| Rival { origin, host }));
            if rivals.len() >= MOST_PAIRS {
                self.say_rivals(from, &rivals);
                rivals.clear();
            }
        }
        self.say_rivals(from, &rivals);
    }

    /// Entries of other nodes' daemons that this node keeps, for figures and tests.
    pub fn kept_addresses(&self) -> usize {
        self.placing.hosts.len()
    }
}

/// Whether homes are to know of it: not while it has yet to arrive.
fn is_named(slot: &Slot) -> bool {
    match slot.host.presence {
        Presence::Arriving(_) => false,
        Presence::Starting
        | Presence::Live
        | Presence::Freezing(_)
        | Presence::Frozen(_)
        | Presence::Closed(_)
        | Presence::Released(_) => true,
    }
}
