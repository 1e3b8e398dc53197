//! Who is let in, who is put out, and what each side holds of it.

use std::time::Duration;

use mesh_daemon_core::channel::{ChannelError, Denial, MAX_AUTH_FAILURES, Subscriber, THROTTLE, Visibility};
use mesh_daemon_core::identity::{EntityKeypair, Epoch, IdentityError};
use mesh_daemon_core::wire::channels::{ChannelMessage, DaemonProof, RefusalReason};
use mesh_daemon_core::wire::{Lane, codec};

use crate::net::{Granted, Net, P, RELIABLE, S, feed, name, open};

fn daemon(seed: u8) -> EntityKeypair {
    EntityKeypair::from_seed(&[100 + seed; 32])
}

fn refused(error: &ChannelError) -> bool {
    matches!(error, ChannelError::Unauthorized { .. })
}

#[test]
fn hazard_41_the_ledger_follows_what_the_publisher_says() {
    let mut net = Net::connected(2);
    net.register(P, open("a"));
    let request = net.ask(S, P, "a", None, None).expect("asked");
    assert_eq!(net.nodes[S].machine.ledger(), [], "not before the publisher has said so");
    net.run();
    assert_eq!(net.answer(S, request), Some(Ok(())));
    assert_eq!(net.nodes[S].machine.ledger(), [(net.id(P), feed("a"), Subscriber::Node)]);

    let request = net.leave(S, P, "a", Subscriber::Node);
    assert_eq!(net.nodes[S].machine.ledger().len(), 1, "not before the publisher knows");
    net.run();
    assert_eq!(net.answer(S, request), Some(Ok(())));
    assert_eq!(net.nodes[S].machine.ledger(), []);
    assert_eq!(net.nodes[P].machine.roster(&feed("a")), []);
}

#[test]
fn hazard_41_a_broken_wire_changes_nothing_and_the_question_is_asked_again() {
    let mut net = Net::connected(2);
    net.register(P, open("a"));
    for lost_is_answer in [false, true] {
        let request = net.ask(S, P, "a", None, None).expect("asked");
        net.send(S, P);
        if lost_is_answer {
            net.arrive(S, P);
            net.send(P, S);
        }
        net.cut(P, S);
        assert_eq!(net.answer(S, request), None);
        assert_eq!(net.nodes[S].machine.ledger(), []);
        net.connect(P, S, true);
        net.run();
        assert_eq!(net.answer(S, request), Some(Ok(())));
        assert_eq!(net.nodes[S].machine.ledger().len(), 1);

        let request = net.leave(S, P, "a", Subscriber::Node);
        net.send(S, P);
        if lost_is_answer {
            net.arrive(S, P);
            net.send(P, S);
        }
        net.cut(P, S);
        assert_eq!(net.nodes[S].machine.ledger().len(), 1, "it may still be in");
        net.connect(P, S, true);
        net.run();
        assert_eq!(net.answer(S, request), Some(Ok(())));
        assert_eq!(net.nodes[P].machine.roster(&feed("a")), []);
    }
    // Not to be in it is fine.
    let request = net.leave(S, P, "a", Subscriber::Node);
    assert_eq!(net.answer(S, request), Some(Ok(())));
}

#[test]
fn hazard_42_one_daemon_leaving_does_not_unsubscribe_the_other() {
    let mut net = Net::connected(2);
    net.register(P, open("a"));
    let (one, two) = (daemon(1), daemon(2));
    net.subscribe(S, P, "a", Some(&one), None).expect("let in");
    net.subscribe(S, P, "a", Some(&two), None).expect("let in");
    net.subscribe(S, P, "a", None, None).expect("let in");
    net.publish(P, "a", b"1", RELIABLE).expect("sent");
    net.run();
    let all = |net: &mut Net| {
        let daemons = [&one, &two].map(|daemon| net.take_all(S, daemon).len());
        (net.messages(S).len(), daemons)
    };
    assert_eq!(all(&mut net), (1, [1, 1]), "one for each");

    net.leave(S, P, "a", Subscriber::Daemon(one.entity_id()));
    net.leave(S, P, "a", Subscriber::Node);
    net.run();
    let id = net.publish(P, "a", b"2", RELIABLE).expect("sent");
    net.run();
    assert_eq!(all(&mut net), (0, [0, 1]), "for the other");
    net.run();
    assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
    net.leave(S, P, "a", Subscriber::Daemon(two.entity_id()));
    net.run();
    let id = net.publish(P, "a", b"3", RELIABLE).expect("sent");
    assert_eq!(net.report(P, id).expect("over").expect("sent").attempted, 0);
}

