//! The table of deaths: who goes on with a daemon when a node of its move is lost, and what becomes of the other copy.

use std::time::Duration;

use mesh_daemon_core::daemon::Ticket;
use mesh_daemon_core::directory::{Claim, ClaimBody};
use mesh_daemon_core::identity::{Epoch, Lineage, OriginHash};
use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::migration::{MigrationFailure, MigrationOptions, MigrationSettings, Outcome};
use mesh_daemon_core::runtime::{ArrivalPolicy, DaemonEvent, Executed, RuntimeError, RuntimeOptions, StopReason};
use mesh_daemon_core::wire::directory::DirectoryMessage;

use super::in_world;
use super::load::answers_are_true;
use super::world::{How, Meddler, NEVER, Trap, World};

const SECOND: Duration = Duration::from_secs(1);

fn options(recover_lost: bool, handover_hold: Duration) -> RuntimeOptions {
    RuntimeOptions {
        arrivals: ArrivalPolicy::AnyKind,
        recover_lost,
        migration: MigrationSettings { handover_hold, ..MigrationSettings::default() },
        ..RuntimeOptions::default()
    }
}

fn world(seed: u64) -> World {
    World::with_options(seed, 3, |_| options(false, Duration::from_secs(600)))
}

/// A move from node 0 to node 1 that is cut for long at a message behind the decision. Some events wait meanwhile.
fn in_doubt(world: &mut World, message: &'static str, arrives: bool) -> (OriginHash, Vec<Ticket>) {
    let kind = if world.seed.is_multiple_of(2) { "prompt" } else { "slow" };
    let origin = world.spawn(0, 1, kind);
    for node in 0..3 {
        let ticket = world.call(node, origin);
        world.outputs(ticket);
    }
    let waiting = (0..12).map(|index| world.call(index % 3, origin)).collect();
    world.trap = Some(Trap { message, nth: 0, arrives, heal_after: NEVER });
    let ticket = world.migrate(0, origin, 1);
    let migration = world.migration(ticket).expect("it begins");
    match world.wait_migration(0, migration) {
        Err(MigrationFailure::Refused(_, Outcome::Unknown)) => {}
        other => panic!("in doubt: {other:?}"),
    }
    assert!(world.sprung, "the connection broke at {message}");
    (origin, waiting)
}

