//! The subscriber's side of membership.
//!
//! A subscription is in the ledger once its publisher has said so, and until it has said that it is out. What was asked
//! before a connection broke is asked again afterwards; the publisher takes the same question twice as one.

use std::collections::BTreeMap;

use super::machine::{ChannelEvent, ChannelMachine, Moment, RequestId, SubscribeAs, Subscriber};
use super::{ChannelError, ChannelId, ChannelName};
use crate::identity::{EntityId, Incarnation, NodeId};
use crate::wire::channels::{ChannelMessage, DaemonProof, RefusalReason};

/// What a daemon signs to subscribe: that it wants this channel of this life of the publisher on that node.
pub fn subscription_statement(
    channel: ChannelId,
    publisher: EntityId,
    incarnation: Incarnation,
    node: EntityId,
) -> Vec<u8> {
    let parts: [&[u8]; 5] = [
        b"mesh-daemon channel subscription v1",
        publisher.as_bytes(),
        &incarnation.to_bytes(),
        node.as_bytes(),
        &channel.0.to_le_bytes(),
    ];
    parts.concat()
}

/// A channel of a publisher that somebody here has to do with.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) name: ChannelName,
    /// The number of the last accepted message.
    pub(super) through: u64,
    members: BTreeMap<Subscriber, Membership>,
}

/// One subscriber's part in it.
#[derive(Debug)]
struct Membership {
    /// The publisher has agreed.
    accepted: bool,
    question: Option<Question>,
    token: Option<Vec<u8>>,
    proof: Option<DaemonProof>,
    /// Who waits for the answer.
    waiting: Vec<RequestId>,
}

/// What the publisher has not answered yet. Only the answer to the last question counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// May it come in?
    Join(u64),
    /// May it stay in, after a reconnection?
    Stay(u64),
    /// It wants out.
    Leave(u64),
}

impl Question {
    const fn number(self) -> u64 {
        match self {
            Self::Join(number) | Self::Stay(number) | Self::Leave(number) => number,
        }
    }
}

impl Subscription {
    /// Who takes messages: whoever is in or on the way in. The publisher may have let it in already.
    pub(super) fn receivers(&self) -> Vec<Subscriber> {
        let takes = |membership: &Membership| !matches!(membership.question, Some(Question::Leave(_)));
        self.members.iter().filter(|(_, membership)| takes(membership)).map(|(&subscriber, _)| subscriber).collect()
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
        name: &ChannelName,
        subscriber: SubscribeAs<'_>,
        token: Option<&[u8]>,
        now: Moment,
    ) -> Result<RequestId, ChannelError> {
        let peer = self.peers.get(&publisher).ok_or(ChannelError::NotConnected(publisher))?;
        let (subscriber, proof) = match subscriber {
            SubscribeAs::Node => (Subscriber::Node, None),
            SubscribeAs::Daemon(keypair) => {
                let statement = subscription_statement(name.id(), peer.entity, peer.incarnation, self.me.entity);
                let signature =
                    keypair.sign(&statement).map_err(|error| ChannelError::InvalidArgument(error.to_string()))?;
                let entity = keypair.entity_id();
                (Subscriber::Daemon(entity), Some(DaemonProof { entity, signature }))
            }
        };
        let request = self.next_request();
        let key = (publisher, name.id());
        let subscription = self.subscriptions.entry(key).or_insert_with(|| Subscription {
            name: name.clone(),
            through: 0,
            members: BTreeMap::new(),
        });
        if subscription.name != *name {
            return Err(ChannelError::Unknown(name.as_str().to_owned()));
        }
        let membership = subscription.members.entry(subscriber).or_insert_with(|| Membership {
            accepted: false,
            question: None,
            token: None,
            proof: None,
            waiting: Vec::new(),
        });
        if let Some(Question::Leave(_)) = membership.question {
            // It left, and comes again.
            membership.accepted = false;
            let left = std::mem::take(&mut membership.waiting);
            self.events.extend(left.into_iter().map(|request| ChannelEvent::Settled { request, result: Ok(()) }));
        }
        membership.token = token.map(<[u8]>::to_vec);
        membership.proof = proof;
        membership.waiting.push(request);
        membership.question = Some(Question::Join(request.0));
        self.ask(key, subscriber);
        self.settle_own(now);
        Ok(request)
    }

