//! A daemon that is sent more than its mailbox holds: whoever waits for room there gets a share of it, in turn.

use std::time::Duration;

use mesh_daemon_core::daemon::{HostConfig, Ticket};
use mesh_daemon_core::events::MOST_HELD_BYTES;
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::runtime::{Engine, RuntimeError};

use super::daemon::{HANG, Request};
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

const MAILBOX_BYTES: usize = 100_000;

fn little_memory() -> HostConfig {
    HostConfig { mailbox_capacity: 1024, mailbox_bytes: MAILBOX_BYTES, ..HostConfig::default() }
}

/// Keeps calls of the daemon's own node under way, for so many hundredths of a second; each goes on as soon as it has an answer.
fn call_from_its_own_node(world: &mut World, origin: OriginHash, calls: usize, rounds: usize) {
    let mut own: Vec<Ticket> = Vec::new();
    for _ in 0..rounds {
        own.retain(|ticket| !world.is_answered(*ticket));
        for _ in own.len()..calls {
            let request = world.request(0, 0);
            own.push(world.call_with(HOST, origin, request, 8_000));
        }
        world.run_for(SECOND / 100);
    }
}

#[test]
fn a_large_event_and_those_behind_it_come_in_beside_callers_of_the_daemons_own_node() {
    in_world(World::new(1, 3), |world| {
        let origin = daemon(world, little_memory());
        call_from_its_own_node(world, origin, 20, 10);
        let called = [(FLOODER, 90_000), (OTHER, 0)].map(|(node, padding)| {
            let request = world.request(0, 0);
            world.call_with(node, origin, request, padding)
        });
        call_from_its_own_node(world, origin, 20, 100);
        assert!(called.iter().all(|ticket| world.is_answered(*ticket)));
    });
}

#[test]
fn callers_of_the_daemons_own_node_get_their_share_beside_events_that_leave_little_room() {
    in_world(World::new(1, 3), |world| {
        let origin = daemon(world, little_memory());
        let sent: Vec<Ticket> = (0..600)
            .map(|_| {
                let request = world.request(0, 0);
                world.call_with(FLOODER, origin, request, 60_000)
            })
            .collect();
        world.run_for(SECOND / 10);
        call_from_its_own_node(world, origin, 5, 80);
        let seen = world.seen(origin);
        let own = seen.iter().filter(|id| world.sender_of(**id) == HOST).count();
        assert!(sent.iter().any(|ticket| !world.is_answered(*ticket)), "the flood goes on");
        assert!(own >= seen.len() / 3, "{own} of {}", seen.len());
        assert!(seen.len() - own >= seen.len() / 8, "{own} of {}", seen.len());
    });
}

/// Why nobody is held up any more by an event that lacks room.
#[derive(Clone, Copy)]
enum Relief {
    ItsCallerGaveUp,
    /// The stream of its sender's former life is over.
    ItsSenderBeganAnew,
    /// The daemon runs nothing, so no room comes free for it.
    TheDaemonIsMoved,
}

#[test]
fn callers_of_the_daemons_own_node_are_let_in_again_when_nothing_large_waits_any_more() {
    for relief in [Relief::ItsCallerGaveUp, Relief::ItsSenderBeganAnew, Relief::TheDaemonIsMoved] {
        in_world(World::new(1, 3), |world| {
            let origin = daemon(world, little_memory());
            let (key, room) = (world.hosts(origin)[0].1, |world: &World| world.nodes[HOST].engine.mailbox_room(origin));
            let own = |world: &mut World, flags: u64| {
                let request: Request = world.request(flags, 0);
                world.call_with(HOST, origin, request, 8_000)
            };
            // One runs until it is let go; the next batch begins with another one.
            let mut called: Vec<Ticket> = [HANG, HANG].map(|flags| own(world, flags)).to_vec();
            called.extend((0..9).map(|_| own(world, 0)));
            let large = world.request(0, 0);
            let large = world.call_with(FLOODER, origin, large, 90_000);
            world.run_for(SECOND / 10);
            called.push(own(world, 0));
            assert!(!world.is_answered(called[11]), "there is room for it, which what is large has no use for");
            world.let_go(HOST, key);
            assert_eq!(room(world), Some((0, 0)), "what came free is kept");
            let refused = own(world, 0);
            assert!(matches!(world.failure(refused), RuntimeError::MailboxFull(_)));
            match relief {
                Relief::ItsCallerGaveUp => {
                    let now = world.present();
                    world.nodes[FLOODER].engine.withdraw(large, origin, now);
                    world.settle(FLOODER);
                }
                Relief::ItsSenderBeganAnew => {
                    world.restart(FLOODER);
                    called.push(world.call(FLOODER, origin));
                }
                Relief::TheDaemonIsMoved => {
                    called.push(large);
                    world.migrate(HOST, origin, OTHER);
                }
            }
            world.run_for(SECOND / 10);
            assert!(room(world).is_some_and(|(_, bytes)| bytes > 8_000), "{:?}", room(world));
            called.push(own(world, 0));
            world.let_go(HOST, key);
            for ticket in called {
                world.wait_for(ticket).as_ref().expect("it ran");
            }
        });
    }
}

