//! The ways of events: into a mailbox or a stream, on the caller's own stack, and back from the daemon's code.

use bytes::Bytes;
use mesh_daemon_core::causal::{CausalLink, Sequence};
use mesh_daemon_core::daemon::{BatchId, DaemonKey, EventOutcome, Ticket};
use mesh_daemon_core::identity::OriginHash;
use mesh_daemon_core::runtime::{LocalResult, Rest, RuntimeError};
use napi::Result;
use napi::bindgen_prelude::{BigInt, BigUint64Array, Env, Object, Uint8Array};
use napi_derive::napi;

use super::scratch::ThrownRecord;
use super::{entry, origin_from, ticket_from, ticket_number, wait};
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

/// Calls a daemon; `ticket` gets the outputs. Destination and emitter (0 for this node) are in the outbox.
#[napi]
pub fn runtime_call(env: Env, runtime: u32, ticket: f64, payload: &[u8], timeout_ms: f64) -> Result<()> {
    let entry = entry(&env, runtime)?;
    let (emitter, to) = {
        let scratch = entry.scratch.borrow();
        (emitter(&scratch.link()), scratch.destination())
    };
    let payload = Bytes::copy_from_slice(payload);
    entry.try_with(&env, |engine, now| engine.call_as(ticket_from(ticket), emitter, to, payload, wait(timeout_ms), now))
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
    entry(&env, runtime)?.with(|engine, _| engine.withdraw(ticket_from(ticket), origin));
    Ok(())
}

/// Begins events of a caller here on the caller's stack; says whether it may.
#[napi]
pub fn runtime_direct_begin(env: Env, runtime: u32, slot: u32, generation: u32) -> Result<bool> {
    Ok(entry(&env, runtime)?.runtime.look(|engine| engine.direct_begin(DaemonKey { slot, generation })))
}

/// The same for `count` events that this node emits: their emitter and the first of their sequences are put into the
/// inbox.
#[napi]
pub fn runtime_direct_begin_own(env: Env, runtime: u32, slot: u32, generation: u32, count: u32) -> Result<bool> {
    let entry = entry(&env, runtime)?;
    let link = entry.runtime.look(|engine| {
        engine.direct_begin(DaemonKey { slot, generation }).then(|| engine.reserve_links(u64::from(count)))
    });
    let Some(link) = link else { return Ok(false) };
    let mut scratch = entry.scratch.borrow_mut();
    super::scratch::Writer::new(scratch.inbox(), 0).link(&link);
    Ok(true)
}

/// Ends one direct event with its outputs, which are in the outbox as its link is. Throws what is wrong with them. The
/// links of the outputs are left in the inbox, four numbers each. Says whether this left work.
#[napi]
pub fn runtime_direct_end(
    env: Env,
    runtime: u32,
    slot: u32,
    generation: u32,
    links: bool,
    large: Option<Vec<Uint8Array>>,
) -> Result<bool> {
    let entry = entry(&env, runtime)?;
    let mut scratch = entry.scratch.borrow_mut();
    let key = DaemonKey { slot, generation };
    let link = scratch.link();
    let large = large.unwrap_or_default();
    let mut out = Vec::new();
    let (result, more) = {
        let outputs = scratch.each_outcome(1, &large).next().flatten().unwrap_or_default();
        entry.with(|engine, now| (engine.direct_end(key, link, &outputs, &mut out, now), engine.has_work()))
    };
    if links {
        let mut writer = super::scratch::Writer::new(scratch.inbox(), 0);
        let room = writer.room() / 32;
        for link in out.iter().take(room) {
            writer.link(link);
        }
    }
    drop(scratch);
    result.map_err(|error| Failure::from(error).throw(&env))?;
    Ok(more)
}

/// Ends one direct event that failed; its link is in the outbox.
#[napi]
pub fn runtime_direct_failed(env: Env, runtime: u32, slot: u32, generation: u32) -> Result<()> {
    let entry = entry(&env, runtime)?;
    let link = entry.scratch.borrow().link();
    entry.with(|engine, now| engine.direct_failed(DaemonKey { slot, generation }, link, now));
    Ok(())
}

/// Ends `count` direct events of one emitter with rising sequences; the outbox has the link of the first and all outputs.
/// Throws the first thing that is wrong with any. Unless it is
/// `over`, one more is running. Says whether this left work.
#[napi]
pub fn runtime_direct_end_all(
    env: Env,
    runtime: u32,
    slot: u32,
    generation: u32,
    count: u32,
    over: bool,
    large: Option<Vec<Uint8Array>>,
) -> Result<bool> {
    let entry = entry(&env, runtime)?;
    let scratch = entry.scratch.borrow();
    let first = scratch.link();
    let large = large.unwrap_or_default();
    let mut events = scratch.each_outcome(count, &large).zip(0_u64..).map(|(outputs, index)| {
        let sequence = Sequence::new(first.sequence.get().wrapping_add(index));
        (CausalLink { sequence, ..first }, outputs)
    });
    let mut wrong: Option<RuntimeError> = None;
    let more = entry.with(|engine, now| {
        engine.direct_end_all(DaemonKey { slot, generation }, over, &mut events, now, &mut |result| {
            if let Err(error) = result {
                wrong.get_or_insert(error);
            }
        });
        engine.has_work()
    });
    drop(events);
    drop(scratch);
    wrong.map_or(Ok(more), |error| Err(Failure::from(error).throw(&env)))
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
    let timeout = (timeout_ms >= 0.0).then(|| wait(timeout_ms));
    let batch = entry.with(|engine, now| {
        engine.direct_suspend_for(DaemonKey { slot, generation }, ticket_from(ticket), link, timeout, now)
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
    let (key, batch, outcomes, rest, expected, want_links) = {
        let scratch = entry.scratch.borrow();
        let key = DaemonKey { slot: scratch.word(0), generation: scratch.word(1) };
        let outcomes = scratch.outcomes(scratch.word(3), &large.unwrap_or_default(), failures.unwrap_or_default());
        let rest = match scratch.word(4) {
            0 => Rest::Continues,
            1 => Rest::GivenBack,
            _ => Rest::GivenBackButRunning,
        };
        (key, BatchId(scratch.word(2)), outcomes, rest, scratch.word(5) as usize, scratch.word(6) != 0)
    };
    let failed = outcomes.iter().filter(|outcome| matches!(outcome, EventOutcome::Failed(_))).count();
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
