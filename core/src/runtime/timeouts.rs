//! Events that take too long: the daemon makes no progress, or a caller's own patience ends.

use std::time::Duration;

use tokio::time::Instant;

use super::engine::{Engine, Now};
use super::error::RuntimeError;
use super::replies::{failed, failure, thrown_as_error};
use super::timers::TimerKey;
use super::work::Work;
use crate::daemon::{DaemonKey, Delivery, InFlight, Presence, ReplyTo, Running, Ticket};
use crate::identity::OriginHash;
use crate::wire::events::FailureKind;

impl Engine {
    pub(super) fn arm_callback_timeout(&mut self, key: DaemonKey, now: Now) {
        if let Some(slot) = self.slot(key) {
            // What is armed already may be a caller's own, later deadline.
            let at = now.instant + slot.host.config.callback_timeout;
            self.timers.arm(TimerKey::Daemon(key), at);
        }
    }

    /// Looks whether events of a daemon have waited too long without any progress of it.
    pub(super) fn check_callback_timeout(&mut self, key: DaemonKey, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        let host = &mut slot.host;
        let timeout = host.config.callback_timeout;
        let mut late: Vec<Delivery> = Vec::new();
        let mut next: Option<Instant> = None;
        let mut look = |at: Instant, now: Instant| {
            if at > now {
                next = Some(next.map_or(at, |earlier| earlier.min(at)));
            }
            at <= now
        };
        let mut expired: Vec<(Ticket, Duration)> = Vec::new();
        let waiting = host.mailbox.len();
        // A caller that stops waiting takes an event with it that has not begun; a running one goes on.
        let ask_back = host.withdraw_handed_out(|d| d.expires.is_some_and(|expires| expires.at <= now.instant));
        let running: Option<&mut InFlight> = match &mut host.running {
            Running::Batch(batch) => Some(batch),
            Running::Idle | Running::Queued | Running::Direct | Running::Control { .. } => None,
        };
        for delivery in running.into_iter().flat_map(|batch| batch.events.iter_mut()) {
            if let (Some(expires), ReplyTo::Local(ticket)) = (delivery.expires, delivery.reply)
                && look(expires.at, now.instant)
            {
                expired.push((ticket, expires.timeout));
                delivery.expires = None;
                delivery.reply = ReplyTo::Nobody;
            }
        }
        if host.owns_waiting() {
            for delivery in host.withdraw(|d| d.expires.is_some_and(|expires| expires.at <= now.instant)) {
                if let (Some(expires), ReplyTo::Local(ticket)) = (delivery.expires, delivery.reply) {
                    expired.push((ticket, expires.timeout));
                }
            }
        } else {
            // It may be staged on a target already, so it runs; only its caller goes.
            for delivery in host.mailbox.iter_mut() {
                if let (Some(expires), ReplyTo::Local(ticket)) = (delivery.expires, delivery.reply)
                    && expires.at <= now.instant
                {
                    expired.push((ticket, expires.timeout));
                    delivery.expires = None;
                    delivery.reply = ReplyTo::Nobody;
                }
            }
        }
        if let Some(at) = host.mailbox.iter().filter_map(|d| d.expires).map(|expires| expires.at).min() {
            look(at, now.instant);
        }
        let mut abort = false;
        let mut late_control = None;
        let mut waiting_since = host.progress_at;
        match &mut host.running {
            Running::Batch(batch) => {
                waiting_since = batch.progress_at;
                if look(batch.progress_at + timeout, now.instant) && !batch.timed_out {
                    batch.timed_out = true;
                    abort = true;
                }
                if batch.timed_out {
                    for delivery in batch.events.iter_mut().filter(|d| d.reply.is_awaited()) {
                        if look(delivery.accepted_at.max(batch.progress_at) + timeout, now.instant) {
                            late.push(delivery.clone());
                            delivery.reply = ReplyTo::TimedOut;
                        }
                    }
                }
            }
            Running::Control { control, timed_out } => {
                if look(host.progress_at + timeout, now.instant) && !*timed_out {
                    *timed_out = true;
                    late_control = Some(*control);
                }
            }
            Running::Idle | Running::Queued | Running::Direct => {}
        }
        match host.presence {
            Presence::Starting => {
                if look(host.progress_at + timeout, now.instant) {
                    self.fail_spawn(key, RuntimeError::CallbackTimeout(timeout), now);
                    return;
                }
            }
            Presence::Live => {
                // What nobody waits for stays: it was accepted, and runs when the daemon goes on after all.
                let due = |d: &Delivery| d.accepted_at.max(waiting_since) + timeout;
                late.extend(host.withdraw(|d| d.reply.is_awaited() && due(d) <= now.instant));
                if let Some(first) = host.mailbox.iter().find(|d| d.reply.is_awaited()) {
                    look(due(first), now.instant);
                }
            }
            // Waiting for a move is not the daemon's fault.
            Presence::Freezing(_)
            | Presence::Frozen(_)
            | Presence::Closed(_)
            | Presence::Released(_)
            | Presence::Arriving(_) => {}
        }
        host.stats.errors += late.len() as u64;
        let origin = host.origin;
        if host.mailbox.len() < waiting {
            self.room_came_free(key);
        }
        if let Some(at) = next {
            self.timers.arm(TimerKey::Daemon(key), at);
        }
        for (ticket, timeout) in expired {
            self.settle(ticket, Err(RuntimeError::CallTimeout(timeout)));
        }
        for delivery in late {
            self.fail_delivery(key, &delivery, FailureKind::CallbackTimeout, timeout, origin);
        }
        if let Some(control) = late_control {
            self.control_timed_out(key, control, now);
        }
        if abort {
            self.work.push(Work::Abort { daemon: key });
            self.stop_late(key, now);
        } else if ask_back {
            self.work.push(Work::Yield { daemon: key });
        }
    }

    fn fail_delivery(
        &mut self,
        key: DaemonKey,
        delivery: &Delivery,
        kind: FailureKind,
        timeout: Duration,
        origin: OriginHash,
    ) {
        let message = RuntimeError::CallbackTimeout(timeout).to_string();
        match delivery.reply {
            ReplyTo::Local(ticket) => {
                let error = thrown_as_error(failure(kind, &message), timeout, origin);
                self.settle(ticket, Err(error));
            }
            ReplyTo::Stream { stream, number, call: true } => {
                if let Some(held) = self.slot_mut(key).and_then(|slot| slot.inbound.get_mut(stream)) {
                    held.keep(failed(number, kind, &message));
                }
                self.answer(key, stream);
            }
            ReplyTo::Stream { call: false, .. } | ReplyTo::Nobody | ReplyTo::TimedOut => {}
        }
    }
}
