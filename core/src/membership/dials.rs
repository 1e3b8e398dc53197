//! Which members a session is wanted with, and when the next attempt is due.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::identity::NodeId;

/// Attempts at a time.
const AT_ONCE: usize = 8;
/// Of two members that learn of each other the one with the smaller id dials; the other one only if nothing came of that.
const SECOND: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
struct Wish {
    failures: u32,
    state: Attempt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    At(Instant),
    UnderWay,
}

/// The wishes.
#[derive(Debug, Default)]
pub(super) struct Dials {
    wishes: BTreeMap<NodeId, Wish>,
}

impl Dials {
    /// A session with `node` is wanted; nothing changes if it was before.
    pub(super) fn want(&mut self, me: NodeId, node: NodeId, now: Instant) {
        let at = if me < node { now } else { now + SECOND };
        self.wishes.entry(node).or_insert(Wish { failures: 0, state: Attempt::At(at) });
    }

    /// Whether one is wanted, and no attempt has come to nothing.
    pub(super) fn is_hopeful(&self, node: NodeId) -> bool {
        self.wishes.get(&node).is_some_and(|wish| wish.failures == 0)
    }

    /// There is one, or nobody wants one any more.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.wishes.remove(&node);
    }

    /// An attempt came to nothing.
    pub(super) fn failed(&mut self, node: NodeId, now: Instant) {
        let Some(wish) = self.wishes.get_mut(&node).filter(|wish| wish.state == Attempt::UnderWay) else { return };
        wish.failures = wish.failures.saturating_add(1);
        let pause = FIRST_PAUSE.saturating_mul(1 << wish.failures.min(10)).min(LONGEST_PAUSE);
        wish.state = Attempt::At(now + pause);
    }

    fn under_way(&self) -> usize {
        self.wishes.values().filter(|wish| wish.state == Attempt::UnderWay).count()
    }

    /// When an attempt may begin.
    pub(super) fn next(&self) -> Option<Instant> {
        let next = self.wishes.values().filter_map(|wish| match wish.state {
            Attempt::At(at) => Some(at),
            Attempt::UnderWay => None,
        });
        next.min().filter(|_| self.under_way() < AT_ONCE)
    }

    /// Takes attempts that are due, as many as may be under way.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<NodeId> {
        let room = AT_ONCE.saturating_sub(self.under_way());
        let due = self.wishes.iter_mut().filter(|(_, wish)| matches!(wish.state, Attempt::At(at) if at <= now));
        due.take(room)
            .map(|(node, wish)| {
                wish.state = Attempt::UnderWay;
                *node
            })
            .collect()
    }
}
