//! Who comes in before the publisher's answer is there: daemons that leave and come again, or come back to a node where they
//! lived, and members of groups.

use std::time::Duration;

use mesh_daemon_core::channel::{ChannelEvent, Subscriber};
use mesh_daemon_core::identity::{EntityKeypair, Epoch};
use mesh_daemon_core::wire::Lane;

use crate::net::{Net, P, RELIABLE, S, T, daemon, feed, numbers, open};

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
        let mut net = Net::subscribed(&[&one]);
        net.publish_all(2);
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
        net.publish_all(1);
        assert_eq!(numbers(&net.take_all(S, &one)), [3], "{cut_before}");
    }
}

#[test]
fn nor_when_they_are_sent_again_for_another_one_on_its_node() {
    for answered in [false, true] {
        let (one, slow) = (daemon(1), daemon(2));
        let mut net = Net::subscribed(&[&one, &slow]);
        net.publish_all(2);
        assert_eq!(numbers(&net.take_all(S, &one)), [1, 2]);
        leave(&mut net, &one);
        if answered {
            net.run();
        }
        net.ask(S, P, "a", Some(&one), None).expect("asked");
        break_off(&mut net);
        net.publish_all(1);
        assert_eq!(numbers(&net.take_all(S, &one)), [3], "{answered}");
        assert_eq!(numbers(&net.take_all(S, &slow)), [1, 2, 3]);
    }
}

#[test]
fn what_a_daemon_did_not_take_before_it_left_does_not_count_as_delivered_when_nobody_heard_that_it_left() {
    let one = daemon(1);
    let mut net = Net::subscribed(&[&one]);
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
        let mut net = Net::subscribed(&[&one]);
        net.subscribe(T, P, "a", Some(&elsewhere), None).expect("let in");
        net.publish_all(1);
        assert_eq!(numbers(&net.take_all(S, &one)), [1]);
        leave(&mut net, &one);
        net.hear(S, P);
        net.publish(P, "a", b"x", RELIABLE).expect("sent");
        // That the publisher heard of the leave is not known here.
        let came = net.ask(S, P, "a", Some(&one), None).expect("asked");
        if lost_is_answer {
            net.hear(S, P);
            assert!(net.send(P, S));
            break_off(&mut net);
        }
        net.run();
        assert_eq!(net.answer(S, came), Some(Ok(())));
        net.publish_all(1);
        let missed = net.nodes[S].events.iter().any(|event| matches!(event, ChannelEvent::Missed { .. }));
        assert_eq!((missed, numbers(&net.take_all(S, &one))), (false, vec![3]), "{lost_is_answer}");
        assert_eq!(numbers(&net.take_all(T, &elsewhere)), [1, 2, 3]);
    }
}

#[test]
fn a_daemon_that_moves_while_it_comes_again_to_a_group_is_in_it_on_its_new_host() {
    for heard in [false, true] {
        let one = daemon(1);
        let mut net = Net::connected(3);
        net.register(P, open("a"));
        net.subscribe(S, P, "a#g", Some(&one), None).expect("let in");
        net.publish_all(1);
        assert_eq!(numbers(&net.take_all(S, &one)), [1]);
        if !heard {
            // Neither that it has this one, nor that it leaves.
            net.cut(S, P);
        }
        net.leave(S, P, "a#g", Subscriber::Daemon(one.entity_id()));
        net.hear(S, P);
        net.ask(S, P, "a#g", Some(&one), None).expect("asked");
        let travels = net.nodes[S].machine.subscriptions_of(one.entity_id()).pop().expect("it is about to be in");
        assert_eq!(travels.feed, feed("a#g"));
        let now = net.now;
        net.nodes[S].machine.moved_on(one.entity_id(), now);
        let request = net.ask_from(T, P, "a#g", &one, None, Epoch::new(2), travels.position).expect("asked");
        net.run();
        assert_eq!(net.answer(T, request), Some(Ok(())));
        net.publish_all(1);
        assert_eq!((net.take_all(S, &one), numbers(&net.take_all(T, &one))), (vec![], vec![2]), "{heard}");
    }
}

