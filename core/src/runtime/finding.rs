//! Questions to the directory, and answers: who hosts a daemon?
//!
//! Whoever looks for a daemon asks its home nodes, this one perhaps among them, and peers that are no members; then the
//! nodes that a home names, for their signed claims. That a home knows of no host counts only if asker and home see the
//! same members and each of those has named its daemons to the home: otherwise the home is asked again.

use std::collections::BTreeSet;

use super::engine::{Engine, Now};
use super::error::RuntimeError;
use super::placing::{Placed, Placing};
use super::spawn::is_dead;
use super::timers::TimerKey;
use super::work::Settlement;
use crate::daemon::{DaemonKey, Ticket};
use crate::directory::{Answer, Claim, ClaimBody, ClaimError, Ended, Finding, Haste, Pointer, Query};
use crate::identity::{NodeId, OriginHash};
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::directory::{DirectoryMessage, Few, MOST_HOSTS, Rival};

/// A question of another node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) from: NodeId,
    query: Query,
    /// What it asks as a home.
    view: Option<u64>,
}

impl Engine {
    /// Asks for the host of a daemon.
    pub(super) fn look_up(&mut self, origin: OriginHash, haste: Haste, now: Now) {
        if let Some(query) = self.lookups.join(origin, haste) {
            if haste == Haste::WaitForAll && self.lookups.begin_to_wait(query) {
                self.ask_those_skipped(query, origin);
            }
            self.ask_next_host(query, origin);
            return self.check_lookups(now);
        }
        let peers: Vec<(NodeId, bool)> = match haste {
            // Who is out of reach for the moment may host it.
            Haste::WaitForAll => self.peers.all().collect(),
            Haste::SkipSilent => self.peers.heard().collect(),
        };
        let view = &self.placing.view;
        let outsiders = peers.into_iter().filter(|(peer, _)| !view.contains(*peer));
        let homes = view.homes_of(origin);
        let homes = homes.as_slice().iter().map(|&home| (home, self.answers(home)));
        let asked: Vec<(NodeId, bool)> = outsiders.chain(homes).collect();
        if let Some(query) = self.lookups.begin(origin, haste, asked.iter().copied(), now.instant) {
            for (node, answers) in asked {
                if answers {
                    self.ask_where(node, query, origin);
                } else if self.placing.view.contains(node) {
                    self.want_peer(node);
                }
            }
            self.ask_next_host(query, origin);
        }
        self.check_lookups(now);
    }

    /// Whoever waits for all has joined a question that was begun in haste: that those know of none who were in reach then does
    /// not mean that there is none.
    fn ask_those_skipped(&mut self, query: Query, origin: OriginHash) {
        let outsiders: Vec<NodeId> =
            self.peers.all().map(|(peer, _)| peer).filter(|peer| !self.placing.view.contains(*peer)).collect();
        for peer in outsiders {
            if self.lookups.ask_too(query, peer, self.answers(peer)) {
                self.ask_where(peer, query, origin);
            }
        }
    }

    /// The node that a daemon has gone to, as far as this one knows, is asked as well: homes may hear of that later. If it knew
    /// of none, it was asked before the daemon came there.
    fn ask_next_host(&mut self, query: Query, origin: OriginHash) {
        let next = self.departed_claim(origin).map(|claim| claim.body().node());
        let Some(host) = next.filter(|&host| host != self.me()) else { return };
        if !self.answers(host) {
            // It is named as the host, by this node itself.
            self.ask_host(query, origin, host);
        } else if self.lookups.ask_rival(origin, host, true).is_some() {
            self.ask_where(host, query, origin);
        }
    }

    /// Whether a node can be asked now.
    pub(super) fn answers(&self, node: NodeId) -> bool {
        node == self.me() || self.peers.get(node).is_some_and(|peer| peer.is_heard() && peer.ready)
    }

