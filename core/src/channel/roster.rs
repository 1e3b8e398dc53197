//! A channel of this node and whom it lets in.

use std::collections::BTreeSet;
use std::collections::btree_map::{self, BTreeMap};

use super::Subnet;
use super::feed::{GroupId, Seat, Share};
use super::groups::Groups;
use super::machine::{Moment, Subscriber};
use super::ring::Ring;
use super::{ChannelConfig, ChannelError};
use crate::identity::{
    EntityId, Epoch, NodeId, PermissionToken, RevocationFloors, TokenChain, TokenError, TokenRequest, TokenScope,
};
use crate::rate::RateLimit;

/// A registered channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) config: ChannelConfig,
    /// It was made for the outputs of daemons, and nobody has registered it since.
    pub(super) for_outputs: bool,
    /// The number of the last message.
    pub(super) last: u64,
    pub(super) ring: Ring,
    rate: Option<RateLimit>,
    pub(super) groups: Groups,
    /// Nodes, and who is let in on each; none is empty.
    members: BTreeMap<NodeId, BTreeMap<Seat, Grant>>,
    /// Where each daemon is let in, and as what.
    daemons: BTreeMap<EntityId, BTreeSet<(NodeId, Seat)>>,
    /// No token of anybody who is in ends before this, in unix seconds.
    next_sweep: u64,
    /// Who is in with a token of an issuer.
    by_issuer: BTreeMap<EntityId, BTreeSet<(NodeId, Seat)>>,
}

/// That a subscriber was let in.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    /// What it was let in with.
    pub(super) token: Option<TokenChain>,
    /// Who presented it: the node, or its daemon.
    pub(super) presenter: EntityId,
    /// Where its node is.
    pub(super) subnet: Subnet,
    /// Of a daemon: how often its hosting changed hands.
    pub(super) epoch: Epoch,
}

impl Grant {
    /// When its tokens end, in unix seconds.
    fn ends(&self) -> impl Iterator<Item = u64> {
        self.token.iter().flat_map(TokenChain::tokens).map(PermissionToken::not_after)
    }

    /// Whose tokens it was let in with.
    fn issuers(&self) -> impl Iterator<Item = EntityId> {
        self.token.iter().flat_map(TokenChain::tokens).map(PermissionToken::issuer)
    }
}

/// What a channel's gate decides by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) own_entity: EntityId,
    pub(super) own_subnet: &'a Subnet,
    pub(super) floors: &'a RevocationFloors,
    /// By how many seconds a token may be too early.
    pub(super) skew: u64,
    pub(super) now: Moment,
}

impl Channel {
    /// A channel whose numbers begin behind `last`.
    pub(super) fn new(config: ChannelConfig, last: u64, now: Moment) -> Self {
        let rate = config.max_rate.map(|per_second| RateLimit::new(per_second, now.instant));
        let (ring, groups, members) = (Ring::default(), Groups::behind(last), BTreeMap::new());
        let (daemons, by_issuer) = (BTreeMap::new(), BTreeMap::new());
        Self { config, for_outputs: false, last, ring, rate, groups, members, daemons, next_sweep: u64::MAX, by_issuer }
    }

    /// Takes another configuration on; the limit starts anew only when it is another one.
    pub(super) fn reconfigure(&mut self, config: ChannelConfig, now: Moment) {
        if self.config.max_rate != config.max_rate {
            self.rate = config.max_rate.map(|per_second| RateLimit::new(per_second, now.instant));
        }
        self.config = config;
        self.for_outputs = false;
    }

    /// Takes one message of this second's allowance.
    pub(super) fn admit_message(&mut self, now: Moment) -> Result<(), ChannelError> {
        let Some((rate, max_rate)) = self.rate.as_mut().zip(self.config.max_rate) else { return Ok(()) };
        if rate.admit(now.instant) {
            return Ok(());
        }
        Err(ChannelError::RateLimited { channel: self.config.name.as_str().to_owned(), max_rate })
    }

    /// Whether the gate lets this in: where it is, then what it presents.
    pub(super) fn check(&self, seat: Seat, grant: &Grant, rules: Rules<'_>) -> Result<(), TokenError> {
        if !self.config.visibility.admits(rules.own_subnet, &grant.subnet) {
            return Err(TokenError::NotAuthorized);
        }
        if !self.config.is_gated() {
            return Ok(());
        }
        let own = [rules.own_entity];
        let roots = if self.config.token_roots.is_empty() { own.as_slice() } else { &self.config.token_roots };
        let token = grant.token.as_ref().ok_or(TokenError::NotAuthorized)?;
        token.verify(&TokenRequest {
            presenter: grant.presenter,
            action: TokenScope::SUBSCRIBE,
            target: seat.token_target(self.config.name.id()),
            roots,
            floors: rules.floors,
            now: rules.now.unix.as_secs(),
            skew: rules.skew,
        })
    }

