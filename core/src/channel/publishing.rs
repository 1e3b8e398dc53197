//! Messages that are being sent, and their reports.

use std::collections::btree_map::{self, BTreeMap};
use std::iter;
use std::ops::Bound;

use bytes::Bytes;
use minicbor::bytes::ByteArray;

use super::feed::{Share, StreamId};
use super::machine::{ChannelEvent, ChannelMachine, Moment};
use super::peers::{Entry, LaneKey, Peer};
use super::ring::Recent;
use super::{ChannelError, ChannelId, ChannelName};
use crate::causal::CausalLink;
use crate::identity::NodeId;
use crate::wire::channels::DataHead;

/// Most reliable messages that are being sent at a time. Of what is left of this each peer may have as much waiting: so however
/// many of them do not acknowledge, there is room for others.
const MAX_JOBS: usize = 16 * 1024;
/// Most bytes of them; one message of any size is always taken.
const MAX_JOB_BYTES: usize = 256 * 1024 * 1024;

/// Names a message that is being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishId(pub(super) u64);

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishOptions {
    /// Whether each peer is to acknowledge it. A reliable channel asks for that anyway.
    pub reliable: bool,
    /// What a failure does to the rest.
    pub on_failure: OnFailure,
    /// To how many peers it may be under way at once; at least 1.
    pub max_inflight: u32,
    /// Refuses the whole when the queue to any subscriber is full, instead of leaving that one out.
    pub all_or_none: bool,
}

/// What a failed delivery does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It is in the report; the others are served.
    #[default]
    BestEffort,
    /// It ends the publication with its error; whoever was not served is not.
    FailFast,
    /// It is in the report, as with best effort.
    Collect,
}

/// Whom a message reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishReport {
    /// Nodes that it was for, and queue groups: each of these counts once.
    pub attempted: usize,
    /// Those that acknowledged it, or when that was not asked for, whose session took it. Where a daemon moved on before it took
    /// it, its new node does that for the former one.
    pub delivered: usize,
    /// Why it did not reach the others; of a group, why not the member that it fell to last.
    pub errors: Vec<(NodeId, ChannelError)>,
}

impl Default for PublishOptions {
    fn default() -> Self {
        Self { reliable: false, on_failure: OnFailure::BestEffort, max_inflight: 32, all_or_none: false }
    }
}

/// Messages that are being sent.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    map: BTreeMap<PublishId, Job>,
    bytes: usize,
    last: u64,
}

/// Room for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

#[derive(Debug)]
struct Job {
    /// Which message it is: its channel, and its number there.
    message: (ChannelId, u64),
    options: PublishOptions,
    size: usize,
    report: PublishReport,
    /// Deliveries that are not over.
    left: usize,
    /// Deliveries that have begun and are not over.
    active: u32,
    /// Nodes with deliveries that have not begun, and how many.
    waiting: BTreeMap<NodeId, u32>,
    /// The last one of them that a place was for.
    turn: Option<NodeId>,
}

/// How one delivery ended.
enum Ended {
    /// There are others.
    One,
    /// It was the last.
    All(PublishReport),
    /// It failed, and with it the publication of this message.
    Failed(ChannelError, (ChannelId, u64)),
}

impl Jobs {
    /// Whether a message may be under way now, as far as the other deliveries of its publication are concerned.
    pub(super) fn may_send(&self, entry: &Entry) -> bool {
        entry.started || self.map.get(&entry.job).is_none_or(|job| job.active < job.options.max_inflight.max(1))
    }

