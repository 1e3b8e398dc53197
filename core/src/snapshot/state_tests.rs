//! Requirements 22, 56, 99, 104 and the format's own rules.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::layout::{ArrivingDigest, HEAD_AT};
use super::super::{SnapshotDigest, SnapshotSection, SnapshotStats};
use super::*;
use crate::causal::{CausalLink, ChainBuilder, ChainHead, Horizon, HorizonBloom, Sequence};
use crate::identity::{
    EntityId, EntityKeypair, EnvelopeContext, Epoch, Lineage, MigrationId, NodeStaticSecret, OriginHash,
};

fn daemon() -> EntityKeypair {
    EntityKeypair::from_seed(&[7; 32])
}

fn head() -> SnapshotHead {
    let mut chain = ChainBuilder::new(daemon().origin_hash());
    let mut horizon = Horizon::new();
    for sequence in 1..=5 {
        horizon.observe(OriginHash::new(sequence * 31), Sequence::new(sequence));
        chain.append(&[1, 2, 3], horizon.summary()).expect("room");
    }
    SnapshotHead {
        kind: Some(Arc::from("counter")),
        entity: daemon().entity_id(),
        lineage: Lineage::new(77),
        epoch: Epoch::new(3),
        chain: *chain.head(),
        horizon,
        stats: SnapshotStats { events_processed: 5, events_emitted: 5, errors: 1, snapshots_taken: 2 },
        streams: Bytes::from_static(b"marks"),
        ledger: Bytes::from_static(b"subscriptions"),
        created_at_ns: 1_700_000_000_000_000_000,
    }
}

fn envelope() -> IdentityEnvelope {
    let node = NodeStaticSecret::derive(&EntityKeypair::from_seed(&[9; 32])).expect("full");
    let context = EnvelopeContext {
        link: [0; 32],
        migration: MigrationId::new(1),
        epoch: Epoch::FIRST,
        snapshot_digest: [0; 32],
    };
    IdentityEnvelope::seal(&daemon(), node.public(), &context).expect("sealable")
}

fn snapshot() -> StateSnapshot {
    StateSnapshot { head: head(), state: Some(Bytes::from_static(b"state")), envelope: Some(envelope()) }
}

/// Sets the checksum anew, as somebody who means it would.
fn resealed(mut bytes: Vec<u8>) -> Bytes {
    let body = bytes.len() - CHECKSUM_LEN;
    let checksum = xxh3_64(&bytes[..body]);
    bytes[body..].copy_from_slice(&checksum.to_le_bytes());
    Bytes::from(bytes)
}

#[test]
fn a_snapshot_round_trips() {
    let whole = snapshot();
    for (state, envelope) in [
        (whole.state.clone(), whole.envelope.clone()),
        (Some(Bytes::new()), None),
        (None, None),
        (None, whole.envelope.clone()),
    ] {
        let snapshot = StateSnapshot { state, envelope, ..whole.clone() };
        let bytes = snapshot.encode().expect("encodable");
        assert_eq!(StateSnapshot::decode(&bytes), Ok(snapshot));
    }
}

#[test]
fn requirement_22_through_seq_is_the_number_of_outputs() {
    let bytes = snapshot().encode().expect("encodable");
    assert_eq!(StateSnapshot::decode(&bytes).expect("good").head.through_seq(), Sequence::new(5));
}

#[test]
fn hazard_36_chain_and_horizon_go_on_after_a_restore() {
    let here = head();
    let bytes = snapshot().encode().expect("encodable");
    let there = StateSnapshot::decode(&bytes).expect("good").head;
    let [mut source, mut target] = [&here, &there].map(|head| ChainBuilder::resume(head.chain));
    assert_eq!(source.append(b"next", HorizonBloom::EMPTY), target.append(b"next", HorizonBloom::EMPTY));
    assert_eq!(here.horizon.summary(), there.horizon.summary());
    assert_eq!(there.horizon.get(OriginHash::new(62)), Some(Sequence::new(2)));
}

#[test]
fn the_state_is_a_slice_and_not_a_copy() {
    let bytes = snapshot().encode().expect("encodable");
    let state = StateSnapshot::decode(&bytes).expect("good").state.expect("stateful");
    let whole = bytes.as_ptr_range();
    assert!(whole.contains(&state.as_ptr()));
}

