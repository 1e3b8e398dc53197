//! Messages that daemons of this node have yet to take.
//!
//! What arrives for daemons waits here until each has room for it, and is acknowledged when all have taken it. A daemon
//! takes the messages of a channel in order and passes none over: one that does not follow what it has taken waits until
//! the publisher has sent those before it. The publisher sends no more than its window, so what waits is bounded; what
//! needs no acknowledgement has a bound of its own, and is dropped beyond that.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::machine::{ArrivedMessage, ChannelEvent, ChannelMachine, Moment, Position, Subscriber};
use super::peers::{WINDOW, WINDOW_BYTES};
use super::subscription::Subscription;
use super::taken::Rear;
use super::{Feed, StreamId};
use crate::causal::CausalLink;
use crate::identity::{EntityId, NodeId};
use crate::wire::channels::DataHead;

/// What of reliable messages waits for daemons in one channel at most: a window, and another one that was sent once more.
const RELIABLE: Bound = Bound { messages: 2 * WINDOW, bytes: 2 * WINDOW_BYTES };
/// What of others.
const LOSSY: Bound = Bound { messages: 256, bytes: 2 * WINDOW_BYTES };
/// How long the subscriptions of a daemon that moved away are kept for its new host to go on with.
const KEPT_FOR_MOVED: Duration = Duration::from_secs(10);

/// A stream of a publisher.
pub(super) type Key = (NodeId, StreamId);

/// A message that some daemon has yet to take.
#[derive(Debug)]
pub(super) struct Held {
    number: u64,
    /// Its number in the channel.
    sequence: u64,
    /// The reliable message before it.
    after: u64,
    reliable: bool,
    link: Option<CausalLink>,
    payload: Bytes,
    received_at: Duration,
}

/// Those of one channel.
#[derive(Debug, Default)]
pub(super) struct HeldMessages {
    reliable: Queue,
    lossy: Queue,
}

/// Messages of one kind, in order.
#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Held>,
    bytes: usize,
}

/// How much a queue may hold; one message of any size counts as a window at most.
#[derive(Clone, Copy)]
struct Bound {
    messages: usize,
    bytes: usize,
}

/// What a daemon has subscribed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonSubscription {
    /// Whose channel.
    pub publisher: NodeId,
    /// Which channel, or group of it.
    pub feed: Feed,
    /// The publisher has agreed.
    pub accepted: bool,
    /// How far it has taken messages.
    pub position: Option<Position>,
    /// What it is let in with.
    pub token: Option<Bytes>,
}

impl Held {
    /// What it counts for in a bound.
    fn weight(&self) -> usize {
        self.payload.len().min(WINDOW_BYTES)
    }
}

impl Queue {
    fn has_room_for(&self, held: &Held, bound: Bound) -> bool {
        self.messages.len() < bound.messages && self.bytes + held.weight() <= bound.bytes
    }

    /// The place of the first message behind a number.
    fn behind(&self, number: u64) -> usize {
        self.messages.partition_point(|held| held.number <= number)
    }

    fn insert(&mut self, held: Held) {
        self.bytes += held.weight();
        self.messages.insert(self.behind(held.number), held);
    }

    fn pop_back(&mut self) {
        if let Some(held) = self.messages.pop_back() {
            self.bytes -= held.weight();
        }
    }

    /// Lets go everything through this number.
    fn release(&mut self, through: u64) {
        while self.messages.front().is_some_and(|held| held.number <= through)
            && let Some(held) = self.messages.pop_front()
        {
            self.bytes -= held.weight();
        }
    }
}

