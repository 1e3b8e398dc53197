//! What JavaScript tells without waiting for an answer, many entries in one call: events that ran on their callers'
//! stacks, and events to be delivered. `lib/runtime-journal.ts` writes it.
//!
//! Entries follow each other at multiples of eight bytes. Each begins with two 32-bit numbers, its kind and a length:
//!
//! | kind    | length            | then                                                                              |
//! |---------|-------------------|-----------------------------------------------------------------------------------|
//! | ran     | number of outputs | slot, generation, emitter, sequence; the outputs' lengths; their bytes together   |
//! | failed  | –                 | slot, generation, emitter, sequence                                               |
//! | over    | –                 | slot, generation                                                                  |
//! | deliver | of the payload    | ticket, emitter, sequence, destination, payload                                   |
//! | call    | of the payload    | ticket, emitter, timeout in milliseconds (negative: none), destination, payload   |
//! | send    | of the payload    | ticket, emitter, nothing, destination, payload                                    |

use bytes::Bytes;
use mesh_daemon_core::causal::{CausalLink, HorizonBloom, ParentHash, Sequence};
use mesh_daemon_core::daemon::{DaemonKey, Ticket};
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::runtime::{Engine, Now, RuntimeError};
use napi::Result;
use napi::bindgen_prelude::Env;
use napi_derive::napi;

use super::calls::{LocalOutcome, call};
use super::scratch::Writer;
use super::{Entry, entry, ticket_from, ticket_number};
use crate::error::Failure;

const RAN: u32 = 1;
const FAILED: u32 = 2;
const OVER: u32 = 3;
const DELIVER: u32 = 4;
const CALL: u32 = 5;
const SEND: u32 = 6;

/// Takes the first `bytes` of the journal in; `unused` numbers that were reserved last are given back. Tells of the
/// deliveries that were refused. Whether this left work is put into the inbox.
#[napi]
pub fn runtime_told(env: &Env, runtime: u32, bytes: u32, unused: u32) -> Result<Option<Vec<LocalOutcome<'_>>>> {
    let entry = entry(env, runtime)?;
    let refused = take_in(&entry, bytes as usize, unused);
    if refused.is_empty() {
        return Ok(None);
    }
    let outcomes = refused.into_iter().map(|(ticket, error)| {
        let failure = Some(Failure::from(error).into_record(env)?);
        Ok(LocalOutcome { ticket: ticket_number(ticket), failure, links: None })
    });
    outcomes.collect::<Result<_>>().map(Some)
}

fn take_in(entry: &Entry, bytes: usize, unused: u32) -> Vec<(Ticket, RuntimeError)> {
    let mut scratch = entry.scratch.borrow_mut();
    let mut refused = Vec::new();
    let has_work = {
        let journal = scratch.journal();
        let mut reader = Reader { rest: journal.get(..bytes).unwrap_or_default(), copied: Copied::default() };
        entry.with(|engine, now| {
            engine.return_links(u64::from(unused));
            let mut links = Vec::new();
            let mut outputs = Vec::new();
            while let Some(kind) = reader.u32() {
                if reader.entry(kind, engine, &mut outputs, &mut links, &mut refused, now).is_none() {
                    break;
                }
            }
            engine.has_work()
        })
    };
    Writer::new(scratch.inbox(), 0).u32(u32::from(has_work));
    refused
}

struct Reader<'a> {
    rest: &'a [u8],
    copied: Copied,
}

/// A copy of payloads that follow each other on the way to one daemon, as they stand in the journal. They are taken from
/// there in order, so this is all that what is left of them keeps in memory.
#[derive(Default)]
struct Copied {
    bytes: Bytes,
    /// How much of the journal was left where it begins.
    begins: usize,
}

