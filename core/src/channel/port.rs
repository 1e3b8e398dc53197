//! What a daemon runtime has to do with the channels of its node.

use bytes::Bytes;

use super::machine::{ArrivedMessage, ChannelEvent, DaemonSubscriber, RequestId};
use super::publishing::{PublishId, PublishOptions};
use super::{ChannelConfig, ChannelError, ChannelName, DaemonSubscription, Feed};
use crate::causal::CausalLink;
use crate::identity::{EntityId, NodeId};

/// The channels of a node, as a runtime asks of them. No method blocks or calls back: what comes of it is in
/// [`events`](Self::events), and leaves the node with [`flush`](Self::flush), which the runtime calls while it holds no lock.
/// Of a node that was shut down, what is asked is refused with [`ChannelError::ShutDown`], and what waits by then is answered so.
pub trait DaemonChannels: Send + Sync {
    /// Asks a publisher to let a daemon in; see [`ChannelMachine::subscribe`](super::ChannelMachine::subscribe).
    fn subscribe(
        &self,
        publisher: NodeId,
        feed: &Feed,
        daemon: DaemonSubscriber<'_>,
        token: Option<&[u8]>,
    ) -> Result<RequestId, ChannelError>;

    /// Asks a publisher to let a daemon out.
    fn unsubscribe(&self, publisher: NodeId, feed: &Feed, daemon: EntityId) -> Result<RequestId, ChannelError>;

    /// Has a daemon leave all its channels.
    fn leave_all(&self, daemon: EntityId);

    /// A daemon lives elsewhere now, and goes on from there.
    fn moved_on(&self, daemon: EntityId);

    /// What a daemon has subscribed to, or is about to, and how far it has taken messages.
    fn subscriptions_of(&self, daemon: EntityId) -> Vec<DaemonSubscription>;

    /// How many messages a daemon had no room for, of those that need no acknowledgement.
    fn dropped_for(&self, daemon: EntityId) -> u64;

    /// What comes next for a daemon.
    fn next_for(&self, daemon: EntityId) -> Option<ArrivedMessage>;

    /// The daemon has taken what was next.
    fn took(&self, daemon: EntityId, message: &ArrivedMessage);

    /// The daemon had no room for what was next, and it needs no acknowledgement.
    fn passed_over(&self, daemon: EntityId, message: &ArrivedMessage);

    /// Publishes on a channel of this node.
    fn publish(
        &self,
        channel: &ChannelName,
        payload: &Bytes,
        link: &CausalLink,
        options: PublishOptions,
    ) -> Result<PublishId, ChannelError>;

    /// How a channel of this node was made, with the issuers of its tokens named.
    fn config_of(&self, channel: &ChannelName) -> Option<ChannelConfig>;

    /// Makes a channel of this node for the outputs of daemons, unless there is one of this name; true when there was none.
    fn open_for_outputs(&self, config: ChannelConfig) -> Result<bool, ChannelError>;

    /// Ends such a channel, unless somebody has registered it since.
    fn close_for_outputs(&self, channel: &ChannelName);

    /// What happened since that concerns daemons.
    fn events(&self) -> Vec<ChannelEvent>;

    /// Carries out what the calls before left to do. May block for a moment, and calls others.
    fn flush(&self);
}

/// A runtime that hears of its daemons' channels.
pub trait DaemonChannelsObserver: Send + Sync + 'static {
    /// There are [`events`](DaemonChannels::events). Called on any thread, without a lock.
    fn channel_news(&self);
}
