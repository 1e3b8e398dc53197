//! Daemons that go on from another node.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_daemon_core::channel::{
    ChannelError, ChannelEvent, Denial, Position, PublishId, PublishOptions, RequestId, Subscriber,
};
use mesh_daemon_core::identity::{EntityKeypair, Epoch};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::net::{Granted, Net, P, RELIABLE, S, T, daemon, feed, numbers, open};

/// The daemon lives on another node from now on, and goes on from where it stood.
fn go_on(net: &mut Net, daemon: &EntityKeypair, from: usize, to: usize, epoch: u64) -> Result<(), ChannelError> {
    let position = net.position(from, daemon);
    let now = net.now;
    net.nodes[from].machine.moved_on(daemon.entity_id(), now);
    let request = net.ask_from(to, P, "a", daemon, None, Epoch::new(epoch), position)?;
    net.run();
    net.answer(to, request).expect("answered")
}

#[test]
fn a_daemon_that_begins_again_or_comes_back_is_told_of_messages_again() {
    let one = daemon(1);
    let mut net = Net::subscribed(&[&one]);
    let told = |net: &mut Net| {
        let ready = |event: &ChannelEvent| *event == ChannelEvent::Ready(one.entity_id());
        let before = net.nodes[S].events.len();
        net.nodes[S].events.retain(|event| !ready(event));
        before > net.nodes[S].events.len()
    };
    net.publish_all(1);
    assert!(told(&mut net));
    // It ends without having looked, and another life of it begins before the publisher has answered.
    let now = net.now;
    net.nodes[S].machine.leave_all(one.entity_id(), now);
    net.subscribe(S, P, "a", Some(&one), None).expect("let in");
    net.publish_all(1);
    assert!(told(&mut net));
    assert_eq!(numbers(&net.take_all(S, &one)), [2]);
    net.publish_all(1);
    assert!(told(&mut net));
    // It moves without having looked, and comes back.
    let position = net.position(S, &one);
    let now = net.now;
    net.nodes[S].machine.moved_on(one.entity_id(), now);
    net.ask_from(S, P, "a", &one, None, Epoch::new(3), position).expect("asked");
    net.run();
    assert!(told(&mut net));
    assert_eq!(numbers(&net.take_all(S, &one)), [3]);
}

#[test]
fn hazard_43_a_daemon_goes_on_behind_what_it_took_and_misses_nothing() {
    let one = daemon(1);
    let mut net = Net::subscribed(&[&one]);
    net.publish_all(5);
    let mut got: Vec<u64> = (0..2).map(|_| net.next_for(S, &one, true).expect("there").number).collect();
    net.run();
    let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    go_on(&mut net, &one, S, T, 2).expect("let in");
    got.extend(numbers(&net.take_all(T, &one)));
    net.run();
    assert_eq!(got, [1, 2, 3, 4, 5, 6]);
    let report = net.report(P, id).expect("over").expect("sent");
    assert_eq!((report.attempted, report.delivered, report.errors), (1, 1, vec![]), "it was for one daemon");
    assert_eq!(net.nodes[P].machine.roster(&feed("a")), [(net.id(T), Subscriber::Daemon(one.entity_id()))]);
    assert_eq!(net.nodes[S].machine.subscriptions_of(one.entity_id()), []);
}

#[test]
fn hazard_42_others_on_both_nodes_are_not_disturbed_by_a_daemon_that_moves() {
    let (one, stays, there) = (daemon(1), daemon(2), daemon(3));
    let mut net = Net::subscribed(&[&one]);
    net.subscribe(S, P, "a", Some(&stays), None).expect("let in");
    net.subscribe(T, P, "a", Some(&there), None).expect("let in");
    net.subscribe(T, P, "a", None, None).expect("let in");
    net.publish_all(4);
    let (mut one_got, mut there_got) = (Vec::new(), numbers(&net.take_all(T, &there)));
    one_got.push(net.next_for(S, &one, true).expect("there").number);
    net.run();
    go_on(&mut net, &one, S, T, 2).expect("let in");
    net.publish_all(2);
    one_got.extend(numbers(&net.take_all(T, &one)));
    there_got.extend(numbers(&net.take_all(T, &there)));
    assert_eq!((one_got, there_got), ((1..=6).collect::<Vec<_>>(), (1..=6).collect()));
    assert_eq!(numbers(&net.take_all(S, &stays)), [1, 2, 3, 4, 5, 6]);
    assert_eq!(numbers(&net.messages(T)), [1, 2, 3, 4, 5, 6], "the node gets each once");
}

