//! Events without moves: on one node, between nodes, across cuts and restarts.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::mesh::{Loss, PeerEvent};
use mesh_daemon_core::runtime::{Executed, RuntimeError, Settlement};

use super::daemon::{FAIL, HANG, Ledger};
use super::load::answers_are_true;
use super::world::World;
use super::{for_seeds, in_world};

const SOON: Duration = Duration::from_secs(1);

#[test]
fn local_events_run_in_order_and_count() {
    for_seeds(0..20, 1, |world| {
        for kind in ["prompt", "slow"] {
            let origin = world.spawn(0, kind.len() as u8, kind);
            let tickets: Vec<_> = (0..300).map(|_| world.call(0, origin)).collect();
            let first = world.outputs(tickets[0]).0;
            for (index, ticket) in tickets.into_iter().enumerate() {
                let (id, count, _) = world.outputs(ticket);
                assert_eq!((id - first, count), (index as u64, index as u64 + 1));
            }
        }
    });
}

#[test]
fn requirements_17_45_a_duplicate_spawn_leaves_the_incumbent() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let (_, again) = world.try_spawn(0, 1, "prompt", HostConfig::default());
        assert_eq!(world.failure(again), RuntimeError::AlreadyRegistered(origin));
        // A spawn looks first: it is registered on another node.
        let (_, elsewhere) = world.try_spawn(1, 1, "prompt", HostConfig::default());
        assert_eq!(world.failure(elsewhere), RuntimeError::AlreadyRegistered(origin));
        let ticket = world.call(1, origin);
        assert_eq!(world.outputs(ticket).1, 1);
        assert_eq!(world.moved(0, origin, 1), Ok(()), "and it still moves");
        assert_eq!(world.nodes[1].objects.map.len(), 1);
    });
}

#[test]
fn hazard_6_a_daemon_is_reached_while_its_identity_is_spawned_again_elsewhere() {
    for_seeds(0..10, 3, |world| {
        let origin = world.spawn(0, 1, "slow");
        for _ in 0..3 {
            let (_, again) = world.try_spawn(1, 1, "prompt", HostConfig::default());
            let (call, send) = (world.call(1, origin), world.send(1, origin));
            let request = world.request(0, 0);
            let delivery = world.deliver(1, origin, request);
            assert!(!world.is_answered(again), "it is being looked for");
            for ticket in [call, send, delivery] {
                let answer = world.wait_for(ticket);
                assert!(answer.is_ok(), "{answer:?}");
            }
            assert_eq!(world.failure(again), RuntimeError::AlreadyRegistered(origin));
        }
        world.run_for(SOON);
        assert_each_sender_in_order(world, origin, 9);
    });
}

#[test]
fn a_mailbox_that_is_full_refuses_local_callers() {
    in_world(World::new(1, 1), |world| {
        let config = HostConfig { mailbox_capacity: 4, ..HostConfig::default() };
        let origin = world.spawn_with(0, 1, "slow", config);
        let tickets: Vec<_> = (0..20).map(|_| world.call(0, origin)).collect();
        let mut ran = 0;
        for ticket in tickets {
            match world.wait_for(ticket) {
                Ok(_) => ran += 1,
                Err(error) => assert_eq!(*error, RuntimeError::MailboxFull(origin)),
            }
        }
        assert!((4..20).contains(&ran), "{ran}");
        assert_eq!(world.seen(origin).len(), ran);
    });
}

#[test]
fn a_full_mailbox_holds_remote_callers_back_and_loses_nothing() {
    for_seeds(0..10, 3, |world| {
        let config = HostConfig { mailbox_capacity: 4, mailbox_bytes: 4096, ..HostConfig::default() };
        let origin = world.spawn_with(0, 1, "slow", config);
        let mut tickets = Vec::new();
        for round in 0..100 {
            for node in [1, 2] {
                let request = world.request(0, 0);
                tickets.push(world.call_with(node, origin, request, (round % 5) * 900));
            }
        }
        for ticket in tickets {
            world.outputs(ticket);
        }
        assert_eq!(world.seen(origin).len(), 200);
    });
}

