//! What daemons of this node receive from channels, and what becomes of that when they move.
//!
//! The machine of the node's channels knows who has subscribed to what and how far it got. The engine asks it for the next
//! message whenever a daemon's mailbox has room, so what has no room stays unacknowledged at its publisher. When a
//! mailbox is closed for a hand-over, positions and tokens go to the new host, which goes on from there once it is live.
//!
//! What is asked for a daemon from then on, and what no publisher had agreed to by then, travels no more: it is held until the
//! hand-over ends, to be asked if the daemon stays, and refused if it leaves. So whoever is told that the daemon is in, or out,
//! finds it so on the new host, and whoever is refused does not.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::engine::{Engine, Now, Slot};
use super::error::RuntimeError;
use super::intake::{Source, Turn};
use super::outputs::Outbox;
use super::reaching::Then;
use super::requests::Requests;
use super::work::{Notice, Settlement, SubscriptionNews, Work};
use crate::causal::{CausalLink, HorizonBloom, ParentHash, Sequence};
use crate::channel::{
    ArrivedMessage, ChannelError, ChannelEvent, ChannelLedger, ChannelName, DaemonChannels, DaemonSubscriber,
    DaemonSubscription, Feed, PublishId, Subscriber,
};
use crate::daemon::{DaemonHost, DaemonKey, Delivery, Presence, ReplyTo, Ticket};
use crate::identity::{EntityId, NodeId, OriginHash};

/// Questions that wait for the end of one daemon's hand-over.
const MOST_HELD: usize = 1024;

/// What the engine has to do with channels.
#[derive(Default)]
pub(super) struct ChannelSide {
    /// The channels of the node; none in a runtime that was not given any.
    port: Option<Arc<dyn DaemonChannels>>,
    /// It was asked for something since it was last served.
    touched: bool,
    requests: Requests,
    /// Questions for daemons that are handed over.
    held: BTreeMap<DaemonKey, Vec<Question>>,
    /// Subscriptions that daemons came with and whose publishers are not in reach yet.
    wishes: BTreeMap<DaemonKey, Vec<DaemonSubscription>>,
    /// Outputs on their way into channels, also of daemons that are gone.
    pub(super) outboxes: BTreeMap<DaemonKey, Outbox>,
    pub(super) publications: HashMap<PublishId, DaemonKey>,
    /// Channels that were made for outputs, and whose first daemon has yet to live here.
    pub(super) awaiting: BTreeSet<ChannelName>,
}

/// What somebody asks a publisher for a daemon, and who waits for the answer.
pub(super) struct Question {
    ticket: Ticket,
    publisher: NodeId,
    feed: Feed,
    wants: Wants,
}

enum Wants {
    In { token: Option<Bytes> },
    Out,
}

/// A question that a publisher has not answered.
pub(super) enum Request {
    /// May a daemon come in?
    Joins(DaemonKey, Question),
    /// It wants out. Several may share a ticket.
    Leaves(Ticket),
    /// A daemon that moved here goes on.
    GoesOn { daemon: DaemonKey, origin: OriginHash, publisher: NodeId, feed: Feed },
}

impl Request {
    /// The daemon for which the answer counts. It counts for none that wants out: only for whoever asked.
    pub(super) const fn daemon(&self) -> Option<DaemonKey> {
        match self {
            Self::Joins(daemon, _) | Self::GoesOn { daemon, .. } => Some(*daemon),
            Self::Leaves(_) => None,
        }
    }
}

impl Engine {
    /// Gives the engine the channels of its node.
    pub fn attach_channels(&mut self, port: Arc<dyn DaemonChannels>) {
        self.channels.port = Some(port);
    }

    /// Whether the channels were asked for something whose effects wait: they are to be flushed. Serves what came of it.
    pub fn serve_channels(&mut self, now: Now) -> bool {
        let touched = std::mem::take(&mut self.channels.touched);
        if touched {
            self.channel_news(now);
            self.channels.touched = false;
        }
        touched
    }

    pub(super) fn port(&mut self) -> Option<Arc<dyn DaemonChannels>> {
        self.channels.touched |= self.channels.port.is_some();
        self.channels.port.clone()
    }

    fn port_or_error(&mut self) -> Result<Arc<dyn DaemonChannels>, RuntimeError> {
        self.port().ok_or(RuntimeError::Channel(ChannelError::ShutDown))
    }

