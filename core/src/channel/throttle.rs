//! Peers that fail authorisation again and again are not listened to for a while.

use std::time::Duration;

use tokio::time::Instant;

/// Refused attempts in a row after which a peer is throttled.
pub const MAX_AUTH_FAILURES: u32 = 8;
/// For how long, and how long a refused attempt is remembered.
pub const THROTTLE: Duration = Duration::from_secs(30);

/// The refused attempts of one peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AuthThrottle {
    failures: u32,
    last: Option<Instant>,
}

impl AuthThrottle {
    /// Whether attempts are not looked at now. One that is not looked at does not prolong this.
    pub(super) fn is_closed(&mut self, now: Instant) -> bool {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) >= THROTTLE) {
            *self = Self::default();
        }
        self.failures >= MAX_AUTH_FAILURES
    }

    /// Whether there is anything to remember.
    pub(super) fn is_remembered(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < THROTTLE)
    }

    /// An attempt was refused.
    pub(super) fn refused(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.last = Some(now);
    }

    /// An attempt succeeded: all is forgotten.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirement_121_closes_after_repeated_failures_clears_on_success_and_with_time() {
        let start = Instant::now();
        let mut throttle = AuthThrottle::default();
        for _ in 1..MAX_AUTH_FAILURES {
            throttle.refused(start);
            assert!(!throttle.is_closed(start));
        }
        throttle.succeeded();
        for _ in 1..MAX_AUTH_FAILURES {
            throttle.refused(start);
            assert!(!throttle.is_closed(start), "success cleared what was before it");
        }
        throttle.refused(start);
        assert!(throttle.is_closed(start));
        assert!(throttle.is_closed(start + THROTTLE - Duration::from_millis(1)));
        assert!(!throttle.is_closed(start + THROTTLE));
        assert!(!throttle.is_closed(start), "it begins anew");
    }
}
