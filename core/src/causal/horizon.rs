//! What a daemon has observed of others.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{HorizonBloom, Sequence};
use crate::identity::OriginHash;

/// Most origins that a [`Horizon`] remembers.
pub const MAX_HORIZON_ORIGINS: usize = 4096;

/// How many are forgotten at once when it is full, so that the cost is spread over as many observations.
const EVICTED_AT_ONCE: usize = MAX_HORIZON_ORIGINS / 16;

/// Highest sequence observed of each origin.
///
/// Observing is O(1) and allocates only when an origin is new. The summary that links carry is a Bloom filter over the
/// *origins*: it changes only when an origin is new, so keeping it costs nothing per event. Sequences are exact in the
/// map, which travels whole in snapshots.
///
/// At most [`MAX_HORIZON_ORIGINS`]: a new one beyond that makes the horizon forget the sixteenth part that was observed
/// longest ago. The order of observations alone decides which, also after a move, because [`iter`](Self::iter) and the
/// snapshot keep that order.
#[derive(Clone, Debug, Default)]
pub struct Horizon {
    highest: HashMap<OriginHash, Observed, RandomState>,
    bloom: HorizonBloom,
    ticks: u64,
}

#[derive(Clone, Copy, Debug)]
struct Observed {
    sequence: Sequence,
    /// Which observation of this horizon it was, counted from 1.
    tick: u64,
}

impl Horizon {
    /// Nothing observed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that an event of `origin` with this sequence was seen. The higher sequence stays.
    #[inline]
    pub fn observe(&mut self, origin: OriginHash, sequence: Sequence) {
        self.ticks += 1;
        let tick = self.ticks;
        if let Some(observed) = self.highest.get_mut(&origin) {
            observed.sequence = observed.sequence.max(sequence);
            observed.tick = tick;
        } else {
            self.insert(origin, Observed { sequence, tick });
        }
    }

    /// Notes everything that another horizon has seen.
    pub fn merge(&mut self, other: &Self) {
        for (origin, sequence) in other.iter() {
            self.observe(origin, sequence);
        }
    }

    /// Highest sequence observed of an origin.
    pub fn get(&self, origin: OriginHash) -> Option<Sequence> {
        self.highest.get(&origin).map(|observed| observed.sequence)
    }

    /// The summary for a link.
    pub const fn summary(&self) -> HorizonBloom {
        self.bloom
    }

    /// Number of origins.
    pub fn len(&self) -> usize {
        self.highest.len()
    }

    /// Whether nothing was observed.
    pub fn is_empty(&self) -> bool {
        self.highest.is_empty()
    }

    /// All origins, the one observed longest ago first. Observing them in this order makes an equal horizon.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (OriginHash, Sequence)> + use<> {
        let mut all: Vec<_> = self.highest.iter().map(|(&origin, &observed)| (origin, observed)).collect();
        all.sort_unstable_by_key(|(_, observed)| observed.tick);
        all.into_iter().map(|(origin, observed)| (origin, observed.sequence))
    }

    #[cold]
    fn insert(&mut self, origin: OriginHash, observed: Observed) {
        if self.highest.len() >= MAX_HORIZON_ORIGINS {
            self.evict();
        }
        self.highest.insert(origin, observed);
        self.bloom = self.bloom.union(HorizonBloom::of(origin));
    }

    fn evict(&mut self) {
        let mut ticks: Vec<_> = self.highest.values().map(|observed| observed.tick).collect();
        let (_, &mut newest_evicted, _) = ticks.select_nth_unstable(EVICTED_AT_ONCE - 1);
        self.highest.retain(|_, observed| observed.tick > newest_evicted);
        self.bloom =
            self.highest.keys().fold(HorizonBloom::EMPTY, |bloom, &origin| bloom.union(HorizonBloom::of(origin)));
    }
}

