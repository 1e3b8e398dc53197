//! Callers with open streams to a host that died, and the daemon begun anew elsewhere before its loss is declared.

use std::time::Duration;

use mesh_daemon_core::daemon::Ticket;
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::runtime::{Executed, RuntimeError};

use super::daemon::HANG;
use super::in_world;
use super::load::answers_are_true;
use super::world::{NEVER, World};
use crate::seeds;

const CALLER: usize = 0;
const HOST: usize = 1;
const HEIR: usize = 2;
const COLD: usize = 3;
const SECOND: Duration = Duration::from_secs(1);
/// Far below the time after which a silent peer is lost.
const SOON: Duration = Duration::from_secs(4);

/// The daemon of these tests: of members, the caller is the one that does not keep its address.
fn daemon(world: &World) -> u8 {
    world.daemon_with_homes(|homes| !homes.contains(&CALLER))
}

/// The daemon begins anew where it is not known that its former host may live: members hear of it from those who keep its
/// address, and these have given the host up.
fn begun_anew(world: &mut World, node: usize) -> OriginHash {
    let seed = daemon(world);
    world.spawn(node, seed, "prompt")
}

/// A daemon that the caller has a stream to, and whose host nobody hears any more. Gives an event that had begun there.
fn orphaned(world: &mut World, members: bool) -> (OriginHash, Ticket) {
    if members {
        world.take_part();
        world.run_for(SECOND);
    }
    let origin = begun_anew(world, HOST);
    for _ in 0..3 {
        let ticket = world.call(CALLER, origin);
        world.outputs(ticket);
    }
    let hang = world.request(HANG, 0);
    let begun = world.deliver(CALLER, origin, hang);
    world.run_for(SECOND);
    for node in [CALLER, HEIR, COLD] {
        world.cut(node, HOST, NEVER);
    }
    if members {
        world.lose(HEIR, HOST, Loss::Silence);
        world.lose(COLD, HOST, Loss::Silence);
    }
    world.run_for(SECOND / 100);
    (origin, begun)
}

fn lost(origin: OriginHash, executed: Executed) -> RuntimeError {
    RuntimeError::PeerLost { origin, executed }
}

#[test]
fn a_caller_whose_host_died_goes_on_where_the_daemon_lives_long_before_the_loss_is_declared() {
    for seed in seeds::chosen(0..20) {
        in_world(World::new(seed, 4), |world| {
            let (origin, begun) = orphaned(world, seed.is_multiple_of(2));
            let behind: Vec<_> = (0..3).map(|_| world.call(CALLER, origin)).collect();
            assert_eq!(begun_anew(world, HEIR), origin);
            let since = world.now;
            let after = world.call(CALLER, origin);
            let sent = world.send(CALLER, origin);
            let all = |world: &World| behind.iter().chain([&after, &sent]).all(|ticket| world.is_answered(*ticket));
            assert!(world.run_until(SOON, all), "nobody waits for the loss to be declared");
            let counts: Vec<u64> = behind.iter().chain([&after]).map(|ticket| world.outputs(*ticket).1).collect();
            assert_eq!(counts, [1, 2, 3, 4], "once each, in order");
            assert_eq!(world.located(CALLER, origin), Some(world.id(HEIR)));
            assert_eq!(world.failure(begun), lost(origin, Executed::Unknown), "it had begun at the host that died");
            let again = world.now;
            let ticket = world.call(CALLER, origin);
            world.outputs(ticket);
            assert!(world.now - again < SECOND / 10, "the stream leads there now");
            assert!(world.now - since < SOON);
            answers_are_true(world);
        });
    }
}

#[test]
fn a_call_that_is_made_when_the_daemon_lives_elsewhere_follows_what_locate_says() {
    for members in [false, true] {
        in_world(World::new(1, 4), |world| {
            let (origin, _) = orphaned(world, members);
            assert_eq!(begun_anew(world, HEIR), origin);
            world.run_for(10 * SECOND);
            assert_eq!(world.located(CALLER, origin), Some(world.id(HEIR)));
            let asked = world.now;
            let ticket = world.call(CALLER, origin);
            world.outputs(ticket);
            assert!(world.now - asked < SECOND / 10, "at once: {:?}", world.now - asked);
            answers_are_true(world);
        });
    }
}

