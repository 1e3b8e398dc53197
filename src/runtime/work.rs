//! Work on its way to JavaScript, and the answers to it. Events and settlements are packed in the inbox, many in one
//! call; everything else is rare and crosses as an object.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use mesh_daemon_core::daemon::{BatchId, DaemonKey, Delivery, ReplyTo, Ticket};
use mesh_daemon_core::events::OutputRecord;
use mesh_daemon_core::migration::SliceHash;
use mesh_daemon_core::runtime::{
    ConstructFor, DaemonEvent, MigrationStarted, Notice, RuntimeError, Settlement, StopReason, Work,
};
use mesh_daemon_core::wire::events::Thrown;
use mesh_daemon_core::wire::migration::Stage;
use napi::Result;
use napi::bindgen_prelude::{BigInt, Buffer, BufferSlice, Env, Object};
use napi_derive::napi;

use super::calls::link_numbers;
use super::channels::describe_subscription;
use super::failures::{of_migration, outcome_name};
use super::scratch::{EVENT, HEADER, ThrownRecord, Writer};
use super::{Entry, entry, ticket_number, whole};
use crate::error::Failure;

/// Larger payloads get a Buffer of their own.
const SMALL: usize = 4096;

/// What `runtime_take_work` left: nothing.
const NOTHING: u32 = 0;
/// A batch of events in the inbox.
const EVENTS: u32 = 1;
/// Settlements in the inbox.
const SETTLED: u32 = 2;
/// An object, for `runtime_taken_work`.
const OBJECT: u32 = 3;

/// What of a batch did not go into the inbox.
#[napi(object, object_from_js = false)]
pub struct BatchRest<'env> {
    /// Large payloads.
    pub payloads: Vec<BufferSlice<'env>>,
    /// Names of channels.
    pub channels: Vec<String>,
}

/// Takes the next work: says what kind it is (0 nothing, 1 events, 2 settlements, 3 an object).
#[napi]
pub fn runtime_take_work(env: Env, runtime: u32) -> Result<u32> {
    let entry = entry(&env, runtime)?;
    Ok(match next_or_rest(&entry) {
        None => NOTHING,
        Some(Work::Run { daemon, batch }) => {
            entry.runtime.look(|engine| pack_events(&entry, daemon, batch, engine.batch(daemon, batch)));
            EVENTS
        }
        Some(Work::Settle { ticket, result }) if is_small(&result) => {
            pack_settlements(&entry, ticket, &result);
            SETTLED
        }
        Some(work) => {
            entry.stash.replace(Some(work));
            OBJECT
        }
    })
}

/// The next work. Until there is none, JavaScript goes on by itself and is not woken.
fn next_or_rest(entry: &Entry) -> Option<Work> {
    let woken = &entry.waker.woken;
    woken.store(true, Ordering::Release);
    next(entry).or_else(|| {
        // Before looking once more: what comes from now on wakes again.
        woken.store(false, Ordering::Release);
        next(entry).inspect(|_| woken.store(true, Ordering::Release))
    })
}

fn next(entry: &Entry) -> Option<Work> {
    entry.stash.take().or_else(|| entry.runtime.next_work())
}

/// Writes a batch, without events if it was given up meanwhile. Keeps those with parts that are fetched with
/// `runtime_batch_rest`.
fn pack_events(entry: &Entry, daemon: DaemonKey, batch: BatchId, events: Option<&VecDeque<Delivery>>) {
    let none = VecDeque::new();
    let events = events.unwrap_or(&none);
    let mut scratch = entry.scratch.borrow_mut();
    let mut writer = Writer::new(scratch.inbox(), 0);
    let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
    for word in [daemon.slot, daemon.generation, batch.0, count] {
        writer.u32(word);
    }
    let first_payload = HEADER + events.len() * EVENT;
    let (mut next_payload, mut large, mut channels) = (first_payload, 0_u32, 0_u32);
    let mut fields = Writer::new(scratch.inbox(), HEADER);
    for event in events {
        fields.link(&event.link);
        fields.u64(event.received_at);
        fields.f64(match event.reply {
            ReplyTo::Local(ticket) => ticket_number(ticket),
            ReplyTo::Nobody | ReplyTo::TimedOut | ReplyTo::Stream { .. } => -1.0,
        });
        let len = event.payload.len();
        let own = len > SMALL;
        large += u32::from(own);
        channels += u32::from(event.channel.is_some());
        fields.u32(u32::try_from(next_payload).unwrap_or(u32::MAX));
        fields.u32(u32::try_from(len).unwrap_or(u32::MAX));
        fields.u32(if own { large } else { 0 });
        fields.u32(if event.channel.is_some() { channels } else { 0 });
        if !own {
            next_payload += len;
        }
    }
    let mut payloads = Writer::new(scratch.inbox(), first_payload);
    for event in events.iter().filter(|event| event.payload.len() <= SMALL) {
        payloads.bytes(&event.payload);
    }
    let end = payloads.at();
    let mut header = Writer::new(scratch.inbox(), 16);
    header.u32(u32::try_from(end).unwrap_or(u32::MAX));
    header.u32(large + channels);
    if large + channels > 0 {
        let has_more = |event: &&Delivery| event.payload.len() > SMALL || event.channel.is_some();
        entry.unfetched.replace(events.iter().filter(has_more).cloned().collect());
    }
}

