//! Announcing, and the index of what others announced; driven by sessions, messages and time.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::announcement::{Announcement, AnnouncementError, MAX_ANNOUNCEMENT, MAX_TTL, Unverified};
use super::filter::CapabilityFilter;
use super::requirement::CapabilityRequirement;
use super::scope::ScopeFilter;
use super::set::CapabilitySet;
use super::subnet::Subnet;
use crate::identity::{EntityId, EntityKeypair, Incarnation, NodeId};
use crate::mesh::PeerEvent;
use crate::rate::RateLimit;

/// Most other nodes whose announcements are kept.
const MAX_NODES: usize = 16 * 1024;

/// Announcements of one node that are looked at when they come, after it was quiet for a while: each costs a signature, and whoever
/// asks for capabilities looks again.
const BURST: u32 = 128;
/// So many more per second. Of those beyond that the last one is looked at, later.
const PER_SECOND: u32 = 16;
/// No message is larger: what an announcement is wrapped in is small.
const MAX_MESSAGE: usize = MAX_ANNOUNCEMENT + 256;

/// Times of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct CapabilityConfig {
    /// How long an announcement of this node counts; it is renewed at half of it.
    pub ttl: Duration,
    /// How often announcements that no longer count are dropped, at most.
    pub sweep: Duration,
}

impl Default for CapabilityConfig {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(300), sweep: Duration::from_secs(60) }
    }
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this message to a peer as soon as records flow, in place of an earlier one that was not sent yet.
    Send {
        /// The peer.
        to: NodeId,
        /// The body of a record of the subprotocol.
        body: Bytes,
    },
    /// [`announced`](CapabilityMachine::announced) of this node has changed. Not told of a node that is lost.
    Changed(NodeId),
}

/// What a node has announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// What it can do.
    pub set: Arc<CapabilitySet>,
    /// Until when that counts; this node's own does for ever, and a suspected one's for as long as that is not given up.
    pub until: Option<Instant>,
}

