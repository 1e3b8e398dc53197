//! What nodes have announced, and the gates that ask for it.
//!
//! A daemon has what its node has. Who subscribes is looked at when it asks, when its node announces something else, and when
//! that ends; who publishes, with every message.

use std::collections::BTreeSet;

use super::ChannelId;
use super::machine::{ChannelMachine, Moment};
use super::roster::Channel;
use super::{ChannelError, Denial};
use crate::capability::{Announced, CapabilityFilter};
use crate::identity::NodeId;
use crate::wire::channels::RefusalReason;

impl ChannelMachine {
    /// What a peer that is not lost, or this node, has announced; nothing once that has ended. A lost peer's is forgotten.
    pub fn announced(&mut self, node: NodeId, announced: Option<Announced>, now: Moment) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.announced = announced;
        // Where it is in: of the others nobody is concerned, however many there are.
        let channels: BTreeSet<_> = peer.bases.keys().map(|stream| stream.channel).collect();
        for id in channels {
            let Some(channel) = self.channels.get(&id) else { continue };
            if self.offers(node, &channel.config.subscribe_caps, now).is_ok() {
                continue;
            }
            for seat in channel.seats_on(node) {
                self.evict(id, node, seat, RefusalReason::Unauthorized, now);
            }
        }
        self.settle_own(now);
    }

    /// Whether a node has announced what a filter asks for. Of one that asks for nothing, it need not have announced anything.
    pub(super) fn offers(&self, node: NodeId, filter: &CapabilityFilter, now: Moment) -> Result<(), RefusalReason> {
        let announced = || self.peers.get(&node)?.announced.as_ref().filter(|announced| announced.counts(now.instant));
        let offers = filter.is_empty() || announced().is_some_and(|announced| filter.matches(&announced.set));
        offers.then_some(()).ok_or(RefusalReason::Unauthorized)
    }

    /// Whether this node may publish on a channel of its own.
    pub(super) fn may_publish(&self, channel: &Channel, now: Moment) -> Result<(), ChannelError> {
        let refused =
            |_| ChannelError::Unauthorized { channel: channel.config.name.as_str().to_owned(), why: Denial::Incapable };
        self.offers(self.me.node, &channel.config.publish_caps, now).map_err(refused)
    }

    /// Puts out whose node does not offer, or no longer, what a channel asks of subscribers.
    pub(super) fn evict_incapable(&mut self, id: ChannelId, now: Moment) {
        let Some(channel) = self.channels.get(&id) else { return };
        let filter = &channel.config.subscribe_caps;
        if filter.is_empty() {
            return;
        }
        let incapable = channel.seats().filter(|(node, _)| self.offers(*node, filter, now).is_err());
        let out: Vec<_> = incapable.flat_map(|(node, seats)| seats.map(move |seat| (node, seat))).collect();
        for (node, seat) in out {
            self.evict(id, node, seat, RefusalReason::Unauthorized, now);
        }
    }
}