/// The parts of the batch just taken that did not go into the inbox.
#[napi]
pub fn runtime_batch_rest(env: &Env, runtime: u32) -> Result<BatchRest<'_>> {
    let entry = entry(env, runtime)?;
    let mut rest = BatchRest { payloads: Vec::new(), channels: Vec::new() };
    for event in entry.unfetched.take() {
        if event.payload.len() > SMALL {
            // The engine may hold the same bytes for another try, so the receiver gets its own.
            rest.payloads.push(BufferSlice::copy_from(env, &event.payload)?);
        }
        if let Some(channel) = event.channel {
            rest.channels.push(channel.to_string());
        }
    }
    Ok(rest)
}

/// Bytes that a settlement takes in the inbox.
fn packed_size(outputs: &[OutputRecord]) -> usize {
    16 + outputs.iter().map(|output| 40 + output.payload.len().next_multiple_of(8)).sum::<usize>()
}

fn is_small(result: &std::result::Result<Settlement, RuntimeError>) -> bool {
    match result {
        Ok(Settlement::Done) => true,
        Ok(Settlement::Outputs(outputs)) => {
            packed_size(outputs) <= 16 * 1024 && outputs.iter().all(|output| output.payload.len() <= SMALL)
        }
        Ok(
            Settlement::Spawned(_)
            | Settlement::Snapshot(_)
            | Settlement::Located(_)
            | Settlement::Migrating(_)
            | Settlement::Drained(_),
        )
        | Err(_) => false,
    }
}

/// Writes a settlement and as many after it as fit.
fn pack_settlements(entry: &Entry, ticket: Ticket, result: &std::result::Result<Settlement, RuntimeError>) {
    let mut scratch = entry.scratch.borrow_mut();
    let mut writer = Writer::new(scratch.inbox(), HEADER);
    let mut count = 1_u32;
    pack_settlement(&mut writer, ticket, result);
    entry.runtime.look(|engine| {
        engine.take_settlements(|ticket, result| {
            let fits = writer.room() > 32 * 1024 && is_small(result);
            if fits {
                pack_settlement(&mut writer, ticket, result);
                count += 1;
            }
            fits
        });
    });
    let end = u32::try_from(writer.at()).unwrap_or(u32::MAX);
    writer.patch_u32(0, count);
    writer.patch_u32(4, end);
}

fn pack_settlement(writer: &mut Writer<'_>, ticket: Ticket, result: &std::result::Result<Settlement, RuntimeError>) {
    writer.f64(ticket_number(ticket));
    let Ok(Settlement::Outputs(outputs)) = result else {
        writer.u32(0);
        return writer.u32(0);
    };
    writer.u32(1);
    writer.u32(u32::try_from(outputs.len()).unwrap_or(u32::MAX));
    for output in outputs {
        writer.link(&output.link);
        writer.u64(output.payload.len() as u64);
        writer.bytes(&output.payload);
        writer.align();
    }
}

/// The work just taken, as an object. The public key of a daemon to construct is in the inbox: a Buffer of its own would
/// cost several times its bytes.
#[napi(ts_return_type = "import('./runtime-work').RareWork | null")]
pub fn runtime_taken_work(env: &Env, runtime: u32) -> Result<Option<Object<'_>>> {
    let entry = entry(env, runtime)?;
    let Some(work) = entry.stash.take() else { return Ok(None) };
    if let Work::Construct { entity, .. } = &work {
        Writer::new(entry.scratch.borrow_mut().inbox(), 0).bytes(entity.as_bytes());
    }
    describe(env, work).map(Some)
}

