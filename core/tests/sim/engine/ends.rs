//! What the roles of a move are told of its end: when a runtime shuts down in the middle, and when it is called off.

use std::time::Duration;

use mesh_daemon_core::identity::{Epoch, MigrationId, OriginHash};
use mesh_daemon_core::migration::{MigrationFailure, Outcome};
use mesh_daemon_core::runtime::Role;
use mesh_daemon_core::wire::migration::{FailureReason, MigrationMessage, MoveId};

use super::in_world;
use super::world::World;

const SOURCE: usize = 0;
const TARGET: usize = 1;
const THIRD: usize = 2;

fn shut_down(world: &mut World, node: usize) {
    let now = world.present();
    world.nodes[node].engine.shutdown(now);
    world.settle(node);
}

/// Runs a move until this message is on its way.
fn until(world: &mut World, driver: usize, message: &'static str) -> (OriginHash, MigrationId) {
    let origin = world.spawn(SOURCE, 1, "prompt");
    let migration = world.driving(driver, origin, SOURCE, TARGET);
    let sent = |world: &World| world.messages.iter().any(|(.., name)| *name == message);
    assert!(world.run_until(Duration::from_secs(5), sent), "{message} is sent");
    (origin, migration)
}

fn cancelled(outcome: Outcome) -> Result<(), MigrationFailure> {
    Err(MigrationFailure::Refused(FailureReason::Cancelled, outcome))
}

#[test]
fn hazard_13_a_third_node_that_shuts_down_says_only_what_it_knows() {
    // The message that is on its way, what the driver says, and where the daemon is in the end.
    let steps = [
        ("Inquire", Outcome::Source, SOURCE),
        ("Prepare", Outcome::Source, SOURCE),
        ("TakeSnapshot", Outcome::Source, SOURCE),
        ("Reserve", Outcome::Source, SOURCE),
        ("RestoreComplete", Outcome::Source, SOURCE),
        ("CutoverNotify", Outcome::Unknown, TARGET),
        ("ActivateTarget", Outcome::Unknown, TARGET),
        ("ActivateAck", Outcome::Unknown, TARGET),
    ];
    for (message, outcome, host) in steps {
        in_world(World::open(1, 3), |world| {
            let (origin, migration) = until(world, THIRD, message);
            shut_down(world, THIRD);
            assert_eq!(world.wait_migration(THIRD, migration), cancelled(outcome), "{message}");
            // Well before any silence is over.
            world.run_for(Duration::from_secs(1));
            assert_eq!(world.hosting(origin), [host], "{message}");
            let ticket = world.call(TARGET, origin);
            world.outputs(ticket);
            world.assert_nothing_left();
        });
    }
}

/// What it asked of the source is unanswered: it may have given up and moved the daemon on since, and have said so.
#[test]
fn hazard_13_a_driver_that_shuts_down_while_its_move_is_ending_does_not_say_that_the_source_has_the_daemon() {
    for message in ["TakeSnapshot", "Reserve", "RestoreComplete"] {
        in_world(World::open(1, 3), |world| {
            let (origin, migration) = until(world, THIRD, message);
            world.mute = Some((SOURCE, THIRD));
            let now = world.present();
            world.nodes[THIRD].engine.abort_migration(migration, None, now);
            world.settle(THIRD);
            world.run_for(Duration::from_millis(100));
            assert!(!world.nodes[THIRD].over.contains_key(&migration.get()), "{message}: it is ending");
            shut_down(world, THIRD);
            assert_eq!(world.wait_migration(THIRD, migration), cancelled(Outcome::Unknown), "{message}");
            world.mute = None;
            world.run_for(Duration::from_secs(1));
            assert_eq!(world.hosting(origin), [SOURCE], "{message}");
            world.assert_nothing_left();
        });
    }
}

#[test]
fn hazard_13_a_source_that_shuts_down_takes_the_daemon_along_until_it_has_released_it() {
    let steps = [
        ("Prepare", Outcome::Lost),
        ("Reserve", Outcome::Lost),
        ("RestoreComplete", Outcome::Lost),
        ("ReplayComplete", Outcome::Lost),
        ("ActivateTarget", Outcome::Unknown),
        ("ActivateAck", Outcome::Unknown),
    ];
    for (message, outcome) in steps {
        in_world(World::open(1, 3), |world| {
            let (origin, migration) = until(world, SOURCE, message);
            shut_down(world, SOURCE);
            assert_eq!(world.wait_migration(SOURCE, migration), cancelled(outcome), "{message}");
            world.run_for(Duration::from_secs(1));
            match outcome {
                Outcome::Lost => assert_eq!(world.hosting(origin), [], "{message}"),
                _ => assert_eq!(world.hosting(origin), [TARGET], "{message}"),
            }
            for (role, failure) in &world.nodes[SOURCE].failed {
                assert_eq!(failure.outcome(), outcome, "{message}: as {role:?}");
            }
            assert!(world.nodes[SOURCE].open.is_empty());
        });
    }
}