impl HeldMessages {
    /// How many there are, and how many bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        let all = || self.reliable.messages.iter().chain(&self.lossy.messages);
        (all().count(), all().map(|held| held.payload.len()).sum())
    }

    /// Enters a message unless it is here; false when there is no room.
    fn insert(&mut self, held: Held) -> bool {
        let (queue, bound) = if held.reliable { (&mut self.reliable, RELIABLE) } else { (&mut self.lossy, LOSSY) };
        if let Some(at) = queue.behind(held.number).checked_sub(1)
            && let Some(same) = queue.messages.get_mut(at).filter(|same| same.number == held.number)
        {
            // Sent once more for a daemon that stands behind the others.
            same.after = same.after.min(held.after);
            return true;
        }
        // The publisher went back for such a daemon: what comes behind this one it sends again too.
        while held.reliable
            && !queue.has_room_for(&held, bound)
            && queue.messages.back().is_some_and(|last| last.number > held.number)
        {
            queue.pop_back();
        }
        let has_room = queue.has_room_for(&held, bound);
        if has_room {
            queue.insert(held);
        }
        has_room
    }

    /// What comes next for one who has taken everything through a number.
    pub(super) fn next_behind(&self, through: u64) -> Option<&Held> {
        let next = [&self.reliable, &self.lossy].map(|queue| queue.messages.get(queue.behind(through)));
        next.into_iter().flatten().min_by_key(|held| held.number).filter(|held| held.after <= through)
    }

    /// Whether that is to be acknowledged. What is not holds nobody up.
    pub(super) fn is_awaited_behind(&self, through: u64) -> bool {
        let next = self.reliable.messages.get(self.reliable.behind(through));
        next.is_some_and(|held| held.after <= through)
    }

    /// Everybody has taken everything through this number.
    fn release(&mut self, through: u64) {
        self.reliable.release(through);
        self.lossy.release(through);
    }
}

impl ChannelMachine {
    /// What comes next for a daemon, each of its channels in turn. After [`ChannelEvent::Ready`] this is asked until there is
    /// nothing; with a pause for as long as the daemon has no room.
    pub fn next_for(&mut self, daemon: EntityId) -> Option<ArrivedMessage> {
        for (publisher, stream) in self.daemons.in_turn(daemon) {
            let Some(subscription) = self.subscriptions.get(&(publisher, stream)) else { continue };
            let Some(through) = subscription.taken_by(daemon) else { continue };
            if let Some(held) = subscription.held.next_behind(through) {
                return Some(ArrivedMessage {
                    publisher,
                    feed: subscription.feed.clone(),
                    number: held.sequence,
                    place: held.number,
                    payload: held.payload.clone(),
                    link: held.link,
                    reliable: held.reliable,
                    received_at: held.received_at,
                });
            }
        }
        self.daemons.found_nothing(daemon);
        None
    }

    /// A daemon has taken the message that was next for it.
    pub fn took(&mut self, daemon: EntityId, message: &ArrivedMessage, now: Moment) {
        let key = (message.publisher, message.feed.stream(Subscriber::Daemon(daemon)));
        self.daemons.took(daemon, key);
        let subscription = self.subscriptions.get_mut(&key);
        if subscription.is_some_and(|subscription| subscription.advance(daemon, message.place)) {
            self.settle_held(key);
            self.settle_own(now);
        }
    }

    /// A daemon had no room for the message that was next for it, and nobody waits for it to be acknowledged.
    pub fn passed_over(&mut self, daemon: EntityId, message: &ArrivedMessage, now: Moment) {
        self.daemons.dropped(daemon);
        self.took(daemon, message, now);
    }

    /// How many messages a daemon had no room for, of those that need no acknowledgement.
    pub fn dropped_for(&self, daemon: EntityId) -> u64 {
        self.daemons.dropped_for(daemon)
    }

    /// What a daemon has subscribed to, or is about to.
    pub fn subscriptions_of(&self, daemon: EntityId) -> Vec<DaemonSubscription> {
        let keys = self.daemons.present(daemon);
        keys.filter_map(|key| {
            let (publisher, _) = key;
            let incarnation = self.peers.get(&publisher)?.incarnation;
            self.subscriptions.get(&key)?.of_daemon(daemon, publisher, incarnation)
        })
        .collect()
    }

    /// A daemon lives elsewhere now. What it has not taken here stays unacknowledged for a while, for its new host to go on
    /// with; then it leaves its channels.
    pub fn moved_on(&mut self, daemon: EntityId, now: Moment) {
        self.daemons.moved_on(daemon, now.instant + KEPT_FOR_MOVED);
    }

