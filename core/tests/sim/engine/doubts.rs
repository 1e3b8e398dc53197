//! A source that dies at the hand-over leaves its target with a whole copy that nobody may run: everybody is told so.

use std::time::Duration;

use mesh_daemon_core::daemon::{HostConfig, Ticket};
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::migration::{MigrationFailure, MigrationSettings, Outcome};
use mesh_daemon_core::runtime::{ArrivalPolicy, Executed, Role, RuntimeError, RuntimeOptions};

use super::load::answers_are_true;
use super::world::{NEVER, World};
use super::{in_world, warnings};
use crate::seeds;

const SOURCE: usize = 0;
const TARGET: usize = 1;
const THIRD: usize = 2;
const LAST: usize = 5;
const SECOND: Duration = Duration::from_secs(1);
const HOLD: Duration = Duration::from_secs(600);

fn world(seed: u64) -> World {
    World::with_options(seed, LAST + 1, |_| RuntimeOptions {
        arrivals: ArrivalPolicy::AnyKind,
        migration: MigrationSettings { handover_hold: HOLD, ..MigrationSettings::default() },
        ..RuntimeOptions::default()
    })
}

/// The process of the source ends when it sends this message for the first time. Its loss is yet to be declared.
fn dies_at(world: &mut World, message: &'static str, members: bool) -> OriginHash {
    if members {
        world.take_part();
        world.run_for(SECOND);
    }
    let origin = world.spawn(SOURCE, 1, "prompt");
    world.serves(origin, [THIRD, TARGET]);
    world.broken_move(SOURCE, origin, TARGET, message, NEVER);
    if world.seed % 4 >= 2 {
        // Its callers have heard that the daemon went to the target.
        world.run_for(SECOND / 100);
    }
    for node in TARGET..=LAST {
        world.cut(SOURCE, node, NEVER);
    }
    world.run_for(SECOND / 10);
    origin
}

fn declared_lost(world: &mut World, members: bool) {
    let others: Vec<usize> = (TARGET..=LAST).collect();
    for &node in &others {
        world.lose(node, SOURCE, Loss::Silence);
        if members {
            world.tell_members(node, &others);
        }
    }
    world.run_for(SECOND);
}

fn lost(origin: OriginHash, executed: Executed) -> RuntimeError {
    RuntimeError::PeerLost { origin, executed }
}

/// Whoever waits is told at last, and rightly, that nothing ran.
fn all_are_told(world: &mut World, waiting: impl IntoIterator<Item = Ticket>, origin: OriginHash) {
    for ticket in waiting {
        assert!(world.is_answered(ticket), "not only when its patience ends");
        assert_eq!(world.failure(ticket), lost(origin, Executed::No));
    }
    answers_are_true(world);
}

fn told_at_target(world: &World) -> Vec<Outcome> {
    let failed = world.nodes[TARGET].failed.iter();
    failed.filter(|(role, _)| *role == Role::Target).map(|(_, failure)| failure.outcome()).collect()
}

#[test]
fn hazard_60_whoever_asks_for_a_daemon_in_doubt_is_told_that_its_host_is_lost_and_names_nobody() {
    for seed in 0..8 {
        in_world(world(seed), |world| {
            let members = seed % 2 == 0;
            let origin = dies_at(world, "ActivateTarget", members);
            assert_eq!(told_at_target(world), [], "it may be back");
            declared_lost(world, members);
            for node in TARGET..=LAST {
                assert_eq!(world.located(node, origin), None, "n{node}, members {members}");
                let asked = world.now;
                let ticket = world.call(node, origin);
                assert_eq!(world.failure(ticket), lost(origin, Executed::No), "n{node}, members {members}");
                assert!(world.now - asked < SECOND, "at once: {:?}", world.now - asked);
            }
            assert_eq!(told_at_target(world), [Outcome::Unknown]);
            assert!(world.hosts(origin).iter().all(|(node, _)| *node == SOURCE), "never by itself");
            answers_are_true(world);
        });
    }
}

#[test]
fn hazard_60_whoever_waits_when_the_source_of_a_daemon_in_doubt_is_lost_is_told_so() {
    for seed in seeds::chosen(0..20) {
        in_world(world(seed), |world| {
            let members = seed.is_multiple_of(2);
            let origin = dies_at(world, "ActivateTarget", members);
            let waiting: Vec<_> = (TARGET..=LAST).map(|node| world.call(node, origin)).collect();
            let pause = world.chance(5_000);
            world.run_for(Duration::from_millis(pause));
            declared_lost(world, members);
            world.run_for(5 * SECOND);
            all_are_told(world, waiting, origin);
        });
    }
}

