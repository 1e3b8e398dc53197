//! Large messages: of many streams to one peer, and on their way through a node that takes more than the one behind it.

use std::cell::Cell;
use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::identity::{EntityKeypair, OriginHash};
use mesh_daemon_core::mesh::{Loss, RecordSink};
use mesh_daemon_core::runtime::{ArrivalPolicy, RuntimeError, RuntimeOptions, SpawnRequest};
use mesh_daemon_core::wire::{Lane, Subprotocol};

use super::in_world;
use super::world::World;

/// Takes no more in a payload than a megabyte; all others take 64.
const MODEST: usize = 1;
const FORMER: usize = 2;
const SECOND: Duration = Duration::from_secs(1);

fn modest_world() -> World {
    world_in_which_one_takes(1 << 20)
}

fn world_in_which_one_takes(max_payload: u64) -> World {
    World::with_options(1, 3, |node| RuntimeOptions {
        arrivals: ArrivalPolicy::AnyKind,
        max_payload: if node == MODEST { max_payload } else { RuntimeOptions::default().max_payload },
        ..RuntimeOptions::default()
    })
}

/// A daemon that went from the former host to another one, out of reach of a caller that goes on through the former one.
fn behind_another(world: &mut World, caller: usize, host: usize) -> OriginHash {
    let origin = world.spawn(FORMER, 1, "prompt");
    world.lose(caller, host, Loss::Silence);
    let first = world.call(caller, origin);
    world.outputs(first);
    assert_eq!(world.moved(FORMER, origin, host), Ok(()));
    let second = world.call(caller, origin);
    assert_eq!(world.outputs(second).1, 2, "it is sent on");
    origin
}

#[test]
fn an_event_beyond_the_limit_of_a_host_behind_another_node_fails_alone_and_at_once() {
    in_world(modest_world(), |world| {
        let origin = behind_another(world, 0, MODEST);
        let before = world.call(0, origin);
        let request = world.request(0, 0);
        let large = world.call_with(0, origin, request, 5 << 20);
        let behind = world.call(0, origin);
        match world.failure(large) {
            RuntimeError::OutputTooLarge(message) => assert!(message.contains("1048576"), "{message}"),
            other => panic!("{other:?}"),
        }
        assert_eq!((world.outputs(before).1, world.outputs(behind).1), (3, 4), "those beside it ran");
        assert!(!world.seen(origin).contains(&request.id));
        world.run_for(SECOND);
        world.assert_nothing_left();
    });
}

/// They leave together, and what is left of them would be sent again once for each that is refused alone.
#[test]
fn events_beyond_the_limit_of_a_host_behind_another_node_are_refused_together() {
    in_world(world_in_which_one_takes(1000), |world| {
        let origin = behind_another(world, 0, MODEST);
        world.spying = true;
        world.clogged = vec![(0, FORMER, Lane::Fast)];
        let large: Vec<_> = (0..20)
            .map(|_| {
                let request = world.request(0, 0);
                world.call_with(0, origin, request, 2000)
            })
            .collect();
        let behind = world.call(0, origin);
        world.clogged.clear();
        for ticket in large {
            assert!(matches!(world.failure(ticket), RuntimeError::OutputTooLarge(_)));
        }
        assert_eq!(world.outputs(behind).1, 3);
        let sent = world.streams.iter().filter(|spied| (spied.from, spied.to) == (0, FORMER) && spied.events.is_some());
        assert_eq!(sent.count(), 2, "once, and what was not refused again");
    });
}

