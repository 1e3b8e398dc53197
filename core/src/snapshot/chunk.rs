//! How a snapshot is cut for the wire.

use std::ops::Range;

/// Bytes in each chunk but the last. A frame holds at most 65 535 bytes with its tag; this leaves room in it for the tag,
/// the record's and the message's fields.
pub const SNAPSHOT_CHUNK_LEN: usize = 60 * 1024;

const CHUNK_LEN: u64 = SNAPSHOT_CHUNK_LEN as u64;

/// Number of chunks of a snapshot; none when they cannot be counted in 32 bits.
pub fn chunk_count(total_len: u64) -> Option<u32> {
    u32::try_from(total_len.div_ceil(CHUNK_LEN)).ok()
}

/// The bytes of chunk `index`; empty behind the last one.
pub fn chunk_range(total_len: u64, index: u32) -> Range<u64> {
    let start = (u64::from(index) * CHUNK_LEN).min(total_len);
    start..(start + CHUNK_LEN).min(total_len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirement_63_the_chunk_count_is_exact_at_the_boundary() {
        assert_eq!(chunk_count(0), Some(0));
        assert_eq!(chunk_count(1), Some(1));
        assert_eq!(chunk_count(CHUNK_LEN), Some(1));
        assert_eq!(chunk_count(CHUNK_LEN + 1), Some(2));
        assert_eq!(chunk_count(u64::MAX), None);
        assert_eq!(chunk_range(CHUNK_LEN, 0), 0..CHUNK_LEN);
        assert_eq!(chunk_range(CHUNK_LEN, 1), CHUNK_LEN..CHUNK_LEN);
        assert_eq!(chunk_range(CHUNK_LEN + 1, 1), CHUNK_LEN..CHUNK_LEN + 1);
    }

    #[test]
    fn chunks_cover_everything_once() {
        for total in [1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 5 * CHUNK_LEN + 7] {
            let mut at = 0;
            for index in 0..chunk_count(total).expect("small") {
                let range = chunk_range(total, index);
                assert_eq!(range.start, at);
                assert!(range.end > at);
                at = range.end;
            }
            assert_eq!(at, total);
        }
    }
}
