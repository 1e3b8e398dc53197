//! The sender's end: numbering, the window, repetition, and who waits for what.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::outgoing::{OutItem, Outgoing, Word};
use super::{LARGE, WINDOW, WINDOW_BYTES};
use crate::daemon::{Expiry, Ticket};
use crate::identity::{Epoch, NodeId, OriginHash};
use crate::wire::events::{Answers, BATCH_OVERHEAD, Event, ITEM_OVERHEAD, Item, StreamId};

/// Where whoever waits stands; made when somebody gives up. What is over may still be in it.
#[derive(Debug, Default)]
struct Places {
    at: HashMap<Ticket, u64, RandomState>,
    /// Positions before this were entered.
    before: u64,
}

/// A stream that leaves this node.
#[derive(Debug)]
pub struct OutStream {
    /// Which one.
    pub id: StreamId,
    /// The daemon's address.
    pub origin: OriginHash,
    /// Where the daemon lives, as far as is known.
    pub host: NodeId,
    /// The epoch that goes with `host`.
    pub epoch: Epoch,
    /// The highest epoch that was told; above `epoch` while the new host is out of reach and the former one forwards.
    pub told_epoch: Epoch,
    /// The host that goes with `told_epoch`.
    pub told_host: NodeId,
    /// The highest epoch that was told when a host accepted something last, or nothing waited.
    heard_epoch: Epoch,
    /// What was sent went astray since then; when the daemon is to be looked for again.
    pub astray: Option<Instant>,
    /// The highest epoch whose host says that the daemon is not there.
    pub refuted: Epoch,
    /// The host that it had before, which may have the daemon back when `host` is gone.
    pub former: Option<NodeId>,
    base: u64,
    items: VecDeque<OutItem>,
    pending_bytes: usize,
    // No payload that waits is longer.
    longest: usize,
    found: Places,
    flight_bytes: usize,
    accepted: u64,
    // The host of that time.
    accepted_by: Option<NodeId>,
    sent: u64,
    // Through here an event may have run although it is to be sent again.
    doubtful: u64,
    // What is on its way in a slower lane than the rest.
    apart: VecDeque<u64>,
    told_replies: u64,
    /// What the host is to be told besides.
    pub word: Word,
}

impl OutStream {
    /// A stream whose next number is `next`: 1 unless a daemon left this node with events of this node in its queue.
    pub fn new(id: StreamId, origin: OriginHash, host: NodeId, epoch: Epoch, next: u64) -> Self {
        Self {
            id,
            origin,
            host,
            epoch,
            told_epoch: epoch,
            told_host: host,
            heard_epoch: epoch,
            astray: None,
            refuted: Epoch::default(),
            former: None,
            base: next,
            items: VecDeque::new(),
            pending_bytes: 0,
            longest: 0,
            found: Places::default(),
            flight_bytes: 0,
            accepted: next - 1,
            accepted_by: None,
            sent: next - 1,
            doubtful: next - 1,
            apart: VecDeque::new(),
            told_replies: next - 1,
            word: Word::Nothing,
        }
    }

    /// The number that the next event gets.
    pub fn next(&self) -> u64 {
        self.base + self.items.len() as u64
    }

    /// Gives an event the next number.
    pub fn push(&mut self, outgoing: Outgoing) -> u64 {
        let number = self.next();
        if !self.has_unaccepted() {
            self.heard();
        }
        self.pending_bytes += outgoing.payload.len();
        self.longest = self.longest.max(outgoing.payload.len());
        self.items.push_back(OutItem::Pending(outgoing));
        number
    }

    /// Enters events that the daemon's former host, this node, had accepted outside the stream and handed over: they get
    /// the numbers behind what it accepted, and what it did not accept comes after them.
    pub fn hand_over(&mut self, handed: impl Iterator<Item = OutItem>) {
        let at = usize::try_from(self.accepted + 1 - self.base).unwrap_or(usize::MAX).min(self.items.len());
        let mut later = self.items.split_off(at);
        let before = self.items.len();
        self.items.extend(handed);
        let count = (self.items.len() - before) as u64;
        self.items.append(&mut later);
        self.found = Places::default();
        self.accepted += count;
        self.doubtful = self.accepted;
        self.sent = self.accepted;
        self.apart.clear();
        self.flight_bytes = 0;
        self.trim();
    }

