//! Many whole nodes that find each other, and many daemons that are found.

use std::time::Duration;

use mesh_daemon_core::identity::{EntityKeypair, NodeId, OriginHash};
use mesh_daemon_core::mesh::MeshConfig;
use mesh_daemon_core::runtime::{ArrivalPolicy, Settlement};
use mesh_daemon_core::session::Psk;

use tokio::time::Instant;

use super::embedder::Host;

const NODES: usize = 64;
const DAEMONS: usize = 10_000;
/// Generous: only a hang reaches it.
const HANG: Duration = Duration::from_secs(120);

async fn host(seeds: Vec<String>) -> Host {
    let config = MeshConfig::new("127.0.0.1:0", Psk::new([7; 32]), EntityKeypair::generate());
    // Members tell each other the news often.
    let heartbeat_interval = Duration::from_secs(1);
    Host::with(MeshConfig { seeds, heartbeat_interval, ..config }, ArrivalPolicy::AnyKind).await
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let held = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(HANG, held).await.is_ok(), "{what}");
}

/// Where a daemon lives, from whoever answers: on a busy machine a home may not, within the patience of one question.
async fn located(host: &Host, origin: OriginHash) -> NodeId {
    let asked = async {
        loop {
            let asked = host.ask(|runtime, ticket| runtime.with(|engine, now| engine.locate(ticket, origin, now)));
            match asked.await {
                Ok(Settlement::Located(Some(node))) => return node,
                Ok(Settlement::Located(None)) => {}
                other => panic!("located: {other:?}"),
            }
        }
    };
    tokio::time::timeout(HANG, asked).await.expect("somebody knows")
}

/// Every daemon has three homes, of which its own host may be one.
fn kept(hosts: &[Host]) -> usize {
    hosts.iter().map(|host| host.runtime.with(|engine, _| engine.kept_addresses())).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_nodes_with_ten_thousand_daemons_converge() {
    let begin = Instant::now();
    let first = host(Vec::new()).await;
    let seed = vec![first.mesh.local_addr().to_string()];
    let mut hosts = vec![first];
    for _ in 1..NODES {
        hosts.push(host(seed.clone()).await);
    }
    until("everybody is a member everywhere", || hosts.iter().all(|host| host.mesh.members().len() == NODES - 1)).await;
    until("everybody has a session with everybody", || hosts.iter().all(|host| host.mesh.peer_count() == NODES - 1))
        .await;
    println!("{NODES} nodes are one mesh after {:?}", begin.elapsed());

    let spawning = Instant::now();
    let mut origins = vec![Vec::new(); NODES];
    let spawned = hosts.iter().zip(&mut origins).enumerate().map(|(index, (host, origins))| async move {
        let keys: Vec<_> = (0..(DAEMONS + index) / NODES).map(|_| EntityKeypair::generate()).collect();
        origins.extend(keys.iter().map(EntityKeypair::origin_hash));
        for some in keys.chunks(16) {
            futures(some.iter().map(|key| async { host.spawn(key.clone()).await.expect("a new identity") })).await;
        }
    });
    futures(spawned).await;
    let count: usize = origins.iter().map(Vec::len).sum();
    assert!((DAEMONS..DAEMONS + NODES).contains(&count));
    println!("{count} spawns, each looked up at its homes, took {:?}", spawning.elapsed());
    let least = 3 * count - 3 * count * 2 / NODES;
    until("nobody is named but by its homes", || (least..=3 * count).contains(&kept(&hosts))).await;

    let finding = Instant::now();
    let found = hosts.iter().zip(&origins).enumerate().map(|(index, (host, origins))| {
        let caller = &hosts[(index + 31) % NODES];
        async move {
            for some in origins.chunks(16) {
                futures(some.iter().map(|origin| async {
                    assert_eq!(located(caller, *origin).await, host.mesh.node_id());
                }))
                .await;
            }
            assert_eq!(caller.call(origins[0], b"x").await.expect("it is there"), 1);
        }
    });
    futures(found).await;
    println!("{count} daemons, each looked for from one other node, took {:?}", finding.elapsed());

    // An eighth of the nodes leaves: what their tables held is named to others.
    let leaving = hosts.split_off(NODES - NODES / 8);
    futures(leaving.iter().map(|host| host.mesh.shutdown())).await;
    let left = hosts.len();
    until("they are gone", || hosts.iter().all(|host| host.mesh.members().len() == left - 1)).await;
    let count: usize = origins[..left].iter().map(Vec::len).sum();
    let least = 3 * count - 3 * count * 2 / left;
    until("their entries are elsewhere", || (least..=3 * count).contains(&kept(&hosts))).await;
    for index in (0..left).step_by(5) {
        let (caller, origin) = (&hosts[(index + 17) % left], origins[index][1]);
        assert_eq!(located(caller, origin).await, hosts[index].mesh.node_id());
        assert_eq!(caller.call(origin, b"x").await.expect("it is there"), 1);
    }
    println!("in all {:?}", begin.elapsed());
    futures(hosts.iter().map(|host| host.mesh.shutdown())).await;
}

/// Waits for all, at once.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