/// A daemon moves to `T`, where it is let in, while its former host `S` is cut off.
fn moved(net: &mut Net, one: &EntityKeypair, channels: &[&str]) {
    let now = net.now;
    let positions = net.nodes[S].machine.subscriptions_of(one.entity_id());
    net.cut(S, P);
    net.nodes[S].machine.moved_on(one.entity_id(), now);
    for channel in channels {
        let position = positions.iter().find(|it| it.feed == feed(channel)).expect("it is in").position;
        let request = net.ask_from(T, P, channel, one, None, Epoch::new(2), position).expect("asked");
        net.run();
        assert_eq!(net.answer(T, request), Some(Ok(())));
    }
}

#[test]
fn a_daemon_that_left_elsewhere_and_is_back_takes_nothing_of_what_it_had_here() {
    for channel in ["a", "a#g"] {
        let (one, other) = (daemon(1), daemon(2));
        let mut net = Net::connected(3);
        net.register(P, open("a"));
        net.subscribe(S, P, channel, Some(&one), None).expect("let in");
        net.publish_all(2);
        net.subscribe(T, P, channel, Some(&other), None).expect("let in");
        moved(&mut net, &one, &[channel]);
        assert_eq!(numbers(&[net.next_for(T, &one, true).expect("there")]), [1]);
        net.leave(T, P, channel, Subscriber::Daemon(one.entity_id()));
        net.run();
        let request = net.ask_from(S, P, channel, &one, None, Epoch::new(3), None).expect("asked");
        let early = net.take_all(S, &one);
        net.connect(S, P, true);
        net.run();
        assert_eq!((net.answer(S, request), numbers(&early)), (Some(Ok(())), vec![]), "{channel}");
        for _ in 0..2 {
            net.publish_all(1);
        }
        let mut got = numbers(&net.take_all(S, &one));
        got.retain(|number| *number < 3);
        assert_eq!(got, [], "{channel}: it left, and in a group the other one has it");
    }
}

/// A daemon on `S` is handed over to `T`, which cannot ask the publisher; then another life of it begins on `S`.
fn begin_anew(net: &mut Net, one: &EntityKeypair, channel: &str, on_the_way: impl FnOnce(&mut Net)) {
    let (position, now) = (net.position(S, one), net.now);
    net.cut(T, P);
    net.nodes[S].machine.moved_on(one.entity_id(), now);
    net.ask_from(T, P, channel, one, None, Epoch::new(2), position).expect("asked");
    net.nodes[T].machine.leave_all(one.entity_id(), now);
    let request = net.ask_from(S, P, channel, one, None, Epoch::new(3), None).expect("asked");
    on_the_way(net);
    if !net.is_connected(S, P) {
        net.connect(S, P, true);
    }
    net.run();
    assert_eq!(net.answer(S, request), Some(Ok(())), "{channel}");
}

#[test]
fn what_a_daemon_of_a_group_took_before_it_begins_anew_where_it_lived_is_taken_once() {
    for (heard, lost) in [(false, false), (true, false), (false, true), (true, true)] {
        let (one, other) = (daemon(1), daemon(2));
        let mut net = Net::connected(4);
        net.register(P, open("a"));
        net.subscribe(S, P, "a#g", Some(&one), None).expect("let in");
        let ids: Vec<_> = (0..3).map(|_| net.publish(P, "a", b"x", RELIABLE).expect("sent")).collect();
        net.run();
        net.subscribe(3, P, "a#g", Some(&other), None).expect("let in");
        let mut taken: Vec<_> = (0..2).map(|_| net.next_for(S, &one, true).expect("there").number).collect();
        if !heard {
            net.cut(S, P);
        }
        begin_anew(&mut net, &one, "a#g", |net| {
            if lost {
                net.send(S, P);
                net.cut(S, P);
            }
        });
        net.publish_all(2);
        for (node, daemon) in [(S, &one), (3, &other)] {
            taken.extend(numbers(&net.take_all(node, daemon)));
            net.run();
        }
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 3, 4, 5], "{heard} {lost}");
        for id in ids {
            assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1, "{heard} {lost}");
        }
    }
}

