//! Events of daemons of this node: delivering, handing out batches, taking outcomes, timing out.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::engine::{Engine, Now, Slot};
use super::error::RuntimeError;
use super::replies::{NOT_BEGUN, failed, failure, thrown_as_error};
use super::routes::Route;
use super::timers::TimerKey;
use super::work::{DaemonEvent, Next, Settlement, StopReason, Work};
use crate::causal::{CausalLink, HorizonBloom, ParentHash, Sequence};
use crate::daemon::{
    BATCH_EVENTS, BatchId, Control, DaemonKey, Delivery, EventOutcome, Expiry, Presence, ReplyTo, Running, Ticket,
};
use crate::events::{Expected, KeptReply, MOST_OUTPUTS, Outgoing, OutputRecord, Outputs};
use crate::identity::OriginHash;
use crate::wire::events::{Failure, FailureKind};

/// What the caller of an event in this environment gets.
pub type LocalResult = Result<Outputs<OutputRecord>, RuntimeError>;

/// How long an event may wait for room in its daemon's mailbox.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// What the embedder does with the rest of a batch that it does not go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It goes on.
    Continues,
    /// It gives back everything.
    GivenBack,
    /// It gives back everything but the event that is running.
    GivenBackButRunning,
}

impl Engine {
    /// Delivers an event to a daemon wherever it lives; `ticket` gets outputs. A daemon of this node is reached without
    /// the network, in the same order.
    pub fn deliver(
        &mut self,
        ticket: Ticket,
        origin: OriginHash,
        link: CausalLink,
        payload: Bytes,
        now: Now,
    ) -> Result<(), RuntimeError> {
        self.check_ready()?;
        self.check_payload(payload.len())?;
        self.reenter(Outgoing { link, payload, ticket, call: true, expires: None }, origin, now)
    }

    /// Calls a daemon with this node as emitter.
    pub fn call(
        &mut self,
        ticket: Ticket,
        origin: OriginHash,
        payload: Bytes,
        timeout: Duration,
        now: Now,
    ) -> Result<(), RuntimeError> {
        self.call_as(ticket, None, origin, payload, Some(timeout), now)
    }

    /// The same with a daemon of this node as emitter, if one is given; whoever has no `timeout` waits as long as it takes.
    pub fn call_as(
        &mut self,
        ticket: Ticket,
        emitter: Option<OriginHash>,
        origin: OriginHash,
        payload: Bytes,
        timeout: Option<Duration>,
        now: Now,
    ) -> Result<(), RuntimeError> {
        self.check_ready()?;
        self.check_payload(payload.len())?;
        let link = self.link_of(emitter);
        let expires = timeout.map(|timeout| Expiry { at: now.instant + timeout, timeout });
        self.reenter(Outgoing { link, payload, ticket, call: true, expires }, origin, now)
    }

    /// Calls a daemon with this node as emitter, and waits as long as it takes, for room too: where the mailbox of a daemon of
    /// this node has none, the event waits in turn with those of other nodes, and what this node sends it next behind it.
    pub fn call_in_turn(
        &mut self,
        ticket: Ticket,
        origin: OriginHash,
        payload: Bytes,
        now: Now,
    ) -> Result<(), RuntimeError> {
        let Some(key) = self.lacking_room(origin, payload.len()) else {
            return self.call_as(ticket, None, origin, payload, None, now);
        };
        self.check_ready()?;
        self.check_payload(payload.len())?;
        let link = self.own_link();
        self.send_out(Outgoing { link, payload, ticket, call: true, expires: None }, origin, now)?;
        self.lead_home(key, now);
        Ok(())
    }

    /// The daemon of this node with this address, when neither its mailbox has room for so many bytes nor its hand-over holds them.
    fn lacking_room(&self, origin: OriginHash, bytes: usize) -> Option<DaemonKey> {
        let slot = self.by_origin.get(&origin).and_then(|key| self.slot(*key))?;
        let full = match slot.host.presence {
            Presence::Live | Presence::Freezing(_) | Presence::Frozen(_) => !slot.has_room_for_own(bytes),
            Presence::Closed(_) => self.hand_over_room(origin).is_none_or(|(events, most)| events == 0 || bytes > most),
            Presence::Starting | Presence::Released(_) | Presence::Arriving(_) => false,
        };
        full.then_some(slot.host.key)
    }

