//! Messages of the membership (subprotocol 0x0300).

use minicbor::{Decode, Encode};

/// A message between two nodes with a session.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum MembershipMessage<'b> {
    /// The sender takes part. Said once in each session, and again when it joins through the receiver.
    #[n(0)]
    Hello {
        /// The sender's signed card.
        #[b(0)]
        #[cbor(with = "minicbor::bytes")]
        card: &'b [u8],
        /// The sender was told to join through the receiver, which takes part from now on.
        #[n(1)]
        joining: bool,
    },
    /// A packet of the membership protocol, for the receiver itself.
    #[n(1)]
    Packet {
        /// The packet.
        #[b(0)]
        #[cbor(with = "minicbor::bytes")]
        bytes: &'b [u8],
    },
}
