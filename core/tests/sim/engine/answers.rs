//! What senders are told of events of which it is not plain whether they ran.

use std::time::Duration;

use mesh_daemon_core::daemon::HostConfig;
use mesh_daemon_core::runtime::{Executed, RuntimeError, Settlement};
use mesh_daemon_core::wire::Lane;

use super::daemon::HANG;
use super::in_world;
use super::load::answers_are_true;
use super::world::World;

const SOON: Duration = Duration::from_secs(1);

/// The reply is large, so it goes in a lane of its own, and takes along what else was accepted.
#[test]
fn the_word_that_a_daemon_is_gone_does_not_refuse_what_it_accepted_when_it_overtakes_a_large_reply() {
    in_world(World::new(1, 2), |world| {
        let origin = world.spawn(1, 1, "prompt");
        let ticket = world.call(0, origin);
        world.outputs(ticket);
        world.clogged = [Lane::Fast, Lane::Bulk].map(|lane| (1, 0, lane)).to_vec();
        let request = world.request(0, 60_000);
        let large = world.call_with(0, origin, request, 0);
        let sent = [world.send(0, origin), world.send(0, origin)];
        world.run_for(SOON);
        assert_eq!(world.seen(origin).len(), 4);
        world.clogged = vec![(1, 0, Lane::Bulk)];
        world.settle(1);
        let stop = world.act(1, None, |engine, ticket, now| engine.stop(ticket, origin, now));
        assert!(world.wait_for(stop).is_ok());
        world.run_for(SOON);
        for ticket in sent {
            assert!(matches!(world.wait_for(ticket), Ok(Settlement::Done)), "accepted");
        }
        let executed = Executed::Unknown;
        assert_eq!(world.failure(large), RuntimeError::PeerLost { origin, executed }, "its reply comes too late");
        world.clogged.clear();
        world.settle(1);
        world.run_for(SOON);
        answers_are_true(world);
        world.assert_nothing_left();
    });
}

#[test]
fn a_send_whose_acceptance_comes_too_late_is_not_called_refused() {
    let patience = Duration::from_secs(60);
    for comes in [true, false] {
        in_world(World::new(1, 2), |world| {
            let origin = world.spawn(1, 1, "prompt");
            let ticket = world.call(0, origin);
            world.outputs(ticket);
            world.clogged = vec![(1, 0, Lane::Fast)];
            let sent = world.send(0, origin);
            world.run_for(patience + SOON);
            assert_eq!(world.seen(origin).len(), 2, "it ran");
            assert!(!world.is_answered(sent), "the host is asked");
            if comes {
                world.clogged.clear();
                world.settle(1);
            }
            let result = world.wait_for(sent);
            if comes {
                assert!(matches!(result, Ok(Settlement::Done)), "{result:?}");
            } else {
                let unknown = RuntimeError::PeerLost { origin, executed: Executed::Unknown };
                assert_eq!(result.as_ref().err(), Some(&unknown));
            }
            world.clogged.clear();
            world.run_for(SOON);
            answers_are_true(world);
            let later = world.call(0, origin);
            world.outputs(later);
            world.assert_nothing_left();
        });
    }
}

/// The host is asked, and says that it is as full as it was.
#[test]
fn a_send_that_finds_no_room_in_time_is_called_refused_and_never_runs() {
    in_world(World::new(1, 2), |world| {
        let config =
            HostConfig { mailbox_capacity: 1, callback_timeout: Duration::from_secs(600), ..HostConfig::default() };
        let origin = world.spawn_with(1, 1, "prompt", config);
        let hang = world.request(HANG, 0);
        world.deliver(1, origin, hang);
        let fits = world.send(0, origin);
        // What the mailbox and the window of a stream hold, and what was never sent.
        let sent: Vec<_> = (0..1100).map(|_| world.send(0, origin)).collect();
        assert!(world.wait_for(fits).is_ok());
        for ticket in sent {
            assert_eq!(world.failure(ticket), RuntimeError::MailboxFull(origin));
        }
        let (_, key) = world.hosts(origin)[0];
        world.let_go(1, key);
        let later = world.call(0, origin);
        world.outputs(later);
        assert_eq!(world.seen(origin).len(), 3);
        answers_are_true(world);
        world.assert_nothing_left();
    });
}
