//! What waits to be sent to each peer, and what arrives in pieces.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use tokio::time::Instant;

use super::ChannelId;
use super::feed::StreamId;
use super::groups::Fitness;
use super::publishing::{Jobs, PublishId, Room};
use super::questions::Questions;
use super::raises::Raises;
use super::stalling::Stall;
use crate::capability::Announced;
use crate::identity::{EntityId, Incarnation};
use crate::wire::channels::DataHead;

/// Most bytes of membership messages that wait for one peer.
const CONTROL_BYTES: usize = 4 * 1024 * 1024;
/// Most messages that wait for one peer.
const MAX_WAITING: usize = 4096;
/// Most bytes of them; one message of any size finds room in an empty queue.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// Most reliable messages of a channel that a peer has been sent and has not acknowledged: it holds what its daemons have no
/// room for.
pub(super) const WINDOW: usize = 1024;
/// Most bytes of them; one message of any size is always sent.
pub(super) const WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// How often a lane is sent once more because the peer asks for that, while it acknowledges nothing and its connection lasts;
/// as often as it has subscribers when those are more.
const MAX_REWINDS: usize = 64;

/// A peer that is not lost, or this node itself.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) entity: EntityId,
    pub(super) incarnation: Incarnation,
    /// Largest payload that it accepts.
    pub(super) max_payload: u64,
    /// Whether records flow.
    pub(super) ready: bool,
    /// Since when, on this connection.
    pub(super) ready_since: Option<Instant>,
    /// Membership messages, in order. They outlive a broken connection: it may be broken in the eyes of one side only.
    pub(super) control: VecDeque<Vec<u8>>,
    control_bytes: usize,
    /// What subscribers here have asked it.
    pub(super) questions: Questions,
    /// What is to be acknowledged: the last number of each stream.
    pub(super) acks: BTreeMap<StreamId, u64>,
    /// For each stream that it gets, the number through which it is owed nothing.
    pub(super) bases: BTreeMap<StreamId, u64>,
    pub(super) lanes: BTreeMap<LaneKey, Lane>,
    waiting: usize,
    waiting_bytes: usize,
    /// The lane that was served last.
    turn: Option<LaneKey>,
    /// The large message that is under way to it.
    pub(super) bulk: Option<UnderWay>,
    /// Whether it gives credit for large messages.
    pub(super) bulk_stall: Stall,
    /// The large message that is under way from it. Only the next one of these puts it aside: the other side may not know of a
    /// suspicion, and go on with it.
    pub(super) assembly: Option<Assembly>,
    /// How many subscriptions it has here.
    pub(super) grants: usize,
    /// Issuers whose revocations it is to be told of.
    pub(super) revocations: BTreeSet<EntityId>,
    /// It passed on a revocation that nobody signed: it is believed in none any more.
    pub(super) forges: bool,
    /// Later revocations that it brings of issuers of whom one is held.
    pub(super) raises: Raises,
    /// What its node can do, as it says.
    pub(super) announced: Option<Announced>,
}

/// Lanes in the order in which they are served: the highest priority first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneKey {
    rank: u8,
    pub(super) stream: StreamId,
}

/// The messages of one stream to one peer, in order.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// First those that were sent and wait for acknowledgement.
    entries: VecDeque<Entry>,
    /// How many of them were sent.
    sent: usize,
    /// The bytes of those.
    sent_bytes: usize,
    /// Whether any of them is acknowledged.
    stall: Stall,
    /// How often the peer has had it begin again since.
    rewinds: usize,
}

/// One message for one peer.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) job: PublishId,
    /// [`after`](DataHead::after) is filled in when it is sent.
    pub(super) head: DataHead,
    pub(super) payload: Bytes,
    /// Whether it takes one of the places that its job has for messages under way.
    pub(super) started: bool,
    /// How many deliveries of its job are over with it: its own, and those that had begun on other nodes for daemons that came.
    pub(super) deliveries: usize,
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

