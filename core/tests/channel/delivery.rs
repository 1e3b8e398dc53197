//! Messages: order, repetition, reports, sizes, limits.

use std::time::Duration;

use mesh_daemon_core::channel::{ChannelError, OnFailure, PublishOptions, Subscriber};
use mesh_daemon_core::wire::channels::{ChannelMessage, DataHead, Fragment};
use mesh_daemon_core::wire::{Lane, codec};

use crate::net::{LOSSY, MAX_PAYLOAD, Net, P, RELIABLE, S, name, numbers, open};

fn subscribed(count: usize, channel: &str) -> Net {
    let mut net = Net::connected(count);
    net.register(P, open(channel));
    for at in 1..count {
        net.subscribe(at, P, channel, None, None).expect("let in");
    }
    net
}

#[test]
fn requirement_55_reliable_means_that_the_peer_has_acknowledged() {
    let mut net = subscribed(3, "a");
    let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    for to in [1, 2] {
        net.send(P, to);
        net.arrive(P, to);
    }
    assert_eq!(net.report(P, id), None, "it has arrived, and nothing says so yet");
    net.run();
    let report = net.report(P, id).expect("over").expect("sent");
    assert_eq!((report.attempted, report.delivered, report.errors.len()), (2, 2, 0));

    let id = net.publish(P, "a", b"x", LOSSY).expect("sent");
    net.send(P, 1);
    assert_eq!(net.report(P, id), None, "one session has not taken it");
    net.send(P, 2);
    assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 2);
}

#[test]
fn reliable_messages_are_repeated_after_a_reconnection_and_taken_once_in_order() {
    let mut net = subscribed(2, "a");
    // Cut at each step of the way: not sent, on the way, arrived, acknowledged.
    for step in 0..4 {
        let ids: Vec<_> = (0..3).map(|_| net.publish(P, "a", b"x", RELIABLE).expect("sent")).collect();
        if step > 0 {
            net.send(P, S);
        }
        if step > 1 {
            net.arrive(P, S);
        }
        if step > 2 {
            net.send(S, P);
        }
        net.cut(P, S);
        assert!(ids.iter().all(|&id| net.report(P, id).is_none()), "they may come yet");
        net.connect(P, S, true);
        net.run();
        let first = 3 * step + 1;
        assert_eq!(numbers(&net.messages(S)), [first, first + 1, first + 2]);
        for id in ids {
            assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
        }
    }
    assert!(net.nodes.iter().all(|node| node.machine.is_idle()));
}

#[test]
fn what_needs_no_acknowledgement_is_lost_with_its_connection_and_the_report_says_so() {
    let mut net = subscribed(2, "a");
    let queued = net.publish(P, "a", b"x", LOSSY).expect("sent");
    net.cut(P, S);
    let cut = net.publish(P, "a", b"x", LOSSY).expect("nobody takes it");
    for id in [queued, cut] {
        let report = net.report(P, id).expect("over").expect("best effort");
        assert_eq!((report.attempted, report.delivered), (1, 0));
        assert_eq!(report.errors, [(net.id(S), ChannelError::NotConnected(net.id(S)))]);
    }
    net.connect(P, S, true);
    net.publish(P, "a", b"x", LOSSY).expect("sent");
    net.run();
    assert_eq!(numbers(&net.messages(S)), [3]);
}

