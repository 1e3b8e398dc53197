//! Messages of the hand-over that come too early, too late or for nothing, from the very node that may send them.

use std::time::Duration;

use mesh_daemon_core::causal::CausalLink;
use mesh_daemon_core::identity::{Epoch, Lineage, MigrationId, OriginHash};
use mesh_daemon_core::runtime::Role;
use mesh_daemon_core::wire::events::{Event, Item, Opening, StreamId};
use mesh_daemon_core::wire::migration::{FailureReason, MigrationMessage, MoveId, Stage, StagedItem};

use super::in_world;
use super::world::{How, Meddler, World};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const THIRD: usize = 2;
const BYSTANDER: usize = 3;

/// Begins a move that the third node drives, and runs it to where the message is held up for a while.
fn held_at(world: &mut World, message: &'static str) -> (OriginHash, MoveId) {
    let origin = world.spawn(SOURCE, 1, "prompt");
    world.meddler = Some(Meddler { message, nth: 0, how: How::Delay(Duration::from_secs(2)) });
    let migration = world.driving(THIRD, origin, SOURCE, TARGET);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.meddled, 1, "{message} is held up");
    (origin, move_of(migration))
}

fn move_of(migration: MigrationId) -> MoveId {
    let entity = World::daemon_key(1).entity_id();
    MoveId { entity, migration, attempt: 1, epoch: Epoch::FIRST }
}

/// The move completes, the daemon answers on the target alone, and it processed only what was sent.
fn completes(world: &mut World, origin: OriginHash, id: MoveId) {
    assert_eq!(world.wait_migration(THIRD, id.migration), Ok(()));
    lives_alone(world, origin, TARGET);
}

fn lives_alone(world: &mut World, origin: OriginHash, host: usize) {
    let ticket = world.call(THIRD, origin);
    world.outputs(ticket);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.hosting(origin), [host]);
    assert_eq!(world.seen(origin).len(), world.requests(), "nothing else ran");
    world.assert_nothing_left();
}

fn stage_of(world: &World, role: Role) -> Option<Stage> {
    let node = if role == Role::Target { TARGET } else { SOURCE };
    world.nodes[node].engine.migrations().into_iter().find(|part| part.0 == role).and_then(|part| part.4)
}

/// An event that nobody sent.
fn stray<'a>(world: &World, id: MoveId, first: u64, payload: &'a [u8]) -> MigrationMessage<'a> {
    let (sender, incarnation) = (world.id(THIRD), world.nodes[THIRD].incarnation);
    let (entity, lineage, opening) = (id.entity, Lineage::new(7), Opening::new(1, 7));
    let streams = vec![StreamId { sender, incarnation, entity, lineage, opening }];
    let link = CausalLink::genesis(id.entity.origin_hash());
    let items = vec![StagedItem {
        stream: 0,
        number: 1,
        item: Item::Send(Event { link, payload }),
        received_at: 0,
        channel: None,
    }];
    MigrationMessage::BufferedEvents {
        id,
        first,
        streams,
        items,
        total: Some(first + 1),
        marks: Vec::new(),
        ledger: None,
    }
}

#[test]
fn requirement_87_an_activation_that_fails_leaves_the_target_staging() {
    in_world(World::open(1, 3).refusing(), |world| {
        let (origin, id) = held_at(world, "CutoverNotify");
        assert_eq!(stage_of(world, Role::Target), Some(Stage::Replay));
        world.forge(SOURCE, TARGET, &MigrationMessage::ActivateTarget { id, claim: b"no claim" });
        assert_eq!(stage_of(world, Role::Target), Some(Stage::Replay));
        assert_eq!(world.hosts(origin).len(), 1, "it did not go live");
        completes(world, origin, id);
    });
}

#[test]
fn requirements_88_89_waiting_events_that_come_behind_the_activation_are_not_taken() {
    for message in ["CleanupComplete", "none"] {
        in_world(World::open(1, 3).refusing(), |world| {
            let (origin, id) = if message == "none" {
                let origin = world.spawn(SOURCE, 1, "prompt");
                let migration = world.driving(THIRD, origin, SOURCE, TARGET);
                assert_eq!(world.wait_migration(THIRD, migration), Ok(()));
                world.run_for(Duration::from_secs(1));
                (origin, move_of(migration))
            } else {
                held_at(world, message)
            };
            let payload = world.request(0, 0).encode(0);
            for first in [0, 1] {
                let event = stray(world, id, first, &payload);
                world.forge(SOURCE, TARGET, &event);
            }
            completes(world, origin, id);
        });
    }
}

