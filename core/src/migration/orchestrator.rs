//! The driver of a migration. It asks; it decides nothing.
//!
//! It asks the target first, while the daemon is still live, so that a refusal costs nothing; has the source freeze and
//! send; and gives the word for the cutover when the waiting events are staged. What the source decides then needs no
//! orchestrator.

use std::time::Duration;

use tokio::time::Instant;

use super::failure::{MigrationFailure, Outcome};
use super::settings::MigrationOptions;
use crate::identity::{NodeId, OriginHash};
use crate::wire::migration::{FailureReason, MoveId, Stage};

const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(16);

/// How far a migration has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the snapshot sent.
    pub bytes_sent: u64,
    /// Bytes of the snapshot in all; 0 while unknown.
    pub bytes_total: u64,
    /// Waiting events handed over so far.
    pub events_buffered: u64,
    /// Waiting events that the target has staged.
    pub events_replayed: u64,
}

/// What is to be asked of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The target, whether it may come.
    Prepare,
    /// The source, to freeze and send.
    TakeSnapshot,
    /// The source, to hand over.
    CutoverNotify,
    /// The source, to give up.
    Cancel(FailureReason),
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrchestratorAction {
    /// Send this.
    Ask(Ask),
    /// A phase began.
    Phase(Stage),
    /// Numbers changed.
    Progress(Progress),
    /// It is over.
    Finished(Result<(), MigrationFailure>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asking { until: Instant },
    Backoff { until: Instant },
    Driving { until: Instant },
    Deciding,
    Over,
}

/// The driver of one migration.
#[derive(Debug)]
pub struct Orchestrator {
    /// The current attempt.
    pub id: MoveId,
    /// The daemon's address.
    pub origin: OriginHash,
    /// Where it lives.
    pub source: NodeId,
    /// Where it goes.
    pub target: NodeId,
    /// What the caller asked for.
    pub options: MigrationOptions,
    state: State,
    stage: Option<Stage>,
    progress: Progress,
    silence: Duration,
    give_up_at: Instant,
    backoff: Duration,
    started_at: Instant,
}

impl Orchestrator {
    /// Begins: the target is asked.
    pub fn new(
        id: MoveId,
        (source, target): (NodeId, NodeId),
        options: MigrationOptions,
        silence: Duration,
        now: Instant,
    ) -> (Self, Vec<OrchestratorAction>) {
        let machine = Self {
            origin: id.entity.origin_hash(),
            id,
            source,
            target,
            options,
            state: State::Asking { until: now + silence },
            stage: None,
            progress: Progress::default(),
            silence,
            give_up_at: now + options.retry_not_ready,
            backoff: FIRST_BACKOFF,
            started_at: now,
        };
        (machine, vec![OrchestratorAction::Ask(Ask::Prepare)])
    }

    /// The phase that it is in; none before the target agreed.
    pub fn stage(&self) -> Option<Stage> {
        self.stage
    }

    /// The newest numbers.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// How long it has been going on.
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started_at)
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The next instant at which [`tick`](Self::tick) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Asking { until } | State::Backoff { until } | State::Driving { until } => Some(until),
            State::Deciding | State::Over => None,
        }
    }

    /// The target agreed.
    pub fn prepared(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        match self.state {
            State::Asking { .. } => {
                self.state = State::Driving { until: now + self.silence };
                self.stage = Some(Stage::Snapshot);
                vec![OrchestratorAction::Phase(Stage::Snapshot), OrchestratorAction::Ask(Ask::TakeSnapshot)]
            }
            State::Backoff { .. } | State::Driving { .. } | State::Deciding | State::Over => Vec::new(),
        }
    }

    /// The target became ready after it had said that it was not.
    pub fn now_ready(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        match self.state {
            State::Backoff { .. } => self.ask_again(now),
            State::Asking { .. } | State::Driving { .. } | State::Deciding | State::Over => Vec::new(),
        }
    }

    fn ask_again(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        self.id.attempt += 1;
        self.state = State::Asking { until: now + self.silence };
        vec![OrchestratorAction::Ask(Ask::Prepare)]
    }

    /// The source or the target reports how far it is.
    pub fn status(&mut self, stage: Stage, progress: Progress, now: Instant) -> Vec<OrchestratorAction> {
        if let State::Driving { until } = &mut self.state {
            *until = now + self.silence;
        }
        let mut actions = Vec::new();
        match self.state {
            State::Driving { .. } | State::Deciding => {
                self.enter(stage, &mut actions);
                self.progress = Progress {
                    bytes_sent: self.progress.bytes_sent.max(progress.bytes_sent),
                    bytes_total: self.progress.bytes_total.max(progress.bytes_total),
                    events_buffered: self.progress.events_buffered.max(progress.events_buffered),
                    events_replayed: self.progress.events_replayed.max(progress.events_replayed),
                };
                actions.push(OrchestratorAction::Progress(self.progress));
            }
            State::Asking { .. } | State::Backoff { .. } | State::Over => {}
        }
        actions
    }

    /// The target is slow, and says so.
    pub fn still_at_work(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        if let State::Driving { until } = &mut self.state {
            *until = now + self.silence;
        }
        Vec::new()
    }

    // Every phase is announced once and in order, also when a message overtook another one.
    fn enter(&mut self, stage: Stage, actions: &mut Vec<OrchestratorAction>) {
        const ORDER: [Stage; 6] =
            [Stage::Snapshot, Stage::Transfer, Stage::Restore, Stage::Replay, Stage::Cutover, Stage::Complete];
        for step in ORDER {
            if Some(step) > self.stage && step <= stage {
                self.stage = Some(step);
                actions.push(OrchestratorAction::Phase(step));
            }
        }
    }

    /// The target holds the restored daemon.
    pub fn restored(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        self.status(Stage::Replay, self.progress, now)
    }

    /// The target staged what waited: the source may hand over.
    pub fn staged(&mut self, staged: u64, now: Instant) -> Vec<OrchestratorAction> {
        let mut progress = self.progress;
        progress.events_replayed = staged;
        progress.events_buffered = progress.events_buffered.max(staged);
        let mut actions = self.status(Stage::Replay, progress, now);
        if matches!(self.state, State::Driving { .. }) {
            self.state = State::Deciding;
            self.enter(Stage::Cutover, &mut actions);
            actions.push(OrchestratorAction::Ask(Ask::CutoverNotify));
        }
        actions
    }

    /// The source let its copy go.
    pub fn completed(&mut self) -> Vec<OrchestratorAction> {
        if self.is_over() {
            return Vec::new();
        }
        let mut actions = Vec::new();
        self.enter(Stage::Complete, &mut actions);
        self.finish(Ok(()), &mut actions);
        actions
    }

    /// A role gave up. `outcome` is where that leaves the daemon.
    pub fn failed(&mut self, reason: FailureReason, outcome: Outcome, now: Instant) -> Vec<OrchestratorAction> {
        match self.state {
            State::Over => Vec::new(),
            State::Asking { .. } if reason == FailureReason::NotReady => self.not_ready(now),
            // A repetition.
            State::Backoff { .. } if reason == FailureReason::NotReady => Vec::new(),
            State::Asking { .. } | State::Backoff { .. } | State::Driving { .. } | State::Deciding => {
                let mut actions = Vec::new();
                self.finish(Err(MigrationFailure::Refused(reason, outcome)), &mut actions);
                actions
            }
        }
    }

    fn not_ready(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        let mut actions = Vec::new();
        if self.options.retry_not_ready.is_zero() {
            let failure = MigrationFailure::Refused(FailureReason::NotReady, Outcome::Source);
            self.finish(Err(failure), &mut actions);
        } else if now >= self.give_up_at {
            self.finish(Err(MigrationFailure::NotReadyTimeout { attempts: self.id.attempt }), &mut actions);
        } else {
            // The last question is put at the end of the budget, not one backoff behind it.
            self.state = State::Backoff { until: (now + self.backoff).min(self.give_up_at) };
            self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
        }
        actions
    }

    /// The caller wants it to end. Nothing happens behind the cutover: then the source alone decides.
    pub fn abort(&mut self, reason: FailureReason) -> Vec<OrchestratorAction> {
        match self.state {
            State::Asking { .. } | State::Backoff { .. } => {
                let mut actions = Vec::new();
                self.finish(Err(MigrationFailure::Refused(reason, Outcome::Source)), &mut actions);
                actions
            }
            // The source answers with `MigrationFailed`, or with `WrongPhase` when it has decided already.
            State::Driving { .. } | State::Deciding => vec![OrchestratorAction::Ask(Ask::Cancel(reason))],
            State::Over => Vec::new(),
        }
    }

    /// A peer is lost or suspected.
    pub fn peer_lost(&mut self, node: NodeId, dead: bool, now: Instant) -> Vec<OrchestratorAction> {
        let detail = format!("node {node}");
        match self.state {
            // While the target is only asked, the daemon is untouched.
            State::Asking { .. } | State::Backoff { .. } if node == self.target || node == self.source => {
                self.failed(FailureReason::PeerLost { detail }, Outcome::Source, now)
            }
            State::Driving { .. } | State::Deciding if node == self.source => {
                let outcome = if dead { Outcome::Lost } else { Outcome::Unknown };
                self.failed(FailureReason::PeerLost { detail }, outcome, now)
            }
            // The source sees the target's loss itself and knows what it means.
            State::Asking { .. } | State::Backoff { .. } | State::Driving { .. } | State::Deciding | State::Over => {
                Vec::new()
            }
        }
    }

    /// A deadline passed.
    pub fn tick(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        match self.state {
            State::Backoff { until } if until <= now => self.ask_again(now),
            State::Asking { until } if until <= now => {
                let detail = "the target did not answer".to_owned();
                self.failed(FailureReason::Timeout { detail }, Outcome::Source, now)
            }
            State::Driving { until } if until <= now => {
                self.state = State::Driving { until: now + self.silence };
                let detail = "nothing was heard of the migration".to_owned();
                self.abort(FailureReason::Timeout { detail })
            }
            State::Asking { .. } | State::Backoff { .. } | State::Driving { .. } | State::Deciding | State::Over => {
                Vec::new()
            }
        }
    }

    fn finish(&mut self, result: Result<(), MigrationFailure>, actions: &mut Vec<OrchestratorAction>) {
        self.state = State::Over;
        actions.push(OrchestratorAction::Finished(result));
    }
}
