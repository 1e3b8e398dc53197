//! Where daemons went that lived here, and where others say that daemons live: kept for a bounded time, so that stragglers
//! are sent on and former copies are not believed.
//!
//! What this node knows of its own has its own room, and so has what each other node tells: nobody makes it forget what it
//! knows from elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::claim::Claim;
use crate::identity::{EntityId, Epoch, Lineage, NodeId, OriginHash};

/// How long a former host remembers.
const KEPT_FOR: Duration = Duration::from_secs(600);
/// Most daemons that it remembers.
const MOST_LEFT: usize = 65_536;
/// Most of those that one other node told of.
const MOST_TOLD: usize = 8192;

/// Where a daemon went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Which daemon.
    pub entity: EntityId,
    /// Its life.
    pub lineage: Lineage,
    /// To which node.
    pub node: NodeId,
    /// At which epoch it lives there.
    pub epoch: Epoch,
}

impl Pointer {
    fn of(claim: &Claim) -> Self {
        let body = claim.body();
        Self { entity: body.entity, lineage: body.lineage, node: body.node(), epoch: body.epoch }
    }
}

/// From where this node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Whence {
    /// It lived here.
    Here,
    /// That node said so.
    Told(NodeId),
}

impl Whence {
    const fn most(self) -> usize {
        match self {
            Self::Here => MOST_LEFT,
            Self::Told(_) => MOST_TOLD,
        }
    }
}

#[derive(Debug)]
struct Kept {
    pointer: Pointer,
    claim: Claim,
    until: Instant,
    whence: Whence,
}

/// The pointers of one node.
#[derive(Debug, Default)]
pub struct Pointers {
    by_origin: HashMap<OriginHash, Kept>,
    /// When each of them ends.
    ends: BTreeMap<Whence, BTreeSet<(Instant, OriginHash)>>,
}

impl Pointers {
    /// A daemon left for the host that this claim names.
    pub fn left(&mut self, claim: Claim, now: Instant) {
        self.keep(claim, Whence::Here, now);
    }

    /// Another node says that this host has a daemon.
    pub fn told(&mut self, claim: Claim, by: NodeId, now: Instant) {
        let known = self.by_origin.get(&claim.body().entity.origin_hash());
        // Who says it again does not take it over: what it tells later would push it out.
        let known = known.filter(|kept| kept.whence == Whence::Here || kept.claim == claim);
        let whence = known.map_or(Whence::Told(by), |kept| kept.whence);
        self.keep(claim, whence, now);
    }

    fn keep(&mut self, claim: Claim, whence: Whence, now: Instant) {
        let pointer = Pointer::of(&claim);
        let (origin, until) = (pointer.entity.origin_hash(), now + KEPT_FOR);
        self.forget(origin);
        self.by_origin.insert(origin, Kept { pointer, claim, until, whence });
        let ends = self.ends.entry(whence).or_default();
        ends.insert((until, origin));
        if ends.len() > whence.most()
            && let Some((_, first)) = ends.first().copied()
        {
            self.forget(first);
        }
    }

    /// Where it went.
    pub fn get(&self, origin: OriginHash) -> Option<&Pointer> {
        self.by_origin.get(&origin).map(|kept| &kept.pointer)
    }

    /// The claim that it left with, for those who look for it.
    pub fn claim(&self, origin: OriginHash) -> Option<&Claim> {
        self.by_origin.get(&origin).map(|kept| &kept.claim)
    }

    /// It came back, or is known to be elsewhere.
    pub fn forget(&mut self, origin: OriginHash) {
        let Some(kept) = self.by_origin.remove(&origin) else { return };
        if let Some(ends) = self.ends.get_mut(&kept.whence) {
            ends.remove(&(kept.until, origin));
            if ends.is_empty() {
                self.ends.remove(&kept.whence);
            }
        }
    }

