//! The driver of a move by itself: what it asks in each state, whom it believes, and what it says of where the daemon is.

use std::time::Duration;

use mesh_daemon_core::identity::{EntityKeypair, Epoch, MigrationId, NodeId};
use mesh_daemon_core::migration::{
    Ask, MigrationFailure, MigrationOptions, Orchestrator, OrchestratorAction, Outcome, Progress, Sighting, Subject,
    Wanted,
};
use mesh_daemon_core::wire::migration::{CopyState, FailureReason, Stage};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);
const SILENCE: Duration = Duration::from_secs(16);
const BUDGET: Duration = Duration::from_secs(30);

fn node(seed: u8) -> NodeId {
    EntityKeypair::from_seed(&[seed; 32]).node_id()
}

fn source() -> NodeId {
    node(2)
}

fn target() -> NodeId {
    node(3)
}

fn elsewhere() -> NodeId {
    node(4)
}

fn subject() -> Subject {
    let entity = EntityKeypair::from_seed(&[9; 32]).entity_id();
    Subject { entity, epoch: Epoch::FIRST, kind: "counter".into(), state_bytes: 0 }
}

/// What a driver does at one time.
type Actions = Vec<OrchestratorAction>;

fn inquiring(follow: bool, now: Instant) -> Orchestrator {
    let origin = subject().entity.origin_hash();
    let options = MigrationOptions { retry_not_ready: BUDGET, ..MigrationOptions::default() };
    let migration = MigrationId::new(1);
    let wanted = Wanted { migration, origin, source: source(), target: target(), follow, options };
    let (driver, actions) = Orchestrator::new(wanted, SILENCE, now);
    assert_eq!(actions, asks([Ask::Inquire]));
    driver
}

fn asking(now: Instant) -> Orchestrator {
    let mut driver = inquiring(true, now);
    assert_eq!(driver.described(subject(), now), asks([Ask::Prepare]));
    driver
}

/// The target was not ready.
fn backing_off(now: Instant) -> Orchestrator {
    let mut driver = asking(now);
    assert_eq!(driver.target_refused(FailureReason::NotReady, now), []);
    driver
}

fn driving(now: Instant) -> Orchestrator {
    let mut driver = asking(now);
    assert_eq!(asked(&driver.prepared(now)), [Ask::TakeSnapshot]);
    driver
}

/// The word for the cutover was given.
fn deciding(now: Instant) -> Orchestrator {
    let mut driver = driving(now);
    assert_eq!(asked(&driver.staged(2, now)), [Ask::CutoverNotify]);
    driver
}

/// It was given up before that word.
fn ending(now: Instant) -> Orchestrator {
    let mut driver = driving(now);
    assert_eq!(driver.abort(FailureReason::Cancelled, now), asks([Ask::Cancel(FailureReason::Cancelled)]));
    driver
}

/// Why the target is asked behind that word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Dead,
    NotThere,
    OutOfReach,
    Unsaid,
}

fn doubting(why: Why, now: Instant) -> Orchestrator {
    let mut driver = deciding(now);
    let call_off = Ask::CallOff(driver.id().expect("described"));
    let actions = match why {
        Why::Dead => driver.peer_lost(source(), true, now),
        Why::NotThere => driver.source_failed(FailureReason::DaemonNotFound, now),
        Why::OutOfReach => driver.peer_lost(source(), false, now),
        Why::Unsaid => unheard(&mut driver, &Ask::CutoverNotify, now),
    };
    // A copy that a living source may have released is not called off.
    match why {
        Why::Dead | Why::NotThere => assert_eq!(actions, asks([call_off, Ask::QueryTarget])),
        Why::OutOfReach | Why::Unsaid => assert_eq!(actions, asks([Ask::QueryTarget]), "{why:?}"),
    }
    driver
}

fn searching(now: Instant) -> Orchestrator {
    let mut driver = driving(now);
    let call_off = Ask::CallOff(driver.id().expect("described"));
    assert_eq!(driver.peer_lost(source(), true, now), asks([call_off, Ask::Search]));
    driver
}

