//! What the engine asks of its embedder, and the queue in which it waits.
//!
//! The embedder pulls work on its own thread; nothing here is pushed into user code. Batches of events are formed at
//! that moment, not before, so that what has not begun can still be moved, withdrawn or timed out.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::RuntimeError;
use crate::channel::{ChannelError, Feed};
use crate::daemon::{BatchId, DaemonKey, Ticket};
use crate::events::{OutputRecord, Outputs};
use crate::identity::{EntityId, MigrationId, NodeId, OriginHash};
use crate::migration::{DrainReport, MigrationFailure, Progress, Want};
use crate::wire::migration::Stage;

/// Why a daemon's object is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// `stop` was called.
    Stopped,
    /// It lives on another node now.
    Migrated,
    /// A copy with a higher epoch exists.
    Fenced,
    /// The runtime shuts down.
    Shutdown,
}

/// Why a daemon object is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConstructFor {
    /// A spawn here.
    Spawn,
    /// A migration brings it.
    Arrival,
}

/// Something to do for the embedder. Except for [`Settle`](Work::Settle) and [`Notice`](Work::Notice) it belongs to one
/// daemon, and is answered by the method of [`DaemonRuntime`](super::DaemonRuntime) that it names.
#[derive(Debug)]
pub enum Work {
    /// Make the object with the kind's factory; answer `constructed`.
    Construct {
        /// Which daemon.
        daemon: DaemonKey,
        /// Its address.
        origin: OriginHash,
        /// Its public key.
        entity: EntityId,
        /// The factory to use; none for a ready instance without a kind.
        kind: Option<Arc<str>>,
        /// A spawn that may have brought a ready instance.
        spawn: Option<Ticket>,
        /// What for.
        purpose: ConstructFor,
    },
    /// Give the object its state; answer `restored`.
    Restore {
        /// Which daemon.
        daemon: DaemonKey,
        /// The bytes that its `snapshot` returned once.
        state: Bytes,
    },
    /// Run the events of this [batch](super::Engine::batch) one after another; answer `ran`, in parts if it takes long.
    Run {
        /// Which daemon.
        daemon: DaemonKey,
        /// Which batch.
        batch: BatchId,
    },
    /// Give back what has not begun of the running batch: answer `ran` with `give_back`, as soon as possible.
    Yield {
        /// Which daemon.
        daemon: DaemonKey,
    },
    /// The running event was answered with a timeout: abort its signal, then as [`Yield`](Work::Yield).
    Abort {
        /// Which daemon.
        daemon: DaemonKey,
    },
    /// Answer `hushed` as soon as nothing is on its way that the daemon's events sent: each of their sends was accepted and
    /// each of their calls answered, awaited or not. Their calls to the daemon itself wait in its own mailbox, and do not
    /// count. Never answered when that takes longer than the move waits.
    Hush {
        /// Which daemon.
        daemon: DaemonKey,
    },
    /// Call the object's `snapshot` and keep what it returns; answer `snapshot_taken` with its length.
    Snapshot {
        /// Which daemon.
        daemon: DaemonKey,
    },
    /// Read a slice of what `snapshot` returned; answer `state_slice`.
    ReadState {
        /// Which daemon.
        daemon: DaemonKey,
        /// First byte.
        offset: u64,
        /// How many.
        len: u32,
    },
    /// Hash a slice of what `snapshot` returned once more; answer `state_checked`.
    CheckState {
        /// Which daemon.
        daemon: DaemonKey,
        /// First byte.
        offset: u64,
        /// How many.
        len: u32,
    },
    /// What `snapshot` returned is not needed any more.
    ReleaseState {
        /// Which daemon.
        daemon: DaemonKey,
    },
    /// Forget the object, telling its `onStop` why. Nothing is answered: the daemon is gone.
    Retire {
        /// Which daemon.
        daemon: DaemonKey,
        /// Why.
        reason: StopReason,
    },
    /// A migration asks to bring a daemon, and the embedder's policy decides; answer `admitted`.
    Admit {
        /// Which question.
        question: u64,
        /// What is asked.
        request: MigrationRequest,
    },
    /// Another node wants to move a daemon of this one, and the embedder's policy decides; answer `admitted`.
    AdmitOrchestrator {
        /// Which question.
        question: u64,
        /// Who asks.
        node: NodeId,
    },
    /// Somebody's wait is over.
    Settle {
        /// Who waited.
        ticket: Ticket,
        /// What came of it.
        result: Result<Settlement, RuntimeError>,
    },
    /// Something happened that nobody waits for.
    Notice(Notice),
}

