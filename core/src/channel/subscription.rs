//! A stream of a publisher that somebody here has to do with: what has arrived of it, and how far each one's part in it has come.

use std::collections::{BTreeMap, VecDeque};

use super::holding::HeldMessages;
use super::machine::{RequestId, Subscriber};
use super::questions::Question;
use super::stalling::Stall;
use super::taken::{Rear, Taken};
use super::{ChannelError, Feed, Share};
use crate::identity::EntityId;
use crate::wire::channels::DaemonProof;

/// A stream of a publisher that somebody here has to do with.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) feed: Feed,
    share: Share,
    /// The highest number that has arrived.
    pub(super) received: u64,
    /// The highest one of those that are to be acknowledged.
    pub(super) received_reliable: u64,
    /// What daemons have yet to take.
    pub(super) held: HeldMessages,
    /// How many daemons stood furthest back when that was last looked at.
    pub(super) rear: Rear,
    /// The number through which the publisher was told that everything was taken.
    acknowledged: u64,
    pub(super) members: BTreeMap<Subscriber, Membership>,
}

/// Whether a member is in, the last message that it has taken, and its token.
pub(super) type Member<'a> = (bool, Option<u64>, Option<&'a [u8]>);

/// What is for a subscriber of what arrives before the publisher has let it in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Comes {
    /// It may have been let in already: what arrives is for it.
    #[default]
    First,
    /// The same, and it left, of which the publisher may not even have heard.
    Again,
    /// To a group: nothing. What arrives may have fallen to it before it left, here or on another node, and to others since;
    /// what is its own behind what it says it has taken is sent after the answer.
    Anew,
}

/// Most asks of one subscriber that wait for the answer to the one before them.
const MOST_BEHIND: usize = 64;

/// What somebody presents to be let in, and who waits for the answer to that.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) token: Option<Vec<u8>>,
    pub(super) proof: Option<DaemonProof>,
    pub(super) waiting: Vec<RequestId>,
}

/// One subscriber's part in it.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// The publisher has agreed.
    pub(super) accepted: bool,
    /// It was in, and the publisher has put it out while it asked to come in once more, or whether it is still in. Its owner
    /// hears of that unless the answer lets it in; a node that asked the latter, also when it has missed something.
    pub(super) put_out: Option<ChannelError>,
    /// What the publisher has not answered yet. Only the answer to the last question counts.
    pub(super) question: Option<Question>,
    /// What it was let in with.
    pub(super) token: Option<Vec<u8>>,
    /// What it presents to be let in.
    pub(super) offered: Option<Vec<u8>>,
    /// An answer may have been missed that let it in: a refusal does not say that it is out.
    pub(super) uncertain: bool,
    pub(super) comes: Comes,
    pub(super) proof: Option<DaemonProof>,
    pub(super) taken: Taken,
    /// The last message that readers of the node have room for, while somebody reads.
    pub(super) room: Option<u64>,
    /// Whether it takes what waits for it.
    pub(super) stall: Stall,
    /// It said behind which message it goes on, or has been in: what comes before its position it has missed.
    pub(super) goes_on: bool,
    /// Who waits for the answer.
    pub(super) waiting: Vec<RequestId>,
    /// What it presents once that is there. Whoever waits for one of these hears what became of it, and not of another one.
    behind: VecDeque<Ask>,
}

impl Membership {
    /// Whether it takes messages: it is in, or on the way in, and not on the way out.
    pub(super) const fn takes(&self) -> bool {
        !matches!(self.comes, Comes::Anew) && !self.is_leaving()
    }

    /// The last message that a daemon has taken, once that is known. It takes none before.
    pub(super) const fn through(&self) -> Option<u64> {
        self.taken.through()
    }

    /// Whether it may be handed messages. Before its publisher has let it in, what arrives is for others on its node.
    pub(super) const fn is_handed(&self) -> bool {
        self.accepted && self.takes()
    }

    /// Whether it is on the way out.
    pub(super) const fn is_leaving(&self) -> bool {
        matches!(self.question, Some(Question::Leave(_)))
    }

    /// Presents something now.
    pub(super) fn present(&mut self, ask: Ask) {
        (self.offered, self.proof, self.waiting) = (ask.token, ask.proof, ask.waiting);
    }

