//! What waits to be sent to each peer, and what arrives in pieces.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::ChannelId;
use super::publishing::{Jobs, PublishId};
use crate::identity::{EntityId, Incarnation};
use crate::wire::channels::DataHead;

/// Most bytes of membership messages that wait for one peer.
const CONTROL_BYTES: usize = 4 * 1024 * 1024;
/// Most messages that wait for one peer.
const MAX_WAITING: usize = 4096;
/// Most bytes of them; one message of any size finds room in an empty queue.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;

/// A peer that is not lost, or this node itself.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) entity: EntityId,
    pub(super) incarnation: Incarnation,
    /// Largest payload that it accepts.
    pub(super) max_payload: u64,
    /// Whether records flow.
    pub(super) ready: bool,
    /// Membership messages, in order. They outlive a broken connection: it may be broken in the eyes of one side only.
    pub(super) control: VecDeque<Vec<u8>>,
    control_bytes: usize,
    /// What is to be acknowledged: the last number of each channel.
    pub(super) acks: BTreeMap<ChannelId, u64>,
    pub(super) lanes: BTreeMap<LaneKey, Lane>,
    waiting: usize,
    waiting_bytes: usize,
    /// The lane that was served last.
    turn: Option<LaneKey>,
    /// The large message that is under way to it.
    pub(super) bulk: Option<UnderWay>,
    /// The large message that is under way from it.
    pub(super) assembly: Option<Assembly>,
    /// How many subscriptions it has here.
    pub(super) grants: usize,
}

/// Lanes in the order in which they are served: the highest priority first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneKey {
    rank: u8,
    pub(super) channel: ChannelId,
}

/// The messages of one channel for one peer, in order.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// First those that were sent and wait for acknowledgement.
    entries: VecDeque<Entry>,
    /// How many of them were sent.
    sent: usize,
}

/// One message for one peer.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) job: PublishId,
    pub(super) head: DataHead,
    pub(super) payload: Bytes,
    /// Whether it takes one of the places that its job has for messages under way.
    pub(super) started: bool,
}

/// A large message on its way out.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) lane: LaneKey,
    pub(super) head: DataHead,
    pub(super) payload: Bytes,
    pub(super) sent: usize,
}

/// A large message that has not wholly arrived.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) head: DataHead,
    pub(super) total: u64,
    pub(super) bytes: Vec<u8>,
}

impl LaneKey {
    pub(super) const fn new(priority: u8, channel: ChannelId) -> Self {
        Self { rank: u8::MAX - priority, channel }
    }
}

impl Lane {
    /// The next message to send.
    pub(super) fn next(&self) -> Option<&Entry> {
        self.entries.get(self.sent)
    }
}

impl Peer {
    pub(super) const fn new(entity: EntityId, incarnation: Incarnation, max_payload: u64) -> Self {
        Self {
            entity,
            incarnation,
            max_payload,
            ready: false,
            control: VecDeque::new(),
            control_bytes: 0,
            acks: BTreeMap::new(),
            lanes: BTreeMap::new(),
            waiting: 0,
            waiting_bytes: 0,
            turn: None,
            bulk: None,
            assembly: None,
            grants: 0,
        }
    }

    /// Enters a membership message; false when too much waits.
    pub(super) fn push_control(&mut self, body: Vec<u8>) -> bool {
        if self.control_bytes + body.len() > CONTROL_BYTES {
            return false;
        }
        self.control_bytes += body.len();
        self.control.push_back(body);
        true
    }

    /// Takes the first membership message out.
    pub(super) fn pop_control(&mut self) -> Option<Vec<u8>> {
        let body = self.control.pop_front()?;
        self.control_bytes -= body.len();
        Some(body)
    }

