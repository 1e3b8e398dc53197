//! Channels that ask for capabilities, of those who publish and of those who subscribe.

use std::sync::Arc;
use std::time::Duration;

use mesh_daemon_core::capability::{Announced, CapabilityFilter, CapabilitySet};
use mesh_daemon_core::channel::{ChannelConfig, ChannelError, MAX_AUTH_FAILURES, Subscriber, THROTTLE};
use mesh_daemon_core::identity::EntityKeypair;

use crate::net::{Granted, Net, P, RELIABLE, S, T, feed, open};

const TTL: Duration = Duration::from_secs(300);

impl Net {
    /// What one node says reaches another one, or itself.
    fn announces(&mut self, at: usize, about: usize, tags: &[&str]) {
        let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
        let set = Arc::new(CapabilitySet { tags, ..CapabilitySet::default() });
        let until = (at != about).then_some(self.now.instant + TTL);
        self.knows(at, about, Some(Announced { set, until }));
    }

    fn knows(&mut self, at: usize, about: usize, announced: Option<Announced>) {
        let (about, now) = (self.id(about), self.now);
        self.nodes[at].machine.announced(about, announced, now);
        self.collect(at);
    }
}

fn wanting(tag: &str) -> CapabilityFilter {
    CapabilityFilter { require_tags: vec![tag.to_owned()], ..CapabilityFilter::EMPTY }
}

fn for_gpus() -> ChannelConfig {
    ChannelConfig { subscribe_caps: wanting("gpu"), ..open("a") }
}

fn is_unauthorized(result: &Result<(), ChannelError>) -> bool {
    matches!(result, Err(ChannelError::Unauthorized { .. }))
}

#[test]
fn hazard_45_only_nodes_that_offer_what_the_channel_asks_for_subscribe() {
    let mut net = Net::connected(3);
    net.register(P, for_gpus());
    let daemon = EntityKeypair::generate();
    assert!(is_unauthorized(&net.subscribe(S, P, "a", None, None)), "nothing was announced");
    net.announces(P, S, &["cpu"]);
    assert!(is_unauthorized(&net.subscribe(S, P, "a", None, None)));
    assert!(is_unauthorized(&net.subscribe(S, P, "a", Some(&daemon), None)), "a daemon has what its node has");
    assert!(is_unauthorized(&net.subscribe(P, P, "a", None, None)), "the publisher's own node too");
    net.announces(P, S, &["cpu", "gpu"]);
    net.announces(P, P, &["gpu"]);
    assert_eq!(net.subscribe(S, P, "a", None, None), Ok(()));
    assert_eq!(net.subscribe(S, P, "a#workers", Some(&daemon), None), Ok(()));
    assert_eq!(net.subscribe(P, P, "a", None, None), Ok(()));
    assert!(is_unauthorized(&net.subscribe(T, P, "a", None, None)), "what one has announced is another's nothing");
    let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    assert_eq!(net.take_all(S, &daemon).len(), 1);
    net.run();
    let report = net.report(P, id).expect("over").expect("sent");
    assert_eq!((report.attempted, report.delivered), (3, 3));
}

#[test]
fn hazard_45_who_no_longer_offers_it_is_put_out() {
    let mut net = Net::connected(3);
    net.register(P, for_gpus());
    net.register(P, open("b"));
    let daemon = EntityKeypair::generate();
    for node in [S, T] {
        net.announces(P, node, &["gpu"]);
        assert_eq!(net.subscribe(node, P, "a", None, None), Ok(()));
        assert_eq!(net.subscribe(node, P, "b", None, None), Ok(()));
    }
    assert_eq!(net.subscribe(S, P, "a", Some(&daemon), None), Ok(()));
    // The same again, and more, is fine.
    net.announces(P, S, &["gpu", "large"]);
    assert_eq!(net.nodes[P].machine.roster(&feed("a")).len(), 3);
    net.announces(P, S, &["cpu"]);
    net.run();
    let mut ended: Vec<_> = net.ends(S);
    ended.sort_by_key(|(subscriber, _)| *subscriber);
    assert_eq!(
        ended.iter().map(|(who, _)| *who).collect::<Vec<_>>(),
        [Subscriber::Node, Subscriber::Daemon(daemon.entity_id())]
    );
    assert!(ended.into_iter().all(|(_, error)| is_unauthorized(&Err(error))));
    assert_eq!(net.nodes[P].machine.roster(&feed("a")), [(net.id(T), Subscriber::Node)]);
    assert_eq!(net.nodes[P].machine.roster(&feed("b")).len(), 2, "an open channel asks for nothing");
    // An announcement that has ended counts no more, even before anybody has swept it away.
    net.pass(TTL);
    let id = net.publish(P, "a", b"x", RELIABLE).expect("sent");
    net.run();
    assert_eq!(net.report(P, id).expect("over").expect("sent").attempted, 0);
    assert_eq!(net.ends(T).len(), 1);
    assert!(is_unauthorized(&net.subscribe(T, P, "a", None, None)));
    net.announces(P, T, &["gpu"]);
    assert_eq!(net.subscribe(T, P, "a", None, None), Ok(()));
    net.knows(P, T, None);
    net.run();
    assert_eq!(net.ends(T).len(), 1, "swept away");
}