    /// Presents something while the answer to what it presented before is on the way: the same, which has the same answer, or
    /// something else, behind that.
    pub(super) fn present_behind(&mut self, ask: Ask) -> Result<(), ChannelError> {
        let last = self.behind.back_mut();
        let (token, proof, waiting) = match last {
            Some(last) => (&last.token, &last.proof, &mut last.waiting),
            None => (&self.offered, &self.proof, &mut self.waiting),
        };
        if (token, proof) == (&ask.token, &ask.proof) {
            waiting.extend(ask.waiting);
        } else if self.behind.len() < MOST_BEHIND {
            self.behind.push_back(ask);
        } else {
            return Err(ChannelError::Backpressure("too many requests to this publisher"));
        }
        Ok(())
    }

    /// Presents what comes next; false when there is nothing.
    pub(super) fn present_next(&mut self) -> bool {
        let next = self.behind.pop_front();
        next.map(|ask| self.present(ask)).is_some()
    }

    /// Whether something comes next.
    pub(super) fn has_next(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Whoever waits for an answer gets none.
    pub(super) fn give_up(&mut self) -> Vec<RequestId> {
        let behind = self.behind.drain(..).flat_map(|ask| ask.waiting);
        self.waiting.drain(..).chain(behind).collect()
    }

    /// It is out from now on. Why, when it was in until now, or was put out before and its owner has not heard of that.
    pub(super) fn end(&mut self, why: &ChannelError) -> Option<ChannelError> {
        let now = std::mem::take(&mut self.accepted).then(|| why.clone());
        self.put_out.take().or(now)
    }

    /// The token that counts: a new one only once the publisher has taken it.
    fn token(&self) -> Option<&[u8]> {
        if self.accepted { self.token.as_deref() } else { self.offered.as_deref() }
    }
}

impl Subscription {
    /// Nothing has arrived yet, and nobody is in.
    pub(super) fn new(feed: &Feed, share: Share) -> Self {
        let (held, members) = (HeldMessages::default(), BTreeMap::new());
        let rear = Rear::default();
        Self { feed: feed.clone(), share, received: 0, received_reliable: 0, held, rear, acknowledged: 0, members }
    }

    /// Whether what arrives is looked at. A member of a group that leaves takes nothing more: that falls to others.
    pub(super) fn is_wanted(&self) -> bool {
        match self.share {
            Share::All => true,
            Share::Member(..) => self.members.values().any(Membership::takes),
        }
    }

    /// Whether a message has a number above all before, and the node may have it: it is in, or an answer may have been missed
    /// that let it in. An answer comes before what it lets in for.
    pub(super) fn is_for_node(&mut self, number: u64) -> bool {
        let before = self.received;
        self.received = before.max(number);
        let Some(membership) = self.members.get_mut(&Subscriber::Node).filter(|_| number > before) else {
            return false;
        };
        let may_be_in = membership.accepted || membership.uncertain;
        let is_for_node = membership.takes() && may_be_in && number > membership.taken.floor();
        if !is_for_node {
            // Its readers lack room for nothing that they are not to have.
            membership.room = membership.room.map(|room| if room == before { number } else { room });
        }
        is_for_node
    }

    /// Daemons that have yet to take a message. One of which nothing else is known begins with this one.
    pub(super) fn wanted_by(&mut self, number: u64) -> Vec<EntityId> {
        let taking = self.members.iter_mut().filter(|(_, membership)| membership.takes());
        let wanted = taking.filter_map(|(subscriber, membership)| match subscriber {
            Subscriber::Node => None,
            Subscriber::Daemon(daemon) => {
                membership.taken.begin(number.saturating_sub(1));
                (number > membership.taken.floor()).then_some(*daemon)
            }
        });
        wanted.collect()
    }

    /// The last message that a daemon has taken; nothing while it is handed none.
    pub(super) fn taken_by(&self, daemon: EntityId) -> Option<u64> {
        self.members.get(&Subscriber::Daemon(daemon)).filter(|membership| membership.is_handed())?.through()
    }

    /// A daemon has taken a message. Whether everybody may have taken more now.
    pub(super) fn advance(&mut self, daemon: EntityId, number: u64) -> bool {
        let Some(membership) = self.members.get_mut(&Subscriber::Daemon(daemon)) else { return false };
        let before = membership.taken.floor();
        membership.taken.advance(number);
        membership.stall.over();
        self.rear.left(before)
    }

