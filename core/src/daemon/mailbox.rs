//! A daemon's inbox: first in, first out, bounded in events and bytes.

use std::collections::VecDeque;

use super::delivery::Delivery;

/// The mailbox has no room for this event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mailbox is full")]
pub struct MailboxFull;

/// A bounded queue of events.
#[derive(Debug)]
pub struct Mailbox {
    queue: VecDeque<Delivery>,
    bytes: usize,
    capacity: usize,
    max_bytes: usize,
}

impl Mailbox {
    /// An empty one. It allocates nothing until something arrives.
    pub fn new(capacity: usize, max_bytes: usize) -> Self {
        Self { queue: VecDeque::new(), bytes: 0, capacity, max_bytes }
    }

    /// Whether an event of this size would be taken. A single large event is taken when nothing else waits.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.queue.is_empty() || (self.queue.len() < self.capacity && self.bytes + bytes <= self.max_bytes)
    }

    /// How many more events it takes, and how many more bytes.
    pub fn room(&self) -> (usize, usize) {
        (self.capacity.saturating_sub(self.queue.len()), self.max_bytes.saturating_sub(self.bytes))
    }

    /// Takes an event in.
    pub fn push(&mut self, delivery: Delivery) -> Result<(), MailboxFull> {
        if !self.has_room(delivery.weight()) {
            return Err(MailboxFull);
        }
        self.bytes += delivery.weight();
        self.queue.push_back(delivery);
        Ok(())
    }

    /// Takes an event in that another host's mailbox held before: it was accepted, and may not be refused now.
    pub fn take_over(&mut self, delivery: Delivery) {
        self.bytes += delivery.weight();
        self.queue.push_back(delivery);
    }

    /// Puts back what was handed out and did not begin, in front and in its order. Never refused: it was here before.
    pub fn give_back(&mut self, deliveries: impl DoubleEndedIterator<Item = Delivery>) {
        for delivery in deliveries.rev() {
            self.bytes += delivery.weight();
            self.queue.push_front(delivery);
        }
    }

    /// Takes the next events, at most `most`: the first, and behind it those that fit into `bytes` with it.
    pub fn take(&mut self, most: usize, bytes: usize) -> VecDeque<Delivery> {
        if self.queue.len() <= most && self.bytes <= bytes {
            // An idle daemon keeps no memory of a past flood.
            self.bytes = 0;
            return std::mem::take(&mut self.queue);
        }
        let mut taken = VecDeque::with_capacity(most.min(self.queue.len()));
        let mut together = 0;
        while taken.len() < most
            && let Some(weight) = self.queue.front().map(Delivery::weight)
            && (taken.is_empty() || together + weight <= bytes)
        {
            together += weight;
            taken.extend(self.queue.pop_front());
        }
        self.bytes -= together;
        taken
    }

    /// Takes out every event that `gone` says is to go, keeping the order of the rest.
    pub fn extract(&mut self, mut gone: impl FnMut(&Delivery) -> bool) -> Vec<Delivery> {
        if !self.queue.iter().any(&mut gone) {
            return Vec::new();
        }
        let mut out = Vec::new();
        let mut rest = VecDeque::with_capacity(self.queue.len());
        for delivery in self.queue.drain(..) {
            if gone(&delivery) {
                out.push(delivery);
            } else {
                rest.push_back(delivery);
            }
        }
        self.queue = rest;
        self.bytes -= out.iter().map(Delivery::weight).sum::<usize>();
        out
    }

    /// The waiting events, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Delivery> {
        self.queue.iter()
    }

    /// The waiting events, in order. Their weight must stay.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = &mut Delivery> {
        self.queue.iter_mut()
    }

    /// The event at this position.
    pub fn get(&self, index: usize) -> Option<&Delivery> {
        self.queue.get(index)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Payload bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
