//! A claim says, with proof, which node hosts a daemon.
//!
//! It is signed by the daemon's key, or is a chain that begins with such a signature and in which each holder's node
//! key names the next one: so a daemon whose key stays behind can still be found, and nobody can claim it who was not
//! handed it. Any host that has the key starts the chain anew.

use minicbor::{Decode, Encode};

use crate::identity::{EntityId, EntityKeypair, Epoch, IdentityError, Incarnation, Lineage, NodeId, Signature};
use crate::wire::codec::{self, DecodeError, bytes64};

/// Longest chain of hand-overs without the daemon's own signature.
const MAX_CHAIN: usize = 16;
const LABEL: &[u8] = b"mesh-daemon claim v1";

/// What a claim says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct ClaimBody {
    /// The daemon.
    #[n(0)]
    pub entity: EntityId,
    /// Its life.
    #[n(1)]
    pub lineage: Lineage,
    /// How often its hosting changed hands.
    #[n(2)]
    pub epoch: Epoch,
    /// Copies of lower epochs are refused.
    #[n(3)]
    pub min_epoch: Epoch,
    /// The public key of the node that hosts it.
    #[n(4)]
    pub host: EntityId,
    /// The life of that node; unknown to the former host that names it, until the new one speaks for itself.
    #[n(5)]
    pub incarnation: Option<Incarnation>,
}

/// A claim that cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Not a claim.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// Empty, or longer than a chain may be.
    #[error("a chain of {0} hand-overs without the daemon's key, of which there may be 1 to {MAX_CHAIN}")]
    ChainLength(usize),
    /// A signature of the chain does not hold.
    #[error("a signature does not verify")]
    BadSignature,
    /// The links of the chain do not belong together.
    #[error("the chain of hand-overs is broken")]
    BrokenChain,
    /// There is nobody here who could sign.
    #[error("no key at hand to sign with")]
    NoKey,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
struct Signed {
    #[n(0)]
    body: ClaimBody,
    #[n(1)]
    #[cbor(with = "bytes64")]
    signature: [u8; 64],
}

/// A claim with its proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    chain: Vec<Signed>,
}

impl ClaimBody {
    fn message(&self) -> Vec<u8> {
        let mut message = LABEL.to_vec();
        codec::encode_into(self, &mut message);
        message
    }

    /// The node id of the host.
    pub fn node(&self) -> NodeId {
        self.host.node_id()
    }
}

impl Claim {
    /// A claim signed with the daemon's key.
    pub fn sign(body: ClaimBody, daemon: &EntityKeypair) -> Result<Self, ClaimError> {
        debug_assert_eq!(body.entity, daemon.entity_id(), "a daemon claims for itself");
        Ok(Self { chain: vec![signed(body, daemon)?] })
    }

    /// The claim of the next host, named by this one's node key.
    pub fn hand_over(&self, body: ClaimBody, holder: &EntityKeypair) -> Result<Self, ClaimError> {
        if holder.entity_id() != self.body().host {
            return Err(ClaimError::BrokenChain);
        }
        if self.chain.len() >= MAX_CHAIN {
            return Err(ClaimError::ChainLength(self.chain.len() + 1));
        }
        let mut chain = self.chain.clone();
        chain.push(signed(body, holder)?);
        Ok(Self { chain })
    }

    /// What it says.
    pub fn body(&self) -> &ClaimBody {
        &self.chain[self.chain.len() - 1].body
    }

    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&self.chain)
    }

    /// Reads and verifies the wire form.
    pub fn decode(bytes: &[u8]) -> Result<Self, ClaimError> {
        let chain: Vec<Signed> = codec::decode::<Chain>(bytes)?.0;
        if chain.is_empty() || chain.len() > MAX_CHAIN {
            return Err(ClaimError::ChainLength(chain.len()));
        }
        let first = &chain[0].body;
        verify(&first.entity, &chain[0])?;
        for pair in chain.windows(2) {
            let (holder, next) = (&pair[0].body, &pair[1].body);
            // A takeover begins a new life and refuses every copy before it.
            let same_life = next.lineage == holder.lineage || next.min_epoch == next.epoch;
            let follows = next.entity == holder.entity
                && same_life
                && next.epoch > holder.epoch
                && !holder.epoch.is_far_behind(next.epoch)
                && next.min_epoch >= holder.min_epoch
                && next.min_epoch <= next.epoch;
            if !follows {
                return Err(ClaimError::BrokenChain);
            }
            verify(&holder.host, &pair[1])?;
        }
        Ok(Self { chain })
    }

    /// Whether this claim wins over another one for the same daemon.
    pub fn beats(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.body(), other.body());
        match mine.epoch.cmp(&theirs.epoch) {
            std::cmp::Ordering::Equal => tie_break(mine) > tie_break(theirs),
            order => order.is_gt(),
        }
    }
}

