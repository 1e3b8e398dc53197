//! How far a daemon has taken a stream.

/// Whether it is known where a daemon stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is not known where it begins, but behind this number: what had arrived when it asked to come in was published before,
    /// and it may have taken that when it was in before.
    Behind(u64),
    /// Everything through this number.
    Through(u64),
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
