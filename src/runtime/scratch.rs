//! The buffers in which events and outputs cross in bulk, and the layout of the inbox and the outbox, which
//! `lib/runtime-scratch.ts` mirrors.
//!
//! Numbers are in the machine's order. What does not fit crosses as Buffers of its own.

use bytes::Bytes;
use mesh_daemon_core::causal::{CausalLink, HorizonBloom, ParentHash, Sequence};
use mesh_daemon_core::daemon::EventOutcome;
use mesh_daemon_core::events::Outputs;
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::wire::events::{Failure, FailureKind, Thrown};
use napi::bindgen_prelude::Uint8Array;
use napi::{Result, Status};

/// Bytes of the header of either buffer.
pub(super) const HEADER: usize = 64;
/// Bytes of one event's fixed fields.
pub(super) const EVENT: usize = 64;
/// Where the bytes of outputs begin in the outbox.
const OUTPUT_BYTES: usize = 64 * 1024;
/// Least size of either buffer: a whole batch fits the inbox.
const LEAST: usize = 128 * 1024;
/// In place of a number of outputs: the event failed.
const FAILED: u32 = u32::MAX;
/// In place of a length: the output is in the list of large ones.
const LARGE: u32 = 1 << 31;

/// What the daemon's code threw, or what is wrong with what it returned.
#[napi_derive::napi(object, object_to_js = false, js_name = "ThrownRecord")]
pub struct ThrownRecord {
    /// Its return value is no output.
    pub invalid_output: bool,
    /// `error.name`
    pub name: String,
    /// `error.message`
    pub message: String,
    /// `error.stack`
    pub stack: Option<String>,
}

impl From<ThrownRecord> for Thrown {
    fn from(record: ThrownRecord) -> Self {
        let ThrownRecord { name, message, stack, .. } = record;
        Self { name, message, stack }
    }
}

/// The buffers of one runtime. JavaScript holds them too but reads and writes only between calls into this side.
pub(super) struct Scratch {
    inbox: Uint8Array,
    outbox: Uint8Array,
    journal: Uint8Array,
}

impl Scratch {
    pub(super) fn new(inbox: Uint8Array, outbox: Uint8Array, journal: Uint8Array) -> Result<Self> {
        if inbox.len() < LEAST || outbox.len() < 2 * OUTPUT_BYTES {
            return Err(napi::Error::new(Status::InvalidArg, "the buffers are too small"));
        }
        Ok(Self { inbox, outbox, journal })
    }

    /// Where this side writes.
    pub(super) fn inbox(&mut self) -> &mut [u8] {
        // SAFETY: JavaScript runs on this thread and not now; `lib` never gives the buffer out, so nobody detaches it.
        unsafe { self.inbox.as_mut() }
    }

    /// What JavaScript told; see [`journal`](super::journal).
    pub(super) fn journal(&self) -> &[u8] {
        &self.journal
    }

    /// The 32-bit number at this index of the outbox.
    pub(super) fn word(&self, index: usize) -> u32 {
        let at = index * 4;
        let mut word = [0; 4];
        word.copy_from_slice(&self.outbox[at..at + 4]);
        u32::from_ne_bytes(word)
    }

    /// The 64-bit number at this index of the outbox.
    pub(super) fn long(&self, index: usize) -> u64 {
        let at = index * 8;
        let mut word = [0; 8];
        word.copy_from_slice(&self.outbox[at..at + 8]);
        u64::from_ne_bytes(word)
    }

    /// The link in the header of the outbox: emitter and sequence.
    pub(super) fn link(&self) -> CausalLink {
        CausalLink {
            origin: OriginHash::new(self.long(4)),
            horizon: HorizonBloom::default(),
            sequence: Sequence::new(self.long(5)),
            parent_hash: ParentHash::default(),
        }
    }

    /// The destination in the header of the outbox.
    pub(super) fn destination(&self) -> OriginHash {
        OriginHash::new(self.long(6))
    }

