//! The protocol of channels, without I/O.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::peers::Peer;
use super::publishing::{Jobs, PublishId, PublishReport};
use super::revocations::Revocations;
use super::roster::{Channel, Rules};
use super::subscription::Subscription;
use super::taking::Daemons;
use super::throttle::{AuthThrottle, THROTTLE};
use super::{ChannelConfig, ChannelError, ChannelId, ChannelName, Feed, StreamId, Subnet};
use crate::causal::CausalLink;
use crate::identity::{EntityId, EntityKeypair, Epoch, Incarnation, NodeId};
use crate::mesh::PeerEvent;
use crate::wire::channels::{ChannelMessage, RefusalReason};
use crate::wire::codec;

/// Most channels of a node.
pub const MAX_CHANNELS: usize = 64 * 1024;
/// The wall clock may be set, and subscribers may stop: they are looked at this often at least.
pub(super) const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// The present, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For intervals.
    pub instant: Instant,
    /// For tokens: since 1970.
    pub unix: Duration,
}

/// Who on a node subscribes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subscriber {
    /// The node itself.
    Node,
    /// A daemon on it.
    Daemon(EntityId),
}

impl Subscriber {
    /// A daemon, or without one the node.
    pub(super) fn of(daemon: Option<EntityId>) -> Self {
        daemon.map_or(Self::Node, Self::Daemon)
    }

    /// The daemon.
    pub(super) const fn daemon(self) -> Option<EntityId> {
        match self {
            Self::Node => None,
            Self::Daemon(entity) => Some(entity),
        }
    }
}

/// A subscriber with what it needs to prove that it is one.
#[derive(Clone, Copy, Debug)]
pub enum SubscribeAs<'a> {
    /// The node, which its session proves.
    Node,
    /// A daemon.
    Daemon(DaemonSubscriber<'a>),
}

/// A daemon that subscribes.
#[derive(Clone, Copy, Debug)]
pub struct DaemonSubscriber<'a> {
    /// Its key, which has to be here.
    pub keypair: &'a EntityKeypair,
    /// How often its hosting changed hands.
    pub epoch: Epoch,
    /// The last message that it has taken, when it goes on from another node.
    pub from: Option<Position>,
}

/// Where a subscriber stands in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The life of the publisher in which the number counts.
    pub incarnation: Incarnation,
    /// The [place](ArrivedMessage::place) of the last message that it has taken.
    pub number: u64,
}

/// Names a request to a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

/// What the machine has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// A request to a publisher was answered.
    Settled {
        /// Which request.
        request: RequestId,
        /// How.
        result: Result<(), ChannelError>,
    },
    /// A publication is over.
    Published {
        /// Which one.
        id: PublishId,
        /// Whom it reached; an error only when it was to fail fast.
        result: Result<PublishReport, ChannelError>,
    },
    /// A message for this node arrived.
    Message(ArrivedMessage),
    /// A daemon can take messages, with [`ChannelMachine::next_for`].
    Ready(EntityId),
    /// A daemon that went on from another node came too late for some messages.
    Missed {
        /// Whose channel.
        publisher: NodeId,
        /// Which channel, or group of it.
        feed: Feed,
        /// Which daemon.
        daemon: EntityId,
        /// How many numbers were passed over; those of messages that need no acknowledgement count too.
        count: u64,
    },
    /// A subscription ended without being asked to.
    Ended {
        /// Whose channel.
        publisher: NodeId,
        /// Which channel, or group of it.
        feed: Feed,
        /// Whose subscription.
        subscriber: Subscriber,
        /// Why.
        error: ChannelError,
    },
}

/// A message for a subscriber on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrivedMessage {
    /// Who published it.
    pub publisher: NodeId,
    /// On which channel, and for which group.
    pub feed: Feed,
    /// Its number in the channel, in this life of the publisher.
    pub number: u64,
    /// Its number among those for this subscriber: in a group not the one in the channel.
    pub place: u64,
    /// What it says.
    pub payload: Bytes,
    /// Its place in the chain of the daemon that emitted it.
    pub link: Option<CausalLink>,
    /// Whether it was published as reliable.
    pub reliable: bool,
    /// When it arrived, since 1970.
    pub received_at: Duration,
}

/// Who this node is.
#[derive(Debug)]
pub(super) struct Me {
    pub(super) node: NodeId,
    pub(super) entity: EntityId,
    pub(super) incarnation: Incarnation,
}

