//! How much bulk is on its way at a time: as much as keeps the way busy and no more.
//!
//! Whatever is on its way beyond that stands in a queue, in front of fast records too. Two frames are always allowed; more
//! by what was measured to arrive within the shortest time in which credit came back, which is the product of bandwidth and
//! delay. So a long way fills up to the receiver's window. A short one holds what arrives within half a millisecond: with
//! less, sender and receiver wake each other for every frame, which takes longer than the frame itself.
//!
//! On a short way it is less the queue than the processors that a bulk transfer keeps busy at both ends. While fast records
//! flow, only one frame is on its way there: then its sender and its receiver work in turns, and what is fast finds one idle.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::credit::CREDIT_QUANTUM;
use crate::wire::MAX_RECORD_BODY;

/// Bulk bytes that are always allowed on their way, within the window: two full frames.
pub const BULK_LEAST: u64 = 128 * 1024;
/// Bytes between two measurements.
const MARK_EVERY: u64 = 16 * 1024;
/// The shortest delay is looked for anew so often, because ways change.
const FORGET_AFTER: Duration = Duration::from_secs(10);
/// Fast records flow while the last one is not older than this.
const FAST_FOR: Duration = Duration::from_millis(5);
/// A way with a shorter delay is short. What arrives in this time may be on such a way while nothing fast flows.
const SHORT: Duration = Duration::from_micros(500);
/// Most that a short way holds beyond [`BULK_LEAST`], however fast it seems.
const SHORT_MOST: u64 = 768 * 1024;
/// Most bulk bytes of one write.
const BURST: u64 = 256 * 1024;
/// Allows one full frame on its way, and what the receiver holds back of the credit of others.
const ONE: u64 = CREDIT_QUANTUM + MAX_RECORD_BODY as u64;

const _: () = assert!(BULK_LEAST >= ONE, "credit held back for coalescing never keeps the next record from being sent");

/// The bulk that one sender has on its way.
#[derive(Debug)]
pub struct BulkPace {
    sent: u64,
    returned: u64,
    limit: u64,
    marks: VecDeque<Mark>,
    shortest: Option<Shortest>,
    fast_at: Option<Instant>,
}

/// A moment at which something was sent.
#[derive(Debug)]
struct Mark {
    at: Instant,
    sent: u64,
    returned: u64,
}

/// The shortest delay of late and of the time before that.
#[derive(Debug)]
struct Shortest {
    since: Instant,
    now: Duration,
    before: Duration,
}

impl BulkPace {
    /// Nothing is on its way.
    pub const fn new() -> Self {
        Self { sent: 0, returned: 0, limit: BULK_LEAST, marks: VecDeque::new(), shortest: None, fast_at: None }
    }

    /// Whether a record of any size may be sent.
    pub fn has_room(&self, now: Instant) -> bool {
        self.sent - self.returned + MAX_RECORD_BODY as u64 <= self.limit(now)
    }

    /// Bytes that may be on their way.
    pub fn limit(&self, now: Instant) -> u64 {
        let short = self.shortest.as_ref().is_some_and(|shortest| shortest.of_late() < SHORT);
        if short && self.fast_flows(now) { ONE } else { self.limit }
    }

    /// Bytes worth gathering for one write, the last frame included: while fast records flow, a single frame.
    pub fn burst(&self, now: Instant) -> u64 {
        if self.fast_flows(now) { 1 } else { (self.limit / 2).min(BURST) }
    }

    fn fast_flows(&self, now: Instant) -> bool {
        self.fast_at.is_some_and(|at| now.saturating_duration_since(at) <= FAST_FOR)
    }

    /// Fast records of some layer came from the peer: it and this node are in conversation.
    pub const fn fast(&mut self, now: Instant) {
        self.fast_at = Some(now);
    }

    /// Bodies leave.
    pub fn sent(&mut self, bytes: u64, now: Instant) {
        self.sent += bytes;
        if self.marks.back().is_none_or(|mark| self.sent - mark.sent >= MARK_EVERY) {
            self.marks.push_back(Mark { at: now, sent: self.sent, returned: self.returned });
        }
    }

