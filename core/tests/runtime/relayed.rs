//! A and B have no session of their own: what goes between them goes through R.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mesh_daemon_core::identity::{EntityKeypair, NodeId, OriginHash};
use mesh_daemon_core::mesh::{MeshConfig, PeerEvent};
use mesh_daemon_core::migration::{MigrationFailure, Outcome};
use mesh_daemon_core::runtime::ArrivalPolicy;
use mesh_daemon_core::session::Psk;

use super::embedder::Host;

/// Generous: only a hang reaches it.
const HANG: Duration = Duration::from_secs(60);

async fn meet(one: &Host, other: &Host) {
    one.mesh.connect(&other.mesh.local_addr().to_string(), None, None).await.expect("connects");
    other.mesh.accept(one.mesh.node_id()).await.expect("is connected");
}

/// A, R and B in a row.
async fn row() -> [Host; 3] {
    let [a, r, b] = [start().await, start().await, start().await];
    meet(&a, &r).await;
    meet(&r, &b).await;
    [a, r, b]
}

async fn start() -> Host {
    Host::start(ArrivalPolicy::AnyKind).await
}

async fn daemon_on(host: &Host) -> OriginHash {
    let keypair = EntityKeypair::generate();
    let origin = keypair.origin_hash();
    host.spawn(keypair).await.expect("spawns");
    origin
}

fn via(from: &Host, to: &Host) -> Option<NodeId> {
    from.mesh.peers().into_iter().find(|peer| peer.node == to.mesh.node_id()).and_then(|peer| peer.via)
}

#[tokio::test]
async fn a_daemon_moves_to_a_node_that_only_a_common_peer_can_reach_and_back_under_load() {
    let [a, r, b] = row().await;
    let origin = daemon_on(&a).await;
    let load = async {
        let mut counts = Vec::new();
        for _ in 0..100 {
            let (one, other, third) = tokio::join!(a.call(origin, b"a"), r.call(origin, b"r"), r.call(origin, b"s"));
            counts.extend([one, other, third].map(|count| count.expect("every call is answered")));
        }
        counts
    };
    let moves = async {
        for _ in 0..3 {
            a.migrate(origin, b.mesh.node_id()).await.expect("moves there");
            b.migrate(origin, a.mesh.node_id()).await.expect("moves back");
        }
    };
    let both = async { tokio::join!(load, moves) };
    let (mut counts, ()) = tokio::time::timeout(HANG, both).await.expect("nothing waits for ever");
    counts.sort_unstable();
    assert_eq!(counts, (1..=300).collect::<Vec<u64>>());
    assert_eq!((via(&a, &b), r.mesh.circuits()), (Some(r.mesh.node_id()), 1));
}

#[tokio::test]
async fn calls_reach_a_daemon_whose_new_host_has_no_session_with_the_caller() {
    let [a, r, b] = row().await;
    let origin = daemon_on(&r).await;
    assert_eq!(a.call(origin, b"x").await.expect("answers"), 1);
    r.migrate(origin, b.mesh.node_id()).await.expect("moves");
    for count in 2..=10 {
        assert_eq!(a.call(origin, b"x").await.expect("answers"), count);
    }
    assert_eq!(via(&a, &b), Some(r.mesh.node_id()));
    let fresh = start().await;
    meet(&fresh, &r).await;
    assert_eq!(fresh.call(origin, b"x").await.expect("answers"), 11);
    assert_eq!(via(&fresh, &b), Some(r.mesh.node_id()), "found through the former host, then reached itself");
}

#[tokio::test]
async fn a_state_of_64_mib_moves_through_a_relay() {
    const MIB: u64 = 1024 * 1024;
    static BLOCK: [u8; 16 * 1024 * 1024] = [7; 16 * 1024 * 1024];
    let [a, _r, b] = row().await;
    let origin = daemon_on(&a).await;
    for n in 1..=4 {
        assert_eq!(a.call(origin, &BLOCK).await.expect("answers"), n * 16 * MIB);
    }
    a.migrate(origin, b.mesh.node_id()).await.expect("moves");
    assert_eq!(b.call(origin, b"x").await.expect("answers"), 64 * MIB + 1);
}

