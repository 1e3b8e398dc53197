//! Questions under way: who hosts this daemon? Its home nodes are asked, and peers that are no members; then whoever they
//! name. The best claim wins.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::claim::Claim;
use crate::identity::{Epoch, NodeId, OriginHash};
use crate::membership::Standing;

/// When nobody's silence is waited for any longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// When somebody who did not know yet whether it knows is asked again, the first time; then twice as long, and so on.
const AGAIN: Duration = Duration::from_millis(50);

/// Numbers a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Query(pub u64);

/// How a question ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The best claim that anyone knows.
    Found(Found),
    /// Everybody who would know was asked and knows of none: perhaps of one that its own host denies.
    NotFound(Option<Claim>),
    /// Some did not answer in time, and the others know of none: perhaps of a former one.
    Unanswered(Option<Claim>),
    /// The same, and one of those who did not answer is named as the host.
    HostSilent(NodeId, Option<Claim>),
    /// Nobody knows of a host that is alive, but somebody holds a copy that a move left in doubt: with the newest claim that
    /// was denied. Others may not have answered.
    InDoubt(Option<Claim>),
}

/// Whether a question waits for peers that cannot answer yet, because they or this node have not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// Yes: whoever asked has a deadline, and the daemon may be there.
    WaitForAll,
    /// No: nobody can reach what lives there, and whoever asked has no deadline.
    SkipSilent,
}

/// What somebody answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This claim is the best that it knows.
    Claim(Claim),
    /// It knows of no host.
    Nothing,
    /// It knows of none, but not whether it would.
    Unsure,
}

/// A question that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What it was about.
    pub origin: OriginHash,
    /// What was found.
    pub finding: Finding,
    /// Who was asked and has not answered.
    pub unheard: BTreeSet<NodeId>,
}

#[derive(Debug)]
struct Open {
    origin: OriginHash,
    haste: Haste,
    /// Whether whoever was silent when it began was left out, for the sake of somebody in haste.
    left_out_silent: bool,
    waiting_for: BTreeSet<NodeId>,
    /// Who cannot be asked yet.
    silent: BTreeSet<NodeId>,
    /// Who is to be asked again.
    unsure: BTreeSet<NodeId>,
    /// Who answered, with the claim that they know.
    answers: BTreeMap<NodeId, Option<Claim>>,
    /// Hosts that homes named, and that have not answered since.
    hosts: BTreeSet<NodeId>,
    /// Hosts that others named at an epoch: what these say from then on is later than that.
    named: BTreeSet<(NodeId, Epoch)>,
    /// The newest of the claims that do not hold any more.
    outdated: Option<Claim>,
    /// Whether somebody holds a copy of which it is not known whether it is the one that lives.
    doubted: bool,
    until: Instant,
    again: Instant,
    pause: Duration,
    /// The instant under which it stands in [`Lookups::due`].
    due: Instant,
}

/// A claim that was found, and who told of it: the host itself, or one that it left and that forwards to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The best claim.
    pub claim: Claim,
    /// Who told of it.
    pub by: NodeId,
}

impl Open {
    /// The best claim. What a former host says is not believed against the word of the host that it names: that it knows of
    /// none, that it hosts or knows of another life of the daemon, or that this has left it as well or is another's at the same
    /// epoch. A host that is dead hosts nothing, whoever names it.
    fn best(&self, is_dead: impl Fn(&Claim) -> bool) -> Option<Found> {
        let mut best: Option<Found> = None;
        for (by, claim) in &self.answers {
            let Some(claim) = claim.as_ref().filter(|claim| !is_dead(claim)) else { continue };
            let host = claim.body().node();
            // A host that the daemon is on its way to still names the one before, at the epoch of that one.
            let otherwise = |word: &Claim| {
                let (word, body) = (word.body(), claim.body());
                word.node() == host || word.epoch >= body.epoch || word.lineage != body.lineage
            };
            let denied = *by != host && self.answers.get(&host).is_some_and(|word| word.as_ref().is_none_or(otherwise));
            if !denied && best.as_ref().is_none_or(|best| claim.beats(&best.claim)) {
                best = Some(Found { claim: claim.clone(), by: *by });
            }
        }
        best
    }

    /// The newest claim of one that has left its host.
    fn denied(&self) -> Option<Claim> {
        let claims = self.answers.values().flatten().chain(&self.outdated);
        claims.reduce(|best, claim| if claim.beats(best) { claim } else { best }).cloned()
    }

