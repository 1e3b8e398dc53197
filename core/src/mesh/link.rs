//! What the tasks of one session share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::table::{ConnId, Way};
use crate::identity::NodeId;
use crate::session::{BULK_WINDOW, BulkPace, FrameBuilder, ReceiveCredit, SendCredit, SessionError};
use crate::wire::session::SessionMessage;
use crate::wire::{Subprotocol, codec};

/// Answers to unhandled records that may wait; more are dropped, for nobody relies on them.
const MAX_ANSWERS: usize = 64;
/// Bytes of the same.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// One session as seen by its reader, its writer and the rest of the node.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) conn: ConnId,
    pub(super) node: NodeId,
    /// How it reaches the peer.
    pub(super) way: Way,
    pub(super) closed: CancellationToken,
    /// Signals the writer. Keeps one permit, so a signal is never lost.
    wake: Notify,
    epoch: Instant,
    heard: AtomicU64,
    sent: AtomicU64,
    /// Suspected for its silence: the next thing heard is news.
    pub(super) watched: AtomicBool,
    /// The peer's subprotocols run.
    pub(super) peer_ready: AtomicBool,
    /// The layers above were told that records flow.
    flows: AtomicBool,
    rtt_micros: AtomicU64,
    /// Held while records are handed on; once false, none are.
    pub(super) gate: Mutex<bool>,
    control: Mutex<Control>,
    bulk_out: Mutex<BulkOut>,
    receive_credit: Mutex<ReceiveCredit>,
    /// The reader is at work on what it read, and gives credit back at the end of it.
    reading: AtomicBool,
}

/// What bounds the bulk that leaves.
#[derive(Debug)]
struct BulkOut {
    credit: SendCredit,
    pace: BulkPace,
}

/// Session messages that wait to be sent. Each kind takes one place, so a peer cannot make this grow.
#[derive(Debug, Default)]
struct Control {
    welcome: Option<bool>,
    ready: bool,
    ping: Option<u64>,
    pong: Option<u64>,
    answers: VecDeque<(Subprotocol, Vec<u8>)>,
    answer_bytes: usize,
    goodbye: Goodbye,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Goodbye {
    #[default]
    No,
    Wanted,
    Said,
}

impl Link {
    pub(super) fn new(conn: ConnId, node: NodeId, way: Way, peer_window: u64, closed: CancellationToken) -> Self {
        Self {
            conn,
            node,
            way,
            closed,
            wake: Notify::new(),
            epoch: Instant::now(),
            heard: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            watched: AtomicBool::new(false),
            peer_ready: AtomicBool::new(false),
            flows: AtomicBool::new(false),
            rtt_micros: AtomicU64::new(u64::MAX),
            gate: Mutex::new(true),
            control: Mutex::default(),
            bulk_out: Mutex::new(BulkOut { credit: SendCredit::new(peer_window), pace: BulkPace::new() }),
            receive_credit: Mutex::new(ReceiveCredit::new(BULK_WINDOW)),
            reading: AtomicBool::new(false),
        }
    }

    /// A session of this node's own, without a relay.
    pub(super) fn is_direct(&self) -> bool {
        self.way.via().is_none()
    }

    /// Whether the peer said on this session that it was started.
    pub(super) fn says_ready(&self) -> bool {
        self.peer_ready.load(Ordering::Acquire)
    }

