//! A daemon that is sent more than its mailbox holds: whoever waits for room there gets a share of it, in turn.

use std::time::Duration;

use mesh_daemon_core::daemon::{HostConfig, Ticket};
use mesh_daemon_core::identity::OriginHash;

use super::in_world;
use super::world::World;

const HOST: usize = 0;
const FLOODER: usize = 1;
const OTHER: usize = 2;
/// More than a mailbox and the window of a stream hold.
const FLOOD: usize = 5000;
const SECOND: Duration = Duration::from_secs(1);

fn daemon(world: &mut World, config: HostConfig) -> OriginHash {
    // The flood takes ten seconds.
    world.slow_takes = 2_000..2_001;
    world.spawn_with(HOST, 1, "slow", config)
}

fn small() -> HostConfig {
    HostConfig { mailbox_capacity: 16, ..HostConfig::default() }
}

fn flood(world: &mut World, node: usize, origin: OriginHash) -> Vec<Ticket> {
    (0..FLOOD).map(|_| world.send(node, origin)).collect()
}

/// Everything that was sent came in, and nothing is left of it.
fn assert_all_sent(world: &mut World, sent: &[Ticket]) {
    for ticket in sent {
        world.wait_for(*ticket).as_ref().expect("it came in");
    }
    // What is in the mailbox by now takes two seconds at most.
    world.run_for(3 * SECOND);
    world.assert_nothing_left();
}

#[test]
fn messages_of_a_channel_come_in_beside_a_sender_that_fills_the_mailbox_again_and_again() {
    in_world(World::new(1, 3), |world| {
        world.open_channels();
        world.register_channel(OTHER, "in");
        let origin = daemon(world, small());
        world.subscribe_daemon(HOST, origin, OTHER, "in");
        let sent = flood(world, FLOODER, origin);
        world.run_for(SECOND);
        let published: Vec<u64> = (0..30)
            .map(|_| {
                let request = world.request(0, 0);
                world.publish(OTHER, "in", &request.encode(0));
                request.id
            })
            .collect();
        world.run_for(SECOND);
        let mut seen = world.seen(origin);
        assert!(seen.len() < FLOOD, "the flood goes on");
        seen.retain(|id| published.contains(id));
        assert_eq!(seen, published);
        assert_all_sent(world, &sent);
    });
}

#[test]
fn messages_that_need_no_acknowledgement_are_not_all_dropped_because_a_sender_fills_the_mailbox() {
    in_world(World::new(1, 3), |world| {
        world.open_channels();
        world.register_channel(OTHER, "in");
        let origin = daemon(world, small());
        world.subscribe_daemon(HOST, origin, OTHER, "in");
        let sent = flood(world, FLOODER, origin);
        world.run_for(SECOND);
        let published: Vec<u64> = (0..10)
            .map(|_| {
                let request = world.request(0, 0);
                world.publish_lossy(OTHER, "in", &request.encode(0));
                world.run_for(SECOND / 10);
                request.id
            })
            .collect();
        world.run_for(SECOND);
        let mut seen = world.seen(origin);
        assert!(seen.len() < FLOOD, "the flood goes on");
        seen.retain(|id| published.contains(id));
        assert_eq!(seen, published);
        assert_all_sent(world, &sent);
    });
}

#[test]
fn two_senders_that_fill_the_mailbox_again_and_again_get_half_of_it_each() {
    in_world(World::new(1, 3), |world| {
        let origin = daemon(world, small());
        let sent = [FLOODER, OTHER].map(|node| flood(world, node, origin)).concat();
        world.run_for(5 * SECOND);
        let seen = world.seen(origin);
        let of_other = seen.iter().filter(|id| world.sender_of(**id) == OTHER).count();
        assert!(seen.len() > 2000, "{}: the daemon is busy", seen.len());
        assert!((seen.len() * 2 / 5..=seen.len() * 3 / 5).contains(&of_other), "{of_other} of {}", seen.len());
        assert_all_sent(world, &sent);
    });
}

#[test]
fn a_large_event_comes_in_beside_small_ones_that_would_always_fit_before_it() {
    in_world(World::new(1, 3), |world| {
        let config = HostConfig { mailbox_capacity: 1024, mailbox_bytes: 100_000, ..HostConfig::default() };
        let origin = daemon(world, config);
        let sent = flood(world, FLOODER, origin);
        world.run_for(SECOND / 10);
        let large = world.request(0, 0);
        let called = world.call_with(OTHER, origin, large, 90_000);
        world.run_for(5 * SECOND);
        let seen = world.seen(origin);
        assert!(seen.len() < FLOOD, "the flood goes on");
        assert!(seen.contains(&large.id));
        assert!(world.is_answered(called));
        assert_all_sent(world, &sent);
    });
}