    /// It was told where the daemon lives now.
    pub fn tell(&mut self, host: NodeId, epoch: Epoch) {
        if self.told_epoch == Epoch::default() {
            // It began without knowing where the daemon was.
            self.heard_epoch = epoch;
        }
        (self.told_host, self.told_epoch) = (host, epoch);
    }

    /// How often the daemon moved while nothing was accepted of what waits.
    pub const fn moves(&self) -> u64 {
        self.heard_epoch.behind(self.told_epoch)
    }

    fn heard(&mut self) {
        self.heard_epoch = self.told_epoch;
        self.astray = None;
    }

    /// Goes on at another host.
    pub fn lead_to(&mut self, host: NodeId, epoch: Epoch) {
        if self.host != host {
            self.former = Some(self.host);
        }
        (self.host, self.epoch) = (host, epoch);
    }

    /// Whether the host that was told last is out of reach, and a former one stands in for it.
    pub fn is_detoured(&self) -> bool {
        self.told_host != self.host
    }

    fn item_mut(&mut self, number: u64) -> Option<&mut OutItem> {
        let index = usize::try_from(number.checked_sub(self.base)?).ok()?;
        self.items.get_mut(index)
    }

    /// Whether the host is one by what others say only: it has accepted nothing.
    pub fn is_host_unproven(&self) -> bool {
        self.accepted_by != Some(self.host) || self.epoch == Epoch::default()
    }

    /// Whether no host has accepted anything of it.
    pub const fn is_unheard(&self) -> bool {
        self.accepted == 0
    }

    /// The host accepted everything through this number; tells of those who waited for that.
    pub fn accepted(&mut self, through: u64, mut done: impl FnMut(Ticket)) {
        let through = through.min(self.sent);
        if self.accepted < through {
            self.accepted_by = Some(self.host);
            self.heard();
        }
        while self.accepted < through {
            self.accepted += 1;
            let number = self.accepted;
            let doubtful = self.is_doubtful(number);
            let mut freed = 0;
            if let Some(item) = self.item_mut(number) {
                *item = match std::mem::replace(item, OutItem::Done) {
                    OutItem::Pending(outgoing) => {
                        freed = outgoing.payload.len();
                        if outgoing.call {
                            let Outgoing { ticket, expires, link, .. } = outgoing;
                            OutItem::Awaiting { ticket, expires, emitter: link.origin }
                        } else {
                            done(outgoing.ticket);
                            OutItem::Done
                        }
                    }
                    // What was sent again was sent as given up: which of the two was accepted is for the host to say.
                    OutItem::Withdrawn { ticket, .. } if !doubtful => {
                        done(ticket);
                        OutItem::Done
                    }
                    other @ (OutItem::Awaiting { .. } | OutItem::Withdrawn { .. }) => other,
                    OutItem::Skip | OutItem::Done => OutItem::Done,
                };
            }
            self.pending_bytes -= freed;
            self.flight_bytes -= freed;
        }
        while self.apart.front().is_some_and(|number| *number <= self.accepted) {
            self.apart.pop_front();
        }
        self.trim();
    }

    /// A reply arrived: who waited for it, if anybody still does.
    pub fn replied(&mut self, number: u64) -> Option<Ticket> {
        let accepted = number <= self.accepted;
        let item = self.item_mut(number)?;
        let ticket = match item {
            OutItem::Awaiting { ticket, .. } => Some(*ticket),
            OutItem::Withdrawn { ticket, .. } => {
                let ticket = *ticket;
                *item = if accepted { OutItem::Done } else { OutItem::Skip };
                self.trim();
                return Some(ticket);
            }
            OutItem::Pending(_) | OutItem::Skip | OutItem::Done => return None,
        };
        *item = OutItem::Done;
        self.trim();
        ticket
    }

    fn trim(&mut self) {
        while self.base <= self.accepted && matches!(self.items.front(), Some(OutItem::Done)) {
            self.items.pop_front();
            self.base += 1;
        }
        if self.items.is_empty() {
            self.longest = 0;
            self.found = Places::default();
            if self.items.capacity() > 4096 {
                self.items = VecDeque::new();
            }
        }
    }

