//! Messages of channels (subprotocol 0x0A00).
//!
//! Membership and small messages travel in the fast lane as [`ChannelMessage`]. A large one travels in the bulk lane, cut
//! into fragments: the first begins with the length of the payload and a [`DataHead`], each further one with
//! [`CONTINUED`]. A session has one large message under way at a time.

use bytes::Bytes;
use minicbor::bytes::ByteArray;
use minicbor::{Decode, Encode};

use super::codec::{self, DecodeError};
use crate::causal::LINK_LEN;
use crate::identity::{EntityId, Epoch, Signature};

/// A message about a channel of the publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ChannelMessage<'b> {
    /// Subscriber → publisher: let this subscriber in, or go on letting it in.
    #[n(0)]
    Subscribe {
        /// The asker's number for the question.
        #[n(0)]
        request: u64,
        /// The channel's canonical name.
        #[b(1)]
        channel: &'b str,
        /// The daemon that subscribes; without, the node itself.
        #[n(2)]
        daemon: Option<DaemonProof>,
        /// A token or a chain.
        #[b(3)]
        #[cbor(with = "minicbor::bytes")]
        token: Option<&'b [u8]>,
        /// The node's place: 1 to 4 levels.
        #[b(4)]
        #[cbor(with = "minicbor::bytes")]
        subnet: Option<&'b [u8]>,
        /// The last message that a daemon has taken, when it goes on from another node: the next one follows that.
        #[n(5)]
        from: Option<u64>,
        /// The queue group that it wants to be a member of.
        #[b(6)]
        group: Option<&'b str>,
    },
    /// Publisher → subscriber: it is in.
    #[n(1)]
    Subscribed {
        /// The asker's number.
        #[n(0)]
        request: u64,
        /// It gets what comes after this number.
        #[n(1)]
        position: Option<u64>,
        /// Before that, this many numbers at most are gone that a daemon should have got.
        #[n(2)]
        missed: Option<u64>,
    },
    /// Publisher → subscriber: it is not.
    #[n(2)]
    Refused {
        /// The asker's number.
        #[n(0)]
        request: u64,
        /// Why.
        #[n(1)]
        reason: RefusalReason,
    },
    /// Subscriber → publisher: out, whether it was in or not.
    #[n(3)]
    Unsubscribe {
        /// The asker's number.
        #[n(0)]
        request: u64,
        /// The channel's canonical name.
        #[b(1)]
        channel: &'b str,
        /// The daemon; without, the node itself.
        #[n(2)]
        daemon: Option<EntityId>,
        /// The queue group that it leaves.
        #[b(3)]
        group: Option<&'b str>,
        /// The last message of the group that it has taken: those behind it are for other members.
        #[n(4)]
        taken: Option<u64>,
    },
    /// Publisher → subscriber: it is out.
    #[n(4)]
    Unsubscribed {
        /// The asker's number.
        #[n(0)]
        request: u64,
    },
    /// Publisher → subscriber: a subscription ended from the publisher's side.
    #[n(5)]
    Ended {
        /// The channel's hash.
        #[n(0)]
        channel: u64,
        /// The daemon; without, the node itself.
        #[n(1)]
        daemon: Option<EntityId>,
        /// Why.
        #[n(2)]
        reason: RefusalReason,
        /// The hash of the queue group.
        #[n(3)]
        group: Option<u64>,
    },
    /// Publisher → subscriber: a message.
    #[n(6)]
    Data {
        /// What it is.
        #[n(0)]
        head: DataHead,
        /// The message.
        #[b(1)]
        #[cbor(with = "minicbor::bytes")]
        payload: &'b [u8],
    },
    /// Subscriber → publisher: every reliable message of the channel up to this number has been accepted; of a queue group,
    /// every one that fell to this member.
    #[n(7)]
    Ack {
        /// The channel's hash.
        #[n(0)]
        channel: u64,
        /// The last accepted number.
        #[n(1)]
        through: u64,
        /// The member of a queue group.
        #[n(2)]
        member: Option<GroupMember>,
    },
    /// Subscriber → publisher: a message was for nobody here, or fell to a member of a queue group that is not; let it out.
    #[n(8)]
    NoMember {
        /// The channel's hash.
        #[n(0)]
        channel: u64,
        /// The member; without, whoever is in no group.
        #[n(1)]
        member: Option<GroupMember>,
    },
    /// Anybody → anybody: an issuer has revoked tokens. Who did not know it passes it on.
    #[n(9)]
    Revoked {
        /// A [`Revocation`](crate::identity::Revocation).
        #[b(0)]
        #[cbor(with = "minicbor::bytes")]
        statement: &'b [u8],
    },
    /// Publisher → anybody: what has this issuer revoked? Who knows answers with [`Revoked`](Self::Revoked).
    #[n(10)]
    WhoRevoked {
        /// Who issues or passes on tokens for a channel of this publisher.
        #[n(0)]
        issuer: EntityId,
    },
}