/// Publisher and subscriber of one node.
pub struct ChannelMachine {
    pub(super) me: Me,
    pub(super) subnet: Subnet,
    pub(super) max_payload: u64,
    /// Peers that are not lost, and this node.
    pub(super) peers: BTreeMap<NodeId, Peer>,
    pub(super) channels: BTreeMap<ChannelId, Channel>,
    /// The highest number in a channel that was taken away. Others begin behind it: a subscriber that was cut off meanwhile may
    /// take a channel of the same name for the one that it knows.
    numbered: u64,
    pub(super) revocations: Revocations,
    /// How far clocks of issuers may be ahead of this one.
    pub(super) token_skew: Duration,
    pub(super) throttles: BTreeMap<NodeId, AuthThrottle>,
    pub(super) subscriptions: BTreeMap<(NodeId, StreamId), Subscription>,
    /// Daemons of this node that have to do with channels.
    pub(super) daemons: Daemons,
    pub(super) last_request: u64,
    pub(super) jobs: Jobs,
    pub(super) events: VecDeque<ChannelEvent>,
    pub(super) wakes: BTreeSet<NodeId>,
    /// When tokens, subscribers, and what is kept for a while are looked at next.
    look_at: Option<Instant>,
    /// When peers are asked next for revocations that came too often. Who brings these has a say in that, and it costs less.
    ask_at: Option<Instant>,
}

impl ChannelMachine {
    /// A node without channels and subscriptions. `max_payload` is the largest payload that it sends or takes.
    pub fn new(entity: EntityId, incarnation: Incarnation, subnet: Subnet, max_payload: u64) -> Self {
        let node = entity.node_id();
        let mut own = Peer::new(entity, incarnation, max_payload);
        own.ready = true;
        Self {
            me: Me { node, entity, incarnation },
            subnet,
            max_payload,
            peers: BTreeMap::from([(node, own)]),
            channels: BTreeMap::new(),
            numbered: 0,
            revocations: Revocations::new(entity),
            token_skew: Duration::ZERO,
            throttles: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            daemons: Daemons::default(),
            last_request: 0,
            jobs: Jobs::default(),
            events: VecDeque::new(),
            wakes: BTreeSet::new(),
            look_at: None,
            ask_at: None,
        }
    }

    /// Makes a channel, or gives the one of this name another configuration: whom that does not let in is out.
    pub fn register(&mut self, config: ChannelConfig, now: Moment) -> Result<(), ChannelError> {
        let id = config.name.id();
        let full = self.channels.len() >= MAX_CHANNELS;
        let mut trusted = config.token_roots.clone();
        match self.channels.get_mut(&id) {
            None if full => return Err(ChannelError::Backpressure("this node has as many channels as it may")),
            None => {
                self.channels.insert(id, Channel::new(config, self.numbered, now));
            }
            Some(channel) if channel.config.name != config.name => {
                let taken = channel.config.name.as_str();
                let message = format!("'{}' has the same hash as channel '{taken}'", config.name.as_str());
                return Err(ChannelError::InvalidArgument(message));
            }
            Some(channel) => {
                let (former, was_gated) = (channel.config.priority, channel.config.is_gated());
                channel.reconfigure(config, now);
                let priority = channel.config.priority;
                if priority != former {
                    self.peers.values_mut().for_each(|peer| peer.rank(id, priority));
                }
                let Some(channel) = self.channels.get(&id) else { return Ok(()) };
                // Who came in while nobody looked at tokens may have one that has yet to begin.
                let rules = if was_gated { self.rules_for_members(now) } else { self.rules(now) };
                let (outdated, end) = (channel.outdated(rules), channel.next_end());
                for (node, seat, error) in outdated {
                    self.evict(id, node, seat, error.into(), now);
                }
                if let Some(end) = end {
                    // It may have been open before, when nobody looked at tokens.
                    self.sweep_by(end, now);
                }
                self.evict_incapable(id, now);
            }
        }
        trusted.extend(self.channels.get(&id).map(Channel::issuers).unwrap_or_default());
        self.trust(trusted);
        self.settle_own(now);
        Ok(())
    }

