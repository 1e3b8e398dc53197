//! What a session runs on, and length-prefixed messages on it.

use std::io;
use std::net::IpAddr;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::wire::frame::PREFIX_LEN;

/// Read at once when much is coming.
const READ_AHEAD: usize = 256 * 1024;
/// Buffer of a connection that has not proven anything yet.
const READ_FIRST: usize = 2 * 1024;
/// Unsent bytes that the kernel may hold for one connection: more would only put bulk data in front of fast records.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_LOW_WATER: u32 = 128 * 1024;

/// A stream of bytes in both directions: a connection, or a circuit through a relay.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The reading half.
    type Read: AsyncRead + Send + Unpin + 'static;
    /// The writing half.
    type Write: AsyncWrite + Send + Unpin + 'static;

    /// The address of this machine that it is connected to, if it is connected by itself.
    fn local_ip(&self) -> Option<IpAddr>;

    /// Divides it for two tasks.
    fn halves(self) -> (Self::Read, Self::Write);
}

impl ByteStream for TcpStream {
    type Read = OwnedReadHalf;
    type Write = OwnedWriteHalf;

    fn local_ip(&self) -> Option<IpAddr> {
        self.local_addr().ok().map(|local| local.ip())
    }

    fn halves(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        self.into_split()
    }
}

/// Reads messages; keeps what arrived beyond the current one.
#[derive(Debug)]
pub(super) struct MessageReader {
    buffer: BytesMut,
    ahead: usize,
}

impl MessageReader {
    pub(super) fn new() -> Self {
        Self { buffer: BytesMut::new(), ahead: READ_FIRST }
    }

    /// The peer is proven: much may be read at once.
    pub(super) fn trust(&mut self) {
        self.ahead = READ_AHEAD;
    }

    /// The length of the next message, once its prefix is here.
    pub(super) fn next_len(&self) -> Option<usize> {
        let prefix = self.buffer.get(..PREFIX_LEN)?;
        Some(usize::from(u16::from_le_bytes([prefix[0], prefix[1]])))
    }

    /// The next message, once it is here whole.
    pub(super) fn next(&self) -> Option<&[u8]> {
        self.buffer.get(PREFIX_LEN..PREFIX_LEN + self.next_len()?)
    }

    /// Forgets the message that [`next`](Self::next) gave.
    pub(super) fn consume(&mut self) {
        if let Some(len) = self.next().map(<[u8]>::len) {
            self.buffer.advance(PREFIX_LEN + len);
        }
    }

    /// Waits for more bytes; false at the end of the stream.
    pub(super) async fn fill<R: AsyncRead + Unpin>(&mut self, from: &mut R) -> io::Result<bool> {
        if self.buffer.capacity() - self.buffer.len() < self.ahead / 4 {
            self.buffer.reserve(self.ahead);
        }
        Ok(from.read_buf(&mut self.buffer).await? > 0)
    }

    /// Waits for a whole message of at most `limit` bytes; `None` when the stream ends or the message is longer.
    pub(super) async fn message<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        limit: usize,
    ) -> io::Result<Option<Vec<u8>>> {
        loop {
            if self.next_len().is_some_and(|len| len > limit) {
                return Ok(None);
            }
            if let Some(message) = self.next().map(<[u8]>::to_vec) {
                self.consume();
                return Ok(Some(message));
            }
            if !self.fill(from).await? {
                return Ok(None);
            }
        }
    }
}

/// Writes one handshake message.
pub(super) async fn write_message<W: AsyncWrite + Unpin>(to: &mut W, message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut bytes = Vec::with_capacity(PREFIX_LEN + message.len());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(message);
    to.write_all(&bytes).await
}

/// Sets a fresh connection up: no waiting for more to send, little unsent data in the kernel.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_LOW_WATER)?;
    Ok(())
}
