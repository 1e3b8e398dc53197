//! What proves who somebody is, or what one may do.

use std::sync::LazyLock;

use mesh_daemon_core::directory::{Claim, ClaimBody};
use mesh_daemon_core::identity::{
    EntityId, EntityKeypair, EnvelopeContext, Epoch, IdentityEnvelope, Lineage, MigrationId, NodeStaticSecret,
    Revocation, RevocationFloors, Signature, TOKEN_LEN, TokenCache, TokenChain, TokenRequest, TokenScope, TokenTarget,
    channel_hash,
};

/// The instant at which tokens of the examples are valid, in unix seconds.
pub(crate) const NOW: u64 = 1_767_225_600;
pub(crate) const CHANNEL: &str = "telemetry/rack-1";

/// The key pair with this number.
pub(crate) fn keypair(number: u8) -> EntityKeypair {
    // Made once: public keys cost more than most of what is looked at here.
    static KEYS: LazyLock<Vec<EntityKeypair>> =
        LazyLock::new(|| (0..32).map(|number| EntityKeypair::from_seed(&[number; 32])).collect());
    KEYS[usize::from(number)].clone()
}

/// A claim on the daemon of the examples.
pub(crate) fn claim_body(host: &EntityKeypair, epoch: u64) -> ClaimBody {
    ClaimBody {
        entity: keypair(1).entity_id(),
        lineage: Lineage::new(5),
        epoch: Epoch::new(epoch),
        min_epoch: Epoch::FIRST,
        host: host.entity_id(),
        incarnation: None,
    }
}

/// A claim with its chain of hand-overs.
pub fn claim(data: &[u8]) -> bool {
    let Ok(claim) = Claim::decode(data) else { return false };
    assert_eq!(Claim::decode(&claim.encode()).as_ref(), Ok(&claim));
    assert!(!claim.beats(&claim));
    let example = Claim::sign(claim_body(&keypair(2), 3), &keypair(1)).expect("the key is at hand");
    assert!(!(claim.beats(&example) && example.beats(&claim)), "one of two claims wins");
    true
}

/// What the envelope of the examples is bound to.
pub(crate) fn envelope_context() -> EnvelopeContext {
    EnvelopeContext { link: [7; 32], migration: MigrationId::new(8), epoch: Epoch::new(9), snapshot_digest: [10; 32] }
}

/// A sealed identity. Nobody but the daemon can have made one that opens.
pub fn envelope(data: &[u8]) -> bool {
    let Ok(envelope) = IdentityEnvelope::from_bytes(data) else { return false };
    assert_eq!(envelope.to_bytes(), data, "an envelope is its fields and nothing else");
    let daemon = keypair(1).entity_id();
    let target = NodeStaticSecret::derive(&keypair(2)).expect("a full key pair");
    let other = NodeStaticSecret::derive(&keypair(3)).expect("a full key pair");
    assert!(other.open(&envelope, daemon, &envelope_context()).is_err(), "it is sealed to one node");
    let changed = EnvelopeContext { epoch: Epoch::new(10), ..envelope_context() };
    assert!(target.open(&envelope, daemon, &changed).is_err(), "it is bound to one move");
    match target.open(&envelope, daemon, &envelope_context()) {
        Ok(opened) => {
            assert_eq!(opened.entity_id(), daemon);
            true
        }
        Err(_) => false,
    }
}

/// A chain of tokens, and what it allows.
pub fn token(data: &[u8]) -> bool {
    let Ok(chain) = TokenChain::from_bytes(data) else { return false };
    assert_eq!(chain.to_bytes(), data, "a chain is its tokens and nothing else");
    assert_eq!(chain.tokens().len() * TOKEN_LEN, data.len());
    let mut floors = RevocationFloors::default();
    let request = |floors: &RevocationFloors, presenter: EntityId, channel_hash: u64| {
        let roots = [keypair(1).entity_id()];
        let target = TokenTarget::Channel(channel_hash);
        let action = TokenScope::PUBLISH;
        let request = TokenRequest { presenter, action, target, roots: &roots, floors, now: NOW, skew: 0 };
        chain.verify(&request).is_ok()
    };
    let channel = channel_hash(CHANNEL).expect("a canonical name");
    let valid = request(&floors, chain.leaf().subject(), channel);
    if valid {
        assert!(!request(&floors, keypair(9).entity_id(), channel), "only its presenter may use it");
        assert_eq!(
            request(&floors, chain.leaf().subject(), !channel),
            chain.tokens().iter().all(|token| token.scope().contains(TokenScope::WILDCARD)),
        );
        floors.raise(keypair(1).entity_id(), u32::MAX);
        let generation = chain.tokens()[0].generation();
        assert_eq!(request(&floors, chain.leaf().subject(), channel), generation == u32::MAX, "it can be revoked");
    }
    valid
}

/// What an issuer takes back. Nobody but it can have made one that is in force.
pub fn revocation(data: &[u8]) -> bool {
    let Ok(revocation) = Revocation::from_bytes(data) else { return false };
    assert_eq!(revocation.to_bytes(), data, "a revocation is its fields and nothing else");
    let mut cache = TokenCache::new();
    let in_force = cache.revoke(&revocation);
    assert_eq!(in_force, revocation.verify().map(|()| true));
    let expected = if in_force.is_ok() { revocation.below() } else { 0 };
    assert_eq!(cache.floors().floor_of(revocation.issuer()), expected, "it is in force only when its issuer signed it");
    in_force.is_ok()
}

/// A public key with its addresses and a signature, and the name of a channel.
pub fn identity(data: &[u8]) -> bool {
    if let Ok(name) = std::str::from_utf8(data)
        && let Ok(hash) = channel_hash(name)
    {
        assert_eq!(channel_hash(name), Ok(hash));
        assert!(name.len() <= 255 && !name.split('/').any(|part| matches!(part, "" | "." | "..")));
    }
    let Some((key, rest)) = data.split_first_chunk::<32>() else { return false };
    let entity = EntityId::from_bytes(*key);
    assert_ne!(entity.origin_hash().get(), entity.node_id().get(), "addresses of daemons and nodes are apart");
    let Some((signature, text)) = rest.split_first_chunk::<64>() else { return false };
    entity.verify(text, &Signature::from_bytes(*signature)).is_ok()
}
