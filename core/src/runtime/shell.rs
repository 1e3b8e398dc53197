//! The engine with a mesh below it, an embedder above it, and a clock.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, NodeSelf, Now};
use super::error::RuntimeError;
use super::policy::RuntimeOptions;
use super::receiving::ChunkPlacement;
use super::work::Work;
use crate::channel::{Channels, DaemonChannels, DaemonChannelsObserver};
use crate::identity::{NodeId, NodeStaticSecret};
use crate::membership::Standing;
use crate::mesh::{InstallError, MeshNode, PeerEvent, Record, RecordSink, SubprotocolHandler};
use crate::wire::codec;
use crate::wire::directory::DirectoryMessage;
use crate::wire::events::{Answers, EventsMessage, Missing};
use crate::wire::migration::{CopyState, FailureReason, MigrationMessage};
use crate::wire::{Lane, Subprotocol};

/// What the runtime answers for.
const SUBPROTOCOLS: [Subprotocol; 3] = [Subprotocol::Events, Subprotocol::Migration, Subprotocol::Directory];
/// Credit for so many bytes in place is given back at once; for less, when no more waits to be put in place.
const CREDIT_BACK: usize = 128 * 1024;
/// How long a shutdown waits for its last messages to leave.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// What runs user code. It pulls work with [`DaemonRuntime::next_work`] until there is none, after each of its own calls and
/// whenever it is woken.
pub trait Embedder: Send + Sync + 'static {
    /// Work has come from outside; called on any thread, must not block, and must not call the runtime.
    fn wake(&self);
}

/// A daemon runtime on a mesh node. Cheap to clone. No method blocks on the network or on user code.
#[derive(Clone)]
pub struct DaemonRuntime {
    shared: Arc<Shared>,
}

struct Shared {
    this: Weak<Self>,
    engine: Mutex<Engine>,
    mesh: MeshNode,
    embedder: Arc<dyn Embedder>,
    channels: OnceLock<Channels>,
    placing: Mutex<Placing>,
    timer_changed: Notify,
    said_last: Notify,
    closed: CancellationToken,
}

/// Chunks of arriving states on their way into place, one frame after another, by one thread at a time. Bounded by the
/// credit of the bulk lane, which goes back when a frame is in place.
#[derive(Default)]
struct Placing {
    frames: VecDeque<(NodeId, usize, Vec<ChunkPlacement>)>,
    running: bool,
}

/// Bytes of a peer's bulk that are in place, and whose credit has not been given back.
#[derive(Default)]
struct Consumed {
    of: Option<NodeId>,
    bytes: usize,
}

impl DaemonRuntime {
    /// A runtime on this mesh, which may have one at a time. From now on the node answers for it, but is not ready.
    pub fn create(mesh: &MeshNode, options: RuntimeOptions, embedder: Arc<dyn Embedder>) -> Result<Self, RuntimeError> {
        let keypair = mesh.keypair().clone();
        let static_secret =
            NodeStaticSecret::derive(&keypair).map_err(|e| RuntimeError::InvalidArgument(e.to_string()))?;
        let node = NodeSelf { keypair, incarnation: mesh.incarnation(), runtime: mesh.next_runtime(), static_secret };
        let shared = Arc::new_cyclic(|this| Shared {
            this: this.clone(),
            engine: Mutex::new(Engine::new(node, options, Box::new(random_bits))),
            mesh: mesh.clone(),
            embedder,
            channels: OnceLock::new(),
            placing: Mutex::default(),
            timer_changed: Notify::new(),
            said_last: Notify::new(),
            closed: CancellationToken::new(),
        });
        mesh.install(shared.clone(), &SUBPROTOCOLS).map_err(|error| match error {
            InstallError::ShutDown => RuntimeError::ShuttingDown,
            InstallError::Taken(_) | InstallError::Reserved(_) => RuntimeError::RuntimeExists,
        })?;
        mesh.tasks().spawn(shared.clone().keep_time());
        Ok(Self { shared })
    }

    /// Lets daemons of this runtime receive channels and publish on those of its node. Once.
    pub fn attach_channels(&self, channels: &Channels) {
        if self.shared.channels.set(channels.clone()).is_ok() {
            self.with(|engine, _| engine.attach_channels(Arc::new(channels.clone())));
            let this: Weak<Shared> = self.shared.this.clone();
            channels.attach(this);
        }
    }

    /// The mesh below.
    pub fn mesh(&self) -> &MeshNode {
        &self.shared.mesh
    }

