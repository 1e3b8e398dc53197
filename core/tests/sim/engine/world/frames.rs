//! Frames on the simulated network, and what is recognised in them.

use std::time::Duration;

use mesh_daemon_core::directory::Claim;
use mesh_daemon_core::identity::NodeId;
use mesh_daemon_core::mesh::{Record, RecordSink};
use mesh_daemon_core::wire::directory::DirectoryMessage;
use mesh_daemon_core::wire::events::{EventsMessage, StreamId};
use mesh_daemon_core::wire::migration::MigrationMessage;
use mesh_daemon_core::wire::{Lane, Subprotocol, codec};
use rand::Rng;

use super::{Event, FRAME, IN_FLIGHT, World, pair};

/// Room for one frame.
struct Sink {
    left: usize,
    records: Vec<Record>,
}

impl RecordSink for Sink {
    fn room(&self) -> usize {
        self.left.saturating_sub(4)
    }

    fn record(&mut self, subprotocol: Subprotocol, encode: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
        let mut body = Vec::new();
        encode(&mut body);
        if body.len() > self.room() {
            return None;
        }
        self.left -= body.len() + 4;
        let len = body.len();
        self.records.push(Record { subprotocol, body: body.into() });
        Some(len)
    }
}

/// The name of a message of migrations that is whole in a record.
pub(super) fn name_of(record: &Record, lane: Lane) -> Option<&'static str> {
    let body = match (record.subprotocol, lane) {
        (Subprotocol::Migration, _) => record.body.clone(),
        // A message in fragments: the first one begins with its length and its subprotocol.
        (Subprotocol::Events, Lane::Bulk) => {
            let header = u64::from_le_bytes(record.body.get(..8)?.try_into().ok()?);
            let whole = header & ((1 << 48) - 1) == record.body.len() as u64 - 8;
            if !whole || header >> 48 != u64::from(Subprotocol::Migration.id()) {
                return None;
            }
            record.body.slice(8..)
        }
        _ => return None,
    };
    codec::decode::<MigrationMessage<'_>>(&body).ok().map(|message| message.name())
}

