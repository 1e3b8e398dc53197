//! The host's end of one stream: its mark, reordering, kept replies.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use tokio::time::Instant;

use super::accounts::{Account, Charge, Expected};
use super::items::{Held, KeptReply};
use super::{KEPT_REPLY_BYTES, LARGE, LITTLE_KEPT_BYTES, WINDOW, WINDOW_BYTES};
use crate::identity::NodeId;
use crate::wire::events::{Answers, Failure, StreamId};

/// What a held event takes beside its payload.
pub const POSITION_BYTES: usize = 2 * size_of::<(u64, Held)>();
/// What a kept reply takes beside what it holds.
const KEPT_BYTES: usize = size_of::<KeptReply>();

/// The peer sent more than the window of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeyondWindow;

/// One stream that leads to a daemon.
#[derive(Debug)]
pub struct InStream {
    /// Which one.
    pub id: StreamId,
    /// The peer that its last message came through; the way back when the sender has no session here.
    pub via: NodeId,
    next: u64,
    /// What came before its turn, or before there was room for it.
    early: BTreeMap<u64, Held>,
    early_bytes: usize,
    pub(super) kept: VecDeque<KeptReply>,
    sent: usize,
    told: u64,
    /// When the sender was heard last.
    pub heard_at: Instant,
    /// The node that began it here; none when it was begun elsewhere.
    opener: Option<NodeId>,
    /// Whether it stands in the list of streams with something to answer.
    pub queued: bool,
    /// What it holds and keeps.
    charge: Charge,
    charged_to: Option<NodeId>,
    /// The first position that was dropped for want of room, and its bytes.
    lacking: Option<(u64, usize)>,
    /// The last one of those that went apart.
    dropped_apart: Option<u64>,
}

impl InStream {
    /// A stream that a node begins here.
    pub(super) fn begun(id: StreamId, via: NodeId, now: Instant) -> Self {
        Self { opener: Some(via), ..Self::new(id, via, 1, now) }
    }

    /// A stream that was begun elsewhere, at its mark.
    pub(super) fn new(id: StreamId, via: NodeId, next: u64, now: Instant) -> Self {
        Self {
            id,
            via,
            next,
            early: BTreeMap::new(),
            early_bytes: 0,
            kept: VecDeque::new(),
            sent: 0,
            told: next - 1,
            heard_at: now,
            opener: None,
            queued: false,
            charge: Charge::default(),
            charged_to: None,
            lacking: None,
            dropped_apart: None,
        }
    }

    /// The node that began it here, if it was begun here.
    pub(super) const fn opener(&self) -> Option<NodeId> {
        self.opener
    }

    /// Its sender spoke through this peer. False when [`comes_through`](Self::comes_through) has to follow.
    pub fn heard(&mut self, via: NodeId, now: Instant) -> bool {
        self.heard_at = now;
        self.charged_to == Some(via)
    }

    /// What it holds is charged to this peer from here on, and answers go back there.
    pub fn comes_through(&mut self, via: NodeId, account: Account) {
        self.via = via;
        self.charged_to = Some(via);
        self.charge.transfer(account);
    }

    /// The peer that it is charged to.
    pub const fn charged_to(&self) -> Option<NodeId> {
        self.charged_to
    }

    /// The bytes of the position that is due, when it was dropped for want of room and could be accepted but for that.
    pub fn lacks(&self) -> Option<usize> {
        let (_, bytes) = self.lacking.filter(|(number, _)| *number == self.next)?;
        (self.may_accept() && self.ready().is_none()).then_some(bytes)
    }

    /// Its sender is asked to send again what is lacking.
    pub fn asked(&mut self) {
        self.lacking = None;
        self.dropped_apart = None;
    }

    /// The number that is due next.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes a position in, for [`keeps`](Self::keeps) to look whether it may stay. Repetitions are dropped.
    pub fn offer(&mut self, number: u64, held: Held) -> Result<(), BeyondWindow> {
        let Some(ahead) = number.checked_sub(self.next) else { return Ok(()) };
        if ahead >= 2 * WINDOW {
            return Err(BeyondWindow);
        }
        if let Entry::Vacant(place) = self.early.entry(number) {
            self.early_bytes += cost(&held);
            place.insert(held);
        }
        Ok(())
    }

    /// Whether a position that was offered and not accepted may stay: the stream and its peer have so much held at most.
    /// What is too much is dropped, and lacking from then on.
    pub fn keeps(&mut self, number: u64) -> bool {
        // One event may exceed it alone.
        let fits = self.early_bytes <= 2 * WINDOW_BYTES || self.early.len() == 1;
        if fits && (self.early_bytes == self.charge.held() || self.charge.hold(self.early_bytes)) {
            return true;
        }
        if let Some(held) = self.early.remove(&number) {
            self.early_bytes -= cost(&held);
            if self.lacking.is_none_or(|(first, _)| first < self.next || number < first) {
                self.lacking = Some((number, held.weight()));
            }
            if held.weight() > LARGE {
                self.dropped_apart = self.dropped_apart.max(Some(number));
            }
        }
        false
    }

