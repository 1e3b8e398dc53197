//! Messages of event streams that a member of the mesh makes up: in another's name, for another's call, or too many of them.

use std::time::Duration;

use mesh_daemon_core::causal::CausalLink;
use mesh_daemon_core::daemon::{HostConfig, Ticket};
use mesh_daemon_core::events::{MOST_HELD_BYTES, MOST_KEPT_BYTES, MOST_STREAMS};
use mesh_daemon_core::identity::{Epoch, Incarnation, NodeId, OriginHash};
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::runtime::RuntimeError;
use mesh_daemon_core::wire::Lane;
use mesh_daemon_core::wire::events::{Answers, Event, EventsMessage, Item, Missing, Opening, Reply, StreamId};

use super::daemon::HANG;
use super::in_world;
use super::world::World;

const SOON: Duration = Duration::from_millis(100);
/// What a guess has for the random bits of a name.
const GUESS: u128 = 7 << 64;

/// A daemon on node 0 that node 1 has called once, and the name of node 1's stream to it.
fn called(world: &mut World) -> (OriginHash, StreamId) {
    world.may_refuse = true;
    world.spying = true;
    let origin = world.spawn(0, 1, "prompt");
    let ticket = world.call(1, origin);
    world.outputs(ticket);
    let spoken = world.streams.iter().find(|spied| spied.from == 1).expect("it spoke");
    (origin, spoken.stream)
}

/// The same stream as one names it who knows all but the secret.
fn guessed(stream: StreamId) -> StreamId {
    StreamId { opening: Opening::new(1, GUESS), ..stream }
}

fn refused(world: &World, node: usize) -> u64 {
    world.nodes[node].engine.census().refused_messages
}

/// What a handler is told by a forged event, and what it would leave in the daemon's records.
const FORGED: u64 = 0xdead;

fn batch(stream: StreamId, hops: u8, first: u64, payload: &[u8]) -> EventsMessage<'_> {
    let items = vec![Item::Send(Event { link: CausalLink::genesis(OriginHash::new(1)), payload })];
    EventsMessage::Batch { stream, epoch: Epoch::FIRST, hops, first, items, replies_through: 0 }
}

/// The word that a stream leads nowhere, and that so much of it was accepted.
fn unknown<'a>(stream: StreamId, accepted: u64) -> EventsMessage<'a> {
    let (missing, answers) = (Missing::Daemon, Answers::Nothing);
    EventsMessage::Unknown { stream, missing, hops: 0, accepted: Some(accepted), answers }
}

fn forged_payload() -> bytes::Bytes {
    super::daemon::Request { id: FORGED, flags: 0, answer: 0 }.encode(0)
}

/// Node 1's next call is the second event of the daemon, and the first one that was not forged behind the first.
fn honest_call_is_right(world: &mut World, origin: OriginHash) {
    let request = world.request(0, 0);
    let ticket = world.call_with(1, origin, request, 0);
    let (id, count, _) = world.outputs(ticket);
    assert_eq!((id, count), (request.id, 2));
    assert!(!world.seen(origin).contains(&FORGED), "nothing forged ran");
}

#[test]
fn hazard_33_a_member_sends_events_in_the_name_of_another_node() {
    for hops in [0, 1] {
        // With the next number of the stream, as a stream of its own, and with the whole name for one that speaks itself.
        for (number, guess) in [(2, true), (1, true), (2, false)] {
            in_world(World::new(1, 3), |world| {
                let (origin, stream) = called(world);
                let named = if guess { guessed(stream) } else { stream };
                if hops > 0 && !guess {
                    return;
                }
                let payload = forged_payload();
                world.forge_events(2, 0, &batch(named, hops, number, &payload));
                world.run_for(SOON);
                assert!(!world.seen(origin).contains(&FORGED), "hops {hops}, number {number}");
                assert_eq!(refused(world, 0), u64::from(hops == 0));
                honest_call_is_right(world, origin);
                assert_eq!(world.nodes[0].engine.census().streams_in, 1);
            });
        }
    }
}

