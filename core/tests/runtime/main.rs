//! Whole runtimes on real mesh nodes over 127.0.0.1, with daemons written in Rust.

mod directory;
mod embedder;
mod life;
mod moving;
mod relayed;
