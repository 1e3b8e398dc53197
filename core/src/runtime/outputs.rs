//! Outputs of daemons on their way into the channels that they are published on.
//!
//! They are published reliably and in order, each when every subscriber's queue has room. A daemon with too many on the way
//! waits before it runs more events, and does not move before the last one is acknowledged: so outputs of its next host
//! come after those of this one.
//!
//! The channel is made when a daemon is spawned, or arrives, where there is none of its name. It stays once a daemon has lived
//! here that publishes on it, and goes with the last one that was to and did not come about, unless somebody has registered
//! it meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::engine::{Engine, Now, Slot};
use super::error::RuntimeError;
use super::subscriptions::output_channel;
use super::timers::TimerKey;
use crate::causal::CausalLink;
use crate::channel::{
    ChannelConfig, ChannelError, ChannelLedger, ChannelName, OnFailure, PublishId, PublishOptions, PublishReport,
};
use crate::daemon::{DaemonHost, DaemonKey, Running};
use crate::identity::OriginHash;

/// Outputs of a daemon on the way after which it waits.
const MOST_OUTPUTS: usize = 512;
/// Bytes of them.
const MOST_OUTPUT_BYTES: usize = 8 * 1024 * 1024;
/// When a channel that takes nothing now is tried again, unless it has told before.
const TRY_AGAIN: Duration = Duration::from_millis(20);

const RELIABLY: PublishOptions =
    PublishOptions { reliable: true, on_failure: OnFailure::BestEffort, max_inflight: u32::MAX, all_or_none: true };

/// The outputs of one daemon. They outlive it: what was emitted is published.
pub(super) struct Outbox {
    daemon: OriginHash,
    channel: ChannelName,
    waiting: VecDeque<(CausalLink, Bytes)>,
    waiting_bytes: usize,
    /// Publications that are not over.
    open: usize,
}

impl Engine {
    /// Makes sure that there is the channel that a daemon's outputs are to go to: one that everybody may subscribe to,
    /// unless there is one of this name.
    pub(super) fn open_output_channel(&mut self, name: &str) -> Result<(), RuntimeError> {
        let name = ChannelName::new(name).map_err(RuntimeError::Channel)?;
        self.open_for_outputs(ChannelConfig::new(name))
    }

    fn open_for_outputs(&mut self, config: ChannelConfig) -> Result<(), RuntimeError> {
        let port = self.port().ok_or(RuntimeError::Channel(ChannelError::ShutDown))?;
        let name = config.name.clone();
        if port.open_for_outputs(config).map_err(RuntimeError::Channel)? {
            self.channels.awaiting.insert(name);
        }
        Ok(())
    }

    /// A daemon arrives: its outputs go to a channel of the same kind as before, unless it was given one here.
    pub(super) fn bring_output_channel(&mut self, key: DaemonKey) -> Result<(), RuntimeError> {
        let Some(slot) = self.slot(key) else { return Ok(()) };
        if let Some(name) = slot.host.config.output_channel.clone() {
            return self.open_output_channel(&name);
        }
        let ledger = ChannelLedger::decode(&slot.host.ledger).map_err(RuntimeError::Channel)?;
        let Some(config) = ledger.output else { return Ok(()) };
        let name = config.name.as_str().to_owned();
        self.open_for_outputs(config)?;
        if let Some(slot) = self.slot_mut(key) {
            slot.host.config.output_channel = Some(name);
        }
        Ok(())
    }

    /// A daemon lives here: the channel of its outputs stays.
    pub(super) fn keep_output_channel(&mut self, key: DaemonKey) {
        // What was never made for anybody costs daemons without channels nothing.
        if !self.channels.awaiting.is_empty()
            && let Some(name) = self.slot(key).and_then(|slot| output_channel(&slot.host))
        {
            self.channels.awaiting.remove(&name);
        }
    }

    /// A daemon is gone: the channel that was made for its outputs goes as well, if no daemon has come to live with it and
    /// none is about to.
    pub(super) fn close_output_channel(&mut self, host: &DaemonHost) {
        if self.channels.awaiting.is_empty() {
            return;
        }
        let Some(name) = output_channel(host).filter(|name| self.channels.awaiting.contains(name)) else { return };
        let is_used = |slot: &Slot| slot.host.config.output_channel.as_deref() == Some(name.as_str());
        if !self.daemons.iter().any(|(_, slot)| is_used(slot)) {
            self.channels.awaiting.remove(&name);
            if let Some(port) = self.port() {
                port.close_for_outputs(&name);
            }
        }
    }

