//! The capabilities of a mesh node: the machine with a mesh below it, whoever is told of changes above it, and a clock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::machine::{Announced, CapabilityConfig, CapabilityMachine, Output};
use super::{AnnouncementError, CapabilityFilter, CapabilityRequirement, CapabilitySet, ScopeFilter, Subnet};
use crate::identity::NodeId;
use crate::mesh::{InstallError, MeshNode, PeerEvent, Record, RecordSink, SubprotocolHandler, Timed, Timer, unix_now};
use crate::wire::{Lane, Subprotocol};

const SUBPROTOCOLS: [Subprotocol; 1] = [Subprotocol::Capabilities];

/// Who is told when what a node has announced changes.
pub trait CapabilityObserver: Send + Sync + 'static {
    /// It has changed, or has ended; `look` gives what it is at that moment. Called on any thread and without a lock, so what
    /// was seen under the last look is right. When a peer announces, this comes before anything that the peer says later is
    /// handled. Of a node that is lost it is not told.
    fn changed(&self, node: NodeId, look: &dyn Fn() -> Option<Announced>);
}

/// The capabilities of a node, and of those that it has sessions with. Cheap to clone. No method blocks.
#[derive(Clone)]
pub struct Capabilities {
    shared: Arc<Shared>,
}

struct Shared {
    machine: Mutex<CapabilityMachine>,
    /// What waits for each peer. Apart from the machine, which checks signatures: frames are filled without waiting for that.
    waiting: Mutex<BTreeMap<NodeId, Bytes>>,
    observers: Mutex<Vec<Weak<dyn CapabilityObserver>>>,
    mesh: MeshNode,
    timer: Timer,
}

/// Why a node has no capabilities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapabilitiesError {
    /// They cannot be installed.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The node's key cannot sign.
    #[error(transparent)]
    Announcement(#[from] AnnouncementError),
}

impl Capabilities {
    /// Has a node announce itself and hear what others announce; it may have one of these at a time.
    pub fn create(mesh: &MeshNode, subnet: Subnet, config: CapabilityConfig) -> Result<Self, CapabilitiesError> {
        let (keypair, life) = (mesh.keypair().clone(), mesh.incarnation());
        let machine = CapabilityMachine::new(keypair, life, subnet, config, Instant::now(), unix_now())?;
        let shared = Arc::new(Shared {
            machine: Mutex::new(machine),
            waiting: Mutex::default(),
            observers: Mutex::default(),
            mesh: mesh.clone(),
            timer: Timer::default(),
        });
        mesh.install(shared.clone(), &SUBPROTOCOLS)?;
        shared.timer.drive(mesh, &shared);
        Ok(Self { shared })
    }

    /// Announces this from now on, to every peer and to all that come.
    pub fn announce(&self, set: CapabilitySet) -> Result<(), AnnouncementError> {
        self.shared.act(|machine, now| machine.announce(set, now, unix_now()))
    }

    /// The nodes that offer what a filter asks for; see [`CapabilityMachine::find`].
    pub fn find(&self, filter: &CapabilityFilter, scope: Option<&ScopeFilter>) -> Vec<NodeId> {
        self.shared.machine.lock().find(filter, scope, Instant::now())
    }

    /// The node that meets a requirement best; of equals the one with the lowest id.
    pub fn best(&self, requirement: &CapabilityRequirement, scope: Option<&ScopeFilter>) -> Option<NodeId> {
        self.rank(requirement, scope).first().map(|(node, _)| *node)
    }

    /// The nodes that meet a requirement, the best first; see [`CapabilityMachine::rank`].
    pub fn rank(&self, requirement: &CapabilityRequirement, scope: Option<&ScopeFilter>) -> Vec<(NodeId, f64)> {
        self.shared.machine.lock().rank(requirement, scope, Instant::now())
    }

    /// What a node has announced, and still counts.
    pub fn announced(&self, node: NodeId) -> Option<Announced> {
        self.shared.announced(node)
    }

    /// Has an observer told of all that is known, and of every change from now on, for as long as it is there.
    pub fn observe(&self, observer: Weak<dyn CapabilityObserver>) {
        self.shared.observers.lock().push(observer);
        let nodes = self.shared.machine.lock().nodes(Instant::now());
        self.shared.tell(&nodes);
    }

    /// Ends it: the node announces nothing more, and hears nothing. Idempotent.
    pub fn close(&self) {
        self.shared.timer.stop();
        self.shared.mesh.uninstall(&SUBPROTOCOLS);
        self.shared.observers.lock().clear();
    }
}

