//! The subprotocols of a session and the lanes they travel in.

/// Which part of a node a record is for. One handler per id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Subprotocol {
    /// The session itself: heartbeats, credit, goodbye.
    Session = 0x0001,
    /// Who belongs to the mesh, and failure detection.
    Membership = 0x0300,
    /// Event streams.
    Events = 0x0400,
    /// Migration.
    Migration = 0x0500,
    /// Claims and lookups.
    Directory = 0x0600,
    /// End-to-end sessions through a common peer.
    Relay = 0x0700,
    /// Groups and remote spawn.
    Groups = 0x0900,
    /// Channel membership and data.
    Channels = 0x0A00,
    /// Capability announcements.
    Capabilities = 0x0C00,
}

impl Subprotocol {
    /// Reads an id; `None` for one that this version does not know.
    pub const fn from_id(id: u16) -> Option<Self> {
        Some(match id {
            0x0001 => Self::Session,
            0x0300 => Self::Membership,
            0x0400 => Self::Events,
            0x0500 => Self::Migration,
            0x0600 => Self::Directory,
            0x0700 => Self::Relay,
            0x0900 => Self::Groups,
            0x0A00 => Self::Channels,
            0x0C00 => Self::Capabilities,
            _ => return None,
        })
    }

    /// The id on the wire.
    pub const fn id(self) -> u16 {
        self as u16
    }
}

/// Priority class of a record within one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Control, events, replies: always read, never behind bulk data for longer than one frame.
    Fast,
    /// Snapshot chunks and large payloads: needs the receiver's credit.
    Bulk,
}
