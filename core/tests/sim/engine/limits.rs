//! Many moves at once, little room, full mailboxes: everything stays bounded, nobody waits for ever, nothing is lost.

use std::time::Duration;

use mesh_daemon_core::causal::{CausalLink, Sequence};
use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::identity::{EntityKeypair, Epoch, Lineage, MigrationId, OriginHash};
use mesh_daemon_core::migration::{MigrationFailure, MigrationOptions, MigrationSettings, Outcome};
use mesh_daemon_core::runtime::{ArrivalPolicy, Executed, Role, RuntimeError, RuntimeOptions, SpawnRequest};
use mesh_daemon_core::wire::events::{Event, Item, Opening, StreamId};
use mesh_daemon_core::wire::migration::{FailureReason, MigrationMessage, MoveId, Stage, StagedItem, Unwelcome};

use super::in_world;
use super::world::{How, Meddler, NEVER, World};

fn with_budget(nodes: usize, arrival_budget: u64) -> World {
    let migration = MigrationSettings { arrival_budget, ..MigrationSettings::default() };
    let options = RuntimeOptions { arrivals: ArrivalPolicy::AnyKind, migration, ..RuntimeOptions::default() };
    World::with_options(1, nodes, move |_| options.clone())
}

fn spawn_many(world: &mut World, node: usize, count: u32) -> Vec<OriginHash> {
    let spawned: Vec<_> = (0..count)
        .map(|number| {
            let mut seed = [node as u8 + 100; 32];
            seed[..4].copy_from_slice(&number.to_le_bytes());
            let keypair = EntityKeypair::from_seed(&seed);
            let origin = keypair.origin_hash();
            let kind = Some("prompt".to_owned());
            let config = HostConfig::default();
            let request = SpawnRequest { kind, keypair, config, snapshot: None, instance: false };
            (origin, world.act(node, None, |engine, ticket, now| engine.spawn(ticket, request, now)))
        })
        .collect();
    for (_, ticket) in &spawned {
        world.wait_for(*ticket).as_ref().expect("spawned");
    }
    spawned.into_iter().map(|(origin, _)| origin).collect()
}

fn start(world: &mut World, node: usize, origin: OriginHash, to: usize) -> MigrationId {
    let ticket = world.migrate(node, origin, to);
    world.migration(ticket).expect("it begins")
}

#[test]
fn two_thousand_moves_at_once_between_two_nodes_are_bounded_fair_and_all_finish() {
    const EACH: u32 = 1000;
    const BUDGET: u64 = 1_000_000;
    in_world(with_budget(2, BUDGET), |world| {
        for node in 0..2 {
            world.nodes[node].objects.fresh.ballast = 20_000;
        }
        let origins: Vec<_> = (0..2).map(|node| spawn_many(world, node, EACH)).collect();
        let mut moves = Vec::new();
        for number in 0..EACH as usize {
            for (node, origins) in origins.iter().enumerate() {
                moves.push((node, start(world, node, origins[number], 1 - node)));
            }
        }
        let tickets: Vec<_> =
            origins.iter().flatten().step_by(20).map(|origin| (*origin, world.call(0, *origin))).collect();
        let is_over =
            |world: &World, (node, id): &(usize, MigrationId)| world.nodes[*node].over.contains_key(&id.get());
        let bounded = |world: &World| {
            for node in &world.nodes {
                let census = node.engine.census();
                assert!(census.arriving_bytes <= BUDGET, "{census:?}");
                assert!(census.peak_state_bytes <= 3 * BUDGET, "{census:?}");
            }
        };
        let half = world.run_until(Duration::from_secs(600), |world| {
            bounded(world);
            moves.iter().filter(|one| is_over(world, one)).count() >= moves.len() / 2
        });
        assert!(half, "half of them finish");
        // Those who asked first are served first, as far as messages on the way allow.
        let early = moves[..moves.len() / 2].iter().filter(|one| is_over(world, one)).count();
        assert!(early >= moves.len() * 2 / 5, "{early} of the first {} are over", moves.len() / 2);
        let all = world.run_until(Duration::from_secs(600), |world| {
            bounded(world);
            moves.iter().all(|one| is_over(world, one))
        });
        assert!(all, "all of them finish");
        for (node, id) in &moves {
            assert_eq!(world.nodes[*node].over[&id.get()], Ok(()));
        }
        for (_, ticket) in tickets {
            assert_eq!(world.outputs(ticket).1, 1, "who called meanwhile was answered");
        }
        world.run_for(Duration::from_secs(20));
        for (node, origins) in origins.iter().enumerate() {
            assert!(origins.iter().all(|origin| world.hosting(*origin) == [1 - node]));
        }
        world.assert_nothing_left();
    });
}

