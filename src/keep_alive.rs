//! What keeps the event loop from ending.
//!
//! All callbacks into JavaScript are weak: they never keep a process alive. One strong callback that nobody calls does,
//! for as long as it exists. `lib` counts who needs it (meshes, pending promises) and switches it.

use std::cell::RefCell;

use napi::bindgen_prelude::Env;
use napi::threadsafe_function::ThreadsafeFunction;
use napi::{Result, Status};
use napi_derive::napi;

use crate::env::EnvState;

/// A callback that is never called.
type StrongCallback = ThreadsafeFunction<(), (), (), Status, false, false>;

/// The switch of one environment.
#[derive(Default)]
pub(crate) struct KeepAlive(RefCell<Option<StrongCallback>>);

/// Keeps the event loop of this environment from ending, or no longer. Calling it with the present state is fine.
#[napi]
pub fn keep_alive(env: Env, on: bool) -> Result<()> {
    let slot = &EnvState::of(&env)?.keep_alive.0;
    let held = slot.borrow().is_some();
    if on && !held {
        let never_called = env.create_function_from_closure::<(), (), _>("keepAlive", |_| Ok(()))?;
        let callback = never_called.build_threadsafe_function::<()>().build_callback(|_| Ok(()))?;
        slot.replace(Some(callback));
    } else if !on {
        slot.take();
    }
    Ok(())
}
