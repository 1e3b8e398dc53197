//! The channels of simulated nodes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use mesh_daemon_core::causal::CausalLink;
use mesh_daemon_core::channel::{
    ArrivedMessage, ChannelConfig, ChannelError, ChannelEvent, ChannelMachine, ChannelName, DaemonChannels,
    DaemonSubscriber, DaemonSubscription, Feed, Moment, PublishId, PublishOptions, RequestId, Subnet, SubscribeAs,
    Subscriber,
};
use mesh_daemon_core::daemon::Ticket;
use mesh_daemon_core::identity::{EntityId, NodeId, OriginHash};
use mesh_daemon_core::mesh::{PeerEvent, Record, RecordSink};
use mesh_daemon_core::wire::{Lane, Subprotocol};

use super::World;

/// A machine, and the present that it is asked in.
pub(crate) struct SimChannels(Mutex<State>);

struct State {
    machine: ChannelMachine,
    now: Moment,
    /// What came of the engine's calls and of what arrived.
    events: VecDeque<ChannelEvent>,
    /// Messages for the node itself.
    messages: Vec<ArrivedMessage>,
}

impl State {
    fn collect(&mut self) {
        while let Some(event) = self.machine.next_event() {
            match event {
                ChannelEvent::Message(message) => self.messages.push(message),
                event => self.events.push_back(event),
            }
        }
        self.machine.take_wakes();
    }
}

impl SimChannels {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test thread panicked")
    }

    fn act<T>(&self, act: impl FnOnce(&mut ChannelMachine, Moment) -> T) -> T {
        let mut state = self.lock();
        let now = state.now;
        let result = act(&mut state.machine, now);
        state.collect();
        result
    }
}

impl DaemonChannels for SimChannels {
    fn subscribe(
        &self,
        publisher: NodeId,
        feed: &Feed,
        daemon: DaemonSubscriber<'_>,
        token: Option<&[u8]>,
    ) -> Result<RequestId, ChannelError> {
        self.act(|machine, now| machine.subscribe(publisher, feed, SubscribeAs::Daemon(daemon), token, now))
    }

    fn unsubscribe(&self, publisher: NodeId, feed: &Feed, daemon: EntityId) -> Result<RequestId, ChannelError> {
        Ok(self.act(|machine, now| machine.unsubscribe(publisher, feed, Subscriber::Daemon(daemon), now)))
    }

    fn leave_all(&self, daemon: EntityId) {
        self.act(|machine, now| machine.leave_all(daemon, now));
    }

    fn moved_on(&self, daemon: EntityId) {
        self.act(|machine, now| machine.moved_on(daemon, now));
    }

    fn subscriptions_of(&self, daemon: EntityId) -> Vec<DaemonSubscription> {
        self.act(|machine, _| machine.subscriptions_of(daemon))
    }

    fn dropped_for(&self, daemon: EntityId) -> u64 {
        self.act(|machine, _| machine.dropped_for(daemon))
    }

    fn next_for(&self, daemon: EntityId) -> Option<ArrivedMessage> {
        self.act(|machine, _| machine.next_for(daemon))
    }

    fn took(&self, daemon: EntityId, message: &ArrivedMessage) {
        self.act(|machine, now| machine.took(daemon, message, now));
    }

    fn passed_over(&self, daemon: EntityId, message: &ArrivedMessage) {
        self.act(|machine, now| machine.passed_over(daemon, message, now));
    }

    fn publish(
        &self,
        channel: &ChannelName,
        payload: &Bytes,
        link: &CausalLink,
        options: PublishOptions,
    ) -> Result<PublishId, ChannelError> {
        self.act(|machine, now| machine.publish(channel, payload, Some(link), options, now))
    }

    fn config_of(&self, channel: &ChannelName) -> Option<ChannelConfig> {
        self.act(|machine, _| machine.config_of(channel))
    }

    fn open_for_outputs(&self, config: ChannelConfig) -> Result<bool, ChannelError> {
        self.act(|machine, now| machine.open_for_outputs(config, now))
    }

    fn close_for_outputs(&self, channel: &ChannelName) {
        self.act(|machine, now| machine.close_for_outputs(channel, now));
    }

    fn events(&self) -> Vec<ChannelEvent> {
        self.lock().events.drain(..).collect()
    }

    fn flush(&self) {}
}

/// A channel, or `channel#group`.
fn feed(name: &str) -> Feed {
    let (name, group) = name.split_once('#').map_or((name, None), |(name, group)| (name, Some(group)));
    Feed::new(channel(name), group).expect("canonical")
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).expect("canonical")
}

impl World {
    /// Gives every node channels. Before anything happens.
    pub(crate) fn open_channels(&mut self) {
        for node in 0..self.nodes.len() {
            let (entity, incarnation) = (self.nodes[node].keypair.entity_id(), self.nodes[node].incarnation);
            let machine = ChannelMachine::new(entity, incarnation, Subnet::default(), 1 << 20);
            let (events, messages) = (VecDeque::new(), Vec::new());
            let state = State { machine, now: self.moment(), events, messages };
            let channels = Arc::new(SimChannels(Mutex::new(state)));
            self.nodes[node].engine.attach_channels(channels.clone());
            self.nodes[node].channels = Some(channels);
        }
        for node in 0..self.nodes.len() {
            for other in (0..self.nodes.len()).filter(|other| *other != node) {
                let peer = self.identity(other);
                let id = peer.node;
                self.channels_peer(node, &PeerEvent::Connected { peer, resumed: false });
                self.channels_peer(node, &PeerEvent::Ready { node: id });
            }
        }
    }

