//! `mesh-daemon-core`: stateful daemons with cryptographic identities on an encrypted mesh, that move live
//! between processes.
//!
//! This crate is the product; it knows nothing of Node. Its modules form layers, bottom up: a module uses only
//! those above it in this list.
//!
//! | module | holds |
//! |---|---|
//! | [`identity`] | entity ids, key pairs, derived addresses, tokens, sealed identity envelopes |
//! | [`causal`] | links between events, chains, horizons |
//! | [`snapshot`] | the snapshot format and its reassembly from chunks |
//! | [`wire`] | message types, their codec, frame constants, version numbers |
//! | [`session`] | Noise handshake and transport, lanes, credit; no sockets |
//! | [`membership`] | who belongs to the mesh, and who is taken for down |
//! | [`mesh`] | nodes, peers, dialling, heartbeats, failure detection |
//! | [`capability`] | what nodes announce that they can do: sets, filters, the index |
//! | [`channel`] | channels: names, rosters, membership, publishing |
//! | [`daemon`] | mailboxes, the execution fence, factories |
//! | [`events`] | streams: exactly-once delivery by number, acknowledgement, replies |
//! | [`directory`] | claims: which node hosts which daemon, at which epoch |
//! | [`migration`] | the roles of a live move |
//! | [`runtime`] | the engine that joins them, and the face shown to an embedding language |
//!
//! Protocol logic is written as deterministic structs: input and the present instant go in, messages, work and
//! timers come out. They own no socket, spawn no task and read no clock; thin tokio shells drive them, and so
//! does the simulator in `tests/sim`.

#![forbid(unsafe_code)]

pub mod capability;
pub mod causal;
pub mod channel;
pub mod daemon;
pub mod directory;
pub mod events;
pub mod identity;
pub mod membership;
pub mod mesh;
pub mod migration;
mod rate;
pub mod runtime;
pub mod session;
pub mod snapshot;
pub mod wire;
