//! Claims whose epoch jumps further than any number of moves leads: whoever has a daemon's key could shut out all others
//! with one, so nobody believes it. Each scenario also runs with a claim that is only later, which counts.

use std::time::Duration;

use mesh_daemon_core::directory::{Claim, ClaimBody};
use mesh_daemon_core::identity::{Epoch, Lineage, OriginHash};
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::wire::directory::DirectoryMessage;

use super::in_world;
use super::world::{How, Meddler, NEVER, World};

const SECOND: Duration = Duration::from_secs(1);
/// Where the daemon lives.
const HOST: usize = 0;
const TARGET: usize = 1;
const ASKED: usize = 2;
/// The node that somebody with the daemon's key names as its host.
const NAMED: usize = 3;

/// The furthest step that is believed, and one more.
const STEPS: [(u64, bool); 2] = [(1 << 32, true), ((1 << 32) + 1, false)];

/// A claim, with the daemon's key, for the named node, so far behind the first epoch.
fn claim(world: &World, lineage: Lineage, step: u64) -> Vec<u8> {
    let (key, host) = (World::daemon_key(1), world.identity(NAMED));
    let body = ClaimBody {
        entity: key.entity_id(),
        lineage,
        epoch: Epoch::new(Epoch::FIRST.get() + step),
        min_epoch: Epoch::FIRST,
        host: host.entity,
        incarnation: Some(host.incarnation),
    };
    Claim::sign(body, &key).expect("a full key pair").encode()
}

/// A daemon that was called by everybody; its life.
fn called(world: &mut World) -> (OriginHash, Lineage) {
    let origin = world.spawn(HOST, 1, "prompt");
    world.spying = true;
    for node in 0..world.nodes.len() {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
    }
    (origin, world.streams.last().expect("they were called").stream.lineage)
}

#[test]
fn hazard_33_a_claim_of_too_far_an_epoch_ends_no_copy() {
    for (step, believed) in STEPS {
        in_world(World::new(1, 4).refusing(), |world| {
            let (origin, lineage) = called(world);
            let claim = claim(world, lineage, step);
            world.forge_directory(NAMED, HOST, &DirectoryMessage::Claim { claim: &claim });
            world.run_for(SECOND);
            let expected: &[usize] = if believed { &[] } else { &[HOST] };
            assert_eq!(world.hosting(origin), expected, "{step}");
            assert_eq!(world.nodes[HOST].engine.census().refused_messages, u64::from(!believed), "{step}");
        });
    }
}

#[test]
fn hazard_33_a_sender_whose_host_is_silent_follows_no_claim_of_too_far_an_epoch() {
    for (step, believed) in STEPS {
        in_world(World::new(1, 4).refusing(), |world| {
            let (origin, lineage) = called(world);
            world.cut(HOST, ASKED, NEVER);
            world.run_for(SECOND);
            let waiting = world.call(ASKED, origin);
            let claim = claim(world, lineage, step);
            // Whenever that node looks for the daemon, this is there.
            for _ in 0..100 {
                world.forge_directory(NAMED, ASKED, &DirectoryMessage::Claim { claim: &claim });
                world.run_for(SECOND / 10_000);
            }
            let spoken_to = world.streams.iter().any(|spied| spied.from == ASKED && spied.to == NAMED);
            assert_eq!(spoken_to, believed, "{step}");
            world.connect(HOST, ASKED, true);
            if !believed {
                world.outputs(waiting);
            }
        });
    }
}

#[test]
fn hazard_33_a_source_whose_target_is_dead_yields_to_no_claim_of_too_far_an_epoch() {
    // What it goes on at when it takes over is itself later by some.
    for (step, believed) in [(7, true), (1 << 33, false)] {
        in_world(World::new(1, 4).refusing(), |world| {
            let (origin, lineage) = called(world);
            world.meddler = Some(Meddler { message: "ActivateTarget", nth: 0, how: How::Lose });
            world.migrate(HOST, origin, TARGET);
            assert!(world.run_until(SECOND, |world| world.meddled == 1), "the source has decided");
            // One node that the source asks remembers what it was told by a host that the source does not reach.
            world.lose(HOST, NAMED, Loss::Silence);
            let claim = claim(world, lineage, step);
            world.forge_directory(NAMED, ASKED, &DirectoryMessage::Claim { claim: &claim });
            world.restart(TARGET);
            world.run_for(20 * SECOND);
            let expected: &[usize] = if believed { &[] } else { &[HOST] };
            assert_eq!(world.hosting(origin), expected, "{step}");
        });
    }
}

/// Signing a claim for every daemon would cost each spawn as much as the rest of it.
#[test]
fn a_claim_is_signed_when_somebody_asks_for_the_daemon_and_not_before() {
    for members in [false, true] {
        in_world(World::new(1, 3), |world| {
            if members {
                world.take_part();
            }
            let origins: Vec<OriginHash> = (0..20).map(|number| world.spawn_numbered(HOST, number)).collect();
            world.run_for(SECOND);
            let signed = |world: &World| world.nodes[HOST].engine.census().signed_claims;
            assert_eq!(signed(world), 0);
            for _ in 0..2 {
                assert_eq!(world.located(ASKED, origins[7]), Some(world.id(HOST)));
                assert_eq!(signed(world), 1, "once");
            }
        });
    }
}