#[test]
fn a_node_that_begins_the_daemon_anew_does_not_wait_for_its_former_host_itself() {
    for members in [false, true] {
        in_world(World::new(1, 4), |world| {
            let (origin, begun) = orphaned(world, members);
            let behind = world.call(CALLER, origin);
            assert_eq!(begun_anew(world, CALLER), origin);
            let after = world.call(CALLER, origin);
            let both = |world: &World| [behind, after].iter().all(|ticket| world.is_answered(*ticket));
            assert!(world.run_until(SOON, both));
            assert_eq!((world.outputs(behind).1, world.outputs(after).1), (1, 2));
            assert_eq!(world.failure(begun), lost(origin, Executed::Unknown));
            answers_are_true(world);
        });
    }
}

#[test]
fn a_caller_cut_off_from_a_host_that_lives_waits_for_it_and_asks_seldom() {
    in_world(World::new(1, 4), |world| {
        world.take_part();
        let origin = begun_anew(world, HOST);
        let ticket = world.call(CALLER, origin);
        world.outputs(ticket);
        world.cut(CALLER, HOST, 25 * SECOND);
        world.run_for(SECOND / 100);
        let before = world.directory_messages;
        let waiting: Vec<_> = (0..100).map(|_| world.call(CALLER, origin)).collect();
        world.run_for(20 * SECOND);
        let asked = world.directory_messages - before;
        assert!(asked > 0 && asked < 100, "{asked} messages of the directory");
        for ticket in waiting {
            world.outputs(ticket);
        }
        assert_eq!(world.seen(origin).len(), 101);
    });
}

#[test]
fn a_host_that_stays_out_of_reach_is_looked_for_every_eight_seconds_at_last() {
    in_world(World::new(1, 4), |world| {
        let origin = begun_anew(world, HOST);
        let ticket = world.call(CALLER, origin);
        world.outputs(ticket);
        world.cut(CALLER, HOST, NEVER);
        world.send(CALLER, origin);
        world.run_for(35 * SECOND);
        let before = world.directory_messages;
        world.run_for(80 * SECOND);
        // A question to each of the two others, and its answer.
        assert_eq!((world.directory_messages - before) / 4, 10);
    });
}

#[test]
fn what_came_of_both_copies_is_told_truly_when_the_former_host_lived_after_all() {
    for seed in seeds::chosen(0..20) {
        in_world(World::new(seed, 4), |world| {
            let kind = if seed.is_multiple_of(2) { "slow" } else { "prompt" };
            let seed_of_daemon = daemon(world);
            let origin = world.spawn(HOST, seed_of_daemon, kind);
            let ticket = world.call(CALLER, origin);
            world.outputs(ticket);
            let ambiguous: Vec<_> = (0..5).map(|_| world.call(CALLER, origin)).collect();
            let pause = world.chance(1_500);
            world.run_for(Duration::from_micros(pause));
            for node in [CALLER, HEIR, COLD] {
                world.cut(node, HOST, NEVER);
            }
            world.run_for(SECOND / 100);
            assert_eq!(begun_anew(world, HEIR), origin);
            let later: Vec<_> = (0..5).map(|_| world.call(CALLER, origin)).collect();
            for ticket in later {
                world.outputs(ticket);
            }
            for node in [CALLER, HEIR, COLD] {
                world.lose(node, HOST, Loss::Silence);
                world.connect(node, HOST, false);
            }
            for ticket in ambiguous {
                let _ = world.wait_for(ticket);
            }
            world.run_for(10 * SECOND);
            assert_eq!(world.hosts(origin).len(), 1, "one copy is left");
            answers_are_true(world);
        });
    }
}
