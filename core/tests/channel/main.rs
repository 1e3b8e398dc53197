//! Channels: the machine on a simulated network, and real nodes.

mod again;
mod capabilities;
mod crossing;
mod delivery;
mod groups;
mod large;
mod membership;
mod moving;
mod net;
mod nodes;
mod revocations;
#[path = "../sim/seeds.rs"]
mod seeds;
mod simulation;
mod slow;
mod tokens;
