//! Channels: the machine on a simulated network, and real nodes.

mod delivery;
mod groups;
mod membership;
mod moving;
mod net;
mod nodes;
mod simulation;
mod slow;
mod tokens;