#[test]
fn requirement_93_a_cleanup_outside_the_cutover_or_for_nothing_unregisters_no_daemon() {
    for message in ["Reserve", "SnapshotReady", "CutoverNotify", "ActivateTarget"] {
        in_world(World::open(1, 3).refusing(), |world| {
            let (origin, id) = held_at(world, message);
            world.forge(SOURCE, TARGET, &MigrationMessage::CleanupComplete { id });
            world.forge(TARGET, SOURCE, &MigrationMessage::CleanupComplete { id });
            completes(world, origin, id);
            let id = MoveId { migration: MigrationId::new(99), ..id };
            for host in [SOURCE, TARGET] {
                world.forge(THIRD, host, &MigrationMessage::CleanupComplete { id });
            }
            lives_alone(world, origin, TARGET);
        });
    }
}

#[test]
fn requirement_94_a_cutover_that_does_not_fit_the_phase_is_answered_with_the_phase_and_changes_nothing() {
    for message in ["Reserve", "RestoreComplete"] {
        in_world(World::open(1, 3).refusing(), |world| {
            let (origin, id) = held_at(world, message);
            let told =
                |world: &World| world.messages.iter().filter(|message| **message == (SOURCE, THIRD, "Status")).count();
            let before = told(world);
            world.forge(THIRD, SOURCE, &MigrationMessage::CutoverNotify { id });
            assert_eq!(told(world), before + 1, "its driver hears where it stands");
            assert_eq!(world.nodes[SOURCE].failed, [], "and nobody that it failed");
            completes(world, origin, id);
        });
    }
}

#[test]
fn requirement_29_word_of_a_failure_that_belongs_to_no_record_is_accepted_quietly() {
    // Nobody may refuse anything here.
    in_world(World::open(1, 3), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        let id = move_of(MigrationId::new(99));
        let nobodys = MoveId { entity: World::daemon_key(7).entity_id(), ..id };
        for id in [id, nobodys] {
            for (from, to) in [(TARGET, SOURCE), (THIRD, SOURCE), (SOURCE, TARGET), (SOURCE, THIRD)] {
                let reason = FailureReason::Cancelled;
                world.forge(from, to, &MigrationMessage::MigrationFailed { id, reason });
            }
        }
        lives_alone(world, origin, SOURCE);
        assert!(world.messages.is_empty(), "nor is it answered: {:?}", world.messages);
        assert_eq!(world.driven(THIRD, origin, SOURCE, TARGET), Ok(()));
        lives_alone(world, origin, TARGET);
    });
}

/// Takes a bystander's session with the source away and back every few seconds, and does something besides.
fn bystander_comes_and_goes(world: &mut World, mut besides: impl FnMut(&mut World)) {
    for _ in 0..5 {
        world.cut(SOURCE, BYSTANDER, Duration::from_secs(1));
        besides(world);
        world.run_for(Duration::from_secs(4));
    }
}

#[test]
fn a_source_that_waits_for_one_node_is_not_kept_frozen_by_the_sessions_of_another() {
    in_world(World::open(1, 4), |world| {
        let (origin, _) = held_at(world, "CutoverNotify");
        // Its driver is silent, and not given up.
        world.part(SOURCE, THIRD, Duration::from_secs(100), Duration::from_secs(100));
        bystander_comes_and_goes(world, |_| ());
        assert_eq!(world.nodes[SOURCE].failed.len(), 1, "it went on when it had waited long enough");
        let ticket = world.call(BYSTANDER, origin);
        assert_eq!(world.outputs(ticket).1, 1);
    });
}

#[test]
fn a_source_that_waits_for_its_target_is_not_kept_frozen_by_its_driver() {
    in_world(World::open(1, 4).refusing(), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        // The driver hears each as well; the third one is the answer to the last events.
        world.meddler = Some(Meddler { message: "ReplayComplete", nth: 2, how: How::Lose });
        let migration = world.driving(THIRD, origin, SOURCE, TARGET);
        let id = move_of(migration);
        world.run_for(Duration::from_secs(1));
        assert_eq!(stage_of(world, Role::Source), Some(Stage::Cutover), "the mailbox is closed");
        bystander_comes_and_goes(world, |world| world.forge(THIRD, SOURCE, &MigrationMessage::CutoverNotify { id }));
        assert_eq!(world.nodes[SOURCE].failed.len(), 1, "it went on when it had waited long enough");
        let ticket = world.call(BYSTANDER, origin);
        assert_eq!(world.outputs(ticket).1, 1);
    });
}
