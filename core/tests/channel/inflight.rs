//! To how many peers a publication is under way at once.

use mesh_daemon_core::channel::PublishOptions;
use mesh_daemon_core::identity::Incarnation;
use mesh_daemon_core::mesh::{Loss, PeerEvent, Record};
use mesh_daemon_core::wire::channels::ChannelMessage;
use mesh_daemon_core::wire::{Lane, Subprotocol, codec};

use crate::net::{Net, RELIABLE, feed, open};

const P: usize = 0;

#[test]
fn a_place_that_comes_free_is_for_the_next_one_that_can_take_it_at_once() {
    let mut net = Net::connected(9);
    net.register(P, open("a"));
    for at in 1..9 {
        net.subscribe(at, P, "a", None, None).expect("let in");
    }
    net.publish(P, "a", b"x", PublishOptions { max_inflight: 4, ..RELIABLE }).expect("sent");
    let begun: Vec<usize> = (1..9).filter(|at| net.send(P, *at)).collect();
    assert_eq!(begun.len(), 4);
    // One of those that wait is cut off meanwhile.
    let waiting: Vec<usize> = (1..9).filter(|at| !begun.contains(at)).collect();
    net.suspect(P, waiting[0]);
    net.collect(P);
    let ack = ChannelMessage::Ack { channel: feed("a").channel().id().0, through: 1, member: None };
    let mut record = vec![Record { subprotocol: Subprotocol::Channels, body: codec::encode(&ack).into() }];
    let (from, now) = (net.id(begun[0]), net.now);
    net.nodes[P].machine.records(from, Lane::Fast, &mut record, now);
    let woken: Vec<usize> = net.nodes[P].machine.take_wakes().into_iter().map(|node| net.index(node)).collect();
    assert_eq!(woken.len(), 1, "one for one place: {woken:?}");
    assert!(waiting[1..].contains(&woken[0]) && net.send(P, woken[0]), "{woken:?} of {waiting:?}");
}

#[test]
fn a_place_whose_message_falls_to_a_member_that_is_cut_off_is_for_another_node() {
    let mut net = Net::connected(4);
    net.register(P, open("a"));
    for (at, channel) in [(1, "a#g"), (2, "a#g"), (3, "a")] {
        net.subscribe(at, P, channel, None, None).expect("let in");
    }
    net.cut(P, 2);
    net.publish(P, "a", b"x", PublishOptions { max_inflight: 1, ..RELIABLE }).expect("sent");
    assert!(net.send(P, 1) && !net.send(P, 3), "there is one place");
    let lost =
        PeerEvent::Lost { node: net.id(1), incarnation: Incarnation { started_at_ms: 1, salt: 1 }, how: Loss::Silence };
    let now = net.now;
    net.nodes[P].machine.peer(&lost, now);
    let woken = net.nodes[P].machine.take_wakes();
    assert!(woken.contains(&net.id(3)) && net.send(P, 3), "{woken:?}");
}