    /// Their credit came back.
    pub fn returned(&mut self, bytes: u64, now: Instant) {
        self.returned = (self.returned + bytes).min(self.sent);
        let mut newest = None;
        while self.marks.front().is_some_and(|mark| mark.sent <= self.returned) {
            newest = self.marks.pop_front();
        }
        let Some(mark) = newest else { return };
        let delay = now.saturating_duration_since(mark.at).max(Duration::from_micros(1));
        let shortest = self.shortest(delay, now);
        let within = |time: Duration| {
            let bytes = u128::from(self.returned - mark.returned) * time.as_nanos() / delay.as_nanos();
            u64::try_from(bytes).unwrap_or(u64::MAX / 4)
        };
        let arrived = within(shortest);
        // A little above what was measured, so that it grows where there is more.
        let limit = BULK_LEAST + (arrived + arrived / 4).max(within(SHORT).min(SHORT_MOST));
        self.limit = limit.max(self.limit - self.limit / 16);
    }

    fn shortest(&mut self, delay: Duration, now: Instant) -> Duration {
        let shortest = self.shortest.get_or_insert(Shortest { since: now, now: delay, before: delay });
        if now.saturating_duration_since(shortest.since) > FORGET_AFTER {
            *shortest = Shortest { since: now, now: delay, before: shortest.now };
        }
        shortest.now = shortest.now.min(delay);
        shortest.of_late()
    }
}

impl Shortest {
    fn of_late(&self) -> Duration {
        self.now.min(self.before)
    }
}

impl Default for BulkPace {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: u64 = 61_440;

    /// Keeps a way busy that takes `delay` and passes a frame each `per_frame`; what the limit comes to.
    fn run(delay: Duration, per_frame: Duration, rounds: usize) -> u64 {
        let mut pace = BulkPace::new();
        let start = Instant::now();
        let (mut now, mut free_at) = (start, start);
        let mut coming = VecDeque::new();
        for _ in 0..rounds {
            while pace.has_room(now) {
                pace.sent(FRAME, now);
                free_at = free_at.max(now) + per_frame;
                coming.push_back(free_at + delay);
            }
            now = coming.pop_front().expect("two frames are always allowed");
            pace.returned(FRAME, now);
        }
        pace.limit(now)
    }

    #[test]
    fn requirement_fast_lane_a_short_way_holds_what_arrives_within_half_a_millisecond() {
        let limit = run(Duration::from_micros(60), Duration::from_micros(60), 10_000);
        assert!(limit <= BULK_LEAST + 9 * FRAME, "{limit} on a way of a frame each 60 µs");
        let limit = run(Duration::from_micros(60), Duration::from_micros(600), 10_000);
        assert!(limit <= BULK_LEAST + 2 * FRAME, "{limit} on a way of a frame each 600 µs");
    }

    #[test]
    fn a_long_way_fills() {
        // 20 ms at 1 GB/s hold 20 MB.
        let limit = run(Duration::from_millis(20), Duration::from_micros(61), 20_000);
        assert!(limit >= 8 * 1024 * 1024, "{limit} on a way of 20 MB");
    }

    #[test]
    fn a_way_that_became_slow_is_let_empty() {
        let mut pace = BulkPace::new();
        let start = Instant::now();
        let mut now = start;
        for _ in 0..100 {
            pace.sent(FRAME, now);
            now += Duration::from_micros(100);
            pace.returned(FRAME, now);
        }
        for _ in 0..100 {
            pace.sent(FRAME, now);
            now += Duration::from_millis(50);
            pace.returned(FRAME, now);
        }
        assert!(pace.limit(now) < BULK_LEAST + FRAME, "{}", pace.limit(now));
    }

    #[test]
    fn requirement_fast_lane_one_frame_is_on_a_short_way_while_fast_records_flow() {
        let mut pace = BulkPace::new();
        let mut now = Instant::now();
        for _ in 0..10 {
            pace.sent(FRAME, now);
            now += Duration::from_micros(80);
            pace.returned(FRAME, now);
        }
        pace.fast(now);
        assert!(pace.has_room(now));
        pace.sent(FRAME, now);
        assert!(!pace.has_room(now), "a second frame");
        now += FAST_FOR + Duration::from_micros(1);
        assert!(pace.has_room(now), "nothing fast came for a while");
    }
}
