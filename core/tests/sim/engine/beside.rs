//! Spawns beside a copy that a move left in doubt, and beside a named host of which nothing is heard: begun anew, the daemon
//! would be there twice, or its state be lost.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::runtime::{RuntimeError, StopReason};
use mesh_daemon_core::wire::Lane;

use super::in_world;
use super::world::{NEVER, World};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const THIRD: usize = 2;
const SILENT: usize = 3;
const SPAWNER: usize = 4;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A daemon of the source that only others keep the address of, the silent one among them, but not who spawns.
fn daemon(world: &World) -> u8 {
    world.daemon_with_homes(|homes| homes.contains(&SILENT) && !homes.contains(&SOURCE) && !homes.contains(&SPAWNER))
}

/// A move from the source to the target that broke at this message, which did not arrive; the target is not heard again.
fn in_doubt(world: &mut World, message: &'static str, members: bool) -> (OriginHash, u8) {
    if members {
        world.take_part();
    }
    let seed = daemon(world);
    let origin = world.spawn(SOURCE, seed, "prompt");
    world.serves(origin, [SOURCE, THIRD]);
    world.broken_move(SOURCE, origin, TARGET, message, NEVER);
    for node in THIRD..world.nodes.len() {
        world.cut(TARGET, node, NEVER);
    }
    world.run_for(SECOND / 10);
    (origin, seed)
}

/// Whoever spawns it now is refused, and that soon.
fn is_refused(world: &mut World, origin: OriginHash, seed: u8, what: &str) {
    let before = world.now;
    let (_, ticket) = world.try_spawn(SPAWNER, seed, "prompt", HostConfig::default());
    assert_eq!(world.failure(ticket), RuntimeError::AlreadyRegistered(origin), "{what}");
    assert!(world.now - before < 5 * SECOND, "{what}: {:?}", world.now - before);
    assert!(!world.hosting(origin).contains(&SPAWNER), "{what}");
}

#[test]
fn hazard_64_nothing_is_spawned_beside_a_source_in_doubt_whose_target_is_silent() {
    for members in [false, true] {
        for message in ["ActivateTarget", "ActivateAck"] {
            in_world(World::new(1, 6), |world| {
                let (origin, seed) = in_doubt(world, message, members);
                let what = format!("{message}, members {members}");
                is_refused(world, origin, seed, &what);
                // Neither when its loss is declared, nor when nobody remembers any more where it went.
                world.lose_all(TARGET);
                is_refused(world, origin, seed, &what);
                world.run_for(11 * MINUTE);
                is_refused(world, origin, seed, &what);
                assert_eq!(world.recover(SOURCE, origin), Ok(()), "{what}: its state was not lost");
                let ticket = world.call(SPAWNER, origin);
                assert_eq!(world.outputs(ticket).1, 3, "{what}: it goes on with its state");
            });
        }
    }
}

#[test]
fn hazard_64_nothing_is_spawned_beside_a_source_in_doubt_while_homes_are_silent() {
    in_world(World::new(1, 6), |world| {
        let (origin, seed) = in_doubt(world, "ActivateTarget", true);
        world.cut(SPAWNER, SILENT, NEVER);
        world.run_for(SECOND / 10);
        is_refused(world, origin, seed, "a home is silent");
        world.run_for(11 * MINUTE);
        is_refused(world, origin, seed, "a home is silent for long");
        world.lose_all(TARGET);
        is_refused(world, origin, seed, "a home is silent, and the target given up");
    });
}

