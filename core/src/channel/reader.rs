//! What a reader of a channel has not read yet.

use std::collections::VecDeque;

use super::holding::Key;
use super::peers::{WINDOW, WINDOW_BYTES};
use super::{ArrivedMessage, ChannelError};

/// Most messages that a reader may have before it. Then reliable ones wait while somebody reads, and the oldest go while nobody
/// does.
pub const MAX_UNREAD: usize = 1024;
/// Most bytes of them; one message of any size is always kept.
pub const MAX_UNREAD_BYTES: usize = 64 * 1024 * 1024;
/// What waits beyond that: a window, and another one that was acknowledged while nobody read.
const MAX_WAITING: usize = 2 * WINDOW;
/// Bytes of that; one message of any size counts as a window at most.
const MAX_WAITING_BYTES: usize = 2 * WINDOW_BYTES;

/// Names a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderId(pub u64);

/// How a reader came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaderEnd {
    /// That was asked for.
    Left,
    /// The publisher refused or was lost.
    Failed(ChannelError),
}

/// Messages that wait to be read.
///
/// While somebody reads, reliable messages beyond the bound wait apart and are not acknowledged before there is room, so their
/// publisher waits as it does for a daemon; what needs no acknowledgement gives way. While nobody does, the oldest go.
#[derive(Debug)]
pub(super) struct Reader {
    /// What it reads.
    key: Key,
    unread: VecDeque<ArrivedMessage>,
    bytes: usize,
    /// How many of them need no acknowledgement.
    lossy: usize,
    /// What comes behind them once there is room.
    waiting: VecDeque<ArrivedMessage>,
    waiting_bytes: usize,
    /// Somebody is reading.
    attended: bool,
    dropped: u64,
    end: Option<ReaderEnd>,
    /// It was told that there is something to read, and has not looked since.
    told: bool,
}

impl Reader {
    pub(super) fn new(key: Key) -> Self {
        Self {
            key,
            unread: VecDeque::new(),
            bytes: 0,
            lossy: 0,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            attended: false,
            dropped: 0,
            end: None,
            told: false,
        }
    }

    /// What it reads.
    pub(super) const fn key(&self) -> Key {
        self.key
    }

    /// Somebody is reading from now on, or no longer.
    pub(super) const fn attend(&mut self, attended: bool) {
        self.attended = attended;
    }

    /// Whether somebody is reading.
    pub(super) const fn is_attended(&self) -> bool {
        self.attended
    }

    /// Enters a message.
    pub(super) fn push(&mut self, message: ArrivedMessage) {
        if !self.attended {
            while let Some(waited) = self.next_waiting() {
                self.ring(waited);
            }
            self.ring(message);
        } else if self.waiting.is_empty() && self.make_room(message.payload.len()) {
            self.append(message);
        } else if message.reliable {
            self.waiting_bytes += weight(&message);
            self.waiting.push_back(message);
            while (self.waiting.len() > MAX_WAITING || self.waiting_bytes > MAX_WAITING_BYTES)
                && self.next_waiting().is_some()
            {
                // No publisher of ours sends so much ahead.
                self.dropped += 1;
            }
        } else {
            self.dropped += 1;
        }
    }

    /// Enters a message, and has the oldest give way.
    fn ring(&mut self, message: ArrivedMessage) {
        while !self.has_room(message.payload.len()) && self.take_at(0).is_some() {
            self.dropped += 1;
        }
        self.append(message);
    }

    /// Whether there is room, once what needs no acknowledgement has given way.
    fn make_room(&mut self, len: usize) -> bool {
        while !self.has_room(len) {
            let oldest = if self.lossy > 0 { self.unread.iter().position(|message| !message.reliable) } else { None };
            if oldest.and_then(|at| self.take_at(at)).is_none() {
                return false;
            }
            self.dropped += 1;
        }
        true
    }

    fn has_room(&self, len: usize) -> bool {
        self.unread.is_empty() || (self.unread.len() < MAX_UNREAD && self.bytes + len <= MAX_UNREAD_BYTES)
    }

    fn append(&mut self, message: ArrivedMessage) {
        self.bytes += message.payload.len();
        self.lossy += usize::from(!message.reliable);
        self.unread.push_back(message);
    }

