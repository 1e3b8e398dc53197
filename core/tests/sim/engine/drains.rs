//! Every daemon of a node is moved away.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_daemon_core::daemon::{HostConfig, Ticket};
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::migration::{DrainReport, MigrationFailure, MigrationSettings, Outcome};
use mesh_daemon_core::runtime::{ArrivalPolicy, OrchestratorPolicy, RuntimeError, RuntimeOptions, Settlement};
use mesh_daemon_core::wire::migration::{FailureReason, Unwelcome};

use super::daemon::HANG;
use super::in_world;
use super::load::{Plan, burst};
use super::world::{Way, World};
use crate::seeds;

pub(super) fn drain(world: &mut World, node: usize, timeout: Option<Duration>) -> Ticket {
    world.act(node, None, |engine, ticket, now| engine.drain(ticket, timeout, now))
}

pub(super) fn reports(world: &mut World, ticket: Ticket) -> Vec<DrainReport> {
    match world.wait_for(ticket) {
        Ok(Settlement::Drained(reports)) => reports.clone(),
        other => panic!("reports: {other:?}"),
    }
}

fn hosts_of(world: &World, origins: &[OriginHash]) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for origin in origins {
        let hosts = world.hosts(*origin);
        assert_eq!(hosts.len(), 1, "one live copy: {hosts:?}");
        *counts.entry(hosts[0].0).or_default() += 1;
    }
    counts
}

#[test]
fn all_daemons_leave_under_load_to_the_least_loaded_peers_and_every_call_is_answered() {
    for seed in seeds::chosen(0..10) {
        in_world(World::new(seed, 3), |world| {
            let kinds = ["prompt", "slow"];
            let origins: Vec<_> = (1..=40).map(|n| world.spawn(0, n, kinds[usize::from(n) % 2])).collect();
            let settled: Vec<_> = (101..=110).map(|n| world.spawn(1, n, "prompt")).collect();
            let ticket = drain(world, 0, None);
            while !world.is_answered(ticket) {
                let origin = origins[world.chance(40) as usize];
                burst(world, origin, Plan { mixed: false, ..Plan::default() });
                let pause = world.chance(500);
                world.run_for(Duration::from_micros(pause));
            }
            let reports = reports(world, ticket);
            assert_eq!(reports.len(), origins.len());
            assert!(reports.iter().all(|report| report.outcome == Outcome::Target && report.target.is_some()));
            assert_eq!(hosts_of(world, &origins), BTreeMap::from([(1, 15), (2, 25)]), "25 each in the end");
            assert_eq!(world.nodes[0].engine.daemon_count(), 0);
            let ids: Vec<u64> = world.waits.keys().copied().collect();
            for id in ids {
                assert!(world.wait_for(Ticket(id)).is_ok(), "nothing failed");
            }
            world.run_for(Duration::from_secs(1));
            assert_eq!(hosts_of(world, &settled), BTreeMap::from([(1, 10)]));
            world.assert_nothing_left();
        });
    }
}

#[test]
fn while_it_drains_nothing_is_spawned_and_nothing_arrives() {
    let options = |_| RuntimeOptions {
        arrivals: ArrivalPolicy::AnyKind,
        orchestrators: OrchestratorPolicy::Any,
        ..RuntimeOptions::default()
    };
    in_world(World::with_options(1, 3, options), |world| {
        world.nodes[1].objects.faults.restore_takes = Some(Duration::from_secs(1));
        world.nodes[2].objects.faults.restore_takes = Some(Duration::from_secs(1));
        let leaving = world.spawn(0, 1, "prompt");
        let coming = world.spawn(2, 2, "prompt");
        let ticket = drain(world, 0, None);
        world.run_for(Duration::from_millis(200));
        let (_, spawn) = world.try_spawn(0, 3, "prompt", mesh_daemon_core::daemon::HostConfig::default());
        assert_eq!(world.failure(spawn), RuntimeError::Draining);
        let arrival = world.migrate(2, coming, 0);
        let other = drain(world, 0, Some(Duration::ZERO));
        assert_eq!(reports(world, ticket).len(), 1);
        assert_eq!(reports(world, other), reports(world, ticket), "one drain, whoever asks");
        // It was told that the node is not ready, and is called back.
        let migration = world.migration(arrival).expect("it began");
        assert_eq!(world.wait_migration(2, migration), Ok(()));
        assert_eq!(world.hosts(coming)[0].0, 0);
        assert_eq!(world.hosts(leaving)[0].0, 1, "the one with the lower number of daemons");
        world.run_for(Duration::from_secs(1));
        world.assert_nothing_left();
    });
}

