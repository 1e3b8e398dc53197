//! Membership of one node, driven by sessions, messages and time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use foca::{Foca, Member, NoCustomBroadcast, Timer};
use rand_0_10::SeedableRng;
use rand_0_10::rngs::SmallRng;
use tokio::time::Instant;

use super::card::{Card, CardError, MOST_ADDRESSES, SignedCard};
use super::codec::{Cards, MOST_MEMBERS, PacketCodec, sender};
use super::dials::Dials;
use super::joining::{Attempt, Joining, Standing, Surroundings};
use super::swim::{Doings, SwimTimers, settings};
use crate::identity::{EntityKeypair, IdentityError, Incarnation, NodeId};
use crate::wire::codec::{self, DecodeError};
use crate::wire::membership::MembershipMessage;

/// Times of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct MembershipConfig {
    /// How often a member is probed.
    pub probe_period: Duration,
    /// How long a suspected member has to speak up before it is down.
    pub suspicion: Duration,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this message to a peer whose records flow.
    Send {
        /// The peer.
        to: NodeId,
        /// The body of a record of the membership subprotocol.
        body: Vec<u8>,
    },
    /// Send this message to such a peer, and lose it only with the session: it is not said again there. One that waits still is
    /// replaced.
    Hello {
        /// The peer.
        to: NodeId,
        /// The body of a record of the membership subprotocol.
        body: Vec<u8>,
    },
    /// Make a session with this node, at one of its addresses or through a common peer; then
    /// [`Membership::dial_ended`].
    Dial {
        /// Who must answer.
        node: NodeId,
        /// Where it says that it listens.
        addrs: Vec<SocketAddr>,
    },
    /// [`Membership::members`] or [`Membership::standing`] has changed.
    Changed,
}

/// A message that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// A card does not hold.
    #[error(transparent)]
    Card(#[from] CardError),
    /// It speaks for another node than the session's.
    #[error("a message of another node than the one that sent it")]
    OtherNode,
    /// The protocol refused it.
    #[error("{0}")]
    Protocol(String),
}

/// A peer with a session.
#[derive(Debug, Default)]
struct Session {
    /// Records flow.
    ready: bool,
    /// Whether it was told, in this session, that this node takes part.
    greeted: bool,
    /// What it said of itself, while this node does not take part.
    card: Option<SignedCard>,
}

type Swim = Foca<SignedCard, PacketCodec, SmallRng, NoCustomBroadcast>;

/// The machine; see the module.
pub struct Membership {
    keypair: EntityKeypair,
    me: NodeId,
    swim: Swim,
    timers: SwimTimers,
    cards: Cards,
    takes_part: bool,
    sessions: BTreeMap<NodeId, Session>,
    /// Peers through which this node was told to join.
    doors: BTreeSet<NodeId>,
    joining: Joining,
    dials: Dials,
    outputs: VecDeque<Output>,
}

impl Membership {
    /// A node that takes no part yet. `addrs` are where it listens, as far as is known.
    pub fn new(
        keypair: EntityKeypair,
        life: Incarnation,
        addrs: Vec<SocketAddr>,
        config: &MembershipConfig,
        seed: u64,
    ) -> Result<Self, IdentityError> {
        let card = Card { entity: keypair.entity_id(), life, round: 0, addrs, directory: false };
        let card = SignedCard::sign(card, &keypair)?;
        let cards = Cards::default();
        let codec = PacketCodec { me: keypair.node_id(), cards: cards.clone() };
        let swim = Foca::new(card, settings(config), SmallRng::seed_from_u64(seed), codec);
        Ok(Self {
            me: keypair.node_id(),
            keypair,
            swim,
            timers: SwimTimers::default(),
            cards,
            takes_part: false,
            sessions: BTreeMap::new(),
            doors: BTreeSet::new(),
            joining: Joining::new(),
            dials: Dials::default(),
            outputs: VecDeque::new(),
        })
    }

    /// Whether this node is a member.
    pub fn takes_part(&self) -> bool {
        self.takes_part
    }

    /// The live members beside this node, in no order.
    pub fn members(&self) -> impl Iterator<Item = &Card> {
        self.swim.iter_members().map(|member| &member.id().card)
    }

    /// What this node says of itself.
    pub fn card(&self) -> &Card {
        &self.swim.identity().card
    }

    /// How far this node has come with joining.
    pub fn standing(&self) -> Standing {
        self.joining.standing()
    }

    /// Records can flow from now on, with whoever has started too.
    pub fn start(&mut self, now: Instant) {
        self.joining.start(now);
        self.review(now);
    }

