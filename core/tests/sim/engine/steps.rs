//! The hand-over step by step: at each message of a move that the source, the target or a third node drives, each role is
//! killed, started anew, cut off, or given up and back; source and target die at once, too. What becomes of the daemon is the
//! row of the table of deaths.

use std::slice;
use std::time::Duration;

use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::migration::{MigrationFailure, Outcome};

use super::in_world;
use super::load::{Plan, answers_are_true, check};
use super::world::{NEVER, World};
use crate::seeds;

const SOURCE: usize = 0;
const TARGET: usize = 1;
/// Drives, where neither of them does.
const THIRD: usize = 2;
/// Calls all the time, and takes the daemon in when all is over.
const CALLER: usize = 3;

/// The steps of a move that a third node drives, in their order: the message, and which of that name.
const STEPS: [(&str, usize); 17] = [
    ("Inquire", 0),
    ("Described", 0),
    ("Prepare", 0),
    ("Prepared", 0),
    ("TakeSnapshot", 0),
    ("Reserve", 0),
    ("Reserved", 0),
    ("Chunk", 0),
    ("SnapshotReady", 0),
    ("RestoreComplete", 0),
    ("BufferedEvents", 0),
    ("ReplayComplete", 0),
    ("CutoverNotify", 0),
    ("BufferedEvents", 1),
    ("ActivateTarget", 0),
    ("ActivateAck", 0),
    ("CleanupComplete", 0),
];

