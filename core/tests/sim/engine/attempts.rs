//! Words to the source and the target of a move from those who take part in it, about another attempt, another move or another
//! epoch: they change nothing, at whatever step they come.

use std::time::Duration;

use mesh_daemon_core::identity::{Epoch, MigrationId, NodeId, OriginHash};
use mesh_daemon_core::runtime::Role;
use mesh_daemon_core::wire::codec;
use mesh_daemon_core::wire::migration::{CopyState, FailureReason, MigrationMessage, MoveId, Stage};

use super::in_world;
use super::world::{How, Meddler, World};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const DRIVER: usize = 2;
const FOURTH: usize = 3;
const SECOND: Duration = Duration::from_secs(1);

/// A move whose message of this name is on its way for a second.
fn held_at(world: &mut World, message: &'static str) -> (OriginHash, MoveId) {
    let origin = world.spawn(SOURCE, 1, "prompt");
    for node in 0..4 {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
    }
    world.meddler = Some(Meddler { message, nth: 0, how: How::Delay(SECOND) });
    let ticket = world.drive(DRIVER, origin, SOURCE, TARGET);
    assert!(world.run_until(SECOND, |world| world.meddled == 1), "{message} was sent");
    let migration = world.migration(ticket).expect("it began");
    // What was sent before has arrived.
    world.run_for(SECOND / 100);
    let entity = World::daemon_key(1).entity_id();
    (origin, MoveId { entity, migration, attempt: 1, epoch: Epoch::FIRST })
}

fn others(id: MoveId) -> [MoveId; 3] {
    [
        MoveId { attempt: id.attempt + 1, ..id },
        MoveId { migration: MigrationId::new(id.migration.get() ^ 1), ..id },
        MoveId { epoch: Epoch::new(id.epoch.get() + 1), ..id },
    ]
}

type Part = (Role, OriginHash, NodeId, NodeId, Option<Stage>, u32);

/// What source and target make of the move, and where the daemon lives.
fn stand(world: &World, origin: OriginHash) -> (Vec<Vec<Part>>, Vec<usize>) {
    let parts = [SOURCE, TARGET].map(|node| world.nodes[node].engine.migrations());
    (parts.to_vec(), world.hosts(origin).into_iter().map(|(node, _)| node).collect())
}

fn changes_nothing(world: &mut World, origin: OriginHash, from: usize, to: usize, message: &MigrationMessage<'_>) {
    let before = stand(world, origin);
    world.forge(from, to, message);
    assert_eq!(stand(world, origin), before, "{message:?} from n{from} to n{to}");
}

fn completes(world: &mut World, origin: OriginHash, id: MoveId) {
    assert_eq!(world.wait_migration(DRIVER, id.migration), Ok(()));
    world.run_for(SECOND);
    assert_eq!(stand(world, origin).1, [TARGET]);
    for node in 0..4 {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
    }
    world.run_for(100 * SECOND);
    world.assert_nothing_left();
}

const STEPS: [&str; 12] = [
    "TakeSnapshot",
    "Reserve",
    "Reserved",
    "Chunk",
    "SnapshotReady",
    "RestoreComplete",
    "BufferedEvents",
    "ReplayComplete",
    "CutoverNotify",
    "ActivateTarget",
    "ActivateAck",
    "CleanupComplete",
];

fn failed<'a>(id: MoveId) -> MigrationMessage<'a> {
    MigrationMessage::MigrationFailed { id, reason: FailureReason::Cancelled }
}

/// What a target tells its source.
fn of_target<'a>(id: MoveId) -> Vec<MigrationMessage<'a>> {
    let answers = [CopyState::Active, CopyState::Undecided, CopyState::Discarded, CopyState::Gone];
    let mut said = vec![
        MigrationMessage::Reserved { id },
        MigrationMessage::RestoreComplete { id },
        MigrationMessage::ReplayComplete { id, staged: 0, head: 0, complete: true },
        MigrationMessage::ActivateAck { id },
        failed(id),
    ];
    said.extend(answers.map(|copy| MigrationMessage::StatusAnswer { id, copy }));
    said
}

