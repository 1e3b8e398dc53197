//! What a host says last of the streams of a daemon, and what it says of streams that it does not know.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::runtime::{Executed, RuntimeError};
use mesh_daemon_core::wire::events::EventsMessage;

use super::daemon::HANG;
use super::in_world;
use super::world::World;

const HOST: usize = 0;
const CALLER: usize = 1;
const SOON: Duration = Duration::from_millis(100);

/// More than a message may have.
#[test]
fn calls_that_wait_when_their_daemon_ends_are_answered_however_many_they_are() {
    in_world(World::new(1, 2), |world| {
        let config = HostConfig { mailbox_capacity: 10_000, ..HostConfig::default() };
        let origin = world.spawn_with(HOST, 1, "prompt", config);
        let hang = world.request(HANG, 0);
        let running = world.deliver(CALLER, origin, hang);
        world.run_for(SOON);
        let waiting: Vec<_> = (0..6000).map(|_| world.call(CALLER, origin)).collect();
        world.run_for(10 * SOON);
        let now = world.present();
        world.nodes[HOST].engine.shutdown(now);
        world.settle(HOST);
        world.run_for(10 * SOON);
        let stopped = |executed| RuntimeError::StoppedMeanwhile { origin, executed };
        assert_eq!(world.failure(running), stopped(Executed::Unknown));
        for ticket in waiting {
            assert_eq!(world.failure(ticket), stopped(Executed::No));
        }
        assert_eq!(world.nodes[CALLER].engine.census().refused_messages, 0);
    });
}

/// The host ends the stream, and its word for that does not arrive: here there never was one.
#[test]
fn whoever_reminds_a_host_of_a_stream_that_it_does_not_know_hears_that() {
    in_world(World::new(1, 2), |world| {
        world.spying = true;
        let config = HostConfig { callback_timeout: Duration::from_secs(3600), ..HostConfig::default() };
        let origin = world.spawn_with(HOST, 1, "prompt", config);
        let hang = world.request(HANG, 0);
        let waits = world.deliver(CALLER, origin, hang);
        world.run_for(SOON);
        let stream = world.streams.iter().find(|spied| spied.from == CALLER).expect("it spoke").stream;
        world.forge_events(CALLER, HOST, &EventsMessage::Close { stream });
        let executed = Executed::Unknown;
        assert_eq!(world.failure(waits), RuntimeError::PeerLost { origin, executed });
        let (_, key) = world.hosts(origin)[0];
        world.let_go(HOST, key);
        let later = world.call(CALLER, origin);
        assert_eq!(world.outputs(later).1, 2);
        world.assert_nothing_left();
    });
}
