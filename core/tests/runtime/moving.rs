//! A daemon is called from both nodes while it moves between them.

use mesh_daemon_core::identity::EntityKeypair;
use mesh_daemon_core::runtime::ArrivalPolicy;

use super::embedder::Host;

async fn pair() -> (Host, Host) {
    let a = Host::start(ArrivalPolicy::AnyKind).await;
    let b = Host::start(ArrivalPolicy::AnyKind).await;
    let node = a.mesh.connect(&b.mesh.local_addr().to_string(), None, None).await.expect("connects");
    b.mesh.accept(a.mesh.node_id()).await.expect("is connected");
    assert_eq!(node, b.mesh.node_id());
    (a, b)
}

#[tokio::test]
async fn a_call_reaches_a_daemon_on_another_node() {
    let (a, b) = pair().await;
    let keypair = EntityKeypair::generate();
    let origin = keypair.origin_hash();
    a.spawn(keypair).await.expect("spawns");
    for n in 1..=10 {
        assert_eq!(b.call(origin, b"x").await.expect("answers"), n);
    }
}

#[tokio::test]
async fn a_daemon_moves_there_and_back_under_load_and_counts_every_event_once() {
    let (a, b) = pair().await;
    let keypair = EntityKeypair::generate();
    let origin = keypair.origin_hash();
    a.spawn(keypair).await.expect("spawns");
    let load = async {
        let mut counts = Vec::new();
        for _ in 0..200 {
            let (left, right) = tokio::join!(a.call(origin, b"l"), b.call(origin, b"r"));
            counts.push(left.expect("a local call is answered"));
            counts.push(right.expect("a remote call is answered"));
        }
        counts
    };
    let moves = async {
        for _ in 0..5 {
            a.migrate(origin, b.mesh.node_id()).await.expect("moves there");
            b.migrate(origin, a.mesh.node_id()).await.expect("moves back");
        }
    };
    let (mut counts, ()) =
        tokio::time::timeout(std::time::Duration::from_secs(60), async { tokio::join!(load, moves) })
            .await
            .expect("nothing waits for ever");
    counts.sort_unstable();
    assert_eq!(counts, (1..=400).collect::<Vec<u64>>());
    let census = a.runtime.with(|engine, _| engine.census());
    assert_eq!((census.migrations, census.arriving_bytes, census.daemons), (0, 0, 1));
}

#[tokio::test]
async fn a_large_state_moves_with_little_memory_beside_it() {
    const MIB: u64 = 1024 * 1024;
    static BLOCK: [u8; 16 * 1024 * 1024] = [7; 16 * 1024 * 1024];
    let (a, b) = pair().await;
    let keypair = EntityKeypair::generate();
    let origin = keypair.origin_hash();
    a.spawn(keypair).await.expect("spawns");
    for n in 1..=4 {
        assert_eq!(a.call(origin, &BLOCK).await.expect("answers"), n * 16 * MIB);
    }
    a.migrate(origin, b.mesh.node_id()).await.expect("moves");
    assert_eq!(b.call(origin, b"x").await.expect("answers"), 64 * MIB + 1);
    let (source, target) = (a.runtime.with(|engine, _| engine.census()), b.runtime.with(|engine, _| engine.census()));
    assert!(source.peak_state_bytes <= 16 * MIB, "the source held {} bytes", source.peak_state_bytes);
    assert!(target.peak_state_bytes <= 64 * MIB + 16 * MIB, "the target held {} bytes", target.peak_state_bytes);
    assert_eq!((source.state_bytes, target.state_bytes), (0, 0));
}

#[tokio::test]
async fn a_large_payload_and_a_large_reply_cross_in_pieces() {
    static BLOCK: [u8; 8 * 1024 * 1024] = [7; 8 * 1024 * 1024];
    let (a, b) = pair().await;
    let keypair = EntityKeypair::generate();
    let origin = keypair.origin_hash();
    a.spawn(keypair).await.expect("spawns");
    let (large, small) = tokio::join!(b.call(origin, &BLOCK), b.call(origin, b"s"));
    let len = BLOCK.len() as u64;
    assert_eq!((large.expect("answers"), small.expect("answers")), (len, len + 1), "in the order they were called");
}

#[tokio::test]
async fn a_third_node_moves_a_daemon_between_two_others_under_load() {
    let (a, b) = pair().await;
    let c = Host::start(ArrivalPolicy::Announced).await;
    for host in [&a, &b] {
        c.mesh.connect(&host.mesh.local_addr().to_string(), None, None).await.expect("connects");
        host.mesh.accept(c.mesh.node_id()).await.expect("is connected");
    }
    let keypair = EntityKeypair::generate();
    let origin = keypair.origin_hash();
    a.spawn(keypair).await.expect("spawns");
    let load = async {
        let mut counts = Vec::new();
        for _ in 0..200 {
            let (left, right, third) = tokio::join!(a.call(origin, b"l"), b.call(origin, b"r"), c.call(origin, b"t"));
            counts.extend([left, right, third].map(|count| count.expect("every call is answered")));
        }
        counts
    };
    let moves = async {
        for _ in 0..5 {
            c.migrate(origin, b.mesh.node_id()).await.expect("moves there");
            c.migrate(origin, a.mesh.node_id()).await.expect("moves back");
        }
    };
    let (mut counts, ()) =
        tokio::time::timeout(std::time::Duration::from_secs(60), async { tokio::join!(load, moves) })
            .await
            .expect("nothing waits for ever");
    counts.sort_unstable();
    assert_eq!(counts, (1..=600).collect::<Vec<u64>>());
    assert_eq!(c.runtime.with(|engine, _| engine.census()).migrations, 0);
}

#[tokio::test]
async fn requirement_52_the_users_code_may_answer_on_threads_without_an_async_runtime() {
    let (a, at_a) = Host::start_on_a_thread(ArrivalPolicy::AnyKind).await;
    let (b, at_b) = Host::start_on_a_thread(ArrivalPolicy::AnyKind).await;
    a.mesh.connect(&b.mesh.local_addr().to_string(), None, None).await.expect("connects");
    let keypair = EntityKeypair::generate();
    let origin = keypair.origin_hash();
    a.spawn(keypair).await.expect("spawns");
    for n in 0..3 {
        a.migrate(origin, b.mesh.node_id()).await.expect("moves there");
        assert_eq!(a.call(origin, b"x").await.expect("answers"), 2 * n + 1);
        b.migrate(origin, a.mesh.node_id()).await.expect("moves back");
        assert_eq!(b.call(origin, b"x").await.expect("answers"), 2 * n + 2);
    }
    for host in [&a, &b] {
        host.runtime.shutdown().await;
        host.end();
    }
    for thread in [at_a, at_b] {
        thread.join().expect("nothing panicked there");
    }
}