#[test]
fn hazard_62_sources_that_compete_for_little_room_all_finish() {
    in_world(with_budget(4, 250_000), |world| {
        let mut moves = Vec::new();
        for node in 0..3 {
            world.nodes[node].objects.fresh.ballast = 100_000;
            for origin in spawn_many(world, node, 10) {
                moves.push((node, origin));
            }
        }
        let started: Vec<_> = moves.iter().map(|(node, origin)| (*node, start(world, *node, *origin, 3))).collect();
        for (node, migration) in started {
            assert_eq!(world.wait_migration(node, migration), Ok(()));
        }
        world.run_for(Duration::from_secs(1));
        assert!(moves.iter().all(|(_, origin)| world.hosting(*origin) == [3]));
        world.assert_nothing_left();
    });
}

/// Occupies the room of node 1 with a daemon whose `restore` takes this long; the move of another one begins meanwhile.
fn short_of_room(world: &mut World, takes: Duration, options: MigrationOptions) -> (OriginHash, MigrationId) {
    for node in [0, 2] {
        world.nodes[node].objects.fresh.ballast = 100_000;
    }
    world.nodes[1].objects.faults.restore_takes = Some(takes);
    let first = spawn_many(world, 2, 1)[0];
    let origin = world.spawn(0, 1, "prompt");
    start(world, 2, first, 1);
    world.run_for(Duration::from_millis(100));
    world.nodes[1].objects.faults.restore_takes = None;
    let ticket = world.migrate_with(0, origin, 1, options);
    let migration = world.migration(ticket).expect("it begins");
    (origin, migration)
}

#[test]
fn a_source_that_waits_too_long_for_room_resumes_and_tries_again() {
    in_world(with_budget(3, 150_000), |world| {
        let (origin, migration) = short_of_room(world, Duration::from_secs(25), MigrationOptions::default());
        let behind = world.call(2, origin);
        let began = world.now;
        world.outputs(behind);
        let waited = world.now - began;
        let (least, most) = (Duration::from_secs(9), Duration::from_secs(11));
        assert!(least < waited && waited < most, "it went on after the freeze timeout, not after {waited:?}");
        assert_eq!(world.hosts(origin)[0].0, 0, "where it was");
        assert_eq!(world.wait_migration(0, migration), Ok(()), "and was moved when there was room");
        let snapshots = world.nodes[0].stages.iter().filter(|part| **part == (Role::Source, Stage::Snapshot)).count();
        assert!(snapshots >= 2, "{snapshots} attempts");
        let ticket = world.call(2, origin);
        assert_eq!(world.outputs(ticket).1, 2);
        world.run_for(Duration::from_secs(1));
        world.assert_nothing_left();
    });
}

#[test]
fn a_later_attempt_does_not_wait_for_what_is_left_of_the_one_before() {
    in_world(with_budget(3, 150_000), |world| {
        let (origin, migration) = short_of_room(world, Duration::from_secs(12), MigrationOptions::default());
        // The source goes on, and its word for that comes to the target behind the next question.
        world.meddler = Some(Meddler { message: "MigrationFailed", nth: 0, how: How::Delay(Duration::from_secs(5)) });
        assert_eq!(world.wait_migration(0, migration), Ok(()));
        assert_eq!((world.meddled, world.hosts(origin)[0].0), (1, 1));
        world.run_for(Duration::from_secs(5));
        world.assert_nothing_left();
    });
}