    /// Sends an event to a daemon; `ticket` is settled when it is in the mailbox of its host.
    pub fn send_event(
        &mut self,
        ticket: Ticket,
        origin: OriginHash,
        payload: Bytes,
        now: Now,
    ) -> Result<(), RuntimeError> {
        self.send_event_as(ticket, None, origin, payload, now)
    }

    /// The same with a daemon of this node as emitter.
    pub fn send_event_as(
        &mut self,
        ticket: Ticket,
        emitter: Option<OriginHash>,
        origin: OriginHash,
        payload: Bytes,
        now: Now,
    ) -> Result<(), RuntimeError> {
        self.check_ready()?;
        self.check_payload(payload.len())?;
        let link = self.link_of(emitter);
        let expires = Some(Expiry { at: now.instant + SEND_TIMEOUT, timeout: SEND_TIMEOUT });
        self.reenter(Outgoing { link, payload, ticket, call: false, expires }, origin, now)
    }

    // By the mailbox when the daemon is here, by the stream when it is elsewhere.
    pub(super) fn reenter(&mut self, outgoing: Outgoing, origin: OriginHash, now: Now) -> Result<(), RuntimeError> {
        match self.enqueue_local(outgoing, origin, now)? {
            None => Ok(()),
            Some(outgoing) => self.send_out(outgoing, origin, now),
        }
    }

    /// The link of an event that this node emits.
    pub(super) fn own_link(&mut self) -> CausalLink {
        self.sequence += 1;
        CausalLink {
            origin: self.node.keypair.origin_hash(),
            horizon: HorizonBloom::default(),
            sequence: Sequence::new(self.sequence),
            parent_hash: ParentHash::default(),
        }
    }

    /// The link of an event that a daemon of this node emits, or the node itself.
    pub fn link_of(&mut self, emitter: Option<OriginHash>) -> CausalLink {
        let link = self.own_link();
        CausalLink { origin: emitter.unwrap_or(link.origin), ..link }
    }

    pub(super) fn check_payload(&self, size: usize) -> Result<(), RuntimeError> {
        let (size, max) = (size as u64, self.options.max_payload);
        if size > max { Err(RuntimeError::PayloadTooLarge { size, max }) } else { Ok(()) }
    }

    /// Puts an event into the mailbox of a daemon of this node. Gives the payload back when the event has to take the
    /// stream: the daemon is not here, or its mailbox is closed, or earlier events of this node are still in the stream.
    fn enqueue_local(
        &mut self,
        outgoing: Outgoing,
        origin: OriginHash,
        now: Now,
    ) -> Result<Option<Outgoing>, RuntimeError> {
        let Some(key) = self.by_origin.get(&origin).copied() else { return Ok(Some(outgoing)) };
        if self.routes.get(&origin).is_some_and(Route::has_unaccepted) {
            return Ok(Some(outgoing));
        }
        let Some(slot) = self.slot_mut(key) else { return Ok(Some(outgoing)) };
        match slot.host.presence {
            Presence::Live | Presence::Freezing(_) | Presence::Frozen(_) => {}
            Presence::Closed(_) => return self.hold_for_hand_over(outgoing, origin).map(|()| None),
            // A spawn may yet find that it lives elsewhere.
            Presence::Starting | Presence::Released(_) | Presence::Arriving(_) => return Ok(Some(outgoing)),
        }
        let Outgoing { link, payload, ticket, call, expires } = outgoing;
        let delivery = Delivery {
            link,
            payload,
            received_at: now.unix_ns,
            channel: None,
            reply: if call { ReplyTo::Local(ticket) } else { ReplyTo::Nobody },
            // Whoever only sends has waited for no more than this.
            expires: expires.filter(|_| call),
            accepted_at: now.instant,
            withdrawn: false,
        };
        if !slot.has_room_for_own(delivery.weight()) || slot.host.accept(delivery).is_err() {
            return Err(RuntimeError::MailboxFull(origin));
        }
        slot.waiting.passed();
        if !call {
            self.settle(ticket, Ok(Settlement::Done));
        } else if let Some(expires) = expires {
            self.timers.arm(TimerKey::Daemon(key), expires.at);
        }
        self.pump(key, now);
        Ok(None)
    }

