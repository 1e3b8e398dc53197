//! The source's own word that a daemon is the target's, told back to it by others: it shows no activation.

use std::time::Duration;

use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::wire::codec;
use mesh_daemon_core::wire::directory::DirectoryMessage;
use mesh_daemon_core::wire::migration::MigrationMessage;

use super::in_world;
use super::load::answers_are_true;
use super::world::{How, Meddler, World};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const THIRD: usize = 2;
const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(100_000);

fn hosts(world: &World, origin: OriginHash) -> Vec<usize> {
    world.hosts(origin).iter().map(|(host, _)| *host).collect()
}

/// A daemon that its source has released, and whose target has not heard of that; with the claim that the source made for it,
/// which whoever asks the source for the daemon is shown.
fn released(world: &mut World) -> (OriginHash, Vec<u8>) {
    let origin = world.spawn(SOURCE, 1, "prompt");
    for node in SOURCE..=THIRD {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
    }
    world.meddler = Some(Meddler { message: "ActivateTarget", nth: 0, how: How::Lose });
    world.migrate(SOURCE, origin, TARGET);
    assert!(world.run_until(SECOND, |world| world.meddled == 1), "the source has decided");
    let said = world.sent.iter().rfind(|sent| sent.name == "ActivateTarget").expect("it was said");
    match codec::decode(&said.record.body) {
        Ok(MigrationMessage::ActivateTarget { claim, .. }) => (origin, claim.to_vec()),
        other => panic!("{other:?}"),
    }
}

fn lives_on_once(world: &mut World, origin: OriginHash) {
    assert!(world.run_until(10 * SECOND, |world| hosts(world, origin) == [TARGET]), "the target's copy goes live");
    world.run_for(SECOND);
    assert_eq!(hosts(world, origin), [TARGET]);
    for node in SOURCE..=THIRD {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
    }
    assert_eq!(world.seen(origin).len(), 6);
    answers_are_true(world);
    world.assert_nothing_left();
}

#[test]
fn hazards_33_64_a_source_does_not_let_go_because_somebody_shows_it_its_own_claim() {
    in_world(World::new(1, 3).refusing(), |world| {
        let (origin, claim) = released(world);
        world.forge_directory(THIRD, SOURCE, &DirectoryMessage::Claim { claim: &claim });
        world.cut(SOURCE, TARGET, SECOND);
        lives_on_once(world, origin);
    });
}

#[test]
fn hazards_33_64_nor_when_the_target_is_out_of_reach_or_was_given_up() {
    for (given_up, members) in [(false, false), (true, false), (false, true), (true, true)] {
        in_world(World::new(1, 3).refusing(), |world| {
            if members {
                world.take_part();
            }
            let (origin, claim) = released(world);
            if given_up {
                world.lose(SOURCE, TARGET, Loss::Silence);
            } else {
                world.cut(SOURCE, TARGET, LONG);
                world.run_for(SECOND / 10);
            }
            world.forge_directory(THIRD, SOURCE, &DirectoryMessage::Claim { claim: &claim });
            world.run_for(SECOND);
            assert!(!world.nodes[SOURCE].engine.migrations().is_empty(), "it keeps its copy");
            world.connect(SOURCE, TARGET, !given_up);
            lives_on_once(world, origin);
        });
    }
}

/// The word of the target itself counts, and so does a later one of whoever has the daemon from it.
#[test]
fn a_source_lets_go_at_the_word_of_the_target() {
    in_world(World::new(1, 3).refusing(), |world| {
        let (origin, claim) = released(world);
        world.forge_directory(TARGET, SOURCE, &DirectoryMessage::Claim { claim: &claim });
        assert!(world.nodes[SOURCE].engine.migrations().is_empty(), "it has let go");
        assert_eq!(hosts(world, origin), []);
    });
}
