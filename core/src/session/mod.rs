//! Noise handshake and transport without sockets.
