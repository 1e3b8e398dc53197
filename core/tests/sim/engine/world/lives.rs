//! Runtimes that follow one another on a node that lives on.

use std::time::Duration;

use mesh_daemon_core::identity::RuntimeLife;
use mesh_daemon_core::mesh::{PeerEvent, Record};
use mesh_daemon_core::runtime::said_without_runtime;
use mesh_daemon_core::wire::Lane;

use super::{Event, World, pair};

impl World {
    /// Shuts the runtime of a node down. `silently`: its last words do not get out in time.
    pub(crate) fn end_runtime(&mut self, index: usize, silently: bool) {
        self.note(&format!("the runtime of n{index} ends, silently {silently}"));
        let now = self.present();
        self.nodes[index].engine.shutdown(now);
        if !silently {
            self.settle(index);
        }
        let runtime = RuntimeLife::new(self.nodes[index].runtime.get() + 1);
        self.begin_engine(index, self.nodes[index].incarnation, runtime);
        self.nodes[index].bare = true;
    }

    /// Begins the next runtime on a node.
    pub(crate) fn begin_runtime(&mut self, index: usize) {
        self.nodes[index].bare = false;
        self.make_ready(index);
        for other in 0..self.nodes.len() {
            if other == index || !self.is_connected(index, other) {
                continue;
            }
            let peer = self.identity(other);
            let node = peer.node;
            for event in [PeerEvent::Connected { peer, resumed: false }, PeerEvent::Ready { node }] {
                self.peer_event(index, &event);
            }
        }
    }

    /// The node answers what is meant for a runtime that it has not got.
    pub(super) fn answer_without_runtime(&mut self, from: usize, to: usize, records: Vec<Record>) {
        let Some(session) = self.sessions.get(&pair(from, to)).copied() else { return };
        for record in records {
            if let Some(body) = said_without_runtime(&record) {
                let records = vec![Record { subprotocol: record.subprotocol, body: body.into() }];
                let event = Event::Frame { from: to, to: from, session, lane: Lane::Fast, records, counted: false };
                self.at(Duration::from_micros(100), event);
            }
        }
    }
}
