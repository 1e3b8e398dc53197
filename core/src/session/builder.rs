//! The frame that is being filled.

use crate::wire::frame::{FULL_ENOUGH, LANE_LEN, MAX_PLAINTEXT, RECORD_HEADER_LEN, lane_byte, record_header};
use crate::wire::{Lane, Subprotocol};

/// The plaintext of one frame while records are written into it. Its memory is reused.
#[derive(Debug)]
pub struct FrameBuilder {
    plaintext: Vec<u8>,
    bodies: usize,
}

impl FrameBuilder {
    /// An empty frame of the fast lane.
    pub fn new() -> Self {
        let mut frame = Self { plaintext: Vec::new(), bodies: 0 };
        frame.reset(Lane::Fast);
        frame
    }

    /// Empties the frame and names its lane.
    pub fn reset(&mut self, lane: Lane) {
        self.plaintext.clear();
        self.plaintext.push(lane_byte(lane));
        self.bodies = 0;
    }

    /// Whether no record is inside.
    pub fn is_empty(&self) -> bool {
        self.plaintext.len() <= LANE_LEN
    }

    /// Sum of the bodies inside.
    pub const fn bodies(&self) -> usize {
        self.bodies
    }

    /// What to seal.
    pub fn plaintext(&self) -> &[u8] {
        &self.plaintext
    }

    /// Bytes of body that still fit as one record; none in a frame that is full enough.
    pub fn room(&self) -> usize {
        if self.plaintext.len() >= FULL_ENOUGH {
            return 0;
        }
        MAX_PLAINTEXT - self.plaintext.len() - RECORD_HEADER_LEN
    }

    /// Writes one record by letting `encode` append its body. A body larger than the room is taken back.
    pub fn record(&mut self, subprotocol: Subprotocol, encode: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
        let room = self.room();
        if room == 0 {
            return None;
        }
        let start = self.plaintext.len();
        self.plaintext.extend_from_slice(&[0; RECORD_HEADER_LEN]);
        encode(&mut self.plaintext);
        let len = self.plaintext.len().checked_sub(start + RECORD_HEADER_LEN)?;
        match u16::try_from(len) {
            Ok(short) if len <= room => {
                let header = record_header(subprotocol.id(), short);
                self.plaintext[start..start + RECORD_HEADER_LEN].copy_from_slice(&header);
                self.bodies += len;
                Some(len)
            }
            _ => {
                self.plaintext.truncate(start);
                // A body of any size may have been tried; its memory is not kept.
                self.plaintext.shrink_to(2 * MAX_PLAINTEXT);
                None
            }
        }
    }
}

impl Default for FrameBuilder {
    fn default() -> Self {
        Self::new()
    }
}
