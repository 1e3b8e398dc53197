//! The state that all tasks of a node share, and the carrying out of what the peer table decides.
//!
//! Locks are taken in this order and never the other way round: `control`, a link's gate, `handlers`. Handlers are called
//! with some of them held, which is why they may call only what takes none of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use dashmap::DashMap;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::counters::Counters;
use super::dial;
use super::handler::{PeerEvent, PeerIdentity};
use super::handlers::Handlers;
use super::limits::HalfOpen;
use super::link::Link;
use super::members::Members;
use super::reader::Reader;
use super::relay::Relay;
use super::stream::{ByteStream, MessageReader};
use super::table::{Action, Activity, CloseReason, ConnId, PeerTable, Way};
use super::writer::Writer;
use crate::identity::NodeId;
use crate::membership::Membership;
use crate::session::{Established, LocalIdentity};
use crate::wire::Subprotocol;

/// One node.
pub(super) struct Inner {
    pub(super) local: LocalIdentity,
    pub(super) local_addr: SocketAddr,
    /// Silence after which a peer is lost; so long a write may wait, too.
    pub(super) session_timeout: Duration,
    pub(super) control: Mutex<Control>,
    /// Peers that are not lost, for readers that must not take `control`.
    pub(super) present: DashMap<NodeId, Present>,
    pub(super) handlers: RwLock<Handlers>,
    pub(super) counters: Counters,
    pub(super) half_open: HalfOpen,
    pub(super) relay: Arc<Relay>,
    pub(super) members: Arc<Members>,
    /// Everything that runs, but for the sessions.
    pub(super) tasks: TaskTracker,
    pub(super) sessions: TaskTracker,
    /// Sessions through relays: they say goodbye while the sessions that carry them are up.
    relayed_sessions: TaskTracker,
    pub(super) root: CancellationToken,
    pub(super) runtime: Handle,
    timer_changed: Notify,
    started: AtomicBool,
    /// How many runtimes there were on this node.
    pub(super) runtimes: AtomicU32,
    /// Both clocks at one moment, to tell wall-clock times of instants.
    clocks: (Instant, SystemTime),
}

/// What is changed only under one lock.
pub(super) struct Control {
    pub(super) table: PeerTable,
    pub(super) links: HashMap<ConnId, Arc<Link>>,
    pub(super) dials: HashMap<ConnId, CancellationToken>,
    waiters: HashMap<NodeId, Vec<oneshot::Sender<String>>>,
    pub(super) leaving: bool,
}

/// A peer that is not lost.
pub(super) struct Present {
    pub(super) identity: PeerIdentity,
    pub(super) link: Option<Arc<Link>>,
}

/// A session that was agreed on and whose tasks are to be started.
pub(super) struct Opened<S> {
    pub(super) link: Arc<Link>,
    pub(super) established: Established,
    pub(super) stream: S,
    pub(super) messages: MessageReader,
}

struct Links<'a>(&'a HashMap<ConnId, Arc<Link>>);

impl Activity for Links<'_> {
    fn of(&self, conn: ConnId) -> Option<(Instant, Instant)> {
        self.0.get(&conn).map(|link| link.activity())
    }
}

impl Control {
    pub(super) fn new(table: PeerTable) -> Self {
        Self { table, links: HashMap::new(), dials: HashMap::new(), waiters: HashMap::new(), leaving: false }
    }
}

impl Inner {
    /// `forwards` is whether the node relays for others, `salt` a random number.
    pub(super) fn new(
        local: LocalIdentity,
        local_addr: SocketAddr,
        table: PeerTable,
        membership: Membership,
        forwards: bool,
        salt: u64,
    ) -> Arc<Self> {
        let inner = Arc::new_cyclic(|this| Self {
            local,
            local_addr,
            session_timeout: table.session_timeout(),
            control: Mutex::new(Control::new(table)),
            present: DashMap::new(),
            handlers: RwLock::default(),
            counters: Counters::default(),
            half_open: HalfOpen::default(),
            relay: Relay::new(this.clone(), forwards, salt),
            members: Members::new(this.clone(), membership),
            tasks: TaskTracker::new(),
            sessions: TaskTracker::new(),
            relayed_sessions: TaskTracker::new(),
            root: CancellationToken::new(),
            runtime: Handle::current(),
            timer_changed: Notify::new(),
            started: AtomicBool::new(false),
            runtimes: AtomicU32::new(0),
            clocks: (Instant::now(), SystemTime::now()),
        });
        inner.handlers.write().install(Arc::new(inner.relay.clone()), &[Subprotocol::Relay]);
        inner.handlers.write().install(Arc::new(inner.members.clone()), &[Subprotocol::Membership]);
        inner
    }