#[test]
fn a_daemon_subscribes_with_its_own_key_only() {
    let mut net = Net::connected(2);
    net.register(P, net.gated("gated"));
    let one = daemon(1);
    let token = net.token(P, &Granted { subject: &one, channel: "gated", ttl: 60 });
    net.subscribe(S, P, "gated", Some(&one), Some(&token)).expect("its own token");
    let error = net.subscribe(S, P, "gated", Some(&daemon(2)), Some(&token)).expect_err("another's token");
    assert!(refused(&error));
    let error = net.subscribe(S, P, "gated", None, Some(&token)).expect_err("the node is not the daemon");
    assert!(refused(&error));
    let error = net.ask(S, P, "gated", Some(&one.to_public()), Some(&token)).expect_err("no key to prove it with");
    assert!(matches!(error, ChannelError::Identity(IdentityError::ReadOnly(_))), "{error}");

    // A proof made for one node does not serve another.
    let mut record = None;
    net.ask(S, P, "gated", Some(&one), Some(&token)).expect("asked");
    let mut other = Net::connected(3);
    other.register(P, other.gated("gated"));
    let statement = mesh_daemon_core::channel::subscription_statement(
        &feed("gated"),
        other.nodes[P].keypair.entity_id(),
        mesh_daemon_core::identity::Incarnation { started_at_ms: 1, salt: 0 },
        other.nodes[S].keypair.entity_id(),
        Epoch::FIRST,
    );
    let proof =
        DaemonProof { entity: one.entity_id(), signature: one.sign(&statement).expect("full"), epoch: Epoch::FIRST };
    for (from, let_in) in [(S, true), (2, false)] {
        let ask = ChannelMessage::Subscribe {
            request: 1,
            channel: "gated",
            daemon: Some(proof),
            token: Some(&token),
            subnet: None,
            from: None,
            group: None,
        };
        other.inject(from, P, Lane::Fast, codec::encode(&ask));
        let is_in = other.nodes[P].machine.roster(&feed("gated")).iter().any(|(node, _)| *node == other.id(from));
        assert_eq!(is_in, let_in);
        record = Some(is_in);
    }
    assert_eq!(record, Some(false));
}

#[test]
fn hazard_45_the_gate_is_held_by_roots_by_the_flag_and_by_place() {
    let mut net = Net::with_subnets(&[vec![1], vec![1], vec![2]]);
    net.connect_all();
    let own = net.nodes[S].keypair.clone();
    // The flag alone: tokens come from the node itself.
    let mut config = open("flag");
    config.require_token = true;
    net.register(P, config);
    assert!(refused(&net.subscribe(S, P, "flag", None, None).expect_err("no token")));
    let by_stranger = net.token(2, &Granted { subject: &own, channel: "flag", ttl: 60 });
    assert!(refused(&net.subscribe(S, P, "flag", None, Some(&by_stranger)).expect_err("a stranger's token")));
    let for_other = net.token(P, &Granted { subject: &own, channel: "gated", ttl: 60 });
    assert!(refused(&net.subscribe(S, P, "flag", None, Some(&for_other)).expect_err("for another channel")));
    let good = net.token(P, &Granted { subject: &own, channel: "flag", ttl: 60 });
    net.subscribe(S, P, "flag", None, Some(&good)).expect("its own token");

    // Roots alone turn the gate on.
    let mut config = open("roots");
    config.token_roots = vec![net.nodes[2].keypair.entity_id()];
    net.register(P, config);
    assert!(refused(&net.subscribe(S, P, "roots", None, None).expect_err("no token")));
    let by_publisher = net.token(P, &Granted { subject: &own, channel: "roots", ttl: 60 });
    assert!(refused(&net.subscribe(S, P, "roots", None, Some(&by_publisher)).expect_err("it is no root")));
    let by_root = net.token(2, &Granted { subject: &own, channel: "roots", ttl: 60 });
    net.subscribe(S, P, "roots", None, Some(&by_root)).expect("a root's token");

    // By place.
    let mut config = open("local");
    config.visibility = Visibility::SubnetLocal;
    net.register(P, config);
    net.subscribe(S, P, "local", None, None).expect("same subnet");
    assert!(refused(&net.subscribe(2, P, "local", None, None).expect_err("another subnet")));
    let mut config = open("nobody");
    config.visibility = Visibility::Exported;
    net.register(P, config);
    assert!(refused(&net.subscribe(S, P, "nobody", None, None).expect_err("there is no export")));
    assert_eq!(
        net.subscribe(S, P, "elsewhere", None, None),
        Err(ChannelError::Unknown("elsewhere".into())),
        "there is no such channel"
    );
}

