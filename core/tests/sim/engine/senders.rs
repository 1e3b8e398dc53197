//! A daemon does not leave its host before all that it sent was accepted: what its move waits for, and what it says of that
//! when it waited in vain.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::migration::{MigrationFailure, Outcome};
use mesh_daemon_core::runtime::{Engine, Executed, RuntimeError, Settlement};
use mesh_daemon_core::wire::migration::FailureReason;

use super::daemon::HANG;
use super::in_world;
use super::world::{How, Meddler, Way, World};

/// For so long a freeze waits, unless it is told otherwise.
const FREEZE: Duration = Duration::from_secs(10);
/// Longer than that, and shorter than senders wait.
const AWAY: Duration = Duration::from_secs(30);
/// Longer than anybody waits.
const LONG: Duration = Duration::from_secs(100);

/// What a failed move says that it waited for.
fn waited_for(failure: &MigrationFailure) -> &str {
    match failure {
        MigrationFailure::Refused(FailureReason::Timeout { detail }, Outcome::Source) => detail,
        other => panic!("a freeze that was undone: {other:?}"),
    }
}

fn murmur_often(world: &mut World, speaker: OriginHash, to: OriginHash, count: usize) -> Vec<u64> {
    let first = world.last_request + 1;
    for _ in 0..count {
        world.murmur(speaker, to, Way::Send);
    }
    (first..=world.last_request).collect()
}

/// Finds the way from a node to a daemon, so that what is sent next has a stream.
fn knows_the_way(world: &mut World, node: usize, origin: OriginHash) -> u64 {
    let ticket = world.call(node, origin);
    world.outputs(ticket).0
}

fn moves_on(world: &mut World, origin: OriginHash, to: usize) {
    let (host, _) = world.hosts(origin)[0];
    assert_eq!(world.moved(host, origin, to), Ok(()), "it moves when nothing keeps it");
    world.run_for(Duration::from_secs(1));
    world.assert_nothing_left();
}

#[test]
fn hazard_57_an_undone_freeze_says_for_whom_it_waited_and_how_much() {
    in_world(World::new(1, 4), |world| {
        let speaker = world.spawn(0, 1, "prompt");
        let far = world.spawn(3, 2, "prompt");
        let mute = world.spawn(2, 3, "prompt");
        let near = world.spawn(0, 4, "prompt");
        for origin in [far, mute, near] {
            knows_the_way(world, 0, origin);
        }
        // They never answer; what they are sent behind that is accepted.
        for (node, origin) in [(2, mute), (0, near)] {
            let hang = world.request(HANG, 0);
            world.deliver(node, origin, hang);
            world.murmur(speaker, origin, Way::Call);
        }
        world.murmur(speaker, mute, Way::Call);
        world.run_for(Duration::from_millis(10));
        world.cut(0, 3, AWAY);
        world.run_for(Duration::from_millis(10));
        murmur_often(world, speaker, far, 5);
        // Others of its node are not its concern.
        world.send(0, far);
        let failure = world.moved(0, speaker, 1).expect_err("it waits in vain");
        assert_eq!(
            waited_for(&failure),
            format!(
                "waited for what the daemon sent to be accepted, and what it called to answer: \
                 5 not accepted by daemon {far} on node {}, which is out of reach; \
                 2 not answered by daemon {mute} on node {}; 1 not answered by daemon {near} on this node",
                world.id(3),
                world.id(2)
            )
        );
        knows_the_way(world, 1, speaker);
        for (node, origin) in [(2, mute), (0, near)] {
            let (_, key) = world.hosts(origin)[0];
            world.let_go(node, key);
        }
        world.run_for(LONG);
        moves_on(world, speaker, 1);
        let seen = world.seen(far);
        assert_eq!(seen.len(), 1 + 5 + 1);
    });
}