#[test]
fn what_one_peer_fails_to_take_goes_to_another_one() {
    in_world(World::new(1, 3), |world| {
        world.nodes[1].objects.faults.restore = true;
        let origins: Vec<_> = (1..=8).map(|n| world.spawn(0, n, "prompt")).collect();
        let ticket = drain(world, 0, None);
        let reports = reports(world, ticket);
        assert!(reports.iter().all(|report| report.target == Some(world.id(2))), "{reports:?}");
        assert_eq!(hosts_of(world, &origins), BTreeMap::from([(2, 8)]));
        world.assert_nothing_left();
    });
}

#[test]
fn a_peer_that_has_no_room_now_is_asked_again() {
    let migration = MigrationSettings { arrival_budget: 150_000, ..MigrationSettings::default() };
    let options = RuntimeOptions { arrivals: ArrivalPolicy::AnyKind, migration, ..RuntimeOptions::default() };
    in_world(World::with_options(1, 2, |_| options.clone()), |world| {
        world.nodes[0].objects.fresh.ballast = 100_000;
        // Longer than a source waits for its grant.
        world.nodes[1].objects.faults.restore_takes = Some(Duration::from_secs(12));
        let origins: Vec<_> = (1..=3).map(|n| world.spawn(0, n, "prompt")).collect();
        let ticket = drain(world, 0, None);
        let reports = reports(world, ticket);
        assert!(reports.iter().all(|report| report.outcome == Outcome::Target), "{reports:?}");
        assert_eq!(hosts_of(world, &origins), BTreeMap::from([(1, 3)]));
        world.run_for(Duration::from_secs(1));
        world.assert_nothing_left();
    });
}

#[test]
fn while_one_peer_has_no_room_others_take_the_daemons() {
    let options = |node| {
        let arrival_budget = if node == 1 { 150_000 } else { 10_000_000 };
        let migration = MigrationSettings { arrival_budget, ..MigrationSettings::default() };
        RuntimeOptions { arrivals: ArrivalPolicy::AnyKind, migration, ..RuntimeOptions::default() }
    };
    in_world(World::with_options(1, 3, options), |world| {
        world.nodes[0].objects.fresh.ballast = 100_000;
        world.nodes[1].objects.faults.restore_takes = Some(Duration::from_secs(100));
        let origins: Vec<_> = (1..=6).map(|n| world.spawn(0, n, "prompt")).collect();
        let ticket = drain(world, 0, None);
        let began = world.now;
        let reports = reports(world, ticket);
        assert!(reports.iter().all(|report| report.outcome == Outcome::Target), "{reports:?}");
        assert_eq!(hosts_of(world, &origins), BTreeMap::from([(1, 1), (2, 5)]));
        assert!(world.now - began < Duration::from_secs(110), "nothing waited for the full one but what it holds");
    });
}