#[test]
fn a_snapshot_includes_the_events_before_it_and_no_later_ones() {
    for_seeds(0..10, 1, |world| {
        let origin = world.spawn(0, 1, "slow");
        let before: Vec<_> = (0..5).map(|_| world.call(0, origin)).collect();
        let snapshot = world.act(0, None, |engine, ticket, now| engine.snapshot(ticket, origin, now));
        let after = world.call(0, origin);
        let state = match world.wait_for(snapshot) {
            Ok(Settlement::Snapshot(Some(bytes))) => {
                mesh_daemon_core::snapshot::StateSnapshot::decode(bytes).expect("a snapshot")
            }
            other => panic!("a snapshot: {other:?}"),
        };
        assert_eq!(state.head.through_seq().get(), 5);
        assert_eq!(Ledger::restore(&state.state.expect("stateful")).seen.len(), 5);
        assert!(before.iter().all(|ticket| world.is_answered(*ticket)));
        assert_eq!(world.outputs(after).1, 6);
    });
}

#[test]
fn stop_lets_accepted_events_run_and_ends_the_rest() {
    for_seeds(0..10, 2, |world| {
        let origin = world.spawn(0, 1, "slow");
        let before: Vec<_> = (0..5).map(|_| world.call(0, origin)).collect();
        let stop = world.act(0, None, |engine, ticket, now| engine.stop(ticket, origin, now));
        let late: Vec<_> = (0..2).flat_map(|_| [world.call(0, origin), world.call(1, origin)]).collect();
        assert!(world.wait_for(stop).is_ok());
        for ticket in before {
            world.outputs(ticket);
        }
        for ticket in late {
            world.failure(ticket);
        }
        let gone = world.call(1, origin);
        assert_eq!(world.failure(gone), RuntimeError::NotFound(origin));
        assert_eq!(world.nodes[0].engine.census().daemons, 0);
    });
}

#[test]
fn stop_ends_remote_events_that_the_full_mailbox_never_took() {
    for_seeds(0..10, 2, |world| {
        let config = HostConfig { mailbox_capacity: 2, ..HostConfig::default() };
        let origin = world.spawn_with(0, 1, "slow", config);
        let tickets: Vec<_> = (0..30)
            .map(|_| {
                let request = world.request(0, 0);
                world.deliver(1, origin, request)
            })
            .collect();
        world.run_for(Duration::from_millis(4));
        let stop = world.act(0, None, |engine, ticket, now| engine.stop(ticket, origin, now));
        world.wait_for(stop);
        for ticket in tickets {
            // Each is answered, by outputs or by an error: none hangs.
            let _ = world.wait_for(ticket);
        }
    });
}

/// They travel apart, and whoever sends them is told of each way.
#[test]
fn stop_ends_large_remote_events_that_the_full_mailbox_never_took_and_their_sender_reaches_the_next_life() {
    for_seeds(0..10, 2, |world| {
        let config = || HostConfig { mailbox_capacity: 2, ..HostConfig::default() };
        let origin = world.spawn_with(0, 1, "slow", config());
        let tickets: Vec<_> = (0..30)
            .map(|number| {
                let request = world.request(0, 0);
                world.call_with(1, origin, request, [40_000, 0, 30_000][number % 3])
            })
            .collect();
        world.run_for(Duration::from_millis(4));
        let stop = world.act(0, None, |engine, ticket, now| engine.stop(ticket, origin, now));
        world.wait_for(stop);
        world.run_for(Duration::from_secs(5));
        for ticket in tickets {
            assert!(world.is_answered(ticket), "not only when its patience ends");
        }
        world.spawn_with(0, 1, "prompt", HostConfig::default());
        let later = world.call(1, origin);
        world.outputs(later);
    });
}

#[test]
fn hazard_16_a_promise_that_never_settles_times_out_for_those_who_wait_and_for_later_callers() {
    in_world(World::new(1, 2), |world| {
        for kind in ["prompt", "slow"] {
            let config = HostConfig { callback_timeout: SOON, ..HostConfig::default() };
            let origin = world.spawn_with(0, kind.len() as u8, kind, config);
            let hang = world.request(HANG, 0);
            let stuck = world.deliver(0, origin, hang);
            let behind = world.request(0, 0);
            let behind = world.deliver(1, origin, behind);
            assert_eq!(world.failure(stuck), RuntimeError::CallbackTimeout(SOON));
            assert!(matches!(world.failure(behind), RuntimeError::RemoteTimeout(_)));
            world.run_for(Duration::from_secs(20));
            for node in [0, 1] {
                let later = world.request(0, 0);
                let later = world.deliver(node, origin, later);
                world.failure(later);
            }
            let (_, key) = world.hosts(origin)[0];
            world.let_go(0, key);
            let fine = world.call(0, origin);
            world.outputs(fine);
        }
    });
}

