//! The subscriber's side of membership.
//!
//! A subscription is in the ledger once its publisher has said so, and until it has said that it is out. What was asked
//! before a connection broke is asked again afterwards; the publisher takes the same question twice as one.

use super::feed::Seat;
use super::holding::Key;
use super::machine::{ChannelEvent, ChannelMachine, DaemonSubscriber, Moment, RequestId, SubscribeAs, Subscriber};
use super::questions::Question;
use super::subscription::{Ask, Comes, Membership, Subscription};
use super::taken::Taken;
use super::{ChannelError, ChannelId, ChannelName, Denial, Feed, Share, StreamId};
use crate::identity::{EntityId, Epoch, Incarnation, MAX_CHAIN_TOKENS, NodeId, TOKEN_LEN};
use crate::wire::channels::{DaemonProof, RefusalReason};

/// Most bytes of what is presented to be let in: more would not fit the frame that asks.
pub(super) const MAX_PRESENTED: usize = MAX_CHAIN_TOKENS * TOKEN_LEN;

/// What a daemon signs to subscribe: that it wants this channel, or to be in that queue group of it, of this life of the
/// publisher on that node, its host since that epoch.
pub fn subscription_statement(
    feed: &Feed,
    publisher: EntityId,
    incarnation: Incarnation,
    node: EntityId,
    epoch: Epoch,
) -> Vec<u8> {
    let group = feed.group_id().map(|group| group.0.to_le_bytes());
    let parts: [&[u8]; 7] = [
        b"mesh-daemon channel subscription v1",
        publisher.as_bytes(),
        &incarnation.to_bytes(),
        node.as_bytes(),
        &feed.channel().id().0.to_le_bytes(),
        &epoch.get().to_le_bytes(),
        group.as_ref().map_or(&[], <[u8; 8]>::as_slice),
    ];
    parts.concat()
}

impl ChannelMachine {
    /// Asks a publisher to let a subscriber in. What comes of it is a [`ChannelEvent::Settled`].
    pub fn subscribe(
        &mut self,
        publisher: NodeId,
        feed: &Feed,
        subscriber: SubscribeAs<'_>,
        token: Option<&[u8]>,
        now: Moment,
    ) -> Result<RequestId, ChannelError> {
        let peer = self.peers.get(&publisher).ok_or(ChannelError::NotConnected(publisher))?;
        if token.is_some_and(|token| token.len() > MAX_PRESENTED) {
            return Err(ChannelError::InvalidArgument(format!("a chain has at most {MAX_CHAIN_TOKENS} tokens")));
        }
        let (subscriber, proof, from) = match subscriber {
            SubscribeAs::Node => (Subscriber::Node, None, None),
            SubscribeAs::Daemon(DaemonSubscriber { keypair, epoch, from }) => {
                let statement = subscription_statement(feed, peer.entity, peer.incarnation, self.me.entity, epoch);
                let signature = keypair.sign(&statement).map_err(ChannelError::Identity)?;
                let entity = keypair.entity_id();
                // In another life of the publisher numbers begin anew.
                let from = from.filter(|from| from.incarnation == peer.incarnation).map(|from| from.number);
                (Subscriber::Daemon(entity), Some(DaemonProof { entity, signature, epoch }), from)
            }
        };
        let key = (publisher, feed.stream(subscriber));
        if from.is_none() {
            self.leave_former(key, feed, subscriber);
        } else if feed.group().is_some() {
            self.forget_former(key, feed, subscriber);
        }
        let leaves = self.membership(key, subscriber).is_some_and(|membership| membership.is_leaving());
        if leaves && !self.say_first(key, subscriber) {
            return Err(ChannelError::Backpressure("too many requests to this publisher"));
        }
        let number = self.next_request();
        let request = RequestId(number);
        let subscription = self.subscriptions.entry(key).or_insert_with(|| Subscription::new(feed, key.1.share));
        if subscription.feed != *feed {
            return Err(ChannelError::Unknown(feed.channel().as_str().to_owned()));
        }
        let left = if leaves { subscription.come_again(subscriber) } else { Vec::new() };
        self.events.extend(left.into_iter().map(|request| ChannelEvent::Settled { request, result: Ok(()) }));
        let membership = subscription.member_or_new(subscriber);
        let ask = Ask { token: token.map(<[u8]>::to_vec), proof, waiting: vec![request] };
        let is_joining = matches!(membership.question, Some(Question::Join(_)));
        if is_joining && from.is_none() {
            return membership.present_behind(ask).map(|()| request);
        }
        // Where it goes on from another node it is another life of it.
        let overtaken = membership.give_up();
        // That it left is said before it asks again.
        membership.uncertain |= matches!(membership.question, Some(Question::Join(_) | Question::Stay(_)));
        membership.present(ask);
        membership.taken = from.map_or(membership.taken, Taken::Through);
        membership.goes_on |= from.is_some();
        self.settled(overtaken, &Err(feed.unsubscribed()));
        if let Subscriber::Daemon(daemon) = subscriber {
            self.daemons.joined(daemon, key);
        }
        if let Some(from) = from {
            self.hold_back(key, from);
        }
        self.put_question(key, subscriber, Some(Question::Join(number)));
        self.settle_own(now);
        Ok(request)
    }

