//! The queue groups of a channel: who is in them, and whose turn it is.

use std::collections::BTreeSet;
use std::collections::btree_map::{self, BTreeMap};

use super::Subscriber;
use super::feed::{GroupId, StreamId};
use super::{ChannelId, feed::Seat};
use crate::identity::NodeId;

/// A member of a group, and where it is.
pub(super) type Member = (NodeId, Subscriber);

/// The groups of one channel. None is empty.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_id: BTreeMap<GroupId, Group>,
    /// In how many of them each node has members.
    on_nodes: BTreeMap<NodeId, usize>,
    /// How often a message fell to a member of any group: the number of the last time.
    last: u64,
}

#[derive(Debug, Default)]
struct Group {
    members: BTreeSet<Member>,
    /// To whom the last message fell.
    turn: Option<Member>,
}

/// How well a message would be with a member; the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fitness {
    /// It gets it at once.
    Free,
    /// It would wait: for others before it, or for a connection.
    Waits,
    /// There is no room to wait.
    Full,
    /// It cannot get it.
    Unfit,
}

impl Groups {
    /// None yet; the numbers of what falls to members begin behind `last`.
    pub(super) const fn behind(last: u64) -> Self {
        Self { by_id: BTreeMap::new(), on_nodes: BTreeMap::new(), last }
    }

    pub(super) fn insert(&mut self, group: GroupId, member: Member) {
        if !self.is_on(group, member.0) {
            *self.on_nodes.entry(member.0).or_default() += 1;
        }
        self.by_id.entry(group).or_default().members.insert(member);
    }

    pub(super) fn remove(&mut self, group: GroupId, member: Member) {
        let Some(of) = self.by_id.get_mut(&group) else { return };
        if !of.members.remove(&member) {
            return;
        }
        if of.members.is_empty() {
            self.by_id.remove(&group);
        }
        if !self.is_on(group, member.0)
            && let btree_map::Entry::Occupied(mut count) = self.on_nodes.entry(member.0)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Whether a node has members in a group.
    pub(super) fn is_on(&self, group: GroupId, node: NodeId) -> bool {
        let of = self.by_id.get(&group);
        of.and_then(|of| of.members.range((node, Subscriber::Node)..).next()).is_some_and(|(at, _)| *at == node)
    }

    /// In how many groups a node has members.
    pub(super) fn count_on(&self, node: NodeId) -> usize {
        self.on_nodes.get(&node).copied().unwrap_or(0)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = GroupId> {
        self.by_id.keys().copied()
    }

    /// Whose turn it is: of those with whom a message would be best, the next one.
    pub(super) fn next(&self, group: GroupId, fitness: impl Fn(Member) -> Fitness) -> Option<Member> {
        let Group { members, turn } = self.by_id.get(&group)?;
        let behind = members.iter().filter(|member| Some(**member) > *turn);
        let around = members.iter().filter(|member| Some(**member) <= *turn);
        let mut best: Option<(Fitness, Member)> = None;
        for &member in behind.chain(around) {
            let found = fitness(member);
            if found == Fitness::Free {
                return Some(member);
            }
            if best.is_none_or(|(fitness, _)| found < fitness) {
                best = Some((found, member));
            }
        }
        best.map(|(_, member)| member)
    }

    /// A message falls to a member: gives the number that it has for it. These rise for every member, whatever becomes of it
    /// and its node, so what falls to another one later comes behind all that this one has.
    pub(super) fn falls_to(&mut self, group: GroupId, member: Member) -> u64 {
        if let Some(group) = self.by_id.get_mut(&group) {
            group.turn = Some(member);
        }
        self.last += 1;
        self.last
    }

    /// The last number that a message had for any member.
    pub(super) const fn last(&self) -> u64 {
        self.last
    }
}

/// The stream of a member.
pub(super) const fn stream_of(channel: ChannelId, group: GroupId, who: Subscriber) -> StreamId {
    Seat { group: Some(group), who }.stream(channel)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(1);

    fn member(node: u64) -> Member {
        (NodeId::new(node), Subscriber::Node)
    }

    fn three() -> Groups {
        let mut groups = Groups::default();
        (1..=3).for_each(|node| groups.insert(GROUP, member(node)));
        groups
    }

    fn turn(groups: &mut Groups, fitness: impl Fn(Member) -> Fitness) -> u64 {
        let next = groups.next(GROUP, fitness).expect("there are members");
        groups.falls_to(GROUP, next);
        next.0.get()
    }

    #[test]
    fn each_in_turn_also_when_members_come_and_go() {
        let mut groups = three();
        let turns =
            |groups: &mut Groups, count| -> Vec<_> { (0..count).map(|_| turn(groups, |_| Fitness::Free)).collect() };
        assert_eq!(turns(&mut groups, 4), [1, 2, 3, 1]);
        groups.remove(GROUP, member(2));
        assert_eq!(turns(&mut groups, 3), [3, 1, 3]);
        groups.insert(GROUP, member(2));
        assert_eq!(turns(&mut groups, 3), [1, 2, 3]);
        (1..=3).for_each(|node| groups.remove(GROUP, member(node)));
        assert_eq!(groups.next(GROUP, |_| Fitness::Free), None);
        assert_eq!(groups.ids().count(), 0);
    }

    #[test]
    fn in_how_many_groups_a_node_is_follows_its_members() {
        let one = NodeId::new(1);
        let daemon = (one, Subscriber::Daemon(crate::identity::EntityId::from_bytes([1; 32])));
        let mut groups = three();
        groups.insert(GROUP, daemon);
        groups.insert(GROUP, daemon);
        groups.insert(GroupId(2), daemon);
        assert_eq!((groups.count_on(one), groups.is_on(GROUP, one), groups.is_on(GroupId(3), one)), (2, true, false));
        groups.remove(GROUP, daemon);
        groups.remove(GROUP, daemon);
        assert_eq!((groups.count_on(one), groups.is_on(GROUP, one)), (2, true), "the node itself is a member");
        groups.remove(GROUP, member(1));
        groups.remove(GroupId(2), daemon);
        assert_eq!((groups.count_on(one), groups.is_on(GROUP, one)), (0, false));
        assert!(groups.on_nodes.len() == 2 && groups.is_on(GROUP, NodeId::new(2)));
    }

    #[test]
    fn who_would_have_it_wait_is_passed_over_while_another_is_free() {
        let mut groups = three();
        let busy = |busy: u64| move |(node, _): Member| if node.get() == busy { Fitness::Waits } else { Fitness::Free };
        assert_eq!((0..4).map(|_| turn(&mut groups, busy(1))).collect::<Vec<_>>(), [2, 3, 2, 3]);
        // Nobody is free: the best of them, in turn.
        let none = |(node, _): Member| if node.get() == 2 { Fitness::Full } else { Fitness::Waits };
        assert_eq!((0..4).map(|_| turn(&mut groups, none)).collect::<Vec<_>>(), [1, 3, 1, 3]);
    }
}
