//! Requirements 117 and 118, and the format.

use proptest::prelude::*;

use super::super::vectors::{counting_seed, unhex};
use super::*;

const NOW: u64 = 1_700_000_000;
const CHANNEL: u64 = 0xf51a_6716_fe78_7b6c;

fn issuer() -> EntityKeypair {
    EntityKeypair::from_seed(&counting_seed())
}

fn grant() -> TokenGrant {
    TokenGrant {
        subject: EntityId::from_bytes([2; 32]),
        scope: TokenScope::PUBLISH.union(TokenScope::DELEGATE),
        channel_hash: CHANNEL,
        ttl_seconds: 60,
        delegation_depth: 2,
        generation: 5,
    }
}

fn issue(change: impl FnOnce(&mut TokenGrant)) -> Result<PermissionToken, TokenError> {
    let mut grant = grant();
    change(&mut grant);
    PermissionToken::issue(&issuer(), &grant, NOW)
}

/// With a signature that fits, as an issuer that does not keep the rules would make it.
fn resigned(change: impl FnOnce(&mut PermissionToken)) -> PermissionToken {
    let mut token = issue(|_| {}).expect("issuable");
    change(&mut token);
    token.signed(&issuer()).expect("full")
}

// Expected: Python's struct and cryptography's Ed25519.
#[test]
fn format_and_signature_match_the_vector_of_another_implementation() {
    let token = resigned(|token| token.nonce = 0x0102_0304_0506_0708);
    let bytes = token.to_bytes();
    assert_eq!(bytes.len(), 169);
    assert_eq!(bytes, unhex(VECTOR));
    assert_eq!(PermissionToken::from_bytes(&bytes), Ok(token));
}

const VECTOR: &str = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b80202020202020202020202020202020202020202020202020202020202020202090000006c7b78fe16671af50500000000f15365000000003cf1536500000000020807060504030201ef1fa35a853ef09cb9ebd1398acd889f4bac1d1a38084aa10bc65a16e4782bbb91b811880ed03cef2f771be7b7f86c2cf398bd2bdef4d342b6e5f04642767f0a";

#[test]
fn requirement_117_the_boundary_is_inclusive_then_exclusive() {
    let token = issue(|_| {}).expect("issuable");
    for (now, expected) in [
        (NOW - 1, Err(TokenError::NotYetValid)),
        (NOW, Ok(())),
        (NOW + 59, Ok(())),
        (NOW + 60, Err(TokenError::Expired)),
        (u64::MAX, Err(TokenError::Expired)),
    ] {
        assert_eq!(token.verify(now), expected, "{now}");
    }
}

#[test]
fn requirement_117_zero_and_overlong_windows_are_refused_on_issue_and_on_receipt() {
    assert_eq!(issue(|grant| grant.ttl_seconds = 0), Err(TokenError::ZeroTtl));
    assert_eq!(issue(|grant| grant.ttl_seconds = MAX_TOKEN_TTL + 1), Err(TokenError::TtlTooLong));
    assert_eq!(issue(|grant| grant.ttl_seconds = u64::MAX), Err(TokenError::TtlTooLong));
    assert!(issue(|grant| grant.ttl_seconds = MAX_TOKEN_TTL).is_ok());
    assert_eq!(PermissionToken::issue(&issuer(), &grant(), u64::MAX), Err(TokenError::TtlTooLong));

    let overlong = resigned(|token| token.not_after = NOW + MAX_TOKEN_TTL + 1);
    assert_eq!(overlong.verify(NOW), Err(TokenError::TtlTooLong));
    let empty = resigned(|token| token.not_after = NOW);
    assert_eq!(empty.verify(NOW), Err(TokenError::ZeroTtl));
    let backwards = resigned(|token| token.not_after = 1);
    assert_eq!(backwards.verify(NOW), Err(TokenError::ZeroTtl));
}

