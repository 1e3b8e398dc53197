//! Callers that give up: what had not begun does not run, wherever it waits.

use std::time::Duration;

use mesh_daemon_core::daemon::{HostConfig, Ticket};
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::runtime::{Rest, RuntimeError};

use super::daemon::HANG;
use super::in_world;
use super::world::{How, Meddler, Node, World};

const SECOND: Duration = Duration::from_secs(1);

fn call_for(world: &mut World, node: usize, origin: OriginHash, timeout: Duration, padding: usize) -> (Ticket, u64) {
    let request = world.request(0, 0);
    let payload = request.encode(padding);
    let act =
        world.act(node, Some(request.id), |engine, ticket, now| engine.call(ticket, origin, payload, timeout, now));
    (act, request.id)
}

#[test]
fn calls_that_are_given_up_while_their_daemon_is_handed_over_do_not_run() {
    for seed in 0..10 {
        in_world(World::new(seed, 2), |world| {
            let kind = if seed.is_multiple_of(2) { "prompt" } else { "slow" };
            let config = HostConfig { mailbox_capacity: 64, ..HostConfig::default() };
            let origin = world.spawn_with(0, 1, kind, config);
            let first = world.call(0, origin);
            world.outputs(first);
            // The last one: the mailbox is closed until it has come.
            let how = How::Delay(10 * SECOND);
            world.meddler = Some(Meddler { message: "BufferedEvents", nth: 1, how });
            let ticket = world.migrate(0, origin, 1);
            let migration = world.migration(ticket).expect("it begins");
            assert!(world.run_until(SECOND, |world| world.meddled == 1));
            let room = |world: &World| world.nodes[0].engine.mailbox_room(origin);
            assert_eq!(room(world), Some((4096, 16 << 20)), "it is closed, and what comes is held");
            let aborted = world.request(0, 0);
            let abandoned = world.deliver(0, origin, aborted);
            let (late, timed_out) = call_for(world, 0, origin, SECOND, 0);
            let kept = world.call(0, origin);
            assert_eq!(room(world).map(|(events, _)| events), Some(4093));
            let now = world.present();
            world.nodes[0].engine.withdraw(abandoned, origin, now);
            world.run_for(2 * SECOND);
            assert!(!world.nodes[0].over.contains_key(&migration.get()), "it is still handed over");
            assert_eq!(world.failure(late), RuntimeError::CallTimeout(SECOND), "in its time");
            assert_eq!(world.wait_migration(0, migration), Ok(()));
            assert_eq!(world.outputs(kept).1, 2, "only the first one ran before");
            world.run_for(SECOND);
            let seen = world.seen(origin);
            assert!(!seen.contains(&aborted.id) && !seen.contains(&timed_out), "{seen:?}");
            assert!(!world.is_answered(abandoned));
        });
    }
}

/// One of them is large: the word that it is given up overtakes it.
#[test]
fn calls_that_are_given_up_while_they_wait_for_room_in_a_mailbox_do_not_run() {
    for padding in [0, 200_000] {
        in_world(World::new(1, 2), |world| {
            let config = HostConfig { mailbox_capacity: 1, ..HostConfig::default() };
            let origin = world.spawn_with(0, 1, "prompt", config);
            let hang = world.request(HANG, 0);
            let stuck = world.deliver(1, origin, hang);
            world.run_for(SECOND / 10);
            let calls: Vec<_> = (0..4).map(|_| call_for(world, 1, origin, SECOND, padding)).collect();
            let kept = world.call(1, origin);
            for (ticket, _) in &calls {
                assert_eq!(world.failure(*ticket), RuntimeError::CallTimeout(SECOND));
            }
            world.run_for(SECOND);
            let (_, key) = world.hosts(origin)[0];
            world.let_go(0, key);
            world.outputs(stuck);
            assert_eq!(world.outputs(kept).1, 2);
            assert_eq!(world.seen(origin).len(), 2);
        });
    }
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let first = world.call(1, origin);
        world.outputs(first);
        let (aborted, _) = call_for(world, 1, origin, SECOND, 2_000_000);
        let now = world.present();
        world.nodes[1].engine.withdraw(aborted, origin, now);
        world.settle(1);
        let kept = world.call(1, origin);
        assert_eq!(world.outputs(kept).1, 2, "the large one did not run");
    });
}

