//! Packets of the membership protocol as bytes, and the cards that were seen in them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::{Buf, BufMut};
use foca::{Header, Member, Message, State};
use minicbor::{Decode, Decoder, Encode};
use parking_lot::Mutex;

use super::card::{CardError, SignedCard};
use crate::identity::NodeId;
use crate::wire::codec::encode;

/// Most nodes that are remembered, alive or not.
pub(super) const MOST_MEMBERS: usize = 4096;
/// More cards than a packet holds.
const PER_PACKET: usize = 128;

/// Cards whose signatures were checked: the newest of each node. A node becomes a member only with its card in here, so
/// this bounds how many members there can be.
#[derive(Clone, Debug, Default)]
pub(super) struct Cards(Arc<Mutex<HashMap<NodeId, SignedCard>>>);

impl Cards {
    /// Checks a card, unless it is known.
    pub(super) fn check(&self, card: &SignedCard) -> Result<(), CardError> {
        let node = card.card.node();
        let newer = {
            let known = self.0.lock();
            match known.get(&node) {
                Some(known) if known == card => return Ok(()),
                Some(known) => card.is_newer_than(known),
                None if known.len() >= MOST_MEMBERS => return Err(CardError::Full),
                None => true,
            }
        };
        card.verify()?;
        if newer {
            self.0.lock().insert(node, card.clone());
        }
        Ok(())
    }

    /// Whether there is room for whatever the next packet brings.
    pub(super) fn have_room(&self) -> bool {
        self.0.lock().len() + PER_PACKET <= MOST_MEMBERS
    }