    pub(super) fn ask_where(&mut self, node: NodeId, query: Query, origin: OriginHash) {
        let Placing { view, .. } = &self.placing;
        let view = view.homes_of(origin).contains(node).then(|| view.name().0);
        if node == self.me() {
            // This node is a home itself, and is asked because it does not host the daemon.
            let (hosts, settled) = self.as_home(node, origin, view.unwrap_or_default());
            return self.on_answer(query, node, None, &hosts.unwrap_or_default(), settled == Some(true));
        }
        let hosting = self.is_spawning(origin).then_some(true);
        if hosting == Some(true) {
            self.note_home(origin, node);
        }
        let body = codec::encode(&DirectoryMessage::Lookup { query: query.0, origin, view, hosting });
        self.send(node, Subprotocol::Directory, body);
    }

    /// The members have changed: what is open is asked of the new homes as well.
    pub(super) fn ask_new_homes(&mut self, now: Now) {
        for (query, origin) in self.lookups.open() {
            for &home in self.placing.view.homes_of(origin).as_slice() {
                self.ask_too(query, origin, home);
            }
        }
        self.check_lookups(now);
    }

    fn ask_too(&mut self, query: Query, origin: OriginHash, node: NodeId) {
        let answers = self.answers(node);
        if self.lookups.ask_too(query, node, answers) {
            self.ask_where(node, query, origin);
        } else if !answers {
            self.want_peer(node);
        }
    }

    /// Ends the questions that are answered or out of patience, and asks again who was not sure.
    pub(super) fn check_lookups(&mut self, now: Now) {
        for (query, origin, node) in self.lookups.again(now.instant) {
            self.ask_where(node, query, origin);
        }
        let Self { lookups, graves, peers, .. } = self;
        for Ended { origin, finding, unheard } in lookups.finished(now.instant, |claim| is_dead(claim, graves, peers)) {
            self.search_over(origin, &finding, now);
            self.looked_elsewhere(origin, &finding, now);
            match finding {
                Finding::Found(found) => self.located(origin, &found, now),
                Finding::NotFound(_) if self.holds_in_doubt(origin) => self.located_in_doubt(origin, now),
                Finding::InDoubt(_) => self.located_in_doubt(origin, now),
                Finding::NotFound(former) => {
                    self.spawn_where_none_lives(origin, former.as_ref());
                    self.not_located(origin, now);
                }
                Finding::Unanswered(former) => self.unanswered(origin, former.as_ref(), None, &unheard, now),
                Finding::HostSilent(host, former) => {
                    self.unanswered(origin, former.as_ref(), Some(host), &unheard, now);
                }
            }
        }
        if let Some(at) = self.lookups.next_deadline() {
            self.timers.arm(TimerKey::Lookups, at);
        }
    }

    /// Nobody told in time where a daemon lives. Whoever still waits does so for as long as its patience lasts; `locate` does
    /// not, and a spawn only while the `silent` one, which is named as the host, may live, or this node has yet to join.
    fn unanswered(
        &mut self,
        origin: OriginHash,
        former: Option<&Claim>,
        silent: Option<NodeId>,
        unheard: &BTreeSet<NodeId>,
        now: Now,
    ) {
        self.spawn_where_none_lives(origin, former);
        let waits = self.routes.get(&origin).is_some_and(super::routes::Route::waits);
        // Nobody knows better than this node, which cannot ask the one that it remembers.
        let remembered = self.pointer_ahead(origin).map(|pointer| pointer.node);
        self.finish_locating(origin, remembered, now);
        if silent.is_some_and(|host| self.spawn_waits_for(origin, host, now)) || self.spawn_waits_to_join(origin, now) {
            self.look_up(origin, Haste::SkipSilent, now);
        } else {
            if let Some(key) = self.looking(origin) {
                self.place_unheard(key, unheard, now);
            }
            self.go_on_spawning(origin, now);
        }
        if waits {
            self.look_up(origin, Haste::WaitForAll, now);
        }
    }

    /// Where a daemon lives; `ticket` is settled with [`Settlement::Located`].
    pub fn locate(&mut self, ticket: Ticket, origin: OriginHash, now: Now) -> Result<(), RuntimeError> {
        self.check_ready()?;
        if self.local(origin).is_ok() {
            let me = self.me();
            self.settle(ticket, Ok(Settlement::Located(Some(me))));
        } else if let Some(pointer) = self.pointer_ahead(origin).filter(|_| self.is_released(origin)) {
            // Others have yet to hear of that host, or know of no other one.
            self.settle(ticket, Ok(Settlement::Located(Some(pointer.node))));
        } else {
            self.locating.entry(origin).or_default().push(ticket);
            self.look_up(origin, Haste::SkipSilent, now);
        }
        Ok(())
    }

