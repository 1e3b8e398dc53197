//! Revocations that this node holds: in force at its own gates, and passed on to every peer.
//!
//! Each side of a new session tells the other all that it holds; after that only news travels, and not back to where it came
//! from, so nothing goes round. A node passes on what it has no use for itself, so that a publisher which was away or starts
//! later hears of it from whoever is there.
//!
//! Anybody who is in the mesh can make keys, and revocations by them, without end. So what is held for others has bounds, in
//! all and for each peer that brings it, within which nothing gives way to anything: what was once learnt stays in force
//! while the node lives, and a flood keeps out only what comes after it. What this node needs is outside of these bounds:
//! what its owner enters, and what is by a root of one of its channels or by a holder who passed on a token that let somebody
//! in here. A later one of the same issuer replaces the one before it, at once if its peer has not brought many of these lately
//! ([`raises`](super::raises)). When the bounds have kept something out, a publisher asks its peers about each issuer that it comes to need.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::machine::{ChannelEvent, ChannelMachine, Moment, RequestId};
use super::peers::Peer;
use super::raises::Raise;
use super::roster::Channel;
use super::{ChannelError, ChannelId};
use crate::identity::{EntityId, NodeId, Revocation, RevocationFloors};
use crate::mesh::RecordSink;
use crate::wire::channels::ChannelMessage;
use crate::wire::{Subprotocol, codec};

/// Most issuers whose revocations a node holds for others.
pub const MAX_FOREIGN_REVOCATIONS: usize = 4096;
/// Most of them that came from one peer.
pub const MAX_REVOCATIONS_FROM_PEER: usize = 1024;
/// The largest tolerance for clocks that are behind those of issuers.
pub const MAX_TOKEN_SKEW: Duration = Duration::from_secs(300);
/// Most issuers that are known to be needed; any further one is treated as needless when it has room, as needed otherwise.
const MAX_NEEDED: usize = 32 * 1024;

/// What issuers have revoked.
#[derive(Debug)]
pub(super) struct Revocations {
    floors: RevocationFloors,
    held: BTreeMap<EntityId, Held>,
    /// Whose tokens let somebody in here, or could: roots of channels, and holders who passed tokens on.
    needed: HashSet<EntityId>,
    /// How many are held for others, by the peer that brought them.
    brought: BTreeMap<NodeId, usize>,
    /// Something was kept out.
    lacks: bool,
    /// What the owner entered and peers are yet to be told of.
    entering: Vec<Entering>,
}

#[derive(Debug)]
struct Held {
    revocation: Revocation,
    /// The peer that it counts for; none when this node needs it.
    brought_by: Option<NodeId>,
}

#[derive(Debug)]
struct Entering {
    request: RequestId,
    issuer: EntityId,
    untold: BTreeSet<NodeId>,
}

impl Revocations {
    /// Nothing is revoked yet. Where a channel names no roots, this node is one.
    pub(super) fn new(own: EntityId) -> Self {
        Self {
            floors: RevocationFloors::default(),
            held: BTreeMap::new(),
            needed: HashSet::from([own]),
            brought: BTreeMap::new(),
            lacks: false,
            entering: Vec::new(),
        }
    }

    /// What tokens are checked against.
    pub(super) const fn floors(&self) -> &RevocationFloors {
        &self.floors
    }

    fn is_news(&self, revocation: &Revocation) -> bool {
        let known = self.held.get(&revocation.issuer()).map_or(0, |held| held.revocation.below());
        revocation.below() > known
    }

    /// Whether one that this peer brings can be held. What replaces an older one of its issuer always can.
    fn has_room(&self, issuer: EntityId, from: NodeId) -> bool {
        let foreign: usize = self.brought.values().sum();
        let of_peer = self.brought.get(&from).copied().unwrap_or(0);
        self.held.contains_key(&issuer)
            || self.needed.contains(&issuer)
            || (foreign < MAX_FOREIGN_REVOCATIONS && of_peer < MAX_REVOCATIONS_FROM_PEER)
    }

    /// Puts one into force that was verified; false when there is no room for it. Without a peer that brings it, it is the
    /// owner's.
    fn enter(&mut self, revocation: &Revocation, from: Option<NodeId>) -> bool {
        let issuer = revocation.issuer();
        if !self.floors.raise(issuer, revocation.below()) {
            return false;
        }
        let brought_by = if let Some(held) = self.held.get(&issuer) {
            held.brought_by
        } else {
            let foreign = from.filter(|_| !self.needed.contains(&issuer));
            if let Some(from) = foreign {
                *self.brought.entry(from).or_default() += 1;
            }
            foreign
        };
        self.held.insert(issuer, Held { revocation: revocation.clone(), brought_by });
        if from.is_none() {
            self.keep(issuer);
        }
        true
    }

