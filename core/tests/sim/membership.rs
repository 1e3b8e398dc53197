//! The membership of whole meshes: nodes that crash, come back, flap and are cut off from each other.
//!
//! Sessions are simulated: a dial succeeds when the dialled node listens where its card says and nothing is between the two.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

use mesh_daemon_core::identity::{EntityKeypair, Incarnation, NodeId};
use mesh_daemon_core::membership::{
    Attempt, Card, Membership, MembershipConfig, MembershipError, Output, SignedCard, Standing,
};
use mesh_daemon_core::wire::codec;
use mesh_daemon_core::wire::membership::MembershipMessage;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::seeds;

const CONFIG: MembershipConfig =
    MembershipConfig { probe_period: Duration::from_secs(1), suspicion: Duration::from_secs(5) };
/// Of a message: what a packet may have, and a card in it.
const MOST_BYTES: usize = 8 * 1024 + 64;

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Message { session: u64, from: usize, to: usize, body: Vec<u8> },
    Dialled { by: usize, life: u64, node: NodeId, to: Option<usize> },
    Broken { node: usize, life: u64, peer: usize, session: u64 },
}

struct Node {
    keypair: EntityKeypair,
    machine: Membership,
    life: u64,
    up: bool,
}

struct World {
    rng: SmallRng,
    now: Instant,
    nodes: Vec<Node>,
    queue: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    order: u64,
    sessions: BTreeMap<(usize, usize), u64>,
    last_session: u64,
    /// Nodes on different sides do not hear each other.
    sides: Vec<u8>,
    largest: usize,
    messages: u64,
    began: Instant,
    /// What every node did and when, where somebody looks at that.
    trace: Option<Vec<(Duration, usize, Output)>>,
}

fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

fn address(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 1000 + u16::try_from(node).expect("few nodes")))
}

fn machine(seed: u64, keypair: &EntityKeypair, index: usize, life: u64) -> Membership {
    let incarnation = Incarnation { started_at_ms: 1_000 + life, salt: index as u64 };
    let seed = seed ^ (index as u64) << 32 ^ life << 48;
    let mut machine =
        Membership::new(keypair.clone(), incarnation, vec![address(index)], &CONFIG, seed).expect("it has a key");
    machine.keeps_directory(true, Instant::now());
    machine
}

impl World {
    fn new(seed: u64, count: usize) -> Self {
        let now = Instant::now();
        let nodes = (0..count).map(|index| {
            let mut key = [0xab; 32];
            key[0] = u8::try_from(index).expect("few nodes");
            let keypair = EntityKeypair::from_seed(&key);
            Node { machine: machine(seed, &keypair, index, 0), keypair, life: 0, up: true }
        });
        Self {
            rng: SmallRng::seed_from_u64(seed),
            now,
            nodes: nodes.collect(),
            queue: BinaryHeap::new(),
            order: 0,
            sessions: BTreeMap::new(),
            last_session: 0,
            sides: vec![0; count],
            largest: 0,
            messages: 0,
            began: now,
            trace: None,
        }
    }

    fn id(&self, node: usize) -> NodeId {
        self.nodes[node].keypair.node_id()
    }

    fn index(&self, node: NodeId) -> usize {
        self.nodes.iter().position(|known| known.keypair.node_id() == node).expect("a node of this world")
    }

    fn later(&mut self, micros: std::ops::Range<u64>, event: Event) {
        let at = self.now + Duration::from_micros(self.rng.random_range(micros));
        self.order += 1;
        self.queue.push(Reverse((at, self.order, event)));
    }

    fn with<T>(&mut self, node: usize, act: impl FnOnce(&mut Membership, Instant) -> T) -> T {
        let now = self.now;
        let result = act(&mut self.nodes[node].machine, now);
        while let Some(output) = self.nodes[node].machine.take_output() {
            if let Some(trace) = &mut self.trace {
                trace.push((now - self.began, node, output.clone()));
            }
            match output {
                Output::Send { to, body } | Output::Hello { to, body } => {
                    self.largest = self.largest.max(body.len());
                    self.messages += 1;
                    let to = self.index(to);
                    if let Some(&session) = self.sessions.get(&pair(node, to)) {
                        // In the order of the session, as a stream of bytes carries them.
                        self.order += 1;
                        let at = self.now + Duration::from_millis(2);
                        let event = Event::Message { session, from: node, to, body };
                        self.queue.push(Reverse((at, self.order, event)));
                    }
                }
                Output::Dial { node: wanted, addrs } => {
                    let to = (0..self.nodes.len()).find(|at| addrs.contains(&address(*at)));
                    let life = self.nodes[node].life;
                    self.later(1_000..20_000, Event::Dialled { by: node, life, node: wanted, to });
                }
                Output::Changed => {}
            }
        }
        result
    }

