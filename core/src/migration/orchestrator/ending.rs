//! How a move ends that does not complete, and where the daemon is then.
//!
//! `source` is told on the source's own word only: whatever else ends a move before the word for the cutover (a refusal by
//! the target, a deadline, a caller who gives up) has the source asked to give up, and its answer says whether it has the
//! daemon. A source that is dead, or says that it knows of none, has the daemon looked for; behind the word for the cutover
//! the target is asked before.

use tokio::time::Instant;

use super::super::errand::{Ask, OrchestratorAction};
use super::super::failure::{MigrationFailure, Outcome};
use super::{MOST_DOUBTS, MOST_UNHEARD, Orchestrator, State};
use crate::identity::NodeId;
use crate::wire::migration::{CopyState, FailureReason, Stage};

/// Why the source is not to be counted on any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// Its process has died.
    Dead,
    /// It was given up for its silence.
    OutOfReach,
    /// It says that it has no such daemon, or knows of no such move.
    NotThere,
    /// It could not be asked, or does not answer, and is in reach.
    Unsaid,
}

/// Where a daemon was found that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// On this node.
    On(NodeId),
    /// On none: everybody who would know was asked.
    Nowhere,
    /// Some did not answer.
    Unclear,
}

impl Orchestrator {
    /// The source let its copy go. It never does so without the word for the cutover.
    pub fn completed(&mut self) -> Vec<OrchestratorAction> {
        let mut actions = Vec::new();
        if matches!(self.state, State::Deciding { .. } | State::Doubting { .. }) {
            self.enter(Stage::Complete, &mut actions);
            actions.push(self.finish(Ok(())));
        }
        actions
    }

    /// The source gave up, or does not begin.
    pub fn source_failed(&mut self, reason: FailureReason, now: Instant) -> Vec<OrchestratorAction> {
        let knows_of_none = reason == FailureReason::DaemonNotFound;
        match self.state {
            State::Driving { .. } if reason == FailureReason::NotReady => self.not_ready(now),
            // A repetition.
            State::Backoff { .. } if reason == FailureReason::NotReady => Vec::new(),
            // It moved on between the description and the request: nothing was touched.
            State::Driving { .. } if knows_of_none && self.stage == Some(Stage::Snapshot) && self.may_follow() => {
                let mut actions = Vec::new();
                actions.extend(self.id().map(|id| OrchestratorAction::Ask(Ask::CallOff(id))));
                actions.extend(self.inquire_anew(now));
                actions
            }
            State::Asking { .. }
            | State::Backoff { .. }
            | State::Driving { .. }
            | State::Deciding { .. }
            | State::Ending { .. }
            | State::Doubting { .. } => match reason {
                FailureReason::DaemonNotFound | FailureReason::NotAuthorized => self.disclaimed(knows_of_none, now),
                reason => self.told(reason),
            },
            State::Inquiring { .. } | State::Searching { .. } | State::Over => Vec::new(),
        }
    }

    /// The source has no such daemon (`not_there`), or does not say so to this node: of a move that it began, it would speak.
    fn disclaimed(&mut self, not_there: bool, now: Instant) -> Vec<OrchestratorAction> {
        if let State::Deciding { .. } | State::Doubting { .. } = self.state {
            self.doubt(Absence::NotThere, now)
        } else if not_there {
            self.search(Absence::NotThere, now)
        } else {
            self.verdict.get_or_insert(MigrationFailure::NotAuthorized { by: self.wanted.source });
            self.search(Absence::Unsaid, now)
        }
    }

