//! The same worlds with daemons that send to each other and call each other while they process events, awaited and not, and
//! move and die meanwhile.

use std::collections::BTreeSet;

use super::{Habits, Model, RuntimeError, World, in_world, options, seeds};
use crate::engine::world::Talk;

impl Model {
    /// All daemons talk, in a world where they are to.
    pub(super) fn have_them_talk(&self, world: &mut World) {
        let daemons: Vec<_> = self.daemons.keys().copied().collect();
        if let Some(talk) = &mut world.talk {
            talk.among(&daemons);
        }
    }

    /// What daemons said is held to the same promises as what users asked for.
    pub(super) fn learn_what_they_said(&mut self, world: &World) {
        for (request, said) in world.talk.iter().flat_map(|talk| &talk.said) {
            let (node, life) = said.from;
            self.requests.insert(*request, (node, life, said.to));
        }
    }

    /// What a copy heard of each life of each daemon it heard in the order in which that was said, wherever that life was
    /// spent. Where nobody knows whether it was heard it may be heard late.
    pub(super) fn check_talk(&self, world: &World) {
        let Some(talk) = &world.talk else { return };
        for wait in world.waits.values() {
            let Some((request, said)) = wait.request.and_then(|request| Some((request, talk.said.get(&request)?)))
            else {
                continue;
            };
            // What it asks itself moves with it.
            if matches!(wait.result, Some(Err(RuntimeError::ShuttingDown))) && said.to != said.speaker {
                let fate = self.daemons[&said.speaker].2;
                let died = fate.bereaved || fate.doubled || self.recover_lost;
                assert!(
                    died,
                    "request {request} of {}, which lives, was lost with a node that it had left",
                    said.speaker
                );
            }
        }
        let accepted: BTreeSet<u64> = world
            .waits
            .values()
            .filter(|wait| matches!(wait.result, Some(Ok(_))))
            .filter_map(|wait| wait.request)
            .collect();
        for &origin in self.daemons.keys() {
            for (host, key) in world.hosts(origin) {
                let seen = &world.nodes[host].objects.map[&key].ledger.seen;
                let heard: Vec<_> =
                    seen.iter().filter_map(|request| Some((request, talk.said.get(request)?))).collect();
                for (at, (later, one)) in heard.iter().enumerate() {
                    for (earlier, other) in &heard[at + 1..] {
                        let in_order = later < earlier
                            || !accepted.contains(earlier)
                            || one.speaker != other.speaker
                            || !talk.precedes(other.stretch, one.stretch);
                        assert!(in_order, "{origin} heard {later} before {earlier}: {one:?}, {other:?}");
                    }
                }
            }
        }
    }
}

fn talking(seed: u64) -> u64 {
    let nodes = 3 + usize::try_from(seed % 3).expect("small");
    let capacity = (seed % 5 == 2).then_some(6);
    // Where everybody lives everything is to arrive.
    let deaths = seed % 4 != 1 && capacity.is_none();
    let habits = Habits { daemons: 5, deaths, capacity, late_news: false };
    let mut world = World::with_options(seed, nodes, |_| options(seed));
    world.talk = Some(Talk::new(seed));
    in_world(world, |world| super::wander(world, habits))
}

#[test]
fn hazards_57_61_daemons_that_send_and_call_while_they_move_and_anybody_dies() {
    for seed in seeds::chosen(0..12) {
        talking(seed);
    }
}

/// It was to move to where it was, had left for a node that died, and was taken back.
#[test]
fn a_daemon_that_is_moved_to_its_own_host_may_live_there_by_no_move() {
    talking(1_003_088);
}

#[test]
fn the_same_seed_of_talk_gives_the_same_trace() {
    for seed in 0..2 {
        assert_eq!(talking(seed), talking(seed));
    }
    assert_ne!(talking(0), talking(1));
}

/// A daemon had an event in its mailbox for longer than its own timeout, or than senders wait to be accepted: what had been
/// accepted, and nobody waited for, was dropped.
#[test]
fn what_was_accepted_runs_behind_what_takes_long() {
    for seed in [70101, 70206, 70281, 70380, 70452] {
        talking(seed);
    }
}

/// What a host held for want of room, or because the daemon had not wholly arrived, was given up by its sender, who was told
/// that it did not run; later it did.
#[test]
fn what_a_sender_was_told_not_to_have_run_does_not_run_later() {
    for seed in [70317, 70382] {
        talking(seed);
    }
}

/// A daemon had called itself, and moved while that call waited on the node that it left for room in its own mailbox: what it
/// said on the next node overtook it.
#[test]
fn what_a_daemon_asks_itself_is_in_its_mailbox_before_it_moves() {
    talking(400_587);
}

/// What was left of a stream that had ended waited for room in turn with the next one, for which another node spoke.
#[test]
fn what_a_sender_sent_by_its_next_stream_does_not_overtake_what_is_left_of_the_one_before() {
    for seed in [1_501_322, 1_502_497] {
        talking(seed);
    }
}

/// Nobody may say of a copy that is undecided that it was dropped: its source takes the daemon back then.
#[test]
fn an_undecided_copy_is_not_said_to_be_gone() {
    super::deaths_with(200_077, Habits { late_news: true, ..super::USUAL });
    talking(700_380);
}
