//! Who asks to be let in: the publisher's side of membership.

use super::feed::Seat;
use super::joining::subscription_statement;
use super::machine::{ChannelMachine, Moment, Subscriber};
use super::roster::Grant;
use super::throttle::{AuthThrottle, THROTTLE};
use super::{ChannelError, ChannelId, ChannelName, Feed, Subnet};
use crate::identity::{EntityId, Epoch, NodeId, PermissionToken, TokenChain};
use crate::wire::channels::{ChannelMessage, DaemonProof, RefusalReason};

/// Most subscriptions of one peer.
const MAX_GRANTS: usize = 16 * 1024;

/// Most queue groups of a channel that one peer is in: each of them has a message sent to it once more.
const MAX_GROUPS: usize = 64;

/// Refused peers that are remembered before those are forgotten whose time is over.
const MAX_THROTTLES: usize = 1024;

/// What somebody presents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    pub(super) channel: &'a str,
    pub(super) group: Option<&'a str>,
    pub(super) daemon: Option<DaemonProof>,
    pub(super) token: Option<&'a [u8]>,
    pub(super) subnet: Option<&'a [u8]>,
    pub(super) from: Option<u64>,
}

/// Who wants out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving<'a> {
    pub(super) channel: &'a str,
    pub(super) group: Option<&'a str>,
    pub(super) daemon: Option<EntityId>,
    pub(super) taken: Option<u64>,
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
        let feed = ChannelName::new(asking.channel).and_then(|name| Feed::new(name, asking.group));
        let feed = feed.map_err(|_| RefusalReason::Unknown)?;
        let (name, id) = (feed.channel(), feed.channel().id());
        self.sweep_channel(id, now);
        let seat = feed.seat(Subscriber::of(asking.daemon.map(|proof| proof.entity)));
        let stream = seat.stream(id);
        let token = asking.token.map(TokenChain::from_bytes).transpose();
        let known = self.channels.get(&id).filter(|channel| channel.config.name == *name);
        // Asked again after a reconnection, with what it was let in with.
        let granted = known.and_then(|channel| channel.grant(from, seat));
        let epoch = asking.daemon.map_or(Epoch::FIRST, |proof| proof.epoch);
        let same = |grant: &Grant| grant.epoch == epoch && token.as_ref().is_ok_and(|token| *token == grant.token);
        if granted.is_some_and(same) {
            return self.stands_at(stream, from, asking.from);
        }
        let peer = self.peers.get(&from).ok_or(RefusalReason::Unauthorized)?;
        let presenter = asking.daemon.map_or(peer.entity, |proof| proof.entity);
        let guarded = known.is_none_or(|channel| channel.config.is_guarded());
        let throttled = |throttle: &mut AuthThrottle| throttle.is_closed(presenter, now.instant);
        if guarded && self.throttles.get_mut(&from).is_some_and(throttled) {
            return Err(RefusalReason::Throttled);
        }
        let channel = known.ok_or(RefusalReason::Unknown)?;
        let subnet = asking.subnet.map_or(Ok(Subnet::default()), Subnet::new);
        let grant = subnet.ok().zip(token.ok()).map(|(subnet, token)| Grant { token, presenter, subnet, epoch });
        let rules = self.rules(now);
        let proven = asking.daemon.is_none_or(|proof| {
            let statement = subscription_statement(&feed, self.me.entity, self.me.incarnation, peer.entity, epoch);
            proof.entity.verify(&statement, &proof.signature).is_ok()
        });
        // A daemon has one host: the later one.
        let elsewhere = asking.daemon.filter(|_| proven).map(|proof| channel.elsewhere(proof.entity, from));
        if elsewhere.iter().flatten().any(|(_, _, theirs)| *theirs > epoch) {
            return Err(RefusalReason::Moved);
        }
        let former = elsewhere.into_iter().flatten().filter(|(_, other, theirs)| *other == seat && *theirs < epoch);
        let former: Vec<_> = former.map(|(node, _, _)| node).collect();
        let checked = grant
            .filter(|_| proven)
            .ok_or(RefusalReason::Unauthorized)
            .and_then(|grant| channel.check(seat, &grant, rules).map(|()| grant).map_err(RefusalReason::from))
            .and_then(|grant| self.offers(from, &channel.config.subscribe_caps, now).map(|()| grant));
        let grant = match checked {
            Ok(grant) => grant,
            Err(reason) => {
                let failed = Some(presenter).filter(|_| proven);
                self.left(id, seat, &former, now);
                if self.throttles.len() >= MAX_THROTTLES {
                    self.throttles.retain(|_, throttle| throttle.forget(now.instant));
                }
                self.throttles.entry(from).or_default().refused(failed, now.instant);
                self.look_by(Some(now.instant + THROTTLE));
                return Err(reason);
            }
        };
        let was_in = granted.is_some();
        let renews = former.is_empty() && granted.is_some_and(|grant| grant.epoch == epoch);
        let one_too_many = |group| !channel.groups.is_on(group, from) && channel.groups.count_on(from) >= MAX_GROUPS;
        if !was_in && (peer.grants >= MAX_GRANTS || seat.group.is_some_and(one_too_many)) {
            return Err(RefusalReason::TooMany);
        }
        let gated = channel.config.is_gated();
        let tokens = grant.token.iter().flat_map(TokenChain::tokens);
        let end = tokens.clone().map(PermissionToken::not_after).min();
        let issuers: Vec<_> = tokens.filter(|_| gated).map(PermissionToken::issuer).collect();
        // Only what had to be proven shows that it is no guesser.
        if guarded && let Some(throttle) = self.throttles.get_mut(&from) {
            throttle.succeeded(presenter);
        }
        // One that is refused changes nothing.
        let renewed = if renews { Some(self.stands_at(stream, from, asking.from)?) } else { None };
        if let (Some(channel), Some(peer)) = (self.channels.get_mut(&id), self.peers.get_mut(&from)) {
            if !channel.has_seat(from, stream.share) {
                peer.bases.insert(stream, channel.last_of(stream.share));
            }
            if channel.insert(from, seat, grant) {
                peer.grants += 1;
            }
        }
        if let Some(end) = end.filter(|_| gated) {
            self.sweep_by(end, now);
        }
        self.trust(issuers);
        let stands = renewed.unwrap_or_else(|| {
            let waiting: Vec<_> = former.iter().copied().chain(was_in.then_some(from)).collect();
            self.goes_on(stream, from, &waiting, asking.from)
        });
        if asking.from.is_some() {
            self.hand_on(stream, &former, from, stands.position);
        }
        self.left(id, seat, &former, now);
        Ok(stands)
    }

    pub(super) fn on_unsubscribe(&mut self, from: NodeId, request: u64, leaving: &Leaving<'_>, now: Moment) {
        if let Ok(feed) = ChannelName::new(leaving.channel).and_then(|name| Feed::new(name, leaving.group)) {
            let (id, seat) = (feed.channel().id(), feed.seat(Subscriber::of(leaving.daemon)));
            // What it has taken counts only of one that is in: a daemon may be a member on another node.
            let is_in = self.channels.get(&id).is_some_and(|channel| channel.grant(from, seat).is_some());
            if let Some(taken) = leaving.taken.filter(|_| is_in && seat.group.is_some()) {
                self.taken_before_leaving(from, seat.stream(id), taken);
            }
            self.put_out(id, from, seat, now);
        }
        if !self.say(from, &ChannelMessage::Unsubscribed { request }) {
            self.refuse(from, "answer", &"it asks faster than it reads");
        }
    }

    /// Ends a subscription that may not go on.
    pub(super) fn evict(&mut self, channel: ChannelId, node: NodeId, seat: Seat, reason: RefusalReason, now: Moment) {
        if !self.put_out(channel, node, seat, now) {
            return;
        }
        let (daemon, group) = (seat.who.daemon(), seat.group.map(|group| group.0));
        // When it cannot be kept, the peer is as good as gone, and hears it when it asks again.
        let _kept = self.say(node, &ChannelMessage::Ended { channel: channel.0, daemon, reason, group });
    }

    /// Takes a subscriber out of a roster; true when it was in. With the last one on its node that a stream is for, what waits
    /// in that goes.
    pub(super) fn put_out(&mut self, id: ChannelId, node: NodeId, seat: Seat, now: Moment) -> bool {
        let Some(channel) = self.channels.get_mut(&id) else { return false };
        if !channel.remove(node, seat, now) {
            return false;
        }
        let closes = channel.ring.closes();
        let stream = seat.stream(id);
        let empty = !channel.has_seat(node, stream.share);
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.grants -= 1;
            if empty {
                peer.bases.remove(&stream);
            }
        }
        if empty {
            self.deliveries_dropped(node, Some(stream), &ChannelError::Left(node));
        }
        self.look_by(closes);
        true
    }
}