impl Entry {
    /// The stream that it is in.
    pub(super) fn stream(&self) -> StreamId {
        StreamId::of(&self.head)
    }
}

impl Assembly {
    /// The stream that it is in.
    pub(super) fn stream(&self) -> StreamId {
        StreamId::of(&self.head)
    }
}

impl LaneKey {
    pub(super) const fn new(priority: u8, stream: StreamId) -> Self {
        Self { rank: u8::MAX - priority, stream }
    }
}

impl Lane {
    /// The next message to send.
    fn next(&self) -> Option<&Entry> {
        self.entries.get(self.sent)
    }

    /// Whether the subscriber has room for it, as far as is known.
    fn has_room_for(&self, entry: &Entry) -> bool {
        let room = self.sent < WINDOW && self.sent_bytes + entry.payload.len() <= WINDOW_BYTES;
        !entry.head.reliable || self.sent == 0 || room
    }

    /// Begins again at this entry.
    fn rewind_to(&mut self, index: usize) {
        let again = self.entries.range(self.sent.min(index)..self.sent);
        self.sent_bytes -= again.map(|entry| entry.payload.len()).sum::<usize>();
        self.sent = self.sent.min(index);
    }

    /// How many entries do not come behind this number.
    fn through(&self, number: u64) -> usize {
        self.entries.partition_point(|entry| entry.head.number <= number)
    }
}