    fn take_at(&mut self, at: usize) -> Option<ArrivedMessage> {
        let message = self.unread.remove(at)?;
        self.bytes -= message.payload.len();
        self.lossy -= usize::from(!message.reliable);
        Some(message)
    }

    fn next_waiting(&mut self) -> Option<ArrivedMessage> {
        let message = self.waiting.pop_front()?;
        self.waiting_bytes -= weight(&message);
        Some(message)
    }

    /// The first message that there is no room for yet, by its place.
    pub(super) fn lacks_room_for(&self) -> Option<u64> {
        // What another reader left behind may stand behind later ones.
        self.waiting.iter().map(|message| message.place).min().filter(|_| self.attended)
    }

    /// Lets go what was not acknowledged, everything from this place on: it falls to somebody else. What needs no
    /// acknowledgement is not sent again.
    pub(super) fn forgo(&mut self, from: u64) {
        let mut at = 0;
        while let Some(message) = self.unread.get(at) {
            if message.place < from {
                at += 1;
            } else if self.take_at(at).is_some_and(|message| !message.reliable) {
                self.dropped += 1;
            }
        }
        self.waiting.retain(|message| message.place < from);
        self.waiting_bytes = self.waiting.iter().map(weight).sum();
    }

    /// No more messages come. What is here can still be read. The first end counts, and is news also to one that has not looked.
    pub(super) fn end(&mut self, how: ReaderEnd) {
        self.told &= self.end.is_some();
        self.end.get_or_insert(how);
    }

    /// Whether no more messages come.
    pub(super) const fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Takes the oldest messages out, `most` messages and about as many `bytes` at most; at least one.
    pub(super) fn read(&mut self, most: usize, bytes: usize) -> Vec<ArrivedMessage> {
        let mut taken = Vec::new();
        let mut size = 0;
        while taken.len() < most
            && let Some(next) = self.unread.front()
            && (taken.is_empty() || size + next.payload.len() <= bytes)
            && let Some(message) = self.take_at(0)
        {
            size += message.payload.len();
            taken.push(message);
            if self.waiting.front().is_some_and(|next| self.has_room(next.payload.len()))
                && let Some(waited) = self.next_waiting()
            {
                self.append(waited);
            }
        }
        // What is left is read without being told again.
        self.told = !self.unread.is_empty();
        taken
    }

    /// Whether it has to be told that there is something; then it counts as told.
    pub(super) fn is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }

    /// How it ended, once everything is read.
    pub(super) fn ended(&self) -> Option<ReaderEnd> {
        if self.unread.is_empty() { self.end.clone() } else { None }
    }

    /// How many messages wait.
    pub(super) fn unread(&self) -> usize {
        self.unread.len() + self.waiting.len()
    }

    /// Messages that went unread.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// What a message counts for in the bound of those that there is no room for.
