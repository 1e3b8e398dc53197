//! Finding a peer that can relay, and dialling through it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::CircuitStream;
use crate::identity::NodeId;
use crate::mesh::dial;
use crate::mesh::error::MeshError;
use crate::mesh::inner::Inner;
use crate::mesh::table::{DialTarget, Way};

/// How long peers may take to say whether they can relay.
const PATIENCE: Duration = Duration::from_secs(2);

/// Makes a session with `node` through a common peer, or finds the one that there is.
pub(in crate::mesh) async fn reach(inner: Arc<Inner>, node: NodeId) -> Result<(), MeshError> {
    let nobody = MeshError::NoRelay { node };
    if node == inner.me() {
        return Err(MeshError::InvalidArgument("that is this node itself".to_owned()));
    }
    if inner.has_session(node) {
        return Ok(());
    }
    let peers = inner.direct_peers();
    let mut relays = inner.relay.ask(node, &peers);
    let until = Instant::now() + PATIENCE;
    let mut failure = nobody;
    // Answers that come while one peer is tried wait in the channel.
    while let Ok(Some(by)) = timeout_at(until.max(Instant::now()), relays.recv()).await {
        let target = DialTarget { way: Way::Relayed { by }, pin_key: None, pin_node: Some(node), hearsay: false };
        match dial::connect(inner.clone(), target).await {
            Ok(_) => return Ok(()),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// A circuit to `to` through `by`, once the far end agreed.
pub(in crate::mesh) async fn open(inner: &Arc<Inner>, by: NodeId, to: NodeId) -> Result<CircuitStream, MeshError> {
    let stream = inner.relay.open(by, to).ok_or(MeshError::NoRelay { node: to })?;
    if stream.accepted().await { Ok(stream) } else { Err(MeshError::NoRelay { node: to }) }
}
