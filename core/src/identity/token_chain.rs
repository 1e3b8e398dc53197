//! Chains of delegated tokens, and how a publisher checks one.

use super::token::TOKEN_LEN;
use super::{EntityId, EntityKeypair, PermissionToken, RevocationFloors, TokenError, TokenScope, TokenTarget};

/// Most tokens in a chain.
pub const MAX_CHAIN_TOKENS: usize = 8;

/// From the token of a channel's root to the one of its presenter. A single token is a chain of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenChain {
    tokens: Vec<PermissionToken>,
}

/// What a chain is checked against.
#[derive(Clone, Copy, Debug)]
pub struct TokenRequest<'a> {
    /// Who presents it, as proven by the session or the daemon's own key.
    pub presenter: EntityId,
    /// What is to be done.
    pub action: TokenScope,
    /// On which channel, or in which of its queue groups.
    pub target: TokenTarget,
    /// Who may issue for this channel.
    pub roots: &'a [EntityId],
    /// What was revoked.
    pub floors: &'a RevocationFloors,
    /// Unix seconds.
    pub now: u64,
    /// By how many seconds a token may be too early, see [`PermissionToken::check_time`].
    pub skew: u64,
}

impl TokenChain {
    /// Joins 1 to 8 tokens, the root's first. Whether they fit together shows on verification.
    pub fn new(tokens: Vec<PermissionToken>) -> Result<Self, TokenError> {
        if (1..=MAX_CHAIN_TOKENS).contains(&tokens.len()) {
            Ok(Self { tokens })
        } else {
            Err(TokenError::InvalidFormat("a chain has 1 to 8 tokens"))
        }
    }

    /// The tokens, the root's first.
    pub fn tokens(&self) -> &[PermissionToken] {
        &self.tokens
    }

    /// The token of the presenter.
    #[allow(clippy::missing_panics_doc, reason = "never empty: `new` is the only way to make one")]
    pub fn leaf(&self) -> &PermissionToken {
        self.tokens.last().expect("a chain is made with one token at least")
    }

    /// The wire form: the tokens behind each other.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.tokens.iter().flat_map(PermissionToken::to_bytes).collect()
    }

    /// Reads the wire form of a chain, which is also that of a single token.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenError> {
        let (tokens, rest) = bytes.as_chunks::<TOKEN_LEN>();
        // The count is checked first, so that nothing is made of what is refused.
        if !rest.is_empty() || tokens.is_empty() || tokens.len() > MAX_CHAIN_TOKENS {
            return Err(TokenError::InvalidFormat("a chain has 1 to 8 tokens of 169 bytes"));
        }
        tokens.iter().map(|token| PermissionToken::from_bytes(token)).collect::<Result<_, _>>().and_then(Self::new)
    }

    /// Passes the leaf on and appends the new token, see [`PermissionToken::delegate`].
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
        let mut tokens = self.tokens.clone();
        tokens.push(self.leaf().delegate(signer, subject, scope, now)?);
        Self::new(tokens)
    }

    /// Checks, in this order: the first issuer is a root · the leaf is the presenter's · each token's signature, time,
    /// revocation floor, and that it authorises this · each pair: issuer is the parent's subject, the parent may delegate,
    /// depth falls, the generation is the parent's, the window is within the parent's.
    pub fn verify(&self, request: &TokenRequest<'_>) -> Result<(), TokenError> {
        let [root, ..] = self.tokens.as_slice() else { return Err(TokenError::NotAuthorized) };
        if !request.roots.contains(&root.issuer()) || self.leaf().subject() != request.presenter {
            return Err(TokenError::NotAuthorized);
        }
        for token in &self.tokens {
            token.verify_signature()?;
            token.check_time(request.now, request.skew)?;
            request.floors.check(token)?;
            token.authorises(request.action, request.target)?;
        }
        self.tokens.windows(2).try_for_each(|pair| follows(&pair[0], &pair[1]))
    }
}

fn follows(parent: &PermissionToken, child: &PermissionToken) -> Result<(), TokenError> {
    if child.issuer() != parent.subject() {
        return Err(TokenError::NotAuthorized);
    }
    if !parent.scope().contains(TokenScope::DELEGATE) {
        return Err(TokenError::DelegationNotAllowed);
    }
    if child.delegation_depth() >= parent.delegation_depth() {
        return Err(TokenError::DelegationExhausted);
    }
    // Otherwise a holder would get around the revocation of what it passed on, with a generation of its own choice.
    if child.generation() != parent.generation() {
        return Err(TokenError::NotAuthorized);
    }
    if child.not_before() < parent.not_before() || child.not_after() > parent.not_after() {
        return Err(TokenError::NotAuthorized);
    }
    Ok(())
}

#[cfg(test)]
#[path = "token_chain_tests.rs"]
mod tests;
