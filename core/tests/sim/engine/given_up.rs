//! Calls that are given up while their events stand in a batch: what has not begun does not run.

use std::time::Duration;

use mesh_daemon_core::daemon::{HostConfig, Ticket};
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::runtime::RuntimeError;

use super::daemon::HANG;
use super::in_world;
use super::world::World;

const HOST: usize = 0;
const CALLER: usize = 1;
const MILLISECOND: Duration = Duration::from_millis(1);
const EACH: Duration = Duration::from_millis(100);

/// A daemon of which every event takes as long, and whose first one runs.
fn busy(world: &mut World, config: HostConfig) -> OriginHash {
    let origin = world.spawn_with(HOST, 1, "slow", config);
    world.slow_takes = 100_000..100_001;
    world.call(HOST, origin);
    world.run_for(10 * MILLISECOND);
    origin
}

fn call(world: &mut World, node: usize, origin: OriginHash, timeout: Duration) -> (Ticket, u64) {
    let request = world.request(0, 0);
    let payload = request.encode(0);
    let ticket =
        world.act(node, Some(request.id), |engine, ticket, now| engine.call(ticket, origin, payload, timeout, now));
    (ticket, request.id)
}

fn withdraw(world: &mut World, node: usize, origin: OriginHash, ticket: Ticket) {
    let now = world.present();
    world.nodes[node].engine.withdraw(ticket, origin, now);
    world.settle(node);
}

/// Three calls that form a batch of their own, of which the first one runs. Gives the second and the third.
fn batch(world: &mut World, node: usize, origin: OriginHash, last: Duration) -> [(Ticket, u64); 2] {
    call(world, node, origin, 60 * 1000 * MILLISECOND);
    let second = call(world, node, origin, 60 * 1000 * MILLISECOND);
    let third = call(world, node, origin, last);
    world.run_for(EACH + 20 * MILLISECOND);
    assert_eq!(world.seen(origin).len(), 1, "the first of the three runs");
    [second, third]
}

/// What stands behind what was given up runs, and the daemon is of use.
fn goes_on(world: &mut World, origin: OriginHash, second: (Ticket, u64), third: u64) {
    assert_eq!(world.outputs(second.0).1, 3, "the third that runs");
    world.run_for(2 * EACH);
    assert!(!world.seen(origin).contains(&third), "it had not begun: {:?}", world.seen(origin));
    let ticket = world.call(CALLER, origin);
    assert_eq!(world.outputs(ticket).1, 4);
    world.run_for(10 * EACH);
    world.assert_nothing_left();
}

#[test]
fn a_call_whose_time_is_up_behind_another_one_of_its_batch_does_not_run() {
    for node in [HOST, CALLER] {
        in_world(World::new(1, 2), |world| {
            let origin = busy(world, HostConfig::default());
            let [second, (ticket, third)] = batch(world, node, origin, EACH + 50 * MILLISECOND);
            world.run_for(40 * MILLISECOND);
            assert!(matches!(world.failure(ticket), RuntimeError::CallTimeout(_)), "n{node}");
            goes_on(world, origin, second, third);
        });
    }
}

#[test]
fn a_call_that_is_withdrawn_behind_another_one_of_its_batch_does_not_run() {
    for node in [HOST, CALLER] {
        in_world(World::new(1, 2), |world| {
            let origin = busy(world, HostConfig::default());
            let [second, (ticket, third)] = batch(world, node, origin, 60 * 1000 * MILLISECOND);
            withdraw(world, node, origin, ticket);
            goes_on(world, origin, second, third);
        });
    }
}

#[test]
fn a_call_that_runs_when_it_is_withdrawn_goes_on() {
    for node in [HOST, CALLER] {
        in_world(World::new(1, 2), |world| {
            let origin = busy(world, HostConfig::default());
            let [second, third] = batch(world, node, origin, 60 * 1000 * MILLISECOND);
            world.run_for(2 * EACH);
            assert_eq!(world.seen(origin).len(), 3);
            withdraw(world, node, origin, third.0);
            world.outputs(second.0);
            world.run_for(2 * EACH);
            assert_eq!(world.seen(origin).last(), Some(&third.1));
        });
    }
}

#[test]
fn a_stop_behind_a_batch_of_which_something_is_withdrawn_comes_in_its_turn() {
    in_world(World::new(1, 2), |world| {
        let origin = busy(world, HostConfig::default());
        let [second, (ticket, third)] = batch(world, HOST, origin, 60 * 1000 * MILLISECOND);
        let fourth = call(world, HOST, origin, 60 * 1000 * MILLISECOND);
        let stop = world.act(HOST, None, |engine, ticket, now| engine.stop(ticket, origin, now));
        withdraw(world, HOST, origin, ticket);
        world.outputs(second.0);
        world.outputs(fourth.0);
        assert!(world.wait_for(stop).is_ok());
        assert!(!world.ran.contains(&third));
    });
}

#[test]
fn of_a_batch_whose_first_event_hangs_what_is_given_up_does_not_run() {
    in_world(World::new(1, 2), |world| {
        let config = HostConfig { callback_timeout: Duration::from_secs(600), ..HostConfig::default() };
        let origin = busy(world, config);
        let hang = world.request(HANG, 0);
        world.deliver(CALLER, origin, hang);
        let (ticket, given_up) = call(world, CALLER, origin, Duration::from_secs(5));
        let (other, _) = call(world, CALLER, origin, Duration::from_secs(60));
        assert!(matches!(world.failure(ticket), RuntimeError::CallTimeout(_)));
        world.run_for(EACH);
        let (_, key) = world.hosts(origin)[0];
        world.let_go(HOST, key);
        assert_eq!(world.outputs(other).1, 3);
        assert!(!world.seen(origin).contains(&given_up));
    });
}
