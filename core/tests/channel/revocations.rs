//! Revocations between nodes: what is entered on one is in force on all, whoever was away meanwhile; what members can do
//! with them, and what not.

use std::collections::BTreeMap;
use std::time::Duration;

use mesh_daemon_core::channel::{
    ChannelConfig, ChannelError, Denial, MAX_FOREIGN_REVOCATIONS, MAX_REVOCATIONS_FROM_PEER, Subscriber, THROTTLE,
};
use mesh_daemon_core::identity::{
    EntityId, EntityKeypair, PermissionToken, Revocation, TokenChain, TokenError, TokenGrant, TokenScope,
};
use mesh_daemon_core::wire::channels::ChannelMessage;
use mesh_daemon_core::wire::{Lane, codec};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::net::{Net, P, RELIABLE, S, T, feed, name, open};

const U: usize = 3;

/// Who issues tokens; no node.
fn root() -> EntityKeypair {
    EntityKeypair::from_seed(&[200; 32])
}

fn gated() -> ChannelConfig {
    ChannelConfig { token_roots: vec![root().entity_id()], ..open("gated") }
}

fn grant(subject: &EntityKeypair, scope: TokenScope, generation: u32) -> TokenGrant {
    TokenGrant {
        subject: subject.entity_id(),
        scope,
        channel_hash: name("gated").id().0,
        ttl_seconds: 600,
        delegation_depth: 1,
        generation,
    }
}

/// A token of the root for a node.
fn token(net: &Net, subject: usize, generation: u32) -> Vec<u8> {
    let grant = grant(&net.nodes[subject].keypair, TokenScope::SUBSCRIBE, generation);
    PermissionToken::issue(&root(), &grant, net.now.unix.as_secs()).expect("issuable").to_bytes().to_vec()
}

/// One that a holder passed on to it.
fn passed_on(net: &Net, holder: &EntityKeypair, subject: usize, generation: u32) -> Vec<u8> {
    let now = net.now.unix.as_secs();
    let first = grant(holder, TokenScope::SUBSCRIBE.union(TokenScope::DELEGATE), generation);
    let first = PermissionToken::issue(&root(), &first, now).expect("issuable");
    let chain = TokenChain::new(vec![first]).expect("one");
    let subject = net.nodes[subject].keypair.entity_id();
    chain.delegate(holder, subject, TokenScope::SUBSCRIBE, now).expect("delegable").to_bytes()
}

fn revocation(issuer: &EntityKeypair, below: u32) -> Revocation {
    Revocation::issue(issuer, below).expect("full")
}

