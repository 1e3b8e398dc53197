//! Queue groups: one member of a group gets each message, whatever becomes of members.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesh_daemon_core::channel::{ChannelError, Position, PublishId, PublishOptions, Subscriber};
use mesh_daemon_core::identity::{EntityKeypair, Epoch};
use mesh_daemon_core::wire::channels::ChannelMessage;
use mesh_daemon_core::wire::{Lane, codec};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::net::{Granted, LOSSY, Net, P, RELIABLE, S, T, daemon, feed, name, open};

/// A publisher of channel `a`, and nodes that are members of a group of it.
fn group_of(nodes: usize) -> Net {
    let mut net = Net::connected(nodes + 1);
    net.register(P, open("a"));
    for at in 1..=nodes {
        net.subscribe(at, P, "a#g", None, None).expect("let in");
    }
    net
}

#[test]
fn each_message_goes_to_one_member_in_turn_and_to_everybody_outside() {
    for options in [RELIABLE, LOSSY] {
        let mut net = group_of(3);
        net.register(P, open("a"));
        net.subscribe(P, P, "a#g", None, None).expect("let in");
        net.subscribe(S, P, "a", None, None).expect("let in");
        net.subscribe(T, P, "a#other", None, None).expect("let in");
        let ids: Vec<_> = (0..8).map(|_| net.publish(P, "a", b"x", options).expect("sent")).collect();
        net.run();
        for id in ids {
            let report = net.report(P, id).expect("over").expect("sent");
            // One node outside, and one member of each of two groups.
            assert_eq!((report.attempted, report.delivered, report.errors), (3, 3, vec![]));
        }
        let mut of_group: Vec<u64> = Vec::new();
        for at in [P, S, T, 3] {
            let mut by_feed: BTreeMap<_, Vec<u64>> = BTreeMap::new();
            for message in net.messages(at) {
                by_feed.entry(message.feed).or_default().push(message.number);
            }
            let share = by_feed.remove(&feed("a#g")).expect("its share");
            assert_eq!(share.len(), 2, "each in turn");
            of_group.extend(share);
            for (of, numbers) in by_feed {
                let expected = if at == S { feed("a") } else { feed("a#other") };
                assert_eq!((of, numbers), (expected, (1..=8).collect()));
            }
        }
        of_group.sort_unstable();
        assert_eq!(of_group, (1..=8).collect::<Vec<_>>());
    }
}

#[test]
fn what_a_lost_member_did_not_acknowledge_goes_to_another_one() {
    let mut net = group_of(2);
    let ids: Vec<_> = (0..6).map(|_| net.publish(P, "a", b"x", RELIABLE).expect("sent")).collect();
    // One of them gets its share, and the acknowledgements do not come back.
    net.send(P, S);
    net.arrive(P, S);
    let taken = net.numbers(S);
    assert_eq!(taken.len(), 3);
    net.lose(P, S);
    net.run();
    assert_eq!(net.numbers(T), [2, 4, 6, 1, 3, 5], "its own, and then the others in their order");
    for id in ids {
        assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
    }
    // With the last member the messages are lost, and the report says so.
    let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.lose(P, T);
    let report = net.report(P, id).expect("over").expect("sent");
    assert_eq!(
        (report.attempted, report.delivered, report.errors),
        (1, 0, vec![(net.id(T), ChannelError::PeerLost(net.id(T)))])
    );
}

#[test]
fn who_leaves_in_order_takes_what_it_has_and_nothing_runs_twice() {
    for broken in [false, true] {
        let mut net = group_of(2);
        for _ in 0..6 {
            net.publish(P, "a", b"x", RELIABLE).expect("sent");
        }
        net.send(P, S);
        net.arrive(P, S);
        // It has them; the publisher does not know when it hears that this one leaves.
        let mut taken = net.numbers(S);
        let request = net.leave(S, P, "a#g", Subscriber::Node);
        if broken {
            // Nor does it hear that before the connection breaks: it sends them once more, and others.
            net.send(S, P);
            net.cut(S, P);
            net.publish(P, "a", b"x", RELIABLE).expect("sent");
            net.connect(S, P, true);
        }
        net.run();
        assert_eq!(net.answer(S, request), Some(Ok(())));
        taken.extend(net.numbers(S));
        taken.extend(net.numbers(T));
        taken.sort_unstable();
        assert_eq!(taken, (1..=6 + u64::from(broken)).collect::<Vec<_>>());
        assert_eq!(net.nodes[P].machine.roster(&feed("a#g")), [(net.id(T), Subscriber::Node)]);
        for at in [P, S, T] {
            net.nodes[at].events.clear();
            assert!(net.nodes[at].machine.is_idle(), "{broken}: {at}");
        }
    }
}

