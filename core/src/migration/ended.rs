//! Moves that are over, remembered for a while: what is repeated, replayed or late changes nothing, and whoever asks again
//! gets the same answer.

use std::collections::{HashMap, VecDeque};

use crate::identity::{EntityId, MigrationId, NodeId};
use crate::wire::migration::MoveId;

/// Most moves that are remembered.
const MOST: usize = 8192;

/// How a move ended for one of its roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The source kept the daemon, or it never began there.
    Kept,
    /// The source let go, and the target is live.
    Left,
    /// The target dropped what it had; nothing ran there.
    Discarded,
    /// The target went live, and the source let go.
    Arrived,
}

/// The newest ended moves of one role of one node.
#[derive(Debug, Default)]
pub struct EndedMoves {
    ends: HashMap<(EntityId, MigrationId), (u32, NodeId, End)>,
    order: VecDeque<(EntityId, MigrationId)>,
    forgot: bool,
}

impl EndedMoves {
    /// Begins where another runtime may have ended moves before.
    pub fn after_others() -> Self {
        Self { forgot: true, ..Self::default() }
    }

    /// An attempt ended that `by` drove. A later attempt of the same migration may still come.
    pub fn note(&mut self, id: &MoveId, by: NodeId, end: End) {
        let key = (id.entity, id.migration);
        if self.ends.insert(key, (id.attempt, by, end)).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.ends.remove(&oldest);
            self.forgot = true;
        }
    }

    /// It was not that move after all: somebody else used its name.
    pub fn forget(&mut self, id: &MoveId) {
        let key = (id.entity, id.migration);
        if self.ends.remove(&key).is_some() {
            self.order.retain(|other| *other != key);
        }
    }

    /// How this attempt, or one behind it, ended.
    pub fn of(&self, id: &MoveId) -> Option<End> {
        let (attempt, _, end) = self.ends.get(&(id.entity, id.migration))?;
        (id.attempt <= *attempt).then_some(*end)
    }

    /// The same for the one who drove it: others may have used the name of its move.
    pub fn of_driver(&self, id: &MoveId, by: NodeId) -> Option<End> {
        let (_, driver, _) = self.ends.get(&(id.entity, id.migration))?;
        if *driver == by { self.of(id) } else { None }
    }

    /// Whether every move that ever ended is remembered: then one that is not known never was.
    pub fn is_complete(&self) -> bool {
        !self.forgot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{EntityKeypair, Epoch};

    const BY: NodeId = NodeId::new(7);

    fn id(migration: u128, attempt: u32) -> MoveId {
        let entity = EntityKeypair::from_seed(&[1; 32]).entity_id();
        MoveId { entity, migration: MigrationId::new(migration), attempt, epoch: Epoch::FIRST }
    }

    #[test]
    fn requirement_79_an_ended_attempt_and_those_before_it_stay_ended_and_a_later_one_is_new() {
        let mut ended = EndedMoves::default();
        ended.note(&id(1, 2), BY, End::Discarded);
        assert_eq!(ended.of(&id(1, 1)), Some(End::Discarded));
        assert_eq!(ended.of(&id(1, 2)), Some(End::Discarded));
        assert_eq!(ended.of(&id(1, 3)), None);
        assert_eq!(ended.of(&id(2, 1)), None);
        assert_eq!(ended.of_driver(&id(1, 2), BY), Some(End::Discarded));
        assert_eq!(ended.of_driver(&id(1, 2), NodeId::new(8)), None);
    }

    #[test]
    fn memory_is_bounded_and_what_was_forgotten_is_known_to_be() {
        let mut ended = EndedMoves::default();
        for migration in 0..MOST as u128 {
            ended.note(&id(migration, 1), BY, End::Left);
        }
        assert!(ended.is_complete());
        ended.note(&id(u128::MAX, 1), BY, End::Left);
        assert!(!ended.is_complete());
        assert_eq!((ended.of(&id(0, 1)), ended.of(&id(1, 1))), (None, Some(End::Left)));
        assert_eq!(ended.ends.len(), MOST);
    }
}
