//! A node of the mesh as the layers above see it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;

use super::config::MeshConfig;
use super::counters::MeshCounters;
use super::error::{InstallError, MeshError};
use super::handler::{PeerEvent, PeerIdentity, SubprotocolHandler};
use super::handlers::{ObserverId, PeerObserver, Responder};
use super::inner::Inner;
use super::table::{Backoff, DialTarget, PeerState, PeerTable, TableConfig, Way};
use super::{dial, listen, members, relay};
use crate::identity::{EntityId, EntityKeypair, IdentityError, Incarnation, NodeId, RuntimeLife, Signature};
use crate::membership::Membership;
use crate::session::{BULK_WINDOW, LocalIdentity};
use crate::wire::Subprotocol;

/// How long a goodbye may take.
const GOODBYE_PATIENCE: Duration = Duration::from_millis(500);

/// A circuit that nothing has gone through for so long, or two session timeouts, is closed.
const IDLE_CIRCUIT: Duration = Duration::from_secs(60);

/// A node: it listens, dials, keeps sessions with its peers and carries the records of the layers above.
///
/// Clones are one node. When the last clone goes without [`shutdown`](Self::shutdown), everything ends at once and without a
/// goodbye.
#[derive(Clone)]
pub struct MeshNode {
    inner: Arc<Inner>,
    _end: Arc<DropGuard>,
}

/// One peer, as [`MeshNode::peers`] shows it.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Node id.
    pub node: NodeId,
    /// Public key.
    pub entity: EntityId,
    /// Where it was dialled or came from; `relay:` and a node id when that peer relays the session.
    pub addr: String,
    /// The peer that relays the session.
    pub via: Option<NodeId>,
    /// How it is.
    pub state: PeerState,
    /// Last round trip of a heartbeat on this session.
    pub rtt: Option<Duration>,
    /// When it came into this state.
    pub since: SystemTime,
    /// Whether it said on this session that it was started; records of the layers above flow only then.
    pub started: bool,
}

impl MeshNode {
    /// Makes a node; it is bound and accepting sessions when this resolves. Runs on the tokio runtime it is awaited in.
    pub async fn create(config: MeshConfig) -> Result<Self, MeshError> {
        let ((heartbeat, session_timeout), probing) = (config.times(), config.membership());
        let incarnation = fresh_incarnation();
        let entity = config.identity.entity_id();
        let local = LocalIdentity::new(config.psk, config.identity, incarnation, config.max_payload, BULK_WINDOW)
            .map_err(|error| MeshError::InvalidArgument(format!("the node's identity cannot be used: {error}")))?;
        let listener = bind(&config.bind_addr).await?;
        let local_addr = listener.local_addr().map_err(|source| MeshError::AddressNotFound {
            address: config.bind_addr.clone(),
            source: Arc::new(source),
        })?;
        let table = PeerTable::new(
            entity,
            TableConfig {
                heartbeat,
                session_timeout,
                reconnect: config.reconnect,
                max_peers: config.max_peers,
                backoff: Backoff::new(random_u64()),
            },
        );
        let listens = if local_addr.ip().is_unspecified() { Vec::new() } else { vec![local_addr] };
        let keypair = local.keypair().clone();
        let membership = Membership::new(keypair, incarnation, listens, &probing, random_u64())
            .map_err(|error| MeshError::InvalidArgument(format!("the node's identity cannot be used: {error}")))?;
        let inner = Inner::new(local, local_addr, table, membership, config.relay, random_u64());
        inner.tasks.spawn(listen::listen(inner.clone(), listener));
        inner.tasks.spawn(inner.clone().keep_time());
        inner.tasks.spawn(members::drive(inner.clone()));
        members::seek(&inner, config.seeds);
        inner.tasks.spawn(inner.clone().close_idle_circuits(IDLE_CIRCUIT.max(2 * session_timeout)));
        let end = Arc::new(inner.root.clone().drop_guard());
        Ok(Self { inner, _end: end })
    }