/// Nothing of its batch went on, and nobody asks for it any more.
#[test]
fn what_left_with_an_event_beyond_the_limit_arrives_though_its_caller_gives_it_up() {
    in_world(world_in_which_one_takes(1000), |world| {
        let origin = behind_another(world, 0, MODEST);
        world.spying = true;
        world.clogged = vec![(0, FORMER, Lane::Fast)];
        let request = world.request(0, 0);
        let before = world.call(0, origin);
        let large = world.call_with(0, origin, request, 2000);
        let behind = world.call(0, origin);
        world.clogged.clear();
        let left = |world: &World| world.streams.iter().any(|spied| (spied.from, spied.to) == (0, FORMER));
        assert!(world.run_until(SECOND, left));
        let now = world.present();
        world.nodes[0].engine.withdraw(large, origin, now);
        world.settle(0);
        assert_eq!((world.outputs(before).1, world.outputs(behind).1), (3, 4));
        assert!(!world.seen(origin).contains(&request.id));
        world.run_for(SECOND);
        world.assert_nothing_left();
    });
}

#[test]
fn an_output_beyond_the_limit_of_a_caller_behind_another_node_is_an_error_for_that_caller_alone() {
    in_world(modest_world(), |world| {
        let origin = behind_another(world, MODEST, 0);
        let request = world.request(0, 5 << 20);
        let large = world.call_with(MODEST, origin, request, 0);
        let behind = world.call(MODEST, origin);
        assert!(matches!(world.failure(large), RuntimeError::OutputTooLarge(_)));
        assert_eq!(world.outputs(behind).1, 4, "it ran, and so did the next one");
        world.run_for(SECOND);
        world.assert_nothing_left();
    });
}

/// A frame that counts how often somebody looks whether it has room.
struct Frame {
    left: usize,
    looks: Cell<usize>,
}

impl Frame {
    const fn new() -> Self {
        Self { left: 65_000, looks: Cell::new(0) }
    }
}

impl RecordSink for Frame {
    fn room(&self) -> usize {
        self.looks.set(self.looks.get() + 1);
        self.left.saturating_sub(8)
    }

    fn record(&mut self, _: Subprotocol, encode: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
        let mut body = Vec::new();
        encode(&mut body);
        self.left = self.left.checked_sub(body.len() + 8)?;
        Some(body.len())
    }
}

/// How often the fast lane looks for room for each event, when each of so many daemons of one peer gets a large one.
fn looks_for_each(count: u32) -> usize {
    let mut world = World::new(1, 2);
    let origins: Vec<_> = (0..count)
        .map(|number| {
            let mut seed = [7; 32];
            seed[..4].copy_from_slice(&number.to_le_bytes());
            let keypair = EntityKeypair::from_seed(&seed);
            let origin = keypair.origin_hash();
            let (kind, config) = (Some("prompt".to_owned()), HostConfig::default());
            let request = SpawnRequest { kind, keypair, config, snapshot: None, instance: false };
            world.act(1, None, |engine, ticket, now| engine.spawn(ticket, request, now));
            origin
        })
        .collect();
    world.run_for(SECOND);
    world.clogged = vec![(0, 1, Lane::Bulk)];
    let payload = world.request(0, 0).encode(60_000);
    for &origin in &origins {
        let payload = payload.clone();
        world.act(0, None, |engine, ticket, now| engine.call(ticket, origin, payload, 60 * SECOND, now));
    }
    world.run_for(SECOND);
    // The daemons are found. From here on there is no network.
    let (now, peer) = (world.present(), world.id(1));
    let engine = &mut world.nodes[0].engine;
    let (mut looks, mut sent) = (0, 0);
    loop {
        let mut frame = Frame::new();
        engine.fill(peer, Lane::Fast, &mut frame, now);
        looks += frame.looks.get();
        let mut frame = Frame::new();
        engine.fill(peer, Lane::Bulk, &mut frame, now);
        if frame.left == 65_000 {
            break;
        }
        sent += 65_000 - frame.left;
    }
    assert!(sent >= count as usize * 60_000, "all of it went out");
    looks / count as usize
}

/// So few as fit into what waits for a peer, and many more.
#[test]
fn a_large_event_goes_out_as_fast_however_many_streams_have_one() {
    let (few, many) = (looks_for_each(200), looks_for_each(2000));
    assert!(many <= few + 10, "{few} and {many} looks for each");
}
