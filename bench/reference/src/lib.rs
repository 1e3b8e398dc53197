//! What `npm run bench` compares with, bare: the ways between JavaScript and native code ([`crossing`]), and bytes through
//! Noise over TCP ([`noise`]). And what it measures with: how much memory is allocated ([`allocated`]).

// napi's macros take some arguments by value that clippy would borrow.
#![allow(clippy::needless_pass_by_value)]

// The allocator of what is compared: with another one large blocks would cost this side more.
#[path = "../../../src/allocator.rs"]
mod allocator;

pub mod allocated;
pub mod crossing;
pub mod noise;