    /// Does something with the engine at the present instant. The embedder pulls the work that this leaves.
    pub fn with<T>(&self, act: impl FnOnce(&mut Engine, Now) -> T) -> T {
        self.shared.act(act).0
    }

    /// Looks at the engine, or begins or notes direct events: what needs no clock and leaves neither messages nor deadlines.
    pub fn look<T>(&self, act: impl FnOnce(&mut Engine) -> T) -> T {
        act(&mut self.shared.engine.lock())
    }

    /// The next piece of work.
    pub fn next_work(&self) -> Option<Work> {
        self.shared.act(Engine::next_work).0
    }

    /// Ends the runtime: whoever waits is told, peers get the last messages, and the node stops answering for it.
    /// Idempotent. The embedder still has to pull the work that is left.
    pub async fn shutdown(&self) {
        self.with(Engine::shutdown);
        let said = async {
            loop {
                let notified = self.shared.said_last.notified();
                if !self.with(|engine, _| engine.has_unsent_messages()) {
                    break;
                }
                notified.await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, said).await;
        self.shared.close();
    }

    /// The same at once, for the end of the process or of an environment: last messages leave if they can.
    pub fn shutdown_now(&self) {
        self.with(Engine::shutdown);
        self.shared.close();
    }
}

impl Shared {
    fn act<T>(&self, act: impl FnOnce(&mut Engine, Now) -> T) -> (T, bool) {
        let now = present();
        let (result, wakes, wanted, has_work, sooner, flush) = {
            let mut engine = self.engine.lock();
            let before = engine.next_deadline();
            let result = act(&mut engine, now);
            let flush = engine.serve_channels(now);
            let after = engine.next_deadline();
            let sooner = match (before, after) {
                (None, Some(_)) => true,
                (Some(before), Some(after)) => after < before,
                (_, None) => false,
            };
            (result, engine.take_wakes(), engine.take_wanted(), engine.has_work(), sooner, flush)
        };
        for node in wakes {
            self.mesh.wake(node);
        }
        for node in wanted {
            self.reach(node);
        }
        if flush && let Some(channels) = self.channels.get() {
            channels.flush();
        }
        if sooner {
            self.timer_changed.notify_one();
        }
        (result, has_work)
    }

    /// The same for what does not come from the embedder: it is woken when there is work.
    fn act_from_outside<T>(&self, act: impl FnOnce(&mut Engine, Now) -> T) -> T {
        let (result, has_work) = self.act(act);
        if has_work {
            self.embedder.wake();
        }
        result
    }

    /// Gets a session with a node that the engine wants, and tells it when there is none to be had.
    fn reach(&self, node: NodeId) {
        let (this, mesh) = (self.this.clone(), self.mesh.clone());
        self.mesh.tasks().spawn(async move {
            if let Err(error) = mesh.reach(node).await {
                tracing::debug!(peer = %node, %error, "no session");
            }
            if let Some(shared) = this.upgrade() {
                shared.act_from_outside(|engine, now| engine.unreachable(node, now));
            }
        });
    }

    async fn keep_time(self: Arc<Self>) {
        loop {
            let changed = self.timer_changed.notified();
            let deadline = self.engine.lock().next_deadline();
            let due = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.closed.cancelled() => return,
                () = changed => {}
                () = due => self.act_from_outside(Engine::tick),
            }
        }
    }

    /// Has the chunks of a frame put in their places by a thread that nothing else waits for.
    fn place_later(&self, from: NodeId, bulk: usize, placements: Vec<ChunkPlacement>) {
        let mut placing = self.placing.lock();
        placing.frames.push_back((from, bulk, placements));
        if !placing.running
            && let Some(shared) = self.this.upgrade()
        {
            placing.running = true;
            self.mesh.tasks().spawn_blocking(move || shared.place());
        }
    }

    fn place(&self) {
        let mut consumed = Consumed::default();
        while let Some((from, bulk, placements)) = self.next_frame(&mut consumed) {
            if consumed.of != Some(from) || consumed.bytes >= CREDIT_BACK {
                self.give_back(&mut consumed);
            }
            consumed = Consumed { of: Some(from), bytes: consumed.bytes + bulk };
            for placement in placements {
                if let Some(id) = contained(|| placement.place()).flatten() {
                    self.act_from_outside(|engine, now| engine.placed(&id, now));
                }
            }
        }
    }

    /// The next frame. Before there is none, all credit has been given back.
    fn next_frame(&self, consumed: &mut Consumed) -> Option<(NodeId, usize, Vec<ChunkPlacement>)> {
        let frame = self.placing.lock().frames.pop_front();
        frame.or_else(|| {
            self.give_back(consumed);
            let mut placing = self.placing.lock();
            let frame = placing.frames.pop_front();
            placing.running = frame.is_some();
            frame
        })
    }

