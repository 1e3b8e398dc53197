//! The link: what ties an event to its emitter's chain.

use std::fmt;

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use crate::identity::OriginHash;

/// Length of an encoded [`CausalLink`].
pub const LINK_LEN: usize = 32;

/// Links and payloads up to this many bytes together are hashed in one go on the stack; measured, that is several times
/// faster than the streaming hash for small messages.
const ONE_SHOT_LEN: usize = 256;

/// Position in one emitter's chain. The genesis has 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u64);

/// Hash that ties a link to the link and the payload before it: xxh3-64(previous link's 32 bytes ‖ previous payload).
/// It finds mistakes, not forgers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ParentHash(u64);

/// Which origins an emitter had observed, as a Bloom filter of 64 bits; see [`Horizon`](super::Horizon).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct HorizonBloom(u64);

/// One link of a chain: 32 bytes on the wire, little-endian, in the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CausalLink {
    /// Whose chain.
    pub origin: OriginHash,
    /// What the emitter had observed.
    pub horizon: HorizonBloom,
    /// Position in the chain.
    pub sequence: Sequence,
    /// Ties to the link before.
    pub parent_hash: ParentHash,
}

impl Sequence {
    /// The position of the genesis.
    pub const GENESIS: Self = Self(0);

    /// Names a position.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position after this one; none after the last.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl ParentHash {
    /// The parent of a genesis.
    pub const NONE: Self = Self(0);

    /// Names a hash.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The hash that the successor of `link` with `payload` carries. Allocates nothing.
    pub fn of(link: &CausalLink, payload: &[u8]) -> Self {
        let head = link.to_bytes();
        let len = LINK_LEN + payload.len();
        if len <= ONE_SHOT_LEN {
            let mut whole = [0; ONE_SHOT_LEN];
            whole[..LINK_LEN].copy_from_slice(&head);
            whole[LINK_LEN..len].copy_from_slice(payload);
            return Self(xxh3_64(&whole[..len]));
        }
        let mut hash = Xxh3Default::new();
        hash.update(&head);
        hash.update(payload);
        Self(hash.digest())
    }
}

impl HorizonBloom {
    /// Nothing observed.
    pub const EMPTY: Self = Self(0);

    /// Takes the bits.
    pub const fn new(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The filter of one origin: one to three of the 64 bits, chosen by the low 18 bits of the origin, which is itself a
    /// hash.
    pub const fn of(origin: OriginHash) -> Self {
        let hash = origin.get();
        Self(1 << (hash & 63) | 1 << (hash >> 6 & 63) | 1 << (hash >> 12 & 63))
    }

    /// The filter of all that is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the origin may have been observed; `false` is certain.
    pub const fn may_contain(self, origin: OriginHash) -> bool {
        let bits = Self::of(origin).0;
        self.0 & bits == bits
    }
}

impl CausalLink {
    /// The first link of a chain: sequence 0, parent 0, horizon 0.
    pub const fn genesis(origin: OriginHash) -> Self {
        Self { origin, horizon: HorizonBloom::EMPTY, sequence: Sequence::GENESIS, parent_hash: ParentHash::NONE }
    }

    /// The wire form.
    pub fn to_bytes(&self) -> [u8; LINK_LEN] {
        let mut bytes = [0; LINK_LEN];
        bytes[..8].copy_from_slice(&self.origin.get().to_le_bytes());
        bytes[8..16].copy_from_slice(&self.horizon.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.0.to_le_bytes());
        bytes[24..].copy_from_slice(&self.parent_hash.0.to_le_bytes());
        bytes
    }

    /// Reads the wire form; all 32 bytes mean something, so nothing can be wrong with them.
    pub fn from_bytes(bytes: &[u8; LINK_LEN]) -> Self {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Self {
            origin: OriginHash::new(word(0)),
            horizon: HorizonBloom(word(8)),
            sequence: Sequence(word(16)),
            parent_hash: ParentHash(word(24)),
        }
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ParentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParentHash({:016x})", self.0)
    }
}

impl fmt::Display for ParentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for HorizonBloom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HorizonBloom({:016x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ramp(len: usize) -> Vec<u8> {
        (0..len).map(|i| u8::try_from(i % 251).expect("below 251")).collect()
    }

    // Expected: Python's xxhash over struct.pack('<QQQQ', …) + payload.
    #[test]
    fn requirement_106_parent_hash_matches_vectors_of_another_implementation() {
        let genesis = CausalLink::genesis(OriginHash::new(0x0123_4567_89ab_cdef));
        let parent_hash = ParentHash::of(&genesis, b"");
        assert_eq!(parent_hash, ParentHash::new(0x0e21_86b7_d981_64ea));
        let link = CausalLink {
            origin: genesis.origin,
            horizon: HorizonBloom::new(0x8000_0000_0000_0401),
            sequence: Sequence::new(1),
            parent_hash,
        };
        for (len, expected) in [
            (5, 0x2f87_d034_bd20_41f8),
            (207, 0x0f45_4cc2_5b82_2a83),
            (208, 0xfd6d_ad0b_f2da_f5d4),
            (209, 0xe175_56f5_0ed2_4050),
            (240, 0x212c_cc6b_0db3_3699),
            (5000, 0xf720_ddc9_39eb_3e92),
        ] {
            assert_eq!(ParentHash::of(&link, &ramp(len)).get(), expected, "{len} bytes");
        }
    }

    #[test]
    fn requirement_106_a_link_is_32_bytes_little_endian_in_order() {
        let link = CausalLink {
            origin: OriginHash::new(1),
            horizon: HorizonBloom::new(2),
            sequence: Sequence::new(3),
            parent_hash: ParentHash::new(4),
        };
        let mut expected = [0; 32];
        (expected[0], expected[8], expected[16], expected[24]) = (1, 2, 3, 4);
        assert_eq!(link.to_bytes(), expected);
    }

    #[test]
    fn genesis_is_all_zero_but_its_origin() {
        let bytes = CausalLink::genesis(OriginHash::new(u64::MAX)).to_bytes();
        assert_eq!(bytes[..8], [0xff; 8]);
        assert_eq!(bytes[8..], [0; 24]);
    }

    proptest! {
        #[test]
        fn any_32_bytes_are_a_link_and_round_trip(bytes: [u8; 32]) {
            prop_assert_eq!(CausalLink::from_bytes(&bytes).to_bytes(), bytes);
        }

        #[test]
        fn requirement_106_streaming_hash_equals_one_shot_hash(
            bytes: [u8; 32], payload in proptest::collection::vec(any::<u8>(), 0..700)
        ) {
            let link = CausalLink::from_bytes(&bytes);
            let one_shot = xxh3_64(&[&bytes, payload.as_slice()].concat());
            prop_assert_eq!(ParentHash::of(&link, &payload).get(), one_shot);
        }

        #[test]
        fn a_filter_contains_what_was_put_in(origins in proptest::collection::vec(any::<u64>(), 0..40)) {
            let bloom = origins
                .iter()
                .fold(HorizonBloom::EMPTY, |bloom, &origin| bloom.union(HorizonBloom::of(OriginHash::new(origin))));
            prop_assert!(origins.iter().all(|&origin| bloom.may_contain(OriginHash::new(origin))));
        }
    }
}
