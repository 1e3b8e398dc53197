//! Bytes that wait in a circuit.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// A smaller piece is copied behind the others: so it neither takes a place of its own nor keeps the frame alive that it came
/// in, and what is kept is at most about twice what is counted.
const WORTH_KEEPING: usize = 32 * 1024;

/// Bytes in their order. However small the pieces are that they come in, they take about as much memory as they are.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    whole: VecDeque<Bytes>,
    /// Behind those.
    small: BytesMut,
    len: usize,
}

impl Pieces {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn push(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        let small = bytes.len() < WORTH_KEEPING;
        let joins = small && self.small.len() + bytes.len() <= WORTH_KEEPING;
        if !joins && !self.small.is_empty() {
            self.whole.push_back(std::mem::take(&mut self.small).freeze());
        }
        if small {
            self.small.extend_from_slice(&bytes);
        } else {
            self.whole.push_back(bytes);
        }
    }

    /// The next bytes, at most `room`; none when there are none.
    pub(super) fn take(&mut self, room: usize) -> Option<Bytes> {
        let next = match self.whole.front_mut() {
            Some(first) if first.len() <= room => self.whole.pop_front()?,
            Some(first) => first.split_to(room),
            None if self.small.is_empty() => return None,
            // Its memory goes with it.
            None if self.small.len() <= room => std::mem::take(&mut self.small).freeze(),
            None => self.small.split_to(room).freeze(),
        };
        self.len -= next.len();
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_come_one_by_one_take_no_place_each() {
        let mut pieces = Pieces::default();
        for _ in 0..4 * WORTH_KEEPING {
            pieces.push(Bytes::from_static(b"x"));
        }
        assert_eq!(pieces.len(), 4 * WORTH_KEEPING);
        assert!(pieces.whole.len() <= 4, "{} pieces", pieces.whole.len());
        assert!(pieces.small.capacity() <= 2 * WORTH_KEEPING);
    }

    #[test]
    fn bytes_come_out_in_order_whatever_the_sizes() {
        let mut pieces = Pieces::default();
        let bytes: Vec<u8> = (0..200_000_u32).map(|at| u8::try_from(at % 251).expect("below 256")).collect();
        let mut rest = Bytes::from(bytes.clone());
        for size in [1, 40_000, 5, 30_000, 30_000, 7, 65_000] {
            pieces.push(rest.split_to(size));
        }
        pieces.push(rest);
        let mut out = Vec::new();
        for room in [1, 3, 39_999, 70_000, 2].into_iter().cycle() {
            let Some(piece) = pieces.take(room) else { break };
            assert!(!piece.is_empty() && piece.len() <= room);
            out.extend_from_slice(&piece);
        }
        assert!(out == bytes && pieces.is_empty());
    }
}
