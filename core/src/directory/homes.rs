//! Which nodes keep a daemon's address: up to three of the members, by rendezvous hashing.
//!
//! Every node that sees the same members computes the same homes, and a member that comes or goes moves only the addresses
//! that it takes or had.

use xxhash_rust::xxh3::xxh3_64;

use crate::identity::{NodeId, OriginHash};

/// Most homes of one address.
const HOMES: usize = 3;

/// The members that keep addresses, as one node sees them; none while that node takes no part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    nodes: Vec<NodeId>,
    name: ViewName,
}

/// Tells views apart: nodes that name the same view see the same members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewName(pub u64);

/// The homes of one address, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Homes {
    nodes: [NodeId; HOMES],
    len: u8,
}

impl Default for Homes {
    fn default() -> Self {
        Self { nodes: [NodeId::new(0); HOMES], len: 0 }
    }
}

impl Homes {
    /// The nodes.
    pub fn as_slice(&self) -> &[NodeId] {
        &self.nodes[..usize::from(self.len)]
    }

    /// Whether that node is one of them.
    pub fn contains(&self, node: NodeId) -> bool {
        self.as_slice().contains(&node)
    }

    /// The same without those that `keep` does not want.
    #[must_use]
    pub fn filtered(&self, mut keep: impl FnMut(NodeId) -> bool) -> Self {
        self.as_slice().iter().copied().filter(|node| keep(*node)).collect()
    }
}

impl FromIterator<NodeId> for Homes {
    /// Takes the first ones; more than there may be are left out.
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        let mut homes = Self::default();
        for (place, node) in homes.nodes.iter_mut().zip(nodes) {
            *place = node;
            homes.len += 1;
        }
        homes
    }
}

impl View {
    /// The view of these members.
    pub fn new(nodes: &[NodeId]) -> Self {
        let mut nodes = nodes.to_vec();
        nodes.sort_unstable();
        nodes.dedup();
        let bytes: Vec<u8> = nodes.iter().flat_map(|node| node.get().to_le_bytes()).collect();
        Self { name: ViewName(xxh3_64(&bytes)), nodes }
    }

    /// Its name.
    pub fn name(&self) -> ViewName {
        self.name
    }

    /// Its members, sorted.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Whether there is nobody in it.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether that node is a member.
    pub fn contains(&self, node: NodeId) -> bool {
        self.nodes.binary_search(&node).is_ok()
    }

    /// The homes of an address: the members with the highest scores.
    pub fn homes_of(&self, origin: OriginHash) -> Homes {
        let mut best = [(0, NodeId::new(0)); HOMES];
        for &node in &self.nodes {
            let mut candidate = (score(origin, node), node);
            for place in &mut best {
                if candidate > *place {
                    std::mem::swap(place, &mut candidate);
                }
            }
        }
        best.into_iter().map(|(_, node)| node).take(self.nodes.len()).collect()
    }
}

fn score(origin: OriginHash, node: NodeId) -> u64 {
    let mut both = [0; 16];
    both[..8].copy_from_slice(&origin.get().to_le_bytes());
    both[8..].copy_from_slice(&node.get().to_le_bytes());
    xxh3_64(&both)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(nodes: std::ops::Range<u64>) -> View {
        View::new(&nodes.map(|node| NodeId::new(xxh3_64(&node.to_le_bytes()))).collect::<Vec<_>>())
    }

    #[test]
    fn an_address_has_three_homes_or_as_many_as_there_are_members() {
        for (members, homes) in [(0, 0), (1, 1), (2, 2), (3, 3), (64, 3)] {
            let view = view(0..members);
            let found = view.homes_of(OriginHash::new(7));
            assert_eq!(found.as_slice().len(), homes);
            assert!(found.as_slice().iter().all(|node| view.contains(*node)));
        }
    }

    #[test]
    fn the_homes_are_spread_evenly_and_a_newcomer_moves_only_what_it_takes() {
        let (before, after) = (view(0..20), view(0..21));
        let newcomer = *after.nodes().iter().find(|node| !before.contains(**node)).expect("one came");
        let mut load = std::collections::HashMap::new();
        for origin in (0..10_000).map(|number: u64| OriginHash::new(xxh3_64(&number.to_be_bytes()))) {
            let (old, new) = (before.homes_of(origin), after.homes_of(origin));
            for node in old.as_slice() {
                *load.entry(*node).or_insert(0) += 1;
            }
            let moved = new.as_slice().iter().filter(|node| !old.contains(**node)).count();
            assert_eq!(moved, usize::from(new.contains(newcomer)));
        }
        assert!(load.values().all(|&count| (1_200..1_800).contains(&count)), "{load:?}");
    }

    #[test]
    fn a_view_is_named_by_its_members_in_whatever_order() {
        let nodes = [NodeId::new(3), NodeId::new(1), NodeId::new(2)];
        assert_eq!(View::new(&nodes), View::new(&[nodes[1], nodes[2], nodes[0]]));
        assert_ne!(View::new(&nodes).name(), View::new(&nodes[..2]).name());
    }
}
