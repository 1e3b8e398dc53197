//! Who may do what with which token: scope × chain × target × time × revocation × subject, every combination against rules
//! that are stated here once more, on plain numbers and independently of the code.

use mesh_daemon_core::identity::{
    EntityKeypair, PermissionToken, RevocationFloors, TokenChain, TokenError, TokenGrant, TokenRequest, TokenScope,
    TokenTarget,
};

const START: u64 = 1_700_000_000;
const TTL: u64 = 100;
const CHANNEL: u64 = 7;
const OTHER: u64 = 8;
const GENERATION: u32 = 3;

const PUBLISH: u32 = 1;
const SUBSCRIBE: u32 = 2;
const ADMIN: u32 = 4;
const DELEGATE: u32 = 8;
const WILDCARD: u32 = 16;

const ROOT: u8 = 1;
const HOLDER: u8 = 2;
const PRESENTER: u8 = 20;
const STRANGER: u8 = 30;

/// A token, by the seeds of its issuer and subject.
#[derive(Clone, Copy, Debug)]
struct Link {
    issuer: u8,
    subject: u8,
    scope: u32,
    depth: u8,
    from: u64,
    until: u64,
}

/// What is presented, by whom, for what, when, and what was revoked.
#[derive(Debug)]
struct Case<'a> {
    links: &'a [Link],
    action: u32,
    target: TokenTarget,
    now: u64,
    skew: u64,
    floor: Option<(u8, u32)>,
    presenter: u8,
}

const fn link(issuer: u8, subject: u8, scope: u32, depth: u8) -> Link {
    Link { issuer, subject, scope, depth, from: START, until: START + TTL }
}

/// The ways in which a right may come to the presenter, or fail to, by name.
fn ways(scope: u32) -> Vec<(&'static str, Vec<Link>)> {
    let passing = scope | DELEGATE;
    // Eight tokens, the most that there may be.
    let holders: Vec<u8> = [ROOT].into_iter().chain(HOLDER..HOLDER + 7).chain([PRESENTER]).collect();
    let longest = holders.windows(2).zip((0..8).rev()).map(|(pair, depth)| link(pair[0], pair[1], passing, depth));
    let pair = |first: Link, second: Link| vec![first, second];
    let good = (link(ROOT, HOLDER, passing, 1), link(HOLDER, PRESENTER, scope, 0));
    vec![
        ("from a root", vec![link(ROOT, PRESENTER, scope, 0)]),
        ("from somebody who is no root", vec![link(STRANGER, PRESENTER, scope, 0)]),
        ("through one", pair(good.0, good.1)),
        (
            "through two",
            vec![link(ROOT, HOLDER, passing, 2), link(HOLDER, 3, passing, 1), link(3, PRESENTER, scope, 0)],
        ),
        ("through seven", longest.collect()),
        ("through one without the right to pass it on", pair(link(ROOT, HOLDER, scope, 1), good.1)),
        ("through one with no step left", pair(link(ROOT, HOLDER, passing, 0), good.1)),
        ("through one whose steps do not fall", pair(good.0, Link { depth: 1, ..good.1 })),
        ("past the holder", pair(good.0, link(STRANGER, PRESENTER, scope, 0))),
        ("with more than the holder had", pair(link(ROOT, HOLDER, DELEGATE, 1), good.1)),
        ("for longer than the holder had it", pair(good.0, Link { until: START + TTL + 1, ..good.1 })),
        ("from before the holder had it", pair(good.0, Link { from: START - 1, ..good.1 })),
        ("for a shorter while", pair(good.0, Link { from: START + 1, until: START + TTL - 1, ..good.1 })),
    ]
}

fn key(seed: u8) -> EntityKeypair {
    EntityKeypair::from_seed(&[seed; 32])
}

fn issue(link: &Link) -> PermissionToken {
    let grant = TokenGrant {
        subject: key(link.subject).entity_id(),
        scope: TokenScope::from_bits(link.scope),
        channel_hash: CHANNEL,
        ttl_seconds: link.until - link.from,
        delegation_depth: link.depth,
        generation: GENERATION,
    };
    PermissionToken::issue(&key(link.issuer), &grant, link.from).expect("issuable")
}

fn verify(chain: &TokenChain, case: &Case<'_>) -> Result<(), TokenError> {
    let mut floors = RevocationFloors::default();
    if let Some((issuer, floor)) = case.floor {
        floors.raise(key(issuer).entity_id(), floor);
    }
    chain.verify(&TokenRequest {
        presenter: key(case.presenter).entity_id(),
        action: TokenScope::from_bits(case.action),
        target: case.target,
        roots: &[key(ROOT).entity_id()],
        floors: &floors,
        now: case.now,
        skew: case.skew,
    })
}

