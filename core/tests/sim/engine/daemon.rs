//! The user's side of a node: objects that count events, at once or slowly, and the embedder that runs them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use mesh_daemon_core::daemon::{BatchId, DaemonKey, Delivery, EventOutcome};
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::wire::events::{Failure, FailureKind, Thrown};

/// Makes an event's handler fail when it stands in the payload's flags.
pub(crate) const FAIL: u64 = 1;
/// Makes an event's handler never settle.
pub(crate) const HANG: u64 = 2;
/// Makes an event's answer that many small outputs instead of one of that size.
pub(crate) const SPLIT: u64 = 4;

/// How an object behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Everything settles on the spot.
    Prompt,
    /// Every event takes a while; the batch is reported in parts.
    Slow,
}

impl Manner {
    pub(crate) fn of_kind(kind: Option<&str>) -> Self {
        match kind {
            Some("slow") => Self::Slow,
            _ => Self::Prompt,
        }
    }
}

/// What goes wrong in user code of one node, set by tests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) construct: bool,
    pub(crate) restore: bool,
    pub(crate) snapshot: bool,
    /// `snapshot` never settles.
    pub(crate) snapshot_hangs: bool,
    /// The factory takes so long with what is spawned.
    pub(crate) construct_takes: Option<Duration>,
    /// `restore` takes so long.
    pub(crate) restore_takes: Option<Duration>,
    /// `snapshot` takes so long.
    pub(crate) snapshot_takes: Option<Duration>,
    /// Reading a slice of the snapshot takes so long.
    pub(crate) slices_take: Option<Duration>,
    /// Slices of the snapshot cannot be read.
    pub(crate) detached: bool,
    /// The snapshot is written into whenever a slice of it was read.
    pub(crate) changed: bool,
}

/// An event as tests write it: who it is, what it makes the handler do, how large the answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) flags: u64,
    pub(crate) answer: u64,
}

impl Request {
    pub(crate) fn encode(self, padding: usize) -> Bytes {
        let mut bytes = Vec::with_capacity(24 + padding);
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.extend_from_slice(&self.flags.to_le_bytes());
        bytes.extend_from_slice(&self.answer.to_le_bytes());
        bytes.resize(24 + padding, 0xa5);
        bytes.into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Self { id: word(0), flags: word(8), answer: word(16) }
    }
}

/// An object: it remembers every event that it processed, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) seen: Vec<u64>,
    /// Ballast, so that states have a chosen size.
    pub(crate) ballast: usize,
    pub(crate) stateless: bool,
    /// The stretch of its life that it is in, where lives are told apart; see [`super::world::Talk`].
    pub(crate) stretch: Option<u64>,
}

/// Stands in the count of a state that names a stretch.
const HAS_STRETCH: u64 = 1 << 63;

impl Ledger {
    pub(crate) fn snapshot(&self) -> Option<Bytes> {
        if self.stateless {
            return None;
        }
        let mut bytes = Vec::with_capacity(8 + 8 * self.seen.len() + self.ballast);
        let flag = if self.stretch.is_some() { HAS_STRETCH } else { 0 };
        bytes.extend_from_slice(&(self.seen.len() as u64 | flag).to_le_bytes());
        for id in self.seen.iter().chain(&self.stretch) {
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        let start = bytes.len();
        bytes.resize(start + self.ballast, 0);
        for (index, byte) in bytes[start..].iter_mut().enumerate() {
            *byte = (index % 251) as u8;
        }
        Some(bytes.into())
    }

    pub(crate) fn restore(bytes: &[u8]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let count = usize::try_from(word(0) & !HAS_STRETCH).expect("a small count");
        let seen = (0..count).map(|index| word(8 + 8 * index)).collect();
        let stretch = (word(0) & HAS_STRETCH != 0).then(|| word(8 + 8 * count));
        let rest = &bytes[8 + 8 * (count + usize::from(stretch.is_some()))..];
        for (index, byte) in rest.iter().enumerate() {
            assert_eq!(*byte, (index % 251) as u8, "the ballast arrived as it left");
        }
        Self { seen, ballast: rest.len(), stateless: false, stretch }
    }

    pub(crate) fn process(&mut self, payload: &[u8]) -> EventOutcome {
        let request = Request::decode(payload);
        self.seen.push(request.id);
        if request.flags & FAIL != 0 {
            return EventOutcome::Failed(thrown("told to fail"));
        }
        if request.flags & SPLIT != 0 {
            let count = usize::try_from(request.answer).expect("a small answer");
            return EventOutcome::Outputs(vec![Bytes::from_static(&[0x5a; 32]); count].into());
        }
        let mut output = Vec::new();
        output.extend_from_slice(&request.id.to_le_bytes());
        output.extend_from_slice(&(self.seen.len() as u64).to_le_bytes());
        output.resize(16 + usize::try_from(request.answer).expect("a small answer"), 0x5a);
        EventOutcome::Outputs(vec![output.into()].into())
    }
}

pub(crate) fn error(message: &str) -> Thrown {
    Thrown { name: "Error".to_owned(), message: message.to_owned(), stack: None }
}

fn thrown(message: &str) -> Failure {
    Failure { kind: FailureKind::ProcessFailed, message: message.to_owned(), cause: Some(error(message)) }
}

/// A batch that a slow object works on.
#[derive(Debug)]
pub(crate) struct Working {
    pub(crate) batch: BatchId,
    pub(crate) events: VecDeque<Delivery>,
    pub(crate) token: u64,
}

/// An object with what the embedder keeps for it.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) origin: OriginHash,
    pub(crate) manner: Manner,
    pub(crate) ledger: Ledger,
    pub(crate) working: Option<Working>,
    pub(crate) snapshot: Option<Bytes>,
    /// Answers that it gave for events that hang are due when a test says so.
    pub(crate) hanging: bool,
    /// It begins nothing behind the event that runs, until it is asked to give back what it has.
    pub(crate) pausing: bool,
}

/// The objects of one node.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    pub(crate) map: BTreeMap<DaemonKey, Object>,
    pub(crate) faults: Faults,
    /// Ballast and statelessness of objects that a spawn makes.
    pub(crate) fresh: Ledger,
    pub(crate) constructed: u64,
}

/// An event whose handler waits for something that it sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Awaited {
    pub(crate) daemon: DaemonKey,
    pub(crate) token: u64,
    /// It sends once more what failed.
    pub(crate) insists: bool,
}

/// What slow daemons tell of the events that they process.
#[derive(Debug, Default)]
pub(crate) struct Speech {
    /// Whom they tell of each event, before it settles.
    pub(crate) sink: Option<OriginHash>,
    /// They do not wait for that.
    pub(crate) unawaited: bool,
    /// Daemons that wait, by ticket, with their work in progress.
    pub(crate) awaited: BTreeMap<u64, Awaited>,
    /// What is on its way without being waited for, by ticket: the node and its daemon.
    pub(crate) murmured: BTreeMap<u64, (usize, DaemonKey)>,
    /// Daemons whose engines want to hear when nothing is.
    pub(crate) hushing: BTreeSet<(usize, DaemonKey)>,
}

impl Speech {
    /// The process of a node is gone.
    pub(crate) fn forget(&mut self, index: usize) {
        self.murmured.retain(|_, (node, _)| *node != index);
        self.hushing.retain(|(node, _)| *node != index);
    }
}
