//! Subscribers that do not keep up: what waits for them, where, and for how long.

use std::time::Duration;

use mesh_daemon_core::channel::{ChannelError, ReadersRoom, STALLED, Subscriber};
use mesh_daemon_core::identity::Epoch;

use crate::net::{LOSSY, Net, P, RELIABLE, S, T, daemon, feed, numbers, open};

#[test]
fn a_daemon_without_room_holds_back_the_acknowledgement_and_loses_nothing() {
    let one = daemon(1);
    let mut net = Net::subscribed(&[&one]);
    let id = net.publish(P, "a", b"1", RELIABLE).expect("sent");
    net.run();
    assert_eq!(net.next_for(S, &one, false).expect("it is there").number, 1);
    net.run();
    assert!(net.report(P, id).is_none(), "nobody has taken it");
    assert_eq!(numbers(&net.take_all(S, &one)), [1]);
    net.run();
    assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
    assert_eq!(net.take_all(S, &one), []);
}

#[test]
fn a_full_daemon_is_sent_no_more_than_a_window_and_gets_all_of_it_later() {
    let (one, two) = (daemon(1), daemon(2));
    let mut net = Net::subscribed(&[&one]);
    net.subscribe(S, P, "a", Some(&two), None).expect("let in");
    net.publish_all(3000);
    // The other one goes on as far as the window goes.
    let mut got = numbers(&net.take_all(S, &two));
    net.run();
    assert_eq!(got.len(), 1024);
    assert_eq!(net.take_all(S, &two), []);
    let mut of_one = Vec::new();
    for _ in 0..10 {
        of_one.extend(numbers(&net.take_all(S, &one)));
        net.run();
        got.extend(numbers(&net.take_all(S, &two)));
        net.run();
    }
    let all: Vec<u64> = (1..=3000).collect();
    assert!(of_one == all && got == all, "{} and {}", of_one.len(), got.len());
    net.run();
    net.nodes[P].events.clear();
    net.nodes[S].events.clear();
    assert!(net.nodes[P].machine.is_idle() && net.nodes[S].machine.is_idle());
}

#[test]
fn what_needs_no_acknowledgement_is_dropped_and_counted_when_a_daemon_does_not_keep_up() {
    let one = daemon(1);
    let mut net = Net::subscribed(&[&one]);
    for _ in 0..1000 {
        net.publish(P, "a", b"x", LOSSY).expect("sent");
        net.run();
    }
    let got = net.take_all(S, &one).len() as u64;
    let dropped = net.nodes[S].machine.dropped_for(one.entity_id());
    assert!(got > 0 && dropped > 0);
    assert_eq!(got + dropped, 1000);
}

#[test]
fn who_takes_nothing_is_put_out_after_a_while_and_a_slow_one_on_the_same_node_is_not() {
    let (stuck, slow) = (daemon(1), daemon(2));
    let mut net = Net::subscribed(&[&stuck]);
    net.subscribe(S, P, "a", Some(&slow), None).expect("let in");
    let ids: Vec<_> = (0..40).map(|_| net.publish(P, "a", b"x", RELIABLE).expect("sent")).collect();
    net.run();
    let mut got = Vec::new();
    let step = STALLED / 4;
    for _ in 0..3 {
        got.extend(net.next_for(S, &slow, true).map(|message| message.number));
        net.pass(step);
        net.run();
    }
    assert_eq!(net.ends(S), [], "not yet");
    for _ in 0..ids.len() - 3 {
        got.extend(net.next_for(S, &slow, true).map(|message| message.number));
        net.pass(step);
        net.run();
    }
    let ends = net.ends(S);
    let who = Subscriber::Daemon(stuck.entity_id());
    assert!(matches!(ends.as_slice(), [(of, ChannelError::Stalled)] if *of == who), "{ends:?}");
    assert_eq!(got, (1..=40).collect::<Vec<_>>());
    assert_eq!(net.nodes[P].machine.roster(&feed("a")), [(net.id(S), Subscriber::Daemon(slow.entity_id()))]);
    for id in ids {
        assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
    }
}