    /// Whoever waits for the acceptance of a number does not for much longer: until `expires` for the host to say what became
    /// of it. Only for what a host holds, as far as is known.
    pub fn withdraw(&mut self, number: u64, expires: Expiry) {
        let mut freed = 0;
        if let Some(item) = self.item_mut(number)
            && let OutItem::Pending(outgoing) = item
        {
            freed = outgoing.payload.len();
            *item = OutItem::Withdrawn { ticket: outgoing.ticket, expires, emitter: outgoing.link.origin };
        }
        self.pending_bytes -= freed;
        self.flight_bytes -= freed;
    }

    /// Whether the host was asked what became of the event at a number.
    pub fn is_withdrawn(&self, number: u64) -> bool {
        matches!(self.at(number), Some(OutItem::Withdrawn { .. }))
    }

    /// Its caller gave a number up. Tells whether the host has to be told: it may hold the event.
    pub fn give_up(&mut self, number: u64) -> bool {
        let (sent, accepted) = (self.sent, self.accepted);
        let mut freed = 0;
        let Some(item) = self.item_mut(number) else { return false };
        match item {
            OutItem::Pending(outgoing) => {
                freed = outgoing.payload.len();
                *item = OutItem::Skip;
            }
            OutItem::Withdrawn { .. } if number > accepted => *item = OutItem::Skip,
            OutItem::Awaiting { .. } | OutItem::Withdrawn { .. } => *item = OutItem::Done,
            OutItem::Skip | OutItem::Done => return false,
        }
        self.pending_bytes -= freed;
        let told = number <= sent;
        if told {
            self.flight_bytes -= freed;
        }
        self.trim();
        told
    }

    /// Gives up events that are to be sent and have more than `limit` bytes, as the host takes no more. Tells who waits, the
    /// bytes, and whether the event may have run where it was sent before.
    pub fn give_up_longer(&mut self, limit: u64) -> Vec<(Ticket, u64, bool)> {
        if self.longest as u64 <= limit {
            return Vec::new();
        }
        let mut longer = Vec::new();
        for number in self.sent + 1..self.next() {
            if let Some(OutItem::Pending(outgoing)) = self.at(number)
                && outgoing.payload.len() as u64 > limit
            {
                longer.push((outgoing.ticket, outgoing.payload.len() as u64, number <= self.doubtful));
                self.give_up(number);
            }
        }
        longer
    }

    /// The host takes no event as large as the one at a number, which was sent and not accepted: it is given up, and what was
    /// sent is to be sent again. Tells who waits, and whether the event may have run where it was sent before.
    pub fn refused(&mut self, number: u64) -> Option<(Ticket, bool)> {
        let Some(OutItem::Pending(outgoing)) = self.at(number).filter(|_| self.was_sent(number)) else { return None };
        let ticket = outgoing.ticket;
        self.give_up(number);
        Some((ticket, number <= self.doubtful))
    }

    /// Whether the event at a number may have run although it is not accepted.
    pub const fn is_doubtful(&self, number: u64) -> bool {
        number <= self.doubtful
    }

    /// Whether the event at a number was ever on its way, and no host accepted it.
    pub const fn is_unaccepted(&self, number: u64) -> bool {
        number > self.accepted && self.was_sent(number)
    }

    /// Whether the event at a number was ever on its way.
    pub const fn was_sent(&self, number: u64) -> bool {
        number <= self.sent || number <= self.doubtful
    }

    /// The positions whose callers have waited long enough.
    pub fn expired(&self, now: Instant) -> Vec<(u64, Ticket, Expiry)> {
        (self.base..)
            .zip(&self.items)
            .filter_map(|(number, item)| {
                let (ticket, expires) = item.waiting()?;
                expires.filter(|expires| expires.at <= now).map(|expires| (number, ticket, expires))
            })
            .collect()
    }

    /// When the first caller has waited long enough.
    pub fn next_expiry(&self) -> Option<Instant> {
        self.items.iter().filter_map(|item| item.waiting()?.1).map(|expires| expires.at).chain(self.astray).min()
    }

