//! How events get into the mailbox of a daemon from its streams and channels, and who waits for room there.
//!
//! Whoever finds no room waits in turn, and so does whoever comes while others wait: when room comes free, each takes a share of
//! it, and stands behind the others if it has more. So a sender that fills the mailbox again and again leaves room for others.
//!
//! Callers on the daemon's own node do not wait: they are taken in or refused. Beside what is large they and those that wait take
//! turns, or the one would keep the other out for ever.
//!
//! What a stream had no room for, nor its peer, is dropped, and asked for again when it could come in. Others have taken that room
//! until it comes, so one of those that are asked is promised that its event comes in all the same.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::engine::{Engine, Now, Slot};
use super::timers::TimerKey;
use crate::daemon::{DaemonHost, DaemonKey, Delivery, Presence, ReplyTo};
use crate::events::{Held, InStream, Inbound};
use crate::identity::NodeId;
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::events::EventsMessage;

/// So many accepted events are told at once; fewer with the next reply, or a little later.
const TELL_AT: u64 = 256;

/// How long a promise keeps others from getting one.
const PROMISED_FOR: Duration = Duration::from_secs(10);

/// Where the events of a mailbox come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A stream, by its number.
    Stream(u32),
    /// All channels together: they take turns among themselves.
    Channels,
}

/// How callers on the daemon's own node stand to the first of those that wait, for which there is too little room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum OwnCallers {
    /// None came in before it: they may fill what is free.
    #[default]
    MayPass,
    /// Some did, and more may until room comes free.
    Pass,
    /// Room came free since, and that was too little for it: what is free is kept, until it has had its turn.
    HeldBack,
}

/// That an event comes in which its sender was asked for, whoever has taken the room for it meanwhile. A mailbox has one such
/// promise at a time, so it holds one event too many at most.
#[derive(Clone, Copy, Debug)]
struct Promise {
    stream: u32,
    /// There was room for so many.
    bytes: usize,
    /// Its sender may be slow, or never send it.
    until: Instant,
}

/// Those that wait for room in a mailbox, in turn.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    sources: VecDeque<Source>,
    own: OwnCallers,
    promise: Option<Promise>,
}

impl Waiting {
    /// Enters a source behind the others, unless it waits already.
    pub(super) fn enter(&mut self, source: Source) {
        if !self.sources.contains(&source) {
            self.sources.push_back(source);
        }
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whose turn it is.
    pub(super) fn first(&self) -> Option<Source> {
        self.sources.front().copied()
    }

    /// Whose turn it is has nothing more.
    pub(super) fn leave_first(&mut self) {
        self.sources.pop_front();
        self.own = OwnCallers::MayPass;
    }

    /// What became of the turn of a source, which was taken out for it.
    fn had_turn(&mut self, source: Source, turn: Turn) {
        match turn {
            Turn::Over => self.own = OwnCallers::MayPass,
            Turn::HasMore => {
                self.sources.push_back(source);
                self.own = OwnCallers::MayPass;
            }
            Turn::NoRoom => self.sources.push_front(source),
        }
    }

    /// A caller on the daemon's own node came in.
    pub(super) fn passed(&mut self) {
        if !self.is_empty() && self.own == OwnCallers::MayPass {
            self.own = OwnCallers::Pass;
        }
    }

    /// Something was taken out of the mailbox, and those that wait have their turns next.
    pub(super) fn room_came_free(&mut self) {
        if self.own == OwnCallers::Pass {
            self.own = OwnCallers::HeldBack;
        }
    }

    /// Whether what is free is kept for the first one, and not for callers on the daemon's own node.
    fn holds_back_own(&self) -> bool {
        !self.is_empty() && self.own == OwnCallers::HeldBack
    }

    /// How many events may come in from a source whose turn it is, when there is room for so many.
    fn share(&self, room: usize) -> usize {
        room.checked_div(self.sources.len()).unwrap_or(room).max(1)
    }

    /// How many may come in from one that does not wait yet.
    pub(super) fn share_of_another(&self) -> usize {
        if self.is_empty() { usize::MAX } else { 0 }
    }

    /// Promises a stream that its next event comes in, unless another one was promised that and may yet come.
    fn promise(&mut self, promise: Promise, inbound: &Inbound, now: Now) {
        let holds = |earlier: Promise| now.instant < earlier.until && inbound.get(earlier.stream).is_some();
        if !self.promise.is_some_and(holds) {
            self.promise = Some(promise);
        }
    }

    /// How large an event may be that a stream was promised would come in.
    fn promised_to(&self, stream: u32) -> Option<usize> {
        self.promise.filter(|promise| promise.stream == stream).map(|promise| promise.bytes)
    }

    /// What comes in of a stream that has said something: as much as there is room for unless others wait, and what was promised.
    pub(super) fn intake(&self, stream: u32) -> Intake {
        Intake { promised: self.promised_to(stream), ..Intake::of(self.share_of_another()) }
    }

    /// That came in.
    pub(super) fn came_in(&mut self, stream: u32, intake: &Intake) {
        if self.promised_to(stream).is_some() && intake.promised.is_none() {
            self.promise = None;
        }
    }

    /// Ends the waiting of streams that are no more.
    pub(super) fn forget_streams(&mut self) {
        self.sources.retain(|source| *source == Source::Channels);
        self.own = OwnCallers::MayPass;
        self.promise = None;
    }
}

/// What became of a source's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It has nothing more.
    Over,
    /// It took its share, or what there was room for, and has more.
    HasMore,
    /// There was no room for what it has. Nobody passes it: what is large would wait for ever beside what is small.
    NoRoom,
}

