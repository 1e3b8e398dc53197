//! Words to the driver of a move that change nothing: they come from another role than the one that may say them, or are about
//! another move.

use std::time::Duration;

use mesh_daemon_core::identity::{Epoch, MigrationId};
use mesh_daemon_core::wire::migration::{CopyState, MigrationMessage, MoveId};

use super::in_world;
use super::world::World;

const SOURCE: usize = 0;
const TARGET: usize = 1;
const DRIVER: usize = 2;
const FOURTH: usize = 3;
const SECOND: Duration = Duration::from_secs(1);

fn id(migration: MigrationId, attempt: u32) -> MoveId {
    MoveId { entity: World::daemon_key(1).entity_id(), migration, attempt, epoch: Epoch::FIRST }
}

fn sent(world: &World, message: &str) -> usize {
    world.messages.iter().filter(|(from, _, name)| (*from, *name) == (DRIVER, message)).count()
}

/// A move behind the word for the cutover whose driver does not hear the source.
fn unheard(world: &mut World) -> MigrationId {
    let origin = world.spawn(SOURCE, 1, "prompt");
    let ticket = world.drive(DRIVER, origin, SOURCE, TARGET);
    let migration = world.migration(ticket).expect("it begins");
    assert!(world.run_until(5 * SECOND, |world| sent(world, "CutoverNotify") == 1));
    world.mute = Some((SOURCE, DRIVER));
    migration
}

#[test]
fn only_the_target_of_that_move_says_that_it_is_ready_now() {
    in_world(World::open(1, 4).refusing(), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        world.restart_unready(TARGET);
        let ticket = world.drive(DRIVER, origin, SOURCE, TARGET);
        let migration = world.migration(ticket).expect("it begins");
        world.run_for(SECOND / 10);
        assert_eq!(sent(world, "Prepare"), 1, "and it was not ready");
        for from in [SOURCE, FOURTH] {
            world.forge(from, DRIVER, &MigrationMessage::NowReady { origin, migration });
        }
        let other = MigrationId::new(migration.get() ^ 1);
        world.forge(TARGET, DRIVER, &MigrationMessage::NowReady { origin, migration: other });
        world.run_for(SECOND / 10);
        assert_eq!(sent(world, "Prepare"), 1);
        world.make_ready(TARGET);
        assert_eq!(world.wait_migration(DRIVER, migration), Ok(()));
    });
}

#[test]
fn only_the_source_says_that_it_is_too_late_to_give_up() {
    in_world(World::open(1, 4).refusing(), |world| {
        let migration = unheard(world);
        let now = world.present();
        world.nodes[DRIVER].engine.abort_migration(migration, None, now);
        world.settle(DRIVER);
        for from in [TARGET, FOURTH] {
            world.forge(from, DRIVER, &MigrationMessage::TooLate { id: id(migration, 1) });
        }
        let cancelled = sent(world, "Cancel");
        assert!(world.run_until(20 * SECOND, |world| sent(world, "Cancel") > cancelled), "it is repeated");
        assert_eq!(sent(world, "CutoverNotify"), 1);
        world.forge(SOURCE, DRIVER, &MigrationMessage::TooLate { id: id(migration, 1) });
        assert!(world.run_until(20 * SECOND, |world| sent(world, "CutoverNotify") > 1), "it is to complete");
    });
}

#[test]
fn only_the_target_says_what_became_of_its_copy() {
    in_world(World::open(1, 4).refusing(), |world| {
        let migration = unheard(world);
        // What the target says arrives as late as a second after it was asked.
        world.lag.insert(TARGET, SECOND);
        assert!(world.run_until(200 * SECOND, |world| sent(world, "StatusQuery") == 1), "the target is asked");
        for from in [SOURCE, FOURTH] {
            for copy in [CopyState::Active, CopyState::Discarded] {
                world.forge(from, DRIVER, &MigrationMessage::StatusAnswer { id: id(migration, 1), copy });
            }
        }
        world.forge(
            TARGET,
            DRIVER,
            &MigrationMessage::StatusAnswer { id: id(migration, 2), copy: CopyState::Discarded },
        );
        assert!(!world.nodes[DRIVER].over.contains_key(&migration.get()));
    });
}

#[test]
fn a_target_that_is_at_work_does_not_speak_for_the_source() {
    use mesh_daemon_core::wire::migration::Stage;
    in_world(World::open(1, 4).refusing(), |world| {
        let migration = unheard(world);
        let status = MigrationMessage::Status {
            id: id(migration, 1),
            stage: Stage::Complete,
            bytes_sent: 1,
            bytes_total: 1,
            events: 1,
        };
        for _ in 0..30 {
            world.forge(TARGET, DRIVER, &status);
            world.run_for(5 * SECOND);
        }
        assert!(sent(world, "StatusQuery") > 0, "the source's silence is noticed all the same");
    });
}