    fn reaches(&self, one: usize, other: usize) -> bool {
        self.nodes[one].up && self.nodes[other].up && self.sides[one] == self.sides[other]
    }

    fn connect(&mut self, one: usize, other: usize) {
        if self.sessions.contains_key(&pair(one, other)) {
            return;
        }
        self.last_session += 1;
        self.sessions.insert(pair(one, other), self.last_session);
        for (node, peer) in [(one, other), (other, one)] {
            let peer = self.id(peer);
            self.with(node, |machine, _| {
                machine.connected(peer);
                machine.ready(peer);
            });
        }
    }

    fn join(&mut self, node: usize, through: usize) {
        self.connect(node, through);
        let through = self.id(through);
        self.with(node, |machine, now| machine.join_through(through, now));
    }

    /// Sessions that lead nowhere break, each end noticing in its time.
    fn break_sessions(&mut self) {
        let broken: Vec<_> = self
            .sessions
            .iter()
            .filter(|((one, other), _)| !self.reaches(*one, *other))
            .map(|(pair, session)| (*pair, *session))
            .collect();
        for ((one, other), session) in broken {
            self.sessions.remove(&(one, other));
            for (node, peer) in [(one, other), (other, one)] {
                let life = self.nodes[node].life;
                self.later(1_000..3_000_000, Event::Broken { node, life, peer, session });
            }
        }
    }

    fn crash(&mut self, node: usize) {
        self.nodes[node].up = false;
        self.nodes[node].life += 1;
        self.break_sessions();
    }

    fn restart(&mut self, seed: u64, node: usize) {
        let Node { keypair, life, .. } = &self.nodes[node];
        self.nodes[node].machine = machine(seed, keypair, node, *life);
        self.nodes[node].up = true;
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let event = self.queue.peek().map(|Reverse((at, ..))| *at);
            let up = (0..self.nodes.len()).filter(|&node| self.nodes[node].up);
            let timer = up.filter_map(|node| self.nodes[node].machine.next_deadline().map(|at| (at, node))).min();
            let next = event.into_iter().chain(timer.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if event == Some(next) {
                let Some(Reverse((_, _, event))) = self.queue.pop() else { break };
                self.happen(event);
            } else if let Some((_, node)) = timer {
                self.with(node, Membership::tick);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Message { session, from, to, body } => {
                if self.sessions.get(&pair(from, to)) == Some(&session) {
                    let from = self.id(from);
                    // A packet for a former card is passed over by the protocol; none is malformed.
                    let taken = self.with(to, |machine, now| machine.message(from, &body, now));
                    assert!(
                        !matches!(taken, Err(MembershipError::Malformed(_) | MembershipError::Card(_))),
                        "{taken:?}"
                    );
                }
            }
            Event::Dialled { by, life, node, to } => {
                if self.nodes[by].life != life || !self.nodes[by].up {
                    return;
                }
                match to.filter(|to| self.reaches(by, *to) && self.id(*to) == node) {
                    Some(to) => self.connect(by, to),
                    None => self.with(by, |machine, now| machine.dial_ended(node, now)),
                }
            }
            Event::Broken { node, life, peer, session } => {
                let current = self.sessions.get(&pair(node, peer)).is_some_and(|current| *current != session);
                if self.nodes[node].life == life && self.nodes[node].up && !current {
                    let peer = self.id(peer);
                    self.with(node, |machine, now| machine.disconnected(peer, None, now));
                }
            }
        }
    }

    fn live(&self, node: usize) -> BTreeSet<NodeId> {
        self.nodes[node].machine.members().map(Card::node).collect()
    }

    /// Every node of `group` has all others of it, and nobody else, as live members, in their present lives.
    fn assert_agreed(&self, group: &[usize], sessions: bool) {
        for &node in group {
            let others: BTreeSet<NodeId> =
                group.iter().filter(|&&other| other != node).map(|&other| self.id(other)).collect();
            assert_eq!(self.live(node), others, "what n{node} sees");
            for card in self.nodes[node].machine.members() {
                let other = self.index(card.node());
                assert_eq!(card.life, self.nodes[other].machine.card().life, "n{node} has this life of n{other}");
                assert!(card.directory);
                let connected = self.sessions.contains_key(&pair(node, other));
                assert!(connected || !sessions, "n{node} has a session with n{other}");
            }
        }
    }
}

fn all(world: &World) -> Vec<usize> {
    (0..world.nodes.len()).collect()
}

fn for_seeds(nodes: usize, scenario: impl Fn(&mut World, u64)) {
    for seed in seeds::chosen(0..12) {
        let mut world = World::new(seed, nodes);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| scenario(&mut world, seed)));
        if let Err(failure) = run {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(failure);
        }
        assert!(world.largest <= MOST_BYTES, "a message of {} bytes", world.largest);
    }
}

