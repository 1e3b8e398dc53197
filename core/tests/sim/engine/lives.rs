//! Runtimes that follow one another on one node, whose peers see nothing of the change.

use std::collections::BTreeSet;
use std::time::Duration;

use mesh_daemon_core::identity::{MigrationId, OriginHash};
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::migration::{MigrationFailure, Outcome};
use mesh_daemon_core::runtime::{Executed, RuntimeError, Settlement, StopReason};
use mesh_daemon_core::wire::Lane;

use super::daemon::HANG;
use super::in_world;
use super::load::answers_are_true;
use super::world::{NEVER, World};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const THIRD: usize = 2;
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn hazard_13_the_next_runtime_of_a_node_reaches_daemons_that_the_former_one_called() {
    for silently in [false, true] {
        in_world(World::new(1, 2), |world| {
            let origins: Vec<_> = (1..=5).map(|seed| world.spawn(1, seed, "prompt")).collect();
            for _ in 0..3 {
                for origin in &origins {
                    let ticket = world.call(0, *origin);
                    world.outputs(ticket);
                }
                world.end_runtime(0, silently);
                world.run_for(SECOND);
                world.begin_runtime(0);
            }
            let ticket = world.call(0, origins[0]);
            world.outputs(ticket);
        });
    }
}

/// A move that is decided, and whose target went live or not; the source has not heard of it.
fn decided(world: &mut World, live: bool) -> (OriginHash, MigrationId) {
    let origin = world.spawn(SOURCE, 1, "slow");
    for node in 0..3 {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
    }
    // These wait at the source, and are handed over.
    for index in 0..12 {
        world.send(index % 3, origin);
    }
    let message = if live { "ActivateAck" } else { "ActivateTarget" };
    let ticket = world.broken_move(SOURCE, origin, TARGET, message, SECOND);
    (origin, world.migration(ticket).expect("it begins"))
}

#[test]
fn hazard_64_a_target_whose_runtime_was_begun_anew_does_not_say_that_nothing_ran_there() {
    for begins in [false, true] {
        in_world(World::new(1, 3), |world| {
            let (origin, migration) = decided(world, true);
            // It runs there, and is said to have run.
            world.run_for(SECOND / 2);
            assert_eq!(world.hosting(origin), [TARGET]);
            assert_eq!(world.seen(origin).len(), 15);
            world.end_runtime(TARGET, true);
            if begins {
                world.begin_runtime(TARGET);
            }
            world.run_for(20 * SECOND);
            assert_eq!(world.hosting(origin), [SOURCE], "the frozen copy goes on as a new life");
            let told = world.wait_migration(SOURCE, migration);
            assert_eq!(told.as_ref().map_err(MigrationFailure::outcome), Err(Outcome::Unknown));
            let ran: BTreeSet<_> = world.ran.iter().collect();
            assert_eq!(ran.len(), world.ran.len(), "what ran elsewhere does not run again");
            let again = world.call(2, origin);
            match world.wait_for(again) {
                Ok(Settlement::Outputs(_)) | Err(RuntimeError::PeerLost { .. }) => {}
                other => panic!("{other:?}"),
            }
            let ticket = world.call(2, origin);
            world.outputs(ticket);
        });
    }
}

#[test]
fn hazard_64_a_source_whose_runtime_has_ended_leaves_nobody_in_doubt() {
    for begins in [false, true] {
        in_world(World::new(1, 3), |world| {
            let (origin, _) = decided(world, false);
            world.end_runtime(SOURCE, true);
            if begins {
                world.begin_runtime(SOURCE);
            }
            world.run_for(20 * SECOND);
            assert_eq!(world.hosting(origin), [], "the daemon ended with the runtime that had not handed it over");
            assert!(world.nodes[TARGET].engine.migrations().is_empty(), "nothing is kept for it");
        });
    }
}

fn may_have_run(result: &Result<Settlement, RuntimeError>) -> bool {
    matches!(result, Err(RuntimeError::PeerLost { executed: Executed::Unknown, .. }))
}

#[test]
fn hazard_13_nobody_is_told_that_what_ran_did_not_when_a_runtime_ends_without_a_word() {
    for begins in [false, true] {
        in_world(World::new(1, 2), |world| {
            let origin = world.spawn(TARGET, 1, "prompt");
            let ticket = world.call(0, origin);
            world.outputs(ticket);
            world.clogged = vec![(TARGET, 0, Lane::Fast)];
            let before = world.ran.len();
            let tickets: Vec<_> = (0..3).flat_map(|_| [world.send(0, origin), world.call(0, origin)]).collect();
            world.run_for(SECOND / 10);
            assert_eq!(world.ran.len(), before + tickets.len(), "they ran");
            world.end_runtime(TARGET, true);
            if begins {
                world.begin_runtime(TARGET);
            }
            world.clogged.clear();
            let later = world.send(0, origin);
            world.run_for(SECOND);
            for ticket in tickets {
                let result = world.wait_for(ticket);
                assert!(may_have_run(result), "{result:?}");
            }
            assert!(world.is_answered(later));
            answers_are_true(world);
        });
    }
}

