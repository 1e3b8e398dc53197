//! What stands in a snapshot beside the daemon's own state.

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::error::SnapshotError;
use crate::causal::{CausalLink, ChainHead, Horizon, LINK_LEN, MAX_HORIZON_ORIGINS, ParentHash, Sequence};
use crate::identity::{EntityId, Epoch, Lineage, OriginHash};
use crate::wire::codec;

/// Counters that travel with a daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct SnapshotStats {
    /// Events whose handler settled without a failure.
    #[n(0)]
    pub events_processed: u64,
    /// Outputs.
    #[n(1)]
    pub events_emitted: u64,
    /// Events that failed.
    #[n(2)]
    pub errors: u64,
    /// Snapshots taken.
    #[n(3)]
    pub snapshots_taken: u64,
}

/// The head of a snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotHead {
    /// Name of the factory that makes the object.
    pub kind: String,
    /// Whose snapshot it is.
    pub entity: EntityId,
    /// The life that it was taken in.
    pub lineage: Lineage,
    /// The epoch that it was taken in.
    pub epoch: Epoch,
    /// The sequence of the daemon's chain head.
    pub through_seq: Sequence,
    /// The end of the chain, with what the next link needs.
    pub chain: ChainHead,
    /// Everything observed.
    pub horizon: Horizon,
    /// Counters.
    pub stats: SnapshotStats,
    /// Stream marks and kept replies, encoded by the layer that owns them.
    pub streams: Bytes,
    /// The subscription ledger, encoded by the layer that owns it.
    pub ledger: Bytes,
    /// When it was taken, unix nanoseconds.
    pub created_at_ns: u64,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Fields<'b> {
    #[b(0)]
    kind: &'b str,
    #[n(1)]
    entity: EntityId,
    #[n(2)]
    lineage: Lineage,
    #[n(3)]
    epoch: Epoch,
    #[n(4)]
    through_seq: u64,
    #[b(5)]
    #[cbor(with = "minicbor::bytes")]
    link: &'b [u8],
    #[n(6)]
    next_parent: u64,
    #[n(7)]
    horizon: Observed,
    #[n(8)]
    stats: SnapshotStats,
    #[b(9)]
    #[cbor(with = "minicbor::bytes")]
    streams: Option<&'b [u8]>,
    #[b(10)]
    #[cbor(with = "minicbor::bytes")]
    ledger: Option<&'b [u8]>,
    #[n(11)]
    created_at_ns: u64,
}

/// The horizon's map.
struct Observed(Vec<(u64, u64)>);

impl<C> Encode<C> for Observed {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(self.0.len() as u64)?;
        for (origin, sequence) in &self.0 {
            e.array(2)?.u64(*origin)?.u64(*sequence)?;
        }
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Observed {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        codec::bounded_array(d, MAX_HORIZON_ORIGINS as u64, "horizon").map(Self)
    }
}

impl SnapshotHead {
    pub(super) fn encode(&self) -> Vec<u8> {
        let link: [u8; LINK_LEN] = self.chain.link().to_bytes();
        codec::encode(&Fields {
            kind: &self.kind,
            entity: self.entity,
            lineage: self.lineage,
            epoch: self.epoch,
            through_seq: self.through_seq.get(),
            link: &link,
            next_parent: self.chain.next_parent().get(),
            horizon: Observed(self.horizon.iter().map(|(origin, at)| (origin.get(), at.get())).collect()),
            stats: self.stats,
            streams: Some(&*self.streams).filter(|streams| !streams.is_empty()),
            ledger: Some(&*self.ledger).filter(|ledger| !ledger.is_empty()),
            created_at_ns: self.created_at_ns,
        })
    }

    pub(super) fn decode(bytes: &Bytes) -> Result<Self, SnapshotError> {
        let fields: Fields<'_> = codec::decode(bytes).map_err(|e| SnapshotError::Head(e.to_string()))?;
        let link: &[u8; LINK_LEN] =
            fields.link.try_into().map_err(|_| SnapshotError::Head("a link of another length".into()))?;
        let link = CausalLink::from_bytes(link);
        if link.origin != fields.entity.origin_hash() {
            return Err(SnapshotError::ForeignChain { link: link.origin, entity: fields.entity.origin_hash() });
        }
        if link.sequence.get() != fields.through_seq {
            return Err(SnapshotError::SequenceMismatch { through: fields.through_seq, head: link.sequence.get() });
        }
        let mut horizon = Horizon::new();
        for (origin, sequence) in fields.horizon.0 {
            horizon.observe(OriginHash::new(origin), Sequence::new(sequence));
        }
        let section = |bytes_of: Option<&[u8]>| bytes_of.map_or_else(Bytes::new, |section| bytes.slice_ref(section));
        Ok(Self {
            kind: fields.kind.to_owned(),
            entity: fields.entity,
            lineage: fields.lineage,
            epoch: fields.epoch,
            through_seq: link.sequence,
            chain: ChainHead::from_parts(link, ParentHash::new(fields.next_parent)),
            horizon,
            stats: fields.stats,
            streams: section(fields.streams),
            ledger: section(fields.ledger),
            created_at_ns: fields.created_at_ns,
        })
    }
}
