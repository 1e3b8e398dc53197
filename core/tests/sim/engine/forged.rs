//! States that a member of the mesh pushes though the daemon is not its own, and many that it never finishes.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::directory::{Claim, ClaimBody};
use mesh_daemon_core::identity::{EntityId, EntityKeypair, Epoch, Lineage, MigrationId};
use mesh_daemon_core::migration::MigrationSettings;
use mesh_daemon_core::runtime::{ArrivalPolicy, OrchestratorPolicy, RuntimeOptions};
use mesh_daemon_core::wire::migration::{MigrationMessage, MoveId};

use super::in_world;
use super::world::World;

fn move_id(entity: EntityId, migration: u128) -> MoveId {
    MoveId { entity, migration: MigrationId::new(migration), attempt: 1, epoch: Epoch::FIRST }
}

fn claim_of(entity: EntityId, host: EntityId, signer: &EntityKeypair) -> Option<Vec<u8>> {
    claim_at(Epoch::FIRST, entity, host, signer)
}

fn claim_at(epoch: Epoch, entity: EntityId, host: EntityId, signer: &EntityKeypair) -> Option<Vec<u8>> {
    let lineage = Lineage::new(1);
    let body = ClaimBody { entity, lineage, epoch, min_epoch: epoch, host, incarnation: None };
    Claim::sign(body, signer).ok().map(|claim| claim.encode())
}

/// Node 2 asks node 1 for a place for a daemon that it says it hosts, and for room for its state.
fn push(world: &mut World, id: MoveId, total: u64, claim: &[u8]) {
    let source = world.id(2);
    let prepare = MigrationMessage::Prepare { id, kind: "prompt", source, transport_identity: false, state_bytes: 0 };
    world.forge(2, 1, &prepare);
    world.forge(2, 1, &MigrationMessage::Reserve { id, total, claim, orchestrator: source });
}

#[test]
fn hazard_66_requirement_98_a_member_pushes_a_state_for_a_placeholder_or_for_a_daemon_that_is_not_its_own() {
    for announced in [true, false] {
        let arrivals = if announced { ArrivalPolicy::Announced } else { ArrivalPolicy::AnyKind };
        let options = |_| RuntimeOptions { arrivals, ..RuntimeOptions::default() };
        in_world(World::with_options(1, 4, options), |world| {
            world.may_refuse = true;
            let origin = world.spawn(0, 1, "prompt");
            if announced {
                let target = &mut world.nodes[1].engine;
                target.expect_migration("prompt", origin, HostConfig::default(), None).expect("announced");
            }
            let entity = World::daemon_key(1).entity_id();
            let (member, host) = (world.nodes[2].keypair.clone(), world.nodes[0].keypair.entity_id());
            // Another node that the daemon came to honestly has shown its claim to everybody.
            let genuine = claim_of(entity, host, &World::daemon_key(1)).expect("its own key");
            let mut claims = vec![Vec::new(), vec![0xff; 64], genuine];
            claims.extend(claim_of(member.entity_id(), member.entity_id(), &member));
            // What the daemon's key would have signed, without the key.
            let mut unsigned = claim_of(entity, member.entity_id(), &World::daemon_key(1)).expect("its own key");
            *unsigned.last_mut().expect("not empty") ^= 1;
            claims.push(unsigned);
            // Its own of another time, when the daemon lived there.
            claims.extend(claim_at(Epoch::new(2), entity, member.entity_id(), &World::daemon_key(1)));
            for (number, claim) in claims.iter().enumerate() {
                push(world, move_id(entity, number as u128), 100, claim);
                world.run_for(Duration::from_millis(10));
                assert_eq!(world.nodes[1].engine.census().arriving_bytes, 0, "claim {number}: no room is given");
                assert_eq!(world.nodes[1].objects.constructed, 0, "nothing is built");
            }
            // And one that is only half forged does not shut the daemon out either.
            let source = world.id(2);
            let id = move_id(entity, 99);
            let prepare =
                MigrationMessage::Prepare { id, kind: "prompt", source, transport_identity: true, state_bytes: 0 };
            world.forge(2, 1, &prepare);
            assert_eq!(world.moved(0, origin, 1), Ok(()), "the placeholder is still there for the daemon");
            let live = world.hosts(origin);
            assert_eq!(live.len(), 1);
            // Neither is a live daemon overwritten.
            push(world, move_id(entity, 100), 100, &claims[2]);
            let ticket = world.call(3, origin);
            world.outputs(ticket);
            world.run_for(Duration::from_secs(100));
            assert_eq!(world.hosts(origin), live);
            world.assert_nothing_left();
        });
    }
}

/// A member with a thousand daemons of its own asks for room for all of them, sends the first piece of those that get some,
/// and no more.
fn half_finished(world: &mut World, budget: u64) {
    let member = world.nodes[2].keypair.entity_id();
    let piece = vec![0; mesh_daemon_core::snapshot::SNAPSHOT_CHUNK_LEN];
    let total = piece.len() as u64 + 1;
    for number in 0..1000_u128 {
        let mut seed = [9; 32];
        seed[..16].copy_from_slice(&number.to_le_bytes());
        let daemon = EntityKeypair::from_seed(&seed);
        let id = move_id(daemon.entity_id(), number);
        let claim = claim_of(daemon.entity_id(), member, &daemon).expect("its own key");
        push(world, id, total, &claim);
        world.forge(2, 1, &MigrationMessage::Chunk { id, index: 0, total: 2, bytes: &piece });
        let census = world.nodes[1].engine.census();
        assert!(census.arriving_bytes <= budget, "{} bytes arrive", census.arriving_bytes);
    }
}