    /// Enters a message; false when too much waits.
    pub(super) fn push(&mut self, key: LaneKey, entry: Entry) -> bool {
        let len = entry.payload.len();
        if self.waiting >= MAX_WAITING || (self.waiting > 0 && self.waiting_bytes + len > MAX_WAITING_BYTES) {
            return false;
        }
        self.waiting += 1;
        self.waiting_bytes += len;
        self.lanes.entry(key).or_default().entries.push_back(entry);
        true
    }

    /// The lane whose next message is to be sent now: of the highest priority, and among equals each in turn. Passes over
    /// those whose next message is not of this size, or has to wait for a place in its job.
    pub(super) fn pick(&self, jobs: &Jobs, large: bool) -> Option<LaneKey> {
        let mut first: Option<LaneKey> = None;
        for (&key, lane) in &self.lanes {
            if first.is_some_and(|first| first.rank != key.rank) {
                break;
            }
            let fits = lane.next().is_some_and(|next| next.is_large() == large && jobs.may_send(next));
            if !fits {
                continue;
            }
            if self.turn.is_some_and(|turn| turn.rank == key.rank && turn < key) {
                return Some(key);
            }
            first = first.or(Some(key));
        }
        first
    }

    /// The next message of a lane was sent. Gives it out when nothing more is expected of it.
    pub(super) fn sent(&mut self, key: LaneKey) -> Option<Entry> {
        self.turn = Some(key);
        let lane = self.lanes.get_mut(&key)?;
        if lane.next()?.head.reliable {
            lane.sent += 1;
            return None;
        }
        let entry = lane.entries.remove(lane.sent)?;
        self.left(key, &entry);
        Some(entry)
    }

    /// The next message of a lane.
    pub(super) fn next_mut(&mut self, key: LaneKey) -> Option<&mut Entry> {
        let lane = self.lanes.get_mut(&key)?;
        lane.entries.get_mut(lane.sent)
    }

    /// Takes out what was sent and is acknowledged.
    pub(super) fn acknowledged(&mut self, channel: ChannelId, through: u64) -> Vec<Entry> {
        let mut done = Vec::new();
        let keys: Vec<_> = self.lanes.keys().copied().filter(|key| key.channel == channel).collect();
        for key in keys {
            while let Some(lane) = self.lanes.get_mut(&key)
                && lane.sent > 0
                && lane.entries.front().is_some_and(|entry| entry.head.number <= through)
                && let Some(entry) = lane.entries.pop_front()
            {
                lane.sent -= 1;
                self.left(key, &entry);
                done.push(entry);
            }
        }
        done
    }

    /// Takes out every message that `which` names.
    pub(super) fn take(&mut self, which: impl Fn(&LaneKey, &Entry) -> bool) -> Vec<Entry> {
        let mut taken = Vec::new();
        let keys: Vec<_> = self.lanes.keys().copied().collect();
        for key in keys {
            let mut index = 0;
            while let Some(lane) = self.lanes.get_mut(&key)
                && let Some(entry) = lane.entries.get(index)
            {
                if !which(&key, entry) {
                    index += 1;
                    continue;
                }
                if index < lane.sent {
                    lane.sent -= 1;
                }
                if let Some(entry) = lane.entries.remove(index) {
                    self.left(key, &entry);
                    taken.push(entry);
                }
            }
        }
        taken
    }

    /// The connection is gone: what was sent and not acknowledged is to be sent again. Gives the jobs of what had begun.
    pub(super) fn rewind(&mut self) -> Vec<PublishId> {
        self.bulk = None;
        self.assembly = None;
        let mut begun = Vec::new();
        for lane in self.lanes.values_mut() {
            lane.sent = 0;
            for entry in &mut lane.entries {
                if std::mem::take(&mut entry.started) {
                    begun.push(entry.job);
                }
            }
        }
        begun
    }

    fn left(&mut self, key: LaneKey, entry: &Entry) {
        self.waiting -= 1;
        self.waiting_bytes -= entry.payload.len();
        if self.lanes.get(&key).is_some_and(|lane| lane.entries.is_empty()) {
            self.lanes.remove(&key);
        }
    }
}