    /// The number of the position that this ticket waits for. Asked for many, it looks at each position about once.
    pub fn find(&mut self, ticket: Ticket) -> Option<u64> {
        if self.found.at.len() > 2 * self.items.len() {
            // Most of it is over.
            self.found = Places::default();
        }
        let from = self.found.before.max(self.base);
        let known = usize::try_from(from - self.base).unwrap_or(usize::MAX).min(self.items.len());
        let new = (from..).zip(self.items.range(known..));
        self.found.at.extend(new.filter_map(|(number, item)| Some((item.waiting()?.0, number))));
        self.found.before = self.next();
        let number = *self.found.at.get(&ticket)?;
        self.at(number)?.waiting().is_some_and(|(waiting, _)| waiting == ticket).then_some(number)
    }

    /// Whether outputs are awaited at this number, not only acceptance.
    pub fn is_call(&self, number: u64) -> bool {
        match self.at(number) {
            Some(OutItem::Pending(outgoing)) => outgoing.call,
            Some(OutItem::Awaiting { .. }) => true,
            Some(OutItem::Withdrawn { .. } | OutItem::Skip | OutItem::Done) | None => false,
        }
    }

    /// Sends again, from the host's mark on, what was not accepted: after a reconnection or a move.
    pub fn rewind(&mut self) {
        self.doubtful = self.doubtful.max(self.sent);
        self.sent = self.accepted;
        self.apart.clear();
        self.flight_bytes = 0;
        self.word = Word::Repeat;
    }

    /// Everything through this number is done: its replies need not be kept.
    pub fn replies_through(&self) -> u64 {
        self.base - 1
    }

    /// How many finished positions the host has not been told of.
    pub fn untold_replies(&self) -> u64 {
        self.replies_through().saturating_sub(self.told_replies)
    }

    /// The host is being told of finished positions now.
    pub fn told_replies(&mut self) {
        self.told_replies = self.replies_through();
    }

    /// The host is to hear that somebody waits.
    pub fn remind(&mut self) {
        self.word = self.word.max(Word::Waiting);
    }

    /// Whether a position may be sent now.
    pub fn has_unsent(&self) -> bool {
        self.sent + 1 < self.next() && self.sent < self.accepted + WINDOW && self.flight_bytes <= WINDOW_BYTES
    }

    /// Whether the host accepted everything through this number.
    pub fn is_accepted_through(&self, number: u64) -> bool {
        self.accepted >= number
    }

    /// Whether anything is not accepted yet.
    pub fn has_unaccepted(&self) -> bool {
        self.accepted + 1 < self.next()
    }

    /// How many events of an emitter are not accepted, and how many more of its calls are not answered.
    pub fn unsettled_of(&self, emitter: OriginHash) -> (usize, usize) {
        self.items.iter().fold((0, 0), |(unaccepted, unanswered), item| match item {
            OutItem::Pending(outgoing) if outgoing.link.origin == emitter => (unaccepted + 1, unanswered),
            OutItem::Withdrawn { emitter: whose, .. } if *whose == emitter => (unaccepted + 1, unanswered),
            OutItem::Awaiting { emitter: whose, .. } if *whose == emitter => (unaccepted, unanswered + 1),
            OutItem::Pending(_)
            | OutItem::Withdrawn { .. }
            | OutItem::Awaiting { .. }
            | OutItem::Skip
            | OutItem::Done => (unaccepted, unanswered),
        })
    }

    /// Whether nobody waits for anything.
    pub fn is_settled(&self) -> bool {
        self.items.is_empty()
    }