    /// This node was told to join through so many more, and tries to reach them. Each first attempt is answered with
    /// [`attempted`](Self::attempted).
    pub fn seek(&mut self, more: usize, now: Instant) {
        let before = self.standing();
        self.joining.seek(more, self.surroundings(), now);
        self.reviewed(before, now);
    }

    /// The first attempt to reach one of those ended. Where it did well, [`join_through`](Self::join_through) comes first.
    pub fn attempted(&mut self, attempt: Attempt, now: Instant) {
        self.joining.attempted(attempt);
        self.review(now);
    }

    /// One of those turns out later to be nobody to join through, and is not tried again.
    pub fn given_up(&mut self, now: Instant) {
        self.joining.given_up();
        self.review(now);
    }

    fn surroundings(&self) -> Surroundings {
        let awaited = |card: &SignedCard| {
            let node = card.card.node();
            match self.sessions.get(&node) {
                Some(session) => !session.ready,
                None => self.dials.is_hopeful(node),
            }
        };
        Surroundings {
            members: self.swim.num_members() > 0,
            reached: self.doors.iter().any(|door| self.sessions.contains_key(door)),
            awaited: self.swim.iter_members().any(|member| awaited(member.id())),
        }
    }

    fn review(&mut self, now: Instant) {
        self.reviewed(self.standing(), now);
    }

    fn reviewed(&mut self, before: Standing, now: Instant) {
        if before != Standing::Settled || self.standing() != before {
            self.joining.review(self.surroundings(), now);
            if self.standing() != before {
                self.outputs.push_back(Output::Changed);
            }
        }
    }

    /// Takes part from now on; every peer that takes part as well is a member.
    pub fn take_part(&mut self, now: Instant) {
        if std::mem::replace(&mut self.takes_part, true) {
            return;
        }
        self.outputs.push_back(Output::Changed);
        let nodes: Vec<NodeId> = self.sessions.keys().copied().collect();
        for node in nodes {
            self.greet(node);
            let card = self.sessions.get_mut(&node).and_then(|session| session.card.take());
            if let Some(card) = card
                && self.cards.check(&card).is_ok()
            {
                self.met(card, now);
            }
        }
    }

    /// Joins through a peer: it is asked to take part as well.
    pub fn join_through(&mut self, node: NodeId, now: Instant) {
        self.take_part(now);
        let before = self.standing();
        if self.doors.insert(node)
            && let Some(session) = self.sessions.get_mut(&node)
        {
            session.greeted = false;
        }
        self.greet(node);
        self.joining.reached(self.surroundings(), now);
        self.reviewed(before, now);
    }

    /// Says that this node listens there too. The newest address comes first, but for those that only this machine can reach;
    /// the last one goes when there are too many.
    pub fn listens_at(&mut self, addr: SocketAddr, now: Instant) {
        let known = &self.card().addrs;
        if known.contains(&addr) {
            return;
        }
        let others = known.iter().take_while(|known| !known.ip().is_loopback()).count();
        let mut addrs = known.clone();
        addrs.insert(if addr.ip().is_loopback() { others } else { 0 }, addr);
        addrs.truncate(MOST_ADDRESSES);
        if addrs.contains(&addr) {
            self.describe(|card| card.addrs = addrs, now);
        }
    }

    /// Whether this node keeps claims for others.
    pub fn keeps_directory(&mut self, keeps: bool, now: Instant) {
        if self.card().directory != keeps {
            self.describe(|card| card.directory = keeps, now);
        }
    }

    /// A session is up. Records flow on it once [`ready`](Self::ready) was called.
    pub fn connected(&mut self, node: NodeId) {
        self.sessions.insert(node, Session::default());
        self.dials.forget(node);
    }

    /// Records flow.
    pub fn ready(&mut self, node: NodeId) {
        let Some(session) = self.sessions.get_mut(&node) else { return };
        session.ready = true;
        self.greet(node);
    }

    /// The session broke off; it may come back.
    pub fn cut(&mut self, node: NodeId) {
        if let Some(session) = self.sessions.get_mut(&node) {
            *session = Session::default();
        }
    }

    /// The session is gone. `left` tells that the peer said goodbye with that life.
    pub fn disconnected(&mut self, node: NodeId, left: Option<Incarnation>, now: Instant) {
        self.sessions.remove(&node);
        let Some(card) = self.live(node) else { return self.review(now) };
        if left == Some(card.card.life) {
            let down = Member::down(card.clone());
            self.drive(now, |swim, doings| swim.apply_many(std::iter::once(down), true, doings));
        } else {
            self.dials.want(self.me, node, now);
        }
        self.review(now);
    }