#[test]
fn a_peer_that_comes_back_is_asked_again() {
    for away in [Duration::from_millis(5), Duration::from_millis(1_500)] {
        in_world(World::new(1, 2), |world| {
            let origins: Vec<_> = (1..=40).map(|n| world.spawn(0, n, "slow")).collect();
            let ticket = drain(world, 0, None);
            let some = world.run_until(Duration::from_secs(5), |world| world.nodes[1].engine.daemon_count() > 5);
            assert!(some && !world.is_answered(ticket));
            world.cut(0, 1, away);
            let reports = reports(world, ticket);
            // Of those that were just released it cannot be known.
            let stayed = reports.iter().any(|report| matches!(report.outcome, Outcome::Source | Outcome::Lost));
            assert!(reports.len() == 40 && !stayed, "{reports:?}");
            world.run_for(Duration::from_secs(1));
            assert_eq!(hosts_of(world, &origins), BTreeMap::from([(1, 40)]));
            world.run_for(Duration::from_secs(1));
            world.assert_nothing_left();
        });
    }
}

#[test]
fn requirement_67_daemons_that_nobody_takes_stay_and_go_on() {
    in_world(World::new(1, 1), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let ticket = drain(world, 0, None);
        let failure = Some(MigrationFailure::NoTargetAvailable);
        let stayed = [DrainReport { origin, outcome: Outcome::Source, target: None, failure }];
        assert_eq!(reports(world, ticket), stayed, "no peers");
        let ticket = world.call(0, origin);
        world.outputs(ticket);
    });
    in_world(World::with_options(1, 2, |_| RuntimeOptions::default()), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let ticket = drain(world, 0, None);
        let report = reports(world, ticket).remove(0);
        assert_eq!(report.outcome, Outcome::Source, "nobody expects it");
        let why = FailureReason::FactoryNotFound { kind: "prompt".into(), why: Unwelcome::NotExpected };
        assert_eq!(report.failure, Some(MigrationFailure::Refused(why, Outcome::Source)));
        let ticket = world.call(1, origin);
        world.outputs(ticket);
        world.spawn(0, 2, "prompt");
        world.assert_nothing_left();
    });
}

#[test]
fn a_drain_whose_time_is_up_gives_up_what_it_can() {
    in_world(World::new(1, 2), |world| {
        world.nodes[1].objects.faults.restore_takes = Some(Duration::from_secs(100));
        let origins: Vec<_> = (1..=40).map(|n| world.spawn(0, n, "prompt")).collect();
        let ticket = drain(world, 0, Some(Duration::from_secs(3)));
        world.run_for(Duration::from_secs(2));
        assert!(!world.is_answered(ticket));
        world.run_for(Duration::from_secs(2));
        assert!(world.is_answered(ticket));
        let reports = reports(world, ticket);
        assert_eq!(reports.len(), 40);
        assert!(reports.iter().all(|report| report.outcome == Outcome::Source), "{reports:?}");
        let timed_out = |report: &DrainReport| match &report.failure {
            Some(MigrationFailure::Refused(reason, Outcome::Source)) => matches!(reason, FailureReason::Timeout { .. }),
            _ => false,
        };
        assert!(reports.iter().all(timed_out), "{reports:?}");
        assert_eq!(hosts_of(world, &origins), BTreeMap::from([(0, 40)]));
        world.run_for(Duration::from_secs(120));
        world.assert_nothing_left();
    });
}

#[test]
fn a_drain_that_nobody_waits_for_any_more_stops() {
    in_world(World::new(1, 2), |world| {
        world.nodes[1].objects.faults.restore_takes = Some(Duration::from_secs(100));
        let origin = world.spawn(0, 1, "prompt");
        let ticket = drain(world, 0, None);
        world.run_for(Duration::from_secs(1));
        let now = world.present();
        world.nodes[0].engine.leave_drain(ticket, now);
        world.settle(0);
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.hosts(origin)[0].0, 0);
        let (_, spawn) = world.try_spawn(0, 3, "prompt", mesh_daemon_core::daemon::HostConfig::default());
        assert!(world.wait_for(spawn).is_ok(), "it may be spawned here again");
    });
}

