//! The one decider of a move by itself: what lets a source release its daemon, and that nothing undoes it.

use std::time::Duration;

use bytes::Bytes;
use mesh_daemon_core::causal::{ChainBuilder, Horizon};
use mesh_daemon_core::identity::{EntityKeypair, Epoch, Lineage, MigrationId, NodeId};
use mesh_daemon_core::migration::{
    Outcome, Source, SourceAction, SourceState, Target, TargetAction, TargetState, Transfer,
};
use mesh_daemon_core::snapshot::{SnapshotHead, SnapshotStats};
use mesh_daemon_core::wire::migration::{CopyState, FailureReason, MoveId, Stage};
use tokio::time::Instant;

const SILENCE: Duration = Duration::from_secs(10);
const HOLD: Duration = Duration::from_secs(600);
/// Sequence of the head of the chain that moves.
const HEAD: u64 = 7;

fn node(seed: u8) -> NodeId {
    EntityKeypair::from_seed(&[seed; 32]).node_id()
}

fn driver() -> NodeId {
    node(1)
}

fn target() -> NodeId {
    node(2)
}

fn id() -> MoveId {
    let entity = EntityKeypair::from_seed(&[9; 32]).entity_id();
    MoveId { entity, migration: MigrationId::new(1), attempt: 1, epoch: Epoch::FIRST }
}

fn transfer() -> Transfer {
    let daemon = EntityKeypair::from_seed(&[9; 32]);
    let head = SnapshotHead {
        kind: None,
        entity: daemon.entity_id(),
        lineage: Lineage::new(1),
        epoch: Epoch::FIRST,
        chain: *ChainBuilder::new(daemon.origin_hash()).head(),
        horizon: Horizon::new(),
        stats: SnapshotStats { events_processed: 0, events_emitted: 0, errors: 0, snapshots_taken: 0 },
        streams: Bytes::new(),
        ledger: Bytes::new(),
        created_at_ns: 0,
    };
    Transfer::new(&head, None).expect("a small one")
}

/// A source at each state up to the release, in order. Two events wait and are shipped.
fn at_each_state(now: Instant) -> Vec<Source> {
    let steps: [fn(&mut Source, Instant); 8] = [
        |source, _| assert_eq!(source.frozen(), [SourceAction::Hush]),
        |source, now| assert_eq!(source.hushed(SILENCE, now), [SourceAction::TakeSnapshot]),
        |source, now| assert!(!source.snapshot_taken(transfer(), HEAD, SILENCE, now).is_empty()),
        |source, now| assert_eq!(source.reserved(now), [SourceAction::Transfer]),
        |source, now| assert_eq!(source.transferred(now), [SourceAction::Report(Stage::Restore)]),
        |source, now| {
            assert!(source.restored(now).contains(&SourceAction::Ship { last: false }));
            source.shipped = 2;
        },
        |source, now| {
            assert!(source.cutover(now).contains(&SourceAction::Ship { last: true }));
            source.closed(2);
        },
        |source, now| assert_eq!(source.replayed(2, HEAD, true, now), [SourceAction::Release]),
    ];
    let begin = || Source::new(id(), (driver(), target()), true, (SILENCE, SILENCE), now).0;
    (0..=steps.len())
        .map(|count| {
            let mut source = begin();
            for step in &steps[..count] {
                step(&mut source, now);
            }
            source
        })
        .collect()
}

fn closing(now: Instant) -> Source {
    at_each_state(now).into_iter().rev().nth(1).expect("the one before the last")
}

fn released(now: Instant) -> Source {
    at_each_state(now).pop().expect("the last one")
}

#[test]
fn promise_2_it_is_released_only_when_the_target_has_said_that_all_is_staged_behind_the_closed_mailbox() {
    let now = Instant::now();
    for mut source in at_each_state(now) {
        if source.is_released() || matches!(source.state, SourceState::Closing { .. }) {
            continue;
        }
        let staged = source.shipped;
        assert!(!source.replayed(staged, HEAD, true, now).contains(&SourceAction::Release), "{:?}", source.stage());
        assert!(!source.is_released());
    }
    for (staged, complete) in [(2, false), (1, true), (1, false), (0, true)] {
        let mut source = closing(now);
        assert_eq!(source.replayed(staged, HEAD, complete, now), [], "{staged} staged, complete {complete}");
        assert_eq!(source.replayed(2, HEAD, true, now), [SourceAction::Release]);
    }
}