/// What a stream gives to its daemon's mailbox.
pub(super) struct Intake {
    /// So many more events may come in while there is room.
    left: usize,
    /// One of this size may at any rate.
    promised: Option<usize>,
    /// Any event did.
    accepted: bool,
    /// One whose sender waits for just that did.
    sends: bool,
    /// There is room for what was dropped before for want of it: its bytes.
    again: Option<usize>,
}

impl Intake {
    /// One of so many events at most.
    const fn of(share: usize) -> Self {
        Self { left: share, promised: None, accepted: false, sends: false, again: None }
    }

    /// Accepts what is due on a stream, which `me` holds under a number, while there is room. What was given up needs none.
    /// True when the stream has more, for which there is none.
    pub(super) fn take(
        &mut self,
        host: &mut DaemonHost,
        held: &mut InStream,
        (me, stream): (NodeId, u32),
        now: Now,
    ) -> bool {
        if !takes(host, held, me) {
            return false;
        }
        while let Some(due) = held.ready() {
            if let Held::Event { payload, .. } = due
                && !self.has_room(host, payload.len())
            {
                return true;
            }
            let Some((number, due)) = held.accept() else { break };
            self.enter(host, due, (stream, number), now);
        }
        let Some(bytes) = held.lacks() else { return false };
        if !self.has_room(host, bytes) {
            return true;
        }
        held.asked();
        self.again = Some(bytes);
        false
    }

    /// Whether an event of this size may come in.
    pub(super) fn has_room(&self, host: &DaemonHost, bytes: usize) -> bool {
        self.promised.is_some_and(|most| bytes <= most) || (self.left > 0 && host.mailbox.has_room(bytes))
    }

    /// Enters what was accepted into the mailbox, where room was looked for before.
    pub(super) fn enter(&mut self, host: &mut DaemonHost, due: Held, (stream, number): (u32, u64), now: Now) {
        let Held::Event { link, payload, call } = due else { return };
        self.sends |= !call;
        self.accepted = true;
        let delivery = Delivery {
            link,
            payload,
            received_at: now.unix_ns,
            channel: None,
            reply: ReplyTo::Stream { stream, number, call },
            expires: None,
            accepted_at: now.instant,
            withdrawn: false,
        };
        if self.promised.is_some_and(|most| delivery.weight() <= most) {
            self.promised = None;
            host.take_over(delivery);
        } else {
            self.left -= 1;
            let taken = host.accept(delivery);
            debug_assert!(taken.is_ok());
        }
    }

    fn turn(&self, waits: bool) -> Turn {
        match (waits, self.accepted) {
            (false, _) => Turn::Over,
            (true, true) => Turn::HasMore,
            (true, false) => Turn::NoRoom,
        }
    }
}

/// Whether a daemon takes in what is due on a stream, as far as its mailbox has room.
pub(super) fn takes(host: &DaemonHost, held: &InStream, me: NodeId) -> bool {
    // Callers of this node get the next numbers of its stream when the daemon is handed over.
    let handed_over = held.id.sender == me && matches!(host.presence, Presence::Frozen(_));
    host.accepts() && !handed_over
}

impl Slot {
    /// How many more events of callers on the daemon's own node, and how many bytes of them, its mailbox takes while it is open.
    pub(super) fn room_for_own(&self) -> (usize, usize) {
        if self.holds_back_own() { (0, 0) } else { self.host.mailbox.room() }
    }

    /// Whether it would take one of this size.
    pub(super) fn has_room_for_own(&self, bytes: usize) -> bool {
        !self.holds_back_own() && self.host.mailbox.has_room(bytes)
    }

    // While a daemon is moved it runs nothing: no room comes free, for whomever it is kept.
    fn holds_back_own(&self) -> bool {
        self.host.presence == Presence::Live && !self.host.mailbox.is_empty() && self.waiting.holds_back_own()
    }
}