/// Large events go one by one, each to be answered.
#[test]
fn hazard_60_whoever_waits_for_several_large_events_is_told_of_each() {
    for seed in 0..8 {
        in_world(world(seed), |world| {
            let members = seed % 2 == 0;
            let origin = dies_at(world, "ActivateTarget", members);
            let mut waiting = Vec::new();
            for node in TARGET..=LAST {
                // One of the latter kind would fit behind a small one.
                let paddings = if seed < 4 { [200_000; 3] } else { [30_000, 0, 30_000] };
                for padding in paddings {
                    let request = world.request(0, 0);
                    waiting.push(world.call_with(node, origin, request, padding));
                }
            }
            world.run_for(SECOND);
            declared_lost(world, members);
            world.run_for(5 * SECOND);
            all_are_told(world, waiting, origin);
        });
    }
}

/// The target has no room for the second one, and dropped it.
#[test]
fn hazard_60_whoever_waits_for_a_large_event_that_found_no_room_is_told_as_well() {
    in_world(world(2), |world| {
        let origin = dies_at(world, "ActivateTarget", false);
        let waiting = [8_000_000, 12_000_000].map(|padding| {
            let request = world.request(0, 0);
            world.call_with(THIRD, origin, request, padding)
        });
        world.run_for(10 * SECOND);
        let held = world.nodes[TARGET].engine.census().held_bytes;
        assert!((8_000_000..12_000_000).contains(&held), "{held} bytes: it holds the first one only");
        declared_lost(world, false);
        world.run_for(5 * SECOND);
        all_are_told(world, waiting, origin);
    });
}

/// Its acknowledgement was lost, and then the source: that is no doubt of the target's.
#[test]
fn hazard_64_a_target_that_is_live_serves_everybody_while_its_source_is_given_up() {
    for seed in 0..8 {
        in_world(world(seed), |world| {
            let members = seed % 2 == 0;
            let origin = dies_at(world, "ActivateAck", members);
            declared_lost(world, members);
            assert_eq!(told_at_target(world), [], "it has the daemon");
            world.serves(origin, TARGET..=LAST);
            for node in TARGET..=LAST {
                assert_eq!(world.located(node, origin), Some(world.id(TARGET)));
            }
            let (_, ticket) = world.try_spawn(LAST, 1, "prompt", HostConfig::default());
            assert_eq!(world.failure(ticket), RuntimeError::AlreadyRegistered(origin));
            assert_eq!(world.recover(TARGET, origin), Ok(()), "it lives there");
            world.run_for(HOLD + SECOND);
            assert_eq!(told_at_target(world), []);
            world.serves(origin, [LAST]);
            answers_are_true(world);
        });
    }
}

/// Some of what waits is large, went apart and was overtaken by what is not; some was given up.
#[test]
fn hazard_60_whoever_waits_with_many_events_when_the_doubt_begins_is_refused_in_few_words() {
    let mut refused = 0;
    for seed in seeds::chosen(0..20) {
        in_world(world(seed), |world| {
            let members = seed.is_multiple_of(2);
            let origin = dies_at(world, "ActivateTarget", members);
            let mut waiting = Vec::new();
            for node in TARGET..=LAST {
                for _ in 0..20 {
                    let padding = [0, 0, 40_000, 200_000][world.chance(4) as usize];
                    let request = world.request(0, 0);
                    waiting.push(world.call_with(node, origin, request, padding));
                    let pause = world.chance(2_000);
                    world.run_for(Duration::from_micros(pause));
                }
            }
            for _ in 0..world.chance(4) {
                let abandoned = waiting.swap_remove(world.chance(waiting.len() as u64) as usize);
                let node = world.waits[&abandoned.0].node;
                let now = world.present();
                world.nodes[node].engine.withdraw(abandoned, origin, now);
                world.settle(node);
            }
            let pause = world.chance(2_000_000);
            world.run_for(SECOND / 10 + Duration::from_micros(pause));
            world.spying = true;
            world.lose(TARGET, SOURCE, Loss::Silence);
            for node in THIRD..=LAST {
                let said = world.streams.iter().filter(|said| said.refusal && (said.from, said.to) == (TARGET, node));
                let said = said.count();
                // One, and one for each that was given up.
                assert!(said <= 1 + 3, "{said} to n{node}");
                refused += said;
            }
            let others: Vec<usize> = (TARGET..=LAST).collect();
            for &node in &others {
                if node != TARGET {
                    world.lose(node, SOURCE, Loss::Silence);
                }
                if members {
                    world.tell_members(node, &others);
                }
            }
            world.run_for(6 * SECOND);
            all_are_told(world, waiting, origin);
        });
    }
    assert!(refused > 0 || seeds::is_single(), "some waited there");
}

