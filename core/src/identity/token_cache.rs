//! Tokens at hand, found by who holds them and for which channel.

use std::collections::HashMap;

use super::{
    EntityId, EntityKeypair, PermissionToken, Revocation, RevocationFloors, TokenChain, TokenError, TokenScope,
    TokenTarget,
};

/// Most pairs of holder and channel.
pub const MAX_TOKEN_SLOTS: usize = 1024;
/// Most tokens of one holder for one channel.
pub const MAX_TOKENS_PER_SLOT: usize = 8;

/// A bounded store of tokens. What was valid when it came is verified again whenever it is used.
///
/// When it is full, the tokens that end first go first.
#[derive(Clone, Debug, Default)]
pub struct TokenCache {
    slots: HashMap<Slot, Vec<PermissionToken>>,
    floors: RevocationFloors,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Slot {
    subject: EntityId,
    channel: Channel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Channel {
    Any,
    One(u64),
}

impl TokenCache {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Verifies a token and keeps it; the same one twice is kept once. `now` in unix seconds.
    pub fn install(&mut self, token: PermissionToken, now: u64) -> Result<(), TokenError> {
        self.check(&token, now)?;
        let slot = Slot::of(&token);
        if !self.slots.contains_key(&slot) && self.slots.len() >= MAX_TOKEN_SLOTS {
            self.evict();
        }
        let tokens = self.slots.entry(slot).or_default();
        if !tokens.contains(&token) {
            tokens.push(token);
            // The longest valid one is found first.
            tokens.sort_by_key(|token| std::cmp::Reverse((token.not_after(), token.nonce())));
            tokens.truncate(MAX_TOKENS_PER_SLOT);
        }
        Ok(())
    }

    /// The longest valid token of `subject` for this channel, or else for any channel; for a queue group only its own. Tokens
    /// that no longer verify are dropped on the way.
    pub fn lookup(&mut self, subject: EntityId, target: TokenTarget, now: u64) -> Option<PermissionToken> {
        let (one, any) = match target {
            TokenTarget::Channel(hash) => (hash, Some(Channel::Any)),
            TokenTarget::QueueGroup(hash) => (hash, None),
        };
        [Some(Channel::One(one)), any].into_iter().flatten().find_map(|channel| {
            let slot = Slot { subject, channel };
            let tokens = self.slots.get_mut(&slot)?;
            let floors = &self.floors;
            tokens.retain(|token| token.verify(now).and_then(|()| floors.check(token)).is_ok());
            let found = tokens.first().cloned();
            if found.is_none() {
                self.slots.remove(&slot);
            }
            found
        })
    }

    /// Revokes the tokens of an issuer below a generation; false when there is no room for one more issuer.
    pub fn revoke_below(&mut self, issuer: EntityId, generation: u32) -> bool {
        let in_force = self.floors.raise(issuer, generation);
        let floors = &self.floors;
        self.slots.retain(|_, tokens| {
            tokens.retain(|token| floors.check(token).is_ok());
            !tokens.is_empty()
        });
        in_force
    }

    /// The same on its issuer's word; false when there is no room for one more issuer.
    pub fn revoke(&mut self, revocation: &Revocation) -> Result<bool, TokenError> {
        revocation.verify()?;
        Ok(self.revoke_below(revocation.issuer(), revocation.below()))
    }

    /// Passes the leaf of a chain on, unless one of its tokens was revoked, see [`PermissionToken::delegate`].
    ///
    /// # Panics
    /// When the operating system has no random numbers.
    pub fn delegate(
        &self,
        parent: &TokenChain,
        signer: &EntityKeypair,
        subject: EntityId,
        scope: TokenScope,
        now: u64,
    ) -> Result<PermissionToken, TokenError> {
        parent.leaf().verify(now)?;
        parent.tokens().iter().try_for_each(|token| self.floors.check(token))?;
        parent.leaf().delegate(signer, subject, scope, now)
    }

    /// What was revoked.
    pub const fn floors(&self) -> &RevocationFloors {
        &self.floors
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.slots.values().map(Vec::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn check(&self, token: &PermissionToken, now: u64) -> Result<(), TokenError> {
        token.verify(now)?;
        self.floors.check(token)
    }

    /// Removes the slot whose last token ends first.
    fn evict(&mut self) {
        let ends_first = self
            .slots
            .iter()
            .map(|(&slot, tokens)| (tokens.iter().map(PermissionToken::not_after).max(), slot))
            .min()
            .map(|(_, slot)| slot);
        if let Some(slot) = ends_first {
            self.slots.remove(&slot);
        }
    }
}

impl Slot {
    fn of(token: &PermissionToken) -> Self {
        let channel = if token.scope().contains(TokenScope::WILDCARD) {
            Channel::Any
        } else {
            Channel::One(token.channel_hash())
        };
        Self { subject: token.subject(), channel }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EntityKeypair, TokenGrant};
    use super::*;

    fn token(issuer: &EntityKeypair, subject: u8, scope: TokenScope, channel: u64, ttl: u64) -> PermissionToken {
        let grant = TokenGrant {
            subject: EntityId::from_bytes([subject; 32]),
            scope,
            channel_hash: channel,
            ttl_seconds: ttl,
            delegation_depth: 0,
            generation: 3,
        };
        PermissionToken::issue(issuer, &grant, 1000).expect("issuable")
    }

    fn holder(subject: u8) -> EntityId {
        EntityId::from_bytes([subject; 32])
    }

    #[test]
    fn requirement_118_finds_by_holder_and_channel_and_on_another_channel_only_with_the_wildcard() {
        let issuer = EntityKeypair::from_seed(&[1; 32]);
        let mut cache = TokenCache::new();
        let exact = token(&issuer, 1, TokenScope::PUBLISH, 7, 10);
        let any = token(&issuer, 1, TokenScope::WILDCARD.union(TokenScope::PUBLISH), 8, 100);
        cache.install(exact.clone(), 1000).expect("valid");
        cache.install(exact.clone(), 1000).expect("valid");
        cache.install(any.clone(), 1000).expect("valid");
        assert_eq!(cache.len(), 2);
        assert_eq!(cache.lookup(holder(1), TokenTarget::Channel(7), 1000), Some(exact));
        assert_eq!(cache.lookup(holder(1), TokenTarget::Channel(9), 1000), Some(any.clone()));
        assert_eq!(cache.lookup(holder(2), TokenTarget::Channel(7), 1000), None);
        // The exact one has ended.
        assert_eq!(cache.lookup(holder(1), TokenTarget::Channel(7), 1010), Some(any));
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn hazard_43_requirement_117_tokens_are_verified_again_on_use_and_what_ended_or_was_revoked_is_gone() {
        let issuer = EntityKeypair::from_seed(&[1; 32]);
        let mut cache = TokenCache::new();
        cache.install(token(&issuer, 1, TokenScope::PUBLISH, 7, 10), 1000).expect("valid");
        assert!(cache.lookup(holder(1), TokenTarget::Channel(7), 1009).is_some());
        assert_eq!(cache.lookup(holder(1), TokenTarget::Channel(7), 1010), None);
        assert!(cache.is_empty());
        let other = token(&issuer, 2, TokenScope::PUBLISH, 7, 10);
        cache.install(other.clone(), 1000).expect("valid");
        cache.revoke_below(issuer.entity_id(), 4);
        cache.revoke_below(issuer.entity_id(), 1);
        assert!(cache.is_empty());
        assert_eq!(cache.install(other, 1000), Err(TokenError::Revoked));
    }

    #[test]
    fn hazard_43_an_issuers_own_word_takes_its_tokens_out_and_only_its_own() {
        let (issuer, other) = (EntityKeypair::from_seed(&[1; 32]), EntityKeypair::from_seed(&[2; 32]));
        let mut cache = TokenCache::new();
        for by in [&issuer, &other] {
            cache.install(token(by, 1, TokenScope::PUBLISH, 7, 10), 1000).expect("valid");
        }
        let revocation = Revocation::issue(&issuer, 4).expect("full");
        let mut forged = revocation.to_bytes();
        forged[..32].copy_from_slice(other.entity_id().as_bytes());
        let forged = Revocation::from_bytes(&forged).expect("format");
        assert_eq!(cache.revoke(&forged), Err(TokenError::ForgedRevocation));
        assert_eq!(cache.len(), 2);
        assert_eq!(cache.revoke(&revocation), Ok(true));
        let left = cache.lookup(holder(1), TokenTarget::Channel(7), 1000).expect("the other's");
        assert_eq!((left.issuer(), cache.len()), (other.entity_id(), 1));
    }

    #[test]
    fn hazard_43_what_was_revoked_is_not_passed_on() {
        let (root, holder, next) = (
            EntityKeypair::from_seed(&[1; 32]),
            EntityKeypair::from_seed(&[2; 32]),
            EntityKeypair::from_seed(&[3; 32]),
        );
        let scope = TokenScope::PUBLISH.union(TokenScope::DELEGATE);
        let grant = TokenGrant {
            subject: holder.entity_id(),
            scope,
            channel_hash: 7,
            ttl_seconds: 10,
            delegation_depth: 2,
            generation: 3,
        };
        let first = PermissionToken::issue(&root, &grant, 1000).expect("issuable");
        let chain = TokenChain::new(vec![first]).expect("one");
        let chain = chain.delegate(&holder, next.entity_id(), scope, 1000).expect("delegable");
        let mut cache = TokenCache::new();
        let pass = |cache: &TokenCache, now| cache.delegate(&chain, &next, root.entity_id(), scope, now).map(|_| ());
        assert_eq!(pass(&cache, 1000), Ok(()));
        assert_eq!(cache.revoke(&Revocation::issue(&holder, 3).expect("full")), Ok(true));
        assert_eq!(pass(&cache, 1000), Ok(()), "not below 3");
        // Whichever of its links is revoked, what is made of it is worth nothing.
        for issuer in [&root, &holder] {
            let mut cache = cache.clone();
            assert_eq!(cache.revoke(&Revocation::issue(issuer, 4).expect("full")), Ok(true));
            assert_eq!(pass(&cache, 1000), Err(TokenError::Revoked));
            assert_eq!(pass(&cache, 1010), Err(TokenError::Expired), "that comes first");
        }
    }

    #[test]
    fn requirement_117_what_is_not_valid_now_or_was_changed_does_not_enter() {
        let issuer = EntityKeypair::from_seed(&[1; 32]);
        let good = token(&issuer, 1, TokenScope::PUBLISH, 7, 10);
        let mut bytes = good.to_bytes();
        bytes[64] = 31;
        let forged = PermissionToken::from_bytes(&bytes).expect("format");
        let mut cache = TokenCache::new();
        assert_eq!(cache.install(forged, 1000), Err(TokenError::InvalidSignature));
        assert_eq!(cache.install(good.clone(), 999), Err(TokenError::NotYetValid));
        assert_eq!(cache.install(good, 1010), Err(TokenError::Expired));
        assert!(cache.is_empty());
    }

    #[test]
    fn slots_and_tokens_per_slot_are_bounded_and_the_first_to_end_goes() {
        let issuer = EntityKeypair::from_seed(&[1; 32]);
        let mut cache = TokenCache::new();
        for ttl in 1..=MAX_TOKENS_PER_SLOT as u64 + 2 {
            cache.install(token(&issuer, 1, TokenScope::PUBLISH, 7, ttl), 1000).expect("valid");
        }
        assert_eq!(cache.len(), MAX_TOKENS_PER_SLOT);
        let longest = cache.lookup(holder(1), TokenTarget::Channel(7), 1000).expect("there");
        assert_eq!(longest.not_after(), 1000 + MAX_TOKENS_PER_SLOT as u64 + 2);

        for channel in 100..100 + MAX_TOKEN_SLOTS as u64 {
            cache.install(token(&issuer, 2, TokenScope::PUBLISH, channel, channel), 1000).expect("valid");
        }
        assert_eq!(cache.slots.len(), MAX_TOKEN_SLOTS);
        assert_eq!(cache.lookup(holder(1), TokenTarget::Channel(7), 1000), None, "it ended first");
        assert!(cache.lookup(holder(2), TokenTarget::Channel(100), 1000).is_some());
    }
}
