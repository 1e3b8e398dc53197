//! Nodes that were told to join a mesh and have yet to get there, and nodes that spawn one identity at the same time.

use std::time::Duration;

use mesh_daemon_core::daemon::Ticket;
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::membership::{LONGEST_JOIN, Standing};
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::runtime::{RuntimeError, Settlement};

use super::for_seeds;
use super::world::World;

const SEED: usize = 0;
const JOINER: usize = 5;

fn begin_spawn(world: &mut World, node: usize, seed: u8) -> Ticket {
    world.begin_spawn(node, World::daemon_key(seed))
}

fn origin(seed: u8) -> OriginHash {
    World::daemon_key(seed).origin_hash()
}

fn pause(world: &mut World, most: Duration) {
    let micros = world.chance(u64::try_from(most.as_micros()).expect("short"));
    world.run_for(Duration::from_micros(micros));
}

/// A settled mesh of five, and one that was told to join it and has reached nobody.
fn five_and_one(world: &mut World) {
    let five: Vec<usize> = (0..JOINER).collect();
    for &node in &five {
        world.lose(JOINER, node, Loss::Silence);
    }
    for &node in &five {
        world.tell_members(node, &five);
    }
    world.run_for(Duration::from_millis(200));
    world.tell_standing(JOINER, Standing::Seeking);
    world.tell_members(JOINER, &[JOINER]);
}

/// It joins: each step in its time.
fn join(world: &mut World) {
    let all: Vec<usize> = (0..=JOINER).collect();
    let moment = Duration::from_millis(20);
    world.connect(JOINER, SEED, false);
    pause(world, moment);
    world.tell_members(SEED, &all);
    pause(world, moment);
    world.tell_members(JOINER, &[SEED, JOINER]);
    pause(world, moment);
    world.tell_standing(JOINER, Standing::Arriving);
    world.tell_members(JOINER, &all);
    let most = if world.chance(4) == 0 { Duration::from_secs(1) } else { moment };
    let first = usize::try_from(world.chance(4)).expect("small");
    for node in (0..4).map(|nth| 1 + (first + nth) % 4) {
        pause(world, most);
        world.connect(JOINER, node, false);
        pause(world, most);
        world.tell_members(node, &all);
    }
    world.tell_standing(JOINER, Standing::Settled);
}

/// It reaches its seed and hears of the others.
fn arrives(world: &mut World) {
    let all: Vec<usize> = (0..=JOINER).collect();
    world.connect(JOINER, SEED, false);
    world.tell_members(SEED, &all);
    world.tell_standing(JOINER, Standing::Arriving);
    world.tell_members(JOINER, &all);
}

/// The rest of its way into the mesh.
fn meets_the_others(world: &mut World) {
    let all: Vec<usize> = (0..=JOINER).collect();
    for node in 1..JOINER {
        world.connect(JOINER, node, false);
        world.tell_members(node, &all);
    }
    world.tell_standing(JOINER, Standing::Settled);
}

#[test]
fn a_node_that_has_yet_to_join_spawns_nothing_that_lives_there_and_its_calls_arrive() {
    for_seeds(0..100, 6, |world| {
        five_and_one(world);
        let host = 1 + usize::try_from(world.chance(4)).expect("small");
        world.spawn(host, 1, "prompt");
        let (origin, nowhere) = (origin(1), origin(2));
        let second = begin_spawn(world, JOINER, 1);
        let (call, send, in_vain) =
            (world.call(JOINER, origin), world.send(JOINER, origin), world.call(JOINER, nowhere));
        let at = world.now;
        let locate = world.act(JOINER, None, |engine, ticket, now| engine.locate(ticket, origin, now));
        pause(world, Duration::from_secs(4));
        for ticket in [second, call, send, in_vain] {
            assert!(!world.is_answered(ticket), "nobody could be asked");
        }
        let waited = world.now - at > Duration::from_secs(2);
        assert_eq!(world.is_answered(locate), waited, "two seconds are enough for somebody who only asks");
        join(world);
        assert!(matches!(world.wait_for(second), Err(RuntimeError::AlreadyRegistered(_))));
        world.outputs(call);
        assert!(matches!(world.wait_for(send), Ok(Settlement::Done)));
        assert_eq!(world.failure(in_vain), RuntimeError::NotFound(nowhere));
        assert_eq!((world.hosting(origin), world.fenced().len()), (vec![host], 0));
        assert_eq!(world.located(JOINER, origin), Some(world.id(host)));
        // What lives nowhere is spawned at once.
        let before = world.now;
        world.spawn(JOINER, 3, "prompt");
        assert!(world.now - before < Duration::from_millis(500), "{:?}", world.now - before);
        world.run_for(Duration::from_secs(40));
        world.assert_nothing_left();
    });
}

#[test]
fn homes_that_a_joiner_has_yet_to_meet_are_waited_for() {
    for_seeds(0..40, 6, |world| {
        five_and_one(world);
        for number in 1..=8 {
            world.spawn(usize::from(number) % 4 + 1, number, "prompt");
        }
        arrives(world);
        let tickets: Vec<Ticket> = (1..=8).map(|number| begin_spawn(world, JOINER, number)).collect();
        pause(world, Duration::from_secs(5));
        meets_the_others(world);
        for ticket in tickets {
            assert!(matches!(world.wait_for(ticket), Err(RuntimeError::AlreadyRegistered(_))));
        }
        assert_eq!(world.fenced().len(), 0);
        world.run_for(Duration::from_secs(40));
        world.assert_nothing_left();
    });
}

