//! Records in.

use std::cmp::Ordering;

use bytes::Bytes;

use super::feed::Seat;
use super::gate::{Asking, Leaving};
use super::machine::{ArrivedMessage, ChannelEvent, ChannelMachine, Moment, Subscriber};
use super::peers::{Assembly, LaneKey};
use super::subscription::Subscription;
use super::{ChannelId, GroupId, StreamId};
use crate::causal::CausalLink;
use crate::identity::NodeId;
use crate::mesh::{Record, keep_part};
use crate::wire::channels::{ChannelMessage, DataHead, Fragment};
use crate::wire::{Lane, codec};

impl ChannelMachine {
    /// Records of a peer, in the order they were sent.
    pub fn records(&mut self, from: NodeId, lane: Lane, records: &mut Vec<Record>, now: Moment) {
        for record in records.drain(..) {
            match lane {
                Lane::Fast => self.on_record(from, &record.body, now),
                Lane::Bulk => self.on_fragment(from, &record.body, now),
            }
        }
        self.settle_own(now);
    }

    fn on_record(&mut self, from: NodeId, body: &Bytes, now: Moment) {
        match codec::decode(body) {
            Ok(ChannelMessage::Data { head, payload }) => self.on_data(from, head, &keep_part(body, payload), now),
            Ok(message) => self.on_membership(from, message, now),
            Err(error) => self.refuse(from, "message", &error),
        }
    }

    pub(super) fn on_message(&mut self, from: NodeId, body: &[u8], now: Moment) {
        match codec::decode(body) {
            Ok(message) => self.on_membership(from, message, now),
            Err(error) => self.refuse(from, "message", &error),
        }
    }

    fn on_membership(&mut self, from: NodeId, message: ChannelMessage<'_>, now: Moment) {
        match message {
            ChannelMessage::Subscribe { request, channel, daemon, token, subnet, from: position, group } => {
                let asking = Asking { channel, group, daemon, token, subnet, from: position };
                self.on_subscribe(from, request, &asking, now);
            }
            ChannelMessage::Unsubscribe { request, channel, daemon, group, taken } => {
                self.on_unsubscribe(from, request, &Leaving { channel, group, daemon, taken }, now);
            }
            ChannelMessage::Subscribed { request, position, missed } => {
                self.on_subscribed(from, request, position, missed);
            }
            ChannelMessage::Refused { request, reason } => self.on_refused(from, request, reason),
            ChannelMessage::Unsubscribed { request } => self.on_unsubscribed(from, request),
            ChannelMessage::Ended { channel, daemon, reason, group } => {
                let seat = Seat { group: group.map(GroupId), who: Subscriber::of(daemon) };
                self.on_ended(from, ChannelId(channel), seat, reason);
            }
            ChannelMessage::Ack { channel, through, member } => {
                self.on_ack(from, StreamId::named(channel, member), through);
            }
            ChannelMessage::Data { head, payload } => {
                self.on_data(from, head, &Bytes::copy_from_slice(payload), now);
            }
            ChannelMessage::Revoked { statement } => self.on_revoked(from, statement, now),
            ChannelMessage::WhoRevoked { issuer } => self.on_who_revoked(from, issuer),
            ChannelMessage::NoMember { channel, member } => {
                let stream = StreamId::named(channel, member);
                for seat in
                    self.channels.get(&stream.channel).map(|it| it.seats_of(from, stream.share)).unwrap_or_default()
                {
                    self.put_out(stream.channel, from, seat, now);
                }
            }
        }
    }

    fn on_fragment(&mut self, from: NodeId, body: &Bytes, now: Moment) {
        let fragment = match Fragment::decode(body) {
            Ok(fragment) => fragment,
            Err(error) => return self.refuse(from, "fragment", &error),
        };
        let wanted = |machine: &Self, head: DataHead| {
            machine.subscriptions.get(&(from, StreamId::of(&head))).is_some_and(Subscription::is_wanted)
        };
        let piece = match fragment {
            Fragment::First { head, total, piece } => {
                let accepted = total > 0 && total <= self.max_payload;
                let wanted = wanted(self, head);
                let Some(peer) = self.peers.get_mut(&from) else { return };
                // One that broke off, with its connection or in a suspicion of the other side, gives way: that begins anew.
                peer.assembly = None;
                if !accepted {
                    return self.refuse(from, "fragment", &"empty, or too large");
                }
                if !wanted {
                    // Nobody here wants it any more: it is not kept.
                    return self.on_data(from, head, &Bytes::new(), now);
                }
                // The length is only a hint until bytes arrive: memory grows with them.
                peer.assembly = Some(Assembly { head, total, bytes: Vec::new() });
                piece
            }
            Fragment::Next(piece) => piece,
        };
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let Some(assembly) = &mut peer.assembly else { return };
        assembly.bytes.extend_from_slice(&piece);
        match (assembly.bytes.len() as u64).cmp(&assembly.total) {
            Ordering::Less => {}
            Ordering::Equal => {
                if let Some(assembly) = peer.assembly.take() {
                    self.on_data(from, assembly.head, &assembly.bytes.into(), now);
                }
            }
            Ordering::Greater => {
                peer.assembly = None;
                self.refuse(from, "fragment", &"longer than announced");
            }
        }
    }

    /// A message has wholly arrived. A session keeps the order of a channel and repeats from the first message that was not
    /// acknowledged, so one whose number is not above the last one is for daemons that have yet to take it, if for anybody.
    pub(super) fn on_data(&mut self, from: NodeId, head: DataHead, payload: &Bytes, now: Moment) {
        let key = (from, StreamId::of(&head));
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            // When that cannot be said now, it can with the next message.
            let nobody = ChannelMessage::NoMember { channel: head.channel, member: key.1.member() };
            let _kept = self.say(from, &nobody);
            return;
        };
        if !subscription.is_wanted() {
            return;
        }
        let repeated = subscription.has_acknowledged(head.number);
        if head.reliable {
            subscription.received_reliable = subscription.received_reliable.max(head.number);
        }
        if subscription.is_for_node(head.number) {
            let feed = subscription.feed.clone();
            self.events.push_back(ChannelEvent::Message(ArrivedMessage {
                publisher: from,
                feed,
                number: head.sequence(),
                place: head.number,
                payload: payload.clone(),
                link: head.link.map(|link| CausalLink::from_bytes(&link)),
                reliable: head.reliable,
                received_at: now.unix,
            }));
        }
        self.hold(key, head, payload, now);
        if !head.reliable {
            return;
        }
        if repeated {
            let through = self.subscriptions.get(&key).map_or(head.number, Subscription::taken_by_all);
            self.acknowledge(key, through);
        } else {
            self.settle_held(key);
        }
    }

    pub(super) fn on_ack(&mut self, from: NodeId, stream: StreamId, through: u64) {
        let Some(channel) = self.channels.get_mut(&stream.channel) else { return };
        let key = LaneKey::new(channel.config.priority, stream);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let done = peer.acknowledged(key, through);
        for head in done.iter().map(|entry| entry.head).filter(|head| head.share.is_some()) {
            channel.ring.taken(head.sequence(), stream);
        }
        if peer.next_mut(key).is_some() {
            // There is room for more.
            self.wakes.insert(from);
        }
        for entry in done {
            self.delivery_ended(from, &entry, Ok(()));
        }
    }
}
