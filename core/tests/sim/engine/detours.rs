//! Senders that reach a host only through the one before it: what that one sent on may have run, whatever it knows since.

use std::time::Duration;

use mesh_daemon_core::mesh::Loss;
use mesh_daemon_core::runtime::{Executed, RuntimeError};
use mesh_daemon_core::wire::Lane;
use mesh_daemon_core::wire::events::{Answers, EventsMessage, Missing};

use super::in_world;
use super::load::answers_are_true;
use super::world::World;

const FORMER: usize = 0;
const HOST: usize = 1;
const SENDER: usize = 2;
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn promise_1_what_a_former_host_sent_on_is_not_run_again_when_that_one_knows_of_no_daemon_any_more() {
    for on_its_way in [false, true] {
        in_world(World::new(1, 3).refusing(), |world| {
            let origin = world.spawn(FORMER, 1, "prompt");
            if on_its_way {
                // Its stream stays with the former host; the other one begins there.
                world.lose(HOST, SENDER, Loss::Silence);
                let first = world.call(SENDER, origin);
                world.outputs(first);
            }
            assert_eq!(world.moved(FORMER, origin, HOST), Ok(()));
            if !on_its_way {
                world.lose(HOST, SENDER, Loss::Silence);
            }
            let through = world.call(SENDER, origin);
            world.outputs(through);
            world.spying = true;
            // Nothing that the host says comes back.
            world.clogged = [Lane::Fast, Lane::Bulk].map(|lane| (HOST, FORMER, lane)).to_vec();
            let ticket = world.call(SENDER, origin);
            let request = world.waits[&ticket.0].request.expect("a call");
            assert!(world.run_until(SECOND, |world| world.ran.contains(&request)), "it was sent on");
            let sent = world.streams.iter().rfind(|spied| spied.from == SENDER && spied.events.is_some());
            let stream = sent.expect("events were sent").stream;
            let (missing, answers) = (Missing::Daemon, Answers::batch_to(1));
            let unknown = EventsMessage::Unknown { stream, missing, hops: 0, accepted: Some(0), answers };
            world.forge_events(FORMER, SENDER, &unknown);
            world.run_for(SECOND / 10);
            world.clogged.clear();
            world.run_for(SECOND);
            assert_eq!(
                world.failure(ticket),
                RuntimeError::PeerLost { origin, executed: Executed::Unknown },
                "on its way: {on_its_way}"
            );
            assert_eq!(world.ran.iter().filter(|ran| **ran == request).count(), 1);
            answers_are_true(world);
        });
    }
}
