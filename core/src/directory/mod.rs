//! Claims: which node hosts which daemon, at which epoch; lookups; pointers that former hosts keep.

mod claim;
mod graves;
mod lookups;
mod pointers;

pub use claim::{Claim, ClaimBody, ClaimError};
pub use graves::Graves;
pub use lookups::{Finding, Found, Haste, Lookups, Query};
pub use pointers::{Pointer, Pointers};