    /// Has a daemon of this node subscribe to a channel, or be a member of a queue group; `ticket` is settled when the publisher
    /// has agreed.
    pub fn subscribe_channel(
        &mut self,
        ticket: Ticket,
        origin: OriginHash,
        publisher: NodeId,
        feed: &Feed,
        token: Option<&[u8]>,
    ) -> Result<(), RuntimeError> {
        let wants = Wants::In { token: token.map(Bytes::copy_from_slice) };
        self.ask_or_hold(origin, Question { ticket, publisher, feed: feed.clone(), wants })
    }

    /// Has a daemon of this node leave a queue group, or without one the channel and all its groups; `ticket` is settled when
    /// the publisher knows.
    pub fn unsubscribe_channel(
        &mut self,
        ticket: Ticket,
        origin: OriginHash,
        publisher: NodeId,
        feed: &Feed,
    ) -> Result<(), RuntimeError> {
        self.ask_or_hold(origin, Question { ticket, publisher, feed: feed.clone(), wants: Wants::Out })
    }

    fn ask_or_hold(&mut self, origin: OriginHash, question: Question) -> Result<(), RuntimeError> {
        self.check_ready()?;
        let key = self.local(origin)?;
        let port = self.port_or_error()?;
        if self.slot(key).is_none_or(|slot| !matches!(slot.host.presence, Presence::Closed(_))) {
            return self.put((key, origin), &*port, question);
        }
        let held = self.channels.held.entry(key).or_default();
        if held.len() >= MOST_HELD {
            let error = ChannelError::Backpressure("too many requests wait for the end of a hand-over");
            return Err(RuntimeError::Channel(error));
        }
        held.push(question);
        Ok(())
    }

    fn put(
        &mut self,
        (key, origin): (DaemonKey, OriginHash),
        port: &dyn DaemonChannels,
        question: Question,
    ) -> Result<(), RuntimeError> {
        match &question.wants {
            Wants::In { token } => {
                let Some(slot) = self.slot(key) else { return Err(RuntimeError::NotFound(origin)) };
                let daemon = DaemonSubscriber { keypair: &slot.host.keypair, epoch: slot.host.epoch, from: None };
                let Question { publisher, feed, .. } = &question;
                let asked = port.subscribe(*publisher, feed, daemon, token.as_deref());
                let request = asked.map_err(RuntimeError::Channel)?;
                self.drop_wishes(key, *publisher, |wish| wish == feed);
                self.channels.requests.insert(request, Request::Joins(key, question));
            }
            Wants::Out => self.ask_to_leave((key, origin), port, &question)?,
        }
        Ok(())
    }

    fn ask_to_leave(
        &mut self,
        (key, origin): (DaemonKey, OriginHash),
        port: &dyn DaemonChannels,
        question: &Question,
    ) -> Result<(), RuntimeError> {
        let &Question { ticket, publisher, ref feed, .. } = question;
        let entity = self.slot(key).map(|slot| slot.host.entity()).ok_or(RuntimeError::NotFound(origin))?;
        let left = |other: &Feed| other == feed || (feed.group().is_none() && other.channel() == feed.channel());
        let all = port.subscriptions_of(entity).into_iter().filter(|one| one.publisher == publisher && left(&one.feed));
        let mut feeds: Vec<_> = all.map(|one| one.feed).collect();
        if feeds.is_empty() {
            feeds.push(feed.clone());
        }
        for feed in feeds {
            let request = port.unsubscribe(publisher, &feed, entity).map_err(RuntimeError::Channel)?;
            self.channels.requests.insert(request, Request::Leaves(ticket));
        }
        self.drop_wishes(key, publisher, left);
        Ok(())
    }

    /// A daemon is handed over: all that it has to do with channels, as it travels. What no publisher has agreed to is taken back.
    pub(super) fn close_subscriptions(&mut self, key: DaemonKey) -> Bytes {
        let open = self.channels.requests.take_of(key, |request| matches!(request, Request::Joins(..)));
        let (Some(entity), Some(port)) = (self.slot(key).map(|slot| slot.host.entity()), self.channels.port.clone())
        else {
            return Bytes::new();
        };
        self.channels.touched |= !open.is_empty();
        let known = if open.is_empty() { Vec::new() } else { port.subscriptions_of(entity) };
        for request in open {
            let Request::Joins(_, question) = request else { continue };
            let Question { ticket, publisher, feed, wants: Wants::In { token } } = &question else { continue };
            let known = known.iter().find(|one| one.publisher == *publisher && one.feed == *feed);
            match known.filter(|one| one.accepted) {
                // The answer has come, and was about to be told.
                Some(one) if one.token == *token => self.settle(*ticket, Ok(Settlement::Done)),
                in_already => {
                    // Without being asked it goes on with what it had.
                    if in_already.is_none() && !self.goes_on_from(key, *publisher, feed) {
                        // Of channels that are shut down there is nothing to be taken back.
                        let _left = port.unsubscribe(*publisher, feed, entity);
                    }
                    self.channels.held.entry(key).or_default().push(question);
                }
            }
        }
        self.channel_ledger(key)
    }

