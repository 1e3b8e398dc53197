//! A snapshot that is here whole.

use bytes::{BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use super::error::SnapshotError;
use super::head::SnapshotHead;
use super::layout::{CHECKSUM_LEN, Layout};
use super::writer::SnapshotWriter;
use crate::identity::IdentityEnvelope;

/// All of a daemon at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSnapshot {
    /// Who it is and where it stands.
    pub head: SnapshotHead,
    /// What the daemon gave; none for a stateless one.
    pub state: Option<Bytes>,
    /// Its key, sealed to the node that the snapshot is for.
    pub envelope: Option<IdentityEnvelope>,
}

impl StateSnapshot {
    /// The encoded form in one piece. Copies the state; [`SnapshotWriter`] does not.
    pub fn encode(&self) -> Result<Bytes, SnapshotError> {
        let state = self.state.as_deref();
        let (mut writer, prefix) = SnapshotWriter::new(&self.head, state.map(|state| state.len() as u64))?;
        let state = state.unwrap_or(&[]);
        writer.state_slice(state)?;
        let (suffix, _) = writer.finish(self.envelope.as_ref())?;
        let mut whole = BytesMut::with_capacity(prefix.len() + state.len() + suffix.len());
        whole.put_slice(&prefix);
        whole.put_slice(state);
        whole.put_slice(&suffix);
        Ok(whole.freeze())
    }

    /// Reads a snapshot that fills `bytes`. The state is a slice of it, not a copy.
    ///
    /// Structure, checksum and the head's own consistency are checked; whether the sender may be believed is not.
    pub fn decode(bytes: &Bytes) -> Result<Self, SnapshotError> {
        let layout = Layout::parse(bytes)?;
        let (body, checksum) = bytes.split_at(bytes.len() - CHECKSUM_LEN);
        if xxh3_64(body).to_le_bytes() != checksum {
            return Err(SnapshotError::ChecksumMismatch);
        }
        Self::read(bytes, layout)
    }

    /// The same for a snapshot whose digest, taken here, is the one that was signed. The checksum could say nothing more
    /// about the head and the state, so the state is not read again for it.
    pub fn decode_signed(bytes: &Bytes) -> Result<Self, SnapshotError> {
        Self::read(bytes, Layout::parse(bytes)?)
    }

    fn read(bytes: &Bytes, layout: Layout) -> Result<Self, SnapshotError> {
        let (head, stateful) = SnapshotHead::decode(&bytes.slice(layout.head))?;
        let state = bytes.slice(layout.state);
        if !stateful && !state.is_empty() {
            return Err(SnapshotError::StateOfStateless(state.len() as u64));
        }
        let envelope = match &bytes[layout.envelope] {
            [] => None,
            envelope => Some(IdentityEnvelope::from_bytes(envelope)?),
        };
        Ok(Self { head, state: stateful.then_some(state), envelope })
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
