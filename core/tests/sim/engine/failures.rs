//! Moves that are refused, fail or are given up: the daemon goes on where it was, with every event.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::migration::{MigrationFailure, MigrationOptions, MigrationSettings, Outcome};
use mesh_daemon_core::runtime::{ArrivalPolicy, RuntimeError, RuntimeOptions, Settlement};
use mesh_daemon_core::wire::migration::FailureReason;

use super::daemon::HANG;
use super::in_world;
use super::world::World;

/// A move from node 0 to node 1 that fails for a reason; then one that succeeds.
fn fails(
    world: &mut World,
    spoil: impl Fn(&mut World),
    mend: impl Fn(&mut World),
    right: impl Fn(&FailureReason) -> bool,
) {
    let origin = world.spawn(0, 1, "prompt");
    for node in [0, 1] {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
    }
    spoil(world);
    match world.moved(0, origin, 1) {
        Err(MigrationFailure::Refused(reason, Outcome::Source)) if right(&reason) => {}
        other => panic!("{other:?}"),
    }
    world.run_for(Duration::from_secs(1));
    world.assert_nothing_left();
    for node in [0, 1] {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
    }
    assert_eq!(world.hosts(origin)[0].0, 0);
    mend(world);
    assert_eq!(world.moved(0, origin, 1), Ok(()), "hazard 25, requirement 50: an earlier failure is not told again");
    let ticket = world.call(0, origin);
    assert_eq!(world.outputs(ticket).1, 5);
}

#[test]
fn hazard_27_requirement_98_restore_fails_on_the_target() {
    in_world(World::new(1, 2), |world| {
        fails(
            world,
            |world| world.nodes[1].objects.faults.restore = true,
            |world| world.nodes[1].objects.faults.restore = false,
            |reason| matches!(reason, FailureReason::StateFailed { detail } if detail.contains("restore was told to fail")),
        );
    });
}

#[test]
fn the_factory_fails_on_the_target() {
    in_world(World::new(1, 2), |world| {
        fails(
            world,
            |world| world.nodes[1].objects.faults.construct = true,
            |world| world.nodes[1].objects.faults.construct = false,
            |reason| matches!(reason, FailureReason::StateFailed { detail } if detail.contains("factory")),
        );
    });
}

#[test]
fn hazard_31_snapshot_fails() {
    in_world(World::new(1, 2), |world| {
        fails(
            world,
            |world| world.nodes[0].objects.faults.snapshot = true,
            |world| world.nodes[0].objects.faults.snapshot = false,
            |reason| matches!(reason, FailureReason::StateFailed { detail } if detail.contains("snapshot was told")),
        );
    });
}

#[test]
fn hazard_70_the_buffer_of_the_snapshot_is_detached() {
    in_world(World::new(1, 2), |world| {
        fails(
            world,
            |world| world.nodes[0].objects.faults.detached = true,
            |world| world.nodes[0].objects.faults.detached = false,
            |reason| matches!(reason, FailureReason::StateFailed { detail } if detail.contains("detached")),
        );
    });
}

#[test]
fn hazard_70_the_buffer_of_the_snapshot_is_changed_while_it_is_read() {
    for (ballast, fails_so) in [(300_000, true), (5_000_000, true), (60_000, false)] {
        in_world(World::new(1, 2), |world| {
            world.nodes[0].objects.fresh.ballast = ballast;
            let origin = world.spawn(0, 1, "prompt");
            world.nodes[0].objects.faults.changed = true;
            match (world.moved(0, origin, 1), fails_so) {
                (Err(MigrationFailure::Refused(FailureReason::StateFailed { detail }, Outcome::Source)), true) => {
                    assert!(detail.contains("changed while it was read"), "{detail}");
                    world.nodes[0].objects.faults.changed = false;
                    let ticket = world.act(0, None, |engine, ticket, now| engine.snapshot(ticket, origin, now));
                    assert!(matches!(world.wait_for(ticket), Ok(Settlement::Snapshot(Some(_)))));
                    world.nodes[0].objects.faults.changed = true;
                    let ticket = world.act(0, None, |engine, ticket, now| engine.snapshot(ticket, origin, now));
                    match world.failure(ticket) {
                        RuntimeError::SnapshotFailed(thrown) => assert!(thrown.message.contains("changed")),
                        other => panic!("{other:?}"),
                    }
                    world.nodes[0].objects.faults.changed = false;
                    world.moved(0, origin, 1).expect("unchanged now");
                }
                // One slice is the state of one moment.
                (Ok(()), false) => {}
                (other, _) => panic!("{ballast} bytes: {other:?}"),
            }
            let ticket = world.call(1, origin);
            world.outputs(ticket);
            world.run_for(Duration::from_secs(1));
            world.assert_nothing_left();
        });
    }
}