#[test]
fn requirement_118_another_channel_only_with_the_wildcard_bit() {
    let plain = issue(|_| {}).expect("issuable");
    assert_eq!(plain.authorises(TokenScope::PUBLISH, TokenTarget::Channel(CHANNEL)), Ok(()));
    assert_eq!(plain.authorises(TokenScope::SUBSCRIBE, TokenTarget::Channel(CHANNEL)), Err(TokenError::NotAuthorized));
    assert_eq!(plain.authorises(TokenScope::PUBLISH, TokenTarget::Channel(1)), Err(TokenError::NotAuthorized));
    // Channel hash 0 is no wildcard, and the wildcard widens the channel, not the action.
    let zero = issue(|grant| grant.channel_hash = 0).expect("issuable");
    assert_eq!(zero.authorises(TokenScope::PUBLISH, TokenTarget::Channel(CHANNEL)), Err(TokenError::NotAuthorized));
    let any = issue(|grant| grant.scope = grant.scope.union(TokenScope::WILDCARD)).expect("issuable");
    assert_eq!(any.authorises(TokenScope::PUBLISH, TokenTarget::Channel(1)), Ok(()));
    assert_eq!(any.authorises(TokenScope::PUBLISH, TokenTarget::QueueGroup(1)), Err(TokenError::NotAuthorized));
    assert_eq!(any.authorises(TokenScope::SUBSCRIBE, TokenTarget::Channel(1)), Err(TokenError::NotAuthorized));
    let every_unnamed_bit = issue(|grant| grant.scope = TokenScope::from_bits(!31)).expect("issuable");
    assert_eq!(
        every_unnamed_bit.authorises(TokenScope::PUBLISH, TokenTarget::Channel(CHANNEL)),
        Err(TokenError::NotAuthorized)
    );
}

#[test]
fn a_read_only_identity_issues_and_delegates_nothing() {
    let public = issuer().to_public();
    assert_eq!(PermissionToken::issue(&public, &grant(), NOW), Err(TokenError::ReadOnly));
    let holder = EntityKeypair::from_seed(&[9; 32]);
    let parent = issue(|grant| grant.subject = holder.entity_id()).expect("issuable");
    let delegated = parent.delegate(&holder.to_public(), holder.entity_id(), TokenScope::PUBLISH, NOW);
    assert_eq!(delegated, Err(TokenError::ReadOnly));
}

#[test]
fn delegation_checks_in_order() {
    let holder = EntityKeypair::from_seed(&[9; 32]);
    let stranger = EntityKeypair::from_seed(&[8; 32]);
    let subject = EntityId::from_bytes([7; 32]);
    let delegate = |token: &PermissionToken, signer: &EntityKeypair, now| {
        token.delegate(signer, subject, TokenScope::PUBLISH, now)
    };
    let mut token = resigned(|token| {
        token.subject = holder.entity_id();
        token.scope = TokenScope::PUBLISH;
        token.delegation_depth = 0;
    });
    assert_eq!(delegate(&token, &stranger, NOW + 60), Err(TokenError::Expired));
    assert_eq!(delegate(&token, &stranger, NOW), Err(TokenError::NotAuthorized));
    assert_eq!(delegate(&token, &holder, NOW), Err(TokenError::DelegationNotAllowed));
    token = resigned(|token| {
        token.subject = holder.entity_id();
        token.delegation_depth = 0;
    });
    assert_eq!(delegate(&token, &holder, NOW), Err(TokenError::DelegationExhausted));
    token.nonce ^= 1;
    assert_eq!(delegate(&token, &holder, NOW), Err(TokenError::InvalidSignature));
}