    /// What it holds at a number that was not accepted.
    pub fn held(&self, number: u64) -> Option<&Held> {
        self.early.get(&number)
    }

    /// Its sender gave up the event at a number: it will not run, also when it has yet to arrive. False when it was accepted.
    pub fn give_up(&mut self, number: u64) -> bool {
        if let Some(held) = self.early.get_mut(&number) {
            self.early_bytes -= held.weight();
            *held = Held::Skip;
            self.give_back();
        } else if self.offer(number, Held::Skip).is_ok() {
            self.keeps(number);
        }
        number >= self.next
    }

    /// Whether there is room to keep the reply of what is accepted.
    fn may_accept(&self) -> bool {
        self.charge.kept() < KEPT_REPLY_BYTES && self.may_answer()
    }

    /// Whether there is room for another reply to its peer. Other streams of the peer may have taken all of it: they do not
    /// hold up one that its peer speaks for itself in, of which there is one to a daemon.
    pub fn may_answer(&self) -> bool {
        let is_own = self.charged_to == Some(self.id.sender);
        self.charge.may_keep() || (is_own && self.charge.kept() < LITTLE_KEPT_BYTES)
    }

    /// The same besides replies that are expected, of which another one like the last is.
    pub fn may_answer_another(&self, expected: &mut Expected) -> bool {
        let bytes = self.kept.back().map_or(KEPT_BYTES, |reply| KEPT_BYTES + reply.weight());
        self.may_answer() && self.charge.may_expect(expected, bytes)
    }

    /// Accepts a number without storing what stands at it, when it is due, nothing is held behind it, and there is room to
    /// keep its reply; false otherwise.
    pub fn pass(&mut self, number: u64) -> bool {
        let due = number == self.next && self.early.is_empty() && self.may_accept();
        self.next += u64::from(due);
        due
    }

    /// The position that is due, when it is here and there is room to keep its reply.
    pub fn ready(&self) -> Option<&Held> {
        self.early.get(&self.next).filter(|_| self.may_accept())
    }

    /// Accepts the position that is due.
    pub fn accept(&mut self) -> Option<(u64, Held)> {
        let number = self.next;
        let held = self.early.remove(&number)?;
        self.early_bytes -= cost(&held);
        self.next += 1;
        self.give_back();
        Some((number, held))
    }

    /// Sets the mark behind what was accepted elsewhere and handed over. Numbers in between were given up. False when it
    /// stands there already.
    pub fn advance(&mut self, next: u64) -> bool {
        if next <= self.next {
            return false;
        }
        let later = self.early.split_off(&next);
        self.early_bytes -= self.early.values().map(cost).sum::<usize>();
        self.early = later;
        self.give_back();
        self.next = next;
        self.told = self.told.max(next - 1);
        true
    }

    // What was never charged is not given back.
    fn give_back(&mut self) {
        if self.early_bytes < self.charge.held() {
            self.charge.hold(self.early_bytes);
        }
    }

    /// Forgets what was held and not accepted; the sender repeats it where the daemon lives now.
    pub fn drop_early(&mut self) {
        self.early.clear();
        self.early_bytes = 0;
        self.give_back();
        self.lacking = None;
        self.dropped_apart = None;
    }

    /// What a refusal of all that came and was not accepted answers, one word for each: the last batch that went apart because
    /// it is large, also when it was dropped for want of room, and with it what came before, as a lane keeps the order. Of
    /// those behind it that were given up nobody knows here how they went, so each speaks for itself. Without any, one number
    /// will do, and where nothing came, one word that answers nothing.
    pub fn last_of_each_way(&self) -> Vec<Answers> {
        let mut held = self.early.iter().rev();
        let held = held.find(|(_, held)| held.weight() > LARGE).map(|(number, _)| *number);
        let apart = held.max(self.dropped_apart.filter(|number| *number >= self.next));
        let behind = self.early.range((Bound::Excluded(apart.unwrap_or_default()), Bound::Unbounded));
        let given_up = behind.filter(|(_, held)| matches!(held, Held::Skip)).map(|(number, _)| *number);
        let numbers: Vec<u64> = apart.into_iter().chain(given_up).collect();
        if numbers.is_empty() {
            let last = self.early.keys().next_back().copied().or_else(|| self.lacking_number());
            return vec![last.map_or(Answers::Nothing, Answers::batch_to)];
        }
        numbers.into_iter().map(Answers::batch_to).collect()
    }

