//! A handler that sends what it is given and keeps what it receives, and nodes to install it on.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mesh_daemon_core::identity::{EntityKeypair, NodeId};
use mesh_daemon_core::mesh::{MeshConfig, MeshNode, PeerEvent, Record, RecordSink, SubprotocolHandler};
use mesh_daemon_core::session::Psk;
use mesh_daemon_core::wire::{Lane, Subprotocol};
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Generous: only a hang reaches it.
pub(crate) const HANG: Duration = Duration::from_secs(60);

pub(crate) fn psk() -> Psk {
    Psk::new([7; 32])
}

pub(crate) fn config() -> MeshConfig {
    MeshConfig::new("127.0.0.1:0", psk(), EntityKeypair::generate())
}

pub(crate) async fn node(config: MeshConfig) -> MeshNode {
    let node = MeshNode::create(config).await.expect("a free port");
    node.start();
    node
}

type Queue = VecDeque<Vec<u8>>;

/// Sends from queues, receives into channels.
pub(crate) struct Tester {
    node: Mutex<Option<MeshNode>>,
    out: Mutex<HashMap<(NodeId, bool), Queue>>,
    pub(crate) inbox: mpsc::UnboundedSender<(NodeId, Lane, Vec<u8>)>,
    events: mpsc::UnboundedSender<PeerEvent>,
    pub(crate) consume: AtomicBool,
    pub(crate) bulk_received: AtomicU64,
    pub(crate) echo: AtomicBool,
}

pub(crate) struct Ears {
    pub(crate) records: mpsc::UnboundedReceiver<(NodeId, Lane, Vec<u8>)>,
    pub(crate) events: mpsc::UnboundedReceiver<PeerEvent>,
}

impl Tester {
    pub(crate) fn on(node: &MeshNode) -> (Arc<Self>, Ears) {
        let (inbox, records) = mpsc::unbounded_channel();
        let (events, heard) = mpsc::unbounded_channel();
        let tester = Arc::new(Self {
            node: Mutex::new(Some(node.clone())),
            out: Mutex::default(),
            inbox,
            events,
            consume: AtomicBool::new(true),
            bulk_received: AtomicU64::new(0),
            echo: AtomicBool::new(false),
        });
        node.install(tester.clone(), &[Subprotocol::Events]).expect("nobody else is installed");
        (tester, Ears { records, events: heard })
    }

    pub(crate) fn send(&self, to: NodeId, lane: Lane, body: Vec<u8>) {
        self.out.lock().entry((to, lane == Lane::Bulk)).or_default().push_back(body);
        self.wake(to);
    }

    pub(crate) fn wake(&self, to: NodeId) {
        let node = self.node.lock().clone();
        node.expect("still installed").wake(to);
    }

    pub(crate) fn pending(&self, to: NodeId, lane: Lane) -> usize {
        self.out.lock().get(&(to, lane == Lane::Bulk)).map_or(0, VecDeque::len)
    }
}

impl SubprotocolHandler for Tester {
    fn records(&self, from: NodeId, lane: Lane, records: &mut Vec<Record>) {
        let mut bulk = 0;
        for record in records.drain(..) {
            if lane == Lane::Bulk {
                bulk += record.body.len();
            }
            if self.echo.load(Ordering::Relaxed) && lane == Lane::Fast {
                self.send(from, Lane::Fast, record.body.to_vec());
            }
            let _ = self.inbox.send((from, lane, record.body.to_vec()));
        }
        if bulk > 0 {
            self.bulk_received.fetch_add(bulk as u64, Ordering::SeqCst);
            if self.consume.load(Ordering::SeqCst) {
                let node = self.node.lock().clone();
                node.expect("still installed").consumed(from, bulk);
            }
        }
    }

    fn peer(&self, event: &PeerEvent) {
        // The one comes at its own time beside the others, and its tests observe the node; the other before every new session.
        if !matches!(event, PeerEvent::Ready { .. } | PeerEvent::Cut { .. }) {
            let _ = self.events.send(event.clone());
        }
    }

    fn fill(&self, to: NodeId, lane: Lane, sink: &mut dyn RecordSink) -> bool {
        let mut out = self.out.lock();
        let Some(queue) = out.get_mut(&(to, lane == Lane::Bulk)) else { return false };
        while let Some(body) = queue.front() {
            let body = body.clone();
            if body.len() > sink.room() || sink.record(Subprotocol::Events, &mut |out| out.extend(&body)).is_none() {
                return true;
            }
            queue.pop_front();
        }
        false
    }
}

impl Ears {
    pub(crate) async fn record(&mut self) -> (NodeId, Lane, Vec<u8>) {
        tokio::time::timeout(HANG, self.records.recv()).await.expect("a record comes").expect("the handler lives")
    }

    pub(crate) async fn event(&mut self) -> PeerEvent {
        tokio::time::timeout(HANG, self.events.recv()).await.expect("an event comes").expect("the handler lives")
    }

    /// Waits until `peer` is suspected, whatever else comes before.
    pub(crate) async fn until_suspected(&mut self, peer: NodeId) {
        while self.event().await != (PeerEvent::Suspected { node: peer }) {}
    }
}