    /// Whether a publisher has yet to agree that a daemon goes on from another node.
    fn goes_on_from(&self, key: DaemonKey, from: NodeId, what: &Feed) -> bool {
        self.channels.requests.of(key).any(|(_, request)| {
            matches!(request, Request::GoesOn { publisher, feed, .. } if *publisher == from && feed == what)
        })
    }

    /// A daemon that was handed over stays: what was held for that is asked.
    pub(super) fn ask_held_questions(&mut self, key: DaemonKey, origin: OriginHash) {
        let Some(port) = self.port() else { return };
        for question in self.channels.held.remove(&key).unwrap_or_default() {
            let ticket = question.ticket;
            if let Err(error) = self.put((key, origin), &*port, question) {
                self.settle(ticket, Err(error));
            }
        }
    }

    /// It is another node's from now on.
    pub(super) fn refuse_held_questions(&mut self, key: DaemonKey, origin: OriginHash) {
        for Question { ticket, .. } in self.channels.held.remove(&key).unwrap_or_default() {
            self.settle(ticket, Err(RuntimeError::NotFound(origin)));
        }
    }

    /// What a daemon of this node has subscribed to.
    pub fn subscriptions(&mut self, origin: OriginHash) -> Result<Vec<(NodeId, Feed)>, RuntimeError> {
        self.check_ready()?;
        let key = self.local(origin)?;
        let all = self.all_subscriptions(key);
        let here = all.into_iter().filter(|one| one.accepted || one.position.is_some());
        Ok(here.map(|one| (one.publisher, one.feed)).collect())
    }

    fn all_subscriptions(&self, key: DaemonKey) -> Vec<DaemonSubscription> {
        let entity = self.slot(key).map(|slot| slot.host.entity());
        let port = self.channels.port.as_ref().zip(entity);
        let mut all = port.map(|(port, entity)| port.subscriptions_of(entity)).unwrap_or_default();
        all.extend(self.channels.wishes.get(&key).into_iter().flatten().cloned());
        all
    }

    /// How many messages of channels a daemon had no room for, of those that need no acknowledgement.
    pub fn messages_dropped(&self, key: DaemonKey) -> u64 {
        let slot = self.slot(key).zip(self.channels.port.as_ref());
        slot.map_or(0, |(slot, port)| port.dropped_for(slot.host.entity()))
    }

    /// Something that concerns daemons happened in a channel.
    pub fn channel_news(&mut self, now: Now) {
        let Some(port) = self.port() else { return };
        loop {
            let events = port.events();
            if events.is_empty() {
                break;
            }
            for event in events {
                self.on_channel_event(event, now);
            }
        }
        self.settle_own(now);
    }

    fn on_channel_event(&mut self, event: ChannelEvent, now: Now) {
        match event {
            ChannelEvent::Ready(entity) => {
                if let Some(key) = self.receiver(entity) {
                    self.receive(key, now);
                }
            }
            ChannelEvent::Settled { request, result } => match self.channels.requests.remove(request) {
                // One of several channels that it leaves at once.
                Some(Request::Leaves(ticket)) if self.channels.requests.is_asked(ticket) => {}
                Some(Request::Joins(_, Question { ticket, .. }) | Request::Leaves(ticket)) => {
                    let result = result.map(|()| Settlement::Done).map_err(RuntimeError::Channel);
                    self.settle(ticket, result);
                }
                Some(Request::GoesOn { origin, publisher, feed, .. }) => match result {
                    // It was asked to leave meanwhile: that is no news.
                    Ok(()) | Err(ChannelError::Unsubscribed(_)) => {}
                    Err(error) => self.tell_subscription(origin, publisher, feed, SubscriptionNews::Ended(error)),
                },
                None => {}
            },
            ChannelEvent::Published { id, result } => self.output_published(id, &result, now),
            ChannelEvent::Ended { publisher, feed, subscriber: Subscriber::Daemon(entity), error } => {
                // A copy that was handed over is not asked.
                if let Some(key) = self.receiver(entity)
                    && !matches!(error, ChannelError::Moved(_))
                    && let Some(origin) = self.slot(key).map(|slot| slot.host.origin)
                {
                    self.tell_subscription(origin, publisher, feed, SubscriptionNews::Ended(error));
                }
            }
            ChannelEvent::Missed { publisher, feed, daemon, count } => {
                let origin = daemon.origin_hash();
                self.tell_subscription(origin, publisher, feed, SubscriptionNews::Missed(count));
            }
            // Of the node itself.
            ChannelEvent::Message(_) | ChannelEvent::Ended { subscriber: Subscriber::Node, .. } => {}
        }
    }

