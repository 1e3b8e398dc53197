//! Machines joined by connections that can break, with what is on the way lost.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use mesh_daemon_core::channel::{
    ArrivedMessage, ChannelConfig, ChannelError, ChannelEvent, ChannelMachine, ChannelName, DaemonSubscriber, Feed,
    Moment, OnFailure, Position, PublishId, PublishOptions, PublishReport, RequestId, Subnet, SubscribeAs, Subscriber,
};
use mesh_daemon_core::identity::{EntityKeypair, Epoch, Incarnation, NodeId, PermissionToken, TokenGrant, TokenScope};
use mesh_daemon_core::mesh::{Loss, PeerEvent, PeerIdentity, Record, RecordSink};
use mesh_daemon_core::wire::{Lane, MAX_RECORD_BODY, Subprotocol};
use tokio::time::Instant;

pub(crate) const MAX_PAYLOAD: u64 = 1024 * 1024;
pub(crate) const RELIABLE: PublishOptions =
    PublishOptions { reliable: true, on_failure: OnFailure::BestEffort, max_inflight: 32, all_or_none: false };
pub(crate) const LOSSY: PublishOptions = PublishOptions { reliable: false, ..RELIABLE };
/// The node that publishes.
pub(crate) const P: usize = 0;
/// One that subscribes.
pub(crate) const S: usize = 1;
/// Another one.
pub(crate) const T: usize = 2;
/// 2023-11-14.
const START: Duration = Duration::from_secs(1_700_000_000);

pub(crate) struct Net {
    pub(crate) nodes: Vec<Node>,
    wires: BTreeMap<(usize, usize), Wire>,
    pub(crate) now: Moment,
}

pub(crate) struct Node {
    pub(crate) keypair: EntityKeypair,
    pub(crate) machine: ChannelMachine,
    pub(crate) events: VecDeque<ChannelEvent>,
    incarnation: Incarnation,
    max_payload: u64,
}

/// One direction of a connection.
#[derive(Default)]
struct Wire {
    frames: VecDeque<(Lane, Vec<Bytes>)>,
}

/// A frame with the room of a real one.
struct Frame {
    records: Vec<Bytes>,
    left: usize,
}

impl RecordSink for Frame {
    fn room(&self) -> usize {
        if self.left < MAX_RECORD_BODY / 4 { 0 } else { self.left }
    }

    fn record(&mut self, subprotocol: Subprotocol, encode: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
        assert_eq!(subprotocol, Subprotocol::Channels);
        let mut body = Vec::new();
        encode(&mut body);
        let len = body.len();
        if len > self.room() {
            return None;
        }
        self.left -= len;
        self.records.push(body.into());
        Some(len)
    }
}

pub(crate) fn name(text: &str) -> ChannelName {
    ChannelName::new(text).expect("canonical")
}

/// A channel, or `channel#group`.
pub(crate) fn feed(text: &str) -> Feed {
    let (channel, group) = text.split_once('#').map_or((text, None), |(channel, group)| (channel, Some(group)));
    Feed::new(name(channel), group).expect("canonical")
}

pub(crate) fn open(text: &str) -> ChannelConfig {
    ChannelConfig::new(name(text))
}

pub(crate) fn daemon(seed: u8) -> EntityKeypair {
    EntityKeypair::from_seed(&[seed; 32])
}

pub(crate) fn numbers(messages: &[ArrivedMessage]) -> Vec<u64> {
    messages.iter().map(|message| message.number).collect()
}

impl Net {
    /// Nodes without sessions; each has the key of its index.
    pub(crate) fn new(count: usize) -> Self {
        Self::with_subnets(&vec![Vec::new(); count])
    }