    /// Makes a channel for the outputs of daemons, unless there is one of this name; true when there was none.
    pub fn open_for_outputs(&mut self, config: ChannelConfig, now: Moment) -> Result<bool, ChannelError> {
        let id = config.name.id();
        if self.channels.get(&id).is_some_and(|channel| channel.config.name == config.name) {
            return Ok(false);
        }
        self.register(config, now)?;
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.for_outputs = true;
        }
        Ok(true)
    }

    /// Takes such a channel away, unless somebody has registered it since.
    pub fn close_for_outputs(&mut self, name: &ChannelName, now: Moment) {
        if self.channels.get(&name.id()).is_some_and(|channel| channel.for_outputs) {
            self.unregister(name, now);
        }
    }

    /// Takes a channel away: all its subscribers are out. False when there is none of this name.
    pub fn unregister(&mut self, name: &ChannelName, now: Moment) -> bool {
        let id = name.id();
        let Some(channel) = self.channels.get(&id).filter(|channel| channel.config.name == *name) else { return false };
        let seats: Vec<_> = channel.seats().flat_map(|(node, seats)| seats.map(move |seat| (node, seat))).collect();
        for (node, seat) in seats {
            self.evict(id, node, seat, RefusalReason::Unknown, now);
        }
        if let Some(channel) = self.channels.remove(&id) {
            self.numbered = self.numbered.max(channel.last).max(channel.groups.last());
        }
        self.settle_own(now);
        true
    }

    /// What the gates of this node decide by.
    pub(super) fn rules(&self, now: Moment) -> Rules<'_> {
        let (own_entity, own_subnet, floors) = (self.me.entity, &self.subnet, self.revocations.floors());
        // Whole seconds that the present is away from the latest that it may be.
        let skew = (now.unix + self.token_skew).as_secs() - now.unix.as_secs();
        Rules { own_entity, own_subnet, floors, skew, now }
    }

    /// The same for those who are in. Their tokens began once, whatever this node's clock is set to since.
    pub(super) fn rules_for_members(&self, now: Moment) -> Rules<'_> {
        Rules { skew: u64::MAX, ..self.rules(now) }
    }

    /// Something happened to a peer.
    pub fn peer(&mut self, event: &PeerEvent, now: Moment) {
        match event {
            PeerEvent::Connected { peer, resumed } => {
                let known = self.peers.get(&peer.node);
                if known.is_some_and(|known| !resumed || known.incarnation != peer.incarnation) {
                    self.lost(peer.node, now);
                }
                self.deliveries_cut(peer.node, now);
                self.peers
                    .entry(peer.node)
                    .or_insert_with(|| Peer::new(peer.entity, peer.incarnation, peer.max_payload));
                self.tell_all_revocations(peer.node);
            }
            PeerEvent::Ready { node } => {
                if let Some(peer) = self.peers.get_mut(node) {
                    peer.ready = true;
                    peer.ready_since = Some(now.instant);
                    self.ask_again(*node);
                    self.wakes.insert(*node);
                }
            }
            // What it was sent goes on arriving when it is heard again.
            PeerEvent::Suspected { .. } | PeerEvent::Heard { .. } => {}
            PeerEvent::Cut { node } => {
                if let Some(peer) = self.peers.get_mut(node) {
                    peer.ready = false;
                    self.deliveries_cut(*node, now);
                    self.not_handed(*node);
                }
            }
            PeerEvent::Lost { node, .. } => self.lost(*node, now),
        }
        self.settle_own(now);
    }

    /// A peer is given up: it leaves every roster, and whoever waits for it is told.
    fn lost(&mut self, node: NodeId, now: Moment) {
        for channel in self.channels.values_mut() {
            channel.remove_node(node, now);
        }
        self.look_by(self.channels.values().filter_map(|channel| channel.ring.closes()).min());
        // What was for members of groups falls to those that are left.
        self.deliveries_dropped(node, None, &ChannelError::PeerLost(node));
        self.subscriptions_lost(node);
        self.peers.remove(&node);
        self.not_handed(node);
    }

    /// The node is shut down: it has no channels any more, and whoever waits for something is told.
    pub fn shut_down(&mut self) {
        self.publications_shut_down();
        self.subscriptions_shut_down();
        self.channels.clear();
    }

    /// Time has passed: tokens may have ended, and subscribers taken nothing for too long.
    pub fn tick(&mut self, now: Moment) {
        if self.ask_at.is_some_and(|at| at <= now.instant) {
            self.ask_at = self.ask_put_off(now);
        }
        if self.look_at.into_iter().chain(self.daemons.next_end()).any(|at| at <= now.instant) {
            self.look(now);
        }
        self.settle_own(now);
    }

    fn look(&mut self, now: Moment) {
        self.channels.values_mut().for_each(|channel| channel.ring.close_if_due(now.instant));
        let ids: Vec<_> = self.channels.keys().copied().collect();
        for id in ids {
            self.sweep_channel(id, now);
        }
        self.throttles.retain(|_, throttle| throttle.forget(now.instant));
        self.forget_moved(now);
        let next_end = self.channels.values().filter_map(Channel::next_end).min();
        self.look_at = next_end.map(|end| sweep_time(end, now));
        self.look_by(self.channels.values().filter_map(|channel| channel.ring.closes()).min());
        self.look_by((!self.throttles.is_empty()).then_some(now.instant + THROTTLE));
        self.end_stalled(now);
    }

    /// Puts out whose token has ended, and whose node no longer offers what it has to.
    pub(super) fn sweep_channel(&mut self, id: ChannelId, now: Moment) {
        let due = self.channels.get_mut(&id).is_some_and(|channel| channel.is_sweep_due(now));
        let channel = self.channels.get(&id).filter(|_| due);
        let expired = channel.map(|channel| channel.expired(self.rules_for_members(now)));
        for (node, seat, error) in expired.into_iter().flatten() {
            self.evict(id, node, seat, error.into(), now);
        }
        self.evict_incapable(id, now);
    }

    /// A token that ends then was accepted.
    pub(super) fn sweep_by(&mut self, end: u64, now: Moment) {
        self.look_by(Some(sweep_time(end, now)));
    }

    /// Something may be due then.
    pub(super) fn look_by(&mut self, at: Option<Instant>) {
        self.look_at = self.look_at.into_iter().chain(at).min();
    }

    /// Peers may be asked for revocations then.
    pub(super) fn ask_by(&mut self, at: Instant) {
        self.ask_at = Some(self.ask_at.map_or(at, |before| before.min(at)));
    }

    /// When [`tick`](Self::tick) is to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.look_at.into_iter().chain(self.ask_at).chain(self.daemons.next_end()).min()
    }

    /// The next thing to tell.
    pub fn next_event(&mut self) -> Option<ChannelEvent> {
        self.events.pop_front()
    }

    /// Peers that something waits for.
    pub fn take_wakes(&mut self) -> BTreeSet<NodeId> {
        std::mem::take(&mut self.wakes)
    }

    /// How a channel of this node was made, with the issuers of its tokens named.
    pub fn config_of(&self, name: &ChannelName) -> Option<ChannelConfig> {
        let channel = self.channels.get(&name.id()).filter(|channel| channel.config.name == *name)?;
        let mut config = channel.config.clone();
        if config.is_gated() && config.token_roots.is_empty() {
            config.token_roots.push(self.me.entity);
        }
        Some(config)
    }

    /// Who is let in on a channel of this node, or into a group of it.
    pub fn roster(&self, feed: &Feed) -> Vec<(NodeId, Subscriber)> {
        let channel = self.channels.get(&feed.channel().id());
        channel.map(|channel| channel.members(feed.group_id()).collect()).unwrap_or_default()
    }

    /// What this node has subscribed to, and its publisher has agreed to.
    pub fn ledger(&self) -> Vec<(NodeId, Feed, Subscriber)> {
        self.subscriptions
            .iter()
            .flat_map(|(&(publisher, _), subscription)| {
                subscription.accepted().map(move |subscriber| (publisher, subscription.feed.clone(), subscriber))
            })
            .collect()
    }

    /// Enters a message for a peer that is not lost; false when it cannot be kept.
    pub(super) fn say(&mut self, to: NodeId, message: &ChannelMessage<'_>) -> bool {
        let kept = self.peers.get_mut(&to).is_some_and(|peer| peer.push_control(codec::encode(message)));
        self.wakes.insert(to);
        kept
    }

    pub(super) fn refuse(&self, from: NodeId, what: &str, why: &dyn fmt::Display) {
        tracing::debug!(peer = %from, what, %why, node = %self.me.node, "refused");
    }
}

impl From<crate::identity::TokenError> for RefusalReason {
    fn from(error: crate::identity::TokenError) -> Self {
        use crate::identity::TokenError as E;
        match error {
            E::Expired => Self::Expired,
            E::Revoked => Self::Revoked,
            E::NotYetValid => Self::NotYetValid,
            E::InvalidSignature
            | E::ForgedRevocation
            | E::DelegationExhausted
            | E::DelegationNotAllowed
            | E::NotAuthorized
            | E::InvalidFormat(_)
            | E::ReadOnly
            | E::ZeroTtl
            | E::TtlTooLong => Self::Unauthorized,
        }
    }
}

impl fmt::Debug for ChannelMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelMachine")
            .field("node", &self.me.node)
            .field("channels", &self.channels.len())
            .field("subscriptions", &self.subscriptions.len())
            .finish_non_exhaustive()
    }
}

fn sweep_time(end: u64, now: Moment) -> Instant {
    now.instant + Duration::from_secs(end).saturating_sub(now.unix).min(LONGEST_SLEEP)
}