#[test]
fn a_source_for_which_there_is_no_room_at_all_gives_up_when_its_time_is_over() {
    for (retry, attempts) in [(Duration::from_secs(30), 2..6), (Duration::ZERO, 1..2)] {
        in_world(with_budget(3, 150_000), |world| {
            let options = MigrationOptions { retry_not_ready: retry, ..MigrationOptions::default() };
            let (origin, migration) = short_of_room(world, Duration::from_secs(55), options);
            match world.wait_migration(0, migration) {
                Err(MigrationFailure::NotReadyTimeout { attempts: asked }) => assert!(attempts.contains(&asked)),
                Err(MigrationFailure::Refused(..)) => assert!(retry.is_zero()),
                Ok(()) => panic!("there was room"),
                Err(other) => panic!("{other:?}"),
            }
            let ticket = world.call(2, origin);
            assert_eq!((world.outputs(ticket).1, world.hosts(origin)[0].0), (1, 0));
            world.run_for(Duration::from_secs(60));
            world.assert_nothing_left();
        });
    }
}

#[test]
fn requirements_86_92_waiting_events_count_against_what_a_node_allows_for_arriving_daemons() {
    in_world(with_budget(3, 100_000), |world| {
        let origin = world.spawn(0, 1, "prompt");
        world.nodes[0].objects.faults.snapshot_takes = Some(Duration::from_secs(1));
        let migration = start(world, 0, origin, 1);
        world.run_for(Duration::from_millis(10));
        let waiting: Vec<_> = (0..100)
            .map(|_| {
                let request = world.request(0, 0);
                world.call_with(2, origin, request, 2_000)
            })
            .collect();
        let full = Err(MigrationFailure::Refused(FailureReason::BufferFull, Outcome::Source));
        assert_eq!(world.wait_migration(0, migration), full);
        for ticket in waiting {
            world.outputs(ticket);
        }
        assert_eq!(world.hosts(origin)[0].0, 0, "it went on where it was");
        assert_eq!(world.seen(origin), (1..=100).collect::<Vec<_>>(), "with all that was staged, and all that was not");
        world.run_for(Duration::from_secs(1));
        world.assert_nothing_left();
    });
}

#[test]
fn requirement_92_waiting_events_that_come_before_their_turn_are_bounded_in_bytes() {
    in_world(with_budget(3, 100_000), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let late = How::Delay(Duration::from_secs(5));
        world.meddler = Some(Meddler { message: "CutoverNotify", nth: 0, how: late });
        let migration = world.driving(0, origin, 0, 1);
        let staged = (Role::Target, Stage::Replay);
        assert!(world.run_until(Duration::from_secs(5), |world| world.nodes[1].stages.contains(&staged)));
        let entity = World::daemon_key(1).entity_id();
        let id = MoveId { entity, migration, attempt: 1, epoch: Epoch::FIRST };
        let payload = vec![0; 20_000];
        let link = CausalLink::genesis(origin);
        let (sender, incarnation) = (world.id(2), world.nodes[2].incarnation);
        let stream = StreamId { sender, incarnation, entity, lineage: Lineage::new(1), opening: Opening::new(1, 1) };
        for first in 1..20 {
            let item = Item::Send(Event { link, payload: &payload });
            let items = vec![StagedItem { stream: 0, number: first, item, received_at: 0, channel: None }];
            let (streams, marks) = (vec![stream], Vec::new());
            world.forge(
                0,
                1,
                &MigrationMessage::BufferedEvents { id, first, streams, items, total: None, marks, ledger: None },
            );
        }
        let full = Err(MigrationFailure::Refused(FailureReason::BufferFull, Outcome::Source));
        assert_eq!(world.wait_migration(0, migration), full);
        world.run_for(Duration::from_secs(10));
        assert_eq!(world.hosts(origin)[0].0, 0);
        world.assert_nothing_left();
    });
}

#[test]
fn what_is_held_while_the_mailbox_is_closed_is_bounded_in_bytes() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let late = How::Delay(Duration::from_secs(5));
        // The answer to the last events: the mailbox is closed until it comes.
        world.meddler = Some(Meddler { message: "ReplayComplete", nth: 1, how: late });
        let migration = start(world, 0, origin, 1);
        let closed = (Role::Source, Stage::Cutover);
        assert!(world.run_until(Duration::from_secs(5), |world| world.nodes[0].stages.contains(&closed)));
        let large = |world: &mut World| {
            let request = world.request(0, 0);
            world.call_with(0, origin, request, 10 << 20)
        };
        let first = large(world);
        let second = large(world);
        assert_eq!(world.failure(second), RuntimeError::MailboxFull(origin), "not more than 16 MiB are held");
        assert_eq!(world.wait_migration(0, migration), Ok(()));
        world.outputs(first);
        world.run_for(Duration::from_secs(1));
        world.assert_nothing_left();
    });
}