#[test]
fn a_member_without_a_connection_is_passed_over_and_what_waits_for_it_waits() {
    let mut net = group_of(2);
    let first = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.cut(P, S);
    let later: Vec<_> = (0..4).map(|_| net.publish(P, "a", b"x", RELIABLE).expect("sent")).collect();
    let lossy = net.publish(P, "a", b"x", LOSSY).expect("sent");
    net.run();
    assert_eq!(net.numbers(T), [2, 3, 4, 5, 6]);
    assert!(later.into_iter().chain([lossy]).all(|id| net.report(P, id).is_some()));
    assert!(net.report(P, first).is_none(), "it may have it");
    net.connect(P, S, true);
    net.run();
    assert_eq!(net.numbers(S), [1]);
    // With nobody connected, reliable ones wait and others fail.
    net.cut(P, S);
    net.cut(P, T);
    let waits = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    let fails = net.publish(P, "a", b"x", LOSSY).expect("sent");
    assert!(net.report(P, waits).is_none());
    assert_eq!(net.report(P, fails).expect("over").expect("sent").delivered, 0);
}

#[test]
fn what_was_queued_for_a_member_whose_connection_breaks_goes_to_another_one() {
    let mut net = group_of(2);
    let ids: Vec<_> = (0..4).map(|_| net.publish(P, "a", b"x", LOSSY).expect("sent")).collect();
    net.cut(P, S);
    net.run();
    let mut got = net.numbers(T);
    got.sort_unstable();
    assert_eq!(got, [1, 2, 3, 4]);
    assert!(ids.into_iter().all(|id| net.report(P, id).expect("over").expect("sent").delivered == 1));
}

#[test]
fn a_member_whose_daemon_has_no_room_holds_up_nobody_else() {
    let (slow, prompt) = (daemon(1), daemon(2));
    let mut net = Net::connected(2);
    net.register(P, open("a"));
    for one in [&slow, &prompt] {
        net.subscribe(S, P, "a#g", Some(one), None).expect("let in");
    }
    let mut got = 0;
    for _ in 0..40 {
        for _ in 0..100 {
            net.publish(P, "a", b"x", RELIABLE).expect("there is room");
        }
        net.run();
        got += net.take_all(S, &prompt).len();
    }
    net.run();
    // Half of them, until the window of the other one was full; then all.
    assert_eq!(got, 4000 - 1024);
    assert_eq!(net.take_all(S, &slow).len(), 1024);
}

#[test]
fn requirement_122_queue_group_join_needs_its_own_grant() {
    let mut net = Net::connected(2);
    net.register(P, net.gated("a"));
    let subject = net.nodes[S].keypair.clone();
    let token = |net: &Net, channel| net.token(P, &Granted { subject: &subject, channel, ttl: 60 });
    let (of_channel, of_group, of_other) = (token(&net, "a"), token(&net, "a#g"), token(&net, "a#h"));
    let elsewhere = token(&net, "b#g");
    for (to, wrong) in
        [("a#g", vec![None, Some(&of_channel), Some(&of_other), Some(&elsewhere)]), ("a", vec![None, Some(&of_group)])]
    {
        for token in wrong {
            let refused = net.subscribe(S, P, to, None, token.map(Vec::as_slice));
            assert!(matches!(refused, Err(ChannelError::Unauthorized { .. })), "{to}: {refused:?}");
            assert_eq!(net.nodes[P].machine.roster(&feed(to)), []);
        }
    }
    net.subscribe(S, P, "a#g", None, Some(&of_group)).expect("its own");
    net.subscribe(S, P, "a", None, Some(&of_channel)).expect("its own");
    // The end of one right leaves the other alone.
    net.pass(Duration::from_secs(1));
    net.pass(Duration::from_secs(60));
    net.run();
    assert_eq!(net.ends(S).len(), 2, "both tokens ended");
    assert_eq!(net.nodes[P].machine.roster(&feed("a#g")), []);
}

