//! What the driver of a move says of where the daemon is, when the source's end is not what it hears of first.

use std::time::Duration;

use mesh_daemon_core::identity::{Epoch, MigrationId, OriginHash};
use mesh_daemon_core::migration::{MigrationFailure, Outcome};
use mesh_daemon_core::runtime::{ArrivalPolicy, Executed, Role, RuntimeError, RuntimeOptions};
use mesh_daemon_core::wire::migration::{FailureReason, MigrationMessage, MoveId};

use super::in_world;
use super::world::{How, Meddler, NEVER, Trap, World};
use crate::seeds;

const SOURCE: usize = 0;
const TARGET: usize = 1;
const DRIVER: usize = 2;
const SECOND: Duration = Duration::from_secs(1);

/// A move that a third node drives, up to the instant at which this message is sent.
fn until(world: &mut World, message: &'static str) -> (OriginHash, MigrationId) {
    let origin = world.spawn(SOURCE, 1, "prompt");
    let ticket = world.call(TARGET, origin);
    world.outputs(ticket);
    let migration = world.driving(DRIVER, origin, SOURCE, TARGET);
    let sent = |world: &World| world.messages.iter().any(|(.., name)| *name == message);
    assert!(world.run_until(5 * SECOND, sent), "{message} is sent");
    (origin, migration)
}

fn outcome(result: &Result<(), MigrationFailure>) -> Option<Outcome> {
    result.as_ref().err().map(MigrationFailure::outcome)
}

#[test]
fn hazard_60_a_refusal_that_overtakes_the_news_of_the_sources_death_does_not_say_source() {
    for seed in seeds::chosen(0..40) {
        in_world(World::open(seed, 3), |world| {
            world.bring_news_late();
            // The target is asked when it has lost sight of the source already.
            let late = 2_000 + world.chance(2_500);
            let how = How::Delay(Duration::from_micros(late));
            world.meddler = Some(Meddler { message: "Prepare", nth: 0, how });
            let (origin, migration) = until(world, "Described");
            assert!(world.run_until(SECOND, |world| world.meddled == 1));
            let silently = world.chance(2) == 0;
            world.crash(&[SOURCE], silently, NEVER);
            let result = world.wait_migration(DRIVER, migration);
            let right = if silently { Outcome::Unknown } else { Outcome::Lost };
            assert_eq!(outcome(&result), Some(right), "{result:?}");
            world.run_for(100 * SECOND);
            assert_eq!(world.hosting(origin), []);
            world.assert_nothing_left();
        });
    }
}

#[test]
fn a_target_that_cannot_reach_the_living_source_leaves_the_daemon_there() {
    in_world(World::open(1, 3), |world| {
        let how = How::Delay(Duration::from_millis(10));
        world.meddler = Some(Meddler { message: "Prepare", nth: 0, how });
        let (origin, migration) = until(world, "Described");
        world.cut(SOURCE, TARGET, 20 * SECOND);
        let unavailable = MigrationFailure::TargetUnavailable(world.id(TARGET));
        assert_eq!(world.wait_migration(DRIVER, migration), Err(unavailable));
        assert_eq!(world.hosting(origin), [SOURCE]);
        world.run_for(100 * SECOND);
        world.assert_nothing_left();
    });
}

/// The source keeps a daemon, its driver does not hear that, and the daemon leaves with another move: asked again, the source
/// does not say that it has it.
#[test]
fn hazard_39_a_cancel_of_a_move_that_ended_before_another_one_took_the_daemon_away_does_not_say_source() {
    for (leaves, right) in [(None, Outcome::Source), (Some(TARGET), Outcome::Target), (Some(3), Outcome::Unknown)] {
        in_world(World::open(1, 4), |world| {
            let (origin, migration) = until(world, "Reserve");
            world.mute = Some((SOURCE, DRIVER));
            // The target gives up, so the daemon resumes.
            let reason = FailureReason::StateFailed { detail: "no".into() };
            let (entity, epoch) = (World::daemon_key(1).entity_id(), Epoch::FIRST);
            let id = MoveId { entity, migration, attempt: 1, epoch };
            world.forge(TARGET, SOURCE, &MigrationMessage::MigrationFailed { id, reason });
            world.run_for(SECOND / 10);
            assert_eq!(world.hosting(origin), [SOURCE]);
            assert!(!world.nodes[DRIVER].over.contains_key(&migration.get()), "its driver has not heard of it");
            if let Some(to) = leaves {
                assert_eq!(world.driven(SOURCE, origin, SOURCE, to), Ok(()));
                world.run_for(SECOND / 10);
            }
            world.mute = None;
            let now = world.present();
            world.nodes[DRIVER].engine.abort_migration(migration, None, now);
            world.settle(DRIVER);
            let result = world.wait_migration(DRIVER, migration);
            assert_eq!(outcome(&result), Some(right), "it left for {leaves:?}: {result:?}");
            assert_eq!(world.hosting(origin), [leaves.unwrap_or(SOURCE)]);
            world.run_for(100 * SECOND);
            world.assert_nothing_left();
        });
    }
}