    pub(super) fn finish_locating(&mut self, origin: OriginHash, node: Option<NodeId>, now: Now) {
        for ticket in self.locating.remove(&origin).unwrap_or_default() {
            self.settle(ticket, Ok(Settlement::Located(node)));
        }
        self.sought_found(origin, node, now);
    }

    /// A message of the directory arrived.
    pub(super) fn on_directory(&mut self, from: NodeId, body: &[u8], now: Now) {
        match codec::decode(body) {
            Ok(DirectoryMessage::Lookup { query, origin, view, hosting }) => {
                let (hosting, asked) = (hosting == Some(true), Asked { from, query: Query(query), view });
                if hosting && view.is_some() {
                    self.about_to_host(from, origin);
                }
                if !(hosting && self.spawn_goes_first(origin, asked)) {
                    self.answer_where(origin, asked);
                }
                self.check_lookups(now);
            }
            Ok(DirectoryMessage::Answer { query, claim, hosts, settled, former, doubt }) => {
                let query = Query(query);
                if let Some(former) = former {
                    self.on_former(query, from, former);
                }
                if doubt == Some(true) {
                    self.lookups.in_doubt(query, from);
                }
                if let Some(claim) = claim
                    && self.lookups.open_origin(query).is_none()
                {
                    self.on_late_claim(from, claim, now);
                }
                let claim = self.answered_claim(query, from, claim, now);
                self.on_answer(query, from, claim, &hosts.unwrap_or_default().0, settled == Some(true));
                self.check_lookups(now);
            }
            Ok(DirectoryMessage::Claim { claim }) => self.on_claim(from, claim, now),
            Ok(DirectoryMessage::Place { anew, hosted, gone, settled, between }) => {
                self.on_place(from, &Placed { anew, hosted, gone, settled, between }, now);
            }
            Ok(DirectoryMessage::Rivals { rivals }) => self.on_rivals(from, &rivals, now),
            Ok(DirectoryMessage::Tally { hosted, yours, anew }) => self.on_tally(from, hosted, yours, anew, now),
            Ok(DirectoryMessage::Hosting { hosted }) => self.on_hosting(from, &hosted),
            Err(error) => self.refuse(from, "directory message", &error),
        }
    }

    /// Tells somebody what this node knows of a daemon.
    pub(super) fn answer_where(&mut self, origin: OriginHash, asked: Asked) {
        let Asked { from, query, view } = asked;
        let claim = self.claim_for(origin);
        let (hosts, settled) = match view {
            Some(view) => self.as_home(from, origin, view),
            None => (None, None),
        };
        let (mut hosts, mut settled) = (hosts, settled);
        if let Some(hosts) = hosts.as_mut().filter(|hosts| hosts.len() > MOST_HOSTS) {
            let others: Vec<Rival> =
                hosts.split_off(MOST_HOSTS).into_iter().map(|host| Rival { origin, host }).collect();
            if !self.say_rivals(from, &others) {
                // Then it is not told of all that there are.
                settled = None;
            }
        }
        let hosts = hosts.map(Few);
        let former = self.former_claim(origin).filter(|_| claim.is_none()).map(Claim::encode);
        let doubt = self.holds_in_doubt(origin).then_some(true);
        let (claim, former) = (claim.as_deref(), former.as_deref());
        let answer = DirectoryMessage::Answer { query: query.0, claim, hosts, settled, former, doubt };
        self.send(from, Subprotocol::Directory, codec::encode(&answer));
    }

    /// What a node that was asked knows; what it says of its own daemons counts at once.
    fn answered_claim(&mut self, query: Query, from: NodeId, claim: Option<&[u8]>, now: Now) -> Option<Claim> {
        let origin = self.lookups.open_origin(query).filter(|_| self.lookups.is_asked(query, from))?;
        let claim = claim.map(Claim::decode).transpose().unwrap_or_else(|error| {
            self.refuse(from, "claim", &error);
            None
        });
        let claim = claim.filter(|claim| claim.body().entity.origin_hash() == origin);
        self.hear_host(origin, from, claim.as_ref(), now);
        claim
    }

