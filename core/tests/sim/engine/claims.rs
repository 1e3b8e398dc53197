//! Claims that are shown late, and hosts that could not show one.

use std::time::Duration;

use mesh_daemon_core::directory::{Claim, ClaimBody};
use mesh_daemon_core::identity::{Epoch, Lineage};
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::migration::{MigrationFailure, MigrationOptions, Outcome};
use mesh_daemon_core::runtime::RuntimeError;
use mesh_daemon_core::wire::directory::DirectoryMessage;
use mesh_daemon_core::wire::migration::FailureReason;

use super::in_world;
use super::world::{Trap, World};

const SECOND: Duration = Duration::from_secs(1);

/// A claim of the first daemon for the present life of a node.
fn claim_for(world: &World, host: usize, epoch: Epoch) -> Vec<u8> {
    let key = World::daemon_key(1);
    let host = world.identity(host);
    let body = ClaimBody {
        entity: key.entity_id(),
        lineage: Lineage::new(7),
        epoch,
        min_epoch: epoch,
        host: host.entity,
        incarnation: Some(host.incarnation),
    };
    Claim::sign(body, &key).expect("a full key pair").encode()
}

#[test]
fn hazard_69_the_replayed_claim_of_a_host_that_is_proven_dead_fences_nobody() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum End {
        Alive,
        /// Its peers hear that it ended.
        Told,
        /// They had given it up before, and only meet its next life.
        Met,
    }
    for end in [End::Alive, End::Told, End::Met] {
        in_world(World::new(1, 3), |world| {
            let claim = claim_for(world, 2, Epoch::new(9));
            match end {
                End::Alive => {}
                End::Told => world.restart(2),
                End::Met => world.restart_after_silence(2),
            }
            world.run_for(SECOND);
            let origin = world.spawn(0, 1, "prompt");
            world.forge_directory(1, 0, &DirectoryMessage::Claim { claim: &claim });
            world.run_for(SECOND);
            let expected: &[usize] = if end == End::Alive { &[] } else { &[0] };
            assert_eq!(world.hosting(origin), expected, "{end:?}");
        });
    }
}

#[test]
fn hazard_69_a_copy_that_was_taken_over_elsewhere_finds_no_target_among_those_who_know() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(0, 1, "prompt");
        // The source is out of reach of the host that took over.
        world.lose(0, 2, Loss::Silence);
        let claim = claim_for(world, 2, Epoch::new(5));
        world.forge_directory(2, 1, &DirectoryMessage::Claim { claim: &claim });
        match world.moved(0, origin, 1) {
            Err(MigrationFailure::Refused(FailureReason::PeerLost { detail, node: None }, Outcome::Unknown)) => {
                assert!(detail.contains("higher epoch"), "{detail}");
            }
            other => panic!("{other:?}"),
        }
        world.run_for(SECOND);
        assert_eq!(world.hosting(origin), [], "the source was shown the later claim");
    });
}

#[test]
fn recover_on_a_target_without_the_key_is_refused_as_nobody_would_believe_it() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let options = MigrationOptions { transport_identity: false, ..MigrationOptions::default() };
        world.trap = Some(Trap { message: "ActivateTarget", nth: 0, arrives: false, heal_after: 60 * SECOND });
        let ticket = world.migrate_with(0, origin, 1, options);
        let migration = world.migration(ticket).expect("it begins");
        assert!(world.wait_migration(0, migration).is_err());
        world.lose(0, 1, Loss::Silence);
        match world.recover(1, origin) {
            Err(RuntimeError::Migration(MigrationFailure::Refused(reason, Outcome::Unknown))) => {
                assert!(matches!(reason, FailureReason::IdentityTransportFailed { .. }), "{reason:?}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(world.hosting(origin), []);
        // Whoever has the key can.
        assert_eq!(world.recover(0, origin), Ok(()));
        let ticket = world.call(2, origin);
        world.outputs(ticket);
    });
}

/// It names a node that nobody can ask, and refuses every copy of a lower epoch.
#[test]
fn a_former_host_does_not_remember_a_next_host_at_an_epoch_that_no_moves_lead_to() {
    in_world(World::new(1, 3).refusing(), |world| {
        world.spying = true;
        let origin = world.spawn(0, 1, "prompt");
        let ticket = world.call(1, origin);
        world.outputs(ticket);
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        world.cut(0, 2, 1000 * SECOND);
        world.run_for(SECOND);
        let far = world.claim_far_ahead(1, world.streams[0].stream.lineage, 2);
        let asked = world.act(0, None, |engine, ticket, now| engine.locate(ticket, origin, now));
        world.forge_answers(1, 0, &far);
        world.wait_for(asked).as_ref().expect("answered");
        assert_eq!(world.located(0, origin), Some(world.id(1)), "its host says so");
        let ticket = world.call(0, origin);
        world.outputs(ticket);
    });
}
