//! The middle of circuits, between peers that open, send, take and close what they like.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use mesh_daemon_core::identity::NodeId;
use mesh_daemon_core::mesh::switch::{Misfit, Piece, Switch};
use mesh_daemon_core::wire::relay::{CIRCUIT_WINDOW, CircuitId};
use tokio::time::Instant;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step {
    Open { circuit: Circuit, far: u8 },
    Data { circuit: Circuit, from: u8, len: u16 },
    Take { circuit: Circuit, to: u8, room: u16 },
    Credit { circuit: Circuit, from: u8, bytes: u64 },
    TakeCredit { circuit: Circuit, to: u8 },
    Close { circuit: Circuit },
    PeerGone { node: u8 },
    CloseIdle { after_ms: u16 },
    Wait { millis: u16 },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Circuit {
    opener: u8,
    number: u8,
}

impl Circuit {
    fn id(self) -> CircuitId {
        CircuitId { opener: node(self.opener), number: u64::from(self.number % 4) }
    }
}

fn node(number: u8) -> NodeId {
    NodeId::new(u64::from(number % 4))
}

/// What went in on one side and did not come out on the other.
#[derive(Default)]
struct Direction {
    bytes: VecDeque<u8>,
    ended: bool,
    credit: u64,
}

/// Towards the opener and towards the far end.
struct Hop {
    far: NodeId,
    directions: [Direction; 2],
}

#[derive(Default)]
struct World {
    switch: Switch,
    hops: BTreeMap<CircuitId, Hop>,
    next_byte: u8,
    passed: bool,
}

/// What goes in comes out whole and in order at the other end and nowhere else, whatever else happens; what is held is
/// counted and bounded, and nothing is left of circuits that are gone. Valid when bytes passed through.
pub fn circuits(data: &[u8]) -> bool {
    let mut input = Unstructured::new(data);
    let (mut world, mut now) = (World::default(), Instant::now());
    for _ in 0..200 {
        if input.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut input) else { break };
        if let Step::Wait { millis } = step {
            now += Duration::from_millis(u64::from(millis));
        }
        world.step(step, now);
        world.check();
    }
    for number in 0..4 {
        world.peer_gone(node(number));
    }
    assert!(world.switch.is_empty() && world.switch.held() == 0, "nothing stays");
    world.passed
}

impl World {
    fn step(&mut self, step: Step, now: Instant) {
        match step {
            Step::Open { circuit, far } => {
                let (id, far) = (circuit.id(), node(far));
                let taken = self.switch.open(id, far, now).is_ok();
                assert_eq!(taken, far != id.opener && !self.hops.contains_key(&id));
                if taken {
                    self.hops.insert(id, Hop { far, directions: Default::default() });
                }
            }
            Step::Data { circuit, from, len } => self.data(circuit.id(), node(from), len, now),
            Step::Take { circuit, to, room } => self.take(circuit.id(), node(to), 1 + usize::from(room)),
            Step::Credit { circuit, from, bytes } => {
                let (id, from) = (circuit.id(), node(from));
                let told = self.switch.credit(id, from, bytes, now);
                match self.other(id, from) {
                    Some(to) => {
                        let credit = &mut self.direction(id, to).expect("it has two ends").credit;
                        assert_eq!(told, Ok((*credit == 0 && bytes > 0).then_some(to)));
                        *credit = credit.saturating_add(bytes);
                    }
                    None => assert_eq!(told, Err(Misfit::Unknown)),
                }
            }
            Step::TakeCredit { circuit, to } => {
                let (id, to) = (circuit.id(), node(to));
                let taken = self.switch.take_credit(id, to);
                let owed = self.direction(id, to).map(|direction| std::mem::take(&mut direction.credit));
                assert_eq!(taken, owed.filter(|&credit| credit > 0));
            }
            Step::Close { circuit } => self.close(circuit.id()),
            Step::PeerGone { node: number } => self.peer_gone(node(number)),
            Step::CloseIdle { after_ms } => {
                for id in self.switch.idle(now, Duration::from_millis(u64::from(after_ms))) {
                    self.close(id);
                }
            }
            Step::Wait { .. } => {}
        }
    }

    fn other(&self, id: CircuitId, from: NodeId) -> Option<NodeId> {
        let far = self.hops.get(&id)?.far;
        if from == id.opener { Some(far) } else { (from == far).then_some(id.opener) }
    }

    fn direction(&mut self, id: CircuitId, to: NodeId) -> Option<&mut Direction> {
        let hop = self.hops.get_mut(&id)?;
        let which = if to == id.opener { 0 } else { usize::from(to == hop.far) };
        (to == id.opener || to == hop.far).then(|| &mut hop.directions[which])
    }

    fn data(&mut self, id: CircuitId, from: NodeId, len: u16, now: Instant) {
        let first = self.next_byte;
        let bytes: Vec<u8> = (0..len).map(|at| first.wrapping_add(at.to_le_bytes()[0])).collect();
        let result = self.switch.data(id, from, bytes.clone().into(), now);
        let Some(to) = self.other(id, from) else { return assert_eq!(result, Err(Misfit::Unknown)) };
        let direction = self.direction(id, to).expect("it has two ends");
        let whole = (direction.bytes.len() + bytes.len()) as u64 <= CIRCUIT_WINDOW;
        let fits = !direction.ended && whole;
        assert_eq!(result.is_ok(), fits);
        if fits {
            direction.ended = bytes.is_empty();
            direction.bytes.extend(&bytes);
            self.next_byte = first.wrapping_add(len.to_le_bytes()[0]);
        }
    }

    fn take(&mut self, id: CircuitId, to: NodeId, room: usize) {
        let piece = self.switch.take(id, to, room);
        let stays = self.switch.stays_queued(id, to);
        let Some(direction) = self.direction(id, to) else { return assert!(piece.is_none() && !stays) };
        match piece {
            Some(Piece::Bytes(bytes)) => {
                assert!(!bytes.is_empty() && bytes.len() <= room);
                assert_eq!(direction.bytes.drain(..bytes.len()).collect::<Bytes>(), bytes);
                self.passed = true;
            }
            Some(Piece::End) => {
                assert!(direction.bytes.is_empty() && direction.ended);
                // What is sent behind it is passed on as well: the reader at the other end refuses that.
                direction.ended = false;
            }
            None => assert!(direction.bytes.is_empty() && !direction.ended),
        }
        let direction = self.direction(id, to).expect("it is still there");
        assert_eq!(stays, !direction.bytes.is_empty() || direction.ended);
    }

    fn close(&mut self, id: CircuitId) {
        let hop = self.hops.remove(&id);
        assert_eq!(self.switch.close(id), hop.map(|hop| [id.opener, hop.far]));
    }

    fn peer_gone(&mut self, node: NodeId) {
        let gone: BTreeMap<_, _> = self.switch.peer_gone(node).into_iter().collect();
        let before = self.hops.len();
        self.hops.retain(|id, hop| {
            let other = if node == id.opener { Some(hop.far) } else { (node == hop.far).then_some(id.opener) };
            assert_eq!(gone.get(id).copied(), other);
            other.is_none()
        });
        assert_eq!(before - self.hops.len(), gone.len());
    }

    fn check(&self) {
        let held: usize =
            self.hops.values().flat_map(|hop| &hop.directions).map(|direction| direction.bytes.len()).sum();
        assert_eq!(self.switch.held(), held);
        assert_eq!(self.switch.len(), self.hops.len());
        for direction in self.hops.values().flat_map(|hop| &hop.directions) {
            assert!(direction.bytes.len() as u64 <= CIRCUIT_WINDOW);
        }
    }
}
