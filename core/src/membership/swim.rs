//! What the protocol asks for while it runs: packets, timers, news.

use std::collections::{BTreeMap, HashMap};
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Config, Notification, PeriodicParams, Runtime, Timer};
use tokio::time::Instant;

use super::card::SignedCard;
use super::machine::MembershipConfig;
use crate::identity::NodeId;

/// Largest packet: some dozens of members, a small part of a frame.
pub(super) const MAX_PACKET: usize = 8 * 1024;
/// How long a member that is down is remembered, so that its old cards stay refused and a partition heals by itself.
const REMEMBER_DOWN: Duration = Duration::from_secs(3600);
/// How often somebody is asked for all that it knows.
const ASK_ALL: Duration = Duration::from_secs(30);

/// Collects what one call into the protocol brings about.
#[derive(Debug)]
pub(super) struct Doings<'a> {
    pub(super) now: Instant,
    pub(super) timers: &'a mut SwimTimers,
    pub(super) packets: Vec<(NodeId, Vec<u8>)>,
    /// The set of live members, or what is known of one, has changed.
    pub(super) changed: bool,
    /// The others take this node for down.
    pub(super) defunct: bool,
}

impl Runtime<SignedCard> for Doings<'_> {
    fn notify(&mut self, notification: Notification<'_, SignedCard>) {
        match notification {
            Notification::MemberUp(_) | Notification::MemberDown(_) | Notification::Rename(..) => self.changed = true,
            Notification::Defunct => self.defunct = true,
            Notification::Active | Notification::Idle | Notification::Rejoin(_) => {}
        }
    }

    fn send_to(&mut self, to: SignedCard, data: &[u8]) {
        self.packets.push((to.card.node(), data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<SignedCard>, after: Duration) {
        self.timers.arm(self.now + after, event);
    }
}

/// Timers of the protocol, in order.
#[derive(Debug, Default)]
pub(super) struct SwimTimers {
    due: BTreeMap<Due, Timer<SignedCard>>,
    slots: HashMap<Slot, Due>,
    last: u64,
}

/// When a timer is due, and which one of that moment.
type Due = (Instant, u64);

/// Of these timers only the latest does anything: it takes the place of the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Slot {
    Probe,
    IndirectProbe,
    Announce,
    AnnounceToDown,
    Gossip,
    Removal(NodeId),
}

/// The slot of a timer. None for a suspicion, whose first timer counts; there is one for each probe that failed.
fn slot(timer: &Timer<SignedCard>) -> Option<Slot> {
    Some(match timer {
        Timer::ProbeRandomMember(_) => Slot::Probe,
        Timer::SendIndirectProbe { .. } => Slot::IndirectProbe,
        Timer::ChangeSuspectToDown { .. } => return None,
        Timer::PeriodicAnnounce(_) => Slot::Announce,
        Timer::PeriodicAnnounceDown(_) => Slot::AnnounceToDown,
        Timer::PeriodicGossip(_) => Slot::Gossip,
        Timer::RemoveDown(card) => Slot::Removal(card.card.node()),
    })
}

impl SwimTimers {
    fn arm(&mut self, at: Instant, timer: Timer<SignedCard>) {
        self.last += 1;
        let due = (at, self.last);
        if let Some(former) = slot(&timer).and_then(|slot| self.slots.insert(slot, due)) {
            self.due.remove(&former);
        }
        self.due.insert(due, timer);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer<SignedCard>> {
        let (due, _) = self.due.first_key_value().filter(|((at, _), _)| *at <= now)?;
        self.take(*due)
    }

    /// Takes the first timer that has a member forgotten, due or not.
    pub(super) fn take_removal(&mut self) -> Option<Timer<SignedCard>> {
        let (due, _) = self.due.iter().find(|(_, timer)| matches!(timer, Timer::RemoveDown(_)))?;
        self.take(*due)
    }

    fn take(&mut self, due: Due) -> Option<Timer<SignedCard>> {
        let timer = self.due.remove(&due)?;
        if let Some(slot) = slot(&timer) {
            self.slots.remove(&slot);
        }
        Some(timer)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}

/// The protocol's own settings.
pub(super) fn settings(config: &MembershipConfig) -> Config {
    let period = config.probe_period;
    let one = NonZeroUsize::MIN;
    let few = one.saturating_add(2);
    Config {
        probe_period: period,
        probe_rtt: period.mul_f64(0.4),
        num_indirect_probes: few,
        max_transmissions: NonZeroU8::MIN.saturating_add(9),
        suspect_to_down_after: config.suspicion,
        remove_down_after: Some(REMEMBER_DOWN),
        max_packet_size: NonZeroUsize::new(MAX_PACKET).unwrap_or(one),
        notify_down_members: true,
        periodic_announce: Some(PeriodicParams { frequency: ASK_ALL.max(period), num_members: one }),
        periodic_announce_to_down_members: Some(PeriodicParams {
            frequency: config.suspicion.max(period),
            num_members: one,
        }),
        periodic_gossip: Some(PeriodicParams { frequency: period.mul_f64(0.2), num_members: few }),
    }
}
