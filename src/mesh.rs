//! Mesh nodes, named by numbers that JavaScript gives them.

use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use mesh_daemon_core::channel::Subnet;
use mesh_daemon_core::identity::{EntityKeypair, NodeId};
use mesh_daemon_core::mesh::table::PeerState;
use mesh_daemon_core::mesh::{MeshConfig, MeshError, MeshNode, PeerEvent};
use mesh_daemon_core::runtime::answer_without_runtime;
use mesh_daemon_core::session::Psk;
use napi::bindgen_prelude::{BigInt, Buffer, Env, Uint8Array};
use napi::{Result, Status};
use napi_derive::napi;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::convert::{array_from, u64_from};
use crate::env::EnvState;
use crate::error::{ErrorCode, Failure, Field};
use crate::executor;
use crate::layers::Opening;
use crate::operation::{self, Value};
use crate::outbox::{Outbox, PeerNotice};

/// How long the end of an environment may take for goodbyes.
const GOODBYE_PATIENCE: Duration = Duration::from_millis(100);
/// Longer intervals are cut to this, so that adding one to an instant cannot overflow.
const LONGEST_INTERVAL: Duration = Duration::from_secs(u32::MAX as u64);

/// The nodes of one environment. Tasks put them in, so it is shared between threads.
#[derive(Clone, Default)]
pub(crate) struct Meshes(Arc<Mutex<Nodes>>);

#[derive(Default)]
struct Nodes {
    by_id: HashMap<u32, MeshNode>,
    closed: bool,
}

impl Meshes {
    /// The node with this number; none after its shutdown.
    pub(crate) fn get(&self, id: u32) -> Option<MeshNode> {
        self.0.lock().by_id.get(&id).cloned()
    }

    /// Says goodbye to all peers of all nodes, which end; takes `patience` at most.
    pub(crate) fn say_goodbye(&self, patience: Duration) {
        let nodes: Vec<_> = self.0.lock().by_id.drain().map(|(_, node)| node).collect();
        if nodes.is_empty() {
            return;
        }
        let Ok(runtime) = executor::handle() else { return };
        let (all, done) = mpsc::channel::<()>();
        for node in nodes {
            let one = all.clone();
            runtime.spawn(async move {
                node.shutdown().await;
                drop(one);
            });
        }
        drop(all);
        // Ends with "disconnected" when every task has dropped its end, else when patience does.
        let _ = done.recv_timeout(patience);
    }

    /// The environment ends: no node may come any more.
    pub(crate) fn close(&self) {
        self.0.lock().closed = true;
        self.say_goodbye(GOODBYE_PATIENCE);
    }

    /// Puts a node in, unless the environment has ended.
    fn add(&self, id: u32, node: MeshNode) -> bool {
        let mut nodes = self.0.lock();
        if nodes.closed {
            return false;
        }
        nodes.by_id.insert(id, node);
        true
    }

    fn remove(&self, id: u32) -> Option<MeshNode> {
        self.0.lock().by_id.remove(&id)
    }
}

/// What a node is made with; `lib` has filled in the defaults.
#[napi(object, object_to_js = false, js_name = "MeshConfig")]
pub struct MeshOptions {
    /// `host:port`
    pub bind_addr: String,
    /// 32 bytes
    pub psk: Uint8Array,
    /// 32 bytes; a new identity without.
    pub identity_seed: Option<Uint8Array>,
    /// In milliseconds.
    pub heartbeat_interval_ms: f64,
    /// In milliseconds.
    pub session_timeout_ms: f64,
    /// Whether dialled peers are dialled again.
    pub reconnect: bool,
    /// Largest payload.
    pub max_payload_bytes: u32,
    /// Most peers at a time.
    pub max_peers: u32,
    /// Whether it forwards sessions of its peers.
    pub relay: bool,
    /// How far clocks of issuers of tokens may be ahead of this node's, in milliseconds.
    pub token_clock_skew_ms: u32,
    /// Its place, 1 to 4 levels.
    pub subnet: Option<Uint8Array>,
    /// `host:port` of nodes to join through.
    pub seeds: Vec<String>,
    /// How often announcements that have ended are dropped, in milliseconds.
    pub capability_gc_interval_ms: f64,
}

/// What never changes of a node.
#[napi(object)]
pub struct MeshFacts {
    /// `host:port` really bound.
    pub local_addr: String,
    /// Its address as a node.
    pub node_id: BigInt,
    /// Its 32-byte public key.
    pub entity_id: Buffer,
    /// Its Noise static key in hex.
    pub public_key: String,
}