    /// A host that speaks for itself ends the question, unless somebody names another one at a later epoch, which is to be
    /// heard first. Who is seeking a mesh does not know whom to ask.
    fn is_over(&self, standing: Standing, now: Instant, is_dead: impl Fn(&Claim) -> bool) -> bool {
        let own_word = || self.best(&is_dead).is_some_and(|best| best.claim.body().node() == best.by);
        let nobody_left = self.waiting_for.is_empty()
            && self.unsure.is_empty()
            && match (standing, self.haste) {
                (Standing::Seeking, _) | (Standing::Apart, Haste::WaitForAll) => false,
                (Standing::Arriving, _) | (Standing::Settled, Haste::WaitForAll) => self.silent.is_empty(),
                (Standing::Settled | Standing::Apart, Haste::SkipSilent) => true,
            };
        nobody_left || self.until <= now || own_word()
    }

    /// Whether everybody has answered who would know.
    fn is_answered(&self, standing: Standing) -> bool {
        let knows_whom = match standing {
            Standing::Arriving | Standing::Settled => true,
            Standing::Seeking | Standing::Apart => false,
        };
        knows_whom && self.waiting_for.is_empty() && self.silent.is_empty() && self.unsure.is_empty()
    }

    /// The node knows better whom to ask: what others did not know is asked again, and patience begins anew.
    fn ask_anew(&mut self, now: Instant) {
        let unsure = &mut self.unsure;
        self.answers.retain(|&node, claim| claim.is_some() || !unsure.insert(node));
        (self.until, self.again, self.pause) = (now + PATIENCE, now, AGAIN);
    }

    /// A host that knew of none before somebody named it may have got the daemon meanwhile: it is asked again, once.
    fn confront(&mut self, by: NodeId, claim: &Claim) {
        let (host, epoch) = (claim.body().node(), claim.body().epoch);
        if host != by && self.named.insert((host, epoch)) && matches!(self.answers.get(&host), Some(None)) {
            self.answers.remove(&host);
            self.unsure.insert(host);
        }
    }

    /// When it runs out of patience, or somebody is to be asked again.
    fn next_deadline(&self) -> Instant {
        if self.unsure.is_empty() { self.until } else { self.until.min(self.again) }
    }

    fn involves(&self, node: NodeId) -> bool {
        self.answers.contains_key(&node)
            || self.waiting_for.contains(&node)
            || self.silent.contains(&node)
            || self.unsure.contains(&node)
    }
}

/// The questions of one node. There may be very many: only those are looked at of which something was heard, or whose instant
/// has come.
#[derive(Debug, Default)]
pub struct Lookups {
    open: BTreeMap<Query, Open>,
    by_origin: HashMap<OriginHash, Query>,
    /// When there is something to do for each.
    due: BTreeSet<(Instant, Query)>,
    /// Those of which something was heard since they were looked at.
    heard: BTreeSet<Query>,
    last: u64,
    /// How far the node has come with joining the mesh that it asks.
    standing: Standing,
}

impl Lookups {
    /// The question, if this is being asked already. A hurried one hurries it.
    pub fn join(&mut self, origin: OriginHash, haste: Haste) -> Option<Query> {
        let query = self.by_origin.get(&origin).copied()?;
        match haste {
            Haste::WaitForAll => {}
            Haste::SkipSilent => {
                self.change(query, |open| open.haste = haste);
            }
        }
        Some(query)
    }

    /// Somebody who waits for all has joined: true when those who were left out are to be taken in, which is said once.
    pub fn begin_to_wait(&mut self, query: Query) -> bool {
        self.open.get_mut(&query).is_some_and(|open| std::mem::take(&mut open.left_out_silent))
    }

    /// Does something to an open question, which is looked at then.
    fn change<T>(&mut self, query: Query, change: impl FnOnce(&mut Open) -> T) -> Option<T> {
        let open = self.open.get_mut(&query)?;
        let result = change(open);
        let due = open.next_deadline();
        if due != open.due {
            self.due.remove(&(open.due, query));
            self.due.insert((due, query));
            open.due = due;
        }
        self.heard.insert(query);
        Some(result)
    }

    /// The same to all of them.
    fn change_all(&mut self, mut change: impl FnMut(Query, &mut Open)) {
        for query in self.open.keys().copied().collect::<Vec<_>>() {
            self.change(query, |open| change(query, open));
        }
    }

