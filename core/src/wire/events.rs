//! Messages of the event streams (subprotocol 0x0400).
//!
//! A stream is (sender, sender incarnation, destination entity, lineage, opening). Its header names it in every message.
//! The opening holds random bits: who names a stream is its sender, a host of its daemon, or forwards between them.

use std::fmt;

use minicbor::decode::{Decoder, Error as CborError};
use minicbor::encode::{Encoder, Write};
use minicbor::{Decode, Encode};

use super::codec::{bounded_array, bounded_count};
pub use super::event_failure::{Failure, FailureKind, MAX_FAILURE_TEXT, Thrown};
pub use super::event_refusal::{Answers, Missing};
pub use super::outputs::Outputs;
use crate::causal::{CausalLink, HorizonBloom, ParentHash, Sequence};
use crate::identity::{EntityId, Epoch, Incarnation, Lineage, NodeId, OriginHash};

/// Most items in one message; more do not fit a frame anyway.
const MAX_ITEMS: u64 = 4096;
/// Most outputs of all replies in one message.
pub const MOST_OUTPUTS: u64 = 65_536;
/// Highest number in a stream. Nobody sends so many events; it lets numbers that a peer claims be counted on.
pub const LAST_NUMBER: u64 = 1 << 62;

/// Names a stream, and where it stands in the moves of its daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(array)]
pub struct StreamId {
    /// The node that numbers the stream and hears its replies.
    #[n(0)]
    pub sender: NodeId,
    /// The life of that node.
    #[n(1)]
    pub incarnation: Incarnation,
    /// The daemon it leads to.
    #[n(2)]
    pub entity: EntityId,
    /// The life of that daemon.
    #[n(3)]
    pub lineage: Lineage,
    /// Which one of those that the sender opened: one that was given up is never taken for its successor.
    #[n(4)]
    pub opening: Opening,
}

/// One of the streams that a sender opened: their count, and random bits that make its name hard to guess.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(array)]
pub struct Opening {
    #[n(0)]
    count: u64,
    #[n(1)]
    secret: u64,
}

impl Opening {
    /// The `count`th stream of a sender, with random bits.
    pub const fn new(count: u64, random: u128) -> Self {
        Self { count, secret: (random >> 64) as u64 }
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opening({}, …)", self.count)
    }
}

impl StreamId {
    /// Whether somebody means that stream and does not know the whole of its name.
    pub fn is_guess_at(&self, other: &Self) -> bool {
        let opening = Opening { secret: other.opening.secret, ..self.opening };
        self != other && Self { opening, ..*self } == *other
    }

    /// Whether this stream of a sender to a daemon takes the place of that one.
    pub fn follows(&self, other: &Self) -> bool {
        (self.incarnation, self.opening) > (other.incarnation, other.opening)
    }
}

/// What a numbered position of a stream holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'b> {
    /// An event; its sender waits for the outputs.
    Call(Event<'b>),
    /// An event; its sender waits only for acceptance.
    Send(Event<'b>),
    /// The sender gave the number up.
    Skip,
}

impl<'b> Item<'b> {
    /// The event, if there is one.
    pub const fn event(&self) -> Option<&Event<'b>> {
        match self {
            Self::Call(event) | Self::Send(event) => Some(event),
            Self::Skip => None,
        }
    }
}

/// An event on its way to a daemon, or an output on its way back, with its link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'b> {
    /// Its place in its emitter's chain; parent and horizon are 0 when the emitter keeps no chain.
    pub link: CausalLink,
    /// The user's bytes.
    pub payload: &'b [u8],
}

/// The answer to one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply<'b> {
    /// The call's number in its stream.
    pub number: u64,
    /// What came of it.
    pub result: Result<Outputs<Event<'b>>, Failure>,
}

