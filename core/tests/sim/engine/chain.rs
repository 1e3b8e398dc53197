//! The messages of a move that a third node drives: who sends which to whom, what they carry, and that each one's repetition
//! changes nothing.

use std::time::Duration;

use mesh_daemon_core::identity::{Epoch, OriginHash};
use mesh_daemon_core::migration::{MigrationFailure, MigrationOptions, Outcome};
use mesh_daemon_core::runtime::{Census, Role};
use mesh_daemon_core::wire::migration::{FailureReason, MigrationMessage, MoveId, Stage};
use mesh_daemon_core::wire::{Subprotocol, codec};

use super::in_world;
use super::world::{How, Meddler, Sent, World};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const THIRD: usize = 2;

/// Routes on which a message was sent.
fn routes(world: &World, name: &str) -> Vec<(usize, usize)> {
    world.sent.iter().filter(|sent| sent.name == name).map(|sent| (sent.from, sent.to)).collect()
}

/// The messages of a name that were sent.
fn said<'a>(world: &'a World, name: &'a str) -> impl Iterator<Item = (&'a Sent, MigrationMessage<'a>)> {
    world.sent.iter().filter(move |sent| sent.name == name).map(|sent| {
        // On the bulk lane a message has its length before it.
        let from = if sent.record.subprotocol == Subprotocol::Migration { 0 } else { 8 };
        (sent, codec::decode(&sent.record.body[from..]).expect("nodes send what they can read"))
    })
}

fn lives_alone(world: &mut World, origin: OriginHash, host: usize) {
    world.run_for(Duration::from_secs(5));
    let ticket = world.call(THIRD, origin);
    world.outputs(ticket);
    assert_eq!(world.hosting(origin), [host]);
    world.assert_nothing_left();
}

#[test]
fn requirements_57_58_60_61_each_message_goes_to_the_role_that_it_is_for() {
    in_world(World::open(1, 3).refusing(), |world| {
        world.nodes[SOURCE].objects.fresh.ballast = 300_000;
        let origin = world.spawn(SOURCE, 1, "prompt");
        let ticket = world.call(SOURCE, origin);
        world.outputs(ticket);
        assert_eq!(world.driven(THIRD, origin, SOURCE, TARGET), Ok(()));
        lives_alone(world, origin, TARGET);
        assert_eq!(routes(world, "CutoverNotify"), [(THIRD, SOURCE)], "requirement 57: to the source alone");
        assert_eq!(routes(world, "TakeSnapshot"), [(THIRD, SOURCE)]);
        for name in ["Chunk", "SnapshotReady", "ActivateTarget"] {
            let routes = routes(world, name);
            assert!(!routes.is_empty(), "{name}");
            assert!(routes.iter().all(|route| *route == (SOURCE, TARGET)), "requirement 58: {name} {routes:?}");
        }
        let mut told = routes(world, "CleanupComplete");
        told.sort_unstable();
        assert_eq!(told, [(SOURCE, TARGET), (SOURCE, THIRD)], "requirement 60: the recorded driver and the target");
    });
}

#[test]
fn requirement_61_a_driver_without_the_daemon_takes_the_head_that_the_source_shipped() {
    in_world(World::open(1, 3).refusing(), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        for _ in 0..3 {
            let ticket = world.call(SOURCE, origin);
            world.outputs(ticket);
        }
        assert_eq!(world.driven(THIRD, origin, SOURCE, TARGET), Ok(()));
        let mut heads = Vec::new();
        for (sent, message) in said(world, "ReplayComplete").filter(|(sent, _)| sent.to == THIRD) {
            let MigrationMessage::ReplayComplete { head, .. } = message else { panic!("{sent:?}") };
            heads.push(head);
        }
        assert!(!heads.is_empty() && heads.iter().all(|head| *head == 3), "{heads:?}");
        lives_alone(world, origin, TARGET);
    });
}

