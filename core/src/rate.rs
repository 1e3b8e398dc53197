//! How often something may happen.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket of tokens that is filled evenly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateLimit {
    most: f64,
    per_second: f64,
    left: f64,
    counted: Instant,
}

impl RateLimit {
    /// So many per second, and a second's worth of them at once.
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        Self::with_burst(per_second, per_second, now)
    }

    /// So many per second, which is more than none, and at first, or after a pause, so many at once.
    pub(crate) fn with_burst(burst: u32, per_second: u32, now: Instant) -> Self {
        let most = f64::from(burst);
        Self { most, per_second: f64::from(per_second), left: most, counted: now }
    }

    /// Takes one; false when there is no room for it now.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.counted).as_secs_f64();
        self.left = since.mul_add(self.per_second, self.left).min(self.most);
        self.counted = self.counted.max(now);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }

    /// When there is room for the next one.
    pub(crate) fn next(&self) -> Instant {
        let lacks = (1.0 - self.left).max(0.0) / self.per_second;
        // Rounded up: then there is room indeed.
        self.counted + Duration::from_secs_f64(lacks) + Duration::from_millis(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_45_as_many_at_once_as_in_a_second_then_evenly() {
        let start = Instant::now();
        let mut limit = RateLimit::new(4, start);
        assert!((0..4).all(|_| limit.admit(start)));
        assert!(!limit.admit(start));
        assert!(limit.admit(start + Duration::from_millis(250)));
        assert!(!limit.admit(start + Duration::from_millis(450)));
        assert!(limit.admit(start + Duration::from_millis(550)));
        let later = start + Duration::from_secs(100);
        assert_eq!((0..10).filter(|_| limit.admit(later)).count(), 4, "no more than a second's worth is saved");
    }

    #[test]
    fn it_says_when_there_is_room_again() {
        let mut now = Instant::now();
        let mut limit = RateLimit::with_burst(9, 7, now);
        assert_eq!((0..20).filter(|_| limit.admit(now)).count(), 9);
        for _ in 0..50 {
            assert!(!limit.admit(now));
            now = limit.next();
            assert!(limit.admit(now));
        }
    }
}
