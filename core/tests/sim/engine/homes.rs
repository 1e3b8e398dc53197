//! Home nodes: who is asked, what is believed, and what becomes of copies that came to be on both sides of a partition.

use std::time::Duration;

use mesh_daemon_core::daemon::Ticket;
use mesh_daemon_core::directory::{Claim, ClaimBody, View};
use mesh_daemon_core::identity::{Epoch, Lineage, OriginHash};
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::runtime::{DaemonEvent, RuntimeError, Settlement};
use mesh_daemon_core::wire::Lane;
use mesh_daemon_core::wire::directory::{Between, DirectoryMessage, Few, MOST_PAIRS};

use super::world::{World, numbered_key};
use super::{for_seeds, in_world, warnings};

const SOON: Duration = Duration::from_millis(200);

fn begin_spawn_of(world: &mut World, node: usize, origin: OriginHash) -> Ticket {
    let number = (0..10_000).find(|&number| numbered_key(number).origin_hash() == origin).expect("one of them");
    world.begin_spawn(node, numbered_key(number))
}

fn nodes(world: &World) -> std::ops::Range<usize> {
    0..world.nodes.len()
}

/// Cuts two groups off from each other; each side takes the other one for down.
fn part(world: &mut World, one: &[usize], other: &[usize]) {
    for &here in one {
        for &there in other {
            world.lose(here, there, Loss::Silence);
        }
    }
    for group in [one, other] {
        for &node in group {
            world.tell_members(node, group);
        }
    }
    world.run_for(SOON);
}

/// They hear of each other again: sessions first, then views, each node in its time.
fn heal(world: &mut World, one: &[usize], other: &[usize]) {
    for &here in one {
        for &there in other {
            world.connect(here, there, false);
        }
    }
    let all: Vec<usize> = nodes(world).collect();
    for &node in &all {
        let pause = world.chance(20_000);
        world.run_for(Duration::from_micros(pause));
        world.tell_members(node, &all);
    }
    world.run_for(SOON);
}

#[test]
fn homes_are_asked_and_nobody_else() {
    for_seeds(0..10, 12, |world| {
        world.take_part();
        let origins: Vec<_> = (0..36).map(|number| world.spawn_numbered(number as usize % 12, number)).collect();
        for (number, origin) in origins.iter().enumerate() {
            // What was asked before and is answered without need.
            world.run_for(Duration::from_millis(5));
            let before = world.directory_messages;
            let caller = (number + 5) % 12;
            let ticket = world.call(caller, *origin);
            world.outputs(ticket);
            let asked = world.directory_messages - before;
            // A question and an answer for each of three homes and the host.
            assert!((2..=8).contains(&asked), "{asked} messages for one address");
            assert_eq!(world.located((number + 7) % 12, *origin), Some(world.id(number % 12)));
        }
        world.assert_nothing_left();
    });
}

#[test]
fn not_found_is_certain_and_prompt_once_all_have_named_their_daemons() {
    for_seeds(0..10, 8, |world| {
        world.take_part();
        let before = world.now;
        let ticket = world.call(3, numbered_key(1).origin_hash());
        assert_eq!(world.failure(ticket), RuntimeError::NotFound(numbered_key(1).origin_hash()));
        assert!(world.now - before < Duration::from_millis(50), "{:?}", world.now - before);
        assert_eq!(world.located(4, numbered_key(1).origin_hash()), None);
    });
}

#[test]
fn a_daemon_of_a_member_that_has_yet_to_name_it_is_waited_for() {
    for_seeds(0..20, 6, |world| {
        let origin = world.spawn_numbered(5, 1);
        let all: Vec<usize> = nodes(world).collect();
        for node in 0..5 {
            world.tell_members(node, &all);
        }
        world.run_for(SOON);
        let early: Vec<Ticket> = (0..5).map(|node| world.call(node, origin)).collect();
        let nobody = world.call(0, numbered_key(2).origin_hash());
        world.run_for(Duration::from_secs(5));
        assert!(!world.is_answered(nobody), "it may be with the sixth node for all that is known");
        world.tell_members(5, &all);
        for ticket in early {
            world.outputs(ticket);
        }
        assert_eq!(world.failure(nobody), RuntimeError::NotFound(numbered_key(2).origin_hash()));
    });
}

