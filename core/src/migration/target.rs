//! The host that a daemon comes to. It runs nothing before the source's word.

use std::time::Duration;

use tokio::time::Instant;

use super::failure::Outcome;
use crate::identity::NodeId;
use crate::wire::migration::{CopyState, FailureReason, MoveId, Stage};

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetAction {
    /// Tell the orchestrator that it may come.
    Agree,
    /// Tell the source that there is room.
    Grant,
    /// Verify the state and build the daemon.
    Build,
    /// Hand it its state.
    Restore,
    /// Tell source and orchestrator that it stands.
    SayRestored,
    /// Tell them how many events are staged.
    SayStaged,
    /// Go live and run what is staged.
    Activate,
    /// Tell the source that it is live.
    Acknowledge,
    /// Ask the source whether it released the daemon.
    AskSource,
    /// A step failed here: drop what arrived, and tell the others why.
    Discard(FailureReason, Outcome),
    /// The others gave it up, or are gone: drop what arrived.
    CallOff(FailureReason, Outcome),
    /// The source let go: the move is over here too.
    Finish,
    /// The source is said to be gone: look whether it had gone on with the daemon, which may live elsewhere.
    LookElsewhere,
    /// The source is there after all: it says itself what became of the daemon.
    StopLooking,
    /// The source is gone, and this copy is all that is left: go on here as a new life.
    TakeOver,
    /// Tell source and orchestrator that it is still at work.
    StillAtWork,
}

/// Where the move stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetState {
    /// Agreed; nothing arrived.
    Prepared,
    /// Room for the state is waited for.
    Waiting,
    /// Chunks arrive.
    Receiving,
    /// The factory builds it.
    Building,
    /// Its `restore` runs.
    Restoring,
    /// It stands and holds staged events.
    Staged {
        /// All of them are here.
        complete: bool,
    },
    /// Live, and the source has not let go yet.
    Active,
    /// Over.
    Over,
}

/// The target of one migration.
#[derive(Debug)]
pub struct Target {
    /// The current attempt.
    pub id: MoveId,
    /// Who drives.
    pub orchestrator: NodeId,
    /// Where it comes from.
    pub source: NodeId,
    /// Where the move stands.
    pub state: TargetState,
    /// How many events are staged.
    pub staged: u64,
    silence: Duration,
    hold: Duration,
    heard_at: Instant,
    cut_off: bool,
    searching: bool,
    working_until: Instant,
    reported_at: Instant,
}

impl Target {
    /// A migration that this node agreed to.
    pub fn new(
        id: MoveId,
        (orchestrator, source): (NodeId, NodeId),
        (silence, hold): (Duration, Duration),
        now: Instant,
    ) -> (Self, Vec<TargetAction>) {
        let machine = Self {
            id,
            orchestrator,
            source,
            state: TargetState::Prepared,
            staged: 0,
            silence,
            hold,
            heard_at: now,
            cut_off: false,
            searching: false,
            working_until: now,
            reported_at: now,
        };
        (machine, vec![TargetAction::Agree])
    }

    /// The phase as others see it.
    pub fn stage(&self) -> Stage {
        match self.state {
            TargetState::Prepared => Stage::Snapshot,
            TargetState::Waiting | TargetState::Receiving => Stage::Transfer,
            TargetState::Building | TargetState::Restoring => Stage::Restore,
            TargetState::Staged { complete: false } => Stage::Replay,
            TargetState::Staged { complete: true } => Stage::Cutover,
            TargetState::Active | TargetState::Over => Stage::Complete,
        }
    }

    /// Whether the source has begun, and cannot have decided yet.
    pub fn is_under_way(&self) -> bool {
        match self.state {
            TargetState::Waiting
            | TargetState::Receiving
            | TargetState::Building
            | TargetState::Restoring
            | TargetState::Staged { complete: false } => true,
            TargetState::Prepared
            | TargetState::Staged { complete: true }
            | TargetState::Active
            | TargetState::Over => false,
        }
    }