fn weight(message: &ArrivedMessage) -> usize {
    message.payload.len().min(WINDOW_BYTES)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::{ChannelName, Feed, Subscriber};
    use super::*;
    use crate::identity::NodeId;

    fn reader() -> Reader {
        Reader::new((NodeId::new(1), Feed::all(ChannelName::new("a").expect("canonical")).stream(Subscriber::Node)))
    }

    fn attended() -> Reader {
        let mut reader = reader();
        reader.attend(true);
        reader
    }

    fn lossy(number: u64) -> ArrivedMessage {
        ArrivedMessage { reliable: false, ..message(number, 1) }
    }

    fn message(number: u64, len: usize) -> ArrivedMessage {
        ArrivedMessage {
            publisher: NodeId::new(1),
            feed: Feed::all(ChannelName::new("a").expect("canonical")),
            number,
            place: number,
            payload: Bytes::from(vec![0; len]),
            link: None,
            reliable: true,
            received_at: Duration::ZERO,
        }
    }

    #[test]
    fn the_buffer_is_bounded_in_messages_and_the_oldest_go() {
        let mut reader = reader();
        for number in 1..=MAX_UNREAD as u64 + 3 {
            reader.push(message(number, 1));
        }
        assert_eq!(reader.dropped(), 3);
        assert_eq!(reader.read(1, usize::MAX)[0].number, 4);
        assert_eq!(reader.read(usize::MAX, usize::MAX).len(), MAX_UNREAD - 1);
    }

    #[test]
    fn the_buffer_is_bounded_in_bytes_and_one_message_of_any_size_is_kept() {
        let mut reader = reader();
        reader.push(message(1, MAX_UNREAD_BYTES + 1));
        assert_eq!(reader.dropped(), 0);
        reader.push(message(2, MAX_UNREAD_BYTES / 2));
        reader.push(message(3, MAX_UNREAD_BYTES / 2));
        reader.push(message(4, 1));
        assert_eq!(reader.dropped(), 2);
        assert_eq!(reader.read(9, usize::MAX).iter().map(|m| m.number).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn it_is_told_once_until_it_looks_and_ends_after_the_last_message() {
        let mut reader = reader();
        reader.push(message(1, 1));
        reader.push(message(2, 1));
        assert!(reader.is_news());
        assert!(!reader.is_news());
        reader.end(ReaderEnd::Left);
        assert!(reader.is_over() && reader.is_news(), "that is news");
        reader.end(ReaderEnd::Left);
        assert!(!reader.is_news());
        assert_eq!(reader.read(1, 1).len(), 1);
        assert!(!reader.is_news(), "it knows that there is more");
        assert_eq!(reader.ended(), None);
        assert_eq!(reader.read(9, 9).len(), 1);
        assert_eq!(reader.ended(), Some(ReaderEnd::Left));
        assert!(reader.is_news());
    }

    #[test]
    fn while_somebody_reads_reliable_messages_wait_for_room_and_none_goes() {
        let mut reader = attended();
        let (room, all) = (MAX_UNREAD as u64, (MAX_UNREAD + MAX_WAITING) as u64);
        for number in 1..=all {
            reader.push(message(number, 1));
            assert_eq!(reader.lacks_room_for(), (number > room).then_some(room + 1));
        }
        assert_eq!(reader.read(2, usize::MAX).len(), 2);
        assert_eq!(reader.lacks_room_for(), Some(room + 3));
        assert_eq!(
            reader.read(usize::MAX, usize::MAX).iter().map(|m| m.number).collect::<Vec<_>>(),
            (3..=all).collect::<Vec<_>>()
        );
        assert_eq!((reader.dropped(), reader.lacks_room_for(), reader.bytes, reader.waiting_bytes), (0, None, 0, 0));
    }

    #[test]
    fn while_somebody_reads_what_needs_no_acknowledgement_gives_way() {
        let mut reader = attended();
        (1..=3).for_each(|number| reader.push(lossy(number)));
        (4..=MAX_UNREAD as u64 + 2).for_each(|number| reader.push(message(number, 1)));
        reader.push(lossy(9999));
        assert_eq!((reader.dropped(), reader.lacks_room_for()), (3, None), "the oldest went");
        reader.push(message(10_000, 1));
        reader.push(message(10_001, 1));
        reader.push(lossy(10_002));
        assert_eq!((reader.dropped(), reader.lacks_room_for()), (5, Some(10_001)));
        assert_eq!((reader.read(usize::MAX, usize::MAX).len(), reader.lossy), (MAX_UNREAD + 1, 0));
    }

    #[test]
    fn what_falls_to_somebody_else_is_let_go_and_what_is_not_sent_again_is_counted() {
        let mut reader = attended();
        for one in [message(1, 1), lossy(2), lossy(3), message(4, 1), lossy(5)] {
            reader.push(one);
        }
        reader.forgo(3);
        assert_eq!(reader.dropped(), 2, "nobody gets 3 and 5");
        assert_eq!(reader.read(9, usize::MAX).iter().map(|m| m.number).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn when_nobody_reads_any_more_what_waits_is_bounded_with_the_next_message() {
        let mut reader = attended();
        (1..=MAX_UNREAD as u64 + 9).for_each(|number| reader.push(message(number, 1)));
        reader.attend(false);
        assert_eq!((reader.lacks_room_for(), reader.unread()), (None, MAX_UNREAD + 9));
        reader.push(lossy(9999));
        assert_eq!((reader.dropped(), reader.unread()), (10, MAX_UNREAD));
    }
}
