//! The snapshot format and its reassembly from chunks.
