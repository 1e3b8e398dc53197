//! Who fails authorisation again and again is not listened to for a while.
//!
//! Attempts count for who presents: a node has many daemons, and a bad token of one says nothing of the others. Only a peer
//! that names presenters who prove nothing, or comes up with one after the other, is not listened to at all.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::identity::EntityId;

/// Refused attempts in a row after which a presenter is throttled.
pub const MAX_AUTH_FAILURES: u32 = 8;
/// For how long, and how long a refused attempt is remembered.
pub const THROTTLE: Duration = Duration::from_secs(30);
/// Throttled presenters of one peer after which it is throttled for all others too.
const MAX_PRESENTERS: usize = 64;
/// The same, of presenters that failed at all: so many are remembered.
const MAX_REMEMBERED: usize = 1024;

/// The refused attempts of one peer, by who presented; nobody is who did not prove to be the one that it named.
#[derive(Debug, Default)]
pub(super) struct AuthThrottle(BTreeMap<Option<EntityId>, Failures>);

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Failures {
    fn is_remembered(self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < THROTTLE
    }
}

impl AuthThrottle {
    /// Whether attempts of a presenter are not looked at now. One that is not looked at does not prolong this.
    pub(super) fn is_closed(&mut self, presenter: EntityId, now: Instant) -> bool {
        self.forget(now);
        let closed = |who| self.0.get(&who).map(|failures| failures.count >= MAX_AUTH_FAILURES);
        let too_many = || {
            let throttled = self.0.values().filter(|failures| failures.count >= MAX_AUTH_FAILURES);
            self.0.len() >= MAX_REMEMBERED || throttled.count() >= MAX_PRESENTERS
        };
        closed(None) == Some(true) || closed(Some(presenter)).unwrap_or_else(too_many)
    }

    /// Forgets what is long ago. Whether anything is left.
    pub(super) fn forget(&mut self, now: Instant) -> bool {
        self.0.retain(|_, failures| failures.is_remembered(now));
        !self.0.is_empty()
    }

    /// An attempt was refused; of nobody, when who presented proved nothing.
    pub(super) fn refused(&mut self, presenter: Option<EntityId>, now: Instant) {
        let failures = self.0.entry(presenter).or_insert(Failures { count: 0, last: now });
        *failures = Failures { count: failures.count.saturating_add(1), last: now };
    }

    /// An attempt succeeded: those before it are forgotten.
    pub(super) fn succeeded(&mut self, presenter: EntityId) {
        self.0.remove(&Some(presenter));
    }

    /// How many presenters are remembered.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: EntityId = EntityId::from_bytes([1; 32]);

    #[test]
    fn requirement_121_closes_after_repeated_failures_clears_on_success_and_with_time() {
        let start = Instant::now();
        let mut throttle = AuthThrottle::default();
        for _ in 1..MAX_AUTH_FAILURES {
            throttle.refused(Some(ONE), start);
            assert!(!throttle.is_closed(ONE, start));
        }
        throttle.succeeded(ONE);
        for _ in 1..MAX_AUTH_FAILURES {
            throttle.refused(Some(ONE), start);
            assert!(!throttle.is_closed(ONE, start), "success cleared what was before it");
        }
        throttle.refused(Some(ONE), start);
        assert!(throttle.is_closed(ONE, start));
        assert!(throttle.is_closed(ONE, start + THROTTLE - Duration::from_millis(1)));
        assert!(!throttle.is_closed(ONE, start + THROTTLE));
        assert!(!throttle.is_closed(ONE, start), "it begins anew");
    }

    #[test]
    fn others_are_not_concerned_unless_there_are_very_many() {
        let start = Instant::now();
        let mut throttle = AuthThrottle::default();
        for number in 0..MAX_PRESENTERS {
            let presenter = EntityId::from_bytes([u8::try_from(number).expect("few") + 2; 32]);
            assert!(!throttle.is_closed(ONE, start) && !throttle.is_closed(presenter, start));
            (0..MAX_AUTH_FAILURES).for_each(|_| throttle.refused(Some(presenter), start));
            assert!(throttle.is_closed(presenter, start));
        }
        assert!(throttle.is_closed(ONE, start), "it makes them up");
        let mut throttle = AuthThrottle::default();
        for number in 0..MAX_REMEMBERED {
            assert!(!throttle.is_closed(ONE, start), "each failed once");
            let mut name = [2; 32];
            name[..8].copy_from_slice(&number.to_le_bytes());
            throttle.refused(Some(EntityId::from_bytes(name)), start);
        }
        assert!(throttle.is_closed(ONE, start));
        assert!(!throttle.is_closed(ONE, start + THROTTLE) && throttle.len() == 0);
        (0..MAX_AUTH_FAILURES).for_each(|_| throttle.refused(None, start));
        assert!(throttle.is_closed(ONE, start), "it names whom it likes");
    }
}
