//! Announcements in whole meshes: nodes that say something else all the time, crash, come back, and are cut off from each other.
//!
//! Sessions are simulated: a pair has one while both are up and nothing is between them; what is on its way in a session that
//! breaks is lost.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use bytes::Bytes;
use mesh_daemon_core::capability::{
    CapabilityConfig, CapabilityFilter, CapabilityMachine, CapabilitySet, Output, Subnet,
};
use mesh_daemon_core::identity::{EntityKeypair, Incarnation, NodeId};
use mesh_daemon_core::mesh::{Loss, PeerEvent, PeerIdentity};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::seeds;

const CONFIG: CapabilityConfig = CapabilityConfig { ttl: Duration::from_secs(20), sweep: Duration::from_secs(2) };
const UNIX: Duration = Duration::from_secs(1_700_000_000);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Message {
        session: u64,
        from: usize,
        to: usize,
        body: Bytes,
    },
    Connect {
        pair: (usize, usize),
    },
    /// One end of a session notices that it broke; later it gives the other up.
    Broken {
        at: usize,
        life: u64,
        about: usize,
        session: u64,
        lost: bool,
    },
}

struct Node {
    keypair: EntityKeypair,
    machine: CapabilityMachine,
    life: u64,
    up: bool,
    /// What it said in this life, in order.
    said: Vec<String>,
    /// Peers that it has not given up: their life, and how far it has come with what they said in it.
    holds: BTreeMap<usize, (u64, usize)>,
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
    /// What this node says is lost on the way, in sessions that stay.
    mute: Option<usize>,
}

fn incarnation(index: usize, life: u64) -> Incarnation {
    Incarnation { started_at_ms: 1_000 + life, salt: index as u64 }
}

fn machine(keypair: &EntityKeypair, index: usize, life: u64, now: Instant) -> CapabilityMachine {
    let place = Subnet::new(&[1]).expect("one level");
    CapabilityMachine::new(keypair.clone(), incarnation(index, life), place, CONFIG, now, UNIX).expect("it has a key")
}

impl World {
    fn new(seed: u64, count: usize) -> Self {
        let now = Instant::now();
        let nodes = (0..count).map(|index| {
            let keypair = EntityKeypair::from_seed(&[u8::try_from(index).expect("few nodes") + 1; 32]);
            let machine = machine(&keypair, index, 0, now);
            Node { machine, keypair, life: 0, up: true, said: vec![String::new()], holds: BTreeMap::new() }
        });
        let mut world = Self {
            rng: SmallRng::seed_from_u64(seed),
            now,
            nodes: nodes.collect(),
            queue: BinaryHeap::new(),
            order: 0,
            sessions: BTreeMap::new(),
            last_session: 0,
            sides: vec![0; count],
            mute: None,
        };
        world.seek_sessions();
        world
    }

    fn id(&self, node: usize) -> NodeId {
        self.nodes[node].keypair.node_id()
    }

