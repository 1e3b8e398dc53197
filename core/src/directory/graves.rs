//! Lives of nodes that are proven to be over: a claim that names one of them names nobody. And nodes that fell silent, of
//! which nobody can say that.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::identity::{Incarnation, NodeId};

/// Most nodes that are remembered.
const MOST: usize = 4096;

/// The newest life of each node that has ended.
#[derive(Debug, Default)]
pub struct Graves {
    ended: HashMap<NodeId, Incarnation>,
    order: VecDeque<NodeId>,
    missing: HashMap<NodeId, Instant>,
}

impl Graves {
    /// A life of a node has ended, with all that it hosted.
    pub fn bury(&mut self, node: NodeId, life: Incarnation) {
        self.missing.remove(&node);
        if let Some(newest) = self.ended.get_mut(&node) {
            *newest = life.max(*newest);
        } else {
            self.ended.insert(node, life);
            self.order.push_back(node);
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }

    /// A node was given up because it was silent: it may live, and host whatever it hosted. Of too many, the one that was
    /// given up first is forgotten.
    pub fn miss(&mut self, node: NodeId, now: Instant) {
        self.missing.insert(node, now);
        if self.missing.len() > MOST
            && let Some(first) = self.missing.iter().min_by_key(|(node, at)| (**at, **node)).map(|(node, _)| *node)
        {
            self.missing.remove(&first);
        }
    }

    /// A node is there.
    pub fn seen(&mut self, node: NodeId) {
        self.missing.remove(&node);
    }

    /// Whether a node was given up and may be alive.
    pub fn misses(&self, node: NodeId) -> bool {
        self.missing.contains_key(&node)
    }

    /// Whether somebody who was given up may have got what was elsewhere at an instant: not who had been silent for as long as
    /// `hold` by then.
    pub fn misses_any_since(&self, instant: Instant, hold: Duration) -> bool {
        self.missing.values().any(|given_up| *given_up + hold > instant)
    }

    /// Whether that life of the node is over.
    pub fn holds(&self, node: NodeId, life: Incarnation) -> bool {
        self.ended.get(&node).is_some_and(|newest| life <= *newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn who_was_silent_for_long_before_cannot_have_got_what_came_to_be_since() {
        let (mut graves, now) = (Graves::default(), Instant::now());
        graves.miss(NodeId::new(1), now);
        assert!(graves.misses_any_since(now, HOLD), "it may have got it the moment before");
        assert!(graves.misses_any_since(now + HOLD - Duration::from_secs(1), HOLD));
        assert!(!graves.misses_any_since(now + HOLD, HOLD));
        graves.miss(NodeId::new(1), now + HOLD);
        assert!(graves.misses_any_since(now + HOLD, HOLD), "it was there in between");
        graves.seen(NodeId::new(1));
        assert!(!graves.misses_any_since(now, HOLD));
    }

    #[tokio::test]
    async fn of_too_many_the_newest_are_remembered() {
        let (mut graves, now) = (Graves::default(), Instant::now());
        for node in 0..2 * MOST as u64 {
            graves.miss(NodeId::new(node), now + Duration::from_millis(node));
        }
        assert_eq!(graves.missing.len(), MOST);
        assert!(!graves.missing.contains_key(&NodeId::new(0)));
        assert!(graves.missing.contains_key(&NodeId::new(2 * MOST as u64 - 1)));
    }

    #[tokio::test]
    async fn a_life_that_has_ended_ends_all_before_it_and_none_behind_it() {
        let (node, mut graves) = (NodeId::new(1), Graves::default());
        let life = |started_at_ms| Incarnation { started_at_ms, salt: 1 };
        assert!(!graves.holds(node, Incarnation::EARLIEST));
        graves.bury(node, life(5));
        assert!(graves.holds(node, Incarnation::EARLIEST) && graves.holds(node, life(5)));
        assert!(!graves.holds(node, life(6)) && !graves.holds(NodeId::new(2), life(1)));
        // News of an earlier end come late.
        graves.bury(node, life(3));
        assert!(graves.holds(node, life(5)), "what is dead stays dead");
    }

    #[test]
    fn of_so_many_nodes_at_most_is_their_end_remembered() {
        let (life, mut graves) = (Incarnation { started_at_ms: 5, salt: 1 }, Graves::default());
        for node in 0..=MOST as u64 {
            graves.bury(NodeId::new(node), life);
            graves.bury(NodeId::new(node), life);
        }
        assert_eq!((graves.ended.len(), graves.order.len()), (MOST, MOST));
        assert!(!graves.holds(NodeId::new(0), life) && graves.holds(NodeId::new(1), life));
    }

    #[tokio::test]
    async fn who_is_missed_is_missed_until_it_is_seen_or_its_end_is_known() {
        let (one, other, now) = (NodeId::new(1), NodeId::new(2), Instant::now());
        let mut graves = Graves::default();
        for node in [one, other] {
            assert!(!graves.misses(node));
            graves.miss(node, now);
            assert!(graves.misses(node));
        }
        graves.seen(one);
        graves.bury(other, Incarnation { started_at_ms: 5, salt: 1 });
        assert!(!graves.misses(one) && !graves.misses(other));
        assert!(!graves.misses_any_since(now, HOLD));
    }
}