impl Peer {
    pub(super) fn new(entity: EntityId, incarnation: Incarnation, max_payload: u64) -> Self {
        Self {
            entity,
            incarnation,
            max_payload,
            ready: false,
            ready_since: None,
            control: VecDeque::new(),
            control_bytes: 0,
            questions: Questions::default(),
            acks: BTreeMap::new(),
            bases: BTreeMap::new(),
            lanes: BTreeMap::new(),
            waiting: 0,
            waiting_bytes: 0,
            turn: None,
            bulk: None,
            bulk_stall: Stall::default(),
            assembly: None,
            grants: 0,
            revocations: BTreeSet::new(),
            forges: false,
            raises: Raises::default(),
            announced: None,
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

    /// How many bytes of them wait.
    pub(super) const fn control_bytes(&self) -> usize {
        self.control_bytes
    }

    /// How many messages wait.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes the first membership message out.
    pub(super) fn pop_control(&mut self) -> Option<Vec<u8>> {
        let body = self.control.pop_front()?;
        self.control_bytes -= body.len();
        Some(body)
    }

    /// Enters a message, also when too much waits: it waited with another peer before.
    pub(super) fn push(&mut self, key: LaneKey, entry: Entry) {
        self.waiting += 1;
        self.waiting_bytes += entry.payload.len();
        self.lanes.entry(key).or_default().entries.push_back(entry);
    }

    /// The lane whose next message is to be sent now: of the highest priority, and among equals each in turn. Passes over
    /// those whose next message is not of this size, or has to wait for a place in its job or at the subscriber.
    pub(super) fn pick(&self, jobs: &Jobs, large: bool) -> Option<LaneKey> {
        let mut first: Option<LaneKey> = None;
        for (&key, lane) in &self.lanes {
            if first.is_some_and(|first| first.rank != key.rank) {
                break;
            }
            let fits = lane
                .next()
                .is_some_and(|next| next.is_large() == large && jobs.may_send(next) && lane.has_room_for(next));
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
        let next = lane.next()?;
        if next.head.reliable {
            lane.sent_bytes += next.payload.len();
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

    /// The head of the next message of a lane, as it is sent.
    pub(super) fn next_head(&self, key: LaneKey) -> Option<DataHead> {
        let lane = self.lanes.get(&key)?;
        let before = lane.sent.checked_sub(1).and_then(|index| lane.entries.get(index));
        let after = before.map_or_else(|| self.bases.get(&key.stream).copied(), |before| Some(before.head.number));
        Some(DataHead { after, ..lane.next()?.head })
    }

    /// Puts the large message aside that is under way when others of its lane come before it now: it begins anew behind them.
    pub(super) fn put_aside(&mut self) {
        let next = |key: LaneKey| self.lanes.get(&key).and_then(Lane::next).map(|next| next.head.number);
        self.bulk.take_if(|bulk| next(bulk.lane) != Some(bulk.head.number));
    }

    /// The channel has another priority.
    pub(super) fn rank(&mut self, channel: ChannelId, priority: u8) {
        let ranked = |key: LaneKey| {
            if key.stream.channel == channel { LaneKey::new(priority, key.stream) } else { key }
        };
        self.lanes = std::mem::take(&mut self.lanes).into_iter().map(|(key, lane)| (ranked(key), lane)).collect();
        if let Some(bulk) = &mut self.bulk {
            bulk.lane = ranked(bulk.lane);
        }
    }

    /// How well a message would be with the member of a group that this lane belongs to.
    pub(super) fn fitness(&self, key: LaneKey, bytes: usize, reliable: bool, left: Room) -> Fitness {
        let full = |lane: &Lane| lane.entries.len() >= WINDOW;
        if bytes as u64 > self.max_payload || !(reliable || self.ready) {
            Fitness::Unfit
        } else if !self.has_room(bytes, left) {
            Fitness::Full
        } else if !self.ready || self.lanes.get(&key).is_some_and(full) {
            Fitness::Waits
        } else {
            Fitness::Free
        }
    }

    /// Whether a message of this size finds room, when so much is left for all.
    pub(super) fn has_room(&self, bytes: usize, left: Room) -> bool {
        let fits = self.waiting < MAX_WAITING.min(left.messages)
            && self.waiting_bytes + bytes <= MAX_WAITING_BYTES.min(left.bytes);
        fits || self.waiting == 0
    }

    /// The message of this number in a lane.
    pub(super) fn numbered_mut(&mut self, key: LaneKey, number: u64) -> Option<&mut Entry> {
        let lane = self.lanes.get_mut(&key)?;
        lane.entries.iter_mut().find(|entry| entry.head.number == number)
    }

    /// What is in a lane and is to be acknowledged.
    pub(super) fn reliable_in(&self, key: LaneKey) -> impl Iterator<Item = &Entry> {
        self.lanes.get(&key).into_iter().flat_map(|lane| &lane.entries).filter(|entry| entry.head.reliable)
    }

    /// The numbers in a lane that are behind this one.
    pub(super) fn numbers_behind(&self, key: LaneKey, from: u64) -> BTreeSet<u64> {
        let numbers = self.lanes.get(&key).into_iter().flat_map(|lane| &lane.entries).map(|entry| entry.head.number);
        numbers.filter(|number| *number > from).collect()
    }

    /// Through which number it is owed nothing: a subscriber that is in gets what comes after it.
    pub(super) fn settled_through(&self, key: LaneKey, last: u64) -> u64 {
        let owed = self.lanes.get(&key).is_some_and(|lane| lane.entries.iter().any(|entry| entry.head.reliable));
        if owed { self.bases.get(&key.stream).copied().unwrap_or(last) } else { last }
    }

    /// How much there is room for of what did not wait anywhere.
    pub(super) const fn room(&self) -> Room {
        Room {
            messages: MAX_WAITING.saturating_sub(self.waiting),
            bytes: MAX_WAITING_BYTES.saturating_sub(self.waiting_bytes),
        }
    }

    /// A subscriber goes on behind this number: what comes after it is sent again, together with `missing`, which comes after it
    /// and is not in the lane.
    pub(super) fn go_back(&mut self, key: LaneKey, from: u64, missing: Vec<Entry>) {
        self.bases.entry(key.stream).and_modify(|base| *base = (*base).min(from)).or_insert(from);
        self.begin_behind(key, from);
        if missing.is_empty() {
            return;
        }
        self.waiting += missing.len();
        self.waiting_bytes += missing.iter().map(|entry| entry.payload.len()).sum::<usize>();
        // What was sent stays in front: it is acknowledged up to where it is behind `from`.
        let entries = &mut self.lanes.entry(key).or_default().entries;
        entries.extend(missing);
        entries.make_contiguous().sort_by_key(|entry| entry.head.number);
    }

    /// What comes after this number is sent again to one that is in and asks for it; false when it asks too often.
    pub(super) fn go_back_again(&mut self, key: LaneKey, from: u64) -> bool {
        let most = MAX_REWINDS.max(self.grants);
        if let Some(lane) = self.lanes.get_mut(&key).filter(|lane| lane.through(from) < lane.sent) {
            if lane.rewinds >= most {
                return false;
            }
            lane.rewinds += 1;
        }
        self.begin_behind(key, from);
        true
    }

    fn begin_behind(&mut self, key: LaneKey, from: u64) {
        if key.stream.member().is_some() {
            // It may have begun before the member was there to take it.
            self.bulk.take_if(|bulk| bulk.lane == key);
        }
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.rewind_to(lane.through(from));
        }
    }

    /// The streams in which something waits, and whether it has waited for too long: something was sent and is not acknowledged,
    /// or is large and there is no credit for it. Of what could not be sent for want of a connection nobody can say that it is
    /// not taken.
    pub(super) fn unacknowledged(&mut self, jobs: &Jobs, now: Instant) -> Vec<(StreamId, bool)> {
        let wants_credit = self.bulk.is_some() || self.pick(jobs, true).is_some();
        if self.ready && !wants_credit {
            self.bulk_stall.over();
        }
        let gives_no_credit = self.bulk_stall.is_silent(self.ready && wants_credit, now);
        let mut waiting = Vec::new();
        for (key, lane) in self.lanes.iter_mut().filter(|(_, lane)| !lane.entries.is_empty()) {
            let silent = lane.stall.is_silent(self.ready && lane.sent > 0, now);
            let may_be_sent = |next: &Entry| jobs.may_send(next) && lane.has_room_for(next);
            let next_is_large = || lane.next().is_some_and(|next| next.is_large() && may_be_sent(next));
            waiting.push((key.stream, silent || (gives_no_credit && next_is_large())));
        }
        waiting
    }

    /// Takes out what was sent and is acknowledged.
    pub(super) fn acknowledged(&mut self, key: LaneKey, through: u64) -> Vec<Entry> {
        let mut done = Vec::new();
        while let Some(lane) = self.lanes.get_mut(&key)
            && lane.sent > 0
            && lane.entries.front().is_some_and(|entry| entry.head.number <= through)
            && let Some(entry) = lane.entries.pop_front()
        {
            lane.sent -= 1;
            lane.sent_bytes -= entry.payload.len();
            lane.stall.over();
            lane.rewinds = 0;
            self.bases.entry(key.stream).and_modify(|base| *base = entry.head.number.max(*base));
            self.left(key, &entry);
            done.push(entry);
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
                    lane.sent_bytes -= entry.payload.len();
                }
                if let Some(entry) = lane.entries.remove(index) {
                    self.bulk.take_if(|bulk| bulk.lane == key && bulk.head.number == entry.head.number);
                    self.left(key, &entry);
                    taken.push(entry);
                }
            }
        }
        taken
    }

    /// The connection may be gone: what was sent and not acknowledged is to be sent again. Gives the jobs of what had begun.
    pub(super) fn rewind(&mut self, now: Instant) -> Vec<PublishId> {
        let connected = self.ready_since.take();
        if self.bulk.take().is_some() {
            self.bulk_stall.cut(now, connected);
        }
        let mut begun = Vec::new();
        for lane in self.lanes.values_mut() {
            if lane.sent > 0 {
                lane.stall.cut(now, connected);
            }
            lane.rewind_to(0);
            lane.rewinds = 0;
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
