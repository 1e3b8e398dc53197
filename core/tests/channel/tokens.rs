//! Tokens at the gate of a channel: whose clock counts, and what a revocation reaches.

use std::time::Duration;

use mesh_daemon_core::channel::{ChannelConfig, ChannelError, Subscriber};
use mesh_daemon_core::identity::{EntityKeypair, PermissionToken, TokenChain, TokenGrant, TokenScope};

use crate::net::{Granted, Net, RELIABLE, name, open};

const P: usize = 0;
const S: usize = 1;

fn daemon(seed: u8) -> EntityKeypair {
    EntityKeypair::from_seed(&[150 + seed; 32])
}

fn gated(net: &Net) -> ChannelConfig {
    let mut config = open("gated");
    config.token_roots = vec![net.nodes[P].keypair.entity_id()];
    config
}

/// Why a subscription was refused.
fn why(result: &Result<(), ChannelError>) -> &'static str {
    match result {
        Err(ChannelError::Unauthorized { why, .. }) => why,
        other => panic!("not a refusal: {other:?}"),
    }
}

fn issue(net: &Net, subject: &EntityKeypair, scope: TokenScope, channel: &str, generation: u32) -> PermissionToken {
    let grant = TokenGrant {
        subject: subject.entity_id(),
        scope,
        channel_hash: name(channel).id().0,
        ttl_seconds: 600,
        delegation_depth: 1,
        generation,
    };
    PermissionToken::issue(&net.nodes[P].keypair, &grant, net.now.unix.as_secs()).expect("issuable")
}

/// Through a holder, who passes its own token on.
fn chain(net: &Net, holder: &EntityKeypair, subject: &EntityKeypair, generation: u32) -> Vec<u8> {
    let scope = TokenScope::SUBSCRIBE.union(TokenScope::DELEGATE);
    let root = issue(net, holder, scope, "gated", generation);
    let now = net.now.unix.as_secs();
    let leaf = root.delegate(holder, subject.entity_id(), TokenScope::SUBSCRIBE, now).expect("delegable");
    TokenChain::new(vec![root, leaf]).expect("1 to 8").to_bytes()
}

#[test]
fn requirement_117_the_publishers_clock_decides_to_the_second() {
    let mut net = Net::connected(2);
    net.register(P, gated(&net));
    let own = net.nodes[S].keypair.clone();
    let token = net.token(P, &Granted { subject: &own, channel: "gated", ttl: 60 });
    let issued = net.now.unix;
    let ahead = |seconds| issued + Duration::from_secs(seconds);
    let sets = [
        (issued - Duration::from_millis(1), false),
        (issued, true),
        (ahead(59) + Duration::from_millis(999), true),
        (ahead(60), false),
    ];
    for (clock, let_in) in sets {
        net.now.unix = clock;
        assert_eq!(net.subscribe(S, P, "gated", None, Some(&token)).is_ok(), let_in, "{clock:?}");
        net.leave(S, P, "gated", Subscriber::Node);
        net.run();
    }
}

#[test]
fn requirement_117_a_clock_that_was_set_back_ends_a_subscription_whose_token_has_not_begun() {
    let mut net = Net::connected(2);
    net.register(P, gated(&net));
    let own = net.nodes[S].keypair.clone();
    let token = net.token(P, &Granted { subject: &own, channel: "gated", ttl: 60 });
    net.subscribe(S, P, "gated", None, Some(&token)).expect("let in");
    net.now.unix -= Duration::from_secs(1);
    let id = net.publish(P, "gated", b"secret", RELIABLE).expect("nobody");
    assert_eq!(net.report(P, id).expect("over").expect("sent").attempted, 0);
    net.run();
    assert_eq!(net.ends(S).len(), 1);
    assert_eq!(net.messages(S), []);
}

#[test]
fn requirement_118_at_the_gate_another_channel_only_with_the_wildcard_bit_and_only_to_subscribe() {
    let mut net = Net::connected(2);
    net.register(P, gated(&net));
    let own = net.nodes[S].keypair.clone();
    let any = TokenScope::WILDCARD;
    for (scope, channel, let_in) in [
        (TokenScope::SUBSCRIBE, "other", false),
        (TokenScope::PUBLISH, "gated", false),
        (TokenScope::ADMIN, "gated", false),
        (any, "other", false),
        (any.union(TokenScope::PUBLISH), "other", false),
        (any.union(TokenScope::SUBSCRIBE), "other", true),
        (TokenScope::SUBSCRIBE, "gated", true),
    ] {
        let token = issue(&net, &own, scope, channel, 0).to_bytes();
        assert_eq!(net.subscribe(S, P, "gated", None, Some(&token)).is_ok(), let_in, "{scope:?} on {channel}");
        net.leave(S, P, "gated", Subscriber::Node);
        net.run();
    }
}

#[test]
fn hazard_43_revoking_a_holder_ends_what_it_passed_on_and_nothing_else() {
    let mut net = Net::connected(2);
    net.register(P, gated(&net));
    let (holder, one, two) = (daemon(0), daemon(1), daemon(2));
    let passed_on = chain(&net, &holder, &one, 0);
    let direct = issue(&net, &two, TokenScope::SUBSCRIBE, "gated", 0).to_bytes();
    net.subscribe(S, P, "gated", Some(&one), Some(&passed_on)).expect("let in");
    net.subscribe(S, P, "gated", Some(&two), Some(&direct)).expect("let in");

    let now = net.now;
    net.nodes[P].machine.revoke_below(holder.entity_id(), 1, now);
    net.run();
    let ends = net.ends(S);
    assert!(matches!(ends.as_slice(), [(Subscriber::Daemon(who), _)] if *who == one.entity_id()), "{ends:?}");
    assert_eq!(net.nodes[P].machine.roster(&name("gated")), [(net.id(S), Subscriber::Daemon(two.entity_id()))]);
    assert_eq!(why(&net.subscribe(S, P, "gated", Some(&one), Some(&passed_on))), "the token was revoked");

    // A floor never falls, and what is of the later generation is good.
    net.nodes[P].machine.revoke_below(holder.entity_id(), 0, now);
    assert_eq!(why(&net.subscribe(S, P, "gated", Some(&one), Some(&passed_on))), "the token was revoked");
    let later = chain(&net, &holder, &one, 1);
    net.subscribe(S, P, "gated", Some(&one), Some(&later)).expect("of the later generation");
}

#[test]
fn hazard_43_what_was_revoked_while_the_connection_was_broken_is_over_when_it_is_back() {
    let mut net = Net::connected(2);
    net.register(P, gated(&net));
    let one = daemon(1);
    let token = issue(&net, &one, TokenScope::SUBSCRIBE, "gated", 0).to_bytes();
    net.subscribe(S, P, "gated", Some(&one), Some(&token)).expect("let in");
    let waiting = net.publish(P, "gated", b"sent before", RELIABLE).expect("sent");
    net.cut(P, S);
    let (issuer, now) = (net.nodes[P].keypair.entity_id(), net.now);
    net.nodes[P].machine.revoke_below(issuer, 1, now);
    net.collect(P);
    net.connect(P, S, true);
    net.run();
    assert_eq!(net.ends(S).len(), 1);
    assert_eq!(net.take_all(S, &one), [], "nothing is handed out any more");
    let report = net.report(P, waiting).expect("over").expect("best effort");
    assert_eq!((report.attempted, report.delivered), (1, 0));
    assert_eq!((net.nodes[P].machine.roster(&name("gated")), net.nodes[S].machine.ledger()), (vec![], vec![]));
}