/// The rules, in their order: root and presenter, then per link time, revocation and right, then how the links fit.
fn expected(case: &Case<'_>) -> Result<(), TokenError> {
    let (first, last) = (case.links[0], case.links[case.links.len() - 1]);
    if first.issuer != ROOT || last.subject != case.presenter {
        return Err(TokenError::NotAuthorized);
    }
    for link in case.links {
        if case.now >= link.until {
            return Err(TokenError::Expired);
        }
        if case.now + case.skew < link.from {
            return Err(TokenError::NotYetValid);
        }
        if case.floor.is_some_and(|(issuer, floor)| issuer == link.issuer && GENERATION < floor) {
            return Err(TokenError::Revoked);
        }
        let there = match case.target {
            TokenTarget::Channel(channel) => channel == CHANNEL || link.scope & WILDCARD != 0,
            TokenTarget::QueueGroup(group) => group == CHANNEL,
        };
        if !there || link.scope & case.action == 0 {
            return Err(TokenError::NotAuthorized);
        }
    }
    for pair in case.links.windows(2) {
        let (parent, child) = (pair[0], pair[1]);
        if child.issuer != parent.subject {
            return Err(TokenError::NotAuthorized);
        }
        if parent.scope & DELEGATE == 0 {
            return Err(TokenError::DelegationNotAllowed);
        }
        if child.depth >= parent.depth {
            return Err(TokenError::DelegationExhausted);
        }
        if child.from < parent.from || child.until > parent.until {
            return Err(TokenError::NotAuthorized);
        }
    }
    Ok(())
}

#[test]
fn authorisation_matrix() {
    let scopes = [0, PUBLISH, SUBSCRIBE, PUBLISH | SUBSCRIBE, ADMIN, WILDCARD, WILDCARD | SUBSCRIBE, 31];
    let targets = [
        TokenTarget::Channel(CHANNEL),
        TokenTarget::Channel(OTHER),
        TokenTarget::QueueGroup(CHANNEL),
        TokenTarget::QueueGroup(OTHER),
    ];
    // When, and by how much a token may be early there.
    let times = [
        (START - 2, 1),
        (START - 1, 0),
        (START - 1, 1),
        (START, 0),
        (START + 1, 0),
        (START + TTL - 1, 5),
        (START + TTL, 0),
        (START + TTL, 5),
    ];
    let (mut allowed, mut refused) = (0, 0);
    let mut check = |name: &str, chain: &TokenChain, case: &Case<'_>| {
        let expected = expected(case);
        assert_eq!(verify(chain, case), expected, "{name}: {case:?}");
        *(if expected.is_ok() { &mut allowed } else { &mut refused }) += 1;
    };
    for scope in scopes {
        for (name, links) in ways(scope) {
            let links = links.as_slice();
            let chain = TokenChain::new(links.iter().map(issue).collect()).expect("1 to 8");
            let last = links[links.len() - 1].issuer;
            // Whose tokens are revoked, below which generation: the root's, of who passed it on, of who has nothing to do
            // with it, of the presenter, who has issued nothing; and generations that the tokens are not below.
            let above = GENERATION + 1;
            let floors = [None, Some((ROOT, GENERATION)), Some((ROOT, above)), Some((last, above))];
            let needless = [Some((last, GENERATION)), Some((PRESENTER, above)), Some((77, u32::MAX))];
            for action in [PUBLISH, SUBSCRIBE] {
                for target in targets {
                    for (now, skew) in times {
                        for floor in floors {
                            let case = Case { links, action, target, now, skew, floor, presenter: PRESENTER };
                            check(name, &chain, &case);
                        }
                    }
                }
                let (target, now) = (TokenTarget::Channel(CHANNEL), START + 1);
                for floor in needless {
                    check(name, &chain, &Case { links, action, target, now, skew: 0, floor, presenter: PRESENTER });
                }
                for presenter in [ROOT, HOLDER, STRANGER, 77] {
                    check(name, &chain, &Case { links, action, target, now, skew: 0, floor: None, presenter });
                }
            }
        }
    }
    assert!(allowed > 500 && refused > 10_000, "{allowed} allowed, {refused} refused");
}

#[test]
fn every_mutated_byte_of_a_chain_is_rejected() {
    let links = &ways(SUBSCRIBE)[3].1;
    let chain = TokenChain::new(links.iter().map(issue).collect()).expect("three");
    let (target, now) = (TokenTarget::Channel(CHANNEL), START + 1);
    let case = Case { links, action: SUBSCRIBE, target, now, skew: 0, floor: None, presenter: PRESENTER };
    assert_eq!(verify(&chain, &case), Ok(()));
    let good = chain.to_bytes();
    for at in 0..good.len() {
        for change in [1, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= change;
            let bad = TokenChain::from_bytes(&bad).expect("format");
            // The first issuer and the last subject are compared before anything is verified.
            let refused = verify(&bad, &case);
            assert!(matches!(refused, Err(TokenError::InvalidSignature | TokenError::NotAuthorized)), "byte {at}");
        }
    }
}
