//! Who may do what with which token: scope × chain × time × revocation × subject, every combination against rules that are
//! stated here once more, independently of the code.

use mesh_daemon_core::identity::{
    EntityKeypair, PermissionToken, RevocationFloors, TokenChain, TokenError, TokenGrant, TokenRequest, TokenScope,
    TokenTarget,
};

const START: u64 = 1_700_000_000;
const TTL: u64 = 100;
const CHANNEL: u64 = 7;
const OTHER: u64 = 8;

fn key(seed: u8) -> EntityKeypair {
    EntityKeypair::from_seed(&[seed; 32])
}

const ROOT: u8 = 1;
const STRANGER: u8 = 9;
const PRESENTER: u8 = 4;

/// How the right came to the presenter.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// From a root.
    Direct,
    /// Through one holder, or two.
    Through(u8),
    /// Through a holder who had not the right to pass it on.
    NotPassable,
    /// Through holders of whom the last had no step left.
    TooDeep,
    /// From somebody who is no root.
    FromStranger,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Revoked {
    No,
    Root,
    /// Of whoever issued the leaf.
    Last,
    /// Of somebody who has nothing to do with it.
    Bystander,
}

fn grant(subject: &EntityKeypair, scope: TokenScope, depth: u8) -> TokenGrant {
    TokenGrant {
        subject: subject.entity_id(),
        scope,
        channel_hash: CHANNEL,
        ttl_seconds: TTL,
        delegation_depth: depth,
        generation: 3,
    }
}

fn issue(issuer: u8, subject: u8, scope: TokenScope, depth: u8) -> PermissionToken {
    PermissionToken::issue(&key(issuer), &grant(&key(subject), scope, depth), START).expect("issuable")
}

fn chain(way: Way, scope: TokenScope) -> TokenChain {
    let delegate = scope.union(TokenScope::DELEGATE);
    let tokens = match way {
        Way::Direct => vec![issue(ROOT, PRESENTER, scope, 0)],
        Way::FromStranger => vec![issue(STRANGER, PRESENTER, scope, 0)],
        Way::Through(1) => vec![issue(ROOT, 2, delegate, 1), issue(2, PRESENTER, scope, 0)],
        Way::Through(_) => {
            vec![issue(ROOT, 2, delegate, 2), issue(2, 3, delegate, 1), issue(3, PRESENTER, scope, 0)]
        }
        Way::NotPassable => vec![issue(ROOT, 2, scope, 1), issue(2, PRESENTER, scope, 0)],
        Way::TooDeep => vec![issue(ROOT, 2, delegate, 0), issue(2, PRESENTER, scope, 0)],
    };
    TokenChain::new(tokens).expect("1 to 8")
}

#[test]
fn authorisation_matrix() {
    let scopes = [
        TokenScope::NONE,
        TokenScope::PUBLISH,
        TokenScope::SUBSCRIBE,
        TokenScope::PUBLISH.union(TokenScope::SUBSCRIBE),
        TokenScope::ADMIN,
        TokenScope::WILDCARD,
        TokenScope::WILDCARD.union(TokenScope::SUBSCRIBE),
    ];
    let ways = [Way::Direct, Way::Through(1), Way::Through(2), Way::NotPassable, Way::TooDeep, Way::FromStranger];
    let times = [START - 1, START, START + TTL - 1, START + TTL];
    let revocations = [Revoked::No, Revoked::Root, Revoked::Last, Revoked::Bystander];
    let mut allowed = 0;
    let mut refused = 0;
    for scope in scopes {
        for way in ways {
            let chain = chain(way, scope);
            for action in [TokenScope::PUBLISH, TokenScope::SUBSCRIBE] {
                for channel in [CHANNEL, OTHER] {
                    for now in times {
                        for revoked in revocations {
                            for presenter in [PRESENTER, 5] {
                                let expected = expected(scope, way, action, channel, now, revoked, presenter);
                                let mut floors = RevocationFloors::default();
                                let issuer = match revoked {
                                    Revoked::No => None,
                                    Revoked::Root => Some(chain.tokens()[0].issuer()),
                                    Revoked::Last => Some(chain.leaf().issuer()),
                                    Revoked::Bystander => Some(key(77).entity_id()),
                                };
                                if let Some(issuer) = issuer {
                                    floors.raise(issuer, 4);
                                }
                                let got = chain.verify(&TokenRequest {
                                    presenter: key(presenter).entity_id(),
                                    action,
                                    target: TokenTarget::Channel(channel),
                                    roots: &[key(ROOT).entity_id()],
                                    floors: &floors,
                                    now,
                                    skew: 0,
                                });
                                let case =
                                    format!("{scope:?} {way:?} {action:?} {channel} {now} {revoked:?} {presenter}");
                                assert_eq!(got, expected, "{case}");
                                if expected.is_ok() { allowed += 1 } else { refused += 1 }
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(allowed > 50 && refused > 1000, "{allowed} allowed, {refused} refused");
}

/// The rules, in their order: root, presenter, then per link time, revocation and right, then how the links fit.
fn expected(
    scope: TokenScope,
    way: Way,
    action: TokenScope,
    channel: u64,
    now: u64,
    revoked: Revoked,
    presenter: u8,
) -> Result<(), TokenError> {
    if way == Way::FromStranger || presenter != PRESENTER {
        return Err(TokenError::NotAuthorized);
    }
    // All links have one window.
    if now < START {
        return Err(TokenError::NotYetValid);
    }
    if now >= START + TTL {
        return Err(TokenError::Expired);
    }
    let on_channel = channel == CHANNEL || scope.contains(TokenScope::WILDCARD);
    let allows = on_channel && scope.contains(action);
    match revoked {
        Revoked::Root => return Err(TokenError::Revoked),
        // The first link is looked at first, and lacks the right already.
        Revoked::Last if allows || way == Way::Direct => return Err(TokenError::Revoked),
        Revoked::Last | Revoked::No | Revoked::Bystander => {}
    }
    if !allows {
        return Err(TokenError::NotAuthorized);
    }
    match way {
        Way::NotPassable => Err(TokenError::DelegationNotAllowed),
        Way::TooDeep => Err(TokenError::DelegationExhausted),
        Way::Direct | Way::Through(_) | Way::FromStranger => Ok(()),
    }
}