    /// Events that are not finished.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Payload bytes that are not accepted.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// The next positions that fit `room` bytes of one message, without taking them.
    pub fn batch(&self, room: usize) -> (u64, Vec<Item<'_>>) {
        let first = self.sent + 1;
        let mut items = Vec::new();
        let mut left = room.saturating_sub(BATCH_OVERHEAD);
        // More items than a message may hold wait for the next one.
        let most = first + 1024;
        let mut number = first;
        let mut in_flight = self.flight_bytes;
        while number < self.next().min(most) && number <= self.accepted + WINDOW && in_flight <= WINDOW_BYTES {
            let item = match self.at(number) {
                Some(OutItem::Pending(outgoing)) => {
                    let need = outgoing.payload.len() + ITEM_OVERHEAD;
                    // A large one goes apart, so that nothing waits behind it, and its host can tell that by its size.
                    if need > left || (!items.is_empty() && outgoing.payload.len() > LARGE) {
                        break;
                    }
                    left -= need;
                    in_flight += outgoing.payload.len();
                    let event = Event { link: outgoing.link, payload: &outgoing.payload };
                    if outgoing.call { Item::Call(event) } else { Item::Send(event) }
                }
                Some(OutItem::Withdrawn { .. } | OutItem::Skip | OutItem::Done | OutItem::Awaiting { .. }) => {
                    if left < 2 {
                        break;
                    }
                    left -= 2;
                    Item::Skip
                }
                None => break,
            };
            items.push(item);
            number += 1;
        }
        (first, items)
    }

    /// The payload length of the next position, when it is an event.
    pub fn next_len(&self) -> Option<usize> {
        match self.at(self.sent + 1)? {
            OutItem::Pending(outgoing) => Some(outgoing.payload.len()),
            OutItem::Withdrawn { .. } | OutItem::Awaiting { .. } | OutItem::Skip | OutItem::Done => None,
        }
    }

    fn at(&self, number: u64) -> Option<&OutItem> {
        self.items.get(usize::try_from(number.checked_sub(self.base)?).ok()?)
    }

    /// The first `count` unsent positions are on their way.
    pub fn sent(&mut self, count: u64) {
        for number in self.sent + 1..=self.sent + count {
            if let Some(OutItem::Pending(outgoing)) = self.at(number) {
                self.flight_bytes += outgoing.payload.len();
            }
        }
        self.sent += count;
    }

    /// Takes out the events that certainly did not run, in their order: those that were never on their way, and what a host
    /// that has just `refused` the stream did not accept of what it was sent since the last repetition.
    pub fn take_not_run(&mut self, refused: bool) -> Vec<Outgoing> {
        let apart = self.apart.back().copied().unwrap_or(0);
        let sent = if refused { self.doubtful.max(apart) } else { self.doubtful.max(self.sent) };
        let first = self.accepted.max(sent) + 1;
        let at = usize::try_from(first.saturating_sub(self.base)).unwrap_or(usize::MAX).min(self.items.len());
        let mut unsent = Vec::new();
        for item in self.items.split_off(at) {
            match item {
                OutItem::Pending(outgoing) => unsent.push(outgoing),
                // Its time is up: it goes nowhere else, and whoever waits hears that at the end of the stream.
                OutItem::Withdrawn { .. } => self.items.push_back(item),
                OutItem::Awaiting { .. } | OutItem::Skip | OutItem::Done => {}
            }
        }
        unsent
    }

    /// The first unsent position is on its way in a lane in which others overtake it.
    pub fn sent_apart(&mut self) {
        self.sent(1);
        self.apart.push_back(self.sent);
    }

    /// Who does not know the stream answered that: whether nothing is on its way there any more. A lane keeps the order.
    pub fn is_answered(&mut self, answers: Answers) -> bool {
        if let Answers::BatchTo(last) = answers
            && let Some(index) = self.apart.iter().position(|number| *number == last.get())
        {
            self.apart.drain(..=index);
        }
        self.apart.is_empty()
    }

    /// Ends the stream: whoever waits, and whether their event may have run. A host that has just `refused` the stream
    /// ran nothing of what it was sent since the last repetition and did not accept, but may run what has yet to arrive there.
    pub fn end(&mut self, refused: bool) -> Vec<(Ticket, bool)> {
        let base = self.base;
        let apart = self.apart.drain(..).next_back().unwrap_or(0);
        let sent = if refused { self.doubtful.max(apart) } else { self.doubtful.max(self.sent) };
        self.pending_bytes = 0;
        self.flight_bytes = 0;
        (base..)
            .zip(self.items.drain(..))
            .filter_map(|(number, item)| match item {
                OutItem::Pending(outgoing) => Some((outgoing.ticket, number <= sent)),
                OutItem::Withdrawn { ticket, .. } => Some((ticket, number <= sent)),
                OutItem::Awaiting { ticket, .. } => Some((ticket, true)),
                OutItem::Skip | OutItem::Done => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
