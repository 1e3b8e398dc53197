//! What belongs to one JavaScript environment, and its end.
//!
//! State lives in Node-API's instance data. A thread-local would not do: Jest loads the addon once per test file into one
//! thread, each with an environment of its own. When an environment ends (also a terminated worker), a cleanup hook
//! cancels [`EnvState::closed`]: every wait on JavaScript selects against it, because queued calls are then never
//! answered.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use napi::bindgen_prelude::{Env, FunctionRef, Unknown};
use napi::{Result, Status};
use napi_derive::napi;
use tokio_util::sync::CancellationToken;

use crate::keep_alive::KeepAlive;
use crate::layers::NodeLayers;
use crate::mesh::Meshes;
use crate::operation::Operations;
use crate::outbox::Outbox;
use crate::runtime::Runtimes;

/// Builds an instance of an error class from a plain record; given by JavaScript.
pub(crate) type ErrorFactory = FunctionRef<Unknown<'static>, Unknown<'static>>;

/// What an environment still does when it ends.
type CloseTask = Box<dyn FnOnce()>;

/// Says on the JavaScript thread that there is news; given by JavaScript.
pub(crate) type WakeFunction = FunctionRef<(), ()>;

/// Everything native that belongs to one JavaScript environment. Used on its thread only.
pub(crate) struct EnvState {
    closed: CancellationToken,
    bound: OnceCell<Bound>,
    on_close: Rc<RefCell<Vec<CloseTask>>>,
    /// What keeps the event loop from ending.
    pub(crate) keep_alive: KeepAlive,
    /// Operations that JavaScript waits for.
    pub(crate) operations: Operations,
    /// Mesh nodes.
    pub(crate) meshes: Meshes,
    /// Their capabilities and channels.
    pub(crate) layers: NodeLayers,
    /// Daemon runtimes.
    pub(crate) runtimes: Runtimes,
}

/// What `lib` hands over when it is loaded.
struct Bound {
    make_error: Rc<ErrorFactory>,
    wake: Rc<WakeFunction>,
    outbox: Arc<Outbox>,
}

impl EnvState {
    /// The state of `env`, made on first use. No borrow of it may last across a call into JavaScript.
    pub(crate) fn of(env: &Env) -> Result<&'static Self> {
        if let Some(state) = env.get_instance_data::<Self>()? {
            return Ok(state);
        }
        let closed = CancellationToken::new();
        let (meshes, layers, runtimes) = (Meshes::default(), NodeLayers::default(), Runtimes::default());
        let on_close = Rc::new(RefCell::new(Vec::<CloseTask>::new()));
        let state = Self {
            closed: closed.clone(),
            bound: OnceCell::new(),
            on_close: Rc::clone(&on_close),
            keep_alive: KeepAlive::default(),
            operations: Operations::default(),
            meshes: meshes.clone(),
            layers: layers.clone(),
            runtimes: runtimes.clone(),
        };
        // Before the nodes say goodbye.
        state.at_close(move || runtimes.close());
        state.at_close(move || layers.close_all());
        state.at_close(move || meshes.close());
        env.set_instance_data(state, (), |_| {})?;
        env.add_env_cleanup_hook((), move |()| {
            closed.cancel();
            for task in on_close.take() {
                task();
            }
        })?;
        env.get_instance_data::<Self>()?
            .map(|state| &*state)
            .ok_or_else(|| napi::Error::new(Status::GenericFailure, "instance data vanished"))
    }

    /// Cancelled when the environment ends; JavaScript answers nothing from then on.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Runs `task` when the environment ends, on its thread, after [`closed`](Self::closed) was cancelled. It may block
    /// for a short, bounded time and may not call JavaScript.
    pub(crate) fn at_close(&self, task: impl FnOnce() + 'static) {
        self.on_close.borrow_mut().push(Box::new(task));
    }

    /// What makes instances of error classes.
    pub(crate) fn error_factory(&self) -> Result<Rc<ErrorFactory>> {
        self.bound().map(|bound| Rc::clone(&bound.make_error))
    }

    /// What is called when there is news.
    pub(crate) fn wake_function(&self) -> Result<Rc<WakeFunction>> {
        self.bound().map(|bound| Rc::clone(&bound.wake))
    }

    /// Where news for this environment's JavaScript go; may be kept by tasks.
    pub(crate) fn outbox(&self) -> Result<Arc<Outbox>> {
        self.bound().map(|bound| Arc::clone(&bound.outbox))
    }

    fn bound(&self) -> Result<&Bound> {
        self.bound.get().ok_or_else(|| napi::Error::new(Status::GenericFailure, "bindEnvironment() was not called"))
    }
}

/// Called once by `lib` when it is loaded, before anything else: `make_error` builds error instances from records, `wake`
/// is called on the JavaScript thread when [`take_notices`](crate::outbox::take_notices) has something to give.
#[napi(ts_args_type = "makeError: (record: import('./errors/from-native').ErrorRecord) => Error, wake: () => void")]
pub fn bind_environment(env: Env, make_error: ErrorFactory, wake: WakeFunction) -> Result<()> {
    let bound = Bound { make_error: Rc::new(make_error), wake: Rc::new(wake), outbox: Arc::default() };
    EnvState::of(&env)?
        .bound
        .set(bound)
        .map_err(|_| napi::Error::new(Status::GenericFailure, "bindEnvironment() was called twice"))
}
