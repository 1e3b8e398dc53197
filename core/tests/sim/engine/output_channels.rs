//! Channels that are made for the outputs of daemons: they stay where a daemon lived, or where somebody registered them.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::identity::OriginHash;

use super::in_world;
use super::world::World;

const SECOND: Duration = Duration::from_secs(1);

fn emitting() -> HostConfig {
    HostConfig { output_channel: Some("out".to_owned()), ..HostConfig::default() }
}

/// A world whose second node takes a second to restore what arrives.
fn with_slow_target() -> World {
    let mut world = World::new(1, 2);
    world.open_channels();
    world.nodes[1].objects.faults.restore_takes = Some(SECOND);
    world
}

/// Daemons on their way from the first node to the second, where the channel for their outputs was made.
fn arriving<const N: usize>(world: &mut World) -> [OriginHash; N] {
    let mut seed = 0;
    let daemons = [(); N].map(|()| {
        seed += 1;
        world.spawn_with(0, seed, "prompt", emitting())
    });
    for origin in daemons {
        world.migrate(0, origin, 1);
    }
    world.run_for(SECOND / 2);
    assert!(world.has_channel(1, "out"), "made for those that come");
    daemons
}

/// None of them arrives.
fn fail(world: &mut World, daemons: &[OriginHash]) {
    world.cut(0, 1, SECOND);
    world.run_for(3 * SECOND);
    for origin in daemons {
        assert_eq!(world.hosting(*origin), [0]);
    }
}

#[test]
fn a_daemon_that_does_not_arrive_leaves_no_channel_behind() {
    in_world(World::new(1, 2), |world| {
        world.open_channels();
        let origin = world.spawn_with(0, 1, "prompt", emitting());
        world.nodes[1].objects.faults.restore = true;
        assert!(world.moved(0, origin, 1).is_err());
        assert!(!world.has_channel(1, "out"), "it never lived there");
        assert!(world.has_channel(0, "out"));
        world.nodes[1].objects.faults.restore = false;
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        assert!(world.has_channel(1, "out"));
        assert_eq!(world.moved(1, origin, 0), Ok(()));
        assert!(world.has_channel(1, "out"), "whoever subscribed to it there still waits for its return");
    });
}

#[test]
fn a_daemon_that_does_not_arrive_leaves_a_channel_to_those_who_use_it() {
    in_world(with_slow_target(), |world| {
        let daemons = arriving::<1>(world);
        let other = world.spawn_with(1, 9, "prompt", emitting());
        fail(world, &daemons);
        assert!(world.has_channel(1, "out"), "the other one publishes there");
        assert_eq!(world.moved(1, other, 0), Ok(()));
        world.migrate(0, daemons[0], 1);
        world.run_for(SECOND / 2);
        fail(world, &daemons);
        assert!(world.has_channel(1, "out"), "and did, before it left");
    });
}

#[test]
fn a_daemon_that_does_not_arrive_leaves_a_channel_to_whoever_registered_it_meanwhile() {
    in_world(with_slow_target(), |world| {
        let daemons = arriving::<1>(world);
        world.register_channel(1, "out");
        fail(world, &daemons);
        assert!(world.has_channel(1, "out"), "it is theirs");
    });
}

#[test]
fn of_daemons_that_do_not_arrive_the_last_one_leaves_no_channel_behind() {
    in_world(with_slow_target(), |world| {
        let daemons = arriving::<3>(world);
        fail(world, &daemons);
        assert!(!world.has_channel(1, "out"), "whichever of them it was made for");
    });
}

#[test]
fn a_spawn_that_fails_leaves_no_channel_behind() {
    in_world(World::new(1, 1), |world| {
        world.open_channels();
        world.nodes[0].objects.faults.construct = true;
        let (_, refused) = world.try_spawn(0, 1, "prompt", emitting());
        world.failure(refused);
        assert!(!world.has_channel(0, "out"));
        world.nodes[0].objects.faults.construct = false;
        world.spawn_with(0, 1, "prompt", emitting());
        assert!(world.has_channel(0, "out"));
    });
}
