//! What a home node keeps: which nodes say that they host which daemons.
//!
//! An entry is the word of a node about itself, given in its own session, and unsigned: whoever looks a daemon up asks the
//! named node for its signed claim and believes nothing else. So a node can at most have others ask it in vain, and a
//! spawn wait for an answer that never comes.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use super::homes::ViewName;
use crate::identity::{NodeId, OriginHash};

/// Most daemons of one host.
const PER_HOST: usize = 1 << 20;
/// Most daemons in all, counted once for each host. Of one daemon all hosts are remembered: there are more than one only while
/// copies are being sorted out, and whoever was left out could begin another copy unseen.
const MOST: usize = 1 << 22;

/// The table of one home node.
#[derive(Debug, Default)]
pub struct Hosts {
    /// The first host of each.
    first: HashMap<OriginHash, NodeId, RandomState>,
    /// The others, of the few that have more.
    more: HashMap<OriginHash, Vec<NodeId>>,
    /// What each host named: so naming all anew costs it as much as it named before, whatever others did.
    named: HashMap<NodeId, HashSet<OriginHash, RandomState>>,
    entries: usize,
    /// Nodes that have named all their daemons for that view, and name every new one before it lives.
    settled: HashMap<NodeId, ViewName>,
    /// Nodes that named daemons for which there was no room: they are not settled before they name all anew.
    incomplete: HashSet<NodeId>,
    /// Nodes that were warned of since all their daemons were remembered: each of them once, however often it names them.
    warned: HashSet<NodeId>,
}

