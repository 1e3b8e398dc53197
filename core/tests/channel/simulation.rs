//! Random publishers, subscribers, cuts and losses, against a model.
//!
//! What must hold: a subscriber gets numbers that rise; a reliable message that the report says was delivered was taken; one
//! who is in from before a reliable message until after its report, without having been lost, gets it; every question is
//! answered, every publication ends, and nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};

use mesh_daemon_core::channel::{ChannelError, OnFailure, PublishId, PublishOptions, RequestId, Subscriber};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::net::{Net, feed, open};
use crate::seeds;

const NODES: usize = 4;
const CHANNELS: [&str; 2] = ["a", "b"];

struct World {
    net: Net,
    random: SmallRng,
    /// Questions that were not answered.
    asked: Vec<(usize, RequestId)>,
    /// Publications that are not over.
    open: BTreeMap<(usize, PublishId), Publication>,
    /// Those of them that are to be acknowledged.
    reliable: BTreeSet<(usize, PublishId)>,
    /// Who was asked to subscribe (node, publisher, channel), and not to leave or lost since.
    wanted: BTreeSet<(usize, usize, usize)>,
    /// How often that came to an end.
    disturbed: BTreeMap<(usize, usize, usize), u32>,
    /// The last number per publisher and channel.
    last: BTreeMap<(usize, usize), u64>,
    /// What each subscriber got of each publisher's channels.
    got: BTreeMap<(usize, usize, usize), Vec<u64>>,
    delivered: usize,
    /// Deliveries of which the report and the model agree that they must have been.
    certain: usize,
}

#[derive(Debug)]
struct Publication {
    channel: usize,
    number: u64,
    /// Who was in, and how often it had been disturbed before.
    to: Vec<(usize, Option<u32>)>,
}

#[test]
fn random_worlds() {
    let (mut delivered, mut certain) = (0, 0);
    let seeds = seeds::chosen(0..200);
    let count = usize::try_from(seeds.end - seeds.start).expect("few enough to run");
    for seed in seeds {
        // Shown with a failure.
        println!("seed {seed}");
        let (got, checked) = World::new(seed).live();
        delivered += got;
        certain += checked;
    }
    let loud = delivered > 25 * count && certain > 10 * count;
    assert!(loud || seeds::is_single(), "{delivered}, {certain}: the worlds are too quiet to show anything");
}

impl World {
    fn new(seed: u64) -> Self {
        let mut net = Net::connected(NODES);
        for at in 0..NODES {
            for channel in CHANNELS {
                net.register(at, open(channel));
            }
        }
        Self {
            net,
            random: SmallRng::seed_from_u64(seed),
            asked: Vec::new(),
            open: BTreeMap::new(),
            reliable: BTreeSet::new(),
            wanted: BTreeSet::new(),
            disturbed: BTreeMap::new(),
            last: BTreeMap::new(),
            got: BTreeMap::new(),
            delivered: 0,
            certain: 0,
        }
    }

    fn live(mut self) -> (usize, usize) {
        for _ in 0..300 {
            self.step();
            self.listen();
        }
        // Peace: everybody is connected and everything arrives.
        for a in 0..NODES {
            for b in 0..a {
                if !self.net.is_connected(a, b) {
                    self.net.connect(a, b, true);
                }
                self.net.hear_again(a, b);
                self.net.hear_again(b, a);
            }
        }
        self.net.run();
        self.listen();
        let unanswered: Vec<_> =
            std::mem::take(&mut self.asked).into_iter().filter(|&(at, id)| self.net.answer(at, id).is_none()).collect();
        assert_eq!(unanswered, []);
        assert!(self.open.is_empty(), "publications go on: {:?}", self.open);
        for node in &mut self.net.nodes {
            node.events.clear();
            assert!(node.machine.is_idle(), "{:?}", node.machine);
        }
        self.rosters_agree();
        (self.delivered, self.certain)
    }

    fn step(&mut self) {
        let (at, other) = (self.node(), self.node());
        let channel = self.random.random_range(0..CHANNELS.len());
        match self.random.random_range(0..100) {
            0..25 => self.publish(at, channel),
            25..33 => {
                if let Ok(request) = self.net.ask(at, other, CHANNELS[channel], None, None) {
                    self.asked.push((at, request));
                    self.wanted.insert((at, other, channel));
                }
            }
            33..36 => {
                let request = self.net.leave(at, other, CHANNELS[channel], Subscriber::Node);
                self.asked.push((at, request));
                self.disturb(at, other, channel);
            }
            36..39 if at != other && self.net.is_connected(at, other) => self.net.cut(at, other),
            39 if at != other && self.net.is_connected(at, other) => self.net.suspect(at, other),
            40 if at != other && self.net.is_connected(at, other) => self.net.hear_again(at, other),
            41..45 if at != other && !self.net.is_connected(at, other) => self.net.connect(at, other, true),
            45 if at != other => {
                self.net.lose(at, other);
                for channel in 0..CHANNELS.len() {
                    self.disturb(at, other, channel);
                    self.disturb(other, at, channel);
                }
                self.net.connect(at, other, false);
            }
            46..70 if at != other => {
                self.net.send(at, other);
            }
            _ if at != other => {
                self.net.arrive(at, other);
            }
            _ => {}
        }
    }

