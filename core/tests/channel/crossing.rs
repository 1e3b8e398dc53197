//! Joins, leaves and refusals that cross messages, or each other.

use std::time::Duration;

use mesh_daemon_core::channel::{ChannelError, ChannelEvent, Denial, ReadersRoom, Subscriber};
use mesh_daemon_core::identity::{EntityKeypair, Epoch};

use crate::net::{Granted, LOSSY, Net, P, RELIABLE, S, T, daemon, feed, name, numbers, open};

/// What a daemon on the node has got, or the node itself.
fn got_by(net: &mut Net, who: Option<&EntityKeypair>) -> Vec<u64> {
    let got = match who {
        Some(daemon) => net.take_all(S, daemon),
        None => net.messages(S),
    };
    numbers(&got)
}

/// A publisher of a channel that needs tokens, and a node.
fn gated_pair() -> Net {
    let mut net = Net::connected(2);
    net.register(P, net.gated("a"));
    net
}

fn token(net: &Net, subject: &EntityKeypair, ttl: u64) -> Vec<u8> {
    net.token(P, &Granted { subject, channel: "a", ttl })
}

#[test]
fn a_daemon_that_comes_while_the_last_one_of_its_node_leaves_gets_what_is_published_then() {
    let (one, other) = (daemon(1), daemon(2));
    for leaves in [Some(&one), Some(&other), None] {
        for options in [RELIABLE, LOSSY] {
            let mut net = Net::connected(2);
            net.register(P, open("a"));
            net.subscribe(S, P, "a", leaves, None).expect("let in");
            net.publish(P, "a", b"x", options).expect("sent");
            assert!(net.send(P, S));
            let who = leaves.map_or(Subscriber::Node, |daemon| Subscriber::Daemon(daemon.entity_id()));
            net.leave(S, P, "a", who);
            net.hear(S, P);
            net.publish(P, "a", b"x", options).expect("for nobody");
            let came = net.ask(S, P, "a", Some(&one), None).expect("asked");
            assert!(net.send(S, P), "the publisher has yet to hear it");
            while net.arrive(P, S) {}
            net.take_all(S, &one);
            net.run();
            assert_eq!(net.answer(S, came), Some(Ok(())));
            net.take_all(S, &one);
            for number in 3..6 {
                net.publish(P, "a", b"x", options).expect("sent");
                net.run();
                assert_eq!(numbers(&net.take_all(S, &one)), [number], "{leaves:?} {options:?}");
            }
        }
    }
}

#[test]
fn a_daemon_that_asks_with_another_token_before_the_answer_gets_what_it_was_let_in_for() {
    let one = daemon(1);
    let mut net = gated_pair();
    let tokens = [60, 90].map(|ttl| token(&net, &one, ttl));
    net.ask(S, P, "a", Some(&one), Some(&tokens[0])).expect("asked");
    net.hear(S, P);
    let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    let renewed = net.ask(S, P, "a", Some(&one), Some(&tokens[1])).expect("asked");
    net.hear(S, P);
    net.run();
    assert_eq!(net.answer(S, renewed), Some(Ok(())));
    assert_eq!(numbers(&net.take_all(S, &one)), [1]);
    net.run();
    assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
}

#[test]
fn who_was_put_out_unheard_and_is_refused_with_another_token_hears_that_it_is_out() {
    for who in [None, Some(daemon(1))] {
        for reconnected in [false, true] {
            let mut net = gated_pair();
            let own = who.clone().unwrap_or_else(|| net.nodes[S].keypair.clone());
            let (good, bad) = (token(&net, &own, 10), token(&net, &daemon(9), 90));
            net.subscribe(S, P, "a", who.as_ref(), Some(&good)).expect("let in");
            let ask = |net: &mut Net| net.ask(S, P, "a", who.as_ref(), Some(&bad)).expect("asked");
            let mut request = (!reconnected).then(|| ask(&mut net));
            net.pass(Duration::from_secs(10));
            assert!(net.send(P, S), "that it is out");
            net.cut(S, P);
            net.connect(S, P, true);
            let request = *request.get_or_insert_with(|| ask(&mut net));
            net.run();
            assert!(matches!(net.answer(S, request), Some(Err(ChannelError::Unauthorized { .. }))));
            let ends = net.ends(S);
            let expired = |why: &ChannelError| matches!(why, ChannelError::Unauthorized { why: Denial::Expired, .. });
            assert!(ends.len() == 1 && ends.iter().all(|(_, why)| expired(why)), "{reconnected}: {ends:?}");
            assert_eq!((net.nodes[S].machine.ledger(), net.nodes[P].machine.kept().let_in), (vec![], 0));
        }
    }
}