#[test]
fn promise_2_before_it_is_known_how_many_there_are_in_all_nothing_is_released() {
    let now = Instant::now();
    let mut source = at_each_state(now).into_iter().rev().nth(2).expect("staging");
    assert!(source.cutover(now).contains(&SourceAction::Close));
    assert_eq!(source.replayed(2, HEAD, true, now), []);
    source.closed(2);
    assert_eq!(source.replayed(2, HEAD, true, now), [SourceAction::Release]);
}

#[test]
fn promise_4_a_target_that_holds_another_chain_or_more_than_it_was_sent_does_not_get_the_daemon() {
    let now = Instant::now();
    for (staged, head) in [(2, HEAD + 1), (2, HEAD - 1), (3, HEAD)] {
        for mut source in [closing(now), at_each_state(now).into_iter().rev().nth(2).expect("staging")] {
            let actions = source.replayed(staged, head, true, now);
            assert!(matches!(actions[..], [SourceAction::Resume(FailureReason::StateFailed { .. })]), "{actions:?}");
            assert_eq!(source.replayed(2, HEAD, true, now), [], "it has decided");
            assert!(!source.is_released());
        }
    }
}

#[test]
fn promise_2_nothing_resumes_what_was_released() {
    let now = Instant::now();
    let mut source = released(now);
    assert_eq!(source.failed(FailureReason::Cancelled), []);
    assert_eq!(source.cancel(FailureReason::Cancelled, driver()), [SourceAction::TooLate { to: driver() }]);
    assert_eq!(source.orchestrator_lost(driver()), []);
    assert_eq!(source.replayed(0, HEAD + 1, true, now), []);
    assert_eq!(source.peer_lost(target(), false), [SourceAction::InDoubt]);
    assert_eq!(source.peer_lost(target(), false), [], "told once");
    assert_eq!(source.lives_nowhere(), [], "nobody said that the copy is gone");
    assert!(source.is_released() && source.is_in_doubt());
    assert_eq!(source.target_copy(CopyState::Active), [SourceAction::Cleanup]);
    assert_eq!(source.target_copy(CopyState::Discarded), [], "over");
}

#[test]
fn promise_2_before_the_release_nothing_lets_go_and_nothing_takes_over() {
    let now = Instant::now();
    for mut source in at_each_state(now).into_iter().filter(|source| !source.is_released()) {
        assert_eq!(source.activated(), [], "{:?}", source.stage());
        for copy in [CopyState::Active, CopyState::Undecided, CopyState::Discarded, CopyState::Gone] {
            assert_eq!(source.target_copy(copy), []);
        }
        assert_eq!(source.recover(), []);
        assert_eq!(source.lives_nowhere(), []);
        assert!(!source.is_over());
        let cancelled = source.cancel(FailureReason::Cancelled, driver());
        assert_eq!(cancelled, [SourceAction::Resume(FailureReason::Cancelled)]);
        assert!(source.is_over());
    }
}

#[test]
fn the_word_that_a_target_is_gone_counts_only_while_it_is_out_of_reach_and_until_it_is_back() {
    let now = Instant::now();
    let mut source = released(now);
    assert_eq!(source.recover(), [], "it is in reach");
    source.peer_lost(target(), false);
    assert_eq!(source.recover(), [SourceAction::LookElsewhere { proven: false }]);
    assert_eq!(source.peer_back(target(), now), [SourceAction::StopLooking, SourceAction::QueryTarget]);
    assert_eq!(source.lives_nowhere(), [], "it says itself what became of it");
    source.recover();
    assert_eq!(source.peer_lost(target(), true), [SourceAction::LookElsewhere { proven: true }]);
    // What follows a life that has ended knows nothing of that.
    assert_eq!(source.peer_back(target(), now), []);
    assert_eq!(source.target_copy(CopyState::Discarded), []);
    assert_eq!(source.target_copy(CopyState::Undecided), []);
    assert_eq!(source.lives_nowhere(), [SourceAction::TakeOver]);
}

#[test]
fn a_target_that_waits_for_the_decision_is_told_at_once_and_its_driver_that_nobody_can_say() {
    let now = Instant::now();
    let mut source = released(now);
    assert_eq!(source.cutover(now), [SourceAction::StillAtWork]);
    source.peer_lost(target(), false);
    assert_eq!(source.cutover(now), [SourceAction::InDoubt], "its driver may not have heard it");
    assert_eq!(source.target_copy(CopyState::Undecided), [SourceAction::Activate]);
    assert!(!source.is_in_doubt());
    source.peer_lost(target(), true);
    assert_eq!(source.cutover(now), [SourceAction::InDoubt]);
    assert_eq!(source.peer_lost(target(), true), [], "it is being looked for");
}

