//! `recover` on a node that holds a whole copy which its source never released: the source may have gone on with the daemon,
//! and it may live elsewhere by now.

use std::time::Duration;

use mesh_daemon_core::identity::{Lineage, OriginHash};
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::runtime::{RuntimeError, StopReason};

use super::in_world;
use super::load::answers_are_true;
use super::world::{Trap, World};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const NEXT: usize = 2;
const LAST: usize = 3;
const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(100_000);

fn hosts(world: &World, origin: OriginHash) -> Vec<usize> {
    world.hosts(origin).iter().map(|(host, _)| *host).collect()
}

/// A whole copy on the target whose source has not heard that it is whole, and went on with the daemon.
fn whole_and_unheard(world: &mut World) -> OriginHash {
    let origin = world.spawn(SOURCE, 1, "prompt");
    for node in SOURCE..=LAST {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
    }
    // The last of four: the source drives, and hears of each twice.
    world.trap = Some(Trap { message: "ReplayComplete", nth: 2, arrives: false, heal_after: LONG });
    world.migrate(SOURCE, origin, TARGET);
    assert!(world.run_until(SECOND, |world| world.sprung), "the connection broke");
    world.run_for(SECOND / 10);
    assert_eq!(hosts(world, origin), [SOURCE], "it goes on");
    assert!(!world.nodes[TARGET].engine.migrations().is_empty(), "a whole copy waits");
    origin
}

fn nobody_was_fenced(world: &World) {
    assert!(world.retired.iter().all(|(_, reason)| *reason != StopReason::Fenced), "nobody was fenced");
}

fn serves_whom_it_served(world: &mut World, origin: OriginHash, host: usize, seen: usize) {
    world.run_for(SECOND);
    assert_eq!(hosts(world, origin), [host], "one copy");
    nobody_was_fenced(world);
    for node in [NEXT, LAST] {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
    }
    assert_eq!(world.seen(origin).len(), seen + 2, "with all that it had accepted");
    assert!(world.nodes[TARGET].engine.migrations().is_empty(), "nothing is kept for it");
    answers_are_true(world);
}

#[test]
fn hazards_64_69_a_target_looks_for_the_daemon_before_it_takes_over_what_its_source_may_have_moved_on() {
    for (members, dies) in [(false, false), (false, true), (true, false), (true, true)] {
        in_world(World::new(1, 4), |world| {
            if members {
                world.take_part();
            }
            let origin = whole_and_unheard(world);
            if !members {
                // The target hears nothing of the next hosts but what one that the daemon has left knows, when it is asked.
                world.lose(TARGET, NEXT, Loss::Silence);
                world.lose(TARGET, LAST, Loss::Silence);
            }
            assert_eq!(world.moved(SOURCE, origin, NEXT), Ok(()));
            assert_eq!(world.moved(NEXT, origin, LAST), Ok(()));
            let ticket = world.call(NEXT, origin);
            world.outputs(ticket);
            if !members {
                world.connect(TARGET, NEXT, false);
            }
            // Members hear of each other's copies once the loss of the source is declared.
            match (dies, members) {
                (true, _) => world.kill(SOURCE),
                (false, false) => world.lose(SOURCE, TARGET, Loss::Silence),
                (false, true) => {}
            }
            let began = world.now;
            assert_eq!(world.recover(TARGET, origin), Ok(()));
            assert!(world.now - began < 3 * SECOND, "the word is not held up");
            world.run_for(SECOND);
            assert_eq!(hosts(world, origin), [LAST], "members {members}, dies {dies}");
            if !members {
                world.connect(TARGET, LAST, false);
            }
            serves_whom_it_served(world, origin, LAST, 5);
        });
    }
}