    /// What a subscriber was let in with.
    pub(super) fn grant(&self, node: NodeId, seat: Seat) -> Option<&Grant> {
        self.members.get(&node)?.get(&seat)
    }

    /// Lets a subscriber in; true when it was not before.
    pub(super) fn insert(&mut self, node: NodeId, seat: Seat, grant: Grant) -> bool {
        self.next_sweep = grant.ends().fold(self.next_sweep, u64::min);
        for issuer in grant.issuers() {
            self.by_issuer.entry(issuer).or_default().insert((node, seat));
        }
        let former = self.members.entry(node).or_default().insert(seat, grant);
        let is_new = former.is_none();
        if let Some(former) = former {
            self.forget_issuers(node, seat, &former);
        }
        if let Some(group) = seat.group {
            self.groups.insert(group, (node, seat.who));
        }
        if let Some(daemon) = seat.who.daemon() {
            self.ring.open(self.last, self.groups.last());
            self.daemons.entry(daemon).or_default().insert((node, seat));
        }
        is_new
    }

    /// Lets a subscriber out; true when it was in.
    pub(super) fn remove(&mut self, node: NodeId, seat: Seat, now: Moment) -> bool {
        let Some(on_node) = self.members.get_mut(&node) else { return false };
        let Some(grant) = on_node.remove(&seat) else { return false };
        if on_node.is_empty() {
            self.members.remove(&node);
        }
        self.left(node, seat, &grant, now);
        true
    }

    /// Forgets a node.
    pub(super) fn remove_node(&mut self, node: NodeId, now: Moment) {
        for (seat, grant) in self.members.remove(&node).unwrap_or_default() {
            self.left(node, seat, &grant, now);
        }
    }

    /// A subscriber is in with something else, or out.
    fn forget_issuers(&mut self, node: NodeId, seat: Seat, former: &Grant) {
        let now: BTreeSet<_> = self.grant(node, seat).into_iter().flat_map(Grant::issuers).collect();
        for issuer in former.issuers().filter(|issuer| !now.contains(issuer)) {
            if let btree_map::Entry::Occupied(mut holders) = self.by_issuer.entry(issuer) {
                holders.get_mut().remove(&(node, seat));
                if holders.get().is_empty() {
                    holders.remove();
                }
            }
        }
    }

    fn left(&mut self, node: NodeId, seat: Seat, former: &Grant, now: Moment) {
        self.forget_issuers(node, seat, former);
        if let Some(group) = seat.group {
            self.groups.remove(group, (node, seat.who));
        }
        if let Some(daemon) = seat.who.daemon() {
            if let btree_map::Entry::Occupied(mut seats) = self.daemons.entry(daemon) {
                seats.get_mut().remove(&(node, seat));
                if seats.get().is_empty() {
                    seats.remove();
                }
            }
            if self.daemons.is_empty() {
                self.ring.leave(now.instant);
            }
        }
    }

    /// Where else a daemon is let in, as what, and since which epoch.
    pub(super) fn elsewhere(&self, daemon: EntityId, node: NodeId) -> Vec<(NodeId, Seat, Epoch)> {
        let seats = self.daemons.get(&daemon).into_iter().flatten().filter(|(at, _)| *at != node);
        seats.filter_map(|&(at, seat)| Some((at, seat, self.grant(at, seat)?.epoch))).collect()
    }

    /// The seats on a node that get what a stream carries.
    pub(super) fn seats_of(&self, node: NodeId, share: Share) -> Vec<Seat> {
        let on_node = self.members.get(&node).into_iter();
        on_node.flat_map(|on_node| on_node.range(share.seats())).map(|(&seat, _)| seat).collect()
    }

    /// Whether there is one.
    pub(super) fn has_seat(&self, node: NodeId, share: Share) -> bool {
        self.members.get(&node).is_some_and(|on_node| on_node.range(share.seats()).next().is_some())
    }

    /// Whether there are several.
    pub(super) fn is_shared(&self, node: NodeId, share: Share) -> bool {
        self.members.get(&node).is_some_and(|on_node| on_node.range(share.seats()).nth(1).is_some())
    }