#[test]
fn hazard_13_whoever_waits_without_a_deadline_hears_that_the_runtime_has_ended() {
    for begins in [false, true] {
        in_world(World::new(1, 2), |world| {
            let origin = world.spawn(TARGET, 1, "prompt");
            let request = world.request(HANG, 0);
            let ticket = world.deliver(0, origin, request);
            world.run_for(SECOND);
            assert!(!world.is_answered(ticket));
            world.end_runtime(TARGET, true);
            if begins {
                world.begin_runtime(TARGET);
            }
            let result = world.wait_for(ticket);
            assert!(may_have_run(result), "{result:?}");
        });
    }
}

/// A daemon that its source waits for long: the target has it, could not say so, and waits no more for that to be heard.
fn doubted_for_long(world: &mut World) -> OriginHash {
    let origin = world.spawn(SOURCE, 1, "prompt");
    for node in 0..3 {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
    }
    world.broken_move(SOURCE, origin, TARGET, "ActivateAck", 4000 * SECOND);
    world.run_for(700 * SECOND);
    origin
}

/// The same, and the target has handed it on to a third node and remembers nothing of that.
fn handed_on(world: &mut World) -> OriginHash {
    let origin = doubted_for_long(world);
    assert_eq!(world.moved(TARGET, origin, THIRD), Ok(()));
    world.run_for(1500 * SECOND);
    assert_eq!(world.nodes[TARGET].engine.census().pointers, 0, "it has forgotten where it went");
    assert_eq!(world.hosting(origin), [THIRD]);
    origin
}

/// The daemon lives on the third node alone, and whoever calls it reaches it there.
fn lives_on_with_the_third(world: &mut World, origin: OriginHash) {
    assert_eq!(world.hosting(origin), [THIRD], "one copy");
    assert!(world.nodes[SOURCE].engine.migrations().is_empty(), "the source has let go");
    for node in (0..3).filter(|&node| !world.nodes[node].bare).collect::<Vec<_>>() {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
    }
    assert_eq!(world.located(SOURCE, origin), Some(world.id(THIRD)));
    assert!(world.retired.iter().all(|(_, reason)| *reason != StopReason::Fenced), "nobody had to be fenced");
    world.run_for(SECOND);
    world.assert_nothing_left();
}

#[test]
fn hazard_64_a_target_that_handed_the_daemon_on_and_forgot_it_makes_no_second_copy() {
    for begins in [false, true] {
        in_world(World::new(1, 3), |world| {
            let origin = handed_on(world);
            world.end_runtime(TARGET, true);
            if begins {
                world.begin_runtime(TARGET);
            }
            world.run_for(2000 * SECOND);
            lives_on_with_the_third(world, origin);
        });
    }
}

#[test]
fn hazard_64_a_target_that_handed_the_daemon_on_and_died_makes_no_second_copy() {
    for told in [false, true] {
        in_world(World::new(1, 3), |world| {
            let origin = handed_on(world);
            if told {
                world.restart(TARGET);
            } else {
                world.restart_after_silence(TARGET);
            }
            world.run_for(SECOND);
            lives_on_with_the_third(world, origin);
        });
    }
}

#[test]
fn hazard_64_the_word_that_the_target_is_gone_makes_no_second_copy_of_what_it_handed_on() {
    in_world(World::new(1, 3), |world| {
        let origin = handed_on(world);
        world.lose(SOURCE, TARGET, Loss::Silence);
        assert_eq!(world.recover(SOURCE, origin), Ok(()));
        world.run_for(SECOND);
        lives_on_with_the_third(world, origin);
    });
}

#[test]
fn hazard_69_a_copy_that_is_taken_over_outranks_whatever_was_heard_of_the_other_one() {
    in_world(World::new(1, 3), |world| {
        let origin = doubted_for_long(world);
        assert_eq!(world.moved(TARGET, origin, THIRD), Ok(()));
        assert_eq!(world.moved(THIRD, origin, TARGET), Ok(()));
        world.lose(SOURCE, TARGET, Loss::Silence);
        assert_eq!(world.recover(SOURCE, origin), Ok(()));
        world.connect(SOURCE, TARGET, false);
        world.run_for(SECOND);
        assert_eq!(world.hosting(origin), [SOURCE], "the word was that the other copy is gone");
        let ticket = world.call(THIRD, origin);
        world.outputs(ticket);
    });
}

