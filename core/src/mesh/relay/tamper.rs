//! A relay that does what it must not, for tests.

use bytes::Bytes;

use super::Relay;
use crate::identity::NodeId;

/// How a relay misbehaves.
pub struct Tamper {
    /// What becomes of each piece that a node sent: the pieces that are forwarded in its place.
    pub pieces: Box<dyn FnMut(NodeId, Bytes) -> Vec<Bytes> + Send>,
    /// Where circuits lead, whatever their openers ask for.
    pub redirect: Option<NodeId>,
}

impl Relay {
    pub(in crate::mesh) fn tamper(&self, tamper: Tamper) {
        self.state.lock().tamper = Some(tamper);
    }
}
