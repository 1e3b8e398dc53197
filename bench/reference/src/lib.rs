//! What `npm run bench` compares with, bare: the ways between JavaScript and native code ([`crossing`]), and bytes through
//! Noise over TCP ([`noise`]).

pub mod crossing;
pub mod noise;