#[test]
fn requirement_122_a_name_of_a_channel_is_no_name_of_a_group() {
    // A token for channel `b` is no right in channel `a`, whatever group is named: the publisher makes the hash itself.
    let mut net = Net::connected(2);
    net.register(P, net.gated("a"));
    let subject = net.nodes[S].keypair.clone();
    let token = net.token(P, &Granted { subject: &subject, channel: "b", ttl: 60 });
    for group in ["b", "a", "g"] {
        let to = format!("a#{group}");
        assert!(net.subscribe(S, P, &to, None, Some(&token)).is_err(), "{to}");
    }
}

#[test]
fn one_peer_is_in_a_bounded_number_of_groups_of_a_channel() {
    let mut net = Net::connected(2);
    net.register(P, open("a"));
    for group in 0..64 {
        net.subscribe(S, P, &format!("a#{group}"), None, None).expect("let in");
    }
    let refused = net.subscribe(S, P, "a#64", None, None);
    assert!(matches!(refused, Err(ChannelError::Backpressure(_))), "{refused:?}");
    let one = daemon(1);
    net.subscribe(S, P, "a#7", Some(&one), None).expect("one more in the same group");
    net.subscribe(S, P, "a", None, None).expect("outside");
    net.leave(S, P, "a#0", Subscriber::Node);
    net.run();
    net.subscribe(S, P, "a#64", None, None).expect("there is room again");
}

#[test]
fn a_member_that_moves_stays_one_and_takes_its_share_along() {
    let (one, other) = (daemon(1), daemon(2));
    let mut net = Net::connected(4);
    net.register(P, open("a"));
    net.subscribe(S, P, "a#g", Some(&one), None).expect("let in");
    net.subscribe(3, P, "a#g", Some(&other), None).expect("let in");
    let ids: Vec<_> = (0..10).map(|_| net.publish(P, "a", b"x", RELIABLE).expect("sent")).collect();
    net.run();
    let mut got: Vec<_> = (0..2).map(|_| net.next_for(S, &one, true).expect("there").number).collect();
    let theirs: Vec<_> = net.take_all(3, &other).iter().map(|message| message.number).collect();
    let position = net.position(S, &one);
    let now = net.now;
    net.nodes[S].machine.moved_on(one.entity_id(), now);
    // While it moves it still is a member.
    net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    let request = net.ask_from(T, P, "a#g", &one, None, Epoch::new(2), position).expect("asked");
    net.run();
    net.answer(T, request).expect("answered").expect("let in");
    got.extend(net.take_all(T, &one).iter().map(|message| message.number));
    net.run();
    assert_eq!(got.len() + theirs.len() + net.take_all(3, &other).len(), 11);
    assert!(got.is_sorted() && got.iter().all(|number| !theirs.contains(number)), "{got:?} and {theirs:?}");
    for id in ids {
        let report = net.report(P, id).expect("over").expect("sent");
        assert_eq!((report.attempted, report.delivered, report.errors), (1, 1, vec![]));
    }
    let mut roster = net.nodes[P].machine.roster(&feed("a#g"));
    roster.sort_by_key(|(_, who)| *who);
    let mut expected =
        [(net.id(T), Subscriber::Daemon(one.entity_id())), (net.id(3), Subscriber::Daemon(other.entity_id()))];
    expected.sort_by_key(|(_, who)| *who);
    assert_eq!(roster, expected);
}