#[test]
fn hazard_33_a_member_withdraws_awaits_or_closes_what_is_anothers() {
    in_world(World::new(1, 3), |world| {
        let (origin, stream) = called(world);
        let hang = world.request(HANG, 0);
        let stuck = world.deliver(0, origin, hang);
        let request = world.request(0, 0);
        let waiting = world.call_with(1, origin, request, 0);
        world.run_for(SOON);
        let epoch = Epoch::FIRST;
        let forgeries = [
            EventsMessage::Close { stream },
            EventsMessage::Withdraw { stream, epoch, hops: 0, number: 2 },
            EventsMessage::Await { stream, epoch, hops: 0, replies_through: 2, repeat: false },
        ];
        for (number, forged) in forgeries.iter().enumerate() {
            world.forge_events(2, 0, forged);
            world.run_for(SOON);
            assert_eq!(refused(world, 0), number as u64 + 1);
        }
        let (_, key) = world.hosts(origin)[0];
        world.let_go(0, key);
        world.outputs(stuck);
        assert_eq!(world.outputs(waiting), (request.id, 3, 24 - 8));
    });
}

#[test]
fn hazard_33_a_member_answers_redirects_or_ends_anothers_call() {
    let payload = forged_payload();
    for which in 0..6 {
        in_world(World::new(1, 3), |world| {
            let (origin, stream) = called(world);
            let named = guessed(stream);
            let hang = world.request(HANG, 0);
            let stuck = world.deliver(0, origin, hang);
            let request = world.request(0, 0);
            let waiting = world.call_with(1, origin, request, 0);
            world.run_for(SOON);
            let answer = Event { link: CausalLink::genesis(OriginHash::new(1)), payload: &payload };
            let replies = vec![Reply { number: 2, result: Ok(vec![answer].into()) }];
            let node = world.id(2);
            let forged = match which {
                0 => EventsMessage::Replies { stream: named, through: 2, replies, hops: 0 },
                1 => EventsMessage::Accepted { stream: named, through: 2, hops: 0 },
                2 => EventsMessage::Moved { stream: named, node, epoch: Epoch::new(9), hops: 0 },
                3 => unknown(named, 1),
                4 => EventsMessage::Full { stream: named, hops: 0 },
                _ => EventsMessage::Again { stream: named, hops: 0 },
            };
            world.forge_events(2, 1, &forged);
            world.run_for(SOON);
            assert_eq!(refused(world, 1), 1, "{forged:?}");
            assert!(!world.is_answered(waiting));
            let (_, key) = world.hosts(origin)[0];
            world.let_go(0, key);
            world.outputs(stuck);
            let (id, count, _) = world.outputs(waiting);
            assert_eq!((id, count), (request.id, 3), "the right answer");
        });
    }
}

#[test]
fn hazard_33_an_address_with_an_epoch_that_no_moves_lead_to_is_refused_even_by_name() {
    in_world(World::new(1, 3), |world| {
        let (origin, stream) = called(world);
        let node = world.id(2);
        let far = Epoch::new(3 + (1 << 32));
        world.forge_events(2, 1, &EventsMessage::Moved { stream, node, epoch: far, hops: 0 });
        assert_eq!(refused(world, 1), 1);
        honest_call_is_right(world, origin);
    });
}

#[test]
fn hazard_33_who_is_not_the_host_that_a_sender_knows_cannot_end_its_stream_by_name() {
    in_world(World::new(1, 3), |world| {
        let (origin, stream) = called(world);
        let hang = world.request(HANG, 0);
        let stuck = world.deliver(0, origin, hang);
        let waiting = world.call(1, origin);
        world.run_for(SOON);
        for forged in [unknown(stream, 0), EventsMessage::Full { stream, hops: 0 }] {
            world.forge_events(2, 1, &forged);
            world.run_for(SOON);
            assert!(!world.is_answered(waiting), "{forged:?}");
        }
        let (_, key) = world.hosts(origin)[0];
        world.let_go(0, key);
        world.outputs(stuck);
        assert_eq!(world.outputs(waiting).1, 3);
    });
}

#[test]
fn hazard_33_answers_are_passed_back_only_for_streams_that_are_sent_on() {
    in_world(World::new(1, 4), |world| {
        let (origin, stream) = called(world);
        world.streams.clear();
        for named in [stream, guessed(stream)] {
            world.forge_events(2, 3, &EventsMessage::Accepted { stream: named, through: 9, hops: 0 });
        }
        world.run_for(SOON);
        assert!(!world.streams.iter().any(|spied| spied.from == 3), "it passed nothing on");
        honest_call_is_right(world, origin);
    });
}

