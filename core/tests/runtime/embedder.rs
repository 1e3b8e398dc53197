//! An embedder that runs counters: each event's payload is appended to the state's length, the output is the count.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use mesh_daemon_core::daemon::{DaemonKey, EventOutcome, HostConfig, Ticket};
use mesh_daemon_core::identity::{EntityKeypair, MigrationId, NodeId, OriginHash};
use mesh_daemon_core::mesh::{MeshConfig, MeshNode};
use mesh_daemon_core::migration::{MigrationFailure, MigrationOptions, SliceHash};
use mesh_daemon_core::runtime::{
    ArrivalPolicy, DaemonRuntime, Embedder, Notice, OrchestratorPolicy, Rest, RuntimeError, RuntimeOptions, Settlement,
    SpawnRequest, Work,
};
use mesh_daemon_core::session::Psk;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, oneshot};

/// What a ticket waits for.
type Waiting = oneshot::Sender<Result<Settlement, RuntimeError>>;

/// Tells whoever serves a runtime that there is work: a task, or a thread that knows nothing of async.
#[derive(Default)]
struct Bell {
    task: Notify,
    rung: Mutex<bool>,
    thread: Condvar,
}

impl Bell {
    fn wait(&self) {
        let mut rung = self.rung.lock();
        while !std::mem::take(&mut *rung) {
            self.thread.wait(&mut rung);
        }
    }
}

impl Embedder for Bell {
    fn wake(&self) {
        self.task.notify_one();
        *self.rung.lock() = true;
        self.thread.notify_one();
    }
}

/// A node with a runtime whose daemons are counters.
pub(crate) struct Host {
    pub(crate) mesh: MeshNode,
    pub(crate) runtime: DaemonRuntime,
    shared: Arc<Mutex<Shared>>,
    bell: Arc<Bell>,
    over: Arc<AtomicBool>,
}

#[derive(Default)]
struct Shared {
    tickets: HashMap<Ticket, Waiting>,
    last: u64,
    counters: HashMap<DaemonKey, Vec<u8>>,
    migrations: HashMap<MigrationId, oneshot::Sender<Result<(), MigrationFailure>>>,
}

impl Host {
    pub(crate) async fn start(arrivals: ArrivalPolicy) -> Self {
        Self::with(MeshConfig::new("127.0.0.1:0", Psk::new([7; 32]), EntityKeypair::generate()), arrivals).await
    }

    /// One whose embedder is a thread of its own, without an async runtime.
    pub(crate) async fn start_on_a_thread(arrivals: ArrivalPolicy) -> (Self, thread::JoinHandle<()>) {
        let config = MeshConfig::new("127.0.0.1:0", Psk::new([7; 32]), EntityKeypair::generate());
        let host = Self::create(config, arrivals).await;
        let (runtime, shared, bell, over) =
            (host.runtime.clone(), host.shared.clone(), host.bell.clone(), host.over.clone());
        let served = thread::spawn(move || {
            assert!(tokio::runtime::Handle::try_current().is_err());
            while !over.load(Ordering::SeqCst) {
                while let Some(work) = runtime.next_work() {
                    run(&runtime, &shared, work);
                }
                bell.wait();
            }
        });
        (host, served)
    }