#[test]
fn hazard_64_a_source_whose_runtime_has_ended_is_not_said_to_have_the_daemon() {
    for message in ["Described", "TakeSnapshot", "Reserve", "RestoreComplete", "CutoverNotify"] {
        for begins in [false, true] {
            in_world(World::open(1, 3), |world| {
                let (origin, migration) = until(world, message);
                world.end_runtime(SOURCE, true);
                if begins {
                    world.begin_runtime(SOURCE);
                }
                let result = world.wait_migration(DRIVER, migration);
                let what = format!("{message}, begins {begins}: {result:?}");
                assert_eq!(outcome(&result), Some(Outcome::Lost), "{what}");
                world.run_for(700 * SECOND);
                assert_eq!(world.hosting(origin), [], "{what}");
                world.assert_nothing_left();
            });
        }
    }
}

#[test]
fn hazard_64_a_source_whose_runtime_ended_behind_the_hand_over_leaves_a_move_that_is_complete() {
    for begins in [false, true] {
        in_world(World::open(1, 3), |world| {
            let (origin, migration) = until(world, "ActivateAck");
            world.end_runtime(SOURCE, true);
            if begins {
                world.begin_runtime(SOURCE);
            }
            assert_eq!(world.wait_migration(DRIVER, migration), Ok(()), "begins {begins}");
            assert_eq!(world.hosting(origin), [TARGET]);
        });
    }
}

#[test]
fn hazard_64_a_word_to_go_live_that_is_late_does_not_bring_back_what_was_said_to_be_lost() {
    for begins in [false, true] {
        in_world(World::open(1, 3), |world| {
            let how = How::Delay(20 * SECOND);
            world.meddler = Some(Meddler { message: "ActivateTarget", nth: 0, how });
            let (origin, migration) = until(world, "CutoverNotify");
            assert!(world.run_until(SECOND, |world| world.meddled == 1), "it is handed over");
            world.end_runtime(SOURCE, true);
            if begins {
                world.begin_runtime(SOURCE);
            }
            let result = world.wait_migration(DRIVER, migration);
            assert_eq!(outcome(&result), Some(Outcome::Lost), "begins {begins}: {result:?}");
            world.run_for(100 * SECOND);
            assert_eq!(world.hosting(origin), [], "begins {begins}");
            world.assert_nothing_left();
        });
    }
}

#[test]
fn a_source_that_lets_its_driver_drive_no_more_leaves_no_handle_open() {
    for message in ["Described", "TakeSnapshot", "Reserve", "RestoreComplete", "CutoverNotify", "ActivateAck"] {
        in_world(World::open(1, 3), |world| {
            let (origin, migration) = until(world, message);
            // The next runtime there has no such orchestrator, and knows nothing of the move.
            world.nodes[SOURCE].options =
                RuntimeOptions { arrivals: ArrivalPolicy::AnyKind, ..RuntimeOptions::default() };
            world.end_runtime(SOURCE, true);
            world.begin_runtime(SOURCE);
            let ends = |world: &World| world.nodes[DRIVER].over.contains_key(&migration.get());
            assert!(world.run_until(100 * SECOND, ends), "{message}: the handle ends");
            let result = world.wait_migration(DRIVER, migration);
            if message == "ActivateAck" {
                assert_eq!(result, Ok(()));
                assert_eq!(world.hosting(origin), [TARGET]);
            } else {
                assert_eq!(outcome(&result), Some(Outcome::Lost), "{message}: {result:?}");
                world.run_for(700 * SECOND);
                assert_eq!(world.hosting(origin), []);
            }
            world.assert_nothing_left();
        });
    }
}

