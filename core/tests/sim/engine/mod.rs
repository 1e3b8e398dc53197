//! Engines on a network that delays, cuts and restarts, with users whose code is prompt, slow or broken.

#![allow(clippy::struct_excessive_bools)] // what goes wrong, and what a run does, are independent switches
#![allow(clippy::cast_possible_truncation)] // numbers of tests are small

mod abandoned;
mod activation;
mod admissions;
mod answers;
mod arriving_bounds;
mod attempts;
mod bare_places;
mod believed;
mod beside;
mod callers;
mod chain;
mod channels;
mod claims;
mod daemon;
mod deaths;
mod detours;
mod directory;
mod doubts;
mod drained_doubts;
mod drains;
mod driven;
mod dropped_arrivals;
mod ends;
mod events;
mod failures;
mod far_claims;
mod floods;
mod forged;
mod forged_states;
mod forged_streams;
mod given_up;
mod hearsay;
mod homes;
mod joiners;
mod kept;
mod large_ones;
mod last_outputs;
mod last_words;
mod late_answers;
mod limits;
mod lives;
mod lives_anew;
mod load;
mod long_calls;
mod losses;
mod made_up_rivals;
mod making;
mod moves;
mod out_of_reach;
mod outcomes;
mod output_channels;
mod passing_turns;
mod phases;
mod pipelines;
mod pointers;
mod recovering_targets;
mod recovery;
mod replayed_claims;
mod respawns;
mod restless_subscribers;
mod sealing;
mod senders;
mod shares;
mod silences;
mod silent_others;
mod slow_links;
mod slow_moves;
mod snapshots;
mod spans;
mod spawns;
mod starved;
mod steps;
mod stopped_arrivals;
mod stopped_moves;
mod strangers;
mod subscribing;
mod table;
mod turns;
mod unheard_ends;
mod unheard_rivals;
mod warnings;
mod words;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use world::World;

use crate::seeds;

/// Runs a scenario in a world, and sees it forgotten where it came to rest; a failure names the seed and shows the end of the trace.
fn in_world(mut world: World, scenario: impl FnOnce(&mut World)) -> u64 {
    let run = |world: &mut World| {
        scenario(world);
        world.assert_all_forgotten();
    };
    if let Err(failure) = catch_unwind(AssertUnwindSafe(|| run(&mut world))) {
        world.print_trace();
        resume_unwind(failure);
    }
    world.digest()
}

/// The same for every seed of a range.
fn for_seeds(usual: std::ops::Range<u64>, nodes: usize, scenario: impl Fn(&mut World)) {
    for seed in seeds::chosen(usual) {
        in_world(World::new(seed, nodes), &scenario);
    }
}
