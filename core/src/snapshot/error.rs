//! Snapshots that cannot be read or written.

use crate::identity::OriginHash;

/// What is wrong with a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It does not begin like a snapshot.
    #[error("not a snapshot")]
    BadMagic,
    /// Its version is one that this build does not read.
    #[error("snapshot version {got} cannot be read by this build, which reads version {readable}")]
    UnreadableVersion {
        /// The snapshot's.
        got: u16,
        /// This build's.
        readable: u16,
    },
    /// It ends early.
    #[error("truncated: {needed} bytes are due, {available} are there")]
    Truncated {
        /// What the header claims.
        needed: u64,
        /// What there is.
        available: u64,
    },
    /// Bytes stand behind its end.
    #[error("{0} bytes behind the end")]
    TrailingBytes(u64),
    /// Its checksum is another one.
    #[error("the checksum does not match")]
    Checksum,
    /// Its head cannot be read.
    #[error("malformed head: {0}")]
    Head(String),
    /// The chain is not the daemon's.
    #[error("the chain of {link} does not belong to daemon {entity}")]
    ForeignChain {
        /// Whose chain it is.
        link: OriginHash,
        /// Whose it should be.
        entity: OriginHash,
    },
    /// The sequence it names is not that of its chain.
    #[error("through sequence {through} differs from the chain's {head}")]
    SequenceMismatch {
        /// What it names.
        through: u64,
        /// The chain's.
        head: u64,
    },
    /// A part is beyond what the format can hold.
    #[error("{what} of {size} bytes is too large for a snapshot")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its size.
        size: u64,
    },
}
