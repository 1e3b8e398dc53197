//! Calls that take longer than senders that say nothing are remembered.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::migration::{MigrationFailure, MigrationSettings, Outcome};
use mesh_daemon_core::runtime::{ArrivalPolicy, RuntimeOptions};

use super::daemon::HANG;
use super::in_world;
use super::world::{Trap, World};

const SECOND: Duration = Duration::from_secs(1);
/// When a silent sender is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(700);
/// How long the calls here take.
const HOUR: Duration = Duration::from_secs(3600);

fn patient() -> HostConfig {
    HostConfig { callback_timeout: 2 * HOUR, ..HostConfig::default() }
}

#[test]
fn promise_1_a_call_that_takes_an_hour_gets_its_answer_and_then_its_stream_is_forgotten() {
    for kind in ["prompt", "slow"] {
        in_world(World::new(1, 2), |world| {
            let origin = world.spawn_with(0, 1, kind, patient());
            let hang = world.request(HANG, 0);
            let long = world.deliver(1, origin, hang);
            world.run_for(HOUR);
            assert_eq!(world.nodes[0].engine.census().streams_in, 1);
            let (_, key) = world.hosts(origin)[0];
            world.let_go(0, key);
            assert_eq!(world.outputs(long).0, hang.id);
            world.run_for(FORGOTTEN);
            assert_eq!(world.nodes[0].engine.census().streams_in, 0);
        });
    }
}

#[test]
fn promise_1_a_call_through_a_former_host_that_takes_an_hour_gets_its_answer() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn_with(0, 1, "prompt", patient());
        world.nodes[1].engine.expect_migration("prompt", origin, patient(), None).expect("new there");
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        world.lose(1, 2, Loss::Silence);
        let hang = world.request(HANG, 0);
        let long = world.deliver(2, origin, hang);
        world.run_for(HOUR);
        assert_eq!(world.nodes[0].engine.census().streams_through, 1);
        let (_, key) = world.hosts(origin)[0];
        world.let_go(1, key);
        assert_eq!(world.outputs(long).0, hang.id);
        world.run_for(FORGOTTEN);
        assert_eq!(world.nodes[0].engine.census().streams_through, 0);
    });
}

#[test]
fn promise_1_an_event_that_waits_an_hour_for_room_in_a_mailbox_runs() {
    in_world(World::new(1, 2), |world| {
        let config = HostConfig { mailbox_capacity: 1, ..patient() };
        let origin = world.spawn_with(0, 1, "prompt", config);
        let hang = world.request(HANG, 0);
        let mut tickets = vec![world.deliver(0, origin, hang)];
        for _ in 0..5 {
            let request = world.request(0, 0);
            tickets.push(world.deliver(1, origin, request));
        }
        world.run_for(HOUR);
        let (_, key) = world.hosts(origin)[0];
        world.let_go(0, key);
        for ticket in tickets {
            world.outputs(ticket);
        }
    });
}

/// The target has to wait long for the word to go live; its callers reach it.
#[test]
fn promise_1_callers_of_a_copy_that_waits_long_for_its_source_get_their_answers() {
    for seed in 0..10 {
        let options = |_| RuntimeOptions {
            arrivals: ArrivalPolicy::AnyKind,
            migration: MigrationSettings { handover_hold: HOUR, ..MigrationSettings::default() },
            ..RuntimeOptions::default()
        };
        in_world(World::with_options(seed, 3, options), |world| {
            let kind = if seed.is_multiple_of(2) { "prompt" } else { "slow" };
            let origin = world.spawn(0, 1, kind);
            let first = world.call(2, origin);
            world.outputs(first);
            let deliver = |world: &mut World| {
                let request = world.request(0, 0);
                world.deliver(2, origin, request)
            };
            let mut waiting: Vec<_> = (0..12).map(|_| deliver(world)).collect();
            world.trap = Some(Trap { message: "ActivateTarget", nth: 0, arrives: false, heal_after: HOUR / 2 });
            let ticket = world.migrate(0, origin, 1);
            let migration = world.migration(ticket).expect("it begins");
            let doubt = world.wait_migration(0, migration).expect_err("in doubt");
            assert!(matches!(doubt, MigrationFailure::Refused(_, Outcome::Unknown)), "{doubt}");
            waiting.extend((0..5).map(|_| deliver(world)));
            world.run_for(HOUR / 2 + 60 * SECOND);
            for ticket in waiting {
                world.outputs(ticket);
            }
            assert_eq!(world.seen(origin).len(), 18, "each ran once");
            assert_eq!(world.hosts(origin)[0].0, 1);
        });
    }
}