fn describe(env: &Env, work: Work) -> Result<Object<'_>> {
    let mut object = Object::new(env)?;
    let name = |object: &mut Object<'_>, kind: &str, daemon: DaemonKey| {
        object.set("type", kind)?;
        object.set("slot", daemon.slot)?;
        object.set("generation", daemon.generation)
    };
    match work {
        Work::Construct { daemon, origin, entity: _, kind, spawn, purpose } => {
            name(&mut object, "construct", daemon)?;
            object.set("originHash", BigInt::from(origin.get()))?;
            object.set("kind", kind.as_deref().unwrap_or_default())?;
            object.set("ticket", spawn.map_or(-1.0, ticket_number))?;
            object.set("arrival", purpose == ConstructFor::Arrival)?;
        }
        Work::Restore { daemon, state } => {
            name(&mut object, "restore", daemon)?;
            object.set("state", external(env, state)?)?;
        }
        Work::Run { .. } => return Err(napi::Error::from_reason("a batch is packed, never described")),
        Work::Yield { daemon } => name(&mut object, "yield", daemon)?,
        Work::Abort { daemon } => name(&mut object, "abort", daemon)?,
        Work::Hush { daemon } => name(&mut object, "hush", daemon)?,
        Work::Snapshot { daemon } => name(&mut object, "snapshot", daemon)?,
        Work::ReadState { daemon, offset, len } => {
            name(&mut object, "read-state", daemon)?;
            #[allow(clippy::cast_precision_loss)] // an offset into a JavaScript buffer
            object.set("offset", offset as f64)?;
            object.set("length", len)?;
        }
        Work::CheckState { daemon, offset, len } => {
            name(&mut object, "check-state", daemon)?;
            #[allow(clippy::cast_precision_loss)] // an offset into a JavaScript buffer
            object.set("offset", offset as f64)?;
            object.set("length", len)?;
        }
        Work::ReleaseState { daemon } => name(&mut object, "release-state", daemon)?,
        Work::Retire { daemon, reason } => {
            name(&mut object, "retire", daemon)?;
            object.set(
                "reason",
                match reason {
                    StopReason::Stopped => "stopped",
                    StopReason::Migrated => "migrated",
                    StopReason::Fenced => "fenced",
                    StopReason::Shutdown => "shutdown",
                },
            )?;
        }
        Work::Admit { question, request } => {
            object.set("type", "admit")?;
            #[allow(clippy::cast_precision_loss)] // counted up from 1
            object.set("question", question as f64)?;
            let mut asked = Object::new(env)?;
            asked.set("originHash", BigInt::from(request.entity.origin_hash().get()))?;
            asked.set("entityId", Buffer::from(request.entity.as_bytes().to_vec()))?;
            asked.set("kind", &*request.kind)?;
            asked.set("sourceNode", BigInt::from(request.source.get()))?;
            asked.set("orchestrator", BigInt::from(request.orchestrator.get()))?;
            asked.set("stateBytes", BigInt::from(request.state_bytes))?;
            object.set("request", asked)?;
        }
        Work::AdmitOrchestrator { question, node } => {
            object.set("type", "admit-orchestrator")?;
            #[allow(clippy::cast_precision_loss)] // counted up from 1
            object.set("question", question as f64)?;
            object.set("nodeId", BigInt::from(node.get()))?;
        }
        Work::Settle { ticket, result } => {
            object.set("type", "settle")?;
            object.set("ticket", ticket_number(ticket))?;
            describe_settlement(env, &mut object, result)?;
        }
        Work::Notice(notice) => describe_notice(env, &mut object, notice)?,
    }
    Ok(object)
}

