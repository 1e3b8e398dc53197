//! Moves that their drivers called off before they asked for them: the word to begin may still be on its way, and begins
//! nothing.
//!
//! Only one of a daemon that is here, as it is now, can begin. So whoever calls off many others makes nobody forget those.

use std::collections::{HashMap, VecDeque};

use crate::identity::{EntityId, NodeId};
use crate::wire::migration::MoveId;

/// Most moves of one daemon that one driver called off.
const MOST: usize = 8;

/// By daemon, with the driver of each.
#[derive(Debug, Default)]
pub struct CalledOff {
    moves: HashMap<EntityId, VecDeque<(NodeId, MoveId)>>,
}

impl CalledOff {
    /// A driver calls off a move of a daemon that is here at the epoch of that move. Moves of earlier epochs cannot begin any
    /// more.
    pub fn note(&mut self, by: NodeId, id: MoveId) {
        let moves = self.moves.entry(id.entity).or_default();
        moves.retain(|(_, known)| known.epoch == id.epoch && *known != id || known.epoch > id.epoch);
        let own = moves.iter().filter(|(driver, _)| *driver == by).count();
        if own >= MOST
            && let Some(oldest) = moves.iter().position(|(driver, _)| *driver == by)
        {
            moves.remove(oldest);
        }
        moves.push_back((by, id));
    }

    /// Whether that driver called it off.
    pub fn holds(&self, by: NodeId, id: &MoveId) -> bool {
        self.moves.get(&id.entity).is_some_and(|moves| moves.contains(&(by, *id)))
    }

    /// A driver is lost, with all that it sent.
    pub fn forget_driver(&mut self, driver: NodeId) {
        self.moves.retain(|_, moves| {
            moves.retain(|(by, _)| *by != driver);
            !moves.is_empty()
        });
    }

    /// A daemon is not here any more.
    pub fn forget_daemon(&mut self, daemon: &EntityId) {
        self.moves.remove(daemon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{EntityKeypair, Epoch, MigrationId};

    const BY: NodeId = NodeId::new(7);
    const OTHER: NodeId = NodeId::new(8);

    fn id(daemon: u8, migration: u128, epoch: u64) -> MoveId {
        let entity = EntityKeypair::from_seed(&[daemon; 32]).entity_id();
        MoveId { entity, migration: MigrationId::new(migration), attempt: 1, epoch: Epoch::new(epoch) }
    }

    #[test]
    fn a_driver_that_calls_off_many_makes_nobody_forget_what_is_of_another_daemon_or_of_another_driver() {
        let mut moves = CalledOff::default();
        moves.note(BY, id(1, 0, 1));
        moves.note(OTHER, id(2, 0, 1));
        for migration in 1..1000 {
            moves.note(BY, id(2, migration, 1));
        }
        assert!(moves.holds(BY, &id(1, 0, 1)) && moves.holds(OTHER, &id(2, 0, 1)));
        assert!(!moves.holds(BY, &id(2, 0, 1)), "that was another driver");
        assert!(moves.holds(BY, &id(2, 999, 1)) && !moves.holds(BY, &id(2, 1, 1)));
        assert_eq!(moves.moves[&id(2, 0, 1).entity].len(), MOST + 1);
    }

    #[test]
    fn nothing_is_left_of_drivers_and_daemons_that_are_gone_and_of_earlier_epochs() {
        let mut moves = CalledOff::default();
        for epoch in 1..4 {
            moves.note(BY, id(1, 1, epoch));
            moves.note(OTHER, id(1, 2, epoch));
        }
        assert!(moves.holds(BY, &id(1, 1, 3)) && !moves.holds(BY, &id(1, 1, 2)));
        moves.forget_driver(BY);
        assert!(!moves.holds(BY, &id(1, 1, 3)) && moves.holds(OTHER, &id(1, 2, 3)));
        moves.forget_daemon(&id(1, 0, 0).entity);
        moves.note(BY, id(2, 1, 1));
        moves.forget_driver(BY);
        assert!(moves.moves.is_empty());
    }
}
