//! Every message of a migration × every way in which it can go wrong, generated from what a run without faults sends.
//!
//! Whatever happens to one message, every event runs once and in order, every caller gets one answer, one copy lives, the
//! chain goes on, the outcome is right, nothing is left behind, and the daemon can move again.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_daemon_core::identity::{MigrationId, OriginHash};
use mesh_daemon_core::migration::{MigrationFailure, Outcome};
use mesh_daemon_core::runtime::{ArrivalPolicy, OrchestratorPolicy, RuntimeOptions, Settlement};
use mesh_daemon_core::wire::migration::MigrationMessage;

use super::in_world;
use super::load::{Plan, check};
use super::world::{How, Intruder, Meddler, Sent, Trap, World};

/// What a run is about: each brings messages that others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    /// Everything goes well.
    Plain,
    /// `restore` fails on the target.
    RestoreFails,
    /// The target becomes ready while it is asked again.
    NotReady,
    /// The connection breaks with the word to go live, and comes back.
    CutAtTheHandOver,
    /// The connection breaks with the word that it lives.
    CutAtTheAcknowledgement,
    /// A third node drives.
    Driven,
    /// A third node drives, and the connection breaks with the word to go live.
    DrivenIntoDoubt,
    /// A third node drives, and gives up.
    Cancelled,
    /// It gives up when the source has decided.
    CancelledTooLate,
    /// The target drives, which the source does not admit.
    Declined,
    /// The source moves away all that it has.
    Drain,
}

/// Has no part in the move.
const STRANGER: usize = 3;

const SCENARIOS: [Scenario; 11] = [
    Scenario::Plain,
    Scenario::RestoreFails,
    Scenario::NotReady,
    Scenario::CutAtTheHandOver,
    Scenario::CutAtTheAcknowledgement,
    Scenario::Driven,
    Scenario::DrivenIntoDoubt,
    Scenario::Cancelled,
    Scenario::CancelledTooLate,
    Scenario::Declined,
    Scenario::Drain,
];

/// What goes wrong with a message.
#[derive(Clone, Debug)]
enum Fault {
    None,
    Meddle(How),
    /// The right node sends it when another message is sent.
    WrongTime(Intruder),
    /// The right node sends it again when all is over.
    Replayed(Sent),
}

struct Run {
    origin: OriginHash,
    /// Where it was to go, or went.
    target: usize,
    result: Result<(), MigrationFailure>,
}

fn calls(world: &mut World, nodes: &[usize], origin: OriginHash) {
    for node in nodes {
        world.call(*node, origin);
    }
}

fn move_once(world: &mut World, scenario: Scenario, kind: &str) -> Run {
    world.nodes[0].objects.fresh.ballast = 100_000;
    if scenario == Scenario::NotReady {
        world.restart_unready(1);
    }
    world.nodes[1].objects.faults.restore = scenario == Scenario::RestoreFails;
    let origin = world.spawn(0, 1, kind);
    // One that is not ready calls nobody.
    let callers: &[usize] = if scenario == Scenario::NotReady { &[0, 2] } else { &[0, 1, 2] };
    for _ in 0..6 {
        calls(world, callers, origin);
    }
    if scenario == Scenario::Drain {
        let (target, result) = drained(world, origin);
        calls(world, &[0, 1, 2], origin);
        return Run { origin, target, result };
    }
    let (driver, trapped) = match scenario {
        Scenario::Plain | Scenario::RestoreFails | Scenario::NotReady => (0, None),
        Scenario::CutAtTheHandOver => (0, Some("ActivateTarget")),
        Scenario::CutAtTheAcknowledgement => (0, Some("ActivateAck")),
        Scenario::DrivenIntoDoubt => (2, Some("ActivateTarget")),
        Scenario::Driven | Scenario::Cancelled | Scenario::CancelledTooLate => (2, None),
        Scenario::Declined => (1, None),
        Scenario::Drain => unreachable!("nobody names a target"),
    };
    let heal_after = Duration::from_millis(30);
    world.trap = trapped.map(|message| Trap { message, nth: 0, arrives: false, heal_after });
    let ticket = world.drive(driver, origin, 0, 1);
    calls(world, callers, origin);
    let migration: MigrationId = world.migration(ticket).expect("it begins");
    if scenario == Scenario::NotReady {
        world.run_for(Duration::from_millis(700));
        world.make_ready(1);
    }
    let gives_up = match scenario {
        Scenario::Cancelled => {
            world.run_for(Duration::from_millis(2));
            true
        }
        // Where a fault keeps the source from deciding there is nothing that it could be too late for.
        Scenario::CancelledTooLate => world.run_until(Duration::from_secs(200), |world| {
            world.messages.iter().any(|(.., name)| *name == "ActivateTarget")
                || world.nodes[driver].over.contains_key(&migration.get())
        }),
        Scenario::Plain
        | Scenario::RestoreFails
        | Scenario::NotReady
        | Scenario::CutAtTheHandOver
        | Scenario::CutAtTheAcknowledgement
        | Scenario::Driven
        | Scenario::DrivenIntoDoubt
        | Scenario::Declined
        | Scenario::Drain => false,
    };
    if gives_up {
        let now = world.present();
        world.nodes[driver].engine.abort_migration(migration, None, now);
        world.settle(driver);
    }
    let result = world.wait_migration(driver, migration);
    world.trap = None;
    world.nodes[1].objects.faults.restore = false;
    calls(world, &[0, 1, 2], origin);
    Run { origin, target: 1, result }
}