    /// The address really bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.local_addr
    }

    /// This node's id.
    pub fn node_id(&self) -> NodeId {
        self.inner.local.keypair().node_id()
    }

    /// This node's public key.
    pub fn entity_id(&self) -> EntityId {
        self.inner.local.keypair().entity_id()
    }

    /// This node's Noise static key, which others may pin.
    pub fn public_key(&self) -> [u8; 32] {
        *self.inner.local.static_secret().public()
    }

    /// This life of the node.
    pub fn incarnation(&self) -> Incarnation {
        self.inner.local.incarnation()
    }

    /// Numbers the next runtime on this node: its peers may still remember what a former one hosted and sent.
    pub fn next_runtime(&self) -> RuntimeLife {
        RuntimeLife::new(self.inner.runtimes.fetch_add(1, Ordering::Relaxed))
    }

    /// Makes a session with the node at `addr` (`host:port`), or finds the one that there is. A given key or id is a pin: when
    /// somebody else answers, the call fails. Can be dropped at any time; the dial goes on.
    pub async fn connect(
        &self,
        addr: &str,
        pin_key: Option<[u8; 32]>,
        pin_node: Option<NodeId>,
    ) -> Result<NodeId, MeshError> {
        if self.inner.control.lock().leaving {
            return Err(MeshError::ShutDown);
        }
        let target = DialTarget { way: Way::Direct(addr.to_owned()), pin_key, pin_node, hearsay: false };
        self.in_background(dial::connect(self.inner.clone(), target)).await
    }

    /// Joins the mesh that the node at `addr` (`host:port`) belongs to, which takes part from now on as this one does. Resolves
    /// when there is a session with it. Nodes that take part learn of each other as soon as both ends have started, and
    /// form sessions by themselves. It begins at once: what is asked behind it waits until this node has joined.
    pub fn join(&self, addr: &str) -> impl Future<Output = Result<NodeId, MeshError>> + use<> {
        let seeking = members::Seeking::begin(self.inner.clone());
        let (this, addr) = (self.clone(), addr.to_owned());
        async move {
            let node = this.connect(&addr, None, None).await?;
            seeking.found(node);
            Ok(node)
        }
    }

    /// Resolves when there is a session with `node`, or this node is done with joining and has none. None when there is one,
    /// or nothing to wait for. Takes at most some seconds after the start.
    pub fn meeting(&self, node: NodeId) -> Option<impl Future<Output = ()> + Send + use<>> {
        if node == self.node_id() || self.inner.present.contains_key(&node) {
            return None;
        }
        let (joining, met) = (self.inner.members.joining()?, self.inner.session_with(node));
        Some(async move {
            tokio::select! {
                _ = met => {}
                () = joining => {}
            }
        })
    }

    /// The live members of the mesh beside this node, sorted. Empty while it takes no part.
    pub fn members(&self) -> Vec<NodeId> {
        self.inner.members.live()
    }

    /// Makes a session with `node` through a peer that has one with both, or finds the one that there is. Peers are asked
    /// who can; when none does, the call fails as soon as all have answered. The session is proven end to end like any
    /// other; a direct one replaces it as soon as there is one. Can be dropped at any time; the attempt goes on.
    pub async fn reach(&self, node: NodeId) -> Result<(), MeshError> {
        self.in_background(relay::reach(self.inner.clone(), node)).await
    }

    #[cfg(test)]
    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Circuits that go through this node for others.
    pub fn circuits(&self) -> usize {
        self.inner.relay.circuits()
    }

    /// Has `tamper` change what goes through this node.
    #[cfg(feature = "test-hooks")]
    pub fn tamper(&self, tamper: super::Tamper) {
        self.inner.relay.tamper(tamper);
    }

    async fn in_background<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, MeshError>> + Send + 'static,
    ) -> Result<T, MeshError> {
        if self.inner.control.lock().leaving {
            return Err(MeshError::ShutDown);
        }
        let root = self.inner.root.clone();
        let work = async move {
            tokio::select! {
                biased;
                () = root.cancelled() => Err(MeshError::ShutDown),
                result = work => result,
            }
        };
        self.inner.tasks.spawn_on(work, &self.inner.runtime).await.unwrap_or(Err(MeshError::ShutDown))
    }

    /// Resolves with the peer's address once it has a session, at once if it has one.
    pub async fn accept(&self, node: NodeId) -> Result<String, MeshError> {
        self.inner.session_with(node).await.map_err(|_| MeshError::ShutDown)
    }

    /// Begins heartbeats and the traffic of subprotocols; idempotent. Sessions made before are held: they live, and carry
    /// records once both sides have started.
    pub fn start(&self) {
        self.inner.start();
        self.inner.members.start();
    }

    /// The peers that are remembered, sorted by id. Not to be called from a handler.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let control = self.inner.control.lock();
        let mut peers: Vec<_> = control
            .table
            .peers()
            .map(|peer| {
                let link = peer.conn.and_then(|conn| control.links.get(&conn));
                PeerInfo {
                    node: peer.identity.node,
                    entity: peer.identity.entity,
                    addr: peer.way.to_string(),
                    via: peer.way.via(),
                    state: peer.state,
                    rtt: link.and_then(|link| link.rtt()),
                    since: self.inner.wall_clock(peer.since),
                    started: link.is_some_and(|link| link.says_ready()),
                }
            })
            .collect();
        peers.sort_unstable_by_key(|peer| peer.node);
        peers
    }

    /// Number of peers that are not lost.
    pub fn peer_count(&self) -> usize {
        self.inner.present.len()
    }

    /// A peer that is not lost, as its handshake proved it. May be called from a handler.
    pub fn peer(&self, node: NodeId) -> Option<PeerIdentity> {
        self.inner.present.get(&node).map(|present| present.identity.clone())
    }

    /// Has `observer` called with every peer event from now on, in order per peer. It must not block, and is bound by the
    /// same rule as a [`SubprotocolHandler`].
    pub fn on_peer(&self, observer: Arc<dyn Fn(&PeerEvent) + Send + Sync>) -> ObserverId {
        let _control = self.inner.control.lock();
        self.inner.handlers.write().observe(observer)
    }

    /// Takes an observer out; it is not called any more when this returns.
    pub fn off_peer(&self, id: ObserverId) {
        let observer: Option<PeerObserver> = {
            let _control = self.inner.control.lock();
            self.inner.handlers.write().unobserve(id)
        };
        drop(observer);
    }

    /// Installs the handler of `subprotocols`, each of which may have one. It is first told `Connected` (not resumed) of every
    /// peer that is not lost, `Ready` if records flow, `Suspected` of those that are, and `Cut` of those without a session; then everything that happens.
    pub fn install(
        &self,
        handler: Arc<dyn SubprotocolHandler>,
        subprotocols: &[Subprotocol],
    ) -> Result<(), InstallError> {
        let control = self.inner.control.lock();
        if control.leaving {
            return Err(InstallError::ShutDown);
        }
        // Nobody else installs meanwhile: that takes `control` too.
        self.inner.handlers.read().check(subprotocols)?;
        let mut present: Vec<_> = control.table.peers().filter(|peer| peer.state != PeerState::Lost).collect();
        present.sort_unstable_by_key(|peer| peer.identity.node);
        for peer in present {
            handler.peer(&PeerEvent::Connected { peer: peer.identity.clone(), resumed: false });
            let link = peer.conn.and_then(|conn| control.links.get(&conn));
            if link.is_some_and(|link| self.inner.flows(link)) {
                handler.peer(&PeerEvent::Ready { node: peer.identity.node });
            }
            if peer.state == PeerState::Suspected {
                handler.peer(&PeerEvent::Suspected { node: peer.identity.node });
                if peer.conn.is_none() {
                    handler.peer(&PeerEvent::Cut { node: peer.identity.node });
                }
            }
        }
        let (keepers, standing) = self.inner.members.seen();
        handler.members(&keepers, standing);
        self.inner.handlers.write().install(handler, subprotocols);
        if subprotocols.contains(&Subprotocol::Directory) {
            self.inner.members.keeps_directory(true);
        }
        for link in control.links.values() {
            link.wake();
        }
        Ok(())
    }

    /// Takes the handler of `subprotocols` out; it is not called any more when this returns.
    pub fn uninstall(&self, subprotocols: &[Subprotocol]) {
        let taken = {
            let _control = self.inner.control.lock();
            if subprotocols.contains(&Subprotocol::Directory) {
                self.inner.members.keeps_directory(false);
            }
            self.inner.handlers.write().uninstall(subprotocols)
        };
        drop(taken);
    }

    /// Sets what answers records of `subprotocol` while no handler is installed for it. The answer travels as a record of the
    /// same subprotocol in the fast lane; when a peer asks faster than it reads, answers are dropped.
    pub fn set_responder(&self, subprotocol: Subprotocol, responder: Option<Responder>) {
        self.inner.handlers.write().set_responder(subprotocol, responder);
    }

    /// Says that a handler has something for `node`. Cheap, never blocks, never lost; without a session it does nothing
    /// (handlers are asked when one comes up).
    pub fn wake(&self, node: NodeId) {
        if let Some(link) = self.inner.link(node) {
            link.wake();
        }
    }

    /// Gives back the credit of bulk records from `node`: `bytes` is the sum of their body lengths.
    pub fn consumed(&self, node: NodeId, bytes: usize) {
        if let Some(link) = self.inner.link(node) {
            link.bulk_consumed(bytes);
        }
    }

    /// Bulk bytes of `node` that arrived here and whose credit is not given back.
    pub fn bulk_outstanding(&self, node: NodeId) -> u64 {
        self.inner.link(node).map_or(0, |link| link.bulk_used())
    }

    /// The node's key pair, for the layers above in this crate.
    pub(crate) fn keypair(&self) -> &EntityKeypair {
        self.inner.local.keypair()
    }

    /// The tokio runtime that the node lives on.
    pub(crate) fn tasks(&self) -> &tokio::runtime::Handle {
        &self.inner.runtime
    }

    /// Signs with the node's key. The message begins with a label that nothing else begins with.
    pub fn sign(&self, message: &[u8]) -> Result<Signature, IdentityError> {
        self.inner.local.keypair().sign(message)
    }

    /// What was refused so far.
    pub fn counters(&self) -> MeshCounters {
        self.inner.counters.read()
    }

    /// Whether the node was told to shut down.
    pub fn is_shut_down(&self) -> bool {
        self.inner.root.is_cancelled() || self.inner.control.lock().leaving
    }

    /// Says goodbye to every peer and ends everything; idempotent, takes about half a second at most. Handlers are told that
    /// their peers are lost, and are uninstalled.
    pub async fn shutdown(&self) {
        self.begin_shutdown();
        self.inner.tasks.wait().await;
        self.inner.sessions.wait().await;
    }

    /// The same from outside of the runtime, for the end of the process: waits `patience` at most.
    pub fn shutdown_blocking(&self, patience: Duration) {
        self.begin_shutdown();
        let (done, wait) = mpsc::sync_channel::<()>(1);
        let inner = self.inner.clone();
        self.inner.runtime.spawn(async move {
            inner.tasks.wait().await;
            let _ = done.try_send(());
        });
        let _ = wait.recv_timeout(patience);
    }

    fn begin_shutdown(&self) {
        let mut control = self.inner.control.lock();
        if std::mem::replace(&mut control.leaving, true) {
            return;
        }
        drop(control);
        self.inner.tasks.spawn_on(self.inner.clone().leave(GOODBYE_PATIENCE), &self.inner.runtime);
        self.inner.tasks.close();
    }
}

async fn bind(address: &str) -> Result<TcpListener, MeshError> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => MeshError::AddressInUse { address: address.to_owned() },
        io::ErrorKind::InvalidInput => MeshError::InvalidArgument(format!("'{address}' is not of the form host:port")),
        _ => MeshError::AddressNotFound { address: address.to_owned(), source: Arc::new(error) },
    })
}

fn fresh_incarnation() -> Incarnation {
    // Lives of one process are in order also when they begin within one millisecond, or the clock is set back.
    static LATEST: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let after = |latest: u64| now.max(latest.saturating_add(1));
    let (Ok(latest) | Err(latest)) = LATEST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| Some(after(at)));
    Incarnation { started_at_ms: after(latest), salt: random_u64() }
}

fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    u64::from_le_bytes(bytes)
}

impl fmt::Debug for MeshNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshNode")
            .field("node", &self.node_id())
            .field("addr", &self.local_addr())
            .finish_non_exhaustive()
    }
}