    fn lacking_number(&self) -> Option<u64> {
        self.lacking.map(|(number, _)| number).filter(|number| *number >= self.next)
    }

    /// Whether events came that were not accepted: it holds them, or dropped them for want of room.
    pub fn holds_early(&self) -> bool {
        !self.early.is_empty() || self.lacking_number().is_some()
    }

    /// Keeps a reply until the sender has it.
    pub fn keep(&mut self, reply: KeptReply) {
        self.charge.keep(self.charge.kept() + KEPT_BYTES + reply.weight());
        self.kept.push_back(reply);
    }

    /// The sender has every reply through this number.
    pub fn acknowledge(&mut self, through: u64) {
        let mut sent = self.sent;
        let mut index = 0;
        let mut freed = 0;
        self.kept.retain(|reply| {
            let stays = reply.number > through;
            if !stays {
                freed += KEPT_BYTES + reply.weight();
                if index < self.sent {
                    sent -= 1;
                }
            }
            index += 1;
            stays
        });
        self.sent = sent;
        if freed > 0 {
            self.charge.keep(self.charge.kept() - freed);
        }
        if self.kept.is_empty() && self.kept.capacity() > 64 {
            // An idle stream keeps no memory of a past flood.
            self.kept = VecDeque::new();
        }
    }

    /// Sends every kept reply, and the mark, again.
    pub fn repeat(&mut self) {
        self.sent = 0;
        self.told = 0;
    }

    /// Replies that were not sent yet.
    pub fn unsent(&self) -> impl Iterator<Item = &KeptReply> {
        self.kept.iter().skip(self.sent)
    }

    /// Puts a failure in the place of the next unsent reply.
    pub fn replace_next(&mut self, failure: Failure) {
        if let Some(reply) = self.kept.get_mut(self.sent) {
            let before = reply.weight();
            reply.result = Err(failure);
            self.charge.keep(self.charge.kept() - before + reply.weight());
        }
    }

    /// Marks the first `count` unsent replies, and acceptance through the mark, as told.
    pub fn sent(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.kept.len());
        self.told = self.accepted();
    }

    /// The last accepted number.
    pub fn accepted(&self) -> u64 {
        self.next - 1
    }

    /// How many accepted positions the sender has not been told of.
    pub fn untold(&self) -> u64 {
        self.accepted().saturating_sub(self.told)
    }

    /// Bytes of events that wait for one before them, or for room.
    pub fn held_bytes(&self) -> usize {
        self.early_bytes
    }

    /// Bytes of replies that its sender has not acknowledged.
    pub fn kept_bytes(&self) -> usize {
        self.charge.kept()
    }
}

