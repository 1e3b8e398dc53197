//! Arriving snapshots of all migrations to a node, within one budget of memory.
//!
//! A transfer reserves the whole length of its snapshot before its first chunk; reservations are granted whole and first
//! come, first served. So half-arrived states never fill the budget in a way that lets none of them finish. What is granted
//! counts until [`release`](SnapshotReassembler::release), also after the snapshot was handed out.
//!
//! The owner takes [`poll_event`](SnapshotReassembler::poll_event) until it is empty after each call.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::assembly::{Chunks, Content, Placement};
use super::chunk::{chunk_count, chunk_range};
use super::error::ReassembleError;
use super::layout::SnapshotDigest;
use crate::identity::{MigrationId, OriginHash};

/// Most transfers that wait or arrive at once, and most finished ones that are remembered.
pub const MAX_TRANSFERS: usize = 4096;

/// One migration of one daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransferKey {
    /// The daemon.
    pub origin: OriginHash,
    /// The migration.
    pub migration: MigrationId,
}

/// One attempt of a migration. Attempts never mix: a newer one evicts an older one, an older one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransferId {
    /// The migration.
    pub key: TransferKey,
    /// Which attempt.
    pub attempt: u32,
}

/// Answer to a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// Chunks may come.
    Granted,
    /// It stands in the queue; [`ReassemblerEvent::Granted`] follows.
    Waiting,
    /// It can never fit.
    TooLarge {
        /// What was asked for, in bytes.
        size: u64,
        /// The budget, in bytes.
        max: u64,
    },
}

/// What a chunk did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkOutcome {
    /// It was new; more are missing.
    Progress {
        /// Chunks that are here.
        received: u32,
        /// Chunks of the snapshot.
        total: u32,
    },
    /// It was here already; nothing changed.
    Duplicate,
    /// It was the last one. The bytes count against the budget until they are released.
    Complete {
        /// The encoded snapshot.
        snapshot: Bytes,
        /// Its digest, taken as it arrived. Means something only once the snapshot decodes.
        digest: SnapshotDigest,
    },
}

/// What happened to a transfer without a call for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReassemblerEvent {
    /// Its turn came: chunks may come.
    Granted(TransferId),
    /// Nothing was heard of it for too long: it is forgotten.
    Dropped(TransferId),
}

/// The arriving snapshots of a node: reservations, buffers, and what the owner still holds.
#[derive(Debug)]
pub struct SnapshotReassembler {
    budget: u64,
    silence: Duration,
    live_bytes: u64,
    transfers: HashMap<TransferKey, Transfer, RandomState>,
    /// Keys of transfers that wait, in order.
    queue: VecDeque<TransferKey>,
    /// Complete snapshots that the owner still has.
    held: HashMap<TransferId, u64, RandomState>,
    over: Finished,
    events: VecDeque<ReassemblerEvent>,
    swept_at: Option<Instant>,
}

#[derive(Debug)]
struct Transfer {
    attempt: u32,
    total_len: u64,
    heard_at: Instant,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    Waiting,
    Receiving(Buffer),
}

#[derive(Debug)]
struct Buffer {
    /// Chunks that were accepted.
    accepted: Chunks,
    /// Those that are in their places.
    content: Arc<Mutex<Content>>,
}

/// Newest attempt of each migration that is over; the oldest is forgotten when there are too many.
#[derive(Debug, Default)]
struct Finished {
    newest: HashMap<TransferKey, u32, RandomState>,
    order: VecDeque<TransferKey>,
}

impl SnapshotReassembler {
    /// Grants up to `budget` bytes, and forgets transfers of which nothing is heard for `silence`.
    pub fn new(budget: u64, silence: Duration) -> Self {
        Self {
            budget,
            silence,
            live_bytes: 0,
            transfers: HashMap::default(),
            queue: VecDeque::new(),
            held: HashMap::default(),
            over: Finished::default(),
            events: VecDeque::new(),
            swept_at: None,
        }
    }