#[test]
fn requirement_56_empty_sections_cost_no_bytes() {
    let with = |ledger: &'static [u8], streams: &'static [u8]| {
        let head = SnapshotHead { ledger: ledger.into(), streams: streams.into(), ..head() };
        head.encode(true).expect("encodable").len()
    };
    let none = with(b"", b"");
    // Key, header and content.
    assert_eq!(with(b"x", b""), none + 3);
    assert_eq!(with(b"x", b"y"), none + 6);
    let without_kind = SnapshotHead { kind: None, ..head() }.encode(true).expect("encodable").len();
    assert_eq!(without_kind + 1 + 1 + "counter".len(), head().encode(true).expect("encodable").len());
}

#[test]
fn streaming_gives_the_same_bytes_and_the_digest_excludes_the_envelope() {
    let snapshot = snapshot();
    let expected = snapshot.encode().expect("encodable");
    let (mut writer, prefix) = SnapshotWriter::new(&snapshot.head, Some(5)).expect("fits");
    assert_eq!(writer.total_len(true), expected.len() as u64);
    for slice in [&b"s"[..], b"", b"tat", b"e"] {
        writer.state_slice(slice).expect("announced");
    }
    let digest = writer.digest().expect("complete");
    let (suffix, at_the_end) = writer.finish(snapshot.envelope.as_ref()).expect("complete");
    assert_eq!([&prefix[..], b"state", &suffix].concat(), expected);
    assert_eq!(digest, at_the_end);

    let unsealed = StateSnapshot { envelope: None, ..snapshot }.encode().expect("encodable");
    assert_eq!(SnapshotDigest::of(&expected), Ok(digest));
    assert_eq!(SnapshotDigest::of(&unsealed), Ok(digest));
}

#[test]
fn a_state_of_another_length_than_announced_is_refused() {
    let (mut writer, _) = SnapshotWriter::new(&head(), Some(3)).expect("fits");
    assert_eq!(writer.digest(), Err(SnapshotError::StateLengthMismatch { announced: 3, got: 0 }));
    assert_eq!(writer.state_slice(b"four"), Err(SnapshotError::StateLengthMismatch { announced: 3, got: 4 }));
    assert_eq!(writer.state_slice(b"ok"), Ok(()), "the refused slice changed nothing");
    assert_eq!(writer.finish(None).err(), Some(SnapshotError::StateLengthMismatch { announced: 3, got: 2 }));
}

#[test]
fn a_state_of_4_gib_is_an_error_and_no_panic() {
    let len = 1 << 32;
    let error = SnapshotWriter::new(&head(), Some(len)).err();
    let section = SnapshotSection::State;
    assert_eq!(error, Some(SnapshotError::LengthOutOfBounds { section, len, max: u64::from(u32::MAX) }));
    assert!(SnapshotWriter::new(&head(), Some(len - 1)).is_ok());
}

#[test]
fn requirement_68_a_wrong_beginning_is_not_a_snapshot() {
    assert_eq!(StateSnapshot::decode(&Bytes::from_static(b"{\"json\":1}")), Err(SnapshotError::BadMagic));
    let got = StateSnapshot::decode(&Bytes::new());
    assert_eq!(got, Err(SnapshotError::Truncated { needed: 10, got: 0 }));
}

#[test]
fn requirement_104_an_unreadable_version_is_named_with_ours() {
    let mut bytes = snapshot().encode().expect("encodable").to_vec();
    bytes[8] = 0x2c;
    bytes[9] = 0x01;
    let error = StateSnapshot::decode(&resealed(bytes)).expect_err("newer");
    assert_eq!(error, SnapshotError::UnsupportedVersion { got: 300, supported: 1 });
    let text = error.to_string();
    assert!(text.contains("300") && text.contains('1'), "{text}");
}