    /// A daemon begins anew here that moved away. Its publisher may have heard of it nowhere else, and is told how far it came
    /// here: it leaves, and comes again.
    fn leave_former(&mut self, key: Key, feed: &Feed, subscriber: Subscriber) {
        if self.give_up_former(key, feed, subscriber) {
            let number = self.next_request();
            self.put_question(key, subscriber, Some(Question::Leave(number)));
        }
    }

    /// A daemon is back that moved away, and its share of a group may have been another one's meanwhile: what is left of it here
    /// is not its own any more. Behind what it goes on, it says itself.
    fn forget_former(&mut self, key: Key, feed: &Feed, subscriber: Subscriber) {
        if self.give_up_former(key, feed, subscriber) {
            self.remove_membership(key, subscriber);
        }
    }

    /// Answers what a daemon asked before it moved away; false when it did not, or is on the way out.
    fn give_up_former(&mut self, key: Key, feed: &Feed, subscriber: Subscriber) -> bool {
        let moved = subscriber.daemon().is_some_and(|daemon| self.daemons.has_moved(daemon, key));
        if !moved || !self.is_joining(key, subscriber) {
            return false;
        }
        let told = self.membership(key, subscriber).map(Membership::give_up);
        self.settled(told.unwrap_or_default(), &Err(feed.unsubscribed()));
        true
    }

    /// Asks a publisher to let a subscriber out. It is out when that is answered; one that is not in is out at once.
    pub fn unsubscribe(&mut self, publisher: NodeId, feed: &Feed, subscriber: Subscriber, now: Moment) -> RequestId {
        let number = self.next_request();
        let request = RequestId(number);
        let key = (publisher, feed.stream(subscriber));
        let subscription = self.subscriptions.get_mut(&key).filter(|subscription| subscription.feed == *feed);
        let Some(membership) = subscription.and_then(|subscription| subscription.members.get_mut(&subscriber)) else {
            self.events.push_back(ChannelEvent::Settled { request, result: Ok(()) });
            return request;
        };
        let (waited, put_out) = (membership.give_up(), membership.put_out.take());
        membership.waiting.push(request);
        if membership.is_leaving() {
            membership.waiting.extend(waited);
        } else {
            self.settled(waited, &Err(feed.unsubscribed()));
            // No answer lets it in again, so its owner hears of that now.
            self.tell_ended(key, subscriber, put_out);
            // When that cannot be said, what it has taken elsewhere may be taken once more.
            let _said = self.say_first(key, subscriber);
            self.put_question(key, subscriber, Some(Question::Leave(number)));
        }
        if let Share::Member(..) = key.1.share {
            // It is another one's, also when this one comes again before the rest.
            self.drop_unfinished(key);
        }
        self.settle_own(now);
        request
    }

    /// Whether a subscriber is in, or on the way in or out.
    pub(super) fn has_member(&self, key: Key, subscriber: Subscriber) -> bool {
        self.subscriptions.get(&key).is_some_and(|subscription| subscription.members.contains_key(&subscriber))
    }

