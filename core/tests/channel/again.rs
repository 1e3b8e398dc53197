//! Daemons that leave a channel and come again before the publisher has answered, or before it knows.

use mesh_daemon_core::channel::{ArrivedMessage, ChannelEvent, Subscriber};
use mesh_daemon_core::identity::EntityKeypair;

use crate::net::{Net, RELIABLE, open};

const P: usize = 0;
const S: usize = 1;
const T: usize = 2;

fn daemon(seed: u8) -> EntityKeypair {
    EntityKeypair::from_seed(&[seed; 32])
}

fn numbers(messages: &[ArrivedMessage]) -> Vec<u64> {
    messages.iter().map(|message| message.number).collect()
}

/// A publisher of channel `a`, and two nodes; daemons on the first of these are in.
fn subscribed(daemons: &[&EntityKeypair]) -> Net {
    let mut net = Net::connected(3);
    net.register(P, open("a"));
    for one in daemons {
        net.subscribe(S, P, "a", Some(one), None).expect("let in");
    }
    net
}

fn publish(net: &mut Net, count: usize) {
    for _ in 0..count {
        net.publish(P, "a", b"x", RELIABLE).expect("sent");
    }
    net.run();
}

/// What is on the way is lost, in both directions.
fn break_off(net: &mut Net) {
    net.cut(S, P);
    net.connect(S, P, true);
}

fn leave(net: &mut Net, one: &EntityKeypair) {
    net.leave(S, P, "a", Subscriber::Daemon(one.entity_id()));
}

#[test]
fn a_daemon_that_comes_again_takes_nothing_twice_though_neither_its_acknowledgement_nor_its_leave_was_heard() {
    for cut_before in [false, true] {
        let one = daemon(1);
        let mut net = subscribed(&[&one]);
        publish(&mut net, 2);
        assert_eq!(numbers(&net.take_all(S, &one)), [1, 2]);
        leave(&mut net, &one);
        assert!(net.send(S, P), "its acknowledgement, and that it leaves");
        if cut_before {
            net.cut(S, P);
        }
        let came = net.ask(S, P, "a", Some(&one), None).expect("asked");
        break_off(&mut net);
        net.run();
        assert_eq!(net.answer(S, came), Some(Ok(())));
        assert_eq!(numbers(&net.take_all(S, &one)), [], "{cut_before}: it has them");
        publish(&mut net, 1);
        assert_eq!(numbers(&net.take_all(S, &one)), [3], "{cut_before}");
    }
}

#[test]
fn nor_when_they_are_sent_again_for_another_one_on_its_node() {
    for answered in [false, true] {
        let (one, slow) = (daemon(1), daemon(2));
        let mut net = subscribed(&[&one, &slow]);
        publish(&mut net, 2);
        assert_eq!(numbers(&net.take_all(S, &one)), [1, 2]);
        leave(&mut net, &one);
        if answered {
            net.run();
        }
        net.ask(S, P, "a", Some(&one), None).expect("asked");
        break_off(&mut net);
        publish(&mut net, 1);
        assert_eq!(numbers(&net.take_all(S, &one)), [3], "{answered}");
        assert_eq!(numbers(&net.take_all(S, &slow)), [1, 2, 3]);
    }
}

#[test]
fn what_a_daemon_did_not_take_before_it_left_does_not_count_as_delivered_when_nobody_heard_that_it_left() {
    let one = daemon(1);
    let mut net = subscribed(&[&one]);
    let before = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    leave(&mut net, &one);
    assert!(net.send(S, P));
    let came = net.ask(S, P, "a", Some(&one), None).expect("asked");
    assert!(net.send(S, P));
    break_off(&mut net);
    net.run();
    assert_eq!(net.answer(S, came), Some(Ok(())));
    let report = net.report(P, before).expect("over").expect("sent");
    assert_eq!((report.delivered, numbers(&net.take_all(S, &one))), (0, vec![]), "it left");
    let behind = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    assert_eq!(numbers(&net.take_all(S, &one)), [2]);
    net.run();
    assert_eq!(net.report(P, behind).expect("over").expect("sent").delivered, 1);
}

#[test]
fn a_daemon_that_comes_again_is_not_sent_what_was_published_while_it_was_out() {
    for lost_is_answer in [false, true] {
        let (one, elsewhere) = (daemon(1), daemon(2));
        let mut net = subscribed(&[&one]);
        net.subscribe(T, P, "a", Some(&elsewhere), None).expect("let in");
        publish(&mut net, 1);
        assert_eq!(numbers(&net.take_all(S, &one)), [1]);
        leave(&mut net, &one);
        while net.send(S, P) || net.arrive(S, P) {}
        net.publish(P, "a", b"x", RELIABLE).expect("sent");
        // That the publisher heard of the leave is not known here.
        let came = net.ask(S, P, "a", Some(&one), None).expect("asked");
        if lost_is_answer {
            while net.send(S, P) || net.arrive(S, P) {}
            assert!(net.send(P, S));
            break_off(&mut net);
        }
        net.run();
        assert_eq!(net.answer(S, came), Some(Ok(())));
        publish(&mut net, 1);
        let missed = net.nodes[S].events.iter().any(|event| matches!(event, ChannelEvent::Missed { .. }));
        assert_eq!((missed, numbers(&net.take_all(S, &one))), (false, vec![3]), "{lost_is_answer}");
        assert_eq!(numbers(&net.take_all(T, &elsewhere)), [1, 2, 3]);
    }
}
