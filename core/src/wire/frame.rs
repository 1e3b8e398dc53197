//! The arithmetic of frames: what one Noise message can hold, and how records lie in it.
//!
//! On the wire a frame is `length u16 ‖ Noise message`; its plaintext is `lane u8 ‖ record…`; a record is
//! `subprotocol u16 ‖ length u16 ‖ body`. All numbers are little-endian.

use bytes::Bytes;

use super::Lane;

/// Largest Noise message; the protocol's own limit, and all that a two-byte length can say.
pub const MAX_MESSAGE: usize = 65_535;

/// Authentication tag at the end of a Noise message.
pub const TAG_LEN: usize = 16;

/// Length prefix in front of a Noise message.
pub const PREFIX_LEN: usize = 2;

/// Largest plaintext of a frame.
pub const MAX_PLAINTEXT: usize = MAX_MESSAGE - TAG_LEN;

/// Lane byte at the start of a plaintext.
pub const LANE_LEN: usize = 1;

/// Subprotocol and length in front of a record's body.
pub const RECORD_HEADER_LEN: usize = 4;

/// Largest body of one record. Whoever cuts something into chunks cuts it so that chunk and envelope fit in this.
pub const MAX_RECORD_BODY: usize = MAX_PLAINTEXT - LANE_LEN - RECORD_HEADER_LEN;

/// From here on a frame is worth its cost and takes no further record.
pub const FULL_ENOUGH: usize = 48 * 1024;

const _: () = assert!(MAX_MESSAGE == u16::MAX as usize, "a length prefix can say every message length");
const _: () = assert!(MAX_RECORD_BODY <= u16::MAX as usize, "a record header can say every body length");
const _: () = assert!(MAX_RECORD_BODY == 65_514, "the wire's chunk size is part of the protocol");
const _: () = assert!(FULL_ENOUGH < MAX_PLAINTEXT, "a frame can be full enough");

/// Why a decrypted frame is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Nothing inside, not even a lane.
    #[error("empty frame")]
    Empty,
    /// A lane that does not exist in this version.
    #[error("unknown lane {0}")]
    UnknownLane(u8),
    /// A record ends after the frame does.
    #[error("record is cut off")]
    Truncated,
}

/// The byte that names a lane.
pub const fn lane_byte(lane: Lane) -> u8 {
    match lane {
        Lane::Fast => 0,
        Lane::Bulk => 1,
    }
}

/// Writes the header of a record whose body is `len` bytes.
pub fn record_header(subprotocol: u16, len: u16) -> [u8; RECORD_HEADER_LEN] {
    let (id, len) = (subprotocol.to_le_bytes(), len.to_le_bytes());
    [id[0], id[1], len[0], len[1]]
}

/// Reads the lane of a plaintext and gives an iterator over its records.
pub fn read_frame(mut plaintext: Bytes) -> Result<(Lane, Records), FrameError> {
    let lane = match plaintext.first() {
        None => return Err(FrameError::Empty),
        Some(0) => Lane::Fast,
        Some(1) => Lane::Bulk,
        Some(&other) => return Err(FrameError::UnknownLane(other)),
    };
    let records = plaintext.split_off(LANE_LEN);
    Ok((lane, Records { rest: records }))
}

/// The records of a frame, as slices of it: subprotocol id and body.
#[derive(Debug)]
pub struct Records {
    rest: Bytes,
}

impl Iterator for Records {
    type Item = Result<(u16, Bytes), FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        if self.rest.len() < RECORD_HEADER_LEN {
            self.rest.clear();
            return Some(Err(FrameError::Truncated));
        }
        let header = self.rest.split_to(RECORD_HEADER_LEN);
        let id = u16::from_le_bytes([header[0], header[1]]);
        let len = usize::from(u16::from_le_bytes([header[2], header[3]]));
        if self.rest.len() < len {
            self.rest.clear();
            return Some(Err(FrameError::Truncated));
        }
        Some(Ok((id, self.rest.split_to(len))))
    }
}
