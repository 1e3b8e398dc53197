//! Permission tokens: a signed right of one entity to do something on a channel.

use super::keypair::random_secret;
use super::{EntityId, EntityKeypair, Signature, TokenError};

/// Length of an encoded [`PermissionToken`].
pub const TOKEN_LEN: usize = SIGNED_LEN + 64;
/// Longest time that a token may be valid, in seconds: 365 days.
pub const MAX_TOKEN_TTL: u64 = 365 * 24 * 60 * 60;

const SIGNED_LEN: usize = 105;

/// What a token allows, as a set of bits. Bits without a name are kept, because they are signed, and allow nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TokenScope(u32);

/// A right on a channel, signed by its issuer. 169 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PermissionToken {
    issuer: EntityId,
    subject: EntityId,
    scope: TokenScope,
    channel_hash: u64,
    generation: u32,
    not_before: u64,
    not_after: u64,
    delegation_depth: u8,
    nonce: u64,
    signature: Signature,
}

/// What is granted to whom.
#[derive(Clone, Copy, Debug)]
pub struct TokenGrant {
    /// Who may present the token.
    pub subject: EntityId,
    /// What it allows.
    pub scope: TokenScope,
    /// On which channel, see [`channel_hash`](super::channel_hash).
    pub channel_hash: u64,
    /// For how long, in seconds.
    pub ttl_seconds: u64,
    /// How many times it may be passed on.
    pub delegation_depth: u8,
    /// The issuer's generation, which a revocation outdates.
    pub generation: u32,
}

/// What a token is presented for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenTarget {
    /// A channel, by [`channel_hash`](super::channel_hash).
    Channel(u64),
    /// A queue group of a channel, by [`queue_group_hash`](super::queue_group_hash).
    QueueGroup(u64),
}

impl TokenScope {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Publish on the channel.
    pub const PUBLISH: Self = Self(1);
    /// Subscribe to the channel.
    pub const SUBSCRIBE: Self = Self(2);
    /// Administer the channel.
    pub const ADMIN: Self = Self(4);
    /// Pass the token on.
    pub const DELEGATE: Self = Self(8);
    /// All of it on any channel.
    pub const WILDCARD: Self = Self(16);

    /// Takes the bits.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl PermissionToken {
    /// Issues a token that is valid from `now`, in unix seconds.
    ///
    /// # Panics
    /// When the operating system has no random numbers.
    pub fn issue(issuer: &EntityKeypair, grant: &TokenGrant, now: u64) -> Result<Self, TokenError> {
        check_ttl(grant.ttl_seconds)?;
        let not_after = now.checked_add(grant.ttl_seconds).ok_or(TokenError::TtlTooLong)?;
        Self {
            issuer: issuer.entity_id(),
            subject: grant.subject,
            scope: grant.scope,
            channel_hash: grant.channel_hash,
            generation: grant.generation,
            not_before: now,
            not_after,
            delegation_depth: grant.delegation_depth,
            nonce: u64::from_le_bytes(*random_secret()),
            signature: Signature::from_bytes([0; 64]),
        }
        .signed(issuer)
    }

    /// Passes a part of this token on: scope at most this one's, same channel, same end, one step less to delegate.
    ///
    /// Checked in this order: this token is valid, `signer` is its subject, it has the delegate bit, its depth is above 0.
    ///
    /// # Panics
    /// When the operating system has no random numbers.
    pub fn delegate(
        &self,
        signer: &EntityKeypair,
        subject: EntityId,
        scope: TokenScope,
        now: u64,
    ) -> Result<Self, TokenError> {
        self.verify(now)?;
        if signer.entity_id() != self.subject {
            return Err(TokenError::NotAuthorized);
        }
        if !self.scope.contains(TokenScope::DELEGATE) {
            return Err(TokenError::DelegationNotAllowed);
        }
        let delegation_depth = self.delegation_depth.checked_sub(1).ok_or(TokenError::DelegationExhausted)?;
        Self {
            issuer: self.subject,
            subject,
            scope: self.scope.intersection(scope),
            not_before: now,
            delegation_depth,
            nonce: u64::from_le_bytes(*random_secret()),
            ..self.clone()
        }
        .signed(signer)
    }

    /// Checks signature and time.
    pub fn verify(&self, now: u64) -> Result<(), TokenError> {
        self.verify_signature()?;
        self.check_time(now, 0)
    }

    /// Checks that the issuer signed this.
    pub fn verify_signature(&self) -> Result<(), TokenError> {
        self.issuer.verify(&self.signed_bytes(), &self.signature).map_err(|_| TokenError::InvalidSignature)
    }

