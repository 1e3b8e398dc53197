//! The ways of events: into a mailbox or a stream, on the caller's own stack, and back from the daemon's code.

use bytes::Bytes;
use mesh_daemon_core::causal::CausalLink;
use mesh_daemon_core::daemon::{BatchId, DaemonKey, Ticket};
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::runtime::{Engine, LocalResult, Now, Rest, RuntimeError};
use napi::Result;
use napi::bindgen_prelude::{BigInt, BigUint64Array, Env, Object, Uint8Array};
use napi_derive::napi;

use super::scratch::{LINK, ThrownRecord};
use super::{entry, origin_from, patience, ticket_from, ticket_number};
use crate::error::Failure;

/// Delivers an event; `ticket` gets the outputs. Emitter, sequence and destination are in the outbox.
#[napi]
pub fn runtime_deliver(env: Env, runtime: u32, ticket: f64, payload: &[u8]) -> Result<()> {
    let entry = entry(&env, runtime)?;
    let (link, to) = {
        let scratch = entry.scratch.borrow();
        (scratch.link(), scratch.destination())
    };
    let payload = Bytes::copy_from_slice(payload);
    entry.try_with(&env, |engine, now| engine.deliver(ticket_from(ticket), to, link, payload, now))
}

/// Calls a daemon; `ticket` gets the outputs. Destination and emitter (0 for this node) are in the outbox. `timeout_ms` is
/// negative for a caller that waits without a limit, and [`IN_TURN`] for one that waits for room too.
#[napi]
pub fn runtime_call(env: Env, runtime: u32, ticket: f64, payload: &[u8], timeout_ms: f64) -> Result<()> {
    let entry = entry(&env, runtime)?;
    let (emitter, to) = {
        let scratch = entry.scratch.borrow();
        (emitter(&scratch.link()), scratch.destination())
    };
    let payload = Bytes::copy_from_slice(payload);
    entry.try_with(&env, |engine, now| call(engine, ticket_from(ticket), emitter, to, payload, timeout_ms, now))
}

/// Instead of a timeout: as long as it takes, for room in a mailbox of this node too. `lib/runtime-journal.ts` has the same.
const IN_TURN: f64 = -2.0;

/// Has an event enter that somebody waits for so long.
pub(super) fn call(
    engine: &mut Engine,
    ticket: Ticket,
    emitter: Option<OriginHash>,
    to: OriginHash,
    payload: Bytes,
    timeout_ms: f64,
    now: Now,
) -> std::result::Result<(), RuntimeError> {
    if timeout_ms.to_bits() == IN_TURN.to_bits() {
        engine.call_in_turn(ticket, to, payload, now)
    } else {
        engine.call_as(ticket, emitter, to, payload, patience(timeout_ms), now)
    }
}

/// Sends to a daemon; `ticket` is settled when its host has it. Destination and emitter are in the outbox.
#[napi]
pub fn runtime_send(env: Env, runtime: u32, ticket: f64, payload: &[u8]) -> Result<()> {
    let entry = entry(&env, runtime)?;
    let (emitter, to) = {
        let scratch = entry.scratch.borrow();
        (emitter(&scratch.link()), scratch.destination())
    };
    let payload = Bytes::copy_from_slice(payload);
    entry.try_with(&env, |engine, now| engine.send_event_as(ticket_from(ticket), emitter, to, payload, now))
}

fn emitter(link: &CausalLink) -> Option<OriginHash> {
    Some(link.origin).filter(|origin| origin.get() != 0)
}

/// The caller does not wait any longer.
#[napi]
pub fn runtime_withdraw(env: Env, runtime: u32, ticket: f64, origin: BigInt) -> Result<()> {
    let origin = origin_from(&origin)?;
    entry(&env, runtime)?.with(|engine, now| engine.withdraw(ticket_from(ticket), origin, now));
    Ok(())
}

/// What fits.
#[napi(object, object_from_js = false)]
pub struct MailboxRoom {
    /// Events.
    pub events: f64,
    /// Their bytes.
    pub bytes: f64,
}

/// What the mailbox of a daemon of this node still takes; nothing when events for it do not go into one.
#[napi]
pub fn runtime_mailbox_room(env: Env, runtime: u32, origin: BigInt) -> Result<Option<MailboxRoom>> {
    let origin = origin_from(&origin)?;
    let room = entry(&env, runtime)?.runtime.look(|engine| engine.mailbox_room(origin));
    #[allow(clippy::cast_precision_loss)] // bounded by memory
    Ok(room.map(|(events, bytes)| MailboxRoom { events: events as f64, bytes: bytes as f64 }))
}

/// Lets events of callers here run on their callers' stacks: how many of at most `most`, until the journal says that it is
/// over.
#[napi]
pub fn runtime_direct_begin(env: Env, runtime: u32, slot: u32, generation: u32, most: u32) -> Result<u32> {
    Ok(entry(&env, runtime)?.runtime.look(|engine| engine.direct_begin(DaemonKey { slot, generation }, most)))
}

/// Reserves numbers for events that this node emits: their emitter and the first of them are put into the inbox. Those left
/// over are given back with the journal.
#[napi]
pub fn runtime_reserve(env: Env, runtime: u32, count: u32) -> Result<()> {
    let entry = entry(&env, runtime)?;
    let link = entry.runtime.look(|engine| engine.reserve_links(u64::from(count)));
    super::scratch::Writer::new(entry.scratch.borrow_mut().inbox(), 0).link(&link);
    Ok(())
}

