//! The newest reliable messages of a channel, kept for daemons that go on from another node.

use std::collections::VecDeque;

use bytes::Bytes;

use super::publishing::{Jobs, PublishId};
use crate::wire::channels::DataHead;

/// Messages that are kept after everybody has them.
const TAIL: usize = 1024;
/// Bytes of them.
const TAIL_BYTES: usize = 1024 * 1024;

/// Every message that somebody has yet to get, and a bounded tail of those that all have. Without daemons among the
/// subscribers nothing is kept.
#[derive(Debug, Default)]
pub(super) struct Ring {
    kept: Option<VecDeque<Recent>>,
    bytes: usize,
    /// The last one that is not kept.
    gone: u64,
}

/// A message that was published.
#[derive(Debug)]
pub(super) struct Recent {
    pub(super) head: DataHead,
    pub(super) payload: Bytes,
    pub(super) job: PublishId,
}

impl Ring {
    /// From here on messages are kept; `last` is the number of the newest one so far.
    pub(super) fn open(&mut self, last: u64) {
        if self.kept.is_none() {
            self.kept = Some(VecDeque::new());
            self.gone = last;
        }
    }

    /// A message was published.
    pub(super) fn push(&mut self, message: Recent) {
        if let Some(kept) = &mut self.kept {
            self.bytes += message.payload.len();
            kept.push_back(message);
        }
    }

    /// Lets go what nobody waits for and the tail has no room for.
    pub(super) fn trim(&mut self, jobs: &Jobs) {
        let Some(kept) = &mut self.kept else { return };
        while (kept.len() > TAIL || self.bytes > TAIL_BYTES)
            && kept.front().is_some_and(|oldest| !jobs.is_open(oldest.job))
            && let Some(oldest) = kept.pop_front()
        {
            self.bytes -= oldest.payload.len();
            self.gone = oldest.head.number;
        }
    }

    /// What comes behind a number, and the last number that is gone.
    pub(super) fn behind(&self, from: u64) -> (Vec<(DataHead, Bytes)>, u64) {
        let kept = self.kept.iter().flatten().filter(|message| message.head.number > from);
        (kept.map(|message| (message.head, message.payload.clone())).collect(), self.gone)
    }
}