    fn give_back(&self, consumed: &mut Consumed) {
        if let Consumed { of: Some(from), bytes } = std::mem::take(consumed) {
            self.mesh.consumed(from, bytes);
        }
    }

    fn close(&self) {
        if !self.closed.is_cancelled() {
            self.closed.cancel();
            if let Some(channels) = self.channels.get() {
                channels.detach();
            }
            self.mesh.uninstall(&SUBPROTOCOLS);
        }
    }
}

impl DaemonChannelsObserver for Shared {
    fn channel_news(&self) {
        self.act_from_outside(Engine::channel_news);
    }
}

impl SubprotocolHandler for Shared {
    fn records(&self, from: NodeId, lane: Lane, records: &mut Vec<Record>) {
        let bulk: usize = match lane {
            Lane::Bulk => records.iter().map(|record| record.body.len()).sum(),
            Lane::Fast => 0,
        };
        let placements = self.act_from_outside(|engine, now| {
            engine.records(from, lane, records, now);
            engine.take_placements()
        });
        if !placements.is_empty() {
            self.place_later(from, bulk, placements);
        } else if bulk > 0 {
            // Room was reserved for all that the bulk lane carries, so its credit returns as soon as it is taken in.
            self.mesh.consumed(from, bulk);
        }
    }

    fn peer(&self, event: &PeerEvent) {
        self.act_from_outside(|engine, now| engine.peer(event, now));
    }

    fn members(&self, members: &[NodeId], standing: Standing) {
        self.act_from_outside(|engine, now| engine.members(members, standing, now));
    }

    fn fill(&self, to: NodeId, lane: Lane, sink: &mut dyn RecordSink) -> bool {
        let ((more, last, waited), has_work) = self.act(|engine, now| {
            let waited = engine.has_work();
            let more = engine.fill(to, lane, sink, now);
            (more, !engine.is_ready() && !engine.has_unsent_messages(), waited)
        });
        // What is found here to be larger than the peer takes is settled at once, and states are read as there is room for them.
        // For what was there before the embedder was woken then: it is not woken for every frame.
        if has_work && !waited {
            self.embedder.wake();
        }
        if last {
            self.said_last.notify_waiters();
        }
        more
    }
}

/// Has a node without a runtime answer at once what would otherwise be waited for.
pub fn answer_without_runtime(mesh: &MeshNode) {
    for subprotocol in SUBPROTOCOLS {
        mesh.set_responder(subprotocol, Some(said_without_runtime));
    }
}

/// What a node without a runtime answers to a message for one, if anything.
pub fn said_without_runtime(record: &Record) -> Option<Vec<u8>> {
    match record.subprotocol {
        Subprotocol::Migration => refuse_migration(record),
        Subprotocol::Directory => know_nothing(record),
        Subprotocol::Events => host_nothing(record),
        _ => None,
    }
}

fn refuse_migration(record: &Record) -> Option<Vec<u8>> {
    match codec::decode(&record.body).ok()? {
        MigrationMessage::Prepare { id, .. } => {
            let reason = FailureReason::ComputeNotSupported;
            Some(codec::encode(&MigrationMessage::MigrationFailed { id, reason }))
        }
        MigrationMessage::Inquire { origin, migration, attempt, .. } => {
            let reason = FailureReason::DaemonNotFound;
            Some(codec::encode(&MigrationMessage::Declined { origin, migration, attempt, reason, moved: None }))
        }
        MigrationMessage::CanHost { query, .. } => {
            Some(codec::encode(&MigrationMessage::Hosts { query, kinds: Vec::new(), open: false, daemons: 0 }))
        }
        // Of a runtime that has ended: no copy is kept here, and no drive goes on.
        MigrationMessage::ActivateAck { id } => Some(codec::encode(&MigrationMessage::CleanupComplete { id })),
        MigrationMessage::ActivateTarget { id, .. } | MigrationMessage::StatusQuery { id } => {
            Some(codec::encode(&MigrationMessage::StatusAnswer { id, copy: CopyState::Gone }))
        }
        MigrationMessage::TakeSnapshot { id, .. }
        | MigrationMessage::CutoverNotify { id }
        | MigrationMessage::Cancel { id, .. } => {
            let reason = FailureReason::DaemonNotFound;
            Some(codec::encode(&MigrationMessage::MigrationFailed { id, reason }))
        }
        MigrationMessage::Prepared { .. }
        | MigrationMessage::Reserve { .. }
        | MigrationMessage::Reserved { .. }
        | MigrationMessage::Chunk { .. }
        | MigrationMessage::SnapshotReady { .. }
        | MigrationMessage::RestoreComplete { .. }
        | MigrationMessage::BufferedEvents { .. }
        | MigrationMessage::ReplayComplete { .. }
        | MigrationMessage::CleanupComplete { .. }
        | MigrationMessage::MigrationFailed { .. }
        | MigrationMessage::Status { .. }
        | MigrationMessage::StatusAnswer { .. }
        | MigrationMessage::TooLate { .. }
        | MigrationMessage::InDoubt { .. }
        | MigrationMessage::NowReady { .. }
        | MigrationMessage::Described { .. }
        | MigrationMessage::Declined { .. }
        | MigrationMessage::Hosts { .. } => None,
    }
}

