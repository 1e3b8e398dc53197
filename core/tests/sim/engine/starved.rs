//! What waits for room in a mailbox comes in when the last event leaves it, however that leaves: withdrawn, it leaves no batch
//! behind that would look for others.

use std::time::Duration;

use mesh_daemon_core::daemon::{DaemonKey, HostConfig, Ticket};
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::runtime::Settlement;

use super::daemon::HANG;
use super::in_world;
use super::world::World;

const HOST: usize = 0;
const CALLER: usize = 1;
const OTHER: usize = 2;
const SECOND: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(100);

/// How the event that fills the mailbox leaves it.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// Its caller on another node does not wait any longer.
    CalledOff,
    /// Its caller on the host does not.
    Late,
    /// The same, before its time is over.
    Aborted,
    /// The daemon makes no progress.
    TimedOut,
}

const WAYS: [Leaves; 4] = [Leaves::CalledOff, Leaves::Late, Leaves::Aborted, Leaves::TimedOut];

/// A daemon with a mailbox for one event, which is busy.
fn busy(world: &mut World, way: Leaves) -> (OriginHash, DaemonKey) {
    let callback_timeout = Duration::from_secs(if matches!(way, Leaves::TimedOut) { 1 } else { 600 });
    let config = HostConfig { mailbox_capacity: 1, callback_timeout, ..HostConfig::default() };
    let origin = world.spawn_with(HOST, 1, "prompt", config);
    (origin, world.hosts(origin)[0].1)
}

fn hang(world: &mut World, origin: OriginHash) {
    let hang = world.request(HANG, 0);
    world.deliver(CALLER, origin, hang);
    world.run_for(SOON);
}

/// Fills the mailbox.
fn fill(world: &mut World, origin: OriginHash, way: Leaves) -> (Ticket, u64) {
    let node = if matches!(way, Leaves::CalledOff) { CALLER } else { HOST };
    let timeout = if matches!(way, Leaves::CalledOff | Leaves::Late) { SECOND } else { 60 * SECOND };
    let request = world.request(0, 0);
    let payload = request.encode(0);
    let ticket =
        world.act(node, Some(request.id), |engine, ticket, now| engine.call(ticket, origin, payload, timeout, now));
    world.run_for(SOON);
    (ticket, request.id)
}

/// Has the event leave, and the long one settle.
fn empty(world: &mut World, origin: OriginHash, key: DaemonKey, way: Leaves, ticket: Ticket) {
    world.run_for(SOON);
    if matches!(way, Leaves::Aborted) {
        let now = world.present();
        world.nodes[HOST].engine.withdraw(ticket, origin, now);
        world.settle(HOST);
    }
    world.run_for(2 * SECOND);
    world.let_go(HOST, key);
    world.run_for(SECOND);
}

#[test]
fn an_event_that_waited_for_room_comes_in_when_the_mailbox_empties_without_a_batch() {
    for way in WAYS {
        in_world(World::new(1, 3), |world| {
            let (origin, key) = busy(world, way);
            hang(world, origin);
            let (ticket, gone) = fill(world, origin, way);
            let sent = world.send(OTHER, origin);
            world.run_for(SOON);
            assert!(!world.is_answered(sent), "{way:?}: the mailbox is full");
            empty(world, origin, key, way, ticket);
            let result = world.waits[&sent.0].result.as_ref();
            assert!(matches!(result, Some(Ok(Settlement::Done))), "{way:?}: {result:?}");
            let seen = world.seen(origin);
            assert!(seen.len() == 2 && !seen.contains(&gone), "{way:?}: {seen:?}");
            world.assert_nothing_left();
        });
    }
}

#[test]
fn a_message_of_a_channel_that_waited_for_room_comes_in_when_the_mailbox_empties_without_a_batch() {
    for way in WAYS {
        in_world(World::new(1, 3), |world| {
            world.open_channels();
            world.register_channel(OTHER, "in");
            let (origin, key) = busy(world, way);
            world.subscribe_daemon(HOST, origin, OTHER, "in");
            hang(world, origin);
            let (ticket, gone) = fill(world, origin, way);
            let published = world.request(0, 0);
            world.publish(OTHER, "in", &published.encode(0));
            empty(world, origin, key, way, ticket);
            let seen = world.seen(origin);
            assert!(seen.last() == Some(&published.id) && !seen.contains(&gone), "{way:?}: {seen:?}");
            world.assert_nothing_left();
        });
    }
}

/// Whoever calls and gives up, again and again, while the embedder is busy with something else.
#[test]
fn room_that_comes_free_again_and_again_has_a_daemon_come_round_once() {
    in_world(World::new(1, 3), |world| {
        let (origin, key) = busy(world, Leaves::Aborted);
        hang(world, origin);
        let now = world.present();
        for _ in 0..1000 {
            let ticket = world.ticket(HOST, None);
            let payload = world.request(0, 0).encode(0);
            let engine = &mut world.nodes[HOST].engine;
            engine.call(ticket, origin, payload, 60 * SECOND, now).expect("there is room");
            engine.withdraw(ticket, origin, now);
        }
        assert_eq!(world.nodes[HOST].engine.census().coming_round, 1);
        world.settle(HOST);
        assert_eq!(world.nodes[HOST].engine.census().coming_round, 0);
        world.let_go(HOST, key);
        world.run_for(SECOND);
        assert_eq!(world.seen(origin).len(), 1, "what was given up did not run");
    });
}
