//! The order of verification, each rule once.

use proptest::prelude::*;

use super::super::TokenGrant;
use super::*;

const NOW: u64 = 1_700_000_000;
const CHANNEL: u64 = 77;

fn key(seed: u8) -> EntityKeypair {
    EntityKeypair::from_seed(&[seed; 32])
}

fn grant(subject: u8) -> TokenGrant {
    TokenGrant {
        subject: key(subject).entity_id(),
        scope: TokenScope::SUBSCRIBE.union(TokenScope::DELEGATE),
        channel_hash: CHANNEL,
        ttl_seconds: 100,
        delegation_depth: 3,
        generation: 4,
    }
}

fn issue(issuer: u8, grant: &TokenGrant, now: u64) -> PermissionToken {
    PermissionToken::issue(&key(issuer), grant, now).expect("issuable")
}

/// Root 1 → holder 2 → presenter 3.
fn chain() -> TokenChain {
    let all = TokenScope::from_bits(31);
    let root = TokenChain::new(vec![issue(1, &grant(2), NOW)]).expect("one");
    root.delegate(&key(2), key(3).entity_id(), all, NOW + 1).expect("delegable")
}

fn verify(chain: &TokenChain, change: impl FnOnce(&mut TokenRequest<'_>)) -> Result<(), TokenError> {
    let roots = [key(1).entity_id(), key(9).entity_id()];
    let floors = RevocationFloors::default();
    let mut request = TokenRequest {
        presenter: key(3).entity_id(),
        action: TokenScope::SUBSCRIBE,
        target: TokenTarget::Channel(CHANNEL),
        roots: &roots,
        floors: &floors,
        now: NOW + 2,
        skew: 0,
    };
    change(&mut request);
    chain.verify(&request)
}

fn pair(parent: &TokenGrant, child_issuer: u8, child: &TokenGrant, child_from: u64) -> TokenChain {
    TokenChain::new(vec![issue(1, parent, NOW), issue(child_issuer, child, child_from)]).expect("two")
}

#[test]
fn a_good_chain_verifies_and_a_single_token_is_a_chain() {
    assert_eq!(verify(&chain(), |_| {}), Ok(()));
    let single = TokenChain::from_bytes(&issue(9, &grant(3), NOW).to_bytes()).expect("format");
    assert_eq!(verify(&single, |_| {}), Ok(()));
}

#[test]
fn the_root_must_be_one_of_the_channels_roots() {
    let floors = RevocationFloors::default();
    assert_eq!(verify_with(&chain(), &[key(5).entity_id(), key(1).entity_id()], &floors), Ok(()));
    for roots in [&[][..], &[key(5).entity_id()], &[key(2).entity_id()]] {
        assert_eq!(verify_with(&chain(), roots, &floors), Err(TokenError::NotAuthorized));
    }
}

#[test]
fn the_leaf_must_be_the_presenters() {
    let other = key(2).entity_id();
    assert_eq!(verify(&chain(), |request| request.presenter = other), Err(TokenError::NotAuthorized));
}

#[test]
fn every_link_is_verified_timed_not_revoked_and_authorises() {
    let (good, roots) = (chain(), [key(1).entity_id()]);
    for at in 0..2 {
        let mut bytes = good.to_bytes();
        bytes[at * TOKEN_LEN + 100] ^= 1;
        let forged = TokenChain::from_bytes(&bytes).expect("format");
        assert_eq!(verify(&forged, |_| {}), Err(TokenError::InvalidSignature));
        // Who is revoked: the root, then the holder who passed it on.
        let mut floors = RevocationFloors::default();
        floors.raise(good.tokens()[at].issuer(), 4);
        assert_eq!(verify_with(&good, &roots, &floors), Ok(()));
        floors.raise(good.tokens()[at].issuer(), 5);
        floors.raise(good.tokens()[at].issuer(), 2);
        assert_eq!(verify_with(&good, &roots, &floors), Err(TokenError::Revoked));
    }
    assert_eq!(verify(&good, |request| request.now = NOW), Err(TokenError::NotYetValid));
    assert_eq!(verify(&good, |request| request.now = NOW + 100), Err(TokenError::Expired));
    assert_eq!(verify(&good, |request| request.action = TokenScope::PUBLISH), Err(TokenError::NotAuthorized));
    assert_eq!(verify(&good, |request| request.target = TokenTarget::Channel(1)), Err(TokenError::NotAuthorized));
}

fn verify_with(chain: &TokenChain, roots: &[EntityId], floors: &RevocationFloors) -> Result<(), TokenError> {
    chain.verify(&TokenRequest {
        presenter: key(3).entity_id(),
        action: TokenScope::SUBSCRIBE,
        target: TokenTarget::Channel(CHANNEL),
        roots,
        floors,
        now: NOW + 2,
        skew: 0,
    })
}

#[test]
fn a_link_that_lacks_the_right_does_not_pass_it_on() {
    // The child claims more than its parent has.
    let parent = TokenGrant { scope: TokenScope::PUBLISH.union(TokenScope::DELEGATE), ..grant(2) };
    let child = TokenGrant { delegation_depth: 0, ttl_seconds: 50, ..grant(3) };
    assert_eq!(verify(&pair(&parent, 2, &child, NOW), |_| {}), Err(TokenError::NotAuthorized));
}

#[test]
fn every_pair_fits_together() {
    let child = TokenGrant { delegation_depth: 0, ttl_seconds: 50, ..grant(3) };
    assert_eq!(verify(&pair(&grant(2), 2, &child, NOW), |_| {}), Ok(()));
    assert_eq!(verify(&pair(&grant(2), 8, &child, NOW), |_| {}), Err(TokenError::NotAuthorized));

    let no_delegate = TokenGrant { scope: TokenScope::SUBSCRIBE, ..grant(2) };
    assert_eq!(verify(&pair(&no_delegate, 2, &child, NOW), |_| {}), Err(TokenError::DelegationNotAllowed));

    let exhausted = TokenGrant { delegation_depth: 0, ..grant(2) };
    assert_eq!(verify(&pair(&exhausted, 2, &child, NOW), |_| {}), Err(TokenError::DelegationExhausted));
    let not_falling = TokenGrant { delegation_depth: 3, ..child };
    assert_eq!(verify(&pair(&grant(2), 2, &not_falling, NOW), |_| {}), Err(TokenError::DelegationExhausted));

    for generation in [0, u32::MAX] {
        let other = TokenGrant { generation, ..child };
        assert_eq!(verify(&pair(&grant(2), 2, &other, NOW), |_| {}), Err(TokenError::NotAuthorized), "{generation}");
    }

    let longer = TokenGrant { ttl_seconds: 101, ..child };
    assert_eq!(verify(&pair(&grant(2), 2, &longer, NOW), |_| {}), Err(TokenError::NotAuthorized));
    assert_eq!(verify(&pair(&grant(2), 2, &child, NOW - 1), |_| {}), Err(TokenError::NotAuthorized));
}

#[test]
fn a_chain_has_1_to_8_tokens() {
    let token = issue(1, &grant(2), NOW);
    let format = Err(TokenError::InvalidFormat("a chain has 1 to 8 tokens"));
    assert_eq!(TokenChain::new(vec![]), format);
    assert_eq!(TokenChain::new(vec![token.clone(); 9]), format);
    assert!(TokenChain::new(vec![token.clone(); 8]).is_ok());
    let bytes = token.to_bytes();
    for bad in [&[][..], &bytes[1..], &[bytes.as_slice(), &[0]].concat(), &bytes.repeat(9)] {
        assert!(matches!(TokenChain::from_bytes(bad), Err(TokenError::InvalidFormat(_))), "{}", bad.len());
    }
}

#[test]
fn delegation_ends_with_depth() {
    let mut chain = TokenChain::new(vec![issue(1, &grant(2), NOW)]).expect("one");
    for holder in 2..5 {
        let next = key(holder + 1).entity_id();
        chain = chain.delegate(&key(holder), next, TokenScope::from_bits(31), NOW + 1).expect("depth left");
    }
    let end = chain.delegate(&key(5), key(6).entity_id(), TokenScope::SUBSCRIBE, NOW + 1);
    assert_eq!(end, Err(TokenError::DelegationExhausted));
    assert_eq!(verify(&chain, |request| request.presenter = key(5).entity_id()), Ok(()));
}

proptest! {
    #[test]
    fn what_was_passed_on_round_trips_and_verifies_to_the_last_holder(
        holders in proptest::collection::vec(any::<[u8; 32]>(), 1..8), generation: u32, passed in 0..32_u32, cut: usize,
    ) {
        let holders: Vec<_> = holders.iter().map(EntityKeypair::from_seed).collect();
        let scope = TokenScope::SUBSCRIBE.union(TokenScope::DELEGATE);
        let first = TokenGrant { subject: holders[0].entity_id(), delegation_depth: 7, generation, ..grant(2) };
        let mut chain = TokenChain::new(vec![issue(1, &TokenGrant { scope, ..first }, NOW)]).expect("one");
        for pair in holders.windows(2) {
            chain = chain
                .delegate(&pair[0], pair[1].entity_id(), scope.union(TokenScope::from_bits(passed)), NOW)
                .expect("depth left");
        }
        let bytes = chain.to_bytes();
        let read = TokenChain::from_bytes(&bytes).expect("format");
        prop_assert_eq!(&read, &chain);
        prop_assert!(read.tokens().iter().all(|token| token.generation() == generation));
        let last = holders[holders.len() - 1].entity_id();
        prop_assert_eq!(verify(&read, |request| request.presenter = last), Ok(()));
        let cut = 1 + cut % (bytes.len() - 1);
        let shorter = TokenChain::from_bytes(&bytes[..cut]);
        prop_assert_eq!(shorter.is_ok(), cut.is_multiple_of(TOKEN_LEN), "only whole tokens are read");
    }

    #[test]
    fn whole_tokens_round_trip_as_a_chain(tokens in 0..12usize, fill: u8, cut in 0..3usize) {
        let bytes = vec![fill; tokens * TOKEN_LEN + cut];
        let good = (1..=8).contains(&tokens) && cut == 0;
        let chain = TokenChain::from_bytes(&bytes);
        prop_assert_eq!(chain.is_ok(), good);
        if let Ok(chain) = chain {
            prop_assert_eq!(chain.to_bytes(), bytes);
        }
    }
}
