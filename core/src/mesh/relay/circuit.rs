//! One end of a circuit: a stream of bytes inside a session with the relay.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Relay;
use super::pieces::Pieces;
use crate::identity::NodeId;
use crate::mesh::stream::ByteStream;
use crate::wire::relay::{CIRCUIT_WINDOW, CircuitId};

/// Bytes that wait to be taken into frames: enough to fill the next ones, little enough that nothing waits long in it.
const OUTGOING: usize = 128 * 1024;

/// What both halves of an end share with the relay handler of this node.
#[derive(Debug)]
pub(super) struct Circuit {
    pub(super) id: CircuitId,
    /// The peer in the middle.
    pub(super) by: NodeId,
    pipe: Mutex<Pipe>,
}

#[derive(Debug)]
struct Pipe {
    standing: Standing,
    incoming: Pieces,
    /// Read and not yet given back as credit.
    owed: u64,
    /// The peer's writer is done.
    ended: bool,
    outgoing: BytesMut,
    credit: u64,
    finish: Finish,
    queued: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How far the circuit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The far end has not agreed yet; its own end needs no agreement.
    Asked,
    Accepted,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    No,
    Wanted,
    Said,
}

/// The peer in the middle, or the other end, broke a rule: the circuit is to be closed.
#[derive(Debug)]
pub(super) struct Broken;

impl Circuit {
    pub(super) fn new(id: CircuitId, by: NodeId) -> Self {
        let pipe = Pipe {
            standing: Standing::Asked,
            incoming: Pieces::default(),
            owed: 0,
            ended: false,
            outgoing: BytesMut::new(),
            credit: CIRCUIT_WINDOW,
            finish: Finish::No,
            queued: false,
            reader: None,
            writer: None,
        };
        Self { id, by, pipe: Mutex::new(pipe) }
    }

    /// The far end agreed.
    pub(super) fn accept(&self) {
        let mut pipe = self.pipe.lock();
        if pipe.standing == Standing::Asked {
            pipe.standing = Standing::Accepted;
        }
        wake(pipe.reader.take());
    }

    /// Resolves once the far end agreed; false when it did not.
    pub(super) async fn accepted(&self) -> bool {
        std::future::poll_fn(|context| {
            let mut pipe = self.pipe.lock();
            match pipe.standing {
                Standing::Asked => {
                    pipe.reader = Some(context.waker().clone());
                    Poll::Pending
                }
                Standing::Accepted => Poll::Ready(true),
                Standing::Closed => Poll::Ready(false),
            }
        })
        .await
    }

    /// Bytes arrived; none at all is the end of them.
    pub(super) fn arrived(&self, bytes: Bytes) -> Result<(), Broken> {
        let mut pipe = self.pipe.lock();
        if pipe.ended || (pipe.incoming.len() + bytes.len()) as u64 + pipe.owed > CIRCUIT_WINDOW {
            return Err(Broken);
        }
        if bytes.is_empty() {
            pipe.ended = true;
        } else {
            pipe.incoming.push(bytes);
        }
        wake(pipe.reader.take());
        Ok(())
    }

    /// The other end has read so much.
    pub(super) fn credited(&self, bytes: u64) -> Result<(), Broken> {
        let mut pipe = self.pipe.lock();
        if bytes > CIRCUIT_WINDOW - pipe.credit {
            return Err(Broken);
        }
        pipe.credit += bytes;
        wake(pipe.writer.take());
        Ok(())
    }

    /// Gives the next bytes of at most `room` to `write`, which says whether it took them; an empty slice is the end.
    /// True when more waits: then the circuit stays in the list.
    pub(super) fn take(&self, room: usize, write: impl FnOnce(&[u8]) -> bool) -> bool {
        let mut pipe = self.pipe.lock();
        if pipe.standing == Standing::Closed {
            return false;
        }
        let len = pipe.outgoing.len().min(room);
        if len > 0 || (pipe.outgoing.is_empty() && pipe.finish == Finish::Wanted) {
            if !write(&pipe.outgoing[..len]) {
                return true;
            }
            if len == 0 {
                pipe.finish = Finish::Said;
            }
            pipe.outgoing.advance(len);
            wake(pipe.writer.take());
        }
        pipe.queued = !pipe.outgoing.is_empty() || pipe.finish == Finish::Wanted;
        pipe.queued
    }

