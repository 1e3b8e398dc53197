//! Sessions with nodes that only a common peer can reach.
//!
//! A relayed session is a session like any other, but for the stream that it runs on: a [circuit](circuit) through a peer
//! that has a session with both ends. The peer in the middle ([`switch`]) forwards bytes that it can neither read nor
//! change: the handshake inside the circuit proves the ends to each other, and the first altered, missing or repeated
//! byte ends the session. [`reach`] finds a peer that can and dials through it.
//!
//! [`Relay`] is the handler of the subprotocol on every node, whichever part it has. Its lock comes after all others of
//! the mesh; a circuit's comes after that.

mod circuit;
mod outbox;
mod pieces;
mod reach;
pub mod switch;
#[cfg(feature = "test-hooks")]
mod tamper;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use self::circuit::Circuit;
pub(super) use self::circuit::CircuitStream;
use self::outbox::{Outbox, Say};
pub(super) use self::reach::{open, reach};
use self::switch::{Misfit, Piece, Switch};
#[cfg(feature = "test-hooks")]
pub use self::tamper::Tamper;
use super::handler::{PeerEvent, Record, RecordSink, SubprotocolHandler};
use super::inner::Inner;
use super::limits::Permit;
use super::listen;
use super::table::Way;
use crate::identity::NodeId;
use crate::wire::relay::{CircuitId, DATA_OVERHEAD, RelayMessage};
use crate::wire::{Lane, Subprotocol, codec};

/// Room that data must find in a frame to be worth a record.
const WORTHWHILE: usize = 4 * 1024;

/// Circuits that end here, circuits that go through here, and the questions who could relay.
pub(super) struct Relay {
    inner: Weak<Inner>,
    /// Whether this node relays for others.
    forwards: bool,
    state: Mutex<State>,
}

struct State {
    outboxes: HashMap<NodeId, Outbox>,
    switch: Switch,
    /// Circuits that end here, by the peer in the middle.
    ends: HashMap<(NodeId, CircuitId), Arc<Circuit>>,
    questions: HashMap<NodeId, Vec<Question>>,
    next_number: u64,
    #[cfg(feature = "test-hooks")]
    tamper: Option<Tamper>,
}

/// Somebody here wants to know who could relay to a node.
struct Question {
    waiting_for: Vec<NodeId>,
    tell: mpsc::UnboundedSender<NodeId>,
}

impl State {
    /// Enters a message; false when too much waits for that peer.
    fn say(&mut self, to: NodeId, say: Say) -> bool {
        self.outboxes.entry(to).or_default().say(say)
    }

    fn has_data(&mut self, to: NodeId, circuit: CircuitId) {
        self.outboxes.entry(to).or_default().data.push_back(circuit);
    }

    /// A circuit with that peer is gone: it does not wait for its turn any more, however long the peer takes nothing.
    fn forget_data(&mut self, node: NodeId, circuit: CircuitId) {
        if let Some(outbox) = self.outboxes.get_mut(&node) {
            outbox.data.retain(|waiting| *waiting != circuit);
        }
    }

    /// Takes an end of a circuit out.
    fn take_end(&mut self, by: NodeId, circuit: CircuitId) -> Option<Arc<Circuit>> {
        let end = self.ends.remove(&(by, circuit))?;
        self.forget_data(by, circuit);
        Some(end)
    }

    /// Closes a circuit that goes through here, telling its ends but for `but`; gives who is to be woken.
    fn close_hop(&mut self, circuit: CircuitId, but: Option<NodeId>) -> Vec<NodeId> {
        let mut told = Vec::new();
        for end in self.switch.close(circuit).into_iter().flatten() {
            self.forget_data(end, circuit);
            if Some(end) != but && self.say(end, Say::Close(circuit)) {
                told.push(end);
            }
        }
        told
    }

    /// Takes bytes of a circuit that goes through here; gives who is to be woken.
    fn forward(&mut self, circuit: CircuitId, from: NodeId, bytes: Bytes) -> Vec<NodeId> {
        match self.switch.data(circuit, from, bytes, Instant::now()) {
            Ok(Some(to)) => {
                self.has_data(to, circuit);
                vec![to]
            }
            Ok(None) | Err(Misfit::Unknown) => Vec::new(),
            Err(Misfit::Refused) => self.close_hop(circuit, None),
        }
    }

    /// A peer answered a question, or never will.
    fn answered(&mut self, node: NodeId, by: NodeId, yes: bool) {
        let Some(questions) = self.questions.get_mut(&node) else { return };
        questions.retain_mut(|question| {
            if let Some(at) = question.waiting_for.iter().position(|&peer| peer == by) {
                question.waiting_for.swap_remove(at);
                if yes {
                    let _ = question.tell.send(by);
                }
            }
            !question.waiting_for.is_empty() && !question.tell.is_closed()
        });
        if questions.is_empty() {
            self.questions.remove(&node);
        }
    }
}

