//! Random worlds in which anybody dies at any instant: several daemons under load from everywhere, moved in loops by random
//! nodes, with cuts, partitions longer than the detection of losses, and crashes of source, target and driver, of two at
//! once too. What is promised of that is held against everything that any object ever processed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_daemon_core::daemon::{HostConfig, Ticket};
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::migration::Outcome;
use mesh_daemon_core::runtime::Settlement;
use mesh_daemon_core::runtime::{ArrivalPolicy, Executed, OrchestratorPolicy, Role, RuntimeError, RuntimeOptions};

use super::daemon::FAIL;
use super::in_world;
use super::world::World;
use crate::seeds;

mod talkers;

/// What goes on in a world.
#[derive(Clone, Copy)]
struct Habits {
    daemons: u8,
    /// Processes die.
    deaths: bool,
    /// Most events in a mailbox, where that is to be small.
    capacity: Option<usize>,
    /// Deaths are heard of late.
    late_news: bool,
}

const USUAL: Habits = Habits { daemons: 3, deaths: true, capacity: None, late_news: false };

/// What is known of a daemon beside what the engines say.
#[derive(Clone, Copy, Default)]
struct Fate {
    /// A process that held it, or a copy of it, died: it may be gone, and what was accepted with it.
    bereaved: bool,
    /// Somebody gave the word for a second copy, or spawned the identity anew.
    doubled: bool,
}

struct Move {
    driver: usize,
    life: u64,
    ticket: Ticket,
    origin: OriginHash,
    /// Where its driver takes the daemon to be.
    source: Option<usize>,
    /// Its end was seen.
    over: bool,
}

struct Model {
    daemons: BTreeMap<OriginHash, (u8, &'static str, Fate)>,
    /// For each request who made it, in which life, and for whom.
    requests: BTreeMap<u64, (usize, u64, OriginHash)>,
    moves: Vec<Move>,
    /// Moves of which it was said that the daemon stays with its source.
    stayed: Vec<(OriginHash, u128)>,
    /// How many of what was processed is checked.
    checked: usize,
    ran: BTreeSet<u64>,
    /// Losses count as the operator's word.
    recover_lost: bool,
    habits: Habits,
}

fn options(seed: u64) -> RuntimeOptions {
    RuntimeOptions {
        arrivals: ArrivalPolicy::AnyKind,
        orchestrators: OrchestratorPolicy::Any,
        recover_lost: seed % 4 == 3,
        ..RuntimeOptions::default()
    }
}

fn pick(world: &mut World, bound: usize) -> usize {
    usize::try_from(world.chance(bound as u64)).expect("small")
}

fn living(world: &mut World) -> Option<usize> {
    let node = pick(world, world.nodes.len());
    (!world.is_down(node)).then_some(node)
}

/// Whether a node holds the daemon or a copy of it, as the source or the target of a move.
fn holds(world: &World, node: usize, origin: OriginHash) -> bool {
    let engine = &world.nodes[node].engine;
    engine.find(origin).is_some()
        || engine.migrations().iter().any(|(role, of, ..)| *of == origin && *role != Role::Orchestrator)
}

impl Habits {
    fn config(self) -> HostConfig {
        let usual = HostConfig::default();
        HostConfig { mailbox_capacity: self.capacity.unwrap_or(usual.mailbox_capacity), ..usual }
    }
}

impl Model {
    fn new(world: &mut World, habits: Habits) -> Self {
        let mut daemons = BTreeMap::new();
        let count = world.nodes.len();
        for seed in 1..=habits.daemons {
            let kind = if seed % 2 == 0 { "slow" } else { "prompt" };
            let origin = world.spawn_with(usize::from(seed) % count, seed, kind, habits.config());
            daemons.insert(origin, (seed, kind, Fate::default()));
        }
        let recover_lost = options(world.seed).recover_lost;
        Self {
            daemons,
            requests: BTreeMap::new(),
            moves: Vec::new(),
            stayed: Vec::new(),
            checked: 0,
            ran: BTreeSet::new(),
            recover_lost,
            habits,
        }
    }

    fn any(&self, world: &mut World) -> OriginHash {
        let nth = pick(world, self.daemons.len());
        *self.daemons.keys().nth(nth).expect("one of them")
    }

    fn fate(&mut self, origin: OriginHash) -> &mut Fate {
        &mut self.daemons.get_mut(&origin).expect("one of them").2
    }

