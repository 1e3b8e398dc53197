//! Who reads channels on this node, and what there is to read.

use super::holding::Key;
use super::machine::{ArrivedMessage, Moment};
use super::reader::{Reader, ReaderEnd, ReaderId};
use super::reading::ReadersRoom;
use super::shell::{Answer, Channels, State, own_key, settled};
use super::{Feed, Share};
use crate::identity::NodeId;

impl Channels {
    /// Somebody reads from now on or goes on reading, or nobody does any more. While somebody does, reliable messages wait for
    /// room. Whoever takes nothing for [`STALLED`](super::STALLED) meanwhile is out.
    pub fn attend(&self, reader: ReaderId, attended: bool) {
        self.act(|state, _| {
            let Some(it) = state.readers.get_mut(&reader) else { return };
            it.attend(attended);
            state.machine.readers_go_on(it.key());
            state.stirred.insert(it.key());
        });
    }

    /// Takes messages that a reader has not read, up to a number and about as many bytes; none when there is none.
    pub fn read(&self, reader: ReaderId, most: usize, bytes: usize) -> Vec<ArrivedMessage> {
        self.act(|state, _| {
            let Some(reader) = state.readers.get_mut(&reader) else { return Vec::new() };
            let (key, had_room) = (reader.key(), reader.lacks_room_for().is_none());
            let messages = reader.read(most, bytes);
            if !had_room {
                state.stirred.insert(key);
            }
            if !messages.is_empty() {
                // Also while that makes no room for what comes next.
                state.machine.readers_go_on(key);
            }
            messages
        })
    }

    /// Whether no more messages come for a reader than it has to read.
    pub fn is_over(&self, reader: ReaderId) -> bool {
        self.with_state(|state, _| state.readers.get(&reader).is_none_or(Reader::is_over))
    }

    /// How a reader ended, once it has read everything; then it is forgotten.
    pub fn take_end(&self, reader: ReaderId) -> Option<ReaderEnd> {
        self.with_state(|state, _| {
            let end = state.readers.get(&reader).map_or(Some(ReaderEnd::Left), Reader::ended)?;
            state.readers.remove(&reader);
            Some(end)
        })
    }

    /// How many readers there are that have not been told of their end.
    pub fn readers(&self) -> usize {
        self.with_state(|state, _| state.readers.len())
    }

    /// How many messages a reader did not read in time.
    pub fn dropped(&self, reader: ReaderId) -> u64 {
        self.with_state(|state, _| state.readers.get(&reader).map_or(0, Reader::dropped))
    }
}

impl State {
    /// Gives a message to readers: of a queue group to one of them.
    pub(super) fn deliver(&mut self, message: &ArrivedMessage) {
        let key = own_key(message.publisher, &message.feed);
        let Some(own) = self.own.get_mut(&key) else { return };
        let readers = &mut self.readers;
        if own.readers.iter().any(|id| readers.get(id).is_some_and(Reader::is_attended)) {
            self.stirred.insert(key);
        }
        let mut chosen = own.readers.as_slice();
        if message.feed.group().is_some() {
            // Somebody who reads; of these who has the least to read; of equals the one whose turn was longest ago.
            let rank = |id: &ReaderId| readers.get(id).map(|reader| (!reader.is_attended(), reader.unread()));
            if let Some((at, _)) = own.readers.iter().enumerate().min_by_key(|(_, id)| rank(id)) {
                own.readers[at..].rotate_left(1);
            }
            chosen = &own.readers[own.readers.len().saturating_sub(1)..];
        }
        for id in chosen {
            if let Some(reader) = readers.get_mut(id) {
                reader.push(message.clone());
                self.touched.push(*id);
            }
        }
    }

    /// Has the machine know how far the readers of a subscription have room.
    pub(super) fn settle_readers(&mut self, key: Key, now: Moment) {
        let Some(own) = self.own.get(&key) else { return };
        let attended = own.readers.iter().any(|id| self.readers.get(id).is_some_and(Reader::is_attended));
        let room = match self.first_without_room(key) {
            Some(number) => ReadersRoom::Before(number),
            None if attended => ReadersRoom::ForAll,
            None => ReadersRoom::Unread,
        };
        self.machine.readers_have(key, room, now);
        let acknowledged = self.machine.acknowledged(key);
        if let Some(own) = self.own.get_mut(&key) {
            own.acknowledged = acknowledged;
        }
    }