fn joined(world: &mut World) {
    for node in 1..world.nodes.len() {
        world.join(node, 0);
    }
    world.run(Duration::from_secs(60));
}

#[tokio::test]
async fn sixteen_nodes_that_know_one_seed_find_each_other_and_form_all_sessions() {
    for_seeds(16, |world, _| {
        joined(world);
        world.assert_agreed(&all(world), true);
        // At rest: probes and their answers, and somebody asked for all now and then.
        let before = world.messages;
        world.run(Duration::from_secs(60));
        let each = (world.messages - before) / 16 / 60;
        assert!(each <= 4, "{each} messages of each node in a second");
    });
}

#[tokio::test]
async fn a_joiner_is_settled_no_sooner_than_it_knows_every_member_and_has_a_session_with_each() {
    for_seeds(12, |world, seed| {
        let (newcomer, some) = (11, 1 + usize::try_from(seed).expect("small") % 10);
        for node in 1..newcomer {
            world.join(node, 0);
        }
        world.run(Duration::from_secs(60));
        world.with(newcomer, Membership::start);
        world.with(newcomer, |machine, now| machine.seek(2, now));
        world.with(newcomer, |machine, now| machine.attempted(Attempt::Failed, now));
        world.run(Duration::from_secs(1));
        assert_eq!(world.nodes[newcomer].machine.standing(), Standing::Seeking);
        world.join(newcomer, some);
        world.with(newcomer, |machine, now| machine.attempted(Attempt::Reached, now));
        let joined = world.now;
        while world.nodes[newcomer].machine.standing() != Standing::Settled {
            assert!(world.now - joined < Duration::from_secs(5), "{:?}", world.nodes[newcomer].machine);
            world.run(Duration::from_millis(1));
        }
        let all = all(world);
        let others: BTreeSet<NodeId> = all[..newcomer].iter().map(|&node| world.id(node)).collect();
        assert_eq!(world.live(newcomer), others);
        assert!(all[..newcomer].iter().all(|&node| world.sessions.contains_key(&pair(node, newcomer))));
        assert!(all[..newcomer].iter().all(|&node| world.nodes[node].machine.standing() == Standing::Settled));
        world.run(Duration::from_secs(30));
        world.assert_agreed(&all, true);
    });
}

#[tokio::test]
async fn a_node_that_reaches_nobody_is_apart_until_others_come() {
    for_seeds(3, |world, _| {
        world.with(0, Membership::start);
        world.with(0, Membership::take_part);
        world.with(0, |machine, now| machine.seek(1, now));
        world.with(0, |machine, now| machine.attempted(Attempt::Failed, now));
        world.run(Duration::from_millis(1_900));
        assert_eq!(world.nodes[0].machine.standing(), Standing::Seeking);
        world.run(Duration::from_millis(200));
        assert_eq!(world.nodes[0].machine.standing(), Standing::Apart);
        world.join(1, 0);
        world.join(2, 0);
        world.run(Duration::from_secs(10));
        world.assert_agreed(&[0, 1, 2], true);
        for node in 0..3 {
            assert_eq!(world.nodes[node].machine.standing(), Standing::Settled, "n{node}");
        }
    });
}

#[tokio::test]
async fn both_sides_of_a_partition_go_on_and_are_one_mesh_again_when_it_heals() {
    for_seeds(9, |world, _| {
        joined(world);
        for node in 0..4 {
            world.sides[node] = 1;
        }
        world.break_sessions();
        world.run(Duration::from_secs(120));
        world.assert_agreed(&[0, 1, 2, 3], true);
        world.assert_agreed(&[4, 5, 6, 7, 8], true);
        world.sides.fill(0);
        world.run(Duration::from_secs(240));
        world.assert_agreed(&all(world), true);
    });
}

#[tokio::test]
async fn a_killed_node_is_taken_for_down_and_its_next_life_is_a_member_again() {
    for_seeds(6, |world, seed| {
        joined(world);
        world.crash(3);
        world.run(Duration::from_secs(40));
        world.assert_agreed(&[0, 1, 2, 4, 5], true);
        world.restart(seed, 3);
        world.join(3, 1);
        world.run(Duration::from_secs(40));
        world.assert_agreed(&all(world), true);
    });
}

