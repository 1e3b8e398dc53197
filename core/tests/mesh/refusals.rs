//! Strangers, wrong keys, wrong pins, garbage and slow talkers.

use std::time::Duration;

use mesh_daemon_core::identity::{EntityKeypair, NodeId};
use mesh_daemon_core::mesh::{HandshakeFailure, MeshConfig, MeshError};
use mesh_daemon_core::session::Psk;
use mesh_daemon_core::wire::Lane;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{HANG, Tester, config, node};

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_different_psks_never_get_a_session() {
    let (a, b) = (node(config()).await, node(MeshConfig { psk: Psk::new([8; 32]), ..config() }).await);
    for (one, other) in [(&a, &b), (&b, &a)] {
        let addr = other.local_addr().to_string();
        let error = one.connect(&addr, None, None).await.expect_err("another key");
        let text = error.to_string();
        assert!(text.contains(&addr) && text.contains("pre-shared key") && text.contains("major version"), "{text}");
        assert!(matches!(error, MeshError::HandshakeFailed { reason: HandshakeFailure::Closed, .. }));
        assert_eq!(other.counters().handshakes_failed, 1);
    }
    assert_eq!((a.peer_count(), b.peer_count(), a.peers().len()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pin_is_a_pin_mismatch_and_leaves_nothing() {
    let (a, b) = (node(config()).await, node(config()).await);
    let addr = b.local_addr().to_string();
    for (key, id, what) in [(Some([1; 32]), None, "key"), (None, Some(NodeId::new(1)), "node id")] {
        let error = a.connect(&addr, key, id).await.expect_err("somebody else");
        assert!(
            matches!(&error, MeshError::PinMismatch { address, what: pin, got }
            if *address == addr && *pin == what && *got == b.node_id()),
            "{error}"
        );
    }
    assert_eq!((a.peers().len(), b.peers().len()), (0, 0));
    a.connect(&addr, Some(b.public_key()), Some(b.node_id())).await.expect("the right pins");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_the_connection_unanswered_and_harms_nobody() {
    let a = node(config()).await;
    let garbage: [&[u8]; 6] =
        [b"GET / HTTP/1.1\r\n\r\n", &[0; 64], &[0xff; 4_096], &[48, 0], &[0, 0], &[1, 0, 0, 48, 0]];
    for bytes in garbage {
        let mut stranger = TcpStream::connect(a.local_addr()).await.expect("listening");
        stranger.write_all(bytes).await.expect("sent");
        let _ = stranger.shutdown().await;
        let mut answer = Vec::new();
        // Closed or reset, but never with a word.
        let _ = tokio::time::timeout(HANG, stranger.read_to_end(&mut answer)).await.expect("closed");
        assert!(answer.is_empty(), "a stranger gets no answer");
    }
    let b = node(config()).await;
    b.connect(&a.local_addr().to_string(), None, None).await.expect("the node works on");
    assert_eq!(a.counters().handshakes_failed, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_loris_handshakes_are_cut_off_and_bounded_and_honest_peers_get_in() {
    let a = node(config()).await;
    let mut slow = Vec::new();
    for _ in 0..60 {
        let mut stranger = TcpStream::connect(a.local_addr()).await.expect("listening");
        stranger.write_all(&[48]).await.expect("half a prefix");
        slow.push(stranger);
    }
    let b = node(config()).await;
    b.connect(&a.local_addr().to_string(), None, None).await.expect("honest peers get in meanwhile");
    for stranger in &mut slow {
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(HANG, stranger.read_to_end(&mut answer)).await.expect("cut off by the deadline");
        assert!(answer.is_empty());
    }
    assert_eq!(a.counters().handshakes_failed, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_half_open_handshakes_than_the_limit_are_closed_at_once() {
    let a = node(config()).await;
    let mut open = Vec::new();
    while a.counters().half_open_refused == 0 {
        assert!(open.len() < 1_000, "there is a limit");
        let stranger = TcpStream::connect(a.local_addr()).await.expect("listening");
        open.push(stranger);
        tokio::task::yield_now().await;
    }
    drop(open);
    let b = node(config()).await;
    tokio::time::timeout(HANG, async {
        while b.connect(&a.local_addr().to_string(), None, None).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("closed connections make room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_says_nothing_is_given_up() {
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let a = node(config()).await;
    let addr = mute.local_addr().expect("bound").to_string();
    let error = a.connect(&addr, None, None).await.expect_err("nobody speaks");
    assert!(matches!(error, MeshError::HandshakeFailed { reason: HandshakeFailure::TimedOut, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_refuses_and_the_refused_one_is_told() {
    let a = node(MeshConfig { max_peers: 1, ..config() }).await;
    let (b, c) = (node(config()).await, node(config()).await);
    let addr = a.local_addr().to_string();
    b.connect(&addr, None, None).await.expect("room for one");
    let error = c.connect(&addr, None, None).await.expect_err("full");
    assert!(error.to_string().contains("as many peers as it may have"), "{error}");
    let error = a.connect(&c.local_addr().to_string(), None, None).await.expect_err("full");
    assert!(error.to_string().contains("limit"), "{error}");
    assert_eq!((a.peer_count(), c.peer_count(), a.counters().peers_refused), (1, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_identity_in_two_processes_cannot_meet_itself() {
    let identity = EntityKeypair::generate();
    let a = node(MeshConfig { identity: identity.clone(), ..config() }).await;
    let b = node(MeshConfig { identity, ..config() }).await;
    let error = a.connect(&b.local_addr().to_string(), None, None).await.expect_err("the same identity");
    assert!(error.to_string().contains("own identity"), "{error}");
}

/// Passes everything until the session is up, then changes one byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_on_the_way_ends_the_session_and_not_the_node() {
    let (a, b) = (node(config()).await, node(config()).await);
    let (at_a, _ears_a) = Tester::on(&a);
    let (_at_b, mut ears_b) = Tester::on(&b);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound").to_string();
    let (spoil, mut spoiled) = tokio::sync::watch::channel(false);
    let target = b.local_addr();
    tokio::spawn(async move {
        let (near, _) = listener.accept().await.expect("one connection");
        let (mut near_read, mut near_write) = near.into_split();
        let (mut far_read, mut far_write) = TcpStream::connect(target).await.expect("listening").into_split();
        tokio::spawn(async move { tokio::io::copy(&mut far_read, &mut near_write).await });
        let mut buffer = [0; 4_096];
        while let Ok(len @ 1..) = near_read.read(&mut buffer).await {
            if *spoiled.borrow_and_update() {
                buffer[len - 1] ^= 1;
            }
            if far_write.write_all(&buffer[..len]).await.is_err() {
                break;
            }
        }
    });
    a.connect(&addr, None, None).await.expect("session");
    at_a.send(b.node_id(), Lane::Fast, b"fine".to_vec());
    assert_eq!(ears_b.record().await.2, b"fine");
    spoil.send_replace(true);
    at_a.send(b.node_id(), Lane::Fast, b"spoiled".to_vec());
    ears_b.until_suspected(a.node_id()).await;
    assert!(ears_b.records.try_recv().is_err(), "the spoiled record is not handed on");
    assert_eq!(b.counters().sessions_broken, 1);
    a.connect(&b.local_addr().to_string(), None, None).await.expect("the node works on");
    tokio::time::timeout(Duration::from_secs(30), b.accept(a.node_id())).await.expect("in time").expect("session");
}
