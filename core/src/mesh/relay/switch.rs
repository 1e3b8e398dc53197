//! The middle of circuits: what this node forwards between two of its peers. No socket, no task, no clock.
//!
//! Each direction of a circuit may hold a window of bytes here; the ends account for it with their own credit, and one
//! that sends more loses the circuit. Only sessions of this node's own are used: a relay never goes through another.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::time::{Duration, Instant};

use super::pieces::Pieces;
use crate::identity::NodeId;
use crate::wire::relay::{CIRCUIT_WINDOW, CircuitId};

/// Circuits that one node may have opened here.
const PER_OPENER: usize = 64;
/// Circuits in all.
const TOTAL: usize = 1024;
/// Bytes that wait here in all circuits together.
const MOST_HELD: usize = 64 * 1024 * 1024;
/// The circuits that one node opened hold at most this part of what is free besides, by itself some forty windows: when nobody
/// takes what is in them, there is room for those of others.
const SHARE: usize = 2;

/// The circuits that go through this node.
#[derive(Debug, Default)]
pub struct Switch {
    hops: HashMap<CircuitId, Hop>,
    held: usize,
    /// The same by who opened the circuits.
    held_of: HashMap<NodeId, usize>,
}

#[derive(Debug)]
struct Hop {
    far: NodeId,
    to_opener: Direction,
    to_far: Direction,
    used: Instant,
}

/// What is on its way to one end.
#[derive(Debug, Default)]
struct Direction {
    pieces: Pieces,
    /// The other end's writer is done, behind the pieces.
    ended: bool,
    credit: u64,
    /// Stands in the list of circuits with something to send.
    queued: bool,
}

/// Why something was not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// No such circuit with that peer: it is gone already.
    Unknown,
    /// The circuit cannot be, or cannot go on.
    Refused,
}

/// What is next for one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes.
    Bytes(Bytes),
    /// The other end's writer is done.
    End,
}

impl Hop {
    fn other(&self, circuit: CircuitId, from: NodeId) -> Option<NodeId> {
        if from == circuit.opener { Some(self.far) } else { (from == self.far).then_some(circuit.opener) }
    }

    fn towards(&mut self, circuit: CircuitId, to: NodeId) -> Option<&mut Direction> {
        if to == circuit.opener { Some(&mut self.to_opener) } else { (to == self.far).then_some(&mut self.to_far) }
    }

    fn held(&self) -> usize {
        self.to_opener.pieces.len() + self.to_far.pieces.len()
    }
}

impl Switch {
    /// A circuit from `circuit.opener`, whose session brought the wish, to `far`, with which this node has a session.
    pub fn open(&mut self, circuit: CircuitId, far: NodeId, now: Instant) -> Result<(), Misfit> {
        let of_opener = self.hops.keys().filter(|known| known.opener == circuit.opener).count();
        let full = of_opener >= PER_OPENER || self.hops.len() >= TOTAL;
        if full || far == circuit.opener || self.hops.contains_key(&circuit) {
            return Err(Misfit::Refused);
        }
        let (to_opener, to_far) = (Direction::default(), Direction::default());
        self.hops.insert(circuit, Hop { far, to_opener, to_far, used: now });
        Ok(())
    }

    /// The other end of a circuit that `from` has a part in.
    pub fn other(&self, circuit: CircuitId, from: NodeId) -> Result<NodeId, Misfit> {
        self.hops.get(&circuit).and_then(|hop| hop.other(circuit, from)).ok_or(Misfit::Unknown)
    }

    /// Takes bytes of `from` in. `Ok(Some(to))` when the circuit is to be put on the list of that peer.
    pub fn data(
        &mut self,
        circuit: CircuitId,
        from: NodeId,
        bytes: Bytes,
        now: Instant,
    ) -> Result<Option<NodeId>, Misfit> {
        let to = self.other(circuit, from)?;
        let held_of_opener = self.held_of.get(&circuit.opener).copied().unwrap_or_default();
        let room = (MOST_HELD - self.held).saturating_sub(SHARE * held_of_opener) / (SHARE + 1);
        let hop = self.hops.get_mut(&circuit).ok_or(Misfit::Unknown)?;
        hop.used = now;
        let direction = hop.towards(circuit, to).ok_or(Misfit::Unknown)?;
        let len = bytes.len();
        if direction.ended || len > room || (direction.pieces.len() + len) as u64 > CIRCUIT_WINDOW {
            return Err(Misfit::Refused);
        }
        if bytes.is_empty() {
            direction.ended = true;
        } else {
            direction.pieces.push(bytes);
            self.held += len;
            *self.held_of.entry(circuit.opener).or_default() += len;
        }
        Ok((!std::mem::replace(&mut direction.queued, true)).then_some(to))
    }