    /// Whether one is not over.
    pub(super) fn has(&self, id: PublishId) -> bool {
        self.map.contains_key(&id)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// A delivery waits for another node, or without one is over with another delivery. Gives whom that makes room for, of those
    /// that can take it.
    fn moved(&mut self, entry: &Entry, from: NodeId, to: Option<NodeId>, can: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
        let Some(job) = self.map.get_mut(&entry.job) else { return Vec::new() };
        job.leaves_place(from, entry.started);
        if let Some(to) = to {
            job.waits(to);
        }
        job.next_in_turn(can)
    }

    /// What is left of the bounds.
    pub(super) fn room(&self) -> Room {
        Room { messages: MAX_JOBS.saturating_sub(self.map.len()), bytes: MAX_JOB_BYTES.saturating_sub(self.bytes) }
    }

    fn has_room(&self, size: usize) -> bool {
        let Room { messages, bytes } = self.room();
        self.map.is_empty() || (messages > 0 && size <= bytes)
    }

    /// A delivery begins.
    pub(super) fn begun(&mut self, id: PublishId, node: NodeId) {
        if let Some(job) = self.map.get_mut(&id) {
            job.active += 1;
            job.waits_no_more(node);
        }
    }

    /// A delivery that had begun has to begin again. Gives whom that makes room for, of those that can take it.
    fn stopped(&mut self, id: PublishId, node: NodeId, can: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
        let Some(job) = self.map.get_mut(&id) else { return Vec::new() };
        job.active -= 1;
        job.waits(node);
        job.next_in_turn(can)
    }

    fn ended(
        &mut self,
        node: NodeId,
        entry: &Entry,
        outcome: Result<(), ChannelError>,
        can: impl Fn(NodeId) -> bool,
    ) -> (Ended, Vec<NodeId>) {
        let Some(job) = self.map.get_mut(&entry.job) else { return (Ended::One, Vec::new()) };
        job.left -= entry.deliveries;
        job.leaves_place(node, entry.started);
        match outcome {
            Ok(()) => job.report.delivered += entry.deliveries,
            Err(error) if job.options.on_failure == OnFailure::FailFast => {
                let message = job.message;
                self.forget(entry.job);
                return (Ended::Failed(error, message), Vec::new());
            }
            Err(error) => job.report.errors.extend(iter::repeat_n((node, error), entry.deliveries)),
        }
        if job.left > 0 {
            return (Ended::One, job.next_in_turn(can));
        }
        let report = self.forget(entry.job).map(|job| job.report).unwrap_or_default();
        (Ended::All(report), Vec::new())
    }

    fn forget(&mut self, id: PublishId) -> Option<Job> {
        let job = self.map.remove(&id)?;
        self.bytes -= job.size;
        Some(job)
    }
}

impl Job {
    /// Who may begin now that a place may be free: the next one that can. It may have no room, so once half of the places are
    /// free it is all; asking all at each place would cost the square of a large roster.
    fn next_in_turn(&mut self, can: impl Fn(NodeId) -> bool) -> Vec<NodeId> {
        if self.active <= self.options.max_inflight / 2 {
            return self.waiting.keys().copied().collect();
        }
        if self.active >= self.options.max_inflight {
            return Vec::new();
        }
        let turn = self.turn.unwrap_or(NodeId::new(0));
        let behind = self.waiting.range((Bound::Excluded(turn), Bound::Unbounded));
        let next = behind.chain(self.waiting.range(..=turn)).map(|(&node, _)| node).find(|node| can(*node));
        self.turn = next.or(self.turn);
        next.into_iter().collect()
    }

    /// A delivery does not take the place any more that it has, or wait for one.
    fn leaves_place(&mut self, node: NodeId, started: bool) {
        if started {
            self.active -= 1;
        } else {
            self.waits_no_more(node);
        }
    }

    fn waits(&mut self, node: NodeId) {
        *self.waiting.entry(node).or_default() += 1;
    }