#[test]
fn hazard_13_a_driver_elsewhere_learns_that_the_source_took_the_daemon_along() {
    for message in ["Reserve", "RestoreComplete", "CutoverNotify"] {
        in_world(World::open(1, 3), |world| {
            let (origin, migration) = until(world, THIRD, message);
            shut_down(world, SOURCE);
            let began = world.now;
            let result = world.wait_migration(THIRD, migration);
            assert!(world.now - began < Duration::from_secs(1), "{message}: it is told");
            let Err(MigrationFailure::Refused(FailureReason::PeerLost { node, .. }, outcome)) = result else {
                panic!("{message}: {result:?}");
            };
            assert_eq!((node, outcome), (Some(world.id(SOURCE)), Outcome::Lost), "{message}");
            assert_eq!(world.hosting(origin), []);
            world.run_for(Duration::from_secs(1));
            world.assert_nothing_left();
        });
    }
}

#[test]
fn whoever_watches_a_target_hears_the_end_of_a_move_that_was_called_off() {
    in_world(World::open(1, 3), |world| {
        for (round, message) in ["TakeSnapshot", "RestoreComplete"].into_iter().enumerate() {
            world.messages.clear();
            let seed = u8::try_from(round).expect("few") + 1;
            let origin = world.spawn(SOURCE, seed, "prompt");
            let migration = world.driving(SOURCE, origin, SOURCE, TARGET);
            // A source that drives says nothing to itself on the wire.
            let heard = if message == "TakeSnapshot" { "Prepared" } else { message };
            let sent = |world: &World| world.messages.iter().any(|(.., name)| *name == heard);
            assert!(world.run_until(Duration::from_secs(5), sent));
            let now = world.present();
            world.nodes[SOURCE].engine.abort_migration(migration, None, now);
            world.settle(SOURCE);
            assert_eq!(world.wait_migration(SOURCE, migration), cancelled(Outcome::Source));
            world.run_for(Duration::from_secs(1));
            let failure = MigrationFailure::Refused(FailureReason::Cancelled, Outcome::Source);
            assert_eq!(std::mem::take(&mut world.nodes[TARGET].failed), [(Role::Target, failure)], "{message}");
        }
        world.assert_nothing_left();
    });
}

#[test]
fn whoever_watches_a_target_hears_that_the_source_was_lost() {
    for (dead, outcome) in [(true, Outcome::Lost), (false, Outcome::Unknown)] {
        in_world(World::open(1, 3), |world| {
            until(world, SOURCE, "Reserved");
            if dead {
                world.restart(SOURCE);
            } else {
                world.cut(SOURCE, TARGET, Duration::from_millis(50));
            }
            world.run_for(Duration::from_secs(1));
            let lost = FailureReason::PeerLost {
                detail: format!("source {}", world.id(SOURCE)),
                node: Some(world.id(SOURCE)),
            };
            let failure = MigrationFailure::Refused(lost, outcome);
            assert_eq!(world.nodes[TARGET].failed, [(Role::Target, failure)]);
            world.assert_nothing_left();
        });
    }
}

#[test]
fn whoever_watches_a_target_hears_the_end_of_every_place_that_was_promised() {
    in_world(World::open(1, 3), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        let entity = World::daemon_key(1).entity_id();
        let source = world.id(SOURCE);
        for (from, migration) in [(THIRD, 1), (SOURCE, 2), (THIRD, 3), (THIRD, 4)] {
            let id = MoveId { entity, migration: MigrationId::new(migration), attempt: 1, epoch: Epoch::FIRST };
            let prepare =
                MigrationMessage::Prepare { id, kind: "prompt", source, transport_identity: true, state_bytes: 0 };
            world.forge(from, TARGET, &prepare);
        }
        assert!(!world.nodes[TARGET].open.is_empty());
        assert_eq!(world.driven(SOURCE, origin, SOURCE, TARGET), Ok(()));
        world.run_for(Duration::from_secs(100));
        assert_eq!(world.hosting(origin), [TARGET]);
        world.assert_nothing_left();
    });
}
