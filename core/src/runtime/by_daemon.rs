//! What is kept of daemons that leave or arrive, found by entity and by address: the directory asks by address, often.

use std::collections::HashMap;
use std::collections::hash_map::{IntoIter, Iter, Keys, Values};

use crate::identity::{EntityId, OriginHash};

/// A value for each of some daemons.
#[derive(Debug)]
pub(super) struct ByDaemon<T> {
    values: HashMap<EntityId, T>,
    /// Of two daemons with one address, the one that came first.
    by_origin: HashMap<OriginHash, Vec<EntityId>>,
}

impl<T> Default for ByDaemon<T> {
    fn default() -> Self {
        Self { values: HashMap::new(), by_origin: HashMap::new() }
    }
}

impl<T> ByDaemon<T> {
    pub(super) fn insert(&mut self, entity: EntityId, value: T) -> Option<T> {
        let former = self.values.insert(entity, value);
        if former.is_none() {
            self.by_origin.entry(entity.origin_hash()).or_default().push(entity);
        }
        former
    }

    pub(super) fn remove(&mut self, entity: &EntityId) -> Option<T> {
        let value = self.values.remove(entity)?;
        let origin = entity.origin_hash();
        if let Some(same) = self.by_origin.get_mut(&origin) {
            same.retain(|other| other != entity);
            if same.is_empty() {
                self.by_origin.remove(&origin);
            }
        }
        Some(value)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn get(&self, entity: &EntityId) -> Option<&T> {
        self.values.get(entity)
    }

    pub(super) fn get_mut(&mut self, entity: &EntityId) -> Option<&mut T> {
        self.values.get_mut(entity)
    }

    /// The daemon with an address.
    pub(super) fn entity_of(&self, origin: OriginHash) -> Option<EntityId> {
        self.by_origin.get(&origin)?.first().copied()
    }

    /// What is kept of the daemon with an address.
    pub(super) fn of(&self, origin: OriginHash) -> Option<&T> {
        self.get(&self.entity_of(origin)?)
    }

    /// The same, with the daemon, to be changed.
    pub(super) fn of_mut(&mut self, origin: OriginHash) -> Option<(EntityId, &mut T)> {
        let entity = self.entity_of(origin)?;
        Some((entity, self.get_mut(&entity)?))
    }

    pub(super) fn contains_key(&self, entity: &EntityId) -> bool {
        self.values.contains_key(entity)
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn keys(&self) -> Keys<'_, EntityId, T> {
        self.values.keys()
    }

    pub(super) fn values(&self) -> Values<'_, EntityId, T> {
        self.values.values()
    }

    pub(super) fn iter(&self) -> Iter<'_, EntityId, T> {
        self.values.iter()
    }
}

impl<T> IntoIterator for ByDaemon<T> {
    type Item = (EntityId, T);
    type IntoIter = IntoIter<EntityId, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.values.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::EntityKeypair;

    #[test]
    fn what_is_over_is_found_under_no_address() {
        let [one, other] = [1, 2].map(|seed| EntityKeypair::from_seed(&[seed; 32]).entity_id());
        let mut kept = ByDaemon::default();
        assert_eq!(kept.insert(one, 1), None);
        assert_eq!(kept.insert(other, 2), None);
        assert_eq!(kept.insert(one, 3), Some(1), "another move of the same daemon");
        assert_eq!((kept.of(one.origin_hash()), kept.of(other.origin_hash())), (Some(&3), Some(&2)));
        assert_eq!(kept.of_mut(other.origin_hash()), Some((other, &mut 2)));
        assert_eq!(kept.remove(&one), Some(3));
        assert_eq!(kept.remove(&one), None);
        assert_eq!(kept.of(one.origin_hash()), None);
        assert_eq!(kept.of(other.origin_hash()), Some(&2));
        kept.remove(&other);
        assert!(kept.is_empty() && kept.by_origin.is_empty());
        kept.insert(one, 4);
        kept.clear();
        assert_eq!((kept.len(), kept.entity_of(one.origin_hash())), (0, None));
    }

    #[test]
    fn of_two_daemons_with_one_address_the_other_is_found_when_the_first_is_over() {
        let [one, other] = [1, 2].map(|seed| EntityKeypair::from_seed(&[seed; 32]).entity_id());
        let mut kept = ByDaemon::default();
        kept.insert(one, 1);
        kept.insert(other, 2);
        // Addresses are hashes: nobody finds two entities with the same one for a test.
        let origin = one.origin_hash();
        kept.by_origin.remove(&other.origin_hash());
        kept.by_origin.entry(origin).or_default().push(other);
        assert_eq!(kept.of(origin), Some(&1));
        kept.remove(&one);
        assert_eq!(kept.of(origin), Some(&2));
    }
}