/// Who is connected with the next host hears of it without asking.
#[test]
fn a_target_drops_a_copy_in_doubt_when_the_next_host_names_the_daemon() {
    for members in [false, true] {
        in_world(World::new(1, 4), |world| {
            if members {
                world.take_part();
            }
            let origin = whole_and_unheard(world);
            assert_eq!(world.moved(SOURCE, origin, NEXT), Ok(()));
            world.lose(SOURCE, TARGET, Loss::Silence);
            world.run_for(10 * SECOND);
            match world.recover(TARGET, origin) {
                Ok(()) | Err(RuntimeError::NotFound(_)) => {}
                Err(other) => panic!("{other}"),
            }
            serves_whom_it_served(world, origin, NEXT, 4);
        });
    }
}

#[test]
fn a_target_takes_over_what_lives_nowhere_and_waits_no_longer_for_the_silent_than_a_question_lasts() {
    for silent in [false, true] {
        in_world(World::new(1, 4), |world| {
            let origin = whole_and_unheard(world);
            if silent {
                world.cut(TARGET, LAST, LONG);
            }
            world.kill(SOURCE);
            world.run_for(SECOND);
            let began = world.now;
            assert_eq!(world.recover(TARGET, origin), Ok(()));
            assert!(world.now - began < 3 * SECOND, "the word is not held up");
            assert_eq!(hosts(world, origin), [TARGET]);
            let ticket = world.call(NEXT, origin);
            let first = world.wait_for(ticket).is_ok();
            let again = world.call(NEXT, origin);
            world.outputs(again);
            assert_eq!(world.seen(origin).len(), 5 + usize::from(first));
            answers_are_true(world);
        });
    }
}

#[test]
fn the_word_that_a_source_is_gone_is_void_when_it_is_back_before_the_daemon_was_looked_for() {
    in_world(World::new(1, 4), |world| {
        let origin = whole_and_unheard(world);
        // Somebody is silent, so that the question lasts.
        world.cut(TARGET, LAST, 60 * SECOND);
        world.run_for(SECOND / 10);
        let word = world.act(TARGET, None, |engine, ticket, now| engine.recover(ticket, origin, now));
        world.run_for(SECOND / 10);
        world.connect(SOURCE, TARGET, true);
        assert!(matches!(world.failure(word), RuntimeError::Migration(_)));
        world.run_for(10 * SECOND);
        assert_eq!(hosts(world, origin), [SOURCE], "one copy");
        nobody_was_fenced(world);
        let ticket = world.call(NEXT, origin);
        world.outputs(ticket);
        world.run_for(60 * SECOND);
        world.assert_nothing_left();
    });
}

#[test]
fn whoever_says_that_a_source_is_gone_hears_when_the_runtime_ends_first() {
    in_world(World::new(1, 4), |world| {
        let origin = whole_and_unheard(world);
        world.cut(TARGET, LAST, 60 * SECOND);
        world.run_for(SECOND / 10);
        let word = world.act(TARGET, None, |engine, ticket, now| engine.recover(ticket, origin, now));
        let now = world.present();
        world.nodes[TARGET].engine.shutdown(now);
        world.settle(TARGET);
        assert_eq!(world.failure(word), RuntimeError::ShuttingDown);
    });
}

/// Whoever has the daemon's key can sign such a claim.
#[test]
fn a_claim_at_an_epoch_that_no_moves_lead_to_does_not_end_the_copy_that_is_to_go_on() {
    in_world(World::new(1, 4).refusing(), |world| {
        let origin = whole_and_unheard(world);
        world.kill(SOURCE);
        world.run_for(SECOND);
        let far = world.claim_far_ahead(1, Lineage::new(1), LAST);
        let word = world.act(TARGET, None, |engine, ticket, now| engine.recover(ticket, origin, now));
        world.forge_answers(LAST, TARGET, &far);
        assert!(world.wait_for(word).is_ok());
        world.run_for(SECOND);
        assert_eq!(hosts(world, origin), [TARGET]);
        let ticket = world.call(NEXT, origin);
        world.outputs(ticket);
    });
}
