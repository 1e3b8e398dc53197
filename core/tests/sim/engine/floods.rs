//! Members that say much more than they need to: what they fill is bounded, and others find room beside it.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::identity::{Epoch, MigrationId, NodeId, OriginHash};
use mesh_daemon_core::mesh::Record;
use mesh_daemon_core::migration::{MigrationFailure, Outcome};
use mesh_daemon_core::runtime::{ArrivalPolicy, OrchestratorPolicy, Role, RuntimeOptions, SpawnRequest};
use mesh_daemon_core::wire::codec;
use mesh_daemon_core::wire::directory::DirectoryMessage;
use mesh_daemon_core::wire::migration::{FailureReason, MigrationMessage, MoveId, Stage};
use mesh_daemon_core::wire::{Lane, Subprotocol};

use super::in_world;
use super::world::{How, Meddler, World};

/// Has no part in any move.
const FLOODER: usize = 3;
const SILENCE: Duration = Duration::from_secs(15);

/// Everything that is not this node's own is a question for its policy.
fn asking() -> World {
    World::with_options(1, 4, |_| RuntimeOptions {
        arrivals: ArrivalPolicy::Ask,
        orchestrators: OrchestratorPolicy::Ask,
        ..RuntimeOptions::default()
    })
}

fn move_id(migration: u128, attempt: u32) -> MoveId {
    let entity = World::daemon_key(1).entity_id();
    MoveId { entity, migration: MigrationId::new(migration), attempt, epoch: Epoch::FIRST }
}

fn inquire(origin: OriginHash, migration: u128, target: NodeId) -> MigrationMessage<'static> {
    let migration = MigrationId::new(migration);
    MigrationMessage::Inquire { origin, migration, attempt: 1, target, transport_identity: true }
}

fn prepare(id: MoveId, source: NodeId, state_bytes: u64) -> MigrationMessage<'static> {
    MigrationMessage::Prepare { id, kind: "prompt", source, transport_identity: true, state_bytes }
}

fn said(world: &World, message: (usize, usize, &'static str)) -> usize {
    world.messages.iter().filter(|said| **said == message).count()
}

/// A node hears messages without doing anything about them: its user's thread is blocked, and so is its network.
fn hear(world: &mut World, node: usize, from: usize, subprotocol: Subprotocol, body: Vec<u8>) {
    let (from, now) = (world.id(from), world.present());
    let mut records = vec![Record { subprotocol, body: body.into() }];
    world.nodes[node].engine.records(from, Lane::Fast, &mut records, now);
}

#[test]
fn a_policy_that_never_answers_holds_nobody_for_ever_and_one_member_leaves_room_for_others() {
    in_world(asking(), |world| {
        let origin = world.spawn(0, 1, "prompt");
        world.nodes[0].policy_is_silent = true;
        let target = world.id(1);
        for migration in 0..2_000 {
            for _ in 0..2 {
                world.forge(FLOODER, 0, &inquire(origin, migration, target));
            }
        }
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.nodes[0].questions.len(), 1024, "each question once, and not all of them");
        assert_eq!(said(world, (0, FLOODER, "Declined")), 2 * (2_000 - 1024));
        world.forge(2, 0, &inquire(origin, 5_000, target));
        assert_eq!(world.nodes[0].questions.len(), 1025, "others are asked about");
        world.run_for(SILENCE + Duration::from_secs(1));
        assert_eq!(said(world, (0, FLOODER, "Declined")), 2 * (2_000 - 1024) + 1024, "no answer is one in the end");
        assert_eq!(said(world, (0, 2, "Declined")), 1);
        world.forge(FLOODER, 0, &inquire(origin, 6_000, target));
        assert_eq!(world.nodes[0].questions.len(), 1026, "and there is room again");
        world.nodes[0].policy_is_silent = false;
        assert_eq!(world.driven(2, origin, 0, 1), Ok(()));
    });
}

#[test]
fn a_question_that_is_repeated_is_put_once_and_the_newest_attempt_is_answered() {
    in_world(asking(), |world| {
        world.nodes[1].policy_is_silent = true;
        let source = world.id(2);
        for attempt in [1, 1, 2, 1, 3] {
            world.forge(2, 1, &prepare(move_id(1, attempt), source, 0));
        }
        assert_eq!(world.nodes[1].questions.len(), 1);
        assert_eq!(said(world, (1, 2, "MigrationFailed")), 1, "an older attempt is not waited for");
        // What the policy was shown is what it agrees to.
        world.forge(2, 1, &prepare(move_id(1, 4), source, 1 << 40));
        assert_eq!(said(world, (1, 2, "MigrationFailed")), 2);
        let (question, now) = (world.nodes[1].questions[0], world.present());
        world.nodes[1].engine.admitted(question, true, now);
        world.settle(1);
        assert_eq!(said(world, (1, 2, "Prepared")), 1);
        let parts = world.nodes[1].engine.migrations();
        assert_eq!(parts.len(), 1);
        world.forge(2, 1, &prepare(move_id(1, 3), source, 0));
        assert_eq!(said(world, (1, 2, "Prepared")), 2, "it is the third attempt that was admitted");
    });
}

#[test]
fn a_question_that_was_withdrawn_does_not_wait_for_a_user_who_is_busy() {
    in_world(asking(), |world| {
        let source = world.id(FLOODER);
        for migration in 0..10_000 {
            let id = move_id(migration, 1);
            hear(world, 1, FLOODER, Subprotocol::Migration, codec::encode(&prepare(id, source, 0)));
            let reason = FailureReason::Cancelled;
            let called_off = codec::encode(&MigrationMessage::MigrationFailed { id, reason });
            hear(world, 1, FLOODER, Subprotocol::Migration, called_off);
        }
        let now = world.present();
        assert!(world.nodes[1].engine.next_work(now).is_none());
    });
}

