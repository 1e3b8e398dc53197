//! Hosts that stop or shut down in the middle of a move: what they say last is true.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::migration::{MigrationFailure, Outcome};

use super::daemon::HANG;
use super::in_world;
use super::load::answers_are_true;
use super::world::World;
use crate::seeds;

const SOURCE: usize = 0;
const TARGET: usize = 1;
const THIRD: usize = 2;
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn promise_1_a_source_that_shuts_down_behind_its_decision_does_not_say_that_what_it_handed_over_did_not_run() {
    for message in ["ActivateTarget", "ActivateAck"] {
        for seed in seeds::chosen(0..20) {
            in_world(World::new(seed, 3), |world| {
                let origin = world.spawn(SOURCE, 1, "slow");
                for node in SOURCE..=THIRD {
                    let ticket = world.call(node, origin);
                    world.outputs(ticket);
                }
                let calls: Vec<_> = (0..12).map(|index| world.call(1 + index % 2, origin)).collect();
                world.run_for(SECOND / 1000);
                world.migrate(SOURCE, origin, TARGET);
                let sent = |world: &World| world.messages.iter().any(|(.., name)| *name == message);
                assert!(world.run_until(5 * SECOND, sent), "{message} is sent");
                world.end_runtime(SOURCE, false);
                for ticket in calls {
                    let _ = world.wait_for(ticket);
                }
                world.run_for(100 * SECOND);
                answers_are_true(world);
            });
        }
    }
}

/// Its event never settles, so that it can neither be frozen nor stopped behind it.
#[test]
fn a_daemon_that_is_stopped_while_it_freezes_leaves_nothing_of_its_move() {
    in_world(World::open(1, 3), |world| {
        let config = HostConfig { callback_timeout: SECOND, ..HostConfig::default() };
        let origin = world.spawn_with(SOURCE, 1, "slow", config);
        let hangs = world.request(HANG, 0);
        world.deliver(THIRD, origin, hangs);
        world.run_for(SECOND / 10);
        let ticket = world.drive(THIRD, origin, SOURCE, TARGET);
        world.run_for(2 * SECOND);
        let migration = world.migration(ticket).expect("it begins");
        assert!(!world.nodes[SOURCE].engine.migrations().is_empty(), "it waits for the event");
        let stop = world.act(SOURCE, None, |engine, ticket, now| engine.stop(ticket, origin, now));
        world.wait_for(stop).as_ref().expect("it is stopped");
        world.run_for(SECOND / 10);
        assert!(world.nodes[SOURCE].engine.migrations().is_empty(), "nothing is left of it");
        let told = world.nodes[THIRD].over.get(&migration.get());
        let outcome = told.and_then(|told| told.as_ref().err()).map(MigrationFailure::outcome);
        assert_eq!(outcome, Some(Outcome::Lost), "it lives nowhere: {told:?}");
        world.run_for(100 * SECOND);
        world.assert_nothing_left();
    });
}