    /// The next piece for `to`, of at most `room` bytes.
    pub fn take(&mut self, circuit: CircuitId, to: NodeId, room: usize) -> Option<Piece> {
        let direction = self.hops.get_mut(&circuit)?.towards(circuit, to)?;
        let Some(piece) = direction.pieces.take(room) else {
            return std::mem::take(&mut direction.ended).then_some(Piece::End);
        };
        self.let_go(circuit.opener, piece.len());
        Some(Piece::Bytes(piece))
    }

    fn let_go(&mut self, opener: NodeId, len: usize) {
        self.held -= len;
        if let Some(held) = self.held_of.get_mut(&opener) {
            *held -= len;
            if *held == 0 {
                self.held_of.remove(&opener);
            }
        }
    }

    /// Whether more waits for `to`; if not, the circuit leaves the list.
    pub fn stays_queued(&mut self, circuit: CircuitId, to: NodeId) -> bool {
        let direction = self.hops.get_mut(&circuit).and_then(|hop| hop.towards(circuit, to));
        direction.is_some_and(|direction| {
            direction.queued = !direction.pieces.is_empty() || direction.ended;
            direction.queued
        })
    }

    /// Notes credit on its way from `from`. `Ok(Some(to))` when that peer is to be told.
    pub fn credit(
        &mut self,
        circuit: CircuitId,
        from: NodeId,
        bytes: u64,
        now: Instant,
    ) -> Result<Option<NodeId>, Misfit> {
        let to = self.other(circuit, from)?;
        let hop = self.hops.get_mut(&circuit).ok_or(Misfit::Unknown)?;
        hop.used = now;
        let direction = hop.towards(circuit, to).ok_or(Misfit::Unknown)?;
        let news = direction.credit == 0 && bytes > 0;
        direction.credit = direction.credit.saturating_add(bytes);
        Ok(news.then_some(to))
    }

    /// Takes the credit that is to be told to `to`.
    pub fn take_credit(&mut self, circuit: CircuitId, to: NodeId) -> Option<u64> {
        let direction = self.hops.get_mut(&circuit)?.towards(circuit, to)?;
        Some(std::mem::take(&mut direction.credit)).filter(|&credit| credit > 0)
    }

    /// Forgets a circuit; gives its ends.
    pub fn close(&mut self, circuit: CircuitId) -> Option<[NodeId; 2]> {
        let hop = self.hops.remove(&circuit)?;
        self.let_go(circuit.opener, hop.held());
        Some([circuit.opener, hop.far])
    }

    /// The session with a peer is gone, and with it its circuits: gives them, with those who are to be told.
    pub fn peer_gone(&mut self, node: NodeId) -> Vec<(CircuitId, NodeId)> {
        let gone: Vec<_> =
            self.hops.iter().filter_map(|(circuit, hop)| Some((*circuit, hop.other(*circuit, node)?))).collect();
        for (circuit, _) in &gone {
            self.close(*circuit);
        }
        gone
    }

    /// Bytes that wait here.
    pub const fn held(&self) -> usize {
        self.held
    }

    /// How many circuits there are.
    pub fn len(&self) -> usize {
        self.hops.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hops.is_empty()
    }