/// That a daemon itself wants to subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct DaemonProof {
    /// Which daemon.
    #[n(0)]
    pub entity: EntityId,
    /// Its signature, see [`subscription_statement`](crate::channel::subscription_statement).
    #[n(1)]
    #[cbor(with = "signature")]
    pub signature: Signature,
    /// How often its hosting changed hands: a later host outranks earlier ones.
    #[n(2)]
    pub epoch: Epoch,
}

/// What a message is, beside its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct DataHead {
    /// The channel's hash.
    #[n(0)]
    pub channel: u64,
    /// Its number in this life of the publisher: in the channel, and what falls to members of queue groups is numbered apart,
    /// in the order in which it does.
    #[n(1)]
    pub number: u64,
    /// Whether it is to be acknowledged.
    #[n(2)]
    pub reliable: bool,
    /// The reliable message before it on the way to this subscriber, acknowledged or not: who has not got that one is to
    /// get others first.
    #[n(3)]
    pub after: Option<u64>,
    /// Its place in the chain of the daemon that emitted it.
    #[n(4)]
    pub link: Option<ByteArray<LINK_LEN>>,
    /// The member of a queue group that it falls to.
    #[n(5)]
    pub share: Option<GroupShare>,
}

impl DataHead {
    /// Its number in the channel.
    pub fn sequence(&self) -> u64 {
        self.share.map_or(self.number, |share| share.sequence)
    }
}

/// A member of a queue group on the subscriber's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct GroupMember {
    /// The group's hash.
    #[n(0)]
    pub group: u64,
    /// The daemon; without, the node itself.
    #[n(1)]
    pub daemon: Option<EntityId>,
}

/// That a message falls to a member of a queue group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct GroupShare {
    /// Which one.
    #[n(0)]
    pub member: GroupMember,
    /// The message's number in the channel.
    #[n(1)]
    pub sequence: u64,
}

/// Why a subscriber is not, or no longer, in. A peer learns no more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum RefusalReason {
    /// There is no such channel.
    #[n(0)]
    Unknown,
    /// No token, a wrong one, or the channel is not to be seen from there.
    #[n(1)]
    Unauthorized,
    /// Too many refused attempts.
    #[n(2)]
    Throttled,
    /// The publisher holds as many subscriptions for this peer as it may.
    #[n(3)]
    TooMany,
    /// The token's time is over.
    #[n(4)]
    Expired,
    /// The token was revoked.
    #[n(5)]
    Revoked,
    /// The daemon has gone on from another node.
    #[n(6)]
    Moved,
    /// It took nothing for too long.
    #[n(7)]
    Stalled,
    /// The token's time has not come.
    #[n(8)]
    NotYetValid,
}

mod signature {
    //! `#[cbor(with = "signature")]`: a signature as a byte string.

    use minicbor::decode::{Decoder, Error};
    use minicbor::encode::{Encoder, Write};

    use crate::identity::Signature;
    use crate::wire::codec::bytes64;

    pub(super) fn encode<C, W: Write>(
        value: &Signature,
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        bytes64::encode(value.as_bytes(), e, ctx)
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, ctx: &mut C) -> Result<Signature, Error> {
        bytes64::decode(d, ctx).map(Signature::from_bytes)
    }
}

/// What a further fragment begins with.
pub const CONTINUED: u64 = 0;
/// Bytes of a fragment that are not payload, at most.
pub const FRAGMENT_OVERHEAD: usize = LEN + 2 + MAX_HEAD;

const LEN: usize = 8;
const MAX_HEAD: usize = 128;

/// A piece of a large message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// The first one.
    First {
        /// What it is.
        head: DataHead,
        /// Length of the whole payload; never 0.
        total: u64,
        /// The beginning of the payload.
        piece: Bytes,
    },
    /// A further one.
    Next(Bytes),
}

impl Fragment {
    /// Appends the wire form.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::First { head, total, piece } => {
                let head = codec::encode(head);
                out.extend_from_slice(&total.to_le_bytes());
                // Five numbers of 9 bytes, a link and a daemon of 34 at most.
                out.extend_from_slice(&u16::try_from(head.len()).unwrap_or(u16::MAX).to_le_bytes());
                out.extend_from_slice(&head);
                out.extend_from_slice(piece);
            }
            Self::Next(piece) => {
                out.extend_from_slice(&CONTINUED.to_le_bytes());
                out.extend_from_slice(piece);
            }
        }
    }

    /// Reads the wire form; the piece is a slice of it.
    pub fn decode(body: &Bytes) -> Result<Self, DecodeError> {
        let malformed = || DecodeError::Malformed("a fragment is cut off".into());
        let (total, rest) = body.split_first_chunk::<LEN>().ok_or_else(malformed)?;
        let total = u64::from_le_bytes(*total);
        if total == CONTINUED {
            return Ok(Self::Next(body.slice(LEN..)));
        }
        let (len, rest) = rest.split_first_chunk::<2>().ok_or_else(malformed)?;
        let len = usize::from(u16::from_le_bytes(*len));
        let head = codec::decode(rest.get(..len).ok_or_else(malformed)?)?;
        Ok(Self::First { head, total, piece: body.slice(LEN + 2 + len..) })
    }
}