#[test]
fn a_snapshot_that_never_settles_times_out_the_events_behind_it() {
    in_world(World::new(1, 1), |world| {
        let config = HostConfig { callback_timeout: SOON, ..HostConfig::default() };
        let origin = world.spawn_with(0, 1, "prompt", config);
        world.nodes[0].objects.faults.snapshot_hangs = true;
        let snapshot = world.act(0, None, |engine, ticket, now| engine.snapshot(ticket, origin, now));
        let request = world.request(0, 0);
        let behind = world.deliver(0, origin, request);
        assert_eq!(world.failure(snapshot), RuntimeError::CallbackTimeout(SOON));
        assert_eq!(world.failure(behind), RuntimeError::CallbackTimeout(SOON));
        let request = world.request(0, 0);
        let later = world.deliver(0, origin, request);
        assert_eq!(world.failure(later), RuntimeError::CallbackTimeout(SOON));
    });
}

#[test]
fn a_handler_that_fails_fails_its_event_only() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(0, 1, "prompt");
        for node in [0, 1] {
            let request = world.request(FAIL, 0);
            let ticket = world.call_with(node, origin, request, 0);
            match world.failure(ticket) {
                RuntimeError::ProcessFailed(thrown) => assert_eq!(thrown.message, "told to fail"),
                other => panic!("{other}"),
            }
            let fine = world.call(node, origin);
            world.outputs(fine);
        }
    });
}

#[test]
fn remote_calls_and_sends_run_once_in_their_order() {
    for_seeds(0..40, 3, |world| {
        let kind = if world.seed % 2 == 0 { "prompt" } else { "slow" };
        let origin = world.spawn(0, 1, kind);
        let mut tickets = Vec::new();
        for index in 0..120 {
            let node = index % 3;
            tickets.push(if index % 7 == 0 { world.send(node, origin) } else { world.call(node, origin) });
        }
        for ticket in &tickets {
            assert!(world.wait_for(*ticket).is_ok());
        }
        world.run_for(SOON);
        assert_each_sender_in_order(world, origin, 120);
    });
}

fn assert_each_sender_in_order(world: &World, origin: mesh_daemon_core::identity::OriginHash, count: usize) {
    let seen = world.seen(origin);
    assert_eq!(seen.len(), count);
    for node in 0..world.nodes.len() {
        let own: Vec<u64> = seen.iter().copied().filter(|id| world.sender_of(*id) == node).collect();
        assert!(own.windows(2).all(|pair| pair[0] < pair[1]), "n{node}: {own:?}");
    }
}

#[test]
fn hazard_44_large_payloads_and_large_replies_arrive_whole_and_in_order() {
    for_seeds(0..6, 2, |world| {
        let origin = world.spawn(0, 1, "prompt");
        let sizes = [0, 24 * 1024, 24 * 1024 + 1, 47 * 1024, 48 * 1024, 49 * 1024, 200_000, 3_000_000, 10_000_000];
        let mut tickets = Vec::new();
        for size in sizes {
            for answer in [0, size as u64] {
                let request = world.request(0, answer);
                tickets.push((world.call_with(1, origin, request, size), request.id, answer));
                tickets.push((world.call(1, origin), request.id + 1, 0));
            }
        }
        for (index, (ticket, id, answer)) in tickets.into_iter().enumerate() {
            let (got, count, len) = world.outputs(ticket);
            assert_eq!((got, count), (id, index as u64 + 1));
            assert_eq!(len as u64, 16 + answer);
        }
    });
}

#[test]
fn an_unknown_daemon_is_not_found() {
    in_world(World::new(1, 3), |world| {
        let origin = World::daemon_key(9).origin_hash();
        let began = world.now;
        for node in 0..3 {
            let ticket = world.call(node, origin);
            assert_eq!(world.failure(ticket), RuntimeError::NotFound(origin));
        }
        assert!(world.now - began < Duration::from_secs(2));
        let ticket = world.act(1, None, |engine, ticket, now| engine.locate(ticket, origin, now));
        assert!(matches!(world.wait_for(ticket), Ok(Settlement::Located(None))));
    });
}