#[test]
fn who_is_refused_with_another_token_after_a_reconnection_stays_in_with_its_own() {
    for who in [None, Some(daemon(1))] {
        let mut net = gated_pair();
        let own = who.clone().unwrap_or_else(|| net.nodes[S].keypair.clone());
        let (good, bad) = (token(&net, &own, 60), token(&net, &daemon(9), 90));
        net.subscribe(S, P, "a", who.as_ref(), Some(&good)).expect("let in");
        let request = net.ask(S, P, "a", who.as_ref(), Some(&bad)).expect("asked");
        net.cut(S, P);
        net.connect(S, P, true);
        net.run();
        assert!(matches!(net.answer(S, request), Some(Err(ChannelError::Unauthorized { .. }))));
        assert_eq!((net.ends(S), net.nodes[S].machine.ledger().len()), (vec![], 1));
        net.publish(P, "a", b"x", RELIABLE).expect("sent");
        net.run();
        assert_eq!(got_by(&mut net, who.as_ref()), [1]);
    }
}

#[test]
fn who_was_put_out_and_leaves_before_another_token_is_answered_hears_that_it_was_put_out() {
    for who in [None, Some(daemon(1))] {
        let mut net = gated_pair();
        let own = who.clone().unwrap_or_else(|| net.nodes[S].keypair.clone());
        let (brief, later) = (token(&net, &own, 10), token(&net, &own, 90));
        net.subscribe(S, P, "a", who.as_ref(), Some(&brief)).expect("let in");
        let renewed = net.ask(S, P, "a", who.as_ref(), Some(&later)).expect("asked");
        net.pass(Duration::from_secs(10));
        net.hear(P, S);
        assert_eq!(net.ends(S), [], "the answer may let it in");
        let left =
            net.leave(S, P, "a", who.as_ref().map_or(Subscriber::Node, |one| Subscriber::Daemon(one.entity_id())));
        net.run();
        assert!(matches!(net.answer(S, renewed), Some(Err(ChannelError::Unsubscribed(_)))));
        assert_eq!(net.answer(S, left), Some(Ok(())));
        let expired = ChannelError::Unauthorized { channel: "a".into(), why: Denial::Expired };
        assert_eq!(net.ends(S).into_iter().map(|(_, why)| why).collect::<Vec<_>>(), [expired], "{who:?}");
        assert_eq!(net.nodes[P].machine.kept().let_in, 0);
    }
}

#[test]
fn each_of_two_tokens_that_are_presented_at_once_has_an_answer_of_its_own() {
    for who in [None, Some(daemon(1))] {
        for (good_first, lost) in [(true, false), (false, false), (true, true), (false, true)] {
            let mut net = gated_pair();
            let own = who.clone().unwrap_or_else(|| net.nodes[S].keypair.clone());
            let mut tokens = [(token(&net, &own, 60), true), (token(&net, &daemon(9), 90), false)];
            if !good_first {
                tokens.reverse();
            }
            // The second one is presented twice.
            let asked = [&tokens[0], &tokens[1], &tokens[1]].map(|(token, is_good)| {
                let request = net.ask(S, P, "a", who.as_ref(), Some(token)).expect("asked");
                if lost {
                    net.hear(S, P);
                }
                (request, *is_good)
            });
            if lost {
                net.cut(S, P);
                net.connect(S, P, true);
            }
            net.run();
            for (request, is_good) in asked {
                let answer = net.answer(S, request).expect("answered");
                assert_eq!(answer.is_ok(), is_good, "{who:?} {good_first} {lost}: {answer:?}");
            }
            assert_eq!((net.ends(S), net.nodes[S].machine.ledger().len()), (vec![], 1));
            let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
            net.run();
            assert_eq!(got_by(&mut net, who.as_ref()), [1]);
            net.run();
            assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
        }
    }
}

