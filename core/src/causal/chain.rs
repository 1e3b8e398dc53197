//! Building and checking a chain.

use bytes::Bytes;

use super::{CausalLink, HorizonBloom, ParentHash, Sequence};
use crate::identity::OriginHash;

/// Why a link cannot follow another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The link is of another chain.
    #[error("link of chain {got} where chain {expected} is expected")]
    OriginMismatch {
        /// Origin of the chain.
        expected: OriginHash,
        /// Origin of the link.
        got: OriginHash,
    },
    /// The link is not the next one.
    #[error("link with sequence {got} where {expected} is next")]
    SequenceGap {
        /// The next sequence.
        expected: Sequence,
        /// That of the link.
        got: Sequence,
    },
    /// The link follows another link or payload than the one at the head.
    #[error("link with parent hash {got} where the head hashes to {expected}")]
    ParentHashMismatch {
        /// Hash of the head and its payload.
        expected: ParentHash,
        /// That of the link.
        got: ParentHash,
    },
    /// The chain has used its last sequence, `u64::MAX`.
    #[error("chain {origin} has no sequence left")]
    SequenceExhausted {
        /// Origin of the chain.
        origin: OriginHash,
    },
}

/// An event with its place in its emitter's chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CausalEvent {
    /// Its place.
    pub link: CausalLink,
    /// Its content.
    pub payload: Bytes,
    /// When this node received it, in unix nanoseconds.
    pub received_at_ns: u64,
}

/// The end of a chain: all that is needed to go on with it, or to check what comes next.
///
/// The head's payload is represented by its hash, so this stays small however large payloads are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    link: CausalLink,
    next_parent: ParentHash,
}

/// Appends to a chain. Allocates nothing.
#[derive(Clone, Debug)]
pub struct ChainBuilder {
    head: ChainHead,
}

impl ChainHead {
    /// A chain that has only its genesis, whose payload is empty.
    pub fn genesis(origin: OriginHash) -> Self {
        Self::of(CausalLink::genesis(origin), &[])
    }

    /// A chain that ends with this link and payload.
    pub fn of(link: CausalLink, payload: &[u8]) -> Self {
        Self { link, next_parent: ParentHash::of(&link, payload) }
    }

    /// A chain end that was kept in a snapshot.
    pub const fn from_parts(link: CausalLink, next_parent: ParentHash) -> Self {
        Self { link, next_parent }
    }

    /// The last link.
    pub const fn link(&self) -> &CausalLink {
        &self.link
    }

    /// The parent hash that the next link carries.
    pub const fn next_parent(&self) -> ParentHash {
        self.next_parent
    }

    /// Checks that `next` follows: origin, then sequence, then parent hash.
    pub fn validate(&self, next: &CausalLink) -> Result<(), ChainError> {
        let origin = self.link.origin;
        if next.origin != origin {
            return Err(ChainError::OriginMismatch { expected: origin, got: next.origin });
        }
        let expected = self.link.sequence.next().ok_or(ChainError::SequenceExhausted { origin })?;
        if next.sequence != expected {
            return Err(ChainError::SequenceGap { expected, got: next.sequence });
        }
        if next.parent_hash != self.next_parent {
            return Err(ChainError::ParentHashMismatch { expected: self.next_parent, got: next.parent_hash });
        }
        Ok(())
    }

    /// Checks a received link and moves on to it; unchanged on an error.
    pub fn advance(&mut self, next: CausalLink, payload: &[u8]) -> Result<(), ChainError> {
        self.validate(&next)?;
        *self = Self::of(next, payload);
        Ok(())
    }
}

impl ChainBuilder {
    /// Starts a chain.
    pub fn new(origin: OriginHash) -> Self {
        Self::resume(ChainHead::genesis(origin))
    }

    /// Goes on with a chain.
    pub const fn resume(head: ChainHead) -> Self {
        Self { head }
    }

    /// Appends an event; unchanged on an error.
    ///
    /// `horizon` is read from the [`Horizon`](super::Horizon) that has already observed the event being answered.
    pub fn append(&mut self, payload: &[u8], horizon: HorizonBloom) -> Result<CausalLink, ChainError> {
        let CausalLink { origin, sequence, .. } = self.head.link;
        let sequence = sequence.next().ok_or(ChainError::SequenceExhausted { origin })?;
        let link = CausalLink { origin, horizon, sequence, parent_hash: self.head.next_parent };
        self.head = ChainHead::of(link, payload);
        Ok(link)
    }

