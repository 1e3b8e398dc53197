//! The handshake: `XXpsk0+psk3`, with the proof of a node id inside.
//!
//! Three messages. The first shows only that its sender knows the pre-shared key; the second and third carry, encrypted,
//! a [`HandshakePayload`] with the sender's entity id, incarnation, limits and an ed25519 signature over a label, its
//! role, its Noise static key, its incarnation and the transcript so far. So both sides end up knowing, and having seen
//! proven, who the other one is.
//!
//! Each step is a type that is consumed by the next one; a failed step leaves nothing to go on with.

use std::fmt;

use snow::{Builder, HandshakeState};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::credit::MIN_BULK_WINDOW;
use super::{HandshakeError, Transport};
use crate::identity::{EntityId, EntityKeypair, IdentityError, Incarnation, NodeId, NodeStaticSecret, Signature};
use crate::wire::codec;
use crate::wire::session::{HandshakePayload, MAX_HANDSHAKE_MESSAGE, WIRE_MAJOR, WIRE_MINOR};

const PATTERN: &str = "Noise_XXpsk0+psk3_25519_AESGCM_BLAKE2s";
const PROLOGUE: &[u8] = b"mesh-daemon session";
const SIGNATURE_LABEL: &[u8] = b"mesh-daemon handshake identity v1";

/// The pre-shared key of a mesh. Wiped on drop and never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Psk([u8; 32]);

/// What this node brings into every handshake.
#[derive(Clone, Debug)]
pub struct LocalIdentity {
    psk: Psk,
    secret: NodeStaticSecret,
    keypair: EntityKeypair,
    incarnation: Incarnation,
    max_payload: u64,
    bulk_window: u64,
    major: u8,
    minor: u16,
}

/// What a handshake has proven about the other side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenPeer {
    /// Its public key.
    pub entity: EntityId,
    /// Its node id.
    pub node: NodeId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Its Noise static key.
    pub static_key: [u8; 32],
    /// Largest payload it accepts.
    pub max_payload: u64,
    /// Bulk bytes that may be on their way to it.
    pub bulk_window: u64,
    /// The minor version of the wire that both speak.
    pub minor: u16,
    /// Features that it offers.
    pub features: u64,
}

/// Names one session; equal on both sides, and never again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

/// What a dialler says about the session it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DialIntent {
    /// Grows with every session asked for in one incarnation.
    pub attempt: u64,
    /// The last session it had with this peer, dead by now.
    pub after: Option<SessionId>,
    /// The session with which began what it still holds of what it shared with this incarnation of the peer.
    pub holds: Option<SessionId>,
    /// Whether its subprotocols run already.
    pub ready: bool,
}

/// The end of a handshake.
#[derive(Debug)]
pub struct Established {
    /// Who is at the other end.
    pub peer: ProvenPeer,
    /// The session's name.
    pub session: SessionId,
    /// The keys.
    pub transport: Transport,
}

/// A dialler that has sent its first message.
pub struct Dialling {
    local: LocalIdentity,
    state: HandshakeState,
}

/// A dialler that knows who answered and has not said yet who it is.
pub struct DialProven {
    local: LocalIdentity,
    state: HandshakeState,
    peer: ProvenPeer,
}

/// A listener that has answered a first message.
pub struct Answering {
    state: HandshakeState,
    local_minor: u16,
}

#[derive(Clone, Copy)]
enum Role {
    Dialler,
    Listener,
}

impl Psk {
    /// Takes a key.
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }
}

impl LocalIdentity {
    /// Prepares what this node says of itself. Fails when `keypair` cannot sign.
    pub fn new(
        psk: Psk,
        keypair: EntityKeypair,
        incarnation: Incarnation,
        max_payload: u64,
        bulk_window: u64,
    ) -> Result<Self, IdentityError> {
        let secret = NodeStaticSecret::derive(&keypair)?;
        let (major, minor) = (WIRE_MAJOR, WIRE_MINOR);
        Ok(Self { psk, secret, keypair, incarnation, max_payload, bulk_window, major, minor })
    }

    /// The same node as if it had been built with another version of the wire.
    #[must_use]
    pub fn with_wire_version(mut self, major: u8, minor: u16) -> Self {
        (self.major, self.minor) = (major, minor);
        self
    }

    /// The node's key pair.
    pub const fn keypair(&self) -> &EntityKeypair {
        &self.keypair
    }

    /// The node's static key.
    pub const fn static_secret(&self) -> &NodeStaticSecret {
        &self.secret
    }

