//! Arriving snapshots: whole reservations, then chunks filled in at their places.
//!
//! A state is granted room for all of it before its first chunk, first come first served, so that half-arrived states can
//! never fill the budget such that none of them finishes.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::SNAPSHOT_CHUNK_LEN;
use crate::identity::{MigrationId, OriginHash};

/// Names a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransferKey {
    /// The daemon that arrives.
    pub origin: OriginHash,
    /// The migration that brings it.
    pub migration: MigrationId,
}

/// What came of asking for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReserveOutcome {
    /// There is room.
    Granted,
    /// There will be, when others are done.
    Waiting,
    /// There never can be.
    TooLarge {
        /// The whole budget in bytes.
        max: u64,
    },
    /// A later attempt is under way.
    Stale,
}

/// A chunk that was refused; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Nothing was reserved for it.
    #[error("no room is granted for this transfer")]
    NotGranted,
    /// It belongs to another attempt.
    #[error("of another attempt")]
    OtherAttempt,
    /// The number of chunks is not that of the reservation.
    #[error("a total that does not fit the reservation")]
    WrongTotal,
    /// There is no such chunk.
    #[error("an index beyond the total")]
    OutOfRange,
    /// Its length is not that of its place.
    #[error("a length that does not fit its place")]
    WrongLength,
}

#[derive(Debug)]
struct Transfer {
    attempt: u32,
    total: u64,
    granted: bool,
    buffer: Vec<u8>,
    arrived: Vec<bool>,
    missing: u32,
    complete: bool,
}

/// The arriving snapshots of a node.
#[derive(Debug)]
pub struct SnapshotReassembler {
    budget: u64,
    granted: u64,
    transfers: HashMap<TransferKey, Transfer>,
    waiting: VecDeque<TransferKey>,
}

impl SnapshotReassembler {
    /// Room for so many bytes at once.
    pub fn new(budget: u64) -> Self {
        Self { budget, granted: 0, transfers: HashMap::new(), waiting: VecDeque::new() }
    }

    /// Asks for room for a whole snapshot. A newer attempt takes the place of an older one.
    pub fn reserve(&mut self, key: TransferKey, attempt: u32, total: u64) -> ReserveOutcome {
        if total > self.budget {
            return ReserveOutcome::TooLarge { max: self.budget };
        }
        if let Some(known) = self.transfers.get(&key) {
            if known.attempt > attempt {
                return ReserveOutcome::Stale;
            }
            if known.attempt == attempt {
                return if known.granted { ReserveOutcome::Granted } else { ReserveOutcome::Waiting };
            }
            self.release(key);
        }
        let chunks = u32::try_from(total.div_ceil(SNAPSHOT_CHUNK_LEN as u64)).unwrap_or(u32::MAX);
        let transfer = Transfer {
            attempt,
            total,
            granted: false,
            buffer: Vec::new(),
            arrived: Vec::new(),
            missing: chunks,
            complete: false,
        };
        self.transfers.insert(key, transfer);
        self.waiting.push_back(key);
        if self.waiting.len() == 1 && self.next_grant() == Some(key) {
            ReserveOutcome::Granted
        } else {
            ReserveOutcome::Waiting
        }
    }

    /// Grants the first of those who wait, if there is room for it now.
    pub fn next_grant(&mut self) -> Option<TransferKey> {
        let key = *self.waiting.front()?;
        let transfer = self.transfers.get_mut(&key)?;
        if self.granted + transfer.total > self.budget {
            return None;
        }
        self.waiting.pop_front();
        self.granted += transfer.total;
        transfer.granted = true;
        Some(key)
    }

    /// Takes a chunk in; gives the whole when none is missing any more. Repetitions change nothing.
    pub fn chunk(
        &mut self,
        key: TransferKey,
        attempt: u32,
        index: u32,
        total: u32,
        bytes: &[u8],
    ) -> Result<Option<Bytes>, ChunkError> {
        let transfer = self.transfers.get_mut(&key).filter(|t| t.granted).ok_or(ChunkError::NotGranted)?;
        if transfer.attempt != attempt {
            return Err(ChunkError::OtherAttempt);
        }
        let length = transfer.total;
        let chunks = length.div_ceil(SNAPSHOT_CHUNK_LEN as u64);
        if u64::from(total) != chunks {
            return Err(ChunkError::WrongTotal);
        }
        if index >= total {
            return Err(ChunkError::OutOfRange);
        }
        let start = u64::from(index) * SNAPSHOT_CHUNK_LEN as u64;
        let due = (length - start).min(SNAPSHOT_CHUNK_LEN as u64);
        if bytes.len() as u64 != due {
            return Err(ChunkError::WrongLength);
        }
        if transfer.complete {
            return Ok(None);
        }
        if transfer.arrived.is_empty() {
            // Zeroed pages that nobody touched cost no memory, so the room grows with what arrives.
            transfer.buffer = vec![0; usize::try_from(length).map_err(|_| ChunkError::NotGranted)?];
            transfer.arrived = vec![false; total as usize];
        }
        if std::mem::replace(&mut transfer.arrived[index as usize], true) {
            return Ok(None);
        }
        let start = usize::try_from(start).map_err(|_| ChunkError::OutOfRange)?;
        transfer.buffer[start..start + bytes.len()].copy_from_slice(bytes);
        transfer.missing -= 1;
        if transfer.missing > 0 {
            return Ok(None);
        }
        transfer.complete = true;
        transfer.arrived = Vec::new();
        Ok(Some(std::mem::take(&mut transfer.buffer).into()))
    }

    /// The transfer has ended and its bytes are gone, or will not come.
    pub fn release(&mut self, key: TransferKey) {
        if let Some(transfer) = self.transfers.remove(&key) {
            if transfer.granted {
                self.granted -= transfer.total;
            }
            self.waiting.retain(|waiting| *waiting != key);
        }
    }

    /// Bytes that are granted.
    pub fn live_bytes(&self) -> u64 {
        self.granted
    }

    /// How many transfers there are.
    pub fn len(&self) -> usize {
        self.transfers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.transfers.is_empty()
    }
}
