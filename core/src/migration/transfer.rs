//! The state on its way: pulled from the daemon's own buffer in slices, sent in chunks, hashed as it passes.
//!
//! At most [`AHEAD`] bytes of it are held here at any time; the snapshot is never copied whole. The daemon's own thread only
//! copies: the digest is left to whoever takes the chunks.
//!
//! Other code of the user's runs between two slices, and may write into the buffer. So what took more than one slice is looked
//! at a second time once all of it was read: slices that still are what they were then make up the state of that moment.
//! A quick hash of each is kept for this ([`SliceHash`]).

use std::collections::VecDeque;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::snapshot::{SNAPSHOT_CHUNK_LEN, SnapshotDigest, SnapshotError, SnapshotHead, SnapshotWriter, chunk_count};

/// Length of the slices that are asked for, in bytes. Small enough not to hold up other work of the daemon's thread; they end
/// at multiples of it in the snapshot, for which the hash is quickest.
const SLICE: u64 = 256 * 1024;
/// Most bytes that are asked for or held ahead of the chunks.
const AHEAD: u64 = 8 * SLICE;
/// With so much left ahead, more is asked for: several slices for each time that the daemon's thread is woken.
const LOW: u64 = AHEAD - 4 * SLICE;
/// Most slices that are being looked at a second time.
const MOST_CHECKS: usize = 8;

/// Tells whether a slice is what it was. Against mistakes of the daemon's own process, not against forgery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceHash(u64);

impl SliceHash {
    /// Of the bytes of a slice.
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxh3_64(bytes))
    }
}

/// A slice is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Buffer that snapshot returned was changed while it was read")]
pub struct StateChanged;

/// What is wanted of the daemon's own thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// The bytes of a slice.
    Slice {
        /// Its first byte.
        offset: u64,
        /// How many.
        len: u32,
    },
    /// The hash of a slice that was read.
    Check {
        /// Its first byte.
        offset: u64,
        /// How many.
        len: u32,
    },
}

/// A snapshot being sent.
#[derive(Debug)]
pub struct Transfer {
    writer: Option<SnapshotWriter>,
    digest: Option<SnapshotDigest>,
    state_len: u64,
    asked: u64,
    got: u64,
    /// What each slice was when it was read, and where it begins.
    read: Vec<(u64, SliceHash)>,
    /// How many of them are asked for a second time, and how many were found to be what they were.
    asked_again: usize,
    unchanged: usize,
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
            read: Vec::new(),
            asked_again: 0,
            unchanged: 0,
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

    /// The next slice of state to ask for, when there is room for it.
    pub fn want(&mut self) -> Option<Want> {
        if self.got == self.state_len {
            return self.want_check();
        }
        let ahead = self.pending_bytes + (self.asked - self.got);
        self.asking = ahead + SLICE <= AHEAD && (self.asking || ahead <= LOW);
        if self.asked == self.state_len || !self.asking {
            return None;
        }
        let offset = self.asked;
        let before = self.total - self.suffix_len - self.state_len + offset;
        let len = (SLICE - before % SLICE).min(self.state_len - offset);
        self.asked += len;
        Some(Want::Slice { offset, len: u32::try_from(len).unwrap_or(u32::MAX) })
    }

    /// Everything was read.
    fn want_check(&mut self) -> Option<Want> {
        if self.read.len() < 2 || self.asked_again - self.unchanged == MOST_CHECKS {
            return None;
        }
        let (offset, _) = *self.read.get(self.asked_again)?;
        self.asked_again += 1;
        let end = self.read.get(self.asked_again).map_or(self.state_len, |(next, _)| *next);
        Some(Want::Check { offset, len: u32::try_from(end - offset).unwrap_or(u32::MAX) })
    }

