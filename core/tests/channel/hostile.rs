//! Subscribers that do what no node of ours does, so as to take nothing and stay in for ever.

use mesh_daemon_core::channel::{STALLED, subscription_statement};
use mesh_daemon_core::identity::{EntityKeypair, Epoch, Incarnation};
use mesh_daemon_core::mesh::RecordSink;
use mesh_daemon_core::wire::channels::{ChannelMessage, DaemonProof};
use mesh_daemon_core::wire::{Lane, MAX_RECORD_BODY, Subprotocol, codec};

use crate::net::{Net, RELIABLE, feed, open};

const P: usize = 0;
const S: usize = 1;

/// A publisher of channel `a`, and a node that is in.
fn subscribed() -> Net {
    let mut net = Net::connected(2);
    net.register(P, open("a"));
    net.subscribe(S, P, "a", None, None).expect("let in");
    net
}

/// The node, or a daemon on it, says that it goes on behind the first message of all.
fn ask_from_the_beginning(net: &mut Net, daemon: Option<(&EntityKeypair, Epoch)>) {
    let proof = daemon.map(|(keypair, epoch)| {
        let incarnation = Incarnation { started_at_ms: 1, salt: P as u64 };
        let [publisher, node] = [P, S].map(|at| net.nodes[at].keypair.entity_id());
        let statement = subscription_statement(&feed("a"), publisher, incarnation, node, epoch);
        let signature = keypair.sign(&statement).expect("a whole key");
        DaemonProof { entity: keypair.entity_id(), signature, epoch }
    });
    let ask = ChannelMessage::Subscribe {
        request: 1,
        channel: "a",
        daemon: proof,
        token: None,
        subnet: None,
        from: Some(0),
        group: None,
    };
    net.inject(S, P, Lane::Fast, codec::encode(&ask));
}

/// Counts the messages of a channel in a frame.
struct Counted {
    left: usize,
    messages: usize,
}

impl RecordSink for Counted {
    fn room(&self) -> usize {
        self.left
    }

    fn record(&mut self, _: Subprotocol, encode: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
        let mut body = Vec::new();
        encode(&mut body);
        self.left = self.left.checked_sub(body.len())?;
        self.messages += usize::from(matches!(codec::decode(&body), Ok(ChannelMessage::Data { .. })));
        Some(body.len())
    }
}

#[test]
fn who_asks_from_the_beginning_again_and_again_is_put_out_like_anybody_who_takes_nothing() {
    let mut net = subscribed();
    let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.send(P, S);
    for _ in 0..10 {
        net.pass(STALLED / 2);
        if let Some(report) = net.report(P, id) {
            assert_eq!((report.expect("sent").delivered, net.nodes[P].machine.roster(&feed("a"))), (0, vec![]));
            return;
        }
        ask_from_the_beginning(&mut net, None);
        net.send(P, S);
    }
    panic!("it is in for ever");
}

#[test]
fn who_drops_its_session_again_and_again_is_put_out_once_it_has_taken_nothing_for_long_enough_in_all() {
    for (session, times) in [(STALLED, 6), (STALLED / 6, 30)] {
        let mut net = subscribed();
        let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
        net.send(P, S);
        for _ in 0..times {
            for _ in 0..4 {
                net.pass(session / 4);
            }
            net.cut(P, S);
            net.connect(P, S, true);
            net.send(P, S);
        }
        let report = net.report(P, id).unwrap_or_else(|| panic!("sessions of {session:?}: it is in for ever"));
        assert_eq!(report.expect("sent").delivered, 0);
        assert_eq!(net.nodes[P].machine.roster(&feed("a")), []);
    }
}

#[test]
fn what_is_published_while_somebody_goes_on_from_the_beginning_again_and_again_waits_within_its_bound() {
    for moves in [false, true] {
        let one = EntityKeypair::from_seed(&[9; 32]);
        let mut net = Net::connected(2);
        net.register(P, open("a"));
        net.subscribe(S, P, "a", Some(&one), None).expect("let in");
        for round in 0..6 {
            for _ in 0..4096 {
                net.publish(P, "a", b"x", RELIABLE).expect("accepted");
            }
            net.nodes[P].events.clear();
            let epoch = if moves { Epoch::new(round + 2) } else { Epoch::FIRST };
            ask_from_the_beginning(&mut net, Some((&one, epoch)));
            let waiting = net.nodes[P].machine.kept().waiting;
            assert!(waiting <= 4096, "round {round}: {waiting} messages wait");
        }
        assert_eq!(net.nodes[P].machine.roster(&feed("a")).len(), 1, "it is in");
    }
}

#[test]
fn a_message_is_sent_once_more_for_who_asks_again_a_limited_number_of_times() {
    let mut net = subscribed();
    net.publish(P, "a", b"x", RELIABLE).expect("sent");
    let (peer, now, mut messages) = (net.id(S), net.now, 0);
    for _ in 0..1000 {
        let mut frame = Counted { left: MAX_RECORD_BODY, messages: 0 };
        net.nodes[P].machine.fill(peer, Lane::Fast, &mut frame, now);
        messages += frame.messages;
        ask_from_the_beginning(&mut net, None);
    }
    assert!((2..100).contains(&messages), "{messages}");
}

#[test]
fn who_gives_no_credit_for_large_messages_is_put_out_like_anybody_who_takes_nothing() {
    let mut net = subscribed();
    let id = net.publish(P, "a", &vec![0; 100_000], RELIABLE).expect("sent");
    for _ in 0..12 {
        net.pass(STALLED / 4);
        // Its session lives, and takes whatever is small.
        net.send_lanes(P, S, &[Lane::Fast]);
        while net.arrive(P, S) {}
    }
    assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 0);
    assert_eq!(net.nodes[P].machine.roster(&feed("a")), []);
}

#[test]
fn who_gives_credit_for_large_messages_slowly_is_waited_for() {
    let mut net = subscribed();
    let ids = [0; 2].map(|_| net.publish(P, "a", &vec![0; 500_000], RELIABLE).expect("sent"));
    for _ in 0..20 {
        for _ in 0..3 {
            net.pass(STALLED / 2);
        }
        net.send_lanes(P, S, &[Lane::Bulk]);
        while net.arrive(P, S) {}
        net.send(S, P);
        while net.arrive(S, P) {}
    }
    for id in ids {
        assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
    }
}