    fn emit(&mut self, world: &mut World) {
        for _ in 0..world.chance(5) {
            let Some(node) = living(world) else { continue };
            let origin = self.any(world);
            let flags = if world.chance(20) == 0 { FAIL } else { 0 };
            let large = if world.chance(30) == 0 { 70_000 } else { 0 };
            let dice = world.chance(10);
            // The next one: whoever runs it may make others at once.
            self.requests.insert(world.last_request + 1, (node, world.nodes[node].life, origin));
            match dice {
                0..3 => {
                    world.send(node, origin);
                }
                3..5 => {
                    let request = world.request(flags, 0);
                    world.deliver(node, origin, request);
                }
                _ => {
                    let request = world.request(flags, large);
                    world.call_with(node, origin, request, usize::try_from(large).expect("small"));
                }
            }
        }
    }

    fn start_move(&mut self, world: &mut World) {
        let Some(driver) = living(world) else { return };
        let origin = self.any(world);
        let to = pick(world, world.nodes.len());
        if self.habits.capacity.is_some() {
            let (kind, config) = (self.daemons[&origin].1, self.habits.config());
            let _expected_already = world.nodes[to].engine.expect_migration(kind, origin, config, None);
        }
        let ticket = world.migrate(driver, origin, to);
        let life = world.nodes[driver].life;
        self.moves.push(Move { driver, life, ticket, origin, source: None, over: false });
    }

    /// Ends of moves are true.
    fn reap(&mut self, world: &World) {
        let Self { daemons, stayed, recover_lost, .. } = self;
        self.moves.retain(|Move { driver, life, ticket, origin, .. }| {
            if world.nodes[*driver].life != *life {
                return false;
            }
            let (moved, id, failure) = match &world.waits[&ticket.0].result {
                None => return true,
                Some(Err(RuntimeError::Migration(failure))) => (None, None, failure.clone()),
                Some(Ok(Settlement::Migrating(started))) => {
                    let id = started.migration.get();
                    match world.nodes[*driver].over.get(&id) {
                        None => return true,
                        Some(Ok(())) => {
                            // By this move, by another one meanwhile, or because it was spawned there anew.
                            let moved = daemons[origin].2.doubled
                                || world.landed.values().any(|landed| *landed == (*origin, started.target));
                            assert!(
                                moved || started.source == started.target,
                                "{origin} is said to have moved in {:?}",
                                started.migration
                            );
                            return false;
                        }
                        Some(Err(failure)) => (Some((started.source, started.target)), Some(id), failure.clone()),
                    }
                }
                Some(other) => panic!("a move: {other:?}"),
            };
            let fate = daemons[origin].2;
            match (failure.outcome(), id) {
                (Outcome::Lost, _) => {
                    assert!(fate.bereaved, "{origin} is said to be lost, and nobody died: {failure:?}");
                    let anew = fate.doubled || *recover_lost;
                    assert!(anew || world.hosting(*origin).is_empty(), "{origin} is said to be lost: {failure:?}");
                }
                // By this move, or by another one meanwhile; or it was to stay where it was, and was taken back there.
                (Outcome::Target, _) => {
                    let lived = |(source, target)| {
                        source == target || world.landed.values().any(|landed| *landed == (*origin, target))
                    };
                    assert!(fate.doubled || moved.is_some_and(lived), "{origin} is said to live on the target");
                }
                // Whoever died may have had it live before; of an operator's word the same is true.
                (Outcome::Source, Some(id)) if !fate.bereaved && !fate.doubled && !*recover_lost => {
                    stayed.push((*origin, id));
                }
                (Outcome::Source | Outcome::Unknown, _) => {}
            }
            false
        });
    }

    fn crash(&mut self, world: &mut World) {
        let origin = self.any(world);
        let mut victims = BTreeSet::new();
        // Mostly somebody who takes part.
        let parts: Vec<usize> = (0..world.nodes.len()).filter(|&node| holds(world, node, origin)).collect();
        match world.chance(4) {
            0 => victims.extend(&parts),
            1 if !parts.is_empty() => {
                victims.insert(parts[pick(world, parts.len())]);
            }
            2 if !self.moves.is_empty() => {
                let nth = pick(world, self.moves.len());
                victims.insert(self.moves[nth].driver);
            }
            _ => {
                victims.insert(pick(world, world.nodes.len()));
            }
        }
        victims.retain(|&victim| !world.is_down(victim));
        if victims.is_empty() {
            return;
        }
        for (origin, (.., fate)) in &mut self.daemons {
            fate.bereaved |= victims.iter().any(|&victim| holds(world, victim, *origin));
        }
        let victims: Vec<usize> = victims.into_iter().collect();
        let silently = world.chance(2) == 0;
        let pause = if silently { random_pause(world) } else { Duration::ZERO };
        world.crash(&victims, silently, pause);
    }