/// A member takes the first of four messages, its publisher gives its host up, and it goes on elsewhere behind that one.
/// `meddle` comes before its host is lost.
fn goes_on_from_a_lost_host(meddle: impl FnOnce(&mut Net, &EntityKeypair)) {
    let one = daemon(1);
    let mut net = Net::connected(4);
    net.register(P, open("a"));
    net.subscribe(S, P, "a#g", Some(&one), None).expect("let in");
    for _ in 0..4 {
        net.publish(P, "a", b"x", RELIABLE).expect("sent");
    }
    net.run();
    let first = net.next_for(S, &one, true).expect("there").number;
    let position = net.position(S, &one);
    meddle(&mut net, &one);
    net.lose(S, P);
    let request = net.ask_from(T, P, "a#g", &one, None, Epoch::new(2), position).expect("asked");
    net.run();
    net.answer(T, request).expect("answered").expect("let in");
    let got: Vec<_> = net.take_all(T, &one).iter().map(|message| message.number).collect();
    assert_eq!((first, got), (1, vec![2, 3, 4]));
}

#[test]
fn a_member_whose_former_host_was_lost_meanwhile_gets_what_fell_to_nobody_else() {
    goes_on_from_a_lost_host(|_, _| {});
}

#[test]
fn a_node_that_has_no_member_does_not_say_what_anothers_has_taken() {
    goes_on_from_a_lost_host(|net, one| {
        let forged = ChannelMessage::Unsubscribe {
            request: 1,
            channel: "a",
            daemon: Some(one.entity_id()),
            group: Some("g"),
            taken: Some(u64::MAX),
        };
        // Only what the publisher keeps is left of them then.
        net.inject(3, P, Lane::Fast, codec::encode(&forged));
    });
}

#[test]
fn a_new_member_begins_with_what_comes_after_it() {
    let one = daemon(1);
    let mut net = group_of(1);
    net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    net.subscribe(T.min(1), P, "a#g", Some(&one), None).expect("let in");
    for _ in 0..2 {
        net.publish(P, "a", b"x", RELIABLE).expect("sent");
    }
    net.run();
    let mut got: Vec<_> = net.take_all(1, &one).iter().map(|message| message.number).collect();
    assert_eq!(got.len(), 1);
    got.extend(net.numbers(1));
    got.sort_unstable();
    assert_eq!(got, [1, 2, 3]);
}

/// Nodes and daemons of a group that come, go, move and are lost while a publisher publishes and connections break.
struct World {
    net: Net,
    random: SmallRng,
    daemons: Vec<Wanderer>,
    published: u64,
    reliable: BTreeSet<u64>,
    /// How often each message was taken.
    taken: BTreeMap<u64, u32>,
    /// Publications and how many of their reliable deliveries must succeed.
    open: Vec<(PublishId, u64)>,
    /// Whether members may be lost: then what they have not acknowledged may run twice.
    losses: bool,
}

struct Wanderer {
    keypair: EntityKeypair,
    at: usize,
    epoch: u64,
    /// Its new host has not asked yet.
    coming: Option<GoesOn>,
    is_in: bool,
}

/// From where, unless it has not begun; and where it was.
struct GoesOn(Option<Position>, usize);

const NODES: usize = 4;

impl World {
    fn new(seed: u64, losses: bool) -> Self {
        let mut net = Net::connected(NODES);
        net.register(P, open("a"));
        // One never leaves, so that there always is a member.
        net.subscribe(P, P, "a#g", None, None).expect("let in");
        let mut daemons = Vec::new();
        for index in 0..3_u8 {
            let (keypair, at) = (daemon(10 + index), 1 + usize::from(index) % 3);
            net.subscribe(at, P, "a#g", Some(&keypair), None).expect("let in");
            daemons.push(Wanderer { keypair, at, epoch: 1, coming: None, is_in: true });
        }
        let random = SmallRng::seed_from_u64(seed);
        let (reliable, taken, open) = (BTreeSet::new(), BTreeMap::new(), Vec::new());
        Self { net, random, daemons, published: 0, reliable, taken, open, losses }
    }