    pub(crate) fn with_subnets(subnets: &[Vec<u8>]) -> Self {
        let nodes = subnets.iter().enumerate().map(|(index, levels)| {
            let keypair = EntityKeypair::from_seed(&[u8::try_from(index).expect("few") + 1; 32]);
            let incarnation = Incarnation { started_at_ms: 1, salt: index as u64 };
            let subnet = Subnet::new(levels).expect("1 to 4 levels");
            let machine = ChannelMachine::new(keypair.entity_id(), incarnation, subnet, MAX_PAYLOAD);
            Node { keypair, machine, events: VecDeque::new(), incarnation, max_payload: MAX_PAYLOAD }
        });
        let now = Moment { instant: Instant::now(), unix: START };
        Self { nodes: nodes.collect(), wires: BTreeMap::new(), now }
    }

    /// A node's process dies, and a new one begins with nothing but its key. The others give up the former one.
    pub(crate) fn restart(&mut self, at: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != at).collect::<Vec<_>>() {
            self.lose(at, other);
        }
        let node = &mut self.nodes[at];
        node.incarnation = Incarnation { started_at_ms: node.incarnation.started_at_ms + 1, ..node.incarnation };
        let (entity, subnet) = (node.keypair.entity_id(), Subnet::default());
        node.machine = ChannelMachine::new(entity, node.incarnation, subnet, MAX_PAYLOAD);
        node.events.clear();
    }

    /// Nodes that all have sessions with each other.
    pub(crate) fn connected(count: usize) -> Self {
        let mut net = Self::new(count);
        net.connect_all();
        net
    }

    /// A publisher of channel `a`, and two nodes; daemons on the first of these are in.
    pub(crate) fn subscribed(daemons: &[&EntityKeypair]) -> Self {
        let mut net = Self::connected(3);
        net.register(P, open("a"));
        for one in daemons {
            net.subscribe(S, P, "a", Some(one), None).expect("let in");
        }
        net
    }

    pub(crate) fn connect_all(&mut self) {
        for a in 0..self.nodes.len() {
            for b in 0..a {
                self.connect(a, b, false);
            }
        }
    }

    pub(crate) fn id(&self, index: usize) -> NodeId {
        self.nodes[index].keypair.node_id()
    }

    pub(crate) fn index(&self, id: NodeId) -> usize {
        (0..self.nodes.len()).find(|&index| self.id(index) == id).expect("one of us")
    }

    pub(crate) fn connect(&mut self, a: usize, b: usize, resumed: bool) {
        for (at, other) in [(a, b), (b, a)] {
            self.wires.insert((at, other), Wire::default());
            let peer = self.identity(other);
            self.peer(at, &PeerEvent::Connected { peer, resumed });
        }
        for (at, other) in [(a, b), (b, a)] {
            let node = self.id(other);
            self.peer(at, &PeerEvent::Ready { node });
        }
    }

    fn identity(&self, of: usize) -> PeerIdentity {
        let node = &self.nodes[of];
        PeerIdentity {
            node: node.keypair.node_id(),
            entity: node.keypair.entity_id(),
            incarnation: node.incarnation,
            static_key: [0; 32],
            max_payload: node.max_payload,
        }
    }

    /// A node without sessions takes smaller payloads than the others.
    pub(crate) fn limit(&mut self, at: usize, max_payload: u64) {
        let node = &mut self.nodes[at];
        let (entity, subnet) = (node.keypair.entity_id(), Subnet::default());
        node.max_payload = max_payload;
        node.machine = ChannelMachine::new(entity, node.incarnation, subnet, max_payload);
    }

    /// One node hears nothing of another for a while; the connection is there, and the other one knows of nothing.
    pub(crate) fn suspect(&mut self, at: usize, other: usize) {
        let node = self.id(other);
        self.peer(at, &PeerEvent::Suspected { node });
    }

    /// It hears of it again.
    pub(crate) fn hear_again(&mut self, at: usize, other: usize) {
        let node = self.id(other);
        self.peer(at, &PeerEvent::Heard { node });
    }

    /// A connection breaks: what is on the way is lost.
    pub(crate) fn cut(&mut self, a: usize, b: usize) {
        for (at, other) in [(a, b), (b, a)] {
            self.wires.remove(&(at, other));
            self.suspect(at, other);
            let node = self.id(other);
            self.peer(at, &PeerEvent::Cut { node });
        }
    }

    /// Both give each other up.
    pub(crate) fn lose(&mut self, a: usize, b: usize) {
        for (at, other) in [(a, b), (b, a)] {
            self.wires.remove(&(at, other));
            let (node, incarnation) = (self.id(other), self.nodes[other].incarnation);
            self.peer(at, &PeerEvent::Lost { node, incarnation, how: Loss::Silence });
        }
    }

    fn peer(&mut self, at: usize, event: &PeerEvent) {
        let now = self.now;
        self.nodes[at].machine.peer(event, now);
        self.collect(at);
    }

    pub(crate) fn is_connected(&self, a: usize, b: usize) -> bool {
        self.wires.contains_key(&(a, b))
    }

    /// One node puts what fits into a frame of each lane onto its wire.
    pub(crate) fn send(&mut self, from: usize, to: usize) -> bool {
        self.send_lanes(from, to, &[Lane::Fast, Lane::Bulk])
    }

    /// The same for some lanes only: a session may be asked for the bulk while something comes up in the fast lane.
    pub(crate) fn send_lanes(&mut self, from: usize, to: usize, lanes: &[Lane]) -> bool {
        let (peer, now) = (self.id(to), self.now);
        let Some(wire) = self.wires.get_mut(&(from, to)) else { return false };
        let mut sent = false;
        for &lane in lanes {
            let mut frame = Frame { records: Vec::new(), left: MAX_RECORD_BODY };
            let _more = self.nodes[from].machine.fill(peer, lane, &mut frame, now);
            if !frame.records.is_empty() {
                wire.frames.push_back((lane, frame.records));
                sent = true;
            }
        }
        self.collect(from);
        sent
    }

    /// One node's frame has no room left when it comes to large messages.
    pub(crate) fn fill_full_frame(&mut self, from: usize, to: usize) {
        let (peer, now) = (self.id(to), self.now);
        let mut frame = Frame { records: Vec::new(), left: 0 };
        assert!(self.nodes[from].machine.fill(peer, Lane::Bulk, &mut frame, now), "there is more");
        self.collect(from);
    }

    /// How many frames of large messages are on a wire.
    pub(crate) fn large_on_the_way(&self, from: usize, to: usize) -> usize {
        let frames = self.wires.get(&(from, to)).into_iter().flat_map(|wire| &wire.frames);
        frames.filter(|(lane, _)| *lane == Lane::Bulk).count()
    }

    /// The oldest frame of a wire arrives.
    pub(crate) fn arrive(&mut self, from: usize, to: usize) -> bool {
        let peer = self.id(from);
        let Some((lane, bodies)) = self.wires.get_mut(&(from, to)).and_then(|wire| wire.frames.pop_front()) else {
            return false;
        };
        let mut records = bodies.into_iter().map(|body| Record { subprotocol: Subprotocol::Channels, body }).collect();
        let now = self.now;
        self.nodes[to].machine.records(peer, lane, &mut records, now);
        self.collect(to);
        true
    }

    /// A record of anybody's making arrives.
    pub(crate) fn inject(&mut self, from: usize, to: usize, lane: Lane, body: Vec<u8>) {
        let (peer, now) = (self.id(from), self.now);
        let mut records = vec![Record { subprotocol: Subprotocol::Channels, body: body.into() }];
        self.nodes[to].machine.records(peer, lane, &mut records, now);
        self.collect(to);
    }

    /// What one side has to say arrives, and nothing of the other.
    pub(crate) fn hear(&mut self, from: usize, to: usize) {
        while self.send(from, to) || self.arrive(from, to) {}
    }

    /// Until nothing is on the way.
    pub(crate) fn run(&mut self) {
        loop {
            let pairs: Vec<_> = self.wires.keys().copied().collect();
            let mut busy = false;
            for (from, to) in pairs {
                busy |= self.send(from, to);
                while self.arrive(from, to) {
                    busy = true;
                }
            }
            if !busy {
                return;
            }
        }
    }

    /// Time passes; deadlines are served.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = Moment { instant: self.now.instant + time, unix: self.now.unix + time };
        for at in 0..self.nodes.len() {
            if self.nodes[at].machine.next_deadline().is_some_and(|due| due <= self.now.instant) {
                let now = self.now;
                self.nodes[at].machine.tick(now);
                self.collect(at);
            }
        }
    }

    pub(crate) fn collect(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        while let Some(event) = node.machine.next_event() {
            node.events.push_back(event);
        }
        node.machine.take_wakes();
    }

    pub(crate) fn register(&mut self, at: usize, config: ChannelConfig) {
        let now = self.now;
        self.nodes[at].machine.register(config, now).expect("registered");
        self.collect(at);
    }

    pub(crate) fn ask(
        &mut self,
        at: usize,
        publisher: usize,
        channel: &str,
        daemon: Option<&EntityKeypair>,
        token: Option<&[u8]>,
    ) -> Result<RequestId, ChannelError> {
        match daemon {
            None => self.ask_as(at, publisher, channel, SubscribeAs::Node, token),
            Some(keypair) => self.ask_from(at, publisher, channel, keypair, token, Epoch::FIRST, None),
        }
    }

    /// A daemon asks, perhaps to go on from another node.
    #[allow(clippy::too_many_arguments)] // what a daemon says of itself
    pub(crate) fn ask_from(
        &mut self,
        at: usize,
        publisher: usize,
        channel: &str,
        keypair: &EntityKeypair,
        token: Option<&[u8]>,
        epoch: Epoch,
        from: Option<Position>,
    ) -> Result<RequestId, ChannelError> {
        let who = SubscribeAs::Daemon(DaemonSubscriber { keypair, epoch, from });
        self.ask_as(at, publisher, channel, who, token)
    }

    fn ask_as(
        &mut self,
        at: usize,
        publisher: usize,
        channel: &str,
        who: SubscribeAs<'_>,
        token: Option<&[u8]>,
    ) -> Result<RequestId, ChannelError> {
        let (publisher, now) = (self.id(publisher), self.now);
        let request = self.nodes[at].machine.subscribe(publisher, &feed(channel), who, token, now);
        self.collect(at);
        request
    }

    /// What comes next for a daemon; it takes that when it has room.
    pub(crate) fn next_for(&mut self, at: usize, daemon: &EntityKeypair, has_room: bool) -> Option<ArrivedMessage> {
        let now = self.now;
        let machine = &mut self.nodes[at].machine;
        let message = machine.next_for(daemon.entity_id())?;
        if has_room {
            machine.took(daemon.entity_id(), &message, now);
        }
        self.collect(at);
        Some(message)
    }

    /// A daemon takes everything there is.
    pub(crate) fn take_all(&mut self, at: usize, daemon: &EntityKeypair) -> Vec<ArrivedMessage> {
        std::iter::from_fn(|| self.next_for(at, daemon, true)).collect()
    }

    /// Where a daemon stands in its only channel.
    pub(crate) fn position(&self, at: usize, daemon: &EntityKeypair) -> Option<Position> {
        self.nodes[at].machine.subscriptions_of(daemon.entity_id()).pop()?.position
    }

    /// Subscribes, and lets that be answered.
    pub(crate) fn subscribe(
        &mut self,
        at: usize,
        publisher: usize,
        channel: &str,
        daemon: Option<&EntityKeypair>,
        token: Option<&[u8]>,
    ) -> Result<(), ChannelError> {
        let request = self.ask(at, publisher, channel, daemon, token)?;
        self.run();
        self.answer(at, request).expect("answered")
    }

    pub(crate) fn leave(&mut self, at: usize, publisher: usize, channel: &str, who: Subscriber) -> RequestId {
        let (publisher, now) = (self.id(publisher), self.now);
        let request = self.nodes[at].machine.unsubscribe(publisher, &feed(channel), who, now);
        self.collect(at);
        request
    }

    /// Takes the answer to a request, when there is one.
    pub(crate) fn answer(&mut self, at: usize, request: RequestId) -> Option<Result<(), ChannelError>> {
        let is_it = |event: &ChannelEvent| matches!(event, ChannelEvent::Settled { request: it, .. } if *it == request);
        match self.take(at, is_it)? {
            ChannelEvent::Settled { result, .. } => Some(result),
            _ => unreachable!("just looked for"),
        }
    }

    pub(crate) fn publish(
        &mut self,
        at: usize,
        channel: &str,
        payload: &[u8],
        options: PublishOptions,
    ) -> Result<PublishId, ChannelError> {
        let now = self.now;
        let id = self.nodes[at].machine.publish(&name(channel), &Bytes::copy_from_slice(payload), None, options, now);
        self.collect(at);
        id
    }

    /// Publishes so many reliable messages on channel `a`, and lets them arrive.
    pub(crate) fn publish_all(&mut self, count: usize) {
        for _ in 0..count {
            self.publish(P, "a", b"x", RELIABLE).expect("sent");
        }
        self.run();
    }

    /// Takes the report of a publication, when it is over.
    pub(crate) fn report(&mut self, at: usize, id: PublishId) -> Option<Result<PublishReport, ChannelError>> {
        let is_it = |event: &ChannelEvent| matches!(event, ChannelEvent::Published { id: it, .. } if *it == id);
        match self.take(at, is_it)? {
            ChannelEvent::Published { result, .. } => Some(result),
            _ => unreachable!("just looked for"),
        }
    }

    /// Takes all messages that arrived.
    pub(crate) fn messages(&mut self, at: usize) -> Vec<ArrivedMessage> {
        let is_it = |event: &ChannelEvent| matches!(event, ChannelEvent::Message(_));
        std::iter::from_fn(|| match self.take(at, is_it)? {
            ChannelEvent::Message(message) => Some(message),
            _ => unreachable!("just looked for"),
        })
        .collect()
    }

    /// The same, their numbers.
    pub(crate) fn numbers(&mut self, at: usize) -> Vec<u64> {
        numbers(&self.messages(at))
    }

    /// Takes the ends of subscriptions.
    pub(crate) fn ends(&mut self, at: usize) -> Vec<(Subscriber, ChannelError)> {
        let is_it = |event: &ChannelEvent| matches!(event, ChannelEvent::Ended { .. });
        std::iter::from_fn(|| match self.take(at, is_it)? {
            ChannelEvent::Ended { subscriber, error, .. } => Some((subscriber, error)),
            _ => unreachable!("just looked for"),
        })
        .collect()
    }

    fn take(&mut self, at: usize, which: impl Fn(&ChannelEvent) -> bool) -> Option<ChannelEvent> {
        let events = &mut self.nodes[at].events;
        let index = events.iter().position(which)?;
        events.remove(index)
    }

    /// A channel that lets in who has a token of its publisher.
    pub(crate) fn gated(&self, channel: &str) -> ChannelConfig {
        ChannelConfig { token_roots: vec![self.nodes[P].keypair.entity_id()], ..open(channel) }
    }

    /// A token for `channel` by one node's key.
    pub(crate) fn token(&self, issuer: usize, grant: &Granted<'_>) -> Vec<u8> {
        let grant = TokenGrant {
            subject: grant.subject.entity_id(),
            scope: TokenScope::SUBSCRIBE,
            channel_hash: right(grant.channel),
            ttl_seconds: grant.ttl,
            delegation_depth: 0,
            generation: 0,
        };
        let token = PermissionToken::issue(&self.nodes[issuer].keypair, &grant, self.now.unix.as_secs());
        token.expect("issuable").to_bytes().to_vec()
    }
}

/// The hash that a token for a feed names.
pub(crate) fn right(text: &str) -> u64 {
    let feed = feed(text);
    feed.group_id().map_or(feed.channel().id().0, |group| group.0)
}

/// What [`Net::token`] grants.
pub(crate) struct Granted<'a> {
    pub(crate) subject: &'a EntityKeypair,
    pub(crate) channel: &'a str,
    pub(crate) ttl: u64,
}
