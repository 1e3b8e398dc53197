//! Numbers and bytes across the boundary.
//!
//! `lib` has checked every argument with a message that names it; what is wrong here nevertheless is a defect of `lib`
//! and ends in a plain error, never in a wrapped-around value.

use napi::bindgen_prelude::BigInt;
use napi::{Result, Status};

/// Reads a `bigint` that must be within u64.
pub(crate) fn u64_from(value: &BigInt) -> Result<u64> {
    match value.get_u64() {
        (false, number, true) => Ok(number),
        _ => Err(napi::Error::new(Status::InvalidArg, "a bigint must be within u64 range")),
    }
}

/// Reads bytes of a fixed length.
pub(crate) fn array_from<const N: usize>(bytes: &[u8]) -> Result<[u8; N]> {
    bytes
        .try_into()
        .map_err(|_| napi::Error::new(Status::InvalidArg, format!("must be {N} bytes, got {}", bytes.len())))
}