/// A peer as it is now.
#[napi(object, object_from_js = false, use_nullable = true)]
pub struct MeshPeer {
    /// Its address as a node.
    pub node_id: BigInt,
    /// Its 32-byte public key.
    pub entity_id: Buffer,
    /// Where it was dialled or came from.
    pub addr: String,
    /// The peer that relays the session.
    pub via: Option<BigInt>,
    /// How it is.
    #[napi(ts_type = "import('./types/mesh').PeerState")]
    pub state: &'static str,
    /// Last round trip of a heartbeat.
    pub rtt_ms: Option<f64>,
    /// When it came into this state; unix milliseconds.
    pub since_ms: f64,
    /// Whether its node was started.
    pub started: bool,
}

impl From<MeshError> for Failure {
    fn from(error: MeshError) -> Self {
        let message = error.to_string();
        let (code, address) = match error {
            MeshError::InvalidArgument(_) => (ErrorCode::MeshInvalidArgument, None),
            MeshError::AddressInUse { address } => (ErrorCode::MeshAddressInUse, Some(address)),
            MeshError::AddressNotFound { address, .. } => (ErrorCode::MeshAddressNotFound, Some(address)),
            MeshError::Unreachable { address, .. } => (ErrorCode::MeshUnreachable, Some(address)),
            MeshError::HandshakeFailed { address, .. } => (ErrorCode::MeshHandshakeFailed, Some(address)),
            MeshError::PinMismatch { address, .. } => (ErrorCode::MeshPinMismatch, Some(address)),
            MeshError::NoRelay { .. } => (ErrorCode::NotConnected, None),
            MeshError::ShutDown => (ErrorCode::MeshShutDown, None),
        };
        let failure = Self::new(code, message);
        match address {
            Some(address) => failure.with("address", Field::Text(address)),
            None => failure,
        }
    }
}

/// Makes node number `mesh`; settles when it is bound and accepts sessions.
#[napi]
pub fn mesh_create(env: Env, operation: f64, mesh: u32, config: MeshOptions) -> Result<()> {
    let state = EnvState::of(&env)?;
    let (meshes, layers, outbox) = (state.meshes.clone(), state.layers.clone(), state.outbox()?);
    let subnet = Subnet::new(config.subnet.as_deref().unwrap_or_default())
        .map_err(|error| napi::Error::new(Status::InvalidArg, error.to_string()))?;
    let token_skew = Duration::from_millis(config.token_clock_skew_ms.into());
    let sweep = interval(config.capability_gc_interval_ms)?;
    let config = config_from(&config)?;
    let opening = Opening { subnet, max_payload: config.max_payload, token_skew, sweep };
    operation::spawn(&env, operation, async move {
        let node = MeshNode::create(config).await?;
        answer_without_runtime(&node);
        layers.open(mesh, &node, opening, outbox.clone())?;
        node.on_peer(Arc::new(move |event| tell_peer(&outbox, mesh, event)));
        if !meshes.add(mesh, node.clone()) {
            layers.close(mesh);
            node.shutdown().await;
        }
        Ok(Value::Nothing)
    })
}

/// What never changes of a node.
#[napi]
pub fn mesh_facts(env: Env, mesh: u32) -> Result<MeshFacts> {
    let node = node(&env, mesh)?;
    Ok(MeshFacts {
        local_addr: node.local_addr().to_string(),
        node_id: node.node_id().get().into(),
        entity_id: node.entity_id().as_bytes().to_vec().into(),
        public_key: hex(&node.public_key()),
    })
}

/// Opens a session, or finds the one that there is; settles with the peer's node id.
#[napi]
pub fn mesh_connect(
    env: Env,
    operation: f64,
    mesh: u32,
    addr: String,
    public_key: Option<&[u8]>,
    node_id: Option<BigInt>,
) -> Result<()> {
    let node = node(&env, mesh)?;
    let pin_key = public_key.map(array_from).transpose()?;
    let pin_node = node_id.as_ref().map(u64_from).transpose()?.map(NodeId::new);
    operation::spawn(
        &env,
        operation,
        async move { Ok(Value::U64(node.connect(&addr, pin_key, pin_node).await?.get())) },
    )
}

/// Joins the mesh of the node there; settles when there is a session with it.
#[napi]
pub fn mesh_join(env: Env, operation: f64, mesh: u32, addr: String) -> Result<()> {
    // It begins here: what is asked behind it waits for it.
    let joined = node(&env, mesh)?.join(&addr);
    operation::spawn(&env, operation, async move {
        joined.await?;
        Ok(Value::Nothing)
    })
}

