//! Credit of the bulk lane: the receiver's memory decides how much may be on its way.
//!
//! A session starts with the window that the receiver named in the handshake. Bodies of bulk records use it up; it comes
//! back in [`Credit`](crate::wire::session::SessionMessage::Credit) messages once the receiver's layers have consumed
//! them, [`CREDIT_QUANTUM`] or more at a time. How much of it a sender uses is decided by its [`BulkPace`](super::BulkPace).

use super::SessionError;
use crate::wire::MAX_RECORD_BODY;

/// Bulk bytes a node lets each peer have on their way to it.
pub const BULK_WINDOW: u64 = 4 * 1024 * 1024;
/// Credit below this is held back. About half a frame: what comes back late stands in front of fast records until then.
pub const CREDIT_QUANTUM: u64 = 32 * 1024;

/// The least window of a peer: credit that is held back for coalescing never keeps a whole record from fitting.
pub(super) const MIN_BULK_WINDOW: u64 = CREDIT_QUANTUM + MAX_RECORD_BODY as u64;

const _: () = assert!(BULK_WINDOW >= MIN_BULK_WINDOW);

/// The sender's side.
#[derive(Debug)]
pub struct SendCredit {
    window: u64,
    available: u64,
}

/// The receiver's side. Arrived and consumed are counted apart because different threads report them.
#[derive(Debug)]
pub struct ReceiveCredit {
    window: u64,
    /// Arrived and not yet consumed, or consumed and not yet given back.
    used: u64,
    /// Consumed and not yet given back.
    owed: u64,
}

impl SendCredit {
    /// The credit of a fresh session with a peer whose window is `window`.
    pub const fn new(window: u64) -> Self {
        Self { window, available: window }
    }

    /// Whether a record of any size may be sent. Waiting for room for a whole one keeps bulk frames full.
    pub const fn has_room(&self) -> bool {
        self.available >= MAX_RECORD_BODY as u64
    }

    /// Uses credit for bodies that are about to be sent.
    pub const fn spend(&mut self, bytes: u64) {
        debug_assert!(bytes <= self.available, "spent only after `has_room`");
        self.available = self.available.saturating_sub(bytes);
    }

    /// Credit came back.
    pub const fn refill(&mut self, bytes: u64) -> Result<(), SessionError> {
        let unused = self.window - self.available;
        if bytes > unused {
            return Err(SessionError::CreditForged(bytes - unused));
        }
        self.available += bytes;
        Ok(())
    }
}

impl ReceiveCredit {
    /// A fresh session's.
    pub const fn new(window: u64) -> Self {
        Self { window, used: 0, owed: 0 }
    }

    /// Bodies arrived.
    pub const fn arrived(&mut self, bytes: u64) -> Result<(), SessionError> {
        let free = self.window - self.used;
        if bytes > free {
            return Err(SessionError::CreditOverrun(bytes - free));
        }
        self.used += bytes;
        Ok(())
    }

    /// Bodies were consumed; true when enough is owed that it should be given back. More than arrived does not count.
    pub fn consumed(&mut self, bytes: u64) -> bool {
        self.owed = (self.owed + bytes).min(self.used);
        self.owes()
    }

    /// Whether enough is owed that it should be given back.
    pub const fn owes(&self) -> bool {
        self.owed >= CREDIT_QUANTUM
    }

    /// What to give back now, if it is worth a message.
    pub const fn take_owed(&mut self) -> Option<u64> {
        if !self.owes() {
            return None;
        }
        let owed = self.owed;
        self.used -= owed;
        self.owed = 0;
        Some(owed)
    }

    /// Bytes arrived and not yet given back.
    pub const fn used(&self) -> u64 {
        self.used
    }
}