impl Relay {
    /// `first_number` is random: what is left of circuits of an earlier life is not taken for one of this.
    pub(super) fn new(inner: Weak<Inner>, forwards: bool, first_number: u64) -> Arc<Self> {
        let state = State {
            outboxes: HashMap::new(),
            switch: Switch::default(),
            ends: HashMap::new(),
            questions: HashMap::new(),
            next_number: first_number,
            #[cfg(feature = "test-hooks")]
            tamper: None,
        };
        Arc::new(Self { inner, forwards, state: Mutex::new(state) })
    }

    /// The session with a peer is gone: so is all that went through it.
    pub(super) fn session_gone(&self, node: NodeId) {
        let mut wakes = Vec::new();
        {
            let mut state = self.state.lock();
            state.outboxes.remove(&node);
            for (circuit, other) in state.switch.peer_gone(node) {
                state.forget_data(other, circuit);
                state.say(other, Say::Close(circuit));
                wakes.push(other);
            }
            for (_, circuit) in state.ends.extract_if(|(by, _), _| *by == node) {
                circuit.close();
            }
            let asked: Vec<NodeId> = state.questions.keys().copied().collect();
            for about in asked {
                state.answered(about, node, false);
            }
        }
        self.wake(wakes);
    }

    /// Closes circuits through here that nothing has gone through for `limit`.
    pub(super) fn close_idle(&self, limit: Duration) {
        let mut wakes = Vec::new();
        {
            let mut state = self.state.lock();
            for circuit in state.switch.idle(Instant::now(), limit) {
                wakes.extend(state.close_hop(circuit, None));
            }
        }
        self.wake(wakes);
    }

    /// Circuits that go through here.
    pub(super) fn circuits(&self) -> usize {
        self.state.lock().switch.len()
    }

    /// Asks `peers` who has a session with `node`. Ends when all have answered.
    fn ask(&self, node: NodeId, peers: &[NodeId]) -> mpsc::UnboundedReceiver<NodeId> {
        let (tell, told) = mpsc::unbounded_channel();
        {
            let mut state = self.state.lock();
            let mut waiting_for = peers.to_vec();
            waiting_for.retain(|&peer| state.say(peer, Say::Ask(node)));
            // A peer that never answers leaves nothing behind but the last question.
            state.questions.retain(|_, questions| {
                questions.retain(|question| !question.tell.is_closed());
                !questions.is_empty()
            });
            if !waiting_for.is_empty() {
                state.questions.entry(node).or_default().push(Question { waiting_for, tell });
            }
        }
        self.wake(peers.iter().copied());
        told
    }

    /// Begins a circuit to `to` through the peer `by`.
    fn open(self: &Arc<Self>, by: NodeId, to: NodeId) -> Option<CircuitStream> {
        let circuit = {
            let mut state = self.state.lock();
            let id = CircuitId { opener: self.inner.upgrade()?.me(), number: state.next_number };
            state.next_number = state.next_number.wrapping_add(1);
            if !state.say(by, Say::Open(id, to)) {
                return None;
            }
            let circuit = Arc::new(Circuit::new(id, by));
            state.ends.insert((by, id), circuit.clone());
            circuit
        };
        self.wake([by]);
        Some(CircuitStream::new(self.clone(), circuit))
    }

    /// Nobody here uses this end any more.
    fn let_go(&self, circuit: &Circuit) {
        let told = {
            let mut state = self.state.lock();
            let known = state.take_end(circuit.by, circuit.id).is_some();
            circuit.close() && known && state.say(circuit.by, Say::Close(circuit.id))
        };
        if told {
            self.wake([circuit.by]);
        }
    }

    fn give_credit(&self, circuit: &Circuit, bytes: u64) {
        {
            let mut state = self.state.lock();
            if state.ends.contains_key(&(circuit.by, circuit.id)) {
                state.say(circuit.by, Say::Credit(circuit.id, bytes));
            }
        }
        self.wake([circuit.by]);
    }

    fn has_data(&self, circuit: &Circuit) {
        {
            let mut state = self.state.lock();
            if state.ends.contains_key(&(circuit.by, circuit.id)) {
                state.has_data(circuit.by, circuit.id);
            }
        }
        self.wake([circuit.by]);
    }

