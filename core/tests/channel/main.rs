//! Channels: the machine on a simulated network, and real nodes.

mod again;
mod beside_readers;
mod capabilities;
mod crossing;
mod delivery;
mod gated_later;
mod going_on;
mod groups;
mod hostile;
mod inflight;
mod large;
mod many;
mod membership;
mod moving;
mod net;
mod nodes;
mod revocations;
#[path = "../sim/seeds.rs"]
mod seeds;
mod simulation;
mod slow;
mod slow_readers;
mod tokens;