    /// The target does not take it. Once it agreed, only the source's word counts.
    pub fn target_refused(&mut self, reason: FailureReason, now: Instant) -> Vec<OrchestratorAction> {
        let asking = matches!(self.state, State::Asking { .. });
        let failure = match reason {
            FailureReason::NotReady if asking => return self.not_ready(now),
            // A repetition.
            FailureReason::NotReady => return Vec::new(),
            FailureReason::TargetUnavailable => MigrationFailure::TargetUnavailable(self.wanted.target),
            FailureReason::WrongPeer => MigrationFailure::WrongPeer { by: self.wanted.target },
            reason => MigrationFailure::Refused(reason, Outcome::Source),
        };
        if asking || matches!(self.state, State::Backoff { .. }) { self.end(failure, now) } else { Vec::new() }
    }

    /// The source has decided and cannot reach the target.
    pub fn source_in_doubt(&mut self) -> Vec<OrchestratorAction> {
        if matches!(self.state, State::Deciding { .. } | State::Doubting { .. }) {
            let reason = FailureReason::lost("target", self.wanted.target);
            return vec![self.fail(reason, Outcome::Unknown)];
        }
        Vec::new()
    }

    /// The caller wants it to end. Nothing happens behind the cutover: then the source alone decides.
    pub fn abort(&mut self, reason: FailureReason, now: Instant) -> Vec<OrchestratorAction> {
        let failure = MigrationFailure::Refused(reason, Outcome::Source);
        match self.state {
            State::Inquiring { .. } | State::Asking { .. } | State::Backoff { .. } | State::Driving { .. } => {
                self.end(failure, now)
            }
            // The source answers with `MigrationFailed`, or with `TooLate` when it has decided already.
            State::Deciding { .. } => {
                self.verdict = Some(failure);
                self.ask_again_for_the_end()
            }
            State::Ending { .. } | State::Doubting { .. } | State::Searching { .. } | State::Over => Vec::new(),
        }
    }

    /// The source has decided already: what was asked for last is void.
    pub fn too_late(&mut self) {
        self.verdict = None;
    }

    /// The runtime of this node shuts down. `takes_daemon_along` when the daemon lives here and goes with it; behind the word
    /// for the cutover nobody here can say any more where it will be.
    pub fn shut_down(&mut self, takes_daemon_along: bool) -> Vec<OrchestratorAction> {
        if self.is_over() {
            return Vec::new();
        }
        let mut actions = Vec::new();
        if matches!(self.state, State::Driving { .. }) && !takes_daemon_along {
            // Source and target need not wait for a silence.
            actions.push(OrchestratorAction::Ask(Ask::Cancel(FailureReason::Cancelled)));
        }
        let source_may_not_have_it = matches!(
            self.state,
            State::Ending { .. } | State::Deciding { .. } | State::Doubting { .. } | State::Searching { .. }
        );
        let outcome = if takes_daemon_along {
            Outcome::Lost
        } else if source_may_not_have_it || self.source_cut {
            Outcome::Unknown
        } else {
            Outcome::Source
        };
        actions.push(self.fail(FailureReason::Cancelled, outcome));
        actions
    }

    /// The session with a node broke. It may come back: a move under way goes on meanwhile.
    pub fn peer_cut(&mut self, node: NodeId, now: Instant) -> Vec<OrchestratorAction> {
        if node == self.wanted.source {
            // Perhaps also where it is to go.
            self.source_cut = true;
            return Vec::new();
        }
        if node == self.wanted.target { self.target_gone(now) } else { Vec::new() }
    }

    /// A node was declared lost; `dead` when its process is proven to be gone.
    pub fn peer_lost(&mut self, node: NodeId, dead: bool, now: Instant) -> Vec<OrchestratorAction> {
        if node != self.wanted.source {
            return if node == self.wanted.target { self.target_gone(now) } else { Vec::new() };
        }
        let absence = if dead { Absence::Dead } else { Absence::OutOfReach };
        match self.state {
            // It cannot have released the daemon without the word for the cutover.
            State::Inquiring { .. }
            | State::Asking { .. }
            | State::Backoff { .. }
            | State::Driving { .. }
            | State::Ending { .. } => self.search(absence, now),
            State::Deciding { .. } => self.doubt(absence, now),
            State::Doubting { .. } | State::Searching { .. } | State::Over => Vec::new(),
        }
    }

