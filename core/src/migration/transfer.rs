//! The state on its way: pulled from the daemon's own buffer in slices, sent in chunks, hashed as it passes.
//!
//! At most [`AHEAD`] bytes of it are held here at any time; the snapshot is never copied whole. The daemon's own thread only
//! copies: hashing is left to whoever takes the chunks.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::snapshot::{SNAPSHOT_CHUNK_LEN, SnapshotDigest, SnapshotError, SnapshotHead, SnapshotWriter, chunk_count};

/// Length of the slices that are asked for, in bytes. Small enough not to hold up other work of the daemon's thread; they end
/// at multiples of it in the snapshot, for which the hash is quickest.
const SLICE: u64 = 256 * 1024;
/// Most bytes that are asked for or held ahead of the chunks.
const AHEAD: u64 = 8 * SLICE;
/// With so much left ahead, more is asked for: several slices for each time that the daemon's thread is woken.
const LOW: u64 = AHEAD - 4 * SLICE;

/// A snapshot being sent.
#[derive(Debug)]
pub struct Transfer {
    writer: Option<SnapshotWriter>,
    digest: Option<SnapshotDigest>,
    state_len: u64,
    asked: u64,
    got: u64,
    /// Slices are being asked for, until there are enough.
    asking: bool,
    /// What was not sent.
    pending: VecDeque<Bytes>,
    /// Whether the whole first part of that is hashed.
    first_hashed: bool,
    pending_bytes: u64,
    suffix_len: u64,
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
        let state_len = state_len.unwrap_or(0);
        Ok(Self {
            writer: Some(writer),
            digest: None,
            state_len,
            asked: 0,
            got: 0,
            asking: true,
            first_hashed: true,
            pending_bytes: prefix.len() as u64,
            suffix_len: total - prefix.len() as u64 - state_len,
            pending: VecDeque::from([prefix]),
            total,
            sent: 0,
            next: 0,
            chunks,
        })
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
        self.asking = ahead + SLICE <= AHEAD && (self.asking || ahead <= LOW);
        if self.asked == self.state_len || !self.asking {
            return None;
        }
        let offset = self.asked;
        let before = self.total - self.suffix_len - self.state_len + offset;
        let len = (SLICE - before % SLICE).min(self.state_len - offset);
        self.asked += len;
        Some((offset, u32::try_from(len).unwrap_or(u32::MAX)))
    }

    /// A slice arrived. One that is not due changes nothing.
    pub fn slice(&mut self, offset: u64, bytes: Bytes) {
        let end = offset + bytes.len() as u64;
        if offset != self.got || end > self.asked || bytes.is_empty() {
            return;
        }
        self.got = end;
        self.pending_bytes += bytes.len() as u64;
        self.pending.push_back(bytes);
    }

    /// Whether a chunk can be sent now.
    pub fn has_chunk(&self) -> bool {
        let due = (self.total - self.sent).min(SNAPSHOT_CHUNK_LEN as u64);
        let to_come = if self.got == self.state_len && self.writer.is_some() { self.suffix_len } else { 0 };
        due > 0 && self.pending_bytes + to_come >= due
    }

    /// Takes the next chunk. Copies only where one spans two slices.
    pub fn chunk(&mut self) -> Result<Option<Chunk>, SnapshotError> {
        if !self.has_chunk() {
            return Ok(None);
        }
        let due = usize::try_from(self.total - self.sent).unwrap_or(usize::MAX).min(SNAPSHOT_CHUNK_LEN);
        let mut bytes = self.take(due)?;
        if bytes.len() < due {
            let mut joined = Vec::with_capacity(due);
            joined.extend_from_slice(&bytes);
            while joined.len() < due {
                joined.extend_from_slice(&self.take(due - joined.len())?);
            }
            bytes = joined.into();
        }
        self.sent += due as u64;
        let index = self.next;
        self.next += 1;
        Ok(Some(Chunk { index, total: self.chunks, bytes }))
    }

    /// At most so much of what is pending, from one part.
    fn take(&mut self, most: usize) -> Result<Bytes, SnapshotError> {
        if self.pending.is_empty()
            && let Some(writer) = self.writer.take()
        {
            // The envelope travels beside the stream: it is sealed over the digest.
            let (suffix, digest) = writer.finish(None)?;
            self.pending_bytes += suffix.len() as u64;
            self.pending.push_back(suffix);
            self.digest = Some(digest);
        }
        let Some(first) = self.pending.front_mut() else { return Ok(Bytes::new()) };
        if !self.first_hashed
            && let Some(writer) = &mut self.writer
        {
            writer.state_slice(first)?;
        }
        self.first_hashed = true;
        let part = first.split_to(first.len().min(most));
        self.pending_bytes -= part.len() as u64;
        if first.is_empty() {
            self.pending.pop_front();
            self.first_hashed = false;
        }
        Ok(part)
    }

    /// The digest of the whole, once every chunk was taken.
    pub fn seal(&self) -> Option<SnapshotDigest> {
        if self.sent == self.total { self.digest } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causal::{ChainBuilder, Horizon};
    use crate::identity::{EntityKeypair, Epoch, Lineage};
    use crate::snapshot::{SnapshotStats, StateSnapshot};

    fn head() -> SnapshotHead {
        let daemon = EntityKeypair::from_seed(&[7; 32]);
        SnapshotHead {
            kind: None,
            entity: daemon.entity_id(),
            lineage: Lineage::new(1),
            epoch: Epoch::new(1),
            chain: *ChainBuilder::new(daemon.origin_hash()).head(),
            horizon: Horizon::new(),
            stats: SnapshotStats::default(),
            streams: Bytes::new(),
            ledger: Bytes::new(),
            created_at_ns: 0,
        }
    }

    /// Sends a state, with slices that arrive late; the bytes of all chunks, and the digest.
    fn send(state: Option<&[u8]>) -> (Vec<u8>, SnapshotDigest) {
        let mut transfer = Transfer::new(&head(), state.map(|state| state.len() as u64)).expect("small");
        let mut asked = VecDeque::new();
        let mut whole = Vec::new();
        while transfer.seal().is_none() {
            while let Some(ask) = transfer.want() {
                asked.push_back(ask);
            }
            if let Some((offset, len)) = asked.pop_front() {
                let start = usize::try_from(offset).expect("small");
                let slice = &state.unwrap_or_default()[start..start + len as usize];
                transfer.slice(offset, Bytes::copy_from_slice(slice));
            }
            assert!(transfer.held() <= AHEAD + SNAPSHOT_CHUNK_LEN as u64, "{} held", transfer.held());
            while let Some(chunk) = transfer.chunk().expect("in order") {
                whole.extend_from_slice(&chunk.bytes);
            }
        }
        (whole, transfer.seal().expect("whole"))
    }

    #[test]
    fn the_chunks_are_the_snapshot_whatever_its_length() {
        let long: Vec<u8> = (0..5 * SLICE + 4321).map(|i| u8::try_from(i % 251).expect("small")).collect();
        let slice = usize::try_from(SLICE).expect("small");
        for len in [0, 1, SNAPSHOT_CHUNK_LEN, slice - 1, slice, slice + 1, 2 * slice, long.len()] {
            let (whole, digest) = send(Some(&long[..len]));
            let snapshot = StateSnapshot::decode(&Bytes::from(whole.clone())).expect("well formed");
            assert_eq!(snapshot.state.as_deref(), Some(&long[..len]));
            assert_eq!(SnapshotDigest::of(&whole), Ok(digest), "{len}");
        }
        let (whole, digest) = send(None);
        assert_eq!(StateSnapshot::decode(&Bytes::from(whole.clone())).expect("well formed").state, None);
        assert_eq!(SnapshotDigest::of(&whole), Ok(digest));
    }
}