    /// The operator's word, or the identity anew where nothing is left of the daemon.
    fn mourn(&mut self, world: &mut World) {
        let origin = self.any(world);
        let Some(node) = living(world) else { return };
        if world.chance(2) == 0 {
            let lived = world.nodes[node].engine.find(origin).is_some();
            if world.recover(node, origin).is_ok() && !lived {
                self.fate(origin).doubled = true;
            }
            return;
        }
        let somewhere = (0..world.nodes.len()).any(|node| holds(world, node, origin));
        if !somewhere && self.fate(origin).bereaved {
            let (seed, kind, _) = self.daemons[&origin];
            self.fate(origin).doubled = true;
            world.try_spawn(node, seed, kind, self.habits.config());
        }
    }

    /// At the instant at which a daemon is said to have stayed with its source, that one lives.
    fn watch_moves(&mut self, world: &World) {
        for Move { driver, life, ticket, origin, source, over } in self.moves.iter_mut().filter(|open| !open.over) {
            let Some(Ok(Settlement::Migrating(started))) = &world.waits[&ticket.0].result else { continue };
            let node = &world.nodes[*driver];
            if node.life != *life {
                continue;
            }
            match node.over.get(&started.migration.get()) {
                None => {
                    let parts = node.engine.migrations();
                    let part = parts.iter().find(|(role, of, ..)| of == origin && *role == Role::Orchestrator);
                    let at = part.map_or(started.source, |(_, _, source, ..)| *source);
                    *source = (0..world.nodes.len()).find(|node| world.id(*node) == at);
                }
                Some(result) => {
                    *over = true;
                    if let (Err(failure), Some(source)) = (result, source)
                        && failure.outcome() == Outcome::Source
                    {
                        assert!(
                            !world.is_down(*source),
                            "{origin} is said to be on n{source}, which died: {failure:?}"
                        );
                    }
                }
            }
        }
    }

    /// What holds at every instant.
    fn watch(&mut self, world: &World) {
        self.watch_moves(world);
        for request in &world.ran[self.checked..] {
            assert!(self.ran.insert(*request), "request {request} ran twice");
        }
        self.checked = world.ran.len();
        for (origin, (.., fate)) in &self.daemons {
            let hosts = world.hosting(*origin);
            assert!(hosts.len() <= 1 || fate.doubled || self.recover_lost, "live copies of {origin} on {hosts:?}");
        }
    }

    fn run_for(&mut self, world: &mut World, time: Duration) {
        world.run_until(time, |world| {
            self.watch(world);
            false
        });
        self.reap(world);
    }

    /// Answers that are true of what ran.
    fn check_answers(&self, world: &World) {
        for (ticket, wait) in &world.waits {
            let asked = wait.request.map(|request| (request, self.requests[&request]));
            let Some(result) = &wait.result else {
                panic!("ticket {ticket} of n{} has no answer: {asked:?}", wait.node)
            };
            let Some((request, (node, life, origin))) = asked else { continue };
            let fate = self.daemons[&origin].2;
            let ran = self.ran.contains(&request);
            match result {
                Ok(Settlement::Outputs(outputs)) => {
                    assert!(ran, "request {request} was answered and did not run");
                    let payload = &outputs[0].payload;
                    let answers = u64::from_le_bytes(payload[..8].try_into().expect("eight bytes"));
                    assert_eq!(answers, request, "the reply is to its own request");
                }
                Ok(Settlement::Done) => {
                    let lives = !fate.bereaved && !fate.doubled && !self.recover_lost;
                    assert!(
                        ran || !lives,
                        "request {request} of n{node} to {origin}, ticket {ticket}, was accepted, its owner lives, and it did not run"
                    );
                }
                Err(RuntimeError::ProcessFailed(_)) => assert!(ran, "request {request} failed and did not run"),
                Err(
                    RuntimeError::MailboxFull(_)
                    | RuntimeError::NotFound(_)
                    | RuntimeError::Backpressure(_)
                    | RuntimeError::PeerLost { executed: Executed::No, .. },
                ) => assert!(!ran, "request {request} is said not to have run, and ran: {result:?}"),
                Err(RuntimeError::PeerLost { executed: Executed::Unknown, .. } | RuntimeError::CallTimeout(_)) => {}
                // What it told others took too long.
                Err(RuntimeError::CallbackTimeout(_) | RuntimeError::RemoteTimeout(_)) if world.talk.is_some() => {}
                // Its own process died.
                Err(RuntimeError::ShuttingDown) => assert_ne!(world.nodes[node].life, life),
                other => panic!("request {request}: {other:?}"),
            }
        }
    }