#[test]
fn a_source_that_is_alive_and_says_nothing_leaves_no_handle_open() {
    let cases = [("RestoreComplete", Outcome::Source, SOURCE), ("CutoverNotify", Outcome::Target, TARGET)];
    for (message, right, host) in cases {
        in_world(World::open(1, 3), |world| {
            let (origin, migration) = until(world, message);
            world.mute = Some((SOURCE, DRIVER));
            if right == Outcome::Source {
                let now = world.present();
                world.nodes[DRIVER].engine.abort_migration(migration, None, now);
                world.settle(DRIVER);
            }
            let ends = |world: &World| world.nodes[DRIVER].over.contains_key(&migration.get());
            assert!(world.run_until(200 * SECOND, ends), "{message}: the handle ends");
            let result = world.wait_migration(DRIVER, migration);
            assert_eq!(outcome(&result), Some(right), "{message}: {result:?}");
            assert_eq!(world.hosting(origin), [host], "{message}: {result:?}");
        });
    }
}

#[test]
fn a_node_that_was_lost_for_good_long_ago_does_not_keep_the_dead_from_being_called_lost() {
    for (before, right) in [(SECOND, Outcome::Unknown), (700 * SECOND, Outcome::Lost)] {
        in_world(World::open(1, 4), |world| {
            // It never returns, and nobody can prove that it is dead.
            world.kill(3);
            world.run_for(before);
            let (origin, migration) = until(world, "TakeSnapshot");
            let lost = world.id(SOURCE);
            world.restart(SOURCE);
            match world.wait_migration(DRIVER, migration) {
                Err(MigrationFailure::Refused(FailureReason::PeerLost { node, .. }, outcome)) => {
                    assert_eq!((node, outcome), (Some(lost), right), "{before:?}");
                }
                other => panic!("{before:?}: {other:?}"),
            }
            assert_eq!(world.hosting(origin), []);
        });
    }
}

/// Somebody who may have got it is out of reach for a while, and nobody has given it up.
#[test]
fn a_node_that_is_out_of_reach_when_the_source_dies_may_have_the_daemon() {
    for (reached, right) in [(false, Outcome::Unknown), (true, Outcome::Lost)] {
        in_world(World::open(1, 4), |world| {
            if !reached {
                world.cut(DRIVER, 3, 20 * SECOND);
                world.run_for(SECOND / 100);
            }
            let (origin, migration) = until(world, "TakeSnapshot");
            world.restart(SOURCE);
            let result = world.wait_migration(DRIVER, migration);
            assert_eq!(outcome(&result), Some(right), "reached {reached}: {result:?}");
            assert_eq!(world.hosts(origin), []);
        });
    }
}

#[test]
fn what_another_move_brought_to_the_driver_is_not_said_to_be_lost_with_its_source() {
    in_world(World::open(1, 3), |world| {
        let (origin, migration) = until(world, "Reserve");
        world.mute = Some((SOURCE, DRIVER));
        let reason = FailureReason::StateFailed { detail: "no".into() };
        let (entity, epoch) = (World::daemon_key(1).entity_id(), Epoch::FIRST);
        world.forge(
            TARGET,
            SOURCE,
            &MigrationMessage::MigrationFailed { id: MoveId { entity, migration, attempt: 1, epoch }, reason },
        );
        world.run_for(SECOND / 10);
        world.mute = None;
        assert_eq!(world.driven(TARGET, origin, SOURCE, DRIVER), Ok(()));
        assert!(
            !world.nodes[DRIVER].over.contains_key(&migration.get()),
            "the first one's driver has not heard of its end"
        );
        world.restart(SOURCE);
        let result = world.wait_migration(DRIVER, migration);
        assert_eq!(outcome(&result), Some(Outcome::Unknown), "{result:?}");
        assert_eq!(world.hosting(origin), [DRIVER]);
    });
}