    /// The target is out of reach. The source sees the same and knows what it means, where it takes part already.
    fn target_gone(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        if matches!(self.state, State::Inquiring { .. } | State::Asking { .. } | State::Backoff { .. }) {
            let reason = FailureReason::lost("target", self.wanted.target);
            return self.end(MigrationFailure::Refused(reason, Outcome::Source), now);
        }
        if matches!(self.state, State::Doubting { .. }) { self.in_doubt() } else { Vec::new() }
    }

    /// Ends it before the word for the cutover, with this failure if the source has the daemon.
    pub(super) fn end(&mut self, failure: MigrationFailure, now: Instant) -> Vec<OrchestratorAction> {
        self.verdict = Some(failure);
        if self.id().is_none() {
            // The source has not even said what it is.
            return self.search(Absence::Unsaid, now);
        }
        self.state = State::Ending { until: now + self.silence / MOST_UNHEARD, unheard: 1 };
        self.ask_again_for_the_end()
    }

    /// The source does not answer, again and again.
    pub(super) fn unheard(&mut self, now: Instant) -> Vec<OrchestratorAction> {
        let absence = if self.source_cut { Absence::OutOfReach } else { Absence::Unsaid };
        if matches!(self.state, State::Deciding { .. }) { self.doubt(absence, now) } else { self.search(absence, now) }
    }

    /// Asks the target, as the source may have handed over and cannot say so.
    fn doubt(&mut self, absence: Absence, now: Instant) -> Vec<OrchestratorAction> {
        self.state = State::Doubting { until: now + self.silence / MOST_DOUBTS, absence, asked: 1 };
        self.ask_target_for_the_end(absence)
    }

    /// The target has not said what became of its copy, or does not know yet.
    pub(super) fn doubt_again(&mut self, absence: Absence, asked: u32, now: Instant) -> Vec<OrchestratorAction> {
        if asked >= MOST_DOUBTS {
            return self.in_doubt();
        }
        self.state = State::Doubting { until: now + self.silence / MOST_DOUBTS, absence, asked: asked + 1 };
        self.ask_target_for_the_end(absence)
    }

    fn ask_target_for_the_end(&self, absence: Absence) -> Vec<OrchestratorAction> {
        let call_off = match absence {
            // It drops what is not whole, and asks the source itself about what is.
            Absence::Dead | Absence::NotThere => self.id().map(Ask::CallOff),
            Absence::OutOfReach | Absence::Unsaid => None,
        };
        call_off.into_iter().chain([Ask::QueryTarget]).map(OrchestratorAction::Ask).collect()
    }

    /// The target says what became of its copy.
    pub fn target_copy(&mut self, copy: CopyState, now: Instant) -> Vec<OrchestratorAction> {
        let State::Doubting { absence, .. } = self.state else { return Vec::new() };
        match (copy, absence) {
            // The source is there, and has let go of it.
            (CopyState::Active, Absence::NotThere) => self.completed(),
            (CopyState::Active, Absence::Dead | Absence::OutOfReach | Absence::Unsaid) => {
                vec![self.fail(self.why(absence), Outcome::Target)]
            }
            // The source's last word may be on its way: it is asked again.
            (CopyState::Undecided, Absence::Dead | Absence::NotThere) => Vec::new(),
            (CopyState::Discarded | CopyState::Gone, Absence::Dead | Absence::NotThere) => self.search(absence, now),
            // A source that lives on may have let go of it.
            (CopyState::Undecided | CopyState::Discarded | CopyState::Gone, Absence::OutOfReach | Absence::Unsaid) => {
                vec![self.fail(self.why(absence), Outcome::Unknown)]
            }
        }
    }