/// There is no room for another entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Hosts {
    /// A node hosts a daemon, or is about to. One of whose daemons not all can be remembered is not settled any more.
    pub fn add(&mut self, host: NodeId, origin: OriginHash) -> Result<(), Full> {
        let named = self.named.get(&host);
        if named.is_some_and(|named| named.contains(&origin)) {
            return Ok(());
        }
        if named.map_or(0, HashSet::len) >= PER_HOST || self.entries >= MOST {
            self.settled.remove(&host);
            self.incomplete.insert(host);
            if self.warned.insert(host) {
                tracing::warn!(
                    %host,
                    "no room to remember all daemons of a node: whoever looks for a daemon that nobody is known to host hears \
                     that there may be one"
                );
            }
            return Err(Full);
        }
        match self.first.entry(origin) {
            Entry::Vacant(vacant) => {
                vacant.insert(host);
            }
            Entry::Occupied(_) => self.more.entry(origin).or_default().push(host),
        }
        self.named.entry(host).or_default().insert(origin);
        self.entries += 1;
        Ok(())
    }

    /// A node does not host a daemon any more.
    pub fn remove(&mut self, host: NodeId, origin: OriginHash) {
        let Some(named) = self.named.get_mut(&host) else { return };
        if named.remove(&origin) {
            if named.is_empty() {
                self.named.remove(&host);
            }
            self.take_out(host, origin);
        }
    }

    fn take_out(&mut self, host: NodeId, origin: OriginHash) {
        let Some(first) = self.first.get_mut(&origin) else { return };
        if *first == host {
            match self.more.get_mut(&origin).and_then(Vec::pop) {
                Some(next) => *first = next,
                None => {
                    self.first.remove(&origin);
                }
            }
        } else if let Some(more) = self.more.get_mut(&origin) {
            more.retain(|&node| node != host);
        }
        if self.more.get(&origin).is_some_and(Vec::is_empty) {
            self.more.remove(&origin);
        }
        self.entries -= 1;
    }

    /// A node is gone: nothing that it named counts any more.
    pub fn forget(&mut self, host: NodeId) {
        self.begin_anew(host);
        self.warned.remove(&host);
    }

    /// A node is about to name all its daemons anew: nothing that it named before counts any more.
    pub fn begin_anew(&mut self, host: NodeId) {
        self.settled.remove(&host);
        self.incomplete.remove(&host);
        for origin in self.named.remove(&host).unwrap_or_default() {
            self.take_out(host, origin);
        }
        if self.first.is_empty() {
            self.first.shrink_to_fit();
        }
    }

    /// A node has named all its daemons for a view.
    pub fn settle(&mut self, host: NodeId, view: ViewName) {
        if !self.incomplete.contains(&host) {
            self.warned.remove(&host);
            self.settled.insert(host, view);
        }
    }

    /// The session with a node broke: it may host what it could not name.
    pub fn unsettle(&mut self, host: NodeId) {
        self.settled.remove(&host);
    }

    /// Whether that node has named all its daemons for that view.
    pub fn is_settled(&self, host: NodeId, view: ViewName) -> bool {
        self.settled.get(&host) == Some(&view)
    }

    /// Who says to host a daemon.
    pub fn of(&self, origin: OriginHash) -> impl Iterator<Item = NodeId> {
        let first = self.first.get(&origin).copied();
        first.into_iter().chain(self.more.get(&origin).into_iter().flatten().copied())
    }

    /// How many daemons are known.
    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId::new(1);
    const OTHER: NodeId = NodeId::new(2);
    const ORIGIN: OriginHash = OriginHash::new(7);

    fn of(hosts: &Hosts) -> Vec<NodeId> {
        hosts.of(ORIGIN).collect()
    }

    #[test]
    fn rivals_are_both_remembered_until_one_withdraws_or_leaves() {
        let mut hosts = Hosts::default();
        assert_eq!(hosts.add(ONE, ORIGIN), Ok(()));
        assert_eq!(hosts.add(OTHER, ORIGIN), Ok(()));
        assert_eq!(hosts.add(ONE, ORIGIN), Ok(()), "known");
        assert_eq!(of(&hosts), [ONE, OTHER]);
        hosts.remove(ONE, ORIGIN);
        hosts.remove(ONE, ORIGIN);
        assert_eq!(of(&hosts), [OTHER]);
        hosts.add(ONE, ORIGIN).expect("room");
        hosts.forget(OTHER);
        assert_eq!(of(&hosts), [ONE]);
        hosts.forget(ONE);
        assert!(hosts.is_empty() && hosts.more.is_empty() && hosts.named.is_empty());
    }

    #[test]
    fn of_one_daemon_all_hosts_are_remembered_and_every_entry_counts() {
        let mut hosts = Hosts::default();
        for node in 0..100 {
            hosts.add(NodeId::new(node), ORIGIN).expect("room");
        }
        assert_eq!((of(&hosts).len(), hosts.entries), (100, 100));
        hosts.remove(NodeId::new(50), ORIGIN);
        hosts.remove(NodeId::new(50), ORIGIN);
        hosts.forget(NodeId::new(0));
        hosts.forget(NodeId::new(0));
        assert_eq!((of(&hosts).len(), hosts.entries), (98, 98));
        for node in 0..100 {
            hosts.forget(NodeId::new(node));
        }
        assert_eq!(hosts.entries, 0);
    }

    #[test]
    fn nobody_can_fill_the_table() {
        let mut hosts = Hosts::default();
        let room =
            (0..2 * PER_HOST as u64).take_while(|origin| hosts.add(ONE, OriginHash::new(*origin)).is_ok()).count();
        assert_eq!(room, PER_HOST);
        assert_eq!(hosts.add(OTHER, ORIGIN), Ok(()), "others have their own room");
    }

    #[test]
    fn a_node_that_could_not_be_remembered_whole_is_not_settled_until_it_names_its_daemons_anew() {
        let view = ViewName(1);
        let mut hosts = Hosts::default();
        hosts.add(ONE, ORIGIN).expect("room");
        hosts.settle(ONE, view);
        // As if others had filled the rest.
        hosts.entries = MOST;
        assert_eq!(hosts.add(ONE, ORIGIN), Ok(()), "known");
        assert!(hosts.is_settled(ONE, view));
        for (host, origin) in [(ONE, OriginHash::new(8)), (OTHER, ORIGIN)] {
            assert_eq!(hosts.add(host, origin), Err(Full));
            assert!(!hosts.is_settled(host, view));
            hosts.settle(host, view);
            assert!(!hosts.is_settled(host, view), "it has a daemon that is not known");
        }
        hosts.entries = 1;
        hosts.unsettle(ONE);
        hosts.settle(ONE, view);
        assert!(!hosts.is_settled(ONE, view), "there is room now, and what was refused was not named again");
        for host in [ONE, OTHER] {
            hosts.begin_anew(host);
            assert_eq!(hosts.add(host, ORIGIN), Ok(()));
            hosts.settle(host, view);
            assert!(hosts.is_settled(host, view));
        }
    }

    #[test]
    fn a_node_is_settled_for_the_view_that_it_named_last_and_until_its_session_breaks() {
        let mut hosts = Hosts::default();
        hosts.settle(ONE, ViewName(1));
        hosts.settle(ONE, ViewName(2));
        assert!(hosts.is_settled(ONE, ViewName(2)) && !hosts.is_settled(ONE, ViewName(1)));
        hosts.unsettle(ONE);
        assert!(!hosts.is_settled(ONE, ViewName(2)));
    }
}