/// Drains the source of its one daemon, while all call it: where it went, and what came of it.
fn drained(world: &mut World, origin: OriginHash) -> (usize, Result<(), MigrationFailure>) {
    let ticket = world.act(0, None, |engine, ticket, now| engine.drain(ticket, None, now));
    calls(world, &[0, 1, 2], origin);
    let report = match world.wait_for(ticket) {
        Ok(Settlement::Drained(reports)) => {
            assert_eq!(reports.len(), 1, "{reports:?}");
            reports[0].clone()
        }
        other => panic!("a report: {other:?}"),
    };
    assert_eq!((report.origin, report.outcome == Outcome::Target), (origin, report.failure.is_none()), "{report:?}");
    let target = report.target.map_or(0, |target| (0..4).find(|node| world.id(*node) == target).expect("a peer"));
    (target, report.failure.map_or(Ok(()), Err))
}

fn cell(scenario: Scenario, kind: &str, seed: u64, (name, nth): (&'static str, usize), fault: &Fault) -> Vec<Sent> {
    let mut sent = Vec::new();
    let driver = World::new(seed, 4).id(2);
    let world = World::with_options(seed, 4, |_| RuntimeOptions {
        arrivals: ArrivalPolicy::AnyKind,
        orchestrators: OrchestratorPolicy::Only([driver].into()),
        ..RuntimeOptions::default()
    });
    in_world(world, |world| {
        world.may_refuse = true;
        match fault {
            Fault::Meddle(how) => world.meddler = Some(Meddler { message: name, nth, how: *how }),
            Fault::WrongTime(intruder) => world.intruder = Some(intruder.clone()),
            Fault::None | Fault::Replayed(_) => {}
        }
        let what = format!("{scenario:?} {kind} {name} {nth} {fault:?}");
        let Run { origin, target, result } = move_once(world, scenario, kind);
        world.run_for(Duration::from_secs(5));
        sent.clone_from(&world.sent);
        if let Fault::Replayed(message) = fault {
            world.intrude(message, message.from);
            world.meddled += 1;
        }
        assert_eq!(world.meddled, u64::from(!matches!(fault, Fault::None)), "{what}: the fault took place");
        // Longer than an undecided copy is kept.
        world.run_for(Duration::from_secs(700));
        let hosts = world.hosts(origin);
        assert_eq!(hosts.len(), 1, "{what}: one live copy, {hosts:?}");
        let host = hosts[0].0;
        match &result {
            Ok(()) => assert_eq!(host, target, "{what}"),
            Err(failure) => match failure.outcome() {
                Outcome::Source => assert_eq!(host, 0, "{what}: {failure}"),
                Outcome::Unknown => {}
                Outcome::Target | Outcome::Lost => panic!("{what}: {failure}"),
            },
        }
        let undisturbed = matches!(fault, Fault::Meddle(How::Forge { .. } | How::Duplicate) | Fault::Replayed(_));
        if undisturbed && matches!(scenario, Scenario::Plain | Scenario::NotReady | Scenario::Driven | Scenario::Drain)
        {
            assert_eq!(result, Ok(()), "{what}: it changes nothing");
        }
        if scenario == Scenario::Declined {
            let failure = result.expect_err("it was declined");
            let unheard = failure.outcome() == Outcome::Unknown && !undisturbed;
            assert!(unheard || failure.outcome() == Outcome::Source, "{what}: {failure}");
        }
        let plan = Plan { kind: "prompt", hops: 0, mixed: false, ..Plan::default() };
        check(world, origin, plan);
        assert_eq!(world.seen(origin).len(), world.requests(), "{what}: every event ran");
        // Whatever happened, it can move on.
        assert_eq!(world.moved(host, origin, 2), Ok(()), "{what}");
        world.run_for(Duration::from_secs(1));
        world.assert_nothing_left();
    });
    sent
}

/// The messages of a run, with the first ones of each name.
fn messages(sent: &[Sent]) -> Vec<(usize, Sent)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut chosen = Vec::new();
    for message in sent {
        let count = counts.entry(message.name).or_default();
        if *count < 2 {
            chosen.push((*count, message.clone()));
        }
        *count += 1;
    }
    chosen
}