#[test]
fn stages_of_migrations_do_not_pile_up_before_a_user_who_is_busy() {
    in_world(World::new(1, 4), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let source = world.id(FLOODER);
        for migration in 0..20_000 {
            let prepare = codec::encode(&prepare(move_id(migration, 1), source, 0));
            hear(world, 1, FLOODER, Subprotocol::Migration, prepare);
        }
        let now = world.present();
        let waiting = std::iter::from_fn(|| world.nodes[1].engine.next_work(now)).count();
        assert!((4_000..5_000).contains(&waiting), "{waiting} pieces of work");
        assert_eq!(world.moved(0, origin, 1), Ok(()), "once the user has heard them others may come");
    });
}

#[test]
fn calling_off_what_nobody_asked_for_does_not_call_a_move_on_again() {
    in_world(asking(), |world| {
        let origin = world.spawn(0, 1, "prompt");
        world.meddler = Some(Meddler { message: "TakeSnapshot", nth: 0, how: How::Delay(Duration::from_secs(2)) });
        let migration = world.driving(2, origin, 0, 1);
        world.run_for(Duration::from_millis(100));
        assert_eq!(world.meddled, 1, "the word to begin is on its way");
        let now = world.present();
        world.nodes[2].engine.abort_migration(migration, None, now);
        world.settle(2);
        let cancelled = MigrationFailure::Refused(FailureReason::Cancelled, Outcome::Source);
        assert_eq!(world.wait_migration(2, migration), Err(cancelled));
        for other in 0..100 {
            let reason = FailureReason::Cancelled;
            world.forge(FLOODER, 0, &MigrationMessage::Cancel { id: move_id(1_000 + other, 1), reason });
        }
        world.run_for(Duration::from_secs(5));
        assert!(!world.nodes[0].stages.contains(&(Role::Source, Stage::Snapshot)), "it does not begin");
    });
}

/// A driver calls a move off whose word to begin is on its way, and many others that will never begin.
#[test]
fn a_move_that_was_called_off_does_not_begin_whatever_else_its_driver_calls_off() {
    in_world(World::open(1, 4), |world| {
        let reason = FailureReason::Cancelled;
        let [wanted, other] = [1, 2].map(|seed| {
            world.spawn(0, seed, "prompt");
            move |migration: u128| {
                let entity = World::daemon_key(seed).entity_id();
                MoveId { entity, migration: MigrationId::new(migration), attempt: 1, epoch: Epoch::FIRST }
            }
        });
        world.forge(2, 0, &MigrationMessage::Cancel { id: wanted(7), reason: reason.clone() });
        for number in 0..200 {
            // Of a daemon that is not here, of another one that is, and of another life of the same.
            let elsewhere = MoveId { entity: World::daemon_key(3).entity_id(), ..wanted(1_000 + number) };
            let later = MoveId { epoch: Epoch::new(9), ..wanted(2_000 + number) };
            for id in [elsewhere, other(1_000 + number), later] {
                world.forge(2, 0, &MigrationMessage::Cancel { id, reason: reason.clone() });
            }
        }
        // Another one calls off another move, and the same.
        for migration in [7, 8] {
            world.forge(FLOODER, 0, &MigrationMessage::Cancel { id: wanted(migration), reason: reason.clone() });
        }
        assert_eq!(world.nodes[0].engine.census().called_off, 1 + 8 + 2);
        let target = world.id(1);
        for id in [wanted(7), other(1_199)] {
            world.forge(2, 0, &MigrationMessage::TakeSnapshot { id, target, transport_identity: true });
            assert_eq!(world.nodes[0].engine.migrations(), [], "it does not begin");
        }
        world.forge(2, 0, &MigrationMessage::TakeSnapshot { id: wanted(8), target, transport_identity: true });
        assert_eq!(world.nodes[0].engine.migrations().len(), 1, "another driver called that off");
    });
}

#[test]
fn a_long_message_of_one_whose_daemons_do_not_come_is_not_read() {
    in_world(World::new(1, 4), |world| {
        for (length, answers) in [(200, 1), (300, 0)] {
            let kind = "k".repeat(length);
            let before = said(world, (1, FLOODER, "Hosts"));
            world.forge(FLOODER, 1, &MigrationMessage::CanHost { query: 1, kinds: vec![&kind; 1024] });
            assert_eq!(said(world, (1, FLOODER, "Hosts")) - before, answers);
        }
    });
}

#[test]
fn a_home_that_was_not_told_of_a_daemon_for_want_of_room_is_told_later() {
    in_world(World::new(1, 2), |world| {
        world.take_part();
        let known = world.spawn(0, 1, "prompt");
        assert_eq!(world.nodes[1].engine.kept_addresses(), 1);
        // Answers to all of these wait for the peer, and leave no room: first long ones with a claim, then the shortest.
        let unknown = World::daemon_key(9).origin_hash();
        for query in 0..41_000 {
            let origin = if query < 40_000 { known } else { unknown };
            let lookup = DirectoryMessage::Lookup { query, origin, view: None, hosting: None };
            hear(world, 0, 1, Subprotocol::Directory, codec::encode(&lookup));
        }
        let ticket = world.ticket(0, None);
        let (kind, keypair, config) = (Some("prompt".to_owned()), World::daemon_key(2), HostConfig::default());
        let request = SpawnRequest { kind, keypair, config, snapshot: None, instance: false };
        let now = world.present();
        world.nodes[0].engine.spawn(ticket, request, now).expect("it is looked for");
        world.settle(0);
        world.wait_for(ticket).as_ref().expect("nobody answered that it lives elsewhere");
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.nodes[1].engine.kept_addresses(), 2);
    });
}
