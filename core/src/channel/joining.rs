//! The subscriber's side of membership.
//!
//! A subscription is in the ledger once its publisher has said so, and until it has said that it is out. What was asked
//! before a connection broke is asked again afterwards; the publisher takes the same question twice as one.

use std::collections::BTreeMap;

use super::feed::Seat;
use super::holding::{HeldMessages, Key};
use super::machine::{ChannelEvent, ChannelMachine, DaemonSubscriber, Moment, RequestId, SubscribeAs, Subscriber};
use super::questions::Question;
use super::stalling::Stall;
use super::taken::{Rear, Taken};
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

/// A stream of a publisher that somebody here has to do with.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) feed: Feed,
    share: Share,
    /// The highest number that has arrived.
    pub(super) received: u64,
    /// The highest one of those that are to be acknowledged.
    pub(super) received_reliable: u64,
    /// What daemons have yet to take.
    pub(super) held: HeldMessages,
    /// How many stand where everybody has taken everything, when that was last looked at.
    pub(super) rear: Rear,
    /// The number through which the publisher was told that everything was taken.
    acknowledged: u64,
    pub(super) members: BTreeMap<Subscriber, Membership>,
}

/// Whether a member is in, the last message that it has taken, and its token.
pub(super) type Member<'a> = (bool, Option<u64>, Option<&'a [u8]>);

/// What is for a subscriber of what arrives before the publisher has let it in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Comes {
    /// It may have been let in already: what arrives is for it.
    #[default]
    First,
    /// The same, and it left, of which the publisher may not even have heard.
    Again,
    /// To a group: nothing. What arrives may have fallen to it before it left, here or on another node, and to others since;
    /// what is its own behind what it says it has taken is sent after the answer.
    Anew,
}

/// One subscriber's part in it.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// The publisher has agreed.
    accepted: bool,
    /// It was in, and the publisher has put it out while it asked to come in once more. Its owner hears of that unless the
    /// answer lets it in.
    put_out: Option<ChannelError>,
    /// What the publisher has not answered yet. Only the answer to the last question counts.
    pub(super) question: Option<Question>,
    /// What it was let in with.
    pub(super) token: Option<Vec<u8>>,
    /// What it presents to be let in.
    pub(super) offered: Option<Vec<u8>>,
    /// An answer may have been missed that let it in: a refusal does not say that it is out.
    uncertain: bool,
    comes: Comes,
    pub(super) proof: Option<DaemonProof>,
    taken: Taken,
    /// The last message that readers of the node have room for, while somebody reads.
    pub(super) room: Option<u64>,
    /// Whether it takes what waits for it.
    pub(super) stall: Stall,
    /// It said behind which message it goes on, or has been in: what comes before its position it has missed.
    goes_on: bool,
    /// Who waits for the answer.
    waiting: Vec<RequestId>,
}

impl Membership {
    /// Whether it takes messages: it is in, or on the way in, and not on the way out.
    pub(super) const fn takes(&self) -> bool {
        !matches!(self.comes, Comes::Anew) && !self.is_leaving()
    }

    /// The last message that a daemon has taken, once that is known. It takes none before.
    pub(super) const fn through(&self) -> Option<u64> {
        self.taken.through()
    }

    /// Whether it may be handed messages. Before its publisher has let it in, what arrives is for others on its node.
    pub(super) const fn is_handed(&self) -> bool {
        self.accepted && self.takes()
    }

    const fn is_leaving(&self) -> bool {
        matches!(self.question, Some(Question::Leave(_)))
    }

    /// It is out from now on. Why, when it was in until now, or was put out before and its owner has not heard of that.
    fn end(&mut self, why: &ChannelError) -> Option<ChannelError> {
        let now = std::mem::take(&mut self.accepted).then(|| why.clone());
        self.put_out.take().or(now)
    }

    /// The token that counts: a new one only once the publisher has taken it.
    fn token(&self) -> Option<&[u8]> {
        if self.accepted { self.token.as_deref() } else { self.offered.as_deref() }
    }
}

impl Subscription {
    fn new(feed: &Feed, share: Share) -> Self {
        let (held, members) = (HeldMessages::default(), BTreeMap::new());
        let rear = Rear::default();
        Self { feed: feed.clone(), share, received: 0, received_reliable: 0, held, rear, acknowledged: 0, members }
    }

    /// Whether what arrives is looked at. A member of a group that leaves takes nothing more: that falls to others.
    pub(super) fn is_wanted(&self) -> bool {
        match self.share {
            Share::All => true,
            Share::Member(..) => self.members.values().any(Membership::takes),
        }
    }