#[test]
fn a_former_host_is_outranked_and_takes_nothing_back() {
    let one = daemon(1);
    let mut net = Net::subscribed(&[&one]);
    net.publish_all(2);
    let stale = net.position(S, &one);
    go_on(&mut net, &one, S, T, 2).expect("let in");
    let request = net.ask_from(S, P, "a", &one, None, Epoch::FIRST, stale).expect("asked");
    net.run();
    assert!(matches!(net.answer(S, request), Some(Err(ChannelError::Moved(_)))));
    assert_eq!(net.nodes[P].machine.roster(&feed("a")), [(net.id(T), Subscriber::Daemon(one.entity_id()))]);
    assert_eq!(numbers(&net.take_all(T, &one)), [1, 2]);
}

#[test]
fn hazard_43_an_expired_or_revoked_token_does_not_survive_a_move() {
    for revoked in [false, true] {
        let one = daemon(1);
        let mut net = Net::connected(3);
        net.register(P, net.gated("a"));
        let token = net.token(P, &Granted { subject: &one, channel: "a", ttl: 60 });
        net.subscribe(S, P, "a", Some(&one), Some(&token)).expect("let in");
        net.publish_all(2);
        // The publisher is out of reach of the former host, which cannot be told.
        net.cut(S, P);
        if revoked {
            let (issuer, now) = (net.nodes[P].keypair.entity_id(), net.now);
            net.nodes[P].machine.revoke_below(issuer, 1, now);
            net.collect(P);
        } else {
            net.pass(Duration::from_secs(61));
        }
        let position = net.position(S, &one);
        let request = net.ask_from(T, P, "a", &one, Some(&token), Epoch::new(2), position).expect("asked");
        net.run();
        assert!(matches!(net.answer(T, request), Some(Err(ChannelError::Unauthorized { .. }))));
        assert_eq!(net.nodes[P].machine.roster(&feed("a")), []);
        assert_eq!(net.take_all(T, &one), []);
    }
}

#[test]
fn hazard_43_a_daemon_travels_with_the_token_that_it_came_with_until_another_one_is_agreed_to() {
    let one = daemon(1);
    let mut net = Net::connected(3);
    net.register(P, net.gated("a"));
    let good = net.token(P, &Granted { subject: &one, channel: "a", ttl: 60 });
    let bad = net.token(P, &Granted { subject: &daemon(2), channel: "a", ttl: 60 });
    net.subscribe(S, P, "a", Some(&one), Some(&good)).expect("let in");
    net.publish_all(1);
    let (position, now) = (net.position(S, &one), net.now);
    net.nodes[S].machine.moved_on(one.entity_id(), now);
    let came = net.ask_from(T, P, "a", &one, Some(&good), Epoch::new(2), position).expect("asked");
    let renewed = net.ask_from(T, P, "a", &one, Some(&bad), Epoch::new(2), None).expect("asked");
    let travels = net.nodes[T].machine.subscriptions_of(one.entity_id()).pop().expect("it is about to be in");
    assert_eq!((travels.token.as_deref(), travels.position), (Some(good.as_slice()), position));
    net.run();
    assert_eq!(net.answer(T, came), Some(Ok(())));
    assert!(matches!(net.answer(T, renewed), Some(Err(ChannelError::Unauthorized { .. }))));
    assert_eq!((net.ends(T), numbers(&net.take_all(T, &one))), (vec![], vec![1]));
}