    fn on_answer(&mut self, query: Query, from: NodeId, claim: Option<Claim>, hosts: &[NodeId], settled: bool) {
        let open = self.lookups.open_origin(query).filter(|_| self.lookups.is_asked(query, from));
        let Some(origin) = open else { return };
        let mut doubted = false;
        let claim = match claim {
            Some(claim) if self.is_outdated(&claim) || self.is_of_former(&claim, from) => {
                let outlived = self.is_outlived(&claim);
                self.lookups.outdated(query, claim);
                doubted = outlived && self.ask_later_host(query, origin);
                None
            }
            claim => claim,
        };
        for &host in hosts.iter().filter(|&&host| host != from) {
            self.ask_host(query, origin, host);
        }
        if let Some(host) = claim.as_ref().map(|claim| claim.body().node()).filter(|&host| host != self.me())
            && self.answers(host)
            && self.lookups.ask_too(query, host, true)
        {
            // A former host may not know yet that the daemon has left that one as well, or ended there.
            self.ask_where(host, query, origin);
        }
        let answer = match claim {
            Some(claim) => Answer::Claim(claim),
            // Who is no home speaks for itself alone.
            None if !doubted && (settled || !self.placing.view.homes_of(origin).contains(from)) => Answer::Nothing,
            None => Answer::Unsure,
        };
        self.lookups.answer(query, from, answer);
    }

    /// Asks a node that is named as the host.
    fn ask_host(&mut self, query: Query, origin: OriginHash, host: NodeId) {
        let answers = self.answers(host);
        if host == self.me() {
            // It would have answered itself.
        } else if self.lookups.ask_host(query, host, answers) {
            self.ask_where(host, query, origin);
        } else if !answers {
            self.want_peer(host);
        }
    }

    /// Somebody who was asked for a daemon names a host before it answers, because it knows of so many. False when it was not
    /// asked, or names one that there is not.
    pub(super) fn hear_of_host(&mut self, from: NodeId, origin: OriginHash, host: NodeId) -> bool {
        let query = self.lookups.asked(origin, from).filter(|_| self.is_known_node(host));
        if let Some(query) = query {
            self.ask_host(query, origin, host);
        }
        query.is_some()
    }

    /// Whether there is such a node, or was lately.
    pub(super) fn is_known_node(&self, node: NodeId) -> bool {
        self.peers.get(node).is_some() || self.placing.view.contains(node)
    }

    /// Whether this node knows better than a claim of another's.
    fn is_outdated(&self, claim: &Claim) -> bool {
        // A former host that knows only that the daemon came here.
        let came_here = claim.body().node() == self.me() && !self.is_hosted(claim);
        came_here || self.is_outlived(claim)
    }

    fn is_hosted(&self, claim: &Claim) -> bool {
        let key = self.by_origin.get(&claim.body().entity.origin_hash()).copied();
        key.and_then(|key| self.slot(key)).is_some_and(|slot| slot.spawning.is_none())
    }

    fn claim_for(&mut self, origin: OriginHash) -> Option<Vec<u8>> {
        let Ok(key) = self.local(origin) else {
            // One that left, or that its former host has yet to release to this node.
            return self
                .departed_claim(origin)
                .map(Claim::encode)
                .or_else(|| self.arriving_claim(origin).map(Claim::encode));
        };
        match self.claim_of(key) {
            Ok(claim) => Some(claim.encode()),
            Err(error) => {
                tracing::warn!(%origin, %error, "cannot claim a daemon that lives here");
                None
            }
        }
    }

    /// Whether a takeover that this node knows of refuses the copy that a claim names. One that died with its host does not.
    fn is_outlived(&self, claim: &Claim) -> bool {
        let body = claim.body();
        let known = self.pointers.claim(body.entity.origin_hash()).filter(|known| !self.is_dead(known));
        known.map(Claim::body).is_some_and(|known| known.entity == body.entity && known.min_epoch > body.epoch)
    }