/// A name that nobody has.
fn made_up(stream: StreamId, number: u64) -> StreamId {
    StreamId { sender: NodeId::new(0xbad_0000 + number), ..stream }
}

#[test]
fn requirement_bounds_a_flood_of_openings_grows_nothing_and_others_are_served() {
    for own in [true, false] {
        in_world(World::new(1, 3), |world| {
            let (origin, stream) = called(world);
            let payload = forged_payload();
            let flooder = world.identity(2);
            for number in 0..1000_u64 {
                let named = if own {
                    // The newest first: none takes the place of another one.
                    let started_at_ms = flooder.incarnation.started_at_ms - 1;
                    let incarnation = Incarnation { started_at_ms, salt: 1000 - number };
                    StreamId { sender: flooder.node, incarnation, ..stream }
                } else {
                    made_up(stream, number)
                };
                world.forge_events(2, 0, &batch(named, u8::from(!own), 1, &payload));
            }
            let census = world.nodes[0].engine.census();
            // Its own follow one another; those of others are few.
            let most = if own { 1 } else { MOST_STREAMS };
            assert_eq!(census.streams_in, most + 1, "{census:?}");
            assert_eq!(census.refused_messages, if own { 0 } else { 1000 - most as u64 });
            // The one who asks for too much is told so; nobody else notices.
            let honest = world.call(1, origin);
            world.outputs(honest);
            let its = world.call(2, origin);
            if own {
                world.outputs(its);
            } else {
                assert_eq!(world.failure(its), RuntimeError::Backpressure(origin));
            }
            world.run_for(Duration::from_secs(700));
            let later = world.call(2, origin);
            world.outputs(later);
            assert_eq!(world.nodes[0].engine.census().streams_in, 1, "silent ones are forgotten");
        });
    }
}

#[test]
fn requirement_bounds_a_former_host_sends_on_few_streams_of_others() {
    in_world(World::new(1, 4), |world| {
        let (origin, stream) = called(world);
        assert_eq!(world.moved(0, origin, 3), Ok(()));
        world.run_for(Duration::from_secs(1));
        let payload = forged_payload();
        for number in 0..1000 {
            world.forge_events(2, 0, &batch(made_up(stream, number), 1, 1, &payload));
        }
        world.run_for(SOON);
        assert!(world.nodes[3].engine.census().streams_in <= 32, "{:?}", world.nodes[3].engine.census());
        assert!(world.nodes[0].engine.census().streams_through <= 32);
        assert!(refused(world, 0) >= 900);
        let honest = world.call(1, origin);
        world.outputs(honest);
    });
}

#[test]
fn a_sender_whose_first_events_meet_a_former_host_is_served_through_it() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(0, 1, "prompt");
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        world.lose(1, 2, Loss::Silence);
        for count in 1..=3 {
            let through = world.call(2, origin);
            assert_eq!(world.outputs(through).1, count);
        }
        // Then it can reach the host, and needs nobody.
        world.connect(1, 2, false);
        world.spying = true;
        let direct = world.call(2, origin);
        assert_eq!(world.outputs(direct).1, 4);
        assert!(world.streams.iter().all(|spied| (spied.from, spied.to) != (2, 0)), "{:?}", world.streams);
    });
}

#[test]
fn promise_1_what_two_former_hosts_send_on_is_answered_the_same_way_back() {
    in_world(World::new(1, 4), |world| {
        let origin = world.spawn(0, 1, "slow");
        world.lose(1, 3, Loss::Silence);
        world.lose(2, 3, Loss::Silence);
        world.lose(0, 2, Loss::Silence);
        let first = world.call(3, origin);
        world.outputs(first);
        let waiting: Vec<Ticket> = (0..6).map(|_| world.call(3, origin)).collect();
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        assert_eq!(world.moved(1, origin, 2), Ok(()));
        for ticket in waiting {
            world.outputs(ticket);
        }
        let last = world.call(3, origin);
        assert_eq!(world.outputs(last).1, 8);
    });
}

