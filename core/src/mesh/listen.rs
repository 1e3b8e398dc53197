//! Listening: strangers in, proven peers out.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

use super::error::HandshakeFailure;
use super::inner::{Inner, Opened};
use super::limits::Permit;
use super::link::say;
use super::stream::{ByteStream, MessageReader, prepare, write_message};
use super::table::{PeerRefusal, Way};
use crate::session::{Answering, DialIntent, Established, FrameBuilder, HandshakeError, SendBuffer};
use crate::wire::Lane;
use crate::wire::session::{MAX_HANDSHAKE_MESSAGE, Refusal, SessionMessage};

/// How long a handshake may take.
pub(super) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Pause after the system could not give a connection, for example for want of file descriptors.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(50);
/// How long a refused peer may take to read that it was.
const REFUSAL_PATIENCE: Duration = Duration::from_millis(250);

/// Accepts connections until the node is shut down.
pub(super) async fn listen(inner: Arc<Inner>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = inner.root.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let Some(permit) = inner.half_open.begin(from.ip()) else {
                    inner.counters.count_half_open_refused();
                    tracing::debug!(%from, "too many half-open handshakes");
                    continue;
                };
                if let Err(error) = prepare(&stream) {
                    tracing::debug!(%from, %error, "cannot set a connection up");
                    continue;
                }
                inner.tasks.spawn(serve(inner.clone(), stream, Way::Direct(from.to_string()), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(AFTER_ACCEPT_ERROR).await;
            }
        }
    }
}

/// Shakes hands with whoever is at the other end, and makes a peer of it.
pub(super) async fn serve<S: ByteStream>(inner: Arc<Inner>, mut stream: S, from: Way, permit: Permit) {
    let mut messages = MessageReader::new();
    let shaken = tokio::select! {
        biased;
        () = inner.root.cancelled() => return,
        shaken = timeout(HANDSHAKE_DEADLINE, shake_hands(&inner, &mut stream, &mut messages)) => shaken,
    };
    drop(permit);
    let failure = match shaken {
        Ok(Ok((established, intent))) => {
            inner.reached_over(&stream);
            return admit(&inner, stream, messages, from, established, intent).await;
        }
        Ok(Err(failure)) => failure,
        Err(_) => HandshakeFailure::TimedOut,
    };
    inner.counters.count_handshake_failed();
    if matches!(failure, HandshakeFailure::Handshake(HandshakeError::OtherMajor { .. })) {
        tracing::warn!(%from, %failure, "handshake refused");
    } else {
        tracing::debug!(%from, %failure, "handshake refused");
    }
}

async fn shake_hands<S: ByteStream>(
    inner: &Inner,
    stream: &mut S,
    messages: &mut MessageReader,
) -> Result<(Established, DialIntent), HandshakeFailure> {
    let broken = |error| HandshakeFailure::Io(Arc::new(error));
    let first = messages.message(stream, MAX_HANDSHAKE_MESSAGE).await.map_err(broken)?;
    let (answering, answer) = Answering::start(&inner.local, &first.ok_or(HandshakeFailure::Closed)?)?;
    write_message(stream, &answer).await.map_err(broken)?;
    let last = messages.message(stream, MAX_HANDSHAKE_MESSAGE).await.map_err(broken)?;
    Ok(answering.read_last(&last.ok_or(HandshakeFailure::Closed)?)?)
}

async fn admit<S: ByteStream>(
    inner: &Arc<Inner>,
    stream: S,
    messages: MessageReader,
    from: Way,
    established: Established,
    intent: DialIntent,
) {
    let taken = {
        let mut control = inner.control.lock();
        if control.leaving {
            Err(Refusal::Leaving)
        } else {
            let (peer, session) = (&established.peer, established.session);
            let accepted = control.table.accept(Instant::now(), peer, session, intent, &from);
            let taken = accepted
                .map(|accepted| {
                    let resumed = Some(accepted.resumed);
                    inner.open(&mut control, accepted.conn, &established, from.clone(), resumed, intent.ready)
                })
                .map_err(told);
            inner.apply(&mut control);
            taken
        }
    };
    match taken {
        Ok(link) => inner.run(Opened { link, established, stream, messages }),
        Err(refusal) => {
            inner.counters.count_peer_refused();
            tracing::debug!(%from, peer = %established.peer.node, ?refusal, "peer refused");
            let work = refuse(stream, established, refusal);
            tokio::select! {
                () = inner.root.cancelled() => {}
                _ = timeout(REFUSAL_PATIENCE, work) => {}
            }
        }
    }
}

/// What a proven peer is told.
fn told(refusal: PeerRefusal) -> Refusal {
    match refusal {
        PeerRefusal::Myself | PeerRefusal::IdTaken => Refusal::IdTaken,
        PeerRefusal::OlderIncarnation => Refusal::OlderIncarnation,
        PeerRefusal::Full => Refusal::Full,
        PeerRefusal::Duplicate => Refusal::Duplicate,
    }
}

async fn refuse<S: ByteStream>(mut stream: S, established: Established, refusal: Refusal) {
    let (mut sealer, _) = established.transport.split();
    let (mut frame, mut out) = (FrameBuilder::new(), SendBuffer::new());
    frame.reset(Lane::Fast);
    say(&mut frame, SessionMessage::Refused(refusal));
    if sealer.seal(frame.plaintext(), &mut out).is_ok() && stream.write_all(out.as_slice()).await.is_ok() {
        let _ = stream.shutdown().await;
        // Closing with something unread would reset the connection and take the refusal with it.
        let mut rest = [0; 256];
        while matches!(stream.read(&mut rest).await, Ok(1..)) {}
    }
}