#[test]
fn hazard_45_another_configuration_puts_out_whom_it_does_not_let_in() {
    let mut net = Net::connected(2);
    net.register(P, open("gated"));
    let one = daemon(1);
    let token = net.token(P, &Granted { subject: &one, channel: "gated", ttl: 60 });
    net.subscribe(S, P, "gated", None, None).expect("open");
    net.subscribe(S, P, "gated", Some(&one), Some(&token)).expect("open");
    net.register(P, net.gated("gated"));
    net.run();
    let ends = net.ends(S);
    assert!(matches!(ends.as_slice(), [(Subscriber::Node, error)] if refused(error)), "{ends:?}");
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")), [(net.id(S), Subscriber::Daemon(one.entity_id()))]);
}

#[test]
fn requirement_119_hazard_43_an_expired_token_puts_its_subscriber_out_in_one_sweep() {
    let mut net = Net::connected(2);
    net.register(P, net.gated("gated"));
    let (short, long) = (daemon(1), daemon(2));
    for (who, ttl) in [(&short, 10), (&long, 100)] {
        let token = net.token(P, &Granted { subject: who, channel: "gated", ttl });
        net.subscribe(S, P, "gated", Some(who), Some(&token)).expect("let in");
    }
    net.pass(Duration::from_secs(9));
    net.run();
    assert_eq!(net.ends(S), []);
    net.pass(Duration::from_secs(1));
    net.run();
    let ends = net.ends(S);
    assert!(
        matches!(ends.as_slice(), [(Subscriber::Daemon(who), error)] if *who == short.entity_id() && refused(error))
    );
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")), [(net.id(S), Subscriber::Daemon(long.entity_id()))]);
    // The next one too, though no deadline but the first was known when it came in.
    net.pass(Duration::from_secs(45));
    net.pass(Duration::from_secs(44));
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")).len(), 1);
    net.pass(Duration::from_secs(1));
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")), []);
}

#[test]
fn requirement_119_or_when_something_is_published_before_the_sweep() {
    let mut net = Net::connected(2);
    net.register(P, net.gated("gated"));
    let own = net.nodes[S].keypair.clone();
    let token = net.token(P, &Granted { subject: &own, channel: "gated", ttl: 10 });
    net.subscribe(S, P, "gated", None, Some(&token)).expect("let in");
    // The wall clock was set: no deadline has passed.
    net.now.unix += Duration::from_secs(10);
    let id = net.publish(P, "gated", b"secret", RELIABLE).expect("nobody");
    assert_eq!(net.report(P, id).expect("over").expect("sent").attempted, 0);
    net.run();
    assert_eq!(net.messages(S), []);
    assert_eq!(net.ends(S).len(), 1);
}

#[test]
fn hazard_43_a_revoked_token_ends_its_subscription_and_is_not_taken_again() {
    let mut net = Net::connected(2);
    net.register(P, net.gated("gated"));
    let own = net.nodes[S].keypair.clone();
    let token = net.token(P, &Granted { subject: &own, channel: "gated", ttl: 60 });
    net.subscribe(S, P, "gated", None, Some(&token)).expect("let in");
    let (issuer, now) = (net.nodes[P].keypair.entity_id(), net.now);
    net.nodes[P].machine.revoke_below(issuer, 1, now);
    net.run();
    assert_eq!(net.ends(S).len(), 1);
    assert!(refused(&net.subscribe(S, P, "gated", None, Some(&token)).expect_err("revoked")));
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")), []);
}

