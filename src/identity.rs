//! Key pairs and derived addresses.
//!
//! A key pair crosses as an external, which the garbage collector frees; its secret is wiped then.

use std::ops::Deref as _;

use mesh_daemon_core::identity::{EntityId, EntityKeypair, IdentityError, Signature, channel_hash, queue_group_hash};
use napi::Result;
use napi::bindgen_prelude::{BigInt, Buffer, Env, External};
use napi_derive::napi;
use zeroize::Zeroizing;

use crate::convert::array_from;
use crate::error::{ErrorCode, Failure};

/// What everybody may know of an identity.
#[napi(object)]
pub struct IdentityFacts {
    /// The 32-byte public key.
    pub entity_id: Buffer,
    /// Its address as a daemon.
    pub origin_hash: BigInt,
    /// Its address as a node.
    pub node_id: BigInt,
    /// Whether the secret is missing.
    pub is_read_only: bool,
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        let code = match &error {
            IdentityError::ReadOnly(_) => ErrorCode::IdentityReadOnly,
            IdentityError::BadSignature
            | IdentityError::InvalidChannelName(_)
            | IdentityError::InvalidQueueGroup(_) => ErrorCode::IdentityInvalidArgument,
        };
        Self::new(code, error)
    }
}

/// A fresh key pair.
#[napi(ts_return_type = "import('./handles').IdentityHandle")]
pub fn identity_generate() -> External<EntityKeypair> {
    External::new(EntityKeypair::generate())
}

/// The key pair of a 32-byte secret seed.
#[napi(ts_return_type = "import('./handles').IdentityHandle")]
pub fn identity_from_seed(seed: &[u8]) -> Result<External<EntityKeypair>> {
    Ok(External::new(EntityKeypair::from_seed(&Zeroizing::new(array_from::<32>(seed)?))))
}

/// Whether these bytes may be somebody's public key.
#[napi]
pub fn is_public_key(entity_id: &[u8]) -> Result<bool> {
    Ok(EntityId::from_bytes(array_from(entity_id)?).is_public_key())
}

/// An identity that can be named but cannot sign.
#[napi(ts_return_type = "import('./handles').IdentityHandle")]
pub fn identity_public_only(entity_id: &[u8]) -> Result<External<EntityKeypair>> {
    Ok(External::new(EntityKeypair::public_only(EntityId::from_bytes(array_from(entity_id)?))))
}

/// What everybody may know of it.
#[napi(ts_args_type = "identity: import('./handles').IdentityHandle")]
pub fn identity_facts(identity: &External<EntityKeypair>) -> IdentityFacts {
    IdentityFacts {
        entity_id: identity.entity_id().as_bytes().to_vec().into(),
        origin_hash: identity.origin_hash().get().into(),
        node_id: identity.node_id().get().into(),
        is_read_only: identity.is_read_only(),
    }
}

/// The 32-byte secret seed.
#[napi(ts_args_type = "identity: import('./handles').IdentityHandle")]
pub fn identity_seed(env: Env, identity: &External<EntityKeypair>) -> Result<Buffer> {
    let seed = identity.seed().ok_or_else(|| {
        Failure::new(ErrorCode::IdentityReadOnly, "identity is read-only: it has no secret key").throw(&env)
    })?;
    Ok(seed.to_vec().into())
}

/// A 64-byte signature.
#[napi(ts_args_type = "identity: import('./handles').IdentityHandle, message: Uint8Array")]
pub fn identity_sign(env: Env, identity: &External<EntityKeypair>, message: &[u8]) -> Result<Buffer> {
    let signature = identity.deref().sign(message).map_err(|error| Failure::from(error).throw(&env))?;
    Ok(signature.as_bytes().to_vec().into())
}

/// Whether a signature is one of this key over this message; strict.
#[napi]
pub fn verify_signature(entity_id: &[u8], message: &[u8], signature: &[u8]) -> Result<bool> {
    let entity = EntityId::from_bytes(array_from(entity_id)?);
    Ok(entity.verify(message, &Signature::from_bytes(array_from(signature)?)).is_ok())
}

/// The 64-bit name of a channel, or of a queue group of it.
#[napi(js_name = "channelHash")]
pub fn hash_of_channel(env: Env, name: String, group: Option<String>) -> Result<BigInt> {
    feed_hash(&name, group.as_deref()).map(BigInt::from).map_err(|error| Failure::from(error).throw(&env))
}

/// What stands for a channel in tokens, or for a queue group of it.
pub(crate) fn feed_hash(channel: &str, group: Option<&str>) -> std::result::Result<u64, IdentityError> {
    match group {
        None => channel_hash(channel),
        Some(group) => queue_group_hash(channel, group),
    }
}