/// Its mailbox may wait behind a stream, so that nobody asks what comes next for it.
#[test]
fn a_daemon_that_takes_no_message_of_those_that_nobody_waits_for_is_not_put_out() {
    let one = daemon(1);
    let mut net = Net::subscribed(&[&one]);
    for _ in 0..3 {
        net.publish(P, "a", b"x", LOSSY).expect("sent");
    }
    net.run();
    for _ in 0..8 {
        net.pass(STALLED / 4);
        net.run();
    }
    assert_eq!(net.ends(S), []);
    assert_eq!(numbers(&net.take_all(S, &one)), [1, 2, 3]);
    // A message that is waited for is another matter, also behind such ones.
    for options in [LOSSY, RELIABLE] {
        net.publish(P, "a", b"x", options).expect("sent");
    }
    net.run();
    for _ in 0..8 {
        net.pass(STALLED / 4);
        net.run();
    }
    let ends = net.ends(S);
    assert!(matches!(ends.as_slice(), [(_, ChannelError::Stalled)]), "{ends:?}");
}

#[test]
fn a_node_that_acknowledges_nothing_is_put_out_and_holds_up_nobody_for_ever() {
    let mut net = Net::connected(3);
    net.register(P, open("a"));
    net.subscribe(S, P, "a", None, None).expect("let in");
    net.subscribe(T, P, "a", None, None).expect("let in");
    let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    // Its session lives, and says nothing of this.
    net.send(P, S);
    for _ in 0..20 {
        net.pass(STALLED / 4);
        net.send(P, T);
        net.arrive(P, T);
        net.send(T, P);
        net.arrive(T, P);
    }
    let report = net.report(P, id).expect("over").expect("sent");
    assert_eq!((report.attempted, report.delivered), (2, 1));
    net.run();
    assert!(matches!(net.ends(S).as_slice(), [(Subscriber::Node, ChannelError::Stalled)]));
    assert_eq!(net.nodes[P].machine.roster(&feed("a")), [(net.id(T), Subscriber::Node)]);
}

#[test]
fn a_broken_session_puts_nobody_out_and_is_no_way_to_acknowledge_nothing_for_ever() {
    let mut net = Net::connected(2);
    net.register(P, open("a"));
    net.subscribe(S, P, "a", None, None).expect("let in");
    let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.cut(P, S);
    for _ in 0..20 {
        net.pass(STALLED / 4);
    }
    assert!(net.report(P, id).is_none(), "it could not be sent");
    net.connect(P, S, true);
    net.send(P, S);
    net.pass(STALLED / 4);
    assert!(net.report(P, id).is_none(), "its time begins with the session");
    for _ in 0..12 {
        net.pass(STALLED / 4);
    }
    assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 0);
    assert_eq!(net.nodes[P].machine.roster(&feed("a")), []);
}

#[test]
fn fire_and_forget_messages_never_take_the_room_of_reliable_ones() {
    let (one, two) = (daemon(1), daemon(2));
    let mut net = Net::subscribed(&[&one]);
    let large = vec![0; 24 * 1024];
    for _ in 0..600 {
        net.publish(P, "a", &large, LOSSY).expect("sent");
        net.publish(P, "a", b"x", RELIABLE).expect("sent");
        net.run();
    }
    // One more comes, behind those that the first one has not taken.
    net.subscribe(S, P, "a", Some(&two), None).expect("let in");
    let big = vec![1; 900_000];
    for _ in 0..20 {
        net.publish(P, "a", &big, RELIABLE).expect("sent");
        net.run();
    }
    let mut reliable = Vec::new();
    for _ in 0..40 {
        reliable.extend(net.take_all(S, &one).into_iter().filter(|message| message.reliable).map(|it| it.number));
        net.take_all(S, &two);
        net.run();
    }
    let expected: Vec<u64> = (1..=600).map(|number| 2 * number).chain(1201..=1220).collect();
    assert!(reliable == expected, "{} of {}", reliable.len(), expected.len());
}

#[test]
fn daemons_that_come_one_behind_the_other_all_get_what_they_have_not_taken() {
    let daemons: Vec<_> = (1..=4).map(daemon).collect();
    let mut net = Net::connected(3);
    net.register(P, open("a"));
    let mut positions = Vec::new();
    // Each stands a thousand messages behind the next one.
    for one in &daemons {
        net.subscribe(T, P, "a", Some(one), None).expect("let in");
        positions.push(net.position(T, one).expect("let in"));
        for _ in 0..10 {
            net.publish_all(100);
            for any in &daemons {
                net.take_all(T, any);
            }
            net.run();
        }
    }
    net.lose(T, P);
    for (one, position) in daemons.iter().zip(positions).rev() {
        let request = net.ask_from(S, P, "a", one, None, Epoch::new(2), Some(position)).expect("asked");
        net.run();
        net.answer(S, request).expect("answered").expect("let in");
        net.publish_all(20);
    }
    let mut got = vec![Vec::new(); daemons.len()];
    for _ in 0..30 {
        for (one, got) in daemons.iter().zip(&mut got) {
            got.extend(numbers(&net.take_all(S, one)));
        }
        net.run();
    }
    for (at, got) in (0..).zip(got) {
        assert!(got == (1000 * at + 1..=4080).collect::<Vec<u64>>(), "{at}: {} messages", got.len());
    }
}