#[test]
fn hazard_43_a_token_that_ends_while_the_connection_is_broken_ends_the_subscription() {
    let mut net = Net::connected(2);
    net.register(P, net.gated("gated"));
    let own = net.nodes[S].keypair.clone();
    let token = net.token(P, &Granted { subject: &own, channel: "gated", ttl: 10 });
    net.subscribe(S, P, "gated", None, Some(&token)).expect("let in");
    net.cut(P, S);
    net.pass(Duration::from_secs(10));
    net.connect(P, S, true);
    net.run();
    assert_eq!(net.ends(S).len(), 1);
    assert_eq!(net.nodes[S].machine.ledger(), []);
}

#[test]
fn requirement_120_a_refused_subscription_leaves_nothing() {
    let mut net = Net::connected(2);
    net.register(P, net.gated("gated"));
    assert!(net.subscribe(S, P, "gated", None, None).is_err());
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")), []);
    assert_eq!(net.nodes[S].machine.ledger(), []);
    assert!(net.nodes[S].machine.is_idle() && net.nodes[P].machine.is_idle());
    // One that is in and tries again with a bad token stays in with the good one.
    let own = net.nodes[S].keypair.clone();
    let token = net.token(P, &Granted { subject: &own, channel: "gated", ttl: 60 });
    net.subscribe(S, P, "gated", None, Some(&token)).expect("let in");
    assert!(net.subscribe(S, P, "gated", None, Some(&[0; 169])).is_err());
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")).len(), 1);
    assert_eq!(net.nodes[S].machine.ledger().len(), 1);
    assert_eq!(net.ends(S), []);
}

#[test]
fn requirement_121_hazard_46_repeated_failures_are_throttled_and_success_clears_them() {
    let mut net = Net::connected(3);
    net.register(P, net.gated("gated"));
    net.register(P, open("open"));
    let own = net.nodes[S].keypair.clone();
    let token = net.token(P, &Granted { subject: &own, channel: "gated", ttl: 600 });
    for _ in 1..MAX_AUTH_FAILURES {
        assert!(refused(&net.subscribe(S, P, "gated", None, None).expect_err("no token")));
    }
    net.subscribe(S, P, "gated", None, Some(&token)).expect("not throttled yet");
    net.leave(S, P, "gated", Subscriber::Node);
    net.run();
    for _ in 0..MAX_AUTH_FAILURES {
        assert!(refused(&net.subscribe(S, P, "gated", None, None).expect_err("no token")), "success cleared the count");
        // What anybody may do shows nothing.
        let _let_in = net.subscribe(S, P, "open", Some(&daemon(1)), None);
    }
    let throttled = Err(ChannelError::Throttled("gated".into()));
    assert_eq!(net.subscribe(S, P, "gated", None, Some(&token)), throttled, "not even looked at");
    let other = net.nodes[2].keypair.clone();
    let others = net.token(P, &Granted { subject: &other, channel: "gated", ttl: 600 });
    net.subscribe(2, P, "gated", None, Some(&others)).expect("another peer is not concerned");
    let one = daemon(1);
    let of_one = net.token(P, &Granted { subject: &one, channel: "gated", ttl: 600 });
    net.subscribe(S, P, "gated", Some(&one), Some(&of_one)).expect("nor is a daemon of the same node");
    net.pass(THROTTLE);
    net.subscribe(S, P, "gated", None, Some(&token)).expect("after a while it is");
}