    /// Something was heard of the source.
    pub fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.cut_off = false;
    }

    /// The source asks for room. Whether there is some is said with [`granted`](Self::granted).
    pub fn reserve(&mut self, now: Instant) -> bool {
        self.heard(now);
        let (TargetState::Prepared | TargetState::Waiting) = self.state else { return false };
        self.state = TargetState::Waiting;
        true
    }

    /// There is room.
    pub fn granted(&mut self) -> Vec<TargetAction> {
        let TargetState::Waiting = self.state else { return Vec::new() };
        self.state = TargetState::Receiving;
        vec![TargetAction::Grant]
    }

    /// The whole state and its seal are here. Factory and `restore` have twice the callback timeout together.
    pub fn received(&mut self, callback_timeout: Duration, now: Instant) -> Vec<TargetAction> {
        self.heard(now);
        self.working_until = now + 2 * callback_timeout;
        self.reported_at = now;
        let TargetState::Receiving = self.state else { return Vec::new() };
        self.state = TargetState::Building;
        vec![TargetAction::Build]
    }

    /// The factory made the daemon.
    pub fn built(&mut self, stateful: bool) -> Vec<TargetAction> {
        let TargetState::Building = self.state else { return Vec::new() };
        if !stateful {
            return self.restored();
        }
        self.state = TargetState::Restoring;
        vec![TargetAction::Restore]
    }

    /// The daemon took its state.
    pub fn restored(&mut self) -> Vec<TargetAction> {
        let (TargetState::Building | TargetState::Restoring) = self.state else { return Vec::new() };
        self.state = TargetState::Staged { complete: false };
        vec![TargetAction::SayRestored]
    }

    /// Events from position `first` on were staged; `total` comes with the last ones.
    pub fn staged(&mut self, now_staged: u64, total: Option<u64>, now: Instant) -> Vec<TargetAction> {
        self.heard(now);
        let TargetState::Staged { complete } = &mut self.state else { return Vec::new() };
        self.staged = now_staged;
        *complete = *complete || total == Some(now_staged);
        vec![TargetAction::SayStaged]
    }

    /// The source released it to this node.
    pub fn activate(&mut self, now: Instant) -> Vec<TargetAction> {
        match self.state {
            TargetState::Staged { complete: true } => {
                self.heard(now);
                self.state = TargetState::Active;
                vec![TargetAction::Activate, TargetAction::Acknowledge]
            }
            // The acknowledgement was lost.
            TargetState::Active => vec![TargetAction::Acknowledge],
            TargetState::Prepared
            | TargetState::Waiting
            | TargetState::Receiving
            | TargetState::Building
            | TargetState::Restoring
            | TargetState::Staged { complete: false }
            | TargetState::Over => Vec::new(),
        }
    }

    /// The source let go.
    pub fn cleaned_up(&mut self) -> Vec<TargetAction> {
        let TargetState::Active = self.state else { return Vec::new() };
        self.state = TargetState::Over;
        vec![TargetAction::Finish]
    }

    /// A step failed here: say so.
    pub fn fail(&mut self, reason: FailureReason) -> Vec<TargetAction> {
        // A source that cannot be asked may have decided, and may be dead.
        let outcome = if self.is_in_doubt() { Outcome::Unknown } else { Outcome::Source };
        self.end_with(TargetAction::Discard(reason, outcome))
    }

    /// The source or the orchestrator gave up, or is gone. `outcome` is where that leaves the daemon.
    pub fn called_off(&mut self, reason: FailureReason, outcome: Outcome) -> Vec<TargetAction> {
        self.end_with(TargetAction::CallOff(reason, outcome))
    }

    fn end_with(&mut self, end: TargetAction) -> Vec<TargetAction> {
        if let TargetState::Active | TargetState::Over = self.state {
            return Vec::new();
        }
        self.state = TargetState::Over;
        vec![end]
    }

    /// Whether the source may have released the daemon to this copy: all of it is here.
    pub fn may_be_released(&self) -> bool {
        matches!(self.state, TargetState::Staged { complete: true } | TargetState::Active)
    }

    /// What the copy here is to the source.
    pub fn copy(&self) -> CopyState {
        match self.state {
            TargetState::Active => CopyState::Active,
            TargetState::Over => CopyState::Discarded,
            TargetState::Prepared
            | TargetState::Waiting
            | TargetState::Receiving
            | TargetState::Building
            | TargetState::Restoring
            | TargetState::Staged { .. } => CopyState::Undecided,
        }
    }

    /// The session with the source broke. An undecided copy is kept: the source may have released it.
    pub fn source_cut_off(&mut self, dead: bool, now: Instant) -> Vec<TargetAction> {
        match self.state {
            TargetState::Staged { complete: true } if !dead => {
                self.cut_off = true;
                self.heard_at = now;
                Vec::new()
            }
            // Nothing can have been released before all was staged.
            TargetState::Prepared
            | TargetState::Waiting
            | TargetState::Receiving
            | TargetState::Building
            | TargetState::Restoring
            | TargetState::Staged { .. } => {
                // A broken connection does not tell whether the source goes on with it or died.
                let outcome = if dead { Outcome::Lost } else { Outcome::Unknown };
                self.called_off(FailureReason::lost("source", self.source), outcome)
            }
            // The source's copy died with it: this one is the daemon.
            TargetState::Active if dead => {
                self.state = TargetState::Over;
                vec![TargetAction::Finish]
            }
            TargetState::Active => {
                self.cut_off = true;
                self.heard_at = now;
                Vec::new()
            }
            TargetState::Over => Vec::new(),
        }
    }

    /// The session with the source is back: its word, or this node's, may have been lost with the former one.
    pub fn source_back(&mut self, now: Instant) -> Vec<TargetAction> {
        match self.state {
            TargetState::Staged { complete: true } => {
                self.heard(now);
                let mut actions = self.stop_looking();
                actions.push(TargetAction::AskSource);
                actions
            }
            TargetState::Active => {
                self.heard(now);
                vec![TargetAction::Acknowledge]
            }
            TargetState::Prepared
            | TargetState::Waiting
            | TargetState::Receiving
            | TargetState::Building
            | TargetState::Restoring
            | TargetState::Staged { complete: false }
            | TargetState::Over => Vec::new(),
        }
    }

    /// Whether the copy is whole and its source, which may have released it, out of reach.
    pub fn is_in_doubt(&self) -> bool {
        self.cut_off && self.state == (TargetState::Staged { complete: true })
    }

    /// Whether the copy was whole when its source was heard last, and that is so still.
    pub fn was_whole_when_cut_off(&self) -> bool {
        self.cut_off
    }

    /// The operator's word that the source is gone. Nothing while it is in reach, and nothing of a copy that is not whole.
    pub fn recover(&mut self) -> Vec<TargetAction> {
        self.searching = self.is_in_doubt();
        if self.searching { vec![TargetAction::LookElsewhere] } else { Vec::new() }
    }

    fn stop_looking(&mut self) -> Vec<TargetAction> {
        if std::mem::take(&mut self.searching) { vec![TargetAction::StopLooking] } else { Vec::new() }
    }

    /// The daemon was looked for, and lives nowhere as far as can be known.
    pub fn lives_nowhere(&mut self) -> Vec<TargetAction> {
        if !self.searching || !self.is_in_doubt() {
            return self.stop_looking();
        }
        self.state = TargetState::Over;
        vec![TargetAction::TakeOver]
    }

    /// The source says what became of the daemon there. Whatever it is, it is not released to this copy: then it would
    /// have said so.
    pub fn source_answered(&mut self, copy: CopyState) -> Vec<TargetAction> {
        match copy {
            CopyState::Active | CopyState::Discarded => self.called_off(FailureReason::Cancelled, Outcome::Source),
            CopyState::Gone => self.called_off(FailureReason::lost("source", self.source), Outcome::Unknown),
            CopyState::Undecided => Vec::new(),
        }
    }

    /// The next instant at which [`tick`](Self::tick) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            // The source may wait long for its daemon to freeze; it says that it is at work.
            TargetState::Prepared | TargetState::Waiting | TargetState::Receiving => {
                Some(self.heard_at + 4 * self.silence)
            }
            // The search has its own end.
            TargetState::Staged { .. } if self.searching => None,
            TargetState::Staged { complete } => {
                // While it built and restored, it was this node that spoke.
                let since = self.heard_at.max(self.reported_at);
                Some(since + if complete { self.hold } else { 4 * self.silence })
            }
            TargetState::Building | TargetState::Restoring => {
                Some(self.working_until.min(self.reported_at + self.silence / 4))
            }
            // Until the source has let go it is told again; one that stays away is not waited for without end.
            TargetState::Active => Some(self.heard_at + if self.cut_off { self.hold } else { self.silence }),
            TargetState::Over => None,
        }
    }

    /// A deadline passed.
    pub fn tick(&mut self, now: Instant) -> Vec<TargetAction> {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        match self.state {
            TargetState::Building | TargetState::Restoring if self.working_until > now => {
                self.reported_at = now;
                vec![TargetAction::StillAtWork]
            }
            TargetState::Building | TargetState::Restoring => {
                let detail = "factory or restore did not settle in time".to_owned();
                self.fail(FailureReason::StateFailed { detail })
            }
            TargetState::Active if self.cut_off => {
                self.state = TargetState::Over;
                vec![TargetAction::Finish]
            }
            TargetState::Active => {
                self.heard_at = now;
                vec![TargetAction::Acknowledge]
            }
            TargetState::Prepared | TargetState::Waiting | TargetState::Receiving | TargetState::Staged { .. } => {
                self.fail(FailureReason::Timeout { detail: "the source was not heard".to_owned() })
            }
            TargetState::Over => Vec::new(),
        }
    }
}
