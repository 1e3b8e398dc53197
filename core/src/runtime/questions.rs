//! Questions to the embedder's policy that wait for its answer.
//!
//! Each waits for as long as a role may be silent. Whoever asks again while its question is open is not asked about twice, and
//! nobody has so many open that others find no room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::admission::{Inquiry, Proposal};
use super::engine::{Engine, Now};
use super::timers::TimerKey;
use super::work::{MigrationRequest, Work};
use crate::identity::{MigrationId, NodeId};
use crate::wire::migration::MoveId;

/// Most questions of one node, and of all, that are open; whoever comes then is told that this node is not ready.
const MOST_OF_ONE: usize = 1024;
const MOST: usize = 8192;

/// A question to the embedder's policy.
pub(super) enum Question {
    /// May this daemon come?
    Arrival { proposal: Proposal, kind: Arc<str> },
    /// May it still, now that its state has shown to be so large?
    Size { source: NodeId, orchestrator: NodeId, id: MoveId, kind: Arc<str>, total: u64 },
    /// May this node be told of a daemon that it wants to move?
    Inquiry(Inquiry),
    /// May it move that daemon?
    Departure { from: NodeId, id: MoveId, target: NodeId, transport_identity: bool },
}

impl Question {
    /// Who asked.
    pub(super) fn from(&self) -> NodeId {
        match self {
            Self::Arrival { proposal, .. } => proposal.from,
            Self::Departure { from, .. } | Self::Size { source: from, .. } => *from,
            Self::Inquiry(inquiry) => inquiry.from,
        }
    }

    /// Whether it is about this attempt of that orchestrator.
    pub(super) fn is(&self, from: NodeId, id: &MoveId) -> bool {
        match self {
            Self::Arrival { proposal: Proposal { id: about, .. }, .. }
            | Self::Departure { id: about, .. }
            | Self::Size { id: about, .. } => self.from() == from && about == id,
            Self::Inquiry(_) => false,
        }
    }

    /// Which migration it is about, and which attempt.
    fn about(&self) -> (MigrationId, u32) {
        match self {
            Self::Arrival { proposal: Proposal { id, .. }, .. }
            | Self::Departure { id, .. }
            | Self::Size { id, .. } => (id.migration, id.attempt),
            Self::Inquiry(inquiry) => (inquiry.migration, inquiry.attempt),
        }
    }

    /// Whether somebody asks the same of the same migration, perhaps in other words.
    fn repeats(&self, other: &Self) -> bool {
        let key = |question: &Self| (std::mem::discriminant(question), question.from(), question.about().0);
        key(self) == key(other)
    }

    /// What the embedder is shown of a daemon that is to come.
    fn request(&self) -> Option<MigrationRequest> {
        let (entity, kind, source, orchestrator, state_bytes) = match self {
            Self::Arrival { proposal: Proposal { from, id, source, state_bytes, .. }, kind } => {
                (id.entity, kind, *source, *from, *state_bytes)
            }
            Self::Size { source, orchestrator, id, kind, total } => (id.entity, kind, *source, *orchestrator, *total),
            Self::Inquiry(_) | Self::Departure { .. } => return None,
        };
        Some(MigrationRequest { entity, kind: kind.clone(), source, orchestrator, state_bytes })
    }
}

/// The open questions, by number.
#[derive(Default)]
pub(super) struct Asked {
    open: BTreeMap<u64, (Question, Instant)>,
}

/// What becomes of a further question.
enum Place {
    /// The embedder is asked.
    New,
    /// It is being asked that, under this number.
    Open(u64),
    /// It is not asked.
    None,
}

impl Asked {
    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Orchestrators of daemons that may come if the embedder agrees.
    pub(super) fn who_would_come(&self) -> impl Iterator<Item = NodeId> {
        self.open.values().filter_map(|(question, _)| match question {
            Question::Arrival { proposal, .. } => Some(proposal.from),
            Question::Size { .. } | Question::Inquiry(_) | Question::Departure { .. } => None,
        })
    }

    /// Takes out one.
    pub(super) fn take(&mut self, number: u64) -> Option<Question> {
        self.open.remove(&number).map(|(question, _)| question)
    }

    /// Takes out all.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Question> + use<> {
        std::mem::take(&mut self.open).into_values().map(|(question, _)| question)
    }

    fn place_for(&self, question: &Question) -> Place {
        let mut own = 0;
        for (number, (open, _)) in &self.open {
            if question.repeats(open) {
                let newer = question.about().1 >= open.about().1;
                return if newer && question.request() == open.request() { Place::Open(*number) } else { Place::None };
            }
            own += usize::from(open.from() == question.from());
        }
        if own < MOST_OF_ONE && self.open.len() < MOST { Place::New } else { Place::None }
    }

    /// Takes out those for which something holds.
    fn take_if(&mut self, gone: impl Fn(&Question, Instant) -> bool) -> BTreeMap<u64, (Question, Instant)> {
        let is_gone = |(_, (question, until)): &(u64, (Question, Instant))| gone(question, *until);
        let (gone, open) = std::mem::take(&mut self.open).into_iter().partition(is_gone);
        self.open = open;
        gone
    }
}

impl Engine {
    /// Asks the embedder. One that cannot be asked now has not answered.
    pub(super) fn ask_policy(&mut self, question: Question, now: Now) {
        let until = now.instant + self.options.migration.silence;
        match self.asked.place_for(&question) {
            Place::New => {
                self.questions += 1;
                let number = self.questions;
                self.work.push(match question.request() {
                    Some(request) => Work::Admit { question: number, request },
                    None => Work::AdmitOrchestrator { question: number, node: question.from() },
                });
                self.asked.open.insert(number, (question, until));
                self.timers.arm(TimerKey::Questions, until);
            }
            // The newest attempt is the one that is answered.
            Place::Open(number) => {
                if let Some((open, _)) = self.asked.open.get_mut(&number) {
                    *open = question;
                }
            }
            Place::None => self.answer_question(question, None, now),
        }
    }

    /// Nobody waits any more for the answers to some questions.
    pub(super) fn withdraw_questions(&mut self, gone: impl Fn(&Question) -> bool) {
        let gone: BTreeSet<u64> = self.asked.take_if(|question, _| gone(question)).into_keys().collect();
        self.work.withdraw(&gone);
    }

    /// Answers in the embedder's place what it has not answered in time.
    pub(super) fn tick_questions(&mut self, now: Now) {
        let late = self.asked.take_if(|_, until| until <= now.instant);
        self.work.withdraw(&late.keys().copied().collect());
        for (question, _) in late.into_values() {
            self.answer_question(question, None, now);
        }
        if let Some((_, until)) = self.asked.open.values().next() {
            self.timers.arm(TimerKey::Questions, *until);
        }
    }
}