#[test]
fn hazard_46_requirement_126_a_lost_peer_leaves_the_roster_and_its_subscribers_are_told() {
    let mut net = Net::connected(3);
    net.register(P, open("a"));
    net.subscribe(S, P, "a", None, None).expect("let in");
    net.subscribe(2, P, "a", None, None).expect("let in");
    let waiting = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.lose(P, S);
    net.run();
    assert_eq!(net.nodes[P].machine.roster(&feed("a")), [(net.id(2), Subscriber::Node)]);
    assert_eq!(net.nodes[S].machine.ledger(), []);
    assert_eq!(net.ends(S), [(Subscriber::Node, ChannelError::PeerLost(net.id(P)))]);
    let report = net.report(P, waiting).expect("over").expect("best effort");
    assert_eq!((report.attempted, report.delivered), (2, 1));
    assert_eq!(report.errors, [(net.id(S), ChannelError::PeerLost(net.id(S)))]);
    // Who is back begins anew.
    net.connect(P, S, false);
    net.subscribe(S, P, "a", None, None).expect("let in");
    assert_eq!(net.ask(S, 2, "a", None, None).map(|_| ()), Ok(()));
    let error = Net::new(2).ask(S, P, "a", None, None).expect_err("no session");
    assert!(matches!(error, ChannelError::NotConnected(_)));
}

#[test]
fn requirement_123_only_the_publisher_that_was_asked_can_answer() {
    let mut net = Net::connected(3);
    net.register(P, open("a"));
    let request = net.ask(S, P, "a", None, None).expect("asked");
    for number in 0..20 {
        for answer in [
            ChannelMessage::Subscribed { request: number, position: None, missed: None },
            ChannelMessage::Unsubscribed { request: number },
            ChannelMessage::Refused { request: number, reason: RefusalReason::Unknown },
            ChannelMessage::Ended {
                channel: name("a").id().0,
                daemon: None,
                reason: RefusalReason::Unknown,
                group: None,
            },
        ] {
            net.inject(2, S, Lane::Fast, codec::encode(&answer));
        }
    }
    assert_eq!(net.answer(S, request), None);
    assert_eq!(net.nodes[S].machine.ledger(), []);
    net.run();
    assert_eq!(net.answer(S, request), Some(Ok(())));
}

#[test]
fn requirement_123_a_token_of_one_byte_and_trailing_bytes_are_refused() {
    let mut net = Net::connected(2);
    net.register(P, net.gated("gated"));
    net.register(P, open("open"));
    assert!(refused(&net.subscribe(S, P, "gated", None, Some(&[1])).expect_err("no token")));
    assert!(refused(&net.subscribe(S, P, "open", None, Some(&[1])).expect_err("no token, though none is needed")));
    let ask = ChannelMessage::Subscribe {
        request: 1,
        channel: "open",
        daemon: None,
        token: None,
        subnet: None,
        from: None,
        group: None,
    };
    let mut body = codec::encode(&ask);
    body.push(0);
    net.inject(S, P, Lane::Fast, body);
    assert_eq!(net.nodes[P].machine.roster(&feed("open")), []);
    let far = ChannelMessage::Subscribe {
        request: 1,
        channel: "open",
        daemon: None,
        token: None,
        subnet: Some(&[1; 5]),
        from: None,
        group: None,
    };
    net.inject(S, P, Lane::Fast, codec::encode(&far));
    assert_eq!(net.nodes[P].machine.roster(&feed("open")), [], "a subnet has 4 levels at most");
}

#[test]
fn very_many_subscriptions_with_tokens_are_asked_for_again_after_a_reconnection() {
    const MANY: u32 = 10_000;
    let mut net = Net::connected(2);
    net.register(P, open("open"));
    net.register(P, net.gated("gated"));
    let one = daemon(1);
    let token = net.token(P, &Granted { subject: &one, channel: "gated", ttl: 600 });
    net.subscribe(S, P, "gated", Some(&one), Some(&token)).expect("let in");
    // Nobody looks at these tokens, and all of them are asked again: together more than may wait for a peer otherwise.
    let chain = [token.as_slice(), &token, &token].concat();
    let seeds = (0..MANY).map(|number| {
        let mut seed = [7; 32];
        seed[..4].copy_from_slice(&number.to_le_bytes());
        seed
    });
    let daemons: Vec<_> = seeds.map(|seed| EntityKeypair::from_seed(&seed)).collect();
    let ask = |net: &mut Net, one: &EntityKeypair| net.ask(S, P, "open", Some(one), Some(&chain)).expect("asked");
    let mut requests: Vec<_> = daemons.iter().map(|one| ask(&mut net, one)).collect();
    net.run();
    assert!(requests.drain(..).all(|request| net.answer(S, request) == Some(Ok(()))));
    net.cut(P, S);
    net.connect(P, S, true);
    // Nobody has read anything yet, and one leaves.
    let request = net.leave(S, P, "gated", Subscriber::Daemon(one.entity_id()));
    assert_eq!(net.answer(S, request), None);
    net.run();
    assert_eq!(net.answer(S, request), Some(Ok(())));
    assert_eq!(net.ends(S), []);
    assert_eq!(net.nodes[S].machine.ledger().len(), daemons.len());
    assert_eq!(net.nodes[P].machine.roster(&feed("open")).len(), daemons.len());
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")), []);
}

