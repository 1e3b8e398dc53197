//! Moves that their drivers called off before they asked for them: the word to begin may still be on its way, and begins
//! nothing.
//!
//! Only one of a daemon that is here, as it is now, can begin. So whoever calls off many of others makes nobody forget those.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::identity::{EntityId, NodeId};
use crate::wire::migration::MoveId;

/// Most moves of one daemon that one driver called off.
const MOST_OF_DAEMON: usize = 8;
/// Most moves of one driver. What is beyond is its own loss.
const MOST_OF_DRIVER: usize = 4096;

/// By driver: what one of them calls off makes nobody forget what another one did.
#[derive(Debug, Default)]
pub struct CalledOff {
    drivers: HashMap<NodeId, OfDriver>,
}

/// What one driver called off, numbered as it came.
#[derive(Debug, Default)]
struct OfDriver {
    next: u64,
    moves: BTreeMap<u64, MoveId>,
    /// The numbers of the moves of each daemon, in their order.
    of_daemon: HashMap<EntityId, VecDeque<u64>>,
}

impl CalledOff {
    /// A driver calls off a move of a daemon that is here at the epoch of that move. Moves of earlier epochs cannot begin any
    /// more.
    pub fn note(&mut self, by: NodeId, id: MoveId) {
        self.drivers.entry(by).or_default().note(id);
    }

    /// Whether that driver called it off.
    pub fn holds(&self, by: NodeId, id: &MoveId) -> bool {
        self.drivers.get(&by).is_some_and(|driver| driver.holds(id))
    }

    /// A driver is lost, with all that it sent.
    pub fn forget_driver(&mut self, driver: NodeId) {
        self.drivers.remove(&driver);
    }

    /// A daemon is not here any more.
    pub fn forget_daemon(&mut self, daemon: &EntityId) {
        self.drivers.retain(|_, driver| {
            driver.forget(daemon);
            !driver.moves.is_empty()
        });
    }

    /// How many moves are remembered.
    pub fn len(&self) -> usize {
        self.drivers.values().map(|driver| driver.moves.len()).sum()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.drivers.is_empty()
    }
}

impl OfDriver {
    fn note(&mut self, id: MoveId) {
        let Self { next, moves, of_daemon } = self;
        let numbers = of_daemon.entry(id.entity).or_default();
        numbers.retain(|number| {
            let stays = |known: &MoveId| known.epoch > id.epoch || known.epoch == id.epoch && *known != id;
            let stays = moves.get(number).is_some_and(stays);
            if !stays {
                moves.remove(number);
            }
            stays
        });
        if numbers.len() >= MOST_OF_DAEMON
            && let Some(oldest) = numbers.pop_front()
        {
            moves.remove(&oldest);
        }
        numbers.push_back(*next);
        moves.insert(*next, id);
        *next += 1;
        if moves.len() > MOST_OF_DRIVER
            && let Some((_, oldest)) = moves.pop_first()
            && let Some(numbers) = of_daemon.get_mut(&oldest.entity)
        {
            // The oldest of all is the oldest of its daemon.
            numbers.pop_front();
            if numbers.is_empty() {
                of_daemon.remove(&oldest.entity);
            }
        }
    }

    fn holds(&self, id: &MoveId) -> bool {
        let mut numbers = self.of_daemon.get(&id.entity).into_iter().flatten();
        numbers.any(|number| self.moves.get(number) == Some(id))
    }

    fn forget(&mut self, daemon: &EntityId) {
        for number in self.of_daemon.remove(daemon).into_iter().flatten() {
            self.moves.remove(&number);
        }
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
    fn whatever_a_driver_calls_off_makes_nobody_forget_what_another_one_did() {
        let mut moves = CalledOff::default();
        moves.note(OTHER, id(2, 0, 1));
        for migration in 0..1000 {
            moves.note(BY, id(2, migration, 1));
        }
        assert!(moves.holds(OTHER, &id(2, 0, 1)), "the very same move was called off by both");
        assert!(!moves.holds(BY, &id(2, 0, 1)), "its own last ones are kept");
        assert!(moves.holds(BY, &id(2, 999, 1)) && !moves.holds(OTHER, &id(2, 999, 1)));
        assert_eq!(moves.len(), MOST_OF_DAEMON + 1);
    }

    #[test]
    fn of_all_that_a_driver_calls_off_its_oldest_is_forgotten() {
        let of = |number: u64| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            MoveId { entity: EntityId::from_bytes(bytes), ..id(1, 1, 1) }
        };
        let mut moves = CalledOff::default();
        moves.note(OTHER, of(0));
        for number in 0..5000 {
            moves.note(BY, of(number));
        }
        assert!(moves.holds(OTHER, &of(0)));
        assert!(moves.holds(BY, &of(4999)) && !moves.holds(BY, &of(0)));
        assert_eq!(moves.len(), MOST_OF_DRIVER + 1);
        assert_eq!(moves.drivers[&BY].of_daemon.len(), MOST_OF_DRIVER);
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
        assert!(moves.is_empty());
    }
}