    fn publish(&mut self, at: usize, channel: usize) {
        let reliable = self.random.random_bool(0.6);
        let len = if self.random.random_bool(0.1) { 150_000 } else { 10 };
        let max_inflight = self.random.random_range(1..4);
        let options = PublishOptions { reliable, on_failure: OnFailure::Collect, max_inflight, all_or_none: false };
        let number = self.last.entry((at, channel)).or_default();
        *number += 1;
        let id = self.net.publish(at, CHANNELS[channel], &vec![1; len], options).expect("within all limits");
        let number = *number;
        if reliable {
            self.reliable.insert((at, id));
        }
        let roster = self.net.nodes[at].machine.roster(&feed(CHANNELS[channel]));
        let to = roster.into_iter().map(|(id, _)| {
            let node = self.net.index(id);
            let key = (node, at, channel);
            (node, self.wanted.contains(&key).then(|| self.disturbed.get(&key).copied().unwrap_or(0)))
        });
        let to = to.collect();
        self.open.insert((at, id), Publication { channel, number, to });
    }

    fn disturb(&mut self, node: usize, publisher: usize, channel: usize) {
        self.wanted.remove(&(node, publisher, channel));
        *self.disturbed.entry((node, publisher, channel)).or_default() += 1;
    }

    fn listen(&mut self) {
        for at in 0..NODES {
            for message in self.net.messages(at) {
                let publisher = self.net.index(message.publisher);
                let channel = CHANNELS.iter().position(|&c| c == message.feed.channel().as_str()).expect("ours");
                let got = self.got.entry((at, publisher, channel)).or_default();
                assert!(got.last() < Some(&message.number), "{at} got {} after {got:?}", message.number);
                assert!(message.payload.len() == 10 || message.payload.len() == 150_000);
                got.push(message.number);
                self.delivered += 1;
            }
        }
        let over: Vec<_> = self.open.keys().copied().collect();
        for (at, id) in over {
            let Some(result) = self.net.report(at, id) else { continue };
            let Publication { channel, number, to } = self.open.remove(&(at, id)).expect("just seen");
            let report = result.expect("failures are collected");
            assert_eq!(report.attempted, report.delivered + report.errors.len());
            let failed: BTreeSet<_> = report.errors.iter().map(|(node, _)| *node).collect();
            assert_eq!(failed.len(), report.errors.len(), "one outcome per node");
            for (_, error) in &report.errors {
                let known =
                    matches!(error, ChannelError::NotConnected(_) | ChannelError::PeerLost(_) | ChannelError::Left(_));
                assert!(known, "{error}");
            }
            if !self.reliable.remove(&(at, id)) {
                continue;
            }
            for (node, before) in to {
                let key = (node, at, channel);
                let same = before.is_some() && before == Some(self.disturbed.get(&key).copied().unwrap_or(0));
                if same && !failed.contains(&self.net.id(node)) {
                    let got = self.got.get(&key).is_some_and(|got| got.contains(&number));
                    assert!(got, "{node} did not get {number} of {at}, which is said to be delivered");
                    self.certain += 1;
                }
            }
        }
    }

    /// What subscribers believe, publishers believe too.
    fn rosters_agree(&self) {
        for (publisher, node) in self.net.nodes.iter().enumerate() {
            for channel in CHANNELS {
                let name = feed(channel);
                let mut roster: Vec<_> =
                    node.machine.roster(&name).into_iter().map(|(id, _)| self.net.index(id)).collect();
                roster.sort_unstable();
                let believes = |at: &usize| {
                    let ledger = self.net.nodes[*at].machine.ledger();
                    ledger.iter().any(|(id, it, _)| *id == self.net.id(publisher) && *it == name)
                };
                assert_eq!(roster, (0..NODES).filter(believes).collect::<Vec<_>>());
            }
        }
    }

    fn node(&mut self) -> usize {
        self.random.random_range(0..NODES)
    }
}