#[test]
fn a_node_subscribes_to_its_own_channel() {
    let mut net = Net::new(1);
    net.register(P, open("a"));
    net.subscribe(P, P, "a", None, None).expect("let in");
    let small = net.publish(P, "a", b"1", RELIABLE).expect("sent");
    let large = net.publish(P, "a", &vec![2; 100_000], RELIABLE).expect("sent");
    for id in [small, large] {
        assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
    }
    assert_eq!(net.messages(P).iter().map(|m| (m.number, m.payload.len())).collect::<Vec<_>>(), [(1, 1), (2, 100_000)]);
    net.leave(P, P, "a", Subscriber::Node);
    assert_eq!(net.nodes[P].machine.roster(&feed("a")), []);
}

#[test]
fn hazard_43_who_is_put_out_while_it_asks_with_another_token_hears_that_it_is_out() {
    for who in [None, Some(daemon(9))] {
        for good in [false, true] {
            let mut net = Net::connected(2);
            net.register(P, net.gated("gated"));
            let own = who.clone().unwrap_or_else(|| net.nodes[S].keypair.clone());
            let stranger = daemon(10);
            let token = net.token(P, &Granted { subject: &own, channel: "gated", ttl: 60 });
            let later =
                net.token(P, &Granted { subject: if good { &own } else { &stranger }, channel: "gated", ttl: 90 });
            net.subscribe(S, P, "gated", who.as_ref(), Some(&token)).expect("let in");
            // Its time is over just when it presents another one.
            let request = net.ask(S, P, "gated", who.as_ref(), Some(&later)).expect("asked");
            net.pass(Duration::from_secs(60));
            while net.arrive(P, S) || net.send(P, S) {}
            assert_eq!(net.ends(S), [], "the answer decides");
            net.run();
            let answer = net.answer(S, request).expect("answered");
            assert_eq!(answer.is_ok(), good);
            let ends = net.ends(S);
            assert_eq!(ends.len(), usize::from(!good), "{ends:?}");
            let expired = |why: &ChannelError| matches!(why, ChannelError::Unauthorized { why: Denial::Expired, .. });
            assert!(ends.iter().all(|(_, why)| expired(why)), "{ends:?}");
            assert_eq!(net.nodes[S].machine.ledger().len(), usize::from(good));
        }
    }
}

#[test]
fn who_is_cut_off_while_a_channel_is_replaced_gets_the_messages_of_the_new_one() {
    let mut net = Net::connected(3);
    net.register(P, open("a"));
    net.subscribe(S, P, "a", None, None).expect("let in");
    net.subscribe(2, P, "a#g", None, None).expect("let in");
    for _ in 0..5 {
        net.publish(P, "a", b"old", RELIABLE).expect("sent");
    }
    net.run();
    assert_eq!((net.messages(S).len(), net.messages(2).len()), (5, 5));
    net.cut(P, S);
    net.cut(P, 2);
    let now = net.now;
    assert!(net.nodes[P].machine.unregister(&name("a"), now));
    net.register(P, open("a"));
    net.connect(P, S, true);
    net.connect(P, 2, true);
    net.run();
    // Both ask whether they are still in, which they may be.
    let id = net.publish(P, "a", b"new", RELIABLE).expect("sent");
    net.run();
    assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 2);
    assert_eq!((net.messages(S).len(), net.messages(2).len()), (1, 1));
    assert!(!net.nodes[P].machine.unregister(&name("b"), now));
}
