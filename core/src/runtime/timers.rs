//! Deadlines of the engine. A deadline may fire early: whoever set it looks again and sets the next one.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;
use tokio::time::Instant;

use crate::daemon::DaemonKey;
use crate::identity::{EntityId, OriginHash};

/// Whose deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum TimerKey {
    /// A daemon's events settle in time, or time out.
    Daemon(DaemonKey),
    /// Calls to a daemon complete in time, or time out.
    Route(OriginHash),
    /// Questions to the directory.
    Lookups,
    /// Questions to the embedder's policy.
    Questions,
    /// Naming this node's daemons to their homes.
    Placing,
    /// Comparing this node's daemons with those of peers that share no homes with it.
    Comparing,
    /// Finished replies and accepted events that were not told on the way.
    Acknowledge,
    /// This node's part as source.
    Departure(EntityId),
    /// This node's part as target.
    Arrival(EntityId),
    /// This node's part as orchestrator.
    Orchestration(OriginHash),
    /// Moving every daemon away.
    Drain,
    /// Outputs for channels that took nothing.
    Outputs,
    /// What is kept for a while: it runs as long as there is any.
    Sweep,
}

/// At most one deadline for each key.
#[derive(Debug, Default)]
pub(super) struct Timers {
    order: BTreeSet<(Instant, TimerKey)>,
    at: HashMap<TimerKey, Instant, RandomState>,
}

impl Timers {
    /// Sets a deadline, unless an earlier one is set.
    pub(super) fn arm(&mut self, key: TimerKey, at: Instant) {
        match self.at.get(&key) {
            Some(set) if *set <= at => {}
            Some(set) => {
                self.order.remove(&(*set, key));
                self.order.insert((at, key));
                self.at.insert(key, at);
            }
            None => {
                self.order.insert((at, key));
                self.at.insert(key, at);
            }
        }
    }

    /// Forgets a deadline.
    pub(super) fn disarm(&mut self, key: TimerKey) {
        if let Some(at) = self.at.remove(&key) {
            self.order.remove(&(at, key));
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes one that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<TimerKey> {
        let (at, key) = self.order.first().copied().filter(|(at, _)| *at <= now)?;
        self.order.remove(&(at, key));
        self.at.remove(&key);
        Some(key)
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.at.clear();
    }
}
