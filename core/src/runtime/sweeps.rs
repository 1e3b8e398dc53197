//! What is kept for a while is looked through now and then: streams whose senders are silent, ways out that nobody uses,
//! pointers of daemons that left. An engine that keeps nothing of the kind does not wake up.

use std::time::Duration;

use super::engine::{Engine, Now};
use super::timers::{TimerKey, Timers};

/// How often.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

impl Timers {
    /// Something begins that only a later sweep will end.
    pub(super) fn sweep_later(&mut self, now: Now) {
        self.arm(TimerKey::Sweep, now.instant + SWEEP_EVERY);
    }
}

impl Engine {
    /// Ends what was kept for long enough.
    pub(super) fn sweep(&mut self, now: Now) {
        self.sweep_streams(now);
        self.sweep_forwards(now);
        self.sweep_routes(now.instant);
        self.sweep_pointers(now);
        self.sweep_arrivals(now);
        self.sweep_placing();
        if self.keeps_for_a_while() {
            self.timers.sweep_later(now);
        }
    }

    fn keeps_for_a_while(&self) -> bool {
        !self.routes.is_empty()
            || !self.accounts.is_empty()
            || self.forwards.len() > 0
            || !self.pointers.is_empty()
            || !self.reassembler.is_empty()
            || self.placing.is_withdrawing()
            || self.daemons.iter().any(|(_, slot)| !slot.inbound.is_empty())
    }
}