#[test]
fn what_is_kept_for_daemons_that_move_is_bounded_whoever_does_not_acknowledge_and_ends_with_the_last_of_them() {
    let (one, other) = (daemon(1), daemon(2));
    let mut net = Net::subscribed(&[&one]);
    net.subscribe(T, P, "a", Some(&other), None).expect("let in");
    // The first message is never acknowledged by one of them.
    for _ in 0..100 {
        net.publish_all(100);
        net.take_all(S, &one);
        net.run();
        net.nodes[P].events.clear();
    }
    let kept = net.nodes[P].machine.kept();
    assert!(kept.publications > 0 && kept.recent == 4096, "{kept:?}");
    for _ in 0..100 {
        net.publish(P, "a", &vec![0; 100_000], RELIABLE).expect("sent");
        net.run();
        net.take_all(S, &one);
    }
    let kept = net.nodes[P].machine.kept();
    assert!(kept.recent_bytes <= 4 * 1024 * 1024 && kept.recent > 0, "{kept:?}");

    for (at, who) in [(S, &one), (T, &other)] {
        net.leave(at, P, "a", Subscriber::Daemon(who.entity_id()));
    }
    net.run();
    assert!(net.nodes[P].machine.kept().recent > 0, "one may come back");
    net.pass(Duration::from_secs(300));
    assert_eq!(net.nodes[P].machine.kept().recent, 0);
    net.publish_all(10);
    assert_eq!(net.nodes[P].machine.kept().recent, 0);
}

/// How far readers at `S` have room in a stream.
fn have(net: &mut Net, channel: &str, room: ReadersRoom) {
    let (key, now) = ((net.id(P), feed(channel).stream(Subscriber::Node)), net.now);
    net.nodes[S].machine.readers_have(key, room, now);
    net.collect(S);
}

/// The node left with readers that had no room, and subscribes again before the answer; whoever reads now has said nothing.
fn come_again(net: &mut Net, channel: &str, hears: impl FnOnce(&mut Net)) {
    let left = net.leave(S, P, channel, Subscriber::Node);
    hears(net);
    let came = net.ask(S, P, channel, None, None).expect("asked");
    assert_eq!(net.answer(S, left), Some(Ok(())), "it is out");
    if net.is_connected(S, P) {
        net.run();
        assert_eq!(net.answer(S, came), Some(Ok(())));
    }
}

#[test]
fn who_leaves_with_full_readers_and_comes_again_before_the_answer_holds_nobody_up() {
    for (channel, heard) in [("a", false), ("a", true), ("a#g", false), ("a#g", true)] {
        let mut net = Net::connected(2);
        net.register(P, open("a"));
        net.subscribe(S, P, channel, None, None).expect("let in");
        have(&mut net, channel, ReadersRoom::ForAll);
        let before = net.publish(P, "a", b"x", RELIABLE).expect("sent");
        net.run();
        assert!(net.report(P, before).is_none(), "nobody has room for it");
        come_again(&mut net, channel, |net| assert_eq!(heard, heard && net.send(S, P)));
        assert_eq!(net.report(P, before).expect("over").expect("sent").delivered, 0);
        let behind = net.publish(P, "a", b"x", RELIABLE).expect("sent");
        net.run();
        let report = net.report(P, behind).unwrap_or_else(|| panic!("{channel}: nobody reads now who did"));
        assert_eq!(report.expect("sent").delivered, 1);
    }
}

