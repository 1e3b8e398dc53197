//! Tokens: they cross as their bytes, and a store of them as an external.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use mesh_daemon_core::identity::{
    EntityId, EntityKeypair, PermissionToken, Revocation, TokenCache, TokenChain, TokenError, TokenGrant, TokenScope,
    TokenTarget,
};
use napi::Result;
use napi::bindgen_prelude::{BigInt, Buffer, Env, External};
use napi_derive::napi;

use crate::convert::{array_from, u64_from};
use crate::error::{ErrorCode, Failure};
use crate::identity::feed_hash;

/// What a token says.
#[napi(object)]
pub struct TokenFacts {
    /// Its wire form.
    pub bytes: Buffer,
    /// 32-byte public key of who signed it.
    pub issuer: Buffer,
    /// 32-byte public key of who may present it.
    pub subject: Buffer,
    /// What it allows, as bits.
    pub scope: u32,
    /// On which channel.
    pub channel_hash: BigInt,
    /// From when; unix seconds.
    pub not_before: BigInt,
    /// Until before when; unix seconds.
    pub not_after: BigInt,
    /// The issuer's generation, which a revocation outdates.
    pub generation: u32,
    /// How many times it may be passed on.
    pub delegation_depth: u32,
    /// Tells it from others that are otherwise equal.
    pub nonce: BigInt,
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::InvalidSignature | TokenError::ForgedRevocation => ErrorCode::TokenInvalidSignature,
            TokenError::NotYetValid => ErrorCode::TokenNotYetValid,
            TokenError::Expired => ErrorCode::TokenExpired,
            TokenError::DelegationExhausted => ErrorCode::TokenDelegationExhausted,
            TokenError::DelegationNotAllowed => ErrorCode::TokenDelegationNotAllowed,
            TokenError::NotAuthorized => ErrorCode::TokenNotAuthorized,
            TokenError::Revoked => ErrorCode::TokenRevoked,
            TokenError::InvalidFormat(_) => ErrorCode::TokenInvalidFormat,
            TokenError::ReadOnly => ErrorCode::TokenReadOnly,
            TokenError::ZeroTtl => ErrorCode::TokenZeroTtl,
            TokenError::TtlTooLong => ErrorCode::TokenTtlTooLong,
        };
        Self::new(code, error)
    }
}

/// What a revocation says.
#[napi(object)]
pub struct RevocationFacts {
    /// Its wire form.
    pub bytes: Buffer,
    /// 32-byte public key of whose tokens.
    pub issuer: Buffer,
    /// The lowest generation that is still good.
    pub below: u32,
}

/// Issues a token for a channel, or for a queue group of it; gives its wire form.
#[napi(
    ts_args_type = "issuer: import('./handles').IdentityHandle, subject: Uint8Array, scope: number, channel: string, group: string | undefined, ttlSeconds: bigint, delegationDepth: number, generation: number"
)]
#[allow(clippy::too_many_arguments)] // what a token says
pub fn token_issue(
    env: Env,
    issuer: &External<EntityKeypair>,
    subject: &[u8],
    scope: u32,
    channel: String,
    group: Option<String>,
    ttl_seconds: BigInt,
    delegation_depth: u8,
    generation: u32,
) -> Result<Buffer> {
    let grant = TokenGrant {
        subject: EntityId::from_bytes(array_from(subject)?),
        scope: TokenScope::from_bits(scope),
        channel_hash: feed_hash(&channel, group.as_deref()).map_err(|error| Failure::from(error).throw(&env))?,
        ttl_seconds: u64_from(&ttl_seconds)?,
        delegation_depth,
        generation,
    };
    PermissionToken::issue(issuer, &grant, unix_seconds())
        .map(|token| wire_form(&token))
        .map_err(|error| Failure::from(error).throw(&env))
}

/// Passes the leaf of a chain on, unless the signer's store knows that it was revoked; gives the new token alone.
#[napi(
    ts_args_type = "signer: import('./handles').IdentityHandle, cache: import('./handles').TokenCacheHandle, parent: Uint8Array, subject: Uint8Array, scope: number"
)]
pub fn token_delegate(
    env: Env,
    signer: &External<EntityKeypair>,
    cache: &External<RefCell<TokenCache>>,
    parent: &[u8],
    subject: &[u8],
    scope: u32,
) -> Result<Buffer> {
    let subject = EntityId::from_bytes(array_from(subject)?);
    TokenChain::from_bytes(parent)
        .and_then(|chain| {
            cache.borrow().delegate(&chain, signer, subject, TokenScope::from_bits(scope), unix_seconds())
        })
        .map(|token| wire_form(&token))
        .map_err(|error| Failure::from(error).throw(&env))
}

/// Reads the tokens of a chain. A single token is a chain of one. Nothing is verified.
#[napi]
pub fn token_chain_facts(env: Env, bytes: &[u8]) -> Result<Vec<TokenFacts>> {
    let chain = TokenChain::from_bytes(bytes).map_err(|error| Failure::from(error).throw(&env))?;
    Ok(chain.tokens().iter().map(facts).collect())
}

