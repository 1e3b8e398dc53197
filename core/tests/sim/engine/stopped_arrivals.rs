//! Daemons that end on a host to which they have just come.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::runtime::Settlement;

use super::in_world;
use super::world::{How, Meddler, World};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const OTHER: usize = 2;
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_daemon_that_is_stopped_before_its_source_has_let_go_is_spawned_anew_elsewhere() {
    for lost in [false, true] {
        in_world(World::new(1, 3), |world| {
            let origin = world.spawn(SOURCE, 1, "prompt");
            world.meddler = Some(Meddler { message: "CleanupComplete", nth: 0, how: How::Lose });
            world.migrate(SOURCE, origin, TARGET);
            world.run_for(SECOND);
            assert_eq!(world.hosting(origin), [TARGET]);
            if lost {
                world.lose_all(SOURCE);
            }
            let stop = world.act(TARGET, None, |engine, ticket, now| engine.stop(ticket, origin, now));
            assert!(world.wait_for(stop).is_ok());
            let (_, spawn) = world.try_spawn(OTHER, 1, "prompt", HostConfig::default());
            let spawned = world.wait_for(spawn);
            assert!(matches!(spawned, Ok(Settlement::Spawned(_))), "lost {lost}: {spawned:?}");
            assert_eq!(world.hosting(origin), [OTHER]);
        });
    }
}