    /// What stayed did not go live elsewhere, before or after that was said.
    fn check_stayed(&self, world: &World) {
        // An operator's word may have had the other copy go on later.
        for (origin, id) in self.stayed.iter().filter(|(origin, _)| !self.daemons[origin].2.doubled) {
            assert!(!world.landed.contains_key(id), "{origin} is said to have stayed with its source in {id:x}");
        }
    }

    /// What a copy went through is in the order of each life of each sender; and it is everything that ran, in its order,
    /// where nothing was lost.
    fn check_order(&self, world: &World) {
        for (&origin, (.., fate)) in &self.daemons {
            for (host, key) in world.hosts(origin) {
                if !fate.bereaved && !fate.doubled && !self.recover_lost {
                    let ran: Vec<u64> =
                        world.ran.iter().copied().filter(|request| self.requests[request].2 == origin).collect();
                    assert_eq!(
                        world.nodes[host].objects.map[&key].ledger.seen, ran,
                        "{origin} holds everything that ran"
                    );
                }
                let mut last: BTreeMap<(usize, u64), u64> = BTreeMap::new();
                for request in &world.nodes[host].objects.map[&key].ledger.seen {
                    let Some(&(node, life, of)) = self.requests.get(request) else { continue };
                    assert_eq!(of, origin, "request {request} ran where it was sent");
                    let before = last.insert((node, life), *request);
                    assert!(before.is_none_or(|before| before < *request), "n{node}: {before:?} before {request}");
                }
            }
        }
    }

