//! A daemon that subscribes to channels and leaves them while it moves again and again, at random: whoever is told that it is
//! in, or out, finds it so wherever it lives in the end.

use std::cell::Cell;
use std::time::Duration;

use mesh_daemon_core::daemon::Ticket;
use mesh_daemon_core::runtime::RuntimeError;
use rand::Rng;

use super::for_seeds;
use super::subscribing::{PUBLISHER, SECOND, SOURCE, nodes_in, publish};
use super::world::World;

/// What is known of a channel of the publisher.
#[derive(Default)]
struct Known {
    is_in: bool,
    /// What was asked last, and what for.
    asked: Option<(Ticket, bool)>,
    /// What was published while it was certainly in, and certainly out.
    due: Vec<u64>,
    alien: Vec<u64>,
}

#[test]
fn whoever_is_told_finds_it_so_however_often_the_daemon_moves() {
    const NAMES: [&str; 3] = ["a", "b", "c#workers"];
    let (moved, refused, agreed) = (Cell::new(0), Cell::new(0), Cell::new(0));
    for_seeds(0..40, 4, |world| {
        world.open_channels();
        for name in ["a", "b", "c"] {
            world.register_channel(PUBLISHER, name);
        }
        let origin = world.spawn(SOURCE, 1, "prompt");
        let mut known = NAMES.map(|_| Known::default());
        let settle = |world: &World, known: &mut Known| {
            let Some((ticket, wanted)) = known.asked.filter(|(ticket, _)| world.is_answered(*ticket)) else { return };
            known.asked = None;
            match world.waits[&ticket.0].result.as_ref().expect("answered") {
                Ok(_) => {
                    known.is_in = wanted;
                    agreed.set(agreed.get() + 1);
                }
                Err(RuntimeError::NotFound(_)) => refused.set(refused.get() + 1),
                Err(other) => panic!("{other}"),
            }
        };
        let mut last: Option<(usize, Ticket)> = None;
        for _ in 0..200 {
            let host = world.hosts(origin).first().map(|(host, _)| *host);
            if let Some(host) = host {
                let to = world.rng.random_range(0..world.nodes.len());
                if to != host
                    && world.rng.random_bool(0.3)
                    && !world.nodes.iter().any(|node| node.engine.census().migrations > 0)
                {
                    last = Some((host, world.migrate(host, origin, to)));
                    moved.set(moved.get() + 1);
                }
            }
            if let Some((driver, ticket)) = last.filter(|(_, ticket)| world.is_answered(*ticket))
                && world.rng.random_bool(0.1)
                && let Ok(migration) = world.migration(ticket)
            {
                let now = world.present();
                world.nodes[driver].engine.abort_migration(migration, None, now);
                world.settle(driver);
            }
            for (name, known) in NAMES.iter().zip(&mut known) {
                settle(world, known);
                if known.asked.is_none() && world.rng.random_bool(0.3) {
                    let wanted = known.is_in == world.rng.random_bool(0.1);
                    // Whoever has it, or takes it for theirs.
                    let at = host.unwrap_or(SOURCE);
                    let ticket = if wanted {
                        world.ask_in(at, origin, PUBLISHER, name)
                    } else {
                        // Whoever leaves leaves what it has not taken. On its way to another host it cannot be asked.
                        let taken = host.map(|_| world.seen(origin));
                        known.due.retain(|id| taken.as_ref().is_none_or(|taken| taken.contains(id)));
                        world.ask_out(at, origin, PUBLISHER, name)
                    };
                    known.asked = Some((ticket, wanted));
                    settle(world, known);
                }
            }
            if world.rng.random_bool(0.5) {
                let which = world.rng.random_range(0..NAMES.len());
                let id = publish(world, ["a", "b", "c"][which]);
                let Known { is_in, asked, due, alien } = &mut known[which];
                if asked.is_none() {
                    if *is_in { due.push(id) } else { alien.push(id) }
                }
            }
            if world.rng.random_bool(0.1) {
                let lag = Duration::from_micros(world.rng.random_range(0..20_000));
                world.lag.insert(PUBLISHER, lag);
            }
            let time = Duration::from_micros(world.rng.random_range(50..3_000));
            world.run_for(time);
        }
        world.lag.clear();
        let rest = |world: &World| world.nodes.iter().all(|node| node.engine.census().migrations == 0);
        assert!(world.run_until(60 * SECOND, rest), "it comes to rest");
        // A former host lets go of what its next one did not come for.
        world.run_for(700 * SECOND);
        let [(host, _)] = world.hosts(origin)[..] else { panic!("one copy") };
        let seen = world.seen(origin);
        for (name, known) in NAMES.iter().zip(&mut known) {
            settle(world, known);
            assert!(known.asked.is_none(), "everybody is told");
            let expected = if known.is_in { vec![world.id(host)] } else { vec![] };
            assert_eq!(nodes_in(world, name), expected, "{name}");
            let due: Vec<_> = seen.iter().filter(|id| known.due.contains(id)).copied().collect();
            assert_eq!(due, known.due, "{name}: each once, in order");
            assert!(!seen.iter().any(|id| known.alien.contains(id)), "{name}: it was out");
        }
    });
    let [moved, refused, agreed] = [moved, refused, agreed].map(Cell::into_inner);
    assert!(moved > 100 && refused > 20 && agreed > 500, "{moved} {refused} {agreed}: too quiet to show anything");
}
