//! Dialling: resolve, connect, shake hands, be welcomed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::error::{HandshakeFailure, MeshError};
use super::inner::{Inner, Opened};
use super::listen::HANDSHAKE_DEADLINE;
use super::relay;
use super::stream::{ByteStream, MessageReader, prepare, write_message};
use super::table::{ConnId, DialDecision, DialTarget, Way};
use crate::identity::NodeId;
use crate::session::{DialIntent, Dialling, Established, ProvenPeer, SessionError};
use crate::wire::frame::{MAX_MESSAGE, read_frame};
use crate::wire::session::{MAX_HANDSHAKE_MESSAGE, Refusal, SessionMessage};
use crate::wire::{Subprotocol, codec};

/// How long resolving and connecting may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How often a dial that lost to another session looks again before it gives up.
const ROUNDS: usize = 3;

/// How a dial ended that did not fail.
enum Dialled {
    Connected(NodeId),
    /// There is, or is about to be, another session with this peer.
    Elsewhere(NodeId),
}

/// A dial that the table knows of; given up when dropped.
struct Pending<'a> {
    inner: &'a Arc<Inner>,
    conn: ConnId,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let mut control = self.inner.control.lock();
        control.dials.remove(&self.conn);
        control.table.dial_ended(Instant::now(), self.conn);
        self.inner.apply(&mut control);
    }
}

/// Dials for a caller who waits for the session.
pub(super) async fn connect(inner: Arc<Inner>, target: DialTarget) -> Result<NodeId, MeshError> {
    for _ in 0..ROUNDS {
        let node = match dial(&inner, &target, None).await? {
            Dialled::Connected(node) => return Ok(node),
            Dialled::Elsewhere(node) => node,
        };
        match timeout(HANDSHAKE_DEADLINE, inner.session_with(node)).await {
            Ok(Ok(_)) => {
                let mut control = inner.control.lock();
                control.table.found_at(node, &target);
                // A session through a relay is not what was asked for.
                if target.way.via().is_some() || !control.table.is_relayed(node) {
                    return Ok(node);
                }
            }
            Ok(Err(_)) => return Err(MeshError::ShutDown),
            Err(_) => {}
        }
    }
    Err(failed(&target, HandshakeFailure::GivenUp))
}

/// Dials a peer that is known, in the background.
pub(super) async fn again(inner: Arc<Inner>, node: NodeId, target: DialTarget) {
    let result = tokio::select! {
        biased;
        () = inner.root.cancelled() => return,
        result = redial(&inner, node, &target) => result,
    };
    if let Err(error) = result {
        tracing::debug!(peer = %node, %error, "dialling again failed");
    }
    let mut control = inner.control.lock();
    control.table.redial_failed(Instant::now(), node);
    inner.apply(&mut control);
}

/// The way to a peer that a relay led to may lead through another one now.
async fn redial(inner: &Arc<Inner>, node: NodeId, target: &DialTarget) -> Result<(), MeshError> {
    match target.way {
        Way::Direct(_) => dial(inner, target, Some(node)).await.map(|_| ()),
        Way::Relayed { .. } => Box::pin(relay::reach(inner.clone(), node)).await,
    }
}

async fn dial(inner: &Arc<Inner>, target: &DialTarget, expected: Option<NodeId>) -> Result<Dialled, MeshError> {
    let result = match &target.way {
        Way::Direct(addr) => {
            let stream = tcp_connect(addr).await?;
            prepare(&stream).map_err(|error| failed(target, HandshakeFailure::Io(Arc::new(error))))?;
            timeout(HANDSHAKE_DEADLINE, shake_hands(inner, target, expected, stream)).await
        }
        Way::Relayed { by } => {
            let through = async {
                let node = target.pin_node.ok_or(MeshError::NoRelay { node: *by })?;
                shake_hands(inner, target, expected, relay::open(inner, *by, node).await?).await
            };
            timeout(HANDSHAKE_DEADLINE, through).await
        }
    };
    result.unwrap_or_else(|_| Err(failed(target, HandshakeFailure::TimedOut)))
}

async fn tcp_connect(addr: &str) -> Result<TcpStream, MeshError> {
    let address = || addr.to_owned();
    let connect = async {
        let resolved = lookup_host(addr).await.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => MeshError::InvalidArgument(format!("'{addr}' is not of the form host:port")),
            _ => MeshError::AddressNotFound { address: address(), source: Arc::new(error) },
        })?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for candidate in resolved {
            match TcpStream::connect(candidate).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(MeshError::Unreachable { address: address(), source: Arc::new(last) })
    };
    let late = || MeshError::Unreachable { address: address(), source: Arc::new(io::ErrorKind::TimedOut.into()) };
    timeout(CONNECT_DEADLINE, connect).await.unwrap_or_else(|_| Err(late()))
}

