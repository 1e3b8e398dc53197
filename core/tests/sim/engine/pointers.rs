//! What former hosts remember of where daemons went: for how long, at what cost, and that nothing goes round in circles.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::runtime::Engine;

use super::in_world;
use super::world::World;

const MINUTE: Duration = Duration::from_secs(60);

fn pointers(world: &World) -> Vec<usize> {
    world.nodes.iter().map(|node| node.engine.census().pointers).collect()
}

fn stop(world: &mut World, node: usize, seed: u8) {
    let origin = World::daemon_key(seed).origin_hash();
    let ticket = world.act(node, None, |engine, ticket, now| engine.stop(ticket, origin, now));
    assert!(world.wait_for(ticket).is_ok(), "it is stopped");
}

/// No node will ever wake up again, unless something comes from outside.
fn assert_asleep(world: &World) {
    let deadlines: Vec<_> = world.nodes.iter().map(|node| Engine::next_deadline(&node.engine)).collect();
    assert!(deadlines.iter().all(Option::is_none), "now {:?}, due {deadlines:?}", world.now);
}

#[test]
fn a_former_host_forgets_after_ten_minutes_though_nothing_else_leaves_it_and_then_sleeps() {
    in_world(World::new(1, 3), |world| {
        assert_asleep(world);
        let origin = world.spawn(0, 1, "prompt");
        world.run_for(MINUTE);
        assert_asleep(world);
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        assert_eq!(pointers(world), [1, 0, 0]);
        world.run_for(9 * MINUTE + MINUTE / 2);
        assert_eq!(pointers(world), [1, 0, 0], "stragglers are sent on for ten minutes");
        world.run_for(MINUTE);
        assert_eq!(pointers(world), [0, 0, 0], "and no longer");
        assert_asleep(world);
        assert_eq!(world.located(2, origin), Some(world.id(1)));
    });
}

#[test]
fn streams_marks_and_withdrawn_names_end_by_themselves_too_and_then_nobody_wakes_up() {
    in_world(World::new(1, 4), |world| {
        world.take_part();
        let origin = world.spawn(0, 1, "slow");
        for host in 0..3 {
            for caller in 0..4 {
                let ticket = world.call(caller, origin);
                world.outputs(ticket);
            }
            assert_eq!(world.moved(host, origin, host + 1), Ok(()));
        }
        world.run_for(12 * MINUTE);
        assert_eq!(pointers(world), [0; 4]);
        for node in &world.nodes {
            let census = node.engine.census();
            assert_eq!((census.streams_in, census.streams_out, census.streams_through), (0, 0, 0));
        }
        assert_asleep(world);
        // What begins after that ends as well.
        let ticket = world.call(0, origin);
        world.outputs(ticket);
        stop(world, 3, 1);
        world.run_for(12 * MINUTE);
        assert_asleep(world);
        assert!(world.nodes.iter().all(|node| node.engine.kept_addresses() == 0), "homes have heard of its end");
    });
}

#[test]
fn a_pointer_lives_as_long_as_streams_go_through_it() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(0, 1, "prompt");
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        world.lose(1, 2, Loss::Silence);
        for _ in 0..10 {
            let ticket = world.call(2, origin);
            world.outputs(ticket);
            world.run_for(4 * MINUTE);
        }
        assert_eq!(pointers(world), [1, 0, 0]);
        assert_eq!(world.seen(origin).len(), 10);
        world.run_for(25 * MINUTE);
        assert_eq!(pointers(world), [0, 0, 0]);
        assert_asleep(world);
    });
}

#[test]
fn a_spawn_that_fails_leaves_no_timer_behind() {
    in_world(World::new(1, 2), |world| {
        world.take_part();
        let origin = world.spawn(0, 1, "prompt");
        let (again, ticket) = world.try_spawn(1, 1, "prompt", HostConfig::default());
        assert_eq!(again, origin);
        assert!(world.wait_for(ticket).is_err(), "it lives elsewhere");
        world.run_for(12 * MINUTE);
        assert_asleep(world);
    });
}
