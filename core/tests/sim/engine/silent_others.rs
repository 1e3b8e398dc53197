//! A source whose target is proven dead looks for the daemon: who is silent is waited for, whatever others say.

use std::time::Duration;

use mesh_daemon_core::directory::{Claim, ClaimBody};
use mesh_daemon_core::identity::{Epoch, OriginHash};
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::runtime::StopReason;
use mesh_daemon_core::wire::directory::DirectoryMessage;

use super::in_world;
use super::world::{Trap, World};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const THIRD: usize = 2;
const NEXT: usize = 3;
const SECOND: Duration = Duration::from_secs(1);

fn hosts(world: &World, origin: OriginHash) -> Vec<usize> {
    world.hosts(origin).iter().map(|(host, _)| *host).collect()
}

/// The third node remembers the daemon where it was before the move, and says so when it is asked.
#[test]
fn hazard_64_somebody_who_remembers_a_former_host_does_not_end_the_waiting_for_the_silent() {
    in_world(World::new(1, 4), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        world.spying = true;
        for node in 0..4 {
            let ticket = world.call(node, origin);
            world.outputs(ticket);
        }
        let key = World::daemon_key(1);
        let (host, incarnation) = (world.nodes[SOURCE].keypair.entity_id(), Some(world.nodes[SOURCE].incarnation));
        let lineage = world.streams.last().expect("they were called").stream.lineage;
        let (entity, epoch, min_epoch) = (key.entity_id(), Epoch::FIRST, Epoch::FIRST);
        let body = ClaimBody { entity, lineage, epoch, min_epoch, host, incarnation };
        let claim = Claim::sign(body, &key).expect("a full key pair").encode();
        world.trap = Some(Trap { message: "ActivateAck", nth: 0, arrives: false, heal_after: 100_000 * SECOND });
        world.migrate(SOURCE, origin, TARGET);
        assert!(world.run_until(SECOND, |world| world.sprung), "the target is live, and the source does not know");
        world.run_for(700 * SECOND);
        world.lose(THIRD, NEXT, Loss::Silence);
        assert_eq!(world.moved(TARGET, origin, NEXT), Ok(()));
        world.run_for(1500 * SECOND);
        world.forge_directory(SOURCE, THIRD, &DirectoryMessage::Claim { claim: &claim });
        world.cut(SOURCE, NEXT, 25 * SECOND);
        world.run_for(SECOND);
        world.restart(TARGET);
        world.run_for(20 * SECOND);
        assert_eq!(hosts(world, origin), [NEXT], "it may be there");
        world.run_for(20 * SECOND);
        assert_eq!(hosts(world, origin), [NEXT]);
        assert!(world.retired.iter().all(|(_, reason)| *reason != StopReason::Fenced), "nobody had to be fenced");
        assert!(world.nodes[SOURCE].engine.migrations().is_empty(), "the source has let go");
    });
}
