//! Senders that cannot reach a daemon's host: through a former host, in doubt, and for how long.

use std::time::Duration;

use mesh_daemon_core::causal::CausalLink;
use mesh_daemon_core::daemon::{HostConfig, Ticket};
use mesh_daemon_core::identity::{Epoch, OriginHash};
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::migration::{MigrationFailure, MigrationSettings, Outcome};
use mesh_daemon_core::runtime::{ArrivalPolicy, Executed, RuntimeError, RuntimeOptions};
use mesh_daemon_core::wire::Lane;
use mesh_daemon_core::wire::events::{Event, EventsMessage, Item};

use super::daemon::HANG;
use super::world::{NEVER, Trap, World};
use super::{for_seeds, in_world};

const SECOND: Duration = Duration::from_secs(1);
/// When whoever waits for what is out of reach has been told so.
const PATIENCE: Duration = Duration::from_secs(300);
const MEBIBYTE: usize = 1 << 20;

/// A daemon that moved from node 0 to node 1, and node 2, which reaches only node 0.
fn behind_a_former_host(world: &mut World, kind: &str) -> OriginHash {
    let origin = world.spawn(0, 1, kind);
    assert_eq!(world.moved(0, origin, 1), Ok(()));
    world.lose(1, 2, Loss::Silence);
    let ticket = world.call(2, origin);
    world.outputs(ticket);
    origin
}

/// An event without a deadline of its own.
fn deliver(world: &mut World, node: usize, origin: OriginHash) -> Ticket {
    let request = world.request(0, 0);
    world.deliver(node, origin, request)
}

/// Waits until a ticket is answered, and how long that took.
fn answered_within(world: &mut World, ticket: Ticket, most: Duration) -> Duration {
    let began = world.now;
    assert!(world.run_until(most, |world| world.is_answered(ticket)), "answered within {most:?}");
    world.now - began
}

fn lost(origin: OriginHash, executed: Executed) -> RuntimeError {
    RuntimeError::PeerLost { origin, executed }
}

#[test]
fn promise_1_events_sent_on_to_a_host_that_is_cut_off_are_sent_again_when_it_is_back() {
    for_seeds(0..30, 3, |world| {
        let kind = if world.seed.is_multiple_of(2) { "prompt" } else { "slow" };
        let origin = behind_a_former_host(world, kind);
        let mut tickets = Vec::new();
        for _ in 0..4 {
            tickets.extend((0..5).map(|_| deliver(world, 2, origin)));
            let pause = world.chance(1_500);
            world.run_for(Duration::from_micros(pause));
            world.cut(0, 1, SECOND);
            let pause = world.chance(3_000);
            world.run_for(Duration::from_micros(pause));
            tickets.extend((0..5).map(|_| deliver(world, 2, origin)));
            world.run_for(2 * SECOND);
        }
        for ticket in tickets {
            answered_within(world, ticket, SECOND);
            world.outputs(ticket);
        }
        assert_eq!(world.seen(origin).len(), 41);
    });
}

#[test]
fn events_sent_on_to_a_host_that_is_declared_lost_are_told_to_be_in_doubt() {
    in_world(World::new(1, 3), |world| {
        let origin = behind_a_former_host(world, "slow");
        let maybe = deliver(world, 2, origin);
        world.run_for(Duration::from_micros(900));
        world.cut(0, 1, NEVER);
        world.run_for(SECOND);
        let behind = deliver(world, 2, origin);
        world.run_for(SECOND);
        world.lose(0, 1, Loss::Silence);
        for ticket in [maybe, behind] {
            answered_within(world, ticket, SECOND);
            assert_eq!(world.failure(ticket), lost(origin, Executed::Unknown));
        }
    });
}

#[test]
fn a_sender_waits_five_minutes_for_a_host_that_is_out_of_reach() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(0, 1, "slow");
        let first = world.call(1, origin);
        world.outputs(first);
        let hang = world.request(HANG, 0);
        let maybe = world.deliver(1, origin, hang);
        world.run_for(Duration::from_millis(50));
        world.cut(0, 1, NEVER);
        world.run_for(SECOND);
        let never = deliver(world, 1, origin);
        let took = answered_within(world, maybe, 2 * PATIENCE);
        assert!(took + 5 * SECOND > PATIENCE && took < PATIENCE + 60 * SECOND, "{took:?}");
        assert_eq!(world.failure(maybe), lost(origin, Executed::Unknown));
        assert_eq!(world.failure(never), lost(origin, Executed::No));
    });
}