#[test]
fn requirement_104_every_truncation_and_every_trailing_byte_is_refused() {
    let bytes = snapshot().encode().expect("encodable");
    for len in 0..bytes.len() {
        let error = StateSnapshot::decode(&bytes.slice(..len)).expect_err("cut off");
        let fits = matches!(error, SnapshotError::Truncated { .. } | SnapshotError::LengthOutOfBounds { .. });
        assert!(fits, "{len}: {error:?}");
    }
    let longer = Bytes::from([&bytes[..], &[0, 0]].concat());
    assert_eq!(StateSnapshot::decode(&longer), Err(SnapshotError::TrailingBytes(2)));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = snapshot().encode().expect("encodable");
    for at in 0..bytes.len() {
        let mut bad = bytes.to_vec();
        bad[at] ^= 0x40;
        assert!(StateSnapshot::decode(&Bytes::from(bad)).is_err(), "byte {at}");
    }
    let mut bad = bytes.to_vec();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    assert_eq!(StateSnapshot::decode(&Bytes::from(bad)), Err(SnapshotError::ChecksumMismatch));
}

#[test]
fn a_claimed_length_is_checked_against_what_is_there() {
    let mut bytes = snapshot().encode().expect("encodable").to_vec();
    bytes[HEAD_AT - 4..HEAD_AT].copy_from_slice(&u32::MAX.to_le_bytes());
    let max = (bytes.len() - HEAD_AT) as u64;
    let section = SnapshotSection::Head;
    let len = u64::from(u32::MAX);
    assert_eq!(StateSnapshot::decode(&resealed(bytes)), Err(SnapshotError::LengthOutOfBounds { section, len, max }));
}

#[test]
fn requirements_99_100_the_link_must_be_of_the_entity() {
    let other = EntityId::from_bytes([8; 32]);
    let (entity, link) = (other.origin_hash(), daemon().origin_hash());
    let head = SnapshotHead { entity: other, ..head() };
    let mismatch = SnapshotError::OriginMismatch { entity, link };
    assert_eq!(head.encode(true), Err(mismatch.clone()));
    // Written by somebody who does not check.
    let mut bytes = snapshot().encode().expect("encodable").to_vec();
    let at = position(&bytes, daemon().entity_id().as_bytes());
    bytes[at..at + 32].copy_from_slice(&[8; 32]);
    assert_eq!(StateSnapshot::decode(&resealed(bytes)), Err(mismatch));
}

#[test]
fn requirements_69_104_through_seq_must_be_that_of_the_link() {
    let mut bytes = snapshot().encode().expect("encodable").to_vec();
    let link = head().chain.link().to_bytes();
    let at = position(&bytes, &link);
    bytes[at + 16] = 6;
    let (through, link) = (Sequence::new(5), Sequence::new(6));
    assert_eq!(StateSnapshot::decode(&resealed(bytes)), Err(SnapshotError::SequenceMismatch { through, link }));
}

#[test]
fn a_stateless_daemon_has_no_state() {
    let encoded = head().encode(false).expect("encodable");
    let (mut writer, prefix) = SnapshotWriter::new(&head(), Some(2)).expect("fits");
    writer.state_slice(b"no").expect("announced");
    let (suffix, _) = writer.finish(None).expect("complete");
    let mut bytes = [&prefix[..], b"no", &suffix].concat();
    bytes[HEAD_AT..HEAD_AT + encoded.len()].copy_from_slice(&encoded);
    assert_eq!(StateSnapshot::decode(&resealed(bytes)), Err(SnapshotError::StateOfStateless(2)));
}

#[test]
fn an_origin_twice_in_the_horizon_or_half_an_entry_is_refused() {
    let mut bytes = snapshot().encode().expect("encodable").to_vec();
    let at = position(&bytes, &31u64.to_le_bytes());
    bytes[at..at + 8].copy_from_slice(&62u64.to_le_bytes());
    assert!(matches!(StateSnapshot::decode(&resealed(bytes)), Err(SnapshotError::MalformedHead(_))));
}

#[test]
fn an_unknown_field_of_a_newer_minor_is_skipped() {
    let bytes = snapshot().encode().expect("encodable");
    let head_len = head().encode(true).expect("encodable").len();
    let mut newer = bytes.to_vec();
    // A map of 16 pairs is a one-byte count in byte 1; add a pair: key 200, a nested value.
    assert_eq!(newer[HEAD_AT], 0xb0, "a map of 16 in a single byte");
    let body = newer[HEAD_AT + 1..HEAD_AT + head_len].to_vec();
    let grown = [&[0xb1][..], &body, &[0x18, 200, 0x82, 0x01, 0x61, b'x']].concat();
    // 17 needs no other header: counts up to 23 are in the first byte.
    let len = u32::try_from(grown.len()).expect("small").to_le_bytes();
    newer.splice(HEAD_AT - 4..HEAD_AT + head_len, [&len[..], &grown].concat());
    assert_eq!(StateSnapshot::decode(&resealed(newer)), Ok(snapshot_with(&bytes)));
}