/// Node 1 asks its policy, which admits states up to so many bytes.
fn with_policy(most: u64) -> World {
    let options = |_| RuntimeOptions { arrivals: ArrivalPolicy::Ask, ..RuntimeOptions::default() };
    let mut world = World::with_options(1, 2, options);
    world.nodes[1].admits_bytes = most;
    world
}

#[test]
fn a_policy_that_refuses_large_states_refuses_one_whose_size_was_not_known_before_any_of_it_comes() {
    in_world(with_policy(200_000), |world| {
        world.nodes[0].objects.fresh.ballast = 300_000;
        let origin = world.spawn(0, 1, "prompt");
        let why = FailureReason::FactoryNotFound { kind: "prompt".into(), why: Unwelcome::ByPolicy };
        assert_eq!(world.moved(0, origin, 1), Err(MigrationFailure::Refused(why, Outcome::Source)));
        let sizes: Vec<u64> = world.nodes[1].asked.iter().map(|request| request.state_bytes).collect();
        assert!(matches!(sizes[..], [0, known] if known > 300_000), "{sizes:?}");
        assert!(world.messages.iter().all(|(.., name)| *name != "Chunk"), "nothing of it came");
        let ticket = world.call(1, origin);
        assert_eq!((world.outputs(ticket).1, world.hosts(origin)[0].0), (1, 0));
        world.nodes[1].admits_bytes = 400_000;
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        world.run_for(Duration::from_secs(1));
        world.assert_nothing_left();
    });
}

#[test]
fn a_policy_is_asked_once_about_a_small_state() {
    in_world(with_policy(200_000), |world| {
        let origin = world.spawn(0, 1, "prompt");
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        assert_eq!(world.nodes[1].asked.len(), 1);
    });
}

#[test]
fn hazard_37_two_emitters_with_equal_sequences_interleave_while_the_daemon_moves() {
    for seed in 0..20 {
        in_world(World::new(seed, 3), |world| {
            let kind = if seed % 2 == 0 { "prompt" } else { "slow" };
            let origin = world.spawn(0, 1, kind);
            let emitters = [7, 8].map(|seed| World::daemon_key(seed).origin_hash());
            let migration = start(world, 0, origin, 1);
            let mut tickets = Vec::new();
            for number in 1..=30 {
                for emitter in emitters {
                    let request = world.request(0, 0);
                    let (link, payload) = (CausalLink::genesis(emitter), request.encode(0));
                    let link = CausalLink { sequence: Sequence::new(number), ..link };
                    tickets.push(world.act(2, Some(request.id), |engine, ticket, now| {
                        engine.deliver(ticket, origin, link, payload, now)
                    }));
                }
                let pause = world.chance(120);
                world.run_for(Duration::from_micros(pause));
            }
            assert_eq!(world.wait_migration(0, migration), Ok(()));
            for ticket in tickets {
                world.outputs(ticket);
            }
            assert_eq!(world.seen(origin), (1..=60).collect::<Vec<_>>(), "both, in the order in which they came");
        });
    }
}

#[test]
fn hazard_58_a_full_frozen_mailbox_holds_back_no_reply_no_acknowledgement_and_no_activation() {
    in_world(World::new(1, 3), |world| {
        let config = HostConfig { mailbox_capacity: 4, ..HostConfig::default() };
        let frozen = world.spawn_with(0, 1, "prompt", config);
        let (comes, serves) = (world.spawn(1, 2, "prompt"), world.spawn(1, 3, "prompt"));
        world.nodes[0].objects.faults.snapshot_takes = Some(Duration::from_secs(5));
        let slow = start(world, 0, frozen, 2);
        world.run_for(Duration::from_millis(10));
        // More than the mailbox and the window of its sender hold, in the same connection.
        let waiting: Vec<_> = (0..3000).map(|_| world.send(1, frozen)).collect();
        world.run_for(Duration::from_millis(100));
        assert!(waiting.iter().any(|ticket| !world.is_answered(*ticket)), "the mailbox is full");
        let call = world.call(0, serves);
        assert_eq!(world.outputs(call).1, 1);
        let back = start(world, 1, comes, 0);
        assert_eq!(world.wait_migration(1, back), Ok(()));
        let answer = world.call(1, comes);
        assert_eq!(world.outputs(answer).1, 1);
        assert!(!world.nodes[0].over.contains_key(&slow.get()), "all of it while the other daemon is frozen");
        assert_eq!(world.wait_migration(0, slow), Ok(()));
        for ticket in waiting {
            world.wait_for(ticket).as_ref().expect("accepted");
        }
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.seen(frozen).len(), 3000);
        world.assert_nothing_left();
    });
}

