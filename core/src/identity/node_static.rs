//! The node's Noise static key.

use std::fmt;

use x25519_dalek::{PublicKey, StaticSecret};

use super::derive::keyed_hash;
use super::{EntityKeypair, IdentityError};

/// A node's X25519 secret, from which its Noise sessions and the envelopes sealed to it start.
///
/// Derived from the node's seed, so that pins of its public half survive restarts: keyed BLAKE2s-256, key
/// `mesh-static-v1`, message = seed. The secret itself never leaves this crate; it is wiped on drop.
#[derive(Clone)]
pub struct NodeStaticSecret {
    secret: StaticSecret,
    public: PublicKey,
}

impl NodeStaticSecret {
    /// Derives the key of a node from its identity.
    pub fn derive(node: &EntityKeypair) -> Result<Self, IdentityError> {
        let seed = node.seed().ok_or(IdentityError::ReadOnly(node.entity_id()))?;
        let secret = StaticSecret::from(*keyed_hash(b"mesh-static-v1", &[seed.as_slice()]));
        let public = PublicKey::from(&secret);
        Ok(Self { secret, public })
    }

    /// The half that peers pin and seal to.
    pub fn public(&self) -> &[u8; 32] {
        self.public.as_bytes()
    }

    /// The raw private key, for the Noise library.
    pub(crate) fn private_bytes(&self) -> &[u8; 32] {
        self.secret.as_bytes()
    }

    pub(super) const fn secret(&self) -> &StaticSecret {
        &self.secret
    }
}

impl fmt::Debug for NodeStaticSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeStaticSecret").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{counting_seed, unhex};
    use super::*;

    // Expected: Python's hashlib.blake2s and cryptography's X25519.
    #[test]
    fn static_key_matches_vector_of_another_implementation() {
        let node = NodeStaticSecret::derive(&EntityKeypair::from_seed(&counting_seed())).expect("full");
        let public = unhex("dfd9750d76b1bf986f89ca977ecfb56897f6885b0fd871186170651268ddaf7c");
        assert_eq!(node.public(), &public);
        let private = unhex("a0920c8ba2c5be48e59de435740164329be7e8c87a886a8910acd336a3e3976e");
        assert_eq!(node.private_bytes(), &private);
    }

    #[test]
    fn a_public_identity_has_no_static_key() {
        let public = EntityKeypair::generate().to_public();
        assert_eq!(NodeStaticSecret::derive(&public).err(), Some(IdentityError::ReadOnly(public.entity_id())));
    }

    #[test]
    fn hazard_32_debug_shows_no_static_secret() {
        let node = NodeStaticSecret::derive(&EntityKeypair::from_seed(&[1; 32])).expect("full");
        assert_eq!(format!("{node:?}"), "NodeStaticSecret { .. }");
    }
}
