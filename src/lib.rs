//! Node-API bindings of `mesh-daemon-core`: conversion only, no decisions.
//!
//! JavaScript calls free functions and names objects by number or by an external; the classes that users see live in
//! `lib/`. What belongs to one JavaScript environment (the main thread, a worker, a Jest test file) is in its
//! `env::EnvState`, never in a static.
//!
//! | module | holds |
//! |---|---|
//! | `allocator` | memory: the system's, with huge pages for very large blocks |
//! | `env` | what belongs to one environment, and its end |
//! | `executor` | the one tokio runtime of the process |
//! | `error` | the one table of errors, and the way of a failure into JavaScript |
//! | `error_samples` | one failure of every kind, for a test |
//! | `channels` | channels of mesh nodes |
//! | `convert` | numbers and bytes across the boundary |
//! | `keep_alive` | what keeps the event loop from ending |
//! | `outbox` | what waits to be told to JavaScript: settled operations, peer events, log records |
//! | `operation` | promises: operations that end on another thread |
//! | `logger` | tracing events on their way to a JavaScript logger |
//! | `identity` | key pairs and derived addresses |
//! | `mesh` | mesh nodes |
//! | `runtime` | daemon runtimes |
//! | `token` | permission tokens |

// napi's macros make the functions reachable from JavaScript, which rustc cannot see, and take some arguments by value
// that clippy would borrow. An `&Env` is small, but it lends its lifetime to the values made with it.
#![allow(unreachable_pub, clippy::needless_pass_by_value, clippy::trivially_copy_pass_by_ref)]

use napi_derive::napi;

mod allocator;
mod capabilities;
mod channels;
mod convert;
mod env;
mod error;
#[cfg(feature = "test-hooks")]
mod error_samples;
mod executor;
mod identity;
mod keep_alive;
mod layers;
mod log_fields;
mod log_spans;
mod logger;
mod mesh;
mod operation;
mod outbox;
mod runtime;
mod token;

/// The version of the native code; `lib/load.ts` refuses a binary that is not of its own version.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