    /// Asks for room for a snapshot of `total_len` bytes. Asking again is harmless; a newer attempt takes the place of an
    /// older one, also its place in the queue.
    pub fn reserve(&mut self, id: TransferId, total_len: u64, now: Instant) -> Result<Reservation, ReassembleError> {
        self.sweep_when_due(now);
        if total_len == 0 {
            return Err(ReassembleError::EmptyTotal);
        }
        self.over.admit(id)?;
        let full = self.transfers.len() >= MAX_TRANSFERS;
        let existing = self.transfers.get_mut(&id.key);
        if let Some(transfer) = &existing {
            if id.attempt < transfer.attempt {
                return Err(ReassembleError::Stale { attempt: id.attempt, newest: transfer.attempt });
            }
            if id.attempt == transfer.attempt && total_len != transfer.total_len {
                return Err(ReassembleError::LengthChanged { reserved: transfer.total_len, got: total_len });
            }
        }
        if total_len > self.budget || chunk_count(total_len).is_none() || usize::try_from(total_len).is_err() {
            return Ok(Reservation::TooLarge { size: total_len, max: self.budget });
        }
        let fresh = Transfer { attempt: id.attempt, total_len, heard_at: now, progress: Progress::Waiting };
        match existing {
            Some(transfer) if transfer.attempt == id.attempt => transfer.heard_at = now,
            Some(transfer) => {
                let older = std::mem::replace(transfer, fresh);
                if let Progress::Receiving(_) = older.progress {
                    self.live_bytes -= older.total_len;
                    self.queue.push_back(id.key);
                }
            }
            None if full => {
                return Err(ReassembleError::TooManyTransfers(MAX_TRANSFERS));
            }
            None => {
                self.transfers.insert(id.key, fresh);
                self.queue.push_back(id.key);
            }
        }
        self.grant(Some(id.key));
        Ok(match self.transfers.get(&id.key).map(|transfer| &transfer.progress) {
            Some(Progress::Receiving(_)) => Reservation::Granted,
            Some(Progress::Waiting) | None => Reservation::Waiting,
        })
    }

    /// Takes a chunk of a granted transfer, in any order, and puts it in its place. A refused chunk changes nothing.
    pub fn chunk(
        &mut self,
        id: TransferId,
        index: u32,
        total: u32,
        bytes: &[u8],
        now: Instant,
    ) -> Result<ChunkOutcome, ReassembleError> {
        let Some(placement) = self.accept(id, index, total, bytes.len(), now)? else {
            return Ok(ChunkOutcome::Duplicate);
        };
        let _whole = placement.place(bytes);
        Ok(match self.take_whole(id) {
            Some((snapshot, digest)) => ChunkOutcome::Complete { snapshot, digest },
            None => ChunkOutcome::Progress { received: self.accepted(id), total },
        })
    }

    /// The same in parts, for chunks that are put in their places elsewhere: room for this one, none when it was here
    /// before. When the last is placed, the snapshot is there for [`take_whole`](Self::take_whole).
    pub fn accept(
        &mut self,
        id: TransferId,
        index: u32,
        total: u32,
        len: usize,
        now: Instant,
    ) -> Result<Option<Placement>, ReassembleError> {
        let placement = self.make_room(id, index, total, len, now);
        self.sweep_when_due(now);
        placement
    }

    /// The snapshot and its digest, once all chunks are in their places. The bytes count against the budget until they are
    /// released.
    pub fn take_whole(&mut self, id: TransferId) -> Option<(Bytes, SnapshotDigest)> {
        let Entry::Occupied(entry) = self.transfers.entry(id.key) else { return None };
        let transfer = entry.get();
        let Progress::Receiving(buffer) = &transfer.progress else { return None };
        if transfer.attempt != id.attempt {
            return None;
        }
        let (bytes, digest) = buffer.content.lock().take()?;
        let total_len = transfer.total_len;
        entry.remove();
        self.held.insert(id, total_len);
        self.over.note(id);
        Some((bytes.into(), digest))
    }

    /// Something was heard of a transfer that neither reserved nor brought a chunk.
    pub fn touch(&mut self, id: TransferId, now: Instant) {
        if let Some(transfer) = self.transfers.get_mut(&id.key)
            && transfer.attempt == id.attempt
        {
            transfer.heard_at = now;
        }
    }

    /// Ends an attempt, whatever it has: its place in the queue, its buffer, or the complete snapshot whose bytes the owner
    /// has given up. Returns whether there was anything.
    pub fn release(&mut self, id: TransferId) -> bool {
        let freed = if let Some(len) = self.held.remove(&id) {
            self.live_bytes -= len;
            true
        } else {
            self.remove(id)
        };
        self.grant(None);
        freed
    }

    /// Forgets transfers of which nothing was heard for too long. Feeding does so too, now and then.
    pub fn sweep(&mut self, now: Instant) {
        self.swept_at = Some(now);
        let silent: Vec<_> = self
            .transfers
            .iter()
            .filter(|(_, transfer)| now.saturating_duration_since(transfer.heard_at) >= self.silence)
            .map(|(&key, transfer)| TransferId { key, attempt: transfer.attempt })
            .collect();
        for id in silent {
            self.remove(id);
            self.events.push_back(ReassemblerEvent::Dropped(id));
        }
        self.grant(None);
    }

