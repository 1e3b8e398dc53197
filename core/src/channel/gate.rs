//! Who asks to be let in: the publisher's side of membership.

use super::joining::subscription_statement;
use super::machine::{ChannelMachine, Moment, Subscriber};
use super::roster::{Grant, Rules};
use super::{ChannelError, ChannelId, ChannelName, Subnet};
use crate::identity::{EntityId, Epoch, NodeId, PermissionToken, TokenChain};
use crate::wire::channels::{ChannelMessage, DaemonProof, RefusalReason};

/// Most subscriptions of one peer.
const MAX_GRANTS: usize = 16 * 1024;

/// Refused peers that are remembered before those are forgotten whose time is over.
const MAX_THROTTLES: usize = 1024;

/// What somebody presents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    pub(super) channel: &'a str,
    pub(super) daemon: Option<DaemonProof>,
    pub(super) token: Option<&'a [u8]>,
    pub(super) subnet: Option<&'a [u8]>,
    pub(super) from: Option<u64>,
}

/// Where a subscriber stands that was let in.
#[derive(Clone, Copy, Debug)]
pub(super) struct LetIn {
    /// It gets what comes after this number.
    pub(super) position: u64,
    /// So many numbers before that are gone, at most.
    pub(super) missed: u64,
}

impl ChannelMachine {
    pub(super) fn on_subscribe(&mut self, from: NodeId, request: u64, asking: &Asking<'_>, now: Moment) {
        let answer = match self.admit(from, asking, now) {
            Ok(LetIn { position, missed }) => {
                let missed = Some(missed).filter(|missed| *missed > 0);
                ChannelMessage::Subscribed { request, position: Some(position), missed }
            }
            Err(reason) => {
                tracing::debug!(peer = %from, channel = asking.channel, ?reason, "subscription refused");
                ChannelMessage::Refused { request, reason }
            }
        };
        if !self.say(from, &answer) {
            self.refuse(from, "answer", &"it asks faster than it reads");
        }
    }

