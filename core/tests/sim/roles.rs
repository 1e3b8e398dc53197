//! The machines of source and target by themselves: what is said again is answered again, and changes nothing.

use std::time::Duration;

use mesh_daemon_core::identity::{EntityKeypair, Epoch, MigrationId, NodeId};
use mesh_daemon_core::migration::{Outcome, Target, TargetAction, TargetState};
use mesh_daemon_core::wire::migration::{CopyState, FailureReason, MoveId};
use tokio::time::Instant;

const SILENCE: Duration = Duration::from_secs(10);
const HOLD: Duration = Duration::from_secs(600);

fn node(seed: u8) -> NodeId {
    EntityKeypair::from_seed(&[seed; 32]).node_id()
}

fn prepared(now: Instant) -> Target {
    let entity = EntityKeypair::from_seed(&[9; 32]).entity_id();
    let id = MoveId { entity, migration: MigrationId::new(1), attempt: 1, epoch: Epoch::FIRST };
    let (target, actions) = Target::new(id, (node(1), node(2)), (SILENCE, HOLD), now);
    assert_eq!(actions, [TargetAction::Agree]);
    target
}

/// A target at each state that a move passes through, in order.
fn at_each_state(now: Instant) -> Vec<Target> {
    let steps: [fn(&mut Target, Instant); 7] = [
        |target, now| assert!(target.reserve(now)),
        |target, _| assert_eq!(target.granted(), [TargetAction::Grant]),
        |target, now| assert_eq!(target.received(SILENCE, now), [TargetAction::Build]),
        |target, _| assert_eq!(target.built(true), [TargetAction::Restore]),
        |target, _| assert_eq!(target.restored(), [TargetAction::SayRestored]),
        |target, now| assert_eq!(target.staged(2, Some(2), now), [TargetAction::SayStaged]),
        |target, now| assert_eq!(target.activate(now), [TargetAction::Activate, TargetAction::Acknowledge]),
    ];
    (0..=steps.len())
        .map(|count| {
            let mut target = prepared(now);
            for step in &steps[..count] {
                step(&mut target, now);
            }
            target
        })
        .collect()
}

#[test]
fn requirement_90_going_live_is_once_and_each_repetition_is_acknowledged() {
    let now = Instant::now();
    let mut target = at_each_state(now).pop().expect("the last one is live");
    for _ in 0..3 {
        assert_eq!(target.activate(now), [TargetAction::Acknowledge]);
        assert_eq!((target.state, target.copy()), (TargetState::Active, CopyState::Active));
    }
    assert_eq!(target.cleaned_up(), [TargetAction::Finish]);
    assert_eq!(target.activate(now), [], "what is over is not brought to life again");
    assert_eq!(target.cleaned_up(), [], "and ends once");
}

#[test]
fn requirement_90_what_is_live_is_not_called_off_and_what_was_called_off_never_goes_live() {
    let now = Instant::now();
    for mut target in at_each_state(now) {
        let live = target.state == TargetState::Active;
        let given_up = target.called_off(FailureReason::Cancelled, Outcome::Source);
        if live {
            assert_eq!(given_up, []);
            assert_eq!(target.fail(FailureReason::Cancelled), []);
            assert_eq!(target.copy(), CopyState::Active);
        } else {
            assert_eq!(given_up, [TargetAction::CallOff(FailureReason::Cancelled, Outcome::Source)]);
            assert_eq!(target.activate(now), []);
            assert_eq!(target.copy(), CopyState::Discarded);
        }
    }
}

#[test]
fn requirement_90_an_undecided_target_has_an_instant_and_one_that_is_over_has_none() {
    let now = Instant::now();
    for mut target in at_each_state(now) {
        assert!(target.deadline().is_some_and(|deadline| deadline > now), "{:?}", target.state);
        let state = target.state;
        assert_eq!(target.tick(now), []);
        assert_eq!(target.state, state, "nothing happens before it");
        if target.state == TargetState::Active {
            target.cleaned_up();
        } else {
            target.fail(FailureReason::Cancelled);
        }
        assert_eq!(target.deadline(), None);
        assert_eq!(target.tick(now + 2 * HOLD), []);
    }
}

#[test]
fn requirement_97_only_a_copy_that_is_whole_goes_live() {
    let now = Instant::now();
    for mut target in at_each_state(now) {
        let state = target.state;
        match state {
            TargetState::Staged { complete: true } | TargetState::Active => continue,
            TargetState::Prepared
            | TargetState::Waiting
            | TargetState::Receiving
            | TargetState::Building
            | TargetState::Restoring
            | TargetState::Staged { complete: false }
            | TargetState::Over => {}
        }
        assert_eq!(target.activate(now), []);
        assert_eq!(target.state, state);
    }
}

#[test]
fn requirement_95_what_comes_again_behind_the_restore_neither_builds_nor_restores() {
    let now = Instant::now();
    for mut target in at_each_state(now) {
        let state = target.state;
        match state {
            TargetState::Prepared
            | TargetState::Waiting
            | TargetState::Receiving
            | TargetState::Building
            | TargetState::Restoring => continue,
            TargetState::Staged { .. } | TargetState::Active | TargetState::Over => {}
        }
        assert!(!target.reserve(now), "{state:?}");
        assert_eq!(target.granted(), []);
        assert_eq!(target.received(SILENCE, now), []);
        assert_eq!(target.built(true), []);
        assert_eq!(target.restored(), []);
        assert_eq!(target.state, state);
    }
}