    /// Whether a message has a number above all before, and the node may have it: it is in, or an answer may have been missed
    /// that let it in. An answer comes before what it lets in for.
    pub(super) fn is_for_node(&mut self, number: u64) -> bool {
        let before = self.received;
        self.received = before.max(number);
        let Some(membership) = self.members.get_mut(&Subscriber::Node).filter(|_| number > before) else {
            return false;
        };
        let may_be_in = membership.accepted || membership.uncertain;
        let is_for_node = membership.takes() && may_be_in && number > membership.taken.floor();
        if !is_for_node {
            // Its readers lack room for nothing that they are not to have.
            membership.room = membership.room.map(|room| if room == before { number } else { room });
        }
        is_for_node
    }

    /// Daemons that have yet to take a message. One of which nothing else is known begins with this one.
    pub(super) fn wanted_by(&mut self, number: u64) -> Vec<EntityId> {
        let taking = self.members.iter_mut().filter(|(_, membership)| membership.takes());
        let wanted = taking.filter_map(|(subscriber, membership)| match subscriber {
            Subscriber::Node => None,
            Subscriber::Daemon(daemon) => {
                membership.taken.begin(number.saturating_sub(1));
                (number > membership.taken.floor()).then_some(*daemon)
            }
        });
        wanted.collect()
    }

    /// The last message that a daemon has taken; nothing while it is handed none.
    pub(super) fn taken_by(&self, daemon: EntityId) -> Option<u64> {
        self.members.get(&Subscriber::Daemon(daemon)).filter(|membership| membership.is_handed())?.through()
    }

    /// A daemon has taken a message. Whether everybody may have taken more now.
    pub(super) fn advance(&mut self, daemon: EntityId, number: u64) -> bool {
        let Some(membership) = self.members.get_mut(&Subscriber::Daemon(daemon)) else { return false };
        let before = membership.taken.floor();
        membership.taken.advance(number);
        membership.stall.over();
        self.rear.left(before)
    }

    /// Where those stand who take it, as far as that is known.
    pub(super) fn positions(&self) -> impl Iterator<Item = u64> {
        let members = self.members.values().filter(|membership| membership.takes());
        members.filter_map(|membership| membership.through().or(membership.room))
    }

    /// The number through which everybody has taken everything.
    pub(super) fn taken_by_all(&self) -> u64 {
        match self.share {
            // Also what it has taken on another node.
            Share::Member(_, Subscriber::Daemon(_)) => self.members.values().find_map(Membership::through).unwrap_or(0),
            // Also while it leaves.
            Share::Member(_, Subscriber::Node) => {
                self.members.values().find_map(|membership| membership.room).unwrap_or(self.received)
            }
            Share::All => self.positions().min().map_or(self.received, |all| all.min(self.received)),
        }
    }

    /// Whether a message that is to be acknowledged has not been.
    pub(super) const fn owes_acknowledgement(&self) -> bool {
        self.received_reliable > self.acknowledged
    }

    /// Whether the publisher has yet to hear that everything through a number was taken.
    pub(super) fn acknowledge(&mut self, through: u64) -> bool {
        let news = through > self.acknowledged;
        self.acknowledged = self.acknowledged.max(through);
        news
    }

    /// The number through which the publisher was told that everything was taken.
    pub(super) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether the publisher was told that this message was taken.
    pub(super) const fn has_acknowledged(&self, number: u64) -> bool {
        number <= self.acknowledged
    }

    /// Nothing beyond a number counts as acknowledged.
    pub(super) fn hold_back(&mut self, from: u64) {
        self.acknowledged = self.acknowledged.min(from);
    }

