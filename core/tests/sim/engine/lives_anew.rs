//! Targets whose next runtime begins a daemon anew that came to the former one, while the source is cut off.

use std::collections::BTreeSet;
use std::time::Duration;

use super::in_world;
use super::load::answers_are_true;
use super::world::{Trap, World};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn hazard_64_a_target_that_began_the_daemon_anew_does_not_say_that_nothing_ran_there_before() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(SOURCE, 1, "slow");
        for node in 0..2 {
            let ticket = world.call(node, origin);
            world.outputs(ticket);
        }
        // These wait at the source, and are handed over.
        for index in 0..12 {
            world.send(index % 2, origin);
        }
        world.trap = Some(Trap { message: "ActivateAck", nth: 0, arrives: false, heal_after: 2 * SECOND });
        world.migrate(SOURCE, origin, TARGET);
        assert!(world.run_until(SECOND, |world| world.sprung), "the connection broke");
        world.run_for(SECOND / 2);
        assert_eq!(world.seen(origin).len(), 14, "it runs there");
        world.end_runtime(TARGET, true);
        world.begin_runtime(TARGET);
        let anew = world.spawn(TARGET, 1, "slow");
        assert_eq!(anew, origin);
        world.run_for(20 * SECOND);
        let ran: BTreeSet<_> = world.ran.iter().collect();
        assert_eq!(ran.len(), world.ran.len(), "what ran elsewhere does not run again");
        assert_eq!(world.hosts(origin).len(), 1, "one copy");
        answers_are_true(world);
    });
}