    /// How many more events of this node the mailbox of a daemon takes, or is held for it during a hand-over, and how many more
    /// bytes of them; nothing when they take a stream.
    pub fn mailbox_room(&self, origin: OriginHash) -> Option<(usize, usize)> {
        let slot = self.by_origin.get(&origin).and_then(|key| self.slot(*key))?;
        if self.routes.get(&origin).is_some_and(Route::has_unaccepted) {
            return None;
        }
        match slot.host.presence {
            Presence::Live | Presence::Freezing(_) | Presence::Frozen(_) => Some(slot.room_for_own()),
            Presence::Closed(_) => self.hand_over_room(origin),
            Presence::Starting | Presence::Released(_) | Presence::Arriving(_) => None,
        }
    }

    /// Its caller does not wait any longer: an event that has not begun does not run.
    pub fn withdraw(&mut self, ticket: Ticket, origin: OriginHash, now: Now) {
        let local = self.by_origin.get(&origin).copied().and_then(|key| self.slot_mut(key));
        // What is frozen for a move may be staged on the target already.
        if let Some(slot) = local.filter(|slot| slot.host.owns_waiting()) {
            let key = slot.host.key;
            let its = |delivery: &Delivery| delivery.reply == ReplyTo::Local(ticket);
            if !slot.host.withdraw(its).is_empty() {
                self.room_came_free(key);
            } else if slot.host.withdraw_handed_out(its) {
                self.work.push(Work::Yield { daemon: key });
            }
        }
        self.withdraw_held(ticket, origin);
        self.withdraw_from_route(ticket, origin);
        // A daemon of this node hears of it before anything else happens to the stream, and to its numbers.
        self.settle_own(now);
    }

    /// There may be room for a reply again that a daemon waited for.
    pub(super) fn go_on(&mut self, key: DaemonKey, now: Now) {
        let waits = |slot: &Slot| matches!(slot.host.running, Running::Idle) && !slot.host.mailbox.is_empty();
        if self.slot(key).is_some_and(waits) {
            self.pump(key, now);
        }
    }

    /// Starts whatever may run next on a daemon.
    pub(super) fn pump(&mut self, key: DaemonKey, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        let host = &mut slot.host;
        match host.running {
            Running::Batch(_) | Running::Direct | Running::Control { .. } => {
                // What runs may never settle: whoever waits behind it has a deadline of their own.
                if !host.mailbox.is_empty() {
                    self.arm_callback_timeout(key, now);
                }
                return;
            }
            Running::Idle | Running::Queued => {}
        }
        match host.presence {
            Presence::Freezing(_) => {
                host.running = Running::Idle;
                if !self.has_outputs_under_way(key) {
                    self.departure_frozen(key, now);
                }
                return;
            }
            Presence::Live => {}
            Presence::Starting
            | Presence::Frozen(_)
            | Presence::Closed(_)
            | Presence::Released(_)
            | Presence::Arriving(_) => return,
        }
        if let Some(control) = host.due_control() {
            match control {
                Control::Stop(ticket) => {
                    self.remove_daemon(key, StopReason::Stopped, DaemonEvent::Stopped, now);
                    self.settle(ticket, Ok(Settlement::Done));
                }
                Control::Snapshot(_) | Control::AutoSnapshot | Control::MoveSnapshot(_) => {
                    host.begin_control(control, now.instant);
                    self.work.push(Work::Snapshot { daemon: key });
                    self.arm_callback_timeout(key, now);
                }
            }
            return;
        }
        if !host.mailbox.is_empty() && matches!(host.running, Running::Idle) {
            if self.outputs_pile_up(key) {
                return;
            }
            if self.answerable(key, 1) == 0 {
                // Its caller reads no replies: it is not waited for longer than for the daemon itself.
                return self.arm_callback_timeout(key, now);
            }
            let Some(Slot { host, .. }) = self.slot_mut(key) else { return };
            host.running = Running::Queued;
            host.progress_at = now.instant;
            self.work.runnable(key);
            self.arm_callback_timeout(key, now);
        }
    }

