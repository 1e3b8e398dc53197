//! Channels that are subscribed to and left while their daemon moves: whoever is told that it is in, or out, finds it so
//! wherever it lives then, and whoever is refused finds it as it was.

use std::time::Duration;

use mesh_daemon_core::daemon::Ticket;
use mesh_daemon_core::identity::{MigrationId, NodeId, OriginHash};
use mesh_daemon_core::runtime::RuntimeError;

use super::in_world;
use super::world::{How, Meddler, World};

pub(super) const PUBLISHER: usize = 0;
pub(super) const SOURCE: usize = 1;
const TARGET: usize = 2;
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// A daemon that is in on `old` and is about to move; the first message of this name takes ten seconds.
fn begin(world: &mut World, held: &'static str, nth: usize) -> OriginHash {
    world.open_channels();
    for name in ["old", "new"] {
        world.register_channel(PUBLISHER, name);
    }
    let origin = world.spawn(SOURCE, 1, "prompt");
    world.subscribe_daemon(SOURCE, origin, PUBLISHER, "old");
    world.meddler = Some(Meddler { message: held, nth, how: How::Delay(10 * SECOND) });
    origin
}

fn moves(world: &mut World, origin: OriginHash) -> MigrationId {
    let ticket = world.migrate(SOURCE, origin, TARGET);
    let migration = world.migration(ticket).expect("it begins");
    assert!(world.run_until(SECOND, |world| world.meddled == 1));
    migration
}

/// Ends the move: the daemon stays, or it leaves.
fn end(world: &mut World, migration: MigrationId, stays: bool) {
    if stays {
        let now = world.present();
        world.nodes[SOURCE].engine.abort_migration(migration, None, now);
        world.settle(SOURCE);
    }
    assert_eq!(world.wait_migration(SOURCE, migration).is_err(), stays);
}

/// What whoever asked is told.
fn told(world: &mut World, ticket: Ticket) -> Result<(), RuntimeError> {
    world.wait_for(ticket).as_ref().map(|_| ()).map_err(Clone::clone)
}

/// Which nodes are in with a daemon.
pub(super) fn nodes_in(world: &World, name: &str) -> Vec<NodeId> {
    world.channel_roster(PUBLISHER, name).into_iter().map(|(node, _)| node).collect()
}

pub(super) fn publish(world: &mut World, name: &str) -> u64 {
    let request = world.request(0, 0);
    world.publish(PUBLISHER, name, &request.encode(0));
    request.id
}

#[test]
fn what_is_asked_while_a_daemon_is_handed_over_is_done_when_it_stays_and_refused_when_it_leaves() {
    for seed in 0..10 {
        for stays in [false, true] {
            in_world(World::new(seed, 3), |world| {
                let origin = begin(world, "BufferedEvents", 1);
                let migration = moves(world, origin);
                let joins = world.ask_in(SOURCE, origin, PUBLISHER, "new");
                let leaves = world.ask_out(SOURCE, origin, PUBLISHER, "old");
                world.run_for(SECOND);
                assert!(!world.is_answered(joins) && !world.is_answered(leaves), "nobody knows yet");
                end(world, migration, stays);
                for ticket in [joins, leaves] {
                    let expected = if stays { Ok(()) } else { Err(RuntimeError::NotFound(origin)) };
                    assert_eq!(told(world, ticket), expected);
                }
                world.run_for(SECOND);
                let [old, new] = ["old", "new"].map(|name| publish(world, name));
                world.run_for(SECOND);
                assert_eq!(world.seen(origin), [if stays { new } else { old }]);
            });
        }
    }
}

#[test]
fn what_was_asked_before_a_hand_over_and_is_answered_during_it_is_as_it_is_told() {
    for seed in 0..10 {
        // It stays before the publisher has answered, or after.
        for (stays, later) in [(false, SECOND), (true, SECOND), (true, 5 * SECOND)] {
            in_world(World::new(seed, 3), |world| {
                let origin = begin(world, "BufferedEvents", 1);
                world.lag.insert(PUBLISHER, 2 * SECOND);
                let joins = world.ask_in(SOURCE, origin, PUBLISHER, "new");
                let leaves = world.ask_out(SOURCE, origin, PUBLISHER, "old");
                let migration = moves(world, origin);
                assert!(!world.is_answered(joins) && !world.is_answered(leaves), "that takes longer");
                world.run_for(later);
                end(world, migration, stays);
                assert_eq!(told(world, leaves), Ok(()));
                let expected = if stays { Ok(()) } else { Err(RuntimeError::NotFound(origin)) };
                assert_eq!(told(world, joins), expected);
                world.lag.clear();
                world.run_for(5 * SECOND);
                let expected = if stays { vec![world.id(SOURCE)] } else { vec![] };
                assert_eq!(nodes_in(world, "new"), expected);
                assert_eq!(nodes_in(world, "old"), []);
                let [_, new] = ["old", "new"].map(|name| publish(world, name));
                world.run_for(SECOND);
                assert_eq!(world.seen(origin), if stays { vec![new] } else { vec![] });
            });
        }
    }
}

#[test]
fn what_is_agreed_while_a_daemon_is_frozen_holds_on_its_new_host() {
    for seed in 0..10 {
        in_world(World::new(seed, 3), |world| {
            let origin = begin(world, "SnapshotReady", 0);
            let migration = moves(world, origin);
            let joins = world.ask_in(SOURCE, origin, PUBLISHER, "new");
            let leaves = world.ask_out(SOURCE, origin, PUBLISHER, "old");
            for ticket in [joins, leaves] {
                assert_eq!(told(world, ticket), Ok(()));
            }
            assert!(!world.nodes[SOURCE].over.contains_key(&migration.get()), "it still moves");
            let before: Vec<_> = ["new", "old", "new"].map(|name| publish(world, name)).into();
            end(world, migration, false);
            world.run_for(SECOND);
            let after: Vec<_> = ["old", "new"].map(|name| publish(world, name)).into();
            world.run_for(SECOND);
            assert_eq!(world.seen(origin), [before[0], before[2], after[1]]);
            assert_eq!(nodes_in(world, "new"), [world.id(TARGET)]);
            assert_eq!(nodes_in(world, "old"), []);
        });
    }
}
