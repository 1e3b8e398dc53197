//! How many handshakes may be half done.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::identity::NodeId;

/// Half-open handshakes on one node.
const TOTAL: usize = 256;
/// Half-open handshakes from one address, or through one relay.
const PER_ADDRESS: usize = 64;

/// Counts handshakes that are under way.
#[derive(Clone, Debug, Default)]
pub(super) struct HalfOpen {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_origin: HashMap<Origin, usize>,
}

/// Where a handshake comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    Address(IpAddr),
    Relay(NodeId),
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

impl From<NodeId> for Origin {
    fn from(relay: NodeId) -> Self {
        Self::Relay(relay)
    }
}

/// One handshake under way; counted until dropped.
#[derive(Debug)]
pub(super) struct Permit {
    counts: Arc<Mutex<Counts>>,
    origin: Origin,
}

impl HalfOpen {
    /// Room for one more from `origin`, if there is.
    pub(super) fn begin(&self, origin: impl Into<Origin>) -> Option<Permit> {
        let origin = origin.into();
        let mut counts = self.counts.lock();
        if counts.total >= TOTAL || counts.by_origin.get(&origin).is_some_and(|&count| count >= PER_ADDRESS) {
            return None;
        }
        counts.total += 1;
        *counts.by_origin.entry(origin).or_default() += 1;
        Some(Permit { counts: self.counts.clone(), origin })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        counts.total -= 1;
        if let Some(count) = counts.by_origin.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                counts.by_origin.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_open_handshakes_are_limited_per_address_and_in_total() {
        let limits = HalfOpen::default();
        let one = IpAddr::from([10, 0, 0, 1]);
        let mut held: Vec<_> = (0..PER_ADDRESS).map(|_| limits.begin(one).expect("below the limit")).collect();
        assert!(limits.begin(one).is_none());
        for last in 2..=4 {
            held.extend((0..PER_ADDRESS).map(|_| limits.begin(IpAddr::from([10, 0, 0, last])).expect("below both")));
        }
        assert_eq!(held.len(), TOTAL);
        assert!(limits.begin(IpAddr::from([10, 0, 0, 9])).is_none());
        drop(held);
        assert!(limits.begin(one).is_some());
        assert!(limits.counts.lock().by_origin.is_empty());
    }
}
