//! What waits to be told to JavaScript: settled operations, peer events, log records.
//!
//! While somebody listens, one weak callback per environment says that there is news; JavaScript then takes all of it at once. Settlements are
//! bounded by the operations that JavaScript started, the other two by a length: the oldest peer events and the newest
//! log records go first when a blocked event loop lets them pile up.

use std::collections::VecDeque;

use mesh_daemon_core::channel::ReaderId;
use mesh_daemon_core::identity::NodeId;
use napi::bindgen_prelude::{BigInt, Env, Object, Unknown};
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
#[derive(Default)]
pub(crate) struct Outbox(Mutex<News>);

#[derive(Default)]
struct News {
    /// Present while JavaScript listens.
    wake: Option<WakeCallback>,
    woken: bool,
    settled: Vec<(OperationId, std::result::Result<Value, Failure>)>,
    peers: VecDeque<PeerNotice>,
    /// Each reader once: it is told again only after it has looked.
    readable: Vec<(u32, ReaderId)>,
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

    /// Tells that a reader of a mesh's channel has something to read.
    pub(crate) fn readable(&self, mesh: u32, reader: ReaderId) {
        self.push(|news| news.readable.push((mesh, reader)));
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
        let mut news = self.0.lock();
        // `lib` listens while an operation is pending, so what is not listened to is nobody's.
        if news.wake.is_none() {
            return;
        }
        add(&mut news);
        if !std::mem::replace(&mut news.woken, true)
            && let Some(wake) = &news.wake
        {
            // Only queues; when the environment is closing there is nobody left to tell.
            let _ = wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    fn take(&self) -> News {
        let mut news = self.0.lock();
        let wake = news.wake.take();
        std::mem::replace(&mut *news, News { wake, ..News::default() })
    }
}

/// Begins to call `wake` when there is news, or stops. A callback exists only in between, so that an idle environment has
/// no open handle.
#[napi]
pub fn listen(env: Env, on: bool) -> Result<()> {
    let state = EnvState::of(&env)?;
    let wake = if on {
        let function = state.wake_function()?;
        let function = function.borrow_back(&env)?;
        Some(function.build_threadsafe_function::<()>().weak::<true>().build_callback(|_| Ok(()))?)
    } else {
        None
    };
    let outbox = state.outbox()?;
    let before = std::mem::replace(&mut *outbox.0.lock(), News { wake, ..News::default() });
    // Outside of the lock: it may run code of Node's.
    drop(before);
    Ok(())
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
    /// Readers of channels that have something to read.
    #[napi(ts_type = "import('./notices').ReaderNews[]")]
    pub readable: Vec<Object<'env>>,
    /// Log records.
    #[napi(ts_type = "import('./types/values').LogRecord[]")]
    pub lines: Vec<Object<'env>>,
    /// Log records that were dropped because too many waited.
    pub lines_dropped: u32,
}

/// Takes all news; called when JavaScript was woken.
#[napi]
pub fn take_notices(env: &Env) -> Result<Notices<'_>> {
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
    let readable = news.readable.into_iter().map(|(mesh, reader)| {
        let mut notice = Object::new(env)?;
        notice.set("mesh", mesh)?;
        notice.set("reader", BigInt::from(reader.0))?;
        Ok(notice)
    });
    Ok(Notices {
        settled: settled.collect::<Result<_>>()?,
        peers: peers.collect::<Result<_>>()?,
        readable: readable.collect::<Result<_>>()?,
        lines: news.lines.into_iter().map(|line| line.into_js(env)).collect::<Result<_>>()?,
        lines_dropped: news.lines_dropped,
    })
}
