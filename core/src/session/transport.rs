//! Sealing and opening frames once the handshake is done.
//!
//! Both directions share one cipher state behind a lock that is held for one frame; the two halves are owned by whoever
//! writes and whoever reads. Each side rekeys its sending key after a fixed number of frames or bytes, and the receiver
//! counts along, so no message is needed.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use snow::TransportState;

use super::SessionError;
use crate::wire::frame::{LANE_LEN, MAX_MESSAGE, MAX_PLAINTEXT, PREFIX_LEN, TAG_LEN};

/// Frames under one key. AES-GCM would allow many more; a short life of keys is cheap.
const REKEY_FRAMES: u64 = 1 << 16;
/// Plaintext bytes under one key.
const REKEY_BYTES: u64 = 1 << 30;

const _: () = assert!(MAX_PLAINTEXT + TAG_LEN == MAX_MESSAGE, "a full plaintext fits in one message");

/// An established cipher state, not yet divided into its halves.
pub struct Transport {
    sealer: Sealer,
    opener: Opener,
}

/// Encrypts outgoing frames.
pub struct Sealer {
    state: Arc<Mutex<TransportState>>,
    age: KeyAge,
}

/// Decrypts incoming frames.
pub struct Opener {
    state: Arc<Mutex<TransportState>>,
    age: KeyAge,
    failed: bool,
}

/// A reused buffer of sealed frames that wait to be written.
#[derive(Default)]
pub struct SendBuffer {
    // Initialised once and then overwritten: `len` says what counts.
    bytes: Vec<u8>,
    len: usize,
}

#[derive(Clone, Copy, Default)]
struct KeyAge {
    frames: u64,
    bytes: u64,
}

impl KeyAge {
    /// Counts a frame; true when it was the last one under this key.
    fn count(&mut self, plaintext: usize) -> bool {
        self.frames += 1;
        self.bytes += plaintext as u64;
        let old = self.frames >= REKEY_FRAMES || self.bytes >= REKEY_BYTES;
        if old {
            *self = Self::default();
        }
        old
    }
}

impl Transport {
    pub(super) fn new(state: TransportState) -> Self {
        let state = Arc::new(Mutex::new(state));
        let sealer = Sealer { state: state.clone(), age: KeyAge::default() };
        Self { sealer, opener: Opener { state, age: KeyAge::default(), failed: false } }
    }

    /// The receiving direction, for the first frame.
    pub const fn opener(&mut self) -> &mut Opener {
        &mut self.opener
    }

    /// The two directions.
    pub fn split(self) -> (Sealer, Opener) {
        (self.sealer, self.opener)
    }
}

impl Sealer {
    /// Encrypts one frame and appends it, with its length prefix, to `out`.
    pub fn seal(&mut self, plaintext: &[u8], out: &mut SendBuffer) -> Result<(), SessionError> {
        if plaintext.len() < LANE_LEN || plaintext.len() > MAX_PLAINTEXT {
            return Err(SessionError::BadLength(plaintext.len()));
        }
        let sealed = plaintext.len() + TAG_LEN;
        let space = out.space(PREFIX_LEN + sealed);
        let (prefix, message) = space.split_at_mut(PREFIX_LEN);
        let length = u16::try_from(sealed).map_err(|_| SessionError::BadLength(sealed))?;
        prefix.copy_from_slice(&length.to_le_bytes());
        let mut state = self.state.lock();
        state.write_message(plaintext, message).map_err(|error| SessionError::Noise(error.to_string()))?;
        if self.age.count(plaintext.len()) {
            state.rekey_outgoing();
        }
        drop(state);
        out.len += PREFIX_LEN + sealed;
        Ok(())
    }
}

impl Opener {
    /// Decrypts one Noise message (without its length prefix). After the first error every call fails.
    pub fn open(&mut self, message: &[u8]) -> Result<Bytes, SessionError> {
        if self.failed {
            return Err(SessionError::BadTag);
        }
        self.open_next(message).inspect_err(|_| self.failed = true)
    }

    fn open_next(&mut self, message: &[u8]) -> Result<Bytes, SessionError> {
        check_message_len(message.len())?;
        // As long as the message: the cipher works in place and cuts the tag off at the end.
        let mut plaintext = vec![0; message.len()];
        let mut state = self.state.lock();
        let len = state.read_message(message, &mut plaintext).map_err(|_| SessionError::BadTag)?;
        if self.age.count(len) {
            state.rekey_incoming();
        }
        drop(state);
        plaintext.truncate(len);
        Ok(Bytes::from(plaintext))
    }
}

/// Refuses a length that no frame has, before anything is buffered for it.
pub fn check_message_len(len: usize) -> Result<(), SessionError> {
    if (TAG_LEN + LANE_LEN..=MAX_MESSAGE).contains(&len) { Ok(()) } else { Err(SessionError::BadLength(len)) }
}

impl SendBuffer {
    /// An empty buffer.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), len: 0 }
    }

    /// Sealed bytes in the order to be written.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Number of sealed bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is sealed.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets what was written and keeps the memory.
    pub const fn clear(&mut self) {
        self.len = 0;
    }

    fn space(&mut self, len: usize) -> &mut [u8] {
        let end = self.len + len;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        &mut self.bytes[self.len..end]
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("frames", &self.age.frames).finish_non_exhaustive()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("frames", &self.age.frames).finish_non_exhaustive()
    }
}

impl fmt::Debug for SendBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendBuffer").field("len", &self.len).finish_non_exhaustive()
    }
}