#[test]
fn hazard_44_a_payload_too_large_for_a_frame_arrives_whole_and_is_not_overtaken() {
    let mut net = subscribed(2, "a");
    let large: Vec<u8> = (0..MAX_PAYLOAD).map(|i| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
    for reliable in [true, false] {
        let options = PublishOptions { reliable, ..RELIABLE };
        let ids =
            [&b"before"[..], &large, b"after"].map(|payload| net.publish(P, "a", payload, options).expect("sent"));
        net.run();
        let got: Vec<_> = net.messages(S).into_iter().map(|message| message.payload).collect();
        assert!(got == [&b"before"[..], &large, b"after"]);
        for id in ids {
            assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
        }
    }
    let over = usize::try_from(MAX_PAYLOAD).expect("small") + 1;
    assert_eq!(
        net.publish(P, "a", &vec![0; over], RELIABLE),
        Err(ChannelError::PayloadTooLarge { size: MAX_PAYLOAD + 1, limit: MAX_PAYLOAD })
    );
    net.publish(P, "a", b"", RELIABLE).expect("sent");
    net.run();
    assert_eq!(net.messages(S)[0].payload.len(), 0);
}

#[test]
fn hazard_44_a_large_payload_whose_connection_breaks_half_way_is_sent_again() {
    let mut net = subscribed(2, "a");
    let large = vec![7; 300_000];
    let reliable = net.publish(P, "a", &large, RELIABLE).expect("sent");
    for _ in 0..2 {
        net.send(P, S);
        net.arrive(P, S);
    }
    net.cut(P, S);
    let lossy = net.publish(P, "a", &large, LOSSY).expect("nobody takes it");
    assert_eq!(net.report(P, lossy).expect("over").expect("best effort").delivered, 0);
    net.connect(P, S, true);
    net.run();
    assert!(net.messages(S).iter().all(|message| message.payload == large));
    assert_eq!(net.report(P, reliable).expect("over").expect("sent").delivered, 1);
}

#[test]
fn hazard_44_a_large_payload_arrives_though_only_one_side_suspects_the_other_half_way() {
    for suspicious in [S, P] {
        let mut net = subscribed(2, "a");
        let large = vec![7; 300_000];
        let ids = [&large[..], b"next"].map(|payload| net.publish(P, "a", payload, RELIABLE).expect("sent"));
        for _ in 0..2 {
            net.send(P, S);
            net.arrive(P, S);
        }
        // What is on the way meanwhile arrives: the connection is there, and silent only for a while.
        net.send(P, S);
        net.suspect(suspicious, S + P - suspicious);
        net.arrive(P, S);
        net.hear_again(suspicious, S + P - suspicious);
        net.run();
        let got: Vec<_> = net.messages(S).into_iter().map(|message| message.payload).collect();
        assert!(got == [&large[..], b"next"], "{suspicious}: {} messages", got.len());
        for id in ids {
            assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
        }
        assert!(net.nodes.iter().all(|node| node.machine.is_idle()));
    }
}

#[test]
fn small_messages_of_another_channel_pass_a_large_one() {
    let mut net = subscribed(2, "large");
    net.register(P, open("small"));
    net.subscribe(S, P, "small", None, None).expect("let in");
    net.publish(P, "large", &vec![1; 500_000], RELIABLE).expect("sent");
    net.send(P, S);
    net.publish(P, "small", b"x", RELIABLE).expect("sent");
    net.send(P, S);
    while net.arrive(P, S) {}
    assert_eq!(
        net.messages(S).iter().map(|message| message.feed.channel().clone()).collect::<Vec<_>>(),
        [name("small")]
    );
    net.run();
    assert_eq!(net.messages(S).len(), 1);
}

#[test]
fn hazard_45_the_rate_is_limited() {
    let mut net = subscribed(2, "open");
    let mut config = open("limited");
    config.max_rate = Some(5);
    net.register(P, config);
    let sent = |net: &mut Net| (0..20).filter(|_| net.publish(P, "limited", b"x", RELIABLE).is_ok()).count();
    assert_eq!(sent(&mut net), 5);
    let error = net.publish(P, "limited", b"x", RELIABLE).expect_err("too fast");
    assert_eq!(error, ChannelError::RateLimited { channel: "limited".into(), max_rate: 5 });
    net.pass(Duration::from_secs(10));
    assert_eq!(sent(&mut net), 5);
    net.publish(P, "open", b"x", RELIABLE).expect("another channel is not limited");
}

#[test]
fn hazard_45_higher_priority_goes_first_and_equals_take_turns() {
    let mut net = Net::connected(2);
    let channels = [("low", 1), ("a", 5), ("b", 5), ("high", 9)];
    for (channel, priority) in channels {
        let mut config = open(channel);
        config.priority = priority;
        net.register(P, config);
        net.subscribe(S, P, channel, None, None).expect("let in");
    }
    for _ in 0..2 {
        for (channel, _) in channels {
            net.publish(P, channel, b"x", LOSSY).expect("sent");
        }
    }
    net.run();
    let order: Vec<_> = net.messages(S).iter().map(|message| message.feed.channel().as_str().to_owned()).collect();
    assert_eq!(order[..2], ["high", "high"]);
    assert_eq!(order[6..], ["low", "low"]);
    assert_ne!(order[2], order[3], "{order:?}");
    assert_ne!(order[4], order[5], "{order:?}");
}

#[test]
fn hazard_45_a_higher_priority_overtakes_whatever_waits_large_or_small() {
    for size in [2000, 200_000] {
        let mut net = Net::connected(2);
        for (channel, priority) in [("low", 0), ("high", 255)] {
            let mut config = open(channel);
            config.priority = priority;
            net.register(P, config);
            net.subscribe(S, P, channel, None, None).expect("let in");
        }
        let payload = vec![7; size];
        for _ in 0..100 {
            net.publish(P, "low", &payload, RELIABLE).expect("sent");
        }
        // It is in the middle of that when something more urgent comes.
        let mut arrived = 0;
        while arrived < 2 {
            assert!(net.send(P, S), "there is more");
            while net.arrive(P, S) {}
            arrived += net.messages(S).len();
        }
        for _ in 0..10 {
            net.publish(P, "high", &payload, RELIABLE).expect("sent");
        }
        net.run();
        let order: Vec<_> = net.messages(S).iter().map(|message| message.feed.channel().as_str() == "high").collect();
        let first = order.iter().position(|high| *high).expect("all arrive");
        // A large one that was under way is ended first.
        assert!(first <= 1, "{size}: {first} before it");
        assert!(order[first..first + 10].iter().all(|high| *high), "{size}: {order:?}");
    }
}

#[test]
fn hazard_45_a_reliable_channel_is_always_acknowledged() {
    let mut net = Net::connected(2);
    let mut config = open("a");
    config.reliable = true;
    net.register(P, config);
    net.subscribe(S, P, "a", None, None).expect("let in");
    let id = net.publish(P, "a", b"x", LOSSY).expect("sent");
    net.send(P, S);
    net.cut(P, S);
    assert_eq!(net.report(P, id), None);
    net.connect(P, S, true);
    net.run();
    assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
    assert_eq!(net.messages(S).len(), 1);
}

#[test]
fn max_inflight_bounds_to_how_many_a_message_is_under_way() {
    let mut net = subscribed(6, "a");
    let options = PublishOptions { max_inflight: 2, ..RELIABLE };
    let ids: Vec<_> = (0..3).map(|_| net.publish(P, "a", b"x", options).expect("sent")).collect();
    let under_way = |net: &mut Net| (1..6).filter(|&to| net.send(P, to)).collect::<Vec<_>>();
    assert_eq!(under_way(&mut net), [1, 2], "of each of the three messages");
    assert_eq!(under_way(&mut net), [0; 0]);
    // A peer that is cut off makes room for others meanwhile.
    net.cut(P, 1);
    assert_eq!(under_way(&mut net), [3]);
    net.run();
    assert!(ids.iter().all(|&id| net.report(P, id).is_none()));
    net.connect(P, 1, true);
    net.run();
    for to in 1..6 {
        assert_eq!(numbers(&net.messages(to)), [1, 2, 3], "{to}");
    }
    for id in ids {
        assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 5);
    }
}