#[test]
fn a_former_host_finds_its_daemon_before_the_homes_hear_where_it_went() {
    for seed in 0..10 {
        in_world(World::open(seed, 6), |world| {
            world.take_part();
            let ids: Vec<_> = nodes(world).map(|node| world.id(node)).collect();
            let homes = |number| View::new(&ids).homes_of(numbered_key(number).origin_hash());
            let is_at_others = |number: &u32| !homes(*number).contains(ids[0]) && !homes(*number).contains(ids[1]);
            let number = (0..10_000).find(is_at_others).expect("one of them");
            let origin = world.spawn_numbered(0, number);
            // The new host names it to its homes, and they do not hear of it yet.
            world.clogged = (2..6).map(|home| (1, home, Lane::Fast)).collect();
            assert_eq!(world.moved(0, origin, 1), Ok(()));
            let ticket = world.call(0, origin);
            assert_eq!(world.located(0, origin), Some(ids[1]));
            world.outputs(ticket);
            world.clogged.clear();
            world.settle(1);
            world.run_for(SOON);
            world.assert_nothing_left();
        });
    }
}

#[test]
fn callers_find_every_daemon_while_members_come_and_go() {
    for_seeds(0..20, 9, |world| {
        let all: Vec<usize> = nodes(world).collect();
        world.take_part();
        let origins: Vec<_> = (0..18).map(|number| world.spawn_numbered(number as usize % 6, number)).collect();
        for round in 0..6 {
            // Nodes 6 to 8 host nothing, and are taken for down or for members again, by each node in its time.
            let gone = 6 + usize::try_from(world.chance(3)).expect("small");
            let group: Vec<usize> = all.iter().copied().filter(|&node| round % 2 == 1 || node != gone).collect();
            for &node in &all {
                world.tell_members(node, &group);
                let pause = world.chance(15_000);
                world.run_for(Duration::from_micros(pause));
                let (asking, sought) = (world.chance(6), world.chance(18));
                let origin = origins[usize::try_from(sought).expect("small")];
                let found = world.located(usize::try_from(asking).expect("small"), origin);
                assert!(found.is_some(), "round {round}: {origin}");
            }
        }
        for origin in origins {
            let ticket = world.call(8, origin);
            world.outputs(ticket);
        }
        world.assert_nothing_left();
    });
}