/// A message of the event streams.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EventsMessage<'b> {
    /// Sender → host: consecutive positions of a stream.
    #[n(0)]
    Batch {
        /// Which stream.
        #[n(0)]
        stream: StreamId,
        /// The highest epoch of the daemon that anyone who passed this on knew.
        #[n(1)]
        epoch: Epoch,
        /// How often it was forwarded.
        #[n(2)]
        hops: u8,
        /// Number of the first item.
        #[cbor(n(3), decode_with = "decode_number")]
        first: u64,
        /// The items, numbered from `first`.
        #[b(4)]
        #[cbor(decode_with = "decode_items", encode_with = "encode_items")]
        items: Vec<Item<'b>>,
        /// Every reply up to this number has arrived and need not be kept.
        #[cbor(n(5), decode_with = "decode_number")]
        replies_through: u64,
    },
    /// Host → sender: everything through this number is in the mailbox.
    #[n(1)]
    Accepted {
        /// Which stream.
        #[n(0)]
        stream: StreamId,
        /// The last accepted number.
        #[cbor(n(1), decode_with = "decode_number")]
        through: u64,
        /// How often a former host sent it on.
        #[cbor(n(2), default)]
        hops: u8,
    },
    /// Host → sender: answers.
    #[n(2)]
    Replies {
        /// Which stream.
        #[n(0)]
        stream: StreamId,
        /// The last accepted number.
        #[cbor(n(1), decode_with = "decode_number")]
        through: u64,
        /// The answers, ascending.
        #[b(2)]
        #[cbor(decode_with = "decode_replies", encode_with = "encode_replies")]
        replies: Vec<Reply<'b>>,
        /// How often a former host sent it on.
        #[cbor(n(3), default)]
        hops: u8,
    },
    /// Sender → host, after a reconnection or a move: which numbers still wait for a reply. It also carries the
    /// acknowledgement of the replies before them.
    #[n(3)]
    Await {
        /// Which stream.
        #[n(0)]
        stream: StreamId,
        /// The highest epoch known.
        #[n(1)]
        epoch: Epoch,
        /// How often it was forwarded.
        #[n(2)]
        hops: u8,
        /// Every reply up to this number has arrived.
        #[cbor(n(3), decode_with = "decode_number")]
        replies_through: u64,
        /// Whether kept replies behind that are to be sent again.
        #[n(4)]
        repeat: bool,
    },
    /// Sender → host: withdraw a call that has not begun.
    #[n(4)]
    Withdraw {
        /// Which stream.
        #[n(0)]
        stream: StreamId,
        /// The highest epoch known.
        #[n(1)]
        epoch: Epoch,
        /// How often it was forwarded.
        #[n(2)]
        hops: u8,
        /// The call's number.
        #[cbor(n(3), decode_with = "decode_number")]
        number: u64,
    },
    /// Former host → sender: the daemon lives there now.
    #[n(5)]
    Moved {
        /// Which stream.
        #[n(0)]
        stream: StreamId,
        /// Where.
        #[n(1)]
        node: NodeId,
        /// At which epoch.
        #[n(2)]
        epoch: Epoch,
        /// How often a former host sent it on.
        #[cbor(n(3), default)]
        hops: u8,
    },
    /// Host → sender: this stream leads nowhere here; the daemon or that life of it is unknown, or the stream did not
    /// begin at 1.
    #[n(6)]
    Unknown {
        /// Which stream.
        #[n(0)]
        stream: StreamId,
        /// What is not there.
        #[n(1)]
        missing: Missing,
        /// How often a former host sent it on.
        #[cbor(n(2), default)]
        hops: u8,
        /// The last number that was accepted here, and nothing behind it ever was. Not said by who cannot know that: a node
        /// that only sends on, or whose former runtime may have accepted more.
        #[n(3)]
        accepted: Option<u64>,
        /// What it answers.
        #[cbor(n(4), default)]
        answers: Answers,
    },
    /// Sender → host: the stream has ended; its marks may go.
    #[n(7)]
    Close {
        /// Which stream.
        #[n(0)]
        stream: StreamId,
    },
    /// Host, or former host → sender: what was sent and not accepted was not kept, and there is room for it now.
    #[n(8)]
    Again {
        /// Which stream.
        #[n(0)]
        stream: StreamId,
        /// How often a former host sent it on.
        #[cbor(n(1), default)]
        hops: u8,
    },
    /// Host, or former host → sender: the stream was not begun, because too many come from where it came from.
    #[n(9)]
    Full {
        /// Which stream.
        #[n(0)]
        stream: StreamId,
        /// How often a former host sent it on.
        #[cbor(n(1), default)]
        hops: u8,
    },
    /// Former host → sender: what it sent went from one former host to the next too often, and the daemon is to be looked for
    /// anew.
    #[n(10)]
    Astray {
        /// Which stream.
        #[n(0)]
        stream: StreamId,
        /// How often a former host sent it on.
        #[n(1)]
        hops: u8,
    },
}

/// To which end of its stream a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// To the daemon's host.
    ToHost,
    /// From the host to the sender: straight, when that is in reach.
    ToSender,
    /// To the sender, about the way of the stream: as that came, from one to the other, for a sender believes nobody but the
    /// node that it speaks to.
    Back,
}

