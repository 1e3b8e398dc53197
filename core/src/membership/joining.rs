//! How far a node has come with joining, and so what it may make of silence: *who* is asked where something lives follows from
//! the members that it sees, so whoever was told to join and sees none of them yet knows nothing.
//!
//! A node that nobody told to join knows what there is to know. One that was told *seeks* until a node through which it joins
//! has told it of the members, then *arrives* until there is a session with each of them or an attempt came to nothing, and
//! stays *settled* from then on: what parts it from the others later is a partition. Who finds nobody for a while begins
//! without them, *apart*.

use std::time::Duration;

use tokio::time::Instant;

/// How long a node whose attempts have all come to nothing goes on seeking before it begins without the others.
const SHORT: Duration = Duration::from_secs(2);
/// The same while somebody is being reached, or was and has yet to tell of the members; and how long sessions are waited for.
const LONG: Duration = Duration::from_secs(10);
/// The longest that joining takes, from when records can flow: seeking, then arriving.
pub const LONGEST_JOIN: Duration = LONG.saturating_mul(2);
/// How often a node that is reached is asked for the members: packets get lost.
const ASK: Duration = Duration::from_millis(250);

/// What this node may make of knowing nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It was told to join and does not know the members yet: nothing that it knows, or not, counts.
    Seeking,
    /// It knows the members, and is about to have sessions with them: whoever has none yet is waited for.
    Arriving,
    /// What those who would know do not know is not there.
    #[default]
    Settled,
    /// It found nobody so far, and has begun without those that it seeks.
    Apart,
}

impl Standing {
    /// Whether it changes soon, by itself.
    pub const fn is_passing(self) -> bool {
        match self {
            Self::Seeking | Self::Arriving => true,
            Self::Settled | Self::Apart => false,
        }
    }
}

/// What the rest of the membership knows that matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings {
    /// There are other members.
    pub(super) members: bool,
    /// There is a session with a node through which this one joins.
    pub(super) reached: bool,
    /// A member has no session yet, and none was tried for in vain.
    pub(super) awaited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody told it to join, or it has joined.
    Settled,
    /// Since then; it counts from when records can flow.
    Seeking(Option<Instant>),
    Arriving {
        until: Instant,
    },
    Apart,
}

/// The machine; see the module.
#[derive(Debug)]
pub(super) struct Joining {
    phase: Phase,
    /// It has been let in once.
    joined: bool,
    started: bool,
    /// First attempts to reach somebody that have not ended.
    attempts: usize,
    /// Those whom it was told of and who may still turn up.
    sought: usize,
    ask_at: Option<Instant>,
    /// When patience ends.
    until: Option<Instant>,
}

/// How the first attempt to reach somebody ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// There is a session: the node joins through that one.
    Reached,
    /// Nobody answered; it goes on being tried.
    Failed,
    /// There is nothing to seek there, or it is not tried again.
    Void,
}

impl Joining {
    pub(super) const fn new() -> Self {
        Self { phase: Phase::Settled, joined: false, started: false, attempts: 0, sought: 0, ask_at: None, until: None }
    }

    pub(super) const fn standing(&self) -> Standing {
        match self.phase {
            Phase::Settled => Standing::Settled,
            Phase::Seeking(_) => Standing::Seeking,
            Phase::Arriving { .. } => Standing::Arriving,
            Phase::Apart => Standing::Apart,
        }
    }

    /// It was told to join through so many more, and tries to reach them.
    pub(super) fn seek(&mut self, more: usize, around: Surroundings, now: Instant) {
        self.attempts += more;
        self.sought += more;
        if more > 0 && self.phase == Phase::Settled && !self.joined && !around.members {
            self.phase = Phase::Seeking(self.started.then_some(now));
        }
    }

    /// The first attempt to reach one of them ended.
    pub(super) fn attempted(&mut self, attempt: Attempt) {
        self.attempts = self.attempts.saturating_sub(1);
        if attempt == Attempt::Void {
            self.given_up();
        }
    }

    /// One of them was tried before, and turns out to be nobody to join through.
    pub(super) fn given_up(&mut self) {
        self.sought = self.sought.saturating_sub(1);
    }

