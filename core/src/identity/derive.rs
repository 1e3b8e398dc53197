//! Keyed hashes: every address and key that follows from another one.
//!
//! All are keyed BLAKE2s-256 (RFC 7693) with an ASCII label as the key, or xxh3-64 where no secret and no identity
//! hangs on the result.

use blake2::Blake2sMac256;
use blake2::digest::{KeyInit, Mac};
use xxhash_rust::xxh3::xxh3_64;
use zeroize::Zeroizing;

use super::{EntityKeypair, OriginHash};

/// Keyed BLAKE2s-256 over the concatenation of `parts`.
///
/// `key` is a label of this crate or a 32-byte shared secret, so never longer than the 32 bytes that BLAKE2s allows.
pub(super) fn keyed_hash(key: &[u8], parts: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut mac = <Blake2sMac256 as KeyInit>::new_from_slice(key).expect("labels and secrets are at most 32 bytes");
    for part in parts {
        mac.update(part);
    }
    let mut digest = Zeroizing::new([0; 32]);
    digest.copy_from_slice(&mac.finalize().into_bytes());
    digest
}

/// The key pair of replica `index` of a group: ed25519 seed = keyed BLAKE2s-256, key `net-replica-v1`, message = group
/// seed ‖ index.
pub fn replica_keypair(group_seed: &[u8; 32], index: u8) -> EntityKeypair {
    EntityKeypair::from_seed(&keyed_hash(b"net-replica-v1", &[group_seed, &[index]]))
}

/// The id of a group: the low 32 bits of xxh3-64 over its seed.
pub fn group_id(group_seed: &[u8; 32]) -> u32 {
    let [a, b, c, d, ..] = xxh3_64(group_seed).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Marks where a fork left its parent: xxh3-64 over parent origin ‖ fork sequence (both little-endian) ‖ ASCII `fork`.
pub fn fork_sentinel(parent: OriginHash, fork_sequence: u64) -> u64 {
    let mut message = [0; 20];
    message[..8].copy_from_slice(&parent.get().to_le_bytes());
    message[8..16].copy_from_slice(&fork_sequence.to_le_bytes());
    message[16..].copy_from_slice(b"fork");
    xxh3_64(&message)
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{counting_seed, unhex};
    use super::*;

    // Expected values come from Python: hashlib.blake2s, cryptography's Ed25519 and xxhash, not from this crate.
    #[test]
    fn replica_keys_match_vectors_of_another_implementation() {
        let seed = counting_seed();
        assert_eq!(
            replica_keypair(&seed, 0).entity_id().as_bytes(),
            &unhex("9fd8746935ac5c08bffa694e4fcd04a5b5d658ba234fdfe871d1ae5184cff7ef")
        );
        assert_eq!(
            replica_keypair(&seed, 7).entity_id().as_bytes(),
            &unhex("2157de234a1baaaf65d9764c0b339763a09749f96634a5368aef75af2778467e")
        );
    }

    #[test]
    fn group_id_and_fork_sentinel_match_vectors_of_another_implementation() {
        assert_eq!(group_id(&counting_seed()), 0xe96e_4c05);
        assert_eq!(fork_sentinel(OriginHash::new(0x0123_4567_89ab_cdef), 42), 0x8914_6ded_76ad_c287);
    }
}
