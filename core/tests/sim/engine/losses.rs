//! The connection breaks at each message of a move, which arrives or is lost with it.

use std::time::Duration;

use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::migration::Outcome;
use mesh_daemon_core::runtime::{Executed, RuntimeError};

use super::in_world;
use super::load::answers_are_true;
use super::world::{Trap, World};

const MESSAGES: [&str; 13] = [
    "Prepare",
    "Prepared",
    "Reserve",
    "Reserved",
    "Chunk",
    "SnapshotReady",
    "RestoreComplete",
    "BufferedEvents",
    "ReplayComplete",
    "ActivateTarget",
    "ActivateAck",
    "CleanupComplete",
    "Status",
];

#[test]
fn hazards_23_63_64_the_connection_breaks_at_each_message() {
    let mut fired = 0;
    for message in MESSAGES {
        for arrives in [false, true] {
            for nth in 0..3 {
                for kind in ["prompt", "slow"] {
                    in_world(World::new(nth as u64, 3), |world| {
                        broken_at(world, message, nth, arrives, kind);
                        fired += usize::from(world.sprung);
                        assert!(world.sprung || nth > 0, "the connection broke at {message}");
                    });
                }
            }
        }
    }
    // Of each message the first, and of most that come again a second.
    assert!(fired >= 2 * 2 * MESSAGES.len() + 20, "{fired} connections broke");
}

fn broken_at(world: &mut World, message: &'static str, nth: usize, arrives: bool, kind: &str) {
    world.nodes[0].objects.fresh.ballast = 100_000;
    let origin = world.spawn(0, 1, kind);
    let mut tickets = Vec::new();
    for _ in 0..8 {
        tickets.extend((0..3).map(|node| world.call(node, origin)));
    }
    world.trap = Some(Trap { message, nth, arrives, heal_after: Duration::from_millis(30) });
    let ticket = world.migrate(0, origin, 1);
    tickets.extend((0..3).map(|node| world.call(node, origin)));
    let migration = world.migration(ticket).expect("it begins");
    let result = world.wait_migration(0, migration);
    world.trap = None;
    tickets.extend((0..3).map(|node| world.call(node, origin)));
    for ticket in &tickets {
        world.outputs(*ticket);
    }
    world.run_for(Duration::from_secs(1));
    let (host, _) = world.hosts(origin)[0];
    match result {
        Ok(()) => assert_eq!(host, 1),
        Err(failure) => match failure.outcome() {
            Outcome::Source => assert_eq!(host, 0, "{failure}"),
            // The doubt is resolved when the connection is back.
            Outcome::Unknown => assert_eq!(host, 1, "{failure}"),
            Outcome::Target | Outcome::Lost => panic!("{failure}"),
        },
    }
    let mut seen = world.seen(origin);
    assert_eq!(seen.len(), tickets.len(), "{message} {nth} {arrives}: every event ran once");
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), tickets.len());
    world.assert_nothing_left();
    // Whatever happened, it can move on.
    assert_eq!(world.moved(host, origin, 2), Ok(()));
    world.run_for(Duration::from_secs(1));
    world.assert_nothing_left();
}

#[test]
fn promise_1_callers_that_found_a_copy_which_never_came_alive_are_told_so_and_later_that_there_is_none() {
    in_world(World::new(7, 3), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let first = world.call(2, origin);
        world.outputs(first);
        // The source dies when all is staged and nothing is decided.
        world.trap = Some(Trap { message: "ReplayComplete", nth: 2, arrives: false, heal_after: HOURS });
        world.migrate(0, origin, 1);
        assert!(world.run_until(Duration::from_secs(5), |world| world.sprung));
        world.lose(0, 1, Loss::Silence);
        world.lose(0, 2, Loss::Silence);
        // Nothing but the copy is left that could name a host. A delivery has no deadline of its own.
        let request = world.request(0, 0);
        let ticket = world.deliver(2, origin, request);
        world.run_for(Duration::from_secs(10));
        let lost = RuntimeError::PeerLost { origin, executed: Executed::No };
        assert_eq!(world.failure(ticket), lost, "the source may come back");
        world.run_for(HOURS / 2);
        let request = world.request(0, 0);
        let ticket = world.deliver(2, origin, request);
        assert_eq!(world.failure(ticket), RuntimeError::NotFound(origin));
        assert_eq!(world.seen(origin).len(), 1, "only the first one ran");
    });
}

/// Longer than a copy is held without its source.
const HOURS: Duration = Duration::from_secs(2 * 3600);

#[test]
fn a_target_that_dies_with_the_daemon_is_taken_over_and_nothing_runs_twice() {
    for seed in 0..40 {
        in_world(World::new(seed, 3), |world| {
            let kind = if seed % 2 == 0 { "prompt" } else { "slow" };
            let origin = world.spawn(0, 1, kind);
            for node in 0..3 {
                let ticket = world.call(node, origin);
                world.outputs(ticket);
            }
            let tickets: Vec<_> = (0..12).map(|index| world.call(index % 3, origin)).collect();
            world.migrate(0, origin, 1);
            let live = world.run_until(Duration::from_secs(5), |world| {
                world.hosts(origin).first().is_some_and(|(host, _)| *host == 1)
            });
            assert!(live);
            let pause = world.chance(300);
            world.run_for(Duration::from_micros(pause));
            let ran_there = world.hosts(origin).iter().filter(|(host, _)| *host == 1).count();
            assert_eq!(ran_there, 1);
            let ran: Vec<u64> = world.seen(origin);
            world.restart(1);
            for ticket in tickets {
                let _answer = world.wait_for(ticket);
            }
            answers_are_true(world);
            world.run_for(Duration::from_secs(1));
            let hosts = world.hosts(origin);
            if hosts.is_empty() {
                // The source had let go: the daemon died with its host.
                return;
            }
            assert_eq!(hosts[0].0, 0);
            let again = world.seen(origin);
            assert!(
                ran.starts_with(&again),
                "from the snapshot on, nothing of what the dead copy ran: {ran:?}, {again:?}"
            );
            let ticket = world.call(2, origin);
            world.outputs(ticket);
            world.run_for(Duration::from_secs(1));
            world.assert_nothing_left();
        });
    }
}