/// Somebody's made-up issuers.
fn stranger(number: usize) -> EntityKeypair {
    let mut seed = [77; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    EntityKeypair::from_seed(&seed)
}

fn revoke(net: &mut Net, at: usize, revocation: &Revocation) {
    let now = net.now;
    let request = net.nodes[at].machine.revoke(revocation, now).expect("verified");
    net.collect(at);
    net.run();
    assert_eq!(net.answer(at, request), Some(Ok(())), "it was handed to everybody");
}

fn bring(net: &mut Net, from: usize, to: usize, revocation: &Revocation) {
    let statement = revocation.to_bytes();
    net.inject(from, to, Lane::Fast, codec::encode(&ChannelMessage::Revoked { statement: &statement }));
}

fn floors(net: &Net, at: usize) -> BTreeMap<EntityId, u32> {
    net.nodes[at].machine.revocations().map(|revocation| (revocation.issuer(), revocation.below())).collect()
}

fn is_revoked(result: &Result<(), ChannelError>) -> bool {
    matches!(result, Err(ChannelError::Unauthorized { why: Denial::Revoked, .. }))
}

#[test]
fn hazard_43_what_is_revoked_on_any_member_ends_at_every_publisher_and_stays_so() {
    let mut net = Net::connected(4);
    for publisher in [P, T] {
        net.register(publisher, gated());
        let good = token(&net, S, 0);
        net.subscribe(S, publisher, "gated", None, Some(&good)).expect("let in");
    }
    revoke(&mut net, U, &revocation(&root(), 1));
    let ends = net.ends(S);
    let revoked = |(_, why): &(Subscriber, ChannelError)| is_revoked(&Err(why.clone()));
    assert!(ends.len() == 2 && ends.iter().all(revoked), "{ends:?}");
    for publisher in [P, T] {
        assert_eq!(net.nodes[publisher].machine.roster(&feed("gated")), []);
        let old = token(&net, S, 0);
        assert!(is_revoked(&net.subscribe(S, publisher, "gated", None, Some(&old))));
        let new = token(&net, S, 1);
        net.subscribe(S, publisher, "gated", None, Some(&new)).expect("of the later generation");
    }
    // Twice is once, and an older one changes nothing.
    revoke(&mut net, U, &revocation(&root(), 1));
    revoke(&mut net, S, &revocation(&root(), 1));
    assert_eq!(net.ends(S), []);
    for at in 0..4 {
        assert_eq!(floors(&net, at), BTreeMap::from([(root().entity_id(), 1)]));
        assert!(net.nodes[at].machine.is_idle());
    }
    revoke(&mut net, P, &revocation(&root(), 7));
    revoke(&mut net, U, &revocation(&root(), 3));
    for at in 0..4 {
        assert_eq!(floors(&net, at), BTreeMap::from([(root().entity_id(), 7)]), "it never falls");
    }
}

#[test]
fn hazard_43_a_holder_takes_back_what_it_passed_on_and_nothing_else() {
    let mut net = Net::connected(4);
    net.register(P, gated());
    let holder = EntityKeypair::from_seed(&[201; 32]);
    let (through, direct) = (passed_on(&net, &holder, S, 4), token(&net, T, 4));
    net.subscribe(S, P, "gated", None, Some(&through)).expect("let in");
    net.subscribe(T, P, "gated", None, Some(&direct)).expect("let in");
    revoke(&mut net, U, &revocation(&holder, 4));
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")).len(), 2, "not below 4");
    revoke(&mut net, U, &revocation(&holder, 5));
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")), [(net.id(T), Subscriber::Node)]);
    assert_eq!((net.ends(S).len(), net.ends(T).len()), (1, 0));
    assert!(is_revoked(&net.subscribe(S, P, "gated", None, Some(&through))));
    let later = passed_on(&net, &holder, S, 5);
    net.subscribe(S, P, "gated", None, Some(&later)).expect("of the later generation");
}

#[test]
fn a_publisher_that_was_away_or_starts_later_hears_of_it_from_whoever_is_there() {
    let mut net = Net::new(4);
    net.register(P, gated());
    net.connect(P, S, false);
    net.connect(T, U, false);
    let old = token(&net, S, 0);
    net.subscribe(S, P, "gated", None, Some(&old)).expect("let in");
    // Entered where the publisher is not; known to a bystander then, who enters it no more.
    revoke(&mut net, U, &revocation(&root(), 1));
    assert_eq!((net.ends(S), floors(&net, P)), (vec![], BTreeMap::new()));
    net.lose(T, U);
    net.connect(P, T, false);
    net.run();
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")), []);
    assert_eq!(net.ends(S).len(), 1);
    assert_eq!(floors(&net, S), floors(&net, U), "and passes it on");
    assert!(is_revoked(&net.subscribe(S, P, "gated", None, Some(&old))));

    // A publisher's new life knows nothing, until a node that does has a session with it.
    net.restart(P);
    net.register(P, gated());
    assert_eq!(floors(&net, P), BTreeMap::new());
    net.connect(P, T, false);
    net.run();
    net.connect(P, S, false);
    assert!(is_revoked(&net.subscribe(S, P, "gated", None, Some(&old))));
}

#[test]
fn a_subscriber_that_comes_before_the_news_is_put_out_by_it() {
    let mut net = Net::new(3);
    revoke(&mut net, T, &revocation(&root(), 1));
    net.register(P, gated());
    net.connect(P, S, false);
    let old = token(&net, S, 0);
    net.subscribe(S, P, "gated", None, Some(&old)).expect("nobody has told it");
    net.connect(P, T, false);
    net.run();
    assert_eq!((net.nodes[P].machine.roster(&feed("gated")), net.ends(S).len()), (vec![], 1));
    let id = net.publish(P, "gated", b"secret", RELIABLE).expect("published");
    assert_eq!(net.report(P, id).expect("over").expect("nobody").attempted, 0);
}

#[test]
fn a_channel_that_comes_to_need_tokens_needs_the_revocations_of_their_issuers() {
    let mut net = Net::connected(3);
    net.register(P, open("gated"));
    let old = token(&net, S, 0);
    net.subscribe(S, P, "gated", None, Some(&old)).expect("open to all");
    net.register(P, gated());
    net.run();
    assert_eq!(net.ends(S), []);
    revoke(&mut net, T, &revocation(&root(), 1));
    assert_eq!(net.ends(S).len(), 1);
}

#[test]
fn news_goes_once_to_each_and_not_back() {
    let mut net = Net::connected(5);
    let now = net.now;
    net.nodes[0].machine.revoke(&revocation(&root(), 1), now).expect("verified");
    let mut frames = 0;
    loop {
        let before = frames;
        for (from, to) in (0..5).flat_map(|from| (0..5).map(move |to| (from, to))).filter(|(a, b)| a != b) {
            frames += usize::from(net.send(from, to));
        }
        for (from, to) in (0..5).flat_map(|from| (0..5).map(move |to| (from, to))).filter(|(a, b)| a != b) {
            while net.arrive(from, to) {}
        }
        if frames == before {
            break;
        }
    }
    // The first tells four; each of those tells the three that did not tell it.
    assert_eq!(frames, 4 + 4 * 3);
}

#[test]
fn what_nobody_signed_is_not_entered_and_who_brings_it_is_not_believed_again() {
    let mut net = Net::connected(3);
    let mut bytes = revocation(&root(), 1).to_bytes();
    bytes[32] = 9;
    let forged = Revocation::from_bytes(&bytes).expect("format");
    let now = net.now;
    let refused = net.nodes[P].machine.revoke(&forged, now);
    assert_eq!(refused, Err(ChannelError::Revocation(TokenError::ForgedRevocation)));
    bring(&mut net, S, P, &forged);
    net.inject(S, P, Lane::Fast, codec::encode(&ChannelMessage::Revoked { statement: &bytes[..99] }));
    bring(&mut net, S, P, &revocation(&root(), 2));
    assert_eq!(floors(&net, P), BTreeMap::new());
    // It hurts nobody else, and its new life begins anew.
    bring(&mut net, T, P, &revocation(&root(), 3));
    assert_eq!(floors(&net, P), BTreeMap::from([(root().entity_id(), 3)]));
    net.lose(P, S);
    net.connect(P, S, false);
    bring(&mut net, S, P, &revocation(&root(), 4));
    assert_eq!(floors(&net, P), BTreeMap::from([(root().entity_id(), 4)]));
}

#[test]
fn a_flood_of_one_member_is_bounded_and_neither_forgets_nor_keeps_out_what_matters() {
    let mut net = Net::new(3);
    let holder = EntityKeypair::from_seed(&[201; 32]);
    net.register(P, gated());
    net.connect(P, S, false);
    let through = passed_on(&net, &holder, S, 0);
    net.subscribe(S, P, "gated", None, Some(&through)).expect("let in");
    // Known before the flood, and of nobody that matters here.
    bring(&mut net, S, P, &revocation(&stranger(0), 1));
    for number in 1..MAX_REVOCATIONS_FROM_PEER + 50 {
        bring(&mut net, S, P, &revocation(&stranger(number), 1));
    }
    assert_eq!(floors(&net, P).len(), MAX_REVOCATIONS_FROM_PEER);
    assert_eq!(floors(&net, P).get(&stranger(0).entity_id()), Some(&1), "nothing gives way");
    // What is there may rise; a root, and a holder who let somebody in, come in whatever is full.
    bring(&mut net, S, P, &revocation(&stranger(0), 5));
    assert_eq!(floors(&net, P).get(&stranger(0).entity_id()), Some(&5));
    bring(&mut net, S, P, &revocation(&holder, 1));
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")), []);
    bring(&mut net, S, P, &revocation(&root(), 1));
    // So does what the owner enters, and it leaves room to others.
    revoke(&mut net, P, &revocation(&stranger(1_000_000), 1));
    revoke(&mut net, P, &revocation(&stranger(0), 5));
    bring(&mut net, S, P, &revocation(&stranger(1_000_001), 1));
    assert_eq!(floors(&net, P).len(), MAX_REVOCATIONS_FROM_PEER + 4);
    // Another peer has its own share.
    net.connect(P, T, false);
    bring(&mut net, T, P, &revocation(&stranger(1_000_002), 1));
    assert_eq!(floors(&net, P).len(), MAX_REVOCATIONS_FROM_PEER + 5);
}

#[test]
fn hazard_43_one_who_revokes_without_end_makes_others_do_little_and_its_last_word_counts() {
    let mut net = Net::connected(3);
    net.register(P, gated());
    let good = token(&net, T, 5000);
    net.subscribe(T, P, "gated", None, Some(&good)).expect("let in");
    let mut spread = 0;
    for below in 1..=2000 {
        // What the issuer has said last is what its node tells who asks.
        let revocation = revocation(&stranger(0), below);
        let now = net.now;
        net.nodes[S].machine.revoke(&revocation, now).expect("verified");
        net.collect(S);
        bring(&mut net, S, P, &revocation);
        while net.send(P, T) {
            spread += 1;
        }
    }
    assert!((32..256).contains(&spread), "{spread}: passed on within bounds");
    assert!(floors(&net, P)[&stranger(0).entity_id()] < 2000);
    // Another issuer's is looked at in its turn.
    bring(&mut net, S, P, &revocation(&root(), 1));
    assert_eq!(floors(&net, P).get(&root().entity_id()), Some(&1), "the first one of its issuer");
    let later = revocation(&root(), 6000);
    let now = net.now;
    net.nodes[S].machine.revoke(&later, now).expect("verified");
    net.collect(S);
    bring(&mut net, S, P, &later);
    for _ in 0..4 {
        net.pass(Duration::from_millis(200));
        net.run();
    }
    let expected = BTreeMap::from([(root().entity_id(), 6000), (stranger(0).entity_id(), 2000)]);
    assert_eq!((floors(&net, P), floors(&net, T)), (expected.clone(), expected));
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")), [], "and is in force");
}

#[test]
fn many_members_together_are_bounded_and_a_publisher_asks_for_what_was_kept_out() {
    let peers = MAX_FOREIGN_REVOCATIONS / MAX_REVOCATIONS_FROM_PEER;
    let mut net = Net::new(peers + 3);
    let (witness, subscriber) = (peers + 1, peers + 2);
    net.register(P, gated());
    for peer in 1..=peers {
        net.connect(P, peer, false);
        for number in 0..MAX_REVOCATIONS_FROM_PEER {
            bring(&mut net, peer, P, &revocation(&stranger(peer * 10_000 + number), 1));
        }
    }
    assert_eq!(floors(&net, P).len(), MAX_FOREIGN_REVOCATIONS);
    let holder = EntityKeypair::from_seed(&[201; 32]);
    let late = revocation(&EntityKeypair::from_seed(&[202; 32]), 1);
    revoke(&mut net, witness, &revocation(&holder, 1));
    revoke(&mut net, witness, &late);
    net.connect(P, witness, false);
    net.run();
    assert_eq!(floors(&net, P).len(), MAX_FOREIGN_REVOCATIONS, "kept out: nothing here is known to need it");

    // It turns out that a holder matters: whoever holds the revocation is asked for it.
    net.connect(P, subscriber, false);
    net.run();
    let through = passed_on(&net, &holder, subscriber, 0);
    let _let_in_or_put_out = net.subscribe(subscriber, P, "gated", None, Some(&through));
    assert_eq!(floors(&net, P).get(&holder.entity_id()), Some(&1));
    assert_eq!(net.nodes[P].machine.roster(&feed("gated")), []);
    let mut roots = gated();
    roots.token_roots.push(late.issuer());
    net.register(P, roots);
    net.run();
    assert_eq!(floors(&net, P).get(&late.issuer()), Some(&1), "the same for a new root");
}

#[test]
fn entering_is_over_when_every_peer_was_handed_it_or_is_out_of_reach() {
    let mut net = Net::connected(3);
    let now = net.now;
    let request = net.nodes[P].machine.revoke(&revocation(&root(), 1), now).expect("verified");
    net.collect(P);
    assert_eq!(net.answer(P, request), None);
    net.send(P, S);
    assert_eq!(net.answer(P, request), None);
    net.cut(P, T);
    assert_eq!(net.answer(P, request), Some(Ok(())));
    net.connect(P, T, true);
    net.run();
    assert_eq!(floors(&net, T), BTreeMap::from([(root().entity_id(), 1)]), "it hears of it later");

    let alone = &mut Net::new(1);
    revoke(alone, 0, &revocation(&root(), 1));
}

#[test]
fn simulated_revocations_converge_under_partition_loss_and_restart() {
    let mut put_out = 0;
    for seed in 0..100 {
        put_out += Revoking::new(seed).live();
    }
    assert!(put_out > 100, "{put_out}: too quiet to show anything");
}

/// Two publishers, two subscribers and a bystander, whose sessions come and go; the root and a holder revoke, each at any node.
struct Revoking {
    net: Net,
    random: SmallRng,
    issuers: [EntityKeypair; 2],
    /// What was entered, by issuer.
    highest: [u32; 2],
}

const NODES: usize = 5;
const PUBLISHERS: [usize; 2] = [0, 1];
const SUBSCRIBERS: [usize; 2] = [2, 3];

impl Revoking {
    fn new(seed: u64) -> Self {
        let mut net = Net::connected(NODES);
        for publisher in PUBLISHERS {
            net.register(publisher, gated());
        }
        let issuers = [root(), EntityKeypair::from_seed(&[201; 32])];
        Self { net, random: SmallRng::seed_from_u64(seed), issuers, highest: [0; 2] }
    }

    /// Gives how many subscriptions ended because of a revocation.
    fn live(mut self) -> usize {
        let mut put_out = 0;
        for _ in 0..600 {
            self.step();
            for at in SUBSCRIBERS {
                let revoked = |(_, why): &(Subscriber, ChannelError)| is_revoked(&Err(why.clone()));
                put_out += self.net.ends(at).iter().filter(|end| revoked(end)).count();
            }
        }
        // Not everybody needs a session with everybody: a line is enough.
        for at in 1..NODES {
            if !self.net.is_connected(at - 1, at) {
                self.net.connect(at - 1, at, self.random.random_bool(0.5));
            }
        }
        self.net.run();
        self.agreed();
        put_out
    }

    fn step(&mut self) {
        let (a, b) = (self.random.random_range(0..NODES), self.random.random_range(0..NODES));
        match self.random.random_range(0..100) {
            0..4 => {
                let which = self.random.random_range(0..2);
                // News, or what is known to some or to all.
                let below = self.random.random_range(1..=self.highest[which] + 1);
                self.highest[which] = self.highest[which].max(below);
                let (revocation, now) = (revocation(&self.issuers[which], below), self.net.now);
                self.net.nodes[a].machine.revoke(&revocation, now).expect("verified");
                self.net.collect(a);
            }
            4..10 => {
                let at = SUBSCRIBERS[self.random.random_range(0..2)];
                let publisher = PUBLISHERS[self.random.random_range(0..2)];
                let generation = self.random.random_range(0..self.highest[0].max(self.highest[1]) + 2);
                let token = if self.random.random_bool(0.5) {
                    token(&self.net, at, generation)
                } else {
                    passed_on(&self.net, &self.issuers[1], at, generation)
                };
                // Without a session it is refused at once, which is no matter here.
                let _asked = self.net.ask(at, publisher, "gated", None, Some(&token));
            }
            10..13 if a != b && self.net.is_connected(a, b) => self.net.cut(a, b),
            13..30 if a != b && !self.net.is_connected(a, b) => self.net.connect(a, b, true),
            30 if a != b => {
                self.net.lose(a, b);
            }
            // As long as somebody is there who holds what was entered, nobody's memory matters.
            31 if PUBLISHERS.contains(&a) && self.others_know_all(a) => {
                self.net.restart(a);
                self.net.register(a, gated());
            }
            // Who was refused too often is listened to again.
            32 => self.net.pass(THROTTLE),
            33..96 if a != b => {
                self.net.send(a, b);
                self.net.arrive(a, b);
            }
            96 => self.net.run(),
            _ => {}
        }
    }

    fn others_know_all(&self, but: usize) -> bool {
        let expected = self.expected();
        (0..NODES).any(|at| at != but && floors(&self.net, at) == expected)
    }

    fn expected(&self) -> BTreeMap<EntityId, u32> {
        let all = self.issuers.iter().zip(self.highest).filter(|(_, below)| *below > 0);
        all.map(|(issuer, below)| (issuer.entity_id(), below)).collect()
    }

    fn agreed(&mut self) {
        let expected = self.expected();
        for at in 0..NODES {
            assert_eq!(floors(&self.net, at), expected, "node {at}");
        }
        for (a, b) in (0..NODES).flat_map(|a| (0..a).map(move |b| (a, b))) {
            if !self.net.is_connected(a, b) {
                self.net.connect(a, b, false);
            }
        }
        self.net.run();
        self.net.pass(THROTTLE);
        for node in &mut self.net.nodes {
            node.events.clear();
            assert!(node.machine.is_idle(), "{:?}", node.machine);
        }
        for publisher in PUBLISHERS {
            for at in SUBSCRIBERS {
                let old = self.highest[0].checked_sub(1).map(|generation| token(&self.net, at, generation));
                if let Some(old) = old {
                    assert!(is_revoked(&self.net.subscribe(at, publisher, "gated", None, Some(&old))));
                }
                let good = token(&self.net, at, self.highest[0]);
                self.net.subscribe(at, publisher, "gated", None, Some(&good)).expect("not revoked");
            }
        }
    }
}