    /// This node's id.
    pub(super) fn me(&self) -> NodeId {
        self.local.keypair().node_id()
    }

    /// The session with a peer. May be called from a handler.
    pub(super) fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        self.present.get(&node)?.link.clone()
    }

    /// A proven peer's connection shows by which address of this machine it reaches it. That matters when the node listens on all.
    pub(super) fn reached_over(&self, stream: &impl ByteStream) {
        if let Some(local) = stream.local_ip()
            && self.local_addr.ip().is_unspecified()
        {
            self.members.listens_at(SocketAddr::new(local, self.local_addr.port()));
        }
    }

    /// Whether this node has a session of its own with `node`.
    pub(super) fn may_relay_to(&self, node: NodeId) -> bool {
        self.link(node).is_some_and(|link| link.is_direct())
    }

    /// The peers that could relay for this node.
    pub(super) fn direct_peers(&self) -> Vec<NodeId> {
        let direct = |link: &Arc<Link>| link.is_direct();
        let mut peers: Vec<_> =
            self.present.iter().filter(|peer| peer.link.as_ref().is_some_and(direct)).map(|peer| *peer.key()).collect();
        peers.sort_unstable();
        peers
    }

    /// Whether a session with `node` is up and works as far as is known.
    pub(super) fn has_session(&self, node: NodeId) -> bool {
        self.control.lock().table.is_connected(node)
    }

    pub(super) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    pub(super) fn wall_clock(&self, at: Instant) -> SystemTime {
        self.clocks.1 + at.saturating_duration_since(self.clocks.0)
    }

    pub(super) fn start(self: &Arc<Self>) {
        let mut control = self.control.lock();
        if control.leaving || self.started.swap(true, Ordering::AcqRel) {
            return;
        }
        control.table.start(Instant::now());
        for link in control.links.values() {
            link.say_ready();
        }
        self.apply(&mut control);
        for link in control.links.values() {
            self.tell_ready(&control, link);
        }
    }

    /// The peer of a session says that its subprotocols run.
    pub(super) fn peer_ready(&self, link: &Arc<Link>) {
        let control = self.control.lock();
        if !link.peer_ready.swap(true, Ordering::AcqRel) {
            self.tell_ready(&control, link);
        }
    }

    // Under `control`, so that of both starts the later one tells, and tells once.
    fn tell_ready(&self, control: &Control, link: &Link) {
        if self.flows(link) && control.table.session(link.node) == Some(link.conn) {
            self.handlers.read().peer(&PeerEvent::Ready { node: link.node });
            link.let_flow();
        }
    }

    /// Whether records of the layers above flow, or are about to. For whoever holds `control`.
    pub(super) fn flows(&self, link: &Link) -> bool {
        self.is_started() && link.says_ready()
    }

    /// Carries out what the table decided, in order.
    pub(super) fn apply(self: &Arc<Self>, control: &mut Control) {
        for action in control.table.take_actions() {
            match action {
                Action::Open { conn, node: _ } => {
                    tracing::debug!(?conn, "session open");
                }
                Action::Close { conn, why } => self.close(control, conn, why),
                Action::Event(event) => self.tell(control, &event),
                Action::Ping { conn } => {
                    if let Some(link) = control.links.get(&conn) {
                        link.ping();
                    }
                }
                Action::Watch { conn } => {
                    if let Some(link) = control.links.get(&conn) {
                        link.watched.store(true, Ordering::Release);
                    }
                }
                Action::Dial { node, target } => {
                    let inner = self.clone();
                    self.tasks.spawn(async move { dial::again(inner, node, target).await });
                }
            }
        }
        self.timer_changed.notify_one();
    }

    /// Makes a link of a connection that the table took, and carries out what the table decided with it.
    pub(super) fn open(
        self: &Arc<Self>,
        control: &mut Control,
        conn: ConnId,
        established: &Established,
        way: Way,
        welcome: Option<bool>,
        peer_ready: bool,
    ) -> Arc<Link> {
        let peer = &established.peer;
        let link = Arc::new(Link::new(conn, peer.node, way, peer.bulk_window, self.root.child_token()));
        if let Some(resumed) = welcome {
            link.welcome(resumed);
        }
        link.peer_ready.store(peer_ready, Ordering::Release);
        if self.is_started() {
            link.say_ready();
        }
        control.links.insert(conn, link.clone());
        self.apply(control);
        link
    }

    /// Starts the tasks of a session. Comes after [`open`](Self::open), so that the layers hear of the peer first.
    pub(super) fn run<S: ByteStream>(self: &Arc<Self>, opened: Opened<S>) {
        let Opened { link, established, stream, messages } = opened;
        let (outgoing, incoming) = established.transport.split();
        let (read, write) = stream.halves();
        let reader = Reader { inner: self.clone(), link: link.clone(), socket: read, messages, opener: incoming };
        let relayed = !link.is_direct();
        let writer = Writer { inner: self.clone(), link, socket: write, sealer: outgoing };
        let tracker = if relayed { &self.relayed_sessions } else { &self.sessions };
        tracker.spawn_on(reader.run(), &self.runtime);
        tracker.spawn_on(writer.run(), &self.runtime);
    }

    /// A session's connection ended without a goodbye.
    pub(super) fn connection_ended(self: &Arc<Self>, link: &Arc<Link>, why: &str) {
        let mut control = self.control.lock();
        if control.links.contains_key(&link.conn) && !control.leaving {
            self.counters.count_session_broken();
            tracing::debug!(peer = %link.node, why, "session broken");
        }
        let (heard, _) = link.activity();
        control.table.connection_lost(Instant::now(), link.conn, heard);
        self.apply(&mut control);
        control.links.remove(&link.conn);
        link.close();
    }

    pub(super) fn peer_said_goodbye(self: &Arc<Self>, link: &Arc<Link>) {
        let mut control = self.control.lock();
        control.table.goodbye(Instant::now(), link.conn);
        self.apply(&mut control);
        control.links.remove(&link.conn);
        link.close();
    }

    pub(super) fn heard_again(self: &Arc<Self>, link: &Link) {
        let mut control = self.control.lock();
        control.table.heard_again(Instant::now(), link.conn);
        self.apply(&mut control);
    }

    /// Resolves with the peer's address once it has a session; the sender is dropped when the node leaves.
    pub(super) fn session_with(&self, node: NodeId) -> oneshot::Receiver<String> {
        let (tell, told) = oneshot::channel();
        let mut control = self.control.lock();
        if control.leaving {
            return told;
        }
        let connected = control.table.peers().find(|peer| peer.identity.node == node && peer.conn.is_some());
        if let Some(addr) = connected.map(|peer| peer.way.to_string()) {
            let _ = tell.send(addr);
        } else {
            // Whoever stopped waiting goes here, whichever node it was waiting for.
            control.waiters.retain(|_, waiting| {
                waiting.retain(|waiter| !waiter.is_closed());
                !waiting.is_empty()
            });
            control.waiters.entry(node).or_default().push(tell);
        }
        told
    }

    /// Serves the table's timers until the node is shut down.
    pub(super) async fn keep_time(self: Arc<Self>) {
        loop {
            let next = self.control.lock().table.next_timer();
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.root.cancelled() => return,
                () = self.timer_changed.notified() => continue,
                () = sleep => {}
            }
            let mut control = self.control.lock();
            let Control { table, links, .. } = &mut *control;
            table.on_timer(Instant::now(), &Links(links));
            self.apply(&mut control);
        }
    }

    /// Closes circuits through this node that nothing goes through: their ends have sent heartbeats if they live.
    pub(super) async fn close_idle_circuits(self: Arc<Self>, limit: Duration) {
        let mut clock = tokio::time::interval(limit / 2);
        loop {
            tokio::select! {
                biased;
                () = self.root.cancelled() => return,
                _ = clock.tick() => self.relay.close_idle(limit),
            }
        }
    }

    /// Tells every peer goodbye and every layer that its peers are gone; ends everything that runs. Bounded in time.
    pub(super) async fn leave(self: Arc<Self>, patience: Duration) {
        self.leave_relayed(patience).await;
        {
            let mut control = self.control.lock();
            control.table.leave(Instant::now());
            self.apply(&mut control);
            for link in control.links.values() {
                link.say_goodbye();
            }
            for dial in control.dials.values() {
                dial.cancel();
            }
            control.waiters.clear();
        }
        self.sessions.close();
        if tokio::time::timeout(patience, self.sessions.wait()).await.is_err() {
            tracing::debug!("some peers did not close after the goodbye");
        }
        self.root.cancel();
        self.sessions.wait().await;
        self.relayed_sessions.wait().await;
        // The layers above often own this node: without this, both would keep each other alive.
        let handlers = std::mem::take(&mut *self.handlers.write());
        drop(handlers);
    }

    /// Says goodbye where that needs sessions with others.
    async fn leave_relayed(&self, patience: Duration) {
        let relayed: Vec<_> = self.control.lock().links.values().filter(|link| !link.is_direct()).cloned().collect();
        for link in &relayed {
            link.say_goodbye();
        }
        self.relayed_sessions.close();
        let _ = tokio::time::timeout(patience / 2, self.relayed_sessions.wait()).await;
    }

    fn close(&self, control: &mut Control, conn: ConnId, why: CloseReason) {
        if let Some(dial) = control.dials.remove(&conn) {
            dial.cancel();
        }
        let Some(link) = control.links.remove(&conn) else { return };
        tracing::debug!(peer = %link.node, ?why, "session closed");
        link.close();
        if let Some(mut present) = self.present.get_mut(&link.node)
            && present.link.as_ref().is_some_and(|current| current.conn == conn)
        {
            present.link = None;
        }
        if link.is_direct() {
            self.relay.session_gone(link.node);
        }
    }

    fn tell(&self, control: &mut Control, event: &PeerEvent) {
        match event {
            PeerEvent::Connected { peer, resumed: _ } => {
                let conn = control.table.session(peer.node);
                let link = conn.and_then(|conn| control.links.get(&conn).cloned());
                self.present.insert(peer.node, Present { identity: peer.clone(), link });
            }
            PeerEvent::Ready { .. } | PeerEvent::Suspected { .. } | PeerEvent::Heard { .. } | PeerEvent::Cut { .. } => {
            }
            PeerEvent::Lost { node, .. } => {
                self.present.remove(node);
            }
        }
        tracing::debug!(?event, "peer");
        self.handlers.read().peer(event);
        if let PeerEvent::Connected { peer, resumed: _ } = event {
            let conn = control.table.session(peer.node);
            if let Some(link) = conn.and_then(|conn| control.links.get(&conn)) {
                self.tell_ready(control, link);
            }
            // Last, for whoever waits may use the layers above at once.
            let addr = control.table.peers().find(|known| known.identity.node == peer.node);
            let addr = addr.map(|known| known.way.to_string()).unwrap_or_default();
            for waiter in control.waiters.remove(&peer.node).into_iter().flatten() {
                let _ = waiter.send(addr.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::identity::{EntityKeypair, NodeId};
    use crate::mesh::{MeshConfig, MeshNode};
    use crate::session::Psk;

    #[tokio::test]
    async fn nothing_is_kept_of_those_who_stopped_waiting() {
        let config = MeshConfig::new("127.0.0.1:0", Psk::new([1; 32]), EntityKeypair::generate());
        let node = MeshNode::create(config).await.expect("bound");
        let inner = node.inner();
        for id in 1..=100 {
            drop(inner.session_with(NodeId::new(id)));
        }
        let waits = inner.session_with(NodeId::new(7));
        let _also = inner.session_with(NodeId::new(8));
        assert_eq!(inner.control.lock().waiters.values().map(Vec::len).sum::<usize>(), 2);
        drop(waits);
        node.shutdown().await;
    }
}