#[test]
fn hazard_57_an_event_that_awaits_what_it_sent_says_so_when_it_undoes_a_freeze() {
    in_world(World::new(1, 3), |world| {
        let sink = world.spawn(2, 2, "prompt");
        let speaker = world.spawn(0, 1, "slow");
        world.speech.sink = Some(sink);
        knows_the_way(world, 0, speaker);
        world.cut(0, 2, AWAY);
        let running = world.call(1, speaker);
        world.run_for(Duration::from_millis(10));
        let failure = world.moved(0, speaker, 1).expect_err("it waits in vain");
        let node = world.id(2);
        assert_eq!(
            waited_for(&failure),
            format!(
                "waited for the daemon to finish its event: \
                 1 not accepted by daemon {sink} on node {node}, which is out of reach"
            )
        );
        world.run_for(LONG);
        world.outputs(running);
        moves_on(world, speaker, 1);
    });
}

#[test]
fn hazard_57_the_reason_stays_short_however_many_it_waited_for() {
    in_world(World::new(1, 3), |world| {
        let speaker = world.spawn(0, 1, "prompt");
        let sinks: Vec<_> = (2..=200).map(|seed| world.spawn(2, seed, "prompt")).collect();
        for sink in &sinks {
            knows_the_way(world, 0, *sink);
        }
        world.cut(0, 2, LONG);
        world.run_for(Duration::from_millis(10));
        for (sink, count) in sinks.iter().zip([4, 3, 2].into_iter().chain(std::iter::repeat(1))) {
            murmur_often(world, speaker, *sink, count);
        }
        let failure = world.moved(0, speaker, 1).expect_err("it waits in vain");
        let detail = waited_for(&failure);
        for (count, sink) in [4, 3, 2].into_iter().zip(&sinks) {
            assert!(detail.contains(&format!("{count} not accepted by daemon {sink}")), "{detail}");
        }
        assert!(detail.ends_with("; 196 by 196 others") && detail.len() < 500, "{detail}");
        world.run_for(LONG);
        moves_on(world, speaker, 1);
    });
}

#[test]
fn hazard_57_whoever_is_given_up_or_dead_is_not_waited_for() {
    type End = fn(&mut World);
    let ends: [(&str, End); 3] = [
        ("given up", |world| world.lose(0, 2, Loss::Silence)),
        ("a goodbye", |world| world.lose(0, 2, Loss::Goodbye)),
        ("a newer life", |world| world.restart(2)),
    ];
    for (how, end) in ends {
        in_world(World::new(1, 3), |world| {
            let speaker = world.spawn(0, 1, "prompt");
            let sink = world.spawn(2, 2, "prompt");
            knows_the_way(world, 0, sink);
            world.cut(0, 2, LONG);
            world.run_for(Duration::from_millis(10));
            let said = world.murmur(speaker, sink, Way::Send);
            let called = world.murmur(speaker, sink, Way::Call);
            let ticket = world.migrate(0, speaker, 1);
            world.run_for(Duration::from_secs(2));
            let migration = world.migration(ticket).expect("it begins");
            assert!(!world.nodes[0].over.contains_key(&migration.get()), "{how}: it waits");
            let began = world.now;
            end(world);
            assert_eq!(world.wait_migration(0, migration), Ok(()), "{how}");
            assert!(world.now - began < Duration::from_secs(1), "{how}: at once");
            for ticket in [said, called] {
                let lost = RuntimeError::PeerLost { origin: sink, executed: Executed::No };
                assert_eq!(world.failure(ticket), lost, "{how}");
            }
            world.run_for(LONG);
            world.assert_nothing_left();
        });
    }
}

#[test]
fn hazard_61_a_receiver_without_room_is_waited_for_while_it_makes_some() {
    in_world(World::new(1, 3), |world| {
        let speaker = world.spawn(0, 1, "prompt");
        let config = HostConfig { mailbox_capacity: 4, ..HostConfig::default() };
        let sink = world.spawn_with(2, 2, "slow", config);
        // 30 of them take so long.
        world.slow_takes = 100_000..100_001;
        let mut said = murmur_often(world, speaker, sink, 30);
        let began = world.now;
        moves_on(world, speaker, 1);
        assert!(world.now - began > Duration::from_secs(2), "it waited for room");
        said.extend(murmur_often(world, speaker, sink, 10));
        world.run_for(FREEZE);
        assert_eq!(world.seen(sink), said);
        // Whoever takes longer than that keeps it.
        world.slow_takes = 1_000_000..1_000_001;
        said.extend(murmur_often(world, speaker, sink, 30));
        let failure = world.moved(1, speaker, 0).expect_err("it waits in vain");
        let detail = waited_for(&failure);
        assert!(detail.ends_with(&format!("not accepted by daemon {sink} on node {}", world.id(2))), "{detail}");
        world.run_for(LONG);
        assert_eq!(world.seen(sink), said);
        moves_on(world, speaker, 0);
    });
}

