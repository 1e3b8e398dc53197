//! Making sessions, and records in both directions.

use mesh_daemon_core::identity::NodeId;
use mesh_daemon_core::mesh::{MeshConfig, MeshError, MeshNode, PeerEvent, PeerState, Record};
use mesh_daemon_core::wire::{Lane, MAX_RECORD_BODY, Subprotocol};

use crate::support::{Tester, config, node};

#[tokio::test(flavor = "multi_thread")]
async fn records_travel_both_ways() {
    let (a, b) = (node(config()).await, node(config()).await);
    let (at_a, mut ears_a) = Tester::on(&a);
    let (at_b, mut ears_b) = Tester::on(&b);
    let met = a.connect(&b.local_addr().to_string(), Some(b.public_key()), Some(b.node_id())).await.expect("session");
    assert_eq!(met, b.node_id());
    b.accept(a.node_id()).await.expect("a session");
    assert!(matches!(ears_a.event().await, PeerEvent::Connected { peer, resumed: false } if peer.node == b.node_id()));
    assert!(matches!(ears_b.event().await, PeerEvent::Connected { peer, resumed: false }
        if peer.entity == a.entity_id() && peer.static_key == a.public_key() && peer.incarnation == a.incarnation()));
    at_a.send(b.node_id(), Lane::Fast, b"ping".to_vec());
    assert_eq!(ears_b.record().await, (a.node_id(), Lane::Fast, b"ping".to_vec()));
    at_b.send(a.node_id(), Lane::Bulk, vec![3; 60_000]);
    assert_eq!(ears_a.record().await, (b.node_id(), Lane::Bulk, vec![3; 60_000]));
    let peer = a.peer(b.node_id()).expect("connected");
    assert_eq!((peer.entity, peer.static_key, peer.max_payload), (b.entity_id(), b.public_key(), 64 * 1024 * 1024));
    assert_eq!((a.peers()[0].state, a.peers()[0].addr.clone()), (PeerState::Connected, b.local_addr().to_string()));
    a.shutdown().await;
    b.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_every_size_arrive_whole_and_in_order() {
    let (a, b) = (node(config()).await, node(config()).await);
    let (at_a, _ears) = Tester::on(&a);
    let (_at_b, mut ears) = Tester::on(&b);
    a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
    let sizes: Vec<usize> = (0..3_000).chain([48 * 1024, 0, 60_000, MAX_RECORD_BODY, MAX_RECORD_BODY, 1]).collect();
    for (number, &size) in sizes.iter().enumerate() {
        at_a.send(b.node_id(), Lane::Fast, vec![number.to_le_bytes()[0]; size]);
    }
    for (number, &size) in sizes.iter().enumerate() {
        assert_eq!(ears.record().await.2, vec![number.to_le_bytes()[0]; size]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_twice_finds_the_session_and_connecting_to_oneself_is_an_error() {
    let (a, b) = (node(config()).await, node(config()).await);
    let addr = b.local_addr().to_string();
    for _ in 0..3 {
        assert_eq!(a.connect(&addr, None, None).await.expect("session"), b.node_id());
    }
    assert_eq!(b.connect(&a.local_addr().to_string(), None, None).await.expect("session"), a.node_id());
    let error = a.connect(&a.local_addr().to_string(), None, None).await.expect_err("oneself");
    assert!(error.to_string().contains("own identity"), "{error}");
    assert_eq!((a.peer_count(), b.peer_count()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_dials_end_with_one_session_that_works() {
    for _ in 0..20 {
        let (a, b) = (node(config()).await, node(config()).await);
        let (at_a, mut ears_a) = Tester::on(&a);
        let (_at_b, mut ears_b) = Tester::on(&b);
        let (addr_a, addr_b) = (a.local_addr().to_string(), b.local_addr().to_string());
        let (one, other) = tokio::join!(a.connect(&addr_b, None, None), b.connect(&addr_a, None, None));
        assert_eq!((one.expect("session"), other.expect("session")), (b.node_id(), a.node_id()));
        at_a.send(b.node_id(), Lane::Fast, b"over the one that stayed".to_vec());
        assert_eq!(ears_b.record().await.2, b"over the one that stayed");
        assert!(matches!(ears_a.event().await, PeerEvent::Connected { resumed: false, .. }));
        assert!(matches!(ears_b.event().await, PeerEvent::Connected { resumed: false, .. }));
        assert!(ears_a.events.try_recv().is_err() && ears_b.events.try_recv().is_err(), "no session came and went");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_nodes_that_all_dial_all_end_with_a_full_mesh() {
    let mut nodes = Vec::new();
    for _ in 0..8 {
        nodes.push(node(config()).await);
    }
    let mut dials = tokio::task::JoinSet::new();
    for one in &nodes {
        for other in nodes.iter().filter(|other| other.node_id() != one.node_id()) {
            let (one, addr, id) = (one.clone(), other.local_addr().to_string(), other.node_id());
            dials.spawn(async move { (one.connect(&addr, None, Some(id)).await, id) });
        }
    }
    for (met, id) in dials.join_all().await {
        assert_eq!(met.expect("session"), id);
    }
    for node in &nodes {
        assert_eq!(node.peer_count(), 7);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requirement_125_sessions_may_come_before_the_start_and_are_held() {
    let (a, b) = (MeshNode::create(config()).await.expect("a port"), node(config()).await);
    let (at_a, mut ears_a) = Tester::on(&a);
    let (at_b, mut ears_b) = Tester::on(&b);
    a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
    assert!(matches!(ears_a.event().await, PeerEvent::Connected { .. }));
    at_b.send(a.node_id(), Lane::Fast, b"held there".to_vec());
    at_a.send(b.node_id(), Lane::Fast, b"held here".to_vec());
    // A whole round of another session between the same two shows that nothing moves meanwhile.
    b.accept(a.node_id()).await.expect("session");
    let third = node(config()).await;
    let (at_third, mut ears_third) = Tester::on(&third);
    third.connect(&b.local_addr().to_string(), None, None).await.expect("session");
    at_third.send(b.node_id(), Lane::Fast, b"round".to_vec());
    assert_eq!(ears_b.record().await.2, b"round");
    at_b.send(third.node_id(), Lane::Fast, b"trip".to_vec());
    assert_eq!(ears_third.record().await.2, b"trip");
    assert_eq!((at_a.pending(b.node_id(), Lane::Fast), at_b.pending(a.node_id(), Lane::Fast)), (1, 1));
    a.start();
    a.start();
    assert_eq!(ears_a.record().await.2, b"held there");
    assert_eq!(ears_b.record().await.2, b"held here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_installed_late_is_told_of_the_peers_that_there_are() {
    let (a, b) = (node(config()).await, node(config()).await);
    a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
    let (at_a, mut ears_a) = Tester::on(&a);
    assert!(matches!(ears_a.event().await, PeerEvent::Connected { peer, resumed: false } if peer.node == b.node_id()));
    b.accept(a.node_id()).await.expect("session");
    let (_at_b, mut ears_b) = Tester::on(&b);
    at_a.send(b.node_id(), Lane::Fast, b"x".to_vec());
    assert_eq!(ears_b.record().await.2, b"x");
    assert!(a.install(at_a.clone(), &[Subprotocol::Events]).is_err(), "one handler per id");
    assert!(a.install(at_a.clone(), &[Subprotocol::Session]).is_err(), "the session's own");
    a.uninstall(&[Subprotocol::Events]);
    a.install(at_a, &[Subprotocol::Events]).expect("free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_26_a_record_without_a_handler_is_answered_by_the_responder() {
    let (a, b) = (node(config()).await, node(config()).await);
    let (at_a, mut ears_a) = Tester::on(&a);
    b.set_responder(
        Subprotocol::Events,
        Some(|record: &Record| (&record.body[..] == b"request").then(|| b"not supported".to_vec())),
    );
    a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
    at_a.send(b.node_id(), Lane::Fast, b"not a request".to_vec());
    at_a.send(b.node_id(), Lane::Fast, b"request".to_vec());
    assert_eq!(ears_a.record().await, (b.node_id(), Lane::Fast, b"not supported".to_vec()));
    assert_eq!(b.counters().records_unhandled, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_wakes_from_eight_threads_lose_nothing() {
    let (a, b) = (node(config()).await, node(config()).await);
    let (at_a, _ears) = Tester::on(&a);
    let (_at_b, mut ears) = Tester::on(&b);
    a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
    let to = b.node_id();
    let threads: Vec<_> = (0..8_u8)
        .map(|thread| {
            let at_a = at_a.clone();
            std::thread::spawn(move || {
                for number in 0..12_500_u32 {
                    at_a.send(to, Lane::Fast, [&[thread][..], &number.to_le_bytes()].concat());
                }
            })
        })
        .collect();
    let mut next = [0_u32; 8];
    for _ in 0..100_000 {
        let body = ears.record().await.2;
        let thread = usize::from(body[0]);
        assert_eq!(body[1..], next[thread].to_le_bytes(), "in order");
        next[thread] += 1;
    }
    for thread in threads {
        thread.join().expect("sends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wake_at_a_time_is_never_lost() {
    let (a, b) = (node(config()).await, node(config()).await);
    let (at_a, mut ears_a) = Tester::on(&a);
    let (at_b, _ears_b) = Tester::on(&b);
    at_b.echo.store(true, std::sync::atomic::Ordering::Relaxed);
    a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
    for number in 0..5_000_u32 {
        at_a.send(b.node_id(), Lane::Fast, number.to_le_bytes().to_vec());
        assert_eq!(ears_a.record().await.2, number.to_le_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_which_address_and_why() {
    let a = node(config()).await;
    let taken = a.local_addr().to_string();
    let error = MeshNode::create(MeshConfig { bind_addr: taken.clone(), ..config() }).await.expect_err("taken");
    assert!(matches!(&error, MeshError::AddressInUse { address } if *address == taken), "{error}");
    let error = MeshNode::create(MeshConfig { bind_addr: "no port".into(), ..config() }).await.expect_err("no port");
    assert!(matches!(error, MeshError::InvalidArgument(_)) && error.to_string().contains("no port"), "{error}");
    let identity = config().identity.to_public();
    let error = MeshNode::create(MeshConfig { identity, ..config() }).await.expect_err("read-only");
    assert!(matches!(error, MeshError::InvalidArgument(_)), "{error}");

    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let error = a.connect(&closed.to_string(), None, None).await.expect_err("nobody listens");
    assert!(
        matches!(error, MeshError::Unreachable { .. }) && error.to_string().contains(&closed.to_string()),
        "{error}"
    );
    let error = a.connect("no port", None, None).await.expect_err("no port");
    assert!(matches!(error, MeshError::InvalidArgument(_)), "{error}");
    let error = a.connect("does-not-exist.invalid:1", None, None).await.expect_err("no such name");
    assert!(matches!(error, MeshError::AddressNotFound { .. }), "{error}");
    assert!(a.accept(NodeId::new(1)).now_or_never_is_pending().await);
}

/// Whether a future is still waiting after one look.
trait Pending: Future + Sized {
    async fn now_or_never_is_pending(self) -> bool {
        let mut this = std::pin::pin!(self);
        std::future::poll_fn(|context| std::task::Poll::Ready(this.as_mut().poll(context).is_pending())).await
    }
}

impl<F: Future> Pending for F {}