    /// A slice was looked at a second time. One that is not due changes nothing.
    pub fn checked(&mut self, offset: u64, hash: SliceHash) -> Result<(), StateChanged> {
        match self.read.get(self.unchanged) {
            Some((due, _)) if *due != offset || self.unchanged == self.asked_again => Ok(()),
            Some((_, read)) if *read != hash => Err(StateChanged),
            Some(_) => {
                self.unchanged += 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether what was read is the state of one moment.
    fn is_whole(&self) -> bool {
        self.got == self.state_len && (self.read.len() < 2 || self.unchanged == self.read.len())
    }

    /// A slice arrived. One that is not due changes nothing.
    pub fn slice(&mut self, offset: u64, bytes: Bytes) {
        let end = offset + bytes.len() as u64;
        if offset != self.got || end > self.asked || bytes.is_empty() {
            return;
        }
        self.got = end;
        self.read.push((offset, SliceHash::of(&bytes)));
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

    /// The digest of the whole, once every chunk was taken and the state is known to be that of one moment.
    pub fn seal(&self) -> Option<SnapshotDigest> {
        if self.sent == self.total && self.is_whole() { self.digest } else { None }
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

    fn part(state: Option<&[u8]>, offset: u64, len: u32) -> Bytes {
        let start = usize::try_from(offset).expect("small");
        Bytes::copy_from_slice(&state.unwrap_or_default()[start..start + len as usize])
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
            match asked.pop_front() {
                Some(Want::Slice { offset, len }) => transfer.slice(offset, part(state, offset, len)),
                Some(Want::Check { offset, len }) => {
                    let hash = SliceHash::of(&part(state, offset, len));
                    transfer.checked(offset, hash).expect("the same bytes");
                }
                None => {}
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
    /// Reads a state, has `change` write into it so many slices later, and looks at it a second time.
    fn read_while_changing(len: u64, after: usize, change: impl Fn(&mut [u8])) -> Result<bool, StateChanged> {
        let mut state = vec![1; usize::try_from(len).expect("small")];
        let mut transfer = Transfer::new(&head(), Some(len)).expect("small");
        let mut steps = 0;
        while let Some(want) = transfer.want() {
            if steps == after {
                change(&mut state);
            }
            match want {
                Want::Slice { offset, len } => transfer.slice(offset, part(Some(&state), offset, len)),
                Want::Check { offset, len } => {
                    transfer.checked(offset, SliceHash::of(&part(Some(&state), offset, len)))?;
                }
            }
            while transfer.chunk().expect("in order").is_some() {}
            steps += 1;
        }
        Ok(transfer.seal().is_some())
    }

    #[test]
    fn hazard_70_a_state_that_changes_while_it_is_read_is_not_sealed() {
        let len = 4 * SLICE;
        let nothing = |_: &mut [u8]| {};
        assert_eq!(read_while_changing(len, 0, nothing), Ok(true));
        // Five slices, as the first one makes up for the head.
        for after in 1..=5 {
            assert_eq!(read_while_changing(len, after, |state| state.fill(2)), Err(StateChanged), "{after}");
            assert_eq!(read_while_changing(len, after, |state| state[0] = 2), Err(StateChanged), "{after}");
        }
        let last = |state: &mut [u8]| *state.last_mut().expect("some") = 2;
        assert_eq!(read_while_changing(len, 5, last), Err(StateChanged));
        assert_eq!(read_while_changing(len, 4, last), Ok(true), "it changed before it was read, and not since");
        assert_eq!(read_while_changing(SLICE / 2, 1, |state| state.fill(2)), Ok(true), "one slice is of one moment");
    }

    #[test]
    fn a_state_is_not_sealed_before_all_of_it_was_looked_at_twice() {
        let state = vec![3; usize::try_from(2 * SLICE).expect("small")];
        let mut transfer = Transfer::new(&head(), Some(2 * SLICE)).expect("small");
        let mut checks = Vec::new();
        while let Some(want) = transfer.want() {
            match want {
                Want::Slice { offset, len } => transfer.slice(offset, part(Some(&state), offset, len)),
                Want::Check { offset, len } => checks.push((offset, SliceHash::of(&part(Some(&state), offset, len)))),
            }
            while transfer.chunk().expect("in order").is_some() {}
        }
        assert_eq!(transfer.progress().0, transfer.total(), "all of it is sent");
        assert_eq!(checks.len(), 3);
        for (offset, hash) in checks {
            assert_eq!(transfer.seal(), None);
            // What is not due, as an answer of an earlier attempt, counts for nothing.
            transfer.checked(offset + 1, SliceHash::of(b"another")).expect("not due");
            transfer.checked(offset, hash).expect("the same bytes");
        }
        assert!(transfer.seal().is_some());
    }
}
