//! Peers that come, break off and go.

use super::engine::{Engine, Now};
use super::peers::{Peer, Session};
use crate::identity::NodeId;
use crate::mesh::{Loss, PeerEvent};

impl Engine {
    /// Something happened to a peer.
    pub fn peer(&mut self, event: &PeerEvent, now: Now) {
        match event {
            PeerEvent::Connected { peer, resumed } => {
                let node = peer.node;
                // A new session starts with nothing on the way, also when the old one was never seen to end.
                if self.peers.get(node).is_some() {
                    self.cut(node, false, now);
                }
                self.met(peer, now);
                self.graves.seen(node);
                self.peers.insert(peer.clone());
                if *resumed {
                    self.routes_resume(node);
                    self.answers_resume(node);
                }
                self.lookups.peer_silent(node, self.placing.view.contains(node));
                self.routes_back(node, now);
                self.forwards_back(node);
                self.migrations_back(node, now);
                self.announce_all_to(node, now);
                self.reached(node, now);
            }
            PeerEvent::Ready { node } => {
                if let Some(peer) = self.peers.up(*node) {
                    peer.ready = true;
                    self.place_anew(*node, now);
                    self.compare_with(*node);
                    self.ask_unasked(*node);
                    self.drain_peer_back(*node, now);
                }
            }
            PeerEvent::Suspected { node } => {
                if let Some(peer) = self.peers.up(*node) {
                    peer.session = Session::Silent;
                    self.routes_silent(*node, now);
                }
            }
            PeerEvent::Heard { node } => {
                if let Some(peer) = self.peers.up(*node) {
                    peer.session = Session::Heard;
                    let ready = peer.ready;
                    self.routes_heard(*node);
                    if ready {
                        self.ask_unasked(*node);
                    }
                }
            }
            PeerEvent::Cut { node } => {
                if self.peers.is_up(*node) {
                    self.cut(*node, false, now);
                }
            }
            PeerEvent::Lost { node, incarnation, how } => {
                let dead = match how {
                    Loss::Goodbye | Loss::NewerIncarnation => true,
                    Loss::Silence => false,
                };
                if dead {
                    self.graves.bury(*node, *incarnation);
                } else {
                    self.graves.miss(*node, now.instant);
                }
                self.cut(*node, dead, now);
                self.migrations_lost(*node, dead, now);
                if !dead {
                    self.declared_lost(*node, now);
                }
                self.routes_lost(*node, now);
                self.peers.remove(*node);
                if !dead {
                    self.targets_lost(*node);
                    self.sources_lost(*node, now);
                }
                self.forwards_lost(*node);
                self.lookups.peer_gone(*node, self.placing.view.contains(*node));
                self.placing.peer_gone(*node);
                self.check_lookups(now);
            }
        }
        self.settle_own(now);
    }

    /// Asks a peer what it could not be asked before.
    fn ask_unasked(&mut self, node: NodeId) {
        for (query, origin) in self.lookups.peer_answers(node) {
            self.ask_where(node, query, origin);
        }
    }

    fn cut(&mut self, node: NodeId, dead: bool, now: Now) {
        for (key, stream) in self.peers.get_mut(node).map(Peer::down).unwrap_or_default() {
            if let Some(held) = self.slot_mut(key).and_then(|slot| slot.inbound.get_mut(stream)) {
                held.queued = false;
            }
            // What was to go through this one goes to its sender itself, if that is in reach by now.
            self.answer(key, stream);
        }
        self.placing.hosts.unsettle(node);
        for origin in self.comparing.cut(node) {
            self.name_again(origin);
        }
        self.routes_cut(node, now);
        self.migrations_cut(node, dead, now);
    }

    /// Senders on a node that is back may have missed what they were told.
    fn answers_resume(&mut self, node: NodeId) {
        let mut waiting = Vec::new();
        for (_, slot) in &mut self.daemons {
            let key = slot.host.key;
            for (stream, held) in slot.inbound.iter() {
                if held.id.sender == node || held.via == node {
                    waiting.push((key, stream));
                }
            }
        }
        for (key, stream) in waiting {
            if let Some(held) = self.slot_mut(key).and_then(|slot| slot.inbound.get_mut(stream)) {
                held.repeat();
            }
            self.answer(key, stream);
        }
    }
}
