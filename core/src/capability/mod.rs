//! What nodes can do, as they say themselves.
//!
//! Every node announces a [`CapabilitySet`], at first an empty one: signed with its key, with a version and a time to live,
//! to each peer whenever there is a session, when it changes, and again before it ends. What a node says counts while it has
//! a session with this one and the time has not run out; an older word never replaces a newer one. Members all have
//! sessions with each other, so nobody passes on what others say.
//!
//! An announcement is a claim, with the proof of who makes it, not of what it says.
//!
//! [`CapabilityMachine`] is the protocol, without I/O. [`Capabilities`] joins it to a mesh node and a clock.
//!
//! | file | holds |
//! |---|---|
//! | `set` | capabilities and their encoding |
//! | `filter`, `requirement`, `scope` | questions: who offers this, who offers most of that, in which part of the mesh |
//! | `subnet` | a node's place |
//! | `announcement` | what a node says, signed |
//! | `machine` | announcing, and the index of what others announced |
//! | `shell` | the machine on a node; whoever is told of changes |

mod announcement;
mod filter;
mod machine;
mod requirement;
mod scope;
mod set;
mod shell;
mod subnet;

pub use announcement::{Announcement, AnnouncementError, MAX_ANNOUNCEMENT, MAX_TTL, Unverified};
pub use filter::CapabilityFilter;
pub use machine::{Announced, CapabilityConfig, CapabilityMachine, Output};
pub use requirement::{CapabilityRequirement, Weight};
pub use scope::ScopeFilter;
pub use set::{
    Accelerator, CapabilitySet, Gpu, Hardware, Limits, MAX_ITEMS, Model, NamedVersion, Quantity, Software, Tool,
};
pub use shell::{Capabilities, CapabilitiesError, CapabilityObserver};
pub use subnet::{Subnet, SubnetError};
