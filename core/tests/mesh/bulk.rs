//! The bulk lane: credit, back-pressure, and fast records beside it.

use std::sync::atomic::Ordering;

use mesh_daemon_core::session::BULK_LEAST;
use mesh_daemon_core::wire::{Lane, MAX_RECORD_BODY};

use crate::support::{Tester, config, node};

const CHUNKS: usize = 1024;

#[tokio::test(flavor = "multi_thread")]
async fn fast_round_trips_flow_while_64_mib_move_in_bulk() {
    let (a, b) = (node(config()).await, node(config()).await);
    let (at_a, mut ears_a) = Tester::on(&a);
    let (at_b, mut ears_b) = Tester::on(&b);
    at_b.echo.store(true, Ordering::Relaxed);
    a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
    for number in 0..CHUNKS {
        at_a.send(b.node_id(), Lane::Bulk, vec![number.to_le_bytes()[0]; MAX_RECORD_BODY]);
    }
    let total = (CHUNKS * MAX_RECORD_BODY) as u64;
    let (mut trips, mut behind) = (0, 0);
    while at_b.bulk_received.load(Ordering::SeqCst) < total {
        let before = at_b.bulk_received.load(Ordering::SeqCst);
        at_a.send(b.node_id(), Lane::Fast, b"trip".to_vec());
        assert_eq!(ears_a.record().await.2, b"trip");
        trips += 1;
        behind = behind.max(at_b.bulk_received.load(Ordering::SeqCst) - before);
        // Bulk bodies are checked and let go as they come.
        while let Ok((_, lane, body)) = ears_b.records.try_recv() {
            assert!(lane == Lane::Fast || body.len() == MAX_RECORD_BODY);
        }
    }
    assert!(trips >= 10, "{trips} round trips while the bulk moved");
    assert!(behind < total / 4, "a round trip saw {behind} of {total} bulk bytes go by");
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_stops_until_it_is_consumed_and_fast_records_go_on() {
    let (a, b) = (node(config()).await, node(config()).await);
    let (at_a, _ears_a) = Tester::on(&a);
    let (at_b, mut ears_b) = Tester::on(&b);
    at_b.consume.store(false, Ordering::SeqCst);
    a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
    for _ in 0..CHUNKS {
        at_a.send(b.node_id(), Lane::Bulk, vec![1; MAX_RECORD_BODY]);
    }
    // The sender stops of itself with most of its chunks unsent.
    let fits = usize::try_from(BULK_LEAST).expect("small") / MAX_RECORD_BODY;
    for _ in 0..fits {
        assert_eq!(ears_b.record().await.1, Lane::Bulk);
    }
    for _ in 0..200 {
        at_a.send(b.node_id(), Lane::Fast, b"fast".to_vec());
        assert_eq!(ears_b.record().await.1, Lane::Fast, "no more bulk without credit");
    }
    assert_eq!(at_a.pending(b.node_id(), Lane::Bulk), CHUNKS - fits);
    assert!(b.bulk_outstanding(a.node_id()) <= BULK_LEAST);
    at_b.consume.store(true, Ordering::SeqCst);
    b.consumed(a.node_id(), fits * MAX_RECORD_BODY);
    for _ in fits..CHUNKS {
        assert_eq!(ears_b.record().await.1, Lane::Bulk);
    }
    assert_eq!(at_a.pending(b.node_id(), Lane::Bulk), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_in_both_directions_at_once_does_not_deadlock() {
    let (a, b) = (node(config()).await, node(config()).await);
    let (at_a, mut ears_a) = Tester::on(&a);
    let (at_b, mut ears_b) = Tester::on(&b);
    a.connect(&b.local_addr().to_string(), None, None).await.expect("session");
    for _ in 0..200 {
        at_a.send(b.node_id(), Lane::Bulk, vec![1; MAX_RECORD_BODY]);
        at_b.send(a.node_id(), Lane::Bulk, vec![2; MAX_RECORD_BODY]);
    }
    for _ in 0..200 {
        assert_eq!(ears_a.record().await.2[0], 2);
        assert_eq!(ears_b.record().await.2[0], 1);
    }
}
