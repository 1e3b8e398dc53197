//! What former hosts remember of where daemons went: for how long, at what cost, and that nothing goes round in circles.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use mesh_daemon_core::daemon::{HostConfig, Ticket};
use mesh_daemon_core::identity::{Epoch, OriginHash};
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::runtime::{Engine, Executed, RuntimeError};

use super::world::{Spied, World};
use super::{for_seeds, in_world};

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
pub(super) fn assert_asleep(world: &World) {
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
fn a_former_host_asks_others_for_a_daemon_whose_next_host_is_silent() {
    for members in [false, true] {
        in_world(World::new(1, 5), |world| {
            if members {
                world.take_part();
            }
            world.run_for(MINUTE / 60);
            let origin = world.spawn(0, 1, "prompt");
            assert_eq!(world.moved(0, origin, 1), Ok(()));
            world.suspect(0, 1);
            assert_eq!(
                world.located(0, origin),
                Some(world.id(1)),
                "nobody knows of another one, and it is expected back"
            );
            world.hear_again(0, 1);
            assert_eq!(world.moved(1, origin, 2), Ok(()));
            world.suspect(0, 1);
            assert_eq!(world.located(0, origin), Some(world.id(2)), "members {members}");
        });
    }
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

/// A daemon that went from node 0 over all others up to `last`, and a caller that met it on node 0 and reaches nobody but the
/// nodes of `reaches`.
fn far_away(world: &mut World, last: usize, caller: usize, reaches: &[usize]) -> OriginHash {
    let origin = world.spawn(0, 1, "prompt");
    let ticket = world.call(caller, origin);
    world.outputs(ticket);
    for other in (1..world.nodes.len()).filter(|other| *other != caller && !reaches.contains(other)) {
        world.lose(other, caller, Loss::Silence);
    }
    for host in 0..last {
        assert_eq!(world.moved(host, origin, host + 1), Ok(()));
    }
    origin
}

fn call_within(world: &mut World, node: usize, origin: OriginHash, timeout: Duration) -> Ticket {
    let request = world.request(0, 0);
    let payload = request.encode(0);
    world.act(node, Some(request.id), |engine, ticket, now| engine.call(ticket, origin, payload, timeout, now))
}

fn moved_too_often(origin: OriginHash, waited: Duration) -> RuntimeError {
    RuntimeError::MovedTooOften { origin, executed: Executed::Unknown, waited }
}

#[test]
fn four_forwards_reach_a_daemon_and_after_a_fifth_the_deadline_decides() {
    for last in [4, 5, 6] {
        in_world(World::new(1, 8), |world| {
            let origin = far_away(world, last, 7, &[0]);
            let timeout = Duration::from_secs(20);
            let ticket = call_within(world, 7, origin, timeout);
            if last == 4 {
                world.outputs(ticket);
            } else {
                assert_eq!(world.failure(ticket), moved_too_often(origin, timeout));
            }
            // One hop nearer it is reached again, and what was given up does not run.
            if last == 5 {
                assert_eq!(world.moved(5, origin, 1), Ok(()));
                let ticket = world.call(7, origin);
                world.outputs(ticket);
                assert_eq!(world.seen(origin).len(), 2);
            }
        });
    }
}

#[test]
fn what_went_astray_goes_on_through_a_former_host_that_is_nearer() {
    for_seeds(0..10, 8, |world| {
        let origin = far_away(world, 6, 7, &[0]);
        let ticket = world.call(7, origin);
        world.run_for(Duration::from_secs(10));
        assert!(!world.is_answered(ticket), "nobody whom it reaches is near enough");
        world.connect(7, 4, false);
        world.outputs(ticket);
        let ticket = world.call(7, origin);
        world.outputs(ticket);
        assert_eq!(world.seen(origin).len(), 3);
        world.run_for(20 * MINUTE);
        assert_asleep(world);
    });
}

#[test]
fn events_without_a_deadline_that_went_astray_end_after_five_minutes() {
    in_world(World::new(1, 8), |world| {
        let origin = far_away(world, 6, 7, &[0]);
        let request = world.request(0, 0);
        let ticket = world.deliver(7, origin, request);
        world.run_for(4 * MINUTE);
        assert!(!world.is_answered(ticket));
        world.run_for(2 * MINUTE);
        assert_eq!(world.failure(ticket), moved_too_often(origin, 5 * MINUTE));
        world.run_for(20 * MINUTE);
        assert_asleep(world);
    });
}

#[test]
fn a_daemon_that_outruns_its_caller_moved_too_often_and_one_that_rests_is_reached() {
    let timeout = Duration::from_millis(150);
    for_seeds(0..10, 8, |world| {
        let origin = world.spawn(0, 1, "prompt");
        let ticket = world.call(7, origin);
        world.outputs(ticket);
        world.lag.insert(7, Duration::from_millis(200));
        let hurried = call_within(world, 7, origin, timeout);
        let patient = world.call(7, origin);
        for host in 0..6 {
            assert_eq!(world.moved(host, origin, host + 1), Ok(()));
        }
        assert!(!world.is_answered(hurried), "it moved within the deadline");
        assert_eq!(world.failure(hurried), moved_too_often(origin, timeout));
        world.outputs(patient);
        // The daemon was not in a hurry while this one waited.
        let late = call_within(world, 7, origin, timeout);
        assert_eq!(world.failure(late), RuntimeError::CallTimeout(timeout));
    });
}

/// Whoever sent an event on knew a later host than whoever had sent it to him: the epochs rise with every hop, so no way is a
/// circle. Tells how often an event was sent on at most.
pub(super) fn assert_no_circles(world: &World) -> u8 {
    let mut arrived: BTreeMap<_, Epoch> = BTreeMap::new();
    let mut most = 0;
    for Spied { from, to, stream, events, .. } in &world.streams {
        let Some((hops, epoch, first)) = *events else { continue };
        let event = |node, hops| (node, stream.sender, stream.opening, first, hops);
        if hops > 0 {
            let came = arrived.get(&event(*from, hops - 1)).expect("what is sent on has come");
            assert!(*came < epoch, "n{from} sends {first} on to n{to}, which is no later host");
        }
        let lowest = arrived.entry(event(*to, hops)).or_insert(epoch);
        *lowest = epoch.min(*lowest);
        most = most.max(hops);
    }
    assert!(most <= 4, "{most} forwards");
    most
}

/// How often events of that sender were sent on since, after which the record begins anew.
fn forwarded(world: &mut World, sender: usize) -> usize {
    let sender = world.id(sender);
    let spied = std::mem::take(&mut world.streams);
    let own = spied.iter().filter(|spied| spied.stream.sender == sender);
    own.filter(|spied| spied.events.is_some_and(|(hops, ..)| hops > 0)).count()
}

#[test]
fn a_stale_address_costs_one_forward_and_is_then_corrected() {
    for_seeds(0..20, 4, |world| {
        let origin = world.spawn(0, 1, "prompt");
        let ticket = world.call(3, origin);
        world.outputs(ticket);
        // It does not hear of the move.
        world.cut(0, 3, Duration::from_millis(500));
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        world.spying = true;
        let ticket = world.call(3, origin);
        world.outputs(ticket);
        world.run_for(Duration::from_millis(1));
        assert_eq!(forwarded(world, 3), 1, "the former host sends it on");
        for _ in 0..5 {
            let ticket = world.call(3, origin);
            world.outputs(ticket);
        }
        assert_eq!(forwarded(world, 3), 0, "from then on it goes straight");
        assert_eq!(world.seen(origin).len(), 7);
    });
}

#[test]
fn events_after_a_daemon_that_goes_in_circles_never_do() {
    let most = Cell::new(0);
    for_seeds(0..20, 5, |world| {
        world.spying = true;
        for slow in 3..5 {
            let lag = Duration::from_micros(world.chance(8_000));
            world.lag.insert(slow, lag);
        }
        let origin = world.spawn(0, 1, "prompt");
        let mut tickets = Vec::new();
        let mut host = 0;
        for _ in 0..12 {
            let (one, other) = (world.chance(5), world.chance(4));
            let (one, other) = (one as usize, (one as usize + 1 + other as usize) % 5);
            let heal = Duration::from_micros(world.chance(20_000));
            world.cut(one, other, heal);
            tickets.extend((0..5).map(|caller| world.call(caller, origin)));
            let next = (host + 1 + world.chance(2) as usize) % 3;
            if next != host && world.moved(host, origin, next).is_ok() {
                host = next;
            }
            tickets.extend((0..5).map(|caller| world.call(caller, origin)));
        }
        for ticket in tickets {
            world.outputs(ticket);
        }
        assert_eq!(world.seen(origin).len(), 120, "each ran once");
        most.set(most.get().max(assert_no_circles(world)));
    });
    assert!(most.get() > 0, "something was sent on");
}