    /// Checks `not_before ≤ now < not_after`, in unix seconds, and that the window is one that may be issued. So many seconds
    /// (`skew`) it may be too early: the issuer's clock may be ahead of this one. Its end is never put off.
    pub fn check_time(&self, now: u64, skew: u64) -> Result<(), TokenError> {
        check_ttl(self.not_after.saturating_sub(self.not_before))?;
        if now.saturating_add(skew) < self.not_before {
            Err(TokenError::NotYetValid)
        } else if now < self.not_after {
            Ok(())
        } else {
            Err(TokenError::Expired)
        }
    }

    /// Checks that it allows `action` there. Any channel only with the wildcard bit; a queue group only by its own hash.
    pub fn authorises(&self, action: TokenScope, target: TokenTarget) -> Result<(), TokenError> {
        let there = match target {
            TokenTarget::Channel(hash) => self.channel_hash == hash || self.scope.contains(TokenScope::WILDCARD),
            TokenTarget::QueueGroup(hash) => self.channel_hash == hash,
        };
        if there && self.scope.contains(action) { Ok(()) } else { Err(TokenError::NotAuthorized) }
    }

    /// Who signed it.
    pub const fn issuer(&self) -> EntityId {
        self.issuer
    }

    /// Who may present it.
    pub const fn subject(&self) -> EntityId {
        self.subject
    }

    /// What it allows.
    pub const fn scope(&self) -> TokenScope {
        self.scope
    }

    /// On which channel.
    pub const fn channel_hash(&self) -> u64 {
        self.channel_hash
    }

    /// The issuer's generation.
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// From when, in unix seconds.
    pub const fn not_before(&self) -> u64 {
        self.not_before
    }

    /// Until before when, in unix seconds.
    pub const fn not_after(&self) -> u64 {
        self.not_after
    }

    /// How many times it may be passed on.
    pub const fn delegation_depth(&self) -> u8 {
        self.delegation_depth
    }

    /// Tells apart tokens that are otherwise equal.
    pub const fn nonce(&self) -> u64 {
        self.nonce
    }

    /// The wire form: issuer 32 · subject 32 · scope u32 · channel hash u64 · generation u32 · not before u64 · not after
    /// u64 · depth u8 · nonce u64 · signature 64 over what is before it. Little-endian.
    pub fn to_bytes(&self) -> [u8; TOKEN_LEN] {
        let mut bytes = [0; TOKEN_LEN];
        bytes[..SIGNED_LEN].copy_from_slice(&self.signed_bytes());
        bytes[SIGNED_LEN..].copy_from_slice(self.signature.as_bytes());
        bytes
    }

    /// Reads the wire form. Only the length can be wrong; nothing is verified yet.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenError> {
        let bytes: &[u8; TOKEN_LEN] =
            bytes.try_into().map_err(|_| TokenError::InvalidFormat("a token has 169 bytes"))?;
        Ok(Self {
            issuer: EntityId::from_bytes(part(bytes, 0)),
            subject: EntityId::from_bytes(part(bytes, 32)),
            scope: TokenScope(u32::from_le_bytes(part(bytes, 64))),
            channel_hash: u64::from_le_bytes(part(bytes, 68)),
            generation: u32::from_le_bytes(part(bytes, 76)),
            not_before: u64::from_le_bytes(part(bytes, 80)),
            not_after: u64::from_le_bytes(part(bytes, 88)),
            delegation_depth: bytes[96],
            nonce: u64::from_le_bytes(part(bytes, 97)),
            signature: Signature::from_bytes(part(bytes, SIGNED_LEN)),
        })
    }

    fn signed(mut self, signer: &EntityKeypair) -> Result<Self, TokenError> {
        self.signature = signer.sign(&self.signed_bytes()).map_err(|_| TokenError::ReadOnly)?;
        Ok(self)
    }

    fn signed_bytes(&self) -> [u8; SIGNED_LEN] {
        let mut bytes = [0; SIGNED_LEN];
        bytes[..32].copy_from_slice(self.issuer.as_bytes());
        bytes[32..64].copy_from_slice(self.subject.as_bytes());
        bytes[64..68].copy_from_slice(&self.scope.0.to_le_bytes());
        bytes[68..76].copy_from_slice(&self.channel_hash.to_le_bytes());
        bytes[76..80].copy_from_slice(&self.generation.to_le_bytes());
        bytes[80..88].copy_from_slice(&self.not_before.to_le_bytes());
        bytes[88..96].copy_from_slice(&self.not_after.to_le_bytes());
        bytes[96] = self.delegation_depth;
        bytes[97..].copy_from_slice(&self.nonce.to_le_bytes());
        bytes
    }
}

const fn check_ttl(seconds: u64) -> Result<(), TokenError> {
    match seconds {
        0 => Err(TokenError::ZeroTtl),
        1..=MAX_TOKEN_TTL => Ok(()),
        _ => Err(TokenError::TtlTooLong),
    }
}

fn part<const N: usize>(bytes: &[u8; TOKEN_LEN], from: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[from + i])
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