#[test]
fn a_delegated_token_is_within_its_parent() {
    let holder = EntityKeypair::from_seed(&[9; 32]);
    let parent = issue(|grant| grant.subject = holder.entity_id()).expect("issuable");
    let subject = EntityId::from_bytes([7; 32]);
    let wanted = TokenScope::PUBLISH.union(TokenScope::ADMIN).union(TokenScope::WILDCARD);
    let child = parent.delegate(&holder, subject, wanted, NOW + 10).expect("delegable");
    assert_eq!(child.verify(NOW + 10), Ok(()));
    assert_eq!((child.issuer(), child.subject()), (holder.entity_id(), subject));
    assert_eq!(child.scope(), TokenScope::PUBLISH);
    assert_eq!(child.channel_hash(), parent.channel_hash());
    assert_eq!((child.not_before(), child.not_after()), (NOW + 10, parent.not_after()));
    assert_eq!((child.delegation_depth(), child.generation()), (1, 5));
}

#[test]
fn every_flipped_bit_breaks_the_signature() {
    let good = issue(|_| {}).expect("issuable").to_bytes();
    for at in 0..good.len() {
        let mut bad = good;
        bad[at] ^= 4;
        let token = PermissionToken::from_bytes(&bad).expect("format");
        assert_eq!(token.verify_signature(), Err(TokenError::InvalidSignature), "byte {at}");
    }
}

proptest! {
    #[test]
    fn what_an_issuer_says_is_what_is_read_and_verified(
        seed: [u8; 32], subject: [u8; 32], scope: u32, channel_hash: u64, generation: u32, delegation_depth: u8,
        ttl_seconds in 1..=MAX_TOKEN_TTL, now in 0..u64::MAX - MAX_TOKEN_TTL,
    ) {
        let issuer = EntityKeypair::from_seed(&seed);
        let (subject, scope) = (EntityId::from_bytes(subject), TokenScope::from_bits(scope));
        let grant = TokenGrant { subject, scope, channel_hash, ttl_seconds, delegation_depth, generation };
        let made = PermissionToken::issue(&issuer, &grant, now).expect("issuable");
        let read = PermissionToken::from_bytes(&made.to_bytes()).expect("format");
        prop_assert_eq!(&read, &made);
        prop_assert_eq!((read.issuer(), read.subject(), read.scope()), (issuer.entity_id(), subject, scope));
        prop_assert_eq!((read.channel_hash(), read.generation()), (channel_hash, generation));
        prop_assert_eq!((read.not_before(), read.not_after()), (now, now + ttl_seconds));
        prop_assert_eq!(read.delegation_depth(), delegation_depth);
        prop_assert_eq!(read.verify(now), Ok(()));
        prop_assert_eq!(read.verify(now + ttl_seconds), Err(TokenError::Expired));
    }

    #[test]
    fn requirement_117_a_tolerance_moves_the_beginning_and_never_the_end(
        from in 0..u64::MAX - MAX_TOKEN_TTL, ttl in 1..=MAX_TOKEN_TTL, away in -400_i64..400, skew in 0..400_u64, at_end: bool,
    ) {
        let token = resigned(|token| (token.not_before, token.not_after) = (from, from + ttl));
        let now = (if at_end { from + ttl } else { from }).saturating_add_signed(away);
        let expected = if now >= from + ttl {
            Err(TokenError::Expired)
        } else if now.saturating_add(skew) >= from {
            Ok(())
        } else {
            Err(TokenError::NotYetValid)
        };
        prop_assert_eq!(token.check_time(now, skew), expected);
    }

    #[test]
    fn only_169_bytes_are_a_token_and_they_round_trip(bytes in proptest::collection::vec(any::<u8>(), 160..180)) {
        match PermissionToken::from_bytes(&bytes) {
            Ok(token) => {
                prop_assert_eq!(bytes.len(), TOKEN_LEN);
                prop_assert_eq!(token.to_bytes().to_vec(), bytes);
            }
            Err(error) => {
                prop_assert_ne!(bytes.len(), TOKEN_LEN);
                let format = matches!(error, TokenError::InvalidFormat(_));
                prop_assert!(format);
            }
        }
    }
}
