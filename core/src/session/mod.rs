//! Noise handshake and transport without sockets.
//!
//! [`Dialling`] and [`Answering`] lead to [`Established`], which holds the proven peer and a [`Transport`]. That splits
//! into a [`Sealer`] and an [`Opener`] of frames; [`FrameBuilder`] puts records into a frame; [`SendCredit`] and
//! [`ReceiveCredit`] bound the bulk lane and [`BulkPace`] keeps it from standing in front of the fast one. Nothing here reads or writes a socket, waits, or knows the time.

mod builder;
mod credit;
mod error;
mod handshake;
mod pace;
mod transport;

pub use builder::FrameBuilder;
pub use credit::{BULK_WINDOW, CREDIT_QUANTUM, ReceiveCredit, SendCredit};
pub use error::{HandshakeError, SessionError};
pub use handshake::{
    Answering, DialIntent, DialProven, Dialling, Established, LocalIdentity, ProvenPeer, Psk, SessionId,
};
pub use pace::{BULK_LEAST, BulkPace};
pub use transport::{Opener, Sealer, SendBuffer, Transport, check_message_len};
