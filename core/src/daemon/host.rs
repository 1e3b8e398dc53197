//! One daemon on its host: its place on the chain, its queue, and the fence that lets one thing run at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::config::HostConfig;
use super::delivery::{Delivery, Ticket};
use super::mailbox::Mailbox;
use crate::causal::{CausalLink, ChainBuilder, ChainError, Horizon};
use crate::identity::{EntityId, EntityKeypair, Epoch, Lineage, MigrationId, OriginHash};
use crate::wire::events::Failure;

/// Names a daemon within one runtime: slot and generation, so that a number of a gone daemon finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DaemonKey {
    /// Index of its slot; reused.
    pub slot: u32,
    /// Counts the uses of the slot.
    pub generation: u32,
}

/// Numbers the batches of one daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u32);

/// Counters that travel with the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events whose handler settled without a failure.
    pub events_processed: u64,
    /// Outputs.
    pub events_emitted: u64,
    /// Events that failed.
    pub errors: u64,
    /// Snapshots taken.
    pub snapshots_taken: u64,
}

/// What came of one event.
#[derive(Clone, Debug)]
pub enum EventOutcome {
    /// Its outputs, in order.
    Outputs(Vec<Bytes>),
    /// It failed.
    Failed(Failure),
}

/// A batch in the hands of the embedder.
#[derive(Debug)]
pub struct InFlight {
    /// Which batch.
    pub id: BatchId,
    /// Its events that have not settled; the first one is running.
    pub events: VecDeque<Delivery>,
    /// When an event of it settled last, or when it was handed out.
    pub progress_at: Instant,
    /// The running event was answered with a timeout; its outcome is dropped when it comes.
    pub timed_out: bool,
}

/// What the daemon is doing.
#[derive(Debug)]
pub enum Running {
    /// Nothing.
    Idle,
    /// Waiting in the queue of runnable daemons.
    Queued,
    /// Events.
    Batch(InFlight),
    /// One event on the caller's own stack.
    Direct,
    /// A control operation.
    Control(Control),
}

/// What takes its turn between batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// A snapshot for a caller.
    Snapshot(Ticket),
    /// The snapshot that the configuration asks for.
    AutoSnapshot,
    /// A migration freezes the daemon.
    Freeze(MigrationId),
}

/// How the daemon stands towards its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is being built or restored by a spawn.
    Starting,
    /// It runs.
    Live,
    /// It finishes what is in flight; the mailbox accepts.
    Freezing(MigrationId),
    /// It stands still for a migration; the mailbox accepts.
    Frozen(MigrationId),
    /// The mailbox is closed for the hand-over: what arrives is held, not accepted.
    Closed(MigrationId),
    /// It was handed over; this copy waits for the target's word and never runs again unless it is proven discarded.
    Released(MigrationId),
    /// It arrived and is not live yet.
    Arriving(MigrationId),
}

/// A daemon.
#[derive(Debug)]
pub struct DaemonHost {
    /// Its name in this runtime.
    pub key: DaemonKey,
    /// Its key pair; public-only when the secret did not travel.
    pub keypair: EntityKeypair,
    /// Its address.
    pub origin: OriginHash,
    /// The factory's name; a daemon without one cannot move.
    pub kind: Option<Arc<str>>,
    /// Its settings.
    pub config: HostConfig,
    /// Its life.
    pub lineage: Lineage,
    /// How often its hosting changed hands.
    pub epoch: Epoch,
    /// Copies of lower epochs are refused.
    pub min_epoch: Epoch,
    /// Its outgoing chain.
    pub chain: ChainBuilder,
    /// What it has observed.
    pub horizon: Horizon,
    /// Its counters.
    pub stats: Stats,
    /// Events that wait.
    pub mailbox: Mailbox,
    /// Control operations that wait.
    pub control: VecDeque<Control>,
    /// What it does now.
    pub running: Running,
    /// How it stands towards its events.
    pub standing: Standing,
    /// The newest automatic snapshot.
    pub last_snapshot: Option<Bytes>,
    /// Opaque subscription ledger.
    pub ledger: Bytes,
    /// Since when its first event waits while nothing runs, or nothing settles.
    pub stalled_since: Option<Instant>,
    /// Events since the last automatic snapshot.
    pub since_snapshot: u64,
    next_batch: u32,
}

