//! A driver that did not hear how its attempt ended and asks again: it is not told that the source has a daemon which has left.

use std::time::Duration;

use mesh_daemon_core::directory::{Claim, ClaimBody};
use mesh_daemon_core::identity::{Epoch, Lineage, MigrationId, OriginHash};
use mesh_daemon_core::migration::{MigrationFailure, Outcome};
use mesh_daemon_core::wire::codec;
use mesh_daemon_core::wire::directory::DirectoryMessage;
use mesh_daemon_core::wire::migration::{FailureReason, MigrationMessage, MoveId};

use super::in_world;
use super::world::{Trap, World};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const DRIVER: usize = 2;
const OTHER: usize = 3;
const SECOND: Duration = Duration::from_secs(1);

fn hosts(world: &World, origin: OriginHash) -> Vec<usize> {
    world.hosts(origin).iter().map(|(host, _)| *host).collect()
}

/// A move up to the instant at which this message is sent. Its driver hears nothing of the source from then on.
fn unheard(world: &mut World, message: &'static str) -> (OriginHash, MoveId) {
    let origin = world.spawn(SOURCE, 1, "prompt");
    let ticket = world.call(TARGET, origin);
    world.outputs(ticket);
    let ticket = world.drive(DRIVER, origin, SOURCE, TARGET);
    let migration = world.migration(ticket).expect("it begins");
    let sent = |world: &World| world.messages.iter().any(|(.., name)| *name == message);
    assert!(world.run_until(5 * SECOND, sent), "{message} is sent");
    world.mute = Some((SOURCE, DRIVER));
    let entity = World::daemon_key(1).entity_id();
    (origin, MoveId { entity, migration, attempt: 1, epoch: Epoch::FIRST })
}

/// The session breaks and is there again: the driver repeats what it said last. Returns what it makes of the answer.
fn asks_again(world: &mut World, migration: MigrationId) -> Option<Outcome> {
    assert!(!world.nodes[DRIVER].over.contains_key(&migration.get()), "its driver has not heard of it");
    world.mute = None;
    world.cut(SOURCE, DRIVER, SECOND / 10);
    world.wait_migration(DRIVER, migration).as_ref().err().map(MigrationFailure::outcome)
}

#[test]
fn hazard_39_a_repeated_word_for_a_move_that_ended_before_another_one_took_the_daemon_away_does_not_say_source() {
    let ends = [(None, Outcome::Source), (Some(TARGET), Outcome::Target), (Some(OTHER), Outcome::Unknown)];
    for message in ["Reserve", "CutoverNotify"] {
        for (leaves, right) in ends {
            in_world(World::open(1, 4), |world| {
                let (origin, id) = unheard(world, message);
                // The target gives up, so the daemon resumes.
                let reason = FailureReason::StateFailed { detail: "no".into() };
                world.forge(TARGET, SOURCE, &MigrationMessage::MigrationFailed { id, reason });
                world.run_for(SECOND / 10);
                assert_eq!(hosts(world, origin), [SOURCE]);
                if let Some(to) = leaves {
                    assert_eq!(world.driven(SOURCE, origin, SOURCE, to), Ok(()));
                    world.run_for(SECOND / 10);
                }
                let outcome = asks_again(world, id.migration);
                assert_eq!(outcome, Some(right), "{message}, it left for {leaves:?}");
                assert_eq!(hosts(world, origin), [leaves.unwrap_or(SOURCE)]);
                world.run_for(100 * SECOND);
                world.assert_nothing_left();
            });
        }
    }
}

#[test]
fn hazard_39_a_repeated_word_for_a_move_whose_daemon_was_fenced_does_not_say_source() {
    for message in ["Reserve", "CutoverNotify"] {
        in_world(World::open(1, 4).refusing(), |world| {
            let (origin, id) = unheard(world, message);
            let (epoch, lineage) = (Epoch::new(7), Lineage::new(9));
            let (host, incarnation) = (world.nodes[OTHER].keypair.entity_id(), Some(world.nodes[OTHER].incarnation));
            let body = ClaimBody { entity: id.entity, lineage, epoch, min_epoch: epoch, host, incarnation };
            let claim = Claim::sign(body, &World::daemon_key(1)).expect("a full key pair").encode();
            world.forge_directory(OTHER, SOURCE, &DirectoryMessage::Claim { claim: &claim });
            world.run_for(SECOND / 10);
            assert_eq!(hosts(world, origin), []);
            // The claim lied: it lives nowhere.
            assert_eq!(asks_again(world, id.migration), Some(Outcome::Lost), "{message}");
        });
    }
}

#[test]
fn hazard_39_whoever_would_move_a_daemon_that_another_move_has_released_is_not_told_that_its_source_has_it() {
    in_world(World::open(1, 4), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        world.trap = Some(Trap { message: "ActivateTarget", nth: 0, arrives: false, heal_after: 20 * SECOND });
        world.drive(DRIVER, origin, SOURCE, TARGET);
        assert!(world.run_until(SECOND, |world| world.sprung), "it is released");
        let entity = World::daemon_key(1).entity_id();
        let id = MoveId { entity, migration: MigrationId::new(77), attempt: 1, epoch: Epoch::FIRST };
        let target = world.id(TARGET);
        world.forge(OTHER, SOURCE, &MigrationMessage::TakeSnapshot { id, target, transport_identity: true });
        world.run_for(SECOND / 10);
        let said = world.sent.iter().rfind(|sent| sent.name == "MigrationFailed" && sent.to == OTHER);
        match codec::decode(&said.expect("an answer").record.body) {
            Ok(MigrationMessage::MigrationFailed { id: of, reason }) => {
                assert_eq!((of, reason), (id, FailureReason::DaemonNotFound));
            }
            other => panic!("{other:?}"),
        }
    });
}
