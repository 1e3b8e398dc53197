//! Snapshots whole and in chunks, and the streams inside them.

use std::collections::HashMap;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use mesh_daemon_core::events::Inbound;
use mesh_daemon_core::identity::{MigrationId, NodeId, OriginHash};
use mesh_daemon_core::snapshot::{
    ChunkOutcome, Reservation, SNAPSHOT_CHUNK_LEN, SnapshotDigest, SnapshotReassembler, StateSnapshot, TransferId,
    TransferKey, chunk_count, chunk_range,
};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

/// A snapshot, as it is and with its checksum put right: the checksum keeps no attacker out.
pub fn snapshot(data: &[u8]) -> bool {
    let whole = Bytes::copy_from_slice(data);
    let mut corrected = data.to_vec();
    if let Some((body, checksum)) = corrected.split_last_chunk_mut::<8>() {
        *checksum = xxh3_64(body).to_le_bytes();
        let accepted = read_snapshot(&Bytes::from(corrected));
        assert!(accepted || StateSnapshot::decode(&whole).is_err(), "what is valid has a right checksum");
    }
    read_snapshot(&whole)
}

fn read_snapshot(bytes: &Bytes) -> bool {
    let digest = SnapshotDigest::of(bytes);
    let Ok(snapshot) = StateSnapshot::decode(bytes) else { return false };
    assert!(digest.is_ok(), "what decodes has a digest");
    let written = snapshot.encode().expect("what was read can be written");
    assert_eq!(StateSnapshot::decode(&written).as_ref(), Ok(&snapshot));
    streams(&snapshot.head.streams);
    true
}

/// Marks and kept replies of a daemon's streams.
pub fn streams(data: &[u8]) -> bool {
    let bytes = Bytes::copy_from_slice(data);
    let (via, now) = (NodeId::new(7), Instant::now());
    let Ok((mut inbound, _)) = Inbound::decode(&bytes, via, usize::MAX, now) else { return false };
    let written = inbound.encode();
    let (again, _) =
        Inbound::decode(&Bytes::from(written.clone()), via, usize::MAX, now).expect("what was written is read");
    assert_eq!(again.encode(), written);
    let streams: Vec<_> = inbound.iter().map(|(key, stream)| (key, stream.id, stream.accepted())).collect();
    for (key, id, accepted) in streams {
        let stream = inbound.get_mut(key).expect("it was listed");
        stream.repeat();
        let replies = stream.unsent().count();
        stream.sent(replies);
        stream.advance(accepted + 2);
        stream.acknowledge(accepted);
        inbound.close(&id);
    }
    assert!(inbound.is_empty());
    true
}

const BUDGET: u64 = 4 * SNAPSHOT_CHUNK_LEN as u64;
const SILENCE: Duration = Duration::from_secs(30);

