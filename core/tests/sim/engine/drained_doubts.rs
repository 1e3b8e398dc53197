//! A node is drained while a daemon of it is handed over to another one that has not said that it has it.

use std::time::Duration;

use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::migration::{DrainReport, MigrationFailure, Outcome};

use super::drains::{drain, reports};
use super::in_world;
use super::world::{NEVER, World};

const NODE: usize = 0;
const OTHER: usize = 1;
const TARGET: usize = 2;
const SECOND: Duration = Duration::from_secs(1);

/// A daemon that was released to a target that never hears of it and cannot be reached.
fn released(world: &mut World) -> OriginHash {
    let origin = world.spawn(NODE, 1, "prompt");
    world.broken_move(NODE, origin, TARGET, "ActivateTarget", NEVER);
    world.run_for(SECOND);
    origin
}

fn is_unknown(world: &World, reports: &[DrainReport], origin: OriginHash) {
    let [report] = reports else { panic!("one of one daemon: {reports:?}") };
    assert_eq!((report.origin, report.outcome), (origin, Outcome::Unknown), "{report:?}");
    assert_eq!(report.target, Some(world.id(TARGET)));
    assert_eq!(report.failure.as_ref().map(MigrationFailure::outcome), Some(Outcome::Unknown));
}

#[test]
fn a_daemon_whose_new_host_is_lost_before_it_said_so_is_waited_for_and_reported_as_unknown() {
    in_world(World::new(1, 3), |world| {
        let origin = released(world);
        let ticket = drain(world, NODE, Some(30 * SECOND));
        world.run_for(10 * SECOND);
        world.lose(NODE, TARGET, Loss::Silence);
        world.run_for(15 * SECOND);
        assert!(!world.is_answered(ticket), "its target may be back");
        let reports = reports(world, ticket);
        is_unknown(world, &reports, origin);
    });
}

#[test]
fn a_drain_without_a_limit_does_not_wait_for_a_host_that_may_never_be_back() {
    in_world(World::new(1, 3), |world| {
        let origin = released(world);
        world.lose(NODE, TARGET, Loss::Silence);
        let ticket = drain(world, NODE, None);
        let reports = reports(world, ticket);
        is_unknown(world, &reports, origin);
    });
}

#[test]
fn a_daemon_that_the_drain_itself_has_released_is_waited_for() {
    in_world(World::new(1, 3), |world| {
        world.kill(OTHER);
        let origin = world.spawn(NODE, 1, "prompt");
        let ticket = drain(world, NODE, Some(30 * SECOND));
        let trap = super::world::Trap { message: "ActivateTarget", nth: 0, arrives: false, heal_after: 20 * SECOND };
        world.trap = Some(trap);
        world.run_for(15 * SECOND);
        assert!(world.sprung && !world.is_answered(ticket), "its target may be back");
        let expected =
            [DrainReport { origin, outcome: Outcome::Target, target: Some(world.id(TARGET)), failure: None }];
        assert_eq!(reports(world, ticket), expected, "and is");
        assert_eq!(world.hosting(origin), [TARGET]);
    });
}

#[test]
fn a_daemon_that_another_move_has_released_is_waited_for_until_its_new_host_has_it() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(NODE, 1, "prompt");
        world.broken_move(NODE, origin, TARGET, "ActivateTarget", 5 * SECOND);
        let ticket = drain(world, NODE, Some(30 * SECOND));
        world.run_for(4 * SECOND);
        assert!(!world.is_answered(ticket));
        let expected =
            [DrainReport { origin, outcome: Outcome::Target, target: Some(world.id(TARGET)), failure: None }];
        assert_eq!(reports(world, ticket), expected);
        assert_eq!(world.hosting(origin), [TARGET]);
    });
}