    /// A member that is not leaving.
    pub(super) fn member(&self, subscriber: Subscriber) -> Option<Member<'_>> {
        let membership = self.members.get(&subscriber).filter(|membership| !membership.is_leaving())?;
        Some((membership.accepted, membership.through(), membership.token()))
    }

    /// Who is in.
    pub(super) fn accepted(&self) -> impl Iterator<Item = Subscriber> {
        self.members.iter().filter(|(_, membership)| membership.accepted).map(|(&subscriber, _)| subscriber)
    }
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
        if from.is_none() || feed.group().is_some() {
            self.forget_former(key, subscriber);
        }
        let leaves = |membership: &mut Membership| matches!(membership.question, Some(Question::Leave(_)));
        if self.membership(key, subscriber).is_some_and(leaves) && !self.say_first(key, subscriber) {
            return Err(ChannelError::Backpressure("too many requests to this publisher"));
        }
        let number = self.next_request();
        let request = RequestId(number);
        let subscription = self.subscriptions.entry(key).or_insert_with(|| Subscription::new(feed, key.1.share));
        if subscription.feed != *feed {
            return Err(ChannelError::Unknown(feed.channel().as_str().to_owned()));
        }
        let arrived = subscription.received;
        let comes = if feed.group().is_some() { Comes::Anew } else { Comes::First };
        let fresh = || Membership { taken: Taken::Behind(arrived), comes, ..Membership::default() };
        let membership = subscription.members.entry(subscriber).or_insert_with(fresh);
        if leaves(membership) {
            // It left, and comes again; nor does anybody read now who did.
            (membership.accepted, membership.put_out, membership.room) = (false, None, None);
            let left = std::mem::take(&mut membership.waiting);
            if feed.group().is_some() {
                membership.comes = Comes::Anew;
                // That it takes nothing more was said; if that is lost, it is said again. What it had yet to take falls to
                // others, and what stays its own is sent again.
                subscription.held = HeldMessages::default();
                subscription.received = subscription.acknowledged;
                subscription.received_reliable = subscription.acknowledged;
            } else {
                // What has arrived stays so: whoever is on this stream too gets what it has yet to take.
                membership.comes = Comes::Again;
                membership.taken.begin_again(arrived);
            }
            self.events.extend(left.into_iter().map(|request| ChannelEvent::Settled { request, result: Ok(()) }));
        }
        // That it left is said before it asks again.
        membership.uncertain |= matches!(membership.question, Some(Question::Join(_) | Question::Stay(_)));
        membership.offered = token.map(<[u8]>::to_vec);
        membership.proof = proof;
        membership.waiting.push(request);
        membership.taken = from.map_or(membership.taken, Taken::Through);
        membership.goes_on |= from.is_some();
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

    /// A daemon is back that moved away, and it or its share of a group may have been another one's meanwhile: what is left of
    /// it here is not its own any more.
    fn forget_former(&mut self, key: Key, subscriber: Subscriber) {
        let Subscriber::Daemon(daemon) = subscriber else { return };
        if !self.daemons.has_moved(daemon, key) || !self.is_joining(key, subscriber) {
            return;
        }
        let told = self.membership(key, subscriber).map(|former| std::mem::take(&mut former.waiting));
        self.settled(told.unwrap_or_default(), &Err(ChannelError::Left(self.me.node)));
        self.remove_membership(key, subscriber);
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
        let waited = std::mem::replace(&mut membership.waiting, vec![request]);
        if matches!(membership.question, Some(Question::Leave(_))) {
            membership.waiting.extend(waited);
        } else {
            self.settled(waited, &Err(ChannelError::Left(self.me.node)));
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
        if let Some(Question::Join(_)) = membership.question {
            membership.token = membership.offered.take();
        }
        membership.accepted = true;
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
            (Subscriber::Node, Some(position)) => membership.taken.begin_again(position),
            (_, None) => {}
        }
        self.put_question(key, subscriber, None);
        self.settled(told, &Ok(()));
        let Subscriber::Daemon(daemon) = subscriber else { return };
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
        let Some(subscription) = self.subscriptions.get(&key) else { return };
        let error = refusal(subscription.feed.channel(), reason);
        let Some(membership) = self.membership(key, subscriber) else { return };
        match membership.question {
            // It stays in with what it was let in with; the publisher has kept that. That it was put out may have been lost
            // with a connection: then it asks.
            Some(Question::Join(_)) if membership.accepted => {
                membership.offered = None;
                let (told, uncertain) = (std::mem::take(&mut membership.waiting), membership.uncertain);
                let stays = uncertain.then(|| Question::Stay(self.next_request()));
                self.put_question(key, subscriber, stays);
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
        let told = std::mem::take(&mut membership.waiting);
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
        let error = refusal(subscription.feed.channel(), reason);
        let Some(membership) = self.membership(key, subscriber) else { return };
        match membership.question {
            // Its answer is on the way.
            Some(Question::Join(_)) => membership.put_out = membership.end(&error),
            Some(Question::Leave(_)) => membership.accepted = false,
            Some(Question::Stay(_)) => {}
            None => self.leave_membership(key, subscriber, &error),
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
            let told = self.membership(key, who).map(|membership| std::mem::take(&mut membership.waiting));
            self.settled(told.unwrap_or_default(), &Err(ChannelError::ShutDown));
            self.leave_membership(key, who, &ChannelError::ShutDown);
        }
    }

    /// Ends a subscriber's part against its will: whoever waits to come in is told, and if it was in, so is its owner.
    fn leave_membership(&mut self, key: Key, subscriber: Subscriber, error: &ChannelError) {
        let Some(membership) = self.membership(key, subscriber) else { return };
        let leaving = membership.is_leaving();
        let ended = membership.end(error).filter(|_| !leaving);
        let told = std::mem::take(&mut membership.waiting);
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
            self.settle_held(key);
        }
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
