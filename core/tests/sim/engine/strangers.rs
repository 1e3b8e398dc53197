//! Copies on both sides of a partition whose hosts share no homes: nodes that only connected to each other, and members beside
//! such a node. They compare at every new session, and one copy is left.

use std::time::Duration;

use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::runtime::{RuntimeError, StopReason};

use super::pointers::assert_asleep;
use super::world::{World, numbered_key};
use super::{for_seeds, in_world};

const SOON: Duration = Duration::from_millis(500);

fn part(world: &mut World, one: &[usize], other: &[usize]) {
    for &here in one {
        for &there in other {
            world.lose(here, there, Loss::Silence);
        }
    }
}

fn heal(world: &mut World, one: &[usize], other: &[usize]) {
    for &here in one {
        for &there in other {
            let pause = world.chance(2_000);
            world.run_for(Duration::from_micros(pause));
            world.connect(here, there, false);
        }
    }
    world.run_for(SOON);
}

/// One copy is left, the other one heard why it ends, and everybody reaches the one.
fn one_is_left(world: &mut World, origin: OriginHash, copies: &[usize]) -> usize {
    let hosts = world.hosts(origin);
    assert_eq!(hosts.len(), 1, "{hosts:?}");
    let host = hosts[0].0;
    let losers: Vec<usize> = copies.iter().copied().filter(|copy| *copy != host).collect();
    assert_eq!(world.fenced(), losers);
    for loser in losers {
        assert!(world.retired.contains(&(loser, StopReason::Fenced)));
    }
    for node in 0..world.nodes.len() {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
        assert_eq!(world.located(node, origin), Some(world.id(host)), "n{node}");
    }
    host
}

#[test]
fn copies_of_strangers_on_both_sides_of_a_partition_are_one_when_it_heals() {
    for_seeds(0..40, 4, |world| {
        let (one, other) = ([0, 1], [2, 3]);
        part(world, &one, &other);
        let origin = world.spawn_numbered(0, 1);
        assert_eq!(world.spawn_numbered(2, 1), origin);
        let quiet = [world.spawn_numbered(1, 2), world.spawn_numbered(3, 3), world.spawn_numbered(3, 4)];
        for caller in 0..4 {
            let ticket = world.call(caller, origin);
            world.outputs(ticket);
        }
        heal(world, &one, &other);
        // Streams to the copy that is gone end with it, and are not taken for its successor's.
        for caller in 0..4 {
            let first = world.call(caller, origin);
            let _ended_or_answered = world.wait_for(first);
        }
        one_is_left(world, origin, &[0, 2]);
        for origin in quiet {
            for caller in 0..4 {
                let ticket = world.call(caller, origin);
                world.outputs(ticket);
            }
        }
        world.run_for(Duration::from_secs(1_500));
        world.assert_nothing_left();
        assert_asleep(world);
    });
}

#[test]
fn a_member_and_a_stranger_compare_their_copies_and_so_do_a_member_and_one_that_leaves() {
    for leaves in [false, true] {
        for_seeds(0..20, 4, |world| {
            let members = [0, 1, 2];
            for node in members {
                world.tell_members(node, &members);
            }
            world.run_for(SOON);
            part(world, &members, &[3]);
            let origin = world.spawn_numbered(1, 1);
            assert_eq!(world.spawn_numbered(3, 1), origin);
            if leaves {
                // The members take it for one of them until they notice, and it names nothing to homes.
                for node in members {
                    world.tell_members(node, &[0, 1, 2, 3]);
                }
                heal(world, &members, &[3]);
                for node in members {
                    world.tell_members(node, &members);
                }
                world.run_for(SOON);
            } else {
                heal(world, &members, &[3]);
            }
            one_is_left(world, origin, &[1, 3]);
        });
    }
}

