//! The membership machine, fed with what a peer may say.

use std::time::Duration;

use mesh_daemon_core::identity::{EntityKeypair, Incarnation};
use mesh_daemon_core::membership::{Membership, MembershipConfig, Output};
use tokio::time::Instant;

use super::identity::keypair;

const CONFIG: MembershipConfig =
    MembershipConfig { probe_period: Duration::from_secs(1), suspicion: Duration::from_secs(5) };

fn member(keypair: &EntityKeypair) -> Membership {
    let life = Incarnation { started_at_ms: 1, salt: 2 };
    Membership::new(keypair.clone(), life, Vec::new(), &CONFIG, 3).expect("it has a key")
}

/// A message of a member to another one, which knows the first; whether it is taken.
pub fn membership(data: &[u8]) -> bool {
    let (mut machine, peer, now) = (member(&keypair(1)), keypair(2).node_id(), Instant::now());
    machine.take_part(now);
    machine.connected(peer);
    machine.ready(peer);
    let taken = machine.message(peer, data, now).is_ok();
    for _ in 0..8 {
        if let Some(at) = machine.next_deadline() {
            machine.tick(at);
        }
    }
    while machine.take_output().is_some() {}
    assert!(machine.members().count() <= 1 + data.len() / 64, "nobody comes from nowhere");
    taken
}

/// What the peer says when it joins, and behind that.
pub fn messages() -> Vec<Vec<u8>> {
    let (mut one, mut other) = (member(&keypair(1)), member(&keypair(2)));
    let (one_id, other_id, now) = (keypair(1).node_id(), keypair(2).node_id(), Instant::now());
    let mut said = Vec::new();
    one.connected(other_id);
    other.connected(one_id);
    one.ready(other_id);
    other.ready(one_id);
    other.join_through(one_id, now);
    for _ in 0..8 {
        while let Some(output) = other.take_output() {
            if let Output::Send { body, .. } | Output::Hello { body, .. } = output {
                let _ = one.message(other_id, &body, now);
                said.push(body);
            }
        }
        while let Some(output) = one.take_output() {
            if let Output::Send { body, .. } | Output::Hello { body, .. } = output {
                let _ = other.message(one_id, &body, now);
            }
        }
        if let Some(at) = other.next_deadline() {
            other.tick(at);
        }
    }
    said
}
