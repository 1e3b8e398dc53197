//! Dialling: resolve, connect, shake hands, be welcomed.

use std::io;
use std::net::SocketAddr;
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
    let unreachable = |error: io::Error| MeshError::Unreachable { address: address(), source: Arc::new(error) };
    let deadline = Instant::now() + CONNECT_DEADLINE;
    let resolved = resolve(addr).await?;
    first_of(&resolved, deadline, TcpStream::connect).await.map_err(unreachable)
}

/// The addresses that a name has, if they can be learned in the time that a connection may take.
pub(super) async fn resolve(addr: &str) -> Result<Vec<SocketAddr>, MeshError> {
    let resolved = timeout(CONNECT_DEADLINE, lookup_host(addr)).await;
    let resolved = resolved.unwrap_or_else(|late| Err(late.into())).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => MeshError::Unreachable { address: addr.to_owned(), source: Arc::new(error) },
        io::ErrorKind::InvalidInput => MeshError::InvalidArgument(format!("'{addr}' is not of the form host:port")),
        _ => MeshError::AddressNotFound { address: addr.to_owned(), source: Arc::new(error) },
    })?;
    Ok(resolved.collect())
}

/// Tries one after the other. Each has its share of the time that is left, so one that says nothing does not use up that of
/// those behind it.
async fn first_of<T, F: Future<Output = io::Result<T>>>(
    candidates: &[SocketAddr],
    deadline: Instant,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (tried, candidate) in candidates.iter().enumerate() {
        let left = u32::try_from(candidates.len() - tried).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        match timeout(share, connect(*candidate)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn addresses_that_say_nothing_leave_time_for_those_behind_them() {
        let candidates: Vec<SocketAddr> = (1..=4).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
        let last_answers = |addr: SocketAddr| async move {
            if addr.port() < 4 {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(CONNECT_DEADLINE / 5).await;
            Ok(addr.port())
        };
        let began = Instant::now();
        let connected = timeout(CONNECT_DEADLINE, first_of(&candidates, began + CONNECT_DEADLINE, last_answers)).await;
        assert_eq!(connected.expect("in time").expect("it answers"), 4);
        let nobody = first_of(&candidates[..3], Instant::now() + CONNECT_DEADLINE, last_answers).await;
        assert_eq!(nobody.expect_err("nobody answers").kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() <= 2 * CONNECT_DEADLINE, "and no longer altogether");
        let none = first_of(&[], began, last_answers).await;
        assert_eq!(none.expect_err("nobody").kind(), io::ErrorKind::NotFound);
    }
}