#[test]
fn hazard_31_a_state_beyond_the_budget_of_the_target() {
    let settings = MigrationSettings { arrival_budget: 50_000, ..MigrationSettings::default() };
    let options = RuntimeOptions { arrivals: ArrivalPolicy::AnyKind, migration: settings, ..RuntimeOptions::default() };
    in_world(World::with_options(1, 2, |_| options.clone()), |world| {
        world.nodes[0].objects.fresh.ballast = 60_000;
        let origin = world.spawn(0, 1, "prompt");
        match world.moved(0, origin, 1) {
            Err(MigrationFailure::Refused(FailureReason::SnapshotTooLarge { size, max: 50_000 }, Outcome::Source)) => {
                assert!(size > 60_000);
            }
            other => panic!("{other:?}"),
        }
        let ticket = world.call(1, origin);
        world.outputs(ticket);
        world.run_for(Duration::from_secs(1));
        world.assert_nothing_left();
    });
}

#[test]
fn hazard_26_requirements_38_98_a_target_that_expects_nothing_has_no_factory() {
    let options = |_| RuntimeOptions::default();
    in_world(World::with_options(1, 2, options), |world| {
        let origin = world.spawn(0, 1, "prompt");
        assert!(matches!(
            world.moved(0, origin, 1),
            Err(MigrationFailure::Refused(FailureReason::FactoryNotFound { .. }, Outcome::Source))
        ));
        let now = world.present();
        world.nodes[1].engine.expect_migration("prompt", origin, HostConfig::default(), None).expect("announced");
        world.nodes[1].engine.tick(now);
        assert_eq!(world.moved(0, origin, 1), Ok(()));
    });
}

#[test]
fn hazards_30_38_requirement_36_targets_that_are_no_targets() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(0, 1, "prompt");
        assert_eq!(world.moved(0, origin, 0), Ok(()), "hazard 38: to itself");
        world.cut(0, 2, Duration::from_secs(50));
        world.run_for(Duration::from_millis(5));
        let target = world.id(2);
        assert_eq!(world.moved(0, origin, 2), Err(MigrationFailure::TargetUnavailable(target)));
        let unknown = World::daemon_key(7).origin_hash();
        assert_eq!(world.moved(0, unknown, 0), Err(MigrationFailure::DaemonNotFound(unknown)));
        let ticket = world.call(1, origin);
        assert_eq!(world.outputs(ticket).1, 1);
    });
}

#[test]
fn hazard_57_a_process_that_never_settles_undoes_the_freeze() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(0, 1, "slow");
        let hang = world.request(HANG, 0);
        let stuck = world.deliver(0, origin, hang);
        let behind = world.call(1, origin);
        match world.moved(0, origin, 1) {
            Err(MigrationFailure::Refused(FailureReason::Timeout { .. }, Outcome::Source)) => {}
            other => panic!("{other:?}"),
        }
        let (host, key) = world.hosts(origin)[0];
        assert_eq!(host, 0);
        world.let_go(0, key);
        assert_eq!(world.outputs(stuck).1, 1);
        assert_eq!(world.outputs(behind).1, 2);
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        world.run_for(Duration::from_secs(1));
        world.assert_nothing_left();
    });
}

#[test]
fn hazard_28_cancel_at_any_instant_leaves_one_copy_with_every_event() {
    for step in 0..60 {
        for timeout in [None, Some(Duration::from_millis(1))] {
            in_world(World::new(step, 2), |world| {
                world.nodes[0].objects.fresh.ballast = 150_000;
                let origin = world.spawn(0, 1, "slow");
                let tickets: Vec<_> = (0..20).map(|index| world.call(index % 2, origin)).collect();
                let ticket = world.migrate(0, origin, 1);
                let migration = world.migration(ticket).expect("it begins");
                world.run_for(Duration::from_micros(step * 150));
                let now = world.present();
                world.nodes[0].engine.abort_migration(migration, timeout, now);
                world.settle(0);
                let host = match world.wait_migration(0, migration) {
                    Ok(()) => 1,
                    Err(MigrationFailure::Refused(
                        FailureReason::Cancelled | FailureReason::Timeout { .. },
                        Outcome::Source,
                    )) => 0,
                    Err(other) => panic!("{other:?}"),
                };
                for ticket in tickets {
                    world.outputs(ticket);
                }
                world.run_for(Duration::from_secs(1));
                assert_eq!(world.hosts(origin)[0].0, host);
                assert_eq!(world.seen(origin).len(), 20);
                world.assert_nothing_left();
            });
        }
    }
}