#[tokio::test]
async fn hazard_30_a_target_that_nobody_reaches_is_unavailable_at_once_and_the_daemon_untouched() {
    let relay =
        MeshConfig { relay: false, ..MeshConfig::new("127.0.0.1:0", Psk::new([7; 32]), EntityKeypair::generate()) };
    let [a, r, b] = [start().await, Host::with(relay, ArrivalPolicy::AnyKind).await, start().await];
    meet(&a, &r).await;
    meet(&r, &b).await;
    let origin = daemon_on(&a).await;
    for target in [b.mesh.node_id(), NodeId::new(7)] {
        let failure = a.migrate(origin, target).await.expect_err("no way");
        assert_eq!(failure, MigrationFailure::TargetUnavailable(target));
    }
    assert_eq!(a.call(origin, b"x").await.expect("answers"), 1);
}

#[tokio::test]
async fn a_relay_that_dies_in_the_middle_leaves_the_daemon_at_its_source_and_another_one_serves() {
    static BLOCK: [u8; 16 * 1024 * 1024] = [7; 16 * 1024 * 1024];
    let [a, r, b] = row().await;
    let origin = daemon_on(&a).await;
    for _ in 0..4 {
        a.call(origin, &BLOCK).await.expect("answers");
    }
    // The relay goes as soon as B has begun to receive.
    let begun = Arc::new(AtomicBool::new(false));
    b.mesh.on_peer(Arc::new({
        let begun = begun.clone();
        move |event| {
            begun.fetch_or(matches!(event, PeerEvent::Connected { .. }), Ordering::SeqCst);
        }
    }));
    let kill = async {
        while !(begun.load(Ordering::SeqCst) && b.runtime.with(|engine, _| engine.census().arriving_bytes) > 0) {
            tokio::task::yield_now().await;
        }
        r.mesh.shutdown().await;
    };
    let (moved, ()) = tokio::join!(a.migrate(origin, b.mesh.node_id()), kill);
    let failure = moved.expect_err("cut off in the middle");
    assert_eq!(failure.outcome(), Outcome::Source, "{failure:?}");
    assert_eq!(a.call(origin, b"x").await.expect("it goes on where it was"), 4 * BLOCK.len() as u64 + 1);
    let again = start().await;
    meet(&again, &a).await;
    meet(&again, &b).await;
    tokio::time::timeout(HANG, a.migrate(origin, b.mesh.node_id())).await.expect("in time").expect("moves");
    assert_eq!(a.call(origin, b"x").await.expect("answers"), 4 * BLOCK.len() as u64 + 2);
    assert_eq!(via(&a, &b), Some(again.mesh.node_id()));
}

#[tokio::test]
async fn a_direct_session_that_comes_later_takes_the_traffic_over() {
    let [a, r, b] = row().await;
    let origin = daemon_on(&a).await;
    a.migrate(origin, b.mesh.node_id()).await.expect("moves");
    let load = async {
        for count in 1..=200 {
            assert_eq!(a.call(origin, b"x").await.expect("answers"), count, "once, in order");
        }
    };
    let direct = async {
        while b.runtime.with(|engine, _| engine.census().streams_in) == 0 {
            tokio::task::yield_now().await;
        }
        meet(&b, &a).await;
    };
    tokio::time::timeout(HANG, async { tokio::join!(load, direct) }).await.expect("nothing waits for ever");
    assert_eq!((via(&a, &b), via(&b, &a)), (None, None));
    let closed = async {
        while r.mesh.circuits() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HANG, closed).await.expect("the circuit is closed");
}

#[tokio::test]
async fn the_relay_drives_a_move_between_two_nodes_that_it_joins() {
    let [a, r, b] = row().await;
    let origin = daemon_on(&a).await;
    assert_eq!(a.call(origin, b"x").await.expect("answers"), 1);
    r.migrate(origin, b.mesh.node_id()).await.expect("moves there");
    assert_eq!(a.call(origin, b"x").await.expect("answers"), 2);
    r.migrate(origin, a.mesh.node_id()).await.expect("moves back");
    assert_eq!(b.call(origin, b"x").await.expect("answers"), 3);
    assert_eq!(via(&a, &b), Some(r.mesh.node_id()));
}