    fn moment(&self) -> Moment {
        let unix = Duration::from_nanos(self.present().unix_ns);
        Moment { instant: self.now, unix }
    }

    fn channels(&self, node: usize) -> Option<Arc<SimChannels>> {
        let channels = self.nodes[node].channels.clone()?;
        channels.lock().now = self.moment();
        Some(channels)
    }

    pub(super) fn channels_peer(&mut self, node: usize, event: &PeerEvent) {
        if let Some(channels) = self.channels(node) {
            channels.act(|machine, now| machine.peer(event, now));
        }
    }

    /// Lets the engine of a node hear what happened in channels.
    pub(super) fn serve_channels(&mut self, node: usize) {
        let Some(channels) = self.channels(node) else { return };
        let now = self.present();
        channels.act(|machine, now| {
            if machine.next_deadline().is_some_and(|at| at <= now.instant) {
                machine.tick(now);
            }
        });
        self.nodes[node].engine.channel_news(now);
        self.nodes[node].engine.serve_channels(now);
    }

    pub(super) fn fill_channels(&mut self, (from, to): (usize, usize), lane: Lane, sink: &mut dyn RecordSink) {
        let peer = self.id(to);
        if let Some(channels) = self.channels(from) {
            channels.act(|machine, now| machine.fill(peer, lane, sink, now));
        }
    }

    /// Records arrive at a node: those of channels at its machine, the others at its engine.
    pub(super) fn arrive(&mut self, from: usize, to: usize, lane: Lane, records: Vec<Record>) {
        let (now, id) = (self.present(), self.id(from));
        let is_channel = |record: &Record| record.subprotocol == Subprotocol::Channels;
        let (mut channel, mut rest): (Vec<_>, Vec<_>) = records.into_iter().partition(is_channel);
        if let Some(channels) = self.channels(to).filter(|_| !channel.is_empty()) {
            channels.act(|machine, now| machine.records(id, lane, &mut channel, now));
        }
        if self.nodes[to].bare {
            self.answer_without_runtime(from, to, rest);
        } else {
            self.nodes[to].engine.records(id, lane, &mut rest, now);
        }
    }

    // What tests do.

    pub(crate) fn register_channel(&mut self, node: usize, name: &str) {
        let channels = self.channels(node).expect("opened");
        channels.act(|machine, now| machine.register(ChannelConfig::new(channel(name)), now)).expect("registered");
    }

    /// Whether a node has a channel of this name.
    pub(crate) fn has_channel(&self, node: usize, name: &str) -> bool {
        self.channels(node).expect("opened").config_of(&channel(name)).is_some()
    }

    /// A node publishes.
    pub(crate) fn publish(&mut self, node: usize, name: &str, payload: &Bytes) {
        self.publish_with(node, name, payload, PublishOptions { reliable: true, ..PublishOptions::default() });
    }

    /// The same without waiting for acknowledgements.
    pub(crate) fn publish_lossy(&mut self, node: usize, name: &str, payload: &Bytes) {
        self.publish_with(node, name, payload, PublishOptions { reliable: false, ..PublishOptions::default() });
    }

    fn publish_with(&mut self, node: usize, name: &str, payload: &Bytes, options: PublishOptions) {
        let channels = self.channels(node).expect("opened");
        let published = channels.act(|machine, now| machine.publish(&channel(name), payload, None, options, now));
        published.expect("there is room");
        self.settle(node);
    }

    /// A daemon subscribes, and waits.
    pub(crate) fn subscribe_daemon(&mut self, node: usize, origin: OriginHash, publisher: usize, name: &str) {
        let ticket = self.ask_in(node, origin, publisher, name);
        self.wait_for(ticket).as_ref().expect("let in");
    }

    /// The same without waiting.
    pub(crate) fn ask_in(&mut self, node: usize, origin: OriginHash, publisher: usize, name: &str) -> Ticket {
        let publisher = self.id(publisher);
        self.act(node, None, |engine, ticket, _| engine.subscribe_channel(ticket, origin, publisher, &feed(name), None))
    }

    /// A daemon leaves a channel, without waiting.
    pub(crate) fn ask_out(&mut self, node: usize, origin: OriginHash, publisher: usize, name: &str) -> Ticket {
        let publisher = self.id(publisher);
        self.act(node, None, |engine, ticket, _| engine.unsubscribe_channel(ticket, origin, publisher, &feed(name)))
    }

    /// A node subscribes, without waiting.
    pub(crate) fn subscribe_node(&mut self, node: usize, publisher: usize, name: &str) {
        let publisher = self.id(publisher);
        let channels = self.channels(node).expect("opened");
        let asked =
            channels.act(|machine, now| machine.subscribe(publisher, &feed(name), SubscribeAs::Node, None, now));
        asked.expect("connected");
        self.settle(node);
    }

    /// Messages that a node itself got, in the order of their arrival.
    pub(crate) fn messages_of(&self, node: usize) -> Vec<ArrivedMessage> {
        self.nodes[node].channels.as_ref().expect("opened").lock().messages.clone()
    }

    /// Who is in on a channel of a node.
    pub(crate) fn channel_roster(&self, node: usize, name: &str) -> Vec<(NodeId, Subscriber)> {
        self.nodes[node].channels.as_ref().expect("opened").lock().machine.roster(&feed(name))
    }
}