#[test]
fn hazard_28_a_snapshot_that_comes_behind_the_end_of_its_move_is_released_and_what_waits_goes_on() {
    in_world(World::new(1, 2), |world| {
        world.nodes[0].objects.faults.snapshot_takes = Some(Duration::from_secs(1));
        let origin = world.spawn(0, 1, "prompt");
        let ticket = world.migrate(0, origin, 1);
        let migration = world.migration(ticket).expect("it begins");
        world.run_for(Duration::from_millis(500));
        let waiting = world.call(1, origin);
        let now = world.present();
        world.nodes[0].engine.abort_migration(migration, None, now);
        world.settle(0);
        assert!(world.wait_migration(0, migration).is_err());
        assert_eq!(world.outputs(waiting).1, 1);
        world.run_for(Duration::from_secs(1));
        world.assert_nothing_left();
    });
}

#[test]
fn hazard_39_two_moves_at_once() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(0, 1, "slow");
        let first = world.migrate(0, origin, 1);
        let second = world.migrate(0, origin, 2);
        let refused = MigrationFailure::Refused(FailureReason::AlreadyMigrating, Outcome::Source);
        assert_eq!(world.migration(second), Err(RuntimeError::Migration(refused)));
        let first = world.migration(first).expect("it begins");
        assert_eq!(world.wait_migration(0, first), Ok(()));
    });
}

#[test]
fn hazard_29_requirement_47_a_move_that_takes_more_than_two_minutes_is_waited_for() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(0, 1, "prompt");
        world.nodes[0].objects.faults.snapshot_takes = Some(Duration::from_secs(40));
        world.nodes[1].objects.faults.restore_takes = Some(Duration::from_secs(100));
        let began = world.now;
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        assert!(world.now - began >= Duration::from_secs(140));
    });
}

#[test]
fn hazard_29_a_move_whose_time_is_over_is_given_up_on_all_nodes() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(0, 1, "prompt");
        world.nodes[1].objects.faults.restore_takes = Some(Duration::from_secs(100));
        let ticket = world.migrate(0, origin, 1);
        let migration = world.migration(ticket).expect("it begins");
        let limit = Duration::from_secs(30);
        world.run_for(limit);
        let now = world.present();
        world.nodes[0].engine.abort_migration(migration, Some(limit), now);
        world.settle(0);
        let asked = world.now;
        match world.wait_migration(0, migration) {
            Err(MigrationFailure::Refused(FailureReason::Timeout { .. }, Outcome::Source)) => {}
            other => panic!("{other:?}"),
        }
        assert!(world.now - asked < Duration::from_secs(1), "the slow restore is not waited for");
        world.run_for(Duration::from_secs(1));
        world.assert_nothing_left();
        assert_eq!(world.hosts(origin)[0].0, 0);
        world.nodes[1].objects.faults.restore_takes = None;
        assert_eq!(world.moved(0, origin, 1), Ok(()));
    });
}

#[test]
fn requirement_37_moves_without_the_key() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let options = MigrationOptions { transport_identity: false, ..MigrationOptions::default() };
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            let ticket = world.migrate_with(from, origin, to, options);
            let migration = world.migration(ticket).expect("it begins");
            assert_eq!(world.wait_migration(from, migration), Ok(()));
            world.run_for(Duration::from_millis(5));
            let ticket = world.call((to + 1) % 3, origin);
            world.outputs(ticket);
        }
    });
}

#[test]
fn hazard_26_requirements_39_40_44_a_target_that_is_not_ready_is_asked_again() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(0, 1, "prompt");
        world.restart_unready(1);
        let none = MigrationOptions { retry_not_ready: Duration::ZERO, ..MigrationOptions::default() };
        let ticket = world.migrate_with(0, origin, 1, none);
        let migration = world.migration(ticket).expect("it begins");
        let refused = Err(MigrationFailure::Refused(FailureReason::NotReady, Outcome::Source));
        assert_eq!(world.wait_migration(0, migration), refused, "no retry: at once");
        match world.moved(0, origin, 1) {
            Err(MigrationFailure::NotReadyTimeout { attempts }) => assert!(attempts > 4, "{attempts}"),
            other => panic!("{other:?}"),
        }
        let ticket = world.migrate(0, origin, 1);
        let migration = world.migration(ticket).expect("it begins");
        world.run_for(Duration::from_secs(2));
        assert!(!world.nodes[0].over.contains_key(&migration.get()));
        world.make_ready(1);
        let asked = world.now;
        assert_eq!(world.wait_migration(0, migration), Ok(()));
        assert!(world.now - asked < Duration::from_millis(100), "a target that becomes ready says so");
    });
}