/// Who is taken for a member by the other one, and takes no part itself, is compared with when that one notices.
#[test]
fn who_is_no_member_any_more_is_compared_with() {
    for_seeds(0..20, 2, |world| {
        part(world, &[0], &[1]);
        let origin = world.spawn_numbered(0, 1);
        world.spawn_numbered(1, 1);
        for node in 0..2 {
            world.tell_members(node, &[0, 1]);
        }
        // The homes never hear of it: neither side names anything before it leaves.
        world.connect(0, 1, false);
        for node in 0..2 {
            world.tell_members(node, &[]);
        }
        world.run_for(SOON);
        one_is_left(world, origin, &[0, 1]);
    });
}

#[test]
fn a_spawn_that_lives_before_the_answer_of_a_slow_host_comes_is_compared_when_it_comes() {
    for_seeds(0..10, 2, |world| {
        let origin = world.spawn_numbered(0, 1);
        world.lag.insert(0, Duration::from_secs(5));
        let ticket = world.begin_spawn(1, numbered_key(1));
        assert!(world.wait_for(ticket).is_ok(), "nobody said otherwise in time");
        assert_eq!(world.hosts(origin).len(), 2);
        world.run_for(Duration::from_secs(20));
        world.lag.clear();
        world.run_for(Duration::from_secs(10));
        assert_eq!(world.hosts(origin).len(), 1);
        assert_eq!(world.fenced().len(), 1);
    });
}

/// The copy on node 0 moves to a node that has compared with the other host before it had anything.
#[test]
fn a_copy_that_arrives_is_compared_with_the_peers_of_its_new_host() {
    for_seeds(0..20, 3, |world| {
        part(world, &[0], &[1]);
        world.lose(1, 2, Loss::Silence);
        let origin = world.spawn_numbered(0, 1);
        world.spawn_numbered(1, 1);
        world.connect(1, 2, false);
        world.run_for(SOON);
        assert_eq!(world.hosts(origin).len(), 2, "their hosts do not meet");
        assert_eq!(world.moved(0, origin, 2), Ok(()));
        world.run_for(SOON);
        // It has moved, so it is the later one.
        assert_eq!(one_is_left(world, origin, &[1, 2]), 2);
    });
}

#[test]
fn a_copy_that_moved_wins_over_one_that_did_not_wherever_more_daemons_live() {
    for many in [0, 1] {
        for_seeds(0..10, 4, |world| {
            let (one, other) = ([0, 2], [1, 3]);
            part(world, &one, &other);
            let origin = world.spawn_numbered(0, 1);
            world.spawn_numbered(1, 1);
            assert_eq!(world.moved(0, origin, 2), Ok(()));
            assert_eq!(world.moved(2, origin, 0), Ok(()));
            for number in 10..15 {
                world.spawn_numbered(many, number);
            }
            heal(world, &one, &other);
            assert_eq!(one_is_left(world, origin, &[0, 1]), 0);
        });
    }
}

#[test]
fn a_session_that_breaks_while_daemons_are_named_begins_anew() {
    const DAEMONS: u32 = 3_000;
    for round in 0..6 {
        in_world(World::new(round, 2), |world| {
            part(world, &[0], &[1]);
            for number in 0..DAEMONS {
                world.spawn_numbered(0, number);
            }
            let twice = (0..20).chain(DAEMONS - 20..DAEMONS);
            for number in twice.chain(DAEMONS..2 * DAEMONS) {
                world.spawn_numbered(1, number);
            }
            world.connect(0, 1, false);
            // Something that names daemons is on the way, or waits to be sent.
            world.run_for(Duration::from_micros(30_100 + 200 * round));
            world.cut(0, 1, Duration::from_millis(10));
            world.run_for(Duration::from_secs(3));
            let twice =
                (0..DAEMONS).filter(|&number| world.hosts(numbered_key(number).origin_hash()).len() != 1).count();
            assert_eq!(twice, 0);
            assert_eq!(world.fenced().len(), 40);
            assert_asleep_after(world);
        });
    }
}

fn assert_asleep_after(world: &mut World) {
    world.run_for(Duration::from_secs(1_500));
    assert_asleep(world);
}