#[test]
fn hazard_64_nothing_is_spawned_beside_a_source_that_looks_for_the_daemon_of_a_dead_target() {
    for members in [false, true] {
        for proof in [Loss::Goodbye, Loss::NewerIncarnation] {
            in_world(World::new(1, 6), |world| {
                let (origin, seed) = in_doubt(world, "ActivateTarget", members);
                // The target may have handed it on to somebody who cannot be asked: the source waits for that one.
                world.cut(SOURCE, SILENT, 20 * SECOND);
                world.run_for(SECOND / 10);
                for node in (0..world.nodes.len()).filter(|node| *node != TARGET) {
                    world.lose(TARGET, node, proof);
                }
                if members {
                    let left: Vec<usize> = (0..world.nodes.len()).filter(|node| *node != TARGET).collect();
                    for &node in &left {
                        world.tell_members(node, &left);
                    }
                }
                world.run_for(SECOND);
                let what = format!("{proof:?}, members {members}");
                assert_eq!(world.hosting(origin), [], "{what}: it is looked for");
                is_refused(world, origin, seed, &what);
                world.run_for(MINUTE);
                assert_eq!(world.hosting(origin), [SOURCE], "{what}: the copy goes on");
                let ticket = world.call(SPAWNER, origin);
                assert_eq!(world.outputs(ticket).1, 3, "{what}: with its state");
            });
        }
    }
}

/// The target was no host yet when its source was given up, and keeps the address of the daemon as little as who spawns it.
#[test]
fn hazard_64_nothing_is_spawned_beside_a_whole_copy_whose_source_is_given_up_when_only_homes_are_asked() {
    in_world(World::new(1, 6), |world| {
        world.take_part();
        let kept_elsewhere = |homes: &[usize]| [SOURCE, TARGET, SPAWNER].iter().all(|node| !homes.contains(node));
        let seed = world.daemon_with_homes(kept_elsewhere);
        let origin = world.spawn(SOURCE, seed, "prompt");
        world.broken_move(SOURCE, origin, TARGET, "ActivateTarget", NEVER);
        for node in TARGET..world.nodes.len() {
            world.lose(SOURCE, node, Loss::Silence);
        }
        world.run_for(SECOND);
        is_refused(world, origin, seed, "the homes name the one that holds a copy");
        assert_eq!(world.recover(TARGET, origin), Ok(()));
        let ticket = world.call(SPAWNER, origin);
        assert_eq!(world.outputs(ticket).1, 1);
    });
}

/// A source in doubt knows the way for those who do not reach the target themselves, for as long as it waits for it.
#[test]
fn hazard_64_whoever_asks_a_source_in_doubt_is_told_where_the_daemon_was_to_go_however_late() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        world.broken_move(SOURCE, origin, TARGET, "ActivateAck", 30 * MINUTE);
        world.lose(TARGET, THIRD, Loss::Silence);
        for _ in 0..2 {
            assert_eq!(world.located(THIRD, origin), Some(world.id(TARGET)), "it is there, as far as is known");
            world.run_for(12 * MINUTE);
        }
        world.run_for(7 * MINUTE);
        let ticket = world.call(THIRD, origin);
        assert_eq!(world.outputs(ticket).1, 1, "the way leads there when the target is back");
        assert_eq!(world.hosting(origin), [TARGET]);
    });
}

#[test]
fn hazard_69_a_takeover_outranks_what_only_a_former_host_remembers() {
    in_world(World::new(1, 4), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        world.broken_move(SOURCE, origin, TARGET, "ActivateAck", NEVER);
        world.run_for(12 * MINUTE);
        for (from, to) in [(TARGET, THIRD), (THIRD, TARGET), (TARGET, THIRD), (THIRD, TARGET)] {
            assert_eq!(world.moved(from, origin, to), Ok(()));
            world.run_for(SECOND);
        }
        // The former host has no way to the target either: it names nobody, and still knows how far the daemon had come.
        for node in [SOURCE, THIRD, SILENT] {
            world.lose(TARGET, node, Loss::Silence);
        }
        assert_eq!(world.recover(SOURCE, origin), Ok(()));
        assert_eq!(world.hosting(origin), [SOURCE, TARGET]);
        for node in [SOURCE, THIRD, SILENT] {
            world.connect(TARGET, node, false);
            world.run_for(SECOND);
        }
        assert_eq!(world.hosting(origin), [SOURCE], "the word was that the other copy is gone");
        let fenced: Vec<_> = world.retired.iter().filter(|(_, reason)| *reason == StopReason::Fenced).collect();
        assert_eq!(fenced, [&(TARGET, StopReason::Fenced)], "and it stays so");
        for node in 0..4 {
            assert_eq!(world.located(node, origin), Some(world.id(SOURCE)));
            // The first may find that its stream leads to a life that has ended.
            let first = world.call(node, origin);
            let _ = world.wait_for(first);
            let ticket = world.call(node, origin);
            world.outputs(ticket);
        }
        world.run_for(SECOND);
        world.assert_nothing_left();
    });
}

