//! The driver of a migration, on any node. It asks; it decides nothing.
//!
//! It learns from the source what is to be moved, and whether it may; asks the target while the daemon is still live, so
//! that a refusal costs nothing; has the source freeze and send; and gives the word for the cutover when the waiting
//! events are staged. What the source decides then needs no orchestrator. After a reconnection it repeats what it asked
//! last: every answer is the same however often it is given.
//!
//! How a move ends that does not complete, and where the daemon is then, is in `ending`.

use std::time::Duration;

use tokio::time::Instant;

use self::ending::Absence;
pub use self::ending::Sighting;
use super::errand::{Ask, OrchestratorAction, Progress, Subject, Wanted};
use super::failure::{MigrationFailure, Outcome};
use crate::identity::NodeId;
use crate::wire::migration::{FailureReason, MoveId, Stage};

mod ending;

/// How often a daemon that has moved on is followed.
const MOST_FOLLOWED: u32 = 8;
/// How often the source is asked how it ended without a word from it.
const MOST_UNHEARD: u32 = 4;
/// How often the target is asked whether it runs the daemon, within a silence.
const MOST_DOUBTS: u32 = 16;
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
        unheard: u32,
    },
    /// It is to end as `verdict` says, before that word. The source is asked to give up: its answer says whether it has the
    /// daemon.
    Ending {
        until: Instant,
        unheard: u32,
    },
    /// Behind that word the source is lost, or knows of no move: only the target can tell.
    Doubting {
        until: Instant,
        absence: Absence,
        asked: u32,
    },
    /// The daemon is looked for: it may have died with its source, and another move may have taken it elsewhere.
    Searching {
        until: Instant,
        absence: Absence,
    },
    Over,
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
    /// When the source last said that it has the daemon.
    vouched_at: Instant,
    /// What it is to end with, if the source has the daemon.
    verdict: Option<MigrationFailure>,
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
            vouched_at: now,
            verdict: None,
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

    /// When the source last said that it has the daemon; before it has, when it was asked first.
    pub fn vouched_at(&self) -> Instant {
        self.vouched_at
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
            | State::Deciding { until, .. }
            | State::Ending { until, .. }
            | State::Doubting { until, .. }
            | State::Searching { until, .. } => Some(until),
            State::Over => None,
        }
    }

    /// The source says what it is.
    pub fn described(&mut self, subject: Subject, now: Instant) -> Vec<OrchestratorAction> {
        match self.state {
            State::Inquiring { .. } => {
                self.subject = Some(subject);
                self.vouched_at = now;
                if self.wanted.source == self.wanted.target {
                    self.stage = Some(Stage::Complete);
                    let mut actions = vec![OrchestratorAction::Phase(Stage::Complete)];
                    actions.push(self.finish(Ok(())));
                    return actions;
                }
                self.ask_target(now)
            }
            // Asked again after a reconnection: the move has ended there in between. Or it is an old answer.
            State::Driving { .. } | State::Deciding { .. } => self.ask_again_for_the_end(),
            State::Asking { .. }
            | State::Backoff { .. }
            | State::Ending { .. }
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
                    self.source_cut = false;
                    self.inquire_anew(now)
                }
                // Another one had said that it is there.
                Some(_) | None if reason == FailureReason::DaemonNotFound && self.followed > 0 => {
                    self.search(Absence::NotThere, now)
                }
                Some(_) | None => self.told(reason),
            },
            // The answer to a question that was repeated. It may have been on the target in between.
            State::Driving { .. } | State::Deciding { .. } => match reason {
                FailureReason::DaemonNotFound | FailureReason::NotAuthorized => self.ask_again_for_the_end(),
                reason => self.told(reason),
            },
            State::Asking { .. }
            | State::Backoff { .. }
            | State::Ending { .. }
            | State::Doubting { .. }
            | State::Searching { .. }
            | State::Over => Vec::new(),
        }
    }

    // The source knows how the move ended however late it is asked, and of one that it never heard of it begins it now.
    fn ask_again_for_the_end(&self) -> Vec<OrchestratorAction> {
        let ask = match (&self.verdict, self.state) {
            (Some(verdict), State::Ending { .. } | State::Deciding { .. }) => Ask::Cancel(why_cancelled(verdict)),
            (None, State::Deciding { .. }) => Ask::CutoverNotify,
            (_, State::Driving { .. }) => Ask::TakeSnapshot,
            (
                _,
                State::Inquiring { .. }
                | State::Asking { .. }
                | State::Backoff { .. }
                | State::Ending { .. }
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
        let later = now + self.silence;
        match &mut self.state {
            State::Driving { until } => *until = later,
            State::Deciding { until, unheard } => (*until, *unheard) = (later, 0),
            State::Inquiring { .. }
            | State::Asking { .. }
            | State::Backoff { .. }
            | State::Ending { .. }
            | State::Doubting { .. }
            | State::Searching { .. }
            | State::Over => return Vec::new(),
        }
        let mut actions = Vec::new();
        self.enter(stage, &mut actions);
        self.progress = Progress {
            bytes_sent: self.progress.bytes_sent.max(progress.bytes_sent),
            bytes_total: self.progress.bytes_total.max(progress.bytes_total),
            events_buffered: self.progress.events_buffered.max(progress.events_buffered),
            events_replayed: self.progress.events_replayed.max(progress.events_replayed),
        };
        actions.push(OrchestratorAction::Progress(self.progress));
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
        if matches!(self.state, State::Driving { .. }) {
            self.state = State::Deciding { until: now + self.silence, unheard: 0 };
            self.enter(Stage::Cutover, &mut actions);
            actions.push(OrchestratorAction::Ask(Ask::CutoverNotify));
        }
        actions
    }

    fn not_ready(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        if self.wanted.options.retry_not_ready.is_zero() {
            self.end(MigrationFailure::Refused(FailureReason::NotReady, Outcome::Source), now)
        } else if now >= self.give_up_at {
            self.end(MigrationFailure::NotReadyTimeout { attempts: self.asked }, now)
        } else {
            // The last question is put at the end of the budget, not one backoff behind it.
            self.state = State::Backoff { until: (now + self.backoff).min(self.give_up_at) };
            self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
            Vec::new()
        }
    }

    /// A deadline passed.
    pub fn tick(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        let timeout = |detail: &str| {
            let reason = FailureReason::Timeout { detail: detail.to_owned() };
            MigrationFailure::Refused(reason, Outcome::Source)
        };
        match self.state {
            State::Inquiring { .. } => self.end(timeout("the source did not answer"), now),
            State::Asking { .. } => self.end(timeout("the target did not answer"), now),
            State::Backoff { .. } => self.ask_again(now),
            State::Driving { .. } => self.end(timeout("nothing was heard of the migration"), now),
            State::Deciding { unheard, .. } | State::Ending { unheard, .. } if unheard >= MOST_UNHEARD => {
                self.unheard(now)
            }
            State::Deciding { unheard, .. } => {
                self.state = State::Deciding { until: now + self.silence, unheard: unheard + 1 };
                self.ask_again_for_the_end()
            }
            State::Ending { unheard, .. } => {
                self.state = State::Ending { until: now + self.silence / MOST_UNHEARD, unheard: unheard + 1 };
                self.ask_again_for_the_end()
            }
            State::Doubting { absence, asked, .. } => self.doubt_again(absence, asked, now),
            State::Searching { .. } => self.searched(Sighting::Unclear),
            State::Over => Vec::new(),
        }
    }

    /// The session with a node is back: what was asked or answered last may have been lost with the former one.
    pub fn peer_back(&mut self, node: NodeId) -> Vec<OrchestratorAction> {
        let mut actions = Vec::new();
        if node == self.wanted.source {
            self.source_cut = false;
            // In `Driving` that is also the word to begin, should the first one have been lost.
            actions.extend(self.ask_again_for_the_end());
            if matches!(self.state, State::Inquiring { .. } | State::Driving { .. } | State::Deciding { .. }) {
                actions.push(OrchestratorAction::Ask(Ask::Inquire));
            }
        } else if node == self.wanted.target && matches!(self.state, State::Driving { .. }) {
            actions.push(OrchestratorAction::Ask(Ask::Prepare));
        }
        actions
    }
}

/// What the source is told of why it is to give up.
fn why_cancelled(verdict: &MigrationFailure) -> FailureReason {
    let reason = verdict.reason();
    if matches!(reason, FailureReason::Timeout { .. }) { reason } else { FailureReason::Cancelled }
}