#[test]
fn a_failure_ends_the_publication_only_when_it_is_to_fail_fast() {
    for (on_failure, fails) in
        [(OnFailure::BestEffort, false), (OnFailure::Collect, false), (OnFailure::FailFast, true)]
    {
        let mut net = subscribed(4, "a");
        let id = net.publish(P, "a", b"x", PublishOptions { on_failure, ..RELIABLE }).expect("sent");
        net.lose(P, 2);
        net.run();
        let lost = ChannelError::PeerLost(net.id(2));
        let result = net.report(P, id).expect("over");
        if fails {
            assert_eq!(result, Err(lost));
            assert_eq!(net.messages(1), [], "whoever was not served is not");
        } else {
            let report = result.expect("the others were served");
            assert_eq!((report.attempted, report.delivered), (3, 2));
            assert_eq!(report.errors, [(net.id(2), lost)]);
        }
        assert!(net.nodes[P].machine.is_idle());
    }
}

#[test]
fn nobody_is_served_behind_the_one_whose_queue_is_full_when_it_is_to_fail_fast() {
    let mut net = subscribed(3, "a");
    let (first, other) = if net.id(1) < net.id(2) { (1, 2) } else { (2, 1) };
    net.cut(P, first);
    for _ in 0..4096 {
        net.publish(P, "a", b"x", RELIABLE).expect("sent");
        net.run();
    }
    net.messages(other);
    let options = PublishOptions { on_failure: OnFailure::FailFast, ..RELIABLE };
    let id = net.publish(P, "a", b"x", options).expect("sent");
    net.run();
    assert!(matches!(net.report(P, id).expect("over"), Err(ChannelError::Backpressure(_))));
    assert_eq!(net.messages(other), []);
}

