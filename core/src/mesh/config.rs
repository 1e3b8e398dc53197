//! How a node is set up.

use std::time::Duration;

use crate::identity::EntityKeypair;
use crate::membership::MembershipConfig;
use crate::session::Psk;

/// Shortest heartbeat interval; asking more often would only be load.
const MIN_HEARTBEAT: Duration = Duration::from_millis(10);

/// Shortest and longest pause between two probes of members.
const MIN_PROBE: Duration = Duration::from_millis(50);
const MAX_PROBE: Duration = Duration::from_secs(2);

/// What [`MeshNode::create`](super::MeshNode::create) needs.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// `host:port` to listen on; port 0 picks a free one.
    pub bind_addr: String,
    /// The mesh's pre-shared key. Nodes with another one never get a session.
    pub psk: Psk,
    /// The node's own key pair; it must be able to sign.
    pub identity: EntityKeypair,
    /// How often something should be heard of a peer. Any traffic counts.
    pub heartbeat_interval: Duration,
    /// Silence after which a peer is lost; half of it makes it suspected.
    pub session_timeout: Duration,
    /// Whether dialled peers are dialled again.
    pub reconnect: bool,
    /// Largest payload this node accepts, told to its peers.
    pub max_payload: u64,
    /// Most peers at a time.
    pub max_peers: usize,
    /// Addresses (`host:port`) of nodes to join the mesh through. Each is tried until it is there, and again when it is lost.
    pub seeds: Vec<String>,
    /// Whether this node forwards sessions of its peers that have none with each other. It never sees what is in them.
    pub relay: bool,
}

impl MeshConfig {
    /// The usual times and limits.
    pub fn new(bind_addr: impl Into<String>, psk: Psk, identity: EntityKeypair) -> Self {
        Self {
            bind_addr: bind_addr.into(),
            psk,
            identity,
            heartbeat_interval: Duration::from_secs(5),
            session_timeout: Duration::from_secs(30),
            reconnect: true,
            max_payload: 64 * 1024 * 1024,
            max_peers: 1024,
            seeds: Vec::new(),
            relay: true,
        }
    }

    /// Heartbeat interval and session timeout as they are used. Any values are tolerated, zero included: several heartbeats
    /// must fit into the time after which silence means something.
    pub(super) fn times(&self) -> (Duration, Duration) {
        let timeout = self.session_timeout.max(4 * MIN_HEARTBEAT);
        let heartbeat = self.heartbeat_interval.clamp(MIN_HEARTBEAT, timeout / 4);
        (heartbeat, timeout)
    }

    /// How members are probed. Suspicion lasts long enough for several rounds of probes to reach the suspected one.
    pub(super) fn membership(&self) -> MembershipConfig {
        let (heartbeat, timeout) = self.times();
        let probe_period = (heartbeat / 2).clamp(MIN_PROBE, MAX_PROBE);
        MembershipConfig { probe_period, suspicion: (timeout / 2).max(3 * probe_period) }
    }
}