#[test]
fn requirement_bounds_bytes_held_for_one_peer_and_nothing_of_an_honest_one_is_lost() {
    const DAEMONS: u8 = 12;
    const EVENTS: usize = 11;
    in_world(World::new(1, 3), |world| {
        let config = HostConfig { mailbox_capacity: 4, ..HostConfig::default() };
        let origins: Vec<OriginHash> =
            (1..=DAEMONS).map(|seed| world.spawn_with(0, seed, "prompt", config.clone())).collect();
        let mut tickets = Vec::new();
        for origin in &origins {
            let hang = world.request(HANG, 0);
            tickets.push(world.deliver(0, *origin, hang));
            for _ in 0..EVENTS {
                let request = world.request(0, 0);
                tickets.push(world.call_with(1, *origin, request, 1 << 20));
            }
        }
        world.run_for(Duration::from_secs(2));
        let held = world.nodes[0].engine.census().held_bytes;
        assert!(held <= MOST_HELD_BYTES, "{held} bytes are held");
        assert!(held > MOST_HELD_BYTES / 2, "{held}: as much as there is room for");
        for origin in &origins {
            let (_, key) = world.hosts(*origin)[0];
            world.let_go(0, key);
        }
        for ticket in tickets {
            world.outputs(ticket);
        }
        for origin in &origins {
            let seen = world.seen(*origin);
            assert_eq!(seen.len(), EVENTS + 1);
            assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "each once and in order: {seen:?}");
        }
        assert_eq!(world.nodes[0].engine.census().held_bytes, 0);
    });
}

/// What is held for one that filled its account is bounded, shuts nobody out, and goes when its sender is silent for long.
fn holds_no_more_than_it_may(world: &mut World, origin: OriginHash) {
    let held = world.nodes[0].engine.census().held_bytes;
    assert!(held <= MOST_HELD_BYTES && held > MOST_HELD_BYTES / 2, "{held} bytes are held");
    world.serves(origin, [1]);
    world.run_for(Duration::from_secs(700));
    assert_eq!(world.nodes[0].engine.census().held_bytes, 0, "their sender is silent");
}

#[test]
fn requirement_bounds_gaps_that_are_never_closed_hold_little_and_are_freed() {
    in_world(World::new(1, 3), |world| {
        let (origin, stream) = called(world);
        let payload = vec![0; 1 << 20];
        for number in 0..100 {
            let named = made_up(stream, number);
            world.forge_events(2, 0, &batch(named, 1, 1, &forged_payload()));
            for gap in [3, 5, 7] {
                world.forge_events(2, 0, &batch(named, 1, gap, &payload));
            }
        }
        holds_no_more_than_it_may(world, origin);
    });
}

/// Positions behind a gap, far apart and empty, in as many streams as one node begins.
#[test]
fn requirement_bounds_empty_positions_that_are_never_due_hold_little() {
    in_world(World::new(1, 3), |world| {
        let (origin, stream) = called(world);
        let empty = |_| Item::Send(Event { link: CausalLink::genesis(OriginHash::new(1)), payload: &[] });
        for number in 0..MOST_STREAMS as u64 {
            let named = made_up(stream, number);
            world.forge_events(2, 0, &batch(named, 1, 1, &forged_payload()));
            for first in [3, 1027] {
                let items = (0..1024).map(empty).collect();
                let epoch = Epoch::FIRST;
                let gap = EventsMessage::Batch { stream: named, epoch, hops: 1, first, items, replies_through: 0 };
                world.forge_events(2, 0, &gap);
            }
        }
        holds_no_more_than_it_may(world, origin);
    });
}

#[test]
fn requirement_bounds_replies_that_are_never_acknowledged_are_few() {
    in_world(World::new(1, 3), |world| {
        let (origin, stream) = called(world);
        let request = super::daemon::Request { id: FORGED, flags: 0, answer: 1 << 20 }.encode(0);
        for first in 1..=4 {
            for number in 0..100 {
                let call = Item::Call(Event { link: CausalLink::genesis(OriginHash::new(1)), payload: &request });
                let (stream, epoch) = (made_up(stream, number), Epoch::FIRST);
                let items = vec![call];
                world.forge_events(
                    2,
                    0,
                    &EventsMessage::Batch { stream, epoch, hops: 1, first, items, replies_through: 0 },
                );
            }
        }
        let kept = world.nodes[0].engine.census().kept_bytes;
        assert!((MOST_KEPT_BYTES..MOST_KEPT_BYTES + (2 << 20)).contains(&kept), "{kept} bytes are kept");
        let honest = world.call(1, origin);
        world.outputs(honest);
        world.run_for(Duration::from_secs(700));
        assert_eq!(world.nodes[0].engine.census().kept_bytes, 0, "their sender is silent");
    });
}

