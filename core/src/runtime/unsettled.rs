//! What is on its way that a daemon sent: said by a move that waited for it in vain.
//!
//! A daemon speaks in the streams of its node, so it is known there which of their events are its own.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::engine::Engine;
use crate::daemon::{Delivery, ReplyTo, Running};
use crate::identity::OriginHash;

/// Most daemons that are named; a text has room for no more.
const MOST_NAMED: usize = 3;

/// What one daemon has yet to accept or answer.
#[derive(Clone, Copy, Default)]
struct Unsettled {
    unaccepted: usize,
    unanswered: usize,
}

impl Unsettled {
    const fn all(self) -> usize {
        self.unaccepted + self.unanswered
    }

    fn in_words(self) -> String {
        match self {
            Self { unaccepted, unanswered: 0 } => format!("{unaccepted} not accepted"),
            Self { unaccepted: 0, unanswered } => format!("{unanswered} not answered"),
            Self { unaccepted, unanswered } => format!("{unaccepted} not accepted and {unanswered} not answered"),
        }
    }
}

impl Engine {
    /// How many events of a daemon of this node others have yet to accept or answer, and who: the most first, and a few of
    /// them by name. Nothing when there are none.
    pub(super) fn unsettled_of(&self, emitter: OriginHash) -> Option<String> {
        let mut left = self.unsettled_by_daemon(emitter);
        if left.is_empty() {
            return None;
        }
        left.sort_by_key(|(origin, unsettled)| (Reverse(unsettled.all()), *origin));
        let others = left.split_off(left.len().min(MOST_NAMED));
        let mut named: Vec<String> = left
            .into_iter()
            .map(|(origin, unsettled)| {
                format!("{} by daemon {origin}{}", unsettled.in_words(), self.whereabouts(origin))
            })
            .collect();
        if !others.is_empty() {
            let count: usize = others.iter().map(|(_, unsettled)| unsettled.all()).sum();
            named.push(format!("{count} by {} others", others.len()));
        }
        Some(named.join("; "))
    }

    fn unsettled_by_daemon(&self, emitter: OriginHash) -> Vec<(OriginHash, Unsettled)> {
        let mut left: BTreeMap<OriginHash, Unsettled> = BTreeMap::new();
        for (origin, route) in &self.routes {
            let (unaccepted, unanswered) = route.unsettled_of(emitter);
            // What it calls of its own waits in its own mailbox, and moves with it.
            let unanswered = if *origin == emitter { 0 } else { unanswered };
            left.insert(*origin, Unsettled { unaccepted, unanswered });
        }
        for departure in self.departures.values() {
            let held = departure.held.iter().filter(|outgoing| outgoing.link.origin == emitter).count();
            left.entry(departure.origin).or_default().unaccepted += held;
        }
        let asked =
            |delivery: &Delivery| delivery.link.origin == emitter && matches!(delivery.reply, ReplyTo::Local(_));
        for (_, slot) in self.daemons.iter().filter(|(_, slot)| slot.host.origin != emitter) {
            let running = match &slot.host.running {
                Running::Batch(batch) => batch.events.iter().filter(|delivery| asked(delivery)).count(),
                Running::Idle | Running::Queued | Running::Direct | Running::Control { .. } => 0,
            };
            let waiting = slot.host.mailbox.iter().filter(|delivery| asked(delivery)).count();
            left.entry(slot.host.origin).or_default().unanswered += running + waiting;
        }
        left.into_iter().filter(|(_, unsettled)| unsettled.all() > 0).collect()
    }

    /// Where a daemon is to which events are on their way.
    fn whereabouts(&self, origin: OriginHash) -> String {
        let host = self.routes.get(&origin).map(|route| route.stream.as_ref().map(|stream| stream.told_host));
        match host {
            Some(Some(node)) if node == self.me() => " on this node".to_owned(),
            Some(Some(node)) if self.peers.is_up(node) => format!(" on node {node}"),
            Some(Some(node)) => format!(" on node {node}, which is out of reach"),
            Some(None) if !self.by_origin.contains_key(&origin) => ", whose host is being looked for".to_owned(),
            Some(None) | None => " on this node".to_owned(),
        }
    }
}
