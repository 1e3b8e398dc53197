//! Daemons that talk: while they process an event they send to one another and call one another, by a chance of their own
//! that leaves all others as they are.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mesh_daemon_core::daemon::{DaemonKey, Ticket};
use mesh_daemon_core::identity::OriginHash;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::super::daemon::Request;
use super::World;

/// What is said because of something said because of an event of a user is the last.
const DEEPEST: u8 = 2;
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Something that a daemon said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said {
    pub(crate) speaker: OriginHash,
    pub(crate) to: OriginHash,
    /// The node that the speaker was on, and its life.
    pub(crate) from: (usize, u64),
    /// The stretch of the speaker's life.
    pub(crate) stretch: u64,
    depth: u8,
}

/// All that daemons say.
///
/// A life of a daemon consists of stretches: one ends with each snapshot. What comes of the snapshot begins the next one, and
/// so does the object that gave it, if it goes on. So of two stretches one precedes the other, or they know nothing of each
/// other, as those of two copies behind an operator's word.
pub(crate) struct Talk {
    rng: SmallRng,
    /// Who talks, and to whom. One waits only for those behind it, so nobody waits for itself.
    daemons: Vec<OriginHash>,
    /// By request.
    pub(crate) said: BTreeMap<u64, Said>,
    /// For each stretch the one before it.
    stretches: Vec<Option<u64>>,
}

/// How something is said.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Send,
    Call,
}

impl Talk {
    /// Nobody talks before the daemons are named.
    pub(crate) fn new(seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed ^ 0x7a1c_7a1c_7a1c_7a1c);
        Self { rng, daemons: Vec::new(), said: BTreeMap::new(), stretches: Vec::new() }
    }

    /// From here on these talk to each other.
    pub(crate) fn among(&mut self, daemons: &[OriginHash]) {
        self.daemons = daemons.to_vec();
    }

    pub(super) fn begin_stretch(&mut self, before: Option<u64>) -> u64 {
        self.stretches.push(before);
        self.stretches.len() as u64 - 1
    }

    /// Whether a stretch is the other one, or went before it.
    pub(crate) fn precedes(&self, earlier: u64, later: u64) -> bool {
        let before = |stretch: &u64| self.stretches[usize::try_from(*stretch).expect("few")];
        std::iter::successors(Some(later), before).any(|stretch| stretch == earlier)
    }

    fn dice(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound)
    }
}

impl World {
    /// A daemon processes an event, and says what comes to its mind. Gives the ticket that it waits for, if it may wait: that
    /// is the last thing it says.
    pub(super) fn speak(&mut self, node: usize, daemon: DaemonKey, heard: u64, may_wait: bool) -> Option<Ticket> {
        let object = self.nodes[node].objects.map.get(&daemon)?;
        let (speaker, stretch) = (object.origin, object.ledger.stretch?);
        let from = (node, self.nodes[node].life);
        let talk = self.talk.as_mut()?;
        let rank = talk.daemons.iter().position(|talker| *talker == speaker)?;
        let depth = talk.said.get(&heard).map_or(0, |said| said.depth + 1);
        if depth >= DEEPEST {
            return None;
        }
        for _ in 0..[0, 0, 1, 1, 2, 4][talk.dice(6)] {
            let talk = self.talk.as_mut()?;
            let listener = talk.dice(talk.daemons.len());
            let to = talk.daemons[listener];
            let way = if talk.dice(4) == 0 { Way::Call } else { Way::Send };
            let waits = may_wait && listener > rank && talk.dice(2) == 0;
            let padding = if talk.dice(40) == 0 { 70_000 } else { 0 };
            let request = self.request(0, 0);
            self.talk.as_mut()?.said.insert(request.id, Said { speaker, to, from, stretch, depth });
            let ticket = self.say((node, daemon, speaker), to, way, request.encode(padding), waits);
            if waits {
                return Some(ticket);
            }
        }
        None
    }

    fn say(
        &mut self,
        (node, daemon, speaker): (usize, DaemonKey, OriginHash),
        to: OriginHash,
        way: Way,
        payload: Bytes,
        waits: bool,
    ) -> Ticket {
        let ticket = self.ticket(node, Some(Request::decode(&payload).id));
        // A call to itself waits in its own mailbox, and does not keep it from moving.
        if !waits && (way == Way::Send || to != speaker) {
            self.speech.murmured.insert(ticket.0, (node, daemon));
        }
        let now = self.present();
        let engine = &mut self.nodes[node].engine;
        let entered = match way {
            Way::Send => engine.send_event_as(ticket, Some(speaker), to, payload, now),
            Way::Call => engine.call_as(ticket, Some(speaker), to, payload, Some(CALL_TIMEOUT), now),
        };
        if let Err(error) = entered {
            self.answered(node, ticket, Err(error));
        }
        ticket
    }

    /// A daemon says something that it does not wait for, as at the end of an event that has just settled.
    pub(crate) fn murmur(&mut self, speaker: OriginHash, to: OriginHash, way: Way) -> Ticket {
        let (node, daemon) = self.hosts(speaker)[0];
        let payload = self.request(0, 0).encode(0);
        let ticket = self.say((node, daemon, speaker), to, way, payload, false);
        self.settle(node);
        ticket
    }
}