#[test]
fn hazard_65_the_target_moves_the_daemon_on_at_once_when_the_source_has_let_go() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let late = Duration::from_secs(3);
        world.meddler = Some(Meddler { message: "CleanupComplete", nth: 0, how: How::Delay(late) });
        let first = start(world, 0, origin, 1);
        let live = world
            .run_until(Duration::from_secs(1), |world| world.hosts(origin).first().is_some_and(|(host, _)| *host == 1));
        assert!(live);
        let asked = world.now;
        let second = start(world, 1, origin, 2);
        world.run_for(late / 2);
        let leaves = (Role::Source, Stage::Snapshot);
        assert!(!world.nodes[1].stages.contains(&leaves), "its former host has not let go");
        let call = world.call(2, origin);
        assert_eq!(world.outputs(call).1, 1, "it is live meanwhile");
        assert_eq!(world.wait_migration(1, second), Ok(()));
        assert!(world.now - asked >= late, "not before");
        assert_eq!(world.wait_migration(0, first), Ok(()));
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.hosting(origin), [2]);
        world.assert_nothing_left();
    });
}

/// Takes no more in a payload than a megabyte; all others take 64.
const MODEST: usize = 1;
const MODEST_LIMIT: u64 = 1 << 20;

fn modest_world(seed: u64) -> World {
    World::with_options(seed, 3, |node| RuntimeOptions {
        arrivals: ArrivalPolicy::AnyKind,
        max_payload: if node == MODEST { MODEST_LIMIT } else { RuntimeOptions::default().max_payload },
        ..RuntimeOptions::default()
    })
}

#[test]
fn a_payload_beyond_the_hosts_limit_fails_alone_and_at_once() {
    in_world(modest_world(1), |world| {
        let origin = world.spawn(MODEST, 1, "prompt");
        let before = world.call(0, origin);
        let request = world.request(0, 0);
        let large = world.call_with(0, origin, request, 5 << 20);
        let behind = world.call(0, origin);
        match world.failure(large) {
            RuntimeError::PayloadTooLarge { size, max } => assert!(size > 5 << 20 && max == MODEST_LIMIT),
            other => panic!("{other:?}"),
        }
        assert_eq!((world.outputs(before).1, world.outputs(behind).1), (1, 2), "those beside it ran");
        // Where more is taken it is taken.
        assert_eq!(world.moved(MODEST, origin, 2), Ok(()));
        let request = world.request(0, 0);
        let large = world.call_with(0, origin, request, 5 << 20);
        assert_eq!(world.outputs(large).1, 3);
        world.run_for(Duration::from_secs(1));
        world.assert_nothing_left();
    });
}

#[test]
fn an_output_beyond_the_callers_limit_is_an_error_for_that_caller_alone() {
    in_world(modest_world(2), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let request = world.request(0, 5 << 20);
        let large = world.call_with(MODEST, origin, request, 0);
        let behind = world.call(MODEST, origin);
        assert!(matches!(world.failure(large), RuntimeError::OutputTooLarge(_)));
        assert_eq!(world.outputs(behind).1, 2, "it ran, and so did the next one");
        let request = world.request(0, 5 << 20);
        let other = world.call_with(2, origin, request, 0);
        assert_eq!(world.outputs(other).1, 3);
        world.run_for(Duration::from_secs(1));
        world.assert_nothing_left();
    });
}

#[test]
fn a_send_that_found_no_host_does_not_say_that_a_mailbox_is_full() {
    in_world(World::new(3, 2), |world| {
        // It may host the daemon, and cannot be asked.
        world.cut(0, 1, NEVER);
        world.run_for(Duration::from_secs(1));
        let origin = World::daemon_key(9).origin_hash();
        let ticket = world.send(0, origin);
        assert_eq!(world.failure(ticket), RuntimeError::PeerLost { origin, executed: Executed::No });
    });
}
