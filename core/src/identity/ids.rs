//! Entity ids and the 64-bit addresses derived from them.

use std::fmt;

use ed25519_dalek::VerifyingKey;

use super::derive::keyed_hash;

/// The 32-byte ed25519 public key of a daemon or a node. Identity decisions compare this, never a hash of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId([u8; 32]);

/// The 64-bit address of a daemon: the first 8 bytes (little-endian) of keyed BLAKE2s-256 over its entity id, with the
/// key `net-origin-v1`. Two entities may share one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginHash(u64);

/// The 64-bit address of a node: as [`OriginHash`], with the key `net-node-id-v1`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

impl EntityId {
    /// Takes the bytes of a public key as they are; whether they are a point of the curve shows on verification.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Whether they are the canonical encoding of a public key that somebody may have the secret of: a point of the curve,
    /// and not one of small order.
    pub fn is_public_key(&self) -> bool {
        // The y coordinate, without the sign of x, is below 2^255 - 19.
        let [low, middle @ .., high] = &self.0;
        let canonical = *low < 0xed || *high & 0x7f != 0x7f || middle.iter().any(|byte| *byte != 0xff);
        canonical && VerifyingKey::from_bytes(&self.0).is_ok_and(|key| !key.is_weak())
    }

    /// The public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The address of the daemon with this key.
    pub fn origin_hash(&self) -> OriginHash {
        OriginHash(self.keyed_hash(b"net-origin-v1"))
    }

    /// The address of the node with this key.
    pub fn node_id(&self) -> NodeId {
        NodeId(self.keyed_hash(b"net-node-id-v1"))
    }

    fn keyed_hash(&self, key: &[u8]) -> u64 {
        let digest = keyed_hash(key, &[&self.0]);
        u64::from_le_bytes(std::array::from_fn(|i| digest[i]))
    }
}

impl OriginHash {
    /// Names an address whose key is not at hand.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl NodeId {
    /// Names a node whose key is not at hand.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntityId({self})")
    }
}

/// The first bytes, in hexadecimal.
impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0[..6] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("…")
    }
}

impl fmt::Debug for OriginHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OriginHash({})", self.0)
    }
}

/// In decimal, as every language of an embedder writes the number.
impl fmt::Display for OriginHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.0)
    }
}

/// In decimal, as every language of an embedder writes the number.
impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
