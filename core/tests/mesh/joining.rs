//! Nodes that find each other, on real sockets.

use std::time::Duration;

use mesh_daemon_core::identity::NodeId;
use mesh_daemon_core::mesh::{MeshConfig, MeshError, MeshNode, PeerState};

use crate::support::{HANG, config, node};

fn alert() -> MeshConfig {
    let mut config = config();
    config.heartbeat_interval = Duration::from_millis(200);
    config.session_timeout = Duration::from_secs(2);
    config
}

fn with_seed(seed: &MeshNode) -> MeshConfig {
    MeshConfig { seeds: vec![seed.local_addr().to_string()], ..alert() }
}

/// Waits until what `node` has as live members is this.
async fn until_members(node: &MeshNode, others: &[&MeshNode]) {
    let mut ids: Vec<NodeId> = others.iter().map(|other| other.node_id()).collect();
    ids.sort_unstable();
    let agreed = async {
        while node.members() != ids {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(HANG, agreed).await;
    assert!(waited.is_ok(), "{node:?} has {:?}, not {ids:?}", node.members());
}

async fn until_connected(node: &MeshNode, to: &MeshNode) {
    tokio::time::timeout(HANG, node.accept(to.node_id())).await.expect("a session comes").expect("the node lives");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_know_one_address_form_sessions_with_each_other() {
    let first = node(alert()).await;
    let mut nodes = vec![first.clone()];
    for _ in 0..5 {
        nodes.push(node(with_seed(&first)).await);
    }
    for one in &nodes {
        let others: Vec<&MeshNode> = nodes.iter().filter(|other| other.node_id() != one.node_id()).collect();
        for other in &others {
            until_connected(one, other).await;
        }
        until_members(one, &others).await;
        let peers = one.peers();
        assert!(peers.iter().all(|peer| peer.state == PeerState::Connected && peer.via.is_none()), "{peers:?}");
    }
    for one in &nodes {
        one.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_says_goodbye_is_no_member_any_more_and_one_that_joins_later_is() {
    let first = node(alert()).await;
    let (second, third) = (node(with_seed(&first)).await, node(with_seed(&first)).await);
    until_members(&third, &[&first, &second]).await;
    second.shutdown().await;
    until_members(&first, &[&third]).await;
    until_members(&third, &[&first]).await;
    let late = node(alert()).await;
    assert_eq!(late.join(&third.local_addr().to_string()).await.expect("it is there"), third.node_id());
    until_members(&first, &[&third, &late]).await;
    until_connected(&first, &late).await;
    for one in [first, third, late] {
        one.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_comes_later_is_found() {
    let place = node(alert()).await;
    let addr = place.local_addr();
    place.shutdown().await;
    let early = node(MeshConfig { seeds: vec![addr.to_string()], ..alert() }).await;
    let late = node(MeshConfig { bind_addr: addr.to_string(), seeds: vec![addr.to_string()], ..alert() }).await;
    until_members(&early, &[&late]).await;
    until_members(&late, &[&early]).await;
    early.shutdown().await;
    late.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_listens_on_all_addresses_is_found_by_those_that_others_reach_it_by() {
    let first = node(MeshConfig { bind_addr: "0.0.0.0:0".into(), ..alert() }).await;
    let seed = format!("127.0.0.1:{}", first.local_addr().port());
    let everywhere = || MeshConfig { bind_addr: "0.0.0.0:0".into(), seeds: vec![seed.clone()], ..alert() };
    let (second, third) = (node(everywhere()).await, node(everywhere()).await);
    until_members(&second, &[&first, &third]).await;
    until_connected(&second, &third).await;
    let peer = second.peers().into_iter().find(|peer| peer.node == third.node_id()).expect("it is a peer");
    assert_eq!(peer.via, None, "{peer:?}");
    for one in [first, second, third] {
        one.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_where_nobody_listens_or_with_another_secret_fails_as_connecting_does() {
    let place = node(alert()).await;
    let addr = place.local_addr().to_string();
    place.shutdown().await;
    let lonely = node(alert()).await;
    let refused = lonely.join(&addr).await.expect_err("nobody listens");
    assert!(matches!(refused, MeshError::Unreachable { .. }), "{refused}");
    let stranger = node(MeshConfig { psk: mesh_daemon_core::session::Psk::new([8; 32]), ..alert() }).await;
    let refused = lonely.join(&stranger.local_addr().to_string()).await.expect_err("another secret");
    assert!(matches!(refused, MeshError::HandshakeFailed { .. }), "{refused}");
    assert!(lonely.members().is_empty() && lonely.peers().is_empty());
    lonely.shutdown().await;
    stranger.shutdown().await;
}
