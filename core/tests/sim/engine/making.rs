//! Daemons whose objects are still being made, and those who look for them, or spawn them as well, meanwhile.

use std::time::Duration;

use mesh_daemon_core::daemon::{HostConfig, Ticket};
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::migration::{MigrationFailure, Outcome};
use mesh_daemon_core::runtime::RuntimeError;
use mesh_daemon_core::wire::migration::FailureReason;

use super::in_world;
use super::world::World;

const SECOND: Duration = Duration::from_secs(1);
/// The daemon of these tests, by its seed.
const DAEMON: u8 = 1;

/// A spawn whose object is made for this long, well after its question was answered.
fn in_the_making(world: &mut World, node: usize, takes: Duration) -> (OriginHash, Ticket) {
    world.nodes[node].objects.faults.construct_takes = Some(takes);
    let (origin, ticket) = world.try_spawn(node, DAEMON, "prompt", HostConfig::default());
    world.run_for(SECOND / 2);
    assert_eq!(world.nodes[node].objects.constructed, 1, "it is being made");
    (origin, ticket)
}

#[test]
fn a_daemon_that_is_being_made_is_made_once_whoever_looks_for_it() {
    in_world(World::new(1, 2), |world| {
        let (origin, spawned) = in_the_making(world, 0, 5 * SECOND);
        for node in [0, 1] {
            let ticket = world.call(node, origin);
            assert_eq!(world.failure(ticket), RuntimeError::NotFound(origin), "it does not live yet");
        }
        assert_eq!(world.nodes[0].objects.constructed, 1);
        assert!(world.wait_for(spawned).is_ok());
        world.serves(origin, [0, 1]);
        world.run_for(SECOND);
        world.assert_nothing_left();
    });
}

#[test]
fn who_spawns_what_is_being_made_elsewhere_waits_for_what_becomes_of_it() {
    for members in [false, true] {
        for (one, other) in [(0, 1), (1, 0)] {
            in_world(World::new(1, 2), |world| {
                if members {
                    world.take_part();
                }
                let (origin, first) = in_the_making(world, one, 5 * SECOND / 4);
                let (_, second) = world.try_spawn(other, DAEMON, "prompt", HostConfig::default());
                assert_eq!(world.failure(second), RuntimeError::AlreadyRegistered(origin), "members {members}");
                assert!(world.wait_for(first).is_ok());
                assert_eq!(world.nodes[other].objects.constructed, 0, "members {members}");
                world.serves(origin, [0, 1]);
            });
        }
    }
}

#[test]
fn who_waits_for_a_spawn_that_fails_goes_on_at_once() {
    for (one, other) in [(0, 1), (1, 0)] {
        in_world(World::new(1, 2), |world| {
            world.nodes[one].objects.faults.construct_takes = Some(100 * SECOND);
            let config = HostConfig { callback_timeout: SECOND, ..HostConfig::default() };
            let (origin, first) = world.try_spawn(one, DAEMON, "prompt", config);
            world.run_for(SECOND / 2);
            let begun = world.now;
            let (_, second) = world.try_spawn(other, DAEMON, "prompt", HostConfig::default());
            assert!(world.wait_for(second).is_ok());
            assert!(world.now - begun < SECOND, "it was told: {:?}", world.now - begun);
            assert_eq!(world.failure(first), RuntimeError::CallbackTimeout(SECOND), "its object is not waited for");
            assert_eq!(world.hosting(origin), [other]);
        });
    }
}

/// A spawn that nobody answered in time, because the host is slow, and whose object takes as long as this.
fn unheard(world: &mut World, takes: Duration) -> Ticket {
    world.lag.insert(0, 5 * SECOND);
    world.nodes[1].objects.faults.construct_takes = Some(takes);
    let (_, ticket) = world.try_spawn(1, DAEMON, "prompt", HostConfig::default());
    world.run_for(3 * SECOND);
    assert_eq!(world.nodes[1].objects.constructed, 1, "it is being made");
    ticket
}

#[test]
fn a_spawn_that_hears_of_a_host_while_its_object_is_made_is_compared_with_it_then() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(0, DAEMON, "prompt");
        let spawned = unheard(world, 20 * SECOND);
        assert!(world.wait_for(spawned).is_ok());
        world.lag.clear();
        world.run_for(10 * SECOND);
        assert_eq!((world.hosts(origin).len(), world.fenced().len()), (1, 1));
        world.serves(origin, [0, 1]);
    });
}

/// Its place was promised before the spawn began.
#[test]
fn a_daemon_does_not_arrive_over_one_that_is_being_made() {
    in_world(World::new(1, 2), |world| {
        world.nodes[0].objects.faults.snapshot_takes = Some(10 * SECOND);
        let origin = world.spawn(0, DAEMON, "prompt");
        let ticket = world.migrate(0, origin, 1);
        let migration = world.migration(ticket).expect("it begins");
        world.run_for(SECOND / 10);
        let spawned = unheard(world, 50 * SECOND);
        assert_eq!(
            world.wait_migration(0, migration),
            Err(MigrationFailure::Refused(FailureReason::AlreadyMigrating, Outcome::Source))
        );
        assert_eq!((world.nodes[1].objects.constructed, world.hosting(origin)), (1, vec![0]));
        assert!(!world.is_answered(spawned));
        world.lag.clear();
        assert!(world.wait_for(spawned).is_ok());
        world.run_for(10 * SECOND);
        assert_eq!(world.hosts(origin).len(), 1);
    });
}
