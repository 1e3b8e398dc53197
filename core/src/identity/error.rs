//! What can be wrong with a key, a name or a sealed envelope.

use super::EntityId;

/// A failed operation with a key pair.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The operation needs the secret key and only the public one is here.
    #[error("identity is read-only: {0} has no secret key here")]
    ReadOnly(EntityId),
    /// The signature is not one of this key over this message.
    #[error("signature does not verify")]
    BadSignature,
    /// A channel name that is not canonical.
    #[error("invalid channel name: {0}")]
    InvalidChannelName(&'static str),
    /// A name of a queue group that is not canonical.
    #[error("invalid queue group: {0}")]
    InvalidQueueGroup(&'static str),
}

/// Why an identity could not be sealed, or an envelope not opened. All are final: a present but bad envelope never falls
/// back to another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The daemon's secret is not here, so it cannot be sealed.
    #[error("the daemon's key pair is read-only, there is no secret to seal")]
    ReadOnly,
    /// The target's static key is not one that a secret can be agreed with.
    #[error("the target's static key is a low-order point")]
    WeakTargetKey,
    /// The envelope is of another daemon than the snapshot.
    #[error("envelope of {got} where that of {expected} is expected")]
    WrongSigner {
        /// The daemon that the snapshot is of.
        expected: EntityId,
        /// The daemon named by the envelope.
        got: EntityId,
    },
    /// The daemon did not attest this envelope for this link, migration, epoch and snapshot.
    #[error("the attestation of the envelope does not verify")]
    BadAttestation,
    /// Attested, but sealed to another node.
    #[error("the envelope is sealed to another node")]
    WrongTarget,
    /// The sealed secret does not decrypt.
    #[error("the sealed secret does not decrypt")]
    Undecryptable,
    /// What was sealed is not the secret key of the signer.
    #[error("the sealed secret belongs to another identity")]
    SeedMismatch,
    /// A version of the format that this build cannot read.
    #[error("envelope version {got} cannot be read, this build reads version {supported}")]
    UnsupportedVersion {
        /// The version in the bytes.
        got: u8,
        /// The version of this build.
        supported: u8,
    },
    /// Not exactly as many bytes as the format has.
    #[error("an envelope has {expected} bytes, got {got}")]
    WrongLength {
        /// Length of the format.
        expected: usize,
        /// Length of the input.
        got: usize,
    },
}

/// Why a token does not grant what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenError {
    /// The issuer did not sign this.
    #[error("the token's signature does not verify")]
    InvalidSignature,
    /// The issuer did not sign this revocation.
    #[error("the revocation's signature does not verify")]
    ForgedRevocation,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// It may not be delegated any further, or its depth does not fall.
    #[error("the token's delegation depth is used up")]
    DelegationExhausted,
    /// It lacks the right to delegate.
    #[error("the token does not allow delegation")]
    DelegationNotAllowed,
    /// It is not for this holder, issuer, channel or action.
    #[error("the token does not authorise this")]
    NotAuthorized,
    /// Its issuer revoked its generation.
    #[error("the token was revoked")]
    Revoked,
    /// Not the bytes of a token, a chain or a revocation.
    #[error("invalid format: {0}")]
    InvalidFormat(&'static str),
    /// The identity that should sign has no secret key here.
    #[error("identity is read-only: it cannot sign")]
    ReadOnly,
    /// It would never be valid.
    #[error("a token needs a time to live above zero")]
    ZeroTtl,
    /// It would be valid for more than 365 days.
    #[error("a token lives at most 365 days")]
    TtlTooLong,
}
