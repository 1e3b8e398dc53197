//! The channels of a node as its daemon runtime sees them.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::machine::{ArrivedMessage, ChannelEvent, DaemonSubscriber, Moment, RequestId, SubscribeAs, Subscriber};
use super::port::{DaemonChannels, DaemonChannelsObserver};
use super::publishing::{PublishId, PublishOptions};
use super::shell::{Channels, State};
use super::{ChannelConfig, ChannelError, ChannelName, DaemonSubscription, Feed};
use crate::causal::CausalLink;
use crate::identity::{EntityId, NodeId};

/// A runtime that has daemons on this node.
#[derive(Default)]
pub(super) struct Attached {
    observer: Option<Weak<dyn DaemonChannelsObserver>>,
    events: VecDeque<ChannelEvent>,
}

impl Attached {
    /// Keeps what concerns daemons, when there is a runtime.
    pub(super) fn keep(&mut self, event: ChannelEvent) {
        if self.observer.is_some() {
            self.events.push_back(event);
        }
    }

    /// Whom to tell that there is something.
    pub(super) fn to_tell(&self) -> Option<Arc<dyn DaemonChannelsObserver>> {
        if self.events.is_empty() { None } else { self.observer.as_ref()?.upgrade() }
    }
}

impl Channels {
    /// A runtime hears of what concerns its daemons, until [`detach`](Self::detach).
    pub fn attach(&self, observer: Weak<dyn DaemonChannelsObserver>) {
        self.with_state(|state, _| state.daemons = Attached { observer: Some(observer), events: VecDeque::new() });
    }

    /// Nobody does any more.
    pub fn detach(&self) {
        self.with_state(|state, _| state.daemons = Attached::default());
    }

    fn quietly<T>(&self, act: impl FnOnce(&mut State, Moment) -> T) -> T {
        self.with_state(|state, now| {
            let result = act(state, now);
            state.take_events(now);
            result
        })
    }
}

impl DaemonChannels for Channels {
    fn subscribe(
        &self,
        publisher: NodeId,
        feed: &Feed,
        daemon: DaemonSubscriber<'_>,
        token: Option<&[u8]>,
    ) -> Result<RequestId, ChannelError> {
        let who = SubscribeAs::Daemon(daemon);
        self.quietly(|state, now| state.open()?.subscribe(publisher, feed, who, token, now))
    }

    fn unsubscribe(&self, publisher: NodeId, feed: &Feed, daemon: EntityId) -> Result<RequestId, ChannelError> {
        let who = Subscriber::Daemon(daemon);
        self.quietly(|state, now| Ok(state.open()?.unsubscribe(publisher, feed, who, now)))
    }

    fn leave_all(&self, daemon: EntityId) {
        self.quietly(|state, now| state.machine.leave_all(daemon, now));
    }

    fn moved_on(&self, daemon: EntityId) {
        self.quietly(|state, now| state.machine.moved_on(daemon, now));
    }

    fn subscriptions_of(&self, daemon: EntityId) -> Vec<DaemonSubscription> {
        self.look(|machine| machine.subscriptions_of(daemon))
    }

    fn dropped_for(&self, daemon: EntityId) -> u64 {
        self.look(|machine| machine.dropped_for(daemon))
    }

    fn next_for(&self, daemon: EntityId) -> Option<ArrivedMessage> {
        self.with_state(|state, _| state.machine.next_for(daemon))
    }

    fn took(&self, daemon: EntityId, message: &ArrivedMessage) {
        self.quietly(|state, now| state.machine.took(daemon, message, now));
    }

    fn passed_over(&self, daemon: EntityId, message: &ArrivedMessage) {
        self.quietly(|state, now| state.machine.passed_over(daemon, message, now));
    }

    fn publish(
        &self,
        channel: &ChannelName,
        payload: &Bytes,
        link: &CausalLink,
        options: PublishOptions,
    ) -> Result<PublishId, ChannelError> {
        self.quietly(|state, now| state.open()?.publish(channel, payload, Some(link), options, now))
    }

    fn config_of(&self, channel: &ChannelName) -> Option<ChannelConfig> {
        self.look(|machine| machine.config_of(channel))
    }

    fn open_for_outputs(&self, config: ChannelConfig) -> Result<bool, ChannelError> {
        self.quietly(|state, now| state.open()?.open_for_outputs(config, now))
    }

    fn close_for_outputs(&self, channel: &ChannelName) {
        self.quietly(|state, now| state.machine.close_for_outputs(channel, now));
    }

    fn events(&self) -> Vec<ChannelEvent> {
        self.with_state(|state, _| state.daemons.events.drain(..).collect())
    }

    fn flush(&self) {
        Self::flush(self);
    }
}