#[test]
fn hazard_61_a_receiver_that_moves_itself_is_waited_for() {
    // Frozen it accepts; once its mailbox is closed, its next host does.
    let steps = [("RestoreComplete", 0, false), ("BufferedEvents", 1, true), ("ActivateTarget", 0, true)];
    for (message, nth, waits) in steps {
        for near in [false, true] {
            in_world(World::new(1, 4), |world| {
                let speaker = world.spawn(0, 1, "prompt");
                let home = if near { 0 } else { 2 };
                let sink = world.spawn(home, 2, "prompt");
                let first = knows_the_way(world, 0, sink);
                world.meddler = Some(Meddler { message, nth, how: How::Delay(Duration::from_secs(3)) });
                let moving = world.migrate(home, sink, 3);
                world.run_for(Duration::from_secs(1));
                assert_eq!(world.meddled, 1, "{message}");
                let said = murmur_often(world, speaker, sink, 20);
                let began = world.now;
                assert_eq!(world.moved(0, speaker, 1), Ok(()), "{message}");
                assert_eq!(world.now - began > Duration::from_secs(1), waits, "{message}, on one node: {near}");
                let migration = world.migration(moving).expect("it began");
                assert_eq!(world.wait_migration(home, migration), Ok(()), "{message}");
                let more = murmur_often(world, speaker, sink, 20);
                world.run_for(Duration::from_secs(2));
                let all: Vec<u64> = std::iter::once(first).chain(said).chain(more).collect();
                assert_eq!(world.seen(sink), all, "{message}");
                world.assert_nothing_left();
            });
        }
    }
}

#[test]
fn hazard_61_two_that_send_to_each_other_move_at_once() {
    for (one_to, other_to) in [(1, 0), (2, 2), (2, 3)] {
        in_world(World::new(1, 4), |world| {
            let one = world.spawn(0, 1, "slow");
            let other = world.spawn(1, 2, "slow");
            let mut heard = [Vec::new(), Vec::new()];
            for _ in 0..3 {
                for _ in 0..20 {
                    heard[1].extend(murmur_often(world, one, other, 1));
                    heard[0].extend(murmur_often(world, other, one, 1));
                }
                let tickets = [(one, one_to), (other, other_to)].map(|(daemon, to)| {
                    let (host, _) = world.hosts(daemon)[0];
                    (host, world.migrate(host, daemon, to))
                });
                world.run_for(FREEZE / 2);
                for (host, ticket) in tickets {
                    let migration = world.migration(ticket).expect("it began");
                    assert_eq!(world.nodes[host].over.get(&migration.get()), Some(&Ok(())));
                }
            }
            assert_eq!([world.seen(one), world.seen(other)], heard);
            world.assert_nothing_left();
        });
    }
}

#[test]
fn hazard_57_two_that_wait_for_each_others_answers_are_told_so_and_go_on() {
    in_world(World::new(1, 3), |world| {
        let one = world.spawn(0, 1, "slow");
        let other = world.spawn(1, 2, "slow");
        world.slow_takes = 1_000..1_001;
        let calls = [world.murmur(one, other, Way::Call), world.murmur(other, one, Way::Call)];
        let moves = [(0, one), (1, other)].map(|(host, daemon)| (host, world.migrate(host, daemon, 2)));
        for ((host, ticket), asked) in moves.into_iter().zip([other, one]) {
            let migration = world.migration(ticket).expect("it began");
            let failure = world.wait_migration(host, migration).expect_err("each waits for the other");
            let detail = waited_for(&failure);
            assert!(detail.contains(&format!("1 not answered by daemon {asked}")), "{detail}");
        }
        for ticket in calls {
            world.outputs(ticket);
        }
        moves_on(world, one, 2);
        moves_on(world, other, 2);
    });
}

