//! Where things are in the bytes of a snapshot.

use std::fmt;
use std::ops::Range;

use super::error::{SnapshotError, SnapshotSection};

pub(super) const MAGIC: &[u8; 8] = b"MESHSNAP";
pub(super) const HEAD_AT: usize = MAGIC.len() + 2 + LEN_LEN;
pub(super) const LEN_LEN: usize = 4;
pub(super) const CHECKSUM_LEN: usize = 8;

/// The version of the format that this build writes and reads.
pub const SNAPSHOT_VERSION: u16 = 1;

/// So much of an arriving snapshot is hashed at once: the tree of BLAKE3 is quickest on aligned powers of two, and this is
/// still in the cache.
const STRIDE: usize = 64 * 1024;

/// BLAKE3 of a snapshot up to the end of its state, which is all but envelope and checksum. A tree hash, because both ends of
/// a move hash all of the state while it travels: one that runs along a chain would take longer than the way itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SnapshotDigest([u8; 32]);

impl SnapshotDigest {
    /// Takes a digest that was received.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn finish(hash: &blake3::Hasher) -> Self {
        Self(hash.finalize().into())
    }

    /// The digest of an encoded snapshot. Reads all of it.
    pub fn of(snapshot: &[u8]) -> Result<Self, SnapshotError> {
        let layout = Layout::parse(snapshot)?;
        Ok(Self(blake3::hash(&snapshot[..layout.state.end]).into()))
    }
}

/// The sections of a snapshot that is here whole.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) head: Range<usize>,
    pub(super) state: Range<usize>,
    pub(super) envelope: Range<usize>,
}

impl Layout {
    /// Checks magic, version and every length; afterwards exactly the checksum is behind the envelope.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let have = bytes.len().min(MAGIC.len());
        if bytes[..have] != MAGIC[..have] {
            return Err(SnapshotError::BadMagic);
        }
        let mut at = MAGIC.len();
        let version = u16::from_le_bytes(take(bytes, &mut at)?);
        if version != SNAPSHOT_VERSION {
            return Err(SnapshotError::UnsupportedVersion { got: version, supported: SNAPSHOT_VERSION });
        }
        let head = section(bytes, &mut at, SnapshotSection::Head)?;
        let state = section(bytes, &mut at, SnapshotSection::State)?;
        let envelope = section(bytes, &mut at, SnapshotSection::Envelope)?;
        take::<CHECKSUM_LEN>(bytes, &mut at)?;
        if at != bytes.len() {
            return Err(SnapshotError::TrailingBytes((bytes.len() - at) as u64));
        }
        Ok(Self { head, state, envelope })
    }
}

/// Takes a digest of a snapshot whose bytes are still arriving.
#[derive(Clone, Debug, Default)]
pub(super) struct ArrivingDigest {
    hash: blake3::Hasher,
    hashed: usize,
}

impl ArrivingDigest {
    /// `prefix` is all that is here without a gap; it only ever grows.
    pub(super) fn advance(&mut self, prefix: &[u8]) {
        self.hash_to(prefix.len() / STRIDE * STRIDE, prefix);
    }

    /// Nothing more comes: `whole` is all.
    pub(super) fn finish(mut self, whole: &[u8]) -> SnapshotDigest {
        self.hash_to(whole.len(), whole);
        SnapshotDigest::finish(&self.hash)
    }

    fn hash_to(&mut self, end: usize, prefix: &[u8]) {
        let end = covered_end(prefix).unwrap_or(usize::MAX).min(end);
        if end > self.hashed {
            self.hash.update(&prefix[self.hashed..end]);
            self.hashed = end;
        }
    }
}

/// Where the part under the digest ends; not known until the lengths before it are here.
fn covered_end(prefix: &[u8]) -> Option<usize> {
    let len_at = |at: usize| -> Option<usize> {
        let bytes = prefix.get(at..at.checked_add(LEN_LEN)?)?;
        usize::try_from(u32::from_le_bytes(bytes.try_into().ok()?)).ok()
    };
    let state_len_at = HEAD_AT.checked_add(len_at(HEAD_AT - LEN_LEN)?)?;
    (state_len_at + LEN_LEN).checked_add(len_at(state_len_at)?)
}

fn section(bytes: &[u8], at: &mut usize, section: SnapshotSection) -> Result<Range<usize>, SnapshotError> {
    let len = u32::from_le_bytes(take(bytes, at)?);
    let left = bytes.len() - *at;
    match usize::try_from(len) {
        Ok(len) if len <= left => {
            let start = *at;
            *at += len;
            Ok(start..*at)
        }
        _ => Err(SnapshotError::LengthOutOfBounds { section, len: u64::from(len), max: left as u64 }),
    }
}

fn take<const N: usize>(bytes: &[u8], at: &mut usize) -> Result<[u8; N], SnapshotError> {
    let end = *at + N;
    let part = bytes
        .get(*at..end)
        .and_then(|part| part.try_into().ok())
        .ok_or(SnapshotError::Truncated { needed: end as u64, got: bytes.len() as u64 })?;
    *at = end;
    Ok(part)
}

impl fmt::Debug for SnapshotDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotDigest(")?;
        for byte in &self.0[..6] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("…)")
    }
}
