//! Nodes that are needed and have no session: the mesh is asked for one, and what needs it is held meanwhile.
//!
//! [`Engine::want_peer`] enters a wish, the shell takes it out and answers with [`Engine::unreachable`] when nothing came
//! of it; when a session came, [`Engine::peer`] has told. Either way what was held is done again, and finds the node
//! where it is then.

use std::collections::BTreeMap;

use super::admission::Inquiry;
use super::engine::{Engine, Now};
use crate::daemon::{DaemonKey, Ticket};
use crate::directory::Found;
use crate::identity::{NodeId, OriginHash};
use crate::migration::MigrationOptions;
use crate::wire::migration::MoveId;

/// Most that is held for one node; beyond this things are done without it.
const MOST_HELD: usize = 65_536;
/// Most nodes that are wanted at a time: peers name them, and each costs questions to all others.
const MOST_WANTED: usize = 1024;

/// Something that needs a session with a node, or goes on without it.
#[derive(Debug)]
pub(super) enum Then {
    /// Begin a migration.
    Start { ticket: Ticket, origin: OriginHash, source: Option<NodeId>, target: NodeId, options: MigrationOptions },
    /// Tell an orchestrator of a daemon of this node that is to move.
    Describe(Inquiry),
    /// Let a daemon of this node leave, as its orchestrator wants.
    Depart { from: NodeId, id: MoveId, target: NodeId, transport: bool },
    /// Send events to the host that was found.
    Route { origin: OriginHash, found: Found },
    /// Show the node, which says to host it too, the claim for a daemon of this one.
    ShowClaim { origin: OriginHash },
    /// Let a daemon of this node go on receiving what that node publishes.
    Receive { key: DaemonKey, publisher: NodeId },
}

/// The wishes of an engine.
#[derive(Debug, Default)]
pub(super) struct Reaching {
    wanted: BTreeMap<NodeId, Vec<Then>>,
    /// Wishes that the shell has not taken yet.
    fresh: Vec<NodeId>,
    /// The node that is being done without.
    given_up: Option<NodeId>,
}

impl Reaching {
    /// Moves that were called off do not begin, however long they have waited.
    pub(super) fn forget_departures(&mut self, is_off: impl Fn(NodeId, &MoveId) -> bool) {
        for held in self.wanted.values_mut() {
            held.retain(|then| !matches!(then, Then::Depart { from, id, .. } if is_off(*from, id)));
        }
    }
}

impl Engine {
    /// Asks for a session with a node that has none, in the background.
    pub(super) fn want_peer(&mut self, node: NodeId) {
        if node == self.me() || self.peers.is_up(node) || self.reaching.given_up == Some(node) || !self.is_ready() {
            return;
        }
        if self.reaching.wanted.len() >= MOST_WANTED {
            return;
        }
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.reaching.wanted.entry(node) {
            vacant.insert(Vec::new());
            self.reaching.fresh.push(node);
        }
    }

    /// Holds `then` until there is a session with `node`, or none can be had. False when there is nothing to wait for.
    pub(super) fn reach_first(&mut self, node: NodeId, then: impl FnOnce() -> Then) -> bool {
        if self.reaching.given_up.is_some() {
            // What is being done without one node does not wait for another.
            return false;
        }
        self.want_peer(node);
        let Some(held) = self.reaching.wanted.get_mut(&node).filter(|held| held.len() < MOST_HELD) else {
            return false;
        };
        held.push(then());
        true
    }

