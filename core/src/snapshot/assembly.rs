//! The bytes of one arriving snapshot. They are put in their place, and hashed, by whoever has the time: the first touch of
//! fresh memory and the hash take longer than anything else that happens to a chunk.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::chunk::SNAPSHOT_CHUNK_LEN;
use super::layout::{ArrivingDigest, SnapshotDigest};

/// Which chunks are here.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    bits: Vec<u64>,
    count: u32,
}

/// Room for one chunk that was accepted.
#[must_use = "the snapshot is whole only when all of its chunks are in their places"]
pub struct Placement {
    content: Arc<Mutex<Content>>,
    index: u32,
}

/// The bytes, as far as they are in their places.
#[derive(Debug)]
pub(super) struct Content {
    /// Empty until the first chunk; then of the whole length.
    bytes: Vec<u8>,
    total_len: usize,
    total: u32,
    here: Chunks,
    /// Chunks that are here without a gap before them.
    gapless: u32,
    digest: ArrivingDigest,
}

impl Chunks {
    /// Takes note of a chunk; false when it is here already.
    pub(super) fn add(&mut self, index: u32) -> bool {
        let (word, bit) = (index as usize / 64, 1 << (index % 64));
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        self.count += u32::from(new);
        new
    }

    pub(super) fn has(&self, index: u32) -> bool {
        self.bits.get(index as usize / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    pub(super) const fn count(&self) -> u32 {
        self.count
    }
}

impl Placement {
    pub(super) const fn new(content: Arc<Mutex<Content>>, index: u32) -> Self {
        Self { content, index }
    }

    /// Puts the chunk that was accepted in its place; true when the snapshot is whole with it.
    pub fn place(self, chunk: &[u8]) -> bool {
        self.content.lock().put(self.index, chunk)
    }
}

impl Content {
    pub(super) fn new(total_len: usize, total: u32) -> Self {
        Self {
            bytes: Vec::new(),
            total_len,
            total,
            here: Chunks::default(),
            gapless: 0,
            digest: ArrivingDigest::default(),
        }
    }

    /// The snapshot and its digest, once it is whole; afterwards nothing is here.
    pub(super) fn take(&mut self) -> Option<(Vec<u8>, SnapshotDigest)> {
        if self.here.count() < self.total {
            return None;
        }
        let bytes = std::mem::take(&mut self.bytes);
        let digest = std::mem::take(&mut self.digest).finish(&bytes);
        Some((bytes, digest))
    }

    fn put(&mut self, index: u32, chunk: &[u8]) -> bool {
        if self.bytes.is_empty() {
            // Zeroed pages come from the operating system as they are touched.
            self.bytes = vec![0; self.total_len];
        }
        let start = index as usize * SNAPSHOT_CHUNK_LEN;
        self.bytes[start..start + chunk.len()].copy_from_slice(chunk);
        self.here.add(index);
        while self.gapless < self.total && self.here.has(self.gapless) {
            self.gapless += 1;
        }
        let end = (self.gapless as usize * SNAPSHOT_CHUNK_LEN).min(self.total_len);
        self.digest.advance(&self.bytes[..end]);
        self.here.count() == self.total
    }
}

impl fmt::Debug for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Placement").field("index", &self.index).finish_non_exhaustive()
    }
}