    /// A daemon emitted something.
    pub(super) fn enter_outputs(&mut self, key: DaemonKey, outputs: Vec<(CausalLink, Bytes)>, now: Now) {
        let Some(host) = self.slot(key).map(|slot| &slot.host) else { return };
        let (Some(channel), daemon) = (output_channel(host), host.origin) else { return };
        let outbox = self.channels.outboxes.entry(key).or_insert_with(|| Outbox {
            daemon,
            channel,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            open: 0,
        });
        outbox.waiting_bytes += outputs.iter().map(|(_, payload)| payload.len()).sum::<usize>();
        outbox.waiting.extend(outputs);
        self.publish_outputs(key, now);
        self.forget_outbox_if_done(key);
    }

    fn publish_outputs(&mut self, key: DaemonKey, now: Now) {
        let Some(port) = self.port() else { return };
        let Some(outbox) = self.channels.outboxes.get_mut(&key) else { return };
        let daemon = outbox.daemon;
        while outbox.open < MOST_OUTPUTS
            && let Some((link, payload)) = outbox.waiting.front()
        {
            match port.publish(&outbox.channel, payload, link, RELIABLY) {
                Ok(id) => {
                    outbox.open += 1;
                    self.channels.publications.insert(id, key);
                }
                Err(ChannelError::Backpressure(_) | ChannelError::RateLimited { .. }) => {
                    return self.timers.arm(TimerKey::Outputs, now.instant + TRY_AGAIN);
                }
                Err(error) => {
                    let channel = outbox.channel.as_str();
                    tracing::warn!(channel, %daemon, %error, "an output of daemon {daemon} was not published on '{channel}'");
                }
            }
            if let Some((_, payload)) = outbox.waiting.pop_front() {
                outbox.waiting_bytes -= payload.len();
            }
        }
    }

    /// Channels that took nothing may take something now.
    pub(super) fn publish_all_outputs(&mut self, now: Now) {
        let waiting = self.channels.outboxes.iter().filter(|(_, outbox)| !outbox.waiting.is_empty());
        let keys: Vec<_> = waiting.map(|(&key, _)| key).collect();
        for key in keys {
            self.publish_outputs(key, now);
            self.outputs_went(key, now);
        }
    }

    /// An output has reached all its subscribers that are still there.
    pub(super) fn output_published(&mut self, id: PublishId, result: &Result<PublishReport, ChannelError>, now: Now) {
        let Some(key) = self.channels.publications.remove(&id) else { return };
        if let Ok(PublishReport { errors, .. }) = result
            && let Some((node, error)) = errors.first()
        {
            tracing::debug!(peer = %node, %error, "an output did not reach a subscriber");
        }
        if let Some(outbox) = self.channels.outboxes.get_mut(&key) {
            outbox.open -= 1;
        }
        self.publish_outputs(key, now);
        self.outputs_went(key, now);
    }

    fn forget_outbox_if_done(&mut self, key: DaemonKey) {
        if self.channels.outboxes.get(&key).is_some_and(|outbox| outbox.open == 0 && outbox.waiting.is_empty()) {
            self.channels.outboxes.remove(&key);
        }
    }

    fn outputs_went(&mut self, key: DaemonKey, now: Now) {
        self.forget_outbox_if_done(key);
        if self.slot(key).is_some_and(|slot| matches!(slot.host.running, Running::Idle)) {
            self.pump(key, now);
        }
    }

    /// A copy was fenced off: what it emitted and is not on its way yet was not to be.
    pub(super) fn drop_outputs(&mut self, key: DaemonKey) {
        let Some(outbox) = self.channels.outboxes.get_mut(&key) else { return };
        outbox.waiting.clear();
        outbox.waiting_bytes = 0;
        self.forget_outbox_if_done(key);
    }

    /// Daemons with outputs that have yet to be acknowledged.
    pub(super) fn outboxes(&self) -> usize {
        self.channels.outboxes.len()
    }

    /// Whether a daemon has to wait before it runs more.
    pub(super) fn outputs_pile_up(&self, key: DaemonKey) -> bool {
        self.channels.outboxes.get(&key).is_some_and(|outbox| {
            outbox.waiting.len() + outbox.open >= MOST_OUTPUTS || outbox.waiting_bytes >= MOST_OUTPUT_BYTES
        })
    }

    /// Whether outputs of a daemon have yet to be acknowledged.
    pub(super) fn has_outputs_under_way(&self, key: DaemonKey) -> bool {
        self.channels.outboxes.contains_key(&key)
    }
}