#[test]
fn requirement_75_where_nothing_waited_an_empty_batch_is_sent_and_the_chain_goes_on() {
    in_world(World::open(1, 3).refusing(), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        assert_eq!(world.driven(THIRD, origin, SOURCE, TARGET), Ok(()));
        let mut batches = Vec::new();
        for (sent, message) in said(world, "BufferedEvents") {
            let MigrationMessage::BufferedEvents { items, total, .. } = message else { panic!("{sent:?}") };
            batches.push((items.len(), total));
        }
        assert!(batches.iter().all(|(items, _)| *items == 0), "{batches:?}");
        assert_eq!(batches.last(), Some(&(0, Some(0))), "{batches:?}");
        lives_alone(world, origin, TARGET);
    });
}

#[test]
fn requirement_59_a_repeated_start_and_a_repeated_snapshot_are_one() {
    for message in ["Prepare", "TakeSnapshot", "SnapshotReady"] {
        in_world(World::open(1, 3).refusing(), |world| {
            let origin = world.spawn(SOURCE, 1, "prompt");
            world.meddler = Some(Meddler { message, nth: 0, how: How::Duplicate });
            let first = world.drive(THIRD, origin, SOURCE, TARGET);
            let again = world.drive(THIRD, origin, SOURCE, TARGET);
            let failure = world.failure(again).to_string();
            assert!(failure.contains("already"), "{failure}");
            let migration = world.migration(first).expect("it begins");
            assert_eq!(world.wait_migration(THIRD, migration), Ok(()));
            assert_eq!(world.meddled, 1, "{message}");
            assert_eq!(world.nodes[TARGET].objects.constructed, 1, "{message}: built once");
            lives_alone(world, origin, TARGET);
        });
    }
}

#[test]
fn requirement_95_a_snapshot_that_comes_again_behind_the_restore_is_not_restored_again() {
    in_world(World::open(1, 3).refusing(), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        world.meddler = Some(Meddler { message: "CutoverNotify", nth: 0, how: How::Delay(Duration::from_secs(2)) });
        let migration = world.driving(THIRD, origin, SOURCE, TARGET);
        world.run_for(Duration::from_secs(1));
        let seal = world.sent.iter().find(|sent| sent.name == "SnapshotReady").cloned().expect("it was sent");
        for _ in 0..3 {
            world.intrude(&seal, SOURCE);
            world.run_for(Duration::from_millis(10));
        }
        assert_eq!(world.nodes[TARGET].objects.constructed, 1);
        assert_eq!(world.wait_migration(THIRD, migration), Ok(()));
        assert_eq!(world.nodes[TARGET].objects.constructed, 1);
        lives_alone(world, origin, TARGET);
    });
}

#[test]
fn requirement_97_a_word_to_go_live_before_the_restore_brings_nothing_to_life() {
    for message in ["Reserve", "SnapshotReady", "RestoreComplete"] {
        in_world(World::open(1, 3).refusing(), |world| {
            let origin = world.spawn(SOURCE, 1, "prompt");
            world.meddler = Some(Meddler { message, nth: 0, how: How::Delay(Duration::from_secs(2)) });
            let migration = world.driving(THIRD, origin, SOURCE, TARGET);
            world.run_for(Duration::from_secs(1));
            assert_eq!(world.meddled, 1, "{message}");
            let entity = World::daemon_key(1).entity_id();
            let id = MoveId { entity, migration, attempt: 1, epoch: Epoch::FIRST };
            world.forge(SOURCE, TARGET, &MigrationMessage::ActivateTarget { id, claim: b"no claim" });
            assert_eq!(world.hosting(origin), [SOURCE], "{message}");
            assert_eq!(world.wait_migration(THIRD, migration), Ok(()), "{message}");
            lives_alone(world, origin, TARGET);
        });
    }
}