async fn shake_hands<S: ByteStream>(
    inner: &Arc<Inner>,
    target: &DialTarget,
    expected: Option<NodeId>,
    mut stream: S,
) -> Result<Dialled, MeshError> {
    let fail = |reason: HandshakeFailure| failed(target, reason);
    let broken = |error: io::Error| failed(target, HandshakeFailure::Io(Arc::new(error)));
    let mut messages = MessageReader::new();
    let (dialling, first) = Dialling::start(&inner.local).map_err(|error| fail(error.into()))?;
    write_message(&mut stream, &first).await.map_err(broken)?;
    let answer = match messages.message(&mut stream, MAX_HANDSHAKE_MESSAGE).await {
        Ok(Some(answer)) => answer,
        Ok(None) => return Err(fail(HandshakeFailure::Closed)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(fail(HandshakeFailure::Closed)),
        Err(error) => return Err(broken(error)),
    };
    let proven = dialling.read_answer(&answer).map_err(|error| fail(error.into()))?;
    let peer = proven.peer();
    let node = peer.node;
    check_pins(target, peer)?;
    inner.reached_over(&stream);

    let given_up = inner.root.child_token();
    let (conn, intent) = {
        let mut control = inner.control.lock();
        if control.leaving {
            return Err(MeshError::ShutDown);
        }
        let decision = control.table.dial_proven(Instant::now(), peer, target, expected);
        if let DialDecision::Proceed { conn, .. } = &decision {
            control.dials.insert(*conn, given_up.clone());
        }
        inner.apply(&mut control);
        match decision {
            DialDecision::Proceed { conn, intent } => (conn, intent),
            DialDecision::AlreadyConnected | DialDecision::AlreadyDialling => return Ok(Dialled::Elsewhere(node)),
            DialDecision::Refused(refusal) => return Err(fail(refusal.into())),
        }
    };
    let pending = Pending { inner, conn };
    let intent = DialIntent { ready: inner.is_started(), ..intent };
    let (last, mut established) = proven.finish(intent).map_err(|error| fail(error.into()))?;
    inner.control.lock().table.dial_finished(conn, established.session);
    let welcome = async {
        write_message(&mut stream, &last).await.map_err(broken)?;
        read_welcome(&mut stream, &mut messages, &mut established).await.map_err(fail)
    };
    let (resumed, ready) = match until(&given_up, welcome).await {
        Some(Ok(Welcome::Taken { resumed, ready })) => (resumed, ready),
        Some(Ok(Welcome::Refused(Refusal::Duplicate))) | None => return Ok(Dialled::Elsewhere(node)),
        Some(Ok(Welcome::Refused(refusal))) => return Err(fail(HandshakeFailure::RefusedThere(refusal))),
        Some(Err(error)) => return Err(error),
    };
    let link = {
        let mut control = inner.control.lock();
        control.dials.remove(&conn);
        if !control.table.dial_welcomed(Instant::now(), conn, resumed) {
            drop(control);
            return Ok(Dialled::Elsewhere(node));
        }
        inner.open(&mut control, conn, &established, target.way.clone(), None, ready)
    };
    drop(pending);
    inner.run(Opened { link, established, stream, messages });
    Ok(Dialled::Connected(node))
}

fn check_pins(target: &DialTarget, peer: &ProvenPeer) -> Result<(), MeshError> {
    let mismatch = |what| MeshError::PinMismatch { address: target.way.to_string(), what, got: peer.node };
    if target.pin_key.is_some_and(|key| key != peer.static_key) {
        return Err(mismatch("key"));
    }
    if target.pin_node.is_some_and(|node| node != peer.node) {
        return Err(mismatch("node id"));
    }
    Ok(())
}

enum Welcome {
    Taken { resumed: bool, ready: bool },
    Refused(Refusal),
}

async fn read_welcome<S: ByteStream>(
    stream: &mut S,
    messages: &mut MessageReader,
    established: &mut Established,
) -> Result<Welcome, HandshakeFailure> {
    let frame = match messages.message(stream, MAX_MESSAGE).await {
        Ok(Some(frame)) => frame,
        Ok(None) => return Err(HandshakeFailure::Closed),
        Err(error) => return Err(HandshakeFailure::Io(Arc::new(error))),
    };
    let plaintext = established.transport.opener().open(&frame)?;
    let (_, mut records) = read_frame(plaintext).map_err(SessionError::from)?;
    let (id, body) = records.next().transpose().map_err(SessionError::from)?.unwrap_or_default();
    let misfit = |why: String| HandshakeFailure::from(SessionError::Message(why));
    if id != Subprotocol::Session.id() {
        return Err(misfit("a session begins with a welcome".into()));
    }
    match codec::decode(&body).map_err(|error| misfit(error.to_string()))? {
        SessionMessage::Welcome { resumed, ready } => Ok(Welcome::Taken { resumed, ready: ready.unwrap_or(false) }),
        SessionMessage::Refused(refusal) => Ok(Welcome::Refused(refusal)),
        SessionMessage::Ready
        | SessionMessage::Ping(_)
        | SessionMessage::Pong(_)
        | SessionMessage::Credit(_)
        | SessionMessage::Goodbye => Err(misfit("a session begins with a welcome".into())),
    }
}

async fn until<T>(token: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = token.cancelled() => None,
        result = work => Some(result),
    }
}

fn failed(target: &DialTarget, reason: HandshakeFailure) -> MeshError {
    MeshError::HandshakeFailed { address: target.way.to_string(), reason }
}