/// Lets deadlines pass in which `repeated` is asked again, and gives what is done at the last one.
fn unheard(driver: &mut Orchestrator, repeated: &Ask, now: Instant) -> Actions {
    let mut at = now;
    for times in 0..10 {
        at = driver.deadline().expect("it waits").max(at);
        let actions = driver.tick(at);
        if asked(&actions) != std::slice::from_ref(repeated) {
            assert!(times >= 3, "the source is asked again");
            return actions;
        }
    }
    panic!("{repeated:?} is repeated without end");
}

fn asks<const N: usize>(asks: [Ask; N]) -> Actions {
    asks.map(OrchestratorAction::Ask).to_vec()
}

fn asked(actions: &[OrchestratorAction]) -> Vec<Ask> {
    let asks = actions.iter().filter_map(|action| match action {
        OrchestratorAction::Ask(ask) => Some(ask.clone()),
        OrchestratorAction::Phase(_) | OrchestratorAction::Progress(_) | OrchestratorAction::Finished(_) => None,
    });
    asks.collect()
}

/// How it ended, if it did.
fn end(actions: &[OrchestratorAction]) -> Option<Result<(), MigrationFailure>> {
    actions.iter().find_map(|action| match action {
        OrchestratorAction::Finished(result) => Some(result.clone()),
        OrchestratorAction::Ask(_) | OrchestratorAction::Phase(_) | OrchestratorAction::Progress(_) => None,
    })
}

fn outcome(actions: &[OrchestratorAction]) -> Option<Outcome> {
    end(actions).map(|result| result.expect_err("it failed").outcome())
}

/// Whose loss ended it.
fn who_is_lost(actions: &[OrchestratorAction]) -> Option<NodeId> {
    match end(actions)? {
        Err(MigrationFailure::Refused(FailureReason::PeerLost { node, .. }, _)) => node,
        _ => None,
    }
}

/// A refusal, as [`end`] gives it.
#[allow(clippy::unnecessary_wraps)] // it is held against what may be none
fn refused(reason: FailureReason, outcome: Outcome) -> Option<Result<(), MigrationFailure>> {
    Some(Err(MigrationFailure::Refused(reason, outcome)))
}

/// One in each state, but for those that `skip`.
fn in_states_but(skip: &[&str], now: Instant) -> Vec<(&'static str, Orchestrator)> {
    let all = [
        ("inquiring", inquiring(true, now)),
        ("asking", asking(now)),
        ("backing off", backing_off(now)),
        ("driving", driving(now)),
        ("deciding", deciding(now)),
        ("ending", ending(now)),
        ("doubting", doubting(Why::Dead, now)),
        ("searching", searching(now)),
    ];
    all.into_iter().filter(|(name, _)| !skip.contains(name)).collect()
}

#[test]
fn a_daemon_that_moves_on_is_followed_a_few_times_and_then_looked_for() {
    let now = Instant::now();
    let gone = || FailureReason::DaemonNotFound;
    let not_found = |driver: &Orchestrator| Some(Err(MigrationFailure::DaemonNotFound(driver.wanted.origin)));
    let mut driver = inquiring(true, now);
    for step in 0..8 {
        let next = node(20 + step);
        assert_eq!(driver.declined(gone(), Some(next), now), asks([Ask::Inquire]));
        assert_eq!((driver.wanted.source, driver.attempt), (next, u32::from(step) + 2));
    }
    assert_eq!(driver.declined(gone(), Some(elsewhere()), now), asks([Ask::Search]), "not without end");
    let mut followed_once = inquiring(true, now);
    followed_once.declined(gone(), Some(elsewhere()), now);
    assert_eq!(followed_once.declined(gone(), None, now), asks([Ask::Search]), "somebody had said that it is there");
    for (follow, moved) in [(true, Some(source())), (true, None), (false, Some(elsewhere()))] {
        let mut driver = inquiring(follow, now);
        let actions = driver.declined(gone(), moved, now);
        assert_eq!(end(&actions), not_found(&driver), "{moved:?}");
    }
}

