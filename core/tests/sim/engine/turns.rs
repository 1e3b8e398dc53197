//! What goes to one peer takes turns: answers do not wait behind events, and no stream keeps the others waiting.

use std::cell::Cell;
use std::time::Duration;

use mesh_daemon_core::identity::{EntityId, OriginHash};
use mesh_daemon_core::mesh::RecordSink;
use mesh_daemon_core::wire::events::EventsMessage;
use mesh_daemon_core::wire::{Lane, Subprotocol, codec};

use super::in_world;
use super::world::World;

pub(super) const NODE: usize = 0;
pub(super) const PEER: usize = 1;
pub(super) const SOON: Duration = Duration::from_millis(100);
/// Each takes a good part of a frame, and a window of them many frames.
pub(super) const PADDING: usize = 4000;
pub(super) const MANY: usize = 1000;

/// A frame that counts how often somebody looks whether it has room.
struct Frame {
    left: usize,
    looks: Cell<usize>,
    records: Vec<Vec<u8>>,
}

impl RecordSink for Frame {
    fn room(&self) -> usize {
        self.looks.set(self.looks.get() + 1);
        self.left.saturating_sub(8)
    }

    fn record(&mut self, subprotocol: Subprotocol, encode: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
        let mut body = Vec::new();
        encode(&mut body);
        let len = body.len();
        self.left = self.left.checked_sub(len + 8)?;
        if subprotocol == Subprotocol::Events {
            self.records.push(body);
        }
        Some(len)
    }
}

/// What a frame has: how many items for each daemon, and how many replies.
#[derive(Debug, Default)]
pub(super) struct Content {
    items: Vec<(EntityId, usize)>,
    pub(super) replies: usize,
}

impl Content {
    pub(super) fn items_for(&self, entity: EntityId) -> usize {
        self.items.iter().filter(|(to, _)| *to == entity).map(|(_, count)| count).sum()
    }
}

/// The next frame of the fast lane, without the network, and how often it was looked at.
pub(super) fn next_frame(world: &mut World) -> (Content, usize) {
    let mut frame = Frame { left: 65_000, looks: Cell::new(0), records: Vec::new() };
    let (now, peer) = (world.present(), world.id(PEER));
    world.nodes[NODE].engine.fill(peer, Lane::Fast, &mut frame, now);
    let mut content = Content::default();
    for record in &frame.records {
        match codec::decode::<EventsMessage<'_>>(record).expect("nodes send what they can read") {
            EventsMessage::Batch { stream, items, .. } => content.items.push((stream.entity, items.len())),
            EventsMessage::Replies { replies, .. } => content.replies += replies.len(),
            _ => {}
        }
    }
    (content, frame.looks.get())
}

/// Daemons of the peer with these seeds, which the node has called, and then nothing gets out to there.
pub(super) fn called(world: &mut World, seeds: [u8; 2]) -> [OriginHash; 2] {
    let origins = seeds.map(|seed| world.spawn(PEER, seed, "prompt"));
    for origin in origins {
        let ticket = world.call(NODE, origin);
        world.outputs(ticket);
    }
    world.run_for(SOON);
    world.clogged = vec![(NODE, PEER, Lane::Fast)];
    origins
}

pub(super) fn flood(world: &mut World, origin: OriginHash) {
    let payload = world.request(0, 0).encode(PADDING);
    for _ in 0..MANY {
        let payload = payload.clone();
        world.act(NODE, None, |engine, ticket, now| engine.send_event(ticket, origin, payload, now));
    }
}

pub(super) fn entity(seed: u8) -> EntityId {
    World::daemon_key(seed).entity_id()
}

#[test]
fn a_reply_and_another_stream_do_not_wait_behind_one_that_always_has_more() {
    in_world(World::new(1, 2), |world| {
        let own = world.spawn(NODE, 9, "prompt");
        let first = world.call(PEER, own);
        world.outputs(first);
        let [flooded, other] = called(world, [1, 2]);
        flood(world, flooded);
        world.send(NODE, other);
        world.call(PEER, own);
        world.run_for(SOON);
        let frames: Vec<Content> = (0..6).map(|_| next_frame(world).0).collect();
        assert!(frames[..2].iter().any(|frame| frame.replies == 1), "the reply: {frames:?}");
        assert!(frames[..4].iter().any(|frame| frame.items_for(entity(2)) == 1), "the other stream: {frames:?}");
        let full = frames.iter().filter(|frame| frame.items_for(entity(1)) >= 12).count();
        assert!(full >= 4, "what is for one daemon goes together: {frames:?}");
    });
}

#[test]
fn two_streams_that_always_have_more_share_what_goes_out() {
    in_world(World::new(1, 2), |world| {
        for origin in called(world, [1, 2]) {
            flood(world, origin);
        }
        let frames: Vec<Content> = (0..20).map(|_| next_frame(world).0).collect();
        let shares = [1, 2].map(|seed| frames.iter().map(|frame| frame.items_for(entity(seed))).sum::<usize>());
        assert!(shares.iter().all(|share| *share >= 100), "{shares:?}");
    });
}

#[test]
fn events_do_not_wait_behind_answers_of_which_there_are_always_more() {
    in_world(World::new(1, 2), |world| {
        let own = world.spawn(NODE, 9, "prompt");
        let first = world.call(PEER, own);
        world.outputs(first);
        let [flooded, _] = called(world, [1, 2]);
        flood(world, flooded);
        for _ in 0..MANY {
            let request = world.request(0, PADDING as u64);
            world.call_with(PEER, own, request, 0);
        }
        world.run_for(10 * SOON);
        let frames: Vec<Content> = (0..20).map(|_| next_frame(world).0).collect();
        let replies: usize = frames.iter().map(|frame| frame.replies).sum();
        let items: usize = frames.iter().map(|frame| frame.items_for(entity(1))).sum();
        assert!(replies >= 100 && items >= 100, "{replies} replies, {items} items");
    });
}

#[test]
fn a_host_that_asks_again_and_again_and_does_not_read_has_a_stream_stand_in_the_list_once() {
    in_world(World::new(1, 2), |world| {
        world.spying = true;
        let [origin, _] = called(world, [1, 2]);
        world.send(NODE, origin);
        let spied = world.streams.iter().find(|spied| spied.from == NODE && spied.stream.entity == entity(1));
        let stream = spied.expect("it spoke").stream;
        for _ in 0..2000 {
            world.forge_events(PEER, NODE, &EventsMessage::Again { stream, hops: 0 });
        }
        let (frame, looks) = next_frame(world);
        assert_eq!(frame.items_for(entity(1)), 1);
        assert!(looks < 100, "it is looked at {looks} times");
    });
}