    /// Has the thread end that serves it.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.bell.wake();
    }

    pub(crate) async fn with(config: MeshConfig, arrivals: ArrivalPolicy) -> Self {
        let host = Self::create(config, arrivals).await;
        host.serve();
        host
    }

    async fn create(config: MeshConfig, arrivals: ArrivalPolicy) -> Self {
        let mesh = MeshNode::create(config).await.expect("the node binds");
        mesh.start();
        let bell = Arc::new(Bell::default());
        let orchestrators = OrchestratorPolicy::Ask;
        let options = RuntimeOptions { arrivals, orchestrators, ..RuntimeOptions::default() };
        let runtime = DaemonRuntime::create(&mesh, options, bell.clone()).expect("the first runtime");
        runtime
            .with(|engine, now| engine.register_factory("counter").and_then(|()| engine.start(now)))
            .expect("starts");
        Self { mesh, runtime, shared: Arc::default(), bell, over: Arc::default() }
    }

    fn serve(&self) {
        let (runtime, shared, bell) = (self.runtime.clone(), self.shared.clone(), self.bell.clone());
        tokio::spawn(async move {
            loop {
                while let Some(work) = runtime.next_work() {
                    run(&runtime, &shared, work);
                }
                bell.task.notified().await;
            }
        });
    }

    pub(crate) async fn ask(
        &self,
        act: impl FnOnce(&DaemonRuntime, Ticket) -> Result<(), RuntimeError>,
    ) -> Result<Settlement, RuntimeError> {
        let (done, result) = oneshot::channel();
        let ticket = {
            let mut shared = self.shared.lock();
            shared.last += 1;
            let ticket = Ticket(shared.last);
            shared.tickets.insert(ticket, done);
            ticket
        };
        act(&self.runtime, ticket)?;
        self.bell.wake();
        result.await.expect("every ticket is settled")
    }

    pub(crate) async fn spawn(&self, keypair: EntityKeypair) -> Result<Settlement, RuntimeError> {
        self.ask(|runtime, ticket| {
            let request = SpawnRequest {
                kind: Some("counter".into()),
                keypair,
                config: HostConfig::default(),
                snapshot: None,
                instance: false,
            };
            runtime.with(|engine, now| engine.spawn(ticket, request, now))
        })
        .await
    }

    pub(crate) async fn call(&self, origin: OriginHash, payload: &'static [u8]) -> Result<u64, RuntimeError> {
        let timeout = std::time::Duration::from_secs(60);
        let settled = self
            .ask(|runtime, ticket| {
                runtime.with(|engine, now| engine.call(ticket, origin, Bytes::from_static(payload), timeout, now))
            })
            .await?;
        match settled {
            Settlement::Outputs(outputs) => {
                Ok(u64::from_le_bytes(outputs[0].payload[..].try_into().expect("a count of 8 bytes")))
            }
            other => panic!("outputs are due, got {other:?}"),
        }
    }

    pub(crate) async fn migrate(&self, origin: OriginHash, target: NodeId) -> Result<(), MigrationFailure> {
        let started = self
            .ask(|runtime, ticket| {
                runtime.with(|engine, now| {
                    engine.start_migration(ticket, origin, None, target, MigrationOptions::default(), now)
                })
            })
            .await;
        let migration = match started {
            Ok(Settlement::Migrating(started)) => started.migration,
            Err(RuntimeError::Migration(failure)) => return Err(failure),
            other => panic!("a migration is due, got {other:?}"),
        };
        let (done, result) = oneshot::channel();
        self.shared.lock().migrations.insert(migration, done);
        self.bell.wake();
        result.await.expect("every migration ends")
    }
}

fn run(runtime: &DaemonRuntime, shared: &Mutex<Shared>, work: Work) {
    match work {
        Work::Construct { daemon, .. } => {
            shared.lock().counters.insert(daemon, Vec::new());
            runtime.with(|engine, now| engine.constructed(daemon, Ok(()), now));
        }
        Work::Restore { daemon, state } => {
            shared.lock().counters.insert(daemon, state.to_vec());
            runtime.with(|engine, now| engine.restored(daemon, Ok(()), now));
        }
        Work::Run { daemon, batch } => {
            let events = runtime.look(|engine| engine.batch(daemon, batch).cloned()).expect("handed out");
            let outcomes: Vec<_> = events
                .iter()
                .map(|event| {
                    let mut shared = shared.lock();
                    let state = shared.counters.get_mut(&daemon).expect("made before it runs");
                    state.extend_from_slice(&event.payload);
                    let count = state.len() as u64;
                    EventOutcome::Outputs(vec![Bytes::copy_from_slice(&count.to_le_bytes())].into())
                })
                .collect::<Vec<_>>();
            runtime.with(|engine, now| {
                engine.ran(daemon, batch, outcomes, Rest::Continues, now, &mut |ticket, result| {
                    settle(shared, ticket, result.map(Settlement::Outputs));
                });
            });
        }
        // Counters send nothing.
        Work::Hush { daemon } => runtime.with(|engine, now| engine.hushed(daemon, now)),
        Work::Snapshot { daemon } => {
            let len = shared.lock().counters[&daemon].len() as u64;
            runtime.with(|engine, now| engine.snapshot_taken(daemon, Ok(Some(len)), now));
        }
        Work::ReadState { daemon, offset, len } => {
            let (from, len) = (usize::try_from(offset).expect("small"), len as usize);
            let slice = Bytes::copy_from_slice(&shared.lock().counters[&daemon][from..from + len]);
            runtime.with(|engine, now| engine.state_slice(daemon, offset, Ok(slice), now));
        }
        Work::CheckState { daemon, offset, len } => {
            let from = usize::try_from(offset).expect("small");
            let hash = SliceHash::of(&shared.lock().counters[&daemon][from..from + len as usize]);
            runtime.with(|engine, now| engine.state_checked(daemon, offset, Ok(hash), now));
        }
        Work::Retire { daemon, .. } => {
            shared.lock().counters.remove(&daemon);
        }
        Work::Settle { ticket, result } => settle(shared, ticket, result),
        Work::Notice(Notice::MigrationOver { migration, result }) => {
            if let Some(done) = shared.lock().migrations.remove(&migration) {
                let _ = done.send(result);
            }
        }
        Work::Admit { question, .. } | Work::AdmitOrchestrator { question, .. } => {
            runtime.with(|engine, now| engine.admitted(question, true, now));
        }
        Work::ReleaseState { .. } | Work::Yield { .. } | Work::Abort { .. } | Work::Notice(_) => {}
    }
}

fn settle(shared: &Mutex<Shared>, ticket: Ticket, result: Result<Settlement, RuntimeError>) {
    if let Some(done) = shared.lock().tickets.remove(&ticket) {
        let _ = done.send(result);
    }
}