#[test]
fn requirement_64_a_local_source_buffers_through_its_own_machine_and_hands_all_of_it_over() {
    in_world(World::open(1, 3).refusing(), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        world.meddler = Some(Meddler { message: "Reserve", nth: 0, how: How::Delay(Duration::from_secs(2)) });
        let ticket = world.migrate(SOURCE, origin, TARGET);
        let migration = world.migration(ticket).expect("it begins");
        world.run_for(Duration::from_secs(1));
        let roles: Vec<_> = world.nodes[SOURCE].engine.migrations().into_iter().map(|part| part.0).collect();
        assert!(roles.contains(&Role::Source) && roles.contains(&Role::Orchestrator), "{roles:?}");
        let waiting: Vec<_> = (0..7).map(|_| world.call(SOURCE, origin)).collect();
        world.run_for(Duration::from_millis(100));
        assert!(waiting.iter().all(|ticket| !world.is_answered(*ticket)), "they wait in the frozen mailbox");
        assert_eq!(world.wait_migration(SOURCE, migration), Ok(()));
        for (index, ticket) in waiting.into_iter().enumerate() {
            assert_eq!(world.outputs(ticket).1, index as u64 + 1, "in order, each once");
        }
        lives_alone(world, origin, TARGET);
    });
}

/// All that a node counts, but for what only grows.
fn counted(world: &World) -> Vec<(Census, usize)> {
    let engines = world.nodes.iter().map(|node| &node.engine);
    engines.map(|engine| (Census { peak_state_bytes: 0, ..engine.census() }, engine.kept_addresses())).collect()
}

#[test]
fn requirements_33_65_91_a_move_that_was_given_up_leaves_no_record_on_any_node_and_bars_no_later_one() {
    // Those that go to the source: sessions keep their order, and a cancel does not overtake the others.
    for (message, members) in [("Reserved", false), ("Reserved", true), ("RestoreComplete", false)] {
        in_world(World::open(1, 3).refusing(), |world| {
            if members {
                world.take_part();
            }
            let origin = world.spawn(SOURCE, 1, "prompt");
            // To the target, back, and again: what is given up follows a move that was completed.
            assert_eq!(world.driven(THIRD, origin, SOURCE, TARGET), Ok(()));
            assert_eq!(world.driven(THIRD, origin, TARGET, SOURCE), Ok(()));
            lives_alone(world, origin, SOURCE);
            world.run_for(Duration::from_secs(5));
            let before = counted(world);
            world.meddler = Some(Meddler { message, nth: 0, how: How::Delay(Duration::from_secs(1)) });
            let migration = world.driving(THIRD, origin, SOURCE, TARGET);
            world.run_for(Duration::from_millis(500));
            assert_eq!(world.meddled, 1, "{message}");
            assert!(counted(world).iter().all(|(census, _)| census.migrations == 1), "{message}: all three count it");
            let now = world.present();
            world.nodes[THIRD].engine.abort_migration(migration, None, now);
            world.settle(THIRD);
            let cancelled = Err(MigrationFailure::Refused(FailureReason::Cancelled, Outcome::Source));
            assert_eq!(world.wait_migration(THIRD, migration), cancelled, "{message}");
            lives_alone(world, origin, SOURCE);
            world.run_for(Duration::from_secs(5));
            assert_eq!(counted(world), before, "{message}: nothing of it is anywhere");
            assert!(world.nodes.iter().all(|node| node.engine.migrations().is_empty()), "{message}");
            assert!(world.nodes.iter().all(|node| node.engine.migration_phase(origin).is_none()), "{message}");
            assert_eq!(world.driven(THIRD, origin, SOURCE, TARGET), Ok(()), "{message}");
            lives_alone(world, origin, TARGET);
        });
    }
}

#[test]
fn requirement_51_a_shutdown_takes_the_memory_of_failures_along() {
    in_world(World::open(1, 3).refusing(), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        world.nodes[TARGET].objects.faults.restore = true;
        assert!(world.driven(THIRD, origin, SOURCE, TARGET).is_err());
        world.nodes[TARGET].objects.faults.restore = false;
        let now = world.present();
        world.nodes[THIRD].engine.shutdown(now);
        world.settle(THIRD);
        assert!(world.nodes[THIRD].engine.migrations().is_empty());
        assert_eq!(world.driven(SOURCE, origin, SOURCE, TARGET), Ok(()));
    });
}

