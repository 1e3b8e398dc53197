//! Tracing events on their way to a JavaScript logger.
//!
//! One subscriber per process is installed when the first logger is set. It formats an event only when some environment
//! listens at its level, and hands it to the outbox of each, which is bounded; it never blocks.

use std::fmt::{Debug, Write as _};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use mesh_daemon_core::identity::OriginHash;
use napi::bindgen_prelude::{BigInt, Env, Object};
use napi::{Result, Status};
use napi_derive::napi;
use parking_lot::RwLock;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::convert::u64_from;
use crate::env::EnvState;
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
    fields: Vec<(&'static str, LogValue)>,
}

enum LogValue {
    Text(String),
    Number(f64),
    Unsigned(u64),
    Signed(i64),
    Flag(bool),
}

impl LogLine {
    /// Makes the record that the user's function gets.
    pub(crate) fn into_js(self, env: &Env) -> Result<Object<'_>> {
        let mut fields = Object::new(env)?;
        for (name, value) in self.fields {
            match value {
                LogValue::Text(value) => fields.set(name, value)?,
                LogValue::Number(value) => fields.set(name, value)?,
                LogValue::Unsigned(value) => fields.set(name, BigInt::from(value))?,
                LogValue::Signed(value) => fields.set(name, BigInt::from(value))?,
                LogValue::Flag(value) => fields.set(name, value)?,
            }
        }
        let mut record = Object::new(env)?;
        record.set("level", self.verbosity.name())?;
        record.set("target", self.target)?;
        record.set("message", self.message)?;
        record.set("fields", fields)?;
        Ok(record)
    }
}

impl Visit for LogLine {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Writing to a String does not fail.
            let _ = write!(self.message, "{value:?}");
        } else {
            self.fields.push((field.name(), LogValue::Text(format!("{value:?}"))));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.fields.push((field.name(), LogValue::Text(value.into())));
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.fields.push((field.name(), LogValue::Number(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), LogValue::Unsigned(value)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), LogValue::Signed(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), LogValue::Flag(value)));
    }
}

/// The subscriber: events only. Spans cost nothing and say nothing.
struct Forwarder;

impl Subscriber for Forwarder {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // "Sometimes": the level may change at any time, and asking is one atomic load.
        if metadata.is_event() && metadata.target().starts_with("mesh_daemon") {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Verbosity::of(*metadata.level()) as u8 <= VERBOSITY.load(Ordering::Relaxed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        None
    }

    fn event(&self, event: &Event<'_>) {
        let verbosity = Verbosity::of(*event.metadata().level());
        let make = || {
            let mut line =
                LogLine { verbosity, target: event.metadata().target(), message: String::new(), fields: Vec::new() };
            event.record(&mut line);
            line
        };
        for listener in LISTENERS.read().iter().filter(|listener| verbosity <= listener.verbosity) {
            if let Some(outbox) = listener.outbox.upgrade() {
                outbox.log(make());
            }
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
