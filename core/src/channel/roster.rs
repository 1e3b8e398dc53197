//! A channel of this node and whom it lets in.

use std::collections::BTreeMap;

use super::config::Subnet;
use super::machine::{Moment, Subscriber};
use super::rate::RateLimit;
use super::ring::Ring;
use super::{ChannelConfig, ChannelError};
use crate::identity::{
    EntityId, Epoch, NodeId, PermissionToken, RevocationFloors, TokenChain, TokenError, TokenRequest, TokenScope,
};

/// A registered channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) config: ChannelConfig,
    /// The number of the last message.
    pub(super) last: u64,
    pub(super) ring: Ring,
    rate: Option<RateLimit>,
    /// Nodes, and who is let in on each; none is empty.
    members: BTreeMap<NodeId, BTreeMap<Subscriber, Grant>>,
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

/// What a channel's gate decides by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) own_entity: EntityId,
    pub(super) own_subnet: &'a Subnet,
    pub(super) floors: &'a RevocationFloors,
    pub(super) now: Moment,
}

impl Channel {
    pub(super) fn new(config: ChannelConfig, now: Moment) -> Self {
        let rate = config.max_rate.map(|per_second| RateLimit::new(per_second, now.instant));
        Self { config, last: 0, ring: Ring::default(), rate, members: BTreeMap::new() }
    }

    /// Takes another configuration on; the limit starts anew only when it is another one.
    pub(super) fn reconfigure(&mut self, config: ChannelConfig, now: Moment) {
        if self.config.max_rate != config.max_rate {
            self.rate = config.max_rate.map(|per_second| RateLimit::new(per_second, now.instant));
        }
        self.config = config;
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
    pub(super) fn check(&self, grant: &Grant, rules: Rules<'_>) -> Result<(), TokenError> {
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
            channel_hash: self.config.name.id().0,
            roots,
            floors: rules.floors,
            now: rules.now.unix.as_secs(),
        })
    }

    /// What a subscriber was let in with.
    pub(super) fn grant(&self, node: NodeId, subscriber: Subscriber) -> Option<&Grant> {
        self.members.get(&node)?.get(&subscriber)
    }

    /// Lets a subscriber in; true when it was not before.
    pub(super) fn insert(&mut self, node: NodeId, subscriber: Subscriber, grant: Grant) -> bool {
        self.members.entry(node).or_default().insert(subscriber, grant).is_none()
    }

    /// Lets a subscriber out; true when it was in.
    pub(super) fn remove(&mut self, node: NodeId, subscriber: Subscriber) -> bool {
        let Some(on_node) = self.members.get_mut(&node) else { return false };
        let was_in = on_node.remove(&subscriber).is_some();
        if on_node.is_empty() {
            self.members.remove(&node);
        }
        was_in
    }

    /// Forgets a node.
    pub(super) fn remove_node(&mut self, node: NodeId) {
        self.members.remove(&node);
    }

    /// The other nodes on which a daemon is let in, and since which epoch.
    pub(super) fn elsewhere(&self, daemon: EntityId, node: NodeId) -> Vec<(NodeId, Epoch)> {
        let others = self.members.iter().filter(|(at, _)| **at != node);
        let grants = others.filter_map(|(&at, on_node)| Some((at, on_node.get(&Subscriber::Daemon(daemon))?.epoch)));
        grants.collect()
    }

    /// How many on a node are let in.
    pub(super) fn members_on(&self, node: NodeId) -> usize {
        self.members.get(&node).map_or(0, BTreeMap::len)
    }

    /// Whether anybody on a node is let in.
    pub(super) fn has_node(&self, node: NodeId) -> bool {
        self.members.contains_key(&node)
    }

    /// The nodes that messages go to.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.members.keys().copied()
    }

    /// Everybody who is in.
    pub(super) fn members(&self) -> impl Iterator<Item = (NodeId, Subscriber)> {
        self.members.iter().flat_map(|(&node, on_node)| on_node.keys().map(move |&subscriber| (node, subscriber)))
    }

    /// Who is in and would not be let in again, with the reason.
    pub(super) fn outdated(&self, rules: Rules<'_>) -> Vec<(NodeId, Subscriber, TokenError)> {
        let all =
            self.members.iter().flat_map(|(&node, on_node)| on_node.iter().map(move |(&s, grant)| (node, s, grant)));
        all.filter_map(|(node, s, grant)| self.check(grant, rules).err().map(|error| (node, s, error))).collect()
    }

    /// Who is in with a token whose time is over, or which was revoked. Cheap: signatures were verified on the way in.
    pub(super) fn expired(&self, rules: Rules<'_>) -> Vec<(NodeId, Subscriber, TokenError)> {
        if !self.config.is_gated() {
            return Vec::new();
        }
        let now = rules.now.unix.as_secs();
        let all =
            self.members.iter().flat_map(|(&node, on_node)| on_node.iter().map(move |(&s, grant)| (node, s, grant)));
        all.filter_map(|(node, s, grant)| {
            let mut tokens = grant.token.iter().flat_map(TokenChain::tokens);
            let bad = tokens.find_map(|token| token.check_time(now).and_then(|()| rules.floors.check(token)).err());
            bad.map(|error| (node, s, error))
        })
        .collect()
    }

    /// When the next token ends, in unix seconds.
    pub(super) fn next_end(&self) -> Option<u64> {
        if !self.config.is_gated() {
            return None;
        }
        let grants = self.members.values().flat_map(BTreeMap::values);
        grants.flat_map(|grant| &grant.token).flat_map(TokenChain::tokens).map(PermissionToken::not_after).min()
    }
}