#[tokio::test]
async fn a_restart_that_nobody_noticed_ends_with_the_new_life_everywhere() {
    for_seeds(6, |world, seed| {
        joined(world);
        world.crash(3);
        world.restart(seed, 3);
        world.join(3, 5);
        world.run(Duration::from_secs(60));
        world.assert_agreed(&all(world), true);
    });
}

#[tokio::test]
async fn a_node_that_comes_and_goes_is_a_member_in_the_end_and_costs_no_other_its_place() {
    for_seeds(6, |world, _| {
        joined(world);
        for _ in 0..12 {
            world.sides[2] = 1;
            world.break_sessions();
            let time = Duration::from_millis(world.rng.random_range(500..12_000));
            world.run(time);
            let others: Vec<usize> = vec![0, 1, 3, 4, 5];
            for &node in &others {
                let rest: BTreeSet<NodeId> = others.iter().filter(|&&at| at != node).map(|&at| world.id(at)).collect();
                assert!(world.live(node).is_superset(&rest), "n{node} keeps those that stay");
            }
            world.sides[2] = 0;
            let time = Duration::from_millis(world.rng.random_range(500..12_000));
            world.run(time);
        }
        world.run(Duration::from_secs(120));
        world.assert_agreed(&all(world), true);
    });
}

#[tokio::test]
async fn a_goodbye_ends_the_membership_at_once() {
    for_seeds(5, |world, _| {
        joined(world);
        let (leaver, life) = (world.id(4), world.nodes[4].machine.card().life);
        world.nodes[4].up = false;
        world.sessions.retain(|(one, other), _| *one != 4 && *other != 4);
        for node in 0..4 {
            world.with(node, |machine, now| machine.disconnected(leaver, Some(life), now));
            assert!(!world.live(node).contains(&leaver));
        }
        world.run(Duration::from_secs(60));
        world.assert_agreed(&[0, 1, 2, 3], true);
    });
}

#[tokio::test]
async fn a_node_that_was_only_connected_to_is_no_member_and_learns_of_nobody() {
    let mut world = World::new(1, 4);
    world.join(1, 0);
    world.connect(2, 0);
    world.connect(3, 2);
    world.run(Duration::from_secs(30));
    world.assert_agreed(&[0, 1], true);
    for node in [2, 3] {
        assert!(world.live(node).is_empty() && !world.nodes[node].machine.takes_part());
    }
    assert!(!world.sessions.contains_key(&pair(1, 2)), "nobody dialled it");
    // Once it joins elsewhere, everybody that takes part and is connected is one mesh.
    world.join(2, 3);
    world.run(Duration::from_secs(30));
    world.assert_agreed(&all(&world), true);
}

#[tokio::test]
async fn a_member_cannot_speak_for_another_one() {
    let mut world = World::new(1, 3);
    joined(&mut world);
    let now = world.now;
    let liar = world.nodes[2].keypair.clone();
    let card = world.nodes[1].machine.card().clone();
    let before = world.live(0);
    let from = world.id(2);
    // Its own key under a later life of another node: the signature does not hold.
    let card = Card { life: Incarnation { started_at_ms: u64::MAX, salt: 0 }, ..card };
    let forged = codec::encode(&SignedCard::sign(card, &liar).expect("it has a key"));
    let hello = codec::encode(&MembershipMessage::Hello { card: &forged, joining: false });
    let refused = world.nodes[0].machine.message(from, &hello, now);
    assert!(matches!(refused, Err(MembershipError::OtherNode)), "{refused:?}");
    let victim = world.id(1);
    let as_victim = world.nodes[0].machine.message(victim, &hello, now);
    assert!(matches!(as_victim, Err(MembershipError::Card(_))), "{as_victim:?}");
    assert_eq!(world.live(0), before);
    world.run(Duration::from_secs(30));
    world.assert_agreed(&[0, 1, 2], true);
}

#[tokio::test(start_paused = true)]
async fn same_seed_same_run() {
    let run = |seed| {
        let mut world = World::new(seed, 8);
        world.trace = Some(Vec::new());
        joined(&mut world);
        world.crash(3);
        world.run(Duration::from_secs(60));
        world.trace.unwrap_or_default()
    };
    let (one, other) = (run(3), run(3));
    assert!(one.len() > 1_000, "{}", one.len());
    let differs = one.iter().zip(&other).position(|(one, other)| one != other);
    assert_eq!((differs, one.len()), (None, other.len()));
    assert_ne!(one, run(4), "a trace shows another run");
}