    fn wake(&self, nodes: impl IntoIterator<Item = NodeId>) {
        let Some(inner) = self.inner.upgrade() else { return };
        for node in nodes {
            if let Some(link) = inner.link(node) {
                link.wake();
            }
        }
    }

    /// One message; gives who is to be woken.
    fn on_message(self: &Arc<Self>, from: NodeId, body: &Bytes, inner: &Arc<Inner>) -> Vec<NodeId> {
        let mut arrived = None;
        let wakes = self.act_on(from, body, inner, &mut arrived);
        if let Some((stream, permit)) = arrived {
            // Without the lock: a runtime that shuts down drops the task at once, and the stream takes the lock then.
            let way = Way::Relayed { by: from };
            inner.tasks.spawn_on(listen::serve(inner.clone(), stream, way, permit), &inner.runtime);
        }
        wakes
    }

    /// The same but for serving a circuit to this node that `arrived`.
    fn act_on(
        self: &Arc<Self>,
        from: NodeId,
        body: &Bytes,
        inner: &Arc<Inner>,
        arrived: &mut Option<(CircuitStream, Permit)>,
    ) -> Vec<NodeId> {
        let message = match codec::decode::<RelayMessage<'_>>(body) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(peer = %from, %error, "relay message that cannot be read");
                return Vec::new();
            }
        };
        let now = Instant::now();
        let mut state = self.state.lock();
        let state = &mut *state;
        let wake_if = |told: bool, node: NodeId| if told { vec![node] } else { Vec::new() };
        match message {
            RelayMessage::Ask { node } => {
                let yes = self.forwards && node != from && inner.may_relay_to(node);
                wake_if(state.say(from, Say::Answer(node, yes)), from)
            }
            RelayMessage::Answer { node, yes } => {
                state.answered(node, from, yes);
                Vec::new()
            }
            RelayMessage::Open { circuit, to } => {
                #[cfg(feature = "test-hooks")]
                let to = state.tamper.as_ref().and_then(|tamper| tamper.redirect).unwrap_or(to);
                let fits = self.forwards && circuit.opener == from && inner.may_relay_to(to);
                if fits && state.switch.open(circuit, to, now).is_ok() {
                    if state.say(to, Say::Incoming(circuit)) {
                        return vec![to];
                    }
                    state.switch.close(circuit);
                }
                wake_if(state.say(from, Say::Close(circuit)), from)
            }
            RelayMessage::Incoming { circuit } => {
                let known = state.ends.contains_key(&(from, circuit)) || circuit.opener == inner.me();
                let permit = (!known).then(|| inner.half_open.begin(from)).flatten();
                let Some(permit) = permit else {
                    inner.counters.count_half_open_refused();
                    return wake_if(state.say(from, Say::Close(circuit)), from);
                };
                let end = Arc::new(Circuit::new(circuit, from));
                state.ends.insert((from, circuit), end.clone());
                *arrived = Some((CircuitStream::new(self.clone(), end), permit));
                wake_if(state.say(from, Say::Accepted(circuit)), from)
            }
            RelayMessage::Accepted { circuit } => {
                if let Some(end) = state.ends.get(&(from, circuit)) {
                    end.accept();
                } else if let Ok(other) = state.switch.other(circuit, from)
                    && other == circuit.opener
                {
                    return wake_if(state.say(other, Say::Accepted(circuit)), other);
                }
                Vec::new()
            }
            RelayMessage::Data { circuit, bytes } => {
                let bytes = body.slice_ref(bytes);
                if let Some(end) = state.ends.get(&(from, circuit)) {
                    let kept = end.arrived(bytes);
                    return if kept.is_err() { break_end(state, from, circuit) } else { Vec::new() };
                }
                #[cfg(feature = "test-hooks")]
                if let Some(tamper) = &mut state.tamper {
                    let pieces = (tamper.pieces)(from, bytes);
                    return pieces.into_iter().flat_map(|piece| state.forward(circuit, from, piece)).collect();
                }
                state.forward(circuit, from, bytes)
            }
            RelayMessage::Credit { circuit, bytes } => {
                if let Some(end) = state.ends.get(&(from, circuit)) {
                    let fits = end.credited(bytes);
                    return if fits.is_err() { break_end(state, from, circuit) } else { Vec::new() };
                }
                match state.switch.credit(circuit, from, bytes, now) {
                    Ok(Some(to)) => wake_if(state.say(to, Say::CreditOf(circuit)), to),
                    Ok(None) | Err(Misfit::Unknown | Misfit::Refused) => Vec::new(),
                }
            }
            RelayMessage::Close { circuit } => {
                if let Some(end) = state.take_end(from, circuit) {
                    end.close();
                } else if state.switch.other(circuit, from).is_ok() {
                    return state.close_hop(circuit, Some(from));
                }
                Vec::new()
            }
        }
    }
}