    fn step(&mut self) {
        let (one, other) = (self.random.random_range(0..NODES), self.random.random_range(0..NODES));
        let which = self.random.random_range(0..self.daemons.len());
        match self.random.random_range(0..100) {
            0..25 => {
                let len = if self.random.random_bool(0.1) { 150_000 } else { 10 };
                let reliable = self.random.random_bool(0.8);
                let options = PublishOptions { reliable, max_inflight: 1, ..RELIABLE };
                let id = self.net.publish(P, "a", &vec![1; len], options).expect("within all limits");
                self.published += 1;
                self.open.push((id, self.published));
                if reliable {
                    self.reliable.insert(self.published);
                }
            }
            25..30 if one != other && self.net.is_connected(one, other) => self.net.cut(one, other),
            30..40 if one != other && !self.net.is_connected(one, other) => self.net.connect(one, other, true),
            40..46 => self.move_on(which, other),
            46..54 => self.arrive(which),
            54..56 => self.begin_anew(which),
            56..58 => self.leave_or_join(which),
            58..60 if self.losses && one != P => self.lose(one),
            60..66 => {
                // A node that comes and goes.
                if self.random.random_bool(0.5) {
                    let _asked = self.net.ask(one, P, "a#g", None, None);
                } else if one != P {
                    self.net.leave(one, P, "a#g", Subscriber::Node);
                }
            }
            66..78 => self.take(which),
            78..90 if one != other => {
                self.net.send(one, other);
            }
            90..100 if one != other => {
                self.net.arrive(one, other);
            }
            _ => {}
        }
        self.listen();
    }

    fn move_on(&mut self, which: usize, to: usize) {
        let wanderer = &mut self.daemons[which];
        if wanderer.coming.is_some() || wanderer.at == to || !wanderer.is_in {
            return;
        }
        let machine = &self.net.nodes[wanderer.at].machine;
        let Some(subscription) = machine.subscriptions_of(wanderer.keypair.entity_id()).pop() else { return };
        let now = self.net.now;
        self.net.nodes[wanderer.at].machine.moved_on(wanderer.keypair.entity_id(), now);
        wanderer.coming = Some(GoesOn(subscription.position, wanderer.at));
        wanderer.at = to;
        wanderer.epoch += 1;
    }

    fn arrive(&mut self, which: usize) {
        let Wanderer { at, epoch, coming, keypair, .. } = &mut self.daemons[which];
        let Some(GoesOn(position, _)) = coming.take() else { return };
        let (at, epoch, keypair) = (*at, *epoch, keypair.clone());
        self.net.ask_from(at, P, "a#g", &keypair, None, Epoch::new(epoch), position).expect("connected");
    }

    /// The daemon ends before its new host has asked, and another life of it begins where it was.
    fn begin_anew(&mut self, which: usize) {
        let Wanderer { at, epoch, coming, keypair, .. } = &mut self.daemons[which];
        let Some(GoesOn(_, was)) = coming.take() else { return };
        (*at, *epoch) = (was, *epoch + 1);
        let (epoch, keypair) = (Epoch::new(*epoch), keypair.clone());
        self.net.ask_from(was, P, "a#g", &keypair, None, epoch, None).expect("connected");
    }

    fn leave_or_join(&mut self, which: usize) {
        let Wanderer { at, epoch, coming, keypair, is_in } = &mut self.daemons[which];
        if coming.is_some() {
            return;
        }
        let (at, epoch, keypair) = (*at, *epoch, keypair.clone());
        *is_in = !*is_in;
        if *is_in {
            self.net.ask_from(at, P, "a#g", &keypair, None, Epoch::new(epoch), None).expect("connected");
        } else {
            self.net.leave(at, P, "a#g", Subscriber::Daemon(keypair.entity_id()));
        }
    }

    /// The publisher and a node give each other up, and meet again: what was subscribed there is over.
    fn lose(&mut self, at: usize) {
        self.net.lose(P, at);
        self.net.connect(P, at, false);
        for wanderer in &mut self.daemons {
            wanderer.is_in &= wanderer.at != at || wanderer.coming.is_some();
        }
    }

