//! Daemon runtimes: what JavaScript asks of them rarely. The ways of events are in [`calls`], those of work in [`work`].
//!
//! JavaScript names a runtime by a number and a daemon by slot and generation. It pulls all work; one weak callback per
//! runtime only says that there is some ([`Waker`]).

mod calls;
mod channels;
mod failures;
mod journal;
mod migrations;
mod scratch;
#[cfg(feature = "test-hooks")]
mod test_hooks;
mod work;

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mesh_daemon_core::channel::Channels;
use mesh_daemon_core::daemon::{DaemonKey, Delivery, HostConfig, Ticket};
use mesh_daemon_core::identity::{EntityKeypair, NodeId, OriginHash};
use mesh_daemon_core::runtime::{
    ArrivalPolicy, DaemonRuntime, Embedder, Engine, Now, OrchestratorPolicy, RuntimeError, RuntimeOptions,
    SpawnRequest, Work,
};
use napi::bindgen_prelude::{BigInt, Buffer, Env, External, Function, Uint8Array};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Result, Status};
use napi_derive::napi;
use parking_lot::Mutex;
use slab::Slab;

use self::scratch::Scratch;
pub(crate) use self::scratch::ThrownRecord;
use crate::convert::u64_from;
use crate::env::EnvState;
use crate::error::Failure;
use crate::operation::{self, Value};
use crate::{executor, mesh};

/// Longer waits are cut to this, so that adding one to an instant cannot overflow.
const LONGEST_WAIT: Duration = Duration::from_secs(u32::MAX as u64);

type WakeCallback = ThreadsafeFunction<(), (), (), Status, false, true>;

/// Tells JavaScript that there is work, once until it begins to pull.
pub(crate) struct Waker {
    woken: AtomicBool,
    callback: Mutex<Option<WakeCallback>>,
}

