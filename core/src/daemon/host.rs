//! One daemon on its host: its place on the chain, its queue, and the fence that lets one thing run at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::config::HostConfig;
use super::delivery::{Delivery, Ticket};
use super::mailbox::{Mailbox, MailboxFull};
use crate::causal::{CausalLink, ChainBuilder, ChainError, Horizon};
use crate::identity::{EntityId, EntityKeypair, Epoch, Lineage, MigrationId, OriginHash};
use crate::wire::events::{Failure, Outputs};

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
    Outputs(Outputs<Bytes>),
    /// It failed.
    Failed(Failure),
}

/// A batch in the hands of the embedder.
#[derive(Debug)]
pub struct InFlight {
    /// Which batch.
    pub id: BatchId,
    /// Its events that have not settled. The first one is running, unless the embedder pauses before it.
    pub events: VecDeque<Delivery>,
    /// When an event of it settled last, or when it was handed out.
    pub progress_at: Instant,
    /// The running event was answered with a timeout: nobody waits for the daemon any more, only its own promise does.
    pub timed_out: bool,
}

impl InFlight {
    /// Gives up what `gone` says is to go. Whether the first event has begun only the embedder knows, which may pause between two
    /// of them: it keeps what runs when it gives back the rest. True when it is to be asked for that, and is not yet.
    pub fn withdraw(&mut self, mut gone: impl FnMut(&Delivery) -> bool) -> bool {
        let asked = self.events.iter().any(|delivery| delivery.withdrawn);
        let mut any = false;
        for delivery in self.events.iter_mut().filter(|delivery| gone(delivery)) {
            delivery.withdrawn = true;
            any = true;
        }
        any && !asked
    }
}

/// What the daemon is doing.
#[derive(Debug)]
pub enum Running {
    /// Nothing.
    Idle,
    /// Waiting in the queue of runnable daemons.
    Queued,
    /// Events.
    Batch(Box<InFlight>),
    /// Events on their callers' own stacks, until the embedder gives the daemon back.
    Direct,
    /// A control operation.
    Control {
        /// Which one.
        control: Control,
        /// It took too long: whoever waited for it was told, only the daemon's own promise is waited for.
        timed_out: bool,
    },
}

/// What takes its turn between batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// A snapshot for a caller.
    Snapshot(Ticket),
    /// The snapshot that the configuration asks for.
    AutoSnapshot,
    /// The snapshot that a migration sends.
    MoveSnapshot(MigrationId),
    /// The end of the daemon.
    Stop(Ticket),
}

/// How the daemon stands towards its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
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
    /// Control operations that wait, each behind the events accepted before it.
    pub control: VecDeque<(u64, Control)>,
    /// Events accepted so far.
    pub accepted: u64,
    /// Events handed out so far, without those that were given back.
    pub taken: u64,
    /// What it does now.
    pub running: Running,
    /// How it stands towards its events.
    pub presence: Presence,
    /// The newest automatic snapshot.
    pub last_snapshot: Option<Bytes>,
    /// What it came with of channels, encoded, until it is live.
    pub ledger: Bytes,
    /// When it began to wait for its turn, or last gave a sign of progress.
    pub progress_at: Instant,
    /// Events since the last automatic snapshot.
    pub since_snapshot: u64,
    next_batch: u32,
}

/// Most events in a batch.
pub const BATCH_EVENTS: usize = 256;
/// Most payload bytes in a batch; a larger event goes alone.
pub const BATCH_BYTES: usize = 64 * 1024;

impl DaemonHost {
    /// A daemon at the beginning of its chain.
    #[allow(clippy::too_many_arguments)] // each has a type of its own
    pub fn new(
        key: DaemonKey,
        keypair: EntityKeypair,
        kind: Option<Arc<str>>,
        config: HostConfig,
        lineage: Lineage,
        epoch: Epoch,
        presence: Presence,
        now: Instant,
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
            accepted: 0,
            taken: 0,
            running: Running::Idle,
            presence,
            last_snapshot: None,
            ledger: Bytes::new(),
            progress_at: now,
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
        match self.presence {
            Presence::Live | Presence::Freezing(_) | Presence::Frozen(_) => true,
            Presence::Starting | Presence::Closed(_) | Presence::Released(_) | Presence::Arriving(_) => false,
        }
    }

