//! The word that makes a staged copy live: only the source's own, for this move, with a claim that names this node.

use std::time::Duration;

use mesh_daemon_core::causal::CausalLink;
use mesh_daemon_core::daemon::Ticket;
use mesh_daemon_core::directory::{Claim, ClaimBody};
use mesh_daemon_core::identity::{EntityKeypair, Epoch, MigrationId, OriginHash};
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::migration::{MigrationFailure, Outcome};
use mesh_daemon_core::runtime::{DaemonEvent, RuntimeError};
use mesh_daemon_core::wire::codec;
use mesh_daemon_core::wire::events::{Event, EventsMessage, Item};
use mesh_daemon_core::wire::migration::{MigrationMessage, MoveId};

use super::in_world;
use super::load::answers_are_true;
use super::world::{How, Meddler, NEVER, Trap, World};

const SOURCE: usize = 0;
const TARGET: usize = 1;
const THIRD: usize = 2;
const SECOND: Duration = Duration::from_secs(1);
/// Longer than a copy in doubt is held.
const PAST_HOLD: Duration = Duration::from_secs(700);

/// A whole copy on the target, with events that wait, and the word that the source said and that was lost.
struct Staged {
    origin: OriginHash,
    waiting: Vec<Ticket>,
    id: MoveId,
    claim: Vec<u8>,
}

impl Staged {
    fn new(world: &mut World) -> Self {
        let origin = world.spawn(SOURCE, 1, "prompt");
        world.serves(origin, SOURCE..=THIRD);
        world.nodes[SOURCE].objects.faults.snapshot_takes = Some(SECOND / 10);
        world.meddler = Some(Meddler { message: "ActivateTarget", nth: 0, how: How::Lose });
        world.migrate(SOURCE, origin, TARGET);
        world.run_for(SECOND / 20);
        let waiting = (SOURCE..=THIRD).map(|node| world.call(node, origin)).collect();
        assert!(world.run_until(SECOND, |world| world.meddled == 1), "the source has decided");
        let said = world.sent.iter().rfind(|sent| sent.name == "ActivateTarget").expect("it was said");
        match codec::decode(&said.record.body) {
            Ok(MigrationMessage::ActivateTarget { id, claim }) => Self { origin, waiting, id, claim: claim.to_vec() },
            other => panic!("{other:?}"),
        }
    }

    /// The source's claim, changed, and signed by whoever has the daemon's key.
    fn changed(&self, key: &EntityKeypair, change: impl FnOnce(&mut ClaimBody)) -> Vec<u8> {
        let mut body = *Claim::decode(&self.claim).expect("a genuine one").body();
        change(&mut body);
        Claim::sign(body, key).expect("a full key pair").encode()
    }

    fn stays_undecided(&self, world: &mut World, from: usize, id: MoveId, claim: &[u8], what: &str) {
        let ran = world.ran.len();
        world.forge(from, TARGET, &MigrationMessage::ActivateTarget { id, claim });
        assert_eq!(world.hosting(self.origin), [], "{what}");
        assert_eq!(world.ran.len(), ran, "{what}: nothing runs");
    }

    /// The word itself.
    fn goes_live(self, world: &mut World) {
        world.forge(SOURCE, TARGET, &MigrationMessage::ActivateTarget { id: self.id, claim: &self.claim });
        assert_eq!(world.hosting(self.origin), [TARGET]);
        for ticket in self.waiting {
            world.outputs(ticket);
        }
        world.run_for(30 * SECOND);
        assert_eq!(world.hosting(self.origin), [TARGET]);
        world.serves(self.origin, SOURCE..=THIRD);
        assert_eq!(world.seen(self.origin).len(), 9);
        answers_are_true(world);
        world.assert_nothing_left();
    }
}