#[test]
fn what_a_daemon_did_not_take_before_it_begins_anew_where_it_lived_holds_no_report_up() {
    for lost in [false, true] {
        let one = daemon(1);
        let mut net = Net::connected(3);
        net.register(P, open("a"));
        net.subscribe(S, P, "a", Some(&one), None).expect("let in");
        let before = net.publish(P, "a", b"x", RELIABLE).expect("sent");
        net.run();
        begin_anew(&mut net, &one, "a", |net| {
            if lost {
                net.send(S, P);
                net.cut(S, P);
            }
        });
        let report = net.report(P, before).unwrap_or_else(|| panic!("{lost}: nobody takes it any more"));
        assert_eq!((report.expect("sent").delivered, net.take_all(S, &one)), (0, vec![]), "{lost}");
    }
}

#[test]
fn a_daemon_that_is_back_is_not_in_what_it_left_elsewhere() {
    let one = daemon(1);
    let mut net = Net::connected(3);
    net.register(P, open("a"));
    net.register(P, open("b"));
    for channel in ["a", "b"] {
        net.subscribe(S, P, channel, Some(&one), None).expect("let in");
    }
    moved(&mut net, &one, &["a", "b"]);
    net.leave(T, P, "b", Subscriber::Daemon(one.entity_id()));
    net.run();
    let position = net.position(T, &one);
    let now = net.now;
    net.nodes[T].machine.moved_on(one.entity_id(), now);
    net.ask_from(S, P, "a", &one, None, Epoch::new(3), position).expect("asked");
    net.connect(S, P, true);
    net.run();
    net.publish(P, "b", b"x", RELIABLE).expect("sent");
    net.publish_all(1);
    let got: Vec<_> = net.take_all(S, &one).into_iter().map(|message| message.feed).collect();
    assert_eq!(got, [feed("a")]);
    let mine = net.nodes[S].machine.subscriptions_of(one.entity_id());
    assert_eq!(mine.into_iter().map(|it| it.feed).collect::<Vec<_>>(), [feed("a")]);
    net.pass(Duration::from_secs(11));
    net.run();
    assert_eq!(net.nodes[P].machine.roster(&feed("b")), []);
    assert_eq!(net.nodes[P].machine.roster(&feed("a")), [(net.id(S), Subscriber::Daemon(one.entity_id()))]);
}

#[test]
fn a_large_message_does_not_overtake_the_answer_that_lets_its_member_in() {
    for comes_again in [false, true] {
        let mut net = Net::connected(2);
        net.register(P, open("a"));
        if comes_again {
            net.subscribe(S, P, "a#g", None, None).expect("let in");
            net.leave(S, P, "a#g", Subscriber::Node);
        }
        let came = net.ask(S, P, "a#g", None, None).expect("asked");
        net.hear(S, P);
        let id = net.publish(P, "a", &vec![1; 150_000], RELIABLE).expect("sent");
        net.send_lanes(P, S, &[Lane::Bulk]);
        while net.arrive(P, S) {}
        net.run();
        assert_eq!((net.answer(S, came), numbers(&net.messages(S))), (Some(Ok(())), vec![1]), "{comes_again}");
        assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
    }
}

#[test]
fn a_member_of_a_group_that_comes_again_takes_nothing_that_it_left_to_others() {
    let (one, other) = (daemon(1), daemon(2));
    let mut net = Net::connected(3);
    net.register(P, open("a"));
    net.subscribe(S, P, "a#g", Some(&one), None).expect("let in");
    net.subscribe(T, P, "a#g", Some(&other), None).expect("let in");
    net.publish_all(6);
    let first = net.next_for(S, &one, true).expect("one of them fell to it");
    net.leave(S, P, "a#g", Subscriber::Daemon(one.entity_id()));
    net.ask(S, P, "a#g", Some(&one), None).expect("asked");
    net.run();
    let mut taken = vec![first.number];
    for (node, daemon) in [(S, &one), (T, &other)] {
        taken.extend(numbers(&net.take_all(node, daemon)));
        net.run();
    }
    taken.extend(numbers(&net.take_all(S, &one)));
    taken.sort_unstable();
    assert_eq!(taken, [1, 2, 3, 4, 5, 6], "each by one of them");
}
