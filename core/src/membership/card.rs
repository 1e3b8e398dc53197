//! What a node says of itself to the whole mesh, with its signature.

use std::net::SocketAddr;

use minicbor::{Decode, Encode};

use crate::identity::{EntityId, EntityKeypair, IdentityError, Incarnation, NodeId, Signature};
use crate::wire::codec::{self, bytes64};

/// Most addresses of one node.
pub const MOST_ADDRESSES: usize = 4;
/// No address is longer in text.
const ADDRESS_LEN: usize = 64;
const LABEL: &[u8] = b"mesh-daemon member v1";

/// A node as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Card {
    /// Its public key.
    #[n(0)]
    pub entity: EntityId,
    /// Its life.
    #[n(1)]
    pub life: Incarnation,
    /// Counts the cards of one life: a new one is needed to come back after having been taken for down.
    #[n(2)]
    pub round: u32,
    /// Where it listens, the likeliest first. Only who answers there shows whether that is so.
    #[n(3)]
    #[cbor(with = "addresses")]
    pub addrs: Vec<SocketAddr>,
    /// Whether it keeps claims for others.
    #[n(4)]
    pub directory: bool,
}

impl Card {
    /// The node's address.
    pub fn node(&self) -> NodeId {
        self.entity.node_id()
    }

    fn message(&self) -> Vec<u8> {
        let mut message = LABEL.to_vec();
        codec::encode_into(self, &mut message);
        message
    }
}

/// A card that cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// Its signature does not hold.
    #[error("a member's card whose signature does not verify")]
    BadSignature,
    /// There is no room for another member.
    #[error("more members than are kept")]
    Full,
}

/// A card with its proof.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct SignedCard {
    /// What it says.
    #[n(0)]
    pub card: Card,
    #[n(1)]
    #[cbor(with = "bytes64")]
    signature: [u8; 64],
}

impl SignedCard {
    /// Signs with the node's own key.
    pub fn sign(card: Card, keypair: &EntityKeypair) -> Result<Self, IdentityError> {
        let signature = *keypair.sign(&card.message())?.as_bytes();
        Ok(Self { card, signature })
    }

    /// Whether this card replaces another one of the same node. Of two cards that differ one does, on every node the same one:
    /// should a node sign two of one round, the bytes decide.
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let age = |signed: &Self| (signed.card.life, signed.card.round);
        let bytes = || codec::encode(self).cmp(&codec::encode(other));
        age(self).cmp(&age(other)).then_with(bytes).is_gt()
    }

    /// Whether the node itself has said so.
    pub fn verify(&self) -> Result<(), CardError> {
        let signature = Signature::from_bytes(self.signature);
        self.card.entity.verify(&self.card.message(), &signature).map_err(|_: IdentityError| CardError::BadSignature)
    }
}

impl foca::Identity for SignedCard {
    // Compared with every member's, again and again: the node id would be computed each time.
    type Addr = EntityId;

    // A new card needs the key: the machine makes it.
    fn renew(&self) -> Option<Self> {
        None
    }

    fn addr(&self) -> EntityId {
        self.card.entity
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.is_newer_than(adversary)
    }
}

mod addresses {
    use std::net::SocketAddr;

    use minicbor::decode::{Decoder, Error};
    use minicbor::encode::{Encoder, Write};

    use super::{ADDRESS_LEN, MOST_ADDRESSES};
    use crate::wire::codec::bounded_count;

    pub(super) fn encode<C, W: Write>(
        addrs: &[SocketAddr],
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(addrs.len() as u64)?;
        for addr in addrs {
            e.str(&addr.to_string())?;
        }
        Ok(())
    }

    pub(super) fn decode<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<SocketAddr>, Error> {
        let count = bounded_count(d, MOST_ADDRESSES as u64, "addresses")?;
        let mut addrs = Vec::new();
        for _ in 0..count {
            let text = d.str()?;
            let addr = Some(text).filter(|text| text.len() <= ADDRESS_LEN).and_then(|text| text.parse().ok());
            addrs.push(addr.ok_or_else(|| Error::message("not an address"))?);
        }
        Ok(addrs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_cards_of_one_round_the_same_one_wins_everywhere() {
        let keypair = EntityKeypair::generate();
        let life = Incarnation { started_at_ms: 1, salt: 2 };
        let sign = |directory| {
            let card = Card { entity: keypair.entity_id(), life, round: 7, addrs: Vec::new(), directory };
            SignedCard::sign(card, &keypair).expect("it has the key")
        };
        let (one, other) = (sign(true), sign(false));
        assert_ne!(one.is_newer_than(&other), other.is_newer_than(&one));
        let resigned = SignedCard { signature: [0; 64], ..one.clone() };
        assert_ne!(one.is_newer_than(&resigned), resigned.is_newer_than(&one));
        assert!(!one.is_newer_than(&one));
    }

    #[test]
    fn nobody_can_alter_another_nodes_card() {
        let keypair = EntityKeypair::generate();
        let life = Incarnation { started_at_ms: 1, salt: 2 };
        let addrs = vec!["127.0.0.1:1".parse().expect("an address"), "[::1]:2".parse().expect("an address")];
        let card = Card { entity: keypair.entity_id(), life, round: 0, addrs, directory: true };
        let signed = SignedCard::sign(card, &keypair).expect("it has the key");
        let mut read: SignedCard = codec::decode(&codec::encode(&signed)).expect("as it was written");
        assert_eq!(read, signed);
        assert_eq!(read.verify(), Ok(()));
        read.card.life.started_at_ms += 1;
        assert_eq!(read.verify(), Err(CardError::BadSignature));
    }
}