#[test]
fn a_daemon_that_is_refused_with_what_it_came_with_begins_anew_with_another_token() {
    let one = daemon(1);
    let mut net = Net::connected(3);
    net.register(P, net.gated("a"));
    let [brief, later] = [10, 60].map(|ttl| net.token(P, &Granted { subject: &one, channel: "a", ttl }));
    net.subscribe(S, P, "a", Some(&one), Some(&brief)).expect("let in");
    net.publish_all(1);
    net.cut(S, P);
    let (position, now) = (net.position(S, &one), net.now);
    net.nodes[S].machine.moved_on(one.entity_id(), now);
    net.pass(Duration::from_secs(10));
    let came = net.ask_from(T, P, "a", &one, Some(&brief), Epoch::new(2), position).expect("asked");
    let anew = net.ask_from(T, P, "a", &one, Some(&later), Epoch::new(2), None).expect("asked");
    net.run();
    assert!(matches!(net.answer(T, came), Some(Err(ChannelError::Unauthorized { why: Denial::Expired, .. }))));
    assert_eq!((net.answer(T, anew), net.take_all(T, &one)), (Some(Ok(())), vec![]));
    net.publish_all(1);
    assert_eq!(numbers(&net.take_all(T, &one)), [2], "from now on");
}

#[test]
fn what_the_ring_has_passed_is_told() {
    let (one, other) = (daemon(1), daemon(2));
    let mut net = Net::subscribed(&[&one]);
    net.publish_all(1);
    net.take_all(S, &one);
    let position = net.position(S, &one);
    net.subscribe(T, P, "a", Some(&other), None).expect("let in");
    net.lose(S, P);
    for _ in 0..6 {
        net.publish_all(1000);
        net.take_all(T, &other);
        net.run();
    }
    let request = net.ask_from(T, P, "a", &one, None, Epoch::new(2), position).expect("asked");
    net.run();
    net.answer(T, request).expect("answered").expect("let in");
    let missed = net.nodes[T].events.iter().find_map(|event| match event {
        ChannelEvent::Missed { daemon, count, .. } => Some((*daemon, *count)),
        _ => None,
    });
    let mut got = Vec::new();
    for _ in 0..5 {
        got.extend(numbers(&net.take_all(T, &one)));
        net.run();
    }
    let first = got[0];
    assert_eq!(missed, Some((one.entity_id(), first - 2)));
    assert!(got == (first..=6001).collect::<Vec<_>>(), "{} messages", got.len());
    assert_eq!(got.len(), 4096);
}

#[test]
fn a_publisher_that_began_a_new_life_is_subscribed_to_anew() {
    let one = daemon(1);
    let mut net = Net::subscribed(&[&one]);
    net.publish_all(3);
    let mut position = net.position(S, &one).expect("known");
    position.incarnation.started_at_ms += 1;
    let request = net.ask_from(T, P, "a", &one, None, Epoch::new(2), Some(position)).expect("asked");
    net.run();
    net.answer(T, request).expect("answered").expect("let in");
    net.publish_all(1);
    assert_eq!(numbers(&net.take_all(T, &one)), [4], "from now on");
}

#[test]
fn what_a_new_host_does_not_come_for_is_left_after_a_while() {
    let one = daemon(1);
    let mut net = Net::subscribed(&[&one]);
    net.publish_all(2);
    let now = net.now;
    net.nodes[S].machine.moved_on(one.entity_id(), now);
    net.pass(Duration::from_secs(11));
    net.run();
    assert_eq!(net.nodes[P].machine.roster(&feed("a")), []);
    assert!(net.nodes[S].machine.is_idle());
    net.nodes[P].events.clear();
    assert!(net.nodes[P].machine.is_idle());
}

/// Daemons that move among nodes, leave and come again while a publisher publishes, connections break, and daemons have room
/// or not.
struct World {
    net: Net,
    random: SmallRng,
    daemons: Vec<Wanderer>,
    published: u64,
    /// The numbers of reliable messages.
    reliable: Vec<u64>,
    /// All publications, and whether they are reliable.
    publications: Vec<(PublishId, bool)>,
    /// Whether daemons leave, and do not only move.
    leaves: bool,
    /// How often a daemon that had left came again.
    joins: usize,
}

struct Wanderer {
    keypair: EntityKeypair,
    at: usize,
    epoch: u64,
    /// Where it goes on from, while its new host has not asked yet, and where it was.
    coming: Option<(Position, usize)>,
    is_in: bool,
    /// What it asked last, while that is not answered.
    asked: Option<RequestId>,
    /// The last message before it was let in; not known while that is not answered.
    since: Option<u64>,
    got: Vec<u64>,
}