    /// Ends what the new hosts of daemons did not come for.
    pub(super) fn forget_moved(&mut self, now: Moment) {
        while let Some((daemon, keys)) = self.daemons.take_forgotten(now.instant) {
            self.leave_each(daemon, &keys, now);
        }
    }

    /// Has a daemon leave all its channels.
    pub fn leave_all(&mut self, daemon: EntityId, now: Moment) {
        let keys = self.daemons.take_all(daemon);
        self.leave_each(daemon, &keys, now);
    }

    fn leave_each(&mut self, daemon: EntityId, keys: &[Key], now: Moment) {
        for key in keys {
            if let Some(feed) = self.subscriptions.get(key).map(|held| held.feed.clone()) {
                self.unsubscribe(key.0, &feed, Subscriber::Daemon(daemon), now);
            }
        }
    }

    /// A message arrived: daemons that have yet to take it get it.
    pub(super) fn hold(&mut self, key: Key, head: DataHead, payload: &Bytes, now: Moment) {
        let Some(subscription) = self.subscriptions.get_mut(&key) else { return };
        let wanted = subscription.wanted_by(head.number);
        if wanted.is_empty() {
            return;
        }
        let kept = subscription.held.insert(Held {
            number: head.number,
            sequence: head.sequence(),
            after: head.after.unwrap_or(0),
            reliable: head.reliable,
            link: head.link.map(|link| CausalLink::from_bytes(&link)),
            payload: payload.clone(),
            received_at: now.unix,
        });
        for daemon in wanted {
            if !kept {
                if !head.reliable {
                    self.daemons.dropped(daemon);
                }
            } else if self.daemons.ready(daemon) {
                self.events.push_back(ChannelEvent::Ready(daemon));
            }
        }
        if !kept && head.reliable {
            self.refuse(key.0, "message", &"beyond the window of its channel");
        }
        self.watch(now);
    }

    /// Some daemon has taken something, or is out: lets go what all have, and acknowledges it.
    pub(super) fn settle_held(&mut self, key: Key) {
        let Some(subscription) = self.subscriptions.get_mut(&key) else { return };
        subscription.rear = Rear::of(subscription.daemons_through());
        let through = subscription.taken_by_all();
        subscription.held.release(through);
        if subscription.acknowledge(through) {
            self.acknowledge(key, through);
        }
    }

    /// Has everything through a number of a stream acknowledged that somebody here is in.
    pub(super) fn acknowledge(&mut self, (publisher, stream): Key, through: u64) {
        if let Some(peer) = self.peers.get_mut(&publisher) {
            peer.acks.insert(stream, through);
            self.wakes.insert(publisher);
        }
    }

    /// A daemon begins behind a number: nothing beyond it is acknowledged until it has taken that too.
    pub(super) fn hold_back(&mut self, key: Key, from: u64) {
        let (publisher, stream) = key;
        if let Some(through) = self.peers.get_mut(&publisher).and_then(|peer| peer.acks.get_mut(&stream)) {
            *through = (*through).min(from);
        }
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            subscription.hold_back(from);
        }
    }

    /// There may be something for a daemon that has just come in.
    pub(super) fn look_again(&mut self, daemon: EntityId) {
        if self.daemons.ready(daemon) {
            self.events.push_back(ChannelEvent::Ready(daemon));
        }
    }
}

impl Subscription {
    /// How it looks from one daemon.
    fn of_daemon(
        &self,
        daemon: EntityId,
        publisher: NodeId,
        incarnation: crate::identity::Incarnation,
    ) -> Option<DaemonSubscription> {
        let (accepted, through, token) = self.member(Subscriber::Daemon(daemon))?;
        Some(DaemonSubscription {
            publisher,
            feed: self.feed.clone(),
            accepted,
            position: through.map(|number| Position { incarnation, number }),
            token: token.map(Bytes::copy_from_slice),
        })
    }
}
