//! What is held for the streams of one peer: events for which something before them, or room in a mailbox, is missing, and
//! replies that it has not acknowledged.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use foldhash::fast::RandomState;

use crate::identity::NodeId;

/// Most bytes of events that are held for one peer, in all of its streams to all daemons.
pub const MOST_HELD_BYTES: usize = 64 * 1024 * 1024;
/// With so many bytes of replies kept for one peer, nothing more is accepted from its streams, and no call of theirs that was
/// accepted begins; but for those of its own for which little is kept.
pub const MOST_KEPT_BYTES: usize = 64 * 1024 * 1024;

/// The accounts of all peers.
#[derive(Debug, Default)]
pub struct Accounts {
    of: HashMap<NodeId, Account, RandomState>,
    /// One of them may have [`freed`](Sums::freed).
    freed: Arc<AtomicBool>,
}

impl Accounts {
    /// The account of a peer.
    pub fn of(&mut self, peer: NodeId) -> Account {
        let Self { of, freed } = self;
        let open = || Account(Arc::new(Sums { of_any: freed.clone(), ..Sums::default() }));
        of.entry(peer).or_insert_with(open).clone()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Forgets those that no stream is charged to.
    pub fn forget_unused(&mut self) {
        self.of.retain(|_, account| !account.is_unused());
    }

    /// Whether there is room again for replies to a peer, of which there were too many: in whatever way they went.
    pub fn has_freed(&self) -> bool {
        self.freed.load(Ordering::Relaxed)
    }

    /// Tells so once: the peers, in order.
    pub fn take_freed(&mut self) -> Vec<NodeId> {
        if !self.freed.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        let freed = self.of.iter().filter(|(_, account)| account.0.freed.swap(false, Ordering::Relaxed));
        let mut peers: Vec<NodeId> = freed.map(|(peer, _)| *peer).collect();
        peers.sort_unstable();
        peers
    }
}

/// The account of one peer.
#[derive(Clone, Debug, Default)]
pub struct Account(Arc<Sums>);

#[derive(Debug, Default)]
struct Sums {
    held: AtomicUsize,
    kept: AtomicUsize,
    /// There were too many replies, and still more than half of that.
    full: AtomicBool,
    /// It was full, and whoever waited for that does not know yet.
    freed: AtomicBool,
    of_any: Arc<AtomicBool>,
}

impl Account {
    /// The bytes of events that are held.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// The bytes of replies that are kept.
    pub fn kept(&self) -> usize {
        self.0.kept.load(Ordering::Relaxed)
    }

    /// Whether no stream is charged to it.
    fn is_unused(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Whether too many replies are kept: so from when there are, until half of them are gone.
    fn is_full(&self) -> bool {
        self.0.full.load(Ordering::Relaxed)
    }

    fn set_held(&self, bytes: usize) {
        self.0.held.store(bytes, Ordering::Relaxed);
    }

    fn set_kept(&self, bytes: usize) {
        self.0.kept.store(bytes, Ordering::Relaxed);
        if bytes >= MOST_KEPT_BYTES {
            self.0.full.store(true, Ordering::Relaxed);
        } else if bytes < MOST_KEPT_BYTES / 2 && self.0.full.swap(false, Ordering::Relaxed) {
            self.0.freed.store(true, Ordering::Relaxed);
            self.0.of_any.store(true, Ordering::Relaxed);
        }
    }
}

/// What is to be kept for the calls of a batch.
#[derive(Debug, Default)]
pub struct Expected {
    bytes: usize,
    exceptions: usize,
}

/// One stream's part of an account; given back when the stream ends.
#[derive(Debug, Default)]
pub(super) struct Charge {
    account: Account,
    held: usize,
    kept: usize,
}

impl Charge {
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    pub(super) const fn kept(&self) -> usize {
        self.kept
    }

    /// Changes the part of events; false, and no change, when that is more than one peer may have held.
    pub(super) fn hold(&mut self, bytes: usize) -> bool {
        let others = self.account.held() - self.held;
        if bytes > self.held && others + bytes > MOST_HELD_BYTES {
            return false;
        }
        self.account.set_held(others + bytes);
        self.held = bytes;
        true
    }

