//! The snapshot format, produced as a stream without copying the state, and its reassembly from chunks.
//!
//! ```text
//! magic "MDSN" 4 | version u16 | reserved u16 | head length u32 | state length u32 (u32::MAX: stateless)
//! head (CBOR) | state | envelope length u32 | envelope | xxh3-64 of everything before, u64
//! ```
//!
//! All integers are little-endian. The digest that a move signs is BLAKE2s-256 of everything before the envelope.

mod error;
mod format;
mod head;
mod reassembler;

pub use error::SnapshotError;
pub use format::{SNAPSHOT_VERSION, SnapshotWriter, StateSnapshot};
pub use head::{SnapshotHead, SnapshotStats};
pub use reassembler::{ChunkError, ReserveOutcome, SnapshotReassembler, TransferKey};

/// Bytes of a snapshot in one chunk: with its message it fits one record of a Noise frame of 65 535 bytes.
pub const SNAPSHOT_CHUNK_LEN: usize = 60 * 1024;
