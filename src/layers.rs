//! What an environment's nodes have beside their sessions: capabilities and channels, by the number of the node.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_daemon_core::capability::{Capabilities, CapabilitiesError, CapabilityConfig};
use mesh_daemon_core::channel::{Channels, Subnet};
use mesh_daemon_core::mesh::{InstallError, MeshError, MeshNode};
use parking_lot::Mutex;

use crate::channels::Readers;
use crate::error::{ErrorCode, Failure};
use crate::outbox::Outbox;

/// Those of all nodes.
#[derive(Clone, Default)]
pub(crate) struct NodeLayers(Arc<Mutex<HashMap<u32, Layers>>>);

/// Those of one node.
#[derive(Clone)]
struct Layers {
    capabilities: Capabilities,
    channels: Channels,
}

/// What they are opened with.
pub(crate) struct Opening {
    /// The place of the node.
    pub(crate) subnet: Subnet,
    /// The largest payload, in bytes.
    pub(crate) max_payload: u64,
    /// How far behind its issuer's the clock may be when a token begins.
    pub(crate) token_skew: Duration,
    /// How often announcements that no longer count are dropped.
    pub(crate) sweep: Duration,
}

impl Layers {
    fn open(node: &MeshNode, opening: Opening, readers: Readers) -> Result<Self, Failure> {
        let Opening { subnet, max_payload, token_skew, sweep } = opening;
        let config = CapabilityConfig { sweep, ..CapabilityConfig::default() };
        let capabilities = Capabilities::create(node, subnet.clone(), config).map_err(|error| match error {
            CapabilitiesError::Install(error) => not_installed(error),
            CapabilitiesError::Announcement(_) => Failure::new(ErrorCode::Other, error),
        })?;
        let channels = Channels::create(node, subnet, max_payload, Arc::new(readers)).map_err(|error| {
            capabilities.close();
            not_installed(error)
        })?;
        channels.set_token_skew(token_skew);
        channels.gate_by(&capabilities);
        Ok(Self { capabilities, channels })
    }

    /// Channels first: they look at what was announced.
    fn close(&self) {
        self.channels.close();
        self.capabilities.close();
    }
}

fn not_installed(error: InstallError) -> Failure {
    match error {
        InstallError::ShutDown => Failure::from(MeshError::ShutDown),
        // Nobody else installs handlers on a node of ours.
        InstallError::Taken(_) | InstallError::Reserved(_) => Failure::new(ErrorCode::Other, error),
    }
}

impl NodeLayers {
    /// Gives a node both, or neither.
    pub(crate) fn open(
        &self,
        mesh: u32,
        node: &MeshNode,
        opening: Opening,
        outbox: Arc<Outbox>,
    ) -> Result<(), Failure> {
        let layers = Layers::open(node, opening, Readers { mesh, outbox })?;
        self.0.lock().insert(mesh, layers);
        Ok(())
    }

    /// Ends those of a node.
    pub(crate) fn close(&self, mesh: u32) {
        let layers = self.0.lock().remove(&mesh);
        if let Some(layers) = layers {
            layers.close();
        }
    }

    /// Ends all of them.
    pub(crate) fn close_all(&self) {
        let all = std::mem::take(&mut *self.0.lock());
        for layers in all.into_values() {
            layers.close();
        }
    }

    /// The capabilities of a node.
    pub(crate) fn capabilities(&self, mesh: u32) -> Option<Capabilities> {
        self.0.lock().get(&mesh).map(|layers| layers.capabilities.clone())
    }

    /// The channels of a node.
    pub(crate) fn channels(&self, mesh: u32) -> Option<Channels> {
        self.0.lock().get(&mesh).map(|layers| layers.channels.clone())
    }
}
