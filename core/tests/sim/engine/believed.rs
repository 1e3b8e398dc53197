//! Whom the driver of a move believes: each word only from the node whose role it is, in its phase, and about this attempt.

use std::time::Duration;

use mesh_daemon_core::identity::{Epoch, MigrationId, OriginHash};
use mesh_daemon_core::wire::codec;
use mesh_daemon_core::wire::migration::{FailureReason, MigrationMessage, MoveId};

use super::in_world;
use super::world::{How, Meddler, World};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const DRIVER: usize = 2;
const FOURTH: usize = 3;
const SECOND: Duration = Duration::from_secs(1);

struct Driven {
    origin: OriginHash,
    migration: MigrationId,
    id: MoveId,
}

impl Driven {
    /// A move whose message of this name is on its way for a second.
    fn held_at(world: &mut World, message: &'static str) -> Self {
        let origin = world.spawn(SOURCE, 1, "prompt");
        world.meddler = Some(Meddler { message, nth: 0, how: How::Delay(SECOND) });
        let ticket = world.drive(DRIVER, origin, SOURCE, TARGET);
        assert!(world.run_until(SECOND, |world| world.meddled == 1), "{message} was sent");
        let migration = world.migration(ticket).expect("it began");
        let prepare = world.sent.iter().find(|sent| sent.name == "Prepare").expect("the target was asked");
        let id = *codec::decode::<MigrationMessage<'_>>(&prepare.record.body).expect("whole").id().expect("of a move");
        Self { origin, migration, id }
    }

    /// The same words about other attempts.
    fn other_ids(&self) -> [MoveId; 3] {
        let id = self.id;
        [
            MoveId { attempt: id.attempt + 1, ..id },
            MoveId { migration: MigrationId::new(id.migration.get() ^ 1), ..id },
            MoveId { epoch: Epoch::new(id.epoch.get() + 1), ..id },
        ]
    }

    /// The driver neither ends nor asks for `next`.
    fn changes_nothing(&self, world: &mut World, from: usize, message: &MigrationMessage<'_>, next: &str) {
        world.forge(from, DRIVER, message);
        let what = format!("{} from n{from}", message.name());
        assert!(!world.nodes[DRIVER].over.contains_key(&self.migration.get()), "{what} does not end it");
        assert!(!world.messages.iter().any(|(.., name)| *name == next), "{what} does not lead to {next}");
    }

    /// The move goes on at this word, and not before the target itself says it of this attempt.
    fn only_the_target_says(&self, world: &mut World, says: impl Fn(MoveId) -> MigrationMessage<'static>, next: &str) {
        for from in [SOURCE, FOURTH] {
            self.changes_nothing(world, from, &says(self.id), next);
        }
        for other in self.other_ids() {
            self.changes_nothing(world, TARGET, &says(other), next);
            self.changes_nothing(world, TARGET, &failed(other), next);
            self.changes_nothing(world, SOURCE, &failed(other), next);
        }
        for (from, end) in untimely_ends(self.id) {
            self.changes_nothing(world, from, &end, next);
        }
    }

    fn completes(self, world: &mut World) {
        assert_eq!(world.wait_migration(DRIVER, self.migration), Ok(()));
        world.run_for(SECOND);
        assert_eq!(world.hosting(self.origin), [TARGET]);
        let ticket = world.call(FOURTH, self.origin);
        world.outputs(ticket);
        world.run_for(100 * SECOND);
        world.assert_nothing_left();
    }
}

fn failed<'a>(id: MoveId) -> MigrationMessage<'a> {
    MigrationMessage::MigrationFailed { id, reason: FailureReason::Cancelled }
}

/// What ends a move, each from those who may not say it before the cutover.
fn untimely_ends<'a>(id: MoveId) -> Vec<(usize, MigrationMessage<'a>)> {
    let mut said = vec![(FOURTH, failed(id))];
    for from in [SOURCE, TARGET, FOURTH] {
        said.push((from, MigrationMessage::CleanupComplete { id }));
        said.push((from, MigrationMessage::InDoubt { id }));
    }
    said
}

#[test]
fn hazard_33_the_source_itself_describes_what_is_to_be_moved_to_this_driver() {
    in_world(World::open(1, 4).refusing(), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        world.meddler = Some(Meddler { message: "Inquire", nth: 0, how: How::Delay(SECOND) });
        let migration = world.driving(DRIVER, origin, SOURCE, TARGET);
        let id = MoveId { entity: World::daemon_key(1).entity_id(), migration, attempt: 1, epoch: Epoch::FIRST };
        let driven = Driven { origin, migration, id };
        let described = |id| MigrationMessage::Described { id, kind: "prompt", state_bytes: 0 };
        let declined = |migration| {
            let reason = FailureReason::DaemonNotFound;
            MigrationMessage::Declined { origin, migration, attempt: 1, reason, moved: None }
        };
        for from in [TARGET, FOURTH] {
            driven.changes_nothing(world, from, &described(id), "Prepare");
            driven.changes_nothing(world, from, &declined(migration), "Prepare");
        }
        let [attempt, other, _] = driven.other_ids();
        for id in [attempt, other] {
            driven.changes_nothing(world, SOURCE, &described(id), "Prepare");
        }
        driven.changes_nothing(world, SOURCE, &declined(other.migration), "Prepare");
        driven.completes(world);
    });
}

#[test]
fn hazard_33_the_source_is_not_asked_to_freeze_before_the_target_itself_agreed_to_this_attempt() {
    in_world(World::open(1, 4).refusing(), |world| {
        let driven = Driven::held_at(world, "Prepared");
        driven.only_the_target_says(world, |id| MigrationMessage::Prepared { id }, "TakeSnapshot");
        driven.completes(world);
    });
}

#[test]
fn hazard_33_the_word_for_the_cutover_is_not_given_before_the_target_itself_has_staged_what_waits() {
    in_world(World::open(1, 4).refusing(), |world| {
        let driven = Driven::held_at(world, "RestoreComplete");
        let staged = |id| MigrationMessage::ReplayComplete { id, staged: 0, head: 0, complete: true };
        driven.only_the_target_says(world, staged, "CutoverNotify");
        // Once it agreed, only the source's word counts.
        driven.changes_nothing(world, TARGET, &failed(driven.id), "CutoverNotify");
        driven.completes(world);
    });
}

#[test]
fn hazard_33_behind_the_word_for_the_cutover_the_source_alone_says_how_the_move_ends() {
    in_world(World::open(1, 4).refusing(), |world| {
        let driven = Driven::held_at(world, "CutoverNotify");
        let id = driven.id;
        for from in [TARGET, FOURTH] {
            let said = [MigrationMessage::CleanupComplete { id }, failed(id), MigrationMessage::InDoubt { id }];
            for said in said {
                driven.changes_nothing(world, from, &said, "ActivateTarget");
            }
        }
        for other in driven.other_ids() {
            let said = [
                MigrationMessage::CleanupComplete { id: other },
                failed(other),
                MigrationMessage::InDoubt { id: other },
            ];
            for said in said {
                driven.changes_nothing(world, SOURCE, &said, "ActivateTarget");
            }
        }
        driven.completes(world);
    });
}