    /// Asks a publisher to let a subscriber out. It is out when that is answered; one that is not in is out at once.
    pub fn unsubscribe(
        &mut self,
        publisher: NodeId,
        name: &ChannelName,
        subscriber: Subscriber,
        now: Moment,
    ) -> RequestId {
        let request = self.next_request();
        let key = (publisher, name.id());
        let subscription = self.subscriptions.get_mut(&key).filter(|subscription| subscription.name == *name);
        let Some(membership) = subscription.and_then(|subscription| subscription.members.get_mut(&subscriber)) else {
            self.events.push_back(ChannelEvent::Settled { request, result: Ok(()) });
            return request;
        };
        if !matches!(membership.question, Some(Question::Leave(_))) {
            let why = ChannelError::Left(self.me.node);
            let joining = std::mem::take(&mut membership.waiting);
            let told = joining.into_iter().map(|request| ChannelEvent::Settled { request, result: Err(why.clone()) });
            self.events.extend(told);
            membership.question = Some(Question::Leave(request.0));
        }
        membership.waiting.push(request);
        self.ask(key, subscriber);
        self.settle_own(now);
        request
    }

    /// Whether a subscriber is in, or on the way in or out.
    pub(super) fn has_member(&self, key: (NodeId, ChannelId), subscriber: Subscriber) -> bool {
        self.subscriptions.get(&key).is_some_and(|subscription| subscription.members.contains_key(&subscriber))
    }

    fn next_request(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }

    /// Sends the question of a subscriber. Without records flowing it is sent once they do.
    fn ask(&mut self, key: (NodeId, ChannelId), subscriber: Subscriber) {
        let (publisher, _) = key;
        if !self.peers.get(&publisher).is_some_and(|peer| peer.ready) {
            return;
        }
        let Some(subscription) = self.subscriptions.get(&key) else { return };
        let Some(membership) = subscription.members.get(&subscriber) else { return };
        let (name, token, proof) = (subscription.name.clone(), membership.token.clone(), membership.proof);
        let subnet = self.subnet.clone();
        let daemon = match subscriber {
            Subscriber::Node => None,
            Subscriber::Daemon(entity) => Some(entity),
        };
        let message = match membership.question {
            None => return,
            Some(Question::Join(request) | Question::Stay(request)) => ChannelMessage::Subscribe {
                request,
                channel: name.as_str(),
                daemon: proof,
                token: token.as_deref(),
                subnet: subnet.levels(),
            },
            Some(Question::Leave(request)) => ChannelMessage::Unsubscribe { request, channel: name.as_str(), daemon },
        };
        if !self.say(publisher, &message) {
            self.leave_membership(key, subscriber, &ChannelError::Backpressure("too many requests to this publisher"));
        }
    }

    /// Records flow again: what was asked and not answered is asked again, and whoever is in asks whether it still is.
    pub(super) fn ask_again(&mut self, publisher: NodeId) {
        let mut all = Vec::new();
        for (&key, subscription) in
            self.subscriptions.range_mut((publisher, ChannelId(0))..=(publisher, ChannelId(u64::MAX)))
        {
            for (&subscriber, membership) in &mut subscription.members {
                if membership.question.is_none() {
                    self.last_request += 1;
                    membership.question = Some(Question::Stay(self.last_request));
                }
                all.push((key, subscriber));
            }
        }
        for (key, subscriber) in all {
            self.ask(key, subscriber);
        }
    }

    /// Whose question an answer is to. Only the publisher that was asked can answer.
    fn asked(&mut self, from: NodeId, request: u64) -> Option<((NodeId, ChannelId), Subscriber)> {
        let of_publisher = (from, ChannelId(0))..=(from, ChannelId(u64::MAX));
        self.subscriptions.range(of_publisher).find_map(|(&key, subscription)| {
            let is_it = |membership: &Membership| membership.question.is_some_and(|q| q.number() == request);
            let (&subscriber, _) = subscription.members.iter().find(|(_, membership)| is_it(membership))?;
            Some((key, subscriber))
        })
    }

    pub(super) fn on_subscribed(&mut self, from: NodeId, request: u64) {
        let Some((key, subscriber)) = self.asked(from, request) else { return };
        let Some(membership) = self.membership(key, subscriber) else { return };
        if matches!(membership.question, Some(Question::Leave(_))) {
            return;
        }
        membership.question = None;
        membership.accepted = true;
        let told = std::mem::take(&mut membership.waiting);
        self.events.extend(told.into_iter().map(|request| ChannelEvent::Settled { request, result: Ok(()) }));
    }

