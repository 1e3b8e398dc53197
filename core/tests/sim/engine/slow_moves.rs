//! Moves over links that take little at a time, or that have much else to take: they are slow, and do not end for it.

use std::time::Duration;

use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::wire::Lane;

use super::in_world;
use super::world::World;

const SOURCE: usize = 0;
const TARGET: usize = 1;
const DRIVER: usize = 2;
const SECOND: Duration = Duration::from_secs(1);
const STATE: usize = 8 << 20;

/// Four frames at a time are on the way, so one each 300 ms arrives.
fn slow_down(world: &mut World) {
    world.delay = 1_200_000..1_200_001;
}

fn with_state(world: &mut World, bytes: usize) -> OriginHash {
    world.nodes[SOURCE].objects.fresh.ballast = bytes;
    world.spawn(SOURCE, 1, "prompt")
}

#[test]
fn a_move_that_goes_on_slowly_is_not_silent_whoever_drives_it() {
    for driver in [SOURCE, TARGET, DRIVER] {
        in_world(World::open(1, 3), |world| {
            let origin = with_state(world, STATE);
            slow_down(world);
            let began = world.now;
            assert_eq!(world.driven(driver, origin, SOURCE, TARGET), Ok(()), "n{driver} drives");
            assert!(world.now - began > 30 * SECOND, "it takes longer than anybody may be silent");
            assert_eq!(world.hosting(origin), [TARGET]);
            world.run_for(20 * SECOND);
            world.assert_nothing_left();
        });
    }
}

#[test]
fn a_move_whose_target_takes_nothing_any_more_is_silent_all_the_same() {
    in_world(World::open(1, 3), |world| {
        let origin = with_state(world, STATE);
        slow_down(world);
        let migration = world.driving(DRIVER, origin, SOURCE, TARGET);
        world.run_for(20 * SECOND);
        world.clogged = vec![(SOURCE, TARGET, Lane::Bulk)];
        world.run_for(20 * SECOND);
        assert!(world.nodes[DRIVER].over.contains_key(&migration.get()), "it is given up");
        assert_eq!(world.hosting(origin), [SOURCE]);
        world.clogged.clear();
        world.delay = 20..400;
        world.serves(origin, [DRIVER]);
    });
}

#[test]
fn a_state_and_large_events_for_the_same_node_take_turns() {
    const EVENTS: usize = 200;
    in_world(World::new(1, 2), |world| {
        let origin = with_state(world, 1 << 20);
        let flooded = world.spawn(TARGET, 2, "prompt");
        world.serves(flooded, [SOURCE]);
        world.clogged = vec![(SOURCE, TARGET, Lane::Bulk)];
        for _ in 0..EVENTS {
            let request = world.request(0, 0);
            world.call_with(SOURCE, flooded, request, 32 * 1024);
        }
        let ticket = world.migrate(SOURCE, origin, TARGET);
        world.run_for(SECOND);
        world.clogged.clear();
        let migration = world.migration(ticket).expect("it begins");
        assert_eq!(world.seen(flooded).len(), 1, "nothing large has got through");
        let moves = |world: &World| world.messages.iter().any(|(.., name)| *name == "Chunk");
        world.send(SOURCE, flooded);
        assert!(world.run_until(SECOND, moves), "its state flows");
        let seen = world.seen(flooded).len();
        assert!(seen < EVENTS / 4, "not behind {seen} large events");
        let half = |world: &World| world.seen(flooded).len() >= EVENTS / 2;
        assert!(world.run_until(SECOND, half), "nor the other way round");
        assert_eq!(world.wait_migration(SOURCE, migration), Ok(()));
    });
}

#[test]
fn a_daemon_that_moves_does_not_stand_still_behind_large_events_for_the_same_node() {
    const EVENTS: usize = 200;
    in_world(World::new(1, 2), |world| {
        let origin = with_state(world, 1000);
        let flooded = world.spawn(TARGET, 2, "prompt");
        world.serves(flooded, [SOURCE]);
        world.clogged = vec![(SOURCE, TARGET, Lane::Bulk)];
        for _ in 0..EVENTS {
            let request = world.request(0, 0);
            world.call_with(SOURCE, flooded, request, 32 * 1024);
        }
        let ticket = world.migrate(SOURCE, origin, TARGET);
        world.run_for(SECOND);
        let migration = world.migration(ticket).expect("it begins");
        world.clogged.clear();
        world.send(SOURCE, flooded);
        assert_eq!(world.wait_migration(SOURCE, migration), Ok(()));
        let seen = world.seen(flooded).len();
        assert!(seen < EVENTS / 2, "not behind {seen} large events");
    });
}
