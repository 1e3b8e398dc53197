//! Single moves: states of every size, and daemons without state.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::runtime::RuntimeError;

use super::daemon::HANG;
use super::in_world;
use super::world::World;

#[test]
fn requirements_62_63_states_around_the_size_of_a_chunk_and_of_megabytes() {
    const CHUNK: usize = 60 * 1024;
    for ballast in [0, 1, CHUNK - 400, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, (1 << 20) - 8, 1 << 20, 5_000_000] {
        in_world(World::new(1, 2), |world| {
            world.nodes[0].objects.fresh.ballast = ballast;
            let origin = world.spawn(0, 1, "prompt");
            assert_eq!(world.moved(0, origin, 1), Ok(()));
            let ticket = world.call(0, origin);
            world.outputs(ticket);
            assert_eq!(world.ledger(origin).ballast, ballast);
            world.run_for(Duration::from_secs(1));
            world.assert_nothing_left();
        });
    }
}

#[test]
fn a_daemon_without_state_moves_with_its_chain() {
    in_world(World::new(1, 2), |world| {
        world.nodes[0].objects.fresh.stateless = true;
        let origin = world.spawn(0, 1, "prompt");
        let before = world.call(1, origin);
        world.outputs(before);
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        let (_, key) = world.hosts(origin)[0];
        let (stats, waiting) = world.nodes[1].engine.stats(key).expect("it lives here");
        assert_eq!((stats.events_processed, stats.events_emitted, waiting), (1, 1, 0), "its counters travel");
        assert_eq!(stats.snapshots_taken, 0);
        let after = world.call(0, origin);
        assert_eq!(world.outputs(after).1, 1, "a new object without state");
    });
}

#[test]
fn hazard_40_what_was_said_in_an_earlier_move_never_overwrites_a_newer_state() {
    in_world(World::new(1, 3), |world| {
        world.may_refuse = true;
        let origin = world.spawn(0, 1, "prompt");
        let first = world.call(2, origin);
        world.outputs(first);
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        let old = std::mem::take(&mut world.sent);
        assert!(old.iter().any(|message| message.name == "SnapshotReady"));
        let mut seen = 1;
        for (from, to) in [(1, 2), (2, 0), (0, 1)] {
            assert_eq!(world.moved(from, origin, to), Ok(()));
            let ticket = world.call(2, origin);
            seen += 1;
            assert_eq!(world.outputs(ticket).1, seen);
        }
        // The whole first move again, by those who made it, on the node that it led to and that hosts the daemon once more.
        for message in &old {
            world.intrude(message, message.from);
            world.run_for(Duration::from_millis(1));
        }
        world.run_for(Duration::from_secs(700));
        let ticket = world.call(0, origin);
        assert_eq!(world.outputs(ticket).1, seen + 1);
        assert_eq!(world.hosts(origin)[0].0, 1);
        world.assert_nothing_left();
        assert_eq!(world.moved(1, origin, 2), Ok(()));
    });
}

#[test]
fn requirement_77_time_is_measured_by_a_clock_that_nobody_sets() {
    const DAY: u64 = 86_400_000_000_000;
    // The same events, at the same instants, whatever the clock of the wall shows meanwhile.
    let run = |settings: [u64; 3]| {
        in_world(World::new(1, 2), |world| {
            world.nodes[0].objects.fresh.ballast = 3_000_000;
            let origin = world.spawn(0, 1, "prompt");
            for (round, setting) in settings.into_iter().enumerate() {
                let (from, to) = (round % 2, (round + 1) % 2);
                world.nodes[from].objects.faults.slices_take = Some(Duration::from_millis(200));
                let ticket = world.migrate(from, origin, to);
                world.run_for(Duration::from_millis(100));
                world.wall_clock = setting;
                let waiting: Vec<_> = (0..5).map(|_| world.call(to, origin)).collect();
                let migration = world.migration(ticket).expect("it begins");
                assert_eq!(world.wait_migration(from, migration), Ok(()));
                for ticket in waiting {
                    world.outputs(ticket);
                }
            }
            let hang = world.request(HANG, 0);
            let stuck = world.deliver(1, origin, hang);
            world.wall_clock = settings[0];
            assert!(matches!(world.failure(stuck), RuntimeError::CallbackTimeout(_)));
        })
    };
    let now = 1_700_000_000_000_000_000;
    let undisturbed = run([now; 3]);
    assert_eq!(run([now - 365 * DAY, DAY, now]), undisturbed, "set back");
    assert_eq!(run([now + 365 * DAY, u64::MAX / 2, now]), undisturbed, "set forward");
}

#[test]
fn a_daemon_that_is_on_its_way_here_is_not_spawned_here() {
    in_world(World::new(1, 2), |world| {
        world.nodes[0].objects.fresh.ballast = 100_000;
        world.nodes[0].objects.faults.slices_take = Some(Duration::from_secs(1));
        let origin = world.spawn(0, 1, "prompt");
        let ticket = world.migrate(0, origin, 1);
        let migration = world.migration(ticket).expect("it begins");
        world.run_for(Duration::from_millis(500));
        let spawned = world.try_spawn(1, 1, "prompt", HostConfig::default()).1;
        assert_eq!(world.nodes[1].engine.census().daemons, 0, "nothing was begun");
        assert_eq!(world.failure(spawned), RuntimeError::AlreadyRegistered(origin));
        assert_eq!(world.wait_migration(0, migration), Ok(()));
        let ticket = world.call(0, origin);
        assert_eq!(world.outputs(ticket).1, 1);
        world.run_for(Duration::from_secs(1));
        world.assert_nothing_left();
    });
}
