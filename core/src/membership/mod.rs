//! Who belongs to the mesh: SWIM, through the crate `foca`, inside our own sessions.
//!
//! [`Membership`] is told of sessions, of what members say and of time, and answers with [`Output`]s: packets for members,
//! sessions that are wanted. A node takes part once it was told to join, or once a peer joined through it; one that was
//! only connected to is no member. What members say of each other is a hint: a [`Card`] is signed by the node that it
//! describes, so nobody can speak for another's address or life, and who answers at an address is proven by the session.
//! [`Standing`] is how far a node has come with joining. That a member is *down* is the members' opinion. It is no proof of death, and it ends no session.

mod card;
mod codec;
mod dials;
#[cfg(test)]
mod hostile_tests;
mod joining;
mod machine;
mod swim;

pub use card::{Card, CardError, MOST_ADDRESSES, SignedCard};
pub use joining::{Attempt, LONGEST_JOIN, Standing};
pub use machine::{Membership, MembershipConfig, MembershipError, Output};
