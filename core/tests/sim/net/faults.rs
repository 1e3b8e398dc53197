//! What goes wrong on the simulated network.

use std::time::Duration;

use rand::Rng;

use super::world::{End, Happening, Message, World};

impl World {
    pub(crate) fn begin_faults(&mut self) {
        self.faults = true;
        self.after(Duration::from_millis(500), Happening::Fault);
    }

    /// The node leaves with a goodbye.
    pub(crate) fn leave(&mut self, node: usize) {
        self.note(format_args!("n{node} leaves"));
        for wire in 0..self.wires.len() {
            for end in 0..2 {
                if self.owner(wire, end) == node && matches!(self.wires[wire].ends[end], End::Up { .. }) {
                    self.send(wire, end, Message::Goodbye);
                }
            }
        }
        self.die(node, false);
    }

    /// The node's process ends and another one begins with the same key after `pause`.
    pub(crate) fn restart(&mut self, node: usize, pause: Duration, silently: bool) {
        self.note(format_args!("n{node} dies{}", if silently { " silently" } else { "" }));
        self.die(node, silently);
        self.after(pause, Happening::Revive { node });
    }

    /// Everything on the wire is swallowed from now on, and neither side is told.
    pub(crate) fn silence(&mut self, wire: usize) {
        self.note(format_args!("wire {wire} goes silent"));
        self.wires[wire].silent = true;
    }

    /// The connection breaks; the ends named hear of it.
    pub(crate) fn cut(&mut self, wire: usize, told: [bool; 2]) {
        self.note(format_args!("wire {wire} cut, told {told:?}"));
        for (end, told) in told.into_iter().enumerate() {
            if told {
                let delay = self.delay();
                self.after(delay, Happening::Deliver { wire, to: end, message: Message::Closed });
            }
        }
        self.wires[wire].silent = true;
    }

    fn die(&mut self, node: usize, silently: bool) {
        self.nodes[node].alive = false;
        for wire in 0..self.wires.len() {
            for end in 0..2 {
                if self.owner(wire, end) == node && self.wires[wire].ends[end] != End::Closed {
                    if silently {
                        self.wires[wire].silent = true;
                        self.wires[wire].ends[end] = End::Closed;
                    } else {
                        self.close(wire, end);
                    }
                }
            }
        }
    }

    pub(super) fn fault(&mut self) {
        if !self.faults {
            return;
        }
        let open: Vec<_> = (0..self.wires.len())
            .filter(|&wire| self.wires[wire].ends.iter().any(|end| *end != End::Closed) && !self.wires[wire].silent)
            .collect();
        let wire = open.get(self.rng.random_range(0..open.len().max(1))).copied();
        match (self.rng.random_range(0..10), wire) {
            (0..4, Some(wire)) => self.cut(wire, [true, true]),
            (4..6, Some(wire)) => {
                let first = self.rng.random();
                self.cut(wire, [first, !first]);
            }
            (6, Some(wire)) => self.silence(wire),
            (7, _) => {
                let node = self.rng.random_range(0..self.nodes.len());
                if self.nodes[node].alive {
                    let (pause, silently) = (self.rng.random_range(0..8_000), self.rng.random());
                    self.restart(node, Duration::from_millis(pause), silently);
                }
            }
            _ => {}
        }
        let pause = Duration::from_millis(self.rng.random_range(10..6_000));
        self.after(pause, Happening::Fault);
    }
}