#[test]
fn who_gives_up_hears_that_for_every_token_that_it_presented_and_is_out() {
    for lose in [false, true] {
        let one = daemon(1);
        let mut net = gated_pair();
        let asked = [10, 20, 30].map(|ttl| {
            let token = token(&net, &one, ttl);
            net.ask(S, P, "a", Some(&one), Some(&token)).expect("asked")
        });
        net.hear(S, P);
        if lose {
            net.lose(S, P);
            net.connect(S, P, false);
        } else {
            net.leave(S, P, "a", Subscriber::Daemon(one.entity_id()));
        }
        for request in asked {
            match net.answer(S, request) {
                Some(Err(ChannelError::PeerLost(_))) => assert!(lose),
                Some(Err(ChannelError::Unsubscribed(_))) => assert!(!lose),
                other => panic!("{lose}: {other:?}"),
            }
        }
        net.run();
        assert_eq!(
            (net.ends(S), net.nodes[S].machine.ledger(), net.nodes[P].machine.kept().let_in),
            (vec![], vec![], 0)
        );
    }
}

#[test]
fn hazard_45_who_is_not_let_in_is_handed_nothing_of_what_others_on_its_node_get() {
    for who in [None, Some(daemon(1))] {
        for is_good in [false, true] {
            let inside = daemon(2);
            let mut net = gated_pair();
            let own = who.clone().unwrap_or_else(|| net.nodes[S].keypair.clone());
            let tokens = [&inside, &own].map(|subject| token(&net, subject, 60));
            net.subscribe(S, P, "a", Some(&inside), Some(&tokens[0])).expect("let in");
            let own_token = Some(tokens[1].as_slice()).filter(|_| is_good);
            let request = net.ask(S, P, "a", who.as_ref(), own_token).expect("asked");
            assert!(net.send(S, P), "the publisher has yet to hear it");
            let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
            let got = |net: &mut Net| got_by(net, who.as_ref());
            net.hear(P, S);
            assert_eq!(got(&mut net), [], "{who:?}: nobody has said that it may");
            assert_eq!(numbers(&net.take_all(S, &inside)), [1]);
            net.run();
            assert_eq!(net.answer(S, request).expect("answered").is_ok(), is_good);
            assert_eq!(got(&mut net), [], "{who:?}: that was published before");
            assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1, "nobody else was to get it");
            net.publish(P, "a", b"x", RELIABLE).expect("sent");
            net.run();
            let expected = if is_good { vec![2] } else { vec![] };
            assert_eq!((got(&mut net), numbers(&net.take_all(S, &inside))), (expected, vec![2]));
            net.run();
            net.nodes[P].events.clear();
            assert!(net.nodes[P].machine.is_idle() && net.nodes[S].machine.is_idle());
        }
    }
}

#[test]
fn who_was_let_in_and_did_not_hear_it_gets_everything_since() {
    for who in [None, Some(daemon(1))] {
        let inside = daemon(2);
        let mut net = gated_pair();
        let own = who.clone().unwrap_or_else(|| net.nodes[S].keypair.clone());
        let tokens = [&inside, &own].map(|subject| token(&net, subject, 60));
        net.subscribe(S, P, "a", Some(&inside), Some(&tokens[0])).expect("let in");
        net.ask(S, P, "a", who.as_ref(), Some(&tokens[1])).expect("asked");
        net.hear(S, P);
        net.publish(P, "a", b"x", RELIABLE).expect("sent");
        assert!(net.send(P, S), "that it is in, and the message");
        net.cut(S, P);
        net.connect(S, P, true);
        net.publish(P, "a", b"x", RELIABLE).expect("sent");
        // What is sent again comes before the answer to what is asked again.
        net.hear(P, S);
        net.take_all(S, &inside);
        net.run();
        assert_eq!(got_by(&mut net, who.as_ref()), [1, 2], "{who:?}");
    }
}

