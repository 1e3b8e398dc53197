//! What the refusal of a stream says: what is not there, and which batch it answers.

use std::num::NonZeroU64;

use minicbor::decode::{Decoder, Error as CborError};
use minicbor::encode::{Encoder, Write};
use minicbor::{Decode, Encode};

/// What a node lacks of a stream that is unknown there. On the wire it is a number, 0 for the whole of it: streams count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The daemon, or that life of it: the stream leads nowhere.
    Daemon,
    /// What comes before this number, with which a batch began that the daemon's host cannot place.
    Before(NonZeroU64),
}

impl Missing {
    /// What comes before the first number of a batch.
    pub fn before(first: u64) -> Self {
        NonZeroU64::new(first).map_or(Self::Daemon, Self::Before)
    }
}

impl<C> Encode<C> for Missing {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), minicbor::encode::Error<W::Error>> {
        let first = match self {
            Self::Daemon => 0,
            Self::Before(first) => first.get(),
        };
        e.u64(first)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Missing {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
        Ok(Self::before(d.u64()?))
    }
}

/// What a word about a stream answers. Batches go in two lanes, and one that is still on its way may meet the daemon. On the
/// wire it is a number, 0 for no batch: streams count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// No batch.
    #[default]
    Nothing,
    /// The batch with this last number, and what went before it in its lane.
    BatchTo(NonZeroU64),
}

impl Answers {
    /// The batch with this last number; one of no items is no batch.
    pub fn batch_to(last: u64) -> Self {
        NonZeroU64::new(last).map_or(Self::Nothing, Self::BatchTo)
    }
}

impl<C> Encode<C> for Answers {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), minicbor::encode::Error<W::Error>> {
        let last = match self {
            Self::Nothing => 0,
            Self::BatchTo(last) => last.get(),
        };
        e.u64(last)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Answers {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
        Ok(Self::batch_to(d.u64()?))
    }
}
