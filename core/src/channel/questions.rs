//! Questions to publishers that they have not answered.
//!
//! Each subscriber has one at most, and only its number waits here: the message is made when there is room for it in a frame.
//! So after a reconnection everything can be asked again, however much that is.

use std::collections::BTreeMap;

use super::StreamId;
use super::holding::Key;
use super::machine::{ChannelMachine, Subscriber};
use super::peers::Peer;
use super::subscription::Subscription;
use super::taken::Rear;
use crate::identity::NodeId;
use crate::wire::channels::ChannelMessage;
use crate::wire::codec;

/// What a subscriber has asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// May it come in?
    Join(u64),
    /// May it stay in, after a reconnection?
    Stay(u64),
    /// It wants out.
    Leave(u64),
}

/// The questions to one publisher, in the order in which they are asked.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: BTreeMap<u64, (StreamId, Subscriber)>,
    /// The last one that was sent on this connection.
    sent: u64,
}

impl Question {
    /// Its number, which the answer names.
    const fn number(self) -> u64 {
        match self {
            Self::Join(number) | Self::Stay(number) | Self::Leave(number) => number,
        }
    }

    /// The same question, under another number.
    pub(super) const fn renumbered(self, number: u64) -> Self {
        match self {
            Self::Join(_) => Self::Join(number),
            Self::Stay(_) => Self::Stay(number),
            Self::Leave(_) => Self::Leave(number),
        }
    }
}

impl Questions {
    /// The next one to be sent.
    fn next(&self) -> Option<(u64, (StreamId, Subscriber))> {
        self.open.range(self.sent + 1..).next().map(|(&number, &who)| (number, who))
    }

    /// On another connection all of them are sent once more.
    pub(super) fn again(&mut self) {
        self.sent = 0;
    }
}

impl ChannelMachine {
    /// A number that no question had.
    pub(super) fn next_request(&mut self) -> u64 {
        self.last_request += 1;
        self.last_request
    }

    /// A subscriber asks something, and nothing else any more; without a question it has its answer.
    pub(super) fn put_question(&mut self, key: Key, subscriber: Subscriber, question: Option<Question>) {
        let (publisher, stream) = key;
        let Some(membership) = self.membership(key, subscriber) else { return };
        let former = std::mem::replace(&mut membership.question, question);
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            // Who leaves holds nothing up, and who comes may stand behind all others.
            subscription.rear = Rear::default();
        }
        let Some(peer) = self.peers.get_mut(&publisher) else { return };
        if let Some(former) = former {
            peer.questions.open.remove(&former.number());
        }
        if let Some(question) = question {
            peer.questions.open.insert(question.number(), (stream, subscriber));
            self.wakes.insert(publisher);
        }
    }

    /// Whose question an answer is to. Only the publisher that was asked can answer.
    pub(super) fn asked(&self, from: NodeId, request: u64) -> Option<(Key, Subscriber)> {
        let &(stream, subscriber) = self.peers.get(&from)?.questions.open.get(&request)?;
        Some(((from, stream), subscriber))
    }

    /// The next question to a publisher while records flow, with its number.
    pub(super) fn next_question(&self, to: NodeId) -> Option<(u64, Vec<u8>)> {
        let peer = self.peers.get(&to).filter(|peer| peer.ready)?;
        let (number, (stream, subscriber)) = peer.questions.next()?;
        Some((number, self.question((to, stream), subscriber)?))
    }

    /// This one was sent.
    pub(super) fn question_sent(&mut self, to: NodeId, number: u64) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.questions.sent = number;
        }
    }

    /// A subscriber is about to ask something else than before. Where it makes a difference that the publisher has not heard what
    /// it asked, that is said first: that it left, and behind which message a daemon goes on that moved here. False when too
    /// much waits.
    pub(super) fn say_first(&mut self, key: Key, subscriber: Subscriber) -> bool {
        let (publisher, _) = key;
        let Some(membership) = self.membership(key, subscriber) else { return true };
        let (number, matters) = match membership.question {
            Some(Question::Leave(number)) => (number, true),
            Some(Question::Join(number)) => (number, membership.through().is_some()),
            Some(Question::Stay(_)) | None => return true,
        };
        let unheard = |peer: &Peer| !peer.ready || number > peer.questions.sent;
        if !matters || !self.peers.get(&publisher).is_some_and(unheard) {
            return true;
        }
        let (Some(body), Some(peer)) = (self.question(key, subscriber), self.peers.get_mut(&publisher)) else {
            return true;
        };
        peer.push_control(body)
    }

    /// Says once more, before whatever it asks, that a subscriber left. When that cannot be said, what falls to it until it is
    /// let in may reach nobody.
    pub(super) fn say_left(&mut self, key: Key, subscriber: Subscriber) {
        let number = self.next_request();
        let body = self.subscriptions.get(&key).map(|subscription| leave(subscription, subscriber, number));
        if let (Some(body), Some(peer)) = (body, self.peers.get_mut(&key.0)) {
            let _said = peer.push_control(body);
        }
    }

    /// The message that asks what a subscriber asks.
    fn question(&self, key: Key, subscriber: Subscriber) -> Option<Vec<u8>> {
        let subscription = self.subscriptions.get(&key)?;
        let membership = subscription.members.get(&subscriber)?;
        let (channel, group) = (subscription.feed.channel().as_str(), subscription.feed.group());
        let subscribe = |request, token| ChannelMessage::Subscribe {
            request,
            channel,
            daemon: membership.proof,
            token,
            subnet: self.subnet.levels(),
            from: membership.through(),
            group,
        };
        let message = match membership.question? {
            Question::Join(request) => subscribe(request, membership.offered.as_deref()),
            Question::Stay(request) => subscribe(request, membership.token.as_deref()),
            Question::Leave(request) => return Some(leave(subscription, subscriber, request)),
        };
        Some(codec::encode(&message))
    }
}

/// The message by which a subscriber leaves; of a group it says what it has taken.
fn leave(subscription: &Subscription, subscriber: Subscriber, request: u64) -> Vec<u8> {
    let (channel, group) = (subscription.feed.channel().as_str(), subscription.feed.group());
    let taken = group.map(|_| subscription.taken_by_all());
    codec::encode(&ChannelMessage::Unsubscribe { request, channel, daemon: subscriber.daemon(), group, taken })
}