#[test]
fn one_identity_spawned_on_many_nodes_at_once_lives_once() {
    for_seeds(0..60, 8, |world| {
        world.take_part();
        let tickets: Vec<Ticket> = (0..4)
            .map(|node| {
                let pause = world.chance(400);
                world.run_for(Duration::from_micros(pause));
                world.begin_spawn(node, numbered_key(7))
            })
            .collect();
        world.run_for(Duration::from_secs(3));
        let origin = numbered_key(7).origin_hash();
        let hosts = world.hosts(origin);
        assert_eq!(hosts.len(), 1, "{hosts:?}");
        for ticket in tickets {
            match world.wait_for(ticket) {
                Ok(_) | Err(RuntimeError::AlreadyRegistered(_)) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(world.located(6, origin), Some(world.id(hosts[0].0)));
        let ticket = world.call(5, origin);
        world.outputs(ticket);
        world.assert_nothing_left();
    });
}

#[test]
fn copies_on_both_sides_of_a_partition_are_one_when_it_heals() {
    for_seeds(0..40, 6, |world| {
        let (one, other) = ([0, 1, 2], [3, 4, 5]);
        world.take_part();
        part(world, &one, &other);
        // The same identity on both sides, and others that meet nobody.
        let origin = world.spawn_numbered(0, 1);
        assert_eq!(world.spawn_numbered(3, 1), origin);
        let quiet = [world.spawn_numbered(1, 2), world.spawn_numbered(4, 3)];
        assert_eq!(world.hosts(origin).len(), 2);
        heal(world, &one, &other);
        world.run_for(Duration::from_secs(1));
        let hosts = world.hosts(origin);
        assert_eq!(hosts.len(), 1, "{hosts:?}");
        let fenced: Vec<_> = world.daemon_events.iter().filter(|(_, event)| *event == DaemonEvent::Fenced).collect();
        assert_eq!(fenced.len(), 1, "{fenced:?}");
        for node in nodes(world) {
            assert_eq!(world.located(node, origin), Some(world.id(hosts[0].0)), "n{node}");
            for origin in [origin, quiet[0], quiet[1]] {
                let ticket = world.call(node, origin);
                world.outputs(ticket);
            }
        }
        world.run_for(Duration::from_secs(40));
        world.assert_nothing_left();
    });
}

#[test]
fn a_daemon_that_moved_is_found_where_it_is_by_whoever_never_called_it() {
    for_seeds(0..20, 8, |world| {
        world.take_part();
        let origin = world.spawn_numbered(0, 1);
        for hop in 1..8 {
            assert_eq!(world.moved(hop - 1, origin, hop), Ok(()));
            let caller = (hop + 3) % 8;
            assert_eq!(world.located(caller, origin), Some(world.id(hop)), "hop {hop}");
            let ticket = world.call(caller, origin);
            world.outputs(ticket);
        }
        // Former hosts are withdrawn from the homes after a while.
        world.run_for(Duration::from_secs(120));
        let before = world.directory_messages;
        assert_eq!(world.located(3, origin), Some(world.id(7)));
        assert!(world.directory_messages - before <= 8, "{}", world.directory_messages - before);
        world.assert_nothing_left();
    });
}

#[test]
fn a_member_that_says_it_hosts_what_it_does_not_is_asked_in_vain() {
    for_seeds(0..20, 7, |world| {
        world.take_part();
        let origin = numbered_key(1).origin_hash();
        let squat = World::placing(vec![origin], Vec::new());
        for home in world.homes(origin).into_iter().filter(|&home| home != 6) {
            world.forge_directory(6, home, &squat);
        }
        assert_eq!(world.spawn_numbered(0, 1), origin, "it keeps nobody from spawning it");
        for node in 1..6 {
            let ticket = world.call(node, origin);
            world.outputs(ticket);
            assert_eq!(world.located(node, origin), Some(world.id(0)));
        }
        assert_eq!(world.hosts(origin).len(), 1);
    });
}

#[test]
fn a_claim_that_the_daemons_key_did_not_sign_is_refused_wherever_it_comes_from() {
    in_world(World::new(1, 6), |world| {
        world.may_refuse = true;
        world.take_part();
        let origin = world.spawn_numbered(0, 1);
        let thief = world.nodes[5].keypair.clone();
        let (entity, host) = (numbered_key(1).entity_id(), thief.entity_id());
        let epoch = Epoch::new(9);
        let body = ClaimBody { entity, lineage: Lineage::new(1), epoch, min_epoch: epoch, host, incarnation: None };
        let genuine = Claim::sign(body, &numbered_key(1)).expect("its own key").encode();
        let mut forged = genuine.clone();
        *forged.last_mut().expect("not empty") ^= 1;
        for node in 0..5 {
            world.forge_directory(5, node, &DirectoryMessage::Claim { claim: &forged });
            // Answers that were not asked for, whatever is in them.
            for query in 0..8 {
                let (hosts, settled) = (Some(Few(vec![world.id(5)])), Some(true));
                world.forge_directory(
                    5,
                    node,
                    &DirectoryMessage::Answer {
                        query,
                        claim: Some(&forged),
                        hosts,
                        settled,
                        former: None,
                        doubt: None,
                    },
                );
            }
        }
        world.run_for(SOON);
        for node in 1..5 {
            assert_eq!(world.located(node, origin), Some(world.id(0)));
            let ticket = world.call(node, origin);
            world.outputs(ticket);
        }
        assert_eq!(world.hosts(origin).len(), 1);
        assert!(world.daemon_events.iter().all(|(_, event)| *event != DaemonEvent::Fenced));
    });
}

#[test]
fn many_daemons_are_named_to_their_homes_in_few_messages() {
    const DAEMONS: u32 = 5_000;
    in_world(World::new(1, 6), |world| {
        // Nobody is there yet: nothing is asked and nothing is named.
        for other in 1..6 {
            world.lose(0, other, Loss::Silence);
        }
        for number in 0..DAEMONS {
            world.spawn_numbered(0, number);
        }
        let before = world.directory_messages;
        for other in 1..6 {
            world.connect(0, other, false);
        }
        world.take_part();
        let sent = world.directory_messages - before;
        assert!(sent < 80, "{sent} messages");
        let own = (0..DAEMONS).filter(|&number| world.homes(numbered_key(number).origin_hash()).contains(&0)).count();
        let kept: usize = (1..6).map(|node| world.nodes[node].engine.kept_addresses()).sum();
        assert_eq!(kept, 3 * DAEMONS as usize - own);
        // A member goes: what it kept finds another home, and no more.
        let before = world.directory_messages;
        for node in 0..5 {
            world.tell_members(node, &[0, 1, 2, 3, 4]);
        }
        world.run_for(SOON);
        assert!(world.directory_messages - before < 60, "{}", world.directory_messages - before);
        for number in (0..DAEMONS).step_by(501) {
            let caller = 1 + number as usize % 4;
            assert_eq!(world.located(caller, numbered_key(number).origin_hash()), Some(world.id(0)));
        }
        // The host goes, and its entries with it.
        world.restart(0);
        world.run_for(SOON);
        assert!((1..6).all(|node| world.nodes[node].engine.kept_addresses() == 0));
    });
}

#[test]
fn who_joins_makes_no_members_compare_and_who_leaves_compares_with_those_that_stay() {
    for_seeds(0..5, 9, |world| {
        let (before, all): (Vec<usize>, Vec<usize>) = ((0..8).collect(), (0..9).collect());
        for number in 0..18 {
            world.spawn_numbered(number as usize % 9, number);
        }
        for &node in &before {
            world.tell_members(node, &before);
        }
        world.run_for(SOON);
        let tallies = world.tallies;
        for &node in &all {
            world.tell_members(node, &all);
            let pause = world.chance(20_000);
            world.run_for(Duration::from_micros(pause));
        }
        world.run_for(SOON);
        assert_eq!(world.tallies, tallies, "their homes compare");
        for &node in &before {
            world.tell_members(node, &before);
        }
        world.run_for(SOON);
        let compared = world.tallies - tallies;
        assert!((8..=32).contains(&compared), "{compared} words of eight pairs");
    });
}

/// A daemon that its host names to others only.
fn named_to_others(world: &mut World, host: usize) -> OriginHash {
    let number = (0..10_000)
        .find(|&number| !world.homes(numbered_key(number).origin_hash()).contains(&host))
        .expect("one of them");
    world.spawn_numbered(host, number)
}

#[test]
fn a_home_whose_runtime_was_begun_anew_is_told_again_who_lives_where() {
    for silently in [false, true] {
        for_seeds(0..10, 6, |world| {
            world.take_part();
            let origin = named_to_others(world, 0);
            let kept = |world: &World| -> usize { (0..6).map(|node| world.nodes[node].engine.kept_addresses()).sum() };
            assert_eq!(kept(world), 3);
            for home in world.homes(origin) {
                world.end_runtime(home, silently);
                let pause = world.chance(40_000);
                world.run_for(Duration::from_micros(pause));
                world.begin_runtime(home);
            }
            world.run_for(SOON);
            assert_eq!(kept(world), 3, "each home knows of it again");
            // What is nowhere is known to be nowhere again, at once.
            let before = world.now;
            let ticket = world.call(1, numbered_key(9_999).origin_hash());
            assert_eq!(world.failure(ticket), RuntimeError::NotFound(numbered_key(9_999).origin_hash()));
            assert!(world.now - before < Duration::from_millis(50), "{:?}", world.now - before);
        });
    }
}

#[test]
fn a_home_whose_runtime_was_begun_anew_is_never_sure_of_what_it_was_not_told() {
    for_seeds(0..60, 6, |world| {
        world.take_part();
        let origin = named_to_others(world, 0);
        let all: Vec<usize> = nodes(world).collect();
        let homes = world.homes(origin);
        let other = (1..6).find(|node| !homes.contains(node)).expect("two are no homes");
        // The members change, and change back, while runtimes of homes are begun anew: passes are under way.
        for &home in &homes {
            world.end_runtime(home, true);
            world.begin_runtime(home);
        }
        for members in [all.iter().copied().filter(|&node| node != other).collect::<Vec<_>>(), all.clone()] {
            for &node in &all {
                world.tell_members(node, &members);
                let pause = world.chance(30_000);
                world.run_for(Duration::from_micros(pause));
                let ticket = world.call(other, origin);
                world.outputs(ticket);
                world.run_for(Duration::from_millis(1));
            }
        }
        let ticket = begin_spawn_of(world, other, origin);
        assert_eq!(world.failure(ticket), RuntimeError::AlreadyRegistered(origin));
    });
}

/// A node that is no home of a daemon and does not host it.
fn stranger_to(world: &World, host: usize, origin: OriginHash) -> usize {
    let homes = world.homes(origin);
    nodes(world).find(|node| *node != host && !homes.contains(node)).expect("there are more nodes than homes")
}

#[test]
fn a_spawn_is_refused_while_a_home_names_a_host_that_is_silent_and_may_live() {
    for_seeds(0..10, 6, |world| {
        world.take_part();
        let origin = named_to_others(world, 0);
        let other = stranger_to(world, 0, origin);
        let (host, before) = (world.id(0), world.now);
        world.cut(other, 0, Duration::from_secs(100));
        let ticket = begin_spawn_of(world, other, origin);
        let error = world.failure(ticket);
        assert!(error.to_string().contains(&host.to_string()), "it names the host: {error}");
        assert!(world.now - before < Duration::from_secs(40), "{:?}", world.now - before);
        assert_eq!(world.hosts(origin).len(), 1);
        world.run_for(Duration::from_secs(100));
        let ticket = begin_spawn_of(world, other, origin);
        assert_eq!(world.failure(ticket), RuntimeError::AlreadyRegistered(origin));
        let ticket = world.call(other, origin);
        world.outputs(ticket);
        world.assert_nothing_left();
    });
}

#[test]
fn a_spawn_goes_on_once_the_silent_host_is_given_up_or_its_end_is_known() {
    for how in [Loss::Silence, Loss::Goodbye, Loss::NewerIncarnation] {
        for_seeds(0..10, 6, |world| {
            world.take_part();
            let origin = named_to_others(world, 0);
            let other = stranger_to(world, 0, origin);
            let others: Vec<usize> = nodes(world).skip(1).collect();
            for &node in &others {
                world.cut(node, 0, Duration::from_secs(4000));
            }
            let ticket = begin_spawn_of(world, other, origin);
            world.run_for(Duration::from_secs(20));
            assert!(!world.is_answered(ticket), "it may live");
            for &node in &others {
                world.lose(node, 0, how);
            }
            let before = world.now;
            assert!(matches!(world.wait_for(ticket), Ok(Settlement::Spawned(_))));
            assert!(world.now - before < Duration::from_secs(5), "{:?}", world.now - before);
        });
    }
}

#[test]
fn who_begins_again_under_the_identity_of_the_node_spawns_its_daemons_at_once() {
    for_seeds(0..10, 6, |world| {
        world.take_part();
        let origin = named_to_others(world, 0);
        world.restart(0);
        let before = world.now;
        let ticket = begin_spawn_of(world, 0, origin);
        assert!(matches!(world.wait_for(ticket), Ok(Settlement::Spawned(_))));
        assert!(world.now - before < Duration::from_secs(1), "{:?}", world.now - before);
    });
}

#[test]
fn requirement_bounds_a_home_that_cannot_remember_a_node_whole_warns_of_it_once_until_it_can() {
    const MOST_OF_A_NODE: usize = 1 << 20;
    const HOME: usize = 0;
    const CROWDED: usize = 1;
    // Names so many daemons, as after a session that broke, and says that these are all.
    let names = |world: &mut World, count: usize| {
        let view = View::new(&[world.id(HOME), world.id(CROWDED)]).name();
        let origins: Vec<_> = (1..=count as u64).map(OriginHash::new).collect();
        let (mut anew, last) = (true, origins.len().div_ceil(MOST_PAIRS) - 1);
        for (nth, hosted) in origins.chunks(MOST_PAIRS).enumerate() {
            let (hosted, settled) = (hosted.to_vec(), (nth == last).then_some(view.0));
            let place =
                DirectoryMessage::Place { anew, hosted, gone: Vec::new(), settled, between: Between::default() };
            world.forge_directory(CROWDED, HOME, &place);
            anew = false;
        }
    };
    warnings::keep();
    in_world(World::new(1, 2), |world| {
        world.take_part();
        let about = format!("host={}", world.id(CROWDED));
        let warned = || warnings::take().iter().filter(|text| text.contains(&about)).count();
        names(world, MOST_OF_A_NODE);
        assert_eq!(warned(), 0, "there is room for all");
        names(world, MOST_OF_A_NODE + 2);
        assert_eq!(warned(), 1);
        names(world, MOST_OF_A_NODE + 2);
        assert_eq!(warned(), 0, "it is known");
        assert_eq!(world.nodes[HOME].engine.kept_addresses(), MOST_OF_A_NODE);
        names(world, 1);
        names(world, MOST_OF_A_NODE + 2);
        assert_eq!(warned(), 1, "it had been remembered whole");
        world.lose(HOME, CROWDED, Loss::Goodbye);
        world.connect(HOME, CROWDED, false);
        world.run_for(SOON);
        names(world, MOST_OF_A_NODE + 1);
        assert_eq!(warned(), 1, "it was gone");
    });
}