    /// Begins a question to `peers`, each with whether it answers, unless it is being asked already. Gives its number when it
    /// is new. A hurried question hurries the one that is being asked.
    pub fn begin(
        &mut self,
        origin: OriginHash,
        haste: Haste,
        peers: impl Iterator<Item = (NodeId, bool)>,
        now: Instant,
    ) -> Option<Query> {
        if self.join(origin, haste).is_some() {
            return None;
        }
        self.last += 1;
        let query = Query(self.last);
        let (asked, silent): (Vec<_>, Vec<_>) = peers.partition(|(_, answers)| *answers);
        let nodes = |peers: Vec<(NodeId, bool)>| peers.into_iter().map(|(node, _)| node).collect();
        let open = Open {
            origin,
            haste,
            left_out_silent: haste == Haste::SkipSilent,
            waiting_for: nodes(asked),
            silent: nodes(silent),
            unsure: BTreeSet::new(),
            answers: BTreeMap::new(),
            hosts: BTreeSet::new(),
            named: BTreeSet::new(),
            outdated: None,
            doubted: false,
            until: now + PATIENCE,
            again: now + AGAIN,
            pause: AGAIN,
            due: now + PATIENCE,
        };
        self.due.insert((open.due, query));
        self.heard.insert(query);
        self.open.insert(query, open);
        self.by_origin.insert(origin, query);
        Some(query)
    }

    /// How far the node has come with joining.
    pub fn stand(&mut self, standing: Standing, now: Instant) {
        let stood = std::mem::replace(&mut self.standing, standing);
        if stood == standing {
            return;
        }
        let knows_better = match standing {
            Standing::Arriving | Standing::Settled => true,
            Standing::Seeking | Standing::Apart => false,
        };
        self.change_all(|_, open| {
            if knows_better {
                open.ask_anew(now);
            }
        });
    }

    /// Whoever asks next asks anew: what was answered before says nothing about what comes now.
    pub fn begin_anew(&mut self, origin: OriginHash) {
        if let Some(query) = self.by_origin.get(&origin).copied() {
            self.take(query);
        }
    }

    /// An answer arrived, with a claim of the daemon that was asked for if any. What that node was not asked is not heard.
    pub fn answer(&mut self, query: Query, from: NodeId, answer: Answer) {
        self.change(query, |open| {
            if !open.waiting_for.remove(&from) {
                return;
            }
            open.hosts.remove(&from);
            match answer {
                Answer::Claim(claim) => {
                    open.confront(from, &claim);
                    open.answers.insert(from, Some(claim));
                }
                Answer::Nothing => {
                    open.answers.insert(from, None);
                }
                Answer::Unsure => {
                    open.unsure.insert(from);
                }
            }
        });
    }

    /// Somebody named a host of which the asker knows that it has not got the daemon any more.
    pub fn outdated(&mut self, query: Query, claim: Claim) {
        self.change(query, |open| {
            if open.outdated.as_ref().is_none_or(|known| claim.beats(known)) {
                open.outdated = Some(claim);
            }
        });
    }

    /// A host shows its claim unasked: that is its own word, and ends a doubt.
    pub fn volunteered(&mut self, by: NodeId, claim: &Claim) {
        let Some(query) = self.by_origin.get(&claim.body().entity.origin_hash()).copied() else { return };
        self.change(query, |open| {
            open.doubted = false;
            open.waiting_for.remove(&by);
            open.silent.remove(&by);
            open.unsure.remove(&by);
            open.hosts.remove(&by);
            open.answers.insert(by, Some(claim.clone()));
        });
    }

    /// Somebody who was asked holds a copy in doubt.
    pub fn in_doubt(&mut self, query: Query, from: NodeId) {
        self.change(query, |open| open.doubted |= open.waiting_for.contains(&from));
    }

    /// Takes another node into a question, with whether it answers; true when it is to be asked now. What is not open, and
    /// who was asked before, is left alone.
    pub fn ask_too(&mut self, query: Query, node: NodeId, answers: bool) -> bool {
        let asked = self.change(query, |open| {
            if open.involves(node) {
                return false;
            }
            if answers { open.waiting_for.insert(node) } else { !open.silent.insert(node) }
        });
        asked == Some(true)
    }

    /// The same for a node that a home names as the host: whoever is in haste waits for it too.
    pub fn ask_host(&mut self, query: Query, node: NodeId, answers: bool) -> bool {
        let asked_now = self.change(query, |open| {
            if open.answers.contains_key(&node) {
                return false;
            }
            open.hosts.insert(node);
            let asked = open.waiting_for.contains(&node) && !open.silent.contains(&node);
            open.unsure.remove(&node);
            if answers {
                open.silent.remove(&node);
            } else {
                // Both: it is asked once it can be.
                open.silent.insert(node);
            }
            open.waiting_for.insert(node);
            answers && !asked
        });
        asked_now == Some(true)
    }

