//! The directory and the members it rests on, in worlds that come apart: nodes join, leave, die and return, partitions
//! outlast the detection of losses, daemons are spawned, stopped and moved meanwhile, and somebody claims what is not its
//! own. In a whole world all nodes agree again on who lives where, and keep nothing of what ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_daemon_core::daemon::{HostConfig, Ticket};
use mesh_daemon_core::directory::{Claim, ClaimBody, View};
use mesh_daemon_core::identity::{Epoch, Lineage, NodeId, OriginHash};
use mesh_daemon_core::runtime::{ArrivalPolicy, OrchestratorPolicy, Role, RuntimeError, RuntimeOptions, Settlement};
use mesh_daemon_core::wire::directory::{DirectoryMessage, Rival};
use tokio::time::Instant;

use super::in_world;
use super::pointers::{assert_asleep, assert_no_circles};
use super::world::World;
use crate::seeds;

const IDENTITIES: u8 = 6;

struct Model {
    origins: BTreeMap<OriginHash, u8>,
    /// Who takes part; the others are connected all the same.
    members: BTreeSet<usize>,
    /// Who is on the other side of a partition, and until when.
    beyond: BTreeSet<usize>,
    until: Instant,
    /// Who each node has been told the members are.
    told: Vec<Option<BTreeSet<usize>>>,
    /// Every node on which a daemon ever lived.
    lived: BTreeMap<OriginHash, BTreeSet<usize>>,
    lookups: Vec<(Ticket, OriginHash)>,
    /// What the liar said to host, and to whom.
    lies: BTreeSet<(usize, OriginHash)>,
}

fn pick(world: &mut World, bound: usize) -> usize {
    usize::try_from(world.chance(bound as u64)).expect("small")
}

fn everybody(world: &World) -> std::ops::Range<usize> {
    0..world.nodes.len()
}

/// Long enough to be given up, or not.
fn random_pause(world: &mut World) -> Duration {
    match world.chance(4) {
        0 => Duration::from_micros(world.chance(5_000)),
        1 => Duration::from_millis(world.chance(2_000)),
        2 => Duration::from_secs(world.chance(30)),
        _ => Duration::from_secs(world.chance(300)),
    }
}

impl Model {
    fn new(world: &mut World) -> Self {
        let count = world.nodes.len();
        let origins: BTreeMap<_, _> =
            (1..=IDENTITIES).map(|seed| (World::daemon_key(seed).origin_hash(), seed)).collect();
        Self {
            members: (0..count - 1).collect(),
            beyond: BTreeSet::new(),
            until: world.now,
            told: vec![None; count],
            lived: origins.keys().map(|origin| (*origin, BTreeSet::new())).collect(),
            lookups: Vec::new(),
            lies: BTreeSet::new(),
            origins,
        }
    }

    fn any(&self, world: &mut World) -> OriginHash {
        let nth = pick(world, self.origins.len());
        *self.origins.keys().nth(nth).expect("one of them")
    }

    fn living(world: &mut World) -> Option<usize> {
        let node = pick(world, world.nodes.len());
        (!world.is_down(node)).then_some(node)
    }

    /// Whom a node has as members once it has noticed everything.
    fn view(&self, world: &World, node: usize) -> BTreeSet<usize> {
        if !self.members.contains(&node) {
            return BTreeSet::new();
        }
        let side = |other: &usize| self.beyond.contains(other) == self.beyond.contains(&node);
        self.members.iter().copied().filter(|other| side(other) && !world.is_down(*other)).collect()
    }

    /// Some nodes notice what has changed.
    fn notice(&mut self, world: &mut World, one_in: u64) {
        if self.until <= world.now {
            self.beyond.clear();
        }
        for node in everybody(world) {
            let view = self.view(world, node);
            if !world.is_down(node) && self.told[node].as_ref() != Some(&view) && world.chance(one_in) == 0 {
                let members: Vec<usize> = view.iter().copied().collect();
                world.tell_members(node, &members);
                self.told[node] = Some(view);
            }
        }
    }

