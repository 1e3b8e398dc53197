//! Sessions through a common peer: A and B know only R.

use std::sync::atomic::Ordering;

use mesh_daemon_core::mesh::{Loss, MeshConfig, MeshError, MeshNode, PeerEvent, PeerInfo, PeerState};
use mesh_daemon_core::wire::{Lane, MAX_RECORD_BODY};

use crate::support::{Ears, HANG, Tester, config, node};

const CHUNKS: usize = 1024;

/// Nodes in a row: each has a session with the next one.
async fn row(configs: Vec<MeshConfig>) -> Vec<MeshNode> {
    let mut nodes: Vec<MeshNode> = Vec::new();
    for config in configs {
        let next = node(config).await;
        if let Some(last) = nodes.last() {
            meet(last, &next).await;
        }
        nodes.push(next);
    }
    nodes
}

/// A session that both sides may use: heard of, and told ready.
async fn meet(one: &MeshNode, other: &MeshNode) {
    one.connect(&other.local_addr().to_string(), None, None).await.expect("session");
    other.accept(one.node_id()).await.expect("session");
}

fn peer_of(node: &MeshNode, peer: &MeshNode) -> PeerInfo {
    node.peers().into_iter().find(|known| known.node == peer.node_id()).expect("a peer")
}

/// A session that both sides may use.
async fn reach(from: &MeshNode, to: &MeshNode) {
    from.reach(to.node_id()).await.expect("session");
    tokio::time::timeout(HANG, to.accept(from.node_id())).await.expect("in time").expect("session");
}

