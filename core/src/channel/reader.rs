//! What a reader of a channel has not read yet.

use std::collections::VecDeque;

use super::{ArrivedMessage, ChannelError};

/// Most messages that a reader may have before it; then the oldest go.
pub const MAX_UNREAD: usize = 1024;
/// Most bytes of them; one message of any size is always kept.
pub const MAX_UNREAD_BYTES: usize = 64 * 1024 * 1024;

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
#[derive(Debug, Default)]
pub(super) struct Reader {
    unread: VecDeque<ArrivedMessage>,
    bytes: usize,
    dropped: u64,
    end: Option<ReaderEnd>,
    /// It was told that there is something to read, and has not looked since.
    told: bool,
}

impl Reader {
    /// Enters a message.
    pub(super) fn push(&mut self, message: ArrivedMessage) {
        let len = message.payload.len();
        while self.unread.len() >= MAX_UNREAD || (!self.unread.is_empty() && self.bytes + len > MAX_UNREAD_BYTES) {
            let Some(oldest) = self.unread.pop_front() else { break };
            self.bytes -= oldest.payload.len();
            self.dropped += 1;
        }
        self.bytes += len;
        self.unread.push_back(message);
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
            && let Some(message) = self.unread.pop_front()
        {
            size += message.payload.len();
            taken.push(message);
        }
        self.bytes -= size;
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
        self.unread.len()
    }

    /// Messages that went unread.
    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::{ChannelName, Feed};
    use super::*;
    use crate::identity::NodeId;

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
        let mut reader = Reader::default();
        for number in 1..=MAX_UNREAD as u64 + 3 {
            reader.push(message(number, 1));
        }
        assert_eq!(reader.dropped(), 3);
        assert_eq!(reader.read(1, usize::MAX)[0].number, 4);
        assert_eq!(reader.read(usize::MAX, usize::MAX).len(), MAX_UNREAD - 1);
    }

    #[test]
    fn the_buffer_is_bounded_in_bytes_and_one_message_of_any_size_is_kept() {
        let mut reader = Reader::default();
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
        let mut reader = Reader::default();
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
}