    /// Nothing goes through any more; what has arrived can still be read. False when it was closed before.
    pub(super) fn close(&self) -> bool {
        let mut pipe = self.pipe.lock();
        wake(pipe.reader.take());
        wake(pipe.writer.take());
        pipe.outgoing.clear();
        std::mem::replace(&mut pipe.standing, Standing::Closed) != Standing::Closed
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// Closes the circuit when both halves are gone.
struct Held {
    relay: Arc<Relay>,
    circuit: Arc<Circuit>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.relay.let_go(&self.circuit);
    }
}

/// An end of a circuit as the session sees it.
pub(in crate::mesh) struct CircuitStream {
    read: CircuitReader,
    write: CircuitWriter,
}

/// Its reading half.
pub(in crate::mesh) struct CircuitReader(Arc<Held>);

/// Its writing half.
pub(in crate::mesh) struct CircuitWriter(Arc<Held>);

impl CircuitStream {
    pub(super) fn new(relay: Arc<Relay>, circuit: Arc<Circuit>) -> Self {
        let held = Arc::new(Held { relay, circuit });
        Self { read: CircuitReader(held.clone()), write: CircuitWriter(held) }
    }

    pub(super) async fn accepted(&self) -> bool {
        self.read.0.circuit.accepted().await
    }
}

impl ByteStream for CircuitStream {
    type Read = CircuitReader;
    type Write = CircuitWriter;

    fn local_ip(&self) -> Option<IpAddr> {
        None
    }

    fn halves(self) -> (CircuitReader, CircuitWriter) {
        (self.read, self.write)
    }
}

impl AsyncRead for CircuitReader {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Held { relay, circuit } = &*self.0;
        let owed = {
            let mut pipe = circuit.pipe.lock();
            let before = into.remaining();
            while into.remaining() > 0
                && let Some(piece) = pipe.incoming.take(into.remaining())
            {
                into.put_slice(&piece);
            }
            let read = before - into.remaining();
            if read == 0 && before > 0 {
                if pipe.ended || pipe.standing == Standing::Closed {
                    return Poll::Ready(Ok(()));
                }
                pipe.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            pipe.owed += read as u64;
            if pipe.owed < CIRCUIT_WINDOW / 4 || pipe.standing == Standing::Closed {
                0
            } else {
                std::mem::take(&mut pipe.owed)
            }
        };
        if owed > 0 {
            relay.give_credit(circuit, owed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for CircuitWriter {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Held { relay, circuit } = &*self.0;
        let (len, news) = {
            let mut pipe = circuit.pipe.lock();
            if pipe.standing == Standing::Closed || pipe.finish != Finish::No {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let credit = usize::try_from(pipe.credit).unwrap_or(usize::MAX);
            let len = bytes.len().min(credit).min(OUTGOING - pipe.outgoing.len());
            if len == 0 && !bytes.is_empty() {
                pipe.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            pipe.outgoing.extend_from_slice(&bytes[..len]);
            pipe.credit -= len as u64;
            (len, len > 0 && !std::mem::replace(&mut pipe.queued, true))
        };
        if news {
            relay.has_data(circuit);
        }
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ready when all of it, and the end, has left in frames.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Held { relay, circuit } = &*self.0;
        let news = {
            let mut pipe = circuit.pipe.lock();
            if pipe.standing == Standing::Closed || pipe.finish == Finish::Said {
                return Poll::Ready(Ok(()));
            }
            pipe.finish = Finish::Wanted;
            pipe.writer = Some(context.waker().clone());
            !std::mem::replace(&mut pipe.queued, true)
        };
        if news {
            relay.has_data(circuit);
        }
        Poll::Pending
    }
}

impl AsyncRead for CircuitStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(context, into)
    }
}

impl AsyncWrite for CircuitStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.write).poll_flush(context))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(context)
    }
}
