//! What nodes hold when nothing is under way any more.

use std::time::Duration;

use super::World;

/// Until whoever lives has acknowledged what it was answered.
const ACKNOWLEDGED: Duration = Duration::from_secs(5);
/// Longer than anything is kept for somebody who may be heard again: ten minutes, and ten more for the way that a stream took
/// until then, and what sweeps are late.
const FORGOTTEN: Duration = Duration::from_secs(1300);
/// Most moves of one daemon that a node remembers one driver to have called off.
const MOST_CALLED_OFF: usize = 8;

impl World {
    /// Whatever was under way has come to an end and left nothing behind on any node, but for what is kept for a while: see
    /// [`World::assert_all_forgotten`], which follows when the scenario is over.
    pub(crate) fn assert_nothing_left(&self) {
        self.came_to_rest.set(true);
        for index in 0..self.nodes.len() {
            self.assert_at_rest(index);
        }
    }

    fn assert_at_rest(&self, index: usize) {
        let node = &self.nodes[index];
        let census = node.engine.census();
        assert_eq!(census.migrations, 0, "n{index}: {:?}", node.engine.migrations());
        assert!(node.open.is_empty(), "n{index}: whoever watches hears every end, not of {:?}", node.open);
        assert_eq!(census.arriving_bytes, 0, "n{index} holds no arriving bytes");
        assert_eq!(census.state_bytes, 0, "n{index} holds no bytes of states");
        assert_eq!(census.held_bytes, 0, "n{index} holds no events for want of others, or of room");
        assert_eq!(census.outboxes, 0, "n{index} has published all outputs");
        assert_eq!(census.passing_bytes, 0, "n{index} holds nothing that it sends on");
        assert_eq!(census.daemons, node.objects.map.len(), "n{index}: one object for each daemon");
        assert!(self.may_refuse || census.refused_messages == 0, "n{index} refused nothing");
        // The word to begin may still be on its way; a driver that is lost, and a daemon that is gone, have none.
        let most = MOST_CALLED_OFF * census.daemons * (self.nodes.len() - 1);
        assert!(census.called_off <= most, "n{index} remembers {} moves that were called off", census.called_off);
        assert!(!node.engine.has_work(), "n{index} has no work");
        assert!(!node.engine.has_unsent_messages(), "n{index} has said everything");
        for (key, object) in &node.objects.map {
            let origin = object.origin;
            assert!(object.snapshot.is_none(), "n{index} holds no state of {origin}");
            if !object.hanging {
                assert!(object.working.is_none(), "n{index}: {origin} is at rest");
                let (_, waiting) = node.engine.stats(*key).expect("one daemon for each object");
                let bytes = node.engine.mailbox_bytes(*key);
                assert_eq!((waiting, bytes), (0, Some(0)), "n{index}: nothing waits for {origin}");
            }
        }
    }

    /// A scenario that came to rest is over: what was kept for a while goes by itself.
    pub(crate) fn assert_all_forgotten(&mut self) {
        if !self.came_to_rest.get() {
            return;
        }
        self.run_for(ACKNOWLEDGED);
        // A caller that was lost acknowledges nothing.
        if !self.was_any_lost() {
            for (index, node) in self.nodes.iter().enumerate() {
                assert_eq!(node.engine.census().kept_bytes, 0, "n{index} keeps no replies that arrived");
            }
        }
        self.run_for(FORGOTTEN);
        for (index, node) in self.nodes.iter().enumerate() {
            let census = node.engine.census();
            assert_eq!(census.kept_bytes, 0, "n{index} keeps replies for nobody");
            let streams = (census.streams_in, census.streams_out, census.streams_through);
            assert_eq!(streams, (0, 0, 0), "n{index} keeps streams that nobody uses");
            assert_eq!(census.pointers, 0, "n{index} remembers where daemons went");
        }
        self.assert_nothing_left();
    }
}