#[test]
fn hazard_45_a_changed_gate_puts_out_who_does_not_pass_it() {
    let mut net = Net::connected(3);
    net.register(P, open("a"));
    net.announces(P, S, &["gpu"]);
    for node in [S, T] {
        assert_eq!(net.subscribe(node, P, "a", None, None), Ok(()));
    }
    net.register(P, for_gpus());
    net.run();
    assert_eq!(net.nodes[P].machine.roster(&feed("a")), [(net.id(S), Subscriber::Node)]);
    assert_eq!((net.ends(S).len(), net.ends(T).len()), (0, 1));
}

#[test]
fn hazard_45_a_reconnection_asks_for_nothing_anew_and_a_new_life_for_everything() {
    let mut net = Net::connected(2);
    net.register(P, for_gpus());
    net.announces(P, S, &["gpu"]);
    assert_eq!(net.subscribe(S, P, "a", None, None), Ok(()));
    net.cut(P, S);
    net.connect(P, S, true);
    net.run();
    assert_eq!(net.nodes[P].machine.roster(&feed("a")).len(), 1, "it is still known what it offers");
    net.lose(P, S);
    net.connect(P, S, false);
    assert!(is_unauthorized(&net.subscribe(S, P, "a", None, None)), "a lost peer's is forgotten");
    net.announces(P, S, &["gpu"]);
    assert_eq!(net.subscribe(S, P, "a", None, None), Ok(()));
}

#[test]
fn hazard_45_a_token_does_not_stand_for_capabilities_nor_the_other_way_round() {
    let mut net = Net::connected(2);
    net.register(P, ChannelConfig { require_token: true, ..for_gpus() });
    let subject = net.nodes[S].keypair.clone();
    let token = net.token(P, &Granted { subject: &subject, channel: "a", ttl: 60 });
    assert!(is_unauthorized(&net.subscribe(S, P, "a", None, Some(&token))));
    net.announces(P, S, &["gpu"]);
    assert!(is_unauthorized(&net.subscribe(S, P, "a", None, None)));
    assert_eq!(net.subscribe(S, P, "a", None, Some(&token)), Ok(()));
}

#[test]
fn hazard_46_who_asks_again_and_again_without_offering_it_is_throttled() {
    let mut net = Net::connected(2);
    net.register(P, for_gpus());
    net.register(P, open("b"));
    for _ in 0..MAX_AUTH_FAILURES {
        assert!(is_unauthorized(&net.subscribe(S, P, "a", None, None)));
        // An open channel proves nothing.
        if net.nodes[P].machine.roster(&feed("b")).is_empty() {
            assert_eq!(net.subscribe(S, P, "b", None, None), Ok(()));
        }
    }
    net.announces(P, S, &["gpu"]);
    assert_eq!(net.subscribe(S, P, "a", None, None), Err(ChannelError::Throttled("a".to_owned())));
    net.pass(THROTTLE);
    assert_eq!(net.subscribe(S, P, "a", None, None), Ok(()));
}

#[test]
fn hazard_45_a_node_publishes_only_what_it_may() {
    let mut net = Net::connected(2);
    net.register(P, ChannelConfig { publish_caps: wanting("source"), ..open("a") });
    assert_eq!(net.subscribe(S, P, "a", None, None), Ok(()), "subscribers are not asked for it");
    for _ in 0..2 {
        let refused = net.publish(P, "a", b"x", RELIABLE).map(|_| ());
        assert!(is_unauthorized(&refused));
        net.announces(P, P, &["other"]);
    }
    net.announces(P, P, &["source"]);
    let id = net.publish(P, "a", b"x", RELIABLE).expect("allowed");
    net.run();
    assert_eq!(net.report(P, id).expect("over").expect("sent").delivered, 1);
    assert_eq!(net.messages(S).len(), 1, "what was refused went nowhere");
    net.announces(P, P, &[]);
    assert!(is_unauthorized(&net.publish(P, "a", b"x", RELIABLE).map(|_| ())));
}