/// The word was wrong, and the other copy moves on where nobody hears of the takeover: the later epoch is right, whoever has it.
#[test]
fn hazard_69_of_a_copy_that_was_taken_over_and_one_that_moved_on_unheard_the_one_that_changed_hands_more_often_stays() {
    for (moves, right) in [(0, Some(SOURCE)), (1, None), (2, Some(TARGET))] {
        in_world(World::new(1, 3), |world| {
            let origin = world.spawn(SOURCE, 1, "prompt");
            // The target is live, and the source does not know.
            world.broken_move(SOURCE, origin, TARGET, "ActivateAck", NEVER);
            for other in [TARGET, THIRD] {
                world.lose(SOURCE, other, Loss::Silence);
            }
            // The target has to give up waiting for the source's word before it may give the daemon away.
            world.run_for(700 * SECOND);
            assert_eq!(world.recover(SOURCE, origin), Ok(()));
            for (from, to) in [(TARGET, THIRD), (THIRD, TARGET)].into_iter().take(moves) {
                assert_eq!(world.moved(from, origin, to), Ok(()));
            }
            assert_eq!(world.hosting(origin).len(), 2, "nobody can know behind the partition");
            for other in [TARGET, THIRD] {
                world.connect(SOURCE, other, false);
            }
            world.run_for(SECOND);
            let left = world.hosting(origin);
            assert!(left.len() == 1 && right.is_none_or(|right| left == [right]), "{moves} moves: {left:?}");
            let fenced = world.retired.iter().filter(|(_, reason)| *reason == StopReason::Fenced);
            assert_eq!(fenced.count(), 1, "the other one hears of it");
            for node in 0..3 {
                // The first may find that its stream leads to a life that has ended.
                let first = world.call(node, origin);
                let _answered = world.wait_for(first);
                let second = world.call(node, origin);
                world.outputs(second);
            }
            answers_are_true(world);
        });
    }
}

#[test]
fn the_word_that_a_target_is_gone_is_void_when_it_is_back_before_the_daemon_was_looked_for() {
    for message in ["ActivateTarget", "ActivateAck"] {
        in_world(World::new(1, 4), |world| {
            let origin = world.spawn(SOURCE, 1, "prompt");
            world.broken_move(SOURCE, origin, TARGET, message, 20 * SECOND);
            // Somebody is silent, so that the question lasts.
            world.cut(SOURCE, 3, 60 * SECOND);
            world.run_for(19 * SECOND);
            let word = world.act(SOURCE, None, |engine, ticket, now| engine.recover(ticket, origin, now));
            match world.wait_for(word) {
                Err(RuntimeError::Migration(failure)) => assert_eq!(failure.outcome(), Outcome::Unknown),
                other => panic!("{other:?}"),
            }
            world.run_for(10 * SECOND);
            assert_eq!(world.hosting(origin), [TARGET], "one copy");
            assert!(world.retired.iter().all(|(_, reason)| *reason != StopReason::Fenced), "nobody had to be fenced");
            let ticket = world.call(2, origin);
            world.outputs(ticket);
            world.assert_nothing_left();
        });
    }
}

#[test]
fn hazard_64_who_has_the_daemon_now_and_is_silent_is_waited_for_before_it_is_taken_over() {
    in_world(World::new(1, 3), |world| {
        let origin = handed_on(world);
        world.cut(SOURCE, THIRD, 25 * SECOND);
        world.run_for(SECOND);
        world.restart(TARGET);
        world.run_for(20 * SECOND);
        assert_eq!(world.hosting(origin), [THIRD], "it may be there");
        world.run_for(20 * SECOND);
        lives_on_with_the_third(world, origin);
    });
}

#[test]
fn hazard_64_what_nobody_has_is_taken_over_at_once_and_who_stays_silent_is_not_waited_for_without_end() {
    in_world(World::new(1, 4), |world| {
        let (origin, _) = decided(world, true);
        world.cut(SOURCE, 3, 10_000 * SECOND);
        world.run_for(SECOND);
        world.restart(TARGET);
        world.run_for(30 * SECOND);
        assert_eq!(world.hosting(origin), [], "the fourth may have it");
        world.run_for(600 * SECOND);
        assert_eq!(world.hosting(origin), [SOURCE]);
        let ticket = world.call(2, origin);
        world.outputs(ticket);
    });
}