#[test]
fn hazards_33_64_a_staged_copy_goes_live_only_with_a_claim_for_this_daemon_this_node_and_the_next_epoch() {
    in_world(World::new(1, 3).refusing(), |world| {
        let staged = Staged::new(world);
        let key = World::daemon_key(1);
        let (id, third) = (staged.id, world.nodes[THIRD].keypair.entity_id());
        let epochs = [id.epoch, Epoch::new(id.epoch.get() + 2), Epoch::new(id.epoch.get() + 1000)];
        for epoch in epochs {
            let claim = staged.changed(&key, |body| body.epoch = epoch);
            staged.stays_undecided(world, SOURCE, id, &claim, &format!("a claim of {epoch:?}"));
        }
        let claim = staged.changed(&key, |body| body.host = third);
        staged.stays_undecided(world, SOURCE, id, &claim, "a claim for another host");
        let other = World::daemon_key(2);
        let claim = staged.changed(&other, |body| body.entity = other.entity_id());
        staged.stays_undecided(world, SOURCE, id, &claim, "a claim of another daemon");
        let mut claim = staged.claim.clone();
        *claim.last_mut().expect("not empty") ^= 1;
        staged.stays_undecided(world, SOURCE, id, &claim, "a claim that nobody signed");
        staged.stays_undecided(world, SOURCE, id, &[], "no claim");
        staged.goes_live(world);
    });
}

#[test]
fn hazards_33_64_the_word_of_the_source_replayed_by_another_node_makes_no_copy_live() {
    in_world(World::new(1, 3).refusing(), |world| {
        let staged = Staged::new(world);
        let claim = staged.claim.clone();
        staged.stays_undecided(world, THIRD, staged.id, &claim, "from a third node");
        staged.goes_live(world);
    });
}

#[test]
fn hazards_33_64_the_word_of_the_source_for_another_move_makes_no_copy_live() {
    in_world(World::new(1, 3).refusing(), |world| {
        let staged = Staged::new(world);
        let (key, id, claim) = (World::daemon_key(1), staged.id, staged.claim.clone());
        let attempt = MoveId { attempt: id.attempt + 1, ..id };
        staged.stays_undecided(world, SOURCE, attempt, &claim, "another attempt");
        let migration = MoveId { migration: MigrationId::new(id.migration.get() ^ 1), ..id };
        staged.stays_undecided(world, SOURCE, migration, &claim, "another migration");
        let later = MoveId { epoch: Epoch::new(id.epoch.get() + 1), ..id };
        let claim = staged.changed(&key, |body| body.epoch = Epoch::new(id.epoch.get() + 2));
        staged.stays_undecided(world, SOURCE, later, &claim, "another epoch, with a claim to match");
        staged.goes_live(world);
    });
}

fn in_doubt(world: &mut World, from: usize, origin: OriginHash, to: usize, message: &'static str) {
    world.trap = Some(Trap { message, nth: 0, arrives: false, heal_after: NEVER });
    let ticket = world.migrate(from, origin, to);
    let migration = world.migration(ticket).expect("it begins");
    match world.wait_migration(from, migration) {
        Err(MigrationFailure::Refused(_, Outcome::Unknown)) => {}
        other => panic!("in doubt: {other:?}"),
    }
    world.lose(from, to, Loss::Silence);
}

#[test]
fn hazard_69_a_daemon_that_was_taken_over_outlives_its_former_copy_from_its_next_host_too() {
    const LATER: usize = 3;
    in_world(World::new(1, 4).refusing(), |world| {
        world.lose(SOURCE, LATER, Loss::Silence);
        world.lose(TARGET, LATER, Loss::Silence);
        world.lose(THIRD, LATER, Loss::Silence);
        let origin = world.spawn(SOURCE, 1, "prompt");
        in_doubt(world, SOURCE, origin, TARGET, "ActivateAck");
        world.lose(TARGET, THIRD, Loss::Silence);
        assert_eq!(world.recover(SOURCE, origin), Ok(()));
        assert_eq!(world.moved(SOURCE, origin, THIRD), Ok(()));
        world.run_for(PAST_HOLD);
        assert_eq!(world.hosting(origin), [TARGET, THIRD], "cut off from each other");
        // All that this node hears of the takeover is what the next host tells it.
        world.connect(THIRD, LATER, false);
        world.run_for(SECOND);
        world.connect(TARGET, LATER, false);
        assert!(world.moved(TARGET, origin, LATER).is_err(), "the former copy finds no place where that is known");
        world.run_for(SECOND);
        assert_eq!(world.hosting(origin), [THIRD]);
        assert!(world.daemon_events.contains(&(TARGET, DaemonEvent::Fenced)), "{:?}", world.daemon_events);
        world.serves(origin, [LATER]);
    });
}

