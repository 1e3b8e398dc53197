//! A node's place in a hierarchy of subnets.

use minicbor::decode::{Decode, Decoder, Error};
use minicbor::encode::{Encode, Encoder, Write};

/// Most levels of a place.
const MAX_LEVELS: usize = 4;

/// A node's place: 1 to 4 levels, the outermost first. A node without one has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subnet(Vec<u8>);

/// More levels than a place has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a subnet has 1 to 4 levels, got {0}")]
pub struct SubnetError(pub usize);

impl Subnet {
    /// No place, or one of 1 to 4 levels.
    pub fn new(levels: &[u8]) -> Result<Self, SubnetError> {
        if levels.len() > MAX_LEVELS {
            return Err(SubnetError(levels.len()));
        }
        Ok(Self(levels.to_vec()))
    }

    /// The levels, when there is a place.
    pub fn levels(&self) -> Option<&[u8]> {
        Some(self.0.as_slice()).filter(|levels| !levels.is_empty())
    }

    /// Whether `outer` contains this place. No place contains nothing.
    pub fn is_within(&self, outer: &Self) -> bool {
        outer.levels().is_some_and(|levels| self.0.starts_with(levels))
    }
}

impl<C> Encode<C> for Subnet {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Subnet {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, Error> {
        Self::new(d.bytes()?).map_err(|error| Error::message(error.to_string()))
    }
}