    fn part(&mut self, world: &mut World) {
        if self.until > world.now {
            return;
        }
        let (patience, time) = (Duration::from_millis(world.chance(20_000)), random_pause(world));
        self.beyond = everybody(world).filter(|_| world.chance(2) == 0).collect();
        self.until = world.now + time;
        for here in everybody(world).filter(|node| !self.beyond.contains(node)) {
            for &there in &self.beyond {
                world.part(here, there, patience, time);
            }
        }
        if time <= patience {
            // Nobody is taken for down.
            self.beyond.clear();
        }
    }

    fn crash(&mut self, world: &mut World) {
        let Some(victim) = Self::living(world) else { return };
        // A spawn on a node that is alone takes no time.
        self.watch(world);
        let silently = world.chance(2) == 0;
        let pause = random_pause(world);
        world.crash(&[victim], silently, pause);
        self.told[victim] = None;
    }

    /// A member says that it hosts what it may not, that others do, or shows claims that nobody signed.
    fn lie(&mut self, world: &mut World) {
        let (Some(liar), Some(to)) = (Self::living(world), Self::living(world)) else { return };
        let liar = liar.max(world.nodes.len() - 2);
        if liar == to || world.is_down(liar) || !world.is_connected(liar, to) {
            return;
        }
        let origin = self.any(world);
        match world.chance(3) {
            0 => {
                let lie = World::placing(vec![origin], Vec::new());
                world.forge_directory(liar, to, &lie);
                self.lies.insert((to, origin));
            }
            1 => {
                let named = pick(world, world.nodes.len());
                let host = world.id(named);
                world.forge_directory(liar, to, &DirectoryMessage::Rivals { rivals: vec![Rival { origin, host }] });
            }
            _ => {
                let key = World::daemon_key(self.origins[&origin]);
                let epoch = Epoch::new(1_000);
                let body = ClaimBody {
                    entity: key.entity_id(),
                    lineage: Lineage::new(9),
                    epoch,
                    min_epoch: epoch,
                    host: world.nodes[liar].keypair.entity_id(),
                    incarnation: None,
                };
                let mut claim = Claim::sign(body, &key).expect("a full key pair").encode();
                *claim.last_mut().expect("not empty") ^= 1;
                world.forge_directory(liar, to, &DirectoryMessage::Claim { claim: &claim });
            }
        }
    }

    fn act(&mut self, world: &mut World) {
        let origin = self.any(world);
        let Some(node) = Self::living(world) else { return };
        match world.chance(10) {
            0..3 => {
                let kind = if world.chance(2) == 0 { "prompt" } else { "slow" };
                world.try_spawn(node, self.origins[&origin], kind, HostConfig::default());
            }
            3 => {
                if let Some(host) = world.hosting(origin).first().copied() {
                    world.act(host, None, |engine, ticket, now| engine.stop(ticket, origin, now));
                }
            }
            4..7 => {
                let to = pick(world, world.nodes.len());
                world.migrate(node, origin, to);
            }
            7 => {
                world.call(node, origin);
            }
            _ => {
                let ticket = world.act(node, None, |engine, ticket, now| engine.locate(ticket, origin, now));
                self.lookups.push((ticket, origin));
            }
        }
    }

    fn watch(&mut self, world: &World) {
        for (origin, lived) in &mut self.lived {
            lived.extend(world.hosting(*origin));
        }
        // A daemon that was handed over is where it was handed to, as far as its former host can know.
        for node in &world.nodes {
            for (role, origin, _, target, ..) in node.engine.migrations() {
                let target = everybody(world).find(|&node| role == Role::Source && world.id(node) == target);
                self.lived.get_mut(&origin).expect("one of them").extend(target);
            }
        }
    }

    fn run_for(&mut self, world: &mut World, time: Duration) {
        world.run_until(time, |world| {
            self.watch(world);
            false
        });
    }

    /// Nobody was ever told that a daemon lives where it never lived.
    fn check_lookups(&self, world: &World) {
        for (ticket, origin) in &self.lookups {
            match world.waits[&ticket.0].result.as_ref().expect("every question is answered") {
                Ok(Settlement::Located(None)) | Err(RuntimeError::ShuttingDown) => {}
                Ok(Settlement::Located(Some(found))) => {
                    let genuine = self.lived[origin].iter().any(|&node| world.id(node) == *found);
                    assert!(genuine, "{origin} is said to live on {found}, and never did");
                }
                other => panic!("a lookup: {other:?}"),
            }
        }
    }