/// Of a number that its sender gave up behind the snapshot only the mark tells.
#[test]
fn promise_1_a_number_that_was_given_up_behind_the_snapshot_does_not_run_on_the_target() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(SOURCE, 1, "prompt");
        world.spying = true;
        world.serves(origin, [THIRD]);
        let said = world.streams.iter().rfind(|spied| spied.from == THIRD && spied.events.is_some());
        let stream = said.expect("an event was sent").stream;
        let batch = |epoch, item| {
            let items = vec![item];
            EventsMessage::Batch { stream, epoch, hops: 0, first: 2, items, replies_through: 0 }
        };
        world.nodes[TARGET].objects.faults.restore_takes = Some(SECOND);
        world.migrate(SOURCE, origin, TARGET);
        world.run_for(SECOND / 10);
        world.forge_events(THIRD, SOURCE, &batch(Epoch::FIRST, Item::Skip));
        world.run_for(2 * SECOND);
        assert_eq!(world.hosting(origin), [TARGET]);
        // A repetition that was on its way for long.
        let request = world.request(0, 0);
        let (link, payload) = (CausalLink::genesis(OriginHash::new(1)), request.encode(0));
        let late = Item::Send(Event { link, payload: &payload });
        world.forge_events(THIRD, TARGET, &batch(Epoch::FIRST, late));
        world.run_for(SECOND);
        assert!(!world.ran.contains(&request.id));
        world.serves(origin, [TARGET]);
        world.assert_nothing_left();
    });
}

/// The first host takes the daemon over while another host's whole copy waits for the word of its own source: should that come
/// after all, the copy goes live one epoch on.
#[test]
fn hazard_69_a_takeover_is_later_than_a_copy_that_was_in_doubt_elsewhere_and_goes_live_after_all() {
    for seed in 0..12 {
        in_world(World::new(seed, 3).refusing(), |world| {
            let origin = world.spawn(SOURCE, 1, "prompt");
            in_doubt(world, SOURCE, origin, TARGET, "ActivateAck");
            world.run_for(PAST_HOLD);
            in_doubt(world, TARGET, origin, THIRD, "ActivateTarget");
            assert_eq!(world.hosting(origin), [], "everybody waits for somebody");
            let ticket = world.act(SOURCE, None, |engine, ticket, now| engine.recover(ticket, origin, now));
            assert!(world.run_until(10 * SECOND, |world| world.hosting(origin) == [SOURCE]));
            // Before the copy in doubt hears of it.
            world.lose(SOURCE, THIRD, Loss::Silence);
            assert!(world.wait_for(ticket).is_ok());
            world.connect(TARGET, THIRD, false);
            world.run_for(SECOND);
            assert_eq!(world.hosting(origin), [SOURCE, THIRD], "its source is back, and both know of no other one");
            world.connect(SOURCE, THIRD, false);
            world.run_for(SECOND);
            assert_eq!(world.hosting(origin), [SOURCE], "the operator's word counts, not chance");
            assert!(world.daemon_events.contains(&(THIRD, DaemonEvent::Fenced)), "{:?}", world.daemon_events);
            world.connect(SOURCE, TARGET, false);
            world.run_for(SECOND);
            for node in SOURCE..=THIRD {
                // The first may find that its stream leads to a life that has ended.
                let first = world.call(node, origin);
                if let Err(error) = world.wait_for(first) {
                    assert!(matches!(error, RuntimeError::PeerLost { .. }), "{error}");
                    world.serves(origin, [node]);
                }
            }
            answers_are_true(world);
            world.assert_nothing_left();
        });
    }
}
