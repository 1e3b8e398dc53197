//! What a peer may announce, signed by it or not, and the filters and searches that look at it.

use std::time::Duration;

use mesh_daemon_core::capability::{
    Announcement, CapabilityConfig, CapabilityFilter, CapabilityMachine, CapabilityRequirement, CapabilitySet, Gpu,
    Hardware, MAX_ITEMS, Model, Quantity, ScopeFilter, Subnet, Tool, Weight,
};
use mesh_daemon_core::identity::Incarnation;
use mesh_daemon_core::mesh::{PeerEvent, PeerIdentity};
use mesh_daemon_core::wire::codec;
use tokio::time::Instant;

use super::identity::keypair;

const LIFE: Incarnation = Incarnation { started_at_ms: 1, salt: 2 };

/// A machine that has a session with the owner of key 2.
fn machine(now: Instant) -> CapabilityMachine {
    let (config, place) = (CapabilityConfig::default(), Subnet::new(&[1]).expect("one level"));
    let machine = CapabilityMachine::new(keypair(1), LIFE, place, config, now, Duration::ZERO);
    let mut machine = machine.expect("it has a key");
    let (node, entity) = (keypair(2).node_id(), keypair(2).entity_id());
    let peer = PeerIdentity { node, entity, incarnation: LIFE, static_key: [0; 32], max_payload: 1 };
    machine.peer(&PeerEvent::Connected { peer, resumed: false }, now, Duration::ZERO);
    machine
}

fn searched(machine: &CapabilityMachine, filter: CapabilityFilter, now: Instant) {
    let weight = Weight::new(1.0).expect("finite");
    let requirement = CapabilityRequirement {
        filter,
        prefer_more_memory: weight,
        prefer_more_vram: weight,
        prefer_faster_inference: weight,
        prefer_loaded_models: weight,
    };
    for scope in [ScopeFilter::Any, ScopeFilter::SameSubnet, ScopeFilter::Tenants(vec!["t".to_owned()])] {
        let found = machine.find(&requirement.filter, Some(&scope), now);
        let ranked = machine.rank(&requirement, Some(&scope), now);
        assert_eq!(found.len(), ranked.len());
        assert!(ranked.iter().all(|(node, score)| found.contains(node) && (1.0..=5.0).contains(score)));
    }
}

/// A message of a peer, an announcement that it has yet to sign, or a filter.
pub fn capabilities(data: &[u8]) -> bool {
    let (now, peer) = (Instant::now(), keypair(2));
    let mut machine = machine(now);
    let mut taken = machine.message(peer.node_id(), data, now).is_ok();
    if let Ok(mut says) = codec::decode::<Announcement>(data) {
        (says.entity, says.life) = (peer.entity_id(), LIFE);
        assert!(says.set.tags.len() <= MAX_ITEMS);
        // What was read may be too large to be said: it may have been written more shortly.
        if let Ok(message) = says.seal(&peer) {
            assert!(machine.message(peer.node_id(), &message, now).is_ok() || taken);
            taken = true;
        }
    }
    if let Ok(filter) = codec::decode::<CapabilityFilter>(data) {
        assert_eq!(codec::decode(&codec::encode(&filter)), Ok(filter.clone()), "a filter is read as it was written");
        searched(&machine, filter, now);
        taken = true;
    }
    searched(&machine, CapabilityFilter::EMPTY, now);
    if let Some(at) = machine.next_deadline() {
        machine.tick(at, Duration::ZERO);
    }
    taken
}

/// An announcement, unsigned and signed, and a filter.
pub fn messages() -> Vec<Vec<u8>> {
    let gb = Quantity::new;
    let gpu = Gpu { vendor: Some("nvidia".to_owned()), vram_gb: gb(24.0), compute_units: Some(1), ..Gpu::default() };
    let hardware = Hardware { memory_gb: gb(64.0), gpu: Some(gpu), storage_gb: Some(u64::MAX), ..Hardware::default() };
    let model = Model {
        model_id: Some("m".to_owned()),
        context_length: Some(4096),
        modalities: vec!["text".to_owned()],
        tokens_per_sec: gb(50.0),
        loaded: Some(true),
        ..Model::default()
    };
    let set = CapabilitySet {
        hardware: Some(hardware),
        models: vec![model],
        tools: vec![Tool { tool_id: Some("t".to_owned()), ..Tool::default() }],
        tags: vec!["scope:tenant:t".to_owned(), "x".to_owned()],
        metadata: vec![("k".to_owned(), "v".to_owned())],
        ..CapabilitySet::default()
    };
    let announcement = Announcement {
        entity: keypair(2).entity_id(),
        life: LIFE,
        version: 1,
        issued_ms: 1,
        ttl_ms: 60_000,
        subnet: Subnet::new(&[1, 2]).expect("two levels"),
        set,
    };
    let filter = CapabilityFilter {
        require_tags: vec!["x".to_owned()],
        require_models: vec!["m".to_owned()],
        min_memory_gb: gb(1.0),
        require_gpu: true,
        gpu_vendor: Some("nvidia".to_owned()),
        ..CapabilityFilter::EMPTY
    };
    let signed = announcement.seal(&keypair(2)).expect("it has a key");
    vec![signed, codec::encode(&announcement), codec::encode(&filter)]
}