#[test]
fn the_loss_of_others_than_target_and_driver_changes_nothing() {
    let now = Instant::now();
    let other = node(8);
    for mut source in at_each_state(now) {
        let stage = source.stage();
        assert_eq!(source.peer_lost(other, true), [], "{stage:?}");
        assert_eq!(source.orchestrator_lost(other), [], "{stage:?}");
    }
    let mut source = released(now);
    source.peer_lost(target(), false);
    source.declared_lost(other, now);
    assert_eq!(source.tick(None, now + SILENCE), [], "the target may be back");
    assert!(source.is_in_doubt());
}

#[test]
fn a_driver_that_is_back_has_its_time_to_give_the_word() {
    let now = Instant::now();
    let almost = now + SILENCE / 2;
    for (node, waited_for) in [(driver(), true), (node(8), false)] {
        let mut source = at_each_state(now).into_iter().rev().nth(2).expect("staging");
        assert_eq!(source.peer_back(node, almost), []);
        assert_eq!(source.tick(None, now + SILENCE).is_empty(), waited_for);
    }
}

#[test]
fn a_declared_loss_is_believed_after_a_while_unless_the_target_is_back_by_then() {
    let now = Instant::now();
    let later = now + SILENCE;
    let mut source = released(now);
    source.peer_lost(target(), false);
    source.declared_lost(target(), now);
    assert_eq!(source.peer_back(target(), now), [SourceAction::QueryTarget]);
    assert!(!source.tick(None, later).contains(&SourceAction::LookElsewhere { proven: false }), "it is back");
    let mut source = released(now);
    source.peer_lost(target(), false);
    source.declared_lost(target(), now);
    assert_eq!(source.tick(None, now), []);
    assert_eq!(source.tick(None, later), [SourceAction::LookElsewhere { proven: false }]);
}

#[test]
fn a_target_in_reach_that_does_not_acknowledge_is_told_again() {
    let now = Instant::now();
    let mut source = released(now);
    assert_eq!(source.tick(None, now + SILENCE), [SourceAction::Activate]);
    assert_eq!(source.tick(None, now + 2 * SILENCE), [SourceAction::Activate]);
    source.peer_lost(target(), false);
    assert_eq!(source.tick(None, now + 3 * SILENCE), [], "nobody hears it");
}

#[test]
fn behind_the_word_for_the_cutover_the_move_needs_no_driver() {
    let now = Instant::now();
    let mut source = closing(now);
    assert_eq!(source.orchestrator_lost(driver()), []);
    assert_eq!(source.replayed(2, HEAD, true, now), [SourceAction::Release]);
    let mut source = at_each_state(now).into_iter().rev().nth(2).expect("staging");
    assert!(matches!(source.orchestrator_lost(driver())[..], [SourceAction::Resume(_)]));
}

/// A target whose copy is whole, or not yet.
fn staged(complete: bool, now: Instant) -> Target {
    let (mut machine, _) = Target::new(id(), (driver(), node(3)), (SILENCE, HOLD), now);
    assert!(machine.reserve(now));
    machine.granted();
    machine.received(SILENCE, now);
    machine.built(false);
    assert_eq!(machine.staged(1, complete.then_some(1), now), [TargetAction::SayStaged]);
    assert_eq!(machine.state, TargetState::Staged { complete });
    machine
}

#[test]
fn a_whole_copy_outlasts_its_source_for_as_long_as_copies_are_held_and_another_does_not() {
    let now = Instant::now();
    let mut whole = staged(true, now);
    assert_eq!(whole.recover(), [], "its source is in reach");
    assert_eq!(whole.source_cut_off(false, now), []);
    assert!(whole.is_in_doubt());
    assert_eq!(whole.tick(now + HOLD / 2), [], "it may have been released");
    assert_eq!(whole.source_back(now), [TargetAction::AskSource]);
    assert_eq!(whole.source_answered(CopyState::Undecided), [], "the source has yet to decide");
    assert_eq!(whole.copy(), CopyState::Undecided);
    assert_eq!(whole.cleaned_up(), [], "it is not live");
    assert_eq!(whole.source_cut_off(false, now), []);
    assert!(matches!(whole.tick(now + HOLD)[..], [TargetAction::Discard(..)]));
    let mut rest = staged(false, now);
    assert!(matches!(rest.source_cut_off(false, now)[..], [TargetAction::CallOff(..)]));
}

