//! Writes one session: what the layers have is encrypted at the moment it is sent.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::inner::Inner;
use super::link::Link;
use crate::session::{FrameBuilder, Sealer, SendBuffer, SessionError};
use crate::wire::Lane;

/// Fast frames gathered for one write; beyond this a bulk frame gets its turn.
const GATHER: usize = 128 * 1024;

/// The writing half of a session.
pub(super) struct Writer<W> {
    pub(super) inner: Arc<Inner>,
    pub(super) link: Arc<Link>,
    pub(super) socket: W,
    pub(super) sealer: Sealer,
}

struct Scratch {
    frame: FrameBuilder,
    out: SendBuffer,
    turns: Turns,
}

/// How often the handlers were asked. Another one is asked first each time, so that none finds every frame full: in each lane,
/// for the lanes often take turns themselves.
#[derive(Default)]
struct Turns {
    fast: usize,
    bulk: usize,
}

impl Turns {
    fn next(&mut self, lane: Lane) -> usize {
        let turn = match lane {
            Lane::Fast => &mut self.fast,
            Lane::Bulk => &mut self.bulk,
        };
        *turn = turn.wrapping_add(1);
        *turn
    }
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    /// Writes until the session ends.
    pub(super) async fn run(mut self) {
        let closed = self.link.closed.clone();
        tokio::select! {
            biased;
            () = closed.cancelled() => {}
            result = self.write() => match result {
                // The goodbye is said: the peer closes, or the reader's patience ends.
                Ok(()) => {}
                Err(error) => self.inner.connection_ended(&self.link, &format!("cannot write: {error}")),
            },
        }
    }

    async fn write(&mut self) -> io::Result<()> {
        let mut scratch = Scratch { frame: FrameBuilder::new(), out: SendBuffer::new(), turns: Turns::default() };
        loop {
            let more = self.gather(&mut scratch).map_err(io::Error::other)?;
            if !scratch.out.is_empty() {
                self.write_all(scratch.out.as_slice()).await?;
                self.link.mark_sent();
                scratch.out.clear();
            }
            if self.link.said_goodbye() {
                return self.socket.shutdown().await;
            }
            if !more {
                self.link.woken().await;
            }
        }
    }

    /// A peer that takes nothing for the session timeout is as good as gone, whatever is heard of it.
    async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let stuck = |_| io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing");
            match timeout(self.inner.session_timeout, self.socket.write(bytes)).await.map_err(stuck)?? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => bytes = &bytes[written..],
            }
        }
        Ok(())
    }

    /// Seals what is to be written next: all fast records there are, within reason, then one bulk frame, so that no fast
    /// record waits for more than that; several while nothing fast flows. True when there is more to do at once.
    fn gather(&mut self, scratch: &mut Scratch) -> Result<bool, SessionError> {
        let Scratch { frame, out, turns } = scratch;
        let mut more = loop {
            frame.reset(Lane::Fast);
            let alone = self.link.write_control(frame);
            if self.link.said_goodbye() {
                self.sealer.seal(frame.plaintext(), out)?;
                return Ok(false);
            }
            let more = alone || self.fill(Lane::Fast, frame, turns);
            if frame.is_empty() {
                break false;
            }
            self.sealer.seal(frame.plaintext(), out)?;
            if !more || out.len() >= GATHER {
                break more;
            }
        };
        let burst = out.len() as u64 + self.link.bulk_burst();
        while self.link.may_send_bulk() {
            frame.reset(Lane::Bulk);
            let more_bulk = self.fill(Lane::Bulk, frame, turns);
            if frame.is_empty() {
                break;
            }
            self.link.spend_bulk(frame.bodies());
            self.sealer.seal(frame.plaintext(), out)?;
            if !more_bulk || out.len() as u64 >= burst {
                more |= more_bulk;
                break;
            }
        }
        Ok(more)
    }

    fn fill(&self, lane: Lane, frame: &mut FrameBuilder, turns: &mut Turns) -> bool {
        if !self.link.flows() {
            return false;
        }
        // Behind a closed gate another session may have begun: what is written here would be lost to it.
        let gate = self.link.gate.lock();
        if !*gate {
            return false;
        }
        self.inner.handlers.read().fill(self.link.node, lane, frame, turns.next(lane))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_that_take_turns_do_not_always_ask_the_same_handlers_first() {
        let mut turns = Turns::default();
        let first = |lane, turns: &mut Turns| turns.next(lane) % 2;
        let asked: Vec<_> = (0..4).map(|_| [Lane::Fast, Lane::Bulk].map(|lane| first(lane, &mut turns))).collect();
        assert_eq!(asked, [[1, 1], [0, 0], [1, 1], [0, 0]]);
    }
}
