//! The newest reliable messages of a channel, kept for daemons that go on from another node.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Subscriber;
use super::feed::{Share, StreamId};
use crate::wire::channels::DataHead;

/// Messages that are kept.
const MOST: usize = 4096;
/// Bytes of them.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// How long they are kept without a daemon among the subscribers: one whose host was lost comes back on another node.
const KEPT_WITHOUT_DAEMONS: Duration = Duration::from_secs(300);

/// A bounded tail of the messages, whoever has yet to get them: what waits for a node that is there is in its lane. While no
/// daemon subscribes nothing is kept.
#[derive(Debug, Default)]
pub(super) struct Ring {
    kept: Option<VecDeque<Recent>>,
    bytes: usize,
    /// The last one that is not kept.
    gone: u64,
    /// The last number that a message had for a member of a group and that is not kept.
    gone_share: u64,
    /// When it ends, for want of daemons.
    closes: Option<Instant>,
}

/// A message that was published.
#[derive(Debug)]
pub(super) struct Recent {
    pub(super) head: DataHead,
    pub(super) payload: Bytes,
    /// For each queue group the stream that it fell to last, with its number there, until that is acknowledged.
    pub(super) shares: Vec<(StreamId, u64)>,
}

impl Ring {
    /// There is a daemon: from here on messages are kept. `last` is the number of the newest one so far, `last_share` that for
    /// a member of a group.
    pub(super) fn open(&mut self, last: u64, last_share: u64) {
        self.closes = None;
        if self.kept.is_none() {
            self.kept = Some(VecDeque::new());
            (self.gone, self.gone_share) = (last, last_share);
        }
    }

    /// The last daemon is out.
    pub(super) fn leave(&mut self, now: Instant) {
        if self.kept.is_some() {
            self.closes = Some(now + KEPT_WITHOUT_DAEMONS);
        }
    }

    /// When it ends.
    pub(super) const fn closes(&self) -> Option<Instant> {
        self.closes
    }

    /// Ends it when it is time.
    pub(super) fn close_if_due(&mut self, now: Instant) {
        if self.closes.is_some_and(|at| at <= now) {
            *self = Self::default();
        }
    }

    /// How many messages are kept, and how many bytes of them.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.kept.as_ref().map_or(0, VecDeque::len), self.bytes)
    }

    /// A message fell to another member of a group.
    pub(super) fn shared(&mut self, sequence: u64, (former, stream): (StreamId, StreamId), number: u64) {
        let Some(kept) = &mut self.kept else { return };
        let at = kept.partition_point(|message| message.head.number < sequence);
        let shares =
            kept.get_mut(at).filter(|message| message.head.number == sequence).map(|message| &mut message.shares);
        if let Some(share) = shares.into_iter().flatten().find(|(fell_to, _)| *fell_to == former) {
            *share = (stream, number);
        }
    }

    /// A message was published; the oldest ones go.
    pub(super) fn push(&mut self, message: Recent) {
        let Some(kept) = &mut self.kept else { return };
        self.bytes += message.payload.len();
        kept.push_back(message);
        while (kept.len() > MOST || self.bytes > MOST_BYTES)
            && let Some(oldest) = kept.pop_front()
        {
            self.bytes -= oldest.payload.len();
            self.gone = oldest.head.number;
            let shares = oldest.shares.iter().map(|(_, number)| *number);
            self.gone_share = shares.fold(self.gone_share, u64::max);
        }
    }

    /// The member of a group to whom it fell has taken a message.
    pub(super) fn taken(&mut self, sequence: u64, stream: StreamId) {
        let Some(kept) = &mut self.kept else { return };
        let at = kept.partition_point(|message| message.head.number < sequence);
        if let Some(message) = kept.get_mut(at).filter(|message| message.head.number == sequence) {
            message.shares.retain(|(fell_to, _)| *fell_to != stream);
        }
    }

    /// A daemon in a group has taken everything that fell to it through a number. Of a node that cannot be said so: all nodes
    /// have the same stream here, and what fell to another one has lower numbers too.
    pub(super) fn taken_through(&mut self, stream: StreamId, through: u64) {
        if let Share::Member(_, Subscriber::Node) = stream.share {
            return;
        }
        for message in self.kept.iter_mut().flatten() {
            message.shares.retain(|(fell_to, number)| *fell_to != stream || *number > through);
        }
    }

    /// Nobody is to have a message any more.
    pub(super) fn forget(&mut self, sequence: u64) {
        let Some(kept) = &mut self.kept else { return };
        let at = kept.partition_point(|message| message.head.number < sequence);
        if kept.get(at).is_some_and(|message| message.head.number == sequence)
            && let Some(message) = kept.remove(at)
        {
            self.bytes -= message.payload.len();
        }
    }

    /// What of a stream comes behind a number, in the order in which it was published.
    pub(super) fn behind(&self, stream: StreamId, from: u64) -> impl Iterator<Item = (DataHead, &Bytes)> {
        let first = move |kept: &VecDeque<Recent>| match stream.share {
            Share::All => kept.partition_point(|message| message.head.number <= from),
            // What falls to another member later has a later number for that one.
            Share::Member(..) => 0,
        };
        let kept = self.kept.iter().flat_map(move |kept| kept.range(first(kept)..));
        let of_stream = kept.filter_map(move |message| Some((message.head_in(stream)?, &message.payload)));
        of_stream.filter(move |(head, _)| head.number > from)
    }

    /// The last number in a stream that is gone.
    pub(super) const fn gone(&self, share: Share) -> u64 {
        match share {
            Share::All => self.gone,
            Share::Member(..) => self.gone_share,
        }
    }
}

impl Recent {
    /// How it looks in a stream, when it is in it.
    fn head_in(&self, stream: StreamId) -> Option<DataHead> {
        match stream.share {
            Share::All => Some(self.head),
            // All nodes have the same stream here; what a node waits for is in its lane.
            Share::Member(_, Subscriber::Node) => None,
            Share::Member(_, Subscriber::Daemon(_)) => {
                let (_, number) = self.shares.iter().find(|(fell_to, _)| *fell_to == stream)?;
                Some(DataHead { number: *number, share: stream.share_of(self.head.number), ..self.head })
            }
        }
    }
}