fn describe_settlement<'env>(
    env: &'env Env,
    object: &mut Object<'env>,
    result: std::result::Result<Settlement, RuntimeError>,
) -> Result<()> {
    match result {
        Err(error) => object.set("failure", Failure::from(error).into_record(env)?),
        Ok(Settlement::Done) => Ok(()),
        Ok(Settlement::Spawned(daemon)) => {
            object.set("slot", daemon.slot)?;
            object.set("generation", daemon.generation)
        }
        Ok(Settlement::Outputs(outputs)) => {
            let links: Vec<_> = outputs.iter().map(|output| output.link).collect();
            object.set("links", link_numbers(&links))?;
            let payloads: Vec<Buffer> =
                outputs.into_iter().map(|output| Buffer::from(Vec::<u8>::from(output.payload))).collect();
            object.set("outputs", payloads)
        }
        Ok(Settlement::Snapshot(snapshot)) => match snapshot {
            Some(snapshot) => object.set("snapshot", external(env, snapshot)?),
            None => object.set("snapshot", napi::bindgen_prelude::Null),
        },
        Ok(Settlement::Located(node)) => match node {
            Some(node) => object.set("node", BigInt::from(node.get())),
            None => object.set("node", napi::bindgen_prelude::Null),
        },
        Ok(Settlement::Migrating(MigrationStarted { migration, origin, source, target })) => {
            object.set("migration", BigInt::from(migration.get()))?;
            object.set("originHash", BigInt::from(origin.get()))?;
            object.set("sourceNode", BigInt::from(source.get()))?;
            object.set("targetNode", BigInt::from(target.get()))
        }
        Ok(Settlement::Drained(reports)) => {
            let mut all = Vec::with_capacity(reports.len());
            for report in reports {
                let mut one = Object::new(env)?;
                one.set("originHash", BigInt::from(report.origin.get()))?;
                one.set("outcome", outcome_name(report.outcome))?;
                if let Some(node) = report.target {
                    one.set("targetNode", BigInt::from(node.get()))?;
                }
                if let Some(failure) = report.failure {
                    one.set("failure", of_migration(failure, Some(report.origin)).into_record(env)?)?;
                }
                all.push(one);
            }
            object.set("drained", all)
        }
    }
}

fn describe_notice<'env>(env: &'env Env, object: &mut Object<'env>, notice: Notice) -> Result<()> {
    match notice {
        Notice::Daemon { event, origin, kind, daemon } => {
            object.set("type", "daemon")?;
            object.set("slot", daemon.slot)?;
            object.set("generation", daemon.generation)?;
            object.set(
                "event",
                match event {
                    DaemonEvent::Spawned => "spawned",
                    DaemonEvent::Stopped => "stopped",
                    DaemonEvent::MigratedIn => "migrated-in",
                    DaemonEvent::MigratedOut => "migrated-out",
                    DaemonEvent::Fenced => "fenced",
                },
            )?;
            object.set("originHash", BigInt::from(origin.get()))?;
            object.set("kind", kind.as_deref().unwrap_or_default())
        }
        notice @ Notice::Subscription { .. } => describe_subscription(env, object, notice),
        Notice::Phase { migration, stage } => {
            object.set("type", "phase")?;
            object.set("migration", BigInt::from(migration.get()))?;
            object.set("phase", stage.name())
        }
        Notice::Progress { migration, stage, progress, elapsed } => {
            object.set("type", "progress")?;
            object.set("migration", BigInt::from(migration.get()))?;
            let mut told = Object::new(env)?;
            told.set("phase", stage.unwrap_or(Stage::Snapshot).name())?;
            told.set("bytesSent", BigInt::from(progress.bytes_sent))?;
            told.set("bytesTotal", BigInt::from(progress.bytes_total))?;
            told.set("eventsBuffered", BigInt::from(progress.events_buffered))?;
            told.set("eventsReplayed", BigInt::from(progress.events_replayed))?;
            told.set("elapsedMs", elapsed.as_secs_f64() * 1e3)?;
            object.set("progress", told)
        }
        Notice::MigrationOver { migration, result } => {
            object.set("type", "over")?;
            object.set("migration", BigInt::from(migration.get()))?;
            match result {
                Ok(()) => Ok(()),
                Err(failure) => object.set("failure", of_migration(failure, None).into_record(env)?),
            }
        }
        Notice::TooLate { migration } => {
            object.set("type", "too-late")?;
            object.set("migration", BigInt::from(migration.get()))
        }
        Notice::Migration { migration: _, role, origin, source, target, attempt, stage, failure } => {
            object.set("type", "migration")?;
            object.set("role", role.name())?;
            object.set("originHash", BigInt::from(origin.get()))?;
            object.set("sourceNode", BigInt::from(source.get()))?;
            object.set("targetNode", BigInt::from(target.get()))?;
            object.set("attempt", attempt)?;
            if let Some(stage) = stage {
                object.set("phase", stage.name())?;
            }
            match failure {
                Some(failure) => object.set("failure", of_migration(failure, Some(origin)).into_record(env)?),
                None => Ok(()),
            }
        }
        #[cfg(feature = "test-hooks")]
        Notice::GateReached { message } => {
            object.set("type", "gate")?;
            object.set("message", message)
        }
    }
}