/// A direct event ran whose outputs the journal does not take, or whose links are wanted. Its link and outputs are in the
/// outbox. Throws what is wrong with them. The links of the outputs are left in the inbox, four numbers each; those that do not
/// fit there are given back.
#[napi]
pub fn runtime_direct_ran(
    env: Env,
    runtime: u32,
    slot: u32,
    generation: u32,
    links: bool,
    large: Option<Vec<Uint8Array>>,
) -> Result<Option<BigUint64Array>> {
    let entry = entry(&env, runtime)?;
    let mut scratch = entry.scratch.borrow_mut();
    let key = DaemonKey { slot, generation };
    let link = scratch.link();
    let large = large.unwrap_or_default();
    let mut out = Vec::new();
    let result = {
        let outputs = scratch.outputs_here(&large)?;
        entry.runtime.look(|engine| engine.direct_ran(key, link, Some(&outputs), &mut out))
    };
    let mut writer = super::scratch::Writer::new(scratch.inbox(), 0);
    let fits = out.len() <= writer.room() / LINK;
    if links && fits {
        for link in &out {
            writer.link(link);
        }
    }
    drop(scratch);
    result.map_err(|error| Failure::from(error).throw(&env))?;
    Ok((links && !fits).then(|| link_numbers(&out)))
}

/// The direct event did not settle at once; gives the number of the batch that it becomes, or -1 when the daemon is gone.
/// Its link is in the outbox. `timeout_ms` is negative for a caller that waits without a limit.
#[napi]
pub fn runtime_direct_suspend(
    env: Env,
    runtime: u32,
    slot: u32,
    generation: u32,
    ticket: f64,
    timeout_ms: f64,
) -> Result<f64> {
    let entry = entry(&env, runtime)?;
    let link = entry.scratch.borrow().link();
    let timeout = patience(timeout_ms);
    let batch = entry.with(|engine, now| {
        engine.direct_suspend(DaemonKey { slot, generation }, ticket_from(ticket), link, timeout, now)
    });
    Ok(batch.map_or(-1.0, |batch| f64::from(batch.0)))
}

/// What a caller here gets when it is not just the outputs that JavaScript has.
#[napi(object, object_from_js = false)]
pub struct LocalOutcome<'env> {
    /// Who waited.
    pub ticket: f64,
    /// Why its event failed.
    #[napi(ts_type = "import('./errors/from-native').ErrorRecord")]
    pub failure: Option<Object<'env>>,
    /// The links of its outputs, four numbers each.
    pub links: Option<BigUint64Array>,
}

/// Reports what came of events of a batch, which is described in the outbox. Nothing is given back when every caller here
/// gets what JavaScript knows already; else the outcomes of all of them.
#[napi]
pub fn runtime_ran(
    env: &Env,
    runtime: u32,
    large: Option<Vec<Uint8Array>>,
    failures: Option<Vec<ThrownRecord>>,
) -> Result<Option<Vec<LocalOutcome<'_>>>> {
    let entry = entry(env, runtime)?;
    let (large, failures) = (large.unwrap_or_default(), failures.unwrap_or_default());
    let failed = failures.len();
    let scratch = entry.scratch.borrow();
    let key = DaemonKey { slot: scratch.word(0), generation: scratch.word(1) };
    let batch = BatchId(scratch.word(2));
    let outcomes = scratch.outcomes(scratch.word(3), &large, failures);
    let rest = match scratch.word(4) {
        0 => Rest::Continues,
        1 => Rest::GivenBack,
        _ => Rest::GivenBackButRunning,
    };
    let (expected, want_links) = (scratch.word(5) as usize, scratch.word(6) != 0);
    let mut results: Vec<(Ticket, LocalResult)> = Vec::new();
    let mut as_known = 0;
    let mut unforeseen = false;
    entry.with(|engine, now| {
        engine.ran(key, batch, outcomes, rest, now, &mut |ticket, result| {
            as_known += 1;
            // JavaScript knows of its own failures.
            unforeseen |= match &result {
                Ok(_) => false,
                Err(RuntimeError::ProcessFailed(_) | RuntimeError::InvalidOutput(_)) => failed == 0,
                Err(_) => true,
            };
            results.push((ticket, result));
        });
    });
    if as_known == expected && !unforeseen && !want_links {
        return Ok(None);
    }
    let outcomes = results.into_iter().map(|(ticket, result)| {
        let (failure, links) = match result {
            Ok(outputs) => {
                let links: Vec<CausalLink> = outputs.iter().map(|output| output.link).collect();
                (None, want_links.then(|| link_numbers(&links)))
            }
            Err(error) => (Some(Failure::from(error).into_record(env)?), None),
        };
        Ok(LocalOutcome { ticket: ticket_number(ticket), failure, links })
    });
    outcomes.collect::<Result<_>>().map(Some)
}

/// Origin, sequence, parent hash and horizon of each.
pub(super) fn link_numbers(links: &[CausalLink]) -> BigUint64Array {
    let numbers: Vec<u64> = links
        .iter()
        .flat_map(|link| [link.origin.get(), link.sequence.get(), link.parent_hash.get(), link.horizon.get()])
        .collect();
    BigUint64Array::new(numbers)
}
