//! How far a daemon has taken a stream, and how far all have.

use std::cmp::Ordering;

/// Whether it is known where a daemon stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is not known where it begins, but behind this number: what had arrived when it asked to come in was published before,
    /// and it may have taken that when it was in before.
    Behind(u64),
    /// Everything through this number.
    Through(u64),
}

/// How many members of a stream stand furthest back: while any of them does, everybody has taken no more than they. A new one
/// may stand further back still; that is found out when these have gone on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rear {
    through: u64,
    standing: usize,
}

impl Rear {
    /// Of members that have taken everything through these numbers.
    pub(super) fn of(members: impl Iterator<Item = u64>) -> Self {
        members.fold(Self { through: u64::MAX, standing: 0 }, |rear, through| match through.cmp(&rear.through) {
            Ordering::Less => Self { through, standing: 1 },
            Ordering::Equal => Self { standing: rear.standing + 1, ..rear },
            Ordering::Greater => rear,
        })
    }

    /// A member that had taken everything through a number has gone on; whether somebody else may stand furthest back now.
    pub(super) fn left(&mut self, through: u64) -> bool {
        if through <= self.through {
            self.standing = self.standing.saturating_sub(1);
        }
        self.standing == 0
    }
}

impl Default for Taken {
    fn default() -> Self {
        Self::Behind(0)
    }
}

impl Taken {
    /// It takes nothing through this number, or has taken it.
    pub(super) const fn floor(self) -> u64 {
        match self {
            Self::Behind(number) | Self::Through(number) => number,
        }
    }

    /// The last message that it has taken, once that is known.
    pub(super) const fn through(self) -> Option<u64> {
        match self {
            Self::Behind(_) => None,
            Self::Through(number) => Some(number),
        }
    }

    /// It leaves off where it is and comes again when everything through a number has arrived.
    pub(super) fn begin_again(&mut self, arrived: u64) {
        *self = Self::Behind(self.floor().max(arrived));
    }

    /// It begins behind this number, unless it has begun.
    pub(super) fn begin(&mut self, number: u64) {
        if let Self::Behind(floor) = *self {
            *self = Self::Through(number.max(floor));
        }
    }

    /// It has taken this message.
    pub(super) fn advance(&mut self, number: u64) {
        if number > self.floor() {
            *self = Self::Through(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_that_leaves_the_rear_is_noticed_and_nobody_else() {
        let mut rear = Rear::of([7, 5, 9, 5].into_iter());
        assert!(!rear.left(7), "it stood before them");
        assert!(!rear.left(5) && rear.left(5));
        assert!(rear.left(9), "that is not known");
        assert!(Rear::of([].into_iter()).left(1));
        let mut rear = Rear::of([5, 5].into_iter());
        assert!(!rear.left(3) && rear.left(4), "one who came later and stood behind them");
    }
}