impl Announced {
    /// Whether it still counts.
    pub fn counts(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// What this node says.
struct Own {
    set: Arc<CapabilitySet>,
    version: u64,
    message: Bytes,
    renew_at: Instant,
}

/// Another node with a session.
struct Peer {
    entity: EntityId,
    life: Incarnation,
    /// Records flow.
    ready: bool,
    /// Nothing is heard of it at the moment.
    suspected: bool,
    known: Option<Known>,
    rate: RateLimit,
    /// The last message of those that came too soon after others.
    put_off: Option<Bytes>,
}

/// What it said.
struct Known {
    version: u64,
    subnet: Subnet,
    set: Arc<CapabilitySet>,
    counts: Counts,
}

/// For how long it counts.
#[derive(Clone, Copy)]
enum Counts {
    /// Until then.
    Until(Instant),
    /// The node is suspected, and cannot say it again: so much longer once it is back. When it is given up, it is over.
    Paused(Duration),
}

impl Known {
    fn counts(&self, now: Instant) -> bool {
        self.until().is_none_or(|until| now < until)
    }

    fn until(&self) -> Option<Instant> {
        match self.counts {
            Counts::Until(until) => Some(until),
            Counts::Paused(_) => None,
        }
    }

    /// Nothing can be heard of the node.
    fn pause(&mut self, now: Instant) {
        if let Counts::Until(until) = self.counts {
            self.counts = Counts::Paused(until.saturating_duration_since(now));
        }
    }

    fn resume(&mut self, now: Instant) {
        if let Counts::Paused(left) = self.counts {
            self.counts = Counts::Until(now + left);
        }
    }
}

/// The machine; see the module.
pub struct CapabilityMachine {
    keypair: EntityKeypair,
    me: NodeId,
    life: Incarnation,
    subnet: Subnet,
    config: CapabilityConfig,
    own: Own,
    peers: BTreeMap<NodeId, Peer>,
    /// The next sweep is not before that.
    sweep_after: Instant,
    outputs: VecDeque<Output>,
}

impl CapabilityMachine {
    /// A node that announces nothing but itself and where it is. `unix` is the time since 1970.
    pub fn new(
        keypair: EntityKeypair,
        life: Incarnation,
        subnet: Subnet,
        config: CapabilityConfig,
        now: Instant,
        unix: Duration,
    ) -> Result<Self, AnnouncementError> {
        // Shorter ones would keep the node busy with itself.
        let ttl = config.ttl.clamp(Duration::from_secs(1), MAX_TTL);
        let own = Own { set: Arc::default(), version: 0, message: Bytes::new(), renew_at: now };
        let mut machine = Self {
            me: keypair.node_id(),
            keypair,
            life,
            subnet,
            config: CapabilityConfig { ttl, ..config },
            own,
            peers: BTreeMap::new(),
            sweep_after: now,
            outputs: VecDeque::new(),
        };
        machine.say(Arc::default(), now, unix)?;
        Ok(machine)
    }

    /// Announces this from now on, to every peer. One that is too large changes nothing.
    pub fn announce(&mut self, set: CapabilitySet, now: Instant, unix: Duration) -> Result<(), AnnouncementError> {
        self.say(Arc::new(set), now, unix)?;
        self.outputs.push_back(Output::Changed(self.me));
        Ok(())
    }

    fn say(&mut self, set: Arc<CapabilitySet>, now: Instant, unix: Duration) -> Result<(), AnnouncementError> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let version = self.own.version + 1;
        let announcement = Announcement {
            entity: self.keypair.entity_id(),
            life: self.life,
            version,
            issued_ms: millis(unix),
            ttl_ms: millis(self.config.ttl),
            subnet: self.subnet.clone(),
            set: (*set).clone(),
        };
        let message = Bytes::from(announcement.seal(&self.keypair)?);
        self.own = Own { set, version, message: message.clone(), renew_at: now + self.config.ttl / 2 };
        // Also to those who are suspected: what others have for them may still go out, and this goes before it.
        self.outputs.extend(self.peers.keys().map(|&to| Output::Send { to, body: message.clone() }));
        Ok(())
    }

    /// Something happened to a peer.
    pub fn peer(&mut self, event: &PeerEvent, now: Instant, unix: Duration) {
        match event {
            PeerEvent::Connected { peer, resumed } => {
                let (entity, life) = (peer.entity, peer.incarnation);
                let former = self.peers.remove(&peer.node).filter(|former| *resumed && former.life == life);
                let (known, rate) = former.map_or_else(
                    || (None, RateLimit::with_burst(BURST, PER_SECOND, now)),
                    |former| (former.known, former.rate),
                );
                self.peers.insert(
                    peer.node,
                    Peer { entity, life, ready: false, suspected: false, known, rate, put_off: None },
                );
            }
            PeerEvent::Ready { node } => {
                let Some(peer) = self.peers.get_mut(node) else { return };
                peer.ready = true;
                if let Some(known) = &mut peer.known {
                    known.resume(now);
                    self.outputs.push_back(Output::Changed(*node));
                }
                // While there was nobody to tell, it may have run out.
                if now < self.own.renew_at || self.renew(now, unix).is_err() {
                    self.outputs.push_back(Output::Send { to: *node, body: self.own.message.clone() });
                }
            }
            PeerEvent::Suspected { node } => {
                if let Some(peer) = self.peers.get_mut(node) {
                    peer.suspected = true;
                    if let Some(known) = &mut peer.known {
                        known.pause(now);
                        self.outputs.push_back(Output::Changed(*node));
                    }
                }
            }
            PeerEvent::Heard { node } => {
                if let Some(peer) = self.peers.get_mut(node) {
                    peer.suspected = false;
                    if let Some(known) = peer.known.as_mut().filter(|_| peer.ready) {
                        known.resume(now);
                        self.outputs.push_back(Output::Changed(*node));
                    }
                }
            }
            PeerEvent::Cut { node } => {
                if let Some(peer) = self.peers.get_mut(node) {
                    peer.ready = false;
                }
            }
            PeerEvent::Lost { node, .. } => {
                self.peers.remove(node);
            }
        }
    }

    /// A message of a peer. It is taken only of the peer itself, in the life that it has in this session. When too many came
    /// before it, it is looked at later, unless another one comes until then.
    pub fn message(&mut self, from: NodeId, body: &[u8], now: Instant) -> Result<(), AnnouncementError> {
        if body.len() > MAX_MESSAGE {
            return Err(AnnouncementError::TooLarge(body.len()));
        }
        let peer = self.peers.get_mut(&from).ok_or(AnnouncementError::OtherNode)?;
        if peer.rate.admit(now) {
            peer.put_off = None;
            return self.hear(from, body, now);
        }
        peer.put_off = Some(Bytes::copy_from_slice(body));
        Ok(())
    }

    fn hear(&mut self, from: NodeId, body: &[u8], now: Instant) -> Result<(), AnnouncementError> {
        let unverified = Unverified::read(body)?;
        let says = unverified.says();
        let peer = self.peers.get(&from).ok_or(AnnouncementError::OtherNode)?;
        if says.entity != peer.entity || says.entity.node_id() != from || says.life != peer.life {
            return Err(AnnouncementError::OtherNode);
        }
        if let Some(known) = &peer.known {
            if says.version == known.version {
                // Said again, as at the beginning of every session.
                return Ok(());
            }
            if !says.is_newer_than(peer.life, known.version) {
                return Err(AnnouncementError::Older);
            }
        } else if self.peers.values().filter(|peer| peer.known.is_some()).count() >= MAX_NODES {
            return Err(AnnouncementError::Full);
        }
        let says = unverified.verify()?;
        let counts = Counts::Until(now + says.ttl());
        let mut known = Known { version: says.version, subnet: says.subnet, set: Arc::new(says.set), counts };
        if let Some(peer) = self.peers.get_mut(&from) {
            if !peer.ready || peer.suspected {
                known.pause(now);
            }
            peer.known = Some(known);
            self.outputs.push_back(Output::Changed(from));
        }
        Ok(())
    }

    /// Time has passed: this node's own announcement may have to be renewed, and others may have ended.
    pub fn tick(&mut self, now: Instant, unix: Duration) {
        if now >= self.own.renew_at && self.has_ready_peer() {
            // It has been signed before, so it can be again.
            let _signed = self.renew(now, unix);
        }
        self.hear_put_off(now);
        if now < self.sweep_after {
            return;
        }
        for (&node, peer) in &mut self.peers {
            if peer.known.take_if(|known| !known.counts(now)).is_some() {
                self.outputs.push_back(Output::Changed(node));
            }
        }
        self.sweep_after = now + self.config.sweep;
    }

    /// Looks at what came too soon, as far as it is time.
    fn hear_put_off(&mut self, now: Instant) {
        let due = |(&node, peer): (&NodeId, &mut Peer)| {
            let body = peer.put_off.take_if(|_| peer.rate.admit(now))?;
            Some((node, body))
        };
        let due: Vec<_> = self.peers.iter_mut().filter_map(due).collect();
        for (node, body) in due {
            if let Err(error) = self.hear(node, &body, now) {
                tracing::debug!(peer = %node, %error, "announcement refused");
            }
        }
    }

    fn renew(&mut self, now: Instant, unix: Duration) -> Result<(), AnnouncementError> {
        self.say(self.own.set.clone(), now, unix)
    }

    fn has_ready_peer(&self) -> bool {
        self.peers.values().any(|peer| peer.ready)
    }

    /// When [`tick`](Self::tick) is to be called. A node that knows of nobody sets no timer.
    pub fn next_deadline(&self) -> Option<Instant> {
        let first_end = self.peers.values().filter_map(|peer| peer.known.as_ref()?.until()).min();
        let sweep = first_end.map(|end| end.max(self.sweep_after));
        let renewal = self.has_ready_peer().then_some(self.own.renew_at);
        let put_off = self.peers.values().filter(|peer| peer.put_off.is_some()).map(|peer| peer.rate.next());
        sweep.into_iter().chain(renewal).chain(put_off).min()
    }

    /// What is to be done next.
    pub fn take_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What a node has announced, and still counts. The own set of this node is there from the start.
    pub fn announced(&self, node: NodeId, now: Instant) -> Option<Announced> {
        if node == self.me {
            return Some(Announced { set: self.own.set.clone(), until: None });
        }
        let known = self.peers.get(&node)?.known.as_ref().filter(|known| known.counts(now))?;
        Some(Announced { set: known.set.clone(), until: known.until() })
    }

    /// The nodes of which something is known that still counts: this one and its peers.
    pub fn nodes(&self, now: Instant) -> Vec<NodeId> {
        self.candidates(None, now).map(|(node, _)| node).collect()
    }

    /// The nodes that offer what a filter asks for, this one among them if it does, sorted. Without a scope, all of the mesh
    /// is looked at, whatever nodes say about who is to find them.
    pub fn find(&self, filter: &CapabilityFilter, scope: Option<&ScopeFilter>, now: Instant) -> Vec<NodeId> {
        let matching = self.candidates(scope, now).filter(|(_, set)| filter.matches(set));
        let mut nodes: Vec<_> = matching.map(|(node, _)| node).collect();
        nodes.sort_unstable();
        nodes
    }

    /// The nodes that offer what is required, the best first, with their scores; see [`CapabilityRequirement::rank`].
    pub fn rank(
        &self,
        requirement: &CapabilityRequirement,
        scope: Option<&ScopeFilter>,
        now: Instant,
    ) -> Vec<(NodeId, f64)> {
        requirement.rank(self.candidates(scope, now))
    }

    fn candidates<'a>(
        &'a self,
        scope: Option<&'a ScopeFilter>,
        now: Instant,
    ) -> impl Iterator<Item = (NodeId, &'a CapabilitySet)> {
        let near = |known: &Known| known.subnet.levels().is_some() && known.subnet == self.subnet;
        let known = self.peers.iter().filter_map(|(&node, peer)| Some((node, peer.known.as_ref()?)));
        let others = known.filter(move |(_, known)| known.counts(now));
        let others = others.map(move |(node, known)| (node, &*known.set, near(known)));
        std::iter::once((self.me, &*self.own.set, true))
            .chain(others)
            .filter(move |(_, set, near)| scope.is_none_or(|scope| scope.admits(set, *near)))
            .map(|(node, set, _)| (node, set))
    }
}

impl fmt::Debug for CapabilityMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapabilityMachine")
            .field("node", &self.me)
            .field("version", &self.own.version)
            .field("peers", &self.peers.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