    /// Looks for the daemon, which the target does not run. Whoever was given up for its silence may run it, and nobody can
    /// say so.
    pub(super) fn search(&mut self, absence: Absence, now: Instant) -> Vec<OrchestratorAction> {
        let mut actions: Vec<_> = self.id().map(|id| OrchestratorAction::Ask(Ask::CallOff(id))).into_iter().collect();
        match absence {
            Absence::OutOfReach => actions.push(self.fail(self.why(absence), Outcome::Unknown)),
            Absence::Dead | Absence::NotThere | Absence::Unsaid => {
                self.state = State::Searching { until: now + self.silence, absence };
                actions.push(OrchestratorAction::Ask(Ask::Search));
            }
        }
        actions
    }

    /// Where the daemon is that was searched for.
    pub fn searched(&mut self, sighting: Sighting) -> Vec<OrchestratorAction> {
        let State::Searching { absence, .. } = self.state else { return Vec::new() };
        let outcome = match sighting {
            // Perhaps a new process there.
            Sighting::On(node) if node == self.wanted.source => Outcome::Source,
            Sighting::On(node) if node == self.wanted.target => Outcome::Target,
            Sighting::On(_) | Sighting::Unclear => Outcome::Unknown,
            // The source may have been cut off before it could be asked, or has yet to say what it is.
            Sighting::Nowhere if absence != Absence::Dead && (self.source_cut || self.subject.is_none()) => {
                Outcome::Unknown
            }
            Sighting::Nowhere => Outcome::Lost,
        };
        let ended = match &self.verdict {
            Some(verdict) if outcome == Outcome::Source && absence != Absence::Dead => {
                let verdict = verdict.clone();
                self.finish(Err(verdict))
            }
            Some(_) | None => self.fail(self.why(absence), outcome),
        };
        vec![ended]
    }

    /// Nobody is left who could say whether the target runs it.
    pub(super) fn in_doubt(&mut self) -> Vec<OrchestratorAction> {
        let detail = format!("source {}, and target {}", self.wanted.source, self.wanted.target);
        let reason = FailureReason::PeerLost { detail, node: Some(self.wanted.source) };
        vec![self.fail(reason, Outcome::Unknown)]
    }

    /// The source's own word ends it: for what it was to end with, unless that word says that the daemon is not there.
    pub(super) fn told(&mut self, reason: FailureReason) -> Vec<OrchestratorAction> {
        let source = self.wanted.source;
        let failure = match (Outcome::told_by(source, &reason), self.verdict.take()) {
            (Outcome::Source, Some(verdict)) => verdict,
            (outcome, _) => match reason {
                FailureReason::TargetUnavailable => MigrationFailure::TargetUnavailable(self.wanted.target),
                FailureReason::DaemonNotFound => MigrationFailure::DaemonNotFound(self.wanted.origin),
                FailureReason::NotAuthorized => MigrationFailure::NotAuthorized { by: source },
                FailureReason::WrongPeer => MigrationFailure::WrongPeer { by: self.wanted.target },
                reason => MigrationFailure::Refused(reason, outcome),
            },
        };
        vec![self.finish(Err(failure))]
    }

    fn why(&self, absence: Absence) -> FailureReason {
        match absence {
            Absence::Dead | Absence::OutOfReach => FailureReason::lost("source", self.wanted.source),
            Absence::NotThere => FailureReason::DaemonNotFound,
            Absence::Unsaid => self.verdict.as_ref().map_or_else(
                || FailureReason::Timeout { detail: "the source did not say how it ended".to_owned() },
                MigrationFailure::reason,
            ),
        }
    }

    fn fail(&mut self, reason: FailureReason, outcome: Outcome) -> OrchestratorAction {
        self.finish(Err(MigrationFailure::Refused(reason, outcome)))
    }

    pub(super) fn finish(&mut self, result: Result<(), MigrationFailure>) -> OrchestratorAction {
        self.state = State::Over;
        OrchestratorAction::Finished(result)
    }
}
