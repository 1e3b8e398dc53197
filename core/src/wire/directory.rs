//! Messages of the directory (subprotocol 0x0600).

use minicbor::{Decode, Encode};

use crate::identity::OriginHash;

/// A message of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum DirectoryMessage<'b> {
    /// Who hosts this daemon?
    #[n(0)]
    Lookup {
        /// The asker's number for the question.
        #[n(0)]
        query: u64,
        /// The daemon's address.
        #[n(1)]
        origin: OriginHash,
    },
    /// The best claim that the answerer holds, encoded; none when it knows of no host.
    #[n(1)]
    Answer {
        /// The asker's number.
        #[n(0)]
        query: u64,
        /// A signed claim.
        #[b(1)]
        #[cbor(with = "minicbor::bytes")]
        claim: Option<&'b [u8]>,
    },
    /// Unasked: a daemon was taken over, or lives on at a later epoch than the receiver said.
    #[n(2)]
    Claim {
        /// A signed claim.
        #[b(0)]
        #[cbor(with = "minicbor::bytes")]
        claim: &'b [u8],
    },
}
