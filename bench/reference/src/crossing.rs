//! The ways between JavaScript and native code.
//!
//! - [`set_handler`] and [`round_trip`]: a free function that calls a stored JavaScript function on the same thread;
//! - [`start_bouncing`], [`bounce`] and [`stop_bouncing`]: a buffer goes to another thread and comes back through a
//!   threadsafe function, as one crossing.

use std::cell::RefCell;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use napi::bindgen_prelude::{Buffer, Env, Function, FunctionRef, Uint8Array, Unknown};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Error, Result};
use napi_derive::napi;

thread_local! {
    static HANDLER: RefCell<Option<FunctionRef<Unknown<'static>, Unknown<'static>>>> = const { RefCell::new(None) };
    static BOUNCER: RefCell<Option<Sender<Vec<u8>>>> = const { RefCell::new(None) };
}

/// Stores the function that [`round_trip`] calls.
#[napi]
pub fn set_handler(handler: FunctionRef<Unknown<'static>, Unknown<'static>>) {
    HANDLER.set(Some(handler));
}

/// Hands the payload to the stored function and its answer back.
#[napi]
pub fn round_trip(env: &Env, payload: Unknown<'static>) -> Result<Unknown<'static>> {
    HANDLER.with_borrow(|handler| {
        let handler = handler.as_ref().ok_or_else(|| Error::from_reason("there is no handler"))?;
        handler.borrow_back(env)?.call(payload)
    })
}

/// Starts the other thread; `arrived` is called with each buffer that comes back. Keeps the process alive.
#[napi]
pub fn start_bouncing(arrived: Function<'_, Buffer, ()>) -> Result<()> {
    let arrived = arrived.build_threadsafe_function().build()?;
    let (sender, receiver) = channel::<Vec<u8>>();
    thread::spawn(move || {
        while let Ok(bytes) = receiver.recv() {
            arrived.call(bytes.into(), ThreadsafeFunctionCallMode::NonBlocking);
        }
    });
    BOUNCER.set(Some(sender));
    Ok(())
}

/// Sends a copy of the bytes to the other thread.
#[napi]
pub fn bounce(bytes: Uint8Array) -> Result<()> {
    BOUNCER.with_borrow(|bouncer| {
        let bouncer = bouncer.as_ref().ok_or_else(|| Error::from_reason("nothing was started"))?;
        bouncer.send(bytes.to_vec()).map_err(|_| Error::from_reason("the thread has ended"))
    })
}

/// Ends the other thread.
#[napi]
pub fn stop_bouncing() {
    BOUNCER.set(None);
}
