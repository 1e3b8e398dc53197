//! Snapshots for callers that take their time, or too much of it.

use std::time::Duration;

use mesh_daemon_core::daemon::{HostConfig, Ticket};
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::runtime::{RuntimeError, Settlement};

use super::daemon::{HANG, Ledger};
use super::in_world;
use super::world::World;

const SOON: Duration = Duration::from_secs(1);
/// Of a state that is read in many slices.
const LARGE: usize = 5_000_000;

/// A daemon with a large state whose code has a second for each thing.
fn large(world: &mut World) -> OriginHash {
    world.nodes[0].objects.fresh.ballast = LARGE;
    world.spawn_with(0, 1, "prompt", HostConfig { callback_timeout: SOON, ..HostConfig::default() })
}

fn snapshot(world: &mut World, origin: OriginHash) -> Ticket {
    world.act(0, None, |engine, ticket, now| engine.snapshot(ticket, origin, now))
}

/// An event whose caller waits as long as the daemon may take.
fn event(world: &mut World, origin: OriginHash) -> Ticket {
    let request = world.request(0, 0);
    world.deliver(0, origin, request)
}

/// The ballast of the state that a snapshot holds.
fn ballast(world: &mut World, ticket: Ticket) -> usize {
    match world.wait_for(ticket) {
        Ok(Settlement::Snapshot(Some(bytes))) => {
            let whole = mesh_daemon_core::snapshot::StateSnapshot::decode(bytes).expect("a snapshot");
            Ledger::restore(&whole.state.expect("stateful")).ballast
        }
        other => panic!("a snapshot: {other:?}"),
    }
}

#[test]
fn reading_a_large_state_is_no_silence_of_its_daemon() {
    in_world(World::new(1, 1), |world| {
        let origin = large(world);
        world.nodes[0].objects.faults.slices_take = Some(SOON * 3 / 4);
        let began = world.now;
        let taken = snapshot(world, origin);
        let behind = event(world, origin);
        assert_eq!(ballast(world, taken), LARGE);
        assert!(world.now - began > 2 * SOON, "it took longer than any one thing may");
        assert_eq!(world.outputs(behind).1, 1, "and the event behind it waited");
    });
}

#[test]
fn a_timeout_in_the_midst_of_reading_settles_once_and_the_daemon_goes_on() {
    in_world(World::new(1, 1), |world| {
        let origin = large(world);
        world.nodes[0].objects.faults.slices_take = Some(3 * SOON);
        let began = world.now;
        let late = snapshot(world, origin);
        assert_eq!(world.failure(late), RuntimeError::CallbackTimeout(SOON));
        assert_eq!(world.now - began, SOON);
        // All slices come in the end; that they are nobody's any more, the world would tell: a ticket is settled once.
        world.run_for(30 * SOON);
        world.nodes[0].objects.faults.slices_take = None;
        let ticket = event(world, origin);
        assert_eq!(world.outputs(ticket).1, 1);
        let again = snapshot(world, origin);
        assert_eq!(ballast(world, again), LARGE);
    });
}

#[test]
fn a_shutdown_in_the_midst_of_reading_settles_once() {
    in_world(World::new(1, 1), |world| {
        let origin = large(world);
        world.nodes[0].objects.faults.slices_take = Some(SOON / 2);
        let taken = snapshot(world, origin);
        world.run_for(SOON / 4);
        let now = world.present();
        world.nodes[0].engine.shutdown(now);
        world.settle(0);
        assert!(matches!(world.failure(taken), RuntimeError::ShuttingDown));
        world.run_for(30 * SOON);
    });
}

#[test]
fn a_stop_does_not_wait_for_a_promise_that_took_too_long() {
    // Of a snapshot or of an event; said before its time is over, or behind that.
    for (hangs, early) in [(true, true), (true, false), (false, true), (false, false)] {
        in_world(World::new(1, 1), |world| {
            let origin = large(world);
            let stop = |world: &mut World| world.act(0, None, |engine, ticket, now| engine.stop(ticket, origin, now));
            let late = if hangs {
                world.nodes[0].objects.faults.snapshot_hangs = true;
                snapshot(world, origin)
            } else {
                let hang = world.request(HANG, 0);
                world.deliver(0, origin, hang)
            };
            let stops: Vec<_> = if early {
                (0..2).map(|_| stop(world)).collect()
            } else {
                assert_eq!(world.failure(late), RuntimeError::CallbackTimeout(SOON));
                vec![stop(world)]
            };
            for stop in stops {
                assert!(matches!(world.wait_for(stop), Ok(Settlement::Done)));
            }
            assert_eq!(world.failure(late), RuntimeError::CallbackTimeout(SOON));
            assert_eq!(world.nodes[0].engine.census().daemons, 0);
        });
    }
}
