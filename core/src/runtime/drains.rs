//! Moving every daemon of this node away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::arrivals::Arrival;
use super::engine::{Engine, Lifecycle, Now};
use super::error::RuntimeError;
use super::policy::ArrivalPolicy;
use super::timers::TimerKey;
use super::work::Settlement;
use crate::daemon::Ticket;
use crate::identity::{MigrationId, NodeId, OriginHash};
use crate::migration::{Drain, MigrationFailure, MigrationOptions, Outcome, out_of_time};
use crate::wire::migration::{FailureReason, MOST_KINDS, MigrationMessage};

/// Between the end of a move and the next one, so that the two never nest.
const SOON: Duration = Duration::from_millis(1);
/// How often it is looked whether spawns, arrivals and hand-overs that were under way are over.
const LOOK_FOR_LATE: Duration = Duration::from_millis(50);
/// For how long they are waited for.
const LATE_UNTIL: Duration = Duration::from_secs(5);
/// Most bytes of the names of the kinds that are asked about.
const MOST_NAMES: usize = 128 * 1024;

/// A drain under way, and who waits for it.
#[derive(Debug)]
pub(super) struct Draining {
    machine: Drain,
    tickets: Vec<Ticket>,
    query: u64,
    late_until: Instant,
    /// The moves that it began.
    moves: Vec<(MigrationId, OriginHash)>,
}

impl Engine {
    /// Moves every daemon of this node to peers that can host it; `ticket` is settled with [`Settlement::Drained`]. Until
    /// then nothing is spawned here and nothing arrives. A drain under way is joined.
    pub fn drain(&mut self, ticket: Ticket, timeout: Option<Duration>, now: Now) -> Result<(), RuntimeError> {
        self.check_ready()?;
        if let Some(draining) = &mut self.drain {
            draining.tickets.push(ticket);
            return Ok(());
        }
        let peers: Vec<NodeId> = self.peers.connected().filter(|(_, answers)| *answers).map(|(node, _)| node).collect();
        self.questions += 1;
        let query = self.questions;
        let mut machine = Drain::new(self.local_daemons(), peers.iter().copied(), timeout, now.instant);
        // Everything that could still turn up here is of a registered kind, or lives here already.
        let here = self.daemons.iter().filter_map(|(_, slot)| slot.host.kind.clone());
        let kinds: BTreeSet<Arc<str>> = here.chain(self.arrivals.values().map(Arrival::kind)).collect();
        let mut room = MOST_NAMES;
        let mut fits = |kind: &Arc<str>| room.checked_sub(kind.len()).inspect(|left| room = *left).is_some();
        let kinds: Vec<Arc<str>> = kinds.into_iter().filter(|kind| fits(kind)).take(MOST_KINDS).collect();
        let names: Vec<&str> = kinds.iter().map(|kind| &**kind).collect();
        for peer in peers {
            self.say(peer, &MigrationMessage::CanHost { query, kinds: names.clone() });
        }
        machine.ask_about(kinds);
        let late_until = now.instant + LATE_UNTIL;
        self.drain = Some(Draining { machine, tickets: vec![ticket], query, late_until, moves: Vec::new() });
        self.go_on_draining(now);
        Ok(())
    }

    /// Whoever waited for a drain does not any more. When nobody does, moves that can still be given up are.
    pub fn leave_drain(&mut self, ticket: Ticket, now: Now) {
        let Some(draining) = &mut self.drain else { return };
        draining.tickets.retain(|waiting| *waiting != ticket);
        if draining.tickets.is_empty() {
            let stopped = draining.machine.end(now.instant);
            self.give_up(&stopped, None, now);
            self.go_on_draining(now);
        }
    }

    /// Daemons that live here, by address.
    fn local_daemons(&self) -> Vec<(OriginHash, Option<Arc<str>>)> {
        let mut daemons: Vec<_> = self
            .by_origin
            .keys()
            .filter_map(|origin| {
                let slot = self.local(*origin).ok().and_then(|key| self.slot(key))?;
                Some((*origin, slot.host.kind.clone()))
            })
            .collect();
        daemons.sort_unstable_by_key(|(origin, _)| *origin);
        daemons
    }