struct Chain(Vec<Signed>);

impl<'b> Decode<'b, ()> for Chain {
    fn decode(d: &mut minicbor::Decoder<'b>, (): &mut ()) -> Result<Self, minicbor::decode::Error> {
        codec::bounded_array(d, MAX_CHAIN as u64, "hand-overs").map(Self)
    }
}

fn signed(body: ClaimBody, key: &EntityKeypair) -> Result<Signed, ClaimError> {
    let proof = key.sign(&body.message()).map_err(|_: IdentityError| ClaimError::NoKey)?;
    Ok(Signed { body, signature: *proof.as_bytes() })
}

fn verify(signer: &EntityId, link: &Signed) -> Result<(), ClaimError> {
    signer
        .verify(&link.body.message(), &Signature::from_bytes(link.signature))
        .map_err(|_: IdentityError| ClaimError::BadSignature)
}

/// Decides between equal epochs: BLAKE2s of what the claims say, the larger one wins.
fn tie_break(body: &ClaimBody) -> [u8; 32] {
    use blake2::Digest;
    blake2::Blake2s256::digest(body.message()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A claim of the first holder, and what it would hand over by default.
    fn held() -> (Claim, ClaimBody, EntityKeypair) {
        let [daemon, holder] = [(); 2].map(|()| EntityKeypair::generate());
        let body = ClaimBody {
            entity: daemon.entity_id(),
            lineage: Lineage::new(1),
            epoch: Epoch::new(5),
            min_epoch: Epoch::new(3),
            host: holder.entity_id(),
            incarnation: None,
        };
        let next = ClaimBody { epoch: Epoch::new(6), host: EntityKeypair::generate().entity_id(), ..body };
        (Claim::sign(body, &daemon).expect("a full key pair"), next, holder)
    }

    /// How a hand-over of this is read that its holder has signed.
    fn read(change: impl FnOnce(&mut ClaimBody)) -> Result<(), ClaimError> {
        let (claim, mut next, holder) = held();
        change(&mut next);
        let handed = claim.hand_over(next, &holder).expect("its own claim");
        Claim::decode(&handed.encode()).map(|_| ())
    }

    #[test]
    fn a_hand_over_is_of_the_same_daemon_and_life_and_later() {
        let epoch = |number| move |next: &mut ClaimBody| next.epoch = Epoch::new(number);
        assert_eq!(read(|_| {}), Ok(()));
        assert_eq!(read(epoch(7)), Ok(()));
        let broken = Err(ClaimError::BrokenChain);
        assert_eq!(read(epoch(5)), broken, "no later");
        assert_eq!(read(epoch(4)), broken, "earlier");
        assert_eq!(read(epoch(u64::MAX)), broken, "later than anybody believes");
        assert_eq!(read(|next| next.entity = EntityKeypair::generate().entity_id()), broken);
        assert_eq!(read(|next| next.lineage = Lineage::new(2)), broken);
    }

    #[test]
    fn a_takeover_begins_another_life_and_refuses_all_before_it() {
        let takes_over =
            |min: u64| move |next: &mut ClaimBody| (next.lineage, next.min_epoch) = (Lineage::new(2), Epoch::new(min));
        assert_eq!(read(takes_over(6)), Ok(()));
        assert_eq!(read(takes_over(5)), Err(ClaimError::BrokenChain), "a copy before it is left");
    }

    #[test]
    fn what_a_hand_over_refuses_is_not_less_than_before_and_not_itself() {
        let least = |min: u64| move |next: &mut ClaimBody| next.min_epoch = Epoch::new(min);
        assert_eq!(read(least(3)), Ok(()));
        assert_eq!(read(least(6)), Ok(()));
        assert_eq!(read(least(2)), Err(ClaimError::BrokenChain), "less");
        assert_eq!(read(least(7)), Err(ClaimError::BrokenChain), "itself");
    }

    #[test]
    fn each_link_is_signed_by_the_holder_before_it() {
        let (claim, next, _) = held();
        let stranger = EntityKeypair::generate();
        let mut forged = claim;
        forged.chain.push(signed(next, &stranger).expect("a full key pair"));
        assert_eq!(Claim::decode(&forged.encode()), Err(ClaimError::BadSignature));
        assert_eq!(Claim::decode(&codec::encode(&Vec::<Signed>::new())), Err(ClaimError::ChainLength(0)));
    }
}