/// As when all daemons of a node that was cut off were spawned anew elsewhere.
#[test]
fn every_daemon_of_a_node_that_has_a_copy_elsewhere_is_left_once() {
    const DAEMONS: u32 = 3_000;
    in_world(World::new(1, 2), |world| {
        part(world, &[0], &[1]);
        for number in 0..DAEMONS {
            world.spawn_numbered(0, number);
            world.spawn_numbered(1, number);
        }
        world.connect(0, 1, false);
        world.run_for(Duration::from_secs(3));
        let twice = (0..DAEMONS).filter(|&number| world.hosts(numbered_key(number).origin_hash()).len() != 1).count();
        assert_eq!(twice, 0);
        assert_eq!(world.fenced().len(), DAEMONS as usize);
        assert_asleep_after(world);
    });
}

#[test]
fn strangers_name_each_daemon_once_and_only_those_of_the_node_with_fewer() {
    const DAEMONS: u32 = 5_000;
    in_world(World::new(1, 3), |world| {
        part(world, &[0], &[1, 2]);
        for number in 0..DAEMONS {
            world.spawn_numbered(0, number);
        }
        world.spawn_numbered(1, DAEMONS);
        world.run_for(SOON);
        let before = world.directory_messages;
        world.connect(0, 1, false);
        world.connect(0, 2, false);
        world.run_for(SOON);
        let sent = world.directory_messages - before;
        assert!(sent <= 6, "{sent} messages");
        assert_asleep_after(world);
    });
}

/// A takeover by node 0 of which node 2 knows: the daemon's key is spawned anew at node 1, which has not heard of it.
fn taken_over_unheard(world: &mut World) -> OriginHash {
    let origin = world.spawn_numbered(0, 1);
    part(world, &[0, 2], &[1]);
    // The host dies and begins it anew, later than what node 2 remembers; node 2 remembers that.
    assert_eq!(world.moved(0, origin, 2), Ok(()));
    assert_eq!(world.moved(2, origin, 0), Ok(()));
    world.restart(0);
    for other in (1..world.nodes.len()).filter(|other| *other != 2) {
        world.lose(0, other, Loss::Silence);
    }
    world.run_for(SOON);
    assert_eq!(world.spawn_numbered(0, 1), origin);
    world.run_for(SOON);
    origin
}

/// Node 2 remembered a takeover, and refused for ten minutes what was spawned by one who could not hear of that.
#[test]
fn a_takeover_that_died_with_its_host_refuses_nobody() {
    for_seeds(0..10, 3, |world| {
        let origin = taken_over_unheard(world);
        world.restart(0);
        world.lose(0, 1, Loss::Silence);
        assert_eq!(world.spawn_numbered(1, 1), origin);
        heal(world, &[0, 2], &[1]);
        one_is_left(world, origin, &[1]);
    });
}

#[test]
fn a_takeover_whose_copy_was_stopped_refuses_nobody() {
    for_seeds(0..10, 3, |world| {
        let origin = taken_over_unheard(world);
        let ticket = world.act(0, None, |engine, ticket, now| engine.stop(ticket, origin, now));
        assert!(world.wait_for(ticket).is_ok());
        assert_eq!(world.spawn_numbered(1, 1), origin);
        heal(world, &[0, 2], &[1]);
        one_is_left(world, origin, &[1]);
    });
}

#[test]
fn a_takeover_that_is_out_of_reach_is_told_to_whoever_begins_the_daemon_anew() {
    for_seeds(0..10, 3, |world| {
        let origin = taken_over_unheard(world);
        world.connect(1, 2, false);
        // Without a word, and for good as far as anybody knows.
        world.lose(0, 2, Loss::Silence);
        assert_eq!(world.spawn_numbered(1, 1), origin);
        world.run_for(SOON);
        let ticket = world.call(2, origin);
        world.outputs(ticket);
        assert_eq!(world.located(2, origin), Some(world.id(1)));
        // It lives after all, and is the earlier one.
        world.connect(0, 2, false);
        world.connect(0, 1, false);
        world.run_for(SOON);
        assert_eq!(one_is_left(world, origin, &[0, 1]), 1);
    });
}