    /// Records can flow from now on.
    pub(super) fn start(&mut self, now: Instant) {
        self.started = true;
        if let Phase::Seeking(since) = &mut self.phase {
            since.get_or_insert(now);
        }
    }

    /// It joins through a node that it has reached.
    pub(super) fn reached(&mut self, around: Surroundings, now: Instant) {
        let alone = !self.joined && !around.members;
        if self.phase == Phase::Apart || (self.phase == Phase::Settled && alone) {
            self.phase = Phase::Seeking(self.started.then_some(now));
        }
        if let Phase::Seeking(_) = self.phase {
            self.ask_at = Some(now + ASK);
        }
    }

    /// A node through which it joins told it of the members.
    pub(super) fn told(&mut self, now: Instant) {
        match self.phase {
            Phase::Seeking(_) | Phase::Apart => self.arrive(now),
            Phase::Settled | Phase::Arriving { .. } => {}
        }
    }

    fn arrive(&mut self, now: Instant) {
        self.phase = Phase::Arriving { until: now + LONG };
        self.joined = true;
        self.ask_at = None;
    }

    /// Draws the conclusions of whatever happened. True when the standing has changed.
    pub(super) fn review(&mut self, around: Surroundings, now: Instant) -> bool {
        let before = self.standing();
        if let Phase::Seeking(since) = self.phase {
            let waited = |time| since.is_some_and(|since| since + time <= now);
            if self.sought == 0 && !around.reached {
                self.phase = Phase::Settled;
                self.ask_at = None;
            } else if waited(LONG) || (waited(SHORT) && self.attempts == 0 && !around.reached) {
                self.phase = Phase::Apart;
                self.ask_at = None;
            }
        }
        if self.phase == Phase::Apart && self.sought == 0 && !around.reached {
            // What it was to join through was given up: it is a mesh of its own.
            self.phase = Phase::Settled;
        }
        if self.phase == Phase::Apart && around.members {
            // Others have come to it meanwhile: these are the mesh.
            self.arrive(now);
        }
        if let Phase::Arriving { until } = self.phase
            && (!around.awaited || until <= now)
        {
            self.phase = Phase::Settled;
        }
        self.until = match self.phase {
            Phase::Seeking(Some(since)) => [SHORT, LONG].map(|time| since + time).into_iter().find(|at| *at > now),
            Phase::Arriving { until } => Some(until),
            Phase::Seeking(None) | Phase::Settled | Phase::Apart => None,
        };
        self.standing() != before
    }

    /// Whether those whom it has reached are to be asked for the members.
    pub(super) fn asks(&mut self, now: Instant) -> bool {
        let due = self.next_question().is_some_and(|at| at <= now);
        if due {
            self.ask_at = Some(now + ASK);
        }
        due
    }