#[test]
fn a_host_that_is_back_within_five_minutes_is_waited_for_again_and_again() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let mut tickets = Vec::new();
        for _ in 0..8 {
            world.cut(0, 1, Duration::from_secs(250));
            world.run_for(SECOND);
            tickets.push(deliver(world, 1, origin));
            world.run_for(Duration::from_secs(259));
        }
        for ticket in tickets {
            world.outputs(ticket);
        }
    });
}

#[test]
fn a_sender_waits_five_minutes_for_a_host_that_only_a_former_one_cannot_reach() {
    in_world(World::new(1, 3), |world| {
        let origin = behind_a_former_host(world, "prompt");
        world.cut(0, 1, NEVER);
        world.run_for(SECOND);
        let waiting = deliver(world, 2, origin);
        let took = answered_within(world, waiting, 2 * PATIENCE);
        assert!(took + 60 * SECOND > PATIENCE && took < PATIENCE + 60 * SECOND, "{took:?}");
        assert_eq!(world.failure(waiting), lost(origin, Executed::Unknown));
    });
}

#[test]
fn whoever_looks_for_a_daemon_waits_for_the_peer_that_may_host_it_and_then_has_lost_it() {
    for back in [true, false] {
        in_world(World::new(1, 3), |world| {
            let origin = world.spawn(0, 1, "prompt");
            world.cut(0, 1, if back { 20 * SECOND } else { NEVER });
            world.run_for(SECOND);
            // Node 2 says that it knows of none; node 0 cannot be asked.
            let waiting = deliver(world, 1, origin);
            let took = answered_within(world, waiting, 2 * PATIENCE);
            if back {
                assert!(took < 30 * SECOND, "{took:?}");
                world.outputs(waiting);
            } else {
                assert!(took + 60 * SECOND > PATIENCE && took < PATIENCE + 60 * SECOND, "{took:?}");
                assert_eq!(world.failure(waiting), lost(origin, Executed::No));
            }
        });
    }
}

/// A move from node 0 to node 1 whose target never hears that it was decided, and discards its copy.
fn discarded(seed: u64, meanwhile: impl Fn(&mut World)) {
    let options = |_| RuntimeOptions {
        arrivals: ArrivalPolicy::AnyKind,
        migration: MigrationSettings { handover_hold: 5 * SECOND, ..MigrationSettings::default() },
        ..RuntimeOptions::default()
    };
    in_world(World::with_options(seed, 3, options), |world| {
        let kind = if seed.is_multiple_of(2) { "prompt" } else { "slow" };
        let origin = world.spawn(0, 1, kind);
        for node in 0..3 {
            let ticket = world.call(node, origin);
            world.outputs(ticket);
        }
        let mut waiting: Vec<Ticket> = (0..12).map(|index| deliver(world, index % 3, origin)).collect();
        world.trap = Some(Trap { message: "ActivateTarget", nth: 0, arrives: false, heal_after: 20 * SECOND });
        let ticket = world.migrate(0, origin, 1);
        let migration = world.migration(ticket).expect("it begins");
        match world.wait_migration(0, migration) {
            Err(MigrationFailure::Refused(_, Outcome::Unknown)) => {}
            other => panic!("in doubt: {other:?}"),
        }
        waiting.extend((0..3).map(|node| deliver(world, node, origin)));
        meanwhile(world);
        for ticket in waiting {
            world.outputs(ticket);
        }
        assert_eq!(world.seen(origin).len(), 18, "each ran once");
        assert_eq!(world.hosts(origin)[0].0, 0, "where it came from");
    });
}

#[test]
fn promise_1_callers_that_were_sent_to_a_target_which_discarded_its_copy_get_their_answers_from_the_source() {
    for seed in 0..20 {
        discarded(seed, |_| {});
    }
}

#[test]
fn promise_1_callers_that_lost_a_target_which_discarded_its_copy_get_their_answers_from_the_source() {
    for seed in 0..20 {
        discarded(seed, |world| world.lose(1, 2, Loss::Silence));
    }
}

#[test]
fn promise_1_callers_that_lose_a_host_reach_it_through_the_one_before() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(0, 1, "slow");
        let first = world.call(2, origin);
        world.outputs(first);
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        let tickets: Vec<Ticket> = (0..20).map(|_| deliver(world, 2, origin)).collect();
        world.run_for(Duration::from_millis(5));
        world.lose(1, 2, Loss::Silence);
        for ticket in tickets {
            world.outputs(ticket);
        }
        assert_eq!(world.seen(origin).len(), 21);
    });
}