    /// The node's life.
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    fn builder(&self, major: u8, build: Role) -> Result<HandshakeState, HandshakeError> {
        let mut prologue = PROLOGUE.to_vec();
        prologue.push(major);
        let params = PATTERN.parse().map_err(noise)?;
        let builder = Builder::new(params)
            .prologue(&prologue)
            .and_then(|b| b.local_private_key(self.secret.private_bytes()))
            .and_then(|b| b.psk(0, &self.psk.0))
            .and_then(|b| b.psk(3, &self.psk.0))
            .map_err(noise)?;
        match build {
            Role::Dialler => builder.build_initiator(),
            Role::Listener => builder.build_responder(),
        }
        .map_err(noise)
    }

    fn payload(
        &self,
        role: Role,
        state: &HandshakeState,
        intent: Option<DialIntent>,
    ) -> Result<Vec<u8>, HandshakeError> {
        let text = signed_text(role, self.secret.public(), self.incarnation, state.get_handshake_hash());
        let signature = self.keypair.sign(&text).map_err(|error| HandshakeError::Noise(error.to_string()))?;
        let payload = HandshakePayload {
            entity: *self.keypair.entity_id().as_bytes(),
            incarnation: self.incarnation.to_bytes(),
            signature: *signature.as_bytes(),
            minor: self.minor,
            features: 0,
            max_payload: self.max_payload,
            bulk_window: self.bulk_window,
            attempt: intent.map(|intent| intent.attempt),
            after: intent.and_then(|intent| intent.after).map(|session| session.0),
            ready: intent.map(|intent| intent.ready),
            holds: intent.and_then(|intent| intent.holds).map(|session| session.0),
        };
        Ok(codec::encode(&payload))
    }
}

impl Dialling {
    /// Begins a handshake; gives the first message to send.
    pub fn start(local: &LocalIdentity) -> Result<(Self, Vec<u8>), HandshakeError> {
        let mut state = local.builder(local.major, Role::Dialler)?;
        let message = write(&mut state, &[])?;
        Ok((Self { local: local.clone(), state }, message))
    }

    /// Reads the answer: now it is proven who listens there.
    pub fn read_answer(mut self, message: &[u8]) -> Result<DialProven, HandshakeError> {
        let transcript = self.state.get_handshake_hash().to_vec();
        let payload = read(&mut self.state, message)?
            .ok_or_else(|| HandshakeError::Malformed("the answer does not authenticate".into()))?;
        let (peer, _) = prove(Role::Listener, &self.state, &transcript, &payload, self.local.minor)?;
        Ok(DialProven { local: self.local, state: self.state, peer })
    }
}

impl DialProven {
    /// Who listens there.
    pub const fn peer(&self) -> &ProvenPeer {
        &self.peer
    }

    /// Says who this node is and what it wants; gives the last message to send. The session counts once the listener has
    /// said [`Welcome`](crate::wire::session::SessionMessage::Welcome).
    pub fn finish(mut self, intent: DialIntent) -> Result<(Vec<u8>, Established), HandshakeError> {
        let payload = self.local.payload(Role::Dialler, &self.state, Some(intent))?;
        let message = write(&mut self.state, &payload)?;
        Ok((message, establish(self.state, self.peer)?))
    }
}

impl Answering {
    /// Reads a stranger's first message; gives the answer to send. An error means to close without a word.
    pub fn start(local: &LocalIdentity, message: &[u8]) -> Result<(Self, Vec<u8>), HandshakeError> {
        let mut state = local.builder(local.major, Role::Listener)?;
        if read(&mut state, message)?.is_none() {
            return Err(diagnose(local, message));
        }
        let payload = local.payload(Role::Listener, &state, None)?;
        let answer = write(&mut state, &payload)?;
        Ok((Self { state, local_minor: local.minor }, answer))
    }

    /// Reads the last message: now it is proven who dialled.
    pub fn read_last(mut self, message: &[u8]) -> Result<(Established, DialIntent), HandshakeError> {
        let transcript = self.state.get_handshake_hash().to_vec();
        let payload = read(&mut self.state, message)?
            .ok_or_else(|| HandshakeError::Malformed("the last message does not authenticate".into()))?;
        let (peer, payload) = prove(Role::Dialler, &self.state, &transcript, &payload, self.local_minor)?;
        let attempt = payload.attempt.ok_or_else(|| HandshakeError::Malformed("no attempt number".into()))?;
        let (after, holds) = (payload.after.map(SessionId), payload.holds.map(SessionId));
        let intent = DialIntent { attempt, after, holds, ready: payload.ready.unwrap_or(false) };
        Ok((establish(self.state, peer)?, intent))
    }
}