#[test]
fn a_former_host_does_not_lead_to_a_host_that_is_given_up() {
    for how in [Loss::Goodbye, Loss::Silence] {
        in_world(World::new(1, 3), |world| {
            let origin = world.spawn(0, 1, "prompt");
            assert_eq!(world.moved(0, origin, 1), Ok(()));
            let first = world.call(2, origin);
            world.outputs(first);
            world.lose(0, 1, how);
            world.lose(1, 2, how);
            let ticket = world.act(2, None, |engine, ticket, now| engine.locate(ticket, origin, now));
            assert!(matches!(world.wait_for(ticket), Ok(Settlement::Located(None))));
            let ticket = world.call(2, origin);
            assert_eq!(world.failure(ticket), RuntimeError::NotFound(origin));
        });
    }
}

#[test]
fn calls_through_a_former_host_end_once_it_gives_up_the_new_one() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(0, 1, "prompt");
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        world.lose(1, 2, Loss::Silence);
        let through = world.call(2, origin);
        world.outputs(through);
        world.lose(0, 1, Loss::Silence);
        let ticket = world.call(2, origin);
        let failure = world.failure(ticket);
        assert!(matches!(failure, RuntimeError::NotFound(_) | RuntimeError::PeerLost { .. }), "{failure}");
    });
}

#[test]
fn hazard_59_a_lost_reply_is_kept_and_the_event_does_not_run_again() {
    for_seeds(0..60, 2, |world| {
        let kind = if world.seed % 2 == 0 { "prompt" } else { "slow" };
        let origin = world.spawn(0, 1, kind);
        let mut tickets = Vec::new();
        for round in 0..12 {
            for _ in 0..20 {
                tickets.push(world.call(1, origin));
                let pause = world.chance(300);
                world.run_for(Duration::from_micros(pause));
            }
            let heal = Duration::from_micros(500 + world.chance(3_000));
            world.cut(0, 1, heal);
            let pause = world.chance(4_000);
            world.run_for(Duration::from_micros(pause + round));
        }
        for ticket in tickets {
            world.outputs(ticket);
        }
        assert_each_sender_in_order(world, origin, 240);
    });
}

#[test]
fn a_lost_peer_ends_calls_and_says_whether_they_ran() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(0, 1, "slow");
        let first = world.call(1, origin);
        world.outputs(first);
        let maybe = world.call(1, origin);
        world.run_for(Duration::from_micros(450));
        world.lose(0, 1, Loss::Silence);
        assert_eq!(world.failure(maybe), RuntimeError::PeerLost { origin, executed: Executed::Unknown });
    });
    in_world(World::new(2, 2), |world| {
        let origin = world.spawn(0, 1, "slow");
        let first = world.call(1, origin);
        world.outputs(first);
        world.cut(0, 1, Duration::from_secs(100));
        world.run_for(Duration::from_millis(5));
        let never = world.call(1, origin);
        world.lose(0, 1, Loss::Silence);
        assert_eq!(world.failure(never), RuntimeError::PeerLost { origin, executed: Executed::No });
    });
}

#[test]
fn an_event_that_was_sent_before_a_cut_may_have_run_even_if_it_waits_again() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let first = world.call(1, origin);
        world.outputs(first);
        let ran = world.call(1, origin);
        let before = world.seen(origin).len();
        assert!(world.run_until(Duration::from_secs(1), |world| world.seen(origin).len() > before));
        // The answer is on its way, and is lost; what was sent is due again, and the next loss comes before it is sent.
        world.cut(0, 1, Duration::from_secs(100));
        world.run_for(Duration::from_millis(4));
        let (now, peer) = (world.present(), world.identity(0));
        let (node, incarnation) = (peer.node, peer.incarnation);
        let engine = &mut world.nodes[1].engine;
        engine.peer(&PeerEvent::Connected { peer, resumed: true }, now);
        engine.peer(&PeerEvent::Lost { node, incarnation, how: Loss::Silence }, now);
        world.settle(1);
        assert_eq!(world.failure(ran), RuntimeError::PeerLost { origin, executed: Executed::Unknown });
    });
}

