//! Claims: which node hosts which daemon, at which epoch; lookups; pointers that former hosts keep.

mod claim;
mod lookups;
mod pointers;

pub use claim::{Claim, ClaimBody, ClaimError};
pub use lookups::{Finding, Found, Haste, Lookups, Query};
pub use pointers::{Pointer, Pointers};
