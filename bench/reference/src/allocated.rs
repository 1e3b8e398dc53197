//! Allocated memory, which unlike the resident size does not depend on what was freed before.

use napi_derive::napi;

/// Bytes that this process has allocated from the system's allocator and not freed; nothing where that cannot be asked.
#[napi]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(clippy::cast_precision_loss)] // Far below 2^53.
pub fn allocated_bytes() -> Option<f64> {
    // SAFETY: takes nothing and gives plain numbers.
    let info = unsafe { libc::mallinfo2() };
    Some((info.uordblks + info.hblkhd) as f64)
}

/// Bytes that this process has allocated from the system's allocator and not freed; nothing where that cannot be asked.
#[napi]
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn allocated_bytes() -> Option<f64> {
    None
}
