//! The life of a runtime as other threads see it (hazards 2 to 5), and what may cross threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use mesh_daemon_core::identity::{EntityKeypair, NodeId};
use mesh_daemon_core::mesh::{InstallError, MeshConfig, MeshNode, PeerEvent, Record, RecordSink, SubprotocolHandler};
use mesh_daemon_core::runtime::{ArrivalPolicy, DaemonRuntime, Embedder, Engine, RuntimeError, RuntimeOptions};
use mesh_daemon_core::session::Psk;
use mesh_daemon_core::wire::{Lane, Subprotocol};

use super::embedder::Host;

/// As many as it takes to see a window of a few instructions now and then.
const TRIALS: usize = 64;

struct Deaf;

impl Embedder for Deaf {
    fn wake(&self) {}
}

impl SubprotocolHandler for Deaf {
    fn records(&self, _: NodeId, _: Lane, _: &mut Vec<Record>) {}

    fn peer(&self, _: &PeerEvent) {}

    fn fill(&self, _: NodeId, _: Lane, _: &mut dyn RecordSink) -> bool {
        false
    }
}

async fn mesh() -> MeshNode {
    let config = MeshConfig::new("127.0.0.1:0", Psk::new([7; 32]), EntityKeypair::generate());
    MeshNode::create(config).await.expect("the node binds")
}

fn runtime_on(mesh: &MeshNode) -> DaemonRuntime {
    DaemonRuntime::create(mesh, RuntimeOptions::default(), Arc::new(Deaf)).expect("the only runtime")
}

/// Whether somebody answers for migrations on this node.
fn is_handled(mesh: &MeshNode) -> bool {
    match mesh.install(Arc::new(Deaf), &[Subprotocol::Migration]) {
        Err(InstallError::Taken(_)) => true,
        Ok(()) => {
            mesh.uninstall(&[Subprotocol::Migration]);
            false
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_2_requirement_12_nobody_sees_a_ready_runtime_without_its_handler() {
    for _ in 0..TRIALS {
        let mesh = mesh().await;
        let runtime = runtime_on(&mesh);
        let watcher = thread::spawn({
            let (mesh, runtime) = (mesh.clone(), runtime.clone());
            move || {
                while !runtime.look(|engine| engine.is_ready()) {
                    std::hint::spin_loop();
                }
                is_handled(&mesh)
            }
        });
        runtime.with(Engine::start).expect("starts");
        assert!(watcher.join().expect("watches"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_3_requirement_14_a_shutdown_takes_the_handler_out_that_the_start_installed() {
    let mesh = mesh().await;
    let runtime = runtime_on(&mesh);
    runtime.with(Engine::start).expect("starts");
    assert!(is_handled(&mesh));
    runtime.shutdown().await;
    assert!(!is_handled(&mesh));
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_3_requirement_13_a_start_that_loses_to_a_shutdown_leaves_no_handler() {
    for _ in 0..TRIALS {
        let mesh = mesh().await;
        let runtime = runtime_on(&mesh);
        let starter = thread::spawn({
            let runtime = runtime.clone();
            move || runtime.with(Engine::start)
        });
        runtime.shutdown().await;
        match starter.join().expect("starts") {
            Ok(()) | Err(RuntimeError::ShuttingDown) => {}
            Err(other) => panic!("{other}"),
        }
        assert!(!runtime.look(|engine| engine.is_ready()));
        assert!(!is_handled(&mesh));
        assert_eq!(runtime.with(Engine::start), Err(RuntimeError::ShuttingDown));
        assert!(!is_handled(&mesh));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_4_requirement_15_a_spawn_that_races_a_shutdown_leaves_no_daemon() {
    for _ in 0..TRIALS {
        let host = Host::start(ArrivalPolicy::AnyKind).await;
        let spawns = async {
            for _ in 0..4 {
                match host.spawn(EntityKeypair::generate()).await {
                    Ok(_) | Err(RuntimeError::ShuttingDown) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        };
        tokio::join!(spawns, host.runtime.shutdown());
        let (count, census) = host.runtime.with(|engine, _| (engine.daemon_count(), engine.census()));
        assert_eq!((count, census.daemons), (0, 0));
        assert!(matches!(host.spawn(EntityKeypair::generate()).await, Err(RuntimeError::ShuttingDown)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_5_requirement_10_of_32_concurrent_registrations_exactly_one_wins() {
    let runtime = runtime_on(&mesh().await);
    let won = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| match runtime.with(|engine, _| engine.register_factory("counter")) {
                Ok(()) => _ = won.fetch_add(1, Ordering::SeqCst),
                Err(RuntimeError::FactoryAlreadyRegistered(kind)) => assert_eq!(kind, "counter"),
                Err(other) => panic!("{other}"),
            });
        }
    });
    assert_eq!(won.into_inner(), 1);
}

/// Whether a type may go to another thread, as the compiler sees it.
struct Crosses<T>(std::marker::PhantomData<T>);

impl<T: Send> Crosses<T> {
    const YES: bool = true;
}

trait OrNot {
    const YES: bool = false;
}

impl<T> OrNot for Crosses<T> {}

fn crosses<T: Send>(_: &T) {}

#[tokio::test]
async fn requirement_128_no_guard_is_held_across_an_await() {
    // A future that held a guard across an await could not go to another thread, as no guard can.
    const {
        assert!(!Crosses::<parking_lot::MutexGuard<'static, ()>>::YES);
        assert!(!Crosses::<parking_lot::RwLockReadGuard<'static, ()>>::YES);
        assert!(Crosses::<DaemonRuntime>::YES);
    };
    let mesh = mesh().await;
    let runtime = runtime_on(&mesh);
    crosses(&MeshNode::create(MeshConfig::new("127.0.0.1:0", Psk::new([7; 32]), EntityKeypair::generate())));
    crosses(&mesh.connect("127.0.0.1:1", None, None));
    crosses(&mesh.accept(mesh.node_id()));
    crosses(&mesh.shutdown());
    crosses(&runtime.shutdown());
}