    /// A wanted session could not be made. Nothing needs to be told when there is one.
    pub fn dial_ended(&mut self, node: NodeId, now: Instant) {
        if self.live(node).is_some() {
            self.dials.failed(node, now);
        } else {
            // One that is down is tried again when the protocol wants to speak to it.
            self.dials.forget(node);
        }
        self.review(now);
    }

    /// A message from a peer.
    pub fn message(&mut self, from: NodeId, body: &[u8], now: Instant) -> Result<(), MembershipError> {
        let result = self.take_in(from, body, now);
        self.review(now);
        result
    }

    fn take_in(&mut self, from: NodeId, body: &[u8], now: Instant) -> Result<(), MembershipError> {
        match codec::decode(body)? {
            MembershipMessage::Hello { card, joining } => {
                self.make_room(usize::MAX, now);
                self.on_hello(from, codec::decode(card)?, joining, now)
            }
            MembershipMessage::Packet { bytes } => {
                if !self.takes_part {
                    return Ok(());
                }
                self.make_room(MOST_MEMBERS, now);
                let (by, told) = sender(bytes).map_err(|error| MembershipError::Protocol(error.to_string()))?;
                if by != from {
                    return Err(MembershipError::OtherNode);
                }
                // What is for a former card is passed over.
                let told = told.is_some_and(|card| card == *self.swim.identity());
                self.try_drive(now, |swim, doings| swim.handle_data(bytes, doings))?;
                if told && self.doors.contains(&from) && self.live(from).is_some() {
                    self.joining.told(now);
                }
                Ok(())
            }
        }
    }

    fn on_hello(&mut self, from: NodeId, card: SignedCard, joining: bool, now: Instant) -> Result<(), MembershipError> {
        if card.card.node() != from {
            return Err(MembershipError::OtherNode);
        }
        if joining || self.takes_part {
            self.cards.check(&card)?;
            self.take_part(now);
            self.greet(from);
            self.met(card, now);
        } else if let Some(session) = self.sessions.get_mut(&from) {
            card.verify()?;
            session.card = Some(card);
        }
        Ok(())
    }