fn snapshot_with(bytes: &Bytes) -> StateSnapshot {
    StateSnapshot::decode(bytes).expect("good")
}

fn position(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).expect("is there")
}

fn any_head() -> impl Strategy<Value = SnapshotHead> {
    let section = || proptest::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
    (
        proptest::option::of("[a-zA-Zäß0-9 ]{0,20}"),
        any::<([u8; 32], u128, u64, u64, u64, u64)>(),
        proptest::collection::btree_map(any::<u64>(), any::<u64>(), 0..50),
        any::<[u64; 4]>(),
        section(),
        section(),
    )
        .prop_map(|(kind, (entity, lineage, epoch, sequence, parent, at), observed, counters, streams, ledger)| {
            let entity = EntityId::from_bytes(entity);
            let link = CausalLink {
                sequence: Sequence::new(sequence),
                horizon: HorizonBloom::new(at),
                ..CausalLink::genesis(entity.origin_hash())
            };
            let [events_processed, events_emitted, errors, snapshots_taken] = counters;
            SnapshotHead {
                kind: kind.map(Arc::from),
                entity,
                lineage: Lineage::new(lineage),
                epoch: Epoch::new(epoch),
                chain: ChainHead::from_parts(link, crate::causal::ParentHash::new(parent)),
                horizon: observed.into_iter().map(|(o, s)| (OriginHash::new(o), Sequence::new(s))).collect(),
                stats: SnapshotStats { events_processed, events_emitted, errors, snapshots_taken },
                streams,
                ledger,
                created_at_ns: at,
            }
        })
}

proptest! {
    #[test]
    fn any_snapshot_round_trips_and_its_digest_can_be_taken_on_arrival(
        head in any_head(),
        state in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..3000)),
        sealed: bool,
        step in 1..600usize,
    ) {
        let snapshot =
            StateSnapshot { head, state: state.map(Bytes::from), envelope: sealed.then(envelope) };
        let bytes = snapshot.encode().expect("encodable");
        prop_assert_eq!(StateSnapshot::decode(&bytes), Ok(snapshot));
        let mut arriving = ArrivingDigest::default();
        for end in (0..bytes.len()).step_by(step).chain([bytes.len()]) {
            arriving.advance(&bytes[..end]);
        }
        prop_assert_eq!(Ok(arriving.finish(&bytes)), SnapshotDigest::of(&bytes));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut arriving = ArrivingDigest::default();
        arriving.advance(&bytes[..bytes.len() / 2]);
        arriving.advance(&bytes);
        prop_assert!(StateSnapshot::decode(&Bytes::from(bytes)).is_err());
    }

    #[test]
    fn arbitrary_heads_behind_good_framing_never_panic(head in proptest::collection::vec(any::<u8>(), 0..300)) {
        let framed = [
            b"MESHSNAP\x01\x00".as_slice(),
            &u32::try_from(head.len()).expect("small").to_le_bytes(),
            &head,
            &[0; 8],
            &[0; CHECKSUM_LEN],
        ]
        .concat();
        let decoded = StateSnapshot::decode(&resealed(framed));
        let malformed = matches!(decoded, Err(SnapshotError::MalformedHead(_)));
        prop_assert!(malformed, "{:?}", decoded);
    }

    #[test]
    fn a_changed_byte_of_a_good_head_never_panics(at: prop::sample::Index, to: u8) {
        let mut bytes = snapshot().encode().expect("encodable").to_vec();
        let head_len = head().encode(true).expect("encodable").len();
        bytes[HEAD_AT + at.index(head_len)] = to;
        // Whether it is an error depends on the byte; it must come to an end.
        drop(StateSnapshot::decode(&resealed(bytes)));
    }
}