    /// Changes the part of replies: what was accepted is answered, however much that is.
    pub(super) fn keep(&mut self, bytes: usize) {
        self.account.set_kept(self.account.kept() - self.kept + bytes);
        self.kept = bytes;
    }

    /// Whether more replies may be kept.
    pub(super) fn may_keep(&self) -> bool {
        !self.account.is_full()
    }

    /// Whether a reply of about this size may be kept besides those that are expected; the first one always may.
    pub(super) fn may_expect(&self, expected: &mut Expected, bytes: usize) -> bool {
        let first = expected.bytes == 0 && expected.exceptions == 0;
        expected.bytes += bytes;
        if self.may_keep() {
            return first || self.account.kept() + expected.bytes < MOST_KEPT_BYTES;
        }
        expected.exceptions += 1;
        expected.exceptions == 1
    }

    /// Goes over to another account, also when that has too much then: what was held stays.
    pub(super) fn transfer(&mut self, to: Account) {
        let (held, kept) = (self.held, self.kept);
        self.give_back();
        to.set_held(to.held() + held);
        to.set_kept(to.kept() + kept);
        *self = Self { account: to, held, kept };
    }

    fn give_back(&mut self) {
        self.hold(0);
        self.keep(0);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charged_to(peer: &Account) -> Charge {
        let mut charge = Charge::default();
        charge.transfer(peer.clone());
        charge
    }

    #[test]
    fn requirement_bounds_a_peer_has_so_much_held_and_gets_it_back_when_streams_end() {
        let (peer, other) = (Account::default(), Account::default());
        let (mut one, mut two) = (charged_to(&peer), charged_to(&peer));
        assert!(one.hold(MOST_HELD_BYTES - 10));
        assert!(two.hold(10));
        assert!(!two.hold(11), "too much");
        assert!(one.hold(0));
        assert!(two.hold(11));
        assert_eq!(peer.held(), 11);
        two.transfer(other.clone());
        assert_eq!((peer.held(), other.held()), (0, 11));
        drop(two);
        assert_eq!(other.held(), 0);
        drop(one);
        assert!(peer.is_unused());
    }

    #[test]
    fn requirement_bounds_a_peer_with_too_many_replies_waits_until_half_of_them_are_gone() {
        let mut accounts = Accounts::default();
        let (peer, other) = (accounts.of(NodeId::new(1)), accounts.of(NodeId::new(2)));
        let (mut one, mut two) = (charged_to(&peer), charged_to(&peer));
        one.keep(MOST_KEPT_BYTES - 10);
        assert!(two.may_keep() && !accounts.has_freed());
        two.keep(30);
        assert_eq!(peer.kept(), MOST_KEPT_BYTES + 20);
        assert!(!one.may_keep() && !two.may_keep());
        one.keep(MOST_KEPT_BYTES / 2);
        assert!(!accounts.has_freed() && !two.may_keep(), "not for every reply that goes");
        one.transfer(other.clone());
        assert!(one.may_keep() && two.may_keep() && accounts.has_freed());
        assert_eq!(accounts.take_freed(), [NodeId::new(1)]);
        assert!(!accounts.has_freed() && accounts.take_freed().is_empty(), "once");
        drop((one, two));
        assert_eq!((peer.kept(), other.kept()), (0, 0));
        drop((peer, other));
        accounts.forget_unused();
        assert!(accounts.is_empty());
    }

    #[test]
    fn whoever_waits_for_room_for_replies_hears_of_it_in_whatever_way_they_go() {
        let mut accounts = Accounts::default();
        let peer = accounts.of(NodeId::new(1));
        let ways: [fn(Charge); 3] =
            [drop, |mut charge| charge.keep(0), |mut charge| charge.transfer(Account::default())];
        for goes in ways {
            let mut charge = charged_to(&peer);
            charge.keep(MOST_KEPT_BYTES);
            assert!(!charged_to(&peer).may_keep() && !accounts.has_freed());
            goes(charge);
            assert!(charged_to(&peer).may_keep());
            assert_eq!(accounts.take_freed(), [NodeId::new(1)]);
        }
    }
}
