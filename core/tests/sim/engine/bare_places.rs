//! Places that were promised for a daemon which never comes, because it was begun here instead.

use std::time::Duration;

use mesh_daemon_core::identity::{Epoch, MigrationId};
use mesh_daemon_core::runtime::Settlement;
use mesh_daemon_core::wire::migration::{MigrationMessage, MoveId, Stage};

use super::in_world;
use super::world::World;

const HERE: usize = 0;
const OTHER: usize = 1;
const STRANGER: usize = 2;
const SECOND: Duration = Duration::from_secs(1);

/// Somebody asks for places for a daemon and says that it is at work on each, and the daemon is spawned.
fn promised_and_spawned(world: &mut World) -> (mesh_daemon_core::identity::OriginHash, Vec<MoveId>) {
    let entity = World::daemon_key(1).entity_id();
    let ids: Vec<_> = [STRANGER, OTHER]
        .map(|by| {
            let id = MoveId { entity, migration: MigrationId::new(70 + by as u128), attempt: 1, epoch: Epoch::FIRST };
            let source = world.id(by);
            world.forge(
                by,
                HERE,
                &MigrationMessage::Prepare { id, kind: "prompt", source, transport_identity: true, state_bytes: 0 },
            );
            id
        })
        .into();
    world.run_for(SECOND);
    (world.spawn(HERE, 1, "prompt"), ids)
}

fn still_at_work(world: &mut World, ids: &[MoveId]) {
    for (by, id) in [STRANGER, OTHER].into_iter().zip(ids) {
        let (id, stage) = (*id, Stage::Snapshot);
        let status = MigrationMessage::Status { id, stage, bytes_sent: 0, bytes_total: 0, events: 0 };
        world.forge(by, HERE, &status);
    }
    world.run_for(SECOND);
}

#[test]
fn a_promised_place_does_not_keep_a_daemon_that_was_spawned_there_from_moving() {
    in_world(World::open(1, 3), |world| {
        let (origin, ids) = promised_and_spawned(world);
        for _ in 0..5 {
            still_at_work(world, &ids);
        }
        assert!(world.nodes[HERE].engine.migrations().is_empty(), "the places were given up");
        assert_eq!(world.moved(HERE, origin, OTHER), Ok(()));
        world.run_for(SECOND);
        world.assert_nothing_left();
    });
}

#[test]
fn a_promised_place_does_not_keep_a_drain_from_its_end() {
    in_world(World::open(1, 3), |world| {
        let (_, ids) = promised_and_spawned(world);
        let drain = world.act(HERE, None, |engine, ticket, now| engine.drain(ticket, None, now));
        for _ in 0..60 {
            if world.is_answered(drain) {
                break;
            }
            still_at_work(world, &ids);
        }
        assert!(world.is_answered(drain), "the drain ends");
        assert!(matches!(world.wait_for(drain), Ok(Settlement::Drained(_))));
        assert_eq!(world.nodes[HERE].engine.daemon_count(), 0);
    });
}
