//! What a machine keeps, counted: for tests of what is left behind, and of what has no bound.

use super::machine::ChannelMachine;
use super::throttle::AuthThrottle;

/// What a [`ChannelMachine`] keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Publications that are not over.
    pub publications: usize,
    /// Messages that wait to be sent or acknowledged.
    pub waiting: usize,
    /// Bytes of membership messages that wait to be sent.
    pub control_bytes: usize,
    /// Acknowledgements that wait to be sent.
    pub acknowledgements: usize,
    /// Bytes of large messages that have not wholly arrived.
    pub unfinished_bytes: usize,
    /// Messages that daemons have yet to take.
    pub held: usize,
    /// Bytes of them.
    pub held_bytes: usize,
    /// Messages that are kept for daemons that move.
    pub recent: usize,
    /// Bytes of them.
    pub recent_bytes: usize,
    /// Subscribers that were let in.
    pub let_in: usize,
    /// Subscribers that are found by the issuers of their tokens, once for each of these.
    pub holders: usize,
    /// Revocations that peers are to be told of.
    pub revocations: usize,
    /// Presenters of tokens whose refused attempts are remembered.
    pub refused: usize,
    /// Events that nobody has asked for.
    pub events: usize,
}

impl ChannelMachine {
    /// What is kept now.
    pub fn kept(&self) -> Kept {
        let mut kept = Kept {
            publications: self.jobs.len(),
            refused: self.throttles.values().map(AuthThrottle::len).sum(),
            events: self.events.len(),
            ..Kept::default()
        };
        for peer in self.peers.values() {
            kept.waiting += peer.waiting();
            kept.control_bytes += peer.control_bytes();
            kept.acknowledgements += peer.acks.len();
            kept.unfinished_bytes += peer.assembly.as_ref().map_or(0, |unfinished| unfinished.bytes.len());
            kept.let_in += peer.grants;
            kept.revocations += peer.revocations.len();
        }
        for subscription in self.subscriptions.values() {
            let (held, bytes) = subscription.held.size();
            (kept.held, kept.held_bytes) = (kept.held + held, kept.held_bytes + bytes);
        }
        for channel in self.channels.values() {
            let (recent, bytes) = channel.ring.size();
            kept.holders += channel.holders();
            (kept.recent, kept.recent_bytes) = (kept.recent + recent, kept.recent_bytes + bytes);
        }
        kept
    }

    /// Whether nothing waits for anybody.
    pub fn is_idle(&self) -> bool {
        let Kept { publications, waiting, control_bytes, acknowledgements, held, revocations, events, .. } =
            self.kept();
        publications + waiting + control_bytes + acknowledgements + held + revocations + events == 0
    }
}