#[test]
fn requirement_bounds_a_peer_with_too_many_replies_on_the_way_is_served_when_it_has_them() {
    const DAEMONS: u8 = 20;
    const CALLS: usize = 6;
    in_world(World::new(1, 2), |world| {
        let origins: Vec<OriginHash> = (1..=DAEMONS).map(|seed| world.spawn(0, seed, "slow")).collect();
        for origin in &origins {
            let first = world.call(1, *origin);
            world.outputs(first);
        }
        world.clogged = [Lane::Fast, Lane::Bulk].map(|lane| (0, 1, lane)).to_vec();
        let mut tickets = Vec::new();
        for _ in 0..CALLS {
            for origin in &origins {
                let request = world.request(0, 1 << 20);
                tickets.push(world.call_with(1, *origin, request, 0));
                world.run_for(Duration::from_millis(4));
            }
        }
        let kept = world.nodes[0].engine.census().kept_bytes;
        let begun = usize::from(DAEMONS) << 20;
        assert!((MOST_KEPT_BYTES..MOST_KEPT_BYTES + begun).contains(&kept), "{kept} bytes are kept");
        world.clogged.clear();
        for ticket in tickets {
            world.outputs(ticket);
        }
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.nodes[0].engine.census().kept_bytes, 0);
    });
}

/// A caller that reads no large replies, and has them sent again and again; and a host that reads no large events.
#[test]
fn requirement_bounds_large_messages_that_are_asked_for_again_and_again_do_not_pile_up() {
    in_world(World::new(1, 2), |world| {
        let (origin, stream) = called(world);
        world.clogged = vec![(0, 1, Lane::Bulk)];
        let tickets: Vec<_> = (0..6)
            .map(|_| {
                let request = world.request(0, 1 << 20);
                world.call_with(1, origin, request, 0)
            })
            .collect();
        world.run_for(SOON);
        for _ in 0..50 {
            let epoch = Epoch::FIRST;
            world.forge_events(
                1,
                0,
                &EventsMessage::Await { stream, epoch, hops: 0, replies_through: 1, repeat: true },
            );
        }
        let waits = world.nodes[0].engine.census().state_bytes;
        assert!(waits < 20 << 20, "{waits} bytes wait");
        world.clogged.clear();
        for ticket in tickets {
            world.outputs(ticket);
        }

        world.clogged = vec![(1, 0, Lane::Bulk)];
        let tickets: Vec<_> = (0..6)
            .map(|_| {
                let request = world.request(0, 0);
                world.call_with(1, origin, request, 1 << 20)
            })
            .collect();
        for _ in 0..50 {
            world.forge_events(0, 1, &EventsMessage::Again { stream, hops: 0 });
        }
        let waits = world.nodes[1].engine.census().state_bytes;
        assert!(waits < 20 << 20, "{waits} bytes wait");
        let small = world.spawn(0, 2, "prompt");
        let other = world.call(1, small);
        world.outputs(other);
        world.clogged.clear();
        for ticket in tickets {
            world.outputs(ticket);
        }
    });
}

/// The name of a stream shows nothing of its secret where it may be logged.
#[test]
fn secrets_of_streams_are_not_shown() {
    let shown = format!("{:?}", Opening::new(3, 0x1234_5678_9abc_def0_u128 << 64));
    assert_eq!(shown, "Opening(3, …)");
}

#[test]
fn an_address_that_is_told_again_and_again_has_what_waits_sent_there_once() {
    in_world(World::new(1, 3), |world| {
        let (origin, stream) = called(world);
        let waiting = world.call(1, origin);
        let moved = EventsMessage::Moved { stream, node: world.id(2), epoch: Epoch::new(9), hops: 0 };
        world.streams.clear();
        for _ in 0..100 {
            world.forge_events(0, 1, &moved);
        }
        let sent = world.streams.iter().filter(|spied| (spied.from, spied.to) == (1, 2) && spied.events.is_some());
        assert_eq!(sent.count(), 1);
        let _ = world.wait_for(waiting);
    });
}
