//! The identity envelope: a daemon's secret seed, sealed to exactly one node for exactly one move.
//!
//! Ephemeral X25519 with the target's Noise static key → keyed BLAKE2s-256 with a domain label → XChaCha20-Poly1305. The
//! associated data, and an ed25519 attestation by the daemon's own key, bind the envelope to the chain link, the
//! migration, the epoch and the digest of the snapshot that it travels with: it opens nowhere else.

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use x25519_dalek::{PublicKey, SharedSecret, StaticSecret};
use zeroize::Zeroizing;

use super::derive::keyed_hash;
use super::keypair::random_secret;
use super::{EntityId, EntityKeypair, EnvelopeError, Epoch, MigrationId, NodeStaticSecret, Signature};

const VERSION: u8 = 1;
const ATTESTATION_LABEL: &[u8] = b"mesh-daemon identity envelope attestation v1";
const KEY_LABEL: &[u8] = b"mesh-daemon identity envelope key v1";

/// Length of an encoded [`IdentityEnvelope`].
pub const ENVELOPE_LEN: usize = 1 + 32 + 32 + 32 + 24 + 32 + 16 + 64;

/// What an envelope is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvelopeContext {
    /// The 32 bytes of the link at the head of the daemon's chain.
    pub link: [u8; 32],
    /// The move.
    pub migration: MigrationId,
    /// The epoch that the daemon has when it is sealed.
    pub epoch: Epoch,
    /// Digest of the snapshot without envelope.
    pub snapshot_digest: [u8; 32],
}

/// A daemon's secret key for one target node. Without that node's static secret it is worth nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityEnvelope {
    signer: EntityId,
    target: [u8; 32],
    ephemeral: [u8; 32],
    nonce: [u8; 24],
    ciphertext: [u8; 32],
    tag: [u8; 16],
    attestation: Signature,
}

impl EnvelopeContext {
    fn to_bytes(self) -> [u8; 88] {
        let mut bytes = [0; 88];
        bytes[..32].copy_from_slice(&self.link);
        bytes[32..48].copy_from_slice(&self.migration.to_bytes());
        bytes[48..56].copy_from_slice(&self.epoch.get().to_le_bytes());
        bytes[56..].copy_from_slice(&self.snapshot_digest);
        bytes
    }
}

impl IdentityEnvelope {
    /// Seals the secret of `daemon` to the node with the static key `target_static`.
    ///
    /// That key must be one that the caller authenticated itself, in its own session with the target.
    ///
    /// # Panics
    /// When the operating system has no random numbers.
    pub fn seal(
        daemon: &EntityKeypair,
        target_static: &[u8; 32],
        context: &EnvelopeContext,
    ) -> Result<Self, EnvelopeError> {
        let mut ciphertext = daemon.seed().ok_or(EnvelopeError::ReadOnly)?;
        let attestation = daemon.sign(&attested(target_static, context)).map_err(|_| EnvelopeError::ReadOnly)?;
        let secret = StaticSecret::from(*random_secret::<32>());
        let ephemeral = PublicKey::from(&secret).to_bytes();
        let shared = secret.diffie_hellman(&PublicKey::from(*target_static));
        let cipher = cipher(&shared, &ephemeral, target_static).ok_or(EnvelopeError::WeakTargetKey)?;
        let nonce = *random_secret::<24>();
        let tag = cipher
            .encrypt_in_place_detached(&nonce.into(), &context.to_bytes(), ciphertext.as_mut_slice())
            .map_err(|_| EnvelopeError::Undecryptable)?;
        Ok(Self {
            signer: daemon.entity_id(),
            target: *target_static,
            ephemeral,
            nonce,
            ciphertext: *ciphertext,
            tag: tag.into(),
            attestation,
        })
    }

    /// The daemon whose secret this claims to be.
    pub const fn signer(&self) -> EntityId {
        self.signer
    }

    /// The wire form: version 1 · signer 32 · target static 32 · ephemeral 32 · nonce 24 · ciphertext 32 · tag 16 ·
    /// attestation 64.
    pub fn to_bytes(&self) -> [u8; ENVELOPE_LEN] {
        let mut bytes = [0; ENVELOPE_LEN];
        bytes[0] = VERSION;
        let mut rest = &mut bytes[1..];
        for part in [
            self.signer.as_bytes().as_slice(),
            &self.target,
            &self.ephemeral,
            &self.nonce,
            &self.ciphertext,
            &self.tag,
            self.attestation.as_bytes(),
        ] {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        bytes
    }

    /// Reads the wire form. Nothing is verified yet.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        // The version first: another one may have another length.
        if let Some(&got) = bytes.first()
            && got != VERSION
        {
            return Err(EnvelopeError::UnsupportedVersion { got, supported: VERSION });
        }
        let bytes: &[u8; ENVELOPE_LEN] =
            bytes.try_into().map_err(|_| EnvelopeError::WrongLength { expected: ENVELOPE_LEN, got: bytes.len() })?;
        Ok(Self {
            signer: EntityId::from_bytes(part(bytes, 1)),
            target: part(bytes, 33),
            ephemeral: part(bytes, 65),
            nonce: part(bytes, 97),
            ciphertext: part(bytes, 121),
            tag: part(bytes, 153),
            attestation: Signature::from_bytes(part(bytes, 169)),
        })
    }
}

impl NodeStaticSecret {
    /// Opens an envelope that travelled with a snapshot of `expected_signer`.
    ///
    /// Checks in this order: signer, attestation, target, decryption, the seed's public key. `context` is computed from
    /// what arrived, never taken from the sender.
    pub fn open(
        &self,
        envelope: &IdentityEnvelope,
        expected_signer: EntityId,
        context: &EnvelopeContext,
    ) -> Result<EntityKeypair, EnvelopeError> {
        if envelope.signer != expected_signer {
            return Err(EnvelopeError::WrongSigner { expected: expected_signer, got: envelope.signer });
        }
        expected_signer
            .verify(&attested(&envelope.target, context), &envelope.attestation)
            .map_err(|_| EnvelopeError::BadAttestation)?;
        if envelope.target != *self.public() {
            return Err(EnvelopeError::WrongTarget);
        }
        let shared = self.secret().diffie_hellman(&PublicKey::from(envelope.ephemeral));
        let cipher = cipher(&shared, &envelope.ephemeral, &envelope.target).ok_or(EnvelopeError::Undecryptable)?;
        let mut seed = Zeroizing::new(envelope.ciphertext);
        cipher
            .decrypt_in_place_detached(
                &envelope.nonce.into(),
                &context.to_bytes(),
                seed.as_mut_slice(),
                &envelope.tag.into(),
            )
            .map_err(|_| EnvelopeError::Undecryptable)?;
        let daemon = EntityKeypair::from_seed(&seed);
        if daemon.entity_id() == expected_signer { Ok(daemon) } else { Err(EnvelopeError::SeedMismatch) }
    }
}

fn attested(target_static: &[u8; 32], context: &EnvelopeContext) -> Vec<u8> {
    [ATTESTATION_LABEL, target_static, &context.to_bytes()].concat()
}

/// The cipher of one envelope; none when the agreement contributed nothing (a low-order public key).
fn cipher(shared: &SharedSecret, ephemeral: &[u8; 32], target: &[u8; 32]) -> Option<XChaCha20Poly1305> {
    shared.was_contributory().then(|| {
        let key = keyed_hash(shared.as_bytes(), &[KEY_LABEL, ephemeral, target]);
        XChaCha20Poly1305::new((&*key).into())
    })
}

fn part<const N: usize>(bytes: &[u8; ENVELOPE_LEN], from: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[from + i])
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