    /// Whether a batch may be handed out now.
    pub fn may_run(&self) -> bool {
        self.presence == Presence::Live
            && matches!(self.running, Running::Idle | Running::Queued)
            && !self.mailbox.is_empty()
            && self.before_control() > 0
    }

    /// How many events go before the next control operation.
    fn before_control(&self) -> u64 {
        self.control.front().map_or(u64::MAX, |(behind, _)| behind.saturating_sub(self.taken))
    }

    /// How many events go before the next automatic snapshot, if there is one to come.
    pub fn before_snapshot(&self) -> Option<u64> {
        let interval = self.config.auto_snapshot_interval.filter(|interval| *interval > 0)?;
        Some(interval.saturating_sub(self.since_snapshot).max(1))
    }

    /// Counts an event that ran towards the next automatic snapshot, which takes its turn before whatever follows.
    pub fn count_towards_snapshot(&mut self) {
        if self.before_snapshot() == Some(1) {
            self.since_snapshot = 0;
            self.control.push_front((self.taken, Control::AutoSnapshot));
        } else {
            self.since_snapshot += 1;
        }
    }

    /// Enters a control operation behind what waits now.
    pub fn enter_control(&mut self, control: Control) {
        self.control.push_back((self.accepted, control));
    }

    /// The control operation whose turn it is.
    pub fn due_control(&mut self) -> Option<Control> {
        if self.before_control() == 0 { self.control.pop_front().map(|(_, control)| control) } else { None }
    }

    /// Takes an event in.
    pub fn accept(&mut self, delivery: Delivery) -> Result<(), MailboxFull> {
        self.mailbox.push(delivery)?;
        self.accepted += 1;
        Ok(())
    }

    /// Takes an event in that was accepted by the daemon's former host.
    pub fn take_over(&mut self, delivery: Delivery) {
        self.mailbox.take_over(delivery);
        self.accepted += 1;
    }

    /// Whether an event may run on its caller's own stack.
    pub fn may_run_directly(&self) -> bool {
        self.presence == Presence::Live
            && matches!(self.running, Running::Idle)
            && self.control.is_empty()
            && self.mailbox.is_empty()
            // Its outputs go elsewhere too, and it waits when there are too many.
            && self.config.output_channel.is_none()
    }

    /// Counts an event that runs without having been in the mailbox. It goes before all that waits: control operations
    /// keep their place behind waiting events.
    pub fn count_direct(&mut self) {
        self.accepted += 1;
        self.taken += 1;
        for (behind, _) in &mut self.control {
            *behind += 1;
        }
    }

    /// Lets a control operation have its turn.
    pub fn begin_control(&mut self, control: Control, now: Instant) {
        self.progress_at = now;
        self.running = Running::Control { control, timed_out: false };
    }

    /// Whether what runs took longer than it may: nobody waits for it any more.
    pub fn is_late(&self) -> bool {
        match &self.running {
            Running::Batch(batch) => batch.timed_out,
            Running::Control { timed_out, .. } => *timed_out,
            Running::Idle | Running::Queued | Running::Direct => false,
        }
    }

    /// Whether waiting events are this copy's alone: none is handed over. Only then may they be withdrawn, and streams end
    /// under whose names they wait.
    pub fn owns_waiting(&self) -> bool {
        match self.presence {
            Presence::Starting | Presence::Live | Presence::Freezing(_) => true,
            Presence::Frozen(_) | Presence::Closed(_) | Presence::Released(_) | Presence::Arriving(_) => false,
        }
    }

    /// Whether somebody waits for the daemon to stop.
    pub fn is_to_stop(&self) -> bool {
        self.control.iter().any(|(_, control)| matches!(control, Control::Stop(_)))
    }

