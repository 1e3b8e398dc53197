//! Requirement 105 and hazard 32, one rule each.

use proptest::prelude::*;

use super::*;

fn node(seed: u8) -> NodeStaticSecret {
    NodeStaticSecret::derive(&EntityKeypair::from_seed(&[seed; 32])).expect("full")
}

fn context() -> EnvelopeContext {
    EnvelopeContext {
        link: [3; 32],
        migration: MigrationId::new(0x0102_0304),
        epoch: Epoch::new(5),
        snapshot_digest: [9; 32],
    }
}

fn sealed() -> (EntityKeypair, NodeStaticSecret, IdentityEnvelope) {
    let (daemon, target) = (EntityKeypair::from_seed(&[7; 32]), node(8));
    let envelope = IdentityEnvelope::seal(&daemon, target.public(), &context()).expect("sealable");
    (daemon, target, envelope)
}

#[test]
fn requirement_105_a_good_envelope_carries_the_key() {
    let (daemon, target, envelope) = sealed();
    let envelope = IdentityEnvelope::from_bytes(&envelope.to_bytes()).expect("round trip");
    let opened = target.open(&envelope, daemon.entity_id(), &context()).expect("opens");
    assert_eq!(opened.entity_id(), daemon.entity_id());
    assert_eq!(opened.seed(), daemon.seed());
}

#[test]
fn hazard_31_a_read_only_key_and_a_weak_target_cannot_be_sealed() {
    let daemon = EntityKeypair::from_seed(&[7; 32]);
    let public = daemon.to_public();
    assert_eq!(IdentityEnvelope::seal(&public, node(8).public(), &context()), Err(EnvelopeError::ReadOnly));
    assert_eq!(IdentityEnvelope::seal(&daemon, &[0; 32], &context()), Err(EnvelopeError::WeakTargetKey));
}

#[test]
fn requirement_105_another_signer_is_refused_first() {
    let (daemon, target, mut envelope) = sealed();
    envelope.attestation = Signature::from_bytes([0; 64]);
    let expected = EntityKeypair::from_seed(&[1; 32]).entity_id();
    assert_eq!(
        target.open(&envelope, expected, &context()).err(),
        Some(EnvelopeError::WrongSigner { expected, got: daemon.entity_id() })
    );
}

#[test]
fn requirement_105_every_part_of_the_context_is_bound() {
    let (daemon, target, envelope) = sealed();
    let good = context();
    for other in [
        EnvelopeContext { link: [4; 32], ..good },
        EnvelopeContext { migration: MigrationId::new(1), ..good },
        EnvelopeContext { epoch: Epoch::new(6), ..good },
        EnvelopeContext { snapshot_digest: [8; 32], ..good },
    ] {
        assert_eq!(target.open(&envelope, daemon.entity_id(), &other).err(), Some(EnvelopeError::BadAttestation));
        // Signed anew for the other context, it still does not decrypt there.
        let mut resigned = envelope.clone();
        resigned.attestation = daemon.sign(&attested(target.public(), &other)).expect("full");
        assert_eq!(target.open(&resigned, daemon.entity_id(), &other).err(), Some(EnvelopeError::Undecryptable));
    }
}

#[test]
fn requirement_105_an_envelope_for_another_node_is_refused_even_when_retargeted() {
    let (daemon, _, envelope) = sealed();
    let thief = node(66);
    assert_eq!(thief.open(&envelope, daemon.entity_id(), &context()).err(), Some(EnvelopeError::WrongTarget));
    let mut retargeted = envelope;
    retargeted.target = *thief.public();
    assert_eq!(thief.open(&retargeted, daemon.entity_id(), &context()).err(), Some(EnvelopeError::BadAttestation));
    retargeted.attestation = daemon.sign(&attested(thief.public(), &context())).expect("full");
    assert_eq!(thief.open(&retargeted, daemon.entity_id(), &context()).err(), Some(EnvelopeError::Undecryptable));
}

#[test]
fn requirement_105_a_substituted_secret_is_refused() {
    // Somebody who holds the daemon's attestation seals a secret of its own beside it.
    let (daemon, target, envelope) = sealed();
    let other = EntityKeypair::from_seed(&[42; 32]);
    let mut substituted = IdentityEnvelope::seal(&other, target.public(), &context()).expect("sealable");
    substituted.signer = daemon.entity_id();
    substituted.attestation = envelope.attestation;
    assert_eq!(target.open(&substituted, daemon.entity_id(), &context()).err(), Some(EnvelopeError::SeedMismatch));
}

#[test]
fn requirement_105_every_flipped_bit_is_noticed() {
    let (daemon, target, envelope) = sealed();
    let good = envelope.to_bytes();
    for at in 0..good.len() {
        let mut bad = good;
        bad[at] ^= 0x10;
        let error = IdentityEnvelope::from_bytes(&bad)
            .and_then(|envelope| target.open(&envelope, daemon.entity_id(), &context()))
            .expect_err("changed");
        let fits = match at {
            0 => matches!(error, EnvelopeError::UnsupportedVersion { got: 0x11, supported: 1 }),
            1..33 => matches!(error, EnvelopeError::WrongSigner { .. }),
            33..65 | 169.. => error == EnvelopeError::BadAttestation,
            65..169 => error == EnvelopeError::Undecryptable,
        };
        assert!(fits, "byte {at}: {error:?}");
    }
}

#[test]
fn requirement_105_truncation_and_trailing_bytes_are_refused() {
    let bytes = sealed().2.to_bytes();
    for got in 0..bytes.len() {
        let error = IdentityEnvelope::from_bytes(&bytes[..got]);
        assert_eq!(error, Err(EnvelopeError::WrongLength { expected: ENVELOPE_LEN, got }));
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(matches!(IdentityEnvelope::from_bytes(&longer), Err(EnvelopeError::WrongLength { .. })));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(envelope) = IdentityEnvelope::from_bytes(&bytes) {
            prop_assert_eq!(envelope.to_bytes().to_vec(), bytes);
        }
    }

    #[test]
    fn any_body_of_the_right_length_round_trips_and_does_not_open(
        body in proptest::collection::vec(any::<u8>(), ENVELOPE_LEN - 1)
    ) {
        let bytes = [&[VERSION][..], &body].concat();
        let envelope = IdentityEnvelope::from_bytes(&bytes).expect("right length");
        prop_assert_eq!(envelope.to_bytes().to_vec(), bytes);
        prop_assert!(node(8).open(&envelope, envelope.signer(), &context()).is_err());
    }
}
