use super::*;
use crate::mesh::{Loss, PeerIdentity};

const UNIX: Duration = Duration::from_secs(1_700_000_000);
const SECOND: Duration = Duration::from_secs(1);

struct Node {
    keypair: EntityKeypair,
    life: Incarnation,
    machine: CapabilityMachine,
}

fn life(started_at_ms: u64) -> Incarnation {
    Incarnation { started_at_ms, salt: 0 }
}

fn at(subnet: &[u8]) -> Subnet {
    Subnet::new(subnet).expect("1 to 4 levels")
}

fn node_in(seed: u8, subnet: &[u8], now: Instant) -> Node {
    let (keypair, life) = (EntityKeypair::from_seed(&[seed; 32]), life(1));
    let config = CapabilityConfig::default();
    let machine = CapabilityMachine::new(keypair.clone(), life, at(subnet), config, now, UNIX).expect("it has a key");
    Node { keypair, life, machine }
}

fn node(seed: u8, now: Instant) -> Node {
    node_in(seed, &[], now)
}

fn tagged(tags: &[&str]) -> CapabilitySet {
    CapabilitySet { tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..CapabilitySet::default() }
}

fn wanting(tag: &str) -> CapabilityFilter {
    CapabilityFilter { require_tags: vec![tag.to_owned()], ..CapabilityFilter::EMPTY }
}

impl Node {
    fn id(&self) -> NodeId {
        self.keypair.node_id()
    }

    fn connected(&self) -> PeerEvent {
        let peer = PeerIdentity {
            node: self.id(),
            entity: self.keypair.entity_id(),
            incarnation: self.life,
            static_key: [0; 32],
            max_payload: 1,
        };
        PeerEvent::Connected { peer, resumed: false }
    }

    fn lost(&self) -> PeerEvent {
        PeerEvent::Lost { node: self.id(), incarnation: self.life, how: Loss::Silence }
    }

    fn outputs(&mut self) -> (Vec<(NodeId, Bytes)>, Vec<NodeId>) {
        let (mut sent, mut changed) = (Vec::new(), Vec::new());
        while let Some(output) = self.machine.take_output() {
            match output {
                Output::Send { to, body } => sent.push((to, body)),
                Output::Changed(node) => changed.push(node),
            }
        }
        (sent, changed)
    }

    fn has(&self, node: &Self, now: Instant) -> Option<Vec<String>> {
        Some(self.machine.announced(node.id(), now)?.set.tags.clone())
    }
}

/// Two with a session, whose records flow; nothing was passed on yet.
fn pair(now: Instant) -> (Node, Node) {
    let (mut one, mut other) = (node(1, now), node(2, now));
    meet(&mut one, &mut other, now);
    (one, other)
}

/// The same; `x` is what the first of them can do, and the other one has heard it.
fn announced(now: Instant) -> (Node, Node) {
    let (mut one, mut other) = pair(now);
    one.machine.announce(tagged(&["x"]), now, UNIX).expect("small");
    pass(&mut one, &mut other, now);
    (one, other)
}

fn meet(one: &mut Node, other: &mut Node, now: Instant) {
    let (to_other, to_one) = (one.connected(), other.connected());
    one.machine.peer(&to_one, now, UNIX);
    other.machine.peer(&to_other, now, UNIX);
    one.machine.peer(&PeerEvent::Ready { node: other.id() }, now, UNIX);
    other.machine.peer(&PeerEvent::Ready { node: one.id() }, now, UNIX);
}

/// What `from` has to say reaches `to`.
fn pass(from: &mut Node, to: &mut Node, now: Instant) -> usize {
    let sent = from.outputs().0;
    for (_, body) in &sent {
        to.machine.message(from.id(), body, now).expect("believed");
    }
    sent.len()
}

#[test]
fn hazard_47_an_older_announcement_never_replaces_a_newer_one() {
    let now = Instant::now();
    let (mut one, mut other) = pair(now);
    pass(&mut one, &mut other, now);
    other.outputs();
    one.machine.announce(tagged(&["old"]), now, UNIX).expect("small");
    let old = one.outputs().0;
    one.machine.announce(tagged(&["new"]), now, UNIX).expect("small");
    let new = one.outputs().0;
    other.machine.message(one.id(), &new[0].1, now).expect("believed");
    assert_eq!(other.outputs().1, [one.id()]);
    assert_eq!(other.machine.message(one.id(), &old[0].1, now), Err(AnnouncementError::Older));
    assert_eq!(other.machine.message(one.id(), &new[0].1, now), Ok(()), "said again");
    assert_eq!(other.outputs().1, [], "nothing has changed");
    assert_eq!(other.has(&one, now), Some(vec!["new".to_owned()]));
}