impl Embedder for Waker {
    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Some(callback) = &*self.callback.lock()
        {
            // Only queues; when the environment is closing there is nobody left to tell.
            let _ = callback.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

/// One runtime of an environment.
pub(crate) struct Entry {
    runtime: DaemonRuntime,
    waker: Arc<Waker>,
    /// The channels of its node.
    channels: Option<Channels>,
    scratch: RefCell<Scratch>,
    /// Work that was taken and did not fit what is handed out now.
    stash: RefCell<Option<Work>>,
    /// The batch handed out last, when parts of it are still to be fetched.
    unfetched: RefCell<Vec<Delivery>>,
}

/// The runtimes of one environment.
#[derive(Clone, Default)]
pub(crate) struct Runtimes(Rc<RefCell<Slab<Rc<Entry>>>>);

impl Runtimes {
    /// The environment or the process ends: last messages leave if they can.
    pub(crate) fn close(&self) {
        let entries: Vec<_> = self.0.borrow_mut().drain().collect();
        for entry in entries {
            entry.waker.callback.lock().take();
            entry.runtime.shutdown_now();
        }
    }
}

/// The runtime with this number.
fn entry(env: &Env, runtime: u32) -> Result<Rc<Entry>> {
    let entries = EnvState::of(env)?.runtimes.0.borrow();
    entries.get(runtime as usize).cloned().ok_or_else(|| Failure::from(RuntimeError::ShuttingDown).throw(env))
}

impl Entry {
    fn with<T>(&self, act: impl FnOnce(&mut Engine, Now) -> T) -> T {
        self.runtime.with(act)
    }

    /// Does something that may fail with an error for the caller.
    fn try_with<T>(
        &self,
        env: &Env,
        act: impl FnOnce(&mut Engine, Now) -> std::result::Result<T, RuntimeError>,
    ) -> Result<T> {
        self.runtime.with(act).map_err(|error| Failure::from(error).throw(env))
    }
}

/// What a runtime is made with; `lib` has filled in the defaults.
#[napi(object, object_to_js = false)]
pub struct RuntimeConfig {
    /// `announced`, `any` or `ask`.
    pub arrivals: String,
    /// Who may move daemons away: `any`, `ask`, or `listed`.
    pub orchestrators: String,
    /// The nodes that are `listed`.
    pub listed_orchestrators: Vec<BigInt>,
    /// In milliseconds.
    pub freeze_timeout_ms: f64,
    /// In milliseconds.
    pub silence_ms: f64,
    /// In milliseconds.
    pub handover_hold_ms: f64,
    /// Whether the declared loss of a peer counts as the operator's word.
    pub recover_lost: bool,
    /// Most bytes of arriving states.
    pub arrival_budget_bytes: BigInt,
    /// Largest payload.
    pub max_payload_bytes: f64,
}

/// How a daemon is hosted; `lib` has filled in the defaults.
#[napi(object, object_to_js = false)]
pub struct HostOptions {
    /// Events between automatic snapshots.
    pub auto_snapshot_interval: Option<BigInt>,
    /// In milliseconds.
    pub callback_timeout_ms: f64,
    /// Events that may wait.
    pub mailbox_capacity: u32,
    /// Bytes that may wait.
    pub mailbox_bytes: f64,
    /// Channel for outputs.
    pub output_channel: Option<String>,
}

/// Makes the runtime of a mesh; gives its number. `wake` is called when work has come from outside. Events and
/// outputs cross in buffers: this side writes the inbox, JavaScript the outbox and the journal.
#[napi]
pub fn runtime_create(
    env: Env,
    mesh: u32,
    config: RuntimeConfig,
    wake: Function<'_, (), ()>,
    inbox: Uint8Array,
    outbox: Uint8Array,
    journal: Uint8Array,
) -> Result<u32> {
    let node = mesh::node(&env, mesh)?;
    let callback = wake.build_threadsafe_function::<()>().weak::<true>().build_callback(|_| Ok(()))?;
    let waker = Arc::new(Waker { woken: AtomicBool::new(false), callback: Mutex::new(Some(callback)) });
    let options = options_from(&config)?;
    let runtime = {
        let _context = executor::handle().map_err(|failure| failure.throw(&env))?.enter();
        DaemonRuntime::create(&node, options, waker.clone()).map_err(|error| Failure::from(error).throw(&env))?
    };
    let channels = EnvState::of(&env)?.layers.channels(mesh);
    if let Some(channels) = &channels {
        runtime.attach_channels(channels);
    }
    let scratch = RefCell::new(Scratch::new(inbox, outbox, journal)?);
    let (stash, unfetched) = (RefCell::default(), RefCell::default());
    let entry = Rc::new(Entry { runtime, waker, channels, scratch, stash, unfetched });
    let id = EnvState::of(&env)?.runtimes.0.borrow_mut().insert(entry);
    Ok(u32::try_from(id).unwrap_or(u32::MAX))
}

fn options_from(config: &RuntimeConfig) -> Result<RuntimeOptions> {
    let mut options = RuntimeOptions {
        arrivals: match config.arrivals.as_str() {
            "any" => ArrivalPolicy::AnyKind,
            "ask" => ArrivalPolicy::Ask,
            _ => ArrivalPolicy::Announced,
        },
        orchestrators: match config.orchestrators.as_str() {
            "any" => OrchestratorPolicy::Any,
            "ask" => OrchestratorPolicy::Ask,
            _ => {
                let nodes: Result<HashSet<_>> =
                    config.listed_orchestrators.iter().map(|id| u64_from(id).map(NodeId::new)).collect();
                OrchestratorPolicy::Only(nodes?)
            }
        },
        max_payload: whole(config.max_payload_bytes),
        recover_lost: config.recover_lost,
        ..RuntimeOptions::default()
    };
    options.migration.freeze_timeout = wait(config.freeze_timeout_ms);
    options.migration.silence = wait(config.silence_ms);
    options.migration.handover_hold = wait(config.handover_hold_ms);
    options.migration.arrival_budget = u64_from(&config.arrival_budget_bytes)?;
    Ok(options)
}

/// Makes a runtime ready. Idempotent.
#[napi]
pub fn runtime_start(env: Env, runtime: u32) -> Result<()> {
    entry(&env, runtime)?.try_with(&env, Engine::start)
}

/// Whether daemons may be spawned.
#[napi]
pub fn runtime_is_ready(env: Env, runtime: u32) -> Result<bool> {
    Ok(entry(&env, runtime)?.runtime.look(|engine| engine.is_ready()))
}

/// How many daemons live here.
#[napi]
pub fn runtime_daemon_count(env: Env, runtime: u32) -> Result<u32> {
    let count = entry(&env, runtime)?.runtime.look(|engine| engine.daemon_count());
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Ends a runtime; settles when its last messages left. The work that this leaves is there when this returns.
#[napi]
pub fn runtime_shutdown(env: Env, operation: f64, runtime: u32) -> Result<()> {
    let entry = entry(&env, runtime)?;
    entry.with(Engine::shutdown);
    let runtime = entry.runtime.clone();
    operation::spawn(&env, operation, async move {
        runtime.shutdown().await;
        Ok(Value::Nothing)
    })
}

/// Forgets a runtime that was shut down; its number is free.
#[napi]
pub fn runtime_forget(env: Env, runtime: u32) -> Result<()> {
    let entry = EnvState::of(&env)?.runtimes.0.borrow_mut().try_remove(runtime as usize);
    if let Some(entry) = entry {
        entry.waker.callback.lock().take();
    }
    Ok(())
}

/// Registers a kind.
#[napi]
pub fn runtime_register_factory(env: Env, runtime: u32, kind: String) -> Result<()> {
    entry(&env, runtime)?.try_with(&env, |engine, _| engine.register_factory(&kind))
}

/// Spawns a daemon; `ticket` is settled. `instance`: JavaScript has the object.
#[napi(
    ts_args_type = "runtime: number, ticket: number, kind: string | undefined, identity: import('./handles').IdentityHandle, config: HostOptions, snapshot: Uint8Array | undefined, instance: boolean"
)]
#[allow(clippy::too_many_arguments)] // the fields of the request
pub fn runtime_spawn(
    env: Env,
    runtime: u32,
    ticket: f64,
    kind: Option<String>,
    identity: &External<EntityKeypair>,
    config: HostOptions,
    snapshot: Option<&[u8]>,
    instance: bool,
) -> Result<()> {
    let request = SpawnRequest {
        kind,
        keypair: EntityKeypair::clone(identity),
        config: host_config(&config)?,
        snapshot: snapshot.map(bytes::Bytes::copy_from_slice),
        instance,
    };
    entry(&env, runtime)?.try_with(&env, |engine, now| engine.spawn(ticket_from(ticket), request, now))
}

/// Stops a daemon behind the events that it accepted; `ticket` is settled.
#[napi]
pub fn runtime_stop(env: Env, runtime: u32, ticket: f64, origin: BigInt) -> Result<()> {
    let origin = origin_from(&origin)?;
    entry(&env, runtime)?.try_with(&env, |engine, now| engine.stop(ticket_from(ticket), origin, now))
}

/// Takes a snapshot; `ticket` is settled.
#[napi]
pub fn runtime_snapshot(env: Env, runtime: u32, ticket: f64, origin: BigInt) -> Result<()> {
    let origin = origin_from(&origin)?;
    entry(&env, runtime)?.try_with(&env, |engine, now| engine.snapshot(ticket_from(ticket), origin, now))
}

/// Finds out where a daemon lives; `ticket` is settled.
#[napi]
pub fn runtime_locate(env: Env, runtime: u32, ticket: f64, origin: BigInt) -> Result<()> {
    let origin = origin_from(&origin)?;
    entry(&env, runtime)?.try_with(&env, |engine, now| engine.locate(ticket_from(ticket), origin, now))
}

/// Counters of a daemon.
#[napi(object, object_from_js = false)]
pub struct DaemonCounters {
    /// Events that settled well.
    pub events_processed: BigInt,
    /// Outputs.
    pub events_emitted: BigInt,
    /// Events that failed.
    pub errors: BigInt,
    /// Snapshots.
    pub snapshots_taken: BigInt,
    /// Events that wait.
    pub mailbox_length: f64,
    /// Bytes that wait.
    pub mailbox_bytes: f64,
    /// Messages of channels that found no room and need no acknowledgement.
    pub messages_dropped: BigInt,
}

/// Counters of a daemon; nothing once it is gone.
#[napi]
pub fn runtime_stats(env: Env, runtime: u32, slot: u32, generation: u32) -> Result<Option<DaemonCounters>> {
    let key = DaemonKey { slot, generation };
    let found = entry(&env, runtime)?.with(|engine, _| {
        let rest = (engine.mailbox_bytes(key).unwrap_or_default(), engine.messages_dropped(key));
        engine.stats(key).map(|stats| (stats, rest))
    });
    #[allow(clippy::cast_precision_loss)] // bounded by memory
    Ok(found.map(|((stats, length), (bytes, dropped))| DaemonCounters {
        events_processed: stats.events_processed.into(),
        events_emitted: stats.events_emitted.into(),
        errors: stats.errors.into(),
        snapshots_taken: stats.snapshots_taken.into(),
        mailbox_length: length as f64,
        mailbox_bytes: bytes as f64,
        messages_dropped: dropped.into(),
    }))
}

/// The newest automatic snapshot.
#[napi]
pub fn runtime_last_snapshot(env: Env, runtime: u32, slot: u32, generation: u32) -> Result<Option<Buffer>> {
    let found = entry(&env, runtime)?.with(|engine, _| engine.last_snapshot(DaemonKey { slot, generation }));
    Ok(found.map(|snapshot| snapshot.to_vec().into()))
}

/// Signs with a daemon's key; nothing once it is gone.
#[napi]
pub fn runtime_sign(env: Env, runtime: u32, slot: u32, generation: u32, message: &[u8]) -> Result<Option<Buffer>> {
    let signature = entry(&env, runtime)?.with(|engine, _| engine.sign(DaemonKey { slot, generation }, message));
    match signature.transpose() {
        Ok(signature) => Ok(signature.map(|signature| signature.as_bytes().to_vec().into())),
        Err(error) => Err(Failure::from(error).throw(&env)),
    }
}

fn host_config(options: &HostOptions) -> Result<HostConfig> {
    Ok(HostConfig {
        auto_snapshot_interval: options.auto_snapshot_interval.as_ref().map(u64_from).transpose()?,
        callback_timeout: wait(options.callback_timeout_ms),
        mailbox_capacity: options.mailbox_capacity as usize,
        mailbox_bytes: usize::try_from(whole(options.mailbox_bytes)).unwrap_or(usize::MAX),
        output_channel: options.output_channel.clone(),
    })
}

fn origin_from(value: &BigInt) -> Result<OriginHash> {
    u64_from(value).map(OriginHash::new)
}

/// A number that `lib` made and checked.
fn whole(value: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the cast saturates, which is what is wanted
    let whole = value as u64;
    whole
}

fn ticket_from(value: f64) -> Ticket {
    Ticket(whole(value))
}

#[allow(clippy::cast_precision_loss)] // tickets come from JavaScript, which counts in f64
fn ticket_number(ticket: Ticket) -> f64 {
    ticket.0 as f64
}

/// How long somebody waits: negative stands for no limit.
fn patience(ms: f64) -> Option<Duration> {
    (ms >= 0.0).then(|| wait(ms))
}

fn wait(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1e3).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)
}
