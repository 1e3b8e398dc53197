//! How many messages per second a channel lets through.

use tokio::time::Instant;

/// A bucket that holds one second's worth of messages and is filled evenly.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateLimit {
    per_second: f64,
    left: f64,
    counted: Instant,
}

impl RateLimit {
    /// At most `per_second` messages, which may come at once.
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, left: per_second, counted: now }
    }

    /// Takes one message; false when there is no room for it now.
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.counted).as_secs_f64();
        self.left = since.mul_add(self.per_second, self.left).min(self.per_second);
        self.counted = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
}
