//! Promises: operations that end on another thread.
//!
//! JavaScript numbers each operation, keeps its promise, and hands the number to the native function that starts it. The
//! outcome goes back through the [`Outbox`](crate::outbox::Outbox), many in one wake-up. An operation that JavaScript no
//! longer wants is dropped where it waits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;

use mesh_daemon_core::channel::PublishReport;
use napi::bindgen_prelude::{BigInt, Env, Object, ToNapiValue, Unknown};
use napi::{JsValue, Result};
use napi_derive::napi;
use tokio::task::AbortHandle;

use crate::env::EnvState;
use crate::error::Failure;
use crate::executor;

/// The number that JavaScript gave to an operation; never reused within an environment.
pub(crate) type OperationId = f64;

/// What an operation resolves with. It is made into a JavaScript value on the JavaScript thread.
#[derive(Debug)]
pub(crate) enum Value {
    /// `undefined`
    Nothing,
    /// `bigint`
    U64(u64),
    /// `string`
    Text(String),
    /// `PublishReport`
    Report(PublishReport),
}

impl Value {
    /// Makes the JavaScript value.
    pub(crate) fn into_js(self, env: &Env) -> Result<Unknown<'_>> {
        match self {
            Self::Nothing => ().into_unknown(env),
            Self::U64(value) => BigInt::from(value).into_unknown(env),
            Self::Text(value) => value.into_unknown(env),
            Self::Report(report) => report_into_js(report, env),
        }
    }
}

fn report_into_js(report: PublishReport, env: &Env) -> Result<Unknown<'_>> {
    let failures = report.errors.into_iter().map(|(node, error)| {
        let mut failure = Object::new(env)?;
        failure.set("nodeId", BigInt::from(node.get()))?;
        failure.set("message", error.to_string())?;
        failure.set("code", Failure::from(error).code())?;
        Ok(failure)
    });
    let mut object = Object::new(env)?;
    object.set("attempted", u32::try_from(report.attempted).unwrap_or(u32::MAX))?;
    object.set("delivered", u32::try_from(report.delivered).unwrap_or(u32::MAX))?;
    object.set("errors", failures.collect::<Result<Vec<_>>>()?)?;
    Ok(object.to_unknown())
}

/// The operations of one environment that have not been settled.
#[derive(Default)]
pub(crate) struct Operations(RefCell<HashMap<u64, AbortHandle>>);

impl Operations {
    /// Forgets an operation that was settled.
    pub(crate) fn settled(&self, id: OperationId) {
        self.0.borrow_mut().remove(&id.to_bits());
    }
}

/// Runs `work` on the runtime and settles operation `id` with what comes of it.
pub(crate) fn spawn<F>(env: &Env, id: OperationId, work: F) -> Result<()>
where
    F: Future<Output = std::result::Result<Value, Failure>> + Send + 'static,
{
    let state = EnvState::of(env)?;
    let (outbox, closed) = (state.outbox()?, state.closed().clone());
    let runtime = executor::handle().map_err(|failure| failure.throw(env))?;
    let task = runtime.spawn(async move {
        tokio::select! {
            biased;
            () = closed.cancelled() => {}
            outcome = work => outbox.settle(id, outcome),
        }
    });
    state.operations.0.borrow_mut().insert(id.to_bits(), task.abort_handle());
    Ok(())
}

/// Drops an operation that JavaScript no longer waits for. Nothing happens when it was settled.
#[napi]
pub fn abandon_operation(env: Env, id: f64) -> Result<()> {
    if let Some(task) = EnvState::of(&env)?.operations.0.borrow_mut().remove(&id.to_bits()) {
        task.abort();
    }
    Ok(())
}
