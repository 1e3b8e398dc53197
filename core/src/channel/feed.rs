//! What of a channel is subscribed to: every message, or the share of a member of a queue group.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::{ChannelError, ChannelId, ChannelName, Subscriber};
use crate::identity::{EntityId, TokenTarget, queue_group_hash};
use crate::wire::channels::{DataHead, GroupMember, GroupShare};

/// A channel, or a queue group of it: each message goes to one member of every group, and to all who are in none.
///
/// A group is there as long as it has members. On a channel that tokens guard it needs a token of its own: one for
/// [`queue_group_hash`] of both names. A token of the channel does not let into a group, nor the other way round.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Feed {
    channel: ChannelName,
    group: Option<GroupName>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct GroupName {
    text: Arc<str>,
    id: GroupId,
}

/// The hash of the names of a channel and a queue group of it, which stands for the group in tokens and on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

/// Whose messages share one order to a node, and one acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Share {
    /// Every message, for all on the node that are in no group.
    All,
    /// What falls to one member of a group.
    Member(GroupId, Subscriber),
}

/// The messages of a channel on their way to a node that have one order and one acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Of which channel.
    pub channel: ChannelId,
    /// Whose.
    pub share: Share,
}

/// A subscriber's place in a channel: it may have one outside of groups, and one in each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Seat {
    pub(super) group: Option<GroupId>,
    pub(super) who: Subscriber,
}

impl Feed {
    /// Every message of a channel.
    pub const fn all(channel: ChannelName) -> Self {
        Self { channel, group: None }
    }

    /// What falls to a member of a queue group, whose name is made like one of a channel; without one, every message.
    pub fn new(channel: ChannelName, group: Option<&str>) -> Result<Self, ChannelError> {
        let named = |text: &str| {
            let hash = queue_group_hash(channel.as_str(), text);
            let hash = hash.map_err(|error| ChannelError::InvalidArgument(error.to_string()))?;
            Ok(GroupName { text: text.into(), id: GroupId(hash) })
        };
        let group = group.map(named).transpose()?;
        Ok(Self { channel, group })
    }

    /// Of which channel.
    pub const fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// The name of the group.
    pub fn group(&self) -> Option<&str> {
        self.group.as_ref().map(|group| &*group.text)
    }

    /// What stands for the group.
    pub fn group_id(&self) -> Option<GroupId> {
        self.group.as_ref().map(|group| group.id)
    }

    /// What whoever waits to be let in hears when that is given up.
    pub(super) fn unsubscribed(&self) -> ChannelError {
        ChannelError::Unsubscribed(self.channel.as_str().to_owned())
    }

    pub(super) fn seat(&self, who: Subscriber) -> Seat {
        Seat { group: self.group_id(), who }
    }

    /// What of it a subscriber gets: everything, or what falls to this member of the group.
    pub fn stream(&self, who: Subscriber) -> StreamId {
        self.seat(who).stream(self.channel.id())
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            None => self.channel.fmt(f),
            Some(group) => write!(f, "{}#{}", self.channel.as_str(), group.text),
        }
    }
}

impl Seat {
    /// All seats outside of groups.
    pub(super) const OUTSIDE: RangeInclusive<Self> = Self { group: None, who: Subscriber::Node }..=Self {
        group: None,
        who: Subscriber::Daemon(EntityId::from_bytes([u8::MAX; 32])),
    };

    pub(super) const fn stream(self, channel: ChannelId) -> StreamId {
        let share = match self.group {
            None => Share::All,
            Some(group) => Share::Member(group, self.who),
        };
        StreamId { channel, share }
    }

    /// What a token must be for.
    pub(super) const fn token_target(self, channel: ChannelId) -> TokenTarget {
        match self.group {
            None => TokenTarget::Channel(channel.0),
            Some(group) => TokenTarget::QueueGroup(group.0),
        }
    }
}

impl Share {
    /// Who may get it.
    pub(super) const fn seats(self) -> RangeInclusive<Seat> {
        match self {
            Self::All => Seat::OUTSIDE,
            Self::Member(group, who) => {
                let seat = Seat { group: Some(group), who };
                seat..=seat
            }
        }
    }
}

impl StreamId {
    /// None comes before it.
    pub(super) const FIRST: Self = Self::all(ChannelId(0));

    /// What everybody outside of groups gets.
    pub(super) const fn all(channel: ChannelId) -> Self {
        Self { channel, share: Share::All }
    }

    /// The one that a wire message names.
    pub(super) fn named(channel: u64, member: Option<GroupMember>) -> Self {
        let channel = ChannelId(channel);
        let Some(GroupMember { group, daemon }) = member else { return Self::all(channel) };
        Seat { group: Some(GroupId(group)), who: Subscriber::of(daemon) }.stream(channel)
    }

    /// The one that a message is in.
    pub(super) fn of(head: &DataHead) -> Self {
        Self::named(head.channel, head.share.map(|share| share.member))
    }

    /// How the wire names whose it is.
    pub(super) const fn member(self) -> Option<GroupMember> {
        match self.share {
            Share::All => None,
            Share::Member(GroupId(group), who) => Some(GroupMember { group, daemon: who.daemon() }),
        }
    }

    /// What a message of this number in the channel says of whose share it is.
    pub(super) fn share_of(self, sequence: u64) -> Option<GroupShare> {
        self.member().map(|member| GroupShare { member, sequence })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_another_feed_than_its_channel_and_than_the_same_name_elsewhere() {
        let feed = |channel: &str, group: Option<&str>| {
            Feed::new(ChannelName::new(channel).expect("canonical"), group).expect("canonical")
        };
        let all = [feed("a", None), feed("a", Some("g")), feed("a", Some("h")), feed("b", Some("g"))];
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert_ne!(one, other);
                assert_ne!(one.stream(Subscriber::Node), other.stream(Subscriber::Node));
            }
            let stream = one.stream(Subscriber::Node);
            assert_eq!(StreamId::named(stream.channel.0, stream.member()), stream);
        }
        for bad in ["", "A", "a#b", "a//b"] {
            assert!(Feed::new(ChannelName::new("a").expect("canonical"), Some(bad)).is_err(), "{bad}");
        }
    }
}
