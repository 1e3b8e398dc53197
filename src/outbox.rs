//! What waits to be told to JavaScript: settled operations, peer events, log records.
//!
//! One weak callback per environment says that there is news; JavaScript then takes all of it at once. Settlements are
//! bounded by the operations that JavaScript started, the other two by a length: the oldest peer events and the newest
//! log records go first when a blocked event loop lets them pile up.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use mesh_daemon_core::identity::NodeId;
use napi::bindgen_prelude::{BigInt, Env, Function, Object, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Result, Status};
use napi_derive::napi;
use parking_lot::Mutex;

use crate::env::EnvState;
use crate::error::Failure;
use crate::logger::LogLine;
use crate::operation::{OperationId, Value};

const MAX_PEER_EVENTS: usize = 4096;
const MAX_LOG_LINES: usize = 1024;

/// Calls JavaScript without an argument and without keeping the process alive.
type WakeCallback = ThreadsafeFunction<(), (), (), Status, false, true>;

/// The news of one environment; written by any thread.
pub(crate) struct Outbox {
    wake: WakeCallback,
    woken: AtomicBool,
    news: Mutex<News>,
}

#[derive(Default)]
struct News {
    settled: Vec<(OperationId, std::result::Result<Value, Failure>)>,
    peers: VecDeque<PeerNotice>,
    lines: VecDeque<LogLine>,
    lines_dropped: u32,
}

/// The state of a peer changed.
pub(crate) struct PeerNotice {
    /// Which of the environment's meshes.
    pub(crate) mesh: u32,
    /// `connected`, `suspected` or `lost`.
    pub(crate) state: &'static str,
    /// Which peer.
    pub(crate) node: NodeId,
}

impl Outbox {
    pub(crate) fn new(wake: &Function<'_, (), ()>) -> Result<Self> {
        let wake = wake.build_threadsafe_function::<()>().weak::<true>().build_callback(|_| Ok(()))?;
        Ok(Self { wake, woken: AtomicBool::new(false), news: Mutex::default() })
    }

    /// Tells the outcome of an operation.
    pub(crate) fn settle(&self, id: OperationId, outcome: std::result::Result<Value, Failure>) {
        self.push(|news| news.settled.push((id, outcome)));
    }

    /// Tells that a peer's state changed.
    pub(crate) fn peer(&self, notice: PeerNotice) {
        self.push(|news| {
            if news.peers.len() == MAX_PEER_EVENTS {
                news.peers.pop_front();
            }
            news.peers.push_back(notice);
        });
    }

    /// Passes a log record on.
    pub(crate) fn log(&self, line: LogLine) {
        self.push(|news| {
            if news.lines.len() < MAX_LOG_LINES {
                news.lines.push_back(line);
            } else {
                news.lines_dropped = news.lines_dropped.saturating_add(1);
            }
        });
    }

    fn push(&self, add: impl FnOnce(&mut News)) {
        add(&mut self.news.lock());
        if !self.woken.swap(true, Ordering::AcqRel) {
            // When the environment is closing there is nobody left to tell.
            let _ = self.wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    fn take(&self) -> News {
        // Cleared first: what is added after the lock is released wakes JavaScript again.
        self.woken.store(false, Ordering::Release);
        std::mem::take(&mut *self.news.lock())
    }
}

/// All news since the last call.
#[napi(object, object_from_js = false)]
pub struct Notices<'env> {
    /// Operations that ended: their number, then either a value or a failure record.
    #[napi(ts_type = "import('./notices').Settlement[]")]
    pub settled: Vec<Object<'env>>,
    /// Peers whose state changed.
    #[napi(ts_type = "import('./notices').PeerChange[]")]
    pub peers: Vec<Object<'env>>,
    /// Log records.
    #[napi(ts_type = "import('./types/values').LogRecord[]")]
    pub lines: Vec<Object<'env>>,
    /// Log records that were dropped because too many waited.
    pub lines_dropped: u32,
}

/// Takes all news; called when JavaScript was woken.
#[napi]
pub fn take_notices<'env>(env: &'env Env) -> Result<Notices<'env>> {
    let state = EnvState::of(env)?;
    let news = state.outbox()?.take();
    let settled = news.settled.into_iter().map(|(id, outcome)| {
        state.operations.settled(id);
        let mut notice = Object::new(env)?;
        notice.set("operation", id)?;
        match outcome {
            Ok(value) => notice.set::<_, Unknown<'_>>("value", value.into_js(env)?)?,
            Err(failure) => notice.set("failure", failure.into_record(env)?)?,
        }
        Ok(notice)
    });
    let peers = news.peers.into_iter().map(|peer| {
        let mut notice = Object::new(env)?;
        notice.set("mesh", peer.mesh)?;
        notice.set("type", peer.state)?;
        notice.set("nodeId", BigInt::from(peer.node.get()))?;
        Ok(notice)
    });
    Ok(Notices {
        settled: settled.collect::<Result<_>>()?,
        peers: peers.collect::<Result<_>>()?,
        lines: news.lines.into_iter().map(|line| line.into_js(env)).collect::<Result<_>>()?,
        lines_dropped: news.lines_dropped,
    })
}