fn know_nothing(record: &Record) -> Option<Vec<u8>> {
    match codec::decode(&record.body).ok()? {
        DirectoryMessage::Lookup { query, .. } => Some(codec::encode(&DirectoryMessage::Answer {
            query,
            claim: None,
            hosts: None,
            settled: None,
            former: None,
            doubt: None,
        })),
        DirectoryMessage::Answer { .. }
        | DirectoryMessage::Claim { .. }
        | DirectoryMessage::Place { .. }
        | DirectoryMessage::Rivals { .. }
        | DirectoryMessage::Tally { .. }
        | DirectoryMessage::Hosting { .. } => None,
    }
}

fn host_nothing(record: &Record) -> Option<Vec<u8>> {
    match codec::decode(&record.body).ok()? {
        // Whoever says no more than that it waits still has to hear that it does so in vain; what a runtime of before accepted,
        // nobody knows.
        EventsMessage::Batch { stream, .. } | EventsMessage::Await { stream, .. } => {
            let (missing, answers) = (Missing::Daemon, Answers::Nothing);
            Some(codec::encode(&EventsMessage::Unknown { stream, missing, hops: 0, accepted: None, answers }))
        }
        EventsMessage::Accepted { .. }
        | EventsMessage::Replies { .. }
        | EventsMessage::Withdraw { .. }
        | EventsMessage::Moved { .. }
        | EventsMessage::Unknown { .. }
        | EventsMessage::Close { .. }
        | EventsMessage::Again { .. }
        | EventsMessage::Full { .. }
        | EventsMessage::Astray { .. } => None,
    }
}

/// Runs what may not take the others down with it. The state of a chunk that panics never becomes whole, so its move fails
/// when its time is over; the credit goes back and the frames behind it are put in their places.
fn contained<T>(act: impl FnOnce() -> T) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(act)).ok();
    if result.is_none() {
        tracing::error!("a chunk could not be put in its place");
    }
    result
}

fn present() -> Now {
    let unix_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    Now { instant: Instant::now(), unix_ns }
}

fn random_bits() -> u128 {
    let mut bytes = [0; 16];
    // Without random numbers no identity could have been made either.
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    u128::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{EntityKeypair, Epoch, MigrationId};
    use crate::mesh::MeshConfig;
    use crate::session::Psk;
    use crate::wire::migration::MoveId;

    struct Nobody;

    impl Embedder for Nobody {
        fn wake(&self) {}
    }

    #[tokio::test]
    async fn a_chunk_that_panics_on_its_way_into_place_costs_its_own_state_only() {
        let key = EntityKeypair::from_seed(&[1; 32]);
        let mesh =
            MeshNode::create(MeshConfig::new("127.0.0.1:0", Psk::new([7; 32]), key.clone())).await.expect("binds");
        let runtime = DaemonRuntime::create(&mesh, RuntimeOptions::default(), Arc::new(Nobody)).expect("the first");
        let id = MoveId { entity: key.entity_id(), migration: MigrationId::new(1), attempt: 1, epoch: Epoch::FIRST };
        let frame = |bytes: usize| {
            let chunk = ChunkPlacement::only_one(id, 10, vec![0; bytes].into(), Instant::now());
            (mesh.node_id(), bytes, vec![chunk])
        };
        let shared = &runtime.shared;
        {
            let mut placing = shared.placing.lock();
            placing.frames.extend([frame(11), frame(10), frame(12), frame(10)]);
            placing.running = true;
        }
        shared.place();
        let left = {
            let placing = shared.placing.lock();
            (placing.frames.len(), placing.running)
        };
        assert_eq!(left, (0, false), "those behind it were taken, and the next frame gets a thread");
        runtime.shutdown().await;
        mesh.shutdown().await;
    }
}