#[test]
fn calls_work_after_a_peer_was_lost_by_silence_and_came_back_in_the_same_life() {
    for_seeds(0..20, 2, |world| {
        let origin = world.spawn(0, 1, "slow");
        let mut all = Vec::new();
        for _ in 0..4 {
            let some: Vec<_> = (0..9).map(|_| world.call(1, origin)).collect();
            let pause = world.chance(6_000);
            world.run_for(Duration::from_micros(pause));
            world.lose(0, 1, Loss::Silence);
            world.run_for(Duration::from_millis(50));
            all.extend(some);
            world.connect(0, 1, false);
            let fresh = world.call(1, origin);
            world.outputs(fresh);
        }
        for ticket in &all {
            match world.wait_for(*ticket) {
                Ok(_) | Err(RuntimeError::PeerLost { executed: Executed::Unknown, .. }) => {}
                // The only one who could have told where it lives was lost first.
                Err(RuntimeError::PeerLost { executed: Executed::No, .. } | RuntimeError::NotFound(_)) => {
                    let request = world.waits[&ticket.0].request.expect("a call");
                    assert!(!world.seen(origin).contains(&request));
                }
                other => panic!("{other:?}"),
            }
        }
        world.run_for(SOON);
        let seen = world.seen(origin);
        let mut once = seen.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), seen.len(), "no event ran twice");
    });
}

#[test]
fn a_stream_that_was_idle_begins_again() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(0, 1, "prompt");
        for pause in [1, 290, 320, 400, 700, 2_000] {
            for _ in 0..3 {
                let ticket = world.call(1, origin);
                world.outputs(ticket);
            }
            world.run_for(Duration::from_secs(pause));
        }
        assert_eq!(world.seen(origin).len(), 18);
    });
}

#[test]
fn hazard_60_a_sender_that_restarts_gets_no_answer_of_its_former_life() {
    for_seeds(0..40, 2, |world| {
        let origin = world.spawn(0, 1, "slow");
        for _ in 0..3 {
            for _ in 0..30 {
                world.call(1, origin);
            }
            let pause = 500 + world.chance(9_000);
            world.run_for(Duration::from_micros(pause));
            world.restart(1);
            let fresh: Vec<_> = (0..10)
                .map(|_| {
                    let request = world.request(0, 0);
                    (world.call_with(1, origin, request, 0), request.id)
                })
                .collect();
            for (ticket, id) in fresh {
                assert_eq!(world.outputs(ticket).0, id, "an answer belongs to its question");
            }
        }
        world.run_for(SOON);
        let seen = world.seen(origin);
        let mut once = seen.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), seen.len());
    });
}

#[test]
fn hazard_60_a_host_that_restarts_ends_calls_and_hosts_a_new_life() {
    for_seeds(0..10, 2, |world| {
        let origin = world.spawn(0, 1, "slow");
        let tickets: Vec<_> = (0..30).map(|_| world.call(1, origin)).collect();
        world.run_for(Duration::from_millis(8));
        world.restart(0);
        for ticket in tickets {
            match world.wait_for(ticket) {
                Ok(_) | Err(RuntimeError::PeerLost { .. } | RuntimeError::NotFound(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        answers_are_true(world);
        world.spawn(0, 1, "prompt");
        let ticket = world.call(1, origin);
        assert_eq!(world.outputs(ticket).1, 1);
    });
}

#[test]
fn a_call_that_times_out_before_it_began_does_not_run() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(0, 1, "slow");
        let hang = world.request(HANG, 0);
        world.deliver(0, origin, hang);
        let mut late = Vec::new();
        for node in [0, 1] {
            let request = world.request(0, 0);
            let payload = request.encode(0);
            late.push(
                world
                    .act(node, Some(request.id), |engine, ticket, now| engine.call(ticket, origin, payload, SOON, now)),
            );
        }
        for ticket in late {
            assert_eq!(world.failure(ticket), RuntimeError::CallTimeout(SOON));
        }
        world.run_for(SOON);
        let (_, key) = world.hosts(origin)[0];
        world.let_go(0, key);
        let ticket = world.call(1, origin);
        assert_eq!(world.outputs(ticket).1, 2, "only the one that hung ran before");
    });
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..8 {
        let run = || {
            in_world(World::new(seed, 3), |world| {
                super::load::run(world, super::load::Plan { cuts: true, ..super::load::Plan::default() });
            })
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}