/// Settles with the peer's address once it has a session.
#[napi]
pub fn mesh_accept(env: Env, operation: f64, mesh: u32, node_id: BigInt) -> Result<()> {
    let (node, peer) = (node(&env, mesh)?, NodeId::new(u64_from(&node_id)?));
    operation::spawn(&env, operation, async move { Ok(Value::Text(node.accept(peer).await?)) })
}

/// Starts heartbeats and the traffic of subprotocols.
#[napi]
pub fn mesh_start(env: Env, mesh: u32) -> Result<()> {
    node(&env, mesh)?.start();
    Ok(())
}

/// The peers that are remembered.
#[napi]
pub fn mesh_peers(env: Env, mesh: u32) -> Result<Vec<MeshPeer>> {
    let peers = node(&env, mesh)?.peers();
    Ok(peers
        .into_iter()
        .map(|peer| MeshPeer {
            node_id: peer.node.get().into(),
            entity_id: peer.entity.as_bytes().to_vec().into(),
            addr: peer.addr,
            via: peer.via.map(|relay| relay.get().into()),
            state: match peer.state {
                PeerState::Connected => "connected",
                PeerState::Suspected => "suspected",
                PeerState::Lost => "lost",
            },
            rtt_ms: peer.rtt.map(|rtt| rtt.as_secs_f64() * 1e3),
            since_ms: peer.since.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1e3),
            started: peer.started,
        })
        .collect())
}

/// Number of peers that are not lost.
#[napi]
pub fn mesh_peer_count(env: Env, mesh: u32) -> Result<u32> {
    Ok(u32::try_from(node(&env, mesh)?.peer_count()).unwrap_or(u32::MAX))
}

/// Ends a node; settles when its peers were told. Its number is free at once.
#[napi]
pub fn mesh_shutdown(env: Env, operation: f64, mesh: u32) -> Result<()> {
    let state = EnvState::of(&env)?;
    state.layers.close(mesh);
    let node = state.meshes.remove(mesh);
    operation::spawn(&env, operation, async move {
        if let Some(node) = node {
            node.shutdown().await;
        }
        Ok(Value::Nothing)
    })
}

/// Ends all nodes of this environment and waits for their goodbyes, `patience_ms` at most.
#[napi]
pub fn mesh_goodbye(env: Env, patience_ms: u32) -> Result<()> {
    let state = EnvState::of(&env)?;
    state.runtimes.close();
    state.layers.close_all();
    state.meshes.say_goodbye(Duration::from_millis(patience_ms.into()));
    Ok(())
}

/// The node with this number. It is gone after its shutdown, which `lib` knows and says better.
pub(crate) fn node(env: &Env, mesh: u32) -> Result<MeshNode> {
    EnvState::of(env)?.meshes.get(mesh).ok_or_else(|| Failure::from(MeshError::ShutDown).throw(env))
}

fn config_from(options: &MeshOptions) -> Result<MeshConfig> {
    let psk = Zeroizing::new(array_from::<32>(&options.psk)?);
    let identity = match &options.identity_seed {
        Some(seed) => EntityKeypair::from_seed(&Zeroizing::new(array_from::<32>(seed)?)),
        None => EntityKeypair::generate(),
    };
    Ok(MeshConfig {
        heartbeat_interval: interval(options.heartbeat_interval_ms)?,
        session_timeout: interval(options.session_timeout_ms)?,
        reconnect: options.reconnect,
        max_payload: options.max_payload_bytes.into(),
        max_peers: options.max_peers.try_into().unwrap_or(usize::MAX),
        seeds: options.seeds.clone(),
        relay: options.relay,
        ..MeshConfig::new(options.bind_addr.clone(), Psk::new(*psk), identity)
    })
}

fn interval(ms: f64) -> Result<Duration> {
    if ms.is_nan() || ms < 0.0 {
        return Err(napi::Error::new(Status::InvalidArg, "an interval must be non-negative"));
    }
    Ok(Duration::try_from_secs_f64(ms / 1e3).unwrap_or(Duration::MAX).min(LONGEST_INTERVAL))
}

fn tell_peer(outbox: &Outbox, mesh: u32, event: &PeerEvent) {
    let (state, node) = match event {
        PeerEvent::Connected { peer, .. } => ("connected", peer.node),
        PeerEvent::Heard { node } => ("connected", *node),
        PeerEvent::Ready { .. } | PeerEvent::Cut { .. } => return,
        PeerEvent::Suspected { node } => ("suspected", *node),
        PeerEvent::Lost { node, .. } => ("lost", *node),
    };
    outbox.peer(PeerNotice { mesh, state, node });
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