#[test]
fn a_source_that_is_followed_is_as_one_that_was_asked_first() {
    let now = Instant::now();
    let mut driver = inquiring(true, now);
    driver.peer_cut(source(), now);
    driver.declined(FailureReason::DaemonNotFound, Some(elsewhere()), now);
    let later = now + SECOND;
    assert_eq!(driver.described(subject(), later), asks([Ask::Prepare]));
    assert_eq!(driver.vouched_at(), later);
    assert_eq!(outcome(&driver.shut_down(false)), Some(Outcome::Source), "the session that broke was another's");
}

#[test]
fn one_that_the_source_had_not_begun_follows_and_one_that_it_had_is_searched_for() {
    let now = Instant::now();
    let mut driver = driving(now);
    let call_off = Ask::CallOff(driver.id().expect("described"));
    assert_eq!(driver.source_failed(FailureReason::DaemonNotFound, now), asks([call_off.clone(), Ask::Inquire]));
    let mut driver = driving(now);
    driver.status(Stage::Transfer, Progress::default(), now);
    assert_eq!(driver.source_failed(FailureReason::DaemonNotFound, now), asks([call_off, Ask::Search]));
}

#[test]
fn a_repeated_question_that_the_source_declines_has_it_asked_for_the_end() {
    let now = Instant::now();
    for reason in [FailureReason::DaemonNotFound, FailureReason::NotAuthorized] {
        assert_eq!(driving(now).declined(reason.clone(), None, now), asks([Ask::TakeSnapshot]));
        assert_eq!(deciding(now).declined(reason, None, now), asks([Ask::CutoverNotify]));
    }
    let busy = FailureReason::AlreadyMigrating;
    assert_eq!(end(&driving(now).declined(busy.clone(), None, now)), refused(busy.clone(), Outcome::Source));
    for (name, mut driver) in in_states_but(&["inquiring", "driving", "deciding"], now) {
        assert_eq!(driver.declined(busy.clone(), None, now), [], "{name}");
        assert_eq!(driver.described(subject(), now), [], "{name}");
    }
}

#[test]
fn each_word_counts_only_where_it_was_asked_for() {
    let now = Instant::now();
    for (name, mut driver) in in_states_but(&["asking"], now) {
        assert_eq!(driver.prepared(now), [], "{name}");
    }
    for (name, mut driver) in in_states_but(&["backing off"], now) {
        assert_eq!(driver.now_ready(now), [], "{name}");
    }
    for (name, mut driver) in in_states_but(&["deciding", "doubting"], now) {
        assert_eq!(driver.completed(), [], "{name}");
        assert_eq!(driver.source_in_doubt(), [], "{name}");
    }
    for (name, mut driver) in in_states_but(&["driving"], now) {
        assert!(!asked(&driver.staged(2, now)).contains(&Ask::CutoverNotify), "{name}");
    }
    for (name, mut driver) in in_states_but(&["doubting"], now) {
        assert_eq!(driver.target_copy(CopyState::Active, now), [], "{name}");
    }
    for (name, mut driver) in in_states_but(&["searching"], now) {
        assert_eq!(driver.searched(Sighting::Nowhere), [], "{name}");
    }
    for mut driver in [deciding(now), doubting(Why::Dead, now)] {
        assert_eq!(outcome(&driver.source_in_doubt()), Some(Outcome::Unknown));
    }
    for mut driver in [deciding(now), doubting(Why::Dead, now)] {
        assert_eq!(end(&driver.completed()), Some(Ok(())));
    }
}

