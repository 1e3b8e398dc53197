//! Which kinds this node can build, and which daemons it expects to arrive.
//!
//! The functions themselves belong to the embedding language; here is only what decides about them, atomically.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::identity::{EntityKeypair, NodeId, OriginHash};

use super::config::HostConfig;

/// A daemon that was announced to arrive.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// Its kind, registered at the time.
    pub kind: Arc<str>,
    /// Its settings here.
    pub config: HostConfig,
    /// Its key, when it was provisioned beforehand; otherwise the key has to arrive with it.
    pub keypair: Option<EntityKeypair>,
    /// Only migrations driven by this node may bring it.
    pub orchestrator: Option<NodeId>,
}

/// Kinds and expectations of one runtime.
#[derive(Default)]
pub struct FactoryRegistry {
    kinds: HashSet<Arc<str>>,
    expected: HashMap<OriginHash, Expectation>,
}

impl FactoryRegistry {
    /// Registers a kind; false when it is there already.
    pub fn register(&mut self, kind: &str) -> bool {
        self.kinds.insert(Arc::from(kind))
    }

    /// The kind's name, shared, when it is registered.
    pub fn kind(&self, kind: &str) -> Option<Arc<str>> {
        self.kinds.get(kind).cloned()
    }

    /// Announces a daemon; false when its address is taken by another announcement, which stays as it is.
    pub fn expect(&mut self, origin: OriginHash, expectation: Expectation) -> bool {
        match self.expected.entry(origin) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(expectation);
                true
            }
        }
    }

    /// The announcement for an address. It stays in place, so that a failed restore can be tried again.
    pub fn expected(&self, origin: OriginHash) -> Option<&Expectation> {
        self.expected.get(&origin)
    }

    /// Consumes the announcement, when the daemon is live.
    pub fn take(&mut self, origin: OriginHash) -> Option<Expectation> {
        self.expected.remove(&origin)
    }

    /// Binds the orchestrator that may bring the daemon: true when bound now or bound to the same node before.
    pub fn bind_orchestrator(&mut self, origin: OriginHash, node: NodeId) -> bool {
        match self.expected.get_mut(&origin) {
            None => false,
            Some(expectation) => *expectation.orchestrator.get_or_insert(node) == node,
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.kinds.clear();
        self.expected.clear();
    }
}

/// How many there are; what was announced is nobody's business in a log.
impl fmt::Debug for FactoryRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kinds, expected) = (self.kinds.len(), self.expected.len());
        f.debug_struct("FactoryRegistry").field("kinds", &kinds).field("expected", &expected).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expectation(kind: &str, keypair: Option<EntityKeypair>) -> Expectation {
        Expectation { kind: Arc::from(kind), config: HostConfig::default(), keypair, orchestrator: None }
    }

    #[test]
    fn requirements_2_5_looking_leaves_the_entry_and_taking_consumes_it_once() {
        let (mut registry, origin) = (FactoryRegistry::default(), OriginHash::new(1));
        assert!(registry.take(origin).is_none(), "requirement 5: absent");
        assert!(registry.expect(origin, expectation("counter", None)));
        for _ in 0..3 {
            assert!(registry.expected(origin).is_some());
        }
        assert_eq!(registry.take(origin).map(|taken| taken.kind.to_string()), Some("counter".into()));
        assert!(registry.take(origin).is_none() && registry.expected(origin).is_none());
        assert!(registry.expect(origin, expectation("other", None)), "free again");
    }

    #[test]
    fn requirements_3_4_a_placeholder_never_strips_the_incumbents_key() {
        let (mut registry, key) = (FactoryRegistry::default(), EntityKeypair::generate());
        let origin = key.origin_hash();
        assert!(registry.expect(origin, expectation("counter", Some(key))));
        assert!(!registry.expect(origin, expectation("other", None)));
        let incumbent = registry.expected(origin).expect("it stays");
        assert_eq!((&*incumbent.kind, incumbent.keypair.is_some()), ("counter", true));
    }

    #[test]
    fn requirement_6_a_cleared_registry_behaves_as_a_fresh_one_and_debug_shows_how_many_there_are() {
        let (mut registry, origin) = (FactoryRegistry::default(), OriginHash::new(1));
        assert!(registry.register("counter") && !registry.register("counter"));
        assert!(registry.expect(origin, expectation("counter", None)));
        assert_eq!(format!("{registry:?}"), "FactoryRegistry { kinds: 1, expected: 1 }");
        registry.clear();
        assert_eq!(format!("{registry:?}"), format!("{:?}", FactoryRegistry::default()));
        assert!(registry.kind("counter").is_none() && registry.expected(origin).is_none());
        assert!(registry.register("counter") && registry.expect(origin, expectation("counter", None)));
    }

    #[test]
    fn hazard_8_a_binding_holds_for_one_node_and_ends_with_the_entry() {
        let (mut registry, origin) = (FactoryRegistry::default(), OriginHash::new(1));
        let (one, other) = (NodeId::new(1), NodeId::new(2));
        assert!(!registry.bind_orchestrator(origin, one), "without an entry");
        registry.expect(origin, expectation("counter", None));
        assert_eq!([one, one, other].map(|node| registry.bind_orchestrator(origin, node)), [true, true, false]);
        registry.take(origin);
        registry.expect(origin, expectation("counter", None));
        assert!(registry.bind_orchestrator(origin, other));
    }
}
