//! The format, who may speak for an issuer, and that floors only rise.

use proptest::prelude::*;

use super::super::vectors::{counting_seed, unhex};
use super::super::{TokenGrant, TokenScope};
use super::*;

fn issuer() -> EntityKeypair {
    EntityKeypair::from_seed(&counting_seed())
}

fn token(generation: u32) -> PermissionToken {
    let grant = TokenGrant {
        subject: EntityId::from_bytes([2; 32]),
        scope: TokenScope::SUBSCRIBE,
        channel_hash: 7,
        ttl_seconds: 60,
        delegation_depth: 0,
        generation,
    };
    PermissionToken::issue(&issuer(), &grant, 1_700_000_000).expect("issuable")
}

#[test]
fn format_and_signature_match_the_vector_of_another_implementation() {
    let revocation = Revocation::issue(&issuer(), 0x0102_0304).expect("full");
    assert_eq!(revocation.to_bytes(), unhex::<REVOCATION_LEN>(VECTOR));
    assert_eq!(Revocation::from_bytes(&revocation.to_bytes()), Ok(revocation.clone()));
    assert_eq!((revocation.issuer(), revocation.below()), (issuer().entity_id(), 0x0102_0304));
}

// Expected: Python's struct and cryptography's Ed25519.
const VECTOR: &str = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b804030201d3758d357bbdc84d91e1b1cf8d9944fffac7293e443851010dac60416d86ab99c8cc470a6b438e73fa31d34dd61237e082d6c15517799444561c66886b12450b";

#[test]
fn only_the_issuer_can_make_one() {
    assert_eq!(Revocation::issue(&issuer().to_public(), 1), Err(TokenError::ReadOnly));
    let good = Revocation::issue(&issuer(), 1).expect("full");
    assert_eq!(good.verify(), Ok(()));
    let other = EntityKeypair::from_seed(&[9; 32]);
    let claimed = Revocation { issuer: other.entity_id(), ..good.clone() };
    assert_eq!(claimed.verify(), Err(TokenError::ForgedRevocation));
    // What was signed without the label, or for something else, is no revocation.
    let bare = [issuer().entity_id().as_bytes().as_slice(), &1_u32.to_le_bytes()].concat();
    let bare = Revocation { signature: issuer().sign(&bare).expect("full"), ..good };
    assert_eq!(bare.verify(), Err(TokenError::ForgedRevocation));
}

#[test]
fn every_mutated_byte_is_rejected() {
    let good = Revocation::issue(&issuer(), 5).expect("full").to_bytes();
    for at in 0..good.len() {
        for change in [1, 4, 0x80, 0xff] {
            let mut bad = good;
            bad[at] ^= change;
            let bad = Revocation::from_bytes(&bad).expect("format");
            assert_eq!(bad.verify(), Err(TokenError::ForgedRevocation), "byte {at}");
        }
    }
}

#[test]
fn hazard_43_a_floor_never_falls_and_spares_what_is_not_below_it() {
    let mut floors = RevocationFloors::default();
    let issuer = issuer().entity_id();
    assert_eq!(floors.check(&token(0)), Ok(()));
    for (raised, floor) in [(0, 0), (3, 3), (1, 3), (3, 3), (4, 4), (0, 4)] {
        assert!(floors.raise(issuer, raised));
        assert_eq!(floors.floor_of(issuer), floor);
        for generation in 0..6 {
            let expected = if generation < floor { Err(TokenError::Revoked) } else { Ok(()) };
            assert_eq!(floors.check(&token(generation)), expected, "{generation} with {floor}");
        }
    }
    assert_eq!(floors.floor_of(EntityId::from_bytes([1; 32])), 0);
}

#[test]
fn floors_are_bounded_and_what_is_there_stays_and_rises() {
    let mut floors = RevocationFloors::default();
    let issuer = |number: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        EntityId::from_bytes(bytes)
    };
    for number in 0..MAX_REVOKED_ISSUERS {
        assert!(floors.raise(issuer(number), 1));
    }
    assert!(!floors.raise(issuer(MAX_REVOKED_ISSUERS), 1));
    assert_eq!(floors.floor_of(issuer(MAX_REVOKED_ISSUERS)), 0);
    assert!(floors.raise(issuer(0), 2));
    assert_eq!((floors.floor_of(issuer(0)), floors.floor_of(issuer(1))), (2, 1));
}

proptest! {
    #[test]
    fn only_100_bytes_are_a_revocation_and_they_round_trip(bytes in proptest::collection::vec(any::<u8>(), 90..110)) {
        match Revocation::from_bytes(&bytes) {
            Ok(revocation) => {
                prop_assert_eq!(bytes.len(), REVOCATION_LEN);
                prop_assert_eq!(revocation.to_bytes().to_vec(), bytes);
                prop_assert_eq!(revocation.verify(), Err(TokenError::ForgedRevocation), "nobody signed it");
            }
            Err(error) => {
                prop_assert_ne!(bytes.len(), REVOCATION_LEN);
                prop_assert_eq!(error, TokenError::InvalidFormat("a revocation has 100 bytes"));
            }
        }
    }

    #[test]
    fn what_an_issuer_says_round_trips(seed: [u8; 32], below: u32) {
        let issuer = EntityKeypair::from_seed(&seed);
        let made = Revocation::issue(&issuer, below).expect("full");
        let read = Revocation::from_bytes(&made.to_bytes()).expect("format");
        prop_assert_eq!(&read, &made);
        prop_assert_eq!(read.verify(), Ok(()));
        prop_assert_eq!((read.issuer(), read.below()), (issuer.entity_id(), below));
    }
}
