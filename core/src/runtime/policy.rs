//! What a runtime admits.

use std::collections::HashSet;

use crate::identity::NodeId;
use crate::migration::MigrationSettings;

/// Which daemons may arrive that were not announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArrivalPolicy {
    /// None.
    #[default]
    Announced,
    /// Any of a registered kind.
    AnyKind,
    /// The embedder is asked.
    Ask,
}

/// Which other nodes may move daemons that live here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OrchestratorPolicy {
    /// Only these; this node itself may always.
    Only(HashSet<NodeId>),
    /// Every node of the mesh.
    Any,
    /// None but this node.
    #[default]
    Own,
    /// The embedder is asked.
    Ask,
}

/// What a policy says of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// May.
    Yes,
    /// May not.
    No,
    /// The embedder decides.
    Ask,
}

/// Settings of a runtime.
#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// Which daemons may arrive.
    pub arrivals: ArrivalPolicy,
    /// Who may move daemons away.
    pub orchestrators: OrchestratorPolicy,
    /// Whether the declared loss of a target behind the hand-over counts as the operator's word that its copy is gone.
    pub recover_lost: bool,
    /// Deadlines and limits of migrations.
    pub migration: MigrationSettings,
    /// Largest payload and output, in bytes.
    pub max_payload: u64,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self {
            arrivals: ArrivalPolicy::default(),
            orchestrators: OrchestratorPolicy::default(),
            recover_lost: false,
            migration: MigrationSettings::default(),
            max_payload: 64 * 1024 * 1024,
        }
    }
}

impl RuntimeOptions {
    /// Whether `node` may move daemons that live on `me`.
    pub fn orchestrator(&self, node: NodeId, me: NodeId) -> Verdict {
        if node == me {
            return Verdict::Yes;
        }
        match &self.orchestrators {
            OrchestratorPolicy::Any => Verdict::Yes,
            OrchestratorPolicy::Only(nodes) if nodes.contains(&node) => Verdict::Yes,
            OrchestratorPolicy::Only(_) | OrchestratorPolicy::Own => Verdict::No,
            OrchestratorPolicy::Ask => Verdict::Ask,
        }
    }
}
