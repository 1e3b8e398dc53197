//! Revocations: an issuer's signed word that its older tokens are worth nothing, and the floors that follow from such words.

use std::collections::HashMap;

use super::{EntityId, EntityKeypair, PermissionToken, Signature, TokenError};

/// Length of an encoded [`Revocation`].
pub const REVOCATION_LEN: usize = SIGNED_LEN + 64;
/// Most issuers that [`RevocationFloors`] know of.
pub const MAX_REVOKED_ISSUERS: usize = 64 * 1024;

const SIGNED_LEN: usize = 36;
const LABEL: &[u8] = b"mesh-daemon token revocation v1";

/// That an issuer's tokens of generations below a floor are revoked, signed by it. 100 bytes.
///
/// It names no time: whichever floor of an issuer is highest holds, whenever it comes and however often. So it can be made
/// ahead and kept where the key is not, and anybody may pass it on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    issuer: EntityId,
    below: u32,
    signature: Signature,
}

/// The lowest generation of each issuer that is still good. A floor only ever rises; it is never forgotten, since that
/// would bring revoked tokens back. Whose floors may enter is for the owner to decide.
#[derive(Clone, Debug, Default)]
pub struct RevocationFloors {
    floors: HashMap<EntityId, u32>,
}

impl Revocation {
    /// Revokes the tokens that `issuer` issued or passed on with a generation below `below`.
    pub fn issue(issuer: &EntityKeypair, below: u32) -> Result<Self, TokenError> {
        let entity = issuer.entity_id();
        let signature = issuer.sign(&statement(entity, below)).map_err(|_| TokenError::ReadOnly)?;
        Ok(Self { issuer: entity, below, signature })
    }

    /// Checks that the issuer signed this.
    pub fn verify(&self) -> Result<(), TokenError> {
        let statement = statement(self.issuer, self.below);
        self.issuer.verify(&statement, &self.signature).map_err(|_| TokenError::ForgedRevocation)
    }

    /// Whose tokens.
    pub const fn issuer(&self) -> EntityId {
        self.issuer
    }

    /// The lowest generation that is still good.
    pub const fn below(&self) -> u32 {
        self.below
    }

    /// The wire form: issuer 32 · floor u32, little-endian · signature 64 over a label and what is before it.
    pub fn to_bytes(&self) -> [u8; REVOCATION_LEN] {
        let mut bytes = [0; REVOCATION_LEN];
        bytes[..32].copy_from_slice(self.issuer.as_bytes());
        bytes[32..SIGNED_LEN].copy_from_slice(&self.below.to_le_bytes());
        bytes[SIGNED_LEN..].copy_from_slice(self.signature.as_bytes());
        bytes
    }

    /// Reads the wire form. Only the length can be wrong; nothing is verified yet.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenError> {
        let bytes: &[u8; REVOCATION_LEN] =
            bytes.try_into().map_err(|_| TokenError::InvalidFormat("a revocation has 100 bytes"))?;
        Ok(Self {
            issuer: EntityId::from_bytes(std::array::from_fn(|i| bytes[i])),
            below: u32::from_le_bytes(std::array::from_fn(|i| bytes[32 + i])),
            signature: Signature::from_bytes(std::array::from_fn(|i| bytes[SIGNED_LEN + i])),
        })
    }
}

impl RevocationFloors {
    /// Revokes all tokens of `issuer` with a generation below `generation`; false when there is no room for one more issuer.
    /// A lower floor than the present one changes nothing.
    pub fn raise(&mut self, issuer: EntityId, generation: u32) -> bool {
        let full = self.floors.len() >= MAX_REVOKED_ISSUERS;
        if let Some(floor) = self.floors.get_mut(&issuer) {
            *floor = generation.max(*floor);
        } else if generation > 0 {
            if full {
                return false;
            }
            self.floors.insert(issuer, generation);
        }
        true
    }

    /// The lowest generation of an issuer that is still good.
    pub fn floor_of(&self, issuer: EntityId) -> u32 {
        self.floors.get(&issuer).copied().unwrap_or(0)
    }

    /// Checks that a token's generation was not revoked.
    pub fn check(&self, token: &PermissionToken) -> Result<(), TokenError> {
        if token.generation() < self.floor_of(token.issuer()) { Err(TokenError::Revoked) } else { Ok(()) }
    }
}

fn statement(issuer: EntityId, below: u32) -> Vec<u8> {
    [LABEL, issuer.as_bytes(), &below.to_le_bytes()].concat()
}

#[cfg(test)]
#[path = "revocation_tests.rs"]
mod tests;
