//! The state on its way: pulled from the daemon's own buffer in slices, sent in chunks, hashed as it passes.
//!
//! At most [`AHEAD`] bytes of it are held here at any time; the snapshot is never copied whole.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::snapshot::{SNAPSHOT_CHUNK_LEN, SnapshotDigest, SnapshotError, SnapshotHead, SnapshotWriter, chunk_count};

/// Length of the slices that are asked for, in bytes.
const SLICE: u64 = 1024 * 1024;
/// Most bytes that are asked for or held ahead of the chunks.
const AHEAD: u64 = 4 * SLICE;

/// A snapshot being sent.
#[derive(Debug)]
pub struct Transfer {
    writer: Option<SnapshotWriter>,
    digest: Option<SnapshotDigest>,
    state_len: u64,
    asked: u64,
    got: u64,
    pending: VecDeque<Bytes>,
    pending_bytes: u64,
    total: u64,
    sent: u64,
    next: u32,
    chunks: u32,
}

/// A piece to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which one, from 0.
    pub index: u32,
    /// How many there are.
    pub total: u32,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Transfer {
    /// Prepares to send a snapshot with this head and so many bytes of state; none of a stateless daemon.
    pub fn new(head: &SnapshotHead, state_len: Option<u64>) -> Result<Self, SnapshotError> {
        let (writer, prefix) = SnapshotWriter::new(head, state_len)?;
        let total = writer.total_len(false);
        // A snapshot is at most a few times 4 GiB, which the format checks.
        let chunks = chunk_count(total).unwrap_or(u32::MAX);
        let mut transfer = Self {
            writer: Some(writer),
            digest: None,
            state_len: state_len.unwrap_or(0),
            asked: 0,
            got: 0,
            pending_bytes: prefix.len() as u64,
            pending: VecDeque::from([prefix]),
            total,
            sent: 0,
            next: 0,
            chunks,
        };
        transfer.finish_if_whole()?;
        Ok(transfer)
    }

    /// Encoded length in bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes sent, and bytes in all.
    pub fn progress(&self) -> (u64, u64) {
        (self.sent, self.total)
    }

    /// Bytes held here.
    pub fn held(&self) -> u64 {
        self.pending_bytes
    }

    /// The next slice of state to ask for, as offset and length, when there is room for it.
    pub fn want(&mut self) -> Option<(u64, u32)> {
        let ahead = self.pending_bytes + (self.asked - self.got);
        if self.asked == self.state_len || ahead + SLICE > AHEAD {
            return None;
        }
        let offset = self.asked;
        let len = SLICE.min(self.state_len - offset);
        self.asked += len;
        Some((offset, u32::try_from(len).unwrap_or(u32::MAX)))
    }

    /// A slice arrived. One that is not due changes nothing.
    pub fn slice(&mut self, offset: u64, bytes: Bytes) -> Result<(), SnapshotError> {
        let end = offset + bytes.len() as u64;
        if offset != self.got || end > self.asked || bytes.is_empty() {
            return Ok(());
        }
        if let Some(writer) = &mut self.writer {
            writer.state_slice(&bytes)?;
        }
        self.got = end;
        self.pending_bytes += bytes.len() as u64;
        self.pending.push_back(bytes);
        self.finish_if_whole()
    }

    fn finish_if_whole(&mut self) -> Result<(), SnapshotError> {
        if self.got == self.state_len
            && let Some(writer) = self.writer.take()
        {
            // The envelope travels beside the stream: it is sealed over the digest.
            let (suffix, digest) = writer.finish(None)?;
            self.pending_bytes += suffix.len() as u64;
            self.pending.push_back(suffix);
            self.digest = Some(digest);
        }
        Ok(())
    }

    /// Whether a chunk can be sent now.
    pub fn has_chunk(&self) -> bool {
        let due = (self.total - self.sent).min(SNAPSHOT_CHUNK_LEN as u64);
        due > 0 && self.pending_bytes >= due
    }

    /// Takes the next chunk. Copies only where one spans two slices.
    pub fn chunk(&mut self) -> Option<Chunk> {
        if !self.has_chunk() {
            return None;
        }
        let due = usize::try_from(self.total - self.sent).unwrap_or(usize::MAX).min(SNAPSHOT_CHUNK_LEN);
        let first = self.pending.front_mut()?;
        let bytes = if first.len() >= due {
            first.split_to(due)
        } else {
            let mut joined = Vec::with_capacity(due);
            while joined.len() < due {
                let front = self.pending.front_mut()?;
                let take = front.len().min(due - joined.len());
                joined.extend_from_slice(&front.split_to(take));
                if front.is_empty() {
                    self.pending.pop_front();
                }
            }
            joined.into()
        };
        if self.pending.front().is_some_and(Bytes::is_empty) {
            self.pending.pop_front();
        }
        self.pending_bytes -= due as u64;
        self.sent += due as u64;
        let index = self.next;
        self.next += 1;
        Some(Chunk { index, total: self.chunks, bytes })
    }

    /// The digest of the whole, once every chunk was taken.
    pub fn seal(&self) -> Option<SnapshotDigest> {
        if self.sent == self.total { self.digest } else { None }
    }
}