/// Bytes that become JavaScript's, without a copy when they are nobody else's.
fn external(env: &Env, bytes: Bytes) -> Result<BufferSlice<'_>> {
    if bytes.is_empty() {
        return BufferSlice::from_data(env, Vec::new());
    }
    let mut owned = match bytes.try_into_mut() {
        Ok(owned) => owned,
        Err(shared) => return BufferSlice::copy_from(env, &shared),
    };
    let (data, len) = (owned.as_mut_ptr(), owned.len());
    // Through a `Vec`, napi's safe way, a part of a larger allocation would be moved to its front: a whole state, on this
    // thread.
    // SAFETY: `data` and `len` are of `owned`, which is not empty, is the only owner of these bytes, keeps them in place
    // when it is itself moved, and lives in the finaliser until JavaScript has let them go. Any thread may drop it.
    unsafe { BufferSlice::from_external(env, data, len, owned, |_, owned| drop(owned)) }
}

/// The object was made, or could not be.
#[napi]
pub fn runtime_constructed(
    env: Env,
    runtime: u32,
    slot: u32,
    generation: u32,
    thrown: Option<ThrownRecord>,
) -> Result<()> {
    let result = outcome(thrown);
    entry(&env, runtime)?.with(|engine, now| engine.constructed(DaemonKey { slot, generation }, result, now));
    Ok(())
}

/// The object took its state, or could not.
#[napi]
pub fn runtime_restored(
    env: Env,
    runtime: u32,
    slot: u32,
    generation: u32,
    thrown: Option<ThrownRecord>,
) -> Result<()> {
    let result = outcome(thrown);
    entry(&env, runtime)?.with(|engine, now| engine.restored(DaemonKey { slot, generation }, result, now));
    Ok(())
}

/// Nothing is on its way that the daemon sent.
#[napi]
pub fn runtime_hushed(env: Env, runtime: u32, slot: u32, generation: u32) -> Result<()> {
    entry(&env, runtime)?.with(|engine, now| engine.hushed(DaemonKey { slot, generation }, now));
    Ok(())
}

/// The object gave its state of so many bytes, or is stateless (-1), or failed.
#[napi]
pub fn runtime_snapshot_taken(
    env: Env,
    runtime: u32,
    slot: u32,
    generation: u32,
    length: f64,
    thrown: Option<ThrownRecord>,
) -> Result<()> {
    let result = outcome(thrown).map(|()| (length >= 0.0).then(|| whole(length)));
    entry(&env, runtime)?.with(|engine, now| engine.snapshot_taken(DaemonKey { slot, generation }, result, now));
    Ok(())
}

/// A slice of the state, or why it cannot be read any more.
#[napi]
pub fn runtime_state_slice(
    env: Env,
    runtime: u32,
    slot: u32,
    generation: u32,
    offset: f64,
    bytes: Option<&[u8]>,
    thrown: Option<ThrownRecord>,
) -> Result<()> {
    let result = outcome(thrown).map(|()| bytes.map_or_else(Bytes::new, Bytes::copy_from_slice));
    entry(&env, runtime)?
        .with(|engine, now| engine.state_slice(DaemonKey { slot, generation }, whole(offset), result, now));
    Ok(())
}

/// A slice of the state as it is now, which is only hashed, or why it cannot be read any more.
#[napi]
pub fn runtime_state_checked(
    env: Env,
    runtime: u32,
    slot: u32,
    generation: u32,
    offset: f64,
    bytes: Option<&[u8]>,
    thrown: Option<ThrownRecord>,
) -> Result<()> {
    let result = outcome(thrown).map(|()| SliceHash::of(bytes.unwrap_or_default()));
    entry(&env, runtime)?
        .with(|engine, now| engine.state_checked(DaemonKey { slot, generation }, whole(offset), result, now));
    Ok(())
}

/// The policy decided.
#[napi]
pub fn runtime_admitted(env: Env, runtime: u32, question: f64, yes: bool) -> Result<()> {
    entry(&env, runtime)?.with(|engine, now| engine.admitted(whole(question), yes, now));
    Ok(())
}

fn outcome(thrown: Option<ThrownRecord>) -> std::result::Result<(), Thrown> {
    thrown.map_or(Ok(()), |thrown| Err(thrown.into()))
}