    fn index(&self, node: NodeId) -> usize {
        self.nodes.iter().position(|known| known.keypair.node_id() == node).expect("a node of this world")
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((self.now + after, self.order, event)));
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }

    fn with<T>(&mut self, node: usize, act: impl FnOnce(&mut CapabilityMachine, Instant) -> T) -> T {
        let now = self.now;
        let result = act(&mut self.nodes[node].machine, now);
        while let Some(output) = self.nodes[node].machine.take_output() {
            let Output::Send { to, body } = output else { continue };
            let to = self.index(to);
            if let Some(&session) = self.sessions.get(&(node.min(to), node.max(to)))
                && self.mute != Some(node)
            {
                // In the order of the session, as a stream of bytes carries them.
                self.later(Duration::from_millis(2), Event::Message { session, from: node, to, body });
            }
        }
        result
    }

    fn announce(&mut self, node: usize) {
        let tag = format!("{node} {} {}", self.nodes[node].life, self.nodes[node].said.len());
        self.nodes[node].said.push(tag.clone());
        let set = CapabilitySet { tags: vec![tag], ..CapabilitySet::default() };
        self.with(node, |machine, now| machine.announce(set, now, UNIX)).expect("small");
    }

    fn reaches(&self, (one, other): (usize, usize)) -> bool {
        self.nodes[one].up && self.nodes[other].up && self.sides[one] == self.sides[other]
    }

    /// Whoever can have a session tries to, and sessions that lead nowhere break.
    fn seek_sessions(&mut self) {
        let count = self.nodes.len();
        for pair in (0..count).flat_map(|one| (one + 1..count).map(move |other| (one, other))) {
            match (self.reaches(pair), self.sessions.get(&pair).copied()) {
                (true, None) => {
                    let after = self.millis(1..500);
                    self.later(after, Event::Connect { pair });
                }
                (false, Some(session)) => self.break_session(pair, session),
                (true, Some(_)) | (false, None) => {}
            }
        }
    }

    fn break_session(&mut self, pair: (usize, usize), session: u64) {
        self.sessions.remove(&pair);
        for (at, about) in [pair, (pair.1, pair.0)] {
            let (life, suspected) = (self.nodes[at].life, self.millis(1..1_000));
            let lost = suspected + self.millis(1..3_000);
            for (after, lost) in [(suspected, false), (lost, true)] {
                self.later(after, Event::Broken { at, life, about, session, lost });
            }
        }
    }

    fn connect(&mut self, pair: (usize, usize)) {
        if self.sessions.contains_key(&pair) || !self.reaches(pair) {
            return;
        }
        self.last_session += 1;
        self.sessions.insert(pair, self.last_session);
        let both = [pair, (pair.1, pair.0)];
        let held = |world: &Self, (at, about): (usize, usize)| {
            world.nodes[at].holds.get(&about).is_some_and(|(life, _)| *life == world.nodes[about].life)
        };
        let resumed = both.iter().all(|&end| held(self, end));
        for (at, about) in both {
            let (node, life, entity) = (self.id(about), self.nodes[about].life, self.nodes[about].keypair.entity_id());
            if !resumed && let Some((former, _)) = self.nodes[at].holds.remove(&about) {
                self.lose(at, about, former);
            }
            self.nodes[at].holds.entry(about).or_insert((life, 0));
            let incarnation = incarnation(about, life);
            let peer = PeerIdentity { node, entity, incarnation, static_key: [0; 32], max_payload: 1 };
            self.with(at, |machine, now| {
                machine.peer(&PeerEvent::Connected { peer, resumed }, now, UNIX);
                machine.peer(&PeerEvent::Ready { node }, now, UNIX);
            });
        }
    }

    fn lose(&mut self, at: usize, about: usize, life: u64) {
        let event = PeerEvent::Lost { node: self.id(about), incarnation: incarnation(about, life), how: Loss::Silence };
        self.with(at, |machine, now| machine.peer(&event, now, UNIX));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Message { session, from, to, body } => {
                if self.sessions.get(&(from.min(to), from.max(to))) == Some(&session) {
                    let sender = self.id(from);
                    let taken = self.with(to, |machine, now| machine.message(sender, &body, now));
                    assert_eq!(taken, Ok(()), "everybody is honest here, and sessions keep the order");
                    self.never_goes_back(to, from);
                }
            }
            Event::Connect { pair } => self.connect(pair),
            Event::Broken { at, life, about, session, lost } => {
                let pair = (at.min(about), at.max(about));
                let anew = self.sessions.get(&pair).is_some_and(|now| *now != session);
                if anew || self.nodes[at].life != life || !self.nodes[at].up {
                    return;
                }
                let node = self.id(about);
                if !lost {
                    for event in [PeerEvent::Suspected { node }, PeerEvent::Cut { node }] {
                        self.with(at, |machine, now| machine.peer(&event, now, UNIX));
                    }
                } else if let Some((former, _)) = self.nodes[at].holds.remove(&about) {
                    self.lose(at, about, former);
                    assert_eq!(self.knows(at, about), None, "a lost peer leaves the index");
                }
            }
        }
    }

    fn knows(&self, at: usize, about: usize) -> Option<String> {
        let announced = self.nodes[at].machine.announced(self.id(about), self.now)?;
        Some(announced.set.tags.first().cloned().unwrap_or_default())
    }

    /// What a node knows of another one was said by it, and never goes back to something older of the same life.
    fn never_goes_back(&mut self, at: usize, about: usize) {
        let Some(tag) = self.knows(at, about) else { return };
        let said = self.nodes[about].said.iter().position(|said| *said == tag);
        let life = self.nodes[about].life;
        let (held, farthest) = self.nodes[at].holds.get_mut(&about).expect("it came in a session");
        if *held == life {
            let said = said.expect("it was said in this life");
            assert!(said >= *farthest, "{at} knew more of {about}");
            *farthest = said;
        }
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
                self.with(node, |machine, now| machine.tick(now, UNIX));
            }
        }
        self.now = end;
    }

    fn crash(&mut self, node: usize) {
        self.nodes[node].up = false;
        self.seek_sessions();
    }

    fn restart(&mut self, node: usize) {
        let life = self.nodes[node].life + 1;
        let machine = machine(&self.nodes[node].keypair, node, life, self.now);
        let known = &mut self.nodes[node];
        (known.machine, known.life, known.up) = (machine, life, true);
        (known.said, known.holds) = (vec![String::new()], BTreeMap::new());
        self.seek_sessions();
    }

    /// Everybody that is up knows what everybody it can reach has said last, and of nobody else anything.
    fn is_of_one_mind(&self) {
        for at in (0..self.nodes.len()).filter(|&at| self.nodes[at].up) {
            let mut found = vec![self.id(at)];
            for about in (0..self.nodes.len()).filter(|&about| about != at) {
                let near = self.reaches((at.min(about), at.max(about)));
                let last = self.nodes[about].said.last().filter(|_| near).cloned();
                assert_eq!(self.knows(at, about), last, "{at} about {about}");
                found.extend(near.then(|| self.id(about)));
            }
            found.sort_unstable();
            assert_eq!(self.nodes[at].machine.find(&CapabilityFilter::EMPTY, None, self.now), found);
        }
    }
}

