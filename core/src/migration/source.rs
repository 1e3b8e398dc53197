//! The host that a daemon leaves, and the one decider of the move.
//!
//! It alone leaves `Frozen`, by one local transition: either the daemon resumes here, or it is released to the target.
//! Until then every failure ends in *resume*; from then on the frozen copy is kept until the target has confirmed.

use std::time::Duration;

use tokio::time::Instant;

use super::transfer::Transfer;
use crate::identity::NodeId;
use crate::wire::migration::{CopyState, FailureReason, MoveId, Stage};

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceAction {
    /// Stop handing out events; say when nothing runs.
    Freeze,
    /// Say when nothing is on its way any more that the daemon sent.
    Hush,
    /// Ask the daemon for its state.
    TakeSnapshot,
    /// Ask the target for room.
    Reserve,
    /// Let chunks flow.
    Transfer,
    /// Stage what waits on the target.
    Ship {
        /// The mailbox is closed: this is all.
        last: bool,
    },
    /// Close the mailbox: what arrives is held, not accepted.
    Close,
    /// Record the decision, and tell the target to go live.
    Release,
    /// Tell the target again.
    Activate,
    /// Ask the target what became of its copy.
    QueryTarget,
    /// Undo: the daemon goes on here. Tell the others why.
    Resume(FailureReason),
    /// The target has confirmed: forget the copy and the secret.
    Cleanup,
    /// The target never went live, and says so: go on here at a higher epoch.
    TakeBack,
    /// The target's copy is gone: look whether the target had handed the daemon on before.
    LookElsewhere {
        /// That it is gone is proven. Otherwise it is somebody's word.
        proven: bool,
    },
    /// The target is there after all: it says itself what became of its copy.
    StopLooking,
    /// The target's copy is gone, and may have run what it was handed: go on here from the snapshot, as a new life.
    TakeOver,
    /// The target is out of reach and the hand-over undecided for others.
    InDoubt,
    /// Tell the orchestrator where it stands.
    Report(Stage),
    /// Tell orchestrator and target that it is still at work.
    StillAtWork,
    /// It was asked to give up behind its decision.
    TooLate {
        /// By whom.
        to: NodeId,
    },
}

/// Where the move stands.
#[derive(Debug)]
pub enum SourceState {
    /// What is in flight finishes.
    Freezing {
        /// Then it is undone.
        until: Instant,
    },
    /// Nothing runs; what the daemon sent through its contexts is on its way from this node, and would be lost with it.
    Hushing {
        /// Then it is undone.
        until: Instant,
    },
    /// The daemon's own `snapshot` runs.
    Snapshotting {
        /// Then it is undone.
        until: Instant,
    },
    /// Room was asked for.
    Reserving {
        /// Then it is undone, to be tried again.
        until: Instant,
        /// What will be sent.
        transfer: Box<Transfer>,
    },
    /// Chunks flow.
    Sending(Box<Transfer>),
    /// The target verifies, builds, restores.
    AwaitRestore,
    /// Waiting events are staged; the mailbox still accepts.
    Staging,
    /// The mailbox is closed.
    Closing {
        /// How many events are handed over in all; known once the last are shipped.
        total: u64,
    },
    /// Decided: the daemon belongs to the target.
    Released {
        /// The target is out of reach.
        in_doubt: bool,
        /// Then its declared loss counts as the operator's word.
        believed_at: Option<Instant>,
    },
    /// Decided, and the target's copy is gone. The target may have handed the daemon on: it is looked for.
    Searching {
        /// That the copy is gone is proven. Otherwise it is somebody's word, and the target may still be heard.
        proven: bool,
    },
    /// Over.
    Gone,
}

/// The source of one migration.
#[derive(Debug)]
pub struct Source {
    /// The current attempt.
    pub id: MoveId,
    /// Who drives.
    pub orchestrator: NodeId,
    /// Where it goes.
    pub target: NodeId,
    /// Whether the daemon's key travels.
    pub transport_identity: bool,
    /// Where the move stands.
    pub state: SourceState,
    /// How many waiting events have been shipped.
    pub shipped: u64,
    /// How many of them the target has staged.
    pub staged: u64,
    /// Sequence of the chain's head in the snapshot.
    pub head: u64,
    /// The claim of the next epoch, once released.
    pub claim: Vec<u8>,
    silence: Duration,
    heard_at: Instant,
    reported_at: Instant,
}

