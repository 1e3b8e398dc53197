//! Events that run on their caller's own stack, in the same environment, without a mailbox.
//!
//! The embedder asks once whether a daemon is idle ([`Engine::direct_begin`]), runs events as they come, tells afterwards
//! what came of them ([`Engine::direct_ran`]), and gives the daemon back ([`Engine::direct_over`]) before the turn of its
//! thread ends. Meanwhile the daemon counts as running, so a freeze, a control operation or an event from elsewhere waits.

use std::time::Duration;

use bytes::Bytes;

use super::engine::{Engine, Now};
use super::error::RuntimeError;
use super::routes::Route;
use super::run::too_many_outputs;
use crate::causal::CausalLink;
use crate::daemon::{BatchId, DaemonKey, Delivery, Expiry, InFlight, Presence, ReplyTo, Running, Ticket};

/// A chain with less room than this is not given out: nobody could be told any more that an event found it full.
const CHAIN_ROOM: u64 = 1 << 32;

impl Engine {
    /// Whether events of callers in the same environment may run on their callers' stacks: how many of at most `most`.
    /// None unless nothing waits or runs; and a snapshot that is due between two of them takes its turn.
    pub fn direct_begin(&mut self, key: DaemonKey, most: u32) -> u32 {
        let Some(origin) = self.slot(key).map(|slot| slot.host.origin) else { return 0 };
        // What callers here sent while the daemon was elsewhere, or had no room, goes first.
        if self.routes.get(&origin).is_some_and(Route::has_unaccepted) {
            return 0;
        }
        let Some(slot) = self.slot_mut(key) else { return 0 };
        let host = &mut slot.host;
        if !host.may_run_directly() || host.chain.head().link().sequence.get() > u64::MAX - CHAIN_ROOM {
            return 0;
        }
        host.running = Running::Direct;
        host.before_snapshot().and_then(|count| u32::try_from(count).ok()).map_or(most, |count| count.min(most))
    }

    /// One of them ran: its outputs, whose links are left in `links`, or none when the daemon's code failed it.
    pub fn direct_ran(
        &mut self,
        key: DaemonKey,
        link: CausalLink,
        outputs: Option<&[&[u8]]>,
        links: &mut Vec<CausalLink>,
    ) -> Result<(), RuntimeError> {
        let max = self.options.max_payload;
        let Some(slot) = self.slot_mut(key) else { return Err(RuntimeError::ShuttingDown) };
        let host = &mut slot.host;
        host.horizon.observe(link.origin, link.sequence);
        let result = match outputs {
            None => {
                host.stats.errors += 1;
                Ok(())
            }
            Some(outputs) => {
                let larger = outputs.iter().map(|output| output.len() as u64).find(|size| *size > max);
                let emitted = match (too_many_outputs(outputs.len()), larger) {
                    (Some(message), _) => Err(RuntimeError::InvalidOutput(message)),
                    (None, Some(size)) => Err(RuntimeError::PayloadTooLarge { size, max }),
                    (None, None) => host.emit(outputs, links).map_err(|e| RuntimeError::HostFailed(e.to_string())),
                };
                host.stats.errors += u64::from(emitted.is_err());
                emitted
            }
        };
        host.count_towards_snapshot();
        result
    }

    /// No more of them run now. Whatever waited meanwhile may begin.
    pub fn direct_over(&mut self, key: DaemonKey, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        if !matches!(slot.host.running, Running::Direct) {
            return;
        }
        slot.host.running = Running::Idle;
        if !slot.host.mailbox.is_empty()
            || !slot.host.control.is_empty()
            || !matches!(slot.host.presence, Presence::Live)
        {
            self.pump(key, now);
        }
    }

    /// One did not settle at once: from here on it is a batch of one, watched like any other. `timeout` is how long its
    /// caller waits at most.
    pub fn direct_suspend(
        &mut self,
        key: DaemonKey,
        ticket: Ticket,
        link: CausalLink,
        timeout: Option<Duration>,
        now: Now,
    ) -> Option<BatchId> {
        let slot = self.slot_mut(key)?;
        if !matches!(slot.host.running, Running::Direct) {
            return None;
        }
        let id = slot.host.next_batch_id();
        let delivery = Delivery {
            link,
            // The object has its payload already.
            payload: Bytes::new(),
            received_at: now.unix_ns,
            channel: None,
            reply: ReplyTo::Local(ticket),
            expires: timeout.map(|timeout| Expiry { at: now.instant + timeout, timeout }),
            accepted_at: now.instant,
            withdrawn: false,
        };
        let events = std::iter::once(delivery).collect();
        slot.host.count_direct();
        let batch = InFlight { id, events, progress_at: now.instant, timed_out: false };
        slot.host.running = Running::Batch(Box::new(batch));
        self.arm_callback_timeout(key, now);
        if let Some(timeout) = timeout {
            self.timers.arm(super::timers::TimerKey::Daemon(key), now.instant + timeout);
        }
        Some(id)
    }

    /// Numbers events that this node emits to daemons of its own: the link of the first of them.
    pub fn reserve_links(&mut self, count: u64) -> CausalLink {
        let first = self.own_link();
        self.sequence += count.saturating_sub(1);
        first
    }

    /// Takes back the last numbers that were reserved, before any other is given out.
    pub fn return_links(&mut self, count: u64) {
        self.sequence = self.sequence.saturating_sub(count);
    }
}
