//! What can be wrong with a snapshot or with a chunk of one.

use crate::causal::Sequence;
use crate::identity::{EnvelopeError, OriginHash};

/// A part of the format with a length of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotSection {
    /// Who, where, what was observed.
    Head,
    /// What the daemon gave.
    State,
    /// The sealed key.
    Envelope,
}

impl std::fmt::Display for SnapshotSection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Head => "head",
            Self::State => "state",
            Self::Envelope => "envelope",
        })
    }
}

/// A snapshot that cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Not a snapshot.
    #[error("not a snapshot: it does not begin with the magic bytes")]
    BadMagic,
    /// A version of the format that this build cannot read.
    #[error("snapshot version {got} cannot be read, this build reads version {supported}")]
    UnsupportedVersion {
        /// The version in the bytes.
        got: u16,
        /// The version of this build.
        supported: u16,
    },
    /// The bytes end within the header, a length or the checksum.
    #[error("snapshot is cut off: {needed} bytes needed, {got} are there")]
    Truncated {
        /// Length needed, at least.
        needed: u64,
        /// Length of the input.
        got: u64,
    },
    /// A section claims more bytes than there are.
    #[error("length of the {section} section is out of bounds: {len}, at most {max}")]
    LengthOutOfBounds {
        /// Which section.
        section: SnapshotSection,
        /// What it claims.
        len: u64,
        /// What is left or allowed.
        max: u64,
    },
    /// The checksum is not that of the bytes.
    #[error("checksum of the snapshot does not match")]
    ChecksumMismatch,
    /// There is something behind the end.
    #[error("{0} bytes behind the end of the snapshot")]
    TrailingBytes(u64),
    /// The head is not what this version of the format holds.
    #[error("malformed head: {0}")]
    MalformedHead(String),
    /// The chain link is of another daemon.
    #[error("chain link of {link} in a snapshot of {entity}")]
    OriginMismatch {
        /// Origin of the entity.
        entity: OriginHash,
        /// Origin of the link.
        link: OriginHash,
    },
    /// The snapshot claims to reach another position than its chain does.
    #[error("snapshot through sequence {through} whose chain ends at {link}")]
    SequenceMismatch {
        /// What the snapshot claims.
        through: Sequence,
        /// Sequence of the link.
        link: Sequence,
    },
    /// A daemon without state whose snapshot has some.
    #[error("{0} bytes of state in the snapshot of a stateless daemon")]
    StateOfStateless(u64),
    /// The envelope section holds no envelope.
    #[error("identity envelope in the snapshot: {0}")]
    Envelope(#[from] EnvelopeError),
    /// The state that was written is not as long as announced.
    #[error("state of {got} bytes where {announced} were announced")]
    StateLengthMismatch {
        /// What the prefix says.
        announced: u64,
        /// What was written.
        got: u64,
    },
}

/// A reservation or a chunk that is refused; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReassembleError {
    /// The attempt is older than the newest one seen of this migration, or is over.
    #[error("attempt {attempt} is over, the newest is {newest}")]
    Stale {
        /// The attempt.
        attempt: u32,
        /// The newest one.
        newest: u32,
    },
    /// Nothing was reserved for this attempt, or it is not granted yet.
    #[error("nothing is granted for this attempt")]
    NotGranted,
    /// A state of no bytes at all; even an empty one has a header.
    #[error("a snapshot is never empty")]
    EmptyTotal,
    /// Reserved again with another length.
    #[error("length changed from {reserved} to {got} bytes")]
    LengthChanged {
        /// What was reserved.
        reserved: u64,
        /// What is asked now.
        got: u64,
    },
    /// Too many transfers at once.
    #[error("more than {0} transfers at once")]
    TooManyTransfers(usize),
    /// The number of chunks is not the one of the reserved length.
    #[error("{got} chunks where the reserved length has {expected}")]
    WrongTotal {
        /// That of the length.
        expected: u32,
        /// That of the message.
        got: u32,
    },
    /// A chunk behind the last one.
    #[error("chunk {index} of {total}")]
    IndexOutOfRange {
        /// Which chunk.
        index: u32,
        /// How many there are.
        total: u32,
    },
    /// An empty, short or oversized chunk.
    #[error("chunk of {got} bytes where {expected} are due")]
    WrongLength {
        /// What this chunk has to have.
        expected: usize,
        /// What it has.
        got: usize,
    },
}
