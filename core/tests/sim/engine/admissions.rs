//! Questions to a target and a source that come again, too often, or when something else has happened meanwhile.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::identity::{EntityId, EntityKeypair, Epoch, MigrationId};
use mesh_daemon_core::runtime::{ArrivalPolicy, RuntimeOptions};
use mesh_daemon_core::wire::migration::{MigrationMessage, MoveId};

use super::in_world;
use super::world::{NEVER, World, numbered_key};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const THIRD: usize = 2;
const SECOND: Duration = Duration::from_secs(1);
/// Most orchestrators that wait for a node, and most daemons that one of them is promised a place for.
const MOST_EARLY: usize = 4096;
const MOST_PROMISED: u32 = 1024;

fn move_id(entity: EntityId, migration: u128, attempt: u32) -> MoveId {
    MoveId { entity, migration: MigrationId::new(migration), attempt, epoch: Epoch::FIRST }
}

/// A node asks the target for a place for a daemon that it says it hosts.
fn ask_for_place(world: &mut World, by: usize, id: MoveId) {
    let source = world.id(by);
    let prepare = MigrationMessage::Prepare { id, kind: "prompt", source, transport_identity: true, state_bytes: 0 };
    world.forge(by, TARGET, &prepare);
}

/// How often the target said this to a node.
fn told(world: &World, to: usize, name: &'static str) -> usize {
    world.messages.iter().filter(|message| **message == (TARGET, to, name)).count()
}

#[test]
fn those_who_would_move_a_daemon_on_that_has_not_wholly_arrived_are_so_many_at_most() {
    in_world(World::open(1, 3), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        world.broken_move(SOURCE, origin, TARGET, "ActivateAck", NEVER);
        assert_eq!(world.hosting(origin), [TARGET]);
        let target = world.id(THIRD);
        for number in 0..MOST_EARLY as u128 + 5 {
            let migration = MigrationId::new(number);
            let inquire = MigrationMessage::Inquire { origin, migration, attempt: 1, target, transport_identity: true };
            world.forge(THIRD, TARGET, &inquire);
        }
        world.run_for(SECOND);
        assert_eq!(told(world, THIRD, "Declined"), 5);
    });
}

#[test]
fn those_who_ask_a_node_that_is_not_ready_are_called_back_and_are_so_many_at_most() {
    for (asked, called) in [(5, 5), (MOST_EARLY + 5, MOST_EARLY)] {
        in_world(World::open(1, 3), |world| {
            world.restart_unready(TARGET);
            world.run_for(SECOND);
            for number in 0..asked as u32 {
                let id = move_id(numbered_key(number).entity_id(), u128::from(number), 1);
                ask_for_place(world, THIRD, id);
                ask_for_place(world, THIRD, id);
            }
            world.make_ready(TARGET);
            world.run_for(SECOND);
            assert_eq!(told(world, THIRD, "NowReady"), called, "each of them once");
        });
    }
}

#[test]
fn so_many_orchestrators_at_most_are_promised_a_place_for_one_daemon() {
    in_world(World::open(1, 20), |world| {
        let entity = World::daemon_key(1).entity_id();
        for by in (0..20).filter(|by| *by != TARGET) {
            ask_for_place(world, by, move_id(entity, by as u128, 1));
        }
        assert_eq!(world.nodes[TARGET].engine.census().migrations, 17, "the newest, and sixteen others");
        world.run_for(SECOND);
        let declined = world.messages.iter().filter(|message| message.2 == "MigrationFailed").count();
        assert_eq!(declined, 2);
    });
}

#[test]
fn who_was_promised_as_much_as_may_be_still_hears_of_what_it_was_promised() {
    in_world(World::open(1, 3), |world| {
        let id = |number: u32, attempt| move_id(numbered_key(number).entity_id(), u128::from(number), attempt);
        for number in 0..=MOST_PROMISED {
            ask_for_place(world, THIRD, id(number, 1));
        }
        world.run_for(SECOND);
        let all = MOST_PROMISED as usize;
        assert_eq!((told(world, THIRD, "Prepared"), told(world, THIRD, "MigrationFailed")), (all, 1));
        // It tries again, and is not in its own way.
        ask_for_place(world, THIRD, id(7, 2));
        world.run_for(SECOND);
        assert_eq!((told(world, THIRD, "Prepared"), told(world, THIRD, "MigrationFailed")), (all + 1, 1));
    });
}

#[test]
fn places_for_daemons_that_were_announced_count_against_nobody() {
    in_world(World::open(1, 3), |world| {
        for number in 0..MOST_PROMISED {
            let origin = numbered_key(number).origin_hash();
            let target = &mut world.nodes[TARGET].engine;
            target.expect_migration("prompt", origin, HostConfig::default(), None).expect("announced");
            ask_for_place(world, THIRD, move_id(numbered_key(number).entity_id(), 1, 1));
        }
        ask_for_place(world, THIRD, move_id(World::daemon_key(1).entity_id(), 1, 1));
        world.run_for(SECOND);
        assert_eq!(told(world, THIRD, "Prepared"), MOST_PROMISED as usize + 1);
    });
}

#[test]
fn a_daemon_of_another_kind_than_was_announced_does_not_come() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        let target = &mut world.nodes[TARGET].engine;
        target.expect_migration("slow", origin, HostConfig::default(), None).expect("announced");
        assert!(world.moved(SOURCE, origin, TARGET).is_err());
        assert_eq!(world.hosting(origin), [SOURCE]);
    });
}

#[test]
fn what_is_announced_is_not_spawned_and_what_lives_is_not_announced() {
    in_world(World::new(1, 1), |world| {
        let key = World::daemon_key(1);
        let expect = |world: &mut World, key: &EntityKeypair| {
            let engine = &mut world.nodes[0].engine;
            engine.expect_migration("prompt", key.origin_hash(), HostConfig::default(), None)
        };
        expect(world, &key).expect("announced");
        let (_, ticket) = world.try_spawn(0, 1, "prompt", HostConfig::default());
        assert!(world.wait_for(ticket).is_err());
        world.spawn(0, 2, "prompt");
        assert!(expect(world, &World::daemon_key(2)).is_err());
    });
}

/// The policy of the target takes its time.
#[test]
fn a_place_that_the_policy_grants_too_late_is_not_given_beside_a_daemon_that_was_spawned() {
    let options = |_| RuntimeOptions { arrivals: ArrivalPolicy::Ask, ..RuntimeOptions::default() };
    in_world(World::with_options(1, 3, options), |world| {
        world.nodes[TARGET].policy_is_silent = true;
        ask_for_place(world, THIRD, move_id(World::daemon_key(1).entity_id(), 1, 1));
        let question = world.nodes[TARGET].questions[0];
        let origin = world.spawn(TARGET, 1, "prompt");
        let now = world.present();
        world.nodes[TARGET].engine.admitted(question, true, now);
        world.settle(TARGET);
        world.run_for(SECOND);
        assert_eq!((told(world, THIRD, "Prepared"), told(world, THIRD, "MigrationFailed")), (0, 1));
        assert_eq!(world.moved(TARGET, origin, SOURCE), Ok(()), "nothing keeps it there");
    });
}
