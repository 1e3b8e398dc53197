//! Tokens at the gate of a channel: whose clock counts, what a revocation reaches, and that comings and goings that cross
//! each other leave nobody behind.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_daemon_core::channel::{ChannelError, Denial, MAX_TOKEN_SKEW, Subscriber};
use mesh_daemon_core::identity::{EntityKeypair, PermissionToken, TokenChain, TokenGrant, TokenScope};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::net::{Granted, Net, P, RELIABLE, S, T, feed, name, open};

fn daemon(seed: u8) -> EntityKeypair {
    EntityKeypair::from_seed(&[150 + seed; 32])
}

/// Why a subscription was refused.
fn why(result: &Result<(), ChannelError>) -> Denial {
    match result {
        Err(ChannelError::Unauthorized { why, .. }) => *why,
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
    net.register(P, net.gated("gated"));
    let own = net.nodes[S].keypair.clone();
    let token = net.token(P, &Granted { subject: &own, channel: "gated", ttl: 60 });
    let issued = net.now.unix;
    let ahead = |seconds| issued + Duration::from_secs(seconds);
    let sets = [
        (issued.checked_sub(Duration::from_millis(1)).expect("later than 1970"), false),
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
fn requirement_117_a_clock_that_was_set_back_keeps_out_who_comes_and_puts_out_nobody_who_is_in() {
    let mut net = Net::connected(3);
    net.register(P, net.gated("gated"));
    let [own, others] = [S, T].map(|node| net.nodes[node].keypair.clone());
    let token = net.token(P, &Granted { subject: &own, channel: "gated", ttl: 60 });
    let another = net.token(P, &Granted { subject: &others, channel: "gated", ttl: 60 });
    net.subscribe(S, P, "gated", None, Some(&token)).expect("let in");
    net.now.unix -= Duration::from_secs(30);
    assert!(net.subscribe(T, P, "gated", None, Some(&another)).is_err(), "it has not begun");
    let delivered = |net: &mut Net| {
        let id = net.publish(P, "gated", b"secret", RELIABLE).expect("published");
        net.run();
        net.report(P, id).expect("over").expect("sent").delivered
    };
    assert_eq!(delivered(&mut net), 1);
    // Nor does it when the channel is looked at once more, time passes, or the connection breaks.
    net.register(P, net.gated("gated"));
    net.pass(Duration::from_secs(1));
    net.cut(P, S);
    net.connect(P, S, true);
    assert_eq!(delivered(&mut net), 1);
    assert_eq!((net.ends(S), net.messages(S).len()), (vec![], 2));
    // It ends when it says, by this clock.
    net.pass(Duration::from_secs(30 + 59));
    net.run();
    assert_eq!(net.ends(S).len(), 1);
}

#[test]
fn requirement_119_a_channel_that_is_gated_later_puts_out_whose_token_ends() {
    let mut net = Net::connected(2);
    net.register(P, open("gated"));
    let own = net.nodes[S].keypair.clone();
    let token = net.token(P, &Granted { subject: &own, channel: "gated", ttl: 10 });
    net.subscribe(S, P, "gated", None, Some(&token)).expect("open");
    net.register(P, net.gated("gated"));
    net.pass(Duration::from_secs(10));
    net.run();
    assert_eq!(net.ends(S).len(), 1);
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")), []);
}

#[test]
fn requirement_117_a_tolerance_for_clocks_lets_in_early_and_never_late() {
    let skews = [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(5), MAX_TOKEN_SKEW, Duration::MAX];
    for skew in skews {
        let mut net = Net::connected(2);
        net.register(P, net.gated("gated"));
        net.nodes[P].machine.set_token_skew(skew);
        let own = net.nodes[S].keypair.clone();
        let token = net.token(P, &Granted { subject: &own, channel: "gated", ttl: 60 });
        let issued = net.now.unix;
        // More than the most is the most.
        let first = issued.checked_sub(skew.min(MAX_TOKEN_SKEW)).expect("later than 1970");
        let second = Duration::from_secs(1);
        let sets = [
            (first.checked_sub(Duration::from_millis(1)).expect("later than 1970"), false),
            (first, true),
            (issued, true),
            (issued + second * 59 + Duration::from_millis(999), true),
            (issued + second * 60, false),
            (issued + second * 60 + skew.min(MAX_TOKEN_SKEW), false),
        ];
        for (clock, let_in) in sets {
            net.now.unix = clock;
            assert_eq!(net.subscribe(S, P, "gated", None, Some(&token)).is_ok(), let_in, "{skew:?}: {clock:?}");
            // Whoever was let in early stays: publishing looks at the tokens once more.
            let id = net.publish(P, "gated", b"secret", RELIABLE).expect("published");
            net.run();
            let report = net.report(P, id).expect("over").expect("sent");
            assert_eq!(report.delivered, usize::from(let_in), "{skew:?}: {clock:?}");
            net.leave(S, P, "gated", Subscriber::Node);
            net.run();
        }
    }
}

#[test]
fn requirement_118_at_the_gate_another_channel_only_with_the_wildcard_bit_and_only_to_subscribe() {
    let mut net = Net::connected(2);
    net.register(P, net.gated("gated"));
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
    net.register(P, net.gated("gated"));
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
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")), [(net.id(S), Subscriber::Daemon(two.entity_id()))]);
    assert_eq!(why(&net.subscribe(S, P, "gated", Some(&one), Some(&passed_on))), Denial::Revoked);

    // A floor never falls, and what is of the later generation is good.
    net.nodes[P].machine.revoke_below(holder.entity_id(), 0, now);
    assert_eq!(why(&net.subscribe(S, P, "gated", Some(&one), Some(&passed_on))), Denial::Revoked);
    let later = chain(&net, &holder, &one, 1);
    net.subscribe(S, P, "gated", Some(&one), Some(&later)).expect("of the later generation");
}

#[test]
fn hazard_43_what_was_revoked_while_the_connection_was_broken_is_over_when_it_is_back() {
    let mut net = Net::connected(2);
    net.register(P, net.gated("gated"));
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
    assert_eq!((net.nodes[P].machine.roster(&feed("gated")), net.nodes[S].machine.ledger()), (vec![], vec![]));
}

#[test]
fn requirement_124_concurrent_add_and_remove_leave_no_orphan_roster_entry() {
    let mut most = 0;
    for seed in 0..200 {
        most = most.max(comings_and_goings(seed));
    }
    assert!(most >= 4, "at most {most} were in at an end: too few to show anything");
}

/// Nodes and their daemons come and go while connections break, peers are lost and tokens end. Gives how many were in at
/// the end of it.
fn comings_and_goings(seed: u64) -> usize {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut net = Net::connected(3);
    net.register(P, open("open"));
    net.register(P, net.gated("gated"));
    let channels = ["open", "gated"];
    let daemons: Vec<_> = (0..4).map(daemon).collect();
    // The node itself, or one of the two daemons that live on it.
    let pick = |random: &mut SmallRng, at: usize| match random.random_range(0..3) {
        0 => None,
        which => Some(daemons[(at - 1) * 2 + which - 1].clone()),
    };
    for _ in 0..250 {
        let at = random.random_range(1..3);
        let channel = channels[random.random_range(0..2)];
        match random.random_range(0..100) {
            0..20 => {
                let who = pick(&mut random, at);
                let own = who.clone().unwrap_or_else(|| net.nodes[at].keypair.clone());
                // Now and then what it presents is another one's.
                let subject = if random.random_bool(0.2) { daemon(9) } else { own };
                let token = net.token(P, &Granted { subject: &subject, channel, ttl: random.random_range(1..9) });
                // Without a session it is refused at once, which is no matter here.
                let _asked = net.ask(at, P, channel, who.as_ref(), Some(&token));
            }
            20..35 => {
                let who = pick(&mut random, at).map_or(Subscriber::Node, |key| Subscriber::Daemon(key.entity_id()));
                net.leave(at, P, channel, who);
            }
            35..38 if net.is_connected(at, P) => net.cut(at, P),
            38..46 if !net.is_connected(at, P) => net.connect(at, P, true),
            46 => {
                net.lose(at, P);
                net.connect(at, P, false);
            }
            47..50 => net.pass(Duration::from_secs(1)),
            50..75 => {
                net.send(at, P);
                net.send(P, at);
            }
            _ => {
                net.arrive(at, P);
                net.arrive(P, at);
            }
        }
    }
    for at in 1..3 {
        if !net.is_connected(at, P) {
            net.connect(at, P, true);
        }
    }
    net.run();

    let found_by_issuer = net.nodes[P].machine.kept().holders;
    let mut inside = 0;
    for channel in channels {
        let roster: BTreeSet<_> = net.nodes[P].machine.roster(&feed(channel)).into_iter().collect();
        let believed: BTreeSet<_> = (1..3)
            .flat_map(|at| net.nodes[at].machine.ledger().into_iter().map(move |entry| (at, entry)))
            .filter(|(_, (_, of, _))| *of == feed(channel))
            .map(|(at, (_, _, who))| (net.id(at), who))
            .collect();
        assert_eq!(roster, believed, "seed {seed}, '{channel}'");
        inside += roster.len();
        // Whoever is in leaves; then nobody is, and nothing is sent to anybody.
        for (node, who) in roster {
            let at = net.index(node);
            net.leave(at, P, channel, who);
        }
        net.run();
        assert_eq!(net.nodes[P].machine.roster(&feed(channel)), [], "seed {seed}, '{channel}'");
        let id = net.publish(P, channel, b"x", RELIABLE).expect("published");
        assert_eq!(net.report(P, id).expect("over").expect("nobody").attempted, 0, "seed {seed}, '{channel}'");
    }
    assert_eq!(found_by_issuer, inside, "seed {seed}: whom a revocation would concern");
    for node in &net.nodes {
        assert!(node.machine.is_idle(), "seed {seed}: {:?}", node.machine);
        assert_eq!(node.machine.ledger(), [], "seed {seed}");
        assert_eq!(node.machine.kept().holders, 0, "seed {seed}");
    }
    inside
}
