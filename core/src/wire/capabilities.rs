//! Messages of capability announcements (subprotocol 0x0C00).

use minicbor::{Decode, Encode};

use super::codec::bytes64;

/// A message between two nodes with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum CapabilityMessage<'b> {
    /// What the sender can do.
    #[n(0)]
    Announce {
        /// The encoded [`Announcement`](crate::capability::Announcement), as it was signed.
        #[b(0)]
        #[cbor(with = "minicbor::bytes")]
        body: &'b [u8],
        /// The signature of the sender's key over a label and that.
        #[n(1)]
        #[cbor(with = "bytes64")]
        signature: [u8; 64],
    },
}
