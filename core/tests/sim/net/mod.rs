//! The peer table on a network that cuts, delays, reorders, goes silent and restarts nodes.

mod faults;
mod witness;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use mesh_daemon_core::mesh::PeerState;
use rand::Rng;
use tokio::time::Instant;

use world::{TIMEOUT, World};

use crate::seeds;

const SEEDS: u64 = 400;

/// Runs `scenario` for every seed; a failure names the seed and shows the trace.
fn for_seeds(nodes: usize, scenario: impl Fn(&mut World)) {
    let start = Instant::now();
    for seed in seeds::chosen(0..SEEDS) {
        let mut world = World::new(seed, start, nodes, 64);
        if let Err(failure) = catch_unwind(AssertUnwindSafe(|| scenario(&mut world))) {
            let skip = world.trace.len().saturating_sub(6_000);
            eprintln!("seed {seed}, end of the trace:\n{}", &world.trace[skip..]);
            resume_unwind(failure);
        }
    }
}

/// Every pair has one session on one connection, and both sides know it.
fn assert_all_connected(world: &World) {
    let count = world.nodes.len();
    for one in 0..count {
        for other in 0..count {
            if one != other {
                let id = world.node_id(other);
                let view = world.nodes[one].table.peers().find(|peer| peer.identity.node == id);
                let view = view.unwrap_or_else(|| panic!("n{one} knows n{other}"));
                assert_eq!(view.state, PeerState::Connected, "n{one} has n{other}");
                assert_eq!(
                    view.identity.incarnation, world.nodes[other].incarnation,
                    "n{one} has this life of n{other}"
                );
            }
        }
    }
    for (pair, sessions) in world.sessions() {
        assert_eq!(sessions, 1, "connections between {pair:?}");
    }
}

fn everybody_wants_everybody(world: &mut World, within: u64) {
    for one in 0..world.nodes.len() {
        for other in 0..world.nodes.len() {
            if one != other {
                let delay = Duration::from_micros(world.rng.random_range(0..=within));
                world.want(one, other, None, delay);
            }
        }
    }
}

#[test]
fn simultaneous_dials_end_with_one_session() {
    for_seeds(2, |world| {
        everybody_wants_everybody(world, 1);
        world.run(Duration::from_secs(10));
        assert_all_connected(world);
        assert_eq!(world.witness.both_sided, 1, "no session was lost to the tie");
    });
}

#[test]
fn reordered_dials_of_five_nodes_end_with_one_session_each() {
    for_seeds(5, |world| {
        everybody_wants_everybody(world, 60_000);
        world.run(Duration::from_secs(10));
        assert_all_connected(world);
    });
}

#[test]
fn hazard_60_faults_of_all_kinds_then_peace_ends_with_every_pair_connected_once() {
    for_seeds(4, |world| {
        everybody_wants_everybody(world, 2_000_000);
        world.begin_faults();
        world.run(Duration::from_secs(120));
        world.faults = false;
        world.run(Duration::from_secs(180));
        assert_all_connected(world);
        assert!(world.witness.connected > 12);
    });
}

fn only_one_side_dials(world: &mut World) {
    for (one, other) in [(0, 1), (1, 2), (2, 0)] {
        world.want(one, other, None, Duration::ZERO);
    }
    world.begin_faults();
    world.run(Duration::from_secs(120));
    world.faults = false;
    world.run(Duration::from_secs(180));
    assert_all_connected(world);
}

#[test]
fn only_one_side_dials_and_still_every_fault_heals() {
    for_seeds(3, only_one_side_dials);
}

#[test]
fn a_welcome_to_what_was_lost_meanwhile_ends_its_dial() {
    only_one_side_dials(&mut World::new(3673, Instant::now(), 3, 64));
}

#[test]
fn same_seed_same_trace() {
    let run = |seed| {
        let mut world = World::new(seed, Instant::now(), 4, 64);
        everybody_wants_everybody(&mut world, 1_000_000);
        world.begin_faults();
        world.run(Duration::from_secs(100));
        world.trace
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(0), run(1));
}

#[test]
fn a_silent_connection_is_suspected_at_half_and_replaced_or_lost_at_the_whole_timeout() {
    for_seeds(2, |world| {
        world.want(0, 1, None, Duration::ZERO);
        world.run(Duration::from_secs(3));
        assert_all_connected(world);
        world.silence(0);
        world.run(TIMEOUT.mul_f64(0.36));
        assert!(!world.trace.contains("suspected"), "too early");
        world.run(Duration::from_secs(10));
        assert!(world.trace.contains("n0: n1 suspected"), "{}", world.trace);
        // The dialler tries another connection beside the silent one, so it is not lost at all.
        world.run(TIMEOUT);
        assert_all_connected(world);
        assert!(world.witness.resumed >= 1 && world.witness.silent == 0, "{}", world.trace);
    });
}

