//! The buffers in which events and outputs cross in bulk, and the layout of the inbox and the outbox, by which
//! `lib/runtime-scratch.ts` goes as well ([`scratch_layout`]).
//!
//! Numbers are in the machine's order. What does not fit crosses as Buffers of its own.

use bytes::Bytes;
use mesh_daemon_core::causal::{CausalLink, HorizonBloom, ParentHash, Sequence};
use mesh_daemon_core::daemon::{BATCH_BYTES, BATCH_EVENTS, EventOutcome};
use mesh_daemon_core::events::{MOST_OUTPUTS, Outputs};
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::wire::events::{Failure, FailureKind, Thrown};
use napi::bindgen_prelude::Uint8Array;
use napi::{Result, Status};

/// Bytes of the header of either buffer.
pub(super) const HEADER: usize = 64;
/// Bytes of one event's fixed fields.
pub(super) const EVENT: usize = 64;
/// Bytes of a link.
pub(super) const LINK: usize = 32;
/// Bytes of the inbox: a whole batch fits.
const INBOX: usize = 128 * 1024;
/// Where the bytes of outputs begin in the outbox. Before them are their numbers and lengths: those of the most outputs that one
/// event may have fit.
const OUTPUT_BYTES: usize = (HEADER + 4 * (1 + MOST_OUTPUTS)).next_multiple_of(64);
/// Bytes of the outbox.
const OUTBOX: usize = OUTPUT_BYTES + 192 * 1024;
/// In place of a number of outputs: the event failed.
const FAILED: u32 = u32::MAX;
/// In place of a length: the output is in the list of large ones.
const LARGE: u32 = 1 << 31;

const _: () = assert!(HEADER + BATCH_EVENTS * EVENT + BATCH_BYTES <= INBOX);
const _: () = assert!(OUTBOX < LARGE as usize);

/// The numbers of the layout.
#[napi_derive::napi(object, object_from_js = false)]
pub struct ScratchLayout {
    /// Bytes of the header of either buffer.
    pub header: u32,
    /// Bytes of one event's fixed fields.
    pub event: u32,
    /// Bytes of the inbox.
    pub inbox: u32,
    /// Bytes of the outbox.
    pub outbox: u32,
    /// Where the bytes of outputs begin in the outbox.
    pub output_bytes: u32,
    /// In place of a number of outputs: the event failed.
    pub failed: u32,
    /// In place of a length: the output is in the list of large ones.
    pub large: u32,
    /// Most outputs of one event.
    pub most_outputs: u32,
}

/// How the buffers are laid out, for whoever makes them.
#[napi_derive::napi]
#[allow(clippy::cast_possible_truncation)] // the whole outbox is shorter than 31 bits can say
pub fn scratch_layout() -> ScratchLayout {
    ScratchLayout {
        header: HEADER as u32,
        event: EVENT as u32,
        inbox: INBOX as u32,
        outbox: OUTBOX as u32,
        output_bytes: OUTPUT_BYTES as u32,
        failed: FAILED,
        large: LARGE,
        most_outputs: MOST_OUTPUTS as u32,
    }
}

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
        if inbox.len() != INBOX || outbox.len() != OUTBOX {
            return Err(napi::Error::new(Status::InvalidArg, "the buffers are of another layout"));
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

    /// Reads the outcomes of `count` events; the bytes of small outputs are copied once, together. One that is not wholly there
    /// has failed.
    pub(super) fn outcomes(
        &self,
        count: u32,
        large: &[Uint8Array],
        failures: Vec<ThrownRecord>,
    ) -> impl Iterator<Item = EventOutcome> {
        let used = (self.word(7) as usize).clamp(OUTPUT_BYTES, self.outbox.len());
        let bytes = Bytes::copy_from_slice(&self.outbox[OUTPUT_BYTES..used]);
        let mut failures = failures.into_iter();
        let mut reader = Reader { words: self.words(), byte: 0 };
        (0..count).map(move |_| match reader.next_word() {
            Ok(FAILED) => EventOutcome::Failed(failures.next().map_or_else(unknown, failure_of)),
            Ok(outputs) => {
                let outputs = Outputs::try_collect(u64::from(outputs), || match reader.next_output()? {
                    Output::Small { from, to } if to <= bytes.len() => Ok(bytes.slice(from..to)),
                    Output::Small { .. } => Err(Misreported),
                    Output::Large(index) => large.get(index).map(|b| Bytes::copy_from_slice(b)).ok_or(Misreported),
                });
                outputs.map_or_else(|misreported| EventOutcome::Failed(misreported.into()), EventOutcome::Outputs)
            }
            Err(misreported) => EventOutcome::Failed(misreported.into()),
        })
    }

    /// The outputs of one event that ended on this stack, without a copy.
    pub(super) fn outputs_here<'a>(
        &'a self,
        large: &'a [Uint8Array],
    ) -> std::result::Result<Vec<&'a [u8]>, Misreported> {
        let mut reader = Reader { words: self.words(), byte: OUTPUT_BYTES };
        (0..reader.next_word()?)
            .map(|_| match reader.next_output()? {
                Output::Small { from, to } => self.outbox.get(from..to).ok_or(Misreported),
                Output::Large(index) => large.get(index).map(|bytes| &**bytes).ok_or(Misreported),
            })
            .collect()
    }

    /// Numbers and lengths of outputs.
    fn words(&self) -> &[u8] {
        &self.outbox[HEADER..OUTPUT_BYTES]
    }
}

/// Outputs are not wholly there, which `lib` never writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misreported;

impl Misreported {
    const TEXT: &str = "the outputs of the event are not wholly there";
}

impl From<Misreported> for Failure {
    fn from(_: Misreported) -> Self {
        Self { kind: FailureKind::HostFailed, message: Misreported::TEXT.into(), cause: None }
    }
}

impl From<Misreported> for napi::Error {
    fn from(_: Misreported) -> Self {
        Self::new(Status::InvalidArg, Misreported::TEXT)
    }
}

enum Output {
    Small { from: usize, to: usize },
    Large(usize),
}

struct Reader<'a> {
    /// Those that were not read.
    words: &'a [u8],
    byte: usize,
}

impl Reader<'_> {
    fn next_word(&mut self) -> std::result::Result<u32, Misreported> {
        let (word, rest) = self.words.split_first_chunk().ok_or(Misreported)?;
        self.words = rest;
        Ok(u32::from_ne_bytes(*word))
    }

    fn next_output(&mut self) -> std::result::Result<Output, Misreported> {
        let word = self.next_word()?;
        if word & LARGE != 0 {
            return Ok(Output::Large((word & !LARGE) as usize));
        }
        let from = self.byte;
        self.byte += word as usize;
        Ok(Output::Small { from, to: self.byte })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_end_where_the_bytes_begin() {
        let words: Vec<u8> = [2, 3, LARGE | 1].into_iter().flat_map(u32::to_ne_bytes).collect();
        let mut reader = Reader { words: &words, byte: OUTPUT_BYTES };
        assert_eq!(reader.next_word(), Ok(2));
        assert!(matches!(reader.next_output(), Ok(Output::Small { from: OUTPUT_BYTES, to }) if to == OUTPUT_BYTES + 3));
        assert!(matches!(reader.next_output(), Ok(Output::Large(1))));
        assert!(matches!(reader.next_output(), Err(Misreported)));
    }
}