    /// Every node names the one host of what lives, and nobody names one of what does not.
    fn check_agreed(&mut self, world: &mut World) -> BTreeMap<OriginHash, usize> {
        let mut living = BTreeMap::new();
        for origin in self.origins.keys() {
            let hosts = world.hosting(*origin);
            assert!(hosts.len() <= 1, "{origin} lives on {hosts:?}");
            let host = hosts.first().copied();
            living.extend(host.map(|host| (*origin, host)));
            for node in everybody(world) {
                let found = world.located(node, *origin);
                assert_eq!(found, host.map(|host| world.id(host)), "n{node} locates {origin} of {host:?}");
            }
        }
        living
    }

    /// What lives answers everybody, and what does not answers nobody.
    fn check_reached(&self, world: &mut World, living: &BTreeMap<OriginHash, usize>) {
        for origin in self.origins.keys() {
            for node in everybody(world) {
                let ticket = world.call(node, *origin);
                if living.contains_key(origin) {
                    world.outputs(ticket);
                } else {
                    assert_eq!(world.failure(ticket), RuntimeError::NotFound(*origin), "n{node}");
                }
            }
        }
    }

    /// Whether a node keeps the address of a daemon of another one.
    fn is_kept(&self, world: &World, node: usize, origin: OriginHash, host: usize) -> bool {
        let members: Vec<NodeId> = self.view(world, host).iter().map(|member| world.id(*member)).collect();
        host != node && View::new(&members).homes_of(origin).contains(world.id(node))
    }

    /// The liars take back what they said.
    fn repent(&mut self, world: &mut World, living: &BTreeMap<OriginHash, usize>) {
        for (to, origin) in std::mem::take(&mut self.lies) {
            for liar in everybody(world).filter(|liar| *liar != to) {
                if living.get(&origin) == Some(&liar) && self.is_kept(world, to, origin, liar) {
                    continue;
                }
                let gone = vec![origin];
                let taken_back = World::placing(Vec::new(), gone);
                world.forge_directory(liar, to, &taken_back);
            }
        }
    }

    /// No table holds anything of what ended, and nobody waits for anything.
    fn check_tables(&self, world: &mut World, living: &BTreeMap<OriginHash, usize>) {
        world.assert_nothing_left();
        for node in everybody(world) {
            let census = world.nodes[node].engine.census();
            assert_eq!(census.pointers, 0, "pointers of n{node}");
            assert_eq!((census.streams_in, census.streams_out, census.streams_through), (0, 0, 0), "routes of n{node}");
            let lives_here = living.values().filter(|host| **host == node).count();
            assert_eq!(census.daemons, lives_here, "n{node}");
            let kept = |(origin, host): &(&OriginHash, &usize)| self.is_kept(world, node, **origin, **host);
            assert_eq!(
                world.nodes[node].engine.kept_addresses(),
                living.iter().filter(kept).count(),
                "kept by n{node}"
            );
        }
        assert_asleep(world);
    }
}

