//! Reads one session: decrypts frames, serves the session's own messages, hands records on.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::io::AsyncRead;

use super::handler::Record;
use super::inner::Inner;
use super::link::Link;
use super::stream::MessageReader;
use crate::session::{Opener, SessionError, check_message_len};
use crate::wire::frame::read_frame;
use crate::wire::session::SessionMessage;
use crate::wire::{Lane, Subprotocol, codec};

/// The reading half of a session.
pub(super) struct Reader<R> {
    pub(super) inner: Arc<Inner>,
    pub(super) link: Arc<Link>,
    pub(super) socket: R,
    pub(super) messages: MessageReader,
    pub(super) opener: Opener,
}

enum End {
    Closed,
    Goodbye,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads until the session ends.
    pub(super) async fn run(mut self) {
        let closed = self.link.closed.clone();
        let end = tokio::select! {
            biased;
            () = closed.cancelled() => return,
            end = self.read() => end,
        };
        match end {
            Ok(End::Closed) => self.inner.connection_ended(&self.link, "closed by the peer"),
            Ok(End::Goodbye) => self.inner.peer_said_goodbye(&self.link),
            Err(why) => self.inner.connection_ended(&self.link, &why),
        }
    }

    async fn read(&mut self) -> Result<End, String> {
        self.messages.trust();
        let mut records = Vec::new();
        loop {
            self.link.begin_reading();
            while let Some(len) = self.messages.next_len() {
                check_message_len(len).map_err(|error| error.to_string())?;
                let Some(message) = self.messages.next() else { break };
                let plaintext = self.opener.open(message).map_err(|error| error.to_string())?;
                self.messages.consume();
                if self.frame(plaintext, &mut records).map_err(|error| error.to_string())? {
                    return Ok(End::Goodbye);
                }
            }
            self.link.end_reading();
            let more = self.messages.fill(&mut self.socket).await;
            if !more.map_err(|error| format!("cannot read: {error}"))? {
                return Ok(End::Closed);
            }
            self.link.mark_heard();
            if self.link.watched.swap(false, Ordering::AcqRel) {
                self.inner.heard_again(&self.link);
            }
        }
    }

    /// Serves one frame; true when the peer said goodbye.
    fn frame(&self, plaintext: Bytes, records: &mut Vec<Record>) -> Result<bool, SessionError> {
        let (lane, bodies) = read_frame(plaintext)?;
        let mut goodbye = false;
        let mut arrived = 0;
        let mut ignored = 0;
        records.clear();
        for record in bodies {
            let (id, body) = record?;
            arrived += body.len();
            match Subprotocol::from_id(id) {
                Some(Subprotocol::Session) => {
                    ignored += body.len();
                    goodbye |= self.session_message(&body)?;
                }
                Some(subprotocol) => records.push(Record { subprotocol, body }),
                None => {
                    // Of a newer minor version.
                    tracing::debug!(peer = %self.link.node, id, "record of an unknown subprotocol skipped");
                    self.inner.counters.count_unhandled();
                    ignored += body.len();
                }
            }
        }
        match lane {
            Lane::Bulk => {
                self.link.bulk_arrived(arrived)?;
                if ignored > 0 {
                    self.link.bulk_consumed(ignored);
                }
            }
            // What a move says about itself does not slow it down.
            Lane::Fast => {
                if records.iter().any(|record| record.subprotocol != Subprotocol::Migration) {
                    self.link.fast_arrived();
                }
            }
        }
        if !records.is_empty() {
            self.hand_on(lane, records);
        }
        Ok(goodbye)
    }

    fn hand_on(&self, lane: Lane, records: &mut Vec<Record>) {
        let gate = self.link.gate.lock();
        if !*gate {
            return;
        }
        self.inner.handlers.read().records(self.link.node, lane, records, |record, answer| {
            self.inner.counters.count_unhandled();
            if lane == Lane::Bulk {
                self.link.bulk_consumed(record.body.len());
            }
            let Some(body) = answer else {
                tracing::debug!(peer = %self.link.node, subprotocol = ?record.subprotocol, "record without handler");
                return;
            };
            if !self.link.answer(record.subprotocol, body) {
                tracing::debug!(peer = %self.link.node, "answer dropped: too many wait");
            }
        });
    }

    fn session_message(&self, body: &[u8]) -> Result<bool, SessionError> {
        let message = codec::decode(body).map_err(|error| SessionError::Message(error.to_string()))?;
        match message {
            SessionMessage::Ready => {
                self.inner.peer_ready(&self.link);
                self.link.wake();
            }
            SessionMessage::Ping(number) => self.link.pong(number),
            SessionMessage::Pong(number) => self.link.ponged(number),
            SessionMessage::Credit(bytes) => self.link.credit_returned(bytes)?,
            SessionMessage::Goodbye => return Ok(true),
            SessionMessage::Welcome { .. } | SessionMessage::Refused(_) => {
                return Err(SessionError::Message("a welcome in the middle of a session".into()));
            }
        }
        Ok(false)
    }
}