#[test]
fn hazard_47_an_announcement_ends_with_its_time_unless_it_is_renewed() {
    let now = Instant::now();
    let (mut one, mut other) = announced(now);
    other.outputs();
    let ttl = CapabilityConfig::default().ttl;
    let renewal = one.machine.next_deadline().expect("it has a peer");
    assert_eq!(renewal, now + ttl / 2);
    one.machine.tick(renewal, UNIX);
    assert_eq!(pass(&mut one, &mut other, renewal), 1);
    assert_eq!(other.outputs().1, [one.id()], "it counts for longer");
    let just_before = renewal + ttl - Duration::from_millis(1);
    other.machine.tick(just_before, UNIX);
    assert_eq!(other.has(&one, just_before), Some(vec!["x".to_owned()]));
    // The node is silent now: what it said ends by itself, also before anything is swept.
    let end = renewal + ttl;
    assert_eq!(other.has(&one, end), None);
    assert_eq!(other.machine.find(&wanting("x"), None, end), []);
    let sweep = other.machine.next_deadline().expect("something may end").max(end);
    assert!(sweep <= end + CapabilityConfig::default().sweep);
    other.outputs();
    other.machine.tick(sweep, UNIX);
    assert_eq!(other.outputs().1, [one.id()], "whoever watches is told");
    // It is believed again when it speaks up.
    one.machine.tick(one.machine.next_deadline().expect("it has a peer"), UNIX);
    pass(&mut one, &mut other, sweep);
    assert_eq!(other.has(&one, sweep), Some(vec!["x".to_owned()]));
}

#[test]
fn hazard_47_nobody_announces_for_another_node_or_another_life() {
    let now = Instant::now();
    let (mut one, mut other) = pair(now);
    let mut third = node(3, now);
    meet(&mut third, &mut other, now);
    let said = third.outputs().0;
    assert_eq!(other.machine.message(one.id(), &said[0].1, now), Err(AnnouncementError::OtherNode));
    assert_eq!(other.has(&one, now), None);
    let announcement = |entity, life| Announcement {
        entity,
        life,
        version: 9,
        issued_ms: 0,
        ttl_ms: 60_000,
        subnet: Subnet::default(),
        set: tagged(&["forged"]),
    };
    let own = one.keypair.entity_id();
    // Its own key, but the name of another; the right name, but the key of another; another life.
    for (says, key, error) in [
        (announcement(third.keypair.entity_id(), life(1)), &one.keypair, AnnouncementError::OtherNode),
        (announcement(own, life(1)), &third.keypair, AnnouncementError::BadSignature),
        (announcement(own, life(0)), &one.keypair, AnnouncementError::OtherNode),
        (announcement(own, life(2)), &one.keypair, AnnouncementError::OtherNode),
    ] {
        let message = says.seal(key).expect("it has a key");
        assert_eq!(other.machine.message(one.id(), &message, now), Err(error));
        assert_eq!(other.has(&one, now), None);
    }
    // Nobody without a session is heard at all.
    let stranger = node(4, now);
    let message = announcement(stranger.keypair.entity_id(), life(1)).seal(&stranger.keypair).expect("it has a key");
    assert_eq!(other.machine.message(stranger.id(), &message, now), Err(AnnouncementError::OtherNode));
    assert_eq!(pass(&mut one, &mut other, now), 1);
    assert_eq!(other.has(&one, now), Some(vec![]));
}

#[test]
fn requirement_126_a_lost_peer_leaves_the_index_and_is_back_when_it_returns() {
    let now = Instant::now();
    let (mut one, mut other) = announced(now);
    let mut third = node(3, now);
    meet(&mut third, &mut other, now);
    pass(&mut third, &mut other, now);
    // Suspected is not lost.
    other.machine.peer(&PeerEvent::Suspected { node: one.id() }, now, UNIX);
    assert_eq!(other.has(&one, now), Some(vec!["x".to_owned()]));
    other.machine.peer(&one.lost(), now, UNIX);
    one.machine.peer(&other.lost(), now, UNIX);
    assert_eq!(other.has(&one, now), None);
    assert_eq!(other.has(&third, now), Some(vec![]), "others are not affected");
    one.outputs();
    meet(&mut one, &mut other, now);
    assert_eq!(pass(&mut one, &mut other, now), 1, "said to every new session");
    assert_eq!(other.has(&one, now), Some(vec!["x".to_owned()]));

    // Nor does anything last when the two begin anew without having lost each other.
    other.outputs();
    meet(&mut one, &mut other, now);
    assert_eq!(other.has(&one, now), None);
    assert_eq!(pass(&mut one, &mut other, now), 1);
    assert_eq!(other.outputs().1, [one.id()]);

    // Of its next life nothing is known before it speaks.
    let mut again = node(1, now);
    again.life = life(2);
    let (keypair, config) = (again.keypair.clone(), CapabilityConfig::default());
    again.machine =
        CapabilityMachine::new(keypair, again.life, Subnet::default(), config, now, UNIX).expect("it has a key");
    meet(&mut again, &mut other, now);
    assert_eq!(other.has(&again, now), None);
    assert_eq!(pass(&mut again, &mut other, now), 1);
    assert_eq!(other.has(&again, now), Some(vec![]), "a version of its new life, lower than the one before");
}