/// Whether a step is a message between nodes: what a node says to itself no fault comes between.
fn is_said(step: &str, driver: usize) -> bool {
    match driver {
        SOURCE => !matches!(step, "Inquire" | "Described" | "TakeSnapshot" | "CutoverNotify"),
        TARGET => !matches!(step, "Prepare" | "Prepared"),
        _ => true,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The process is gone for good.
    Kill,
    /// It is started again at once: proof that the former life is over.
    Restart,
    /// Its connections break, and are back before anybody gives it up.
    Cut,
    /// It is given up by all, and comes back in the same life.
    GivenUp,
}

const FAULTS: [Fault; 4] = [Fault::Kill, Fault::Restart, Fault::Cut, Fault::GivenUp];

#[derive(Clone, Copy, Debug)]
struct Case {
    driver: usize,
    step: (&'static str, usize),
    /// Whether the message is still read.
    read: bool,
    fault: Fault,
    victim: usize,
    /// The target dies at the same instant.
    both: bool,
    kind: &'static str,
}

impl Case {
    /// Those whose processes end.
    fn dead(&self) -> &[usize] {
        match (self.fault, self.both) {
            (Fault::Kill | Fault::Restart, false) => slice::from_ref(&self.victim),
            (_, true) => &[SOURCE, TARGET],
            (Fault::Cut | Fault::GivenUp, false) => &[],
        }
    }
}

/// What was known of the move when the fault came.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// The source had decided: the word to go live was on its way.
    decided: bool,
    /// It had arrived.
    live: bool,
}

fn calls(world: &mut World, origin: OriginHash, dead: &[usize]) {
    for node in [SOURCE, TARGET, THIRD, CALLER, CALLER].into_iter().filter(|node| !dead.contains(node)) {
        world.call(node, origin);
    }
}

fn strike(world: &mut World, fault: Fault, victim: usize) {
    match fault {
        Fault::Kill => world.kill(victim),
        Fault::Restart => world.restart(victim),
        Fault::Cut => {
            for other in (0..4).filter(|other| *other != victim) {
                world.cut(victim, other, Duration::from_millis(30));
            }
        }
        Fault::GivenUp => {
            world.lose_all(victim);
            world.run_for(Duration::from_secs(5));
            for other in (0..4).filter(|other| *other != victim) {
                world.connect(victim, other, false);
            }
        }
    }
}

/// Runs a move up to the step and lets the fault happen; how the driver's move ended, if the driver lives to tell.
fn struck_at(world: &mut World, case: Case, origin: OriginHash) -> (Progress, Option<Result<(), MigrationFailure>>) {
    let Case { driver, step: (name, nth), read, fault, victim, both, .. } = case;
    let ticket = world.drive(driver, origin, SOURCE, TARGET);
    calls(world, origin, &[]);
    let migration = world.migration(ticket).expect("it begins");
    let reached = world.run_until(Duration::from_secs(5), |world| {
        world.messages.iter().filter(|(.., sent)| *sent == name).count() > nth
    });
    assert!(reached, "{case:?}: the step came");
    if read {
        let longest = Duration::from_micros(world.delay.end);
        world.run_for(longest);
    }
    let progress = Progress {
        decided: world.messages.iter().any(|(.., sent)| *sent == "ActivateTarget"),
        live: world.hosting(origin).contains(&TARGET),
    };
    if both {
        // Nothing that one of them says of the other's end gets out.
        let (silently, pause) = (fault == Fault::Kill, if fault == Fault::Kill { NEVER } else { Duration::ZERO });
        world.crash(case.dead(), silently, pause);
    } else {
        strike(world, fault, victim);
    }
    calls(world, origin, if fault == Fault::Kill { case.dead() } else { &[] });
    let driver_lives = !case.dead().contains(&driver);
    (progress, driver_lives.then(|| world.wait_migration(driver, migration)))
}

fn outcome(result: &Result<(), MigrationFailure>) -> Option<Outcome> {
    result.as_ref().err().map(MigrationFailure::outcome)
}

/// Looks up the row: where the daemon lives in the end, and what the driver was told. The daemon may be taken over.
fn row(
    world: &mut World,
    case: Case,
    progress: Progress,
    told: Option<Result<(), MigrationFailure>>,
    origin: OriginHash,
) {
    let what = format!("{case:?} {progress:?} {told:?}");
    let told = told.map(|result| outcome(&result));
    let died = !case.dead().is_empty();
    if case.both {
        // Nobody is left who could go on, and only a move that was over before is told to be complete.
        assert_eq!(world.hosting(origin), [], "{what}: the daemon died with its hosts");
        match told {
            Some(None | Some(Outcome::Target)) => assert!(progress.live, "{what}"),
            Some(Some(Outcome::Source)) => panic!("{what}: it had died"),
            Some(Some(Outcome::Unknown | Outcome::Lost)) => {}
            None => assert_ne!(case.driver, THIRD, "{what}: the driver lives"),
        }
        return;
    }
    match (case.victim, died) {
        // Its next life takes the daemon in, where the former one had nothing of it yet.
        (TARGET, true) if !progress.decided && case.fault == Fault::Restart && told == Some(None) => {
            assert_eq!(world.hosting(origin), [TARGET], "{what}");
        }
        (TARGET, true) if !progress.decided => {
            assert_eq!(told, (case.driver != TARGET).then_some(Some(Outcome::Source)), "{what}");
            assert_eq!(world.hosting(origin), [SOURCE], "{what}");
        }
        (TARGET, true) => {
            if case.fault == Fault::Kill {
                world.run_for(Duration::from_secs(60));
                assert_eq!(world.hosting(origin), [], "{what}: silence proves nothing");
                let _gone_or_taken_over = world.recover(SOURCE, origin);
            }
            world.run_for(Duration::from_secs(60));
            // Once the source has let go, the daemon dies with its host.
            let left = world.hosting(origin);
            assert!(left == [SOURCE] || (left.is_empty() && progress.live), "{what}: {left:?}");
            match told {
                Some(told) => assert!(matches!(told, None | Some(Outcome::Unknown | Outcome::Lost)), "{what}"),
                None => assert_eq!(case.driver, TARGET, "{what}"),
            }
        }
        (SOURCE, true) if !progress.decided => {
            // Silence proves nothing.
            let expected = if case.fault == Fault::Kill { Outcome::Unknown } else { Outcome::Lost };
            assert_eq!(told, (case.driver != SOURCE).then_some(Some(expected)), "{what}");
            assert_eq!(world.hosting(origin), [], "{what}: the daemon died with its host");
        }
        (SOURCE, true) => {
            // Never by itself: what was on its way died with the source.
            let expected: &[usize] = if progress.live { &[TARGET] } else { &[] };
            assert_eq!(world.hosting(origin), expected, "{what}");
            match told {
                Some(told) => assert_ne!(told, Some(Outcome::Source), "{what}"),
                None => assert_eq!(case.driver, SOURCE, "{what}"),
            }
        }
        // Nobody with a copy died: one lives on, and the driver was told the truth.
        _ => {
            let left = world.hosting(origin);
            assert_eq!(left.len(), 1, "{what}: {left:?}");
            match told {
                Some(None | Some(Outcome::Target)) => assert_eq!(left, [TARGET], "{what}"),
                Some(Some(Outcome::Source)) => assert_eq!(left, [SOURCE], "{what}"),
                Some(Some(Outcome::Unknown)) | None => {}
                Some(Some(Outcome::Lost)) => panic!("{what}"),
            }
            let restarts = case.fault == Fault::Restart;
            let plan = Plan { kind: case.kind, hops: 0, cuts: true, restarts: restarts || died, ..Plan::default() };
            check(world, origin, plan);
        }
    }
}

fn run(world: &mut World, case: Case) {
    world.may_refuse = true;
    world.nodes[SOURCE].objects.fresh.ballast = 100_000;
    let origin = world.spawn(SOURCE, 1, case.kind);
    for node in 0..4 {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
    }
    let (progress, told) = struck_at(world, case, origin);
    // Longer than an undecided copy is kept.
    world.run_for(Duration::from_secs(700));
    row(world, case, progress, told, origin);
    assert!(world.waits.values().all(|wait| wait.result.is_some()), "{case:?}: every wait is answered");
    answers_are_true(world);
    world.assert_nothing_left();
    // Whatever happened, the daemon goes on and can move again; or its identity can be spawned anew.
    let host = world.hosting(origin).first().copied().unwrap_or_else(|| {
        assert_eq!(world.spawn(CALLER, 1, case.kind), origin);
        CALLER
    });
    // The first one may find that its stream leads to a life that has ended.
    let first = world.call(CALLER, origin);
    let _answered = world.wait_for(first);
    let second = world.call(CALLER, origin);
    world.outputs(second);
    let to = if host == CALLER { THIRD } else { CALLER };
    if world.is_connected(host, to) {
        assert_eq!(world.moved(host, origin, to), Ok(()), "{case:?}");
    }
    world.run_for(Duration::from_secs(1));
    world.assert_nothing_left();
    answers_are_true(world);
}

fn each_role_is_lost_at_each_step(driver: usize) {
    let roles: &[usize] = if driver == THIRD { &[SOURCE, TARGET, THIRD] } else { &[SOURCE, TARGET] };
    for seed in seeds::chosen(0..2) {
        let mut cases = 0;
        for step in STEPS.into_iter().filter(|(name, _)| is_said(name, driver)) {
            for read in [false, true] {
                for fault in FAULTS {
                    let died = matches!(fault, Fault::Kill | Fault::Restart);
                    let alone = roles.iter().map(|victim| (*victim, false));
                    for (victim, both) in alone.chain(died.then_some((SOURCE, true))) {
                        cases += 1;
                        let kind = if (seed + cases).is_multiple_of(2) { "prompt" } else { "slow" };
                        let case = Case { driver, step, read, fault, victim, both, kind };
                        in_world(World::open(seed << 16 | cases, 4), |world| run(world, case));
                    }
                }
            }
        }
    }
}

#[test]
fn hazard_64_each_role_is_lost_at_each_step_of_the_hand_over() {
    each_role_is_lost_at_each_step(THIRD);
}

#[test]
fn hazard_64_each_role_is_lost_at_each_step_of_a_hand_over_that_the_source_drives() {
    each_role_is_lost_at_each_step(SOURCE);
}

#[test]
fn hazard_64_each_role_is_lost_at_each_step_of_a_hand_over_that_the_target_drives() {
    each_role_is_lost_at_each_step(TARGET);
}