fn prove(
    role: Role,
    state: &HandshakeState,
    transcript: &[u8],
    payload: &[u8],
    local_minor: u16,
) -> Result<(ProvenPeer, HandshakePayload), HandshakeError> {
    let payload: HandshakePayload =
        codec::decode(payload).map_err(|error| HandshakeError::Malformed(error.to_string()))?;
    let static_key = state
        .get_remote_static()
        .and_then(|key| <[u8; 32]>::try_from(key).ok())
        .ok_or_else(|| HandshakeError::Malformed("no static key".into()))?;
    let (entity, incarnation) = (EntityId::from_bytes(payload.entity), Incarnation::from_bytes(payload.incarnation));
    let text = signed_text(role, &static_key, incarnation, transcript);
    entity
        .verify(&text, &Signature::from_bytes(payload.signature))
        .map_err(|_| HandshakeError::BadSignature(entity))?;
    if payload.bulk_window < MIN_BULK_WINDOW {
        return Err(HandshakeError::Malformed(format!("a window of {} bytes", payload.bulk_window)));
    }
    let peer = ProvenPeer {
        entity,
        node: entity.node_id(),
        incarnation,
        static_key,
        max_payload: payload.max_payload,
        bulk_window: payload.bulk_window,
        minor: payload.minor.min(local_minor),
        features: payload.features,
    };
    Ok((peer, payload))
}

fn signed_text(role: Role, static_key: &[u8; 32], incarnation: Incarnation, transcript: &[u8]) -> Vec<u8> {
    let role: &[u8] = match role {
        Role::Dialler => b"dialler ",
        Role::Listener => b"listener",
    };
    [SIGNATURE_LABEL, role, static_key, &incarnation.to_bytes(), transcript].concat()
}

/// Tells a differing major version from a differing key, for the log. Costs a stranger's failed attempt a few hashes.
fn diagnose(local: &LocalIdentity, message: &[u8]) -> HandshakeError {
    let ours = local.major;
    let near = [ours.wrapping_sub(1), ours.wrapping_add(1), ours.wrapping_add(2)];
    let fits = |&major: &u8| {
        local
            .builder(major, Role::Listener)
            .and_then(|mut state| read(&mut state, message))
            .is_ok_and(|payload| payload.is_some())
    };
    match near.into_iter().find(fits) {
        Some(theirs) => HandshakeError::OtherMajor { ours, theirs },
        None => HandshakeError::NotAuthentic { ours },
    }
}

fn establish(state: HandshakeState, peer: ProvenPeer) -> Result<Established, HandshakeError> {
    let mut session = [0; 16];
    session.copy_from_slice(&state.get_handshake_hash()[..16]);
    let transport = Transport::new(state.into_transport_mode().map_err(noise)?);
    Ok(Established { peer, session: SessionId(session), transport })
}

fn write(state: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let mut message = vec![0; MAX_HANDSHAKE_MESSAGE];
    let len = state.write_message(payload, &mut message).map_err(noise)?;
    message.truncate(len);
    Ok(message)
}

/// `None` when the message does not authenticate.
fn read(state: &mut HandshakeState, message: &[u8]) -> Result<Option<Vec<u8>>, HandshakeError> {
    if message.len() > MAX_HANDSHAKE_MESSAGE {
        return Err(HandshakeError::Malformed(format!("{} bytes", message.len())));
    }
    let mut payload = vec![0; MAX_HANDSHAKE_MESSAGE];
    match state.read_message(message, &mut payload) {
        Ok(len) => {
            payload.truncate(len);
            Ok(Some(payload))
        }
        Err(snow::Error::Decrypt) => Ok(None),
        Err(snow::Error::Input) => Err(HandshakeError::Malformed(format!("{} bytes", message.len()))),
        Err(other) => Err(noise(other)),
    }
}

#[allow(clippy::needless_pass_by_value)] // for use in map_err
fn noise(error: snow::Error) -> HandshakeError {
    HandshakeError::Noise(error.to_string())
}

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Psk(…)")
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third, ..] = self.0;
        write!(f, "SessionId({first:02x}{second:02x}{third:02x}…)")
    }
}

impl fmt::Debug for Dialling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialling").finish_non_exhaustive()
    }
}

impl fmt::Debug for DialProven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialProven").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answering").finish_non_exhaustive()
    }
}