    fn take(&mut self, which: usize) {
        let most = self.random.random_range(1..5);
        let wanderer = &self.daemons[which];
        if wanderer.coming.is_some() {
            return;
        }
        for _ in 0..most {
            let Some(message) = self.net.next_for(wanderer.at, &wanderer.keypair, true) else { break };
            *self.taken.entry(message.number).or_default() += 1;
        }
    }

    fn listen(&mut self) {
        for at in 0..NODES {
            for message in self.net.messages(at) {
                *self.taken.entry(message.number).or_default() += 1;
            }
        }
        let (net, taken, reliable) = (&mut self.net, &self.taken, &self.reliable);
        self.open.retain(|&(id, number)| {
            let Some(result) = net.report(P, id) else { return true };
            let report = result.expect("best effort");
            assert_eq!((report.attempted, report.delivered + report.errors.len()), (1, 1), "{number}: {report:?}");
            if reliable.contains(&number) {
                assert_eq!(report.errors, [], "a member lives");
                assert!(taken.contains_key(&number), "{number} is said to be delivered");
            }
            false
        });
    }

    fn settle(&mut self, seed: u64) {
        for a in 0..NODES {
            for b in 0..a {
                if !self.net.is_connected(a, b) {
                    self.net.connect(a, b, true);
                }
            }
        }
        for which in 0..self.daemons.len() {
            self.arrive(which);
        }
        for round in 0..300 {
            self.net.run();
            (0..self.daemons.len()).for_each(|which| self.take(which));
            self.listen();
            if round == 100 {
                // A daemon left on its new host before that could ask: its former host waits no longer.
                self.net.pass(Duration::from_secs(60));
            }
        }
        assert_eq!(self.open, [], "seed {seed}");
        for number in &self.reliable {
            let times = self.taken.get(number).copied().unwrap_or(0);
            assert!(times > 0, "seed {seed}: {number} is lost");
            assert!(times == 1 || self.losses, "seed {seed}: {number} was taken {times} times");
        }
        for (number, times) in self.taken.iter().filter(|(number, _)| !self.reliable.contains(number)) {
            assert_eq!(*times, 1, "seed {seed}: {number}");
        }
        for node in &mut self.net.nodes {
            node.events.clear();
            assert!(node.machine.is_idle(), "seed {seed}: {:?}", node.machine);
        }
        let mut roster = BTreeMap::new();
        for (node, who) in self.net.nodes[P].machine.roster(&feed("a#g")) {
            let former = if let Subscriber::Daemon(_) = who { roster.insert(who, node) } else { None };
            assert!(former.is_none(), "seed {seed}: {who:?} is in twice");
        }
        assert_eq!(self.net.nodes[P].machine.roster(&feed("a")), []);
    }
}

#[test]
fn no_message_of_a_group_is_lost_or_taken_twice_while_members_come_go_and_move() {
    let mut taken = 0;
    for seed in 0..200 {
        let mut world = World::new(seed, false);
        (0..400).for_each(|_| world.step());
        world.settle(seed);
        taken += world.taken.len();
    }
    assert!(taken > 10_000, "{taken}: the worlds are too quiet to show anything");
}

#[test]
fn no_message_of_a_group_is_lost_while_a_member_lives_also_when_others_are_lost() {
    let mut twice = 0;
    for seed in 0..200 {
        let mut world = World::new(seed, true);
        (0..400).for_each(|_| world.step());
        world.settle(seed);
        twice += world.taken.values().filter(|times| **times > 1).count();
    }
    assert!(twice > 0, "nothing was repeated: the worlds are too quiet to show anything");
}

#[test]
fn a_group_is_of_its_channel_only() {
    let mut net = Net::connected(2);
    net.register(P, open("a"));
    net.register(P, open("b"));
    net.subscribe(S, P, "a#g", None, None).expect("let in");
    net.publish(P, "b", b"x", RELIABLE).expect("sent");
    net.run();
    assert_eq!(net.numbers(S), []);
    assert_eq!(net.nodes[P].machine.roster(&feed("b#g")), []);
    assert_eq!(net.nodes[S].machine.feeds_of(net.id(P), name("a").id(), Subscriber::Node), [feed("a#g")]);
}