    /// Asks the host that this node remembers whether the daemon is there still; false when it cannot be asked.
    fn ask_later_host(&mut self, query: Query, origin: OriginHash) -> bool {
        let Some(host) = self.pointers.get(origin).map(|pointer| pointer.node) else { return false };
        if host == self.me() || !self.answers(host) {
            return false;
        }
        if self.lookups.ask_too(query, host, true) {
            self.ask_where(host, query, origin);
        }
        true
    }

    /// The host that this node remembers knows of no daemon, or of another life of it only, or handed it to one that died with
    /// it: what that one and others say counts again. The next host that it names is remembered instead: that one may deny it.
    fn hear_host(&mut self, origin: OriginHash, from: NodeId, claim: Option<&Claim>, now: Now) {
        let Some(pointer) = self.pointers.get(origin).filter(|pointer| pointer.node == from) else { return };
        if self.is_released(origin) {
            return;
        }
        match claim.filter(|claim| claim.body().lineage == pointer.lineage && !self.is_dead(claim)) {
            None => self.pointers.forget(origin),
            Some(next) if is_next(pointer, next.body()) && next.body().node() != self.me() => {
                self.pointers.told(next.clone(), from, now.instant);
            }
            Some(_) => {}
        }
    }

    /// Somebody who was asked remembers a daemon whose host is out of its reach: what is spawned here begins later than that.
    fn on_former(&mut self, query: Query, from: NodeId, former: &[u8]) {
        let open = self.lookups.open_origin(query).filter(|_| self.lookups.is_asked(query, from));
        let Some(origin) =
            open.filter(|&origin| self.is_spawning(origin) || self.is_released(origin) || self.is_missing(origin))
        else {
            return;
        };
        match Claim::decode(former) {
            Ok(former) if former.body().entity.origin_hash() == origin => self.lookups.outdated(query, former),
            Ok(_) => {}
            Err(error) => self.refuse(from, "claim", &error),
        }
    }

    /// An answer came after a spawn was done waiting for it.
    fn on_late_claim(&mut self, from: NodeId, claim: &[u8], now: Now) {
        let Ok(claim) = Claim::decode(claim) else { return };
        let origin = claim.body().entity.origin_hash();
        if self.local(origin).is_ok() {
            self.compare_claims(from, claim, now);
        } else {
            // One that is still being made shows its claim once it lives.
            self.spawn_has_rival(origin, claim.body().node());
        }
    }

    /// The claim of a daemon that left. Once its host is given up, or lives anew, this node knows of no daemon, as for its own
    /// callers.
    pub(super) fn departed_claim(&self, origin: OriginHash) -> Option<&Claim> {
        let claim = self.pointers.claim(origin).filter(|claim| !self.is_dead(claim))?;
        self.peers.get(claim.body().node()).is_some().then_some(claim)
    }

    /// The claim for a daemon of this node, signed on first need.
    pub(super) fn claim_of(&mut self, key: DaemonKey) -> Result<Claim, ClaimError> {
        let (host, incarnation) = (self.node.keypair.entity_id(), self.node.incarnation);
        let Some(slot) = self.slot_mut(key) else { return Err(ClaimError::NoKey) };
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
}

/// Whether a claim may be that of the host behind a remembered one: later, but not later than anybody believes.
fn is_next(pointer: &Pointer, body: &ClaimBody) -> bool {
    body.epoch > pointer.epoch && !pointer.epoch.is_far_behind(body.epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{EntityKeypair, Epoch, Lineage};

    #[test]
    fn the_host_behind_a_remembered_one_is_later_but_not_later_than_anybody_believes() {
        let (daemon, host) = (EntityKeypair::from_seed(&[1; 32]), EntityKeypair::from_seed(&[2; 32]));
        let known = Epoch::new(5);
        let lineage = Lineage::new(1);
        let pointer = Pointer { entity: daemon.entity_id(), lineage, node: host.node_id(), epoch: known };
        for (epoch, next) in
            [(4, false), (5, false), (6, true), (5 + (1 << 32), true), (5 + (1 << 32) + 1, false), (u64::MAX, false)]
        {
            let body = ClaimBody {
                entity: daemon.entity_id(),
                lineage,
                epoch: Epoch::new(epoch),
                min_epoch: Epoch::FIRST,
                host: host.entity_id(),
                incarnation: None,
            };
            assert_eq!(is_next(&pointer, &body), next, "{epoch}");
        }
    }
}