#[test]
fn a_dead_peer_is_lost_at_the_whole_timeout_and_not_before() {
    for_seeds(2, |world| {
        world.want(0, 1, None, Duration::ZERO);
        world.run(Duration::from_secs(3));
        world.restart(1, Duration::from_secs(1_000), true);
        world.run(TIMEOUT.mul_f64(0.8));
        assert!(world.trace.contains("n0: n1 suspected") && !world.trace.contains("lost"), "{}", world.trace);
        world.run(Duration::from_secs(7));
        assert!(world.trace.contains("n0: n1.1 lost: Silence"), "{}", world.trace);
    });
}

#[test]
fn requirement_126_a_partition_heals_by_itself() {
    for_seeds(2, |world| {
        world.want(0, 1, None, Duration::ZERO);
        world.run(Duration::from_secs(3));
        world.nodes[0].wants.clear();
        world.restart(1, Duration::from_secs(3_600), true);
        world.run(Duration::from_secs(3_600 + 60));
        assert_all_connected(world);
    });
}

#[test]
fn hazard_60_a_newer_incarnation_replaces_the_older_at_once() {
    for_seeds(2, |world| {
        everybody_wants_everybody(world, 1);
        world.run(Duration::from_secs(3));
        world.restart(1, Duration::from_millis(200), true);
        world.run(Duration::from_secs(2));
        assert!(world.trace.contains("n0: n1.1 lost: NewerIncarnation"), "{}", world.trace);
        assert!(world.trace.contains("n0: n1.2 connected, resumed false"), "{}", world.trace);
        assert_all_connected(world);
    });
}

#[test]
fn a_goodbye_is_a_loss_at_once() {
    for_seeds(2, |world| {
        world.want(0, 1, None, Duration::ZERO);
        world.run(Duration::from_secs(3));
        world.leave(1);
        world.run(Duration::from_millis(500));
        assert!(world.trace.contains("n0: n1.1 lost: Goodbye"), "{}", world.trace);
        assert!(!world.trace.contains("suspected"));
    });
}

#[test]
fn a_wrong_key_or_pin_never_gets_a_session() {
    for_seeds(3, |world| {
        world.nodes[1].psk = 1;
        let wrong = world.node_id(1);
        world.want(0, 1, None, Duration::ZERO);
        world.want(1, 0, None, Duration::ZERO);
        world.want(0, 2, Some(wrong), Duration::ZERO);
        world.run(Duration::from_secs(60));
        assert_eq!(world.witness.connected, 0);
        assert!(world.sessions().is_empty(), "nothing is left open");
    });
}

#[test]
fn an_idle_pair_only_sends_heartbeats() {
    let mut world = World::new(1, Instant::now(), 2, 64);
    world.want(0, 1, None, Duration::ZERO);
    world.run(Duration::from_secs(10));
    world.nodes[0].wants.clear();
    let before = world.happened();
    world.run(Duration::from_secs(1_000));
    // 200 heartbeats, each a ping, a pong and the timers of both sides.
    assert!(world.happened() - before < 200 * 8, "{}", world.happened() - before);
}

#[test]
fn a_half_dead_connection_never_keeps_the_peer_out() {
    for_seeds(2, |world| {
        everybody_wants_everybody(world, 1_000_000);
        world.run(Duration::from_secs(25));
        // Only one end hears that the connection broke; the other one believes in it and is dialled by the first.
        let wire = world.only_session();
        let told = world.rng.random();
        world.cut(wire, [told, !told]);
        world.run(Duration::from_secs(2));
        assert_all_connected(world);
        assert_ne!(world.only_session(), wire);
    });
}

#[test]
fn an_older_incarnation_is_refused() {
    for_seeds(2, |world| {
        world.want(0, 1, None, Duration::ZERO);
        world.run(Duration::from_secs(3));
        world.restart(1, Duration::ZERO, true);
        world.run(Duration::from_secs(60));
        assert_all_connected(world);
        let old = world.nodes[1].incarnation.started_at_ms - 1;
        world.nodes[1].incarnation.started_at_ms = old;
        world.want(1, 0, None, Duration::ZERO);
        let wire = world.only_session();
        world.cut(wire, [true, true]);
        world.run(Duration::from_secs(20));
        assert!(world.trace.contains("OlderIncarnation"), "{}", world.trace);
        for (one, other) in [(0, 1), (1, 0)] {
            assert_eq!(world.nodes[one].table.session(world.node_id(other)), None);
        }
    });
}
