//! Copies of daemons whose hosts compare over links that are slow, long or flooded: nothing of it gets lost, nothing is said
//! twice, and nobody holds up what is for others.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::directory::View;
use mesh_daemon_core::identity::{NodeId, OriginHash};
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::runtime::Settlement;
use mesh_daemon_core::wire::Lane;
use mesh_daemon_core::wire::directory::{DirectoryMessage, Rival};

use super::world::World;
use super::{for_seeds, in_world};

const SECOND: Duration = Duration::from_secs(1);

/// Nothing gets out from one node to another, and as much waits there as may.
fn fill_up(world: &mut World, from: usize, to: usize) {
    let filler = world.spawn(from, 99, "prompt");
    world.clogged = [Lane::Fast, Lane::Bulk].map(|lane| (from, to, lane)).to_vec();
    for query in 0..40_000 {
        let asked = DirectoryMessage::Lookup { query: 1_000_000 + query, origin: filler, view: None, hosting: None };
        world.forge_directory(to, from, &asked);
    }
}

/// Another copy, on a node that is told nothing by one that hosts the daemon already.
fn spawn_again(world: &mut World, node: usize, seed: u8) -> OriginHash {
    let (origin, ticket) = world.try_spawn(node, seed, "prompt", HostConfig::default());
    assert!(matches!(world.wait_for(ticket), Ok(Settlement::Spawned(_))));
    origin
}

fn one_is_left(world: &mut World, origin: OriginHash) {
    world.clogged.clear();
    world.run_for(2 * SECOND);
    assert_eq!(world.hosting(origin).len(), 1, "{:?}", world.hosting(origin));
    assert_eq!(world.fenced().len(), 1);
    world.run_for(SECOND);
    world.assert_nothing_left();
}

#[test]
fn claims_for_a_peer_that_has_much_to_take_wait_until_it_has_taken_it() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(0, 1, "prompt");
        fill_up(world, 0, 1);
        assert_eq!(spawn_again(world, 1, 1), origin);
        assert_eq!(world.hosting(origin), [0, 1]);
        let rivals = vec![Rival { origin, host: world.id(1) }];
        world.forge_directory(2, 0, &DirectoryMessage::Rivals { rivals });
        world.run_for(SECOND);
        assert_eq!(world.hosting(origin), [0, 1], "nothing got through");
        one_is_left(world, origin);
    });
}

#[test]
fn an_arrival_is_named_to_a_peer_that_has_much_to_take_once_it_has_taken_it() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(2, 1, "prompt");
        world.lose(1, 2, Loss::Silence);
        fill_up(world, 0, 1);
        assert_eq!(spawn_again(world, 1, 1), origin);
        assert_eq!(world.moved(2, origin, 0), Ok(()));
        world.run_for(SECOND);
        assert_eq!(world.hosting(origin), [0, 1], "nothing got through");
        one_is_left(world, origin);
    });
}

#[test]
fn who_tells_of_very_many_rivals_holds_up_no_naming_of_daemons() {
    in_world(World::new(1, 7), |world| {
        world.take_part();
        let origin = world.spawn(0, 1, "prompt");
        world.run_for(SECOND);
        for part in 0..8 {
            let named = (0..4096).map(|number| NodeId::new(1 << 40 | part << 20 | number));
            let rivals = named.map(|host| Rival { origin, host }).collect();
            world.forge_directory(6, 0, &DirectoryMessage::Rivals { rivals });
        }
        let ids: Vec<NodeId> = (0..7).map(|node| world.id(node)).collect();
        let homes = View::new(&ids).homes_of(origin);
        let gone = (1..6).find(|&node| homes.contains(ids[node])).expect("one of three");
        let left: Vec<usize> = (0..7).filter(|&node| node != gone).collect();
        for &node in &left {
            world.tell_members(node, &left);
        }
        world.run_for(SECOND / 4);
        let ids: Vec<NodeId> = left.iter().map(|&node| ids[node]).collect();
        let homes = View::new(&ids).homes_of(origin);
        for &node in left.iter().filter(|&&node| node != 0 && homes.contains(world.id(node))) {
            assert_eq!(world.nodes[node].engine.kept_addresses(), 1, "n{node} was told");
        }
    });
}

#[test]
fn who_hosts_fewer_names_its_daemons_once_however_long_the_way_is() {
    for fewer in [0, 1] {
        for_seeds(0..20, 2, |world| {
            world.lose(0, 1, Loss::Silence);
            for seed in 1..=9 {
                world.spawn(if seed <= 3 { fewer } else { 1 - fewer }, seed, "prompt");
            }
            world.delay = 70_000..100_000;
            let before = world.directory_messages;
            world.connect(0, 1, false);
            world.run_for(3 * SECOND);
            // Both numbers, the decision where it is not the decider's to name, and the names.
            let said = world.directory_messages - before;
            assert!((3..=4).contains(&said), "{said} messages");
        });
    }
}