impl EventsMessage<'_> {
    /// The stream that the message is about.
    pub fn stream(&self) -> &StreamId {
        match self {
            Self::Batch { stream, .. }
            | Self::Accepted { stream, .. }
            | Self::Replies { stream, .. }
            | Self::Await { stream, .. }
            | Self::Withdraw { stream, .. }
            | Self::Moved { stream, .. }
            | Self::Unknown { stream, .. }
            | Self::Close { stream }
            | Self::Again { stream, .. }
            | Self::Full { stream, .. }
            | Self::Astray { stream, .. } => stream,
        }
    }

    /// The last number of a batch.
    pub fn last(&self) -> Option<u64> {
        match self {
            Self::Batch { first, items, .. } => Some(first.saturating_add(items.len() as u64).saturating_sub(1)),
            Self::Accepted { .. }
            | Self::Replies { .. }
            | Self::Await { .. }
            | Self::Withdraw { .. }
            | Self::Moved { .. }
            | Self::Unknown { .. }
            | Self::Close { .. }
            | Self::Again { .. }
            | Self::Full { .. }
            | Self::Astray { .. } => None,
        }
    }

    /// How often it was sent on since it left one end of its stream.
    pub const fn hops(&self) -> u8 {
        match self {
            Self::Batch { hops, .. }
            | Self::Await { hops, .. }
            | Self::Withdraw { hops, .. }
            | Self::Accepted { hops, .. }
            | Self::Replies { hops, .. }
            | Self::Moved { hops, .. }
            | Self::Unknown { hops, .. }
            | Self::Again { hops, .. }
            | Self::Full { hops, .. }
            | Self::Astray { hops, .. } => *hops,
            Self::Close { .. } => 0,
        }
    }

    /// To which end of its stream it goes, and how.
    pub const fn course(&self) -> Course {
        match self {
            Self::Batch { .. } | Self::Await { .. } | Self::Withdraw { .. } | Self::Close { .. } => Course::ToHost,
            Self::Accepted { .. } | Self::Replies { .. } | Self::Moved { .. } => Course::ToSender,
            Self::Unknown { .. } | Self::Again { .. } | Self::Full { .. } | Self::Astray { .. } => Course::Back,
        }
    }

    /// The same, sent on once more.
    #[must_use]
    pub fn sent_on(mut self) -> Self {
        match &mut self {
            Self::Batch { hops, .. }
            | Self::Await { hops, .. }
            | Self::Withdraw { hops, .. }
            | Self::Accepted { hops, .. }
            | Self::Replies { hops, .. }
            | Self::Moved { hops, .. }
            | Self::Unknown { hops, .. }
            | Self::Again { hops, .. }
            | Self::Full { hops, .. }
            | Self::Astray { hops, .. } => *hops = hops.saturating_add(1),
            Self::Close { .. } => {}
        }
        self
    }
}

/// Bytes that a batch, or replies, of no items take at most beside their items.
pub const BATCH_OVERHEAD: usize = 176;
/// Bytes that an item, output or empty reply takes at most beside its payload.
pub const ITEM_OVERHEAD: usize = 48;

const CALL: u8 = 0;
const SEND: u8 = 1;

// Items are written as flat arrays: a map per event would double the size of a small one.
impl<C> Encode<C> for Item<'_> {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), minicbor::encode::Error<W::Error>> {
        let (tag, event) = match self {
            Self::Call(event) => (CALL, event),
            Self::Send(event) => (SEND, event),
            Self::Skip => return e.array(0)?.ok(),
        };
        event.encode_fields(e.array(1 + EVENT_FIELDS)?.u8(tag)?)
    }
}

impl<'b, C> Decode<'b, C> for Item<'b> {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
        let len = d.array()?;
        if len == Some(0) {
            return Ok(Self::Skip);
        }
        let count = at_least(len, 1 + EVENT_FIELDS)?;
        let tag = d.u8()?;
        let event = Event::decode_fields(d)?;
        skip(d, count - 1 - EVENT_FIELDS)?;
        match tag {
            CALL => Ok(Self::Call(event)),
            SEND => Ok(Self::Send(event)),
            _ => Err(CborError::message("an unknown kind of item")),
        }
    }
}

const EVENT_FIELDS: u64 = 5;

impl<'b> Event<'b> {
    fn encode_fields<W: Write>(&self, e: &mut Encoder<W>) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u64(self.link.origin.get())?.u64(self.link.sequence.get())?.u64(self.link.parent_hash.get())?;
        e.u64(self.link.horizon.get())?.bytes(self.payload)?.ok()
    }

    fn decode_fields(d: &mut Decoder<'b>) -> Result<Self, CborError> {
        let origin = OriginHash::new(d.u64()?);
        let sequence = Sequence::new(d.u64()?);
        let parent_hash = ParentHash::new(d.u64()?);
        let horizon = HorizonBloom::new(d.u64()?);
        Ok(Self { link: CausalLink { origin, horizon, sequence, parent_hash }, payload: d.bytes()? })
    }
}

