//! Lives: what tells one run of a node or a daemon from the next one with the same key.

use std::fmt;

/// One life of a node: start time in unix milliseconds, then 64 random bits. A larger one is the newer life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// Unix time of the start, in milliseconds.
    pub started_at_ms: u64,
    /// Tells apart lives that began in one millisecond.
    pub salt: u64,
}

/// One of the runtimes that a node has in one of its lives, one after another, counted from 0. A later one knows nothing of
/// what its forerunners hosted and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuntimeLife(u32);

/// One life of a daemon: 128 random bits, made by a spawn or a takeover and kept by migrations.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lineage(u128);

/// How often the hosting of a daemon changed hands. The higher epoch is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

/// The widest step from one epoch to another that is believed.
const FARTHEST: u64 = 1 << 32;

/// One move of a daemon: 128 random bits, made by its orchestrator.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MigrationId(u128);

impl Incarnation {
    /// No life of a node is earlier.
    pub const EARLIEST: Self = Self { started_at_ms: 0, salt: 0 };

    /// The wire form: both numbers little-endian.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.started_at_ms.to_le_bytes());
        bytes[8..].copy_from_slice(&self.salt.to_le_bytes());
        bytes
    }

    /// Reads the wire form.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let (mut started, mut salt) = ([0; 8], [0; 8]);
        started.copy_from_slice(&bytes[..8]);
        salt.copy_from_slice(&bytes[8..]);
        Self { started_at_ms: u64::from_le_bytes(started), salt: u64::from_le_bytes(salt) }
    }
}

impl RuntimeLife {
    /// The first one of a node.
    pub const FIRST: Self = Self(0);

    /// Names one.
    pub const fn new(count: u32) -> Self {
        Self(count)
    }

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Lineage {
    /// Takes 128 random bits.
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// The wire form, little-endian.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// Reads the wire form.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lineage({:08x}…)", self.0 >> 96)
    }
}

impl MigrationId {
    /// Takes 128 random bits.
    pub const fn new(bits: u128) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// The wire form, little-endian.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// Reads the wire form.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }
}

impl fmt::Debug for MigrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MigrationId({:08x}…)", self.0 >> 96)
    }
}

impl Epoch {
    /// The epoch of a fresh spawn.
    pub const FIRST: Self = Self(1);

    /// Names an epoch.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether `other` is so far ahead that no sequence of moves leads there: whoever claims it could shut all others out.
    pub fn is_far_behind(self, other: Self) -> bool {
        self.behind(other) > FARTHEST
    }

    /// How many epochs it is behind another one.
    pub const fn behind(self, other: Self) -> u64 {
        other.0.saturating_sub(self.0)
    }

    /// The epoch after this one; none after the last.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}
