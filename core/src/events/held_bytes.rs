//! What is held for the streams of one peer: events for which something before them, or room in a mailbox, is missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most bytes of events that are held for one peer, in all of its streams to all daemons.
pub const MOST_HELD_BYTES: usize = 64 * 1024 * 1024;

/// The account of one peer.
#[derive(Clone, Debug, Default)]
pub struct HeldBytes(Arc<AtomicUsize>);

impl HeldBytes {
    /// The bytes that are held.
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether no stream is charged to it.
    pub fn is_unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// One stream's part of an account; given back when the stream ends.
#[derive(Debug, Default)]
pub(super) struct Charge {
    account: HeldBytes,
    bytes: usize,
}

impl Charge {
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes the part; false, and no change, when that is more than one peer may have held.
    pub(super) fn set(&mut self, bytes: usize) -> bool {
        let others = self.account.get() - self.bytes;
        if bytes > self.bytes && others + bytes > MOST_HELD_BYTES {
            return false;
        }
        self.account.0.store(others + bytes, Ordering::Relaxed);
        self.bytes = bytes;
        true
    }

    /// Goes over to another account, also when that has too much then: what was held stays.
    pub(super) fn transfer(&mut self, to: HeldBytes) {
        let bytes = self.bytes;
        self.set(0);
        to.0.fetch_add(bytes, Ordering::Relaxed);
        (self.account, self.bytes) = (to, bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirement_bounds_a_peer_has_so_much_held_and_gets_it_back_when_streams_end() {
        let (peer, other) = (HeldBytes::default(), HeldBytes::default());
        let (mut one, mut two) = (Charge::default(), Charge::default());
        one.transfer(peer.clone());
        two.transfer(peer.clone());
        assert!(one.set(MOST_HELD_BYTES - 10));
        assert!(two.set(10));
        assert!(!two.set(11), "too much");
        assert!(one.set(0));
        assert!(two.set(11));
        assert_eq!(peer.get(), 11);
        two.transfer(other.clone());
        assert_eq!((peer.get(), other.get()), (0, 11));
        drop(two);
        assert_eq!(other.get(), 0);
        drop(one);
        assert!(peer.is_unused());
    }
}
