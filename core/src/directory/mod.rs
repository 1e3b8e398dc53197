//! Claims: which node hosts which daemon, at which epoch; home nodes, lookups, pointers that former hosts keep.

mod claim;
mod contested;
mod graves;
mod homes;
mod hosts;
mod lookups;
mod newcomers;
mod pointers;

pub use claim::{Claim, ClaimBody, ClaimError};
pub use contested::Contested;
pub use graves::Graves;
pub use homes::{Homes, View, ViewName};
pub use hosts::{Full, Hosts};
pub use lookups::{Answer, Ended, Finding, Found, Haste, Lookups, Query};
pub use newcomers::{Newcomers, Next};
pub use pointers::{Pointer, Pointers};
