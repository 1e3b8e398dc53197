//! What only tests may do; absent from release builds.

use mesh_daemon_core::runtime::Now;
use napi::Result;
use napi::bindgen_prelude::{Env, Object};
use napi_derive::napi;

use super::{entry, wait};

/// From now on this node holds messages of this name back.
#[napi(skip_typescript)]
pub fn test_close_gate(env: Env, runtime: u32, message: String) -> Result<()> {
    entry(&env, runtime)?.with(|engine, _| engine.close_gate(&message));
    Ok(())
}

/// Handles what was held, and whatever comes from now on.
#[napi(skip_typescript)]
pub fn test_open_gate(env: Env, runtime: u32, message: String) -> Result<()> {
    let entry = entry(&env, runtime)?;
    entry.with(|engine, now| engine.open_gate(&message, now));
    mesh_daemon_core::runtime::Embedder::wake(&*entry.waker);
    Ok(())
}

/// Counts of what is alive.
#[napi(skip_typescript)]
pub fn test_census(env: &Env, runtime: u32) -> Result<Object<'_>> {
    let census = entry(env, runtime)?.with(|engine, _| engine.census());
    let mut counts = Object::new(env)?;
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    counts.set("daemons", number(census.daemons))?;
    counts.set("streamsIn", number(census.streams_in))?;
    counts.set("streamsOut", number(census.streams_out))?;
    counts.set("migrations", number(census.migrations))?;
    #[allow(clippy::cast_precision_loss)] // a count of bytes
    counts.set("arrivingBytes", census.arriving_bytes as f64)?;
    #[allow(clippy::cast_precision_loss)] // a count of bytes
    counts.set("peakStateBytes", census.peak_state_bytes as f64)?;
    Ok(counts)
}

/// Ends every wait of this runtime that would end within so many milliseconds, as if they had passed.
#[napi(skip_typescript)]
pub fn test_pass_time(env: Env, runtime: u32, ms: f64) -> Result<()> {
    let entry = entry(&env, runtime)?;
    entry.with(|engine, now| engine.tick(Now { instant: now.instant + wait(ms), ..now }));
    mesh_daemon_core::runtime::Embedder::wake(&*entry.waker);
    Ok(())
}