/// What a held position counts for.
fn cost(held: &Held) -> usize {
    POSITION_BYTES + held.weight()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::some_stream;
    use super::*;
    use crate::causal::{CausalLink, HorizonBloom, ParentHash, Sequence};
    use crate::identity::OriginHash;

    fn stream() -> InStream {
        InStream::new(some_stream(), NodeId::new(1), 1, Instant::now())
    }

    fn event(number: u64, size: usize) -> Held {
        let link = CausalLink {
            origin: OriginHash::new(1),
            horizon: HorizonBloom::default(),
            sequence: Sequence::new(number),
            parent_hash: ParentHash::default(),
        };
        Held::Event { link, payload: Bytes::from(vec![0; size]), call: true }
    }

    fn drain(stream: &mut InStream) -> Vec<u64> {
        std::iter::from_fn(|| {
            stream.ready()?;
            let (number, held) = stream.accept()?;
            if let Held::Event { link, .. } = held {
                assert_eq!(link.sequence.get(), number);
            }
            Some(number)
        })
        .collect()
    }

    #[test]
    fn hazard_reordered_and_repeated_positions_are_accepted_once_and_in_order() {
        let mut stream = stream();
        let mut accepted = Vec::new();
        for number in [3, 1, 1, 2, 3, 7, 5, 4, 5, 2, 6, 8] {
            stream.offer(number, event(number, 10)).expect("within the window");
            accepted.extend(drain(&mut stream));
        }
        assert_eq!(accepted, (1..=8).collect::<Vec<_>>());
        assert_eq!(stream.held_bytes(), 0);
    }

    #[test]
    fn requirement_bounds_what_is_beyond_the_window_is_refused() {
        let mut stream = stream();
        assert_eq!(stream.offer(1 + 2 * WINDOW, event(1, 1)), Err(BeyondWindow));
        assert_eq!(stream.offer(u64::MAX, event(1, 1)), Err(BeyondWindow));
        stream.offer(2 * WINDOW, event(2 * WINDOW, 1)).expect("the last of the window");
        assert!(stream.keeps(2 * WINDOW));
        stream.offer(2, event(2, 2 * WINDOW_BYTES)).expect("within the window");
        assert!(!stream.keeps(2), "more bytes than the window has");
        stream.offer(1, event(1, 2 * WINDOW_BYTES)).expect("what is due is taken");
        assert_eq!(drain(&mut stream), [1]);
        assert_eq!(stream.lacks(), Some(2 * WINDOW_BYTES), "it is asked for when it is due");
        assert_eq!(stream.held_bytes(), POSITION_BYTES + 1);
    }

    #[test]
    fn requirement_bounds_a_position_far_ahead_costs_its_own_place_only() {
        let mut stream = stream();
        let peer = Account::default();
        stream.comes_through(NodeId::new(1), peer.clone());
        stream.offer(2 * WINDOW, event(2 * WINDOW, 0)).expect("the last of the window");
        assert!(stream.keeps(2 * WINDOW));
        assert_eq!((stream.early.len(), peer.held()), (1, POSITION_BYTES));
    }

    #[test]
    fn what_is_given_up_before_it_is_accepted_is_passed_over_and_frees_its_bytes() {
        let mut stream = stream();
        for number in [2, 3, 5] {
            stream.offer(number, event(number, 100)).expect("within the window");
        }
        assert!(stream.give_up(3));
        assert_eq!(stream.held_bytes(), 3 * POSITION_BYTES + 200);
        assert!(stream.give_up(4), "it has yet to arrive");
        stream.offer(3, event(3, 100)).expect("a repetition of what was given up");
        stream.offer(4, event(4, 100)).expect("late");
        stream.offer(1, event(1, 100)).expect("due");
        let mut accepted = Vec::new();
        while stream.ready().is_some() {
            let (number, held) = stream.accept().expect("ready");
            if let Held::Event { .. } = held {
                accepted.push(number);
            }
        }
        assert_eq!((accepted, stream.next(), stream.held_bytes()), (vec![1, 2, 5], 6, 0));
        assert!(!stream.give_up(3), "accepted");
    }

    #[test]
    fn what_was_dropped_for_want_of_room_is_refused_as_what_is_held() {
        let mut stream = stream();
        stream.offer(1, event(1, 7 << 20)).expect("within the window");
        assert!(stream.keeps(1));
        stream.offer(2, event(2, 20 << 20)).expect("within the window");
        assert!(!stream.keeps(2), "more bytes than the window has");
        assert_eq!(stream.last_of_each_way(), [Answers::batch_to(2)], "it speaks for what came before it");
        assert!(stream.give_up(3));
        stream.offer(4, event(4, 100)).expect("within the window");
        assert!(stream.keeps(4));
        assert_eq!(stream.last_of_each_way(), [2, 3].map(Answers::batch_to));
        assert!(stream.advance(3), "accepted elsewhere");
        assert_eq!(stream.last_of_each_way(), [Answers::batch_to(3)]);
        stream.drop_early();
        assert!(!stream.holds_early());
        assert_eq!(stream.last_of_each_way(), [Answers::Nothing]);
    }

    #[test]
    fn a_stream_of_which_nothing_was_kept_is_refused_as_well_until_it_is_asked_for_that_again() {
        for size in [1, LARGE + 1] {
            let mut stream = stream();
            let peer = Account::default();
            let mut other = InStream::new(some_stream(), NodeId::new(1), 1, Instant::now());
            other.comes_through(NodeId::new(1), peer.clone());
            other
                .offer(2, event(2, super::super::accounts::MOST_HELD_BYTES - POSITION_BYTES))
                .expect("within the window");
            assert!(other.keeps(2), "one may exceed it alone");
            stream.comes_through(NodeId::new(1), peer);
            stream.offer(1, event(1, size)).expect("within the window");
            assert!(!stream.keeps(1), "the peer has no room");
            assert!(stream.holds_early(), "{size} bytes");
            assert_eq!(stream.last_of_each_way(), [Answers::batch_to(1)], "{size} bytes");
            stream.asked();
            assert!(!stream.holds_early(), "it comes again");
        }
    }

    #[test]
    fn a_mark_set_elsewhere_passes_what_was_held_and_keeps_the_rest() {
        let mut stream = stream();
        for number in [2, 4, 6] {
            stream.offer(number, event(number, 100)).expect("within the window");
        }
        assert!(stream.advance(4));
        assert_eq!(stream.held_bytes(), 2 * (POSITION_BYTES + 100));
        assert_eq!(drain(&mut stream), [4]);
        assert!(stream.advance(20), "beyond all that is held");
        assert_eq!((stream.next(), stream.held_bytes()), (20, 0));
        stream.offer(20, event(20, 1)).expect("due");
        assert_eq!(drain(&mut stream), [20]);
    }
}