    /// What is held of an issuer no longer counts for whoever brought it.
    fn keep(&mut self, issuer: EntityId) {
        let Some(from) = self.held.get_mut(&issuer).and_then(|held| held.brought_by.take()) else { return };
        if let Some(count) = self.brought.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.brought.remove(&from);
            }
        }
    }

    /// This issuer matters here; true when that is new.
    fn need(&mut self, issuer: EntityId) -> bool {
        if self.needed.len() >= MAX_NEEDED || !self.needed.insert(issuer) {
            return false;
        }
        self.keep(issuer);
        true
    }

    /// Whether somebody may be in with a token of this issuer.
    fn may_matter(&self, issuer: EntityId) -> bool {
        self.needed.len() >= MAX_NEEDED || self.needed.contains(&issuer)
    }
}

impl ChannelMachine {
    /// How far clocks of issuers may be ahead of this node's: by so much earlier than it says a token is taken, at most
    /// [`MAX_TOKEN_SKEW`]. It ends when it says. Without this no token is taken early.
    pub fn set_token_skew(&mut self, skew: Duration) {
        self.token_skew = skew.min(MAX_TOKEN_SKEW);
    }

    /// Revokes the tokens of an issuer below a generation, on this node only: whoever is in with one of them is out.
    pub fn revoke_below(&mut self, issuer: EntityId, generation: u32, now: Moment) {
        self.revocations.floors.raise(issuer, generation);
        self.apply(issuer, now);
    }

    /// Enters a revocation: whoever is in with one of these tokens is out, here and, as it is passed on, everywhere. That it was
    /// handed to every peer to which records flow is told by a [`ChannelEvent::Settled`].
    pub fn revoke(&mut self, revocation: &Revocation, now: Moment) -> Result<RequestId, ChannelError> {
        revocation.verify().map_err(ChannelError::Revocation)?;
        let issuer = revocation.issuer();
        if self.revocations.is_news(revocation) {
            if !self.revocations.enter(revocation, None) {
                return Err(ChannelError::Backpressure("this node holds as many revocations as it may"));
            }
            self.spread(issuer, None);
            self.apply(issuer, now);
        }
        self.revocations.keep(issuer);
        let request = RequestId(self.next_request());
        let untold =
            |(&node, peer): (&NodeId, &Peer)| (peer.ready && peer.revocations.contains(&issuer)).then_some(node);
        let untold: BTreeSet<_> = self.peers.iter().filter_map(untold).collect();
        self.revocations.entering.push(Entering { request, issuer, untold });
        self.settle_entered();
        Ok(request)
    }

    /// What is in force here and passed on.
    pub fn revocations(&self) -> impl Iterator<Item = &Revocation> {
        self.revocations.held.values().map(|held| &held.revocation)
    }

    /// Tokens of these issuers let somebody in, or could.
    pub(super) fn trust(&mut self, issuers: impl IntoIterator<Item = EntityId>) {
        for issuer in issuers {
            if !self.revocations.need(issuer) || !self.revocations.lacks {
                continue;
            }
            let others: Vec<_> = self.peers.keys().copied().filter(|node| *node != self.me.node).collect();
            for node in others {
                // A peer that takes no more is told, and tells, when its session begins anew.
                let _kept = self.say(node, &ChannelMessage::WhoRevoked { issuer });
            }
        }
    }

