//! Daemons that end while outputs of theirs wait for their channel to take them.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::wire::Lane;

use super::daemon::SPLIT;
use super::in_world;
use super::world::World;

const HOST: usize = 0;
const SUBSCRIBER: usize = 1;
const SECOND: Duration = Duration::from_secs(1);
/// More than are on the way at a time.
const OUTPUTS: usize = 600;

/// A daemon whose outputs wait for a subscriber that takes nothing.
fn clogged(world: &mut World) -> OriginHash {
    world.open_channels();
    let config = HostConfig { output_channel: Some("out".to_owned()), ..HostConfig::default() };
    let origin = world.spawn_with(HOST, 1, "prompt", config);
    world.subscribe_node(SUBSCRIBER, HOST, "out");
    world.run_for(SECOND);
    world.clogged = [Lane::Fast, Lane::Bulk].map(|lane| (HOST, SUBSCRIBER, lane)).to_vec();
    let many = world.request(SPLIT, OUTPUTS as u64);
    let ticket = world.deliver(HOST, origin, many);
    assert!(world.wait_for(ticket).is_ok());
    origin
}

fn unclog(world: &mut World) {
    world.clogged.clear();
    world.settle(HOST);
    world.run_for(5 * SECOND);
}

#[test]
fn outputs_of_a_daemon_that_is_stopped_are_published_all_the_same() {
    in_world(World::new(1, 2), |world| {
        let origin = clogged(world);
        let stop = world.act(HOST, None, |engine, ticket, now| engine.stop(ticket, origin, now));
        assert!(world.wait_for(stop).is_ok());
        assert_eq!(world.messages_of(SUBSCRIBER).len(), 0);
        unclog(world);
        let messages = world.messages_of(SUBSCRIBER);
        let links: Vec<u64> =
            messages.iter().map(|message| message.link.expect("of a daemon").sequence.get()).collect();
        assert_eq!(links, (1..=OUTPUTS as u64).collect::<Vec<_>>(), "each once, and in order");
        world.assert_nothing_left();
    });
}

#[test]
fn an_output_that_its_channel_refuses_keeps_the_daemon_from_no_move() {
    in_world(World::new(1, 2), |world| {
        world.open_channels();
        let config = HostConfig { output_channel: Some("out".to_owned()), ..HostConfig::default() };
        let origin = world.spawn_with(HOST, 1, "prompt", config);
        // More than channels take here.
        let large = world.request(0, 2 << 20);
        let ticket = world.deliver(HOST, origin, large);
        assert!(world.wait_for(ticket).is_ok());
        assert_eq!(world.moved(HOST, origin, SUBSCRIBER), Ok(()));
        assert_eq!(world.hosting(origin), [SUBSCRIBER]);
    });
}