/// Equal when the same was observed in the same order.
impl PartialEq for Horizon {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Horizon {}

impl FromIterator<(OriginHash, Sequence)> for Horizon {
    fn from_iter<T: IntoIterator<Item = (OriginHash, Sequence)>>(observations: T) -> Self {
        let mut horizon = Self::new();
        for (origin, sequence) in observations {
            horizon.observe(origin, sequence);
        }
        horizon
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn origin(value: u64) -> OriginHash {
        OriginHash::new(value)
    }

    fn seq(value: u64) -> Sequence {
        Sequence::new(value)
    }

    #[test]
    fn observe_and_merge_keep_the_maximum() {
        let mut horizon = Horizon::new();
        assert_eq!(horizon.summary(), HorizonBloom::EMPTY);
        horizon.observe(origin(1), seq(5));
        horizon.observe(origin(1), seq(3));
        assert_eq!(horizon.get(origin(1)), Some(seq(5)));
        let other: Horizon = [(origin(1), seq(4)), (origin(2), seq(0)), (origin(3), seq(9))].into_iter().collect();
        horizon.merge(&other);
        let all: Vec<_> = horizon.iter().collect();
        assert_eq!(all, [(origin(1), seq(5)), (origin(2), seq(0)), (origin(3), seq(9))]);
        assert!(horizon.summary().may_contain(origin(3)));
    }

    #[test]
    fn a_full_horizon_forgets_what_was_observed_longest_ago() {
        let mut horizon = Horizon::new();
        for value in 0..MAX_HORIZON_ORIGINS as u64 {
            horizon.observe(origin(value), seq(value));
        }
        horizon.observe(origin(0), seq(0));
        assert_eq!(horizon.len(), MAX_HORIZON_ORIGINS);
        horizon.observe(origin(u64::MAX), seq(1));
        assert_eq!(horizon.len(), MAX_HORIZON_ORIGINS - EVICTED_AT_ONCE + 1);
        assert_eq!(horizon.get(origin(0)), Some(seq(0)), "seen again meanwhile");
        let evicted = EVICTED_AT_ONCE as u64;
        assert_eq!(horizon.get(origin(evicted)), None);
        assert_eq!(horizon.get(origin(evicted + 1)), Some(seq(evicted + 1)));
        assert_eq!(horizon.get(origin(u64::MAX)), Some(seq(1)));
    }

    #[test]
    fn the_summary_forgets_with_the_map() {
        let mut horizon = Horizon::new();
        // Six bits that only the first, soon forgotten, origins use.
        horizon.observe(origin(63), seq(1));
        for value in 1..=MAX_HORIZON_ORIGINS as u64 {
            horizon.observe(origin(value << 18), seq(value));
        }
        assert_eq!(horizon.get(origin(63)), None);
        assert_eq!(horizon.summary(), HorizonBloom::of(origin(0)));
    }

    #[test]
    fn hazard_36_forgetting_is_the_same_after_a_copy_in_order() {
        let mut here = Horizon::new();
        for value in 0..MAX_HORIZON_ORIGINS as u64 {
            here.observe(origin(value.wrapping_mul(0x9e37_79b9_7f4a_7c15)), seq(value));
        }
        here.observe(origin(0), seq(7));
        let mut moved: Horizon = here.iter().collect();
        assert_eq!(here, moved);
        for horizon in [&mut here, &mut moved] {
            horizon.observe(origin(u64::MAX), seq(1));
        }
        assert_eq!(here, moved);
        assert_eq!(here.summary(), moved.summary());
    }

    proptest! {
        #[test]
        fn the_summary_is_that_of_the_map_and_bounds_hold(
            observations in proptest::collection::vec((0..9000u64, any::<u64>()), 0..9000)
        ) {
            let horizon: Horizon = observations.iter().map(|&(o, s)| (origin(o), seq(s))).collect();
            prop_assert!(horizon.len() <= MAX_HORIZON_ORIGINS);
            let bloom = horizon
                .iter()
                .fold(HorizonBloom::EMPTY, |bloom, (origin, _)| bloom.union(HorizonBloom::of(origin)));
            prop_assert_eq!(horizon.summary(), bloom);
        }

        #[test]
        fn merging_is_the_maximum_of_each_origin(
            left in proptest::collection::vec((0..20u64, any::<u64>()), 0..40),
            right in proptest::collection::vec((0..20u64, any::<u64>()), 0..40),
        ) {
            let of = |observations: &[(u64, u64)]| -> Horizon {
                observations.iter().map(|&(o, s)| (origin(o), seq(s))).collect()
            };
            let mut merged = of(&left);
            merged.merge(&of(&right));
            for value in 0..20 {
                let expected = left.iter().chain(&right).filter(|(o, _)| *o == value).map(|&(_, s)| seq(s)).max();
                prop_assert_eq!(merged.get(origin(value)), expected);
            }
        }
    }
}