#[test]
fn promise_2_only_a_whole_copy_goes_live_and_it_says_so_as_often_as_it_is_told() {
    let now = Instant::now();
    let mut rest = staged(false, now);
    assert_eq!(rest.activate(now), []);
    assert_eq!(rest.copy(), CopyState::Undecided);
    assert_eq!(rest.recover(), []);
    let mut whole = staged(true, now);
    assert_eq!(whole.activate(now), [TargetAction::Activate, TargetAction::Acknowledge]);
    assert_eq!(whole.activate(now), [TargetAction::Acknowledge], "the first one may have been lost");
    assert_eq!(whole.fail(FailureReason::Cancelled), [], "nothing undoes it");
    assert_eq!(whole.copy(), CopyState::Active);
}

#[test]
fn a_state_arrives_once() {
    let now = Instant::now();
    let (mut prepared, _) = Target::new(id(), (driver(), node(3)), (SILENCE, HOLD), now);
    assert_eq!(prepared.received(SILENCE, now), [], "no room was asked for");
    for complete in [false, true] {
        let mut target = staged(complete, now);
        assert!(!target.reserve(now));
        assert_eq!(target.granted(), []);
        assert_eq!(target.received(SILENCE, now), []);
        assert_eq!(target.state, TargetState::Staged { complete });
    }
}

#[test]
fn a_copy_ends_with_the_word_of_its_source_that_it_is_not_the_daemon() {
    let now = Instant::now();
    for (said, outcome) in [
        (CopyState::Active, Outcome::Source),
        (CopyState::Discarded, Outcome::Source),
        (CopyState::Gone, Outcome::Unknown),
    ] {
        let mut target = staged(true, now);
        let actions = target.source_answered(said);
        assert!(matches!(actions[..], [TargetAction::CallOff(_, told)] if told == outcome), "{said:?}: {actions:?}");
        assert_eq!(target.activate(now), [], "{said:?}: it is over");
    }
}

#[test]
fn a_source_that_is_heard_again_is_in_reach_and_one_that_has_yet_to_decide_is_not_waited_for_long() {
    let now = Instant::now();
    let mut whole = staged(true, now);
    whole.source_cut_off(false, now);
    assert!(whole.is_in_doubt());
    whole.heard(now);
    assert!(!whole.is_in_doubt());
    assert_eq!(whole.recover(), [], "it is in reach");
    let mut rest = staged(false, now);
    assert!(matches!(rest.tick(now + 4 * SILENCE)[..], [TargetAction::Discard(_, Outcome::Source)]));
}

#[test]
fn a_whole_copy_whose_source_is_said_to_be_gone_is_taken_over_once_the_daemon_was_looked_for() {
    let now = Instant::now();
    let mut whole = staged(true, now);
    assert_eq!(whole.lives_nowhere(), [], "nobody has looked");
    assert_eq!(whole.source_cut_off(false, now), []);
    assert_eq!(whole.recover(), [TargetAction::LookElsewhere]);
    assert_eq!(whole.recover(), [TargetAction::LookElsewhere], "somebody else says so too");
    assert_eq!(whole.deadline(), None, "the search ends by itself");
    assert_eq!(whole.source_back(now), [TargetAction::StopLooking, TargetAction::AskSource]);
    assert_eq!(whole.lives_nowhere(), [], "its source is there");
    assert_eq!(whole.source_back(now), [TargetAction::AskSource]);
    assert_eq!(whole.source_cut_off(false, now), []);
    whole.recover();
    whole.heard(now);
    assert_eq!(whole.lives_nowhere(), [TargetAction::StopLooking], "its source was heard");
    assert_eq!(whole.state, TargetState::Staged { complete: true });
    assert_eq!(whole.source_cut_off(false, now), []);
    whole.recover();
    assert_eq!(whole.lives_nowhere(), [TargetAction::TakeOver]);
    assert_eq!(whole.state, TargetState::Over);
}

#[test]
fn a_copy_is_whole_when_as_many_are_staged_as_there_were() {
    let now = Instant::now();
    let mut target = staged(false, now);
    assert_eq!(target.staged(1, Some(2), now), [TargetAction::SayStaged]);
    assert_eq!(target.state, TargetState::Staged { complete: false }, "one is missing");
    assert_eq!(target.staged(2, Some(2), now), [TargetAction::SayStaged]);
    assert_eq!(target.state, TargetState::Staged { complete: true });
    assert_eq!(target.source_cut_off(true, now).len(), 1, "its source is dead, and cannot have released it unheard");
}

#[test]
fn a_live_copy_is_the_daemon_when_its_source_has_died() {
    let now = Instant::now();
    let mut target = staged(true, now);
    assert_eq!(target.activate(now), [TargetAction::Activate, TargetAction::Acknowledge]);
    assert_eq!(target.source_answered(CopyState::Active), [], "whatever the source says of itself");
    assert_eq!(target.source_cut_off(true, now), [TargetAction::Finish]);
    assert_eq!(target.state, TargetState::Over);
}