/// The homes have yet to hear where it went, as its former host knows.
#[test]
fn hazard_60_nothing_is_spawned_where_a_daemon_was_while_the_host_that_it_left_for_is_silent() {
    in_world(World::new(1, 6), |world| {
        world.take_part();
        let seed = world.daemon_with_homes(|homes| !homes.contains(&SOURCE) && !homes.contains(&TARGET));
        let origin = world.spawn(SOURCE, seed, "prompt");
        world.clogged = (THIRD..6).map(|home| (TARGET, home, Lane::Fast)).collect();
        assert_eq!(world.moved(SOURCE, origin, TARGET), Ok(()));
        for node in (0..6).filter(|node| *node != TARGET) {
            world.cut(TARGET, node, NEVER);
        }
        world.run_for(SECOND / 10);
        let host = world.id(TARGET);
        let (_, ticket) = world.try_spawn(SOURCE, seed, "prompt", HostConfig::default());
        world.run_for(20 * SECOND);
        assert!(!world.is_answered(ticket), "it may be back");
        assert_eq!(world.failure(ticket), RuntimeError::HostSilent { origin, host });
        assert_eq!(world.hosting(origin), [TARGET]);
        world.lose_all(TARGET);
        let (_, ticket) = world.try_spawn(SOURCE, seed, "prompt", HostConfig::default());
        assert!(world.wait_for(ticket).is_ok(), "it is given up");
        world.clogged.clear();
        for node in (0..6).filter(|node| *node != TARGET) {
            world.connect(TARGET, node, false);
        }
        world.run_for(SECOND);
        assert_eq!((world.hosting(origin), world.fenced()), (vec![SOURCE], vec![TARGET]));
    });
}

/// A daemon whose host is in its second life, and who spawns it was told of the end of the first one.
fn in_second_life(world: &mut World) -> (OriginHash, u8) {
    world.take_part();
    let seed = daemon(world);
    world.restart(SOURCE);
    world.run_for(SECOND);
    let origin = world.spawn(SOURCE, seed, "prompt");
    world.run_for(SECOND);
    (origin, seed)
}

#[test]
fn hazard_60_a_named_host_whose_former_life_ended_and_whose_present_one_is_missed_is_waited_for() {
    in_world(World::new(1, 6), |world| {
        let (origin, seed) = in_second_life(world);
        world.lose(SPAWNER, SOURCE, Loss::Silence);
        let host = world.id(SOURCE);
        let (_, ticket) = world.try_spawn(SPAWNER, seed, "prompt", HostConfig::default());
        world.run_for(20 * SECOND);
        assert!(!world.is_answered(ticket), "its host may live");
        assert_eq!(world.failure(ticket), RuntimeError::HostSilent { origin, host });
        assert_eq!(world.hosting(origin), [SOURCE]);
    });
}

#[test]
fn hazard_60_a_named_host_whose_every_known_life_has_ended_is_not_waited_for() {
    for missed_before in [false, true] {
        in_world(World::new(1, 6), |world| {
            let (origin, seed) = in_second_life(world);
            if missed_before {
                world.lose(SPAWNER, SOURCE, Loss::Silence);
            }
            world.lose(SPAWNER, SOURCE, Loss::Goodbye);
            let before = world.now;
            let (_, ticket) = world.try_spawn(SPAWNER, seed, "prompt", HostConfig::default());
            assert!(world.wait_for(ticket).is_ok(), "missed before {missed_before}");
            assert!(world.now - before < 10 * SECOND, "missed before {missed_before}: {:?}", world.now - before);
            assert!(world.hosting(origin).contains(&SPAWNER));
        });
    }
}