impl Engine {
    /// Something of a stream may be due.
    pub(super) fn feed(&mut self, key: DaemonKey, stream: u32, now: Now) {
        let Some(share) = self.slot(key).map(|slot| slot.waiting.share_of_another()) else { return };
        if self.feed_share(key, stream, share, now) != Turn::Over
            && let Some(slot) = self.slot_mut(key)
        {
            slot.waiting.enter(Source::Stream(stream));
        }
        self.feed_waiting(key, now);
    }

    /// Accepts what is due on a stream, so many events at most, while the mailbox has room.
    fn feed_share(&mut self, key: DaemonKey, stream: u32, share: usize, now: Now) -> Turn {
        // Nothing overtakes what its sender sent before.
        if let Some(earlier) = self.due_before(key, stream) {
            return match self.feed_share(key, earlier, share, now) {
                Turn::Over => Turn::HasMore,
                turn @ (Turn::HasMore | Turn::NoRoom) => turn,
            };
        }
        let me = self.me();
        let Some(Slot { host, inbound, .. }) = self.slot_mut(key) else { return Turn::Over };
        let Some(held) = inbound.get_mut(stream) else { return Turn::Over };
        let mut intake = Intake::of(share);
        let waits = intake.take(host, held, (me, stream), now);
        self.took_in(key, stream, &intake, now);
        intake.turn(waits)
    }

    fn due_before(&self, key: DaemonKey, stream: u32) -> Option<u32> {
        let Slot { host, inbound, .. } = self.slot(key)?;
        let held = inbound.get(stream)?;
        if takes(host, held, self.me()) { inbound.due_before(stream) } else { None }
    }

    /// Tells of what was accepted, and has it run.
    pub(super) fn took_in(&mut self, key: DaemonKey, stream: u32, intake: &Intake, now: Now) {
        let Intake { accepted, sends, again, .. } = *intake;
        let held = self.slot(key).and_then(|slot| slot.inbound.get(stream));
        let untold = held.map_or(0, InStream::untold);
        if let Some(bytes) = again
            && let Some(held) = held
        {
            let (id, to) = (held.id, self.way_back(held.id.sender, held.via));
            self.send(to, Subprotocol::Events, codec::encode(&EventsMessage::Again { stream: id, hops: 0 }));
            if let Some(Slot { waiting, inbound, .. }) = self.slot_mut(key) {
                waiting.promise(Promise { stream, bytes, until: now.instant + PROMISED_FOR }, inbound, now);
            }
        }
        if untold > 0 {
            if sends || untold >= TELL_AT {
                self.answer(key, stream);
            } else {
                self.untold_streams.insert((key, stream));
                self.timers.arm(TimerKey::Acknowledge, now.instant + super::routes::ACKNOWLEDGE_AFTER);
            }
        }
        if accepted {
            self.pump(key, now);
        }
    }

    /// A mailbox may have room: those that wait for it take their shares, in turn.
    pub(super) fn feed_waiting(&mut self, key: DaemonKey, now: Now) {
        let Some(Slot { host, waiting, .. }) = self.slot(key) else { return };
        let (room, _) = host.mailbox.room();
        let share = waiting.share(room);
        while let Some(source) = self.next_in_turn(key) {
            let turn = match source {
                Source::Stream(stream) => self.feed_share(key, stream, share, now),
                Source::Channels => self.receive_share(key, share, now),
            };
            let Some(Slot { waiting, .. }) = self.slot_mut(key) else { return };
            waiting.had_turn(source, turn);
            if turn == Turn::NoRoom {
                return;
            }
        }
    }

    fn next_in_turn(&mut self, key: DaemonKey) -> Option<Source> {
        let Slot { host, waiting, .. } = self.slot_mut(key)?;
        if host.accepts() && host.mailbox.has_room(0) { waiting.sources.pop_front() } else { None }
    }

    /// Offers everything that streams hold, and channels, to a daemon that takes events in again.
    pub(super) fn feed_all(&mut self, key: DaemonKey, now: Now) {
        let Some(slot) = self.slot(key) else { return };
        let streams: Vec<u32> = slot.inbound.iter().map(|(stream, _)| stream).collect();
        for stream in streams {
            self.feed(key, stream, now);
        }
        self.feed_waiting(key, now);
    }

    /// There may be room again for replies to peers: what their streams hold comes in, and what waits may begin.
    pub(super) fn feed_freed(&mut self, now: Now) {
        for peer in self.accounts.take_freed() {
            let its = self.streams().filter(|(_, _, held)| held.charged_to() == Some(peer));
            for (key, stream) in its.map(|(key, stream, _)| (key, stream)).collect::<Vec<_>>() {
                self.feed(key, stream, now);
                self.go_on(key, now);
            }
        }
    }
}