impl Work {
    /// What is wanted of a daemon's state.
    pub(super) fn of_state(daemon: DaemonKey, want: Want) -> Self {
        match want {
            Want::Slice { offset, len } => Self::ReadState { daemon, offset, len },
            Want::Check { offset, len } => Self::CheckState { daemon, offset, len },
        }
    }

    const fn is_stage(&self) -> bool {
        matches!(self, Self::Notice(Notice::Migration { .. }))
    }

    /// The question that it puts to a policy.
    const fn question(&self) -> Option<u64> {
        if let Self::Admit { question, .. } | Self::AdmitOrchestrator { question, .. } = self {
            Some(*question)
        } else {
            None
        }
    }
}

/// What a migration asks of its target's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationRequest {
    /// The daemon.
    pub entity: EntityId,
    /// Its kind.
    pub kind: Arc<str>,
    /// Where it lives.
    pub source: NodeId,
    /// Who drives.
    pub orchestrator: NodeId,
    /// Length of its newest snapshot; 0 when none was taken.
    pub state_bytes: u64,
}

/// What an operation came to.
#[derive(Debug)]
pub enum Settlement {
    /// Done.
    Done,
    /// A daemon was spawned.
    Spawned(DaemonKey),
    /// Outputs of an event, with their links.
    Outputs(Outputs<OutputRecord>),
    /// An encoded snapshot, or none of a stateless daemon.
    Snapshot(Option<Bytes>),
    /// Where a daemon lives.
    Located(Option<NodeId>),
    /// A migration began.
    Migrating(MigrationStarted),
    /// A drain is over.
    Drained(Vec<DrainReport>),
}

/// What is known of a migration when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrationStarted {
    /// Names it in notices and when it is cancelled.
    pub migration: MigrationId,
    /// Which daemon.
    pub origin: OriginHash,
    /// Where it lived.
    pub source: NodeId,
    /// Where it goes.
    pub target: NodeId,
}

/// What happened to a daemon of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaemonEvent {
    /// Spawned here.
    Spawned,
    /// Stopped.
    Stopped,
    /// Arrived by a migration.
    MigratedIn,
    /// Left by a migration.
    MigratedOut,
    /// Stopped because a copy with a higher epoch exists.
    Fenced,
}

/// What happened to a subscription of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionNews {
    /// It ended without being asked to.
    Ended(ChannelError),
    /// It goes on after a move, and its publisher does not have so many numbers any more.
    Missed(u64),
}

/// Which part this node has in a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The daemon leaves it.
    Source,
    /// The daemon comes to it.
    Target,
    /// It drives.
    Orchestrator,
}