/// Every one that waits gets one answer, and the answer is true of the copy that lives.
fn answered(world: &mut World, waiting: Vec<Ticket>) {
    for ticket in waiting {
        match world.wait_for(ticket) {
            Ok(_)
            | Err(
                RuntimeError::PeerLost { .. }
                | RuntimeError::CallTimeout(_)
                | RuntimeError::NotFound(_)
                | RuntimeError::ShuttingDown,
            ) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    answers_are_true(world);
}

fn works_on(world: &mut World, origin: OriginHash, host: usize) {
    world.run_for(SECOND);
    let hosts: Vec<usize> = world.hosting(origin);
    assert_eq!(hosts, [host], "one live copy");
    for node in 0..3 {
        // The first may find that its stream leads to a life that has ended.
        let first = world.call(node, origin);
        if world.wait_for(first).is_err() {
            let second = world.call(node, origin);
            world.outputs(second);
        }
    }
    world.run_for(SECOND);
    world.assert_nothing_left();
    let to = (host + 1) % 3;
    assert_eq!(world.moved(host, origin, to), Ok(()), "and it can move on");
    world.run_for(SECOND);
    let ticket = world.call(host, origin);
    world.outputs(ticket);
    world.assert_nothing_left();
    answers_are_true(world);
}

fn was_fenced(world: &World, node: usize) -> bool {
    world.daemon_events.contains(&(node, DaemonEvent::Fenced)) && world.retired.contains(&(node, StopReason::Fenced))
}

#[test]
fn hazards_64_69_recover_takes_over_and_the_copy_that_lives_after_all_is_fenced() {
    for seed in 0..30 {
        in_world(world(seed), |world| {
            let (origin, waiting) = in_doubt(world, "ActivateAck", false);
            world.lose(0, 1, Loss::Silence);
            assert_eq!(world.hosts(origin).len(), 1, "the target's copy lives on");
            let ran_there = world.seen(origin);
            assert_eq!(world.recover(0, origin), Ok(()));
            answered(world, waiting);
            // What was handed over may have run there, so it does not run here: from the snapshot on there is only the new.
            let (_, key) = world.hosts(origin)[0];
            let before = world.nodes[0].objects.map[&key].ledger.seen.clone();
            assert!(ran_there.starts_with(&before), "{ran_there:?} {before:?}");
            let here = world.call(0, origin);
            let (_, count, _) = world.outputs(here);
            assert_eq!(count, before.len() as u64 + 1);
            // Node 2 has heard of it: what it asks from now on goes to the right copy.
            world.run_for(SECOND);
            let third = world.call(2, origin);
            assert_eq!(world.outputs(third).1, count + 1);
            // A caller beside the stale copy still reaches that one, until the partition heals.
            world.connect(0, 1, false);
            world.run_for(SECOND);
            assert!(was_fenced(world, 1), "{:?}", world.daemon_events);
            assert!(!was_fenced(world, 0));
            works_on(world, origin, 0);
        });
    }
}

/// Whoever waits for what was handed over hears at once that its host is lost, not at the end of its own patience.
#[test]
fn callers_of_a_daemon_in_doubt_hear_of_the_loss_of_its_target_at_once() {
    for seed in 0..20 {
        in_world(world(seed), |world| {
            let (_, waiting) = in_doubt(world, "ActivateTarget", false);
            world.lose(0, 1, Loss::Silence);
            world.run_for(SECOND);
            for ticket in waiting.into_iter().filter(|ticket| world.waits[&ticket.0].node == 0) {
                let answer = world.waits[&ticket.0].result.as_ref();
                assert!(matches!(answer, Some(Ok(_) | Err(RuntimeError::PeerLost { .. }))), "{ticket:?}: {answer:?}");
            }
        });
    }
}

#[test]
fn hazard_69_the_fenced_copy_says_nothing_any_more_and_its_callers_hear_that_it_is_lost() {
    in_world(world(1), |world| {
        let (origin, waiting) = in_doubt(world, "ActivateAck", false);
        world.lose(0, 1, Loss::Silence);
        answered(world, waiting);
        assert_eq!(world.recover(0, origin), Ok(()));
        let hang = world.request(super::daemon::HANG, 0);
        let late = world.deliver(1, origin, hang);
        let behind = world.call(1, origin);
        world.run_for(Duration::from_millis(50));
        let (_, stale) = *world.hosts(origin).iter().find(|(node, _)| *node == 1).expect("it works");
        world.connect(0, 1, false);
        world.run_for(Duration::from_millis(50));
        assert!(was_fenced(world, 1));
        assert_eq!(world.failure(late), RuntimeError::PeerLost { origin, executed: Executed::Unknown });
        assert_eq!(world.failure(behind), RuntimeError::PeerLost { origin, executed: Executed::No });
        assert!(!world.nodes[1].objects.map.contains_key(&stale), "the object is let go");
        works_on(world, origin, 0);
    });
}

#[test]
fn recover_is_refused_while_the_target_is_in_reach_and_for_what_is_not_here() {
    in_world(world(2), |world| {
        let origin = world.spawn(0, 1, "prompt");
        assert_eq!(world.recover(0, origin), Ok(()), "it lives here");
        assert_eq!(world.recover(2, origin), Err(RuntimeError::NotFound(origin)));
        world.trap = None;
        world.meddler = Some(super::world::Meddler {
            message: "ActivateAck",
            nth: 0,
            how: super::world::How::Delay(Duration::from_secs(3)),
        });
        let ticket = world.migrate(0, origin, 1);
        let migration = world.migration(ticket).expect("it begins");
        assert!(world.run_until(SECOND, |world| world.meddled == 1));
        assert!(matches!(
            world.recover(0, origin),
            Err(RuntimeError::Migration(MigrationFailure::Refused(_, Outcome::Unknown)))
        ));
        assert_eq!(world.wait_migration(0, migration), Ok(()));
        works_on(world, origin, 1);
    });
}

#[test]
fn the_declared_loss_of_the_target_counts_as_the_word_where_that_was_asked_for() {
    for (recover_lost, host) in [(true, vec![0]), (false, vec![])] {
        in_world(World::with_options(3, 3, |_| options(recover_lost, Duration::from_secs(600))), |world| {
            let (origin, waiting) = in_doubt(world, "ActivateTarget", false);
            world.run_for(Duration::from_secs(60));
            assert_eq!(world.hosts(origin), [], "a connection that broke is no loss");
            world.lose(0, 1, Loss::Silence);
            world.run_for(Duration::from_secs(60));
            let hosts: Vec<usize> = world.hosting(origin);
            assert_eq!(hosts, host);
            if recover_lost {
                answered(world, waiting);
                world.connect(0, 1, false);
                works_on(world, origin, 0);
            }
        });
    }
}

#[test]
fn a_target_that_is_declared_lost_and_is_back_at_once_keeps_the_daemon() {
    for message in ["ActivateTarget", "ActivateAck"] {
        in_world(World::with_options(4, 3, |_| options(true, Duration::from_secs(600))), |world| {
            let (origin, waiting) = in_doubt(world, message, false);
            world.lose(0, 1, Loss::Silence);
            world.connect(0, 1, false);
            world.run_for(Duration::from_secs(60));
            answered(world, waiting);
            works_on(world, origin, 1);
        });
    }
}

#[test]
fn hazard_63_a_target_that_discarded_its_copy_gives_the_daemon_back_with_every_event() {
    for seed in 0..20 {
        in_world(World::with_options(seed, 3, |_| options(false, Duration::from_secs(5))), |world| {
            let (origin, waiting) = in_doubt(world, "ActivateTarget", false);
            world.run_for(Duration::from_secs(6));
            assert_eq!(world.nodes[1].engine.census().daemons, 0, "the undecided copy is not kept without end");
            world.connect(0, 1, true);
            // Nothing ran there, so all of it runs here, once, also for those whom the other node told that it is lost.
            answered(world, waiting);
            world.run_for(SECOND);
            assert_eq!(world.seen(origin).len(), 15);
            works_on(world, origin, 0);
        });
    }
}

#[test]
fn a_target_that_says_goodbye_or_returns_in_a_newer_life_is_proven_dead() {
    for proof in ["goodbye", "newer", "newer after silence"] {
        for message in ["ActivateTarget", "ActivateAck"] {
            in_world(world(5), |world| {
                let (origin, waiting) = in_doubt(world, message, false);
                match proof {
                    "goodbye" => {
                        world.lose(0, 1, Loss::Goodbye);
                        world.run_for(SECOND);
                        assert_eq!(world.hosts(origin).iter().filter(|(node, _)| *node == 0).count(), 1);
                        world.restart(1);
                    }
                    "newer" => world.restart(1),
                    _ => {
                        world.lose(0, 1, Loss::Silence);
                        world.run_for(Duration::from_secs(60));
                        assert!(world.hosts(origin).iter().all(|(node, _)| *node == 1), "silence proves nothing");
                        world.restart_after_silence(1);
                    }
                }
                answered(world, waiting);
                works_on(world, origin, 0);
            });
        }
    }
}

/// Others remember that it was taken over by the host that died with it since: what this begins anew must be later than that.
#[test]
fn a_daemon_that_was_taken_over_is_begun_anew_by_the_next_life_of_its_host() {
    for seed in 0..10 {
        in_world(world(seed), |world| {
            let (origin, waiting) = in_doubt(world, "ActivateTarget", false);
            world.restart(1);
            answered(world, waiting);
            world.run_for(SECOND);
            world.restart(0);
            assert_eq!(world.spawn(0, 1, "prompt"), origin);
            works_on(world, origin, 0);
        });
    }
}

#[test]
fn hazard_64_a_source_that_dies_behind_its_decision_takes_the_undecided_copy_with_it() {
    for message in ["ActivateTarget", "ActivateAck"] {
        for proof in ["newer", "newer after silence"] {
            in_world(world(6), |world| {
                let (origin, _) = in_doubt(world, message, false);
                world.run_for(Duration::from_secs(30));
                let active = message == "ActivateAck";
                assert_eq!(world.nodes[1].engine.census().daemons, 1, "an undecided copy is kept");
                if proof == "newer" {
                    world.restart(0);
                } else {
                    world.restart_after_silence(0);
                }
                world.run_for(SECOND);
                assert_eq!(world.hosts(origin).len(), usize::from(active), "never by itself");
                world.assert_nothing_left();
                if active {
                    works_on(world, origin, 1);
                } else {
                    assert_eq!(world.spawn(0, 1, "prompt"), origin, "it can be spawned anew");
                    works_on(world, origin, 0);
                }
            });
        }
    }
}

#[test]
fn recover_on_the_target_saves_a_staged_copy_whose_source_is_gone() {
    in_world(world(7), |world| {
        let (origin, waiting) = in_doubt(world, "ActivateTarget", false);
        world.lose(0, 1, Loss::Silence);
        assert_eq!(world.recover(1, origin), Ok(()));
        answered(world, waiting);
        let ticket = world.call(2, origin);
        assert!(world.outputs(ticket).1 < 16, "from the snapshot on");
        // The source is back after all, with a frozen copy that it let go.
        world.connect(0, 1, false);
        works_on(world, origin, 1);
    });
}

#[test]
fn two_recovered_copies_of_one_epoch_leave_one() {
    for seed in 0..12 {
        in_world(world(seed), |world| {
            let (origin, waiting) = in_doubt(world, "ActivateTarget", false);
            world.lose(0, 1, Loss::Silence);
            world.lose(1, 2, Loss::Silence);
            assert_eq!(world.recover(0, origin), Ok(()));
            assert_eq!(world.recover(1, origin), Ok(()));
            answered(world, waiting);
            assert_eq!(world.hosts(origin).len(), 2, "availability before a single copy: the operator said so twice");
            world.connect(1, 2, false);
            world.connect(0, 1, false);
            world.run_for(SECOND);
            let hosts = world.hosts(origin);
            assert_eq!(hosts.len(), 1);
            assert!(was_fenced(world, 1 - hosts[0].0));
            works_on(world, origin, hosts[0].0);
        });
    }
}

#[test]
fn a_recovered_copy_is_fenced_by_one_that_moved_on_to_a_higher_epoch() {
    in_world(world(8), |world| {
        let (origin, waiting) = in_doubt(world, "ActivateAck", false);
        world.lose(0, 1, Loss::Silence);
        // The target may not pass it on before its former host has let go, or was silent for as long as copies are held.
        world.run_for(Duration::from_secs(700));
        world.lose(0, 2, Loss::Silence);
        assert_eq!(world.moved(1, origin, 2), Ok(()));
        assert_eq!(world.moved(2, origin, 1), Ok(()));
        assert_eq!(world.recover(0, origin), Ok(()));
        answered(world, waiting);
        world.connect(0, 2, false);
        world.connect(0, 1, false);
        world.run_for(SECOND);
        assert!(was_fenced(world, 0));
        works_on(world, origin, 1);
    });
}

#[test]
fn a_host_without_the_key_takes_over_with_a_chain_of_hand_overs() {
    in_world(world(9), |world| {
        let origin = world.spawn(2, 1, "prompt");
        let options = MigrationOptions { transport_identity: false, ..MigrationOptions::default() };
        let ticket = world.migrate_with(2, origin, 0, options);
        let migration = world.migration(ticket).expect("it begins");
        assert_eq!(world.wait_migration(2, migration), Ok(()));
        world.run_for(SECOND);
        world.trap = Some(Trap { message: "ActivateAck", nth: 0, arrives: false, heal_after: NEVER });
        let ticket = world.migrate_with(0, origin, 1, options);
        let migration = world.migration(ticket).expect("it begins");
        assert!(world.wait_migration(0, migration).is_err());
        world.lose(0, 1, Loss::Silence);
        assert_eq!(world.recover(0, origin), Ok(()));
        world.run_for(SECOND);
        let ticket = world.call(2, origin);
        world.outputs(ticket);
        world.connect(0, 1, false);
        world.run_for(SECOND);
        assert!(was_fenced(world, 1));
        let ticket = world.call(1, origin);
        world.outputs(ticket);
    });
}

#[test]
fn a_spawn_takes_the_place_of_a_daemon_whose_host_is_proven_dead() {
    for life in ["goodbye", "newer", "alive"] {
        in_world(world(10), |world| {
            let origin = world.spawn(0, 1, "prompt");
            assert_eq!(world.moved(0, origin, 1), Ok(()));
            world.run_for(SECOND);
            match life {
                "goodbye" => {
                    world.lose(0, 1, Loss::Goodbye);
                    world.lose(1, 2, Loss::Goodbye);
                }
                "newer" => world.restart(1),
                _ => {}
            }
            // Node 0 still has the claim that it left with, and names the dead host when node 2 asks.
            let (_, ticket) = world.try_spawn(2, 1, "prompt", mesh_daemon_core::daemon::HostConfig::default());
            if life == "alive" {
                assert_eq!(world.failure(ticket), RuntimeError::AlreadyRegistered(origin));
                return;
            }
            assert!(world.wait_for(ticket).is_ok(), "{life}");
            world.run_for(SECOND);
            let ticket = world.call(0, origin);
            let count = world.outputs(ticket).1;
            assert_eq!(count, 1, "a new life");
        });
    }
}

#[test]
fn whoever_waits_for_a_daemon_to_arrive_wholly_is_answered_when_it_is_fenced_before() {
    in_world(World::open(1, 4).refusing(), |world| {
        let origin = world.spawn(0, 1, "prompt");
        let late = How::Delay(Duration::from_secs(30));
        world.meddler = Some(Meddler { message: "CleanupComplete", nth: 0, how: late });
        world.drive(0, origin, 0, 1);
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.hosts(origin)[0].0, 1, "it is live, and its former host has not let go");
        let migration = world.driving(2, origin, 1, 0);
        world.run_for(Duration::from_secs(1));
        assert!(!world.nodes[2].over.contains_key(&migration.get()), "it waits");
        let (daemon, epoch) = (World::daemon_key(1), Epoch::new(10));
        let (entity, host) = (daemon.entity_id(), world.nodes[3].keypair.entity_id());
        let body = ClaimBody { entity, lineage: Lineage::new(7), epoch, min_epoch: epoch, host, incarnation: None };
        let claim = Claim::sign(body, &daemon).expect("its own key").encode();
        world.forge_directory(3, 1, &DirectoryMessage::Claim { claim: &claim });
        assert_eq!(world.hosts(origin).len(), 0, "it was taken over");
        world.run_for(Duration::from_secs(1));
        assert!(world.nodes[2].over.contains_key(&migration.get()), "it is told at once");
    });
}
