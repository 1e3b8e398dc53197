//! What a node allows for daemons that arrive counts all that it keeps for them.

use std::time::Duration;

use mesh_daemon_core::causal::CausalLink;
use mesh_daemon_core::identity::{Epoch, Lineage, MigrationId, OriginHash};
use mesh_daemon_core::migration::{MigrationFailure, MigrationSettings, Outcome};
use mesh_daemon_core::runtime::{ArrivalPolicy, Role, RuntimeOptions};
use mesh_daemon_core::wire::events::{Event, Item, Opening, StreamId};
use mesh_daemon_core::wire::migration::{FailureReason, MigrationMessage, MoveId, Stage, StagedItem};

use super::in_world;
use super::world::{How, Meddler, World};

const SECOND: Duration = Duration::from_secs(1);

fn with_budget(arrival_budget: u64) -> World {
    let migration = MigrationSettings { arrival_budget, ..MigrationSettings::default() };
    World::with_options(1, 3, |_| RuntimeOptions {
        arrivals: ArrivalPolicy::AnyKind,
        migration: migration.clone(),
        ..RuntimeOptions::default()
    })
}

/// A move whose target waits for events.
fn staging(world: &mut World) -> (OriginHash, MigrationId, MoveId) {
    let origin = world.spawn(0, 1, "prompt");
    let how = How::Delay(5 * SECOND);
    world.meddler = Some(Meddler { message: "CutoverNotify", nth: 0, how });
    let ticket = world.drive(0, origin, 0, 1);
    let migration = world.migration(ticket).expect("it begins");
    let staged = (Role::Target, Stage::Replay);
    assert!(world.run_until(5 * SECOND, |world| world.nodes[1].stages.contains(&staged)));
    let entity = World::daemon_key(1).entity_id();
    (origin, migration, MoveId { entity, migration, attempt: 1, epoch: Epoch::FIRST })
}

fn stream(world: &World, id: &MoveId, opening: u64) -> StreamId {
    StreamId {
        sender: world.id(2),
        incarnation: world.nodes[2].incarnation,
        entity: id.entity,
        lineage: Lineage::new(1),
        opening: Opening::new(opening, 1),
    }
}

fn says(world: &mut World, id: MoveId, first: u64, streams: Vec<StreamId>, items: Vec<StagedItem<'_>>, ledger: &[u8]) {
    let (marks, ledger) = (Vec::new(), Some(ledger).filter(|ledger| !ledger.is_empty()));
    let message = MigrationMessage::BufferedEvents { id, first, streams, items, total: None, marks, ledger };
    world.forge(0, 1, &message);
}

fn is_refused(world: &mut World, origin: OriginHash, migration: MigrationId) {
    let full = MigrationFailure::Refused(FailureReason::BufferFull, Outcome::Source);
    assert_eq!(world.nodes[1].failed, [(Role::Target, full)]);
    // The source may hear first of how much was staged that it has not sent.
    assert!(world.wait_migration(0, migration).is_err());
    world.run_for(10 * SECOND);
    assert_eq!(world.hosts(origin)[0].0, 0);
    world.assert_nothing_left();
}

fn empty(number: u64, stream: u32, channel: Option<&str>) -> StagedItem<'_> {
    let link = CausalLink::genesis(OriginHash::new(1));
    StagedItem { stream, number, item: Item::Send(Event { link, payload: &[] }), received_at: 0, channel }
}

#[test]
fn requirement_92_waiting_events_without_a_payload_count_with_all_that_they_take() {
    for channel in [None, Some("c".repeat(255))] {
        in_world(with_budget(100_000), |world| {
            let (origin, migration, id) = staging(world);
            let streams = vec![stream(world, &id, 1)];
            for first in (0..2_000).step_by(100) {
                let items = (first..first + 100).map(|at| empty(at + 1, 0, channel.as_deref())).collect();
                says(world, id, first, streams.clone(), items, &[]);
            }
            is_refused(world, origin, migration);
        });
    }
}

#[test]
fn requirement_92_streams_and_subscriptions_of_an_arriving_daemon_count_as_well() {
    in_world(with_budget(100_000), |world| {
        let (origin, migration, id) = staging(world);
        for first in 0..1_000 {
            let streams = vec![stream(world, &id, first + 1)];
            says(world, id, first, streams, vec![empty(1, 0, None)], &[]);
        }
        is_refused(world, origin, migration);
    });
    in_world(with_budget(100_000), |world| {
        let (origin, migration, id) = staging(world);
        says(world, id, 0, Vec::new(), Vec::new(), &vec![0; 110_000]);
        is_refused(world, origin, migration);
    });
}

#[test]
fn requirement_92_an_event_that_names_no_possible_channel_is_not_taken() {
    in_world(with_budget(10_000_000), |world| {
        let (_, _, id) = staging(world);
        let name = "c".repeat(256);
        let streams = vec![stream(world, &id, 1)];
        says(world, id, 0, streams, vec![empty(1, 0, Some(&name))], &[]);
        let failed = &world.nodes[1].failed[..];
        let [(Role::Target, MigrationFailure::Refused(FailureReason::StateFailed { .. }, Outcome::Source))] = failed
        else {
            panic!("{failed:?}");
        };
    });
}
