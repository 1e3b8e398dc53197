//! The head of a snapshot: all but the daemon's own state.

use std::sync::Arc;

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::error::SnapshotError;
use crate::causal::{CausalLink, ChainHead, Horizon, LINK_LEN, MAX_HORIZON_ORIGINS, ParentHash, Sequence};
use crate::identity::{EntityId, Epoch, Lineage, OriginHash};

/// Bytes of one origin of the horizon: origin u64, sequence u64.
const OBSERVED_LEN: usize = 16;

/// Counters that move with a daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotStats {
    /// Events whose handler returned.
    pub events_processed: u64,
    /// Outputs.
    pub events_emitted: u64,
    /// Events that failed.
    pub errors: u64,
    /// Snapshots taken, this one included.
    pub snapshots_taken: u64,
}

/// Who the daemon is and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHead {
    /// The name of its factory; none for a daemon that was handed over ready-made and unnamed.
    pub kind: Option<Arc<str>>,
    /// The daemon. A restore compares all 32 bytes.
    pub entity: EntityId,
    /// Its life.
    pub lineage: Lineage,
    /// The epoch of the copy that was taken.
    pub epoch: Epoch,
    /// The end of its chain; its sequence is the one that the snapshot reaches.
    pub chain: ChainHead,
    /// All that it has observed.
    pub horizon: Horizon,
    /// Its counters.
    pub stats: SnapshotStats,
    /// Of the streams that lead to the daemon: marks and kept replies, encoded by the layer that knows them. Of what the daemon
    /// sent itself nothing is on its way when a move takes its snapshot.
    pub streams: Bytes,
    /// Subscriptions, encoded by the layer that knows them.
    pub ledger: Bytes,
    /// When it was taken, in unix nanoseconds.
    pub created_at_ns: u64,
}

/// The CBOR form. Absent fields cost nothing; numbers are never used again for something else.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire<'b> {
    #[b(0)]
    kind: Option<&'b str>,
    #[cbor(n(1), with = "minicbor::bytes")]
    entity: [u8; 32],
    #[cbor(n(2), with = "minicbor::bytes")]
    lineage: [u8; 16],
    #[n(3)]
    epoch: u64,
    #[n(4)]
    through: u64,
    #[cbor(n(5), with = "minicbor::bytes")]
    link: [u8; LINK_LEN],
    #[n(6)]
    next_parent: u64,
    #[cbor(n(7), with = "minicbor::bytes")]
    horizon: Vec<u8>,
    #[n(8)]
    events_processed: u64,
    #[n(9)]
    events_emitted: u64,
    #[n(10)]
    errors: u64,
    #[n(11)]
    snapshots_taken: u64,
    #[cbor(b(12), with = "minicbor::bytes", skip_if = "nothing")]
    streams: &'b [u8],
    #[cbor(b(13), with = "minicbor::bytes", skip_if = "nothing")]
    ledger: &'b [u8],
    #[n(14)]
    created_at_ns: u64,
    #[n(15)]
    stateful: bool,
}

impl SnapshotHead {
    /// The sequence that the snapshot reaches.
    pub const fn through_seq(&self) -> Sequence {
        self.chain.link().sequence
    }

    pub(super) fn encode(&self, stateful: bool) -> Result<Vec<u8>, SnapshotError> {
        self.check()?;
        let wire = Wire {
            kind: self.kind.as_deref(),
            entity: *self.entity.as_bytes(),
            lineage: self.lineage.to_bytes(),
            epoch: self.epoch.get(),
            through: self.through_seq().get(),
            link: self.chain.link().to_bytes(),
            next_parent: self.chain.next_parent().get(),
            horizon: encode_horizon(&self.horizon),
            events_processed: self.stats.events_processed,
            events_emitted: self.stats.events_emitted,
            errors: self.stats.errors,
            snapshots_taken: self.stats.snapshots_taken,
            streams: &self.streams,
            ledger: &self.ledger,
            created_at_ns: self.created_at_ns,
            stateful,
        };
        minicbor::to_vec(&wire).map_err(|error| SnapshotError::MalformedHead(error.to_string()))
    }

    /// Reads the head, and whether there is a state. Opaque sections are copied: a slice of them would keep all
    /// of the state in memory.
    pub(super) fn decode(bytes: &Bytes) -> Result<(Self, bool), SnapshotError> {
        let mut decoder = minicbor::Decoder::new(bytes);
        let wire: Wire<'_> = decoder.decode().map_err(|error| SnapshotError::MalformedHead(error.to_string()))?;
        if decoder.position() != bytes.len() {
            return Err(SnapshotError::MalformedHead("bytes behind its end".into()));
        }
        let link = CausalLink::from_bytes(&wire.link);
        let through = Sequence::new(wire.through);
        if through != link.sequence {
            return Err(SnapshotError::SequenceMismatch { through, link: link.sequence });
        }
        let head = Self {
            kind: wire.kind.map(Arc::from),
            entity: EntityId::from_bytes(wire.entity),
            lineage: Lineage::from_bytes(wire.lineage),
            epoch: Epoch::new(wire.epoch),
            chain: ChainHead::from_parts(link, ParentHash::new(wire.next_parent)),
            horizon: decode_horizon(&wire.horizon)?,
            stats: SnapshotStats {
                events_processed: wire.events_processed,
                events_emitted: wire.events_emitted,
                errors: wire.errors,
                snapshots_taken: wire.snapshots_taken,
            },
            streams: Bytes::copy_from_slice(wire.streams),
            ledger: Bytes::copy_from_slice(wire.ledger),
            created_at_ns: wire.created_at_ns,
        };
        head.check()?;
        Ok((head, wire.stateful))
    }

    fn check(&self) -> Result<(), SnapshotError> {
        let (entity, link) = (self.entity.origin_hash(), self.chain.link().origin);
        if entity == link { Ok(()) } else { Err(SnapshotError::OriginMismatch { entity, link }) }
    }
}

/// The codec asks with a reference to the field.
fn nothing(bytes: &&[u8]) -> bool {
    bytes.is_empty()
}

/// The whole map, oldest observation first, so that the order survives.
fn encode_horizon(horizon: &Horizon) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(horizon.len() * OBSERVED_LEN);
    for (origin, sequence) in horizon.iter() {
        bytes.extend_from_slice(&origin.get().to_le_bytes());
        bytes.extend_from_slice(&sequence.get().to_le_bytes());
    }
    bytes
}

fn decode_horizon(bytes: &[u8]) -> Result<Horizon, SnapshotError> {
    let (entries, rest) = bytes.as_chunks::<OBSERVED_LEN>();
    if !rest.is_empty() || entries.len() > MAX_HORIZON_ORIGINS {
        return Err(SnapshotError::MalformedHead(format!("horizon of {} bytes", bytes.len())));
    }
    let horizon: Horizon = entries
        .iter()
        .map(|entry| {
            let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| entry[at + i]));
            (OriginHash::new(word(0)), Sequence::new(word(8)))
        })
        .collect();
    if horizon.len() == entries.len() {
        Ok(horizon)
    } else {
        Err(SnapshotError::MalformedHead("an origin twice in the horizon".into()))
    }
}