fn come_apart(world: &mut World) {
    world.may_refuse = true;
    world.spying = true;
    let mut model = Model::new(world);
    model.notice(world, 1);
    world.run_for(Duration::from_millis(100));
    for _ in 0..80 {
        model.act(world);
        match world.chance(30) {
            0 | 1 => {
                let one = pick(world, world.nodes.len());
                let other = (one + 1 + pick(world, world.nodes.len() - 1)) % world.nodes.len();
                let heal = Duration::from_micros(200 + world.chance(20_000));
                world.cut(one, other, heal);
            }
            2 | 3 => model.part(world),
            4 => {
                // Two that do not reach each other, and both are members for all others.
                let one = pick(world, world.nodes.len());
                let other = (one + 1 + pick(world, world.nodes.len() - 1)) % world.nodes.len();
                let (patience, time) = (Duration::from_millis(world.chance(20_000)), random_pause(world));
                world.part(one, other, patience, time);
            }
            5 | 6 => model.crash(world),
            7 | 8 => {
                let node = pick(world, world.nodes.len());
                if !model.members.remove(&node) {
                    model.members.insert(node);
                }
            }
            9 | 10 => model.lie(world),
            _ => {}
        }
        model.notice(world, 4);
        let pause = match world.chance(12) {
            0 => random_pause(world),
            _ => Duration::from_micros(world.chance(3_000)),
        };
        model.run_for(world, pause);
    }
    world.make_whole();
    model.until = world.now;
    let mut changing = 0;
    while changing < 20 {
        model.notice(world, 3);
        let pause = world.chance(50_000);
        model.run_for(world, Duration::from_micros(pause));
        changing += 1;
    }
    model.notice(world, 1);
    // Moves come to their ends, copies in doubt too.
    let watch = |world: &World| world.nodes.iter().all(|node| node.engine.census().migrations == 0);
    assert!(world.run_until(Duration::from_secs(1_500), watch), "every move ends");
    model.run_for(world, Duration::from_secs(10));
    let living = model.check_agreed(world);
    // A stream may lead to a life that has ended; nobody uses it for long.
    model.run_for(world, Duration::from_secs(1_500));
    assert_eq!(model.check_agreed(world), living);
    model.check_reached(world, &living);
    model.repent(world, &living);
    model.run_for(world, Duration::from_secs(1_500));
    model.check_tables(world, &living);
    model.check_lookups(world);
    assert_no_circles(world);
}

fn directory(seed: u64) -> u64 {
    let nodes = 4 + usize::try_from(seed % 5).expect("small");
    let options = |_| RuntimeOptions {
        arrivals: ArrivalPolicy::AnyKind,
        orchestrators: OrchestratorPolicy::Any,
        ..RuntimeOptions::default()
    };
    in_world(World::with_options(seed, nodes, options), come_apart)
}

#[test]
fn after_partitions_deaths_and_lies_all_agree_who_lives_where_and_keep_nothing_of_the_dead() {
    for seed in seeds::chosen(0..24) {
        directory(seed);
    }
}

/// Former homes went on keeping names of daemons: of those who could not be told in time that they are homes no more (44, 84,
/// 94), and of daemons that had come back with other homes (43, 64, 69, 86, 89).
#[test]
fn former_homes_keep_no_names() {
    for seed in [43, 44, 64, 69, 84, 86, 89, 94] {
        directory(seed);
    }
}

/// Two peers compared at the beginning of a session when one hosted nothing. When they were no members of one mesh any more, it
/// asked the other one anew, which took that for the question of the beginning.
#[test]
fn who_asks_anew_is_told_anew() {
    for seed in [800_421, 800_809, 800_820] {
        directory(seed);
    }
}

/// A former host was believed against the host that it named, which knew only of a daemon's other life (1043, 1194, 1217, 1279,
/// 1323, 1471), or had begun that life itself (1510, 1766, 2000).
#[test]
fn what_is_remembered_of_one_life_says_nothing_about_another() {
    for seed in [1043, 1194, 1217, 1279, 1323, 1471, 1510, 1766, 2000] {
        directory(seed);
    }
}

/// A host had died with the daemon that was handed to it, and lived anew without: the one that had left the daemon there went on
/// naming it, against an older copy that lived.
#[test]
fn a_former_host_names_no_life_of_a_node_that_is_over() {
    for seed in [1_001_367, 1_002_572] {
        directory(seed);
    }
}

/// Somebody remembered a former host, which named the next one, where the daemon had ended: an older copy that lived was not
/// believed, though nobody hosted a newer one.
#[test]
fn a_chain_of_former_hosts_that_ends_nowhere_denies_nothing() {
    directory(1_007_472);
}

/// A spawn joined a question that others had asked before, and was taken for no rival by those who had answered it.
#[test]
fn a_spawn_asks_anew() {
    directory(1173);
}

/// A takeover forgot the former homes that a pass had yet to withdraw it from.
#[test]
fn a_takeover_between_two_views_is_withdrawn_from_former_homes() {
    for seed in [1837, 1892] {
        directory(seed);
    }
}

#[test]
fn the_same_seed_of_the_directory_gives_the_same_trace() {
    assert_eq!(directory(1), directory(1));
    assert_ne!(directory(0), directory(1));
}
