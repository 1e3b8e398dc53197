//! Encoding and strict decoding of messages: numbered CBOR fields, unknown fields skipped, trailing bytes refused.

use minicbor::decode::{Decode, Decoder, Error as CborError};
use minicbor::encode::{Encode, Encoder, Write};

use crate::identity::{EntityId, Epoch, Incarnation, Lineage, MigrationId, NodeId, OriginHash};

/// A message that cannot be read. What a peer sent is described for the log only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not the CBOR that this message has.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// The message ends before its bytes do.
    #[error("{0} bytes behind the message")]
    TrailingBytes(usize),
    /// A count or length is beyond what the message may hold.
    #[error("{what} of {size} is beyond the limit of {limit}")]
    TooLarge {
        /// Which field.
        what: &'static str,
        /// What was claimed.
        size: u64,
        /// What is allowed.
        limit: u64,
    },
}

/// Appends the encoded `message`.
pub fn encode_into<M: Encode<()>>(message: &M, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail, and our own messages hold no value that has no encoding.
    let done = minicbor::encode(message, out);
    debug_assert!(done.is_ok(), "a message of ours always encodes");
}

/// Encodes `message` on its own.
pub fn encode<M: Encode<()>>(message: &M) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    encode_into(message, &mut out);
    out
}

/// Decodes one message that fills `bytes`. Byte strings are borrowed, so nothing is allocated by a claimed length.
pub fn decode<'b, M: Decode<'b, ()>>(bytes: &'b [u8]) -> Result<M, DecodeError> {
    decode_with(bytes, &mut ())
}

/// The same with a context, which may bound what is allocated for elements.
pub fn decode_with<'b, C, M: Decode<'b, C>>(bytes: &'b [u8], context: &mut C) -> Result<M, DecodeError> {
    let mut decoder = Decoder::new(bytes);
    let message = decoder.decode_with(context).map_err(|e| DecodeError::Malformed(e.to_string()))?;
    let rest = bytes.len() - decoder.position();
    if rest == 0 { Ok(message) } else { Err(DecodeError::TrailingBytes(rest)) }
}

/// Reads a definite array of at most `limit` elements. The count is checked before anything is allocated for it.
pub fn bounded_array<'b, T: Decode<'b, ()>>(
    decoder: &mut Decoder<'b>,
    limit: u64,
    what: &'static str,
) -> Result<Vec<T>, CborError> {
    let count = bounded_count(decoder, limit, what)?;
    let mut items = Vec::with_capacity(usize::try_from(count.min(1024)).unwrap_or(1024));
    for _ in 0..count {
        items.push(decoder.decode()?);
    }
    Ok(items)
}

/// Reads how many elements a definite array has, of at most `limit`; they follow.
pub fn bounded_count(decoder: &mut Decoder<'_>, limit: u64, what: &'static str) -> Result<u64, CborError> {
    let count = decoder.array()?.ok_or_else(|| CborError::message("an array of unknown length"))?;
    if count > limit {
        return Err(CborError::message(format!("{what}: {count} elements, at most {limit}")));
    }
    // Every element takes a byte at least, so the input itself bounds what is reserved.
    let left = decoder.input().len().saturating_sub(decoder.position()) as u64;
    if count > left {
        return Err(CborError::message(format!("{what}: {count} elements in {left} bytes")));
    }
    Ok(count)
}

fn fixed<const N: usize>(decoder: &mut Decoder<'_>) -> Result<[u8; N], CborError> {
    let bytes = decoder.bytes()?;
    bytes.try_into().map_err(|_| CborError::message(format!("{} bytes where {N} are due", bytes.len())))
}

macro_rules! as_bytes {
    ($($type:ty: $n:literal, $from:expr, $to:expr;)*) => {$(
        impl<C> Encode<C> for $type {
            fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), minicbor::encode::Error<W::Error>> {
                let to: fn(&$type) -> [u8; $n] = $to;
                e.bytes(&to(self))?.ok()
            }
        }
        impl<'b, C> Decode<'b, C> for $type {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
                let from: fn([u8; $n]) -> $type = $from;
                Ok(from(fixed(d)?))
            }
        }
    )*};
}

macro_rules! as_number {
    ($($type:ty),*) => {$(
        impl<C> Encode<C> for $type {
            fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), minicbor::encode::Error<W::Error>> {
                e.u64(self.get())?.ok()
            }
        }
        impl<'b, C> Decode<'b, C> for $type {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, CborError> {
                Ok(<$type>::new(d.u64()?))
            }
        }
    )*};
}

as_bytes! {
    EntityId: 32, EntityId::from_bytes, |id| *id.as_bytes();
    Lineage: 16, Lineage::from_bytes, |lineage| lineage.to_bytes();
    Incarnation: 16, Incarnation::from_bytes, |life| life.to_bytes();
    MigrationId: 16, MigrationId::from_bytes, |id| id.to_bytes();
}

as_number!(OriginHash, NodeId, Epoch);

/// `#[cbor(with = "bytes32")]`: 32 bytes as a byte string.
pub mod bytes32 {
    use super::{CborError, Decoder, Encoder, Write, fixed};

    /// Writes the byte string.
    pub fn encode<C, W: Write>(
        value: &[u8; 32],
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(value)?.ok()
    }

    /// Reads the byte string, refusing any other length.
    pub fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<[u8; 32], CborError> {
        fixed(d)
    }
}

/// `#[cbor(with = "bytes64")]`: a signature as a byte string.
pub mod bytes64 {
    use super::{CborError, Decoder, Encoder, Write, fixed};

    /// Writes the byte string.
    pub fn encode<C, W: Write>(
        value: &[u8; 64],
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(value)?.ok()
    }

    /// Reads the byte string, refusing any other length.
    pub fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<[u8; 64], CborError> {
        fixed(d)
    }
}