    /// Whether a subscriber is in, or on the way in.
    pub(super) fn is_joining(&self, key: Key, subscriber: Subscriber) -> bool {
        let members = self.subscriptions.get(&key).map(|subscription| &subscription.members);
        let membership = members.and_then(|members| members.get(&subscriber));
        membership.is_some_and(|membership| !matches!(membership.question, Some(Question::Leave(_))))
    }

    /// Records flow again: what was asked and not answered is asked again, and whoever is in asks whether it still is.
    pub(super) fn ask_again(&mut self, publisher: NodeId) {
        let mut asked = Vec::new();
        let of_publisher = self.subscriptions.range_mut((publisher, StreamId::FIRST)..);
        for (&key, subscription) in of_publisher.take_while(|((at, _), _)| *at == publisher) {
            for (&subscriber, membership) in &mut subscription.members {
                // What was asked before may have been answered, and the answer lost.
                membership.uncertain = true;
                let comes_again = membership.comes != Comes::First && membership.through().is_none();
                asked.push((key, subscriber, membership.question, comes_again));
            }
        }
        for (key, subscriber, question, comes_again) in asked {
            if comes_again && matches!(question, Some(Question::Join(_))) {
                // What was sent to it before it asks again would count as its own, and it does not take that, or another reader
                // had no room for it; a daemon that has begun says how far it has come.
                self.say_left(key, subscriber);
            }
            // An answer to what it asked before is none any more: it would leave what is asked again without anybody who hears
            // that it was let in by that.
            let number = self.next_request();
            let again = question.map_or(Question::Stay(number), |question| question.renumbered(number));
            self.put_question(key, subscriber, Some(again));
        }
        if let Some(peer) = self.peers.get_mut(&publisher) {
            peer.questions.again();
        }
    }

    pub(super) fn on_subscribed(&mut self, from: NodeId, request: u64, position: Option<u64>, missed: Option<u64>) {
        let Some((key, subscriber)) = self.asked(from, request) else { return };
        let Some(membership) = self.membership(key, subscriber) else { return };
        if matches!(membership.question, Some(Question::Leave(_))) {
            return;
        }
        if let (Some(Question::Stay(_)), Some(error)) = (membership.question, &membership.put_out)
            && key.1.share == Share::All
            && position.is_some_and(|position| position > membership.taken.floor())
        {
            // It is let in anew, behind what was published while it was out.
            let error = error.clone();
            return self.withdraw(key, subscriber, &error);
        }
        if let Some(Question::Join(_)) = membership.question {
            membership.token = membership.offered.take();
        }
        let was_in = std::mem::replace(&mut membership.accepted, true);
        (membership.uncertain, membership.comes, membership.put_out) = (false, Comes::First, None);
        let told = std::mem::take(&mut membership.waiting);
        // Where one begins that has only just come, what arrived for others on its node decides.
        let goes_on = std::mem::replace(&mut membership.goes_on, true);
        let passed = goes_on && missed.zip(position).is_some_and(|(_, position)| membership.taken.floor() <= position);
        match (subscriber, position) {
            // What arrived of this before was for others, or for it before it left; what comes does not follow that.
            (Subscriber::Daemon(_), Some(position)) => {
                membership.taken = Taken::Through(position.max(membership.taken.floor()));
            }
            // What a daemon on the node has yet to get was published before.
            (Subscriber::Node, Some(position)) if !was_in => membership.taken.begin_again(position),
            (Subscriber::Node, Some(_)) | (_, None) => {}
        }
        let next = membership.present_next().then(|| Question::Join(self.next_request()));
        self.put_question(key, subscriber, next);
        self.settled(told, &Ok(()));
        let Subscriber::Daemon(daemon) = subscriber else { return self.settle_held(key) };
        if let (true, Some(count), Some(subscription)) = (passed, missed, self.subscriptions.get(&key)) {
            let (publisher, feed) = (from, subscription.feed.clone());
            self.events.push_back(ChannelEvent::Missed { publisher, feed, daemon, count });
        }
        self.settle_held(key);
        self.look_again(daemon);
    }

    fn settled(&mut self, requests: Vec<RequestId>, result: &Result<(), ChannelError>) {
        let settled = |request| ChannelEvent::Settled { request, result: result.clone() };
        self.events.extend(requests.into_iter().map(settled));
    }