    /// Takes the nodes that a session is wanted with. Each is to be answered, by [`Engine::peer`] or
    /// [`Engine::unreachable`].
    pub fn take_wanted(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.reaching.fresh)
    }

    /// The attempt to get a session with a node is over: unless there is one, what needs it goes on without.
    pub fn unreachable(&mut self, node: NodeId, now: Now) {
        self.reaching.given_up = (!self.peers.is_up(node)).then_some(node);
        self.reached(node, now);
        self.reaching.given_up = None;
        self.settle_own(now);
    }

    /// There is a session with a node, or there will be none.
    pub(super) fn reached(&mut self, node: NodeId, now: Now) {
        for then in self.reaching.wanted.remove(&node).unwrap_or_default() {
            match then {
                Then::Start { ticket, origin, source, target, options } => {
                    if let Err(error) = self.start_migration(ticket, origin, source, target, options, now) {
                        self.settle(ticket, Err(error));
                    }
                }
                Then::Describe(inquiry) => self.answer_inquiry(inquiry),
                Then::Depart { from, id, target, transport } => self.on_take_snapshot(from, id, target, transport, now),
                Then::Route { origin, found } => self.route_to(origin, &found, now),
                Then::ShowClaim { origin } if self.peers.is_up(node) => self.contest(origin, vec![node], now),
                Then::ShowClaim { origin } => self.name_again(origin),
                Then::Receive { key, publisher } => self.receive_from(key, publisher),
            }
        }
    }

    /// The runtime shuts down: nothing is waited for.
    pub(super) fn stop_reaching(&mut self, now: Now) {
        let wanted: Vec<NodeId> = self.reaching.wanted.keys().copied().collect();
        for node in wanted {
            self.unreachable(node, now);
        }
        self.reaching.fresh.clear();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::identity::{EntityKeypair, Epoch, Incarnation, MigrationId, NodeStaticSecret, RuntimeLife};
    use crate::runtime::{NodeSelf, OrchestratorPolicy, RuntimeOptions};
    use crate::wire::migration::FailureReason;

    fn engine(now: Now) -> Engine {
        let keypair = EntityKeypair::generate();
        let static_secret = NodeStaticSecret::derive(&keypair).expect("it has a secret");
        let node = NodeSelf {
            keypair,
            incarnation: Incarnation { started_at_ms: 1, salt: 1 },
            runtime: RuntimeLife::FIRST,
            static_secret,
        };
        let options = RuntimeOptions { orchestrators: OrchestratorPolicy::Any, ..RuntimeOptions::default() };
        let mut engine = Engine::new(node, options, Box::new(|| 1));
        engine.start(now).expect("it was not shut down");
        engine
    }

    #[tokio::test]
    async fn of_departures_that_wait_for_their_target_every_one_that_is_called_off_is_forgotten() {
        const MANY: u128 = 300;
        let now = Now { instant: Instant::now(), unix_ns: 0 };
        let mut engine = engine(now);
        let entity = EntityKeypair::from_seed(&[1; 32]).entity_id();
        let id = |number| MoveId { entity, migration: MigrationId::new(number), attempt: 1, epoch: Epoch::FIRST };
        let [target, patient, hasty, gone] = [1, 2, 3, 4].map(NodeId::new);
        for number in 0..MANY {
            engine.on_take_snapshot(hasty, id(number), target, true, now);
            engine.on_take_snapshot(gone, id(MANY + number), target, true, now);
        }
        engine.on_take_snapshot(patient, id(0), target, true, now);
        for number in 0..MANY {
            engine.on_cancel_of_none(hasty, id(number), FailureReason::Cancelled);
        }
        engine.migrations_lost(gone, false, now);
        let waiting: Vec<_> = engine.reaching.wanted[&target]
            .iter()
            .map(|then| match then {
                Then::Depart { from, id, .. } => (*from, id.migration),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(waiting, [(patient, MigrationId::new(0))]);
    }

    #[tokio::test]
    async fn nodes_that_others_name_do_not_pile_up() {
        let now = Now { instant: Instant::now(), unix_ns: 0 };
        let mut engine = engine(now);
        for number in 0..2 * MOST_WANTED as u64 {
            engine.want_peer(NodeId::new(number));
        }
        assert_eq!(engine.take_wanted().len(), MOST_WANTED);
        let never = || -> Then { unreachable!("it is not held") };
        assert!(!engine.reach_first(NodeId::new(1 << 40), never), "done without it");
        engine.unreachable(NodeId::new(0), now);
        engine.want_peer(NodeId::new(1 << 40));
        assert_eq!(engine.take_wanted(), [NodeId::new(1 << 40)]);
    }

    #[tokio::test]
    async fn whoever_waits_for_a_session_is_told_when_the_runtime_shuts_down() {
        let now = Now { instant: Instant::now(), unix_ns: 0 };
        let mut engine = engine(now);
        let [source, target] = [1, 2].map(NodeId::new);
        let (ticket, origin, options) = (Ticket(7), OriginHash::new(1), MigrationOptions::default());
        assert!(engine.reach_first(source, || Then::Start { ticket, origin, source: Some(source), target, options }));
        let told = |engine: &mut Engine| {
            let mut told = Vec::new();
            engine.work.settlements(|ticket, result| {
                told.push((ticket, result.is_err()));
                false
            });
            told
        };
        assert_eq!(told(&mut engine), []);
        engine.shutdown(now);
        assert_eq!(told(&mut engine), [(ticket, true)]);
        assert_eq!(engine.take_wanted(), [], "nobody is to be reached any more");
    }

    #[tokio::test]
    async fn what_is_done_without_a_node_wants_neither_that_one_again_nor_waits_for_another() {
        let now = Now { instant: Instant::now(), unix_ns: 0 };
        let mut engine = engine(now);
        let [given_up, other] = [1, 2].map(NodeId::new);
        engine.reaching.given_up = Some(given_up);
        engine.want_peer(given_up);
        assert!(!engine.reach_first(other, || unreachable!("it is not held")));
        assert_eq!(engine.take_wanted(), []);
    }
}