#[test]
fn a_large_event_behind_others_that_wait_for_room_is_not_lost() {
    in_world(World::new(1, 2), |world| {
        let config = HostConfig { mailbox_capacity: 1, ..HostConfig::default() };
        let origin = world.spawn_with(0, 1, "prompt", config);
        let hang = world.request(HANG, 0);
        let mut tickets = vec![world.deliver(0, origin, hang)];
        for padding in [0, 1 << 20, 1 << 20, 40 << 20, 0, 1 << 20] {
            tickets.push(call_for(world, 1, origin, 60 * SECOND, padding).0);
        }
        world.run_for(5 * SECOND);
        let (_, key) = world.hosts(origin)[0];
        world.let_go(0, key);
        for (index, ticket) in (1..).zip(tickets) {
            assert_eq!(world.outputs(ticket).1, index, "in order");
        }
        assert_eq!(world.nodes[0].engine.census().refused_messages, 0);
    });
}

/// It waits in the mailbox of its own node, where it came through the stream, and the daemon has just become free.
#[test]
fn a_call_of_the_daemons_own_node_that_is_given_up_is_in_no_batch_that_is_formed_then() {
    in_world(World::new(1, 2), |world| {
        // Called before it is there, while somebody is silent who may know of it.
        world.cut(0, 1, 1000 * SECOND);
        world.run_for(SECOND);
        let hang = world.request(HANG, 0);
        let origin = World::daemon_key(1).origin_hash();
        let stuck = world.call_with(0, origin, hang, 0);
        let (abandoned, id) = call_for(world, 0, origin, 60 * SECOND, 0);
        let kept = world.call(0, origin);
        let config = HostConfig { mailbox_capacity: 1, ..HostConfig::default() };
        assert_eq!(world.spawn_with(0, 1, "prompt", config), origin);
        let (_, key) = world.hosts(origin)[0];

        let now = world.present();
        let Node { engine, objects, .. } = &mut world.nodes[0];
        let object = objects.map.get_mut(&key).expect("it lives here");
        let working = object.working.take().expect("the first one hangs");
        let outcome = object.ledger.process(&working.events[0].payload);
        engine.ran(key, working.batch, [outcome], Rest::Continues, now, &mut |_, _| {});
        engine.withdraw(abandoned, origin, now);
        world.settle(0);

        world.outputs(stuck);
        assert_eq!(world.outputs(kept).1, 2, "only the first one ran before");
        assert!(!world.seen(origin).contains(&id));
    });
}

/// The object's thread does other things between two events of a batch. Those that are behind it by then have not begun.
#[test]
fn a_call_that_is_given_up_while_its_batch_pauses_in_front_of_it_does_not_run() {
    for caller in [0, 1] {
        in_world(World::new(1, 2), |world| {
            let origin = world.spawn(0, 1, "slow");
            let (_, key) = world.hosts(origin)[0];
            // The second batch begins with one that hangs as well.
            for _ in 0..2 {
                let hang = world.request(HANG, 0);
                world.call_with(0, origin, hang, 0);
            }
            let (abandoned, id) = call_for(world, caller, origin, 60 * SECOND, 0);
            let kept = world.call(caller, origin);
            world.run_for(SECOND / 10);
            world.let_go(0, key);
            world.nodes[0].objects.map.get_mut(&key).expect("it lives here").pausing = true;
            world.let_go(0, key);
            assert_eq!(world.seen(origin).len(), 2, "it pauses");

            let now = world.present();
            world.nodes[caller].engine.withdraw(abandoned, origin, now);
            world.settle(caller);
            assert_eq!(world.outputs(kept).1, 3, "what hung, and this one");
            assert!(!world.seen(origin).contains(&id));
        });
    }
}
