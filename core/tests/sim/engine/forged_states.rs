//! States that are not what their source vouched for, or not those of the life and the time of the daemon that is to move:
//! none of them is restored, and the daemon runs on where it was.

use std::time::Duration;

use mesh_daemon_core::identity::{Epoch, Lineage, MigrationId, OriginHash};
use mesh_daemon_core::migration::{MigrationFailure, Outcome};
use mesh_daemon_core::snapshot::{SnapshotHead, SnapshotWriter, StateSnapshot};
use mesh_daemon_core::wire::migration::{FailureReason, MigrationMessage, MoveId};
use mesh_daemon_core::wire::{Subprotocol, codec};

use super::in_world;
use super::world::{Sent, World};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const SECOND: Duration = Duration::from_secs(1);

/// What a source sends of a daemon: the only chunk of its state, and the seal.
struct State {
    id: MoveId,
    bytes: Vec<u8>,
    digest: [u8; 32],
    signature: [u8; 64],
    envelope: Option<Vec<u8>>,
}

fn read(sent: &Sent) -> MigrationMessage<'_> {
    let from = if sent.record.subprotocol == Subprotocol::Migration { 0 } else { 8 };
    codec::decode(&sent.record.body[from..]).expect("nodes send what they can read")
}

/// The state that was sent last.
fn last_state(world: &World) -> State {
    let last = |name| world.sent.iter().rfind(|sent| sent.name == name).map(read).expect("it was sent");
    let MigrationMessage::Chunk { bytes, total: 1, .. } = last("Chunk") else { panic!("one chunk") };
    let MigrationMessage::SnapshotReady { id, digest, signature, envelope } = last("SnapshotReady") else {
        panic!("a seal")
    };
    State { id, bytes: bytes.to_vec(), digest, signature, envelope: envelope.map(<[u8]>::to_vec) }
}

/// Begins a move whose target has room, and gets nothing of the state that the source sends.
fn withheld(world: &mut World, origin: OriginHash) -> (MigrationId, State) {
    world.sent.clear();
    let ticket = world.migrate(SOURCE, origin, TARGET);
    let migration = world.migration(ticket).expect("it begins");
    let was_sent = |name: &'static str| move |world: &World| world.sent.iter().any(|sent| sent.name == name);
    assert!(world.run_until(SECOND, was_sent("Reserved")));
    world.mute = Some((SOURCE, TARGET));
    assert!(world.run_until(SECOND, was_sent("SnapshotReady")));
    world.mute = None;
    (migration, last_state(world))
}

/// Sends a state instead of the one that was withheld: it is refused for this reason.
fn is_refused(world: &mut World, origin: OriginHash, migration: MigrationId, state: &State, why: &str) {
    let State { id, bytes, digest, signature, envelope } = state;
    let (id, digest, signature, envelope) = (*id, *digest, *signature, envelope.as_deref());
    world.forge(SOURCE, TARGET, &MigrationMessage::Chunk { id, index: 0, total: 1, bytes });
    world.forge(SOURCE, TARGET, &MigrationMessage::SnapshotReady { id, digest, signature, envelope });
    match world.wait_migration(SOURCE, migration) {
        Err(MigrationFailure::Refused(FailureReason::StateFailed { detail }, Outcome::Source)) => {
            assert!(detail.contains(why), "{detail}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.hosting(origin), [SOURCE]);
    world.serves(origin, [SOURCE, TARGET]);
    world.run_for(SECOND);
    world.assert_nothing_left();
}

/// The same state with another head, of which the source says that it vouches for it.
fn with_head(world: &World, state: &State, change: impl FnOnce(&mut SnapshotHead)) -> State {
    let mut snapshot = StateSnapshot::decode(&state.bytes.clone().into()).expect("a state");
    change(&mut snapshot.head);
    let bytes = snapshot.encode().expect("a state").to_vec();
    assert!(bytes != state.bytes && bytes.len() == state.bytes.len(), "it fits where the other one was to be");
    let given = snapshot.state.expect("it has a state");
    let (mut writer, _) = SnapshotWriter::new(&snapshot.head, Some(given.len() as u64)).expect("a state");
    writer.state_slice(&given).expect("all of it");
    let digest = *writer.digest().expect("it is whole").as_bytes();
    let id = state.id;
    let mut message = b"mesh-daemon snapshot v1".to_vec();
    message.extend_from_slice(&id.migration.to_bytes());
    message.extend_from_slice(&id.attempt.to_le_bytes());
    message.extend_from_slice(&world.id(SOURCE).get().to_le_bytes());
    message.extend_from_slice(&world.id(TARGET).get().to_le_bytes());
    message.extend_from_slice(&id.epoch.get().to_le_bytes());
    message.extend_from_slice(&digest);
    let signature = *world.nodes[SOURCE].keypair.sign(&message).expect("a full key pair").as_bytes();
    State { id, bytes, digest, signature, envelope: None }
}

#[test]
fn a_state_whose_seal_nobody_signed_who_may_is_not_restored() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        let (migration, mut state) = withheld(world, origin);
        state.signature[7] ^= 1;
        is_refused(world, origin, migration, &state, "the signature over the state does not verify");
    });
}

#[test]
fn a_state_that_was_changed_on_its_way_is_not_restored() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        let (migration, mut state) = withheld(world, origin);
        let middle = state.bytes.len() / 2;
        state.bytes[middle] ^= 1;
        is_refused(world, origin, migration, &state, "not the one that was signed");
    });
}

#[test]
fn a_state_of_another_life_or_another_time_of_the_daemon_is_not_restored() {
    let changes: [fn(&mut SnapshotHead); 2] = [
        |head| head.lineage = Lineage::new(head.lineage.get() ^ 1),
        |head| head.epoch = Epoch::new(head.epoch.get() + 1),
    ];
    for change in changes {
        in_world(World::new(1, 2), |world| {
            let origin = world.spawn(SOURCE, 1, "prompt");
            let (migration, state) = withheld(world, origin);
            let forged = with_head(world, &state, change);
            is_refused(world, origin, migration, &forged, "of another daemon, or of another time");
        });
    }
}