    fn waits_no_more(&mut self, node: NodeId) {
        if let btree_map::Entry::Occupied(mut count) = self.waiting.entry(node) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl ChannelMachine {
    /// Publishes on a channel of this node. What comes of it is a [`ChannelEvent::Published`]. A message of a daemon has its
    /// place in that daemon's chain.
    pub fn publish(
        &mut self,
        name: &ChannelName,
        payload: &Bytes,
        link: Option<&CausalLink>,
        mut options: PublishOptions,
        now: Moment,
    ) -> Result<PublishId, ChannelError> {
        let unknown = || ChannelError::Unknown(name.as_str().to_owned());
        if self.channels.get(&name.id()).is_none_or(|channel| channel.config.name != *name) {
            return Err(unknown());
        }
        let size = payload.len();
        if size as u64 > self.max_payload {
            return Err(ChannelError::PayloadTooLarge { size: size as u64, limit: self.max_payload });
        }
        self.sweep_channel(name.id(), now);
        let channel = self.channels.get(&name.id()).ok_or_else(unknown)?;
        self.may_publish(channel, now)?;
        options.reliable |= channel.config.reliable;
        if options.reliable && !self.jobs.has_room(size) {
            return Err(ChannelError::Backpressure("too many messages are being published"));
        }
        let room = self.jobs.room();
        let all = channel.nodes().map(|node| (node, Share::All));
        let chosen = channel.groups.ids().filter_map(|group| {
            let (node, who) = self.choose(name.id(), group, size, options.reliable)?;
            Some((node, Share::Member(group, who)))
        });
        let to: Vec<_> = all.chain(chosen).collect();
        let full = |node: &NodeId| self.peers.get(node).is_some_and(|peer| !peer.has_room(size, room));
        if options.all_or_none && to.iter().any(|(node, _)| full(node)) {
            return Err(ChannelError::Backpressure("the queue to a subscriber is full"));
        }
        let channel = self.channels.get_mut(&name.id()).ok_or_else(unknown)?;
        channel.admit_message(now)?;
        channel.last += 1;
        let (number, reliable) = (channel.last, options.reliable);
        let link = link.map(|link| ByteArray::from(link.to_bytes()));
        let head = DataHead { channel: name.id().0, number, reliable, after: None, link, share: None };
        let mut shares = Vec::new();
        let deliveries: Vec<_> = to
            .into_iter()
            .map(|(node, share)| {
                let stream = StreamId { channel: name.id(), share };
                let mut head = head;
                if let Share::Member(group, who) = share {
                    head.number = channel.groups.falls_to(group, (node, who));
                    head.share = stream.share_of(number);
                    shares.push((stream, head.number));
                }
                (node, LaneKey::new(channel.config.priority, stream), head)
            })
            .collect();

        self.jobs.last += 1;
        let id = PublishId(self.jobs.last);
        if reliable {
            channel.ring.push(Recent { head, payload: payload.clone(), shares });
        }
        let report = PublishReport { attempted: deliveries.len(), ..PublishReport::default() };
        if deliveries.is_empty() {
            self.events.push_back(ChannelEvent::Published { id, result: Ok(report) });
            return Ok(id);
        }
        self.jobs.bytes += size;
        let left = deliveries.len();
        let message = (name.id(), number);
        let mut job = Job { message, options, size, report, left, active: 0, waiting: BTreeMap::new(), turn: None };
        for (node, ..) in &deliveries {
            job.waits(*node);
        }
        self.jobs.map.insert(id, job);
        for (node, key, head) in deliveries {
            let entry = Entry { job: id, head, payload: payload.clone(), started: false, deliveries: 1 };
            self.enter(node, key, entry, room);
            if !self.jobs.has(id) {
                // It failed fast: whoever was not served is not.
                break;
            }
        }
        if reliable {
            self.watch(now);
        }
        self.settle_own(now);
        Ok(id)
    }

    fn enter(&mut self, node: NodeId, key: LaneKey, entry: Entry, room: Room) {
        match self.admits(node, &entry, room) {
            Ok(peer) => {
                peer.push(key, entry);
                self.wakes.insert(node);
            }
            Err(error) => self.delivery_ended(node, &entry, Err(error)),
        }
    }

    /// The peer, when it may have a message waiting for it.
    fn admits(&mut self, node: NodeId, entry: &Entry, room: Room) -> Result<&mut Peer, ChannelError> {
        let peer = self.peers.get_mut(&node).ok_or(ChannelError::NotConnected(node))?;
        let size = entry.payload.len() as u64;
        if size > peer.max_payload {
            return Err(ChannelError::PayloadTooLarge { size, limit: peer.max_payload });
        }
        if !entry.head.reliable && !peer.ready {
            return Err(ChannelError::NotConnected(node));
        }
        if !peer.has_room(entry.payload.len(), room) {
            return Err(ChannelError::Backpressure("the queue to this subscriber is full"));
        }
        Ok(peer)
    }

    /// A delivery begins again with another node, or without one goes on as part of another delivery.
    pub(super) fn delivery_moved(&mut self, entry: &Entry, from: NodeId, to: Option<NodeId>) {
        let can = |node| self.peers.get(&node).is_some_and(|peer| peer.ready);
        let next = self.jobs.moved(entry, from, to, can);
        self.wakes.extend(next);
    }

    /// The deliveries of a publication that a message for a node stands for are over.
    pub(super) fn delivery_ended(&mut self, node: NodeId, entry: &Entry, outcome: Result<(), ChannelError>) {
        let can = |node| self.peers.get(&node).is_some_and(|peer| peer.ready);
        let (ended, next) = self.jobs.ended(node, entry, outcome, can);
        let id = entry.job;
        self.wakes.extend(next);
        match ended {
            Ended::One => {}
            Ended::All(report) => self.events.push_back(ChannelEvent::Published { id, result: Ok(report) }),
            Ended::Failed(error, (channel, number)) => {
                let is_it = |entry: &Entry| (entry.head.channel, entry.head.sequence()) == (channel.0, number);
                for peer in self.peers.values_mut() {
                    drop(peer.take(|_, entry| is_it(entry)));
                }
                // Nor do daemons get it that go on from elsewhere.
                if let Some(channel) = self.channels.get_mut(&channel) {
                    channel.ring.forget(number);
                }
                self.events.push_back(ChannelEvent::Published { id, result: Err(error) });
            }
        }
    }

    /// The node is shut down, and with it all publications are over.
    pub(super) fn publications_shut_down(&mut self) {
        let ids = std::mem::take(&mut self.jobs.map).into_keys();
        self.jobs.bytes = 0;
        self.events.extend(ids.map(|id| ChannelEvent::Published { id, result: Err(ChannelError::ShutDown) }));
        for peer in self.peers.values_mut() {
            drop(peer.take(|_, _| true));
        }
    }

    /// A connection is gone: what needs no acknowledgement is lost, the rest begins again.
    pub(super) fn deliveries_cut(&mut self, node: NodeId, now: Moment) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let lost = peer.take(|_, entry| !entry.head.reliable);
        let begun = peer.rewind(now.instant);
        self.undelivered(node, lost, &ChannelError::NotConnected(node));
        for job in begun {
            let can = |node| self.peers.get(&node).is_some_and(|peer| peer.ready);
            let next = self.jobs.stopped(job, node, can);
            self.wakes.extend(next);
        }
    }

    /// Nothing of a stream, or of all, goes to a node any more.
    pub(super) fn deliveries_dropped(&mut self, node: NodeId, stream: Option<StreamId>, why: &ChannelError) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let lost = peer.take(|key, _| stream.is_none_or(|stream| key.stream == stream));
        self.undelivered(node, lost, why);
    }
}