#[test]
fn what_the_target_says_once_it_agreed_ends_nothing() {
    let now = Instant::now();
    for reason in [FailureReason::NotReady, FailureReason::ComputeNotSupported] {
        for (name, mut driver) in in_states_but(&["asking", "backing off"], now) {
            let waits_until = driver.deadline();
            assert_eq!(driver.target_refused(reason.clone(), now), [], "{name}");
            assert_eq!(driver.deadline(), waits_until, "{name}");
        }
    }
    for mut driver in [asking(now), backing_off(now)] {
        let actions = driver.target_refused(FailureReason::ComputeNotSupported, now);
        assert_eq!(actions, asks([Ask::Cancel(FailureReason::Cancelled)]), "the source says whether it has the daemon");
        let told = driver.source_failed(FailureReason::Cancelled, now);
        assert_eq!(end(&told), refused(FailureReason::ComputeNotSupported, Outcome::Source));
    }
    assert_eq!(backing_off(now).target_refused(FailureReason::NotReady, now), [], "a repetition");
}

#[test]
fn a_target_that_is_not_ready_is_asked_within_the_budget_and_last_at_its_end() {
    let now = Instant::now();
    let mut driver = asking(now);
    let mut asked_at = vec![now];
    let mut at = now;
    let last = loop {
        let actions = driver.target_refused(FailureReason::NotReady, at);
        if !actions.is_empty() {
            break actions;
        }
        at = driver.deadline().expect("it waits");
        assert_eq!(driver.tick(at), asks([Ask::Prepare]));
        asked_at.push(at);
    };
    assert_eq!(last, asks([Ask::Cancel(FailureReason::Cancelled)]));
    let after: Vec<u128> = asked_at.iter().map(|at| (*at - now).as_millis()).collect();
    assert_eq!(after, [0, 500, 1_500, 3_500, 7_500, 15_500, 30_000]);
    let attempts = u32::try_from(after.len()).expect("few");
    let told = driver.source_failed(FailureReason::Cancelled, at);
    assert_eq!(end(&told), Some(Err(MigrationFailure::NotReadyTimeout { attempts })));
}

#[test]
fn a_source_whose_target_had_no_room_for_the_state_is_asked_again_later() {
    let now = Instant::now();
    let mut driver = driving(now);
    assert_eq!(driver.source_failed(FailureReason::NotReady, now), []);
    assert_eq!(driver.source_failed(FailureReason::NotReady, now), [], "a repetition");
    assert_eq!(driver.now_ready(now), asks([Ask::Prepare]));
}

#[test]
fn what_may_have_been_lost_with_a_session_is_asked_again() {
    let now = Instant::now();
    let cancel = || Ask::Cancel(FailureReason::Cancelled);
    assert_eq!(inquiring(true, now).peer_back(source()), asks([Ask::Inquire]));
    assert_eq!(driving(now).peer_back(source()), asks([Ask::TakeSnapshot, Ask::Inquire]));
    assert_eq!(deciding(now).peer_back(source()), asks([Ask::CutoverNotify, Ask::Inquire]));
    assert_eq!(ending(now).peer_back(source()), asks([cancel()]));
    assert_eq!(driving(now).peer_back(target()), asks([Ask::Prepare]));
    assert_eq!(asking(now).peer_back(source()), [], "the target is asked");
    assert_eq!(deciding(now).peer_back(target()), [], "it has said what there is to say");
}

#[test]
fn behind_the_word_for_the_cutover_only_the_source_undoes_it_until_it_says_that_it_has_decided() {
    let now = Instant::now();
    let timeout = || FailureReason::Timeout { detail: "not complete within 5 ms".into() };
    let mut driver = deciding(now);
    assert_eq!(driver.abort(timeout(), now), asks([Ask::Cancel(timeout())]), "that there was no time is said as such");
    assert_eq!(driver.tick(now + SILENCE), asks([Ask::Cancel(timeout())]), "it may have been lost");
    assert_eq!(driver.peer_back(source()), asks([Ask::Cancel(timeout()), Ask::Inquire]));
    let mut undone = deciding(now);
    undone.abort(timeout(), now);
    assert_eq!(end(&undone.source_failed(FailureReason::Cancelled, now)), refused(timeout(), Outcome::Source));
    driver.too_late();
    assert_eq!(driver.tick(now + 2 * SILENCE), asks([Ask::CutoverNotify]), "it is to complete");
    assert_eq!(end(&driver.completed()), Some(Ok(())));
}