    pub(super) fn on_refused(&mut self, from: NodeId, request: u64, reason: RefusalReason) {
        let Some((key, subscriber)) = self.asked(from, request) else { return };
        let Some(name) = self.subscriptions.get(&key).map(|subscription| subscription.name.clone()) else { return };
        let error = refusal(&name, reason);
        let Some(membership) = self.membership(key, subscriber) else { return };
        match membership.question {
            // It stays in with what it was let in with; the publisher has kept that.
            Some(Question::Join(_)) if membership.accepted => {
                membership.question = None;
                let told = std::mem::take(&mut membership.waiting);
                let settled = |request| ChannelEvent::Settled { request, result: Err(error.clone()) };
                self.events.extend(told.into_iter().map(settled));
            }
            Some(Question::Join(_) | Question::Stay(_)) => self.leave_membership(key, subscriber, &error),
            Some(Question::Leave(_)) | None => {}
        }
    }

    pub(super) fn on_unsubscribed(&mut self, from: NodeId, request: u64) {
        let Some((key, subscriber)) = self.asked(from, request) else { return };
        let Some(membership) = self.membership(key, subscriber) else { return };
        if !matches!(membership.question, Some(Question::Leave(_))) {
            return;
        }
        let told = std::mem::take(&mut membership.waiting);
        self.events.extend(told.into_iter().map(|request| ChannelEvent::Settled { request, result: Ok(()) }));
        self.remove_membership(key, subscriber);
    }

    pub(super) fn on_ended(
        &mut self,
        from: NodeId,
        channel: ChannelId,
        daemon: Option<EntityId>,
        reason: RefusalReason,
    ) {
        let key = (from, channel);
        let subscriber = daemon.map_or(Subscriber::Node, Subscriber::Daemon);
        let Some(subscription) = self.subscriptions.get(&key) else { return };
        let error = refusal(&subscription.name, reason);
        let Some(membership) = self.membership(key, subscriber) else { return };
        match membership.question {
            // Its answer is on the way.
            Some(Question::Join(_) | Question::Leave(_)) => membership.accepted = false,
            Some(Question::Stay(_)) | None => self.leave_membership(key, subscriber, &error),
        }
    }

    /// A publisher is given up, with all that was subscribed to there.
    pub(super) fn subscriptions_lost(&mut self, publisher: NodeId) {
        let of_publisher = (publisher, ChannelId(0))..=(publisher, ChannelId(u64::MAX));
        let all: Vec<_> = self
            .subscriptions
            .range(of_publisher)
            .flat_map(|(&key, subscription)| subscription.members.keys().map(move |&subscriber| (key, subscriber)))
            .collect();
        for (key, subscriber) in all {
            self.leave_membership(key, subscriber, &ChannelError::PeerLost(publisher));
        }
    }

    /// Ends a subscriber's part against its will: whoever waits to come in is told, and if it was in, so is its owner.
    fn leave_membership(&mut self, key: (NodeId, ChannelId), subscriber: Subscriber, error: &ChannelError) {
        let Some(name) = self.subscriptions.get(&key).map(|subscription| subscription.name.clone()) else { return };
        let Some(membership) = self.remove_membership(key, subscriber) else { return };
        let leaving = matches!(membership.question, Some(Question::Leave(_)));
        let result = if leaving { Ok(()) } else { Err(error.clone()) };
        let settled = |request| ChannelEvent::Settled { request, result: result.clone() };
        self.events.extend(membership.waiting.into_iter().map(settled));
        if membership.accepted && !leaving {
            let (publisher, _) = key;
            let error = error.clone();
            self.events.push_back(ChannelEvent::Ended { publisher, channel: name, subscriber, error });
        }
    }

    fn membership(&mut self, key: (NodeId, ChannelId), subscriber: Subscriber) -> Option<&mut Membership> {
        self.subscriptions.get_mut(&key)?.members.get_mut(&subscriber)
    }

    fn remove_membership(&mut self, key: (NodeId, ChannelId), subscriber: Subscriber) -> Option<Membership> {
        let subscription = self.subscriptions.get_mut(&key)?;
        let membership = subscription.members.remove(&subscriber)?;
        if subscription.members.is_empty() {
            self.subscriptions.remove(&key);
        }
        Some(membership)
    }
}

fn refusal(name: &ChannelName, reason: RefusalReason) -> ChannelError {
    let channel = name.as_str().to_owned();
    let why = match reason {
        RefusalReason::Unknown => return ChannelError::Unknown(channel),
        RefusalReason::Throttled => return ChannelError::Throttled(channel),
        RefusalReason::TooMany => return ChannelError::Backpressure("the publisher takes no more subscriptions"),
        RefusalReason::Unauthorized => "not authorised",
        RefusalReason::Expired => "the token has expired",
        RefusalReason::Revoked => "the token was revoked",
    };
    ChannelError::Unauthorized { channel, why }
}