    /// How far daemons have taken it. What readers of the node have room for is followed by itself.
    pub(super) fn daemons_through(&self) -> impl Iterator<Item = u64> {
        let daemons = self.members.iter().filter(|(who, membership)| **who != Subscriber::Node && membership.takes());
        daemons.filter_map(|(_, membership)| membership.through())
    }

    /// Where those stand who take it, as far as that is known.
    fn positions(&self) -> impl Iterator<Item = u64> {
        let members = self.members.values().filter(|membership| membership.takes());
        members.filter_map(|membership| membership.through().or(membership.room))
    }

    /// The number through which everybody has taken everything.
    pub(super) fn taken_by_all(&self) -> u64 {
        match self.share {
            // Also what it has taken on another node.
            Share::Member(_, Subscriber::Daemon(_)) => self.members.values().find_map(Membership::through).unwrap_or(0),
            // Also while it leaves.
            Share::Member(_, Subscriber::Node) => {
                self.members.values().find_map(|membership| membership.room).unwrap_or(self.received)
            }
            Share::All => self.positions().min().map_or(self.received, |all| all.min(self.received)),
        }
    }

    /// Whether a message that is to be acknowledged has not been.
    pub(super) const fn owes_acknowledgement(&self) -> bool {
        self.received_reliable > self.acknowledged
    }

    /// Whether the publisher has yet to hear that everything through a number was taken.
    pub(super) fn acknowledge(&mut self, through: u64) -> bool {
        let news = through > self.acknowledged;
        self.acknowledged = self.acknowledged.max(through);
        news
    }

    /// The number through which the publisher was told that everything was taken.
    pub(super) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Whether the publisher was told that this message was taken.
    pub(super) const fn has_acknowledged(&self, number: u64) -> bool {
        number <= self.acknowledged
    }

    /// Nothing beyond a number counts as acknowledged.
    pub(super) fn hold_back(&mut self, from: u64) {
        self.acknowledged = self.acknowledged.min(from);
    }

    /// A member that is not leaving.
    pub(super) fn member(&self, subscriber: Subscriber) -> Option<Member<'_>> {
        let membership = self.members.get(&subscriber).filter(|membership| !membership.is_leaving())?;
        Some((membership.accepted, membership.through(), membership.token()))
    }

    /// A subscriber's part in it, which may begin now.
    pub(super) fn member_or_new(&mut self, subscriber: Subscriber) -> &mut Membership {
        let (arrived, comes) = (self.received, self.before_the_answer(Comes::First));
        let fresh = || Membership { taken: Taken::Behind(arrived), comes, ..Membership::default() };
        self.members.entry(subscriber).or_insert_with(fresh)
    }

    /// A subscriber comes again that left; nor does anybody read now who did. Gives who waits for it to be out.
    pub(super) fn come_again(&mut self, subscriber: Subscriber) -> Vec<RequestId> {
        let (arrived, comes) = (self.received, self.before_the_answer(Comes::Again));
        let Some(membership) = self.members.get_mut(&subscriber) else { return Vec::new() };
        (membership.accepted, membership.put_out, membership.room, membership.comes) = (false, None, None, comes);
        membership.goes_on = false;
        let waiting = membership.give_up();
        match self.share {
            // What has arrived stays so: whoever is on this stream too gets what it has yet to take.
            Share::All => membership.taken.begin_again(arrived),
            // That it takes nothing more was said; if that is lost, it is said again. What it had yet to take falls to others,
            // and what stays its own is sent again.
            Share::Member(..) => {
                self.held = HeldMessages::default();
                (self.received, self.received_reliable) = (self.acknowledged, self.acknowledged);
            }
        }
        waiting
    }

    /// What arrives before the answer is for a member of a group not its own.
    const fn before_the_answer(&self, outside: Comes) -> Comes {
        match self.share {
            Share::All => outside,
            Share::Member(..) => Comes::Anew,
        }
    }

    /// Who is in.
    pub(super) fn accepted(&self) -> impl Iterator<Item = Subscriber> {
        self.members.iter().filter(|(_, membership)| membership.accepted).map(|(&subscriber, _)| subscriber)
    }
}