    pub(super) fn on_refused(&mut self, from: NodeId, request: u64, reason: RefusalReason) {
        let Some((key, subscriber)) = self.asked(from, request) else { return };
        let number = self.next_request();
        let Some(subscription) = self.subscriptions.get_mut(&key) else { return };
        let (error, arrived) = (refusal(subscription.feed.channel(), reason), subscription.received);
        let Some(membership) = subscription.members.get_mut(&subscriber) else { return };
        match membership.question {
            // It stays in with what it was let in with; the publisher has kept that. That it was put out may have been lost
            // with a connection: then it asks.
            Some(Question::Join(_)) if membership.accepted => {
                membership.offered = None;
                let (told, uncertain) = (std::mem::take(&mut membership.waiting), membership.uncertain);
                let joins = membership.present_next().then_some(Question::Join(number));
                self.put_question(key, subscriber, joins.or(uncertain.then_some(Question::Stay(number))));
                self.settled(told, &Err(error));
            }
            // It comes anew with what it presents next.
            Some(Question::Join(_)) if membership.has_next() => {
                let told = std::mem::take(&mut membership.waiting);
                membership.taken.begin_again(arrived);
                membership.present_next();
                self.put_question(key, subscriber, Some(Question::Join(number)));
                self.settled(told, &Err(error));
            }
            Some(Question::Join(_) | Question::Stay(_)) if membership.uncertain => {
                self.withdraw(key, subscriber, &error);
            }
            Some(Question::Join(_) | Question::Stay(_)) => self.leave_membership(key, subscriber, &error),
            Some(Question::Leave(_)) | None => {}
        }
    }

    /// The same as [`Self::leave_membership`] where the publisher may have it in: it is gone when the publisher says so.
    pub(super) fn withdraw(&mut self, key: Key, subscriber: Subscriber, error: &ChannelError) {
        let number = self.next_request();
        let Some(membership) = self.membership(key, subscriber) else { return };
        let told = membership.give_up();
        let ended = membership.end(error);
        self.put_question(key, subscriber, Some(Question::Leave(number)));
        self.settled(told, &Err(error.clone()));
        self.tell_ended(key, subscriber, ended);
    }

    pub(super) fn on_unsubscribed(&mut self, from: NodeId, request: u64) {
        let Some((key, subscriber)) = self.asked(from, request) else { return };
        let Some(membership) = self.membership(key, subscriber) else { return };
        if !matches!(membership.question, Some(Question::Leave(_))) {
            return;
        }
        let told = std::mem::take(&mut membership.waiting);
        self.settled(told, &Ok(()));
        self.remove_membership(key, subscriber);
    }

    pub(super) fn on_ended(&mut self, from: NodeId, channel: ChannelId, seat: Seat, reason: RefusalReason) {
        let (key, subscriber) = ((from, seat.stream(channel)), seat.who);
        let Some(subscription) = self.subscriptions.get(&key) else { return };
        let (error, arrived) = (refusal(subscription.feed.channel(), reason), subscription.received);
        let Some(membership) = self.membership(key, subscriber) else { return };
        match (membership.question, subscriber) {
            // Its answer is on the way.
            (Some(Question::Join(_)), _) => membership.put_out = membership.end(&error),
            // The same, and a daemon hears from it what it has missed. A node sees that by what has arrived until now; it is out,
            // so what comes before the answer is for others.
            (Some(Question::Stay(_)), Subscriber::Daemon(_)) => {}
            (Some(Question::Stay(_)), Subscriber::Node) => {
                membership.put_out = membership.end(&error);
                membership.taken.begin_again(arrived);
                membership.uncertain = false;
            }
            (Some(Question::Leave(_)), _) => membership.accepted = false,
            (None, _) => self.leave_membership(key, subscriber, &error),
        }
    }

    /// A publisher is given up, with all that was subscribed to there.
    pub(super) fn subscriptions_lost(&mut self, publisher: NodeId) {
        for (key, subscriber) in self.memberships(publisher) {
            self.leave_membership(key, subscriber, &ChannelError::PeerLost(publisher));
        }
    }