#[test]
fn hazard_47_announcements_converge_whatever_breaks() {
    for seed in seeds::chosen(0..40) {
        if seeds::is_single() {
            eprintln!("seed {seed}");
        }
        let mut world = World::new(seed, 6);
        for _ in 0..60 {
            let node = world.rng.random_range(0..world.nodes.len());
            match world.rng.random_range(0..10) {
                0 if world.nodes[node].up => world.crash(node),
                0..=2 if !world.nodes[node].up => world.restart(node),
                3 => {
                    world.sides[node] ^= 1;
                    world.seek_sessions();
                }
                4 => {
                    let broken = world.sessions.iter().next().map(|(pair, session)| (*pair, *session));
                    if let Some((pair, session)) = broken {
                        world.break_session(pair, session);
                        world.seek_sessions();
                    }
                }
                _ if world.nodes[node].up => world.announce(node),
                _ => {}
            }
            let pause = world.millis(1..2_000);
            world.run(pause);
        }
        // Partitioned as they are now, then healed.
        world.run(Duration::from_secs(10));
        world.is_of_one_mind();
        for node in 0..world.nodes.len() {
            world.sides[node] = 0;
            if !world.nodes[node].up {
                world.restart(node);
            }
        }
        world.seek_sessions();
        world.run(Duration::from_secs(10));
        world.is_of_one_mind();
        // Nothing ends while everybody goes on renewing.
        world.run(3 * CONFIG.ttl);
        world.is_of_one_mind();
    }
}

#[test]
fn hazard_47_what_a_silent_node_said_ends_with_its_time() {
    let mut world = World::new(1, 4);
    world.run(Duration::from_secs(1));
    world.announce(2);
    world.run(Duration::from_secs(1));
    world.is_of_one_mind();
    world.mute = Some(2);
    world.run(CONFIG.ttl);
    for at in [0, 1, 3] {
        assert_eq!(world.knows(at, 2), None);
        assert_eq!(world.knows(at, (at + 1) % 2).as_deref(), Some(""), "the others are heard");
    }
    assert_eq!(world.knows(2, 0).as_deref(), Some(""), "it hears them too");
    world.mute = None;
    world.run(CONFIG.ttl);
    world.is_of_one_mind();
}
