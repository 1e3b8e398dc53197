//! Keys that cannot be sealed, and envelopes that do not open: the move fails with the reason, no key goes out unsealed, and
//! the daemon runs on where it was.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::identity::{Epoch, MigrationId, OriginHash};
use mesh_daemon_core::mesh::{Loss, PeerEvent, PeerIdentity};
use mesh_daemon_core::migration::{MigrationFailure, MigrationOptions, Outcome};
use mesh_daemon_core::runtime::RuntimeError;
use mesh_daemon_core::wire::migration::{FailureReason, MigrationMessage, MoveId};

use super::in_world;
use super::world::World;

fn fails_to_move_the_key(result: Result<(), MigrationFailure>) -> String {
    match result {
        Err(MigrationFailure::Refused(FailureReason::IdentityTransportFailed { detail }, Outcome::Source)) => detail,
        other => panic!("{other:?}"),
    }
}

/// The source and the orchestrator have no record of it any more, and the daemon answers where it was.
fn lives_on(world: &mut World, origin: OriginHash, host: usize) {
    for node in 0..3 {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
    }
    assert_eq!(world.hosting(origin), [host]);
    world.run_for(Duration::from_secs(1));
    world.assert_nothing_left();
}

/// Has node 0 believe that node 1 seals to this key.
fn believe(world: &mut World, static_key: [u8; 32]) {
    world.lose(0, 1, Loss::Silence);
    world.connect(0, 1, false);
    let (peer, now) = (PeerIdentity { static_key, ..world.identity(1) }, world.present());
    let node = peer.node;
    let engine = &mut world.nodes[0].engine;
    engine.peer(&PeerEvent::Connected { peer, resumed: true }, now);
    engine.peer(&PeerEvent::Ready { node }, now);
    world.settle(0);
}

fn sent(world: &World, name: &str) -> usize {
    world.messages.iter().filter(|(.., sent)| *sent == name).count()
}

#[test]
fn hazard_31_requirement_48_a_key_that_is_not_there_is_refused_before_anything_is_frozen() {
    for driver in [1, 2] {
        in_world(World::open(1, 3), |world| {
            let origin = world.spawn(0, 1, "prompt");
            let without = MigrationOptions { transport_identity: false, ..MigrationOptions::default() };
            let ticket = world.migrate_with(0, origin, 1, without);
            let migration = world.migration(ticket).expect("it begins");
            assert_eq!(world.wait_migration(0, migration), Ok(()));
            world.run_for(Duration::from_secs(1));
            world.messages.clear();
            let detail = fails_to_move_the_key(world.driven(driver, origin, 1, 0));
            assert!(detail.contains("key"), "{detail}");
            assert_eq!((sent(world, "TakeSnapshot"), sent(world, "SnapshotReady")), (0, 0));
            lives_on(world, origin, 1);
        });
    }
}

#[test]
fn hazard_31_requirements_27_28_48_a_seal_that_fails_is_told_to_the_orchestrator_and_nothing_goes_out_unsealed() {
    for driver in [0, 2] {
        in_world(World::open(1, 3), |world| {
            let origin = world.spawn(0, 1, "prompt");
            // A point of low order: whatever is sealed to it is open to all.
            believe(world, [0; 32]);
            world.messages.clear();
            let detail = fails_to_move_the_key(world.driven(driver, origin, 0, 1));
            assert!(detail.contains(&origin.to_string()), "requirement 27: {detail}");
            assert_eq!(sent(world, "SnapshotReady"), 0, "the state without its seal is worth nothing");
            let told = |to| world.messages.iter().filter(|sent| **sent == (0, to, "MigrationFailed")).count();
            let driven_elsewhere = usize::from(driver != 0);
            assert_eq!(told(driver), driven_elsewhere, "requirement 28: its driver is told once");
            lives_on(world, origin, 0);
        });
    }
}

#[test]
fn hazard_32_requirement_30_a_bad_envelope_never_falls_back_to_a_provisioned_key() {
    for driver in [0, 2] {
        in_world(World::open(1, 3), |world| {
            let origin = world.spawn(0, 1, "prompt");
            let key = Some(World::daemon_key(1));
            let target = &mut world.nodes[1].engine;
            target.expect_migration("prompt", origin, HostConfig::default(), key).expect("announced");
            let other = world.identity(2).static_key;
            believe(world, other);
            fails_to_move_the_key(world.driven(driver, origin, 0, 1));
            assert_eq!(sent(world, "RestoreComplete"), 0);
            lives_on(world, origin, 0);
            // With a good envelope the same place serves, and the key has come.
            let right = world.identity(1).static_key;
            believe(world, right);
            assert_eq!(world.driven(driver, origin, 0, 1), Ok(()));
            assert_eq!(world.driven(1, origin, 1, 2), Ok(()), "it can be sealed on");
            lives_on(world, origin, 2);
        });
    }
}

#[test]
fn hazard_32_requirement_31_an_envelope_that_was_announced_and_does_not_come_is_an_error() {
    in_world(World::open(1, 3), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let entity = World::daemon_key(1).entity_id();
        let id = MoveId { entity, migration: MigrationId::new(7), attempt: 1, epoch: Epoch::FIRST };
        let (source, target) = (world.id(0), world.id(1));
        // There is a key to fall back to.
        let key = Some(World::daemon_key(1));
        world.nodes[1].engine.expect_migration("prompt", origin, HostConfig::default(), key).expect("announced");
        let prepare =
            MigrationMessage::Prepare { id, kind: "prompt", source, transport_identity: true, state_bytes: 0 };
        world.forge(2, 1, &prepare);
        world.forge(2, 0, &MigrationMessage::TakeSnapshot { id, target, transport_identity: false });
        world.run_for(Duration::from_secs(2));
        assert_eq!((sent(world, "SnapshotReady"), sent(world, "RestoreComplete")), (1, 0));
        lives_on(world, origin, 0);
    });
}

#[test]
fn requirements_1_30_a_key_is_provisioned_under_its_own_address_and_serves_where_no_envelope_comes() {
    in_world(World::open(1, 3), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let target = &mut world.nodes[1].engine;
        let wrong = target.expect_migration("prompt", origin, HostConfig::default(), Some(World::daemon_key(2)));
        assert!(matches!(wrong, Err(RuntimeError::InvalidArgument(_))), "{wrong:?}");
        let key = Some(World::daemon_key(1));
        target.expect_migration("prompt", origin, HostConfig::default(), key).expect("nothing was entered");
        let without = MigrationOptions { transport_identity: false, ..MigrationOptions::default() };
        let ticket = world.migrate_with(0, origin, 1, without);
        let migration = world.migration(ticket).expect("it begins");
        assert_eq!(world.wait_migration(0, migration), Ok(()));
        // The key that was provisioned is there: it can be sealed on.
        assert_eq!(world.driven(1, origin, 1, 2), Ok(()));
        lives_on(world, origin, 2);
    });
}