#[test]
fn a_spawn_waits_for_as_long_as_its_node_may_need_to_join() {
    for_seeds(0..10, 6, |world| {
        five_and_one(world);
        world.spawn(1, 1, "prompt");
        let (waiting, nowhere) = (begin_spawn(world, JOINER, 1), begin_spawn(world, JOINER, 2));
        world.run_for(LONGEST_JOIN / 2);
        arrives(world);
        world.run_for(LONGEST_JOIN * 49 / 100);
        assert!(!world.is_answered(waiting) && !world.is_answered(nowhere), "it has yet to meet those who would know");
        meets_the_others(world);
        assert!(matches!(world.wait_for(waiting), Err(RuntimeError::AlreadyRegistered(_))));
        assert!(matches!(world.wait_for(nowhere), Ok(Settlement::Spawned(_))));
        world.run_for(Duration::from_secs(40));
        world.assert_nothing_left();
    });
}

#[test]
fn a_node_that_finds_nobody_begins_without_them_and_is_not_sure_of_what_they_may_host() {
    for_seeds(0..10, 6, |world| {
        five_and_one(world);
        let spawning = begin_spawn(world, JOINER, 1);
        let call = world.call(JOINER, origin(2));
        world.run_for(Duration::from_secs(2));
        assert!(!world.is_answered(spawning));
        world.tell_standing(JOINER, Standing::Apart);
        assert!(matches!(world.wait_for(spawning), Ok(Settlement::Spawned(_))));
        let before = world.now;
        let next = begin_spawn(world, JOINER, 3);
        assert!(matches!(world.wait_for(next), Ok(Settlement::Spawned(_))));
        assert_eq!(world.located(JOINER, origin(4)), None);
        assert!(world.now - before < Duration::from_millis(100), "nothing more is waited for");
        world.run_for(Duration::from_secs(10));
        assert!(!world.is_answered(call), "it may be with those that are sought");
        world.spawn(2, 2, "prompt");
        world.tell_standing(JOINER, Standing::Seeking);
        join(world);
        world.outputs(call);
        world.run_for(Duration::from_secs(40));
        world.assert_nothing_left();
    });
}

#[test]
fn one_that_joins_through_another_that_has_yet_to_join_is_not_sure_either() {
    for_seeds(0..20, 3, |world| {
        // The third has the daemon; the second seeks it and is the seed of the first.
        world.spawn(2, 1, "prompt");
        world.lose(2, 0, Loss::Silence);
        world.lose(2, 1, Loss::Silence);
        world.tell_members(2, &[2]);
        world.tell_standing(1, Standing::Seeking);
        world.tell_members(1, &[0, 1]);
        world.tell_standing(0, Standing::Settled);
        world.tell_members(0, &[0, 1]);
        world.run_for(Duration::from_millis(200));
        let second = begin_spawn(world, 0, 1);
        pause(world, Duration::from_millis(900));
        assert!(!world.is_answered(second), "neither of the two knows");
        world.connect(1, 2, false);
        world.tell_members(2, &[0, 1, 2]);
        world.tell_standing(1, Standing::Settled);
        world.tell_members(1, &[0, 1, 2]);
        world.connect(0, 2, false);
        world.tell_members(0, &[0, 1, 2]);
        assert!(matches!(world.wait_for(second), Err(RuntimeError::AlreadyRegistered(_))));
        assert_eq!((world.hosting(origin(1)), world.fenced().len()), (vec![2], 0));
    });
}

/// Some spawn it at about the same time, one succeeds, and the others are refused.
fn one_of_several(world: &mut World, nodes: &[usize]) {
    let tickets: Vec<Ticket> = nodes
        .iter()
        .map(|&node| {
            pause(world, Duration::from_micros(400));
            begin_spawn(world, node, 7)
        })
        .collect();
    let refused = |result: &Result<Settlement, RuntimeError>| match result {
        Ok(_) => false,
        Err(RuntimeError::AlreadyRegistered(_)) => true,
        Err(other) => panic!("{other}"),
    };
    let refusals = tickets.into_iter().filter(|&ticket| refused(world.wait_for(ticket))).count();
    assert_eq!(refusals, nodes.len() - 1, "one has it");
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.hosting(origin(7)).len(), world.fenced().len()), (1, 0));
    let call = world.call(nodes[0], origin(7));
    world.outputs(call);
    world.run_for(Duration::from_secs(40));
    world.assert_nothing_left();
}

#[test]
fn of_members_that_spawn_one_identity_at_once_one_has_it_and_the_others_are_refused() {
    for_seeds(0..200, 6, |world| {
        world.take_part();
        let count = 2 + usize::try_from(world.chance(4)).expect("small");
        one_of_several(world, &(0..count).collect::<Vec<_>>());
    });
}

#[test]
fn of_peers_that_spawn_one_identity_at_once_one_has_it_and_the_others_are_refused() {
    for_seeds(0..200, 4, |world| {
        let count = 2 + usize::try_from(world.chance(3)).expect("small");
        one_of_several(world, &(0..count).collect::<Vec<_>>());
    });
}
