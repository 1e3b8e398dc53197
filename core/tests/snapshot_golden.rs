//! Snapshots of every released version of the format keep loading, and this version writes what it always wrote.
//!
//! `golden/snapshot-v1.bin` must never change. It and its digest were made by another implementation (Python with its own
//! CBOR, BLAKE3 and xxh3), so that they also hold the written format to its description.

use std::sync::Arc;

use bytes::Bytes;
use mesh_daemon_core::causal::{ChainBuilder, Horizon, Sequence};
use mesh_daemon_core::identity::{EntityKeypair, Epoch, Lineage, OriginHash};
use mesh_daemon_core::snapshot::{SnapshotDigest, SnapshotHead, SnapshotStats, StateSnapshot};

static VERSION_1: &[u8] = include_bytes!("golden/snapshot-v1.bin");

const DIGEST_1: &str = "f86eda4a569624adb8a1f2b7df9a7c0668bc146f5555f91b8be62db834411494";

fn contents_of_version_1() -> StateSnapshot {
    let daemon = EntityKeypair::from_seed(&std::array::from_fn(|i| u8::try_from(i).expect("32 fits")));
    let mut horizon = Horizon::new();
    let mut chain = ChainBuilder::new(daemon.origin_hash());
    for (emitter, sequence) in [(0xfeed, 9), (0xbeef, 4), (0xfeed, 10)] {
        horizon.observe(OriginHash::new(emitter), Sequence::new(sequence));
        chain.append(b"output", horizon.summary()).expect("a young chain");
    }
    StateSnapshot {
        head: SnapshotHead {
            kind: Some(Arc::from("counter")),
            entity: daemon.entity_id(),
            lineage: Lineage::new(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
            epoch: Epoch::new(4),
            chain: *chain.head(),
            horizon,
            stats: SnapshotStats { events_processed: 3, events_emitted: 3, errors: 1, snapshots_taken: 2 },
            streams: Bytes::from_static(b"streams"),
            ledger: Bytes::from_static(b"ledger"),
            created_at_ns: 1_767_225_600_000_000_000,
        },
        state: Some(Bytes::from_static(b"{\"count\":3}")),
        envelope: None,
    }
}

#[test]
fn version_1_keeps_loading() {
    let decoded = StateSnapshot::decode(&Bytes::from_static(VERSION_1)).expect("a released version");
    assert_eq!(decoded, contents_of_version_1());
    assert_eq!(decoded.head.through_seq(), Sequence::new(3));
}

#[test]
fn version_1_is_written_as_ever() {
    assert_eq!(contents_of_version_1().encode().expect("encodable"), VERSION_1);
}

#[test]
fn the_digest_of_version_1_is_that_of_another_implementation() {
    let digest = SnapshotDigest::of(VERSION_1).expect("well formed");
    let bytes: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&DIGEST_1[2 * i..2 * i + 2], 16).expect("hex")).collect();
    assert_eq!(digest.as_bytes().as_slice(), bytes);
}