fn table(faults: impl Fn(&Sent, &[Sent]) -> Vec<Fault>) -> BTreeMap<&'static str, usize> {
    let mut cells: BTreeMap<&'static str, usize> = BTreeMap::new();
    for scenario in SCENARIOS {
        for (seed, kind) in [(11, "prompt"), (12, "slow")] {
            let sent = cell(scenario, kind, seed, ("none", 0), &Fault::None);
            for (nth, message) in messages(&sent) {
                for fault in faults(&message, &sent) {
                    cell(scenario, kind, seed, (message.name, nth), &fault);
                    *cells.entry(message.name).or_default() += 1;
                }
            }
        }
    }
    cells
}

macro_rules! every_message {
    ($($message:ident),+ $(,)?) => {
        /// Every kind of message.
        const EVERY_MESSAGE: &[&str] = &[$(stringify!($message)),+];

        // A new kind does not compile until it is listed; then some scenario has to send it.
        const _: fn(&MigrationMessage<'_>) = |message| match message {
            $(MigrationMessage::$message { .. })|+ => {}
        };
    };
}

every_message![
    ActivateAck,
    ActivateTarget,
    BufferedEvents,
    CanHost,
    Cancel,
    Chunk,
    CleanupComplete,
    CutoverNotify,
    Declined,
    Described,
    Hosts,
    InDoubt,
    Inquire,
    MigrationFailed,
    NowReady,
    Prepare,
    Prepared,
    ReplayComplete,
    Reserve,
    Reserved,
    RestoreComplete,
    SnapshotReady,
    Status,
    StatusAnswer,
    StatusQuery,
    TakeSnapshot,
    TooLate,
];

fn every_message_is_in(cells: &BTreeMap<&'static str, usize>) {
    for name in EVERY_MESSAGE {
        assert!(cells.contains_key(name), "no cell of {name}: {cells:?}");
    }
    assert_eq!(cells.len(), EVERY_MESSAGE.len(), "{cells:?}");
}

#[test]
fn hazard_23_each_message_is_lost() {
    every_message_is_in(&table(|_, _| vec![Fault::Meddle(How::Lose)]));
}

#[test]
fn hazard_23_each_message_is_duplicated() {
    every_message_is_in(&table(|_, _| vec![Fault::Meddle(How::Duplicate)]));
}

#[test]
fn hazard_23_each_message_is_delayed_past_the_next_phase() {
    let delays = [Duration::from_secs(1), Duration::from_secs(20), Duration::from_secs(90)];
    every_message_is_in(&table(|_, _| delays.iter().map(|delay| Fault::Meddle(How::Delay(*delay))).collect()));
}

#[test]
fn hazard_34_each_message_is_replayed_after_completion() {
    every_message_is_in(&table(|message, _| vec![Fault::Replayed(message.clone())]));
}

#[test]
fn hazard_33_each_message_is_forged_by_a_third_node() {
    every_message_is_in(&table(|_, _| vec![Fault::Meddle(How::Forge { by: STRANGER })]));
}

#[test]
fn hazard_34_each_message_is_sent_by_the_right_node_at_the_wrong_time() {
    const INSTANTS: [&str; 5] = ["Inquire", "Prepare", "Reserved", "ReplayComplete", "CleanupComplete"];
    every_message_is_in(&table(|message, sent| {
        let happens = |at: &&str| sent.iter().any(|other| other.name == *at) && *at != message.name;
        INSTANTS
            .into_iter()
            .filter(happens)
            .map(|at| Fault::WrongTime(Intruder { at, message: message.clone() }))
            .collect()
    }));
}
