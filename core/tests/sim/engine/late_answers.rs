//! Answers on their way to a caller through a node that is lost with them.

use std::time::Duration;

use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::runtime::RuntimeError;
use mesh_daemon_core::wire::Lane;

use super::in_world;
use super::world::World;

const HOST: usize = 0;
const FORMER: usize = 1;
const CALLER: usize = 2;
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_former_host_that_gives_the_next_one_up_says_so_behind_the_answers_that_it_holds() {
    for calls_again in [false, true] {
        in_world(World::new(1, 3), |world| {
            let origin = world.spawn(FORMER, 1, "prompt");
            world.lose(CALLER, HOST, Loss::Silence);
            world.serves(origin, [CALLER]);
            assert_eq!(world.moved(FORMER, origin, HOST), Ok(()));
            world.serves(origin, [CALLER]);
            world.run_for(SECOND);
            world.clogged = vec![(FORMER, CALLER, Lane::Fast)];
            let ticket = world.call(CALLER, origin);
            world.run_for(SECOND / 10);
            assert!(
                world.seen(origin).len() == 3 && !world.is_answered(ticket),
                "it ran, and its answer is on its way"
            );
            world.lose(HOST, FORMER, Loss::Silence);
            let again = calls_again.then(|| world.call(CALLER, origin));
            world.run_for(SECOND / 10);
            world.clogged.clear();
            world.settle(FORMER);
            world.run_for(SECOND);
            assert!(world.is_answered(ticket));
            assert_eq!(world.outputs(ticket).1, 3, "calls again: {calls_again}");
            if let Some(again) = again {
                assert!(matches!(world.failure(again), RuntimeError::PeerLost { .. }));
            }
        });
    }
}

#[test]
fn an_answer_that_waits_for_the_node_in_between_goes_to_a_caller_that_is_in_reach_when_that_node_is_lost() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(FORMER, 1, "prompt");
        world.lose(CALLER, HOST, Loss::Silence);
        world.serves(origin, [CALLER]);
        assert_eq!(world.moved(FORMER, origin, HOST), Ok(()));
        world.serves(origin, [CALLER]);
        world.run_for(SECOND);
        world.clogged = vec![(HOST, FORMER, Lane::Fast)];
        let ticket = world.call(CALLER, origin);
        world.run_for(SECOND / 10);
        assert_eq!(world.seen(origin).len(), 3, "it ran");
        assert!(!world.is_answered(ticket));
        world.connect(HOST, CALLER, false);
        world.run_for(SECOND / 10);
        world.lose(HOST, FORMER, Loss::Silence);
        world.clogged.clear();
        world.run_for(SECOND);
        assert!(world.is_answered(ticket), "not only when its caller asks again");
        assert_eq!(world.outputs(ticket).1, 3);
    });
}
