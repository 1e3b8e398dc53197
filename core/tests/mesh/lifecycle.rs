//! The end of a node.

use std::sync::Arc;
use std::time::Duration;

use mesh_daemon_core::mesh::{InstallError, Loss, MeshConfig, MeshError, MeshNode, PeerEvent};
use mesh_daemon_core::wire::Subprotocol;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{HANG, Tester, config, node};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// A task that has ended is let go by the runtime a moment later.
fn wait_until_no_task_is_left(runtime: &tokio::runtime::Runtime) {
    let all_gone = async {
        while runtime.metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    runtime.block_on(async { tokio::time::timeout(HANG, all_gone).await.expect("every task ends") });
}

#[test]
fn hazard_18_shutdown_leaves_no_task_no_handler_and_no_socket() {
    let runtime = runtime();
    runtime.block_on(async {
        let (a, b) = (node(config()).await, node(config()).await);
        let (at_a, mut ears_a) = Tester::on(&a);
        a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
        let mut half_open = TcpStream::connect(a.local_addr()).await.expect("listening");
        half_open.write_all(&[1]).await.expect("sent");
        let unanswered = tokio::spawn({
            let a = a.clone();
            async move { a.accept(mesh_daemon_core::identity::NodeId::new(7)).await }
        });
        assert!(matches!(ears_a.event().await, PeerEvent::Connected { .. }));
        let addr = a.local_addr();
        tokio::join!(a.shutdown(), a.shutdown(), b.shutdown());
        a.shutdown().await;
        assert!(matches!(ears_a.event().await, PeerEvent::Lost { how: Loss::Silence | Loss::Goodbye, .. }));
        assert_eq!(Arc::strong_count(&at_a), 1, "the handler is let go");
        assert!(matches!(unanswered.await.expect("ends"), Err(MeshError::ShutDown)));
        assert!(matches!(a.connect("127.0.0.1:1", None, None).await, Err(MeshError::ShutDown)));
        assert!(matches!(a.accept(b.node_id()).await, Err(MeshError::ShutDown)));
        assert_eq!(a.install(at_a, &[Subprotocol::Events]).err(), Some(InstallError::ShutDown));
        assert_eq!((a.peer_count(), a.peers().len()), (0, 0));
        let again = MeshNode::create(MeshConfig { bind_addr: addr.to_string(), ..config() }).await;
        again.expect("the port is free again").shutdown().await;
    });
    wait_until_no_task_is_left(&runtime);
}

#[test]
fn a_node_that_is_dropped_without_shutdown_ends_too() {
    let runtime = runtime();
    runtime.block_on(async {
        let (a, b) = (node(config()).await, node(config()).await);
        a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
        let clone = a.clone();
        drop(a);
        assert_eq!(clone.peer_count(), 1, "a clone keeps it");
    });
    wait_until_no_task_is_left(&runtime);
}

#[test]
fn shutdown_blocking_says_goodbye_from_outside_of_the_runtime() {
    let runtime = runtime();
    let (a, mut ears) = runtime.block_on(async {
        let (a, b) = (node(config()).await, node(config()).await);
        let (at_b, ears) = Tester::on(&b);
        a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
        b.accept(a.node_id()).await.expect("session");
        // Keeps b alive as long as the test.
        std::mem::forget((b, at_b));
        (a, ears)
    });
    a.shutdown_blocking(Duration::from_secs(10));
    assert!(a.is_shut_down());
    runtime.block_on(async {
        assert!(matches!(ears.event().await, PeerEvent::Connected { .. }));
        assert!(matches!(ears.event().await, PeerEvent::Lost { how: Loss::Goodbye, .. }));
    });
}

#[test]
fn shutdown_is_bounded_with_a_peer_that_reads_nothing() {
    let runtime = runtime();
    runtime.block_on(async {
        let (a, b) = (node(config()).await, node(config()).await);
        let proxy = crate::proxy::Proxy::to(b.local_addr()).await;
        a.connect(&proxy.addr.to_string(), None, None).await.expect("session");
        proxy.set(crate::proxy::Mode::Silent);
        tokio::time::timeout(HANG, a.shutdown()).await.expect("does not wait for the peer");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn requirement_127_zero_intervals_are_tolerated() {
    let zero = || MeshConfig { heartbeat_interval: Duration::ZERO, session_timeout: Duration::ZERO, ..config() };
    let (a, b) = (node(zero()).await, node(zero()).await);
    assert_eq!(a.connect(&b.local_addr().to_string(), None, None).await.expect("session"), b.node_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn observers_hear_of_peers_until_taken_out() {
    let (a, b) = (node(config()).await, node(config()).await);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let id = a.on_peer(Arc::new(move |event: &PeerEvent| drop(tell.send(event.clone()))));
    a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
    assert!(matches!(told.recv().await, Some(PeerEvent::Connected { .. })));
    assert!(matches!(told.recv().await, Some(PeerEvent::Ready { .. })));
    a.off_peer(id);
    assert_eq!(told.recv().await, None, "the observer is dropped");
}

fn observe(node: &MeshNode) -> tokio::sync::mpsc::UnboundedReceiver<PeerEvent> {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    node.on_peer(Arc::new(move |event: &PeerEvent| drop(tell.send(event.clone()))));
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn that_both_have_started_is_known_as_soon_as_there_is_a_session() {
    for _ in 0..20 {
        let (a, b) = (node(config()).await, node(config()).await);
        let (mut at_a, mut at_b) = (observe(&a), observe(&b));
        a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
        b.accept(a.node_id()).await.expect("session");
        for (told, peer) in [(&mut at_a, &b), (&mut at_b, &a)] {
            assert!(matches!(told.try_recv(), Ok(PeerEvent::Connected { .. })));
            assert_eq!(told.try_recv(), Ok(PeerEvent::Ready { node: peer.node_id() }));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_comes_when_the_last_of_the_two_starts() {
    for dialler_first in [true, false] {
        let create = || async { MeshNode::create(config()).await.expect("a port") };
        let (a, b) = (create().await, create().await);
        let (mut at_a, mut at_b) = (observe(&a), observe(&b));
        a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
        b.accept(a.node_id()).await.expect("session");
        let (first, last) = if dialler_first { (&a, &b) } else { (&b, &a) };
        first.start();
        for told in [&mut at_a, &mut at_b] {
            assert!(matches!(told.try_recv(), Ok(PeerEvent::Connected { .. })));
            assert!(told.try_recv().is_err(), "one of them has not started");
        }
        last.start();
        assert_eq!(at_a.recv().await, Some(PeerEvent::Ready { node: b.node_id() }));
        assert_eq!(at_b.recv().await, Some(PeerEvent::Ready { node: a.node_id() }));
    }
}
