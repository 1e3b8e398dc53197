//! What daemons that go on, and those who come while others are in, get and do not get.

use mesh_daemon_core::channel::{
    ArrivedMessage, ChannelError, ChannelEvent, OnFailure, Position, PublishOptions, PublishReport, ReadersRoom,
    Subscriber,
};
use mesh_daemon_core::identity::{EntityKeypair, Epoch};

use crate::net::{Net, RELIABLE, feed, open, right};

const P: usize = 0;
const S: usize = 1;
const T: usize = 2;
const U: usize = 3;
const FAIL_FAST: PublishOptions = PublishOptions { on_failure: OnFailure::FailFast, ..RELIABLE };
/// The most that node `T` takes, and more than that.
const LIMIT: u64 = 50_000;
static LARGE: [u8; 100_000] = [7; 100_000];

fn daemon(seed: u8) -> EntityKeypair {
    EntityKeypair::from_seed(&[seed; 32])
}

fn numbers(messages: &[ArrivedMessage]) -> Vec<u64> {
    messages.iter().map(|message| message.number).collect()
}

/// A publisher of channel `a`, and three nodes, one of which takes small payloads only.
fn unequal() -> Net {
    let mut net = Net::new(4);
    net.limit(T, LIMIT);
    net.connect_all();
    net.register(P, open("a"));
    net
}

/// A daemon has come to another node, and is let in there.
fn go_on(net: &mut Net, at: usize, channel: &str, daemon: &EntityKeypair, position: Position) {
    let request = net.ask_from(at, P, channel, daemon, None, Epoch::new(2), Some(position)).expect("asked");
    net.run();
    net.answer(at, request).expect("answered").expect("let in");
}

/// A daemon has moved, and is let in on its new node.
fn move_on(net: &mut Net, (from, to): (usize, usize), daemon: &EntityKeypair) {
    let position = net.position(from, daemon).expect("known");
    let now = net.now;
    net.nodes[from].machine.moved_on(daemon.entity_id(), now);
    go_on(net, to, "a", daemon, position);
}

/// How many messages each daemon was told to have missed on a node.
fn missed(net: &Net, at: usize) -> Vec<u64> {
    let events = net.nodes[at].events.iter();
    events
        .filter_map(|event| if let ChannelEvent::Missed { count, .. } = event { Some(*count) } else { None })
        .collect()
}

#[test]
fn a_daemon_that_moves_to_a_node_for_which_a_message_is_too_large_goes_on_behind_that_and_is_told() {
    let one = daemon(1);
    let mut net = unequal();
    net.subscribe(S, P, "a", Some(&one), None).expect("let in");
    let ids = [b"x".as_slice(), &LARGE, b"x"].map(|payload| net.publish(P, "a", payload, RELIABLE).expect("sent"));
    net.run();
    net.next_for(S, &one, true).expect("the first");
    let position = net.position(S, &one).expect("known");
    let now = net.now;
    net.nodes[S].machine.moved_on(one.entity_id(), now);
    go_on(&mut net, T, "a", &one, position);
    assert_eq!(numbers(&net.take_all(T, &one)), [3]);
    assert_eq!(missed(&net, T), [1]);
    net.run();
    let [first, large, last] = ids.map(|id| net.report(P, id).expect("over").expect("sent"));
    assert_eq!((first.delivered, last.delivered), (1, 1));
    let too_large = ChannelError::PayloadTooLarge { size: 100_000, limit: LIMIT };
    assert_eq!((large.delivered, large.errors), (0, vec![(net.id(S), too_large)]));
    let behind = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    assert_eq!(numbers(&net.take_all(T, &one)), [4]);
    net.run();
    assert_eq!(net.report(P, behind).expect("over").expect("sent").delivered, 1);
}

#[test]
fn a_daemon_that_comes_back_to_its_node_is_not_sent_what_was_too_large_for_it() {
    let one = daemon(1);
    let mut net = unequal();
    net.subscribe(T, P, "a", Some(&one), None).expect("let in");
    for payload in [b"x".as_slice(), &LARGE, b"x"] {
        net.publish(P, "a", payload, RELIABLE).expect("sent");
    }
    net.run();
    net.next_for(T, &one, true).expect("the first");
    let position = net.position(T, &one).expect("known");
    net.lose(P, T);
    net.connect(P, T, false);
    go_on(&mut net, T, "a", &one, position);
    assert_eq!(numbers(&net.take_all(T, &one)), [3]);
    assert_eq!(missed(&net, T), [1]);
    net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    assert_eq!(numbers(&net.take_all(T, &one)), [4]);
}