    /// Takes waiting events out again. Control operations keep their place among the rest.
    pub fn withdraw(&mut self, mut gone: impl FnMut(&Delivery) -> bool) -> Vec<Delivery> {
        if self.mailbox.is_empty() {
            return Vec::new();
        }
        for (behind, _) in &mut self.control {
            let before = usize::try_from(behind.saturating_sub(self.taken)).unwrap_or(usize::MAX);
            *behind -= self.mailbox.iter().take(before).filter(|delivery| gone(delivery)).count() as u64;
        }
        let out = self.mailbox.extract(gone);
        self.accepted -= out.len() as u64;
        out
    }

    /// The same of events in the hands of the embedder. True when it is to be asked to give them back.
    pub fn withdraw_handed_out(&mut self, gone: impl FnMut(&Delivery) -> bool) -> bool {
        match &mut self.running {
            Running::Batch(batch) => batch.withdraw(gone),
            Running::Idle | Running::Queued | Running::Direct | Running::Control { .. } => false,
        }
    }

    /// Hands out the next batch, of so many events at most. It ends where an automatic snapshot is due.
    pub fn take_batch(&mut self, now: Instant, most: usize) -> BatchId {
        let before = self.before_control().min(self.before_snapshot().unwrap_or(u64::MAX));
        let most = usize::try_from(before).unwrap_or(usize::MAX).min(most).min(BATCH_EVENTS);
        let events = self.mailbox.take(most, BATCH_BYTES);
        self.taken += events.len() as u64;
        let id = self.next_batch_id();
        self.running = Running::Batch(Box::new(InFlight { id, events, progress_at: now, timed_out: false }));
        id
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causal::{HorizonBloom, ParentHash, Sequence};
    use crate::daemon::ReplyTo;

    fn live() -> DaemonHost {
        let key = DaemonKey { slot: 0, generation: 0 };
        let (keypair, lineage) = (EntityKeypair::generate(), Lineage::new(1));
        let config = HostConfig::default();
        DaemonHost::new(key, keypair, None, config, lineage, Epoch::FIRST, Presence::Live, Instant::now())
    }

    fn delivery() -> Delivery {
        let link = CausalLink {
            origin: OriginHash::new(1),
            horizon: HorizonBloom::default(),
            sequence: Sequence::new(1),
            parent_hash: ParentHash::default(),
        };
        let (payload, reply, accepted_at) = (Bytes::new(), ReplyTo::Nobody, Instant::now());
        let (received_at, withdrawn) = (0, false);
        Delivery { link, payload, received_at, channel: None, reply, expires: None, accepted_at, withdrawn }
    }

    /// How many events the next batch has.
    fn taken(host: &mut DaemonHost) -> u64 {
        let before = host.taken;
        host.take_batch(Instant::now(), BATCH_EVENTS);
        host.taken - before
    }

    #[tokio::test]
    async fn an_automatic_snapshot_is_taken_between_batches_after_exactly_so_many_events() {
        let mut host = live();
        host.config.auto_snapshot_interval = Some(3);
        for _ in 0..5 {
            host.accept(delivery()).expect("room");
        }
        host.enter_control(Control::Stop(Ticket(1)));
        assert_eq!(taken(&mut host), 3);
        for _ in 0..3 {
            assert_eq!(host.due_control(), None);
            host.count_towards_snapshot();
        }
        assert_eq!(host.due_control(), Some(Control::AutoSnapshot));
        assert_eq!(host.due_control(), None, "one snapshot, and the stop behind the rest");
        assert_eq!(taken(&mut host), 2);
        assert_eq!(host.due_control(), Some(Control::Stop(Ticket(1))));
    }

    #[tokio::test]
    async fn a_stop_stays_behind_waiting_events_when_a_direct_event_goes_before_them() {
        let mut host = live();
        host.running = Running::Direct;
        host.accept(delivery()).expect("room");
        host.enter_control(Control::Stop(Ticket(1)));
        host.count_direct();
        host.running = Running::Idle;
        assert_eq!(host.due_control(), None, "an event that was accepted before still waits");
        assert_eq!(taken(&mut host), 1);
        assert_eq!(host.due_control(), Some(Control::Stop(Ticket(1))));
    }
}