#[test]
fn a_daemon_that_somebody_else_is_moving_is_waited_for() {
    in_world(World::new(1, 3), |world| {
        world.nodes[2].objects.faults.restore_takes = Some(Duration::from_secs(2));
        let origin = world.spawn(0, 1, "prompt");
        let migrate = world.migrate(0, origin, 2);
        let migration = world.migration(migrate).expect("it began");
        let ticket = drain(world, 0, None);
        let expected = [DrainReport { origin, outcome: Outcome::Target, target: Some(world.id(2)), failure: None }];
        assert_eq!(reports(world, ticket), expected);
        assert_eq!(world.wait_migration(0, migration), Ok(()));
    });
}

/// A daemon on node 0 that has sent more than its receiver, on the last node, has room for, and the event that keeps that one.
fn restless(world: &mut World) -> (OriginHash, OriginHash) {
    let last = world.nodes.len() - 1;
    let speaker = world.spawn(0, 1, "prompt");
    let config =
        HostConfig { mailbox_capacity: 1, callback_timeout: Duration::from_secs(600), ..HostConfig::default() };
    let full = world.spawn_with(last, 2, "prompt", config);
    let ticket = world.call(0, full);
    world.outputs(ticket);
    let hang = world.request(HANG, 0);
    world.deliver(last, full, hang);
    for _ in 0..3 {
        world.murmur(speaker, full, Way::Send);
    }
    (speaker, full)
}

/// How often a target was asked to take a daemon.
fn attempts(world: &World) -> usize {
    world.messages.iter().filter(|(.., name)| *name == "Prepare").count()
}

#[test]
fn a_daemon_that_does_not_come_to_rest_is_not_tried_with_every_peer_and_its_drain_says_for_whom_it_waited() {
    in_world(World::new(1, 8), |world| {
        let (speaker, full) = restless(world);
        let still = world.spawn(0, 3, "prompt");
        let ticket = drain(world, 0, None);
        let reports: BTreeMap<_, _> =
            reports(world, ticket).into_iter().map(|report| (report.origin, report)).collect();
        assert_eq!(reports[&still].outcome, Outcome::Target);
        let report = &reports[&speaker];
        assert_eq!(report.outcome, Outcome::Source);
        let Some(MigrationFailure::Refused(FailureReason::Timeout { detail }, Outcome::Source)) = &report.failure
        else {
            panic!("{report:?}");
        };
        assert!(detail.contains(&format!("not accepted by daemon {full}")), "{detail}");
        assert_eq!(attempts(world), 3, "one of the daemon that leaves, two of the one that does not");
        let ticket = world.call(1, speaker);
        world.outputs(ticket);
    });
}

#[test]
fn a_daemon_that_comes_to_rest_after_a_while_leaves_within_the_time_of_its_drain() {
    in_world(World::new(1, 2), |world| {
        let (speaker, full) = restless(world);
        let ticket = drain(world, 0, Some(Duration::from_secs(60)));
        world.run_for(Duration::from_secs(25));
        let (node, key) = world.hosts(full)[0];
        world.let_go(node, key);
        let expected =
            [DrainReport { origin: speaker, outcome: Outcome::Target, target: Some(world.id(1)), failure: None }];
        assert_eq!(reports(world, ticket), expected);
        assert_eq!(world.seen(full).len(), 1 + 1 + 3);
        world.assert_nothing_left();
    });
}

#[test]
fn a_drain_whose_time_is_up_says_for_whom_a_daemon_waited_that_did_not_come_to_rest() {
    in_world(World::new(1, 3), |world| {
        let (_, full) = restless(world);
        let ticket = drain(world, 0, Some(Duration::from_secs(15)));
        let report = reports(world, ticket).remove(0);
        let Some(MigrationFailure::Refused(FailureReason::Timeout { detail }, Outcome::Source)) = &report.failure
        else {
            panic!("{report:?}");
        };
        assert!(detail.contains(&format!("not accepted by daemon {full}")), "{detail}");
    });
}