#[test]
fn what_is_too_large_for_the_new_node_of_a_member_falls_to_another_one() {
    let one = daemon(1);
    let mut net = unequal();
    net.subscribe(S, P, "a#g", Some(&one), None).expect("let in");
    let id = net.publish(P, "a", &LARGE, RELIABLE).expect("sent");
    net.run();
    net.subscribe(U, P, "a#g", None, None).expect("let in");
    let position = net.position(S, &one).expect("known");
    let now = net.now;
    net.nodes[S].machine.moved_on(one.entity_id(), now);
    go_on(&mut net, T, "a#g", &one, position);
    net.run();
    assert_eq!((numbers(&net.messages(U)), net.take_all(T, &one)), (vec![1], vec![]));
    assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
}

#[test]
fn what_failed_fast_is_not_for_a_daemon_that_goes_on_later() {
    let one = daemon(1);
    let mut net = unequal();
    net.subscribe(S, P, "a", Some(&one), None).expect("let in");
    net.subscribe(T, P, "a", None, None).expect("let in");
    let position = net.position(S, &one).expect("let in");
    let failed = net.publish(P, "a", &LARGE, FAIL_FAST).expect("begun");
    assert!(matches!(net.report(P, failed), Some(Err(ChannelError::PayloadTooLarge { .. }))));
    net.publish(P, "a", b"x", RELIABLE).expect("begun");
    net.lose(P, S);
    go_on(&mut net, U, "a", &one, position);
    assert_eq!(numbers(&net.take_all(U, &one)), [2], "the other one was not taken back");
}

#[test]
fn what_failed_fast_falls_to_no_other_member() {
    let mut groups = ["a#g", "a#h"];
    groups.sort_by_key(|group| right(group));
    let mut net = unequal();
    for group in groups {
        net.subscribe(S, P, group, None, None).expect("let in");
    }
    net.cut(P, S);
    let failed = net.publish(P, "a", b"x", FAIL_FAST).expect("begun");
    net.subscribe(T, P, groups[1], None, None).expect("let in");
    // Nobody is left in the first group.
    net.lose(P, S);
    net.run();
    assert!(matches!(net.report(P, failed), Some(Err(ChannelError::PeerLost(_)))));
    assert_eq!(net.messages(T), []);
}

#[test]
fn a_daemon_that_has_only_just_subscribed_has_missed_nothing() {
    let one = daemon(1);
    let mut net = Net::connected(2);
    net.register(P, open("a"));
    net.subscribe(S, P, "a", None, None).expect("let in");
    net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    let request = net.ask(S, P, "a", Some(&one), None).expect("asked");
    // What comes for the node before the question is out is no beginning that the daemon was promised.
    net.publish(P, "a", b"x", RELIABLE).expect("sent");
    assert!(net.send(P, S) && net.arrive(P, S));
    net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    assert_eq!(net.answer(S, request), Some(Ok(())));
    assert_eq!(missed(&net, S), []);
    net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    assert_eq!(numbers(&net.take_all(S, &one)), [4]);
}

#[test]
fn a_node_that_subscribes_while_a_daemon_on_it_is_behind_gets_what_is_published_from_then_on() {
    let one = daemon(1);
    let mut net = Net::connected(2);
    net.register(P, open("a"));
    net.subscribe(S, P, "a", Some(&one), None).expect("let in");
    for _ in 0..2000 {
        net.publish(P, "a", b"x", RELIABLE).expect("sent");
    }
    net.run();
    net.subscribe(S, P, "a", None, None).expect("let in");
    let (key, now) = ((net.id(P), feed("a").stream(Subscriber::Node)), net.now);
    net.nodes[S].machine.readers_have(key, ReadersRoom::ForAll, now);
    let mut taken = 0;
    for _ in 0..4 {
        taken += net.take_all(S, &one).len();
        net.run();
    }
    assert_eq!((taken, numbers(&net.messages(S))), (2000, vec![]));
    let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    assert_eq!(numbers(&net.messages(S)), [2001]);
    net.nodes[S].machine.readers_have(key, ReadersRoom::ForAll, now);
    net.take_all(S, &one);
    net.run();
    assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
}