#[test]
fn requirement_67_a_drain_tells_which_daemon_stays_because_of_a_partition_and_it_goes_on() {
    in_world(World::new(1, 4), |world| {
        let speaker = world.spawn(0, 1, "prompt");
        let others = [world.spawn(0, 2, "prompt"), world.spawn(0, 3, "slow")];
        let sink = world.spawn(3, 4, "prompt");
        let first = knows_the_way(world, 0, sink);
        world.cut(0, 3, AWAY);
        world.run_for(Duration::from_millis(10));
        let said = murmur_often(world, speaker, sink, 7);
        let ticket = world.act(0, None, |engine: &mut Engine, ticket, now| engine.drain(ticket, None, now));
        let reports = match world.wait_for(ticket) {
            Ok(Settlement::Drained(reports)) => reports.clone(),
            other => panic!("reports: {other:?}"),
        };
        for report in &reports {
            if report.origin == speaker {
                let detail = waited_for(report.failure.as_ref().expect("it stayed"));
                let why = format!("7 not accepted by daemon {sink} on node {}, which is out of reach", world.id(3));
                assert!(detail.ends_with(&why), "{detail}");
            } else {
                assert_eq!(report.outcome, Outcome::Target, "{others:?} went: {report:?}");
            }
        }
        assert_eq!(reports.len(), 3);
        knows_the_way(world, 1, speaker);
        world.run_for(LONG);
        let more = murmur_often(world, speaker, sink, 3);
        let ticket = world.act(0, None, |engine: &mut Engine, ticket, now| engine.drain(ticket, None, now));
        assert!(matches!(world.wait_for(ticket), Ok(Settlement::Drained(reports)) if reports[0].failure.is_none()));
        world.run_for(Duration::from_secs(1));
        let all: Vec<u64> = std::iter::once(first).chain(said).chain(more).collect();
        assert_eq!(world.seen(sink), all);
        world.assert_nothing_left();
    });
}

#[test]
fn an_accepted_send_runs_however_long_it_waits_for_its_turn() {
    for from in [0, 1] {
        in_world(World::new(1, 2), |world| {
            // Longer than the daemon's own timeout, and longer than a sender waits to be accepted.
            let origin = world.spawn(0, 1, "prompt");
            let hang = world.request(HANG, 0);
            let stuck = world.deliver(0, origin, hang);
            let behind = world.call(from, origin);
            let sent: Vec<_> = (0..3).map(|_| world.send(from, origin)).collect();
            let last = world.last_request;
            for ticket in sent {
                assert!(matches!(world.wait_for(ticket), Ok(Settlement::Done)), "accepted");
            }
            world.failure(stuck);
            world.failure(behind);
            world.run_for(Duration::from_secs(200));
            let (_, key) = world.hosts(origin)[0];
            world.let_go(0, key);
            world.run_for(Duration::from_secs(1));
            assert_eq!(world.seen(origin), [1, last - 2, last - 1, last], "not the call, whose caller was told");
            world.assert_nothing_left();
        });
    }
}

#[test]
fn what_its_sender_gave_up_does_not_run_when_its_host_held_it_for_want_of_room() {
    in_world(World::new(1, 2), |world| {
        let config = HostConfig { mailbox_capacity: 1, callback_timeout: LONG, ..HostConfig::default() };
        let origin = world.spawn_with(0, 1, "prompt", config);
        let hang = world.request(HANG, 0);
        world.deliver(0, origin, hang);
        let fits = world.send(1, origin);
        let refused = [world.send(1, origin), world.call(1, origin)];
        assert!(world.wait_for(fits).is_ok());
        let full = world.failure(refused[0]);
        assert_eq!(full, RuntimeError::MailboxFull(origin));
        assert!(matches!(world.failure(refused[1]), RuntimeError::CallTimeout(_)));
        // They do not hold up what comes behind them.
        let later = world.send(1, origin);
        world.run_for(Duration::from_secs(1));
        let (_, key) = world.hosts(origin)[0];
        world.let_go(0, key);
        assert!(world.wait_for(later).is_ok());
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.seen(origin), [1, 2, 5]);
        world.assert_nothing_left();
    });
}