#[test]
fn queues_are_bounded_and_what_does_not_fit_is_reported() {
    let mut net = subscribed(3, "a");
    net.cut(P, 1);
    let mut refused = 0;
    for _ in 0..5000 {
        let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
        net.run();
        if let Some(report) = net.report(P, id) {
            let report = report.expect("best effort");
            assert_eq!(report.delivered, 1, "the other one is served");
            assert!(matches!(report.errors.as_slice(), [(_, ChannelError::Backpressure(_))]));
            refused += 1;
        }
        net.messages(2);
    }
    assert_eq!(refused, 5000 - 4096);
    net.connect(P, 1, true);
    net.run();
    assert_eq!(numbers(&net.messages(1)), (1..=4096).collect::<Vec<_>>());
}

#[test]
fn peers_that_do_not_acknowledge_leave_room_for_others() {
    const STUCK: usize = 6;
    let mut net = Net::connected(STUCK + 2);
    let channels: Vec<_> = (0..=STUCK).map(|at| format!("to/{at}")).collect();
    for (at, channel) in channels.iter().enumerate() {
        net.register(P, open(channel));
        net.subscribe(at + 1, P, channel, None, None).expect("let in");
    }
    (1..=STUCK).for_each(|at| net.cut(P, at));
    for _ in 0..4096 {
        for channel in &channels[..STUCK] {
            net.publish(P, channel, b"x", RELIABLE).expect("the queue to its subscriber may be full");
        }
        net.nodes[P].events.clear();
    }
    let last = channels[STUCK].as_str();
    for options in [RELIABLE, LOSSY] {
        for _ in 0..1000 {
            let id = net.publish(P, last, b"x", options).expect("there is room");
            net.send(P, STUCK + 1);
            net.arrive(P, STUCK + 1);
            net.send(STUCK + 1, P);
            net.arrive(STUCK + 1, P);
            assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
        }
    }
}

#[test]
fn who_leaves_is_not_waited_for() {
    let mut net = subscribed(2, "a");
    net.cut(P, S);
    let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.leave(S, P, "a", Subscriber::Node);
    net.connect(P, S, true);
    net.run();
    let report = net.report(P, id).expect("over").expect("best effort");
    assert_eq!(report.delivered + report.errors.len(), 1);
    assert!(net.nodes.iter().all(|node| node.machine.is_idle()));
}

#[test]
fn nobody_makes_a_node_keep_what_it_did_not_ask_for() {
    let mut net = Net::connected(2);
    let head = DataHead { channel: name("a").id().0, number: 1, reliable: true, after: None, link: None, share: None };
    let piece = bytes::Bytes::from(vec![0; 1000]);
    let send = |net: &mut Net, fragment: &Fragment| {
        let mut body = Vec::new();
        fragment.encode_into(&mut body);
        net.inject(P, S, Lane::Bulk, body);
    };
    for total in [0, 5000, MAX_PAYLOAD + 1, u64::MAX] {
        send(&mut net, &Fragment::First { head, total, piece: piece.clone() });
        send(&mut net, &Fragment::Next(piece.clone()));
    }
    net.inject(P, S, Lane::Bulk, vec![1, 2, 3]);
    net.inject(P, S, Lane::Fast, codec::encode(&head));
    for channel in 0..1000 {
        let head = DataHead { channel, ..head };
        net.inject(P, S, Lane::Fast, codec::encode(&ChannelMessage::Data { head, payload: b"x" }));
    }
    let kept = net.nodes[S].machine.kept();
    assert_eq!((kept.acknowledgements, kept.unfinished_bytes), (0, 0));
    net.run();
    assert_eq!(net.messages(S), []);
    assert!(net.nodes[S].machine.is_idle());

    // More than was announced is dropped, also of what it did ask for.
    net.register(P, open("a"));
    net.subscribe(S, P, "a", None, None).expect("let in");
    send(&mut net, &Fragment::First { head, total: 1500, piece: piece.clone() });
    send(&mut net, &Fragment::Next(piece));
    net.run();
    assert_eq!(net.messages(S), []);
    assert_eq!(net.nodes[S].machine.kept().unfinished_bytes, 0);
    assert!(net.nodes[S].machine.is_idle());
}