impl Shared {
    /// Does something with the machine, and sees to what it wants.
    fn act<T>(&self, act: impl FnOnce(&mut CapabilityMachine, Instant) -> T) -> T {
        let (mut wakes, mut changed) = (Vec::new(), Vec::new());
        let (result, sooner) = {
            let mut machine = self.machine.lock();
            let before = machine.next_deadline();
            let result = act(&mut machine, Instant::now());
            while let Some(output) = machine.take_output() {
                match output {
                    Output::Send { to, body } => {
                        self.waiting.lock().insert(to, body);
                        wakes.push(to);
                    }
                    Output::Changed(node) => changed.push(node),
                }
            }
            let after = machine.next_deadline();
            (result, after.is_some_and(|after| before.is_none_or(|before| after < before)))
        };
        if sooner {
            self.timer.sooner();
        }
        for node in wakes {
            self.mesh.wake(node);
        }
        self.tell(&changed);
        result
    }

    fn tell(&self, changed: &[NodeId]) {
        if changed.is_empty() {
            return;
        }
        let observers: Vec<_> = {
            let mut observers = self.observers.lock();
            observers.retain(|observer| observer.strong_count() > 0);
            observers.iter().filter_map(Weak::upgrade).collect()
        };
        for observer in observers {
            for &node in changed {
                observer.changed(node, &|| self.announced(node));
            }
        }
    }

    fn announced(&self, node: NodeId) -> Option<Announced> {
        self.machine.lock().announced(node, Instant::now())
    }
}

impl SubprotocolHandler for Shared {
    fn records(&self, from: NodeId, lane: Lane, records: &mut Vec<Record>) {
        if lane == Lane::Bulk {
            // They are small, and nothing of theirs is sent so. The credit goes back all the same.
            self.mesh.consumed(from, records.iter().map(|record| record.body.len()).sum());
            records.clear();
        }
        for record in records.drain(..) {
            if let Err(error) = self.act(|machine, now| machine.message(from, &record.body, now)) {
                tracing::debug!(peer = %from, %error, "announcement refused");
            }
        }
    }

    fn peer(&self, event: &PeerEvent) {
        self.act(|machine, now| machine.peer(event, now, unix_now()));
        // Not before: until the machine has forgotten it, more may be entered for it.
        if let PeerEvent::Lost { node, .. } = event {
            self.waiting.lock().remove(node);
        }
    }

    fn fill(&self, to: NodeId, lane: Lane, sink: &mut dyn RecordSink) -> bool {
        if lane == Lane::Bulk {
            return false;
        }
        let mut waiting = self.waiting.lock();
        let Some(body) = waiting.get(&to) else { return false };
        if sink.record(Subprotocol::Capabilities, &mut |out| out.extend_from_slice(body)).is_none() {
            return true;
        }
        waiting.remove(&to);
        false
    }

    fn has_for(&self, to: NodeId, lane: Lane) -> bool {
        lane == Lane::Fast && self.waiting.lock().contains_key(&to)
    }
}

impl Timed for Shared {
    fn next_deadline(&self) -> Option<Instant> {
        self.machine.lock().next_deadline()
    }

    fn on_deadline(&self) {
        self.act(|machine, now| machine.tick(now, unix_now()));
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capabilities").field("node", &self.shared.mesh.node_id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{EntityKeypair, Incarnation};
    use crate::mesh::{Loss, MeshConfig, PeerIdentity};
    use crate::session::Psk;

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_waits_for_a_peer_that_is_lost_while_something_is_announced() {
        let config = MeshConfig::new("127.0.0.1:0", Psk::new([1; 32]), EntityKeypair::generate());
        let mesh = MeshNode::create(config).await.expect("bound");
        let capabilities =
            Capabilities::create(&mesh, Subnet::default(), CapabilityConfig::default()).expect("the first one");
        let stop = tokio_util::sync::CancellationToken::new();
        let announcing = std::thread::spawn({
            let (capabilities, stop) = (capabilities.clone(), stop.clone());
            move || {
                while !stop.is_cancelled() {
                    capabilities.announce(CapabilitySet::default()).expect("small");
                }
            }
        });
        let (entity, incarnation) = (EntityKeypair::generate().entity_id(), Incarnation { started_at_ms: 1, salt: 1 });
        let node = entity.node_id();
        let peer = PeerIdentity { node, entity, incarnation, static_key: [0; 32], max_payload: 1 };
        let mut left = 0;
        for _ in 0..200 {
            capabilities.shared.peer(&PeerEvent::Connected { peer: peer.clone(), resumed: false });
            capabilities.shared.peer(&PeerEvent::Ready { node });
            capabilities.shared.peer(&PeerEvent::Lost { node, incarnation, how: Loss::Silence });
            let waits = capabilities.shared.waiting.lock().contains_key(&node);
            left += usize::from(waits);
        }
        stop.cancel();
        announcing.join().expect("it ends");
        assert_eq!(left, 0, "it is gone");
        mesh.shutdown().await;
    }
}