impl<'a> Reader<'a> {
    /// Takes one entry in; nothing when the journal ends within it, which `lib` never writes.
    fn entry(
        &mut self,
        kind: u32,
        engine: &mut Engine,
        outputs: &mut Vec<&'a [u8]>,
        links: &mut Vec<CausalLink>,
        refused: &mut Vec<(Ticket, RuntimeError)>,
        now: Now,
    ) -> Option<()> {
        let length = self.u32()? as usize;
        match kind {
            RAN | FAILED => {
                let key = self.key()?;
                let link = self.link()?;
                outputs.clear();
                let ran = (kind == RAN).then(|| self.outputs(length, outputs));
                // The daemon may be gone by a copy elsewhere that outranks it; the caller had its answer before.
                let _ = match ran {
                    Some(read) => read.map(|()| engine.direct_ran(key, link, Some(outputs.as_slice()), links))?,
                    None => engine.direct_ran(key, link, None, links),
                };
            }
            OVER => engine.direct_over(self.key()?, now),
            DELIVER | CALL | SEND => {
                let ticket = ticket_from(f64::from_bits(self.u64()?));
                let emitter = OriginHash::new(self.u64()?);
                let number = self.u64()?;
                let to = OriginHash::new(self.u64()?);
                let payload = self.payload(length, to)?;
                let by = Some(emitter).filter(|emitter| emitter.get() != 0);
                let result = match kind {
                    DELIVER => engine.deliver(ticket, to, link_of(emitter, number), payload, now),
                    CALL => call(engine, ticket, by, to, payload, f64::from_bits(number), now),
                    _ => engine.send_event_as(ticket, by, to, payload, now),
                };
                if let Err(error) = result {
                    refused.push((ticket, error));
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// The payload of an event for `to`.
    fn payload(&mut self, length: usize, to: OriginHash) -> Option<Bytes> {
        let mut from = self.copied.begins.saturating_sub(self.rest.len());
        if from + length > self.copied.bytes.len() {
            let copied = self.rest.get(..self.payloads(length, to)?)?;
            self.copied = Copied { bytes: Bytes::copy_from_slice(copied), begins: self.rest.len() };
            from = 0;
        }
        self.bytes(length)?;
        self.align();
        Some(self.copied.bytes.slice(from..from + length))
    }

    /// How far the payloads for `to` go without another entry in between, beginning with one of this length.
    fn payloads(&self, mut length: usize, to: OriginHash) -> Option<usize> {
        let mut ahead = Reader { rest: self.rest, copied: Copied::default() };
        loop {
            ahead.bytes(length)?;
            let end = self.rest.len() - ahead.rest.len();
            ahead.align();
            let Some(DELIVER | CALL | SEND) = ahead.u32() else { return Some(end) };
            length = ahead.u32()? as usize;
            ahead.bytes(24)?;
            if ahead.u64()? != to.get() {
                return Some(end);
            }
        }
    }

    fn outputs(&mut self, count: usize, outputs: &mut Vec<&'a [u8]>) -> Option<()> {
        let lengths = self.bytes(4 * count)?;
        for length in lengths.chunks_exact(4) {
            let length = u32::from_ne_bytes(length.try_into().ok()?);
            outputs.push(self.bytes(length as usize)?);
        }
        self.align();
        Some(())
    }

    fn key(&mut self) -> Option<DaemonKey> {
        Some(DaemonKey { slot: self.u32()?, generation: self.u32()? })
    }

    fn link(&mut self) -> Option<CausalLink> {
        let origin = OriginHash::new(self.u64()?);
        Some(link_of(origin, self.u64()?))
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes(4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes(8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(bytes)
    }

    /// Goes on at a multiple of eight; the journal ends at one.
    fn align(&mut self) {
        self.rest = self.rest.get(self.rest.len() % 8..).unwrap_or_default();
    }
}

fn link_of(origin: OriginHash, sequence: u64) -> CausalLink {
    CausalLink {
        origin,
        horizon: HorizonBloom::default(),
        sequence: Sequence::new(sequence),
        parent_hash: ParentHash::default(),
    }
}