#[derive(Arbitrary, Debug)]
enum Operation {
    Reserve {
        id: Id,
        len: Length,
    },
    /// The chunk that is due, or one that is not.
    Chunk {
        id: Id,
        index: u8,
        right: bool,
        total: u8,
        len: Length,
    },
    Release(Id),
    Touch(Id),
    Wait(u16),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Id {
    origin: bool,
    migration: bool,
    attempt: u8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Length {
    /// Just around a number of chunks.
    Chunks {
        chunks: u8,
        off_by: i8,
    },
    Any(u64),
}

impl Length {
    fn get(self) -> u64 {
        match self {
            Self::Chunks { chunks, off_by } => {
                (u64::from(chunks % 8) * SNAPSHOT_CHUNK_LEN as u64).saturating_add_signed(i64::from(off_by))
            }
            Self::Any(len) => len,
        }
    }
}

impl Id {
    fn transfer(self) -> TransferId {
        let (origin, migration) = (u64::from(self.origin), u128::from(self.migration));
        let key = TransferKey { origin: OriginHash::new(origin), migration: MigrationId::new(migration) };
        TransferId { key, attempt: u32::from(self.attempt % 4) }
    }
}

/// Any operations on a reassembler: memory stays within the budget, and what is complete is what was sent.
pub fn reassembler(data: &[u8]) -> bool {
    let mut input = Unstructured::new(data);
    let mut now = Instant::now();
    let mut arriving = SnapshotReassembler::new(BUDGET, SILENCE);
    let mut reserved: HashMap<TransferId, u64> = HashMap::new();
    let mut completed = false;
    for _ in 0..200 {
        if input.is_empty() {
            break;
        }
        let Ok(operation) = Operation::arbitrary(&mut input) else { break };
        let before = (arriving.live_bytes(), arriving.len());
        match operation {
            Operation::Reserve { id, len } => {
                let (id, len) = (id.transfer(), len.get());
                match arriving.reserve(id, len, now) {
                    Ok(Reservation::Granted | Reservation::Waiting) => {
                        reserved.insert(id, len);
                    }
                    Ok(Reservation::TooLarge { size, max }) => assert!(size == len && max == BUDGET && len > BUDGET),
                    Err(_) => assert!(arriving.live_bytes() <= before.0, "a refusal reserves nothing"),
                }
            }
            Operation::Chunk { id, index, right, total, len } => {
                let id = id.transfer();
                let whole = reserved.get(&id).copied().unwrap_or(BUDGET);
                let (total, len) = if right {
                    let range = chunk_range(whole, u32::from(index % 5));
                    (chunk_count(whole).unwrap_or(0), range.end - range.start)
                } else {
                    (u32::from(total), len.get().min(2 * SNAPSHOT_CHUNK_LEN as u64))
                };
                let index = if right { u32::from(index % 5) } else { u32::from(index) };
                let bytes = vec![fill(id, index); usize::try_from(len).expect("two chunks at most")];
                match arriving.chunk(id, index, total, &bytes, now) {
                    Ok(ChunkOutcome::Complete { snapshot, .. }) => {
                        completed = true;
                        assert_eq!(snapshot.len() as u64, whole);
                        for (at, chunk) in (0..).zip(snapshot.chunks(SNAPSHOT_CHUNK_LEN)) {
                            assert!(chunk.iter().all(|byte| *byte == fill(id, at)), "chunks of attempts never mix");
                        }
                    }
                    Ok(ChunkOutcome::Progress { received, total }) => assert!(received < total),
                    Ok(ChunkOutcome::Duplicate) => {}
                    Err(_) => assert!(arriving.live_bytes() <= before.0),
                }
            }
            Operation::Release(id) => {
                arriving.release(id.transfer());
            }
            Operation::Touch(id) => arriving.touch(id.transfer(), now),
            Operation::Wait(millis) => {
                now += Duration::from_millis(u64::from(millis));
                arriving.sweep(now);
                assert!(arriving.next_deadline().is_none_or(|at| at > now), "a sweep leaves nothing that is due");
            }
        }
        assert!(arriving.live_bytes() <= BUDGET, "memory is within the budget");
        assert!(arriving.len() <= 4, "one transfer for each migration");
        while arriving.poll_event().is_some() {}
    }
    // Whatever was done, silence and release leave nothing behind.
    arriving.sweep(now + 2 * SILENCE);
    // Waiting ones may have been granted just then.
    arriving.sweep(now + 4 * SILENCE);
    assert!(arriving.is_empty());
    for id in reserved.into_keys() {
        arriving.release(id);
    }
    assert_eq!(arriving.live_bytes(), 0);
    completed
}

/// What the chunks of an attempt are filled with.
fn fill(id: TransferId, index: u32) -> u8 {
    let [origin, ..] = id.key.origin.get().to_le_bytes();
    let [migration, ..] = id.key.migration.get().to_le_bytes();
    let ([attempt, ..], [index, ..]) = (id.attempt.to_le_bytes(), index.to_le_bytes());
    origin << 7 | migration << 6 | attempt << 4 | index
}