#[test]
fn a_node_that_nobody_heard_for_long_says_something_fresh() {
    let now = Instant::now();
    let mut one = node(1, now);
    assert_eq!(one.machine.next_deadline(), None, "alone, it sets no timer");
    let later = now + 10 * CapabilityConfig::default().ttl;
    let mut other = node(2, later);
    meet(&mut one, &mut other, later);
    assert_eq!(pass(&mut one, &mut other, later), 1);
    assert_eq!(other.has(&one, later + SECOND), Some(vec![]));
    assert_eq!(one.machine.next_deadline(), Some(later + CapabilityConfig::default().ttl / 2));
}

#[test]
fn the_own_set_is_found_from_the_start_and_the_best_is_the_lowest_of_equals() {
    let now = Instant::now();
    let (mut one, mut other) = pair(now);
    assert_eq!(one.machine.find(&CapabilityFilter::EMPTY, None, now), [one.id()]);
    pass(&mut other, &mut one, now);
    let mut both = [one.id(), other.id()];
    both.sort_unstable();
    assert_eq!(one.machine.find(&CapabilityFilter::EMPTY, None, now), both);
    let ranked = one.machine.rank(&CapabilityRequirement::default(), None, now);
    assert_eq!(ranked.iter().map(|(node, _)| *node).collect::<Vec<_>>(), both);
    one.machine.announce(tagged(&["x"]), now, UNIX).expect("small");
    assert_eq!(one.machine.find(&wanting("x"), None, now), [one.id()]);
    pass(&mut one, &mut other, now);
    assert_eq!(other.machine.find(&wanting("x"), None, now), [one.id()]);
}

#[test]
fn scopes_go_by_the_subnet_that_was_announced() {
    let now = Instant::now();
    let mut me = node_in(1, &[1, 2], now);
    let mut near = node_in(2, &[1, 2], now);
    let mut far = node_in(3, &[1], now);
    near.machine.announce(tagged(&["scope:subnet-local"]), now, UNIX).expect("small");
    far.machine.announce(tagged(&["scope:subnet-local"]), now, UNIX).expect("small");
    for peer in [&mut near, &mut far] {
        meet(&mut me, peer, now);
        peer.outputs().0.iter().for_each(|(_, body)| me.machine.message(peer.id(), body, now).expect("believed"));
    }
    let found = |scope| me.machine.find(&CapabilityFilter::EMPTY, scope, now).len();
    let sorted = |nodes: &[&Node]| {
        let mut ids: Vec<_> = nodes.iter().map(|node| node.id()).collect();
        ids.sort_unstable();
        ids
    };
    let near_only = sorted(&[&me, &near]);
    assert_eq!(me.machine.find(&CapabilityFilter::EMPTY, Some(&ScopeFilter::SameSubnet), now), near_only);
    assert_eq!(me.machine.find(&CapabilityFilter::EMPTY, Some(&ScopeFilter::Any), now), near_only);
    assert_eq!(found(Some(&ScopeFilter::GlobalOnly)), 1);
    assert_eq!(found(None), 3, "without a scope nobody is left out");
    // Nodes without a subnet are in none together.
    let (mut one, mut other) = pair(now);
    pass(&mut other, &mut one, now);
    assert_eq!(one.machine.find(&CapabilityFilter::EMPTY, Some(&ScopeFilter::SameSubnet), now), [one.id()]);
}

#[test]
fn what_is_too_large_is_refused_and_changes_nothing() {
    let now = Instant::now();
    let mut one = node(1, now);
    one.machine.announce(tagged(&["x"]), now, UNIX).expect("small");
    one.outputs();
    let large = tagged(&["y".repeat(super::super::MAX_ANNOUNCEMENT).as_str()]);
    assert!(matches!(one.machine.announce(large, now, UNIX), Err(AnnouncementError::TooLarge(_))));
    let long = CapabilitySet { tags: vec![String::new(); 257], ..CapabilitySet::default() };
    assert!(one.machine.announce(long, now, UNIX).is_err(), "nobody could read it");
    assert_eq!(one.outputs(), (vec![], vec![]));
    assert_eq!(one.machine.find(&wanting("x"), None, now), [one.id()]);
}

