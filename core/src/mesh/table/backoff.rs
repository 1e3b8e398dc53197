//! When to dial again.

use std::time::Duration;

/// Exponential backoff with jitter from a generator that was seeded outside, so that a simulation repeats itself.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Longest wait before the second attempt.
    pub first: Duration,
    /// Longest wait at all.
    pub cap: Duration,
    state: u64,
}

impl Backoff {
    /// The usual times: a tenth of a second, doubling to half a minute.
    pub const fn new(seed: u64) -> Self {
        Self { first: Duration::from_millis(100), cap: Duration::from_secs(30), state: seed }
    }

    /// How long to wait after `failures` failed attempts in a row: between half and all of the doubled time.
    pub fn delay(&mut self, failures: u32) -> Duration {
        let whole = self.first.saturating_mul(1 << failures.min(20)).min(self.cap);
        let half = whole / 2;
        let span = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).saturating_add(1);
        half + Duration::from_micros(self.next() % span)
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014): spreads attempts, keeps no secret.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