    /// A draining node asks what this one can host.
    pub(super) fn on_can_host(&mut self, from: NodeId, query: u64, kinds: &[&str]) {
        let takes = self.lifecycle == Lifecycle::Ready && self.drain.is_none();
        let built = (0_u32..).zip(kinds).filter(|(_, kind)| takes && self.factories.kind(kind).is_some());
        let kinds = built.map(|(place, _)| place).collect();
        let open = match self.options.arrivals {
            ArrivalPolicy::Announced => false,
            ArrivalPolicy::AnyKind | ArrivalPolicy::Ask => true,
        };
        let daemons = (self.daemon_count() + self.arrivals.len()) as u64;
        self.say(from, &MigrationMessage::Hosts { query, kinds, open, daemons });
    }

    /// A peer says what it can host.
    pub(super) fn on_hosts(&mut self, from: NodeId, query: u64, kinds: &[u32], open: bool, daemons: u64, now: Now) {
        if let Some(draining) = self.drain.as_mut().filter(|draining| draining.query == query) {
            draining.machine.offered(from, kinds, open, daemons);
            self.timers.arm(TimerKey::Drain, now.instant + SOON);
        }
    }

    /// The session with a peer broke.
    pub(super) fn drain_peer_gone(&mut self, node: NodeId, now: Now) {
        if let Some(draining) = &mut self.drain {
            draining.machine.peer_gone(node, now.instant);
            self.timers.arm(TimerKey::Drain, now.instant + SOON);
        }
    }

    /// A peer answers now, for the first time or again: it may take what is left.
    pub(super) fn drain_peer_back(&mut self, node: NodeId, now: Now) {
        let Some(draining) = self.drain.as_mut().filter(|draining| !draining.machine.is_ending()) else { return };
        let kinds = draining.machine.peer_back(node, now.instant).to_vec();
        let kinds = kinds.iter().map(|kind| &**kind).collect();
        let query = draining.query;
        self.say(node, &MigrationMessage::CanHost { query, kinds });
    }

    /// A migration that this node drove is over: it may be one of a drain.
    pub(super) fn drained(&mut self, migration: MigrationId, result: &Result<(), MigrationFailure>, now: Now) {
        let Some(draining) = &mut self.drain else { return };
        let Some(at) = draining.moves.iter().position(|(begun, _)| *begun == migration) else { return };
        let (_, origin) = draining.moves.swap_remove(at);
        match result {
            Err(failure) if is_busy(failure) => draining.machine.busy(origin, now.instant),
            result => draining.machine.moved(origin, result.clone(), now.instant),
        }
        self.timers.arm(TimerKey::Drain, now.instant + SOON);
    }

    /// A daemon that is to leave does not come to rest in time.
    pub(super) fn drain_restless(&mut self, origin: OriginHash) {
        if let Some(draining) = &mut self.drain {
            draining.machine.restless(origin);
        }
    }

    pub(super) fn tick_drain(&mut self, now: Now) {
        let Some(draining) = &mut self.drain else { return };
        let stopped = draining.machine.tick(now.instant);
        self.give_up(&stopped, Some(out_of_time()), now);
        self.go_on_draining(now);
    }

    fn give_up(&mut self, origins: &[OriginHash], reason: Option<FailureReason>, now: Now) {
        let reason = reason.unwrap_or(FailureReason::Cancelled);
        for origin in origins {
            self.drive_input(*origin, now, |machine| machine.abort(reason.clone(), now.instant));
        }
        self.settle_own(now);
    }

    /// Begins as many moves as may be under way at once, and ends when there is nothing left.
    fn go_on_draining(&mut self, now: Now) {
        self.look_after_released();
        while let Some((origin, target)) = self.drain.as_mut().and_then(|d| d.machine.next(now.instant)) {
            self.begin_draining(origin, target, now);
        }
        let Some(draining) = &self.drain else { return };
        if draining.machine.is_over() {
            let new: Vec<_> =
                self.local_daemons().into_iter().filter(|(origin, _)| !draining.machine.knows(*origin)).collect();
            let late = draining.late_until > now.instant
                && (!self.arrivals.is_empty() || self.daemons.iter().any(|(_, slot)| slot.spawning.is_some()));
            let ending = draining.machine.is_ending();
            if ending || (new.is_empty() && !late) {
                return self.end_drain_with(None);
            }
            let again = if new.is_empty() { LOOK_FOR_LATE } else { SOON };
            if let Some(draining) = &mut self.drain {
                draining.machine.add(new);
            }
            self.timers.arm(TimerKey::Drain, now.instant + again);
        } else if !draining.machine.unconfirmed().is_empty() {
            self.timers.arm(TimerKey::Drain, now.instant + LOOK_FOR_LATE);
        }
        if let Some(at) = self.drain.as_ref().and_then(|draining| draining.machine.deadline()) {
            self.timers.arm(TimerKey::Drain, at);
        }
    }

