//! Making sessions, and records in both directions.

use mesh_daemon_core::mesh::PeerEvent;
use mesh_daemon_core::wire::Lane;

use crate::support::{Tester, config, node};

#[tokio::test(flavor = "multi_thread")]
async fn records_travel_both_ways() {
    let (a, b) = (node(config()).await, node(config()).await);
    let (at_a, mut ears_a) = Tester::on(&a);
    let (at_b, mut ears_b) = Tester::on(&b);
    let met = a.connect(&b.local_addr().to_string(), Some(b.public_key()), Some(b.node_id())).await.expect("session");
    assert_eq!(met, b.node_id());
    assert_eq!(b.accept(a.node_id()).await.is_ok(), true);
    assert!(matches!(ears_a.event().await, PeerEvent::Connected { peer, resumed: false } if peer.node == b.node_id()));
    assert!(matches!(ears_b.event().await, PeerEvent::Connected { peer, resumed: false }
        if peer.entity == a.entity_id() && peer.static_key == a.public_key() && peer.incarnation == a.incarnation()));
    at_a.send(b.node_id(), Lane::Fast, b"ping".to_vec());
    assert_eq!(ears_b.record().await, (a.node_id(), Lane::Fast, b"ping".to_vec()));
    at_b.send(a.node_id(), Lane::Bulk, vec![3; 60_000]);
    assert_eq!(ears_a.record().await, (b.node_id(), Lane::Bulk, vec![3; 60_000]));
    a.shutdown().await;
    b.shutdown().await;
}
