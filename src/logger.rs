//! Tracing events on their way to a JavaScript logger.
//!
//! One subscriber per process is installed when the first logger is set. It formats an event only when some environment
//! listens at its level, and hands it to the outbox of each, which is bounded; it never blocks.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use mesh_daemon_core::identity::OriginHash;
use napi::bindgen_prelude::{BigInt, Env, Object};
use napi::{Result, Status};
use napi_derive::napi;
use parking_lot::RwLock;
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::convert::u64_from;
use crate::env::EnvState;
use crate::log_fields::Fields;
use crate::log_spans;
use crate::outbox::Outbox;
use crate::runtime::ThrownRecord;

static LISTENERS: RwLock<Vec<Listener>> = RwLock::new(Vec::new());
/// The most verbose level that somebody listens at, as a [`Verbosity`].
static VERBOSITY: AtomicU8 = AtomicU8::new(Verbosity::Off as u8);
static INSTALLED: OnceLock<bool> = OnceLock::new();

struct Listener {
    verbosity: Verbosity,
    outbox: Weak<Outbox>,
}

/// Levels in an order that an atomic can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Verbosity {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl Verbosity {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "error" => Self::Error,
            "warn" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            _ => return None,
        })
    }

    fn of(level: Level) -> Self {
        match level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warn,
            Level::INFO => Self::Info,
            Level::DEBUG => Self::Debug,
            Level::TRACE => Self::Trace,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Starts to pass log records of `level` and above to this environment, or stops with `None`.
#[napi]
pub fn listen_to_log(env: Env, level: Option<String>) -> Result<()> {
    let outbox = EnvState::of(&env)?.outbox()?;
    let verbosity = match level {
        Some(name) => Some(
            Verbosity::parse(&name)
                .ok_or_else(|| napi::Error::new(Status::InvalidArg, format!("unknown level '{name}'")))?,
        ),
        None => None,
    };
    let mut listeners = LISTENERS.write();
    listeners.retain(|listener| listener.outbox.upgrade().is_some_and(|other| !Arc::ptr_eq(&other, &outbox)));
    if let Some(verbosity) = verbosity {
        listeners.push(Listener { verbosity, outbox: Arc::downgrade(&outbox) });
        INSTALLED.get_or_init(|| tracing::subscriber::set_global_default(Forwarder).is_ok());
    }
    let most = listeners.iter().map(|listener| listener.verbosity).max().unwrap_or(Verbosity::Off);
    VERBOSITY.store(most as u8, Ordering::Relaxed);
    Ok(())
}

/// Logs that the `onStop` of a daemon failed: nobody waits for it.
#[napi]
pub fn log_stop_failure(origin: BigInt, reason: String, thrown: ThrownRecord) -> Result<()> {
    let origin = OriginHash::new(u64_from(&origin)?);
    let ThrownRecord { name, message, stack, .. } = thrown;
    tracing::warn!(
        target: "mesh_daemon::daemon",
        %origin,
        reason,
        error = format!("{name}: {message}"),
        stack = stack.unwrap_or_default(),
        "onStop failed"
    );
    Ok(())
}

/// Logs that a policy of the user's failed, which counts as a refusal.
#[napi]
pub fn log_policy_failure(policy: String, thrown: ThrownRecord) {
    let ThrownRecord { name, message, stack, .. } = thrown;
    tracing::warn!(
        target: "mesh_daemon::runtime",
        policy,
        error = format!("{name}: {message}"),
        stack = stack.unwrap_or_default(),
        "a policy failed, which counts as a refusal"
    );
}

/// One formatted event.
pub(crate) struct LogLine {
    verbosity: Verbosity,
    target: &'static str,
    message: String,
    fields: Fields,
}

impl LogLine {
    /// Makes the record that the user's function gets.
    pub(crate) fn into_js(self, env: &Env) -> Result<Object<'_>> {
        let mut record = Object::new(env)?;
        record.set("level", self.verbosity.name())?;
        record.set("target", self.target)?;
        record.set("message", self.message)?;
        record.set("fields", self.fields.into_js(env)?)?;
        Ok(record)
    }
}

/// The subscriber. Events have the fields of the spans that they are in.
struct Forwarder;

impl Subscriber for Forwarder {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // "Sometimes": the level may change at any time, and asking is one atomic load.
        if metadata.target().starts_with("mesh_daemon") { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let most = VERBOSITY.load(Ordering::Relaxed);
        // A span belongs to what is said in it, at whatever level that is.
        if metadata.is_span() { most > Verbosity::Off as u8 } else { Verbosity::of(*metadata.level()) as u8 <= most }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        None
    }

    fn event(&self, event: &Event<'_>) {
        let verbosity = Verbosity::of(*event.metadata().level());
        let make = || {
            let mut own = Fields::default();
            event.record(&mut own);
            let (message, mut fields) = (own.take_message(), log_spans::fields());
            fields.extend(own);
            LogLine { verbosity, target: event.metadata().target(), message, fields }
        };
        for listener in LISTENERS.read().iter().filter(|listener| verbosity <= listener.verbosity) {
            if let Some(outbox) = listener.outbox.upgrade() {
                outbox.log(make());
            }
        }
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        log_spans::open(attributes)
    }

    fn clone_span(&self, id: &Id) -> Id {
        log_spans::clone(id)
    }

    fn try_close(&self, id: Id) -> bool {
        log_spans::close(&id)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        log_spans::record(id, values);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, id: &Id) {
        log_spans::enter(id);
    }

    fn exit(&self, id: &Id) {
        log_spans::exit(id);
    }
}