#[test]
fn hazard_43_no_reliable_message_is_lost_or_taken_twice_while_subscribers_move() {
    let (mut moves, mut joins) = (0, 0);
    for seed in 0..200 {
        let mut world = World::new(seed);
        for _ in 0..700 {
            moves += usize::from(world.step());
        }
        joins += world.joins;
        world.settle(seed);
    }
    assert!(moves > 2000 && joins > 500, "{moves}, {joins}: the worlds are too quiet to show anything");
}

#[test]
fn every_reliable_message_is_reported_as_delivered_while_subscribers_only_move() {
    let mut moves = 0;
    for seed in 0..100 {
        let mut world = World { leaves: false, ..World::new(seed) };
        for _ in 0..700 {
            moves += usize::from(world.step());
        }
        world.settle(seed);
    }
    assert!(moves > 1000, "{moves}: the worlds are too quiet to show anything");
}

impl Wanderer {
    /// One that is in from the beginning.
    fn new(keypair: EntityKeypair, at: usize) -> Self {
        Self { keypair, at, epoch: 1, coming: None, is_in: true, asked: None, since: Some(0), got: Vec::new() }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut net = Net::connected(4);
        net.register(P, open("a"));
        let mut daemons = Vec::new();
        for index in 0..3_u8 {
            let keypair = daemon(10 + index);
            let at = 1 + usize::from(index) % 3;
            net.subscribe(at, P, "a", Some(&keypair), None).expect("let in");
            daemons.push(Wanderer::new(keypair, at));
        }
        // One lives with the publisher.
        let keypair = daemon(20);
        net.subscribe(P, P, "a", Some(&keypair), None).expect("let in");
        daemons.push(Wanderer::new(keypair, P));
        let random = SmallRng::seed_from_u64(seed);
        let (reliable, publications) = (Vec::new(), Vec::new());
        Self { net, random, daemons, published: 0, reliable, publications, leaves: true, joins: 0 }
    }

    fn step(&mut self) -> bool {
        let (one, other) = (self.random.random_range(0..4), self.random.random_range(0..4));
        let which = self.random.random_range(0..self.daemons.len());
        match self.random.random_range(0..100) {
            0..25 => {
                let len = if self.random.random_bool(0.1) { 150_000 } else { 10 };
                let reliable = self.random.random_bool(0.8);
                self.publish(len, reliable);
            }
            25..30 if one != other && self.net.is_connected(one, other) => self.net.cut(one, other),
            30..40 if one != other && !self.net.is_connected(one, other) => self.net.connect(one, other, true),
            40..46 => return self.leave(which, other),
            46..48 if self.leaves => self.leave_or_join(which),
            // Who is out does not stay so for long: it is to cross its own leave.
            48..60 if !self.daemons[which].is_in => self.leave_or_join(which),
            48..58 => self.arrive(which),
            58..60 if self.leaves => self.begin_anew(which),
            60..75 => self.take(which),
            75..88 if one != other => {
                self.net.send(one, other);
            }
            88..100 if one != other => {
                self.net.arrive(one, other);
            }
            _ => {}
        }
        self.listen();
        false
    }

    fn publish(&mut self, len: usize, reliable: bool) {
        let options = PublishOptions { reliable, ..RELIABLE };
        let id = self.net.publish(P, "a", &vec![1; len], options).expect("within all limits");
        self.publications.push((id, reliable));
        self.published += 1;
        if reliable {
            self.reliable.push(self.published);
        }
    }

    /// Who has heard that it is in gets what is published from then on.
    fn listen(&mut self) {
        for wanderer in &mut self.daemons {
            let answer = wanderer.asked.and_then(|request| self.net.answer(wanderer.at, request));
            if let Some(result) = answer {
                result.expect("let in");
                (wanderer.asked, wanderer.since) = (None, wanderer.since.or(Some(self.published)));
            }
        }
    }

    /// The daemon unsubscribes, or subscribes from now on.
    fn leave_or_join(&mut self, which: usize) {
        let wanderer = &mut self.daemons[which];
        if wanderer.coming.is_some() {
            return;
        }
        (wanderer.asked, wanderer.since) = (None, None);
        wanderer.is_in = !wanderer.is_in;
        let (at, epoch, keypair) = (wanderer.at, Epoch::new(wanderer.epoch), &wanderer.keypair);
        if wanderer.is_in {
            wanderer.asked = Some(self.net.ask_from(at, P, "a", keypair, None, epoch, None).expect("known"));
            self.joins += 1;
        } else {
            self.net.leave(at, P, "a", Subscriber::Daemon(keypair.entity_id()));
        }
    }