#[test]
fn hazard_47_what_was_announced_lasts_while_the_node_is_suspected_and_no_longer_than_it_has_left() {
    for is_cut in [true, false] {
        it_lasts_while_the_node_is_suspected(is_cut);
    }
}

fn it_lasts_while_the_node_is_suspected(is_cut: bool) {
    let now = Instant::now();
    let (mut one, mut other) = announced(now);
    other.outputs();
    let ttl = CapabilityConfig::default().ttl;
    let suspected = now + ttl / 2;
    other.machine.peer(&PeerEvent::Suspected { node: one.id() }, suspected, UNIX);
    assert_eq!(other.outputs().1, [one.id()], "whoever watches looks again");
    if is_cut {
        other.machine.peer(&PeerEvent::Cut { node: one.id() }, suspected, UNIX);
    }
    // Nobody could renew it: it counts for as long as the node is not given up.
    let back = suspected + 10 * ttl;
    other.machine.tick(back, UNIX);
    assert_eq!(other.has(&one, back), Some(vec!["x".to_owned()]));
    if is_cut {
        let PeerEvent::Connected { peer, .. } = one.connected() else { unreachable!("made so") };
        other.machine.peer(&PeerEvent::Connected { peer, resumed: true }, back, UNIX);
        assert_eq!(other.has(&one, back), Some(vec!["x".to_owned()]));
        other.machine.peer(&PeerEvent::Ready { node: one.id() }, back, UNIX);
    } else {
        other.machine.peer(&PeerEvent::Heard { node: one.id() }, back, UNIX);
        assert_eq!(other.outputs().1, [one.id()], "whoever watches looks again");
    }
    let end = back + ttl / 2;
    assert_eq!(other.has(&one, end - SECOND), Some(vec!["x".to_owned()]), "the rest of its time");
    assert_eq!(other.has(&one, end), None);
    // One that came before the suspicion was noticed is no different.
    one.outputs();
    other.machine.peer(&PeerEvent::Suspected { node: one.id() }, end, UNIX);
    one.machine.announce(tagged(&["y"]), end, UNIX).expect("small");
    assert_eq!(pass(&mut one, &mut other, end), 1);
    assert_eq!(other.has(&one, end + 2 * ttl), Some(vec!["y".to_owned()]));
    other.machine.peer(&one.lost(), end + 2 * ttl, UNIX);
    assert_eq!(other.has(&one, end + 2 * ttl), None);
}

#[test]
fn hazard_47_who_announces_again_and_again_is_heard_less_often_and_with_its_last_word() {
    let now = Instant::now();
    let (mut one, mut other) = pair(now);
    pass(&mut one, &mut other, now);
    other.outputs();
    let most = 1000;
    for number in 1..=most {
        one.machine.announce(tagged(&[number.to_string().as_str()]), now, UNIX).expect("small");
        pass(&mut one, &mut other, now);
    }
    let looked_at = other.outputs().1.len();
    assert!((100..200).contains(&looked_at), "{looked_at}");
    let due = other.machine.next_deadline().expect("something waits");
    assert!(due <= now + SECOND, "soon");
    other.machine.tick(due, UNIX);
    assert_eq!(other.outputs().1, [one.id()], "the others are passed over");
    assert_eq!(other.has(&one, due), Some(vec![most.to_string()]));
    // Another one is not concerned, and when it was quiet for a while it is heard at once.
    let mut third = node(3, due);
    meet(&mut third, &mut other, due);
    pass(&mut third, &mut other, due);
    assert_eq!(other.has(&third, due), Some(vec![]));
    let later = due + 60 * SECOND;
    one.machine.announce(tagged(&["later"]), later, UNIX).expect("small");
    pass(&mut one, &mut other, later);
    assert_eq!(other.has(&one, later), Some(vec!["later".to_owned()]));
}

#[test]
fn what_is_announced_while_a_peer_is_suspected_goes_out_before_what_others_have_for_it() {
    let now = Instant::now();
    let (mut one, other) = pair(now);
    one.outputs();
    one.machine.peer(&PeerEvent::Suspected { node: other.id() }, now, UNIX);
    one.machine.announce(tagged(&["x"]), now, UNIX).expect("small");
    let sent = one.outputs().0;
    assert_eq!(sent.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [other.id()]);
}