/// What a source tells its target.
fn of_source<'a>(id: MoveId) -> Vec<MigrationMessage<'a>> {
    let answers = [CopyState::Active, CopyState::Undecided, CopyState::Discarded, CopyState::Gone];
    let (streams, items, marks) = (Vec::new(), Vec::new(), Vec::new());
    let mut said = vec![
        MigrationMessage::Chunk { id, index: 0, total: 1, bytes: b"x" },
        MigrationMessage::SnapshotReady { id, digest: [0; 32], signature: [0; 64], envelope: None },
        MigrationMessage::BufferedEvents { id, first: 0, streams, items, total: Some(0), marks, ledger: Some(b"") },
        MigrationMessage::ActivateTarget { id, claim: b"" },
        MigrationMessage::CleanupComplete { id },
        failed(id),
    ];
    said.extend(answers.map(|copy| MigrationMessage::StatusAnswer { id, copy }));
    said
}

/// What a driver tells both.
fn of_driver<'a>(id: MoveId) -> Vec<MigrationMessage<'a>> {
    vec![
        MigrationMessage::CutoverNotify { id },
        MigrationMessage::Cancel { id, reason: FailureReason::Cancelled },
        failed(id),
    ]
}

#[test]
fn hazard_33_what_is_said_of_another_attempt_changes_nothing_at_any_step() {
    for step in STEPS {
        in_world(World::open(1, 4).refusing(), |world| {
            let (origin, id) = held_at(world, step);
            for other in others(id) {
                for said in of_target(other) {
                    changes_nothing(world, origin, TARGET, SOURCE, &said);
                }
                for said in of_source(other) {
                    changes_nothing(world, origin, SOURCE, TARGET, &said);
                }
                for said in of_driver(other) {
                    changes_nothing(world, origin, DRIVER, SOURCE, &said);
                    changes_nothing(world, origin, DRIVER, TARGET, &said);
                }
            }
            completes(world, origin, id);
        });
    }
}

#[test]
fn hazard_33_room_is_reserved_by_the_source_for_the_move_that_was_agreed_to() {
    in_world(World::open(1, 4).refusing(), |world| {
        let (origin, id) = held_at(world, "Reserve");
        let sent = world.sent.iter().find(|sent| sent.name == "Reserve").expect("it is on its way").record.body.clone();
        let Ok(MigrationMessage::Reserve { total, claim, orchestrator, .. }) = codec::decode(&sent) else {
            panic!("a reservation");
        };
        for id in others(id) {
            changes_nothing(
                world,
                origin,
                SOURCE,
                TARGET,
                &MigrationMessage::Reserve { id, total, claim, orchestrator },
            );
        }
        let said = MigrationMessage::Reserve { id, total, claim, orchestrator };
        for from in [DRIVER, FOURTH] {
            changes_nothing(world, origin, from, TARGET, &said);
        }
        completes(world, origin, id);
    });
}

#[test]
fn hazard_33_a_source_that_names_another_driver_than_the_one_that_was_agreed_with_gets_no_room() {
    in_world(World::open(1, 4).refusing(), |world| {
        let (origin, id) = held_at(world, "Reserve");
        let sent = world.sent.iter().find(|sent| sent.name == "Reserve").expect("it is on its way").record.body.clone();
        let Ok(MigrationMessage::Reserve { total, claim, .. }) = codec::decode(&sent) else { panic!("a reservation") };
        let orchestrator = world.id(FOURTH);
        let said = MigrationMessage::Reserve { id, total, claim, orchestrator };
        changes_nothing(world, origin, SOURCE, TARGET, &said);
        assert!(world.wait_migration(DRIVER, id.migration).is_err(), "the source is told, and keeps it");
        assert_eq!(stand(world, origin).1, [SOURCE]);
    });
}

/// The source may have decided, and says so: its target asks it.
#[test]
fn promise_2_the_word_of_the_driver_does_not_end_a_whole_copy() {
    in_world(World::open(1, 4).refusing(), |world| {
        let (origin, id) = held_at(world, "ActivateTarget");
        changes_nothing(world, origin, DRIVER, TARGET, &failed(id));
        assert!(world.messages.contains(&(TARGET, SOURCE, "StatusQuery")));
        world.run_for(SECOND / 10);
        assert_eq!(stand(world, origin).1, [TARGET], "the source tells it again");
        completes(world, origin, id);
    });
}