    /// In a whole and quiet world nothing is left of anything, and every daemon that lives is reached from everywhere.
    fn check_end(&mut self, world: &mut World) {
        // Two that call each other may keep each other from moving.
        if let Some(talk) = &mut world.talk {
            talk.among(&[]);
        }
        world.assert_nothing_left();
        let origins: Vec<OriginHash> = self.daemons.keys().copied().collect();
        for origin in origins {
            let (seed, kind, fate) = self.daemons[&origin];
            if world.hosting(origin).is_empty() {
                assert!(fate.bereaved, "{origin} is gone, and nobody who held it died");
                assert_eq!(world.spawn(0, seed, kind), origin, "the identity is free");
            }
            assert_eq!(world.hosting(origin).len(), 1, "one copy of {origin}");
            for node in 0..world.nodes.len() {
                // The first may find that its stream leads to a life that has ended.
                let first = world.call(node, origin);
                let _answered = world.wait_for(first);
                let second = world.call(node, origin);
                world.outputs(second);
            }
            let host = world.hosting(origin)[0];
            let to = (host + 1) % world.nodes.len();
            assert_eq!(world.moved(to, origin, to), Ok(()), "{origin} can move on");
        }
        world.run_for(Duration::from_secs(40));
        world.assert_nothing_left();
    }
}

/// From an instant to far beyond the time that copies are held.
fn random_pause(world: &mut World) -> Duration {
    match world.chance(4) {
        0 => Duration::from_micros(world.chance(5_000)),
        1 => Duration::from_millis(world.chance(2_000)),
        2 => Duration::from_secs(world.chance(60)),
        _ => Duration::from_secs(world.chance(900)),
    }
}

fn wander(world: &mut World, habits: Habits) {
    let count = world.nodes.len();
    world.may_refuse = true;
    if habits.late_news {
        world.bring_news_late();
    }
    if world.seed.is_multiple_of(3) {
        world.take_part();
    }
    let mut model = Model::new(world, habits);
    model.have_them_talk(world);
    for _ in 0..60 {
        if model.moves.len() < 3 && world.chance(2) == 0 {
            model.start_move(world);
        }
        model.emit(world);
        match world.chance(24) {
            0..2 => {
                let one = pick(world, count);
                let other = (one + 1 + pick(world, count - 1)) % count;
                let heal = Duration::from_micros(200 + world.chance(20_000));
                world.cut(one, other, heal);
            }
            2 => {
                let one = pick(world, count);
                let other = (one + 1 + pick(world, count - 1)) % count;
                let (patience, time) = (random_pause(world).min(Duration::from_secs(20)), random_pause(world));
                world.part(one, other, patience, time);
            }
            3 if habits.deaths => model.crash(world),
            4 if habits.deaths => model.mourn(world),
            _ => {}
        }
        // Mostly the time of a few messages, now and then that of a timer.
        let pause = match world.chance(20) {
            0 => random_pause(world),
            _ => Duration::from_micros(world.chance(3_000)),
        };
        model.run_for(world, pause);
    }
    world.make_whole();
    // Longer than streams, doubts and undecided copies are kept.
    model.run_for(world, Duration::from_secs(1_500));
    assert!(model.moves.is_empty(), "every handle comes to an end");
    model.learn_what_they_said(world);
    model.check_answers(world);
    model.check_order(world);
    model.check_talk(world);
    model.check_stayed(world);
    model.check_end(world);
}

fn deaths(seed: u64) -> u64 {
    deaths_with(seed, USUAL)
}

fn deaths_with(seed: u64, habits: Habits) -> u64 {
    let nodes = 3 + usize::try_from(seed % 3).expect("small");
    in_world(World::with_options(seed, nodes, |_| options(seed)), |world| wander(world, habits))
}

#[test]
fn hazards_23_60_64_69_anybody_dies_at_any_instant_and_every_promise_holds() {
    for seed in seeds::chosen(0..12) {
        deaths(seed);
    }
}

#[test]
fn hazards_60_64_anybody_dies_unheard_at_any_instant_and_every_promise_holds() {
    for seed in seeds::chosen(0..12) {
        deaths_with(seed, Habits { late_news: true, ..USUAL });
    }
}

#[test]
fn the_same_seed_of_deaths_gives_the_same_trace() {
    for seed in 0..2 {
        assert_eq!(deaths(seed), deaths(seed));
    }
    assert_ne!(deaths(0), deaths(1));
}

/// Its source had died, but another move had taken the daemon elsewhere before, which this driver had not heard of.
#[test]
fn a_daemon_that_lives_elsewhere_is_not_said_to_be_lost_with_its_source() {
    for seed in [42572, 50021, 51416] {
        deaths(seed);
    }
}

/// Its host had died, and a former one held a copy in doubt, which went on later: a driver said before that it was lost.
#[test]
fn a_daemon_is_not_said_to_be_lost_while_a_copy_in_doubt_may_go_on() {
    deaths(400_868);
    deaths_with(700_380, Habits { late_news: true, ..USUAL });
}

/// A large batch was overtaken by a small one, which a node refused that was yet to get the daemon. It got it before the large
/// one arrived, and ran what its caller had been told not to have run.
#[test]
fn a_refusal_does_not_speak_for_what_it_overtook() {
    deaths(301_108);
}

/// Somebody remembered a host that the daemon had left since; the last host had died. A spawn was refused for ever.
#[test]
fn an_address_that_only_former_hosts_remember_is_free() {
    for seed in [9005, 9071, 9086] {
        deaths(seed);
    }
}

/// Two nodes spawned one identity at once, and heard of each other's intention from a home while both were still asking.
#[test]
fn rivals_that_are_heard_of_before_a_spawn_is_over_are_not_forgotten() {
    for seed in [12915, 21185, 32212] {
        deaths(seed);
    }
}

/// A node remembered a later claim that named the host itself, which had begun the daemon anew: no caller reached it.
#[test]
fn a_daemon_that_is_spawned_anew_outranks_what_others_remember_of_it() {
    for seed in [9022, 9059, 9083, 9087, 9149] {
        deaths(seed);
    }
}

/// The host that a former one led back to had not got the daemon, and what it said about that did not reach the sender.
#[test]
fn a_sender_hears_from_the_end_of_a_chain_of_former_hosts_that_there_is_no_daemon() {
    for seed in [9174, 9221, 9232, 9295] {
        deaths(seed);
    }
}

/// Two former hosts each took the other for the way to a sender, and sent an answer to and fro for ever.
#[test]
fn answers_for_a_sender_out_of_reach_do_not_go_in_a_circle() {
    for seed in [10029, 10276] {
        deaths(seed);
    }
}

/// The node that had named a host was gone when the host turned out to be out of reach: events led to nowhere. Or they came
/// back to their own sender, which a former host took for the way.
#[test]
fn events_for_a_daemon_that_only_the_dead_knew_of_come_to_an_end() {
    for seed in [20329, 20885, 31092] {
        deaths(seed);
    }
}
