//! The snapshot format and its reassembly from chunks.
//!
//! A snapshot is all of a daemon at one instant between two events: who it is, where its chain stands, what it has
//! observed, its counters, opaque sections of the layers above, and the state that the daemon itself gave. It is written
//! as a stream, so that the state is never copied whole ([`SnapshotWriter`]), and read without copying it
//! ([`StateSnapshot::decode`]). Between nodes it travels in chunks ([`SnapshotReassembler`]).
//!
//! # Format, version 1
//!
//! Integers little-endian.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | magic, ASCII `MESHSNAP` |
//! | 2 | version |
//! | 4 + n | length of the head, head: a CBOR map with numbered fields ([`SnapshotHead`]) |
//! | 4 + n | length of the state, state |
//! | 4 + n | length of the identity envelope or 0, envelope |
//! | 8 | xxh3-64 of everything before it |
//!
//! Fields that a reader does not know are skipped; a version that it does not know is refused. The *digest* of a snapshot,
//! to which signatures and envelopes are bound, is BLAKE3 of everything up to the end of the state.

mod assembly;
mod chunk;
mod error;
mod head;
mod layout;
mod reassembler;
mod state;
mod writer;

pub use assembly::Placement;
pub use chunk::{SNAPSHOT_CHUNK_LEN, chunk_count, chunk_range};
pub use error::{ReassembleError, SnapshotError, SnapshotSection};
pub use head::{SnapshotHead, SnapshotStats};
pub use layout::{SNAPSHOT_VERSION, SnapshotDigest};
pub use reassembler::{
    ChunkOutcome, MAX_TRANSFERS, ReassemblerEvent, Reservation, SnapshotReassembler, TransferId, TransferKey,
};
pub use state::StateSnapshot;
pub use writer::SnapshotWriter;
