//! How often revocations that are held may be replaced by later ones, for each peer that brings them.
//!
//! Whoever has a key can revoke with ever higher generations, and each of these would be verified and passed on by every node. So
//! beyond a rate a node only remembers whose revocation it passed over, and asks that peer for it when there is room: then it gets
//! the latest, whatever came before. Issuers wait in turn, so one who goes on and on holds up the others by one place.

use std::collections::{BTreeSet, VecDeque};

use tokio::time::Instant;

use crate::identity::EntityId;
use crate::rate::RateLimit;

/// Later revocations of one peer that are looked at when they come, after it was quiet for a while.
const BURST: u32 = 64;
/// So many more per second.
const PER_SECOND: u32 = 8;
/// Most issuers that wait.
const MAX_PUT_OFF: usize = 1024;

/// Those of one peer.
#[derive(Debug, Default)]
pub(super) struct Raises {
    /// None as long as there was nothing to count.
    rate: Option<RateLimit>,
    put_off: VecDeque<EntityId>,
    /// Whose were asked for and have not come: their place in the rate is taken.
    asked: BTreeSet<EntityId>,
}

/// When a revocation is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raise {
    /// At once.
    Now,
    /// It is asked for, not before this.
    Later(Instant),
    /// Too many wait.
    Never,
}

impl Raises {
    /// A later revocation of an issuer arrived.
    pub(super) fn admit(&mut self, issuer: EntityId, now: Instant) -> Raise {
        let rate = self.rate.get_or_insert_with(|| RateLimit::with_burst(BURST, PER_SECOND, now));
        if self.asked.remove(&issuer) || (self.put_off.is_empty() && rate.admit(now)) {
            return Raise::Now;
        }
        let later = Raise::Later(rate.next());
        if self.put_off.contains(&issuer) {
            return later;
        }
        if self.put_off.len() + self.asked.len() >= MAX_PUT_OFF {
            return Raise::Never;
        }
        self.put_off.push_back(issuer);
        later
    }

    /// Whose revocations are to be asked for now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<EntityId> {
        let mut due = Vec::new();
        while !self.put_off.is_empty() && self.rate.as_mut().is_some_and(|rate| rate.admit(now)) {
            due.extend(self.put_off.pop_front());
        }
        self.asked.extend(&due);
        due
    }

    /// When there are more.
    pub(super) fn next(&self) -> Option<Instant> {
        self.rate.filter(|_| !self.put_off.is_empty()).map(|rate| rate.next())
    }

    /// The peer has said what it holds of an issuer, and that is known.
    pub(super) fn answered(&mut self, issuer: EntityId) {
        self.asked.remove(&issuer);
    }

    /// A session begins: answers may be lost.
    pub(super) fn again(&mut self) {
        self.put_off.extend(std::mem::take(&mut self.asked));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issuer(number: u16) -> EntityId {
        let mut name = [0; 32];
        name[..2].copy_from_slice(&number.to_le_bytes());
        EntityId::from_bytes(name)
    }

    #[test]
    fn hazard_43_what_comes_too_often_is_asked_for_in_turn() {
        let start = Instant::now();
        let mut raises = Raises::default();
        assert!((0..BURST).all(|_| raises.admit(issuer(1), start) == Raise::Now));
        let Raise::Later(at) = raises.admit(issuer(1), start) else { panic!("too many") };
        for _ in 0..10 {
            assert!(matches!(raises.admit(issuer(1), start), Raise::Later(_)));
        }
        assert!(matches!(raises.admit(issuer(2), start), Raise::Later(_)));
        assert_eq!(raises.due(start), []);
        assert_eq!(raises.next(), Some(at));
        assert_eq!(raises.due(at), [issuer(1)]);
        assert_eq!(raises.admit(issuer(1), at), Raise::Now, "the answer has its place");
        assert!(matches!(raises.admit(issuer(1), at), Raise::Later(_)), "what follows waits behind the other one");
        let later = raises.next().expect("two wait");
        assert_eq!(raises.due(later), [issuer(2)]);
    }

    #[test]
    fn what_waits_is_bounded_and_asked_for_again_in_a_new_session() {
        let start = Instant::now();
        let mut raises = Raises::default();
        for number in 0..2_000 {
            raises.admit(issuer(number), start);
        }
        assert_eq!(raises.put_off.len(), MAX_PUT_OFF);
        assert_eq!(raises.admit(issuer(3_000), start), Raise::Never);
        let due = raises.due(raises.next().expect("many wait"));
        assert_eq!(raises.admit(issuer(3_000), start), Raise::Never, "whose answer is on the way counts");
        raises.again();
        assert_eq!((raises.put_off.len(), raises.put_off.back()), (MAX_PUT_OFF, due.last()));
        let due = raises.due(raises.next().expect("many wait"));
        for issuer in due {
            raises.answered(issuer);
        }
        assert!(matches!(raises.admit(issuer(3_000), start), Raise::Later(_)));
    }
}