#[test]
fn requirements_32_49_a_third_node_drives_a_move_without_the_key() {
    in_world(World::open(1, 3).refusing(), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        let (source, target) = (world.id(SOURCE), world.id(TARGET));
        let options = MigrationOptions { transport_identity: false, ..MigrationOptions::default() };
        let ticket = world.act(THIRD, None, |engine, ticket, now| {
            engine.start_migration(ticket, origin, Some(source), target, options, now)
        });
        let migration = world.migration(ticket).expect("it begins");
        assert_eq!(world.wait_migration(THIRD, migration), Ok(()));
        let mut seals = 0;
        for (sent, message) in said(world, "SnapshotReady") {
            let MigrationMessage::SnapshotReady { id, envelope, .. } = message else { panic!("{sent:?}") };
            assert_eq!(id.entity.origin_hash(), origin, "requirement 32: what was asked for");
            assert!(envelope.is_none(), "no key travels");
            seals += 1;
        }
        assert_eq!(seals, 1);
        lives_alone(world, origin, TARGET);
    });
}

#[test]
fn requirement_76_a_remote_driver_sees_each_phase_from_the_transfer_on() {
    // There is no superposition here: what a driver elsewhere resolves is the phase that the source reports.
    in_world(World::open(1, 3).refusing(), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        for (message, phase) in [("Reserve", Stage::Transfer), ("SnapshotReady", Stage::Restore)] {
            world.meddler = Some(Meddler { message, nth: 0, how: How::Delay(Duration::from_secs(2)) });
            let (from, to) = if world.hosts(origin)[0].0 == SOURCE { (SOURCE, TARGET) } else { (TARGET, SOURCE) };
            let migration = world.driving(THIRD, origin, from, to);
            world.run_for(Duration::from_secs(1));
            assert_eq!(world.nodes[THIRD].phases[&migration.get()].last(), Some(&phase));
            assert_eq!(world.wait_migration(THIRD, migration), Ok(()));
            world.run_for(Duration::from_secs(1));
        }
    });
}

#[test]
fn requirements_84_85_a_transfer_that_breaks_off_leaves_no_bytes_and_its_driver_is_free_for_another_target() {
    type Fail = fn(&mut World);
    let fails: [(&str, Fail); 3] = [
        ("the target's runtime ends", |world| {
            let now = world.present();
            world.nodes[TARGET].engine.shutdown(now);
            world.settle(TARGET);
        }),
        ("the target restarts", |world| world.restart(TARGET)),
        ("the source cannot read on", |world| world.nodes[SOURCE].objects.faults.detached = true),
    ];
    for (how, fail) in fails {
        in_world(World::open(1, 3).refusing(), |world| {
            world.nodes[SOURCE].objects.faults.slices_take = Some(Duration::from_millis(50));
            world.nodes[SOURCE].objects.fresh.ballast = 5_000_000;
            let origin = world.spawn(SOURCE, 1, "prompt");
            let migration = world.driving(THIRD, origin, SOURCE, TARGET);
            let arriving = |world: &World| world.nodes[TARGET].engine.census().arriving_bytes;
            let chunks = |world: &World| world.sent.iter().filter(|sent| sent.name == "Chunk").count();
            assert!(world.run_until(Duration::from_secs(5), |world| chunks(world) > 5), "{how}");
            assert!(arriving(world) > 0 && world.sent.iter().all(|sent| sent.name != "SnapshotReady"), "{how}");
            fail(world);
            match world.wait_migration(THIRD, migration) {
                Err(failure) => assert_eq!(failure.outcome(), Outcome::Source, "{how}: {failure}"),
                Ok(()) => panic!("{how}, and it completed"),
            }
            world.run_for(Duration::from_secs(1));
            assert_eq!(arriving(world), 0, "requirement 84: {how}");
            world.nodes[SOURCE].objects.faults.detached = false;
            assert_eq!(world.driven(THIRD, origin, SOURCE, THIRD), Ok(()), "requirement 85: {how}");
            lives_alone(world, origin, THIRD);
        });
    }
}
