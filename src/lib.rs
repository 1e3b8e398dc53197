//! Node-API bindings of `mesh-daemon-core`: conversion only, no decisions.

use napi_derive::napi;

/// The version of the native code; `lib/load.ts` refuses a binary that is not of its own version.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