#[test]
fn a_silence_is_told_to_the_source_as_such() {
    let now = Instant::now();
    let actions = driving(now).tick(now + SILENCE);
    assert!(matches!(&asked(&actions)[..], [Ask::Cancel(FailureReason::Timeout { .. })]), "{actions:?}");
}

#[test]
fn hazard_60_source_is_said_on_the_sources_word_only() {
    let now = Instant::now();
    let verdict = || refused(FailureReason::Cancelled, Outcome::Source);
    assert_eq!(end(&ending(now).source_failed(FailureReason::Cancelled, now)), verdict());
    let lost = FailureReason::PeerLost { detail: "it ends".into(), node: Some(source()) };
    assert_eq!(outcome(&ending(now).source_failed(lost, now)), Some(Outcome::Lost), "it takes the daemon with it");
    let outdone = FailureReason::PeerLost { detail: "another copy".into(), node: None };
    assert_eq!(outcome(&ending(now).source_failed(outdone, now)), Some(Outcome::Unknown));
    // One that does not let this node ask says nothing of where the daemon is.
    for (why, found) in [(FailureReason::NotAuthorized, true), (FailureReason::DaemonNotFound, false)] {
        let mut driver = driving(now);
        driver.status(Stage::Transfer, Progress::default(), now);
        assert!(asked(&driver.source_failed(why.clone(), now)).contains(&Ask::Search));
        let by = source();
        let right = if found {
            Some(Err(MigrationFailure::NotAuthorized { by }))
        } else {
            refused(FailureReason::DaemonNotFound, Outcome::Source)
        };
        assert_eq!(end(&driver.searched(Sighting::On(source()))), right, "{why:?}");
        let mut driver = driving(now);
        driver.status(Stage::Transfer, Progress::default(), now);
        driver.source_failed(why.clone(), now);
        assert_eq!(end(&driver.searched(Sighting::Nowhere)), refused(why, Outcome::Lost));
    }
    // Behind the word for the cutover the target may have it.
    for why in [FailureReason::NotAuthorized, FailureReason::DaemonNotFound] {
        assert!(asked(&deciding(now).source_failed(why, now)).contains(&Ask::QueryTarget));
    }
}

#[test]
fn a_source_that_does_not_answer_is_asked_a_few_times_and_then_others_are() {
    let now = Instant::now();
    let cancel = Ask::Cancel(FailureReason::Cancelled);
    let mut in_reach = ending(now);
    let actions = unheard(&mut in_reach, &cancel, now);
    assert_eq!(asked(&actions).last(), Some(&Ask::Search));
    let verdict = refused(FailureReason::Cancelled, Outcome::Source);
    assert_eq!(end(&in_reach.searched(Sighting::On(source()))), verdict);
    let mut cut = ending(now);
    cut.peer_cut(source(), now);
    let actions = unheard(&mut cut, &cancel, now);
    assert_eq!(outcome(&actions), Some(Outcome::Unknown), "it lives on, and nobody can say so: {actions:?}");
    // The same behind the word for the cutover: then the target is asked, which a source in reach may have told.
    for is_cut in [false, true] {
        let mut driver = deciding(now);
        if is_cut {
            driver.peer_cut(source(), now);
        }
        assert_eq!(unheard(&mut driver, &Ask::CutoverNotify, now), asks([Ask::QueryTarget]));
        assert_eq!(outcome(&driver.target_copy(CopyState::Discarded, now)), Some(Outcome::Unknown));
    }
}