    fn tell_subscription(&mut self, origin: OriginHash, publisher: NodeId, feed: Feed, news: SubscriptionNews) {
        self.work.push(Work::Notice(Notice::Subscription { origin, publisher, feed, news }));
    }

    fn receiver(&self, entity: EntityId) -> Option<DaemonKey> {
        let key = self.by_origin.get(&entity.origin_hash()).copied()?;
        self.slot(key).filter(|slot| slot.host.entity() == entity).map(|slot| slot.host.key)
    }

    /// Channels have something for a daemon, which comes in when it is their turn.
    fn receive(&mut self, key: DaemonKey, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        slot.waiting.enter(Source::Channels);
        self.feed_waiting(key, now);
        // Nobody else keeps out what needs no acknowledgement: a daemon that is behind does not get it.
        let is_behind = |slot: &Slot| slot.host.accepts() && slot.waiting.first() == Some(Source::Channels);
        if self.slot(key).is_some_and(is_behind)
            && self.receive_share(key, 0, now) == Turn::Over
            && let Some(slot) = self.slot_mut(key)
        {
            slot.waiting.leave_first();
        }
    }

    /// Takes what channels have for a daemon, so many messages at most, while its mailbox has room.
    pub(super) fn receive_share(&mut self, key: DaemonKey, share: usize, now: Now) -> Turn {
        let Some(port) = self.port() else { return Turn::Over };
        let mut taken = 0;
        let turn = loop {
            let Some(slot) = self.daemons.get_mut(key.slot as usize).filter(|slot| slot.host.key == key) else {
                return Turn::Over;
            };
            let entity = slot.host.entity();
            let Some(message) = port.next_for(entity) else { break Turn::Over };
            let has_room = slot.host.mailbox.has_room(message.payload.len());
            if has_room && taken < share {
                let publisher = self.peers.get(message.publisher).map(|peer| peer.identity.entity);
                let publisher = publisher.unwrap_or_else(|| self.node.keypair.entity_id());
                let accepted = slot.host.accept(delivery(&message, publisher, now));
                debug_assert!(accepted.is_ok());
                taken += 1;
                port.took(entity, &message);
            } else if has_room || message.reliable {
                break if taken > 0 { Turn::HasMore } else { Turn::NoRoom };
            } else {
                port.passed_over(entity, &message);
            }
        };
        if taken > 0 {
            self.pump(key, now);
        }
        turn
    }

    /// All that a daemon has to do with channels, as it travels.
    pub(super) fn channel_ledger(&self, key: DaemonKey) -> Bytes {
        let Some((slot, port)) = self.slot(key).zip(self.channels.port.as_ref()) else { return Bytes::new() };
        if !slot.host.ledger.is_empty() {
            // It came with this one, and has not gone on yet.
            return slot.host.ledger.clone();
        }
        let output = output_channel(&slot.host).and_then(|name| port.config_of(&name));
        ChannelLedger { subscriptions: self.all_subscriptions(key), output }.encode()
    }

    /// A daemon is live that came with a ledger: it goes on receiving from where it stood, or from now on.
    pub(super) fn go_on_receiving(&mut self, key: DaemonKey, positions: bool) {
        self.keep_output_channel(key);
        let Some(slot) = self.slot_mut(key) else { return };
        let (origin, ledger) = (slot.host.origin, std::mem::take(&mut slot.host.ledger));
        let subscriptions = match ChannelLedger::decode(&ledger) {
            Ok(ledger) => ledger.subscriptions,
            Err(error) => return tracing::warn!(daemon = %origin, %error, "its subscriptions cannot be read"),
        };
        for mut subscription in subscriptions {
            if !positions {
                subscription.position = None;
            }
            self.go_on_with(key, subscription);
        }
    }

