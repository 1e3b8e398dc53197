//! A daemon that tells another one of everything it runs and waits for nothing, while both of them move.

use std::time::Duration;

use mesh_daemon_core::identity::OriginHash;

use super::for_seeds;
use super::world::World;

/// Between these the first daemon moves.
const FIRST: [usize; 3] = [0, 1, 2];
/// Between these the second one moves.
const SECOND: [usize; 2] = [3, 4];

/// Both daemons, and how often each really moved.
struct Pipeline {
    first: OriginHash,
    second: OriginHash,
    moved: [usize; 2],
}

impl Pipeline {
    fn new(world: &mut World) -> Self {
        let second = world.spawn(SECOND[0], 2, "prompt");
        (world.speech.sink, world.speech.unawaited) = (Some(second), true);
        world.slow_takes = 0..200;
        Self { first: world.spawn(FIRST[0], 1, "slow"), second, moved: [0; 2] }
    }

    /// Events from two senders, each of which is accepted before anything else happens; few of them have run.
    fn load(&self, world: &mut World) {
        let sent: Vec<_> = (0..40).map(|event| world.send(SECOND[event % 2], self.first)).collect();
        for ticket in sent {
            assert!(world.wait_for(ticket).is_ok());
        }
    }

    /// Moves both at once; `meanwhile` happens when both moves have begun. Tells the former host of the first one.
    fn move_both(&mut self, world: &mut World, hop: usize, meanwhile: impl FnOnce(&mut World, usize, usize)) -> usize {
        let (from, _) = world.hosts(self.first)[0];
        let (sink_from, _) = world.hosts(self.second)[0];
        let ticket = world.migrate(from, self.first, FIRST[hop % 3]);
        let sink_ticket = world.migrate(sink_from, self.second, SECOND[hop % 2]);
        meanwhile(world, from, sink_from);
        for (ticket, host) in [(ticket, from), (sink_ticket, sink_from)] {
            // One whose target is out of reach, or is cut off meanwhile, goes on where it was.
            let _asked = world.wait_for(ticket);
            if let Ok(migration) = world.migration(ticket) {
                let _moved_or_not = world.wait_migration(host, migration);
            }
        }
        let one_copy = |world: &World| [self.first, self.second].iter().all(|origin| world.hosts(*origin).len() == 1);
        assert!(world.run_until(Duration::from_secs(60), one_copy), "one copy of each goes on");
        for (at, origin, former) in [(0, self.first, from), (1, self.second, sink_from)] {
            self.moved[at] += usize::from(world.hosts(origin)[0].0 != former);
        }
        from
    }

    fn check(&self, world: &mut World, events: usize) {
        world.run_for(Duration::from_secs(100));
        let ran = world.seen(self.first);
        assert_eq!(ran.len(), events, "each event ran once");
        assert_eq!(world.seen(self.second), ran, "it told of each once, in the order in which they ran");
        world.assert_nothing_left();
    }
}

#[test]
fn hazard_61_both_daemons_of_a_pipeline_move_at_once_while_connections_break() {
    let moved = std::cell::Cell::new([0; 2]);
    for_seeds(0..60, 5, |world| {
        let mut pipeline = Pipeline::new(world);
        for hop in 1..=6 {
            pipeline.load(world);
            pipeline.move_both(world, hop, |world, from, sink_from| {
                let pause = world.chance(6_000);
                world.run_for(Duration::from_micros(pause));
                if world.chance(2) == 0 {
                    world.cut(from, sink_from, Duration::from_millis(20));
                } else {
                    // What was sent to the second one's former host stays behind with it for a while.
                    world.cut(SECOND[0], SECOND[1], Duration::from_millis(20));
                }
            });
        }
        pipeline.check(world, 240);
        moved.set([0, 1].map(|at| moved.get()[at] + pipeline.moved[at]));
    });
    assert!(moved.get().iter().all(|moved| *moved > 0), "both really moved: {moved:?}");
}

#[test]
fn hazard_61_the_end_of_the_former_host_directly_after_the_move_loses_nothing_of_a_pipeline() {
    for_seeds(0..60, 5, |world| {
        let mut pipeline = Pipeline::new(world);
        for hop in 1..=6 {
            pipeline.load(world);
            let moved = pipeline.moved[0];
            let former = pipeline.move_both(world, hop, |world, from, _| {
                // What it says from here on stays with it for a while.
                for second in SECOND {
                    world.cut(from, second, Duration::from_millis(50));
                }
            });
            assert_eq!(pipeline.moved[0], moved + 1, "nothing is in the way of the move");
            world.restart(former);
            let back = |world: &World| (0..5).all(|other| other == former || world.is_connected(former, other));
            assert!(world.run_until(Duration::from_secs(60), back), "the former host is back");
        }
        pipeline.check(world, 240);
    });
}