#[test]
fn before_the_source_has_said_what_it_is_nothing_is_undone_and_nobody_is_said_to_be_lost() {
    let now = Instant::now();
    let given_up = || {
        let mut driver = inquiring(true, now);
        assert_eq!(driver.abort(FailureReason::Cancelled, now), asks([Ask::Search]));
        driver
    };
    assert_eq!(outcome(&given_up().searched(Sighting::Nowhere)), Some(Outcome::Unknown));
    assert_eq!(end(&given_up().searched(Sighting::On(source()))), refused(FailureReason::Cancelled, Outcome::Source));
    let mut dead = inquiring(true, now);
    assert_eq!(dead.peer_lost(source(), true, now), asks([Ask::Search]));
    assert_eq!(outcome(&dead.searched(Sighting::Nowhere)), Some(Outcome::Lost), "it died with its process");
}

#[test]
fn a_lost_source_is_searched_for_when_it_is_dead_and_unknown_when_it_was_silent() {
    let now = Instant::now();
    for (name, mut driver) in in_states_but(&["inquiring", "deciding", "doubting", "searching"], now) {
        let actions = driver.peer_lost(source(), true, now);
        assert_eq!(asked(&actions).last(), Some(&Ask::Search), "{name}");
    }
    for (name, mut driver) in in_states_but(&["deciding", "doubting", "searching"], now) {
        let call_off = driver.id().map(Ask::CallOff);
        let actions = driver.peer_lost(source(), false, now);
        assert_eq!(outcome(&actions), Some(Outcome::Unknown), "{name}: {actions:?}");
        assert_eq!(asked(&actions).first(), call_off.as_ref(), "{name}: the target need not wait");
    }
}

#[test]
fn what_the_target_says_of_its_copy_counts_with_why_the_source_does_not() {
    use CopyState::{Active, Discarded, Gone, Undecided};
    let now = Instant::now();
    for why in [Why::Dead, Why::OutOfReach, Why::Unsaid] {
        assert_eq!(outcome(&doubting(why, now).target_copy(Active, now)), Some(Outcome::Target), "{why:?}");
    }
    assert_eq!(end(&doubting(Why::NotThere, now).target_copy(Active, now)), Some(Ok(())), "the source has let go");
    for why in [Why::Dead, Why::NotThere] {
        assert_eq!(doubting(why, now).target_copy(Undecided, now), [], "{why:?}: it is asked again");
        for copy in [Discarded, Gone] {
            let actions = doubting(why, now).target_copy(copy, now);
            assert_eq!(asked(&actions).last(), Some(&Ask::Search), "{why:?}: another move may have taken it elsewhere");
        }
    }
    for why in [Why::OutOfReach, Why::Unsaid] {
        for copy in [Undecided, Discarded, Gone] {
            assert_eq!(outcome(&doubting(why, now).target_copy(copy, now)), Some(Outcome::Unknown), "{why:?} {copy:?}");
        }
    }
}

#[test]
fn when_both_are_lost_behind_the_word_for_the_cutover_nobody_knows() {
    let now = Instant::now();
    for lose in [Orchestrator::peer_cut, |driver: &mut Orchestrator, node, now| driver.peer_lost(node, true, now)] {
        let actions = lose(&mut doubting(Why::Dead, now), target(), now);
        assert_eq!(outcome(&actions), Some(Outcome::Unknown));
    }
    // A target that says nothing is not asked without end.
    let mut driver = doubting(Why::OutOfReach, now);
    let mut times = 0;
    let actions = loop {
        let at = driver.deadline().expect("it waits");
        assert!(at <= now + SILENCE, "no longer than a silence");
        let actions = driver.tick(at);
        if actions != asks([Ask::QueryTarget]) {
            break actions;
        }
        times += 1;
        assert!(times < 100, "it ends");
    };
    assert_eq!(outcome(&actions), Some(Outcome::Unknown));
}

#[test]
fn a_target_out_of_reach_ends_only_what_the_source_has_no_part_in_yet() {
    let now = Instant::now();
    for (name, mut driver) in in_states_but(&["asking", "backing off", "inquiring", "doubting"], now) {
        assert_eq!(driver.peer_cut(target(), now), [], "{name}");
    }
    for mut driver in [asking(now), backing_off(now)] {
        assert_eq!(driver.peer_cut(target(), now), asks([Ask::Cancel(FailureReason::Cancelled)]));
        let told = driver.source_failed(FailureReason::Cancelled, now);
        assert_eq!((who_is_lost(&told), outcome(&told)), (Some(target()), Some(Outcome::Source)));
    }
}

