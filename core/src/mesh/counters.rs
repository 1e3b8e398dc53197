//! What a node counts of the things it refuses.

use std::sync::atomic::{AtomicU64, Ordering};

/// Figures since the node was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeshCounters {
    /// Connections closed unread because too many handshakes were half done.
    pub half_open_refused: u64,
    /// Handshakes of others that failed: wrong keys, garbage, too slow.
    pub handshakes_failed: u64,
    /// Proven peers that were not given a session.
    pub peers_refused: u64,
    /// Sessions that ended other than by goodbye or replacement.
    pub sessions_broken: u64,
    /// Records that no handler is installed for.
    pub records_unhandled: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    half_open_refused: AtomicU64,
    handshakes_failed: AtomicU64,
    peers_refused: AtomicU64,
    sessions_broken: AtomicU64,
    records_unhandled: AtomicU64,
}

impl Counters {
    pub(super) fn count_half_open_refused(&self) {
        self.half_open_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_peer_refused(&self) {
        self.peers_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_session_broken(&self) {
        self.sessions_broken.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_unhandled(&self) {
        self.records_unhandled.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> MeshCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MeshCounters {
            half_open_refused: get(&self.half_open_refused),
            handshakes_failed: get(&self.handshakes_failed),
            peers_refused: get(&self.peers_refused),
            sessions_broken: get(&self.sessions_broken),
            records_unhandled: get(&self.records_unhandled),
        }
    }
}