#[test]
fn requirement_bounds_a_former_host_holds_little_of_what_it_sends_on() {
    in_world(World::new(1, 3), |world| {
        world.may_refuse = true;
        world.spying = true;
        let origin = behind_a_former_host(world, "prompt");
        let spoken = world.streams.iter().find(|spied| spied.from == 2).expect("it spoke");
        let stream = spoken.stream;
        let payload = vec![0; MEBIBYTE];
        for first in 2..100 {
            let items = vec![Item::Send(Event { link: CausalLink::genesis(OriginHash::new(1)), payload: &payload })];
            let batch = EventsMessage::Batch { stream, epoch: Epoch::FIRST, hops: 0, first, items, replies_through: 0 };
            world.forge_events(2, 0, &batch);
            let passing = world.nodes[0].engine.census().passing_bytes;
            assert!(passing < 10 * MEBIBYTE, "{passing} bytes are held");
        }
        // It is another stream's turn as well.
        let ticket = world.call(0, origin);
        world.outputs(ticket);
    });
}

/// What becomes of events that wait on node 0, and of node 2, which sent them and hears nothing of it at first: too much
/// waits to be sent to it.
fn unheard(happens: impl Fn(&mut World, OriginHash), ends: impl Fn(&mut World, OriginHash, Vec<Ticket>)) {
    in_world(World::new(1, 4).refusing(), |world| {
        let hosted = world.spawn(0, 2, "prompt");
        assert_eq!(world.moved(0, hosted, 2), Ok(()));
        world.lose(2, 3, Loss::Silence);
        world.spying = true;
        let through = world.call(3, hosted);
        world.outputs(through);
        let stream = world.streams.iter().find(|spied| spied.from == 3).expect("it spoke").stream;

        let config = HostConfig { mailbox_capacity: 2, ..HostConfig::default() };
        let origin = world.spawn_with(0, 1, "slow", config);
        let first = world.call(2, origin);
        world.outputs(first);
        world.clogged = [Lane::Fast, Lane::Bulk].map(|lane| (0, 2, lane)).to_vec();
        let payload = vec![0; 20_000];
        for first in 2..300 {
            let items = vec![Item::Send(Event { link: CausalLink::genesis(OriginHash::new(1)), payload: &payload })];
            let batch = EventsMessage::Batch { stream, epoch: Epoch::FIRST, hops: 0, first, items, replies_through: 0 };
            world.forge_events(3, 0, &batch);
        }
        let tickets: Vec<Ticket> = (0..20).map(|_| deliver(world, 2, origin)).collect();
        world.run_for(Duration::from_millis(2));
        happens(world, origin);
        world.clogged.clear();
        ends(world, origin, tickets);
    });
}

#[test]
fn promise_1_a_sender_that_could_not_be_told_of_a_move_is_told_once_there_is_room() {
    unheard(
        |world, origin| assert_eq!(world.moved(0, origin, 1), Ok(())),
        |world, origin, tickets| {
            for ticket in tickets {
                world.outputs(ticket);
            }
            assert_eq!(world.seen(origin).len(), 21, "each once");
        },
    );
}

#[test]
fn promise_1_a_sender_that_could_not_be_told_of_the_end_of_a_daemon_is_told_once_there_is_room() {
    unheard(
        |world, origin| {
            let stop = world.act(0, None, |engine, ticket, now| engine.stop(ticket, origin, now));
            assert!(world.wait_for(stop).is_ok());
        },
        |world, _, tickets| {
            for ticket in tickets {
                answered_within(world, ticket, 5 * SECOND);
            }
        },
    );
}

#[test]
fn promise_1_what_a_former_host_had_no_room_to_send_on_is_sent_again() {
    for_seeds(0..3, 5, |world| {
        let origins: Vec<OriginHash> = (1..=3).map(|seed| world.spawn(0, seed, "prompt")).collect();
        for origin in &origins {
            assert_eq!(world.moved(0, *origin, 1), Ok(()));
        }
        for sender in 2..5 {
            world.lose(1, sender, Loss::Silence);
        }
        world.spying = true;
        let mut tickets = Vec::new();
        for _ in 0..8 {
            for sender in 2..5 {
                for origin in &origins {
                    let request = world.request(0, 0);
                    tickets.push(world.call_with(sender, *origin, request, MEBIBYTE));
                    tickets.push(world.call(sender, *origin));
                }
            }
        }
        let mut most = 0;
        let done = world.run_until(Duration::from_secs(50), |world| {
            most = most.max(world.nodes[0].engine.census().passing_bytes);
            tickets.iter().all(|ticket| world.is_answered(*ticket))
        });
        assert!(done && most < 10 * MEBIBYTE, "{most} bytes were held");
        for ticket in &tickets {
            world.outputs(*ticket);
        }
        for origin in &origins {
            assert_eq!(world.seen(*origin).len(), 48, "each once");
        }
        assert!(
            world.streams.iter().any(|spied| spied.from == 0 && spied.again),
            "there was more than it had room for"
        );
    });
}
