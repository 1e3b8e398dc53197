//! Records out: written when a frame is about to be sent, so that many share it.

use super::machine::{ChannelMachine, Moment};
use super::peers::{Entry, UnderWay};
use crate::identity::NodeId;
use crate::mesh::RecordSink;
use crate::wire::channels::{ChannelMessage, FRAGMENT_OVERHEAD, Fragment};
use crate::wire::{Lane, Subprotocol, codec};

/// A payload beyond this goes through the bulk lane in fragments: it would keep others waiting in the fast one.
const LARGE: usize = 24 * 1024;
/// Room that a fragment must find to be worth a record.
const WORTHWHILE: usize = 4 * 1024;

impl Entry {
    /// Whether it goes through the bulk lane.
    pub(super) const fn is_large(&self) -> bool {
        self.payload.len() > LARGE
    }
}

impl ChannelMachine {
    /// Writes what waits for a peer; whether more is waiting.
    pub fn fill(&mut self, to: NodeId, lane: Lane, sink: &mut dyn RecordSink, now: Moment) -> bool {
        let more = match lane {
            Lane::Fast => self.fill_fast(to, sink),
            Lane::Bulk => self.fill_bulk(to, sink),
        };
        // What was sent may have left a place for this node itself, for which no session asks.
        if self.wakes.contains(&self.me.node) {
            self.settle_own(now);
        }
        more
    }

    fn fill_fast(&mut self, to: NodeId, sink: &mut dyn RecordSink) -> bool {
        let Some(peer) = self.peers.get_mut(&to) else { return false };
        while let Some(body) = peer.control.front() {
            if sink.record(Subprotocol::Channels, &mut |out| out.extend_from_slice(body)).is_none() {
                return true;
            }
            peer.pop_control();
        }
        while let Some((number, body)) = self.next_question(to) {
            if sink.record(Subprotocol::Channels, &mut |out| out.extend_from_slice(&body)).is_none() {
                return true;
            }
            self.question_sent(to, number);
        }
        let Some(peer) = self.peers.get_mut(&to) else { return false };
        while let Some((stream, through)) = peer.acks.pop_first() {
            let ack = ChannelMessage::Ack { channel: stream.channel.0, through, member: stream.member() };
            if sink.record(Subprotocol::Channels, &mut |out| codec::encode_into(&ack, out)).is_none() {
                peer.acks.insert(stream, through);
                return true;
            }
        }
        if !self.fill_revocations(to, sink) {
            return true;
        }
        while let Some(peer) = self.peers.get_mut(&to).filter(|peer| peer.ready)
            && let Some(key) = peer.pick(&self.jobs, false)
            && let Some(head) = peer.next_head(key)
            && let Some(entry) = peer.next_mut(key)
        {
            let data = ChannelMessage::Data { head, payload: &entry.payload };
            if sink.record(Subprotocol::Channels, &mut |out| codec::encode_into(&data, out)).is_none() {
                return true;
            }
            if !std::mem::replace(&mut entry.started, true) {
                self.jobs.begun(entry.job, to);
            }
            if let Some(done) = peer.sent(key) {
                self.delivery_ended(to, &done, Ok(()));
            }
        }
        false
    }

    // What follows a large message in its lane is sent only after its last fragment, so it is not overtaken.
    fn fill_bulk(&mut self, to: NodeId, sink: &mut dyn RecordSink) -> bool {
        while let Some(peer) = self.peers.get_mut(&to).filter(|peer| peer.ready) {
            peer.put_aside();
            if peer.bulk.is_none() {
                // An answer that lets somebody in is to be there before what is for it.
                if !peer.control.is_empty() {
                    return false;
                }
                let Some(key) = peer.pick(&self.jobs, true) else { break };
                let Some(head) = peer.next_head(key) else { break };
                let Some(entry) = peer.next_mut(key) else { break };
                if !std::mem::replace(&mut entry.started, true) {
                    self.jobs.begun(entry.job, to);
                }
                let payload = entry.payload.clone();
                peer.bulk = Some(UnderWay { lane: key, head, payload, sent: 0 });
            }
            let Some(under_way) = &mut peer.bulk else { break };
            if sink.room() < WORTHWHILE {
                return true;
            }
            let end = under_way.payload.len().min(under_way.sent + sink.room() - FRAGMENT_OVERHEAD);
            let piece = under_way.payload.slice(under_way.sent..end);
            let fragment = match under_way.sent {
                0 => Fragment::First { head: under_way.head, total: under_way.payload.len() as u64, piece },
                _ => Fragment::Next(piece),
            };
            if sink.record(Subprotocol::Channels, &mut |out| fragment.encode_into(out)).is_none() {
                return true;
            }
            under_way.sent = end;
            peer.bulk_stall.over();
            if end < under_way.payload.len() {
                continue;
            }
            let key = under_way.lane;
            peer.bulk = None;
            if let Some(done) = peer.sent(key) {
                self.delivery_ended(to, &done, Ok(()));
            }
        }
        self.has_fast(to)
    }

    /// Whether a small message waits, now that a large one does not stand before it.
    fn has_fast(&self, to: NodeId) -> bool {
        self.peers.get(&to).is_some_and(|peer| peer.ready && peer.pick(&self.jobs, false).is_some())
    }

    /// Carries out what this node has to say to itself, with the same handlers as for others.
    pub(super) fn settle_own(&mut self, now: Moment) {
        let me = self.me.node;
        while let Some(own) = self.peers.get_mut(&me) {
            if let Some(body) = own.pop_control() {
                self.on_message(me, &body, now);
                continue;
            }
            if let Some((number, body)) = self.next_question(me) {
                self.question_sent(me, number);
                self.on_message(me, &body, now);
                continue;
            }
            let Some(own) = self.peers.get_mut(&me) else { break };
            if let Some((stream, through)) = own.acks.pop_first() {
                self.on_ack(me, stream, through);
            } else if let Some(key) = own.pick(&self.jobs, false).or_else(|| own.pick(&self.jobs, true))
                && let Some(head) = own.next_head(key)
                && let Some(entry) = own.next_mut(key)
            {
                if !std::mem::replace(&mut entry.started, true) {
                    self.jobs.begun(entry.job, me);
                }
                let payload = entry.payload.clone();
                if let Some(done) = own.sent(key) {
                    self.delivery_ended(me, &done, Ok(()));
                }
                self.on_data(me, head, &payload, now);
            } else {
                break;
            }
        }
        self.wakes.remove(&me);
    }
}
