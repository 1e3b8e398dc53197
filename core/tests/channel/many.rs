//! What many subscribers on one node cost.

use std::time::Duration;

use mesh_daemon_core::identity::EntityKeypair;
use tokio::time::Instant;

use crate::net::{Net, RELIABLE, open};

const P: usize = 0;
const S: usize = 1;
const DAEMONS: u16 = 3000;

/// The least time in which all daemons of a node took one message each, when they are in so many channels.
fn cost_of_taking(channels: usize) -> Duration {
    let mut net = Net::connected(2);
    let channels: Vec<_> = (0..channels).map(|channel| format!("c{channel}")).collect();
    for channel in &channels {
        net.register(P, open(channel));
    }
    let daemons: Vec<_> = (0..DAEMONS)
        .map(|number| {
            let mut seed = [3; 32];
            seed[..2].copy_from_slice(&number.to_le_bytes());
            EntityKeypair::from_seed(&seed)
        })
        .collect();
    for (one, channel) in daemons.iter().zip(channels.iter().cycle()) {
        net.ask(S, P, channel, Some(one), None).expect("asked");
    }
    net.run();
    let cost = |_| {
        let publish = |channel: &String| net.publish(P, channel, b"x", RELIABLE).expect("sent");
        let ids: Vec<_> = channels.iter().map(publish).collect();
        net.run();
        let begun = Instant::now();
        for one in &daemons {
            net.next_for(S, one, true).expect("it is there");
        }
        let cost = begun.elapsed();
        net.run();
        for id in ids {
            assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
        }
        net.nodes[S].events.clear();
        cost
    };
    // On a busy machine most runs are interrupted.
    (0..25).map(cost).min().unwrap_or_default()
}

#[test]
fn what_daemons_cost_that_take_a_message_does_not_grow_with_the_others_in_their_channel() {
    let (apart, together) = (cost_of_taking(30), cost_of_taking(1));
    // If each looked at all others in its channel, thirty times as many would be looked at; the rest of the cost is the same.
    assert!(together < 8 * apart, "{apart:?} in thirty channels, {together:?} in one");
}