    /// Everybody on a node.
    pub(super) fn seats_on(&self, node: NodeId) -> Vec<Seat> {
        self.members.get(&node).into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    /// The nodes that every message goes to.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        let outside = |on_node: &BTreeMap<Seat, Grant>| on_node.range(Seat::OUTSIDE).next().is_some();
        self.members.iter().filter(move |(_, on_node)| outside(on_node)).map(|(&node, _)| node)
    }

    /// The last number that a message had in a stream, or could have had.
    pub(super) const fn last_of(&self, share: Share) -> u64 {
        match share {
            Share::All => self.last,
            Share::Member(..) => self.groups.last(),
        }
    }

    /// The nodes with subscribers, and what these are in as.
    pub(super) fn seats(&self) -> impl Iterator<Item = (NodeId, impl Iterator<Item = Seat>)> {
        self.members.iter().map(|(&node, on_node)| (node, on_node.keys().copied()))
    }

    /// Everybody who is in: outside of groups, or in one.
    pub(super) fn members(&self, group: Option<GroupId>) -> impl Iterator<Item = (NodeId, Subscriber)> {
        let seats = self.members.iter().flat_map(|(&node, on_node)| on_node.keys().map(move |&seat| (node, seat)));
        seats.filter(move |(_, seat)| seat.group == group).map(|(node, seat)| (node, seat.who))
    }

    /// Who is in and would not be let in again, with the reason.
    pub(super) fn outdated(&self, rules: Rules<'_>) -> Vec<(NodeId, Seat, TokenError)> {
        let all =
            self.members.iter().flat_map(|(&node, on_node)| on_node.iter().map(move |(&s, grant)| (node, s, grant)));
        all.filter_map(|(node, s, grant)| self.check(s, grant, rules).err().map(|error| (node, s, error))).collect()
    }

    /// Who is in with a token whose time is over, or which was revoked. Cheap: signatures were verified on the way in.
    pub(super) fn expired(&self, rules: Rules<'_>) -> Vec<(NodeId, Seat, TokenError)> {
        if !self.config.is_gated() {
            return Vec::new();
        }
        let seats = self.seats().flat_map(|(node, seats)| seats.map(move |seat| (node, seat)));
        self.expired_of(seats, rules)
    }

    /// The same among those who are in with a token of one issuer.
    pub(super) fn expired_by(&self, issuer: EntityId, rules: Rules<'_>) -> Vec<(NodeId, Seat, TokenError)> {
        let holders = self.by_issuer.get(&issuer).filter(|_| self.config.is_gated());
        self.expired_of(holders.into_iter().flatten().copied(), rules)
    }

    fn expired_of(
        &self,
        seats: impl Iterator<Item = (NodeId, Seat)>,
        rules: Rules<'_>,
    ) -> Vec<(NodeId, Seat, TokenError)> {
        let now = rules.now.unix.as_secs();
        let check =
            |token: &PermissionToken| token.check_time(now, rules.skew).and_then(|()| rules.floors.check(token));
        let bad = |(node, seat)| {
            let mut tokens = self.grant(node, seat)?.token.iter().flat_map(TokenChain::tokens);
            tokens.find_map(|token| check(token).err()).map(|error| (node, seat, error))
        };
        seats.filter_map(bad).collect()
    }

    /// Whose tokens those present that are in.
    pub(super) fn issuers(&self) -> Vec<EntityId> {
        self.by_issuer.keys().filter(|_| self.config.is_gated()).copied().collect()
    }

    /// How many are found by the issuers of their tokens, once for each of these.
    pub(super) fn holders(&self) -> usize {
        self.by_issuer.values().map(BTreeSet::len).sum()
    }

    /// Whether a token may have ended since this was asked last. Then whoever came in with it has to be looked for; whom a
    /// revocation concerns is put out when that comes.
    pub(super) fn is_sweep_due(&mut self, now: Moment) -> bool {
        let now = now.unix.as_secs();
        if !self.config.is_gated() || now < self.next_sweep {
            return false;
        }
        let ends = self.members.values().flat_map(BTreeMap::values).flat_map(Grant::ends);
        self.next_sweep = ends.filter(|end| *end > now).min().unwrap_or(u64::MAX);
        true
    }

    /// No token ends before this, in unix seconds; whether one does then is found out when it is time to look.
    pub(super) fn next_end(&self) -> Option<u64> {
        Some(self.next_sweep).filter(|end| self.config.is_gated() && *end < u64::MAX)
    }
}