    /// Reads the outcomes of `count` events; the bytes of small outputs are copied once, together.
    pub(super) fn outcomes(
        &self,
        count: u32,
        large: &[Uint8Array],
        failures: Vec<ThrownRecord>,
    ) -> impl Iterator<Item = EventOutcome> {
        let used = (self.word(7) as usize).clamp(OUTPUT_BYTES, self.outbox.len());
        let bytes = Bytes::copy_from_slice(&self.outbox[OUTPUT_BYTES..used]);
        let mut failures = failures.into_iter();
        let mut reader = Reader { scratch: self, word: HEADER / 4, byte: 0 };
        (0..count).map(move |_| match reader.next_word() {
            FAILED => EventOutcome::Failed(failures.next().map_or_else(unknown, failure_of)),
            outputs => {
                let mut next = || match reader.next_output() {
                    Output::Small { from, to } if to <= bytes.len() => bytes.slice(from..to),
                    Output::Small { .. } => Bytes::new(),
                    Output::Large(index) => {
                        large.get(index).map_or_else(Bytes::new, |bytes| Bytes::copy_from_slice(bytes))
                    }
                };
                EventOutcome::Outputs(match outputs {
                    1 => Outputs::One(next()),
                    _ => Outputs::Many((0..outputs).map(|_| next()).collect()),
                })
            }
        })
    }

    /// The outputs of one event that ended on this stack, without a copy.
    pub(super) fn outputs_here<'a>(&'a self, large: &'a [Uint8Array]) -> Vec<&'a [u8]> {
        let mut reader = Reader { scratch: self, word: HEADER / 4, byte: OUTPUT_BYTES };
        (0..reader.next_word())
            .map(|_| match reader.next_output() {
                Output::Small { from, to } => self.outbox.get(from..to).unwrap_or_default(),
                Output::Large(index) => large.get(index).map_or(&[][..], |bytes| bytes),
            })
            .collect()
    }
}

enum Output {
    Small { from: usize, to: usize },
    Large(usize),
}

struct Reader<'a> {
    scratch: &'a Scratch,
    word: usize,
    byte: usize,
}

impl Reader<'_> {
    fn next_word(&mut self) -> u32 {
        let word = if self.word * 4 < OUTPUT_BYTES { self.scratch.word(self.word) } else { 0 };
        self.word += 1;
        word
    }

    fn next_output(&mut self) -> Output {
        let word = self.next_word();
        if word & LARGE != 0 {
            return Output::Large((word & !LARGE) as usize);
        }
        let from = self.byte;
        self.byte += word as usize;
        Output::Small { from, to: self.byte }
    }
}

fn failure_of(record: ThrownRecord) -> Failure {
    if record.invalid_output {
        return Failure { kind: FailureKind::InvalidOutput, message: record.message, cause: None };
    }
    let message = record.message.clone();
    Failure { kind: FailureKind::ProcessFailed, message, cause: Some(record.into()) }
}

fn unknown() -> Failure {
    Failure { kind: FailureKind::ProcessFailed, message: "unknown failure".into(), cause: None }
}

/// Writes numbers and bytes one after another.
pub(super) struct Writer<'a> {
    buffer: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    pub(super) fn new(buffer: &'a mut [u8], at: usize) -> Self {
        Self { buffer, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn room(&self) -> usize {
        self.buffer.len() - self.at
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.buffer[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_ne_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_ne_bytes());
    }

    pub(super) fn f64(&mut self, value: f64) {
        self.bytes(&value.to_ne_bytes());
    }

    /// The four numbers of a link.
    pub(super) fn link(&mut self, link: &CausalLink) {
        self.u64(link.origin.get());
        self.u64(link.sequence.get());
        self.u64(link.parent_hash.get());
        self.u64(link.horizon.get());
    }

    /// Goes on at a multiple of eight.
    pub(super) fn align(&mut self) {
        self.at = self.at.next_multiple_of(8).min(self.buffer.len());
    }

    /// Writes a number at a place that was passed.
    pub(super) fn patch_u32(&mut self, at: usize, value: u32) {
        self.buffer[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
}
