//! Single moves: states of every size, and daemons without state.

use std::time::Duration;

use super::in_world;
use super::world::World;

#[test]
fn requirement_63_states_around_the_size_of_a_chunk_and_of_megabytes() {
    const CHUNK: usize = 60 * 1024;
    for ballast in [0, 1, CHUNK - 400, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, (1 << 20) - 8, 1 << 20, 5_000_000] {
        in_world(World::new(1, 2), |world| {
            world.nodes[0].objects.fresh.ballast = ballast;
            let origin = world.spawn(0, 1, "prompt");
            assert_eq!(world.moved(0, origin, 1), Ok(()));
            let ticket = world.call(0, origin);
            world.outputs(ticket);
            assert_eq!(world.ledger(origin).ballast, ballast);
            world.run_for(Duration::from_secs(1));
            world.assert_nothing_left();
        });
    }
}

#[test]
fn a_daemon_without_state_moves_with_its_chain() {
    in_world(World::new(1, 2), |world| {
        world.nodes[0].objects.fresh.stateless = true;
        let origin = world.spawn(0, 1, "prompt");
        let before = world.call(1, origin);
        world.outputs(before);
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        let (_, key) = world.hosts(origin)[0];
        let (stats, waiting) = world.nodes[1].engine.stats(key).expect("it lives here");
        assert_eq!((stats.events_processed, stats.events_emitted, waiting), (1, 1, 0), "its counters travel");
        assert_eq!(stats.snapshots_taken, 0);
        let after = world.call(0, origin);
        assert_eq!(world.outputs(after).1, 1, "a new object without state");
    });
}
