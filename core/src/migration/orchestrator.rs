//! The driver of a migration, on any node. It asks; it decides nothing.
//!
//! It learns from the source what is to be moved, and whether it may; asks the target while the daemon is still live, so
//! that a refusal costs nothing; has the source freeze and send; and gives the word for the cutover when the waiting
//! events are staged. What the source decides then needs no orchestrator. After a reconnection it repeats what it asked
//! last: every answer is the same however often it is given.

use std::time::Duration;

use tokio::time::Instant;

use super::errand::{Ask, OrchestratorAction, Progress, Subject, Wanted};
use super::failure::{MigrationFailure, Outcome};
use crate::identity::NodeId;
use crate::wire::migration::{CopyState, FailureReason, MoveId, Stage};

/// How often a daemon that has moved on is followed.
const MOST_FOLLOWED: u32 = 8;
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The source describes the daemon.
    Inquiring {
        until: Instant,
    },
    /// The target is asked.
    Asking {
        until: Instant,
    },
    /// The target was not ready.
    Backoff {
        until: Instant,
    },
    /// Source and target are at work.
    Driving {
        until: Instant,
    },
    /// The word for the cutover was given: the source decides, and is asked again while nothing is heard of it.
    Deciding {
        until: Instant,
    },
    /// The source is lost behind that word: only the target can tell.
    Doubting {
        until: Instant,
        dead: bool,
    },
    /// The source has died. Whether the daemon died with it is not known: another move may have taken it elsewhere.
    Searching {
        until: Instant,
    },
    Over,
}

/// Where a daemon was found whose source has died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// On this node.
    On(NodeId),
    /// On none: everybody who would know was asked.
    Nowhere,
    /// Some did not answer.
    Unclear,
}

/// The driver of one migration.
#[derive(Debug)]
pub struct Orchestrator {
    /// What the caller wants; its source changes when the daemon is followed.
    pub wanted: Wanted,
    /// Counts what is asked anew.
    pub attempt: u32,
    subject: Option<Subject>,
    state: State,
    stage: Option<Stage>,
    /// Nothing can be heard of the source: its session broke.
    source_cut: bool,
    /// What the source was asked to give up for, and has not answered.
    cancelling: Option<FailureReason>,
    followed: u32,
    /// How often the target was asked.
    asked: u32,
    progress: Progress,
    silence: Duration,
    give_up_at: Instant,
    backoff: Duration,
    started_at: Instant,
}

impl Orchestrator {
    /// Begins: the source is asked.
    pub fn new(wanted: Wanted, silence: Duration, now: Instant) -> (Self, Vec<OrchestratorAction>) {
        let machine = Self {
            wanted,
            attempt: 1,
            subject: None,
            state: State::Inquiring { until: now + silence },
            stage: None,
            source_cut: false,
            cancelling: None,
            followed: 0,
            asked: 0,
            progress: Progress::default(),
            silence,
            give_up_at: now + wanted.options.retry_not_ready,
            backoff: FIRST_BACKOFF,
            started_at: now,
        };
        (machine, vec![OrchestratorAction::Ask(Ask::Inquire)])
    }

    /// The current attempt, once the source has said which daemon it is.
    pub fn id(&self) -> Option<MoveId> {
        let subject = self.subject.as_ref()?;
        let (migration, attempt) = (self.wanted.migration, self.attempt);
        Some(MoveId { entity: subject.entity, migration, attempt, epoch: subject.epoch })
    }

    /// What the source said of the daemon.
    pub fn subject(&self) -> Option<&Subject> {
        self.subject.as_ref()
    }

    /// The phase that it is in; none before the target agreed.
    pub fn stage(&self) -> Option<Stage> {
        self.stage
    }