    fn go_on_with(&mut self, key: DaemonKey, subscription: DaemonSubscription) {
        let Some(port) = self.port() else { return };
        let publisher = subscription.publisher;
        let Some(slot) = self.slot(key) else { return };
        let (origin, from) = (slot.host.origin, subscription.position);
        let daemon = DaemonSubscriber { keypair: &slot.host.keypair, epoch: slot.host.epoch, from };
        let asked = port.subscribe(publisher, &subscription.feed, daemon, subscription.token.as_deref());
        match asked {
            Ok(request) => {
                let feed = subscription.feed;
                self.channels.requests.insert(request, Request::GoesOn { daemon: key, origin, publisher, feed });
            }
            Err(ChannelError::NotConnected(_)) if self.reach_first(publisher, || Then::Receive { key, publisher }) => {
                self.channels.wishes.entry(key).or_default().push(subscription);
            }
            Err(error) => {
                self.tell_subscription(origin, publisher, subscription.feed, SubscriptionNews::Ended(error));
            }
        }
    }

    /// A publisher that a daemon came for is in reach, or will not be.
    pub(super) fn receive_from(&mut self, key: DaemonKey, publisher: NodeId) {
        let Some(wishes) = self.channels.wishes.remove(&key) else { return };
        let (due, later): (Vec<_>, Vec<_>) = wishes.into_iter().partition(|wish| wish.publisher == publisher);
        if !later.is_empty() {
            self.channels.wishes.insert(key, later);
        }
        for wish in due {
            self.go_on_with(key, wish);
        }
    }

    fn drop_wishes(&mut self, key: DaemonKey, publisher: NodeId, which: impl Fn(&Feed) -> bool) {
        if let Some(wishes) = self.channels.wishes.get_mut(&key) {
            wishes.retain(|wish| wish.publisher != publisher || !which(&wish.feed));
            if wishes.is_empty() {
                self.channels.wishes.remove(&key);
            }
        }
    }

    /// The runtime shuts down: nobody is answered any more.
    pub(super) fn end_requests(&mut self) {
        let requests = self.channels.requests.take_all();
        let held = std::mem::take(&mut self.channels.held).into_values().flatten().map(|question| question.ticket);
        let asked: HashSet<_> = requests
            .filter_map(|request| match request {
                Request::Joins(_, Question { ticket, .. }) | Request::Leaves(ticket) => Some(ticket),
                Request::GoesOn { .. } => None,
            })
            .chain(held)
            .collect();
        for ticket in asked {
            self.settle(ticket, Err(RuntimeError::ShuttingDown));
        }
        self.channels.outboxes.clear();
        self.channels.publications.clear();
    }

    /// A daemon is gone from this node: it leaves its channels, or goes on receiving elsewhere.
    pub(super) fn stop_receiving(&mut self, key: DaemonKey, entity: EntityId, moved: bool) {
        self.channels.wishes.remove(&key);
        // Nobody here is concerned any more by what becomes of what it came with.
        self.channels.requests.take_of(key, |request| matches!(request, Request::GoesOn { .. }));
        self.refuse_held_questions(key, entity.origin_hash());
        // Daemons without channels cost nothing here.
        let Some(port) = self.channels.port.clone().filter(|port| !port.subscriptions_of(entity).is_empty()) else {
            return;
        };
        self.channels.touched = true;
        if moved {
            port.moved_on(entity);
        } else {
            port.leave_all(entity);
        }
    }
}

/// The channel that a daemon's outputs go to.
pub(super) fn output_channel(host: &DaemonHost) -> Option<ChannelName> {
    host.config.output_channel.as_deref().and_then(|name| ChannelName::new(name).ok())
}

/// An event of a channel. One of no daemon has the publisher as emitter, and its number there.
fn delivery(message: &ArrivedMessage, publisher: EntityId, now: Now) -> Delivery {
    let link = message.link.unwrap_or_else(|| CausalLink {
        origin: publisher.origin_hash(),
        horizon: HorizonBloom::default(),
        sequence: Sequence::new(message.number),
        parent_hash: ParentHash::default(),
    });
    Delivery {
        link,
        payload: message.payload.clone(),
        received_at: u64::try_from(message.received_at.as_nanos()).unwrap_or(u64::MAX),
        channel: Some(message.feed.channel().shared()),
        reply: ReplyTo::Nobody,
        expires: None,
        accepted_at: now.instant,
        withdrawn: false,
    }
}
