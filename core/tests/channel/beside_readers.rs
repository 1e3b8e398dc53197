//! Daemons on a node whose own readers are in the same channel, and subscribers that are slow on a connection that breaks.

use std::time::Duration;

use mesh_daemon_core::channel::{ReadersRoom, STALLED, Subscriber};

use crate::net::{LOSSY, Net, RELIABLE, daemon, feed};

const P: usize = 0;
const S: usize = 1;

fn have(net: &mut Net, room: ReadersRoom) {
    let (key, now) = ((net.id(P), feed("a").stream(Subscriber::Node)), net.now);
    net.nodes[S].machine.readers_have(key, room, now);
    net.collect(S);
}

#[test]
fn what_needs_no_acknowledgement_reaches_a_daemon_for_as_long_as_the_node_reads_as_well() {
    for daemon_first in [true, false] {
        let one = daemon(1);
        let mut net = if daemon_first { Net::subscribed(&[&one]) } else { Net::subscribed(&[]) };
        net.subscribe(S, P, "a", None, None).expect("let in");
        if !daemon_first {
            net.subscribe(S, P, "a", Some(&one), None).expect("let in");
        }
        for number in 1..=1000 {
            net.publish(P, "a", b"x", LOSSY).expect("sent");
            net.run();
            have(&mut net, ReadersRoom::ForAll);
            assert_eq!(net.take_all(S, &one).len(), 1, "message {number}, daemon first: {daemon_first}");
        }
        assert_eq!(net.nodes[S].machine.dropped_for(one.entity_id()), 0);
    }
}

#[test]
fn what_only_the_readers_of_a_node_held_up_is_acknowledged_when_it_leaves() {
    let one = daemon(1);
    let mut net = Net::subscribed(&[&one]);
    net.subscribe(S, P, "a", None, None).expect("let in");
    have(&mut net, ReadersRoom::Before(1));
    let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    have(&mut net, ReadersRoom::Before(1));
    assert_eq!(net.take_all(S, &one).len(), 1);
    net.run();
    assert!(net.report(P, id).is_none(), "the readers have no room for it");
    net.leave(S, P, "a", Subscriber::Node);
    net.run();
    assert_eq!(net.report(P, id).expect("nobody else holds it up").expect("sent").delivered, 1);
}

#[test]
fn who_is_slow_when_a_connection_of_long_ago_breaks_is_given_as_long_as_anybody() {
    let one = daemon(1);
    let mut net = Net::subscribed(&[&one]);
    for _ in 0..60 {
        net.pass(Duration::from_secs(60));
    }
    let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    net.cut(P, S);
    net.connect(P, S, true);
    net.run();
    for _ in 0..4 {
        net.pass(STALLED / 4);
        net.run();
    }
    assert_eq!(net.ends(S), []);
    assert!(net.report(P, id).is_none(), "it is waited for");
    assert_eq!(net.take_all(S, &one).len(), 1);
    net.run();
    assert_eq!(net.report(P, id).expect("taken").expect("sent").delivered, 1);
}
