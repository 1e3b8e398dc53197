//! Two members that host one daemon, and hear of each other late, or while they cannot reach each other: as soon as they can,
//! one of them gives way. Homes name one to the other, and nobody else does.

use std::time::Duration;

use mesh_daemon_core::daemon::{HostConfig, Ticket};
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::wire::Lane;

use super::in_world;
use super::world::World;

const ONE: usize = 0;
const OTHER: usize = 1;
const NODES: usize = 6;
const SECOND: Duration = Duration::from_secs(1);

/// A daemon whose address others keep.
fn daemon(world: &World) -> u8 {
    world.daemon_with_homes(|homes| !homes.contains(&ONE) && !homes.contains(&OTHER))
}

/// All but these.
fn without(left_out: usize) -> Vec<usize> {
    (0..NODES).filter(|node| *node != left_out).collect()
}

/// There are two of it, until the two get a session.
fn one_gives_way(world: &mut World, origin: OriginHash) {
    assert_eq!(world.hosting(origin), [ONE, OTHER]);
    world.connect(ONE, OTHER, false);
    world.run_for(SECOND);
    let hosts = world.hosting(origin);
    assert_eq!((hosts.len(), world.fenced().len()), (1, 1), "{hosts:?}");
    for node in 0..NODES {
        assert_eq!(world.located(node, origin), Some(world.id(hosts[0])), "n{node}");
    }
    world.serves(origin, 0..NODES);
}

/// A spawn whose homes answer late that the daemon lives on a member that is out of reach.
fn answered_late(world: &mut World) -> (OriginHash, Ticket) {
    world.take_part();
    let seed = daemon(world);
    let origin = world.spawn(ONE, seed, "prompt");
    world.run_for(SECOND);
    world.lose(ONE, OTHER, Loss::Silence);
    for home in world.homes(origin) {
        world.lag.insert(home, 3 * SECOND);
    }
    let (_, ticket) = world.try_spawn(OTHER, seed, "prompt", HostConfig::default());
    (origin, ticket)
}

#[test]
fn a_host_that_homes_name_when_a_spawn_waits_for_them_no_more_is_met_later() {
    in_world(World::new(1, NODES), |world| {
        let (origin, spawned) = answered_late(world);
        assert!(world.wait_for(spawned).is_ok(), "nobody says in time that it lives");
        world.run_for(10 * SECOND);
        world.lag.clear();
        one_gives_way(world, origin);
    });
}

#[test]
fn a_host_that_homes_name_while_the_object_is_made_is_met_later() {
    in_world(World::new(1, NODES), |world| {
        world.nodes[OTHER].objects.faults.construct_takes = Some(10 * SECOND);
        let (origin, spawned) = answered_late(world);
        world.run_for(9 * SECOND);
        assert!(!world.is_answered(spawned), "the homes have answered, and it is being made");
        world.lag.clear();
        assert!(world.wait_for(spawned).is_ok());
        world.run_for(SECOND);
        one_gives_way(world, origin);
    });
}

/// Whoever wakes up after a while has heard of nobody in the meantime.
#[test]
fn a_daemon_that_was_spawned_while_its_homes_were_silent_is_found_once_they_are_heard() {
    in_world(World::new(1, NODES), |world| {
        world.take_part();
        let seed = daemon(world);
        for node in without(OTHER) {
            world.suspect(OTHER, node);
        }
        let origin = world.spawn(OTHER, seed, "prompt");
        for node in without(OTHER) {
            world.hear_again(OTHER, node);
        }
        world.run_for(SECOND);
        for node in 0..NODES {
            assert_eq!(world.located(node, origin), Some(world.id(OTHER)), "n{node}");
        }
        world.serves(origin, 0..NODES);
    });
}

/// Both sides of a partition spawn it: one node, and all others. Then the one reaches all others but the other host.
fn on_both_sides(world: &mut World) -> OriginHash {
    world.take_part();
    let seed = daemon(world);
    world.lose_all(OTHER);
    world.tell_members(OTHER, &[OTHER]);
    for node in without(OTHER) {
        world.tell_members(node, &without(OTHER));
    }
    world.run_for(SECOND);
    let origin = world.spawn(ONE, seed, "prompt");
    assert_eq!(world.spawn(OTHER, seed, "prompt"), origin);
    for node in without(OTHER).into_iter().skip(1) {
        world.connect(OTHER, node, false);
    }
    origin
}

fn tell_all(world: &mut World, nodes: &[usize]) {
    for &node in nodes {
        world.tell_members(node, &(0..NODES).collect::<Vec<_>>());
    }
    world.run_for(SECOND);
}

#[test]
fn a_host_that_homes_name_before_the_other_one_has_heard_that_it_is_a_member_is_met_later() {
    in_world(World::new(1, NODES), |world| {
        let origin = on_both_sides(world);
        world.tell_members(OTHER, &without(ONE));
        tell_all(world, &without(OTHER));
        tell_all(world, &[OTHER]);
        one_gives_way(world, origin);
    });
}

#[test]
fn a_claim_that_is_lost_with_the_session_is_shown_again_in_the_next_one() {
    in_world(World::new(1, NODES), |world| {
        let origin = on_both_sides(world);
        world.clogged = vec![(ONE, OTHER, Lane::Fast), (OTHER, ONE, Lane::Fast)];
        world.connect(ONE, OTHER, false);
        tell_all(world, &without(OTHER));
        tell_all(world, &[OTHER]);
        world.lose(ONE, OTHER, Loss::Silence);
        world.clogged.clear();
        one_gives_way(world, origin);
    });
}

/// The members change so late that no pass tells the former home before the question is over.
#[test]
fn a_home_that_has_not_answered_a_spawn_and_is_none_any_more_hears_that_the_daemon_is_gone() {
    in_world(World::new(1, NODES), |world| {
        world.take_part();
        let seed = daemon(world);
        let origin = World::daemon_key(seed).origin_hash();
        let homes = world.homes(origin);
        for &home in &homes {
            world.lag.insert(home, 3 * SECOND);
        }
        // Who is to be a home instead is not asked.
        for node in (0..NODES).filter(|node| *node != OTHER && !homes.contains(node)) {
            world.suspect(OTHER, node);
        }
        let (_, spawned) = world.try_spawn(OTHER, seed, "prompt", HostConfig::default());
        world.run_for(199 * SECOND / 100);
        assert!(!world.is_answered(spawned));
        world.tell_members(OTHER, &without(homes[0]));
        world.run_for(SECOND / 50);
        assert!(world.is_answered(spawned), "no pass came in between");
        world.run_for(10 * SECOND);
        let stopped = world.act(OTHER, None, |engine, ticket, now| engine.stop(ticket, origin, now));
        assert!(world.wait_for(stopped).is_ok());
        world.run_for(200 * SECOND);
        for node in 0..NODES {
            assert_eq!(world.nodes[node].engine.kept_addresses(), 0, "n{node}");
        }
    });
}
