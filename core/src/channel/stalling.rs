//! Subscribers that take nothing at all: they do not hold a publisher up for ever.
//!
//! Reliable messages wait for slow subscribers, and a daemon whose outputs are published waits with them. One that takes
//! nothing for as long as no handler should need is put out, and told why. Its own node knows best which of its daemons that
//! is; a publisher waits longer, and then puts out all for whom the messages are.

use std::time::Duration;

use tokio::time::Instant;

use super::machine::{ChannelMachine, LONGEST_SLEEP, Moment, Subscriber};
use super::subscription::Subscription;
use super::{ChannelError, StreamId};
use crate::wire::channels::RefusalReason;

/// How long a subscriber may take nothing of what waits for it: twice the time that a handler of a daemon has by default. This
/// is looked at now and then, so it may become `LONGEST_SLEEP` more.
pub const STALLED: Duration = Duration::from_secs(120);
/// How long a publisher waits for a node to take anything.
const SILENT: Duration = Duration::from_secs(240);

/// For how long somebody has been seen to take nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stall {
    /// Before the last pause.
    before: Duration,
    /// And since then.
    since: Option<Instant>,
}

impl Stall {
    /// It took something, or nothing waits for it.
    pub(super) fn over(&mut self) {
        *self = Self::default();
    }

    /// Nothing can be sent to it for now: that time does not count. What was before does, or a connection that breaks again and
    /// again would be a way to take nothing for ever.
    fn pause(&mut self, now: Instant) {
        let since = self.since.take();
        self.before += since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
    }

    /// A connection is gone that was there since `connected`, on which something waited for it. What waits is looked at often:
    /// when that has not been seen yet, it began after the last look.
    pub(super) fn cut(&mut self, now: Instant, connected: Option<Instant>) {
        let looked_at = now.checked_sub(LONGEST_SLEEP);
        self.since = self.since.or(connected.max(looked_at).filter(|_| connected.is_some()));
        self.pause(now);
    }

    /// Something waits for it now. Whether that has been so for too long.
    fn lasts(&mut self, now: Instant, most: Duration) -> bool {
        self.before + now.saturating_duration_since(*self.since.get_or_insert(now)) >= most
    }

    /// Whether a node has taken nothing for too long, while something is expected of it; it is not while nothing can be sent.
    pub(super) fn is_silent(&mut self, expected: bool, now: Instant) -> bool {
        if !expected {
            self.pause(now);
        }
        expected && self.lasts(now, SILENT)
    }
}

impl ChannelMachine {
    /// Something waits for a subscriber: it is looked at whether it takes that.
    pub(super) fn watch(&mut self, now: Moment) {
        self.look_by(Some(now.instant + LONGEST_SLEEP));
    }

    /// Ends who has taken nothing for too long.
    pub(super) fn end_stalled(&mut self, now: Moment) {
        let mut waiting = false;
        let mut stalled = Vec::new();
        for (&key, subscription) in &mut self.subscriptions {
            for (who, lasts) in subscription.waiting(|stall| stall.lasts(now.instant, STALLED)) {
                waiting = true;
                stalled.extend(lasts.then_some((key, who)));
            }
        }
        let mut silent: Vec<_> = Vec::new();
        for (&node, peer) in &mut self.peers {
            for (stream, lasts) in peer.unacknowledged(&self.jobs, now.instant) {
                waiting = true;
                silent.extend(lasts.then_some((node, stream)));
            }
        }
        for (key, who) in stalled {
            self.withdraw(key, who, &ChannelError::Stalled);
        }
        for (node, StreamId { channel, share }) in silent {
            let seats = self.channels.get(&channel).map(|channel| channel.seats_of(node, share));
            for seat in seats.into_iter().flatten() {
                self.evict(channel, node, seat, RefusalReason::Stalled, now);
            }
        }
        if waiting {
            self.watch(now);
        }
    }
}

impl Subscription {
    /// Daemons, or the node with its readers, that something waits for, with what `stall` says of them.
    fn waiting(&mut self, mut stall: impl FnMut(&mut Stall) -> bool) -> Vec<(Subscriber, bool)> {
        let mut waiting = Vec::new();
        for (&who, membership) in &mut self.members {
            let waits = match who {
                Subscriber::Node => membership.room.is_some_and(|room| room < self.received),
                Subscriber::Daemon(_) => {
                    membership.through().is_some_and(|through| self.held.is_awaited_behind(through))
                }
            };
            if waits && membership.is_handed() {
                waiting.push((who, stall(&mut membership.stall)));
            } else {
                membership.stall.over();
            }
        }
        waiting
    }
}
