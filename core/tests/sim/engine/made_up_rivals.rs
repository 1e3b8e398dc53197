//! Members that name rivals which there are not: nobody looks for those.

use std::time::Duration;

use mesh_daemon_core::identity::{NodeId, OriginHash};
use mesh_daemon_core::mesh::{Loss, Record};
use mesh_daemon_core::wire::directory::{DirectoryMessage, Rival};
use mesh_daemon_core::wire::{Lane, Subprotocol, codec};

use super::in_world;
use super::world::World;

const NODE: usize = 0;
const MEMBER: usize = 1;
const TELLER: usize = 2;

/// Whom a node looks for when it is told that these host a daemon of its own.
fn looked_for(world: &mut World, origin: OriginHash, hosts: &[NodeId]) -> Vec<NodeId> {
    let rivals = hosts.iter().map(|&host| Rival { origin, host }).collect();
    let body = codec::encode(&DirectoryMessage::Rivals { rivals }).into();
    let (now, teller) = (world.present(), world.id(TELLER));
    let engine = &mut world.nodes[NODE].engine;
    engine.records(teller, Lane::Fast, &mut vec![Record { subprotocol: Subprotocol::Directory, body }], now);
    let wanted = engine.take_wanted();
    for &node in &wanted {
        engine.unreachable(node, now);
    }
    wanted
}

#[test]
fn a_rival_that_is_no_member_is_not_looked_for_and_one_that_is_out_of_reach_is() {
    in_world(World::new(1, 3), |world| {
        world.take_part();
        let origin = world.spawn(NODE, 1, "prompt");
        world.run_for(Duration::from_secs(1));
        world.lose(NODE, MEMBER, Loss::Silence);
        let made_up: Vec<NodeId> = (0..64).map(|number| NodeId::new(1 << 40 | number)).collect();
        assert_eq!(looked_for(world, origin, &made_up), []);
        world.run_for(Duration::from_secs(60));
        let member = world.id(MEMBER);
        assert_eq!(looked_for(world, origin, &[member]), [member]);
    });
}
