//! Replies that wait for their callers: how many there may be, how large they may be, and who waits meanwhile.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::events::MOST_KEPT_BYTES;
use mesh_daemon_core::runtime::{ArrivalPolicy, RuntimeError, RuntimeOptions, Settlement};
use mesh_daemon_core::wire::Lane;

use super::daemon::SPLIT;
use super::in_world;
use super::world::World;

const HOST: usize = 0;
const CALLER: usize = 1;
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn requirement_bounds_a_caller_that_does_not_read_has_so_many_replies_kept_and_holds_up_no_other_daemon() {
    for kind in ["slow", "prompt"] {
        in_world(World::new(1, 2), |world| {
            let config = HostConfig { callback_timeout: Duration::from_secs(600), ..HostConfig::default() };
            let origin = world.spawn_with(HOST, 1, kind, config);
            let other = world.spawn(HOST, 2, "prompt");
            for origin in [origin, other] {
                let ticket = world.call(CALLER, origin);
                world.outputs(ticket);
            }
            world.clogged = [Lane::Fast, Lane::Bulk].map(|lane| (HOST, CALLER, lane)).to_vec();
            let calls: Vec<_> = (0..700)
                .map(|_| {
                    let request = world.request(0, 256 * 1024);
                    world.call_with(CALLER, origin, request, 0)
                })
                .collect();
            world.run_for(5 * SECOND);
            let kept = world.nodes[HOST].engine.census().kept_bytes;
            assert!((MOST_KEPT_BYTES / 2..2 * MOST_KEPT_BYTES).contains(&kept), "{kind}: {kept} bytes");
            world.call(CALLER, other);
            world.run_for(SECOND);
            assert_eq!(world.seen(other).len(), 2, "{kind}: another daemon runs what it calls");
            world.clogged.clear();
            for ticket in calls {
                world.outputs(ticket);
            }
            let mut in_order = world.seen(origin);
            assert_eq!(in_order.len(), 701, "{kind}");
            in_order.sort_unstable();
            assert_eq!(world.seen(origin), in_order, "{kind}");
            world.run_for(SECOND);
            assert_eq!(world.nodes[HOST].engine.census().kept_bytes, 0, "{kind}");
            world.assert_nothing_left();
        });
    }
}

/// How replies go that nobody acknowledges.
#[derive(Clone, Copy, Debug)]
enum Gone {
    /// With a daemon that is stopped.
    Stopped,
    /// With one that moves.
    MovedOn,
}

#[test]
fn a_call_that_waits_for_room_for_its_reply_goes_on_when_other_replies_go_with_their_daemons() {
    for way in [Gone::Stopped, Gone::MovedOn] {
        in_world(World::new(1, 3), |world| {
            let other = world.spawn(HOST, 20, "prompt");
            let daemons: Vec<_> = (1..=9).map(|seed| world.spawn(HOST, seed, "prompt")).collect();
            for origin in daemons.iter().copied().chain([other]) {
                let ticket = world.call(CALLER, origin);
                world.outputs(ticket);
            }
            world.clogged = [Lane::Fast, Lane::Bulk].map(|lane| (HOST, CALLER, lane)).to_vec();
            let call = |world: &mut World, origin, answer| {
                let request = world.request(0, answer);
                world.call_with(CALLER, origin, request, 0);
            };
            for origin in &daemons {
                (0..12).for_each(|_| call(world, *origin, 1 << 20));
            }
            world.run_for(5 * SECOND);
            let kept = world.nodes[HOST].engine.census().kept_bytes;
            assert!(kept >= MOST_KEPT_BYTES, "{kept} bytes");
            (0..2).for_each(|_| call(world, other, 100_000));
            world.run_for(SECOND);
            assert_eq!(world.seen(other).len(), 2, "{way:?}: little is kept for it, but for the second one too much");
            for origin in &daemons[..7] {
                match way {
                    Gone::Stopped => {
                        world.act(HOST, None, |engine, ticket, now| engine.stop(ticket, *origin, now));
                    }
                    Gone::MovedOn => assert_eq!(world.moved(HOST, *origin, 2), Ok(())),
                }
            }
            world.run_for(SECOND);
            let kept = world.nodes[HOST].engine.census().kept_bytes;
            assert!(kept < MOST_KEPT_BYTES / 2, "{kept} bytes");
            assert_eq!(world.seen(other).len(), 3, "{way:?}");
        });
    }
}

/// The caller takes a megabyte; the sum of these payloads is below that, and the message that carries them beyond what it reads.
#[test]
fn a_reply_of_very_many_outputs_is_an_error_for_its_caller_and_holds_up_nothing() {
    let options = |node| RuntimeOptions {
        arrivals: ArrivalPolicy::AnyKind,
        max_payload: if node == CALLER { 1 << 20 } else { RuntimeOptions::default().max_payload },
        ..RuntimeOptions::default()
    };
    in_world(World::with_options(1, 3, options), |world| {
        let origin = world.spawn(HOST, 1, "prompt");
        let many = world.request(SPLIT, 32_700);
        let large = world.call_with(CALLER, origin, many, 0);
        let behind = world.call(CALLER, origin);
        assert!(matches!(world.failure(large), RuntimeError::OutputTooLarge(_)));
        assert_eq!(world.outputs(behind).1, 2, "it ran, and so did the next one");
        // Whoever takes more gets them.
        let many = world.request(SPLIT, 32_700);
        let ticket = world.call_with(2, origin, many, 0);
        match world.wait_for(ticket) {
            Ok(Settlement::Outputs(outputs)) => assert_eq!(outputs.len(), 32_700),
            other => panic!("{other:?}"),
        }
        // And nobody more than this.
        for node in [HOST, 2] {
            let many = world.request(SPLIT, 65_537);
            let ticket = world.call_with(node, origin, many, 0);
            assert!(matches!(world.failure(ticket), RuntimeError::InvalidOutput(_)), "n{node}");
        }
        world.run_for(SECOND);
        world.assert_nothing_left();
    });
}