    /// The end of the chain.
    pub const fn head(&self) -> &ChainHead {
        &self.head
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORIGIN: OriginHash = OriginHash::new(0xabcd);

    #[test]
    fn the_first_link_has_sequence_1_and_the_genesis_as_parent() {
        let mut chain = ChainBuilder::new(ORIGIN);
        let link = chain.append(b"first", HorizonBloom::new(7)).expect("room");
        assert_eq!(link.origin, ORIGIN);
        assert_eq!(link.horizon, HorizonBloom::new(7));
        assert_eq!(link.sequence, Sequence::new(1));
        assert_eq!(link.parent_hash, ParentHash::of(&CausalLink::genesis(ORIGIN), b""));
        assert_eq!(chain.head().link(), &link);
    }

    #[test]
    fn hazard_36_a_resumed_chain_goes_on_with_the_right_parent_hash() {
        let mut source = ChainBuilder::new(ORIGIN);
        let last = source.append(b"last on the source", HorizonBloom::EMPTY).expect("room");
        let kept = ChainHead::from_parts(*source.head().link(), source.head().next_parent());
        let mut target = ChainBuilder::resume(kept);
        let first = target.append(b"first on the target", HorizonBloom::EMPTY).expect("room");
        assert_eq!(ChainHead::of(last, b"last on the source").validate(&first), Ok(()));
        assert_eq!(Ok(first), source.append(b"any payload", HorizonBloom::EMPTY));
    }

    #[test]
    fn validation_reports_origin_then_sequence_then_parent_hash() {
        let head = ChainHead::genesis(ORIGIN);
        let other = OriginHash::new(1);
        let mut next = CausalLink {
            origin: other,
            horizon: HorizonBloom::EMPTY,
            sequence: Sequence::new(2),
            parent_hash: ParentHash::new(9),
        };
        assert_eq!(head.validate(&next), Err(ChainError::OriginMismatch { expected: ORIGIN, got: other }));
        next.origin = ORIGIN;
        let (expected, got) = (Sequence::new(1), Sequence::new(2));
        assert_eq!(head.validate(&next), Err(ChainError::SequenceGap { expected, got }));
        next.sequence = expected;
        let (expected, got) = (head.next_parent(), ParentHash::new(9));
        assert_eq!(head.validate(&next), Err(ChainError::ParentHashMismatch { expected, got }));
        next.parent_hash = expected;
        assert_eq!(head.validate(&next), Ok(()));
    }

    #[test]
    fn after_the_last_sequence_there_is_an_error_and_no_wrap() {
        let last = CausalLink { sequence: Sequence::new(u64::MAX), ..CausalLink::genesis(ORIGIN) };
        let head = ChainHead::of(last, b"");
        let mut chain = ChainBuilder::resume(head);
        let exhausted = ChainError::SequenceExhausted { origin: ORIGIN };
        assert_eq!(chain.append(b"", HorizonBloom::EMPTY), Err(exhausted));
        assert_eq!(chain.head(), &head);
        let wrapped = CausalLink { parent_hash: head.next_parent(), ..CausalLink::genesis(ORIGIN) };
        assert_eq!(head.validate(&wrapped), Err(exhausted));
    }

    proptest! {
        #[test]
        fn what_is_built_validates_and_what_is_changed_does_not(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 2..20),
            changed: prop::sample::Index,
        ) {
            let mut chain = ChainBuilder::new(ORIGIN);
            let events: Vec<_> = payloads
                .into_iter()
                .map(|payload| (chain.append(&payload, HorizonBloom::EMPTY).expect("room"), payload))
                .collect();
            let mut honest = ChainHead::genesis(ORIGIN);
            for (link, payload) in &events {
                prop_assert_eq!(honest.advance(*link, payload), Ok(()));
            }
            prop_assert_eq!(&honest, chain.head());

            let changed = changed.index(events.len() - 1);
            let mut cheated = ChainHead::genesis(ORIGIN);
            let mut refused = None;
            for (at, (link, payload)) in events.iter().enumerate() {
                let mut payload = payload.clone();
                if at == changed {
                    payload.push(0);
                }
                if let Err(error) = cheated.advance(*link, &payload) {
                    refused = Some((at, error));
                    break;
                }
            }
            let (at, error) = refused.expect("noticed");
            prop_assert_eq!(at, changed + 1);
            let parent_hash = matches!(error, ChainError::ParentHashMismatch { .. });
            prop_assert!(parent_hash);
        }
    }
}