    /// A session begins: the peer may know none of what is held here.
    pub(super) fn tell_all_revocations(&mut self, node: NodeId) {
        self.not_handed(node);
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.revocations = self.revocations.held.keys().copied().collect();
            peer.raises.again();
            if let Some(at) = peer.raises.next() {
                self.ask_by(at);
            }
        }
    }

    /// Nothing more is handed to a peer for now.
    pub(super) fn not_handed(&mut self, node: NodeId) {
        for entering in &mut self.revocations.entering {
            entering.untold.remove(&node);
        }
        self.settle_entered();
    }

    pub(super) fn on_revoked(&mut self, from: NodeId, statement: &[u8], now: Moment) {
        let Some(peer) = self.peers.get_mut(&from).filter(|peer| !peer.forges) else { return };
        let revocation = match Revocation::from_bytes(statement) {
            Ok(revocation) => revocation,
            Err(error) => return self.refuse(from, "revocation", &error),
        };
        // Most of what peers say is known: only news is worth the work of a signature.
        let issuer = revocation.issuer();
        if !self.revocations.is_news(&revocation) {
            return peer.raises.answered(issuer);
        }
        if !self.revocations.has_room(issuer, from) {
            return self.kept_out(from);
        }
        // The first one of an issuer has its place within the bounds; there is no end to those that follow it.
        if self.revocations.held.contains_key(&issuer) {
            match peer.raises.admit(issuer, now.instant) {
                Raise::Now => {}
                Raise::Later(at) => return self.ask_by(at),
                Raise::Never => return self.kept_out(from),
            }
        }
        if let Err(error) = revocation.verify() {
            peer.forges = true;
            return self.refuse(from, "revocation", &error);
        }
        if !self.revocations.enter(&revocation, Some(from)) {
            return self.kept_out(from);
        }
        tracing::debug!(%issuer, below = revocation.below(), peer = %from, node = %self.me.node, "tokens were revoked");
        self.spread(issuer, Some(from));
        self.apply(issuer, now);
    }

    /// Asks peers for what they said more often than it was looked at: for the latest of it. Gives when there is more.
    pub(super) fn ask_put_off(&mut self, now: Moment) -> Option<Instant> {
        let due = |(&node, peer): (&NodeId, &mut Peer)| {
            let issuers = peer.raises.due(now.instant).into_iter();
            issuers.map(move |issuer| (node, issuer)).collect::<Vec<_>>()
        };
        let due: Vec<_> = self.peers.iter_mut().flat_map(due).collect();
        for (node, issuer) in due {
            // A peer that takes no more tells all of it when its session begins anew.
            let _kept = self.say(node, &ChannelMessage::WhoRevoked { issuer });
        }
        self.peers.values().filter_map(|peer| peer.raises.next()).min()
    }

    pub(super) fn on_who_revoked(&mut self, from: NodeId, issuer: EntityId) {
        if self.revocations.held.contains_key(&issuer)
            && let Some(peer) = self.peers.get_mut(&from)
        {
            peer.revocations.insert(issuer);
            self.wakes.insert(from);
        }
    }

    /// Writes what a peer is to be told of; false when the frame is full.
    pub(super) fn fill_revocations(&mut self, to: NodeId, sink: &mut dyn RecordSink) -> bool {
        let mut told = false;
        let all = loop {
            let Some(peer) = self.peers.get_mut(&to) else { break true };
            let Some(issuer) = peer.revocations.pop_first() else { break true };
            let Some(held) = self.revocations.held.get(&issuer) else { continue };
            let statement = held.revocation.to_bytes();
            let message = ChannelMessage::Revoked { statement: &statement };
            if sink.record(Subprotocol::Channels, &mut |out| codec::encode_into(&message, out)).is_none() {
                peer.revocations.insert(issuer);
                break false;
            }
            for entering in self.revocations.entering.iter_mut().filter(|entering| entering.issuer == issuer) {
                entering.untold.remove(&to);
            }
            told = true;
        };
        if told {
            self.settle_entered();
        }
        all
    }

    /// Everybody is to be told of it but the one who told this node.
    fn spread(&mut self, issuer: EntityId, except: Option<NodeId>) {
        for (&node, peer) in &mut self.peers {
            if node != self.me.node && Some(node) != except {
                peer.revocations.insert(issuer);
                self.wakes.insert(node);
            }
        }
    }

    /// Puts out who is in with what was revoked.
    fn apply(&mut self, issuer: EntityId, now: Moment) {
        if !self.revocations.may_matter(issuer) {
            return;
        }
        let rules = self.rules_for_members(now);
        let expired = |(&id, channel): (&ChannelId, &Channel)| {
            let seats = channel.expired_by(issuer, rules).into_iter();
            seats.map(move |(node, seat, error)| (id, node, seat, error)).collect::<Vec<_>>()
        };
        let out: Vec<_> = self.channels.iter().flat_map(expired).collect();
        for (id, node, seat, error) in out {
            self.evict(id, node, seat, error.into(), now);
        }
        self.settle_own(now);
    }

    fn kept_out(&mut self, from: NodeId) {
        if !std::mem::replace(&mut self.revocations.lacks, true) {
            tracing::warn!(peer = %from, node = %self.me.node, "no room for more revocations that this node does not need");
        }
    }

    /// Tells who has entered something that every peer has been handed it.
    fn settle_entered(&mut self) {
        let done = self.revocations.entering.extract_if(.., |entering| entering.untold.is_empty());
        let settled = done.map(|entering| ChannelEvent::Settled { request: entering.request, result: Ok(()) });
        self.events.extend(settled);
    }
}
