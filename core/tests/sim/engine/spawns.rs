//! Spawns that meet others of the same daemon, or hear of hosts that may live.

use std::time::Duration;

use mesh_daemon_core::daemon::Ticket;
use mesh_daemon_core::directory::{Claim, ClaimBody};
use mesh_daemon_core::identity::{Epoch, Lineage, OriginHash};
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::runtime::RuntimeError;
use mesh_daemon_core::wire::directory::{DirectoryMessage, MOST_NAMED};

use super::world::{World, numbered_key};
use super::{for_seeds, in_world};
use crate::seeds;

const SECOND: Duration = Duration::from_secs(1);
/// More than an answer names.
const MANY: usize = 14;

fn refused(world: &mut World, ticket: Ticket) -> bool {
    match world.wait_for(ticket) {
        Ok(_) => false,
        Err(RuntimeError::AlreadyRegistered(_)) => true,
        Err(other) => panic!("{other}"),
    }
}

/// All of them spawn one daemon, each a moment after the one before; and again, once it lives, whoever has not got it.
fn all_spawn(world: &mut World, spread: u64) {
    let origin = numbered_key(1).origin_hash();
    let tickets: Vec<Ticket> = (0..MANY)
        .map(|node| {
            let pause = world.chance(spread);
            world.run_for(Duration::from_micros(pause));
            world.begin_spawn(node, numbered_key(1))
        })
        .collect();
    world.run_for(3 * SECOND);
    let spawned = tickets.into_iter().filter(|ticket| !refused(world, *ticket)).count();
    let hosts = world.hosts(origin);
    assert_eq!((hosts.len(), spawned), (1, 1), "{hosts:?}");
    // What those who were refused had told the homes is withdrawn after a while.
    for pause in [SECOND / 10, 200 * SECOND] {
        world.run_for(pause);
        for node in (0..MANY).filter(|node| *node != hosts[0].0) {
            let ticket = world.begin_spawn(node, numbered_key(1));
            assert!(refused(world, ticket), "n{node}");
            assert_eq!(world.located(node, origin), Some(world.id(hosts[0].0)));
        }
    }
    assert_eq!(world.hosts(origin), hosts);
    world.run_for(200 * SECOND);
    world.assert_nothing_left();
}

#[test]
fn one_identity_spawned_at_once_on_more_members_than_an_answer_names_lives_once() {
    for spread in [1, 100, 400] {
        for_seeds(0..20, MANY, |world| {
            world.take_part();
            all_spawn(world, spread);
        });
    }
}

#[test]
fn one_identity_spawned_at_once_on_many_that_are_no_members_lives_once() {
    for spread in [1, 400] {
        for_seeds(0..20, MANY, |world| all_spawn(world, spread));
    }
}

/// Those who had it for a moment are still named when two others begin it at once.
#[test]
fn hosts_that_a_home_still_names_and_that_have_it_no_more_hide_nobody() {
    for_seeds(0..20, MANY, |world| {
        world.take_part();
        let origin = numbered_key(1).origin_hash();
        let homes = world.homes(origin);
        let two: Vec<usize> = (0..MANY).filter(|node| !homes.contains(node)).take(2).collect();
        for node in (0..MANY).filter(|node| !two.contains(node)) {
            let ticket = world.begin_spawn(node, numbered_key(1));
            world.wait_for(ticket).as_ref().expect("nobody has it");
            let stop = world.act(node, None, |engine, ticket, now| engine.stop(ticket, origin, now));
            world.wait_for(stop).as_ref().expect("it stops");
        }
        world.run_for(SECOND / 100);
        let two: Vec<Ticket> = two.into_iter().map(|node| world.begin_spawn(node, numbered_key(1))).collect();
        world.run_for(3 * SECOND);
        let spawned = two.into_iter().filter(|ticket| !refused(world, *ticket)).count();
        let hosts = world.hosts(origin);
        assert_eq!((hosts.len(), spawned), (1, 1), "{hosts:?}");
        let caller = world.call(0, origin);
        world.outputs(caller);
    });
}

/// A home remembers a host of the daemon that has died since, as only the node knows that spawns it. It names the one of now as
/// well, which is silent and may live.
#[test]
fn hazard_60_a_host_that_is_dead_does_not_speak_against_one_that_is_silent() {
    for seed in seeds::chosen(0..10) {
        in_world(World::new(seed, 6), |world| {
            world.take_part();
            let daemon = (0..1000).map(numbered_key).find(|key| !world.homes(key.origin_hash()).contains(&0));
            let daemon = daemon.expect("one of them");
            let origin = daemon.origin_hash();
            let homes = world.homes(origin);
            let ticket = world.begin_spawn(0, daemon.clone());
            world.wait_for(ticket).as_ref().expect("nobody has it");
            let others: Vec<usize> = (1..6).filter(|node| !homes.contains(node)).collect();
            let (dead, other) = (others[0], others[1]);
            let (host, incarnation) = (world.nodes[dead].keypair.entity_id(), Some(world.nodes[dead].incarnation));
            let (epoch, lineage) = (Epoch::FIRST, Lineage::new(1));
            let entity = daemon.entity_id();
            let body = ClaimBody { entity, lineage, epoch, min_epoch: epoch, host, incarnation };
            let claim = Claim::sign(body, &daemon).expect("a full key pair").encode();
            world.forge_directory(dead, homes[0], &DirectoryMessage::Claim { claim: &claim });
            world.lose(other, dead, Loss::Goodbye);
            world.cut(other, 0, 100 * SECOND);
            let ticket = world.begin_spawn(other, daemon.clone());
            world.run_for(20 * SECOND);
            assert_eq!(world.hosts(origin).len(), 1, "the silent one has it");
            assert!(!world.is_answered(ticket), "it may be back");
            world.run_for(20 * SECOND);
            let error = world.failure(ticket).to_string();
            assert!(error.contains(&world.id(0).to_string()), "it names the host: {error}");
            world.run_for(100 * SECOND);
            let ticket = world.begin_spawn(other, daemon);
            assert!(refused(world, ticket));
            let caller = world.call(other, origin);
            world.outputs(caller);
        });
    }
}

/// Several nodes name the same daemons, as many as a message takes: each is told of the others, and nothing behind that waits.
#[test]
fn a_node_is_told_of_more_rivals_than_fit_a_message() {
    for_seeds(0..2, 5, |world| {
        world.take_part();
        let ticket = world.begin_spawn(0, numbered_key(1));
        world.wait_for(ticket).as_ref().expect("nobody has it");
        let origins: Vec<OriginHash> =
            (0..MOST_NAMED as u64).map(|number| OriginHash::new(u64::MAX - number)).collect();
        for node in 1..5 {
            world.forge_directory(node, 0, &World::placing(origins.clone(), Vec::new()));
        }
        assert_eq!(world.nodes[0].engine.kept_addresses(), MOST_NAMED);
        world.run_for(SECOND);
        for node in 1..5 {
            let ticket = world.call(node, numbered_key(1).origin_hash());
            world.outputs(ticket);
        }
    });
}