#[test]
fn promise_2_a_driver_that_asks_the_target_anew_does_not_end_a_whole_copy() {
    in_world(World::open(1, 4), |world| {
        let (origin, id) = held_at(world, "ActivateTarget");
        let (source, kind, later) = (world.id(SOURCE), "prompt", MoveId { attempt: id.attempt + 1, ..id });
        let prepare = MigrationMessage::Prepare { id: later, kind, source, transport_identity: true, state_bytes: 0 };
        world.messages.clear();
        changes_nothing(world, origin, DRIVER, TARGET, &prepare);
        assert_eq!(world.messages, [], "and is told nothing of a move that is nearly over");
        completes(world, origin, id);
    });
}

#[test]
fn promise_2_a_target_that_asks_before_the_decision_is_not_told_to_go_live() {
    for step in ["RestoreComplete", "CutoverNotify"] {
        in_world(World::open(1, 4).refusing(), |world| {
            let (origin, id) = held_at(world, step);
            changes_nothing(world, origin, TARGET, SOURCE, &MigrationMessage::StatusQuery { id });
            assert!(world.messages.iter().all(|(.., name)| *name != "ActivateTarget"), "{step}");
            completes(world, origin, id);
        });
    }
}

#[test]
fn only_its_target_and_only_of_this_attempt_keeps_a_frozen_daemon_waiting() {
    for (from, other) in [(FOURTH, None), (TARGET, Some(0)), (TARGET, Some(1))] {
        in_world(World::open(1, 4).refusing(), |world| {
            let (origin, id) = held_at(world, "SnapshotReady");
            world.mute = Some((TARGET, SOURCE));
            let status = |id| {
                let stage = Stage::Restore;
                MigrationMessage::Status { id, stage, bytes_sent: 0, bytes_total: 0, events: 0 }
            };
            for _ in 0..12 {
                world.forge(from, SOURCE, &status(other.map_or(id, |nth: usize| others(id)[nth])));
                // Its driver would wait.
                world.forge(SOURCE, DRIVER, &status(id));
                world.run_for(5 * SECOND);
            }
            assert_eq!(stand(world, origin).1, [SOURCE]);
            let source = world.nodes[SOURCE].engine.migrations();
            assert_eq!(source, [], "it goes on after a silence, whatever n{from} says");
        });
    }
}

#[test]
fn hazard_33_strangers_do_not_hear_what_became_of_a_copy() {
    in_world(World::open(1, 4).refusing(), |world| {
        let (origin, id) = held_at(world, "ActivateTarget");
        world.forge(FOURTH, TARGET, &MigrationMessage::StatusQuery { id });
        world.run_for(SECOND / 10);
        assert!(!world.messages.contains(&(TARGET, FOURTH, "StatusAnswer")));
        world.forge(DRIVER, TARGET, &MigrationMessage::StatusQuery { id });
        world.run_for(SECOND / 10);
        assert!(world.messages.contains(&(TARGET, DRIVER, "StatusAnswer")), "the driver may lose the source");
        completes(world, origin, id);
    });
}

#[test]
fn hazard_33_whoever_asks_again_about_another_move_than_its_own_is_told_as_anybody() {
    in_world(World::open(1, 4).refusing(), |world| {
        let (origin, id) = held_at(world, "Reserve");
        let (target, another) = (world.id(TARGET), MigrationId::new(id.migration.get() ^ 1));
        for (by, migration) in [(FOURTH, id.migration), (DRIVER, another)] {
            let inquire = MigrationMessage::Inquire { origin, migration, attempt: 1, target, transport_identity: true };
            world.messages.clear();
            changes_nothing(world, origin, by, SOURCE, &inquire);
            assert_eq!(world.messages, [(SOURCE, by, "Declined")]);
        }
        completes(world, origin, id);
    });
}