#[test]
fn hazards_35_62_a_thousand_half_finished_arrivals_stay_within_the_bound_and_are_freed() {
    let budget = 1_000_000;
    let migration = MigrationSettings { arrival_budget: budget, ..MigrationSettings::default() };
    let options = RuntimeOptions {
        arrivals: ArrivalPolicy::AnyKind,
        orchestrators: OrchestratorPolicy::Own,
        migration,
        ..RuntimeOptions::default()
    };
    in_world(World::with_options(1, 3, |_| options.clone()), |world| {
        world.may_refuse = true;
        world.nodes[0].objects.fresh.ballast = 900_000;
        let origin = world.spawn(0, 1, "prompt");
        half_finished(world, budget);
        let census = world.nodes[1].engine.census();
        assert!(census.arriving_bytes > budget / 2 && census.migrations >= 1000, "{census:?}");
        // Nothing more is heard of them, so they are given up, and nobody but them waits for that.
        world.run_for(Duration::from_secs(200));
        world.assert_nothing_left();
        assert_eq!(world.moved(0, origin, 1), Ok(()), "there is room again");
        world.run_for(Duration::from_secs(1));
        world.assert_nothing_left();
    });
}

/// A member asks a node for places for so many daemons.
fn ask_for_places(world: &mut World, member: usize, node: usize, count: u32) {
    let source = world.id(member);
    for number in 0..count {
        let mut seed = [member as u8; 32];
        seed[..4].copy_from_slice(&number.to_le_bytes());
        let id = move_id(EntityKeypair::from_seed(&seed).entity_id(), u128::from(number) << 8 | member as u128);
        let prepare =
            MigrationMessage::Prepare { id, kind: "prompt", source, transport_identity: false, state_bytes: 0 };
        world.forge(member, node, &prepare);
    }
}

#[test]
fn hazard_35_a_flood_of_questions_of_one_member_fills_no_node_and_shuts_nobody_else_out() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(0, 1, "prompt");
        ask_for_places(world, 2, 1, 5_000);
        assert_eq!(world.nodes[1].engine.census().migrations, 1024);
        assert_eq!(world.moved(0, origin, 1), Ok(()), "an honest one is not behind it");
        let refused = world.messages.iter().filter(|message| **message == (1, 2, "MigrationFailed")).count();
        assert!(refused >= 5_000 - 1024, "the others were told so: {refused}");
        let own = world.spawn(2, 2, "prompt");
        world.run_for(Duration::from_secs(1));
        let ticket = world.migrate(2, own, 1);
        let migration = world.migration(ticket).expect("it begins");
        world.run_for(Duration::from_secs(1));
        assert!(!world.nodes[2].over.contains_key(&migration.get()), "who floods has to wait");
        world.run_for(Duration::from_secs(100));
        assert_eq!(world.nodes[1].engine.census().migrations, 0);
        assert!(world.nodes[1].open.is_empty(), "and whoever watches heard the end of each");
    });
}

#[test]
fn hazard_35_floods_of_many_members_together_are_bounded_and_what_was_announced_still_comes() {
    in_world(World::new(1, 11), |world| {
        let origin = world.spawn(0, 1, "prompt");
        for member in 2..11 {
            ask_for_places(world, member, 1, 1_100);
        }
        assert_eq!(world.nodes[1].engine.census().migrations, 8192);
        let target = &mut world.nodes[1].engine;
        target.expect_migration("prompt", origin, HostConfig::default(), None).expect("announced");
        assert_eq!(world.moved(0, origin, 1), Ok(()));
        world.run_for(Duration::from_secs(100));
        world.assert_nothing_left();
    });
}

#[test]
fn hazard_33_a_place_that_a_stranger_was_promised_shuts_out_no_driver_before_or_behind_it() {
    for first in [true, false] {
        for driver in [0, 1, 2] {
            in_world(World::open(1, 4), |world| {
                let origin = world.spawn(0, 1, "prompt");
                let entity = World::daemon_key(1).entity_id();
                let (source, stranger) = (world.id(0), world.id(3));
                let forge = |world: &mut World, migration| {
                    for (number, source) in [source, stranger].into_iter().enumerate() {
                        let id = move_id(entity, migration + number as u128);
                        let kind = "prompt";
                        let prepare =
                            MigrationMessage::Prepare { id, kind, source, transport_identity: true, state_bytes: 0 };
                        world.forge(3, 1, &prepare);
                    }
                };
                if first {
                    forge(world, 1000);
                }
                // Long enough that both places are there before the source has shown itself.
                world.nodes[0].objects.faults.snapshot_takes = Some(Duration::from_secs(1));
                let migration = world.driving(driver, origin, 0, 1);
                if !first {
                    world.run_for(Duration::from_millis(100));
                    forge(world, migration.get());
                    forge(world, 2000);
                }
                assert_eq!(world.wait_migration(driver, migration), Ok(()), "driven by {driver}");
                world.run_for(Duration::from_secs(100));
                assert_eq!(world.hosting(origin), [1]);
                world.assert_nothing_left();
            });
        }
    }
}