impl World {
    /// What a message of streams or of the directory says, for a reader of the trace.
    fn told(&self, record: &Record) -> Option<String> {
        let who =
            |node: NodeId| self.nodes.iter().position(|known| known.keypair.node_id() == node).unwrap_or(usize::MAX);
        let stream = |id: &StreamId| {
            format!("{}..{:?}/{:?} of n{}", id.entity.origin_hash(), id.lineage, id.opening, who(id.sender))
        };
        let claim = |claim: Option<&[u8]>| {
            claim.and_then(|claim| Claim::decode(claim).ok()).map_or("none".to_owned(), |claim| {
                let body = claim.body();
                format!("n{} e{:?} min{:?} {:?}", who(body.node()), body.epoch, body.min_epoch, body.lineage)
            })
        };
        Some(match record.subprotocol {
            Subprotocol::Events => match codec::decode::<EventsMessage<'_>>(&record.body).ok()? {
                EventsMessage::Batch { stream: id, epoch, hops, first, items, .. } => {
                    format!("Batch {} {epoch:?} hops {hops} {first}+{}", stream(&id), items.len())
                }
                EventsMessage::Await { stream: id, epoch, hops, repeat, .. } => {
                    format!("Await {} {epoch:?} hops {hops} {repeat}", stream(&id))
                }
                EventsMessage::Withdraw { stream: id, hops, number, .. } => {
                    format!("Withdraw {} hops {hops} {number}", stream(&id))
                }
                EventsMessage::Accepted { stream: id, through, .. } => format!("Accepted {} {through}", stream(&id)),
                EventsMessage::Replies { stream: id, through, .. } => format!("Replies {} {through}", stream(&id)),
                EventsMessage::Moved { stream: id, node, epoch, .. } => {
                    format!("Moved {} n{} {epoch:?}", stream(&id), who(node))
                }
                EventsMessage::Unknown { stream: id, missing, .. } => format!("Unknown {} {missing:?}", stream(&id)),
                EventsMessage::Close { stream: id } => format!("Close {}", stream(&id)),
                EventsMessage::Again { stream: id, .. } => format!("Again {}", stream(&id)),
                EventsMessage::Full { stream: id, .. } => format!("Full {}", stream(&id)),
                EventsMessage::Astray { stream: id, .. } => format!("Astray {}", stream(&id)),
            },
            Subprotocol::Directory => match codec::decode::<DirectoryMessage<'_>>(&record.body).ok()? {
                DirectoryMessage::Lookup { origin, .. } => format!("Lookup {origin}"),
                DirectoryMessage::Answer { claim: answer, .. } => format!("Answer {}", claim(answer)),
                DirectoryMessage::Claim { claim: told } => format!("Claim {}", claim(Some(told))),
                DirectoryMessage::Place { anew, hosted, gone, settled, .. } => {
                    format!("Place anew {anew} {hosted:?} gone {gone:?} settled {settled:?}")
                }
                DirectoryMessage::Rivals { .. } => "Rivals".to_owned(),
                DirectoryMessage::Tally { hosted, yours, .. } => format!("Tally {hosted} yours {yours}"),
                DirectoryMessage::Hosting { hosted } => format!("Hosting of {}", hosted.len()),
            },
            _ => return None,
        })
    }

    /// Sends what a node has for its peers, as much as may be on the way at once.
    pub(super) fn transmit(&mut self, from: usize) {
        for to in 0..self.nodes.len() {
            if to == from {
                continue;
            }
            // Behind a large message of a channel, small ones may wait.
            for lane in [Lane::Fast, Lane::Bulk, Lane::Fast] {
                while self.transmit_frame(from, to, lane) {}
            }
        }
    }

    fn transmit_frame(&mut self, from: usize, to: usize, lane: Lane) -> bool {
        let Some(session) = self.sessions.get(&pair(from, to)).copied() else { return false };
        if self.wires[&(from, to)].in_flight >= IN_FLIGHT || self.clogged.contains(&(from, to, lane)) {
            return false;
        }
        let mut sink = Sink { left: FRAME, records: Vec::new() };
        let (now, peer) = (self.present(), self.id(to));
        let more = self.nodes[from].engine.fill(peer, lane, &mut sink, now);
        self.fill_channels((from, to), lane, &mut sink);
        if sink.records.is_empty() {
            assert!(!more, "n{from} has more for n{to}, but nothing fits an empty frame");
            return false;
        }
        let records = self.meddle((from, to), session, lane, sink.records);
        let bytes: usize = records.iter().map(|record| record.body.len()).sum();
        let names: Vec<&'static str> = records.iter().filter_map(|record| name_of(record, lane)).collect();
        let told: Vec<String> =
            if self.talkative { records.iter().filter_map(|record| self.told(record)).collect() } else { Vec::new() };
        for told in told {
            self.note(&format!("n{from} says {told}"));
        }
        self.note(&format!("n{from} > n{to} {lane:?} {} records {bytes} bytes {names:?}", records.len()));
        let mut springs = None;
        for name in names {
            self.messages.push((from, to, name));
            if let Some(trap) = &mut self.trap
                && trap.message == name
            {
                if trap.nth == 0 {
                    springs = self.trap.take();
                } else {
                    trap.nth -= 1;
                }
            }
        }
        if let Some(trap) = springs {
            self.sprung = true;
            if trap.arrives {
                self.arrive(from, to, lane, records);
            }
            self.cut(from, to, trap.heal_after);
            if trap.arrives {
                self.settle(to);
            }
            return false;
        }
        let micros = self.rng.random_range(self.delay.clone());
        let wire = self.wires.get_mut(&(from, to)).expect("made when it was connected");
        wire.in_flight += 1;
        let lag = self.lag.get(&from).copied().unwrap_or_default();
        let mut arrival = self.now + Duration::from_micros(micros) + lag;
        if let Some(last) = wire.last_arrival {
            arrival = arrival.max(last);
        }
        wire.last_arrival = Some(arrival);
        let delay = arrival - self.now;
        self.at(delay, Event::Frame { from, to, session, lane, records, counted: true });
        true
    }
}
