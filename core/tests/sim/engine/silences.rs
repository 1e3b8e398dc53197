//! Peers of whom nothing is heard for a while, on a session that stands and loses nothing: often only one side notices.

use std::time::Duration;

use mesh_daemon_core::runtime::RuntimeError;
use mesh_daemon_core::wire::Lane;

use super::in_world;
use super::world::{World, numbered_key};

const CALLER: usize = 0;
const HOST: usize = 1;
const LARGE: usize = 300_000;
const SECOND: Duration = Duration::from_secs(1);

/// Who notices a silence between the two.
const WHO: [&[usize]; 3] = [&[CALLER], &[HOST], &[CALLER, HOST]];

fn suspect(world: &mut World, who: &[usize]) {
    for &one in who {
        world.suspect(one, CALLER + HOST - one);
    }
}

fn hear_again(world: &mut World, who: &[usize]) {
    for &one in who {
        world.hear_again(one, CALLER + HOST - one);
    }
}

/// A call with a large event or a large reply, and a silence of which `who` learns at `moment`, while it is on the way. True
/// when it was.
fn call_in_a_silence(who: &[usize], large_event: bool, moment: Duration) -> bool {
    let mut was_under_way = false;
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(HOST, 1, "prompt");
        let first = world.call(CALLER, origin);
        world.outputs(first);
        let (padding, answer) = if large_event { (LARGE, 0) } else { (0, LARGE as u64) };
        let request = world.request(0, answer);
        let call = world.call_with(CALLER, origin, request, padding);
        world.run_for(moment);
        let begun = world.nodes.iter().any(|node| node.engine.census().state_bytes > 0);
        was_under_way = begun && !world.is_answered(call);
        suspect(world, who);
        world.run_for(SECOND / 1000);
        hear_again(world, who);
        let behind = world.call(CALLER, origin);
        assert_eq!(world.outputs(call).1, 2, "{who:?} at {moment:?}");
        assert_eq!(world.outputs(behind).1, 3, "once");
        world.run_for(SECOND);
        world.assert_nothing_left();
    });
    was_under_way
}

#[test]
fn hazard_44_a_large_event_or_reply_arrives_once_though_only_one_side_notices_a_silence_half_way() {
    for who in WHO {
        for large_event in [true, false] {
            let moments = (0..150).map(|number| Duration::from_micros(40 * number));
            let under_way = moments.filter(|&moment| call_in_a_silence(who, large_event, moment)).count();
            assert!(under_way > 3, "{under_way} times it was half way");
        }
    }
}

#[test]
fn a_home_that_was_silent_for_one_member_still_knows_what_that_one_hosts() {
    let all = [0, 1, 2];
    for at in all {
        for of in all.into_iter().filter(|&of| of != at) {
            in_world(World::new(1, 3), |world| {
                world.take_part();
                world.suspect(at, of);
                world.run_for(SECOND);
                world.hear_again(at, of);
                for number in 1..10 {
                    let origin = numbered_key(number).origin_hash();
                    let caller = number as usize % 3;
                    let before = world.now;
                    let ticket = world.call(caller, origin);
                    assert_eq!(world.failure(ticket), RuntimeError::NotFound(origin));
                    assert!(world.now - before < SECOND, "n{caller}: {:?}", world.now - before);
                }
            });
        }
    }
}

#[test]
fn a_daemon_that_lives_on_elsewhere_is_found_while_its_former_host_is_silent() {
    in_world(World::new(1, 3), |world| {
        let origin = world.spawn(HOST, 1, "prompt");
        world.serves(origin, [CALLER]);
        // Nothing gets through between the two: the caller does not hear of the move, and nobody sends on what it says.
        let ways = [(CALLER, HOST), (HOST, CALLER)];
        world.clogged = [Lane::Fast, Lane::Bulk].into_iter().flat_map(|lane| ways.map(|(a, b)| (a, b, lane))).collect();
        assert_eq!(world.moved(HOST, origin, 2), Ok(()));
        suspect(world, &[CALLER, HOST]);
        let call = world.call(CALLER, origin);
        assert_eq!(world.outputs(call).1, 2);
        world.clogged.clear();
        hear_again(world, &[CALLER, HOST]);
        world.run_for(SECOND);
        world.assert_nothing_left();
    });
}