/// Whether the issuer signed this token.
#[napi]
pub fn token_verify(bytes: &[u8]) -> bool {
    PermissionToken::from_bytes(bytes).and_then(|token| token.verify_signature()).is_ok()
}

/// Has an issuer take back its tokens of generations below this one; gives the wire form of its word.
#[napi(ts_args_type = "issuer: import('./handles').IdentityHandle, below: number")]
pub fn revocation_issue(env: Env, issuer: &External<EntityKeypair>, below: u32) -> Result<Buffer> {
    Revocation::issue(issuer, below)
        .map(|revocation| revocation.to_bytes().to_vec().into())
        .map_err(|error| Failure::from(error).throw(&env))
}

/// Reads a revocation. Nothing is verified.
#[napi]
pub fn revocation_facts(env: Env, bytes: &[u8]) -> Result<RevocationFacts> {
    let revocation = revocation(&env, bytes)?;
    Ok(RevocationFacts {
        bytes: bytes.to_vec().into(),
        issuer: revocation.issuer().as_bytes().to_vec().into(),
        below: revocation.below(),
    })
}

/// Whether the issuer signed this revocation.
#[napi]
pub fn revocation_verify(bytes: &[u8]) -> bool {
    Revocation::from_bytes(bytes).and_then(|revocation| revocation.verify()).is_ok()
}

/// A revocation of its wire form.
pub(crate) fn revocation(env: &Env, bytes: &[u8]) -> Result<Revocation> {
    Revocation::from_bytes(bytes).map_err(|error| Failure::from(error).throw(env))
}

/// An empty store of tokens.
#[napi(ts_return_type = "import('./handles').TokenCacheHandle")]
pub fn token_cache_create() -> External<RefCell<TokenCache>> {
    External::new(RefCell::default())
}

/// Verifies a token and keeps it.
#[napi(ts_args_type = "cache: import('./handles').TokenCacheHandle, token: Uint8Array")]
pub fn token_cache_install(env: Env, cache: &External<RefCell<TokenCache>>, token: &[u8]) -> Result<()> {
    PermissionToken::from_bytes(token)
        .and_then(|token| cache.borrow_mut().install(token, unix_seconds()))
        .map_err(|error| Failure::from(error).throw(&env))
}

/// The longest valid token of a subject for a channel, or for a queue group of it.
#[napi(
    ts_args_type = "cache: import('./handles').TokenCacheHandle, subject: Uint8Array, channel: string, group?: string",
    ts_return_type = "Buffer | null"
)]
pub fn token_cache_lookup(
    env: Env,
    cache: &External<RefCell<TokenCache>>,
    subject: &[u8],
    channel: String,
    group: Option<String>,
) -> Result<Option<Buffer>> {
    let subject = EntityId::from_bytes(array_from(subject)?);
    let hash = feed_hash(&channel, group.as_deref()).map_err(|error| Failure::from(error).throw(&env))?;
    let target = if group.is_some() { TokenTarget::QueueGroup(hash) } else { TokenTarget::Channel(hash) };
    Ok(cache.borrow_mut().lookup(subject, target, unix_seconds()).map(|token| wire_form(&token)))
}

/// Verifies a revocation and puts it into force for a store.
#[napi(ts_args_type = "cache: import('./handles').TokenCacheHandle, revocation: Uint8Array")]
pub fn token_cache_revoke(env: Env, cache: &External<RefCell<TokenCache>>, bytes: &[u8]) -> Result<()> {
    let revoked = revocation(&env, bytes)?;
    match cache.borrow_mut().revoke(&revoked) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let full = "the identity knows the revocations of as many issuers as it may";
            Err(Failure::new(ErrorCode::Backpressure, full).throw(&env))
        }
        Err(error) => Err(Failure::from(error).throw(&env)),
    }
}

/// How many tokens a store holds.
#[napi(ts_args_type = "cache: import('./handles').TokenCacheHandle")]
pub fn token_cache_len(cache: &External<RefCell<TokenCache>>) -> u32 {
    u32::try_from(cache.borrow().len()).unwrap_or(u32::MAX)
}

fn facts(token: &PermissionToken) -> TokenFacts {
    TokenFacts {
        bytes: wire_form(token),
        issuer: token.issuer().as_bytes().to_vec().into(),
        subject: token.subject().as_bytes().to_vec().into(),
        scope: token.scope().bits(),
        channel_hash: token.channel_hash().into(),
        not_before: token.not_before().into(),
        not_after: token.not_after().into(),
        generation: token.generation(),
        delegation_depth: token.delegation_depth().into(),
        nonce: token.nonce().into(),
    }
}

fn wire_form(token: &PermissionToken) -> Buffer {
    token.to_bytes().to_vec().into()
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