    /// Forgets those whose time is over, but for those that are still `used`: their time begins anew.
    pub fn sweep(&mut self, now: Instant, used: impl Fn(&Pointer) -> bool) {
        let due = |ends: &BTreeSet<(Instant, OriginHash)>| {
            ends.iter().take_while(|(until, _)| *until <= now).map(|(_, origin)| *origin).collect::<Vec<_>>()
        };
        for origin in self.ends.values().flat_map(due).collect::<Vec<_>>() {
            let used = self.by_origin.get(&origin).filter(|kept| used(&kept.pointer));
            match used.map(|kept| (kept.claim.clone(), kept.whence)) {
                Some((claim, whence)) => self.keep(claim, whence, now),
                None => self.forget(origin),
            }
        }
    }

    /// Whether it remembers nothing.
    pub fn is_empty(&self) -> bool {
        self.by_origin.is_empty()
    }

    /// How many daemons it remembers.
    pub fn len(&self) -> usize {
        self.by_origin.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::ClaimBody;
    use crate::identity::EntityKeypair;

    fn claim(daemon: u32, epoch: u64) -> Claim {
        let mut seed = [7; 32];
        seed[..4].copy_from_slice(&daemon.to_le_bytes());
        let keypair = EntityKeypair::from_seed(&seed);
        let (epoch, lineage) = (Epoch::new(epoch), Lineage::new(1));
        let body = ClaimBody {
            entity: keypair.entity_id(),
            lineage,
            epoch,
            min_epoch: epoch,
            host: EntityKeypair::from_seed(&[3; 32]).entity_id(),
            incarnation: None,
        };
        Claim::sign(body, &keypair).expect("a full key")
    }

    fn origin(claim: &Claim) -> OriginHash {
        claim.body().entity.origin_hash()
    }

    const LIAR: NodeId = NodeId::new(1);

    #[test]
    fn nobody_makes_a_node_forget_where_its_own_daemons_went() {
        let now = Instant::now();
        let mut pointers = Pointers::default();
        let own = claim(0, 2);
        pointers.left(own.clone(), now);
        pointers.told(claim(1, 5), NodeId::new(2), now);
        let again = claim(2, 1);
        for _ in 0..2 * MOST_TOLD {
            pointers.told(again.clone(), LIAR, now);
        }
        assert_eq!(pointers.len(), 3, "what is said again and again is one thing");
        pointers.told(claim(1, 5), LIAR, now);
        for daemon in 0..=u32::try_from(MOST_TOLD).expect("few") {
            pointers.told(claim(10 + daemon, 1), LIAR, now + Duration::from_secs(u64::from(daemon)));
        }
        assert_eq!(pointers.len(), 2 + MOST_TOLD, "who tells much is forgotten first");
        assert!(pointers.get(origin(&own)).is_some() && pointers.get(origin(&claim(1, 5))).is_some());
        assert!(pointers.get(origin(&again)).is_none() && pointers.get(origin(&claim(10, 1))).is_none());
    }

    #[test]
    fn what_others_tell_of_a_daemon_that_lived_here_stays_among_its_own() {
        let now = Instant::now();
        let mut pointers = Pointers::default();
        pointers.left(claim(0, 2), now);
        pointers.told(claim(0, 4), LIAR, now);
        for daemon in 1..=u32::try_from(MOST_TOLD).expect("few") {
            pointers.told(claim(daemon, 1), LIAR, now);
        }
        assert_eq!(pointers.get(origin(&claim(0, 2))).map(|pointer| pointer.epoch), Some(Epoch::new(4)));
    }

    #[test]
    fn what_is_used_is_kept_and_everything_else_ends() {
        let now = Instant::now();
        let mut pointers = Pointers::default();
        let used = origin(&claim(0, 1));
        pointers.left(claim(0, 1), now);
        pointers.told(claim(1, 1), LIAR, now);
        pointers.sweep(now + KEPT_FOR, |pointer| pointer.entity.origin_hash() == used);
        assert_eq!((pointers.len(), pointers.get(used).is_some()), (1, true));
        pointers.sweep(now + KEPT_FOR * 2, |_| false);
        assert!(pointers.is_empty() && pointers.ends.is_empty());
    }
}