    /// Daemons whose new hosts have yet to say that they have them are here still, and may be nowhere else.
    fn look_after_released(&mut self) {
        let Some(draining) = &mut self.drain else { return };
        let mut released: BTreeMap<OriginHash, (NodeId, Option<MigrationFailure>)> = BTreeMap::new();
        for departure in self.departures.values().filter(|departure| departure.source.is_released()) {
            let target = departure.source.target;
            let lost = || MigrationFailure::Refused(FailureReason::lost("target", target), Outcome::Unknown);
            released.insert(departure.origin, (target, departure.source.is_in_doubt().then(lost)));
        }
        let over: Vec<_> =
            draining.machine.unconfirmed().into_iter().filter(|origin| !released.contains_key(origin)).collect();
        for (origin, (target, doubt)) in released {
            draining.machine.released(origin, target, doubt);
        }
        for origin in over {
            let is_here = self.local(origin).is_ok();
            let node = self.pointers.get(origin).map(|pointer| pointer.node);
            let Some(draining) = &mut self.drain else { return };
            if is_here {
                draining.machine.came_back(origin);
            } else {
                draining.machine.confirmed(origin, node);
            }
        }
    }

    fn begin_draining(&mut self, origin: OriginHash, target: NodeId, now: Now) {
        let me = self.me();
        let here = self.local(origin).ok().and_then(|key| self.slot(key));
        // A daemon whose key is not here goes without one. Who has no room now is asked again by the drain itself, which
        // offers the daemon to others meanwhile.
        let transport_identity = here.is_some_and(|slot| !slot.host.keypair.is_read_only());
        let options = MigrationOptions { transport_identity, retry_not_ready: Duration::ZERO };
        let begun = self.drive_from(origin, me, target, false, options, now);
        let left_for = self.pointers.get(origin).map(|pointer| pointer.node);
        let Some(draining) = &mut self.drain else { return };
        match begun {
            Ok(started) => {
                draining.moves.push((started.migration, origin));
                self.begin(started, None, now);
            }
            Err(RuntimeError::Migration(MigrationFailure::DaemonNotFound(_))) => {
                draining.machine.gone(origin, left_for);
            }
            Err(RuntimeError::Migration(failure)) if is_busy(&failure) => draining.machine.busy(origin, now.instant),
            Err(RuntimeError::Migration(failure)) => draining.machine.moved(origin, Err(failure), now.instant),
            // Nothing else is refused before a move begins.
            Err(error) => {
                let reason = FailureReason::StateFailed { detail: error.to_string() }.bounded();
                draining.machine.moved(origin, Err(MigrationFailure::Refused(reason, Outcome::Source)), now.instant);
            }
        }
    }

    /// The runtime shuts down.
    pub(super) fn end_drain(&mut self) {
        if self.drain.is_some() {
            self.end_drain_with(Some(&RuntimeError::ShuttingDown));
        }
    }

    fn end_drain_with(&mut self, error: Option<&RuntimeError>) {
        let Some(Draining { machine, tickets, .. }) = self.drain.take() else { return };
        self.timers.disarm(TimerKey::Drain);
        let reports = machine.into_reports();
        for ticket in tickets {
            let result = error.map_or_else(|| Ok(Settlement::Drained(reports.clone())), |error| Err(error.clone()));
            self.settle(ticket, result);
        }
        self.call_back_turned_away();
    }
}

fn is_busy(failure: &MigrationFailure) -> bool {
    matches!(failure, MigrationFailure::Refused(FailureReason::AlreadyMigrating, _))
}