#[test]
fn a_takeover_that_said_goodbye_refuses_nobody_at_once() {
    for_seeds(0..10, 3, |world| {
        let origin = taken_over_unheard(world);
        assert_eq!(world.spawn_numbered(1, 1), origin);
        world.lose(0, 2, Loss::Goodbye);
        heal(world, &[2], &[1]);
        for node in 1..3 {
            let ticket = world.call(node, origin);
            world.outputs(ticket);
            assert_eq!(world.located(node, origin), Some(world.id(1)));
        }
    });
}

/// Two takeovers on both sides of a partition: the later one, on node 0, is gone when the earlier one, on node 1, meets node 2,
/// which remembers the later one.
#[test]
fn no_copy_ends_for_the_sake_of_one_that_is_out_of_reach() {
    for (seed, how) in (0..10).flat_map(|seed| [(seed, Loss::Silence), (seed, Loss::Goodbye)]) {
        in_world(World::new(seed, 4), |world| {
            part(world, &[0, 2], &[1, 3]);
            let origin = world.spawn_numbered(3, 1);
            assert_eq!(world.moved(3, origin, 1), Ok(()));
            world.restart(1);
            part(world, &[0, 2], &[1]);
            assert_eq!(world.spawn_numbered(1, 1), origin);
            taken_over_unheard(world);
            world.lose(0, 2, how);
            heal(world, &[2], &[1]);
            assert!(world.hosts(origin).iter().any(|(node, _)| *node == 1), "it lives on");
            if how == Loss::Goodbye {
                let ticket = world.call(2, origin);
                world.outputs(ticket);
            }
            // The later one was only cut off after all.
            if how == Loss::Silence {
                heal(world, &[0], &[1, 2, 3]);
                world.connect(2, 3, false);
                assert_eq!(one_is_left(world, origin, &[0, 1]), 0);
            }
        });
    }
}

/// The older copy is refused for as long as the takeover lives.
#[test]
fn hazard_69_what_an_older_copy_says_is_refused_while_the_takeover_is_in_reach() {
    for_seeds(0..10, 3, |world| {
        let origin = taken_over_unheard(world);
        assert_eq!(world.spawn_numbered(1, 1), origin);
        world.connect(1, 2, false);
        for _ in 0..3 {
            let ticket = world.call(2, origin);
            world.outputs(ticket);
        }
        let (_, live) = *world.hosts(origin).iter().find(|(node, _)| *node == 0).expect("it lives");
        assert_eq!(world.nodes[0].objects.map[&live].ledger.seen.len(), 3, "all of them ran at the later copy");
        world.connect(0, 1, false);
        world.run_for(SOON);
        assert_eq!(one_is_left(world, origin, &[0, 1]), 0);
    });
}

/// Late words of a copy that was fenced, on the way when it ended, answer nobody.
#[test]
fn a_call_that_the_loser_was_working_on_is_lost_and_says_so() {
    for_seeds(0..10, 4, |world| {
        part(world, &[0, 3], &[1, 2]);
        let origin = world.spawn_numbered(0, 1);
        assert_eq!(world.moved(0, origin, 3), Ok(()));
        assert_eq!(world.moved(3, origin, 0), Ok(()));
        world.spawn_numbered(1, 1);
        let hang = world.request(super::daemon::HANG, 0);
        let late = world.deliver(2, origin, hang);
        world.run_for(SOON);
        world.connect(0, 1, false);
        world.run_for(SOON);
        assert_eq!(world.fenced(), [1]);
        match world.failure(late) {
            RuntimeError::PeerLost { .. } => {}
            other => panic!("{other}"),
        }
        heal(world, &[0, 3], &[2]);
        world.connect(1, 3, false);
        assert_eq!(one_is_left(world, origin, &[0, 1]), 0);
    });
}