    /// The daemon's mailbox is closed here, and it is handed over with its position.
    fn leave(&mut self, which: usize, to: usize) -> bool {
        let wanderer = &mut self.daemons[which];
        if wanderer.coming.is_some() || wanderer.at == to || !wanderer.is_in {
            return false;
        }
        let Some(position) = self.net.position(wanderer.at, &wanderer.keypair) else { return false };
        let now = self.net.now;
        self.net.nodes[wanderer.at].machine.moved_on(wanderer.keypair.entity_id(), now);
        (wanderer.coming, wanderer.asked) = (Some((position, wanderer.at)), None);
        wanderer.at = to;
        wanderer.epoch += 1;
        true
    }

    fn arrive(&mut self, which: usize) {
        let Wanderer { at, epoch, coming, keypair, asked, .. } = &mut self.daemons[which];
        let Some((position, _)) = coming.take() else { return };
        let epoch = Epoch::new(*epoch);
        *asked = Some(self.net.ask_from(*at, P, "a", keypair, None, epoch, Some(position)).expect("known"));
    }

    /// The daemon ends before its new host has asked, and another life of it begins where it was.
    fn begin_anew(&mut self, which: usize) {
        let Wanderer { at, epoch, coming, keypair, asked, since, .. } = &mut self.daemons[which];
        let Some((_, was)) = coming.take() else { return };
        (*at, *epoch, *since) = (was, *epoch + 1, None);
        let epoch = Epoch::new(*epoch);
        *asked = Some(self.net.ask_from(was, P, "a", keypair, None, epoch, None).expect("known"));
    }

    fn take(&mut self, which: usize) {
        let most = self.random.random_range(1..5);
        let wanderer = &mut self.daemons[which];
        if wanderer.coming.is_some() {
            return;
        }
        for _ in 0..most {
            let Some(message) = self.net.next_for(wanderer.at, &wanderer.keypair, true) else { break };
            assert!(wanderer.got.last() < Some(&message.number), "{} after {:?}", message.number, wanderer.got);
            if message.reliable {
                wanderer.got.push(message.number);
            }
        }
    }

    fn settle(&mut self, seed: u64) {
        for a in 0..4 {
            for b in 0..a {
                if !self.net.is_connected(a, b) {
                    self.net.connect(a, b, true);
                }
            }
        }
        for which in 0..self.daemons.len() {
            self.arrive(which);
        }
        self.net.run();
        self.listen();
        (0..3).for_each(|_| self.publish(10, true));
        for _ in 0..300 {
            self.net.run();
            (0..self.daemons.len()).for_each(|which| self.take(which));
        }
        for wanderer in self.daemons.iter().filter(|wanderer| wanderer.is_in) {
            let since = wanderer.since.expect("answered");
            let [got, all] = [&wanderer.got, &self.reliable].map(|numbers| numbers.iter().filter(|it| **it > since));
            assert!(got.eq(all), "seed {seed}, a daemon on {} since {since}: {:?}", wanderer.at, wanderer.got);
        }
        self.net.pass(Duration::from_secs(60));
        self.net.run();
        for (id, reliable) in std::mem::take(&mut self.publications) {
            let report = self.net.report(P, id).expect("over").expect("best effort");
            assert_eq!(report.attempted, report.delivered + report.errors.len(), "seed {seed}: {report:?}");
            assert!(self.leaves || !reliable || report.errors.is_empty(), "seed {seed}: {report:?}");
        }
        let mut roster = BTreeMap::new();
        for (node, subscriber) in self.net.nodes[P].machine.roster(&feed("a")) {
            assert!(roster.insert(subscriber, node).is_none(), "seed {seed}: {subscriber:?} is in twice");
        }
        for Wanderer { keypair, at, is_in, .. } in &self.daemons {
            let found = roster.get(&Subscriber::Daemon(keypair.entity_id())).copied();
            assert_eq!(found, is_in.then(|| self.net.id(*at)), "seed {seed}, one that lives on {at}");
        }
        for node in &mut self.net.nodes {
            node.events.clear();
            assert!(node.machine.is_idle(), "seed {seed}: {:?}", node.machine);
        }
    }
}