/// The other side of a circuit that ends here broke a rule.
fn break_end(state: &mut State, by: NodeId, circuit: CircuitId) -> Vec<NodeId> {
    tracing::debug!(relay = %by, ?circuit, "circuit broken: more than its window");
    if let Some(end) = state.take_end(by, circuit) {
        end.close();
    }
    if state.say(by, Say::Close(circuit)) { vec![by] } else { Vec::new() }
}

/// Writes data of one circuit for `to`; whether it stays in the list. `None` when the frame is full.
fn fill_circuit(state: &mut State, to: NodeId, circuit: CircuitId, sink: &mut dyn RecordSink) -> Option<bool> {
    let room = sink.room().checked_sub(DATA_OVERHEAD).filter(|&room| room >= WORTHWHILE)?;
    let mut write = |bytes: &[u8]| {
        let message = RelayMessage::Data { circuit, bytes };
        sink.record(Subprotocol::Relay, &mut |out| codec::encode_into(&message, out)).is_some()
    };
    if let Some(end) = state.ends.get(&(to, circuit)) {
        return Some(end.take(room, write));
    }
    let written = match state.switch.take(circuit, to, room) {
        Some(Piece::Bytes(bytes)) => write(&bytes),
        Some(Piece::End) => write(&[]),
        None => true,
    };
    debug_assert!(written, "the room was asked for");
    Some(state.switch.stays_queued(circuit, to))
}

impl SubprotocolHandler for Arc<Relay> {
    fn records(&self, from: NodeId, lane: Lane, records: &mut Vec<Record>) {
        let Some(inner) = self.inner.upgrade() else { return };
        let Some(link) = inner.link(from) else { return };
        let bulk: usize = match lane {
            Lane::Bulk => records.iter().map(|record| record.body.len()).sum(),
            Lane::Fast => 0,
        };
        // What came through a relay is not relayed on.
        if link.is_direct() {
            let mut wakes = Vec::new();
            for record in records.drain(..) {
                wakes.extend(self.on_message(from, &record.body, &inner));
            }
            wakes.sort_unstable();
            wakes.dedup();
            self.wake(wakes);
        }
        if bulk > 0 {
            // The window of a circuit is what bounds it: the lane itself is never held up.
            link.bulk_consumed(bulk);
        }
    }

    fn peer(&self, _: &PeerEvent) {}

    fn fill(&self, to: NodeId, lane: Lane, sink: &mut dyn RecordSink) -> bool {
        let mut state = self.state.lock();
        let state = &mut *state;
        match lane {
            Lane::Fast => {
                let State { outboxes, switch, .. } = state;
                outboxes.get_mut(&to).is_some_and(|outbox| outbox.fill(to, switch, sink))
            }
            Lane::Bulk => {
                while let Some(circuit) = state.outboxes.get_mut(&to).and_then(|outbox| outbox.data.pop_front()) {
                    let stays = fill_circuit(state, to, circuit, sink);
                    let Some(outbox) = state.outboxes.get_mut(&to) else { break };
                    match stays {
                        Some(true) => outbox.data.push_back(circuit),
                        Some(false) => {}
                        None => {
                            outbox.data.push_front(circuit);
                            return true;
                        }
                    }
                }
                false
            }
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("forwards", &self.forwards).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENER: NodeId = NodeId::new(1);
    const FAR: NodeId = NodeId::new(2);

    fn relay() -> Arc<Relay> {
        Relay::new(Weak::new(), true, 0)
    }

    #[tokio::test]
    async fn closed_circuits_do_not_pile_up_before_a_peer_that_takes_no_data() {
        let relay = relay();
        let mut state = relay.state.lock();
        for number in 0..1000 {
            let circuit = CircuitId { opener: OPENER, number };
            state.switch.open(circuit, FAR, Instant::now()).expect("room");
            assert_eq!(state.forward(circuit, OPENER, Bytes::from_static(b"x")), [FAR]);
            state.close_hop(circuit, Some(OPENER));
        }
        assert!(state.outboxes[&FAR].data.is_empty());
    }

    #[tokio::test]
    async fn questions_that_a_peer_never_answers_do_not_pile_up() {
        let relay = relay();
        for about in 0..100 {
            drop(relay.ask(NodeId::new(1000 + about % 3), &[FAR]));
        }
        let told = relay.ask(NodeId::new(2000), &[FAR]);
        let state = relay.state.lock();
        assert_eq!(state.questions.values().map(Vec::len).sum::<usize>(), 1);
        assert!(!told.is_closed());
    }
}