/// Most events in a batch.
const BATCH_EVENTS: usize = 256;
/// Most payload bytes in a batch; a larger event goes alone.
const BATCH_BYTES: usize = 64 * 1024;

impl DaemonHost {
    /// A daemon at the beginning of its chain.
    pub fn new(
        key: DaemonKey,
        keypair: EntityKeypair,
        kind: Option<Arc<str>>,
        config: HostConfig,
        lineage: Lineage,
        epoch: Epoch,
        standing: Standing,
    ) -> Self {
        let origin = keypair.entity_id().origin_hash();
        Self {
            key,
            origin,
            chain: ChainBuilder::new(origin),
            horizon: Horizon::new(),
            stats: Stats::default(),
            mailbox: Mailbox::new(config.mailbox_capacity, config.mailbox_bytes),
            control: VecDeque::new(),
            running: Running::Idle,
            standing,
            last_snapshot: None,
            ledger: Bytes::new(),
            stalled_since: None,
            since_snapshot: 0,
            next_batch: 0,
            keypair,
            kind,
            config,
            lineage,
            epoch,
            min_epoch: Epoch::FIRST,
        }
    }

    /// Its public key.
    pub fn entity(&self) -> EntityId {
        self.keypair.entity_id()
    }

    /// Whether the mailbox takes events in.
    pub fn accepts(&self) -> bool {
        match self.standing {
            Standing::Live | Standing::Freezing(_) | Standing::Frozen(_) => true,
            Standing::Starting | Standing::Closed(_) | Standing::Released(_) | Standing::Arriving(_) => false,
        }
    }

    /// Whether a batch may be handed out now.
    pub fn may_run(&self) -> bool {
        self.standing == Standing::Live
            && matches!(self.running, Running::Idle | Running::Queued)
            && self.control.is_empty()
            && !self.mailbox.is_empty()
    }

    /// Whether an event may run on its caller's own stack.
    pub fn may_run_directly(&self) -> bool {
        self.standing == Standing::Live
            && matches!(self.running, Running::Idle)
            && self.control.is_empty()
            && self.mailbox.is_empty()
    }

    /// Hands out the next batch and observes its links.
    pub fn take_batch(&mut self, now: Instant) -> (BatchId, &VecDeque<Delivery>) {
        let mut events = VecDeque::new();
        let mut room = BATCH_BYTES;
        while events.len() < BATCH_EVENTS {
            let next = if events.is_empty() { self.mailbox.pop() } else { self.mailbox.pop_within(room) };
            let Some(delivery) = next else { break };
            room = room.saturating_sub(delivery.weight());
            events.push_back(delivery);
        }
        let id = self.next_batch_id();
        self.running = Running::Batch(InFlight { id, events, progress_at: now, timed_out: false });
        match &self.running {
            Running::Batch(batch) => (id, &batch.events),
            _ => unreachable!("set above"),
        }
    }

    /// The number of a new batch.
    pub fn next_batch_id(&mut self) -> BatchId {
        self.next_batch = self.next_batch.wrapping_add(1);
        BatchId(self.next_batch)
    }

    /// Puts the outputs of one event on the chain.
    pub fn emit(&mut self, outputs: &[impl AsRef<[u8]>], links: &mut Vec<CausalLink>) -> Result<(), ChainError> {
        links.clear();
        if !outputs.is_empty() {
            let summary = self.horizon.summary();
            for output in outputs {
                links.push(self.chain.append(output.as_ref(), summary)?);
            }
        }
        self.stats.events_processed += 1;
        self.stats.events_emitted += outputs.len() as u64;
        Ok(())
    }
}
