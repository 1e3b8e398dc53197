//! Daemons of this node that have to do with channels: with which, whose turn it is, and what is left of those that moved away.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use tokio::time::Instant;

use super::holding::Key;
use crate::identity::EntityId;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Daemons {
    taking: BTreeMap<EntityId, Taking>,
    /// Who left something behind, in the order in which that ends.
    ends: BTreeSet<(Instant, EntityId)>,
}

/// One of them.
#[derive(Debug, Default)]
struct Taking {
    present: BTreeSet<Key>,
    /// What it had when it moved away and has not asked for since.
    left_behind: BTreeSet<Key>,
    /// Until when its new host may come for that.
    ends: Option<Instant>,
    /// The channel that it took from last.
    turn: Option<Key>,
    /// It was told that there is something, and has not come to the end since.
    told: bool,
    /// Messages that it had no room for and that need no acknowledgement.
    dropped: u64,
}

impl Daemons {
    /// A daemon asks to come in.
    pub(super) fn joined(&mut self, daemon: EntityId, key: Key) {
        let taking = self.taking.entry(daemon).or_default();
        taking.left_behind.remove(&key);
        taking.present.insert(key);
        // Whoever was told may have been another life of it.
        taking.told = false;
        self.tidy(daemon);
    }

    /// It is out.
    pub(super) fn gone(&mut self, daemon: EntityId, key: Key) {
        if let Some(taking) = self.taking.get_mut(&daemon) {
            taking.left_behind.remove(&key);
            taking.present.remove(&key);
            self.tidy(daemon);
        }
    }

    /// It lives elsewhere now. What it has here is left behind, until then.
    pub(super) fn moved_on(&mut self, daemon: EntityId, until: Instant) {
        let Some(taking) = self.taking.get_mut(&daemon) else { return };
        taking.left_behind.append(&mut taking.present);
        if let Some(before) = taking.ends.replace(until) {
            self.ends.remove(&(before, daemon));
        }
        self.ends.insert((until, daemon));
    }

    /// All that a daemon has to do with here. Nothing of it counts as left behind any more.
    pub(super) fn take_all(&mut self, daemon: EntityId) -> Vec<Key> {
        self.take_left_behind(daemon);
        self.present(daemon).collect()
    }

    /// A daemon whose new host did not come by now for what it left behind, and that.
    pub(super) fn take_forgotten(&mut self, now: Instant) -> Option<(EntityId, Vec<Key>)> {
        let (_, daemon) = *self.ends.first().filter(|(until, _)| *until <= now)?;
        Some((daemon, self.take_left_behind(daemon)))
    }

    fn take_left_behind(&mut self, daemon: EntityId) -> Vec<Key> {
        let Some(taking) = self.taking.get_mut(&daemon) else { return Vec::new() };
        let keys: Vec<_> = std::mem::take(&mut taking.left_behind).into_iter().collect();
        taking.present.extend(&keys);
        self.tidy(daemon);
        keys
    }

    /// A daemon may have left nothing behind any more, or have nothing at all.
    fn tidy(&mut self, daemon: EntityId) {
        let Some(taking) = self.taking.get_mut(&daemon).filter(|taking| taking.left_behind.is_empty()) else { return };
        if let Some(until) = taking.ends.take() {
            self.ends.remove(&(until, daemon));
        }
        if taking.present.is_empty() {
            self.taking.remove(&daemon);
        }
    }

    /// When the next of them is forgotten.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// Whether a daemon had this here when it moved away, and has not asked for it since.
    pub(super) fn has_moved(&self, daemon: EntityId, key: Key) -> bool {
        self.taking.get(&daemon).is_some_and(|taking| taking.left_behind.contains(&key))
    }

    /// What it has to do with here.
    pub(super) fn present(&self, daemon: EntityId) -> impl Iterator<Item = Key> {
        self.taking.get(&daemon).into_iter().flat_map(|taking| &taking.present).copied()
    }

    /// The same, beginning behind what it took from last.
    pub(super) fn in_turn(&self, daemon: EntityId) -> impl Iterator<Item = Key> {
        self.taking.get(&daemon).into_iter().flat_map(|taking| {
            let behind = taking.turn.map_or(Bound::Unbounded, Bound::Excluded);
            let around = taking.turn.into_iter().flat_map(|turn| taking.present.range(..=turn));
            taking.present.range((behind, Bound::Unbounded)).chain(around).copied()
        })
    }

    /// It took from this.
    pub(super) fn took(&mut self, daemon: EntityId, key: Key) {
        if let Some(taking) = self.taking.get_mut(&daemon) {
            taking.turn = Some(key);
        }
    }

    /// There may be something for a daemon: whether it has to be told.
    pub(super) fn ready(&mut self, daemon: EntityId) -> bool {
        let taking = self.taking.get_mut(&daemon).filter(|taking| !taking.present.is_empty());
        taking.is_some_and(|taking| !std::mem::replace(&mut taking.told, true))
    }

    /// It found nothing more.
    pub(super) fn found_nothing(&mut self, daemon: EntityId) {
        if let Some(taking) = self.taking.get_mut(&daemon) {
            taking.told = false;
        }
    }

    /// It had no room for a message that needs no acknowledgement.
    pub(super) fn dropped(&mut self, daemon: EntityId) {
        if let Some(taking) = self.taking.get_mut(&daemon) {
            taking.dropped += 1;
        }
    }

    /// How many these were.
    pub(super) fn dropped_for(&self, daemon: EntityId) -> u64 {
        self.taking.get(&daemon).map_or(0, |taking| taking.dropped)
    }
}
