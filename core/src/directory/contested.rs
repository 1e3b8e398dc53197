//! Daemons of this node that others say to host as well, until those were shown its claims.
//!
//! Many may tell of one and the same: it is held once. Each teller has its own room, so nobody fills that of others, and for
//! what comes beyond it is remembered that something did: that teller is to tell it again once the rest is done.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::identity::{NodeId, OriginHash};

/// Most that is held of what one node told: about two megabytes.
const MOST_OF_ONE: usize = 65_536;

/// What one node told.
#[derive(Debug, Default)]
struct Told {
    held: usize,
    /// There was more.
    beyond: bool,
}

/// Who is to be shown which claims.
#[derive(Debug, Default)]
pub struct Contested {
    /// For each other host the daemons, and who told of them.
    by_host: BTreeMap<NodeId, BTreeMap<OriginHash, NodeId>>,
    told: BTreeMap<NodeId, Told>,
}

impl Contested {
    /// A node says that `host` hosts a daemon of this node.
    pub fn add(&mut self, teller: NodeId, host: NodeId, origin: OriginHash) {
        if self.by_host.get(&host).is_some_and(|daemons| daemons.contains_key(&origin)) {
            return;
        }
        let told = self.told.entry(teller).or_default();
        if told.held >= MOST_OF_ONE {
            told.beyond = true;
            return;
        }
        told.held += 1;
        self.by_host.entry(host).or_default().insert(origin, teller);
    }

    /// The next host behind that one, and around.
    pub fn next_host(&self, last: Option<NodeId>) -> Option<NodeId> {
        let behind = (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut hosts = self.by_host.range(behind).chain(&self.by_host).map(|(host, _)| *host);
        hosts.next()
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> usize {
        self.by_host.len()
    }

    /// A daemon that a host is to be shown the claim for.
    pub fn first(&self, host: NodeId) -> Option<OriginHash> {
        self.by_host.get(&host)?.first_key_value().map(|(origin, _)| *origin)
    }

    /// That claim was shown, or there is none.
    pub fn done(&mut self, host: NodeId, origin: OriginHash) {
        let Some(daemons) = self.by_host.get_mut(&host) else { return };
        let Some(teller) = daemons.remove(&origin) else { return };
        if daemons.is_empty() {
            self.by_host.remove(&host);
        }
        if let Some(told) = self.told.get_mut(&teller) {
            told.held -= 1;
            if told.held == 0 && !told.beyond {
                self.told.remove(&teller);
            }
        }
    }

    /// How much is held of what a node told.
    pub fn held_of(&self, teller: NodeId) -> usize {
        self.told.get(&teller).map_or(0, |told| told.held)
    }

    /// Takes those of whom all is done that is held, and who told more than that.
    pub fn take_beyond(&mut self) -> Vec<NodeId> {
        // Of whom nothing is held and who told no more is forgotten already.
        let over = |told: &Told| told.held == 0;
        let tellers = self.told.iter().filter(|(_, told)| over(told)).map(|(teller, _)| *teller).collect();
        self.told.retain(|_, told| !over(told));
        tellers
    }

    /// Whether nobody is to be shown anything.
    pub fn is_empty(&self) -> bool {
        self.by_host.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TELLER: NodeId = NodeId::new(1);
    const LIAR: NodeId = NodeId::new(2);
    const HOST: NodeId = NodeId::new(3);

    #[test]
    fn what_many_tell_is_held_once_and_who_tells_too_much_takes_no_room_of_others() {
        let mut contested = Contested::default();
        for _ in 0..3 {
            for origin in 0..2 * MOST_OF_ONE as u64 {
                contested.add(LIAR, HOST, OriginHash::new(origin));
            }
        }
        assert_eq!(contested.held_of(LIAR), MOST_OF_ONE);
        contested.add(TELLER, HOST, OriginHash::new(7));
        assert_eq!(contested.held_of(TELLER), 0, "it is known");
        contested.add(TELLER, HOST, OriginHash::new(u64::MAX));
        contested.add(TELLER, LIAR, OriginHash::new(7));
        assert_eq!(contested.held_of(TELLER), 2);
        assert_eq!(contested.take_beyond(), [], "not before the rest is done");
        while let Some(origin) = contested.first(HOST) {
            contested.done(HOST, origin);
        }
        assert_eq!(contested.held_of(TELLER), 1);
        assert_eq!(contested.take_beyond(), [LIAR], "it is to tell the others again");
        assert_eq!(contested.take_beyond(), []);
        contested.done(LIAR, OriginHash::new(7));
        assert!(contested.is_empty() && contested.told.is_empty());
    }

    #[test]
    fn every_host_has_its_turn() {
        let mut contested = Contested::default();
        for host in [5, 3, 9] {
            contested.add(TELLER, NodeId::new(host), OriginHash::new(1));
        }
        let mut last = None;
        let turns: Vec<u64> = (0..4)
            .map(|_| {
                last = contested.next_host(last);
                last.expect("there are three").get()
            })
            .collect();
        assert_eq!(turns, [3, 5, 9, 3]);
    }
}
