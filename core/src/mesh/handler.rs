//! What a layer above the mesh implements to speak to peers.
//!
//! Sending is *pulled*: a layer keeps its own state, says [`MeshNode::wake`](super::MeshNode::wake) when it has something
//! for a peer, and is asked to [`fill`](SubprotocolHandler::fill) a frame at the moment that the frame is encrypted. So
//! queues stay where their bounds are known, many small messages share a frame, and bulk data never waits encrypted
//! in front of a control message.

use bytes::Bytes;

use crate::identity::{EntityId, Incarnation, NodeId};
use crate::membership::Standing;
use crate::wire::{Lane, Subprotocol};

/// A smaller part of a frame is copied to be kept: a slice keeps the whole frame.
const WORTH_KEEPING: usize = 16 * 1024;

/// One received message.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which subprotocol it belongs to.
    pub subprotocol: Subprotocol,
    /// Its encoded body, a slice of the decrypted frame.
    pub body: Bytes,
}

/// A part of a record's body, to be kept for longer than the record: so that what is kept takes about the memory that its
/// length says, whatever frame it came in.
pub fn keep_part(body: &Bytes, part: &[u8]) -> Bytes {
    if part.len() < WORTH_KEEPING { Bytes::copy_from_slice(part) } else { body.slice_ref(part) }
}

/// Who is at the other end of a session, as proven by the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The node's id, derived from `entity`.
    pub node: NodeId,
    /// The node's public key.
    pub entity: EntityId,
    /// The node's life.
    pub incarnation: Incarnation,
    /// The node's Noise static key, proven in this node's own handshake with it: the only kind of key that an
    /// identity may be sealed to.
    pub static_key: [u8; 32],
    /// Largest payload that the peer accepts, in bytes.
    pub max_payload: u64,
}

/// What happened to a peer. Events of one peer arrive in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// A session is up (again). `resumed` tells that the peer was suspected, not lost, and is of the same incarnation.
    Connected {
        /// Who it is.
        peer: PeerIdentity,
        /// Whether state shared with this incarnation may go on.
        resumed: bool,
    },
    /// Both sides have started: from now on records flow. Follows every [`Connected`](Self::Connected), at once or when the
    /// last of the two starts.
    Ready {
        /// Who it is.
        node: NodeId,
    },
    /// Silent for half of the session timeout, or its connection broke; it may come back. What its session carries is not lost
    /// while that stands: [`Cut`](Self::Cut) tells when it does not, or [`Lost`](Self::Lost) without one before it.
    Suspected {
        /// Who it is.
        node: NodeId,
    },
    /// A suspected peer was silent only for a while: its session stands, and nothing that went over it is lost. The peer need
    /// not have noticed anything.
    Heard {
        /// Who it is.
        node: NodeId,
    },
    /// The session with a suspected peer is gone, and with it whatever was on the way, in either direction. Follows
    /// [`Suspected`](Self::Suspected), at once or after a silence; [`Connected`](Self::Connected) or [`Lost`](Self::Lost) is next.
    Cut {
        /// Who it is.
        node: NodeId,
    },
    /// Given up: silent for the whole timeout, said goodbye, or was replaced by a newer life.
    Lost {
        /// Who it was.
        node: NodeId,
        /// The life that was lost.
        incarnation: Incarnation,
        /// How it went.
        how: Loss,
    },
}

/// How a peer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing was heard for the session timeout. It may still live, cut off.
    Silence,
    /// It said goodbye: that process holds no daemon any more.
    Goodbye,
    /// The same node returned with a newer incarnation: proof that the old process is gone.
    NewerIncarnation,
}

/// Room for records in the frame that is about to be encrypted.
pub trait RecordSink {
    /// Bytes of body that still fit as one record.
    fn room(&self) -> usize;

    /// Writes one record by letting `encode` append its body to the frame; gives back the body's length. When the body
    /// outgrows [`room`](Self::room), or in the fast lane something else has to go first, nothing is written and `None` is
    /// returned: it is to be tried again with the next frame.
    fn record(&mut self, subprotocol: Subprotocol, encode: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize>;
}

/// A layer above the mesh. Its methods run on runtime threads, must not block, and must not call back into the mesh
/// except through [`wake`](super::MeshNode::wake) and [`consumed`](super::MeshNode::consumed).
pub trait SubprotocolHandler: Send + Sync + 'static {
    /// All records of one frame for the subprotocols this handler was installed for, in the order they were sent within
    /// their lane. The credit of bulk records returns to the peer with [`consumed`](super::MeshNode::consumed), at
    /// their body lengths, when the handler has room again.
    fn records(&self, from: NodeId, lane: Lane, records: &mut Vec<Record>);

    /// A peer came, is suspected or went.
    fn peer(&self, event: &PeerEvent);

    /// The live members of the mesh that keep claims for others, sorted, this node among them if it does: told when the
    /// handler is installed and whenever it changes. None while this node takes no part in the membership. `standing` is what
    /// this node may make of them.
    fn members(&self, _members: &[NodeId], _standing: Standing) {}

    /// Writes pending records for `to` in `lane` until nothing is left or the sink is full; returns whether more is
    /// waiting.
    fn fill(&self, to: NodeId, lane: Lane, sink: &mut dyn RecordSink) -> bool;

    /// Whether [`fill`](Self::fill) would write something. Asked of the handler of announcements only, before each record of
    /// others: what is announced before something else is said arrives before it.
    fn has_for(&self, _to: NodeId, _lane: Lane) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_part_does_not_keep_its_frame_and_a_large_one_is_not_copied() {
        let frame = Bytes::from(vec![7; 64 * 1024]);
        for (len, copied) in [(0, true), (1, true), (WORTH_KEEPING - 1, true), (WORTH_KEEPING, false)] {
            let part = keep_part(&frame, &frame[100..100 + len]);
            assert_eq!(part, frame[100..100 + len]);
            assert_eq!(part.as_ptr() != frame[100..].as_ptr(), copied, "{len}");
        }
    }
}