    /// When [`tick`](Self::tick) has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let swim = self.timers.next().into_iter().chain(self.dials.next()).filter(|_| self.takes_part);
        swim.chain(self.joining.next()).min()
    }

    /// Deadlines passed.
    pub fn tick(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_due(now) {
            self.fire(timer, now);
        }
        for node in self.dials.take_due(now) {
            match self.remembered(node).map(|card| card.card.addrs.clone()) {
                Some(addrs) => self.outputs.push_back(Output::Dial { node, addrs }),
                None => self.dials.forget(node),
            }
        }
        if self.joining.asks(now) {
            let doors: Vec<SignedCard> = self.doors.iter().filter_map(|door| self.live(*door).cloned()).collect();
            for door in doors {
                self.drive(now, |swim, doings| swim.announce(door, doings));
            }
        }
        self.review(now);
    }

    /// Hands a timer to the protocol. Whom that forgets is forgotten here too.
    fn fire(&mut self, timer: Timer<SignedCard>, now: Instant) {
        let down = if let Timer::RemoveDown(card) = &timer { Some(card.card.entity) } else { None };
        self.drive(now, |swim, doings| swim.handle_timer(timer, doings));
        if let Some(entity) = down
            && !self.swim.iter_membership_state().any(|member| member.id().card.entity == entity)
        {
            self.cards.forget(entity.node_id());
        }
    }

    /// Sees to room for the cards of a message. Those that came to nothing go first, then the members that are down longest;
    /// these only while less than `untold` is to be told to others, for new ones would add to it.
    fn make_room(&mut self, untold: usize, now: Instant) {
        if self.cards.have_room() {
            return;
        }
        if self.cards.len() > self.swim.iter_membership_state().len() {
            let members = self.swim.iter_membership_state().map(|member| member.id().card.node());
            self.cards.keep_only(&members.collect());
        }
        while !self.cards.have_room()
            && self.swim.updates_backlog() < untold
            && let Some(timer) = self.timers.take_removal()
        {
            self.fire(timer, now);
        }
    }

    /// Takes the next thing to do.
    pub fn take_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// A peer shows that it takes part.
    fn met(&mut self, card: SignedCard, now: Instant) {
        let known = self.live(card.card.node()).is_some();
        let alive = Member::alive(card.clone());
        self.drive(now, |swim, doings| swim.apply_many(std::iter::once(alive), true, doings));
        if !known {
            // Asks it for whom else it knows; and if it is taken for down here, that is how it learns so.
            self.drive(now, |swim, doings| swim.announce(card, doings));
        }
    }

    fn greet(&mut self, node: NodeId) {
        if !self.takes_part {
            return;
        }
        let card = codec::encode(self.swim.identity());
        let joining = self.doors.contains(&node);
        let Some(session) = self.sessions.get_mut(&node) else { return };
        if session.ready && !std::mem::replace(&mut session.greeted, true) {
            let body = codec::encode(&MembershipMessage::Hello { card: &card, joining });
            self.outputs.push_back(Output::Hello { to: node, body });
        }
    }

    /// What is known of a member, alive or not.
    fn remembered(&self, node: NodeId) -> Option<&SignedCard> {
        self.swim.iter_membership_state().map(Member::id).find(|card| card.card.node() == node)
    }

    fn live(&self, node: NodeId) -> Option<&SignedCard> {
        self.swim.iter_members().map(Member::id).find(|card| card.card.node() == node)
    }

    /// Makes a new card: what this node says of itself has changed, or the former one is taken for down.
    fn describe(&mut self, change: impl FnOnce(&mut Card), now: Instant) {
        let mut card = self.card().clone();
        change(&mut card);
        card.round = card.round.saturating_add(1);
        match SignedCard::sign(card, &self.keypair) {
            Ok(card) => self.drive(now, |swim, doings| swim.change_identity(card, doings)),
            Err(error) => tracing::warn!(%error, "cannot sign for this node"),
        }
    }

    fn drive(&mut self, now: Instant, act: impl FnOnce(&mut Swim, &mut Doings<'_>) -> Result<(), foca::Error>) {
        if let Err(error) = self.try_drive(now, act) {
            tracing::debug!(%error, "membership");
        }
    }

    fn try_drive(
        &mut self,
        now: Instant,
        act: impl FnOnce(&mut Swim, &mut Doings<'_>) -> Result<(), foca::Error>,
    ) -> Result<(), MembershipError> {
        let mut doings = Doings { now, timers: &mut self.timers, packets: Vec::new(), changed: false, defunct: false };
        let result = act(&mut self.swim, &mut doings);
        let Doings { packets, changed, defunct, .. } = doings;
        self.carry_out(packets, changed, defunct, now);
        result.map_err(|error| MembershipError::Protocol(error.to_string()))
    }

    fn carry_out(&mut self, packets: Vec<(NodeId, Vec<u8>)>, changed: bool, defunct: bool, now: Instant) {
        for (to, packet) in packets {
            self.send_packet(to, &packet, now);
        }
        if changed {
            self.outputs.push_back(Output::Changed);
            self.seek_sessions(now);
        }
        if defunct {
            self.describe(|_| {}, now);
            // Whoever spoke up has a session, and hears of the new card at once.
            let nodes: Vec<NodeId> = self.sessions.keys().copied().collect();
            for node in nodes {
                if let Some(session) = self.sessions.get_mut(&node) {
                    session.greeted = false;
                }
                self.greet(node);
            }
        }
    }

    fn send_packet(&mut self, to: NodeId, packet: &[u8], now: Instant) {
        if !self.takes_part {
            return;
        }
        if self.sessions.get(&to).is_some_and(|session| session.ready) {
            let body = codec::encode(&MembershipMessage::Packet { bytes: packet });
            self.outputs.push_back(Output::Send { to, body });
        } else if !self.sessions.contains_key(&to) {
            // The packet is lost, as packets may be; the next one finds a session.
            self.dials.want(self.me, to, now);
        }
    }

    /// Every live member is to have a session with this node.
    fn seek_sessions(&mut self, now: Instant) {
        let Self { swim, dials, sessions, me, .. } = self;
        for member in swim.iter_members() {
            let node = member.id().card.node();
            if !sessions.contains_key(&node) {
                dials.want(*me, node, now);
            }
        }
    }
}

#[cfg(test)]
impl Membership {
    /// Has something done as if the machine wanted it.
    pub(crate) fn put_out(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// Timers and cards that are kept.
    pub(super) fn kept(&self) -> (usize, usize) {
        (self.timers.len(), self.cards.len())
    }
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership")
            .field("card", self.card())
            .field("takes_part", &self.takes_part)
            .field("members", &self.swim.num_members())
            .finish_non_exhaustive()
    }
}