    /// The newest numbers.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// Whether the target is asked: once it agreed, only the source's word counts.
    pub fn asks_target(&self) -> bool {
        matches!(self.state, State::Asking { .. } | State::Backoff { .. })
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
            State::Inquiring { until }
            | State::Asking { until }
            | State::Backoff { until }
            | State::Driving { until }
            | State::Deciding { until }
            | State::Doubting { until, .. }
            | State::Searching { until } => Some(until),
            State::Over => None,
        }
    }

    /// The source says what it is.
    pub fn described(&mut self, subject: Subject, now: Instant) -> Vec<OrchestratorAction> {
        match self.state {
            State::Inquiring { .. } => {
                self.subject = Some(subject);
                if self.wanted.source == self.wanted.target {
                    self.stage = Some(Stage::Complete);
                    let mut actions = vec![OrchestratorAction::Phase(Stage::Complete)];
                    self.finish(Ok(()), &mut actions);
                    return actions;
                }
                self.ask_target(now)
            }
            // Asked again after a reconnection: the move has ended there in between. Or it is an old answer.
            State::Driving { .. } | State::Deciding { .. } => self.ask_again_for_the_end(),
            State::Asking { .. }
            | State::Backoff { .. }
            | State::Doubting { .. }
            | State::Searching { .. }
            | State::Over => Vec::new(),
        }
    }

    /// The source refuses, or the daemon lives on `moved` now; that is nothing when this node cannot ask there.
    pub fn declined(&mut self, reason: FailureReason, moved: Option<NodeId>, now: Instant) -> Vec<OrchestratorAction> {
        match self.state {
            State::Inquiring { .. } => match moved {
                Some(node) if self.may_follow() && node != self.wanted.source => {
                    self.wanted.source = node;
                    self.inquire_anew(now)
                }
                Some(_) | None => self.failed(reason, Outcome::Source, now),
            },
            // The answer to a question that was repeated: it was let go to the target, or is gone.
            State::Driving { .. } | State::Deciding { .. } => {
                if moved.is_some() || reason == FailureReason::DaemonNotFound {
                    // It may have been on the target in between.
                    self.ask_again_for_the_end()
                } else {
                    self.failed(reason, Outcome::Source, now)
                }
            }
            State::Asking { .. }
            | State::Backoff { .. }
            | State::Doubting { .. }
            | State::Searching { .. }
            | State::Over => Vec::new(),
        }
    }

    // The source knows how the move ended however late it is asked, and of one that it never heard of it begins it now.
    fn ask_again_for_the_end(&self) -> Vec<OrchestratorAction> {
        let ask = match (&self.cancelling, self.state) {
            (Some(reason), State::Driving { .. } | State::Deciding { .. }) => Ask::Cancel(reason.clone()),
            (None, State::Driving { .. }) => Ask::TakeSnapshot,
            (None, State::Deciding { .. }) => Ask::CutoverNotify,
            (
                _,
                State::Inquiring { .. }
                | State::Asking { .. }
                | State::Backoff { .. }
                | State::Doubting { .. }
                | State::Searching { .. }
                | State::Over,
            ) => return Vec::new(),
        };
        vec![OrchestratorAction::Ask(ask)]
    }

    fn may_follow(&self) -> bool {
        self.wanted.follow && self.followed < MOST_FOLLOWED
    }

    fn inquire_anew(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        self.followed += 1;
        self.attempt += 1;
        self.subject = None;
        self.state = State::Inquiring { until: now + self.silence };
        vec![OrchestratorAction::Ask(Ask::Inquire)]
    }

    fn ask_target(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        self.asked += 1;
        self.state = State::Asking { until: now + self.silence };
        vec![OrchestratorAction::Ask(Ask::Prepare)]
    }

    /// The target agreed.
    pub fn prepared(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        let mut actions = Vec::new();
        if matches!(self.state, State::Asking { .. }) {
            self.state = State::Driving { until: now + self.silence };
            self.enter(Stage::Snapshot, &mut actions);
            actions.push(OrchestratorAction::Ask(Ask::TakeSnapshot));
        }
        actions
    }

    /// The target became ready after it had said that it was not.
    pub fn now_ready(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        if matches!(self.state, State::Backoff { .. }) { self.ask_again(now) } else { Vec::new() }
    }

    fn ask_again(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        self.attempt += 1;
        self.ask_target(now)
    }

    /// The source or the target reports how far it is.
    pub fn status(&mut self, stage: Stage, progress: Progress, now: Instant) -> Vec<OrchestratorAction> {
        if let State::Driving { until } | State::Deciding { until } = &mut self.state {
            *until = now + self.silence;
        }
        let mut actions = Vec::new();
        if matches!(self.state, State::Driving { .. } | State::Deciding { .. }) {
            self.enter(stage, &mut actions);
            self.progress = Progress {
                bytes_sent: self.progress.bytes_sent.max(progress.bytes_sent),
                bytes_total: self.progress.bytes_total.max(progress.bytes_total),
                events_buffered: self.progress.events_buffered.max(progress.events_buffered),
                events_replayed: self.progress.events_replayed.max(progress.events_replayed),
            };
            actions.push(OrchestratorAction::Progress(self.progress));
        }
        actions
    }

    /// The target is slow, and says so.
    pub fn still_at_work(&mut self, now: Instant) {
        if let State::Driving { until } = &mut self.state {
            *until = now + self.silence;
        }
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
        if matches!(self.state, State::Driving { .. }) && self.cancelling.is_none() {
            self.state = State::Deciding { until: now + self.silence };
            self.enter(Stage::Cutover, &mut actions);
            actions.push(OrchestratorAction::Ask(Ask::CutoverNotify));
        }
        actions
    }

    /// The source let its copy go. It never does so without the word for the cutover.
    pub fn completed(&mut self) -> Vec<OrchestratorAction> {
        let mut actions = Vec::new();
        if matches!(self.state, State::Deciding { .. } | State::Doubting { .. }) {
            self.enter(Stage::Complete, &mut actions);
            self.finish(Ok(()), &mut actions);
        }
        actions
    }

    /// A role gave up. `outcome` is where that leaves the daemon.
    pub fn failed(&mut self, reason: FailureReason, outcome: Outcome, now: Instant) -> Vec<OrchestratorAction> {
        match self.state {
            State::Over => Vec::new(),
            State::Asking { .. } if reason == FailureReason::NotReady => self.not_ready(now),
            // The target had no room in time, and the daemon went on.
            State::Driving { .. } if reason == FailureReason::NotReady => match self.cancelling.take() {
                Some(wanted) => {
                    let mut actions = Vec::new();
                    self.finish(Err(MigrationFailure::Refused(wanted, Outcome::Source)), &mut actions);
                    actions
                }
                None => self.not_ready(now),
            },
            // A repetition.
            State::Backoff { .. } if reason == FailureReason::NotReady => Vec::new(),
            // It moved on between the description and the request: nothing was touched.
            State::Driving { .. }
                if reason == FailureReason::DaemonNotFound
                    && self.stage == Some(Stage::Snapshot)
                    && self.cancelling.is_none()
                    && self.may_follow() =>
            {
                let mut actions = Vec::new();
                actions.extend(self.id().map(|id| OrchestratorAction::Ask(Ask::CallOff(id))));
                actions.extend(self.inquire_anew(now));
                actions
            }
            State::Inquiring { .. }
            | State::Asking { .. }
            | State::Backoff { .. }
            | State::Driving { .. }
            | State::Deciding { .. }
            | State::Doubting { .. }
            | State::Searching { .. } => {
                let mut actions = Vec::new();
                let failure = match reason {
                    FailureReason::TargetUnavailable => MigrationFailure::TargetUnavailable(self.wanted.target),
                    FailureReason::DaemonNotFound => MigrationFailure::DaemonNotFound(self.wanted.origin),
                    FailureReason::NotAuthorized => MigrationFailure::NotAuthorized { by: self.wanted.source },
                    FailureReason::WrongPeer => MigrationFailure::WrongPeer { by: self.wanted.target },
                    reason => MigrationFailure::Refused(reason, outcome),
                };
                self.finish(Err(failure), &mut actions);
                actions
            }
        }
    }

    fn not_ready(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        let mut actions = Vec::new();
        if self.wanted.options.retry_not_ready.is_zero() {
            let failure = MigrationFailure::Refused(FailureReason::NotReady, Outcome::Source);
            self.finish(Err(failure), &mut actions);
        } else if now >= self.give_up_at {
            self.finish(Err(MigrationFailure::NotReadyTimeout { attempts: self.asked }), &mut actions);
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
            State::Inquiring { .. } | State::Asking { .. } | State::Backoff { .. } => {
                let mut actions = Vec::new();
                self.finish(Err(MigrationFailure::Refused(reason, self.untouched())), &mut actions);
                actions
            }
            // The source answers with `MigrationFailed`, or with `TooLate` when it has decided already.
            State::Driving { .. } | State::Deciding { .. } => {
                self.cancelling = Some(reason.clone());
                vec![OrchestratorAction::Ask(Ask::Cancel(reason))]
            }
            State::Doubting { .. } | State::Searching { .. } | State::Over => Vec::new(),
        }
    }

    /// The runtime of this node shuts down. `takes_daemon_along` when the daemon lives here and goes with it; behind the word
    /// for the cutover nobody here can say any more where it will be.
    pub fn shut_down(&mut self, takes_daemon_along: bool) -> Vec<OrchestratorAction> {
        let mut actions = Vec::new();
        let outcome = match self.state {
            State::Over => return actions,
            State::Inquiring { .. } | State::Asking { .. } | State::Backoff { .. } => self.untouched(),
            State::Driving { .. } => {
                if !takes_daemon_along {
                    // Source and target need not wait for a silence.
                    actions.push(OrchestratorAction::Ask(Ask::Cancel(FailureReason::Cancelled)));
                }
                Outcome::Source
            }
            State::Deciding { .. } | State::Doubting { .. } | State::Searching { .. } => Outcome::Unknown,
        };
        let outcome = if takes_daemon_along { Outcome::Lost } else { outcome };
        self.finish(Err(MigrationFailure::Refused(FailureReason::Cancelled, outcome)), &mut actions);
        actions
    }

    /// The source has decided already: what was asked for last is void.
    pub fn too_late(&mut self) {
        self.cancelling = None;
    }

    /// Where the daemon is when a move ends that the source has not begun.
    fn untouched(&self) -> Outcome {
        if self.source_cut { Outcome::Unknown } else { Outcome::Source }
    }

    /// The session with a node broke. It may come back: a move under way goes on meanwhile.
    pub fn peer_cut(&mut self, node: NodeId, now: Instant) -> Vec<OrchestratorAction> {
        self.source_cut |= node == self.wanted.source;
        match self.state {
            // While it is only asked, the daemon is untouched.
            State::Inquiring { .. } | State::Asking { .. } | State::Backoff { .. } if node == self.wanted.target => {
                self.failed(FailureReason::lost("target", node), self.untouched(), now)
            }
            State::Doubting { .. } if node == self.wanted.target => self.in_doubt(now),
            // The source sees the target's loss itself and knows what it means.
            State::Inquiring { .. }
            | State::Asking { .. }
            | State::Backoff { .. }
            | State::Driving { .. }
            | State::Deciding { .. }
            | State::Doubting { .. }
            | State::Searching { .. }
            | State::Over => Vec::new(),
        }
    }

    /// The session with a node is back: what was asked or answered last may have been lost with the former one.
    pub fn peer_back(&mut self, node: NodeId) -> Vec<OrchestratorAction> {
        let mut actions = Vec::new();
        if node == self.wanted.source {
            self.source_cut = false;
            // In `Driving` that is also the word to begin, should the first one have been lost.
            actions.extend(self.ask_again_for_the_end());
            if !actions.is_empty() || matches!(self.state, State::Inquiring { .. }) {
                actions.push(OrchestratorAction::Ask(Ask::Inquire));
            }
        } else if node == self.wanted.target && matches!(self.state, State::Driving { .. }) {
            actions.push(OrchestratorAction::Ask(Ask::Prepare));
        }
        actions
    }

    /// A node was declared lost; `dead` when its process is proven to be gone.
    pub fn peer_lost(&mut self, node: NodeId, dead: bool, now: Instant) -> Vec<OrchestratorAction> {
        match self.state {
            State::Inquiring { .. } | State::Asking { .. } | State::Backoff { .. } if node == self.wanted.source => {
                self.source_lost(dead, now)
            }
            State::Inquiring { .. } | State::Asking { .. } | State::Backoff { .. } if node == self.wanted.target => {
                self.failed(FailureReason::lost("target", node), self.untouched(), now)
            }
            // It cannot have released the daemon without the word for the cutover.
            State::Driving { .. } if node == self.wanted.source => self.source_lost(dead, now),
            State::Deciding { .. } if node == self.wanted.source => {
                self.state = State::Doubting { until: now + self.silence, dead };
                vec![OrchestratorAction::Ask(Ask::QueryTarget)]
            }
            State::Doubting { .. } if node == self.wanted.target => self.in_doubt(now),
            State::Inquiring { .. }
            | State::Asking { .. }
            | State::Backoff { .. }
            | State::Driving { .. }
            | State::Deciding { .. }
            | State::Doubting { .. }
            | State::Searching { .. }
            | State::Over => Vec::new(),
        }
    }

    /// The source is lost, and the target does not run the daemon.
    fn source_lost(&mut self, dead: bool, now: Instant) -> Vec<OrchestratorAction> {
        let mut actions = Vec::new();
        // A source that lives on may have let go of it behind the word for the cutover.
        if dead || !matches!(self.state, State::Doubting { .. }) {
            actions.extend(self.id().map(|id| OrchestratorAction::Ask(Ask::CallOff(id))));
        }
        if dead {
            self.state = State::Searching { until: now + self.silence };
            actions.push(OrchestratorAction::Ask(Ask::Search));
        } else {
            actions.extend(self.source_gone(Outcome::Unknown, now));
        }
        actions
    }

    fn source_gone(&mut self, outcome: Outcome, now: Instant) -> Vec<OrchestratorAction> {
        self.failed(FailureReason::lost("source", self.wanted.source), outcome, now)
    }

    /// Where the daemon is that was searched for.
    pub fn searched(&mut self, sighting: Sighting, now: Instant) -> Vec<OrchestratorAction> {
        if !matches!(self.state, State::Searching { .. }) {
            return Vec::new();
        }
        let outcome = match sighting {
            Sighting::On(node) if node == self.wanted.target => Outcome::Target,
            // Its source is a new process there.
            Sighting::On(node) if node == self.wanted.source => Outcome::Source,
            Sighting::On(_) | Sighting::Unclear => Outcome::Unknown,
            Sighting::Nowhere => Outcome::Lost,
        };
        self.source_gone(outcome, now)
    }

    /// Nobody is left who could say whether the target runs it.
    fn in_doubt(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        let detail = format!("source {}, and target {}", self.wanted.source, self.wanted.target);
        self.failed(FailureReason::PeerLost { detail, node: Some(self.wanted.source) }, Outcome::Unknown, now)
    }

    /// The target says what became of its copy.
    pub fn target_copy(&mut self, copy: CopyState, now: Instant) -> Vec<OrchestratorAction> {
        let State::Doubting { dead, .. } = self.state else { return Vec::new() };
        match copy {
            CopyState::Active => self.source_gone(Outcome::Target, now),
            // An undecided copy never goes live by itself.
            CopyState::Undecided | CopyState::Discarded | CopyState::Gone => self.source_lost(dead, now),
        }
    }

    /// A deadline passed.
    pub fn tick(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        let timeout = |detail: &str| FailureReason::Timeout { detail: detail.to_owned() };
        match self.state {
            State::Inquiring { .. } => self.failed(timeout("the source did not answer"), self.untouched(), now),
            State::Asking { .. } => self.failed(timeout("the target did not answer"), self.untouched(), now),
            State::Backoff { .. } => self.ask_again(now),
            State::Driving { .. } => {
                self.state = State::Driving { until: now + self.silence };
                self.abort(timeout("nothing was heard of the migration"))
            }
            State::Deciding { .. } => {
                self.state = State::Deciding { until: now + self.silence };
                self.ask_again_for_the_end()
            }
            State::Doubting { .. } => self.in_doubt(now),
            State::Searching { .. } => self.source_gone(Outcome::Unknown, now),
            State::Over => Vec::new(),
        }
    }

    fn finish(&mut self, result: Result<(), MigrationFailure>, actions: &mut Vec<OrchestratorAction>) {
        self.state = State::Over;
        actions.push(OrchestratorAction::Finished(result));
    }
}