    /// The first message that somebody who reads has no room for, by its place.
    fn first_without_room(&self, key: Key) -> Option<u64> {
        let readers = self.own.get(&key).into_iter().flat_map(|own| &own.readers);
        readers.filter_map(|id| self.readers.get(id)?.lacks_room_for()).min()
    }

    /// The first message that was not acknowledged, when readers have no room from this one on. What came while somebody read
    /// was acknowledged nevertheless once nobody did.
    fn first_unacknowledged(&self, key: Key, without_room: Option<u64>) -> Option<u64> {
        let acknowledged = self.own.get(&key).map_or(0, |own| own.acknowledged);
        without_room.map(|from| from.max(acknowledged + 1))
    }

    /// Ends a reader; how many messages went unread in it, and the answer of a publisher that is left with it.
    pub(super) fn close_reader(&mut self, id: ReaderId, publisher: NodeId, feed: &Feed, now: Moment) -> (u64, Answer) {
        let Some(mut reader) = self.readers.remove(&id) else { return (0, settled(Ok(()))) };
        let key = own_key(publisher, feed);
        let (before, unacknowledged) = (reader.dropped(), self.first_unacknowledged(key, reader.lacks_room_for()));
        let unread = reader.read(usize::MAX, usize::MAX);
        let all = before + unread.len() as u64;
        let Some(own) = self.own.get_mut(&key) else { return (all, settled(Ok(()))) };
        own.readers.retain(|&one| one != id);
        self.stirred.insert(key);
        if feed.group().is_some() && !own.readers.is_empty() {
            for message in &unread {
                self.deliver(message);
            }
            return (before, settled(Ok(())));
        }
        if own.is_wanted() {
            return (all, settled(Ok(())));
        }
        self.own.remove(&key);
        let is_over =
            |message: &&ArrivedMessage| !message.reliable || unacknowledged.is_none_or(|from| message.place < from);
        let taken = unread.iter().filter(is_over).count();
        (before + taken as u64, self.leave(publisher, feed, now))
    }

    /// One of the readers of a subscription comes to an end. What it has not read of a queue group is for the others.
    pub(super) fn dismiss(&mut self, key: Key, id: ReaderId, how: ReaderEnd) {
        let unacknowledged = self.unacknowledged(key);
        let Some(own) = self.own.get_mut(&key) else { return };
        own.readers.retain(|&one| one != id);
        let others = !own.readers.is_empty();
        self.stirred.insert(key);
        if let (Share::Member(..), Some(reader)) = (key.1.share, self.readers.get_mut(&id)) {
            if others {
                for message in reader.read(usize::MAX, usize::MAX) {
                    self.deliver(&message);
                }
            } else if let Some(from) = unacknowledged {
                reader.forgo(from);
            }
        }
        self.end_reader(id, how);
    }

    /// The subscription is over, and with it all that read it.
    pub(super) fn end_own(&mut self, key: Key, how: &ReaderEnd) {
        let unacknowledged = self.unacknowledged(key);
        let Some(own) = self.own.remove(&key) else { return };
        for id in own.readers {
            if let (Some(from), Some(reader)) = (unacknowledged, self.readers.get_mut(&id)) {
                reader.forgo(from);
            }
            self.end_reader(id, how.clone());
        }
    }

    /// The first message of a queue group that its publisher is not told to be taken: with the subscription it falls to others.
    fn unacknowledged(&self, key: Key) -> Option<u64> {
        match key.1.share {
            Share::All => None,
            Share::Member(..) => self.first_unacknowledged(key, self.first_without_room(key)),
        }
    }

    /// No more messages come for a reader.
    pub(super) fn end_reader(&mut self, reader: ReaderId, how: ReaderEnd) {
        if let Some(state) = self.readers.get_mut(&reader) {
            state.end(how);
            self.touched.push(reader);
        }
    }
}