/// What a node holds for another one is bounded; what is beyond that is dropped, and asked for again when there is room.
#[test]
fn what_was_dropped_for_want_of_room_comes_in_though_others_fill_the_mailbox_again_and_again() {
    in_world(World::new(1, 3), |world| {
        // Two daemons that run nothing: what they are sent takes all that the host holds for one node.
        for seed in [2, 3] {
            let stuck = world.spawn_with(HOST, seed, "slow", little_memory());
            for (flags, padding) in [(HANG, 0), (0, 0), (0, MOST_HELD_BYTES / 2 - 1_000)] {
                let request = world.request(flags, 0);
                world.call_with(FLOODER, stuck, request, padding);
                world.run_for(SECOND / 10);
            }
        }
        world.run_for(SECOND);
        let origin = daemon(world, small());
        let sent = flood(world, OTHER, origin);
        world.run_for(SECOND);
        let request = world.request(0, 0);
        let called = world.call_with(FLOODER, origin, request, 10_000);
        world.run_for(5 * SECOND);
        assert!(sent.iter().any(|ticket| !world.is_answered(*ticket)), "the flood goes on");
        assert!(world.is_answered(called));
    });
}

/// Batches of this node and senders of another one, beside callers of this node that fill what is left.
#[test]
fn who_waits_for_room_on_the_daemons_own_node_gets_it_in_turn_and_in_order() {
    in_world(World::new(1, 3), |world| {
        let origin = daemon(world, small());
        let sent = flood(world, FLOODER, origin);
        world.run_for(SECOND);
        let own: Vec<_> = (0..100)
            .map(|_| {
                let request = world.request(0, 0);
                let payload = request.encode(0);
                let enter = |engine: &mut Engine, ticket, now| engine.call_in_turn(ticket, origin, payload, now);
                (request.id, world.act(HOST, Some(request.id), enter))
            })
            .collect();
        world.run_for(3 * SECOND);
        let seen = world.seen(origin);
        assert!(seen.len() < FLOOD, "the flood goes on");
        let in_order: Vec<u64> = seen.into_iter().filter(|id| own.iter().any(|(own, _)| own == id)).collect();
        assert_eq!(in_order, own.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        for (_, ticket) in own {
            world.outputs(ticket);
        }
        assert_all_sent(world, &sent);
    });
}

/// Nobody needs to be asked where it is.
#[test]
fn who_waits_for_room_where_there_is_no_other_node_gets_it() {
    in_world(World::new(1, 1), |world| {
        let origin = daemon(world, small());
        let calls: Vec<_> = (0..60)
            .map(|_| {
                let request = world.request(0, 0);
                let payload = request.encode(0);
                let enter = |engine: &mut Engine, ticket, now| engine.call_in_turn(ticket, origin, payload, now);
                world.act(HOST, Some(request.id), enter)
            })
            .collect();
        for (before, call) in (1..).zip(calls) {
            assert_eq!(world.outputs(call).1, before);
        }
        world.run_for(SECOND);
        world.assert_nothing_left();
    });
}

/// Nothing else happens on the node meanwhile.
#[test]
fn who_only_sends_hears_that_it_came_in_though_what_is_before_it_takes_long() {
    in_world(World::new(1, 1), |world| {
        let config = HostConfig { mailbox_capacity: 1, callback_timeout: 600 * SECOND, ..HostConfig::default() };
        let origin = daemon(world, config);
        world.slow_takes = 100_000..100_001;
        for _ in 0..2 {
            world.call(HOST, origin);
            world.run_for(SECOND / 100);
        }
        let request = world.request(HANG, 0);
        let payload = request.encode(0);
        world.act(HOST, Some(request.id), |engine, ticket, now| engine.call_in_turn(ticket, origin, payload, now));
        let sent = world.send(HOST, origin);
        let (_, key) = world.hosts(origin)[0];
        assert!(world.run_until(SECOND, |world| world.nodes[HOST].objects.map[&key].hanging));
        assert!(world.is_answered(sent), "there is room for it");
        world.let_go(HOST, key);
        world.run_for(SECOND);
        world.assert_nothing_left();
    });
}
