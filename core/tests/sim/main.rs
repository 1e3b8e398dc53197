//! Whole meshes on a simulated network: virtual time, seeded faults, the same trace for the same seed.

mod capabilities;
mod decider;
mod driver;
mod engine;
mod membership;
mod net;
mod roles;
mod seeds;