    /// All layers above know that records flow, so what leads is there to be written first.
    pub(super) fn let_flow(&self) {
        self.flows.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether records of the layers above may be written.
    pub(super) fn flows(&self) -> bool {
        self.flows.load(Ordering::Acquire)
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Ends the session: when this returns, no record of it is handed on any more.
    pub(super) fn close(&self) {
        *self.gate.lock() = false;
        self.closed.cancel();
    }

    pub(super) fn mark_heard(&self) {
        self.heard.store(self.micros(Instant::now()), Ordering::Relaxed);
    }

    pub(super) fn mark_sent(&self) {
        self.sent.store(self.micros(Instant::now()), Ordering::Relaxed);
    }

    pub(super) fn activity(&self) -> (Instant, Instant) {
        let at = |micros: &AtomicU64| self.epoch + Duration::from_micros(micros.load(Ordering::Relaxed));
        (at(&self.heard), at(&self.sent))
    }

    pub(super) fn rtt(&self) -> Option<Duration> {
        Some(self.rtt_micros.load(Ordering::Relaxed)).filter(|&micros| micros != u64::MAX).map(Duration::from_micros)
    }

    pub(super) fn welcome(&self, resumed: bool) {
        self.control.lock().welcome = Some(resumed);
        self.wake();
    }

    pub(super) fn say_ready(&self) {
        self.control.lock().ready = true;
        self.wake();
    }

    pub(super) fn ping(&self) {
        self.control.lock().ping = Some(self.micros(Instant::now()));
        self.wake();
    }

    /// Hands nothing on any more, and has the writer end with a goodbye.
    pub(super) fn say_goodbye(&self) {
        *self.gate.lock() = false;
        let mut control = self.control.lock();
        if control.goodbye == Goodbye::No {
            control.goodbye = Goodbye::Wanted;
        }
        drop(control);
        self.wake();
    }

    pub(super) fn said_goodbye(&self) -> bool {
        self.control.lock().goodbye == Goodbye::Said
    }

    pub(super) fn pong(&self, number: u64) {
        self.control.lock().pong = Some(number);
        self.wake();
    }

    pub(super) fn ponged(&self, number: u64) {
        let now = self.micros(Instant::now());
        if let Some(rtt) = now.checked_sub(number) {
            self.rtt_micros.store(rtt, Ordering::Relaxed);
        }
    }

    /// Keeps an answer for sending; false when too many wait.
    pub(super) fn answer(&self, subprotocol: Subprotocol, body: Vec<u8>) -> bool {
        let mut control = self.control.lock();
        if control.answers.len() >= MAX_ANSWERS || control.answer_bytes + body.len() > MAX_ANSWER_BYTES {
            return false;
        }
        control.answer_bytes += body.len();
        control.answers.push_back((subprotocol, body));
        drop(control);
        self.wake();
        true
    }

    pub(super) fn bulk_arrived(&self, bytes: usize) -> Result<(), SessionError> {
        self.receive_credit.lock().arrived(bytes as u64)
    }

    pub(super) fn bulk_consumed(&self, bytes: usize) {
        let owes = self.receive_credit.lock().consumed(bytes as u64);
        if owes && !self.reading.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Fast records of a layer above arrived.
    pub(super) fn fast_arrived(&self) {
        self.bulk_out.lock().pace.fast(Instant::now());
    }

    /// The reader begins with what it read: credit that comes free meanwhile is given back together.
    pub(super) fn begin_reading(&self) {
        self.reading.store(true, Ordering::SeqCst);
    }

    /// The reader waits for more.
    pub(super) fn end_reading(&self) {
        self.reading.store(false, Ordering::SeqCst);
        if self.receive_credit.lock().owes() {
            self.wake();
        }
    }

    pub(super) fn bulk_used(&self) -> u64 {
        self.receive_credit.lock().used()
    }

    pub(super) fn credit_returned(&self, bytes: u64) -> Result<(), SessionError> {
        let mut bulk = self.bulk_out.lock();
        bulk.credit.refill(bytes)?;
        bulk.pace.returned(bytes, Instant::now());
        drop(bulk);
        self.wake();
        Ok(())
    }

    pub(super) fn may_send_bulk(&self) -> bool {
        let bulk = self.bulk_out.lock();
        bulk.credit.has_room() && bulk.pace.has_room(Instant::now())
    }

    /// Bulk bytes worth gathering for one write.
    pub(super) fn bulk_burst(&self) -> u64 {
        self.bulk_out.lock().pace.burst(Instant::now())
    }

    pub(super) fn spend_bulk(&self, bytes: usize) {
        let mut bulk = self.bulk_out.lock();
        bulk.credit.spend(bytes as u64);
        bulk.pace.sent(bytes as u64, Instant::now());
    }

    /// Writes what the session itself has to say into a fast frame. The welcome gets a frame of its own: true when the
    /// frame is to be sent before anything else is written.
    pub(super) fn write_control(&self, frame: &mut FrameBuilder) -> bool {
        let mut control = self.control.lock();
        if let Some(resumed) = control.welcome.take() {
            say(frame, SessionMessage::Welcome { resumed, ready: Some(control.ready) });
            return true;
        }
        if std::mem::take(&mut control.ready) {
            say(frame, SessionMessage::Ready);
        }
        if let Some(number) = control.pong.take() {
            say(frame, SessionMessage::Pong(number));
        }
        if let Some(number) = control.ping.take() {
            say(frame, SessionMessage::Ping(number));
        }
        if let Some(owed) = self.receive_credit.lock().take_owed() {
            say(frame, SessionMessage::Credit(owed));
        }
        while let Some((subprotocol, body)) = control.answers.pop_front() {
            control.answer_bytes -= body.len();
            if frame.record(subprotocol, &mut |out| out.extend_from_slice(&body)).is_none() {
                control.answer_bytes += body.len();
                control.answers.push_front((subprotocol, body));
                return true;
            }
        }
        if control.goodbye == Goodbye::Wanted {
            control.goodbye = Goodbye::Said;
            say(frame, SessionMessage::Goodbye);
            return true;
        }
        false
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX)
    }
}

/// Session messages are a few bytes and come first, so they always fit.
pub(super) fn say(frame: &mut FrameBuilder, message: SessionMessage) {
    let written = frame.record(Subprotocol::Session, &mut |out| codec::encode_into(&message, out));
    debug_assert!(written.is_some(), "session messages fit into an empty frame");
}