    /// When there is something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        self.until.into_iter().chain(self.next_question()).min()
    }

    /// Nothing is said before records can flow.
    fn next_question(&self) -> Option<Instant> {
        self.ask_at.filter(|_| matches!(self.phase, Phase::Seeking(Some(_))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Surroundings = Surroundings { members: false, reached: false, awaited: false };
    const REACHED: Surroundings = Surroundings { reached: true, ..NOBODY };
    const AMONG: Surroundings = Surroundings { members: true, reached: true, awaited: true };
    const MET: Surroundings = Surroundings { awaited: false, ..AMONG };

    fn seeking(seeds: usize) -> (Joining, Instant) {
        let now = Instant::now();
        let mut joining = Joining::new();
        joining.seek(seeds, NOBODY, now);
        joining.start(now);
        (joining, now)
    }

    fn standing(joining: &mut Joining, around: Surroundings, now: Instant) -> Standing {
        joining.review(around, now);
        joining.standing()
    }

    #[tokio::test]
    async fn a_joiner_is_settled_once_it_was_told_of_the_members_and_has_met_them() {
        let (mut joining, now) = seeking(2);
        assert_eq!(standing(&mut joining, NOBODY, now), Standing::Seeking);
        joining.attempted(Attempt::Reached);
        joining.reached(REACHED, now);
        assert_eq!(standing(&mut joining, REACHED, now + SHORT), Standing::Seeking, "it was not told of anybody");
        assert!(!joining.asks(now) && joining.asks(now + ASK), "it is asked again");
        assert_eq!(standing(&mut joining, AMONG, now + SHORT), Standing::Seeking, "nor when others come to it");
        joining.told(now + SHORT);
        assert_eq!(standing(&mut joining, AMONG, now + SHORT), Standing::Arriving);
        assert_eq!(standing(&mut joining, MET, now + SHORT), Standing::Settled);
        joining.seek(1, NOBODY, now + LONG);
        joining.reached(REACHED, now + LONG);
        assert_eq!(standing(&mut joining, REACHED, now + LONG), Standing::Settled, "it has joined once");
    }

    #[tokio::test]
    async fn whoever_finds_nobody_begins_without_them_and_is_not_sure_before_somebody_comes() {
        let (mut joining, now) = seeking(2);
        joining.attempted(Attempt::Failed);
        assert_eq!(standing(&mut joining, NOBODY, now + SHORT / 2), Standing::Seeking);
        assert_eq!(joining.next(), Some(now + SHORT));
        assert_eq!(standing(&mut joining, NOBODY, now + SHORT), Standing::Seeking, "an attempt is under way");
        assert_eq!(joining.next(), Some(now + LONG));
        joining.attempted(Attempt::Failed);
        assert_eq!(standing(&mut joining, NOBODY, now + SHORT), Standing::Apart);
        joining.reached(REACHED, now + LONG);
        assert_eq!(standing(&mut joining, REACHED, now + LONG), Standing::Seeking, "the seed came after all");
        assert_eq!(standing(&mut joining, REACHED, now + 2 * LONG), Standing::Apart, "and says nothing");
        assert_eq!(standing(&mut joining, MET, now + 2 * LONG), Standing::Settled, "another one came");
    }

    #[tokio::test]
    async fn whoever_is_apart_from_seeds_that_are_given_up_is_a_mesh_of_its_own() {
        let (mut joining, now) = seeking(2);
        joining.attempted(Attempt::Failed);
        joining.attempted(Attempt::Failed);
        assert_eq!(standing(&mut joining, NOBODY, now + SHORT), Standing::Apart);
        joining.given_up();
        assert_eq!(standing(&mut joining, NOBODY, now + SHORT), Standing::Apart, "one may still turn up");
        joining.given_up();
        assert_eq!(standing(&mut joining, NOBODY, now + SHORT), Standing::Settled, "there is nobody to join");
        assert_eq!(joining.next(), None);
    }

    #[tokio::test]
    async fn an_attempt_that_hangs_and_members_that_do_not_answer_are_not_waited_for_without_end() {
        let (mut joining, now) = seeking(1);
        assert_eq!(standing(&mut joining, NOBODY, now + LONG), Standing::Apart);
        joining.told(now + LONG);
        assert_eq!(standing(&mut joining, AMONG, now + LONG), Standing::Arriving);
        assert_eq!(joining.next(), Some(now + 2 * LONG));
        assert_eq!(standing(&mut joining, AMONG, now + 2 * LONG), Standing::Settled);
    }

    #[tokio::test]
    async fn a_node_that_is_its_own_only_seed_or_whose_join_failed_has_nothing_to_seek() {
        let (mut joining, now) = seeking(2);
        joining.attempted(Attempt::Void);
        assert_eq!(standing(&mut joining, NOBODY, now), Standing::Seeking);
        joining.attempted(Attempt::Void);
        assert_eq!(standing(&mut joining, NOBODY, now), Standing::Settled);
        assert_eq!(joining.next(), None);
        let mut joining = Joining::new();
        joining.seek(0, NOBODY, now);
        assert_eq!(joining.standing(), Standing::Settled, "no seeds");
        joining.seek(1, MET, now);
        assert_eq!(joining.standing(), Standing::Settled, "it is among others already");
        let mut early = Joining::new();
        early.seek(1, NOBODY, now);
        early.attempted(Attempt::Failed);
        assert_eq!(standing(&mut early, NOBODY, now + LONG), Standing::Seeking, "it was not started");
    }
}
