//! Arrivals that fail when their source has released the daemon: it goes on there, and nobody who waits is told otherwise.

use std::time::Duration;

use mesh_daemon_core::daemon::Ticket;
use mesh_daemon_core::identity::OriginHash;

use super::in_world;
use super::load::answers_are_true;
use super::world::{How, Meddler, World};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const CALLER: usize = 2;
const SECOND: Duration = Duration::from_secs(1);

/// The source has released the daemon, and its word for that is on its way for long. What is called meanwhile waits at the target.
fn released(world: &mut World, callers: &[usize]) -> (OriginHash, Vec<Ticket>) {
    let origin = world.spawn(SOURCE, 1, "prompt");
    world.serves(origin, [SOURCE, TARGET, CALLER]);
    world.meddler = Some(Meddler { message: "ActivateTarget", nth: 0, how: How::Delay(60 * SECOND) });
    world.migrate(SOURCE, origin, TARGET);
    assert!(world.run_until(SECOND, |world| world.meddled == 1), "it was released");
    world.run_for(SECOND / 10);
    let waiting = callers.iter().flat_map(|&node| [node; 3]).map(|node| world.call(node, origin)).collect();
    world.run_for(SECOND / 10);
    (origin, waiting)
}

/// The runtime of the target ends: its copy is dropped.
fn target_ends(world: &mut World) {
    let now = world.present();
    world.nodes[TARGET].engine.shutdown(now);
    world.settle(TARGET);
}

fn goes_on_at_source(world: &mut World, origin: OriginHash, waiting: Vec<Ticket>) {
    world.run_for(SECOND);
    assert_eq!(world.hosting(origin), [SOURCE]);
    for ticket in waiting {
        assert!(world.is_answered(ticket), "not only when it is reminded");
        world.outputs(ticket);
    }
    world.serves(origin, [SOURCE, CALLER]);
    answers_are_true(world);
}

#[test]
fn whoever_waits_at_a_copy_that_is_dropped_behind_the_decision_is_answered_by_the_source() {
    for seed in 0..8 {
        in_world(World::new(seed, 3), |world| {
            let (origin, waiting) = released(world, &[SOURCE, CALLER]);
            target_ends(world);
            goes_on_at_source(world, origin, waiting);
        });
    }
}

#[test]
fn whoever_waits_at_a_source_that_has_yet_to_hear_that_its_target_dropped_the_copy_goes_on_waiting() {
    for seed in 0..8 {
        in_world(World::new(seed, 3), |world| {
            let (origin, waiting) = released(world, &[SOURCE]);
            world.meddler = Some(Meddler { message: "StatusAnswer", nth: 0, how: How::Delay(SECOND / 2) });
            target_ends(world);
            world.run_for(SECOND / 4);
            assert!(world.meddled == 2 && waiting.iter().all(|ticket| !world.is_answered(*ticket)));
            goes_on_at_source(world, origin, waiting);
        });
    }
}
