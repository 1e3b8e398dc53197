//! The one tokio runtime of the process.
//!
//! It is ours and not napi's, because napi's custom runtime lives only until the last environment ends, and addons may be
//! loaded again after that.

use std::sync::OnceLock;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{ErrorCode, Failure};

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Gives the runtime, started on first use.
pub(crate) fn handle() -> Result<&'static Handle, Failure> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle());
    }
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("mesh-daemon")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(ErrorCode::Other, format_args!("cannot start threads: {error}")))?;
    // Two environments may start at once; the runtime of the loser has no tasks and ends here.
    if let Err(unused) = RUNTIME.set(runtime) {
        unused.shutdown_background();
    }
    RUNTIME.get().map(Runtime::handle).ok_or_else(|| Failure::new(ErrorCode::Other, "cannot start threads"))
}