    /// The node is shut down: all that was subscribed to is over, and whoever waits for an answer, in or out, gets none.
    pub(super) fn subscriptions_shut_down(&mut self) {
        let publishers: Vec<_> = self.peers.keys().copied().collect();
        for (key, who) in publishers.into_iter().flat_map(|publisher| self.memberships(publisher)).collect::<Vec<_>>() {
            let told = self.membership(key, who).map(Membership::give_up);
            self.settled(told.unwrap_or_default(), &Err(ChannelError::ShutDown));
            self.leave_membership(key, who, &ChannelError::ShutDown);
        }
    }

    /// Ends a subscriber's part against its will: whoever waits to come in is told, and if it was in, so is its owner.
    fn leave_membership(&mut self, key: Key, subscriber: Subscriber, error: &ChannelError) {
        let Some(membership) = self.membership(key, subscriber) else { return };
        let leaving = membership.is_leaving();
        let ended = membership.end(error).filter(|_| !leaving);
        let told = membership.give_up();
        let result = if leaving { Ok(()) } else { Err(error.clone()) };
        self.settled(told, &result);
        self.tell_ended(key, subscriber, ended);
        self.remove_membership(key, subscriber);
    }

    /// Has the owner of a subscription hear that it ended, when there is a reason.
    fn tell_ended(&mut self, key: Key, subscriber: Subscriber, why: Option<ChannelError>) {
        let (Some(error), Some(subscription)) = (why, self.subscriptions.get(&key)) else { return };
        let ((publisher, _), feed) = (key, subscription.feed.clone());
        self.events.push_back(ChannelEvent::Ended { publisher, feed, subscriber, error });
    }

    /// Whoever here has to do with a publisher, and with what.
    fn memberships(&self, publisher: NodeId) -> Vec<(Key, Subscriber)> {
        let from = self.subscriptions.range((publisher, StreamId::FIRST)..);
        let of_publisher = from.take_while(|((at, _), _)| *at == publisher);
        of_publisher.flat_map(|(&key, held)| held.members.keys().map(move |&who| (key, who))).collect()
    }

    /// What has begun to arrive is for nobody here: the rest of it does not come, or is another one's.
    fn drop_unfinished(&mut self, (publisher, stream): Key) {
        if let Some(peer) = self.peers.get_mut(&publisher) {
            peer.assembly.take_if(|unfinished| unfinished.stream() == stream);
        }
    }

    pub(super) fn membership(&mut self, key: Key, subscriber: Subscriber) -> Option<&mut Membership> {
        self.subscriptions.get_mut(&key)?.members.get_mut(&subscriber)
    }

    fn remove_membership(&mut self, key: Key, subscriber: Subscriber) {
        self.put_question(key, subscriber, None);
        let Some(subscription) = self.subscriptions.get_mut(&key) else { return };
        subscription.members.remove(&subscriber);
        if subscription.members.is_empty() {
            self.subscriptions.remove(&key);
            if let Some(peer) = self.peers.get_mut(&key.0) {
                peer.acks.remove(&key.1);
            }
            self.drop_unfinished(key);
        }
        if let Subscriber::Daemon(daemon) = subscriber {
            self.daemons.gone(daemon, key);
        }
        // It holds nothing up any more.
        self.settle_held(key);
    }
}

fn refusal(name: &ChannelName, reason: RefusalReason) -> ChannelError {
    let channel = name.as_str().to_owned();
    let why = match reason {
        RefusalReason::Unknown => return ChannelError::Unknown(channel),
        RefusalReason::Throttled => return ChannelError::Throttled(channel),
        RefusalReason::TooMany => return ChannelError::Backpressure("the publisher takes no more subscriptions"),
        RefusalReason::Moved => return ChannelError::Moved(channel),
        RefusalReason::Stalled => return ChannelError::Stalled,
        RefusalReason::Unauthorized => Denial::NotAuthorized,
        RefusalReason::NotYetValid => Denial::NotYetValid,
        RefusalReason::Expired => Denial::Expired,
        RefusalReason::Revoked => Denial::Revoked,
    };
    ChannelError::Unauthorized { channel, why }
}
