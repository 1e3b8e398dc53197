//! Daemons that have arrived lately, for peers that were told before what lives here: each hears of them in its own time.

use std::collections::{BTreeMap, VecDeque};

use crate::identity::{NodeId, OriginHash};

/// Most that are remembered.
const MOST: usize = 65_536;

/// What a peer is to hear next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// These.
    Some(Vec<OriginHash>),
    /// More than is remembered: everything that lives here, anew.
    Everything,
    /// Nothing.
    Nothing,
}

/// The last ones, numbered as they came, and how many each peer has heard of.
#[derive(Debug, Default)]
pub struct Newcomers {
    origins: VecDeque<OriginHash>,
    /// The number of the first.
    first: u64,
    heard: BTreeMap<NodeId, u64>,
}

impl Newcomers {
    /// One has arrived.
    pub fn push(&mut self, origin: OriginHash) {
        self.origins.push_back(origin);
        if self.origins.len() > MOST {
            self.origins.pop_front();
            self.first += 1;
        }
    }

    /// A peer hears otherwise of all that is here now.
    pub fn skip(&mut self, peer: NodeId) {
        let end = self.first + self.origins.len() as u64;
        self.heard.insert(peer, end);
    }

    /// A peer is gone.
    pub fn forget(&mut self, peer: NodeId) {
        self.heard.remove(&peer);
    }

    /// Takes what a peer is to hear next, so many at most.
    pub fn take(&mut self, peer: NodeId, most: usize) -> Next {
        let heard = self.heard.get(&peer).copied().unwrap_or(self.first);
        let Some(from) = heard.checked_sub(self.first).and_then(|from| usize::try_from(from).ok()) else {
            self.skip(peer);
            return Next::Everything;
        };
        let some: Vec<OriginHash> = self.origins.iter().skip(from).take(most).copied().collect();
        if some.is_empty() {
            return Next::Nothing;
        }
        self.heard.insert(peer, heard + some.len() as u64);
        Next::Some(some)
    }

    /// Forgets what all of these peers have heard, and what others had.
    pub fn forget_heard(&mut self, peers: &[NodeId]) {
        self.heard.retain(|peer, _| peers.contains(peer));
        let end = self.first + self.origins.len() as u64;
        let heard = peers.iter().map(|peer| self.heard.get(peer).copied().unwrap_or(self.first)).min().unwrap_or(end);
        while self.first < heard && self.origins.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Whether nobody is to hear anything.
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: NodeId = NodeId::new(1);
    const SLOW: NodeId = NodeId::new(2);

    fn some(range: std::ops::Range<u64>) -> Next {
        Next::Some(range.map(OriginHash::new).collect())
    }

    #[test]
    fn each_peer_hears_of_all_in_its_own_time() {
        let mut newcomers = Newcomers::default();
        newcomers.skip(SLOW);
        for origin in 0..5 {
            newcomers.push(OriginHash::new(origin));
        }
        assert_eq!(newcomers.take(QUICK, 3), some(0..3));
        assert_eq!(newcomers.take(QUICK, 3), some(3..5));
        assert_eq!(newcomers.take(QUICK, 3), Next::Nothing);
        newcomers.forget_heard(&[QUICK, SLOW]);
        assert_eq!(newcomers.take(SLOW, 9), some(0..5));
        newcomers.forget_heard(&[QUICK, SLOW]);
        assert!(newcomers.is_empty());
        newcomers.push(OriginHash::new(5));
        assert_eq!((newcomers.take(QUICK, 9), newcomers.take(SLOW, 9)), (some(5..6), some(5..6)));
    }

    #[test]
    fn who_is_too_slow_hears_of_everything_anew() {
        let mut newcomers = Newcomers::default();
        newcomers.skip(SLOW);
        for origin in 0..=MOST as u64 {
            newcomers.push(OriginHash::new(origin));
        }
        assert_eq!(newcomers.take(SLOW, 9), Next::Everything);
        assert_eq!(newcomers.take(SLOW, 9), Next::Nothing);
        newcomers.forget_heard(&[]);
        assert!(newcomers.is_empty() && newcomers.heard.is_empty());
    }
}
