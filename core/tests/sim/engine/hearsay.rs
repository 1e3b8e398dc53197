//! What is said of daemons by those who were not asked, of others than those that were asked for, or of nodes that there are
//! not.

use std::time::Duration;

use mesh_daemon_core::daemon::{HostConfig, Ticket};
use mesh_daemon_core::directory::{Claim, ClaimBody};
use mesh_daemon_core::identity::{Epoch, Lineage, NodeId, OriginHash};
use mesh_daemon_core::wire::codec;
use mesh_daemon_core::wire::directory::{DirectoryMessage, Few, Rival};
use mesh_daemon_core::wire::migration::MigrationMessage;

use super::in_world;
use super::world::World;

const SPAWNER: usize = 0;
const LIAR: usize = 5;
const SECOND: Duration = Duration::from_secs(1);

/// A claim of this daemon for a node, signed with the daemon's key.
fn claim_for(world: &World, daemon: u8, host: usize, epoch: u64) -> Vec<u8> {
    let (key, epoch) = (World::daemon_key(daemon), Epoch::new(epoch));
    let host = world.identity(host);
    let (entity, lineage, incarnation) = (key.entity_id(), Lineage::new(7), Some(host.incarnation));
    let body = ClaimBody { entity, lineage, epoch, min_epoch: epoch, host: host.entity, incarnation };
    Claim::sign(body, &key).expect("a full key pair").encode()
}

/// A spawn whose question is open for a while. The liar is asked or not.
fn asking(world: &mut World, liar_is_asked: bool) -> (u8, OriginHash, Ticket) {
    world.take_part();
    let seed = world.daemon_with_homes(|homes| homes.contains(&LIAR) == liar_is_asked && !homes.contains(&SPAWNER));
    for node in 1..world.nodes.len() {
        world.lag.insert(node, SECOND);
    }
    let (origin, ticket) = world.try_spawn(SPAWNER, seed, "prompt", HostConfig::default());
    world.run_for(SECOND / 10);
    (seed, origin, ticket)
}

/// The liar says something. Nobody is asked because of that.
fn says(world: &mut World, message: &DirectoryMessage<'_>) {
    let before = world.directory_messages;
    world.forge_directory(LIAR, SPAWNER, message);
    assert_eq!(world.directory_messages, before, "{message:?}");
}

/// The daemon is spawned soon, and at the first epoch.
fn is_spawned(world: &mut World, origin: OriginHash, ticket: Ticket) {
    let since = world.now;
    let spawned = world.wait_for(ticket);
    assert!(spawned.is_ok(), "{spawned:?}");
    assert!(world.now - since < 3 * SECOND / 2, "{:?}", world.now - since);
    world.lag.clear();
    world.run_for(2 * SECOND);
    assert_eq!(world.hosting(origin), [SPAWNER]);
    assert_eq!(world.moved(SPAWNER, origin, 1), Ok(()));
    let asked = world.sent.iter().find(|sent| sent.name == "Prepare").expect("the target was asked");
    let Ok(MigrationMessage::Prepare { id, .. }) = codec::decode(&asked.record.body) else { panic!("a question") };
    assert_eq!(id.epoch, Epoch::FIRST);
}

#[test]
fn an_answer_of_somebody_who_was_not_asked_decides_nothing() {
    in_world(World::new(1, 6), |world| {
        let (seed, origin, ticket) = asking(world, false);
        let (claim, former) = (claim_for(world, seed, LIAR, 3), claim_for(world, seed, LIAR, 9));
        let hosts = Few(vec![world.id(1), world.id(2), world.id(3), world.id(4)]);
        for query in 1..4 {
            for (claim, doubt) in [(None, None), (Some(&*claim), Some(true))] {
                let (hosts, former, settled) = (Some(hosts.clone()), Some(&*former), Some(true));
                says(world, &DirectoryMessage::Answer { query, claim, hosts, settled, former, doubt });
            }
        }
        is_spawned(world, origin, ticket);
    });
}

#[test]
fn an_answer_about_another_daemon_decides_nothing() {
    in_world(World::new(1, 6), |world| {
        let (seed, origin, ticket) = asking(world, true);
        let (claim, former) = (claim_for(world, seed + 1, LIAR, 3), claim_for(world, seed + 1, LIAR, 9));
        for query in 1..4 {
            let (claim, former, settled) = (Some(&*claim), Some(&*former), Some(true));
            says(world, &DirectoryMessage::Answer { query, claim, hosts: None, settled, former, doubt: None });
        }
        is_spawned(world, origin, ticket);
    });
}

#[test]
fn a_host_that_there_is_not_is_not_waited_for() {
    in_world(World::new(1, 6), |world| {
        let (_, origin, ticket) = asking(world, true);
        let rivals = vec![Rival { origin, host: NodeId::new(77) }];
        says(world, &DirectoryMessage::Rivals { rivals });
        is_spawned(world, origin, ticket);
    });
}

/// The members change when the daemon is about to be taken over, so no pass has told the former home before.
#[test]
fn a_takeover_is_withdrawn_from_a_home_that_is_none_any_more() {
    const TARGET: usize = 1;
    const SILENT: usize = 2;
    const FORMER: usize = 3;
    in_world(World::new(1, 6), |world| {
        world.take_part();
        let seed = world.daemon_with_homes(|homes| homes.contains(&SILENT) && homes.contains(&FORMER));
        let origin = world.spawn(SPAWNER, seed, "prompt");
        world.broken_move(SPAWNER, origin, TARGET, "ActivateTarget", Duration::from_secs(100_000));
        world.lose_all(TARGET);
        world.cut(SPAWNER, SILENT, 10 * SECOND);
        world.run_for(SECOND);
        assert_eq!(world.nodes[FORMER].engine.kept_addresses(), 1);
        let recovered = world.act(SPAWNER, None, |engine, ticket, now| engine.recover(ticket, origin, now));
        world.run_for(199 * SECOND / 100);
        assert!(!world.is_answered(recovered), "the silent home is waited for");
        world.tell_members(SPAWNER, &[0, 2, 4, 5]);
        world.run_for(SECOND / 50);
        assert!(world.is_answered(recovered), "no pass came in between");
        assert_eq!(world.hosting(origin), [SPAWNER]);
        world.run_for(200 * SECOND);
        assert_eq!(world.nodes[FORMER].engine.kept_addresses(), 0);
    });
}