impl Source {
    /// Begins with freezing.
    pub fn new(
        id: MoveId,
        (orchestrator, target): (NodeId, NodeId),
        transport_identity: bool,
        (freeze_timeout, silence): (Duration, Duration),
        now: Instant,
    ) -> (Self, Vec<SourceAction>) {
        let machine = Self {
            id,
            orchestrator,
            target,
            transport_identity,
            state: SourceState::Freezing { until: now + freeze_timeout },
            shipped: 0,
            staged: 0,
            head: 0,
            claim: Vec::new(),
            silence,
            heard_at: now,
            reported_at: now,
        };
        (machine, vec![SourceAction::Freeze, SourceAction::Report(Stage::Snapshot)])
    }

    /// Whether the decision has fallen.
    pub fn is_released(&self) -> bool {
        matches!(self.state, SourceState::Released { .. } | SourceState::Searching { .. })
    }

    /// Whether the decision has fallen and the target is out of reach.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self.state, SourceState::Released { in_doubt: true, .. } | SourceState::Searching { .. })
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        matches!(self.state, SourceState::Gone)
    }

    /// The phase as others see it.
    pub fn stage(&self) -> Stage {
        match self.state {
            SourceState::Freezing { .. } | SourceState::Hushing { .. } | SourceState::Snapshotting { .. } => {
                Stage::Snapshot
            }
            SourceState::Reserving { .. } | SourceState::Sending(_) => Stage::Transfer,
            SourceState::AwaitRestore => Stage::Restore,
            SourceState::Staging => Stage::Replay,
            SourceState::Closing { .. } | SourceState::Released { .. } | SourceState::Searching { .. } => {
                Stage::Cutover
            }
            SourceState::Gone => Stage::Complete,
        }
    }

    /// Bytes sent and bytes in all.
    pub fn bytes(&self) -> (u64, u64) {
        self.transfer().map_or((0, 0), Transfer::progress)
    }

    /// Bytes of the state that are held here on their way.
    pub fn held_bytes(&self) -> u64 {
        self.transfer().map_or(0, Transfer::held)
    }

    /// The state on its way, or about to be.
    fn transfer(&self) -> Option<&Transfer> {
        let (SourceState::Reserving { transfer, .. } | SourceState::Sending(transfer)) = &self.state else {
            return None;
        };
        Some(transfer)
    }

    /// The target was heard.
    pub fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// Nothing runs any more, so nothing new is sent either.
    pub fn frozen(&mut self) -> Vec<SourceAction> {
        let SourceState::Freezing { until } = self.state else { return Vec::new() };
        self.state = SourceState::Hushing { until };
        vec![SourceAction::Hush]
    }

    /// All that the daemon sent was accepted, and what it called has answered.
    pub fn hushed(&mut self, callback_timeout: Duration, now: Instant) -> Vec<SourceAction> {
        let SourceState::Hushing { .. } = self.state else { return Vec::new() };
        self.state = SourceState::Snapshotting { until: now + callback_timeout };
        vec![SourceAction::TakeSnapshot]
    }

    /// The daemon gave its state, or has none.
    pub fn snapshot_taken(
        &mut self,
        transfer: Transfer,
        head: u64,
        freeze_timeout: Duration,
        now: Instant,
    ) -> Vec<SourceAction> {
        let SourceState::Snapshotting { .. } = self.state else { return Vec::new() };
        self.head = head;
        self.state = SourceState::Reserving { until: now + freeze_timeout, transfer: Box::new(transfer) };
        vec![SourceAction::Reserve, SourceAction::Report(Stage::Transfer)]
    }

    /// The target has room.
    pub fn reserved(&mut self, now: Instant) -> Vec<SourceAction> {
        self.heard_at = now;
        let former = std::mem::replace(&mut self.state, SourceState::Gone);
        let SourceState::Reserving { transfer, .. } = former else {
            self.state = former;
            return Vec::new();
        };
        self.state = SourceState::Sending(transfer);
        vec![SourceAction::Transfer]
    }

    /// The last chunk and its seal are on their way.
    pub fn transferred(&mut self, now: Instant) -> Vec<SourceAction> {
        let SourceState::Sending(_) = self.state else { return Vec::new() };
        self.heard_at = now;
        self.state = SourceState::AwaitRestore;
        vec![SourceAction::Report(Stage::Restore)]
    }

    /// The target restored the daemon.
    pub fn restored(&mut self, now: Instant) -> Vec<SourceAction> {
        self.heard_at = now;
        let SourceState::AwaitRestore = self.state else { return Vec::new() };
        self.state = SourceState::Staging;
        vec![SourceAction::Ship { last: false }, SourceAction::Report(Stage::Replay)]
    }

    /// The target staged this many events onto a chain with this head.
    pub fn replayed(&mut self, staged: u64, head: u64, complete: bool, now: Instant) -> Vec<SourceAction> {
        self.heard_at = now;
        match self.state {
            SourceState::Staging | SourceState::Closing { .. } if head != self.head || staged > self.shipped => {
                let detail = format!("the target holds head {head} and {staged} events");
                self.resume(FailureReason::StateFailed { detail })
            }
            SourceState::Staging => {
                self.staged = self.staged.max(staged);
                Vec::new()
            }
            SourceState::Closing { total } => {
                self.staged = self.staged.max(staged);
                if complete && self.staged == total {
                    self.state = SourceState::Released { in_doubt: false, believed_at: None };
                    vec![SourceAction::Release]
                } else {
                    Vec::new()
                }
            }
            SourceState::Freezing { .. }
            | SourceState::Hushing { .. }
            | SourceState::Snapshotting { .. }
            | SourceState::Reserving { .. }
            | SourceState::Sending(_)
            | SourceState::AwaitRestore
            | SourceState::Released { .. }
            | SourceState::Searching { .. }
            | SourceState::Gone => Vec::new(),
        }
    }

    /// The orchestrator says: hand over.
    pub fn cutover(&mut self, now: Instant) -> Vec<SourceAction> {
        match self.state {
            SourceState::Staging => {
                self.heard_at = now;
                self.state = SourceState::Closing { total: u64::MAX };
                vec![SourceAction::Close, SourceAction::Report(Stage::Cutover), SourceAction::Ship { last: true }]
            }
            // A repetition: what it was told last may have been lost.
            SourceState::Released { in_doubt: true, .. } | SourceState::Searching { .. } => vec![SourceAction::InDoubt],
            SourceState::Closing { .. } | SourceState::Released { in_doubt: false, .. } => {
                vec![SourceAction::StillAtWork]
            }
            SourceState::Gone => Vec::new(),
            // It came too early: the orchestrator hears in which phase this is.
            SourceState::Freezing { .. }
            | SourceState::Hushing { .. }
            | SourceState::Snapshotting { .. }
            | SourceState::Reserving { .. }
            | SourceState::Sending(_)
            | SourceState::AwaitRestore => vec![SourceAction::StillAtWork],
        }
    }

    /// All is shipped; so many events in all.
    pub fn closed(&mut self, total: u64) {
        if let SourceState::Closing { total: slot } = &mut self.state {
            *slot = total;
        }
    }

    /// The target is live.
    pub fn activated(&mut self) -> Vec<SourceAction> {
        if !self.is_released() {
            return Vec::new();
        }
        self.state = SourceState::Gone;
        vec![SourceAction::Cleanup]
    }

    /// The target says what became of its copy.
    pub fn target_copy(&mut self, copy: CopyState) -> Vec<SourceAction> {
        if !self.is_released() {
            return Vec::new();
        }
        // What follows a life that has ended knows only what came to it since.
        let ended = matches!(self.state, SourceState::Searching { proven: true });
        match copy {
            CopyState::Active => self.activated(),
            CopyState::Undecided | CopyState::Discarded if ended => Vec::new(),
            CopyState::Undecided => {
                self.state = SourceState::Released { in_doubt: false, believed_at: None };
                vec![SourceAction::Activate]
            }
            CopyState::Discarded => {
                self.state = SourceState::Gone;
                vec![SourceAction::TakeBack]
            }
            CopyState::Gone => self.look_elsewhere(true),
        }
    }

    /// The target's copy is gone.
    fn look_elsewhere(&mut self, proven: bool) -> Vec<SourceAction> {
        let known = matches!(self.state, SourceState::Searching { proven: true });
        if known && proven {
            return Vec::new();
        }
        self.state = SourceState::Searching { proven: known || proven };
        vec![SourceAction::LookElsewhere { proven }]
    }

    /// The daemon was looked for, and lives nowhere as far as can be known.
    pub fn lives_nowhere(&mut self) -> Vec<SourceAction> {
        let SourceState::Searching { .. } = self.state else { return Vec::new() };
        self.state = SourceState::Gone;
        vec![SourceAction::TakeOver]
    }

    /// The target or the orchestrator gave up, or a local step failed.
    pub fn failed(&mut self, reason: FailureReason) -> Vec<SourceAction> {
        self.resume(reason)
    }

    /// The operator's word that the target's copy is gone. Nothing while the target is in reach.
    pub fn recover(&mut self) -> Vec<SourceAction> {
        if self.is_in_doubt() { self.look_elsewhere(false) } else { Vec::new() }
    }

    /// The mesh declared a node lost, and that is to count as the operator's word. One that comes back at once was not lost:
    /// a session that could not be resumed ends in the same words.
    pub fn declared_lost(&mut self, node: NodeId, now: Instant) -> Vec<SourceAction> {
        if node == self.target
            && let SourceState::Released { in_doubt: true, believed_at } = &mut self.state
        {
            *believed_at = Some(now + self.silence / 4);
        }
        Vec::new()
    }

    /// The orchestrator wants it undone.
    pub fn cancel(&mut self, reason: FailureReason, from: NodeId) -> Vec<SourceAction> {
        if self.is_released() || self.is_over() {
            return vec![SourceAction::TooLate { to: from }];
        }
        self.resume(reason)
    }

    fn resume(&mut self, reason: FailureReason) -> Vec<SourceAction> {
        if self.is_released() || self.is_over() {
            return Vec::new();
        }
        self.state = SourceState::Gone;
        vec![SourceAction::Resume(reason)]
    }

    /// The session with a node broke; `dead` when its process is proven to be gone.
    pub fn peer_lost(&mut self, node: NodeId, dead: bool) -> Vec<SourceAction> {
        if node == self.target {
            if let SourceState::Released { in_doubt, .. } = &mut self.state {
                let mut actions = if *in_doubt { Vec::new() } else { vec![SourceAction::InDoubt] };
                *in_doubt = true;
                if dead {
                    actions.append(&mut self.look_elsewhere(true));
                }
                return actions;
            }
            if let SourceState::Searching { .. } = self.state {
                return if dead { self.look_elsewhere(true) } else { Vec::new() };
            }
            return self.resume(FailureReason::lost("target", node));
        }
        Vec::new()
    }

    /// A node was declared lost. Without its orchestrator the move goes on only behind the word for the cutover.
    pub fn orchestrator_lost(&mut self, node: NodeId) -> Vec<SourceAction> {
        if node != self.orchestrator || matches!(self.state, SourceState::Closing { .. }) {
            return Vec::new();
        }
        self.resume(FailureReason::lost("orchestrator", node))
    }

    /// The session with a node is back.
    pub fn peer_back(&mut self, node: NodeId, now: Instant) -> Vec<SourceAction> {
        let gives_the_word = node == self.orchestrator && matches!(self.state, SourceState::Staging);
        if node == self.target || gives_the_word {
            self.heard_at = now;
        }
        if node != self.target {
            return Vec::new();
        }
        match &mut self.state {
            SourceState::Released { believed_at, .. } => {
                *believed_at = None;
                vec![SourceAction::QueryTarget]
            }
            // Whoever said that it was gone was wrong.
            SourceState::Searching { proven: false } => {
                self.state = SourceState::Released { in_doubt: true, believed_at: None };
                vec![SourceAction::StopLooking, SourceAction::QueryTarget]
            }
            SourceState::Freezing { .. }
            | SourceState::Hushing { .. }
            | SourceState::Snapshotting { .. }
            | SourceState::Reserving { .. }
            | SourceState::Sending(_)
            | SourceState::AwaitRestore
            | SourceState::Staging
            | SourceState::Closing { .. }
            | SourceState::Searching { proven: true }
            | SourceState::Gone => Vec::new(),
        }
    }

    /// The next instant at which [`tick`](Self::tick) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        if let Some(until) = self.works_until() {
            // The others hear that it is still at work.
            return Some(until.min(self.reported_at + self.silence / 4));
        }
        match &self.state {
            SourceState::Released { believed_at: Some(at), .. } => Some(*at),
            SourceState::Freezing { .. }
            | SourceState::Hushing { .. }
            | SourceState::Snapshotting { .. }
            | SourceState::Reserving { .. }
            | SourceState::Sending(_)
            | SourceState::AwaitRestore
            | SourceState::Staging
            | SourceState::Closing { .. }
            | SourceState::Released { believed_at: None, .. } => Some(self.heard_at + self.silence),
            SourceState::Searching { .. } | SourceState::Gone => None,
        }
    }

    /// Until when it is at work for all that is known, in a state in which nobody else tells the orchestrator that the move
    /// goes on. Chunks go out only as fast as the target takes them, so each of them is heard of it.
    fn works_until(&self) -> Option<Instant> {
        match &self.state {
            SourceState::Freezing { until }
            | SourceState::Hushing { until }
            | SourceState::Snapshotting { until }
            | SourceState::Reserving { until, .. } => Some(*until),
            SourceState::Sending(_) => Some(self.heard_at + self.silence),
            SourceState::AwaitRestore
            | SourceState::Staging
            | SourceState::Closing { .. }
            | SourceState::Released { .. }
            | SourceState::Searching { .. }
            | SourceState::Gone => None,
        }
    }

    /// Whether the daemon has not come to rest in time. [`tick`](Self::tick) is told then what it waits for.
    pub fn is_restless(&self, now: Instant) -> bool {
        match &self.state {
            SourceState::Freezing { until } | SourceState::Hushing { until } => *until <= now,
            SourceState::Snapshotting { .. }
            | SourceState::Reserving { .. }
            | SourceState::Sending(_)
            | SourceState::AwaitRestore
            | SourceState::Staging
            | SourceState::Closing { .. }
            | SourceState::Released { .. }
            | SourceState::Searching { .. }
            | SourceState::Gone => false,
        }
    }

    /// A deadline passed. `unsettled` says in words what is on its way that the daemon sent.
    pub fn tick(&mut self, unsettled: Option<&str>, now: Instant) -> Vec<SourceAction> {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        if self.works_until().is_some_and(|until| until > now) {
            self.reported_at = now;
            return vec![SourceAction::StillAtWork];
        }
        let waited_for = match &self.state {
            SourceState::Freezing { .. } => "the daemon to finish its event",
            SourceState::Hushing { .. } => "what the daemon sent to be accepted, and what it called to answer",
            SourceState::Snapshotting { .. } => "the daemon's snapshot",
            // The daemon goes on; the orchestrator asks again.
            SourceState::Reserving { .. } => return self.resume(FailureReason::NotReady),
            SourceState::Sending(_) => "the target to take chunks",
            SourceState::AwaitRestore => "the target to restore",
            SourceState::Staging => "the word for the cutover",
            SourceState::Closing { .. } => "the target to stage the last events",
            SourceState::Released { believed_at: Some(_), .. } => return self.recover(),
            SourceState::Released { in_doubt, .. } => {
                let doubt = *in_doubt;
                self.heard_at = now;
                return if doubt { Vec::new() } else { vec![SourceAction::Activate] };
            }
            SourceState::Searching { .. } | SourceState::Gone => return Vec::new(),
        };
        let unsettled = unsettled.map(|unsettled| format!(": {unsettled}")).unwrap_or_default();
        self.resume(FailureReason::Timeout { detail: format!("waited for {waited_for}{unsettled}") })
    }
}
