//! Very many callers of one slow daemon: what waits for it is bounded on its node and on theirs, and all of them get their
//! answers in the end.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::events::WINDOW_BYTES;
use mesh_daemon_core::runtime::RuntimeError;

use super::in_world;
use super::world::World;

const HOST: usize = 0;
const SENDERS: [usize; 2] = [1, 2];
const CALLERS: usize = 10_000;
const KIBIBYTE: usize = 1024;
const PAYLOAD: usize = 64 * KIBIBYTE;
/// Most bytes that wait on a node for one daemon of another, and most that wait in its mailbox here.
const MOST_WAITING: usize = 64 * 1024 * KIBIBYTE;
const MAILBOX: usize = 4 * 1024 * KIBIBYTE;

#[test]
fn ten_thousand_callers_of_a_slow_daemon_take_bounded_memory_and_are_all_answered() {
    in_world(World::new(1, 3), |world| {
        let config = HostConfig { mailbox_bytes: MAILBOX, ..HostConfig::default() };
        let origin = world.spawn_with(HOST, 1, "slow", config);
        let (_, key) = world.hosts(origin)[0];
        let (mut left, mut waiting) = ([CALLERS / SENDERS.len(); 2], Vec::new());
        let (mut most_sent, mut most_held, mut refused) = (0, 0, 0);
        while left != [0, 0] || !waiting.is_empty() {
            for (sender, left) in SENDERS.into_iter().zip(&mut left) {
                while *left > 0 {
                    let request = world.request(0, 0);
                    let ticket = world.call_with(sender, origin, request, PAYLOAD);
                    if world.is_answered(ticket) {
                        assert_eq!(world.failure(ticket), RuntimeError::Backpressure(origin));
                        refused += 1;
                        break;
                    }
                    waiting.push(ticket);
                    *left -= 1;
                }
                most_sent = most_sent.max(world.nodes[sender].engine.census().waiting_bytes);
            }
            world.run_for(Duration::from_millis(50));
            let host = &world.nodes[HOST].engine;
            most_held = most_held.max(host.census().held_bytes);
            assert!(host.mailbox_bytes(key) <= Some(MAILBOX), "the mailbox");
            let (answered, open): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|ticket| world.is_answered(*ticket));
            waiting = open;
            for ticket in answered {
                world.outputs(ticket);
            }
        }
        assert!(refused > 0 && most_sent > MOST_WAITING / 2, "there were more than may wait: {most_sent}");
        assert!(most_sent <= MOST_WAITING, "{most_sent} bytes wait with a sender");
        assert!(most_held <= SENDERS.len() * (WINDOW_BYTES + PAYLOAD + KIBIBYTE), "{most_held} bytes wait for room");
        assert_eq!(world.seen(origin).len(), CALLERS, "each once");
    });
}