    /// Circuits that nothing has gone through for `limit`.
    pub fn idle(&self, now: Instant, limit: Duration) -> Vec<CircuitId> {
        self.hops.iter().filter(|(_, hop)| now >= hop.used + limit).map(|(circuit, _)| *circuit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId::new(1);
    const B: NodeId = NodeId::new(2);
    const C: NodeId = NodeId::new(3);

    fn circuit(opener: NodeId, number: u64) -> CircuitId {
        CircuitId { opener, number }
    }

    fn piece(len: usize) -> Bytes {
        Bytes::from(vec![7; len])
    }

    #[tokio::test]
    async fn pieces_pass_in_order_and_only_between_the_two_ends() {
        let (mut switch, now, one) = (Switch::default(), Instant::now(), circuit(A, 1));
        switch.open(one, B, now).expect("room");
        assert_eq!(switch.data(one, A, piece(10), now), Ok(Some(B)));
        assert_eq!(switch.data(one, A, piece(40_000), now), Ok(None), "it stands in the list already");
        assert_eq!(switch.data(one, A, Bytes::new(), now), Ok(None));
        assert_eq!(switch.data(one, A, piece(1), now), Err(Misfit::Refused), "nothing comes behind the end");
        assert_eq!(switch.data(one, C, piece(1), now), Err(Misfit::Unknown));
        assert_eq!(switch.credit(one, C, 1, now), Err(Misfit::Unknown));
        assert_eq!(switch.take(one, C, 100), None);
        assert_eq!(switch.take(one, B, 8), Some(Piece::Bytes(piece(8))));
        assert_eq!(switch.take(one, B, 8), Some(Piece::Bytes(piece(2))));
        assert_eq!(switch.take(one, B, 65_000), Some(Piece::Bytes(piece(40_000))));
        assert!(switch.stays_queued(one, B));
        assert_eq!(switch.take(one, B, 8), Some(Piece::End));
        assert!(!switch.stays_queued(one, B));
        assert_eq!(switch.held, 0);
    }

    #[tokio::test]
    async fn a_direction_holds_a_window_and_not_a_byte_more() {
        let (mut switch, now, one) = (Switch::default(), Instant::now(), circuit(A, 1));
        switch.open(one, B, now).expect("room");
        let window = usize::try_from(CIRCUIT_WINDOW).expect("small");
        switch.data(one, A, piece(window), now).expect("fits");
        switch.data(one, B, piece(window), now).expect("the other direction has its own");
        assert_eq!(switch.data(one, A, piece(1), now), Err(Misfit::Refused));
        assert_eq!(switch.held, 2 * window);
        assert_eq!(switch.close(one), Some([A, B]));
        assert_eq!((switch.held, switch.close(one)), (0, None));
    }

    #[tokio::test]
    async fn the_memory_of_all_circuits_together_is_bounded() {
        let (mut switch, now) = (Switch::default(), Instant::now());
        let window = usize::try_from(CIRCUIT_WINDOW).expect("small");
        let mut refused = 0;
        for opener in 10..20 {
            for number in 0..PER_OPENER as u64 {
                let one = circuit(NodeId::new(opener), number);
                switch.open(one, B, now).expect("room");
                refused += usize::from(switch.data(one, NodeId::new(opener), piece(window), now).is_err());
            }
        }
        assert!(refused > 0 && switch.held <= MOST_HELD && switch.held > MOST_HELD / 2, "{}", switch.held);
        for opener in 10..20 {
            assert!(switch.held_of[&NodeId::new(opener)] >= window, "each of them has some room");
        }
        switch.peer_gone(B);
        assert!(switch.held == 0 && switch.held_of.is_empty());
    }

    #[tokio::test]
    async fn two_nodes_that_take_nothing_leave_room_for_the_circuits_of_others() {
        let (mut switch, now) = (Switch::default(), Instant::now());
        let window = usize::try_from(CIRCUIT_WINDOW).expect("small");
        for (opener, far) in [(A, B), (B, A)] {
            for number in 0..PER_OPENER as u64 {
                let one = circuit(opener, number);
                switch.open(one, far, now).expect("room");
                for end in [A, B] {
                    let _refused = switch.data(one, end, piece(window), now);
                }
            }
        }
        let other = circuit(C, 1);
        switch.open(other, A, now).expect("room");
        assert_eq!(switch.data(other, C, piece(window), now), Ok(Some(A)));
    }

    #[tokio::test]
    async fn circuits_are_bounded_per_opener_and_a_name_is_used_once() {
        let (mut switch, now) = (Switch::default(), Instant::now());
        assert_eq!(switch.open(circuit(A, 0), A, now), Err(Misfit::Refused), "to oneself");
        for number in 0..PER_OPENER as u64 {
            switch.open(circuit(A, number), B, now).expect("room");
        }
        assert_eq!(switch.open(circuit(A, 1000), B, now), Err(Misfit::Refused));
        switch.open(circuit(C, 1), B, now).expect("another opener has room");
        assert_eq!(switch.open(circuit(C, 1), A, now), Err(Misfit::Refused));
        assert_eq!(switch.peer_gone(C), [(circuit(C, 1), B)]);
        assert_eq!(switch.peer_gone(B).len(), PER_OPENER);
        assert!(switch.hops.is_empty());
    }

    #[tokio::test]
    async fn credit_on_its_way_is_told_once() {
        let (mut switch, now, one) = (Switch::default(), Instant::now(), circuit(A, 1));
        switch.open(one, B, now).expect("room");
        assert_eq!(switch.credit(one, B, 5, now), Ok(Some(A)));
        assert_eq!(switch.credit(one, B, 6, now), Ok(None));
        assert_eq!((switch.take_credit(one, A), switch.take_credit(one, A)), (Some(11), None));
        assert_eq!(switch.idle(now + Duration::from_secs(9), Duration::from_secs(10)), []);
        assert_eq!(switch.idle(now + Duration::from_secs(10), Duration::from_secs(10)), [one]);
    }
}