    /// Forgets every card but those of `members`: the others came to nothing.
    pub(super) fn keep_only(&self, members: &HashSet<NodeId>) {
        self.0.lock().retain(|node, _| members.contains(node));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Nobody speaks of that node any more.
    pub(super) fn forget(&self, node: NodeId) {
        self.0.lock().remove(&node);
    }
}

/// Why a packet cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum CodecError {
    #[error("malformed packet: {0}")]
    Malformed(String),
    #[error(transparent)]
    Card(#[from] CardError),
    #[error("a packet for another node")]
    OtherNode,
    #[error("no room")]
    NoRoom,
}

/// The codec that the protocol is driven with.
#[derive(Debug)]
pub(super) struct PacketCodec {
    /// This node.
    pub(super) me: NodeId,
    pub(super) cards: Cards,
}

/// A message beside its sender and receiver.
#[derive(Encode, Decode)]
enum Said {
    #[n(0)]
    Ping(#[n(0)] u8),
    #[n(1)]
    Ack(#[n(0)] u8),
    #[n(2)]
    PingReq(#[n(0)] u8, #[n(1)] SignedCard),
    #[n(3)]
    IndirectPing(#[n(0)] u8, #[n(1)] SignedCard),
    #[n(4)]
    IndirectAck(#[n(0)] u8, #[n(1)] SignedCard),
    #[n(5)]
    ForwardedAck(#[n(0)] u8, #[n(1)] SignedCard),
    #[n(6)]
    Announce,
    #[n(7)]
    Feed,
    #[n(8)]
    Gossip,
    #[n(9)]
    Broadcast,
    #[n(10)]
    TurnUndead,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Envelope {
    #[n(0)]
    src: SignedCard,
    #[n(1)]
    src_incarnation: u16,
    #[n(2)]
    dst: SignedCard,
    #[n(3)]
    said: Said,
}

#[derive(Clone, Copy, Encode, Decode)]
#[cbor(index_only)]
enum Standing {
    #[n(0)]
    Alive,
    #[n(1)]
    Suspect,
    #[n(2)]
    Down,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Update {
    #[n(0)]
    card: SignedCard,
    #[n(1)]
    incarnation: u16,
    #[n(2)]
    standing: Standing,
}

/// Who sent a packet, by its own word; and to which card, if it tells of all members that fit.
pub(super) fn sender(packet: &[u8]) -> Result<(NodeId, Option<SignedCard>), CodecError> {
    let Envelope { src, dst, said, .. } = read(&mut &packet[..])?;
    Ok((src.card.node(), matches!(said, Said::Feed).then_some(dst)))
}

fn read<T: for<'b> Decode<'b, ()>>(buf: &mut impl Buf) -> Result<T, CodecError> {
    // The whole packet is one slice, as it came.
    let mut decoder = Decoder::new(buf.chunk());
    let item = decoder.decode().map_err(|error| CodecError::Malformed(error.to_string()))?;
    let len = decoder.position();
    buf.advance(len);
    Ok(item)
}

fn write(item: &impl Encode<()>, mut buf: impl BufMut) -> Result<(), CodecError> {
    let bytes = encode(item);
    if bytes.len() > buf.remaining_mut() {
        return Err(CodecError::NoRoom);
    }
    buf.put_slice(&bytes);
    Ok(())
}

fn said(message: &Message<SignedCard>) -> Said {
    match message {
        Message::Ping(number) => Said::Ping(*number),
        Message::Ack(number) => Said::Ack(*number),
        Message::PingReq { target, probe_number } => Said::PingReq(*probe_number, target.clone()),
        Message::IndirectPing { origin, probe_number } => Said::IndirectPing(*probe_number, origin.clone()),
        Message::IndirectAck { target, probe_number } => Said::IndirectAck(*probe_number, target.clone()),
        Message::ForwardedAck { origin, probe_number } => Said::ForwardedAck(*probe_number, origin.clone()),
        Message::Announce => Said::Announce,
        Message::Feed => Said::Feed,
        Message::Gossip => Said::Gossip,
        Message::Broadcast => Said::Broadcast,
        Message::TurnUndead => Said::TurnUndead,
    }
}

impl PacketCodec {
    fn message(&self, said: Said) -> Result<Message<SignedCard>, CodecError> {
        let checked = |card: SignedCard| self.cards.check(&card).map(|()| card);
        Ok(match said {
            Said::Ping(number) => Message::Ping(number),
            Said::Ack(number) => Message::Ack(number),
            Said::PingReq(probe_number, card) => Message::PingReq { target: checked(card)?, probe_number },
            Said::IndirectPing(probe_number, card) => Message::IndirectPing { origin: checked(card)?, probe_number },
            Said::IndirectAck(probe_number, card) => Message::IndirectAck { target: checked(card)?, probe_number },
            Said::ForwardedAck(probe_number, card) => Message::ForwardedAck { origin: checked(card)?, probe_number },
            Said::Announce => Message::Announce,
            Said::Feed => Message::Feed,
            Said::Gossip => Message::Gossip,
            Said::Broadcast => Message::Broadcast,
            Said::TurnUndead => Message::TurnUndead,
        })
    }
}

impl foca::Codec<SignedCard> for PacketCodec {
    type Error = CodecError;

    fn encode_header(&mut self, header: &Header<SignedCard>, buf: impl BufMut) -> Result<(), CodecError> {
        let Header { src, src_incarnation, dst, message } = header;
        let envelope =
            Envelope { src: src.clone(), src_incarnation: *src_incarnation, dst: dst.clone(), said: said(message) };
        write(&envelope, buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<SignedCard>, CodecError> {
        let Envelope { src, src_incarnation, dst, said } = read(&mut buf)?;
        // Nothing of it is kept, so its signature does not matter.
        if dst.card.node() != self.me {
            return Err(CodecError::OtherNode);
        }
        self.cards.check(&src)?;
        Ok(Header { src, src_incarnation, dst, message: self.message(said)? })
    }

    fn encode_member(&mut self, member: &Member<SignedCard>, buf: impl BufMut) -> Result<(), CodecError> {
        let standing = match member.state() {
            State::Alive => Standing::Alive,
            State::Suspect => Standing::Suspect,
            State::Down => Standing::Down,
        };
        write(&Update { card: member.id().clone(), incarnation: member.incarnation(), standing }, buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<SignedCard>, CodecError> {
        let Update { card, incarnation, standing } = read(&mut buf)?;
        self.cards.check(&card)?;
        let state = match standing {
            Standing::Alive => State::Alive,
            Standing::Suspect => State::Suspect,
            Standing::Down => State::Down,
        };
        Ok(Member::new(card, incarnation, state))
    }
}