#[test]
fn what_a_search_finds_is_the_outcome() {
    let now = Instant::now();
    for (sighting, right) in [
        (Sighting::On(source()), Outcome::Source),
        (Sighting::On(target()), Outcome::Target),
        (Sighting::On(elsewhere()), Outcome::Unknown),
        (Sighting::Unclear, Outcome::Unknown),
        (Sighting::Nowhere, Outcome::Lost),
    ] {
        assert_eq!(outcome(&searching(now).searched(sighting)), Some(right), "{sighting:?}");
        // Given up by its caller, whatever that wanted is told only when the daemon is still there.
        let mut given_up = ending(now);
        unheard(&mut given_up, &Ask::Cancel(FailureReason::Cancelled), now);
        assert_eq!(outcome(&given_up.searched(sighting)), Some(right), "{sighting:?}");
    }
    // A new process of the source: the one that was to give the daemon away is dead, whatever the caller wanted.
    let mut died = ending(now);
    died.peer_lost(source(), true, now);
    let found = died.searched(Sighting::On(source()));
    assert_eq!((who_is_lost(&found), outcome(&found)), (Some(source()), Some(Outcome::Source)));
    // Of one that is cut off nobody knows whether it has it; of one that is dead that does not matter.
    for (dead, right) in [(false, Outcome::Unknown), (true, Outcome::Lost)] {
        let mut driver = driving(now);
        driver.status(Stage::Transfer, Progress::default(), now);
        driver.peer_cut(source(), now);
        let searches = if dead {
            driver.peer_lost(source(), true, now)
        } else {
            driver.source_failed(FailureReason::DaemonNotFound, now)
        };
        assert_eq!(asked(&searches).last(), Some(&Ask::Search));
        assert_eq!(outcome(&driver.searched(Sighting::Nowhere)), Some(right), "dead {dead}");
    }
    let mut slow = searching(now);
    assert_eq!(outcome(&slow.tick(now + SILENCE)), Some(Outcome::Unknown), "not waited for without end");
}

#[test]
fn hazard_13_a_driver_that_shuts_down_says_only_what_it_knows() {
    let now = Instant::now();
    for (name, mut driver) in in_states_but(&["deciding", "ending", "doubting", "searching"], now) {
        let actions = driver.shut_down(false);
        assert_eq!(outcome(&actions), Some(Outcome::Source), "{name}: nothing was released");
        let cancel = (name == "driving").then_some(Ask::Cancel(FailureReason::Cancelled));
        assert_eq!(asked(&actions), Vec::from_iter(cancel), "{name}: source and target need not wait for a silence");
    }
    for (name, mut driver) in in_states_but(&["deciding", "ending", "doubting", "searching"], now) {
        driver.peer_cut(source(), now);
        if driver.is_over() {
            continue;
        }
        assert_eq!(outcome(&driver.shut_down(false)), Some(Outcome::Unknown), "{name}: it cannot be asked");
    }
    for (name, mut driver) in in_states_but(&["inquiring", "asking", "backing off", "driving"], now) {
        assert_eq!(outcome(&driver.shut_down(false)), Some(Outcome::Unknown), "{name}");
    }
    for (name, mut driver) in in_states_but(&[], now) {
        let actions = driver.shut_down(true);
        assert_eq!(outcome(&actions), Some(Outcome::Lost), "{name}: the daemon goes with this node");
        assert_eq!(asked(&actions), [], "{name}: there is nobody to tell");
    }
    let mut back = driving(now);
    back.peer_cut(source(), now);
    back.peer_back(source());
    assert_eq!(outcome(&back.shut_down(false)), Some(Outcome::Source), "it can be asked again");
}
