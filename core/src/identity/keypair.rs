//! Ed25519 key pairs of daemons and nodes.

use std::fmt;
use std::sync::Arc;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::{EntityId, IdentityError, NodeId, OriginHash};

/// An ed25519 signature (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature([u8; 64]);

/// A key pair, or only its public half.
///
/// The secret exists once: clones share it, and it is wiped when the last of them goes.
#[derive(Clone)]
pub struct EntityKeypair {
    entity: EntityId,
    // Derived once: they are compared on every event.
    origin: OriginHash,
    node: NodeId,
    secret: Option<Arc<SigningKey>>,
}

impl Signature {
    /// Takes the bytes of a signature as they are.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The signature.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl EntityId {
    /// Verifies strictly: small-order keys and malleable signatures do not pass.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), IdentityError> {
        VerifyingKey::from_bytes(self.as_bytes())
            .and_then(|key| key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)))
            .map_err(|_| IdentityError::BadSignature)
    }
}

impl EntityKeypair {
    /// A fresh key pair from the random numbers of the operating system.
    ///
    /// # Panics
    /// When the operating system has none: a key that is not random must not exist.
    pub fn generate() -> Self {
        Self::from_seed(&random_secret())
    }

    /// The key pair with this secret seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let secret = Arc::new(SigningKey::from_bytes(seed));
        let public = Self::public_only(EntityId::from_bytes(secret.verifying_key().to_bytes()));
        Self { secret: Some(secret), ..public }
    }

    /// A key pair that can be named but cannot sign.
    pub fn public_only(entity: EntityId) -> Self {
        Self { entity, origin: entity.origin_hash(), node: entity.node_id(), secret: None }
    }

    /// The public key.
    pub const fn entity_id(&self) -> EntityId {
        self.entity
    }

    /// The address of the daemon with this key.
    pub const fn origin_hash(&self) -> OriginHash {
        self.origin
    }

    /// The address of the node with this key.
    pub const fn node_id(&self) -> NodeId {
        self.node
    }

    /// Whether the secret is missing.
    pub const fn is_read_only(&self) -> bool {
        self.secret.is_none()
    }

    /// The secret seed, when it is here.
    pub fn seed(&self) -> Option<Zeroizing<[u8; 32]>> {
        self.secret.as_ref().map(|secret| Zeroizing::new(secret.to_bytes()))
    }

    /// Signs a message. Callers put a label in front that no other kind of message begins with.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, IdentityError> {
        let secret = self.secret.as_ref().ok_or(IdentityError::ReadOnly(self.entity))?;
        Ok(Signature(secret.sign(message).to_bytes()))
    }

    /// The same identity without its secret.
    #[must_use]
    pub fn to_public(&self) -> Self {
        Self { secret: None, ..self.clone() }
    }
}

/// Random bytes that are to stay secret.
pub(super) fn random_secret<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(bytes.as_mut_slice()).expect("the operating system gives random numbers");
    bytes
}

impl fmt::Debug for EntityKeypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EntityKeypair").field(&self.entity).finish()
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(")?;
        for byte in &self.0[..6] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("…)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{counting_seed, unhex};
    use super::*;

    // RFC 8032, section 7.1, tests 1 and 3.
    #[test]
    fn signs_as_rfc_8032() {
        for (seed, public, message, signature) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                &[][..],
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                &[0xaf, 0x82][..],
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ] {
            let keypair = EntityKeypair::from_seed(&unhex(seed));
            assert_eq!(keypair.entity_id().as_bytes(), &unhex::<32>(public));
            let made = keypair.sign(message).expect("full");
            assert_eq!(made.as_bytes(), &unhex::<64>(signature));
            assert_eq!(keypair.entity_id().verify(message, &made), Ok(()));
            assert_eq!(keypair.entity_id().verify(b"other", &made), Err(IdentityError::BadSignature));
        }
    }

    // The addresses were computed with Python's hashlib.blake2s.
    #[test]
    fn addresses_match_vectors_of_another_implementation() {
        let keypair = EntityKeypair::from_seed(&counting_seed());
        assert_eq!(keypair.origin_hash(), OriginHash::new(0x782a_3238_8019_76bf));
        assert_eq!(keypair.node_id(), NodeId::new(0xbd82_6a5d_0a63_94f5));
    }

    #[test]
    fn strict_verification_refuses_small_order_keys() {
        // The neutral element signs everything with R = neutral, s = 0 where verification is lax.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let verified = EntityId::from_bytes(neutral).verify(b"any", &Signature::from_bytes(signature));
        assert_eq!(verified, Err(IdentityError::BadSignature));
    }

    #[test]
    fn strict_verification_refuses_malleable_signatures() {
        // s + L is the same scalar mod L; L little-endian.
        let order: [u8; 32] = unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let keypair = EntityKeypair::from_seed(&[5; 32]);
        let mut bytes = *keypair.sign(b"message").expect("full").as_bytes();
        let mut carry = 0;
        for (byte, add) in bytes[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert_eq!(
            keypair.entity_id().verify(b"message", &Signature::from_bytes(bytes)),
            Err(IdentityError::BadSignature)
        );
    }

    #[test]
    fn only_bytes_that_may_be_somebodys_public_key_are_one() {
        let encoded = |low: u8, middle: u8, high: u8| {
            let mut bytes = [middle; 32];
            (bytes[0], bytes[31]) = (low, high);
            EntityId::from_bytes(bytes)
        };
        assert!(EntityKeypair::from_seed(&[1; 32]).entity_id().is_public_key());
        assert!(encoded(18, 0, 0).is_public_key());
        for (what, entity) in [
            ("no point of the curve", encoded(2, 0, 0)),
            ("the neutral element", encoded(1, 0, 0)),
            ("of order 4", encoded(0, 0, 0)),
            ("18 in another way", encoded(0xff, 0xff, 0x7f)),
            ("the same with the other sign", encoded(0xff, 0xff, 0xff)),
        ] {
            assert!(!entity.is_public_key(), "{what}");
        }
    }

    #[test]
    fn public_only_cannot_sign_and_has_no_seed() {
        let full = EntityKeypair::generate();
        for public in [EntityKeypair::public_only(full.entity_id()), full.to_public()] {
            assert!(public.is_read_only());
            assert_eq!(public.seed(), None);
            assert_eq!(public.sign(b"x"), Err(IdentityError::ReadOnly(full.entity_id())));
            assert_eq!(public.origin_hash(), full.origin_hash());
        }
        assert!(!full.is_read_only());
    }

    #[test]
    fn requirement_26_debug_shows_no_secret() {
        let seed: [u8; 32] = std::array::from_fn(|i| 0xa0 + u8::try_from(i).expect("32 fits"));
        let keypair = EntityKeypair::from_seed(&seed);
        let shown = format!("{keypair:?} {keypair:#?}");
        assert!(!shown.to_lowercase().contains("a0a1"), "{shown}");
        assert!(!shown.contains("160"), "{shown}");
        assert!(shown.starts_with("EntityKeypair(EntityId("));
        assert_eq!(keypair.seed().as_deref(), Some(&seed));
    }
}