    /// Something was taken out of a mailbox: what waits for room there comes in before other work is done, and what waits behind
    /// it may begin.
    pub(super) fn room_came_free(&mut self, key: DaemonKey) {
        if self.slot_mut(key).is_some_and(|slot| !std::mem::replace(&mut slot.comes_round, true)) {
            self.work.runnable(key);
        }
    }

    /// How many of the first `most` waiting events may run: those before the first call whose reply there would be no room
    /// for.
    fn answerable(&self, key: DaemonKey, most: usize) -> usize {
        let Some(Slot { host, inbound, .. }) = self.slot(key) else { return 0 };
        let mut expected = Expected::default();
        let mut last = None;
        let fits = |delivery: &&Delivery| {
            let ReplyTo::Stream { stream, call: true, .. } = delivery.reply else { return true };
            let held = match last {
                Some((number, held)) if number == stream => held,
                Some(_) | None => inbound.get(stream),
            };
            last = Some((stream, held));
            held.is_none_or(|held| held.may_answer_another(&mut expected))
        };
        host.mailbox.iter().take(most).take_while(fits).count()
    }

    /// Takes the next piece of work. Batches are formed here.
    pub fn next_work(&mut self, now: Now) -> Option<Work> {
        loop {
            if self.accounts.has_freed() {
                self.feed_freed(now);
                self.settle_own(now);
            }
            match self.work.next()? {
                Next::Work(work) => return Some(work),
                Next::Batch(key) => {
                    let Some(slot) = self.slot_mut(key) else { continue };
                    if std::mem::take(&mut slot.comes_round) {
                        slot.waiting.room_came_free();
                    }
                    let may_run = matches!(slot.host.running, Running::Queued) && slot.host.may_run();
                    let most = if may_run { self.answerable(key, BATCH_EVENTS) } else { 0 };
                    let Some(Slot { host, waiting, .. }) = self.slot_mut(key) else { continue };
                    if most == 0 {
                        if matches!(host.running, Running::Queued) {
                            host.running = Running::Idle;
                        }
                        self.feed_waiting(key, now);
                        self.pump(key, now);
                        // A sender of this node hears that what it sent came in.
                        self.settle_own(now);
                        continue;
                    }
                    let batch = host.take_batch(now.instant, most);
                    waiting.room_came_free();
                    self.feed_waiting(key, now);
                    // As above: the batch may take long.
                    self.settle_own(now);
                    return Some(Work::Run { daemon: key, batch });
                }
            }
        }
    }

    /// The events of a batch that was handed out, in order. Nothing when it was given up meanwhile, with its daemon.
    pub fn batch(&self, key: DaemonKey, batch: BatchId) -> Option<&VecDeque<Delivery>> {
        match &self.slot(key)?.host.running {
            Running::Batch(in_flight) if in_flight.id == batch => Some(&in_flight.events),
            Running::Batch(_) | Running::Idle | Running::Queued | Running::Direct | Running::Control { .. } => None,
        }
    }