#[test]
fn a_question_that_is_asked_twice_is_not_answered_by_its_first_answer() {
    let (one, stays) = (daemon(1), daemon(2));
    let mut net = Net::connected(3);
    net.register(P, open("a"));
    for daemon in [&one, &stays] {
        net.subscribe(S, P, "a", Some(daemon), None).expect("let in");
    }
    net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    assert_eq!(numbers(&net.take_all(S, &one)), [1]);
    // It asks whether it is still in; its publisher has answered that when the connection breaks once more.
    net.cut(S, P);
    net.connect(S, P, true);
    net.hear(S, P);
    net.cut(S, P);
    net.connect(S, P, true);
    assert!(net.send(S, P), "the same question");
    net.hear(P, S);
    // Before that arrives, the daemon has moved to another node and left there.
    let (position, now) = (net.position(S, &one), net.now);
    net.nodes[S].machine.moved_on(one.entity_id(), now);
    net.ask_from(T, P, "a", &one, None, Epoch::new(2), position).expect("asked");
    net.hear(T, P);
    net.leave(T, P, "a", Subscriber::Daemon(one.entity_id()));
    net.hear(T, P);
    net.hear(P, S);
    net.run();
    net.pass(Duration::from_secs(60));
    net.run();
    let roster = net.nodes[P].machine.roster(&feed("a"));
    assert_eq!(roster, [(net.id(S), Subscriber::Daemon(stays.entity_id()))]);
}

#[test]
fn readers_that_wait_to_be_let_in_are_not_taken_for_ones_that_take_nothing() {
    let inside = daemon(2);
    let mut net = gated_pair();
    let tokens = [&inside, &net.nodes[S].keypair].map(|subject| token(&net, subject, 3600));
    net.subscribe(S, P, "a", Some(&inside), Some(&tokens[0])).expect("let in");
    let request = net.ask(S, P, "a", None, Some(&tokens[1])).expect("asked");
    let (key, now) = ((net.id(P), feed("a").stream(Subscriber::Node)), net.now);
    net.nodes[S].machine.readers_have(key, ReadersRoom::ForAll, now);
    net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.hear(P, S);
    net.take_all(S, &inside);
    net.run();
    assert_eq!(net.answer(S, request), Some(Ok(())));
    for _ in 0..10 {
        net.pass(Duration::from_secs(30));
        net.run();
    }
    assert_eq!(net.ends(S), []);
}

#[test]
fn a_node_that_was_put_out_and_has_missed_something_when_it_asks_whether_it_is_in_hears_that() {
    for asks_first in [false, true] {
        let one = daemon(1);
        let mut net = Net::connected(2);
        net.register(P, open("a"));
        net.subscribe(S, P, "a", None, None).expect("let in");
        net.subscribe(S, P, "a", Some(&one), None).expect("let in");
        net.publish_all(1);
        assert_eq!((net.numbers(S), numbers(&net.take_all(S, &one))), (vec![1], vec![1]));
        net.run();
        net.cut(S, P);
        if asks_first {
            net.connect(S, P, true);
            assert!(net.send(S, P), "the question");
        }
        net.publish(P, "a", b"x", RELIABLE).expect("sent");
        let now = net.now;
        assert!(net.nodes[P].machine.unregister(&name("a"), now));
        net.register(P, open("a"));
        if !asks_first {
            net.connect(S, P, true);
        }
        net.run();
        assert_eq!(net.ends(S), [(Subscriber::Node, ChannelError::Unknown("a".into()))], "{asks_first}");
        let gaps = net.nodes[S].events.iter().filter(|event| matches!(event, ChannelEvent::Missed { count: 1, .. }));
        assert_eq!(gaps.count(), 1);
        let who = Subscriber::Daemon(one.entity_id());
        assert_eq!(net.nodes[S].machine.ledger(), [(net.id(P), feed("a"), who)], "{asks_first}");
        assert_eq!(net.nodes[P].machine.kept().let_in, 1);
        net.publish_all(1);
        assert_eq!((net.numbers(S), numbers(&net.take_all(S, &one))), (vec![], vec![3]));
        net.subscribe(S, P, "a", None, None).expect("let in again");
        net.publish_all(1);
        assert_eq!((net.numbers(S), numbers(&net.take_all(S, &one))), (vec![4], vec![4]));
    }
}
