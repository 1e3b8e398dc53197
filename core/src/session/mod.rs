//! Noise handshake and transport without sockets.
//!
//! [`Dialling`] and [`Answering`] lead to [`Established`], which holds the proven peer and a [`Transport`]. That splits
//! into a [`Sealer`] and an [`Opener`] of frames; [`FrameBuilder`] puts records into a frame; [`SendCredit`] and
//! [`ReceiveCredit`] bound the bulk lane. Nothing here reads or writes a socket, waits, or knows the time.

mod builder;
mod credit;
mod error;
mod handshake;
mod transport;

pub use builder::FrameBuilder;
pub use credit::{BULK_WINDOW, ReceiveCredit, SendCredit};
pub use error::{HandshakeError, SessionError};
pub use handshake::{
    Answering, DialIntent, DialProven, Dialling, Established, LocalIdentity, ProvenPeer, Psk, SessionId,
};
pub use transport::{Opener, Sealer, SendBuffer, Transport, check_message_len};