async fn connected(ears: &mut Ears, to: &MeshNode) -> bool {
    loop {
        match ears.event().await {
            PeerEvent::Connected { peer, resumed } if peer.node == to.node_id() => return resumed,
            PeerEvent::Connected { .. }
            | PeerEvent::Ready { .. }
            | PeerEvent::Suspected { .. }
            | PeerEvent::Heard { .. }
            | PeerEvent::Cut { .. }
            | PeerEvent::Lost { .. } => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_know_a_common_peer_get_a_session_that_proves_them_to_each_other() {
    let [a, r, b] = row(vec![config(), config(), config()]).await.try_into().expect("three");
    let (at_a, mut ears_a) = Tester::on(&a);
    let (at_b, mut ears_b) = Tester::on(&b);
    reach(&a, &b).await;
    a.reach(b.node_id()).await.expect("there is one already");
    for number in 0..100_u8 {
        at_a.send(b.node_id(), Lane::Fast, vec![number; 100]);
        at_b.send(a.node_id(), Lane::Bulk, vec![number; MAX_RECORD_BODY]);
    }
    for number in 0..100_u8 {
        assert_eq!(ears_b.record().await, (a.node_id(), Lane::Fast, vec![number; 100]));
        assert_eq!(ears_a.record().await, (b.node_id(), Lane::Bulk, vec![number; MAX_RECORD_BODY]));
    }
    let seen = a.peer(b.node_id()).expect("connected");
    assert_eq!((seen.entity, seen.static_key, seen.incarnation), (b.entity_id(), b.public_key(), b.incarnation()));
    for (one, other) in [(&a, &b), (&b, &a)] {
        let info = peer_of(one, other);
        assert_eq!((info.via, info.addr), (Some(r.node_id()), format!("relay:{}", r.node_id())));
        assert_eq!(peer_of(one, &r).via, None);
    }
    assert_eq!((r.circuits(), a.circuits()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn fast_round_trips_flow_while_64_mib_move_through_a_relay() {
    let [a, _r, b] = row(vec![config(), config(), config()]).await.try_into().expect("three");
    let (at_a, mut ears_a) = Tester::on(&a);
    let (at_b, mut ears_b) = Tester::on(&b);
    at_b.echo.store(true, Ordering::Relaxed);
    reach(&a, &b).await;
    for number in 0..CHUNKS {
        at_a.send(b.node_id(), Lane::Bulk, vec![number.to_le_bytes()[0]; MAX_RECORD_BODY]);
    }
    let total = (CHUNKS * MAX_RECORD_BODY) as u64;
    let (mut trips, mut next) = (0, 0);
    while at_b.bulk_received.load(Ordering::SeqCst) < total {
        at_a.send(b.node_id(), Lane::Fast, b"trip".to_vec());
        assert_eq!(ears_a.record().await.2, b"trip");
        trips += 1;
        while let Ok((_, lane, body)) = ears_b.records.try_recv() {
            if lane == Lane::Bulk {
                assert_eq!(body, vec![usize::to_le_bytes(next)[0]; MAX_RECORD_BODY]);
                next += 1;
            }
        }
    }
    assert!(trips >= 10, "{trips} round trips while the bulk moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_stops_through_a_relay_when_the_receiver_does_not_take_it_and_fast_records_go_on() {
    let [a, r, b] = row(vec![config(), config(), config()]).await.try_into().expect("three");
    let (at_a, _ears_a) = Tester::on(&a);
    let (at_b, mut ears_b) = Tester::on(&b);
    at_b.consume.store(false, Ordering::SeqCst);
    reach(&a, &b).await;
    for _ in 0..CHUNKS {
        at_a.send(b.node_id(), Lane::Bulk, vec![1; MAX_RECORD_BODY]);
    }
    let fits = usize::try_from(mesh_daemon_core::session::BULK_LEAST).expect("small") / MAX_RECORD_BODY;
    for _ in 0..fits {
        assert_eq!(ears_b.record().await.1, Lane::Bulk);
    }
    at_a.send(b.node_id(), Lane::Fast, b"fast".to_vec());
    assert_eq!(ears_b.record().await.1, Lane::Fast, "no more bulk without credit");
    assert_eq!(at_a.pending(b.node_id(), Lane::Bulk), CHUNKS - fits);
    assert_eq!((r.bulk_outstanding(a.node_id()), r.circuits()), (r.bulk_outstanding(a.node_id()).min(1 << 18), 1));
    at_b.consume.store(true, Ordering::SeqCst);
    b.consumed(a.node_id(), fits * MAX_RECORD_BODY);
    for _ in fits..CHUNKS {
        assert_eq!(ears_b.record().await.1, Lane::Bulk);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_relay_says_so_at_once() {
    let [a, r, b] =
        row(vec![config(), MeshConfig { relay: false, ..config() }, config()]).await.try_into().expect("three");
    let error = a.reach(b.node_id()).await.expect_err("nobody relays");
    assert!(matches!(error, MeshError::NoRelay { node } if node == b.node_id()), "{error}");
    assert!(matches!(a.reach(a.node_id()).await, Err(MeshError::InvalidArgument(_))));
    assert_eq!((r.circuits(), a.peer_count(), b.peer_count()), (0, 1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_never_goes_through_another_relay() {
    let [a, one, other, b] = row(vec![config(), config(), config(), config()]).await.try_into().expect("four");
    reach(&one, &b).await;
    reach(&a, &other).await;
    assert!(matches!(a.reach(b.node_id()).await, Err(MeshError::NoRelay { .. })), "two hops");
    assert_eq!(peer_of(&one, &b).via, Some(other.node_id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_reach_for_each_other_at_once_and_end_with_one_session() {
    for _ in 0..10 {
        let [a, r, b] = row(vec![config(), config(), config()]).await.try_into().expect("three");
        let (at_a, _ears_a) = Tester::on(&a);
        let (_at_b, mut ears_b) = Tester::on(&b);
        tokio::join!(reach(&a, &b), reach(&b, &a));
        at_a.send(b.node_id(), Lane::Fast, b"over the one that stayed".to_vec());
        assert_eq!(ears_b.record().await.2, b"over the one that stayed");
        assert_eq!((peer_of(&a, &b).state, peer_of(&b, &a).state), (PeerState::Connected, PeerState::Connected));
        until(|| r.circuits() == 1).await;
    }
}

/// What others do in their own time; only a hang fails.
async fn until(holds: impl Fn() -> bool) {
    let all = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HANG, all).await.expect("comes true");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_session_replaces_the_relayed_one_and_goes_on_where_it_was() {
    for dialler_is_the_one_that_reached in [true, false] {
        let [a, r, b] = row(vec![config(), config(), config()]).await.try_into().expect("three");
        let (at_a, mut ears_a) = Tester::on(&a);
        let (at_b, mut ears_b) = Tester::on(&b);
        reach(&a, &b).await;
        assert!(!connected(&mut ears_a, &b).await && !connected(&mut ears_b, &a).await);
        let (from, to) = if dialler_is_the_one_that_reached { (&a, &b) } else { (&b, &a) };
        from.connect(&to.local_addr().to_string(), None, Some(to.node_id())).await.expect("session");
        assert!(connected(&mut ears_a, &b).await && connected(&mut ears_b, &a).await, "resumed");
        assert_eq!((peer_of(&a, &b).via, peer_of(&b, &a).via), (None, None));
        at_a.send(b.node_id(), Lane::Fast, b"there".to_vec());
        at_b.send(a.node_id(), Lane::Fast, b"back".to_vec());
        assert_eq!((ears_b.record().await.2, ears_a.record().await.2), (b"there".to_vec(), b"back".to_vec()));
        until(|| r.circuits() == 0).await;
        assert_eq!((a.peer_count(), b.peer_count()), (2, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_the_relay_is_a_cut_and_another_relay_heals_it() {
    let first = config();
    let [a, r, b] = row(vec![config(), first.clone(), config()]).await.try_into().expect("three");
    let (at_a, mut ears_a) = Tester::on(&a);
    let (_at_b, mut ears_b) = Tester::on(&b);
    reach(&a, &b).await;
    assert!(!connected(&mut ears_a, &b).await && !connected(&mut ears_b, &a).await);
    r.shutdown().await;
    ears_a.until_suspected(b.node_id()).await;
    ears_b.until_suspected(a.node_id()).await;
    assert_eq!(peer_of(&a, &b).state, PeerState::Suspected);
    let again = node(config()).await;
    meet(&again, &a).await;
    meet(&again, &b).await;
    assert!(connected(&mut ears_a, &b).await && connected(&mut ears_b, &a).await, "the same life, resumed");
    assert_eq!(peer_of(&a, &b).via, Some(again.node_id()));
    at_a.send(b.node_id(), Lane::Fast, b"again".to_vec());
    assert_eq!(ears_b.record().await.2, b"again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_travels_through_the_relay() {
    let [a, r, b] = row(vec![config(), config(), config()]).await.try_into().expect("three");
    let (_at_a, mut ears_a) = Tester::on(&a);
    reach(&a, &b).await;
    b.shutdown().await;
    let (node, incarnation, how) = (b.node_id(), b.incarnation(), Loss::Goodbye);
    loop {
        if let PeerEvent::Lost { node: lost, incarnation: life, how: kind } = ears_a.event().await {
            assert_eq!((lost, life, kind), (node, incarnation, how));
            break;
        }
    }
    until(|| r.circuits() == 0).await;
}

#[cfg(feature = "test-hooks")]
mod hazard_67 {
    use bytes::Bytes;
    use mesh_daemon_core::identity::NodeId;
    use mesh_daemon_core::mesh::Tamper;

    use super::*;

    /// What a relay does to the piece that comes next; nothing by default.
    type Misdeed = fn(&Bytes, &mut Vec<Bytes>) -> Vec<Bytes>;

    fn flip(piece: &Bytes, _: &mut Vec<Bytes>) -> Vec<Bytes> {
        let mut bytes = piece.to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        vec![bytes.into()]
    }

    fn lose(_: &Bytes, _: &mut Vec<Bytes>) -> Vec<Bytes> {
        Vec::new()
    }

    fn repeat(piece: &Bytes, _: &mut Vec<Bytes>) -> Vec<Bytes> {
        vec![piece.clone(), piece.clone()]
    }

    fn swap(piece: &Bytes, held: &mut Vec<Bytes>) -> Vec<Bytes> {
        held.push(piece.clone());
        if held.len() < 2 { Vec::new() } else { held.drain(..).rev().collect() }
    }

    fn cut(piece: &Bytes, _: &mut Vec<Bytes>) -> Vec<Bytes> {
        vec![piece.slice(..piece.len() - 1)]
    }

    /// Lets everything pass until told, then does the misdeed to everything that comes from `victim`.
    fn tamper(r: &MeshNode, victim: NodeId, misdeed: Misdeed) {
        let mut held = Vec::new();
        let pieces =
            Box::new(
                move |from: NodeId, piece: Bytes| {
                    if from == victim && !piece.is_empty() { misdeed(&piece, &mut held) } else { vec![piece] }
                },
            );
        r.tamper(Tamper { pieces, redirect: None });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_relay_that_alters_loses_repeats_or_reorders_ends_the_session_and_nothing_of_it_is_accepted() {
        for misdeed in [flip, lose, repeat, swap, cut] as [Misdeed; 5] {
            let quick = || MeshConfig {
                reconnect: false,
                heartbeat_interval: std::time::Duration::from_millis(100),
                session_timeout: std::time::Duration::from_secs(2),
                ..config()
            };
            let [a, r, b] = row(vec![quick(), quick(), quick()]).await.try_into().expect("three");
            let (at_a, mut ears_a) = Tester::on(&a);
            let (_at_b, mut ears_b) = Tester::on(&b);
            reach(&a, &b).await;
            at_a.send(b.node_id(), Lane::Fast, b"before".to_vec());
            assert_eq!(ears_b.record().await.2, b"before");
            tamper(&r, a.node_id(), misdeed);
            for number in 0..50_u8 {
                at_a.send(b.node_id(), Lane::Bulk, vec![number; MAX_RECORD_BODY]);
            }
            ears_b.until_suspected(a.node_id()).await;
            ears_a.until_suspected(b.node_id()).await;
            // At most what arrived whole before the first changed byte.
            let mut next = 0;
            while let Ok((_, _, body)) = ears_b.records.try_recv() {
                assert_eq!(body, vec![next; MAX_RECORD_BODY]);
                next += 1;
            }
            assert!(next <= 1, "{next} records were accepted");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_relay_that_meddles_with_the_handshake_prevents_the_session() {
        for misdeed in [flip, cut, repeat] as [Misdeed; 3] {
            let [a, r, b] = row(vec![config(), config(), config()]).await.try_into().expect("three");
            tamper(&r, b.node_id(), misdeed);
            let error = a.reach(b.node_id()).await.expect_err("refused");
            assert!(matches!(error, MeshError::HandshakeFailed { .. }), "{error}");
            assert!(a.peer(b.node_id()).is_none());
            // The answer may have passed once: then the far end has seen this one proven, and loses it at once.
            until(|| b.peers().iter().all(|peer| peer.node == r.node_id() || peer.state != PeerState::Connected)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_relay_that_leads_elsewhere_is_found_out_by_the_pin() {
        let [a, r, b] = row(vec![config(), config(), config()]).await.try_into().expect("three");
        let c = node(config()).await;
        meet(&r, &c).await;
        let pieces = Box::new(|_: NodeId, piece: Bytes| vec![piece]);
        r.tamper(Tamper { pieces, redirect: Some(c.node_id()) });
        let error = a.reach(b.node_id()).await.expect_err("refused");
        assert!(matches!(error, MeshError::PinMismatch { got, .. } if got == c.node_id()), "{error}");
        assert!(a.peer(c.node_id()).is_none() && c.peer(a.node_id()).is_none());
    }
}
