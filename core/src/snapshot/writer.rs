//! Writing a snapshot as a stream.

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3Default;

use super::error::{SnapshotError, SnapshotSection};
use super::head::SnapshotHead;
use super::layout::{CHECKSUM_LEN, HEAD_AT, LEN_LEN, MAGIC, SNAPSHOT_VERSION, SnapshotDigest};
use crate::identity::{ENVELOPE_LEN, IdentityEnvelope};

/// Produces a snapshot in three parts: a prefix, the state itself, which the caller sends from where it is, and a suffix.
///
/// The state passes by in slices, in order, so that checksum and digest can be taken.
pub struct SnapshotWriter {
    checksum: Xxh3Default,
    digest: blake3::Hasher,
    prefix_len: u64,
    state_len: u64,
    written: u64,
}

impl SnapshotWriter {
    /// Starts a snapshot and returns its prefix. `state_len` is none for a stateless daemon.
    pub fn new(head: &SnapshotHead, state_len: Option<u64>) -> Result<(Self, Bytes), SnapshotError> {
        let encoded = head.encode(state_len.is_some())?;
        let head_len = section_len(SnapshotSection::Head, encoded.len() as u64)?;
        let state_len = state_len.unwrap_or(0);
        let mut prefix = BytesMut::with_capacity(HEAD_AT + encoded.len() + LEN_LEN);
        prefix.put_slice(MAGIC);
        prefix.put_u16_le(SNAPSHOT_VERSION);
        prefix.put_u32_le(head_len);
        prefix.put_slice(&encoded);
        prefix.put_u32_le(section_len(SnapshotSection::State, state_len)?);
        let mut writer = Self {
            checksum: Xxh3Default::new(),
            digest: blake3::Hasher::new(),
            prefix_len: prefix.len() as u64,
            state_len,
            written: 0,
        };
        writer.hash(&prefix);
        Ok((writer, prefix.freeze()))
    }

    /// Length of the whole snapshot in bytes, known before the state is read.
    pub const fn total_len(&self, sealed: bool) -> u64 {
        let envelope = if sealed { ENVELOPE_LEN } else { 0 };
        self.prefix_len + self.state_len + (LEN_LEN + envelope + CHECKSUM_LEN) as u64
    }

    /// Takes note of the next part of the state; changes nothing when that is more than was announced.
    pub fn state_slice(&mut self, slice: &[u8]) -> Result<(), SnapshotError> {
        let got = self.written.saturating_add(slice.len() as u64);
        if got > self.state_len {
            return Err(SnapshotError::StateLengthMismatch { announced: self.state_len, got });
        }
        self.written = got;
        self.hash(slice);
        Ok(())
    }

    /// What signatures and envelopes are bound to, once all of the state has passed.
    pub fn digest(&self) -> Result<SnapshotDigest, SnapshotError> {
        self.complete()?;
        Ok(SnapshotDigest::finish(&self.digest))
    }

    /// Ends the snapshot: returns its suffix and its digest.
    pub fn finish(mut self, envelope: Option<&IdentityEnvelope>) -> Result<(Bytes, SnapshotDigest), SnapshotError> {
        self.complete()?;
        let mut suffix = BytesMut::with_capacity(LEN_LEN + ENVELOPE_LEN + CHECKSUM_LEN);
        let envelope = envelope.map(IdentityEnvelope::to_bytes);
        let envelope = envelope.as_ref().map_or(&[][..], |bytes| bytes);
        suffix.put_u32_le(section_len(SnapshotSection::Envelope, envelope.len() as u64)?);
        suffix.put_slice(envelope);
        self.checksum.update(&suffix);
        suffix.put_u64_le(self.checksum.digest());
        Ok((suffix.freeze(), SnapshotDigest::finish(&self.digest)))
    }

    fn complete(&self) -> Result<(), SnapshotError> {
        if self.written == self.state_len {
            Ok(())
        } else {
            Err(SnapshotError::StateLengthMismatch { announced: self.state_len, got: self.written })
        }
    }

    fn hash(&mut self, bytes: &[u8]) {
        self.checksum.update(bytes);
        self.digest.update(bytes);
    }
}

fn section_len(section: SnapshotSection, len: u64) -> Result<u32, SnapshotError> {
    u32::try_from(len).map_err(|_| SnapshotError::LengthOutOfBounds { section, len, max: u64::from(u32::MAX) })
}

impl std::fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotWriter")
            .field("state_len", &self.state_len)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}
