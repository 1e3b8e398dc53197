//! Cuts, silence, restarts.

use std::time::Duration;

use mesh_daemon_core::mesh::{Loss, MeshConfig, PeerEvent, PeerState};
use mesh_daemon_core::wire::Lane;

use crate::proxy::{Mode, Proxy};
use crate::support::{Tester, config, node};

/// Short times; what is asserted is the order of events, never how long they took.
fn quick() -> MeshConfig {
    MeshConfig { heartbeat_interval: Duration::from_millis(100), session_timeout: Duration::from_secs(2), ..config() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_suspected_at_once_and_the_dialler_resumes() {
    let (a, b) = (node(config()).await, node(config()).await);
    let (at_a, mut ears_a) = Tester::on(&a);
    let (_at_b, mut ears_b) = Tester::on(&b);
    let proxy = Proxy::to(b.local_addr()).await;
    a.connect(&proxy.addr.to_string(), None, Some(b.node_id())).await.expect("session");
    for round in 0..3_u8 {
        assert!(matches!(ears_a.event().await, PeerEvent::Connected { resumed, .. } if resumed == (round > 0)));
        assert!(matches!(ears_b.event().await, PeerEvent::Connected { resumed, .. } if resumed == (round > 0)));
        at_a.send(b.node_id(), Lane::Fast, vec![round]);
        assert_eq!(ears_b.record().await.2, [round]);
        proxy.set(Mode::Cut);
        assert_eq!(ears_a.event().await, PeerEvent::Suspected { node: b.node_id() });
        assert_eq!(ears_b.event().await, PeerEvent::Suspected { node: a.node_id() });
        assert_eq!(a.peers()[0].state, PeerState::Suspected);
        assert!(a.peer(b.node_id()).is_some(), "suspected is not lost");
        proxy.set(Mode::Open);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_that_stays_is_a_loss_after_the_timeout_and_heals_later() {
    let (a, b) = (node(quick()).await, node(quick()).await);
    let (_at_a, mut ears_a) = Tester::on(&a);
    let (_at_b, mut ears_b) = Tester::on(&b);
    let proxy = Proxy::to(b.local_addr()).await;
    a.connect(&proxy.addr.to_string(), None, None).await.expect("session");
    for (ears, peer) in [(&mut ears_a, &b), (&mut ears_b, &a)] {
        assert!(matches!(ears.event().await, PeerEvent::Connected { resumed: false, .. }));
        proxy.set(Mode::Cut);
        assert_eq!(ears.event().await, PeerEvent::Suspected { node: peer.node_id() });
        let (node, incarnation, how) = (peer.node_id(), peer.incarnation(), Loss::Silence);
        assert_eq!(ears.event().await, PeerEvent::Lost { node, incarnation, how });
    }
    assert_eq!((a.peer_count(), a.peers()[0].state), (0, PeerState::Lost));
    proxy.set(Mode::Open);
    assert!(matches!(ears_a.event().await, PeerEvent::Connected { resumed: false, .. }));
    assert!(matches!(ears_b.event().await, PeerEvent::Connected { resumed: false, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_suspected_then_lost() {
    let (a, b) = (node(MeshConfig { reconnect: false, ..quick() }).await, node(quick()).await);
    let (_at_a, mut ears_a) = Tester::on(&a);
    let (_at_b, mut ears_b) = Tester::on(&b);
    let proxy = Proxy::to(b.local_addr()).await;
    a.connect(&proxy.addr.to_string(), None, None).await.expect("session");
    for (ears, peer) in [(&mut ears_a, &b), (&mut ears_b, &a)] {
        assert!(matches!(ears.event().await, PeerEvent::Connected { .. }));
        proxy.set(Mode::Silent);
        assert_eq!(ears.event().await, PeerEvent::Suspected { node: peer.node_id() });
        assert!(matches!(ears.event().await, PeerEvent::Lost { how: Loss::Silence, .. }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_speaks_and_never_reads_is_suspected_like_a_silent_one() {
    // The dialler speaks on and does not mind that it hears nothing.
    let patient = MeshConfig { session_timeout: Duration::from_secs(3600), reconnect: false, ..quick() };
    let (a, b) = (node(patient).await, node(quick()).await);
    let (at_b, mut ears_b) = Tester::on(&b);
    let proxy = Proxy::to(b.local_addr()).await;
    a.connect(&proxy.addr.to_string(), None, None).await.expect("session");
    assert!(matches!(ears_b.event().await, PeerEvent::Connected { .. }));
    proxy.set(Mode::OneWay);
    // More than any buffers on the way hold.
    for _ in 0..1024 {
        at_b.send(a.node_id(), Lane::Fast, vec![0; 60_000]);
    }
    assert_eq!(ears_b.event().await, PeerEvent::Suspected { node: a.node_id() });
    assert!(at_b.pending(a.node_id(), Lane::Fast) > 0);
    assert_eq!(b.counters().sessions_broken, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_silent_for_a_while_comes_back_on_the_same_connection() {
    let slow = MeshConfig { session_timeout: Duration::from_secs(6), ..quick() };
    let (a, b) =
        (node(MeshConfig { reconnect: false, ..slow.clone() }).await, node(MeshConfig { ..slow_b(&slow) }).await);
    let (_at_a, mut ears_a) = Tester::on(&a);
    let proxy = Proxy::to(b.local_addr()).await;
    a.connect(&proxy.addr.to_string(), None, None).await.expect("session");
    assert!(matches!(ears_a.event().await, PeerEvent::Connected { resumed: false, .. }));
    proxy.set(Mode::Silent);
    assert_eq!(ears_a.event().await, PeerEvent::Suspected { node: b.node_id() });
    proxy.set(Mode::Open);
    assert_eq!(ears_a.event().await, PeerEvent::Heard { node: b.node_id() });
    assert_eq!(a.counters().sessions_broken, 0);
}

fn slow_b(config: &MeshConfig) -> MeshConfig {
    MeshConfig { identity: crate::support::config().identity, ..config.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_keep_an_idle_session_and_measure_the_round_trip() {
    let (a, b) = (node(quick()).await, node(quick()).await);
    let (_at_a, mut ears_a) = Tester::on(&a);
    a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
    assert!(matches!(ears_a.event().await, PeerEvent::Connected { .. }));
    // Longer than the session timeout nothing is sent but heartbeats.
    let quiet = tokio::time::timeout(2 * quick().session_timeout, ears_a.events.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    assert!(a.peers()[0].rtt.is_some() || b.peers()[0].rtt.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_is_a_loss_at_once_and_names_itself() {
    let (a, b) = (node(config()).await, node(config()).await);
    let (_at_a, mut ears_a) = Tester::on(&a);
    a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
    assert!(matches!(ears_a.event().await, PeerEvent::Connected { .. }));
    b.shutdown().await;
    let (node, incarnation, how) = (b.node_id(), b.incarnation(), Loss::Goodbye);
    assert_eq!(ears_a.event().await, PeerEvent::Lost { node, incarnation, how });
    assert_eq!(a.counters().sessions_broken, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_60_a_restarted_node_replaces_its_older_life_at_once() {
    let (a, first) = (node(config()).await, config());
    let (_at_a, mut ears_a) = Tester::on(&a);
    let b = node(first.clone()).await;
    let proxy = Proxy::to(a.local_addr()).await;
    b.connect(&proxy.addr.to_string(), None, None).await.expect("session");
    assert!(matches!(ears_a.event().await, PeerEvent::Connected { resumed: false, .. }));
    // The old process dies without a word: its connection stays, silent.
    proxy.set(Mode::Silent);
    let again = node(MeshConfig { bind_addr: "127.0.0.1:0".into(), ..first }).await;
    assert!(again.incarnation() > b.incarnation());
    again.connect(&a.local_addr().to_string(), None, None).await.expect("session");
    let (node, incarnation, how) = (b.node_id(), b.incarnation(), Loss::NewerIncarnation);
    assert_eq!(ears_a.event().await, PeerEvent::Lost { node, incarnation, how });
    assert!(matches!(ears_a.event().await, PeerEvent::Connected { peer, resumed: false }
        if peer.incarnation == again.incarnation()));
    // The older one is refused from now on.
    proxy.set(Mode::Open);
    let _ = b.connect(&a.local_addr().to_string(), None, None).await;
    assert!(ears_a.events.try_recv().is_err(), "nothing is heard of the older life");
    assert_eq!(a.peer(again.node_id()).map(|peer| peer.incarnation), Some(again.incarnation()));
}
