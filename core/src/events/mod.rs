//! Streams: how an event sent to a daemon on another node is accepted exactly once, in order, and answered once.
//!
//! A stream is (sender, sender incarnation, destination entity, lineage, opening), numbered 1, 2, 3 …. [`OutStream`] is the
//! sender's end, [`Inbound`] holds the host's ends of one daemon. Both are plain state: they are told what arrived and
//! asked what to send.

mod accounts;
mod in_stream;
mod inbound;
mod items;
mod outbound;
mod outgoing;

pub use crate::wire::events::Outputs;
pub use accounts::{Account, Accounts, Expected, MOST_HELD_BYTES, MOST_KEPT_BYTES};
pub use in_stream::{BeyondWindow, InStream, POSITION_BYTES};
pub use inbound::{Inbound, MOST_STREAMS};
pub use items::{Held, KeptReply, OutputRecord};
pub use outbound::OutStream;
pub use outgoing::{OutItem, Outgoing, Word};

/// Most positions of a stream that are sent and not accepted.
pub const WINDOW: u64 = 1024;
/// Most payload bytes of a stream that are sent and not accepted; one event may exceed it alone.
pub const WINDOW_BYTES: usize = 8 * 1024 * 1024;
/// An event beyond this goes apart, in a lane of its own: it would keep others waiting.
pub const LARGE: usize = 24 * 1024;
/// With so many bytes of replies kept for one stream, nothing more is accepted from it.
pub const KEPT_REPLY_BYTES: usize = 8 * 1024 * 1024;

/// A stream for which so little is kept goes on although too many replies are kept for its sender's other streams.
pub const LITTLE_KEPT_BYTES: usize = 64 * 1024;
/// Most outputs of one event, and of all replies in one message.
pub const MOST_OUTPUTS: usize = 65_536;
const _: () = assert!(MOST_OUTPUTS as u64 == crate::wire::events::MOST_OUTPUTS, "one event may have as many");

/// The name of a stream, for tests.
#[cfg(test)]
fn some_stream() -> crate::wire::events::StreamId {
    use crate::identity::{EntityId, Incarnation, Lineage, NodeId};
    crate::wire::events::StreamId {
        sender: NodeId::new(1),
        incarnation: Incarnation::from_bytes([1; 16]),
        entity: EntityId::from_bytes([2; 32]),
        lineage: Lineage::from_bytes([3; 16]),
        opening: crate::wire::events::Opening::new(1, 2),
    }
}

#[cfg(test)]
mod cost {
    use std::time::Duration;

    /// How many times longer something takes among `many` than among `few`. It is timed several times and the shortest counts,
    /// for others use the machine as well.
    pub(super) fn ratio(few: usize, many: usize, mut takes: impl FnMut(usize) -> Duration) -> f64 {
        // As long on the clock, so that whatever else the machine does falls on both.
        let times = u32::try_from(many / few).unwrap_or(u32::MAX);
        let mut mean = |among: usize, times: u32| {
            (0..times).map(|_| takes(among)).sum::<Duration>().as_secs_f64() / f64::from(times)
        };
        let rounds: Vec<(f64, f64)> = (0..7).map(|_| (mean(few, times), mean(many, 1))).collect();
        let shortest = |of: fn(&(f64, f64)) -> f64| rounds.iter().map(of).fold(f64::INFINITY, f64::min);
        shortest(|round| round.1) / shortest(|round| round.0)
    }
}
