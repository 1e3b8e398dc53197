//! What a node sends on for others takes turns with its own.

use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::mesh::Loss;

use super::in_world;
use super::turns::{Content, MANY, NODE, PADDING, PEER, SOON, called, entity, flood, next_frame};
use super::world::World;

const SENDER: usize = 2;

/// A daemon that went from the node to its peer, and of which the sender reaches no other one.
fn behind_the_node(world: &mut World) -> OriginHash {
    let origin = world.spawn(NODE, 1, "prompt");
    world.lose(SENDER, PEER, Loss::Silence);
    world.serves(origin, [SENDER]);
    assert_eq!(world.moved(NODE, origin, PEER), Ok(()));
    world.serves(origin, [SENDER]);
    origin
}

#[test]
fn own_events_and_answers_do_not_wait_behind_those_of_others_nor_these_behind_them() {
    in_world(World::new(1, 3), |world| {
        let flooded = behind_the_node(world);
        let own = world.spawn(NODE, 9, "prompt");
        world.serves(own, [PEER]);
        let [other, _] = called(world, [2, 3]);
        let payload = world.request(0, 0).encode(PADDING);
        for _ in 0..MANY / 2 {
            let payload = payload.clone();
            world.act(SENDER, None, |engine, ticket, now| engine.send_event(ticket, flooded, payload, now));
            // One by one: what comes together makes a large message, in the other lane.
            world.run_for(SOON / 100);
        }
        world.send(NODE, other);
        world.call(PEER, own);
        world.run_for(SOON);
        let frames: Vec<Content> = (0..8).map(|_| next_frame(world).0).collect();
        assert!(frames.iter().any(|frame| frame.items_for(entity(2)) == 1), "its own event: {frames:?}");
        assert!(frames.iter().any(|frame| frame.replies == 1), "its own reply: {frames:?}");
        let passed = frames.iter().map(|frame| frame.items_for(entity(1))).sum::<usize>();
        assert!(passed >= 50, "{passed} of others");
    });
}

#[test]
fn events_of_others_do_not_wait_behind_own_ones_of_which_there_are_always_more() {
    in_world(World::new(1, 3), |world| {
        let passing = behind_the_node(world);
        let [flooded, _] = called(world, [2, 3]);
        flood(world, flooded);
        world.send(SENDER, passing);
        world.run_for(SOON);
        let frames: Vec<Content> = (0..8).map(|_| next_frame(world).0).collect();
        assert!(frames.iter().any(|frame| frame.items_for(entity(1)) == 1), "{frames:?}");
    });
}