    /// The embedder ran events of a batch. Results of callers in this environment go to `local`, in order.
    pub fn ran(
        &mut self,
        key: DaemonKey,
        batch: BatchId,
        outcomes: impl IntoIterator<Item = EventOutcome>,
        rest: Rest,
        now: Now,
        local: &mut dyn FnMut(Ticket, LocalResult),
    ) {
        let max = self.options.max_payload;
        let Some(slot) = self.slot_mut(key) else { return };
        let Slot { host, inbound, .. } = slot;
        let Running::Batch(mut in_flight) = std::mem::replace(&mut host.running, Running::Idle) else { return };
        if in_flight.id != batch {
            host.running = Running::Batch(in_flight);
            return;
        }
        let publishes = host.config.output_channel.is_some();
        let mut emitted = Vec::new();
        let mut links = Vec::new();
        let mut answered: Vec<u32> = Vec::new();
        for outcome in outcomes {
            let Some(delivery) = in_flight.events.pop_front() else { break };
            in_flight.timed_out = false;
            host.horizon.observe(delivery.link.origin, delivery.link.sequence);
            if delivery.reply == ReplyTo::TimedOut {
                continue;
            }
            let result = conclude(host, outcome, max, &mut links);
            match &result {
                Ok(outputs) if publishes => {
                    emitted.extend(links.iter().copied().zip(outputs.iter().cloned()));
                }
                Ok(_) => {}
                Err(_) => host.stats.errors += 1,
            }
            host.count_towards_snapshot();
            match delivery.reply {
                ReplyTo::Local(ticket) => {
                    let timeout = host.config.callback_timeout;
                    let result = result.map(|outputs| linked(outputs, &links));
                    local(ticket, result.map_err(|failure| thrown_as_error(failure, timeout, host.origin)));
                }
                ReplyTo::Stream { stream, number, call: true } => {
                    if let Some(held) = inbound.get_mut(stream) {
                        held.keep(KeptReply { number, result: result.map(|outputs| linked(outputs, &links)) });
                        if answered.last() != Some(&stream) {
                            answered.push(stream);
                        }
                    }
                }
                ReplyTo::Stream { call: false, .. } | ReplyTo::Nobody | ReplyTo::TimedOut => {}
            }
        }
        in_flight.progress_at = now.instant;
        host.progress_at = now.instant;
        let keep = match rest {
            Rest::Continues => in_flight.events.len(),
            Rest::GivenBack => 0,
            Rest::GivenBackButRunning => in_flight.events.len().min(1),
        };
        let back = in_flight.events.split_off(keep);
        host.taken -= back.len() as u64;
        // Only what was handed out is given up, and stands in the mailbox.
        let given_back = !back.is_empty();
        host.mailbox.give_back(back.into_iter());
        let given_up = |delivery: &Delivery| delivery.withdrawn || delivery.reply == ReplyTo::TimedOut;
        let withdrawn = if given_back { host.withdraw(given_up) } else { Vec::new() };
        for delivery in &withdrawn {
            if let ReplyTo::Stream { stream, number, call: true } = delivery.reply
                && let Some(held) = inbound.get_mut(stream)
            {
                held.keep(failed(number, FailureKind::Withdrawn, NOT_BEGUN));
                answered.push(stream);
            }
        }
        // The replies of what has begun are enough for its callers.
        let full = in_flight.events.len() > 1
            && answered.iter().filter_map(|stream| inbound.get(*stream)).any(|held| !held.may_answer());
        if !in_flight.events.is_empty() {
            host.running = Running::Batch(in_flight);
        }
        if full {
            self.work.push(Work::Yield { daemon: key });
        }
        if !withdrawn.is_empty() {
            self.room_came_free(key);
        }
        for stream in answered {
            self.answer(key, stream);
        }
        if !emitted.is_empty() {
            self.enter_outputs(key, emitted, now);
        }
        self.pump(key, now);
        self.settle_own(now);
    }
}

/// Puts the outcome of an event on the daemon's chain; `links` has the links of the outputs.
fn conclude(
    host: &mut crate::daemon::DaemonHost,
    outcome: EventOutcome,
    max: u64,
    links: &mut Vec<CausalLink>,
) -> Result<Outputs<Bytes>, Failure> {
    let outputs = match outcome {
        EventOutcome::Outputs(outputs) => outputs,
        EventOutcome::Failed(failure) => return Err(failure),
    };
    if let Some(message) = too_many_outputs(outputs.len()) {
        return Err(failure(FailureKind::InvalidOutput, &message));
    }
    if let Some(size) = outputs.iter().map(|output| output.len() as u64).find(|size| *size > max) {
        let message = RuntimeError::PayloadTooLarge { size, max }.to_string();
        return Err(failure(FailureKind::PayloadTooLarge, &message));
    }
    host.emit(&outputs, links).map_err(|e| failure(FailureKind::HostFailed, &e.to_string()))?;
    Ok(outputs)
}

/// What whoever waits is told when one event has too many outputs.
pub(super) fn too_many_outputs(count: usize) -> Option<String> {
    (count > MOST_OUTPUTS).then(|| format!("{count} outputs of one event, of which there may be {MOST_OUTPUTS}"))
}

/// The outputs as they are answered.
fn linked(outputs: Outputs<Bytes>, links: &[CausalLink]) -> Outputs<OutputRecord> {
    let mut links = links.iter();
    outputs.map(|payload| OutputRecord {
        link: *links.next().expect("a host that emits makes one link for each output"),
        payload,
    })
}
