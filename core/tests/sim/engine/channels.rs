//! Daemons that receive channels and publish outputs while they move: nothing is lost, nothing runs twice.

use std::cell::Cell;
use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::identity::OriginHash;
use rand::Rng;

use super::world::World;
use super::{for_seeds, in_world};

/// Moves a daemon to another node, now and without waiting, unless something moves already.
fn move_on(world: &mut World, origin: OriginHash) -> bool {
    let hosts = world.hosts(origin);
    let [(host, _)] = hosts[..] else { return false };
    let (driver, to) = (world.rng.random_range(0..world.nodes.len()), world.rng.random_range(0..world.nodes.len()));
    if to == host || world.nodes.iter().any(|node| node.engine.census().migrations > 0) {
        return false;
    }
    world.migrate(driver, origin, to);
    true
}

fn cut_some(world: &mut World) {
    let (one, other) = (world.rng.random_range(0..world.nodes.len()), world.rng.random_range(0..world.nodes.len()));
    if one != other {
        let heals = Duration::from_micros(world.rng.random_range(500..20_000));
        world.cut(one, other, heals);
    }
}

/// Some messages in each round, while the daemons move and connections break by chance. Gives the messages, and counts moves.
fn publish_while_they_move(world: &mut World, daemons: &[OriginHash], rounds: usize, moves: &Cell<usize>) -> Vec<u64> {
    let mut sent = Vec::new();
    for _ in 0..rounds {
        for _ in 0..world.rng.random_range(0..4) {
            let request = world.request(0, 0);
            let large = if world.rng.random_bool(0.1) { 100_000 } else { 0 };
            world.publish(0, "in", &request.encode(large));
            sent.push(request.id);
        }
        let which = world.rng.random_range(0..daemons.len());
        if move_on(world, daemons[which]) {
            moves.set(moves.get() + 1);
        }
        if world.rng.random_bool(0.05) {
            cut_some(world);
        }
        let time = Duration::from_micros(world.rng.random_range(100..3_000));
        world.run_for(time);
    }
    sent
}

#[test]
fn hazard_43_messages_of_channels_run_once_in_order_while_their_subscriber_moves() {
    let moves = Cell::new(0);
    for_seeds(0..40, 4, |world| {
        world.open_channels();
        world.register_channel(0, "in");
        let daemons = [("prompt", 1, 4096), ("slow", 2, 8)].map(|(kind, seed, mailbox_capacity)| {
            let config = HostConfig { mailbox_capacity, ..HostConfig::default() };
            let origin = world.spawn_with(1, seed, kind, config);
            world.subscribe_daemon(1, origin, 0, "in");
            origin
        });
        let sent = publish_while_they_move(world, &daemons, 120, &moves);
        world.run_until(Duration::from_secs(120), |world| {
            daemons.iter().all(|origin| world.hosts(*origin).len() == 1 && world.seen(*origin).len() >= sent.len())
        });
        for origin in daemons {
            assert_eq!(world.seen(origin), sent);
        }
        world.run_for(Duration::from_secs(700));
        assert_eq!(world.channel_roster(0, "in").len(), 2, "no former host is in");
        world.assert_nothing_left();
    });
    assert!(moves.get() > 10, "{}: the worlds are too quiet to show anything", moves.get());
}

#[test]
fn members_of_a_queue_group_share_its_messages_and_run_each_once_while_they_move() {
    let moves = Cell::new(0);
    for_seeds(0..25, 4, |world| {
        world.open_channels();
        world.register_channel(0, "in");
        let daemons = [("prompt", 1, 4096), ("slow", 2, 8), ("prompt", 3, 16)].map(|(kind, seed, mailbox_capacity)| {
            let config = HostConfig { mailbox_capacity, ..HostConfig::default() };
            let origin = world.spawn_with(1, seed, kind, config);
            world.subscribe_daemon(1, origin, 0, "in#workers");
            origin
        });
        let mut sent = publish_while_they_move(world, &daemons, 100, &moves);
        world.run_until(Duration::from_secs(120), |world| {
            daemons.iter().all(|origin| world.hosts(*origin).len() == 1)
                && daemons.iter().map(|origin| world.seen(*origin).len()).sum::<usize>() >= sent.len()
        });
        let mut seen: Vec<_> = daemons.iter().flat_map(|origin| world.seen(*origin)).collect();
        seen.sort_unstable();
        sent.sort_unstable();
        assert_eq!(seen, sent);
        assert!(daemons.iter().all(|origin| !world.seen(*origin).is_empty()), "each gets its share");
        world.run_for(Duration::from_secs(700));
        assert_eq!(world.channel_roster(0, "in#workers").len(), 3, "no former host is in");
        world.assert_nothing_left();
    });
    assert!(moves.get() > 10, "{}: the worlds are too quiet to show anything", moves.get());
}

#[test]
fn outputs_are_published_once_in_order_while_the_daemon_that_emits_them_moves() {
    for_seeds(0..25, 4, emits_while_it_moves);
}

/// Seed 7064: a caller is cut off from the host while the daemon moves to a node that has said that it knows of none.
#[test]
fn a_daemon_that_moves_during_a_question_to_one_that_has_answered_is_found() {
    in_world(World::new(7064, 4), emits_while_it_moves);
}

fn emits_while_it_moves(world: &mut World) {
    world.open_channels();
    let config = HostConfig { output_channel: Some("out".to_owned()), ..HostConfig::default() };
    let origin = world.spawn_with(1, 1, "prompt", config);
    for node in 0..4 {
        world.register_channel(node, "out");
        world.subscribe_node(0, node, "out");
    }
    world.run_for(Duration::from_millis(50));
    let mut sent = Vec::new();
    for _ in 0..100 {
        for _ in 0..world.rng.random_range(0..4) {
            let node = world.rng.random_range(0..4);
            sent.push(world.call(node, origin));
        }
        move_on(world, origin);
        if world.rng.random_bool(0.05) {
            cut_some(world);
        }
        let time = Duration::from_micros(world.rng.random_range(100..3_000));
        world.run_for(time);
    }
    for ticket in &sent {
        world.wait_for(*ticket).as_ref().expect("it ran");
    }
    world.run_for(Duration::from_secs(30));
    let messages = world.messages_of(0);
    let id = |payload: &[u8]| u64::from_le_bytes(payload[..8].try_into().expect("an answer"));
    let published: Vec<u64> = messages.iter().map(|message| id(&message.payload)).collect();
    assert_eq!(published, world.seen(origin), "what ran, in its order");
    assert_eq!(published.len(), sent.len());
    let links = messages.iter().map(|message| message.link.expect("of a daemon").sequence.get());
    assert!(links.eq(1..=messages.len() as u64), "one chain");
}