    /// When [`sweep`](Self::sweep) has something to do, unless something is heard.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.transfers.values().map(|transfer| transfer.heard_at + self.silence).min()
    }

    /// What happened to transfers besides the one that was called for.
    pub fn poll_event(&mut self) -> Option<ReassemblerEvent> {
        self.events.pop_front()
    }

    /// Bytes granted and not released.
    pub const fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Transfers that wait or arrive.
    pub fn len(&self) -> usize {
        self.transfers.len()
    }

    /// Whether no transfer waits or arrives.
    pub fn is_empty(&self) -> bool {
        self.transfers.is_empty()
    }

    fn accepted(&self, id: TransferId) -> u32 {
        match self.transfers.get(&id.key).map(|transfer| &transfer.progress) {
            Some(Progress::Receiving(buffer)) => buffer.accepted.count(),
            Some(Progress::Waiting) | None => 0,
        }
    }

    fn make_room(
        &mut self,
        id: TransferId,
        index: u32,
        total: u32,
        len: usize,
        now: Instant,
    ) -> Result<Option<Placement>, ReassembleError> {
        let Entry::Occupied(mut entry) = self.transfers.entry(id.key) else {
            if self.held.contains_key(&id) {
                return Ok(None);
            }
            self.over.admit(id)?;
            return Err(ReassembleError::NotGranted);
        };
        let transfer = entry.get_mut();
        if id.attempt < transfer.attempt {
            return Err(ReassembleError::Stale { attempt: id.attempt, newest: transfer.attempt });
        }
        let total_len = transfer.total_len;
        let buffer = match &mut transfer.progress {
            Progress::Receiving(buffer) if id.attempt == transfer.attempt => buffer,
            Progress::Receiving(_) | Progress::Waiting => return Err(ReassembleError::NotGranted),
        };
        // Lengths of granted transfers have a chunk count.
        let expected = chunk_count(total_len).unwrap_or(0);
        if total != expected {
            return Err(ReassembleError::WrongTotal { expected, got: total });
        }
        if index >= total {
            return Err(ReassembleError::IndexOutOfRange { index, total });
        }
        let range = chunk_range(total_len, index);
        let expected = as_index(range.end - range.start);
        if len != expected {
            return Err(ReassembleError::WrongLength { expected, got: len });
        }
        transfer.heard_at = now;
        Ok(buffer.accepted.add(index).then(|| Placement::new(buffer.content.clone(), index)))
    }

    /// Grants from the head of the queue as far as the budget goes. `asking` learns it from its own call.
    fn grant(&mut self, asking: Option<TransferKey>) {
        while let Some(key) = self.queue.front().copied() {
            let Some(transfer) = self.transfers.get_mut(&key) else {
                self.queue.pop_front();
                continue;
            };
            if transfer.total_len > self.budget - self.live_bytes {
                return;
            }
            self.queue.pop_front();
            self.live_bytes += transfer.total_len;
            // Lengths of granted transfers have a chunk count.
            let content = Content::new(as_index(transfer.total_len), chunk_count(transfer.total_len).unwrap_or(0));
            let content = Arc::new(Mutex::new(content));
            transfer.progress = Progress::Receiving(Buffer { accepted: Chunks::default(), content });
            if asking != Some(key) {
                self.events.push_back(ReassemblerEvent::Granted(TransferId { key, attempt: transfer.attempt }));
            }
        }
    }

    /// Removes a transfer that waits or arrives; does not grant.
    fn remove(&mut self, id: TransferId) -> bool {
        let Entry::Occupied(entry) = self.transfers.entry(id.key) else { return false };
        if entry.get().attempt != id.attempt {
            return false;
        }
        let transfer = entry.remove();
        match transfer.progress {
            Progress::Waiting => self.queue.retain(|&key| key != id.key),
            Progress::Receiving(_) => self.live_bytes -= transfer.total_len,
        }
        self.over.note(id);
        true
    }

    fn sweep_when_due(&mut self, now: Instant) {
        let due = match self.swept_at {
            Some(at) => now.saturating_duration_since(at) >= self.silence / 4,
            None => true,
        };
        if due {
            self.sweep(now);
        }
    }
}

impl Finished {
    /// Refuses attempts that are over.
    fn admit(&self, id: TransferId) -> Result<(), ReassembleError> {
        match self.newest.get(&id.key) {
            Some(&newest) if id.attempt <= newest => Err(ReassembleError::Stale { attempt: id.attempt, newest }),
            Some(_) | None => Ok(()),
        }
    }

    fn note(&mut self, id: TransferId) {
        if self.newest.insert(id.key, id.attempt).is_none() {
            self.order.push_back(id.key);
        }
        if self.order.len() > MAX_TRANSFERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.newest.remove(&oldest);
        }
    }
}

/// Lengths were checked to fit when the room was reserved.
fn as_index(value: u64) -> usize {
    usize::try_from(value).expect("reserve refuses what memory cannot address")
}

#[cfg(test)]
#[path = "reassembler_tests.rs"]
mod tests;