impl<C> Encode<C> for Event<'_> {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), minicbor::encode::Error<W::Error>> {
        self.encode_fields(e.array(EVENT_FIELDS)?)
    }
}

impl<'b, C> Decode<'b, C> for Event<'b> {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
        let count = at_least(d.array()?, EVENT_FIELDS)?;
        let event = Self::decode_fields(d)?;
        skip(d, count - EVENT_FIELDS)?;
        Ok(event)
    }
}

fn at_least(len: Option<u64>, fields: u64) -> Result<u64, CborError> {
    len.filter(|len| *len >= fields).ok_or_else(|| CborError::message("too few fields"))
}

impl<C> Encode<C> for Reply<'_> {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, ctx: &mut C) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(2)?.u64(self.number)?;
        match &self.result {
            Ok(outputs) => {
                e.array(outputs.len() as u64)?;
                for output in outputs {
                    output.encode(e, ctx)?;
                }
                Ok(())
            }
            // A failure is told from outputs by being tagged.
            Err(failure) => {
                e.tag(minicbor::data::Tag::new(FAILURE_TAG))?;
                failure.encode(e, ctx)
            }
        }
    }
}

/// Marks a failure where outputs stand otherwise; from the range that is free for private use.
const FAILURE_TAG: u64 = 0x4D44;

impl<'b, C> Decode<'b, C> for Reply<'b> {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
        Self::decode_within(d, &mut { MOST_OUTPUTS })
    }
}

impl<'b> Reply<'b> {
    /// One of several in a message, which may have so many outputs more.
    fn decode_within(d: &mut Decoder<'b>, left: &mut u64) -> Result<Self, CborError> {
        let ctx = &mut ();
        let count = at_least(d.array()?, 2)?;
        let number = decode_number(d, ctx)?;
        let result = if d.datatype()? == minicbor::data::Type::Tag {
            if d.tag()?.as_u64() != FAILURE_TAG {
                return Err(CborError::message("an unknown tag"));
            }
            let failure = Failure::decode(d, ctx)?;
            let longest = [Some(&failure.message)]
                .into_iter()
                .chain(failure.cause.iter().flat_map(|c| [Some(&c.name), Some(&c.message), c.stack.as_ref()]))
                .flatten()
                .map(String::len)
                .max();
            if longest.unwrap_or(0) > MAX_FAILURE_TEXT {
                return Err(CborError::message("an over-long failure text"));
            }
            Err(failure)
        } else {
            let count = bounded_count(d, *left, "outputs")?;
            *left -= count;
            Ok(Outputs::try_collect(count, || d.decode())?)
        };
        skip(d, count - 2)?;
        Ok(Self { number, result })
    }
}

fn skip(d: &mut Decoder<'_>, count: u64) -> Result<(), CborError> {
    for _ in 0..count {
        d.skip()?;
    }
    Ok(())
}

/// `#[cbor(decode_with = "decode_number")]`: a number of a stream, refused beyond [`LAST_NUMBER`].
pub(crate) fn decode_number<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<u64, CborError> {
    let number = d.u64()?;
    if number <= LAST_NUMBER { Ok(number) } else { Err(CborError::message("a number beyond every stream")) }
}

fn encode_items<C, W: Write>(
    items: &[Item<'_>],
    e: &mut Encoder<W>,
    ctx: &mut C,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    e.array(items.len() as u64)?;
    items.iter().try_for_each(|item| item.encode(e, ctx))
}

fn decode_items<'b, C>(d: &mut Decoder<'b>, _: &mut C) -> Result<Vec<Item<'b>>, CborError> {
    bounded_array(d, MAX_ITEMS, "items")
}

fn encode_replies<C, W: Write>(
    replies: &[Reply<'_>],
    e: &mut Encoder<W>,
    ctx: &mut C,
) -> Result<(), minicbor::encode::Error<W::Error>> {
    e.array(replies.len() as u64)?;
    replies.iter().try_for_each(|reply| reply.encode(e, ctx))
}

fn decode_replies<'b, C>(d: &mut Decoder<'b>, _: &mut C) -> Result<Vec<Reply<'b>>, CborError> {
    let count = bounded_count(d, MAX_ITEMS, "replies")?;
    let mut left = MOST_OUTPUTS;
    // Empty outputs take many times more in memory than on the wire.
    (0..count).map(|_| Reply::decode_within(d, &mut left)).collect()
}