#[test]
fn what_a_daemon_takes_where_it_moved_to_is_delivered_whether_others_there_had_taken_it_before_or_not() {
    let cases = [OnFailure::BestEffort, OnFailure::FailFast].into_iter().flat_map(|on_failure| {
        [1, 32].into_iter().flat_map(move |most| [(S, T), (T, S)].map(|(from, to)| (on_failure, most, from, to)))
    });
    for (case, before) in cases.flat_map(|case| [(case, false), (case, true)]) {
        let (on_failure, max_inflight, from, to) = case;
        let (one, there) = (daemon(1), daemon(2));
        let mut net = unequal();
        net.subscribe(from, P, "a", Some(&one), None).expect("let in");
        net.subscribe(to, P, "a", Some(&there), None).expect("let in");
        let options = PublishOptions { on_failure, max_inflight, ..RELIABLE };
        let ids = [(); 3].map(|()| net.publish(P, "a", b"x", options).expect("sent"));
        net.run();
        let mut got: Vec<_> = net.next_for(from, &one, true).into_iter().collect();
        let mut theirs = if before { net.take_all(to, &there) } else { Vec::new() };
        net.run();
        move_on(&mut net, (from, to), &one);
        for _ in 0..3 {
            got.extend(net.take_all(to, &one));
            theirs.extend(net.take_all(to, &there));
            net.run();
        }
        assert_eq!((numbers(&got), numbers(&theirs)), (vec![1, 2, 3], vec![1, 2, 3]), "{case:?} {before}");
        for id in ids {
            let both = PublishReport { attempted: 2, delivered: 2, errors: vec![] };
            assert_eq!(net.report(P, id), Some(Ok(both)), "{case:?} {before}");
        }
    }
}

#[test]
fn what_is_for_two_nodes_and_waits_on_one_of_them_fails_twice_with_that() {
    let (one, there) = (daemon(1), daemon(2));
    let mut net = unequal();
    net.subscribe(S, P, "a", Some(&one), None).expect("let in");
    net.subscribe(T, P, "a", Some(&there), None).expect("let in");
    let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    move_on(&mut net, (S, T), &one);
    net.lose(P, T);
    let lost = (net.id(T), ChannelError::PeerLost(net.id(T)));
    let report = PublishReport { attempted: 2, delivered: 0, errors: vec![lost.clone(), lost] };
    assert_eq!(net.report(P, id), Some(Ok(report)));
}

#[test]
fn what_a_node_took_before_it_left_a_group_is_not_what_fell_to_another_node() {
    const V: usize = 4;
    let one = daemon(1);
    let mut net = Net::connected(5);
    net.register(P, open("a"));
    for (at, daemon) in [(S, None), (T, None), (U, Some(&one))] {
        net.subscribe(at, P, "a#g", daemon, None).expect("let in");
    }
    for _ in 0..6 {
        net.publish(P, "a", b"x", RELIABLE).expect("sent");
    }
    // One node has its own, and says so when it leaves; of the other one's, nothing arrives.
    net.hear(P, S);
    net.hear(P, U);
    let mut taken = net.numbers(S);
    assert_eq!(taken.len(), 2);
    net.leave(S, P, "a#g", Subscriber::Node);
    net.hear(S, P);
    taken.extend(numbers(&net.take_all(U, &one)));
    net.hear(U, P);
    assert_eq!(taken.len(), 4);
    // What was that one's falls to the daemon, of which only the publisher is left to know.
    net.lose(P, T);
    let position = net.position(U, &one).expect("known");
    net.lose(P, U);
    go_on(&mut net, V, "a#g", &one, position);
    taken.extend(numbers(&net.take_all(V, &one)));
    taken.sort_unstable();
    assert_eq!((taken, missed(&net, V)), ((1..=6).collect(), vec![]));
}