impl Role {
    /// How users know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::Orchestrator => "orchestrator",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Notice {
    /// To a daemon.
    Daemon {
        /// What.
        event: DaemonEvent,
        /// Its address.
        origin: OriginHash,
        /// Its kind, if it has one.
        kind: Option<Arc<str>>,
        /// Its name here; stale when it has gone.
        daemon: DaemonKey,
    },
    /// To what a daemon receives.
    Subscription {
        /// The daemon's address.
        origin: OriginHash,
        /// Whose channel.
        publisher: NodeId,
        /// Which channel, or group of it.
        feed: Feed,
        /// What.
        news: SubscriptionNews,
    },
    /// A migration that this node drives entered a phase.
    Phase {
        /// Which.
        migration: MigrationId,
        /// The phase.
        stage: Stage,
    },
    /// A migration that this node drives made progress. Only the newest of one migration waits in the queue.
    Progress {
        /// Which.
        migration: MigrationId,
        /// Its phase.
        stage: Option<Stage>,
        /// The numbers.
        progress: Progress,
        /// Since its start.
        elapsed: Duration,
    },
    /// A migration that this node drives was to be given up, and is decided already.
    TooLate {
        /// Which.
        migration: MigrationId,
    },
    /// A migration that this node drives is over.
    MigrationOver {
        /// Which.
        migration: MigrationId,
        /// How.
        result: Result<(), MigrationFailure>,
    },
    /// A message arrived at a gate that a test closed.
    #[cfg(feature = "test-hooks")]
    GateReached {
        /// Its name.
        message: &'static str,
    },
    /// A role of a migration on this node reached a stage, for observers.
    Migration {
        /// Which.
        migration: MigrationId,
        /// The part of this node.
        role: Role,
        /// The daemon.
        origin: OriginHash,
        /// Where it lived.
        source: NodeId,
        /// Where it goes.
        target: NodeId,
        /// Which attempt.
        attempt: u32,
        /// How far; none when it failed.
        stage: Option<Stage>,
        /// Why it failed.
        failure: Option<MigrationFailure>,
    },
}

/// With so many stages of migrations that the embedder has not heard of, no further migration begins here.
const MOST_STAGES: usize = 4096;

/// The queue of work. Bounded by what it serves: a few entries for each daemon, question, wait and migration under way. What
/// migrations leave behind that are over is bounded by letting none begin while the embedder [is behind](Self::is_behind).
#[derive(Debug, Default)]
pub(super) struct WorkQueue {
    urgent: VecDeque<Work>,
    runnable: VecDeque<DaemonKey>,
    /// Stages and ends of migrations in `urgent`.
    stages: usize,
}

/// The next thing in the queue.
pub(super) enum Next {
    /// This.
    Work(Work),
    /// A batch of this daemon, if it still may run.
    Batch(DaemonKey),
}

impl WorkQueue {
    /// Enters work other than batches.
    pub(super) fn push(&mut self, work: Work) {
        if let Work::Notice(Notice::Progress { migration, .. }) = &work {
            let waiting = self.urgent.iter_mut().rev().find(|waiting| {
                matches!(waiting, Work::Notice(Notice::Progress { migration: other, .. }) if other == migration)
            });
            if let Some(waiting) = waiting {
                *waiting = work;
                return;
            }
        }
        self.stages += usize::from(work.is_stage());
        self.urgent.push_back(work);
    }

    /// Whether the embedder has much to hear of migrations.
    pub(super) fn is_behind(&self) -> bool {
        self.stages >= MOST_STAGES
    }

    /// Questions that need no answer any more.
    pub(super) fn withdraw(&mut self, questions: &BTreeSet<u64>) {
        if !questions.is_empty() {
            self.urgent.retain(|work| work.question().is_none_or(|question| !questions.contains(&question)));
        }
    }

    /// Enters a daemon that has events to run.
    pub(super) fn runnable(&mut self, daemon: DaemonKey) {
        self.runnable.push_back(daemon);
    }

    /// How many entries there are of daemons that may have events to run.
    pub(super) fn coming_round(&self) -> usize {
        self.runnable.len()
    }

    /// Control and answers first: they must not wait behind a flood of events.
    pub(super) fn next(&mut self) -> Option<Next> {
        match self.urgent.pop_front() {
            Some(work) => {
                self.stages -= usize::from(work.is_stage());
                Some(Next::Work(work))
            }
            None => self.runnable.pop_front().map(Next::Batch),
        }
    }

    /// Takes settlements from the front of the queue for as long as `take` wants them.
    pub(super) fn settlements(&mut self, mut take: impl FnMut(Ticket, &Result<Settlement, RuntimeError>) -> bool) {
        while let Some(Work::Settle { ticket, result }) = self.urgent.front()
            && take(*ticket, result)
        {
            self.urgent.pop_front();
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.runnable.is_empty()
    }
}
