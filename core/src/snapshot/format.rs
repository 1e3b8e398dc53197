//! Writing a snapshot as a stream, and reading one.

use blake2::{Blake2s256, Digest};
use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::error::SnapshotError;
use super::head::SnapshotHead;

/// The version that this build writes, and the only one there is.
pub const SNAPSHOT_VERSION: u16 = 1;
const MAGIC: &[u8; 4] = b"MDSN";
const HEADER: usize = 16;
const CHECKSUM: usize = 8;
const ENVELOPE_LENGTH: usize = 4;
/// Stands for a daemon without state.
const STATELESS: u32 = u32::MAX;

/// Writes a snapshot piece by piece: prefix, then the state in slices, then the suffix.
pub struct SnapshotWriter {
    checksum: Xxh3,
    digest: Blake2s256,
    before_envelope: u64,
}

impl std::fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotWriter").field("before_envelope", &self.before_envelope).finish_non_exhaustive()
    }
}

impl SnapshotWriter {
    /// Begins a snapshot with so many bytes of state, or of a stateless daemon, and gives its first bytes.
    pub fn new(head: &SnapshotHead, state_len: Option<u64>) -> Result<(Self, Bytes), SnapshotError> {
        let encoded = head.encode();
        let too_large = |what, size| SnapshotError::TooLarge { what, size };
        let head_len = u32::try_from(encoded.len()).map_err(|_| too_large("the head", encoded.len() as u64))?;
        let state_field = match state_len {
            None => STATELESS,
            Some(len) => {
                u32::try_from(len).ok().filter(|len| *len != STATELESS).ok_or_else(|| too_large("the state", len))?
            }
        };
        let mut prefix = BytesMut::with_capacity(HEADER + encoded.len());
        prefix.put_slice(MAGIC);
        prefix.put_u16_le(SNAPSHOT_VERSION);
        prefix.put_u16_le(0);
        prefix.put_u32_le(head_len);
        prefix.put_u32_le(state_field);
        prefix.put_slice(&encoded);
        let prefix = prefix.freeze();
        let before_envelope = prefix.len() as u64 + state_len.unwrap_or(0);
        let mut writer = Self { checksum: Xxh3::new(), digest: Blake2s256::new(), before_envelope };
        writer.state_slice(&prefix);
        Ok((writer, prefix))
    }

    /// Encoded length in bytes, with an envelope of this length.
    pub fn total_len(&self, envelope: Option<usize>) -> u64 {
        self.before_envelope + (ENVELOPE_LENGTH + envelope.unwrap_or(0) + CHECKSUM) as u64
    }

    /// The next bytes of the state pass by.
    pub fn state_slice(&mut self, bytes: &[u8]) {
        self.checksum.update(bytes);
        self.digest.update(bytes);
    }

    /// Gives the last bytes, and the digest of everything before the envelope.
    pub fn finish(mut self, envelope: Option<&[u8]>) -> (Bytes, [u8; 32]) {
        let envelope = envelope.unwrap_or_default();
        let mut suffix = BytesMut::with_capacity(ENVELOPE_LENGTH + envelope.len() + CHECKSUM);
        // An envelope is some 240 bytes.
        suffix.put_u32_le(u32::try_from(envelope.len()).unwrap_or(u32::MAX));
        suffix.put_slice(envelope);
        self.checksum.update(&suffix);
        suffix.put_u64_le(self.checksum.digest());
        (suffix.freeze(), self.digest.finalize().into())
    }
}

/// A snapshot that was read.
#[derive(Clone, Debug)]
pub struct StateSnapshot {
    /// Everything beside the state.
    pub head: SnapshotHead,
    /// The bytes that the daemon's own `snapshot` returned; none of a stateless daemon.
    pub state: Option<Bytes>,
    /// The sealed key, when it travels inside.
    pub envelope: Option<Bytes>,
    signed: Bytes,
}

impl StateSnapshot {
    /// Reads a whole snapshot. The state is a slice of `bytes`.
    pub fn decode(bytes: Bytes) -> Result<Self, SnapshotError> {
        let available = bytes.len() as u64;
        let truncated = |needed: u64| SnapshotError::Truncated { needed, available };
        let header: &[u8; HEADER] = bytes.first_chunk().ok_or_else(|| truncated(HEADER as u64))?;
        if &header[..4] != MAGIC {
            return Err(SnapshotError::BadMagic);
        }
        let version = u16::from_le_bytes([header[4], header[5]]);
        if version != SNAPSHOT_VERSION {
            return Err(SnapshotError::UnreadableVersion { got: version, readable: SNAPSHOT_VERSION });
        }
        let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (head_len, state_field) = (u64::from(number(8)), number(12));
        let state_len = if state_field == STATELESS { 0 } else { u64::from(state_field) };
        let signed = HEADER as u64 + head_len + state_len;
        let least = signed + (ENVELOPE_LENGTH + CHECKSUM) as u64;
        if available < least {
            return Err(truncated(least));
        }
        // Everything fits into what is there, so it fits usize.
        let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
        let mut envelope_len = [0; ENVELOPE_LENGTH];
        envelope_len.copy_from_slice(&bytes[at(signed)..at(signed) + ENVELOPE_LENGTH]);
        let envelope_len = u64::from(u32::from_le_bytes(envelope_len));
        let end = least + envelope_len;
        match available.cmp(&end) {
            std::cmp::Ordering::Less => return Err(truncated(end)),
            std::cmp::Ordering::Greater => return Err(SnapshotError::TrailingBytes(available - end)),
            std::cmp::Ordering::Equal => {}
        }
        let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM);
        if checksum != xxh3_64(body).to_le_bytes() {
            return Err(SnapshotError::Checksum);
        }
        let head_end = at(HEADER as u64 + head_len);
        let head = SnapshotHead::decode(&bytes.slice(HEADER..head_end))?;
        let envelope_at = at(signed) + ENVELOPE_LENGTH;
        let envelope = bytes.slice(envelope_at..envelope_at + at(envelope_len));
        Ok(Self {
            head,
            state: (state_field != STATELESS).then(|| bytes.slice(head_end..at(signed))),
            envelope: (!envelope.is_empty()).then_some(envelope),
            signed: bytes.slice(..at(signed)),
        })
    }

    /// BLAKE2s-256 of everything before the envelope.
    pub fn digest(&self) -> [u8; 32] {
        Blake2s256::digest(&self.signed).into()
    }

    /// Writes a whole snapshot into one buffer.
    pub fn encode(
        head: &SnapshotHead,
        state: Option<&[u8]>,
        envelope: Option<&[u8]>,
    ) -> Result<Vec<u8>, SnapshotError> {
        let (mut writer, prefix) = SnapshotWriter::new(head, state.map(|state| state.len() as u64))?;
        let mut out = prefix.to_vec();
        if let Some(state) = state {
            writer.state_slice(state);
            out.extend_from_slice(state);
        }
        out.extend_from_slice(&writer.finish(envelope).0);
        Ok(out)
    }
}