    fn admit(&mut self, from: NodeId, asking: &Asking<'_>, now: Moment) -> Result<LetIn, RefusalReason> {
        let name = ChannelName::new(asking.channel).map_err(|_| RefusalReason::Unknown)?;
        let id = name.id();
        self.sweep_channel(id, now);
        let subscriber = asking.daemon.map_or(Subscriber::Node, |proof| Subscriber::Daemon(proof.entity));
        let token = asking.token.map(TokenChain::from_bytes).transpose();
        let known = self.channels.get(&id).filter(|channel| channel.config.name == name);
        // Asked again after a reconnection, with what it was let in with.
        let granted = known.and_then(|channel| channel.grant(from, subscriber));
        let epoch = asking.daemon.map_or(Epoch::FIRST, |proof| proof.epoch);
        let same = |grant: &Grant| grant.epoch == epoch && token.as_ref().is_ok_and(|token| *token == grant.token);
        if granted.is_some_and(same) {
            return Ok(self.stands_at(id, from, asking.from));
        }
        if self.throttles.get_mut(&from).is_some_and(|throttle| throttle.is_closed(now.instant)) {
            return Err(RefusalReason::Throttled);
        }
        let channel = known.ok_or(RefusalReason::Unknown)?;
        let peer = self.peers.get(&from).ok_or(RefusalReason::Unauthorized)?;
        let grant =
            asking.subnet.map_or(Ok(Subnet::default()), Subnet::new).ok().zip(token.ok()).map(|(subnet, token)| {
                let presenter = asking.daemon.map_or(peer.entity, |proof| proof.entity);
                Grant { token, presenter, subnet, epoch }
            });
        let rules = Rules { own_entity: self.me.entity, own_subnet: &self.subnet, floors: &self.floors, now };
        let proven = asking.daemon.is_none_or(|proof| {
            let statement = subscription_statement(id, self.me.entity, self.me.incarnation, peer.entity, epoch);
            proof.entity.verify(&statement, &proof.signature).is_ok()
        });
        // A daemon has one host: the later one.
        let elsewhere = asking.daemon.filter(|_| proven).map(|proof| channel.elsewhere(proof.entity, from));
        if elsewhere.iter().flatten().any(|(_, theirs)| *theirs > epoch) {
            return Err(RefusalReason::Moved);
        }
        let former = elsewhere.into_iter().flatten().filter(|(_, theirs)| *theirs < epoch);
        let former: Vec<_> = former.map(|(node, _)| node).collect();
        let checked = grant
            .filter(|_| proven)
            .ok_or(RefusalReason::Unauthorized)
            .and_then(|grant| channel.check(&grant, rules).map(|()| grant).map_err(RefusalReason::from));
        let grant = match checked {
            Ok(grant) => grant,
            Err(reason) => {
                self.left(id, subscriber, &former);
                if self.throttles.len() >= MAX_THROTTLES {
                    self.throttles.retain(|_, throttle| throttle.is_remembered(now.instant));
                }
                self.throttles.entry(from).or_default().refused(now.instant);
                return Err(reason);
            }
        };
        let was_in = granted.is_some();
        if !was_in && peer.grants >= MAX_GRANTS {
            return Err(RefusalReason::TooMany);
        }
        // Only what had to be proven shows that it is no guesser.
        let gated = channel.config.is_gated();
        let end = grant.token.iter().flat_map(TokenChain::tokens).map(PermissionToken::not_after).min();
        if gated && let Some(throttle) = self.throttles.get_mut(&from) {
            throttle.succeeded();
        }
        if let (Some(channel), Some(peer)) = (self.channels.get_mut(&id), self.peers.get_mut(&from)) {
            if !channel.has_node(from) {
                peer.bases.insert(id, channel.last);
            }
            if matches!(subscriber, Subscriber::Daemon(_)) {
                channel.ring.open(channel.last);
            }
            if channel.insert(from, subscriber, grant) {
                peer.grants += 1;
            }
        }
        if let Some(end) = end.filter(|_| gated) {
            self.sweep_by(end, now);
        }
        let waiting: Vec<_> = former.iter().copied().chain(was_in.then_some(from)).collect();
        let stands = self.goes_on(id, from, &waiting, asking.from);
        if asking.from.is_some() {
            self.hand_on(id, &former, from, stands.position);
        }
        self.left(id, subscriber, &former);
        Ok(stands)
    }

    pub(super) fn on_unsubscribe(&mut self, from: NodeId, request: u64, channel: &str, daemon: Option<EntityId>) {
        let subscriber = daemon.map_or(Subscriber::Node, Subscriber::Daemon);
        if let Ok(name) = ChannelName::new(channel) {
            self.put_out(name.id(), from, subscriber);
        }
        if !self.say(from, &ChannelMessage::Unsubscribed { request }) {
            self.refuse(from, "answer", &"it asks faster than it reads");
        }
    }

    /// Ends a subscription that may not go on.
    pub(super) fn evict(&mut self, channel: ChannelId, node: NodeId, subscriber: Subscriber, reason: RefusalReason) {
        if !self.put_out(channel, node, subscriber) {
            return;
        }
        let daemon = match subscriber {
            Subscriber::Node => None,
            Subscriber::Daemon(entity) => Some(entity),
        };
        // When it cannot be kept, the peer is as good as gone, and hears it when it asks again.
        let _kept = self.say(node, &ChannelMessage::Ended { channel: channel.0, daemon, reason });
    }

    /// Takes a subscriber out of a roster; true when it was in. With the last one on its node, what waits for it goes.
    pub(super) fn put_out(&mut self, id: ChannelId, node: NodeId, subscriber: Subscriber) -> bool {
        let Some(channel) = self.channels.get_mut(&id) else { return false };
        if !channel.remove(node, subscriber) {
            return false;
        }
        let empty = !channel.has_node(node);
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.grants -= 1;
            if empty {
                peer.bases.remove(&id);
            }
        }
        if empty {
            self.deliveries_dropped(node, Some(id), &ChannelError::Left(node));
        }
        true
    }
}