#[test]
fn hazard_60_a_recovered_copy_answers_the_first_call_of_everybody() {
    for seed in seeds::chosen(0..20) {
        in_world(world(seed), |world| {
            let members = seed.is_multiple_of(2);
            let origin = dies_at(world, "ActivateTarget", members);
            declared_lost(world, members);
            let before: Vec<_> = (TARGET..=LAST).map(|node| world.call(node, origin)).collect();
            let pause = world.chance(2_000);
            world.run_for(Duration::from_micros(pause));
            assert_eq!(world.recover(TARGET, origin), Ok(()));
            world.run_for(SECOND / 100);
            let calls: Vec<_> = (TARGET..=LAST).map(|node| world.call(node, origin)).collect();
            for ticket in calls {
                world.outputs(ticket);
            }
            for ticket in before {
                let _ = world.wait_for(ticket);
            }
            for node in TARGET..=LAST {
                assert_eq!(world.located(node, origin), Some(world.id(TARGET)));
            }
            answers_are_true(world);
            for node in TARGET..=LAST {
                world.connect(SOURCE, node, false);
            }
            world.run_for(SECOND);
            assert_eq!(world.hosts(origin).len(), 1);
            world.assert_nothing_left();
        });
    }
}

#[test]
fn a_source_that_is_back_ends_the_doubt_and_nothing_is_told_wrongly() {
    for resumed in [false, true] {
        in_world(world(3), |world| {
            let origin = dies_at(world, "ActivateTarget", resumed);
            let early: Vec<_> = (TARGET..=LAST).map(|node| world.call(node, origin)).collect();
            world.run_for(SECOND);
            if !resumed {
                declared_lost(world, false);
                for node in TARGET..=LAST {
                    world.lose(SOURCE, node, Loss::Silence);
                }
            }
            for node in TARGET..=LAST {
                world.connect(SOURCE, node, resumed);
            }
            world.run_for(5 * SECOND);
            assert_eq!(world.hosting(origin), [TARGET]);
            for ticket in early {
                let _ = world.wait_for(ticket);
            }
            world.serves(origin, SOURCE..=LAST);
            answers_are_true(world);
            world.assert_nothing_left();
        });
    }
}

#[test]
fn a_target_says_of_a_copy_that_it_held_for_long_enough_that_nobody_knows_what_became_of_the_daemon() {
    in_world(world(4), |world| {
        let origin = dies_at(world, "ActivateTarget", false);
        declared_lost(world, false);
        world.run_for(HOLD + SECOND);
        assert_eq!(
            told_at_target(world),
            [Outcome::Unknown; 2],
            "when the doubt began, and when the copy was given up"
        );
        assert_eq!(world.recover(TARGET, origin), Err(RuntimeError::NotFound(origin)));
        let (_, ticket) = world.try_spawn(THIRD, 1, "prompt", HostConfig::default());
        assert!(world.wait_for(ticket).is_ok(), "nobody has it any more");
    });
}

#[test]
fn a_daemon_in_doubt_is_not_begun_anew_elsewhere_while_a_copy_can_be_recovered() {
    for members in [false, true] {
        in_world(world(5), |world| {
            let origin = dies_at(world, "ActivateTarget", members);
            declared_lost(world, members);
            let (_, ticket) = world.try_spawn(THIRD, 1, "prompt", HostConfig::default());
            assert_eq!(world.failure(ticket), RuntimeError::AlreadyRegistered(origin));
            assert_eq!(world.recover(TARGET, origin), Ok(()));
            world.serves(origin, [THIRD]);
        });
    }
}

#[test]
fn hazard_60_a_target_whose_source_is_lost_before_the_hand_over_says_what_it_can_know() {
    for (dead, right) in [(false, Outcome::Unknown), (true, Outcome::Lost)] {
        in_world(world(6), |world| {
            let origin = world.spawn(SOURCE, 1, "prompt");
            world.migrate(SOURCE, origin, TARGET);
            let sent = |world: &World| world.messages.iter().any(|(.., name)| *name == "RestoreComplete");
            assert!(world.run_until(SECOND, sent));
            world.lose(TARGET, SOURCE, if dead { Loss::Goodbye } else { Loss::Silence });
            let told: Vec<_> = world.nodes[TARGET].failed.iter().map(|(_, failure)| failure).collect();
            assert_eq!(told.iter().map(|failure| failure.outcome()).collect::<Vec<_>>(), [right]);
            assert!(matches!(told[0], MigrationFailure::Refused(..)));
        });
    }
}

#[test]
fn hazard_60_both_hosts_of_a_daemon_in_doubt_warn_once_that_the_other_one_is_lost() {
    warnings::keep();
    in_world(world(3), |world| {
        let origin = dies_at(world, "ActivateTarget", false);
        assert_eq!(warnings::take(), [] as [String; 0], "either may be back");
        declared_lost(world, false);
        let told = warnings::take();
        for (node, role) in [(SOURCE, "source"), (TARGET, "target")] {
            let about = |text: &&String| {
                text.contains(&format!("{role}={}", world.id(node))) && text.contains(&format!("origin={origin}"))
            };
            assert_eq!(told.iter().filter(about).count(), 1, "{told:?}");
        }
    });
}