/// A former host still says that the daemon is on the source, which says that it is not, and then nothing more.
#[test]
fn what_a_former_host_says_is_not_where_the_daemon_is() {
    in_world(World::open(1, 4), |world| {
        let origin = world.spawn(3, 1, "prompt");
        assert_eq!(world.moved(3, origin, SOURCE), Ok(()));
        world.run_for(SECOND);
        world.meddler = Some(Meddler { message: "TakeSnapshot", nth: 0, how: How::Delay(SECOND) });
        let ticket = world.drive(DRIVER, origin, SOURCE, TARGET);
        assert!(world.run_until(SECOND, |world| world.meddled == 1));
        let migration = world.migration(ticket).expect("it begins");
        world.end_runtime(SOURCE, true);
        world.begin_runtime(SOURCE);
        world.trap = Some(Trap { message: "MigrationFailed", nth: 0, arrives: true, heal_after: NEVER });
        let result = world.wait_migration(DRIVER, migration);
        assert!(world.sprung, "the source said that it has none, and is out of reach since");
        assert_eq!(outcome(&result), Some(Outcome::Unknown), "{result:?}");
        assert_eq!(world.hosting(origin), []);
    });
}

#[test]
fn a_daemon_that_went_where_its_driver_cannot_ask_is_not_found() {
    in_world(World::open(1, 4), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        world.meddler = Some(Meddler { message: "Inquire", nth: 0, how: How::Delay(SECOND) });
        let ticket = world.migrate(DRIVER, origin, TARGET);
        assert!(world.run_until(SECOND, |world| world.meddled == 1), "it is found on the source");
        let migration = world.migration(ticket).expect("it begins");
        assert_eq!(world.moved(SOURCE, origin, 3), Ok(()));
        world.cut(DRIVER, 3, NEVER);
        let begun = world.now;
        let result = world.wait_migration(DRIVER, migration);
        assert_eq!(result, Err(MigrationFailure::DaemonNotFound(origin)));
        assert!(world.now - begun < 5 * SECOND, "nobody is waited for");
        assert_eq!(world.hosting(origin), [3]);
    });
}

/// Given up before, and met again in its next life: nobody says of the former one that it ended.
#[test]
fn hazard_64_a_target_that_meets_the_next_life_of_its_source_says_that_the_daemon_is_lost() {
    in_world(World::open(1, 3), |world| {
        world.trap = Some(Trap { message: "ActivateTarget", nth: 0, arrives: false, heal_after: NEVER });
        let origin = world.spawn(SOURCE, 1, "prompt");
        world.migrate(SOURCE, origin, TARGET);
        assert!(
            world.run_until(SECOND, |world| world.sprung),
            "its copy is whole, and it does not know that it is live"
        );
        world.restart_after_silence(SOURCE);
        world.run_for(SECOND);
        let (role, failure) = world.nodes[TARGET].failed.last().expect("it is told");
        assert_eq!((*role, failure.outcome()), (Role::Target, Outcome::Lost), "{failure:?}");
        assert_eq!(world.hosting(origin), []);
        world.assert_nothing_left();
    });
}

/// What they wait for was accepted by the source, so nothing of it is held on the target, and no answer will come from there.
#[test]
fn promise_1_callers_who_were_told_of_the_target_hear_that_the_daemon_died_with_its_source() {
    for silently in [false, true] {
        in_world(World::open(1, 3), |world| {
            world.trap = Some(Trap { message: "ActivateTarget", nth: 0, arrives: false, heal_after: NEVER });
            let (origin, _) = until(world, "BufferedEvents");
            let waiting: Vec<_> = (0..8)
                .map(|_| {
                    let request = world.request(0, 0);
                    world.deliver(DRIVER, origin, request)
                })
                .collect();
            assert!(world.run_until(SECOND, |world| world.sprung), "it is handed over");
            world.run_for(SECOND / 10);
            if silently {
                world.restart_after_silence(SOURCE);
            } else {
                world.restart(SOURCE);
            }
            world.run_for(5 * SECOND);
            assert!(waiting.iter().all(|&ticket| world.is_answered(ticket)), "silently {silently}");
            for ticket in waiting {
                assert!(matches!(world.failure(ticket), RuntimeError::PeerLost { executed: Executed::Unknown, .. }));
            }
        });
    }
}
