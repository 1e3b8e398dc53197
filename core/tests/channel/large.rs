//! Large messages that are under way when their subscriber goes.

use std::time::Duration;

use mesh_daemon_core::channel::{ChannelConfig, OnFailure, PublishOptions, Subscriber};

use crate::net::{Granted, LOSSY, Net, P, RELIABLE, S, T, daemon, numbers, open};

/// More than a frame has room for.
static LARGE: [u8; 150_000] = [1; 150_000];

#[test]
fn what_is_under_way_to_a_member_of_a_group_that_leaves_is_taken_once() {
    for begun in [false, true] {
        let mut net = Net::connected(3);
        net.register(P, open("a"));
        for at in [S, T] {
            net.subscribe(at, P, "a#g", None, None).expect("let in");
        }
        let id = net.publish(P, "a", &LARGE, RELIABLE).expect("sent");
        if begun {
            assert!(net.send(P, S));
        } else {
            net.fill_full_frame(P, S);
        }
        net.leave(S, P, "a#g", Subscriber::Node);
        net.ask(S, P, "a#g", None, None).expect("asked");
        net.hear(S, P);
        net.run();
        let taken = [S, T].map(|at| net.numbers(at)).concat();
        assert_eq!(taken, [1], "begun: {begun}");
        assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
        // The next one comes whole.
        for number in 2..4 {
            net.publish(P, "a", &LARGE, RELIABLE).expect("sent");
            net.run();
            assert_eq!([S, T].map(|at| net.numbers(at)).concat(), [number]);
        }
    }
}

#[test]
fn hazard_43_nothing_more_is_sent_of_what_is_under_way_to_who_is_put_out() {
    for begun in [false, true] {
        let mut net = Net::connected(2);
        net.register(P, ChannelConfig { token_roots: vec![net.nodes[P].keypair.entity_id()], ..open("a") });
        let token = net.token(P, &Granted { subject: &net.nodes[S].keypair, channel: "a", ttl: 60 });
        net.subscribe(S, P, "a", None, Some(&token)).expect("let in");
        net.publish(P, "a", &LARGE, RELIABLE).expect("sent");
        if begun {
            assert!(net.send(P, S) && net.arrive(P, S));
            assert!(net.nodes[S].machine.kept().unfinished_bytes > 0);
        } else {
            net.fill_full_frame(P, S);
        }
        net.pass(Duration::from_secs(60));
        net.send(P, S);
        assert_eq!(net.large_on_the_way(P, S), 0, "begun: {begun}");
        net.run();
        assert_eq!((net.ends(S).len(), net.numbers(S)), (1, vec![]));
        assert_eq!(net.nodes[S].machine.kept().unfinished_bytes, 0, "nobody waits for the rest");
    }
}

#[test]
fn nothing_more_is_sent_of_what_is_under_way_when_its_publication_has_failed() {
    let mut net = Net::connected(3);
    net.register(P, open("a"));
    for at in [S, T] {
        net.subscribe(at, P, "a", None, None).expect("let in");
    }
    let options = PublishOptions { on_failure: OnFailure::FailFast, ..RELIABLE };
    let id = net.publish(P, "a", &LARGE, options).expect("sent");
    net.fill_full_frame(P, S);
    net.lose(P, T);
    assert!(net.report(P, id).expect("over").is_err());
    net.run();
    assert_eq!(net.numbers(S), []);
    net.publish(P, "a", &LARGE, RELIABLE).expect("sent");
    net.run();
    assert_eq!(net.numbers(S), [2]);
}

#[test]
fn a_place_that_a_large_message_leaves_is_for_the_publishers_own_node_at_once() {
    let own = daemon(1);
    let mut net = Net::connected(2);
    net.register(P, open("a"));
    net.subscribe(P, P, "a", Some(&own), None).expect("let in");
    net.subscribe(S, P, "a", None, None).expect("let in");
    // One more than its window: that keeps waiting what comes behind it.
    net.publish_all(1025);
    let options = PublishOptions { max_inflight: 1, ..LOSSY };
    let id = net.publish(P, "a", &LARGE, options).expect("sent");
    assert!(net.send(P, S), "the other node has the place");
    assert_eq!(net.take_all(P, &own).len(), 1025);
    assert_eq!(net.report(P, id), None);
    net.run();
    assert_eq!(numbers(&net.take_all(P, &own)), [1026]);
    assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 2);
}