    /// The same for a node that is about to host the daemon itself, whatever it answered before that.
    pub fn ask_rival(&mut self, origin: OriginHash, node: NodeId, answers: bool) -> Option<Query> {
        let query = self.by_origin.get(&origin).copied()?;
        self.change(query, |open| {
            if matches!(open.answers.get(&node), Some(None)) {
                open.answers.remove(&node);
            }
        });
        self.ask_host(query, node, answers).then_some(query)
    }

    /// What an open question is about.
    pub fn open_origin(&self, query: Query) -> Option<OriginHash> {
        self.open.get(&query).map(|open| open.origin)
    }

    /// Whether that node was asked this.
    pub fn is_asked(&self, query: Query, node: NodeId) -> bool {
        self.open.get(&query).is_some_and(|open| open.waiting_for.contains(&node))
    }

    /// The question about a daemon, when that node was asked it.
    pub fn asked(&self, origin: OriginHash, node: NodeId) -> Option<Query> {
        self.by_origin.get(&origin).copied().filter(|query| self.is_asked(*query, node))
    }

    /// The questions that are open.
    pub fn open(&self) -> Vec<(Query, OriginHash)> {
        self.open.iter().map(|(query, open)| (*query, open.origin)).collect()
    }

    /// Those for which there is something to do now.
    fn due(&self, now: Instant) -> BTreeSet<Query> {
        self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, query)| *query).collect()
    }

    /// Takes those who are to be asked again.
    pub fn again(&mut self, now: Instant) -> Vec<(Query, OriginHash, NodeId)> {
        let mut again = Vec::new();
        for query in self.due(now) {
            self.change(query, |open| {
                if open.again > now || open.unsure.is_empty() {
                    return;
                }
                open.pause *= 2;
                open.again = now + open.pause;
                for node in std::mem::take(&mut open.unsure) {
                    open.waiting_for.insert(node);
                    again.push((query, open.origin, node));
                }
            });
        }
        again
    }

    /// A peer has a new session: what it was asked before is lost, and it cannot be asked yet. One that is no member is asked
    /// whatever is open.
    pub fn peer_silent(&mut self, node: NodeId, member: bool) {
        self.change_all(|_, open| {
            let asked = open.waiting_for.remove(&node) | open.unsure.remove(&node);
            if asked || !member {
                open.silent.insert(node);
            }
        });
    }

    /// A peer can be asked from now on: gives the questions that it has not answered.
    pub fn peer_answers(&mut self, node: NodeId) -> Vec<(Query, OriginHash)> {
        let mut questions = Vec::new();
        self.change_all(|query, open| {
            if open.silent.remove(&node) && !open.answers.contains_key(&node) {
                open.waiting_for.insert(node);
                questions.push((query, open.origin));
            }
        });
        questions
    }

    /// A peer's session is lost. A member may still be reached otherwise; of another peer nobody hears any more.
    pub fn peer_gone(&mut self, node: NodeId, member: bool) {
        self.change_all(|_, open| {
            let asked = open.waiting_for.remove(&node) | open.unsure.remove(&node) | open.silent.remove(&node);
            if asked && member {
                open.silent.insert(node);
            }
        });
    }

    /// The next instant at which a question runs out of patience, or somebody is to be asked again.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the questions that are over. Claims whose host is dead name nobody.
    pub fn finished(&mut self, now: Instant, is_dead: impl Fn(&Claim) -> bool) -> Vec<Ended> {
        let mut looked_at = std::mem::take(&mut self.heard);
        looked_at.append(&mut self.due(now));
        let standing = self.standing;
        let is_over = |query: &Query| self.open.get(query).is_some_and(|open| open.is_over(standing, now, &is_dead));
        let over: Vec<Query> = looked_at.into_iter().filter(is_over).collect();
        over.into_iter()
            .filter_map(|query| self.take(query))
            .map(|open| {
                let finding = match (open.best(&is_dead), open.hosts.first()) {
                    (Some(found), _) => Finding::Found(found),
                    (None, _) if open.doubted => Finding::InDoubt(open.denied()),
                    (None, Some(&host)) => Finding::HostSilent(host, open.denied()),
                    (None, None) if open.is_answered(standing) => Finding::NotFound(open.denied()),
                    (None, None) => Finding::Unanswered(open.denied()),
                };
                Ended { origin: open.origin, finding, unheard: open.waiting_for }
            })
            .collect()
    }

    fn take(&mut self, query: Query) -> Option<Open> {
        let open = self.open.remove(&query)?;
        self.due.remove(&(open.due, query));
        self.heard.remove(&query);
        self.by_origin.remove(&open.origin);
        Some(open)
    }
}

#[cfg(test)]
mod tests;
