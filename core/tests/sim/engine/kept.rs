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