#[test]
fn what_a_member_had_no_room_for_falls_to_another_one_also_when_nobody_heard_that_it_left() {
    let mut net = Net::connected(3);
    net.register(P, open("a"));
    net.subscribe(S, P, "a#g", None, None).expect("let in");
    have(&mut net, "a#g", ReadersRoom::ForAll);
    let ids: Vec<_> = (0..2).map(|_| net.publish(P, "a", b"x", RELIABLE).expect("sent")).collect();
    net.run();
    have(&mut net, "a#g", ReadersRoom::Before(2));
    net.run();
    assert_eq!(numbers(&net.messages(S)), [1, 2]);
    net.subscribe(T, P, "a#g", None, None).expect("let in");
    come_again(&mut net, "a#g", |net| {
        assert!(net.send(S, P));
        net.cut(S, P);
    });
    net.connect(S, P, true);
    net.run();
    assert_eq!((net.messages(S), numbers(&net.messages(T))), (vec![], vec![2]), "the former readers did not have it");
    for id in ids {
        assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
    }
}

#[test]
fn what_readers_that_left_had_no_room_for_does_not_count_as_delivered_when_nobody_heard_that_they_left() {
    let mut net = Net::connected(2);
    net.register(P, open("a"));
    net.subscribe(S, P, "a", None, None).expect("let in");
    have(&mut net, "a", ReadersRoom::ForAll);
    let before = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    assert_eq!(numbers(&net.messages(S)), [1]);
    net.leave(S, P, "a", Subscriber::Node);
    assert!(net.send(S, P));
    let came = net.ask(S, P, "a", None, None).expect("asked");
    assert!(net.send(S, P));
    net.cut(S, P);
    net.connect(S, P, true);
    net.run();
    assert_eq!(net.answer(S, came), Some(Ok(())));
    let report = net.report(P, before).expect("over").expect("sent");
    assert_eq!((report.delivered, net.messages(S)), (0, vec![]), "the former readers did not have it");
    let behind = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    assert_eq!(numbers(&net.messages(S)), [2]);
    assert_eq!(net.report(P, behind).expect("over").expect("sent").delivered, 1);
}

#[test]
fn who_leaves_comes_again_and_leaves_before_any_answer_is_out_also_after_a_reconnection() {
    for channel in ["a", "a#g"] {
        let mut net = Net::connected(2);
        net.register(P, open("a"));
        net.subscribe(S, P, channel, None, None).expect("let in");
        net.leave(S, P, channel, Subscriber::Node);
        net.ask(S, P, channel, None, None).expect("asked");
        let left = net.leave(S, P, channel, Subscriber::Node);
        net.cut(S, P);
        net.connect(S, P, true);
        net.run();
        assert_eq!(net.answer(S, left), Some(Ok(())), "{channel}");
        assert_eq!(net.nodes[P].machine.roster(&feed(channel)), [], "{channel}");
    }
}

#[test]
fn a_node_whose_readers_have_no_room_is_put_out_after_a_while_unless_they_go_on() {
    let mut net = Net::connected(2);
    net.register(P, open("a"));
    net.subscribe(S, P, "a", None, None).expect("let in");
    have(&mut net, "a", ReadersRoom::ForAll);
    let ids: Vec<_> = (0..9).map(|_| net.publish(P, "a", b"x", RELIABLE).expect("sent")).collect();
    net.run();
    for (step, id) in ids.iter().enumerate().take(8) {
        assert!(net.report(P, *id).is_none(), "nobody has said that there is room");
        have(&mut net, "a", ReadersRoom::Before(step as u64 + 2));
        net.run();
        assert_eq!(net.report(P, *id).expect("over").expect("sent").delivered, 1);
        net.pass(STALLED / 2);
        net.run();
    }
    assert_eq!(net.ends(S), [], "they go on");
    for _ in 0..3 {
        net.pass(STALLED / 2);
        net.run();
    }
    let ends = net.ends(S);
    assert!(matches!(ends.as_slice(), [(Subscriber::Node, ChannelError::Stalled)]), "{ends:?}");
    assert_eq!(net.nodes[P].machine.roster(&feed("a")), []);
    assert_eq!(net.report(P, ids[8]).expect("over").expect("sent").delivered, 0);
}

#[test]
fn who_comes_again_to_a_channel_whose_publisher_is_lost_is_told_that_it_is_not_in() {
    for channel in ["a", "a#g"] {
        let mut net = Net::connected(2);
        net.register(P, open("a"));
        net.subscribe(S, P, channel, None, None).expect("let in");
        let left = net.leave(S, P, channel, Subscriber::Node);
        let came = net.ask(S, P, channel, None, None).expect("asked");
        net.lose(S, P);
        assert_eq!(net.answer(S, left), Some(Ok(())), "{channel}");
        assert!(matches!(net.answer(S, came), Some(Err(ChannelError::PeerLost(_)))), "{channel}");
    }
}
