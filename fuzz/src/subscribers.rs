//! The machine of channels, with two peers that say whatever they like: as subscribers, as publishers, and as neither.
//!
//! The peers hold valid keys, so daemons of theirs are let in; a token for the gated channel they have not.

use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use mesh_daemon_core::channel::{
    ChannelConfig, ChannelEvent, ChannelMachine, ChannelName, DaemonSubscriber, Feed, Moment, PublishOptions, Subnet,
    SubscribeAs, Subscriber, subscription_statement,
};
use mesh_daemon_core::identity::{EntityKeypair, Epoch, Incarnation};
use mesh_daemon_core::mesh::{Loss, PeerEvent, PeerIdentity, Record, RecordSink};
use mesh_daemon_core::wire::channels::{
    ChannelMessage, DaemonProof, DataHead, Fragment, GroupMember, GroupShare, RefusalReason,
};
use mesh_daemon_core::wire::frame::MAX_PLAINTEXT;
use mesh_daemon_core::wire::{Lane, MAX_RECORD_BODY, Subprotocol, codec};
use tokio::time::Instant;

use super::identity::{NOW, keypair};

/// The life of every node here.
const LIFE: Incarnation = Incarnation { started_at_ms: 1_000, salt: 1 };
const MAX_PAYLOAD: u64 = 64 * 1024;
/// One that is open, one that is not, and one that nobody has.
const CHANNELS: [&str; 3] = ["open", "gated", "missing"];
const GROUP: &str = "workers";
/// What this node may be subscribed to at two peers: in three channels everything, and what falls to it or its daemon.
const STREAMS: usize = 2 * 3 * 3;

fn node() -> EntityKeypair {
    keypair(20)
}

fn peer(second: bool) -> EntityKeypair {
    keypair(21 + u8::from(second))
}

/// A daemon of this node.
fn daemon() -> EntityKeypair {
    keypair(24)
}

/// What the fuzzer does next.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Step<'a> {
    /// A peer sends bytes.
    Raw {
        second: bool,
        bulk: bool,
        bytes: &'a [u8],
    },
    /// A peer wants to be let in.
    Subscribe {
        second: bool,
        what: What,
        epoch: u8,
        from: Option<u8>,
        token: Option<&'a [u8]>,
    },
    /// A peer wants out.
    Unsubscribe {
        second: bool,
        what: What,
        taken: Option<u8>,
    },
    /// A peer answers questions, whether they were asked or not.
    Answer {
        second: bool,
        kind: u8,
        request: u8,
        number: u8,
        what: What,
    },
    /// A peer sends messages, each of the next number, or of the next channel.
    Data {
        second: bool,
        what: What,
        number: u16,
        times: u8,
        spread: bool,
        reliable: bool,
        after: Option<u8>,
        size: u16,
    },
    /// A peer sends a large message, or parts of one.
    Large {
        second: bool,
        what: What,
        number: u16,
        total: u32,
        pieces: u8,
        piece: u16,
    },
    /// A peer acknowledges.
    Ack {
        second: bool,
        what: What,
        through: u16,
        gone: bool,
    },
    /// Something happens to a session.
    Session {
        second: bool,
        what: u8,
    },
    /// This node publishes.
    Publish {
        gated: bool,
        times: u8,
        size: u16,
        reliable: bool,
    },
    /// This node, or its daemon, subscribes or leaves.
    Ask {
        second: bool,
        what: What,
        leave: bool,
    },
    /// The daemon takes what there is, as far as it has room.
    Take {
        most: u8,
    },
    /// What waits for a peer is sent.
    Transmit {
        second: bool,
    },
    Wait {
        seconds: u16,
    },
}

/// Somebody's place in some channel.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct What {
    channel: u8,
    group: bool,
    daemon: Option<u8>,
}

struct World {
    machine: ChannelMachine,
    now: Moment,
    taken: bool,
    let_in: bool,
}

/// Any messages at any time: no panic, nothing that is kept grows beyond its bound, and nothing stays behind when the peers
/// have gone.
pub fn subscribers(data: &[u8]) -> bool {
    let mut input = Unstructured::new(data);
    let mut world = World::new();
    for _ in 0..200 {
        if input.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut input) else { break };
        world.step(step);
        world.check();
    }
    world.end();
    world.taken && world.let_in
}

impl What {
    fn channel(self) -> &'static str {
        CHANNELS[usize::from(self.channel) % CHANNELS.len()]
    }

    fn group(self) -> Option<&'static str> {
        self.group.then_some(GROUP)
    }

    fn feed(self) -> Feed {
        Feed::new(ChannelName::new(self.channel()).expect("canonical"), self.group()).expect("canonical")
    }

    /// A daemon of a peer.
    fn theirs(self) -> Option<EntityKeypair> {
        self.daemon.map(|number| keypair(25 + number % 4))
    }

    /// The same of this node.
    fn ours(self) -> Subscriber {
        self.daemon.map_or(Subscriber::Node, |_| Subscriber::Daemon(daemon().entity_id()))
    }

    fn member(self, daemon: Option<EntityKeypair>) -> Option<GroupMember> {
        let group = self.feed().group_id()?.0;
        Some(GroupMember { group, daemon: daemon.map(|keypair| keypair.entity_id()) })
    }
}

impl World {
    fn new() -> Self {
        let now = Moment { instant: Instant::now(), unix: Duration::from_secs(NOW) };
        let mut machine = ChannelMachine::new(node().entity_id(), LIFE, Subnet::default(), MAX_PAYLOAD);
        for (channel, require_token) in [("open", false), ("gated", true)] {
            let config = ChannelConfig::new(ChannelName::new(channel).expect("canonical"));
            machine.register(ChannelConfig { require_token, ..config }, now).expect("a new one");
        }
        let mut world = Self { machine, now, taken: false, let_in: false };
        for second in [false, true] {
            world.session(second, 0);
            world.session(second, 2);
        }
        world
    }

    #[allow(clippy::too_many_lines)] // one arm for each thing that may be done
    fn step(&mut self, step: Step<'_>) {
        match step {
            Step::Raw { second, bulk, bytes } => {
                self.record(second, if bulk { Lane::Bulk } else { Lane::Fast }, bytes.to_vec());
            }
            Step::Subscribe { second, what, epoch, from, token } => {
                let (feed, epoch) = (what.feed(), Epoch::new(u64::from(epoch) + 1));
                let (me, host) = (node().entity_id(), peer(second).entity_id());
                let daemon = what.theirs().map(|keypair| DaemonProof {
                    entity: keypair.entity_id(),
                    signature: keypair.sign(&subscription_statement(&feed, me, LIFE, host, epoch)).expect("can sign"),
                    epoch,
                });
                self.say(
                    second,
                    &ChannelMessage::Subscribe {
                        request: 1,
                        channel: what.channel(),
                        daemon,
                        token,
                        subnet: None,
                        from: from.map(u64::from),
                        group: what.group(),
                    },
                );
                self.let_in |= self.machine.kept().let_in > 0;
            }
            Step::Unsubscribe { second, what, taken } => {
                let daemon = what.theirs().map(|keypair| keypair.entity_id());
                let (channel, group, taken) = (what.channel(), what.group(), taken.map(u64::from));
                self.say(second, &ChannelMessage::Unsubscribe { request: 1, channel, daemon, group, taken });
            }
            Step::Answer { second, kind, request, number, what } => {
                let (request, channel) = (u64::from(request), what.feed().channel().id().0);
                let (daemon, group) =
                    (what.daemon.map(|_| daemon().entity_id()), what.feed().group_id().map(|group| group.0));
                let position = Some(u64::from(number));
                self.say(
                    second,
                    &match kind % 5 {
                        0 | 1 => {
                            ChannelMessage::Subscribed { request, position, missed: position.filter(|_| kind > 99) }
                        }
                        2 => ChannelMessage::Refused { request, reason: RefusalReason::Throttled },
                        3 => ChannelMessage::Unsubscribed { request },
                        _ => ChannelMessage::Ended { channel, daemon, reason: RefusalReason::Expired, group },
                    },
                );
            }
            Step::Data { second, what, number, times, spread, reliable, after, size } => {
                let payload = vec![7; usize::from(size) % MAX_RECORD_BODY.min(2_000)];
                for more in 0..u64::from(times) {
                    let mut head = DataHead { reliable, after: after.map(u64::from), ..head(what, number) };
                    *(if spread { &mut head.channel } else { &mut head.number }) += more;
                    self.say(second, &ChannelMessage::Data { head, payload: &payload });
                }
            }
            Step::Large { second, what, number, total, pieces, piece } => {
                let piece = Bytes::from(vec![7; usize::from(piece) % 32_000]);
                let mut fragment =
                    Fragment::First { head: head(what, number), total: total.into(), piece: piece.clone() };
                for _ in 0..pieces {
                    let mut body = Vec::new();
                    fragment.encode_into(&mut body);
                    self.record(second, Lane::Bulk, body);
                    fragment = Fragment::Next(piece.clone());
                }
            }
            Step::Ack { second, what, through, gone } => {
                let (channel, member) = (what.feed().channel().id().0, what.member(what.theirs()));
                let through = u64::from(through);
                let ack = ChannelMessage::Ack { channel, through, member };
                let nobody = ChannelMessage::NoMember { channel, member };
                self.say(second, if gone { &nobody } else { &ack });
            }
            Step::Session { second, what } => self.session(second, what),
            Step::Publish { gated, times, size, reliable } => {
                let channel = ChannelName::new(CHANNELS[usize::from(gated)]).expect("canonical");
                let payload = Bytes::from(vec![7; usize::from(size)]);
                let options = PublishOptions { reliable, ..PublishOptions::default() };
                for _ in 0..times {
                    let _ = self.machine.publish(&channel, &payload, None, options, self.now);
                }
            }
            Step::Ask { second, what, leave } => {
                let (publisher, feed, keypair) = (peer(second).node_id(), what.feed(), daemon());
                if leave {
                    self.machine.unsubscribe(publisher, &feed, what.ours(), self.now);
                    return;
                }
                let daemon = DaemonSubscriber { keypair: &keypair, epoch: Epoch::FIRST, from: None };
                let who = what.daemon.map_or(SubscribeAs::Node, |_| SubscribeAs::Daemon(daemon));
                let _ = self.machine.subscribe(publisher, &feed, who, None, self.now);
            }
            Step::Take { most } => {
                for _ in 0..most {
                    let Some(message) = self.machine.next_for(daemon().entity_id()) else { break };
                    self.machine.took(daemon().entity_id(), &message, self.now);
                    self.taken = true;
                }
            }
            Step::Transmit { second } => self.transmit(second),
            Step::Wait { seconds } => self.wait(Duration::from_secs(u64::from(seconds) % 600)),
        }
    }

    fn say(&mut self, second: bool, message: &ChannelMessage<'_>) {
        self.record(second, Lane::Fast, codec::encode(message));
    }

    fn record(&mut self, second: bool, lane: Lane, body: Vec<u8>) {
        // A frame holds no more.
        if body.len() <= MAX_RECORD_BODY {
            let mut records = vec![Record { subprotocol: Subprotocol::Channels, body: body.into() }];
            self.machine.records(peer(second).node_id(), lane, &mut records, self.now);
        }
    }

    fn session(&mut self, second: bool, what: u8) {
        let (node, entity) = (peer(second).node_id(), peer(second).entity_id());
        let event = match what % 7 {
            which @ (0 | 1) => PeerEvent::Connected {
                peer: PeerIdentity { node, entity, incarnation: LIFE, static_key: [0; 32], max_payload: MAX_PAYLOAD },
                resumed: which == 1,
            },
            2 => PeerEvent::Ready { node },
            3 => PeerEvent::Suspected { node },
            5 => PeerEvent::Heard { node },
            6 => PeerEvent::Cut { node },
            _ => PeerEvent::Lost { node, incarnation: LIFE, how: Loss::Silence },
        };
        self.machine.peer(&event, self.now);
    }

    fn transmit(&mut self, second: bool) {
        for lane in [Lane::Fast, Lane::Bulk] {
            for _ in 0..8 {
                let mut sink = Sink { left: MAX_PLAINTEXT, records: 0 };
                let more = self.machine.fill(peer(second).node_id(), lane, &mut sink, self.now);
                if sink.records == 0 {
                    assert!(!more || lane == Lane::Bulk, "there is more, but nothing fits an empty frame");
                    break;
                }
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now.instant + time;
        let mut ticks = 0;
        while let Some(due) = self.machine.next_deadline().filter(|due| *due <= end) {
            ticks += 1;
            assert!(ticks < 10_000, "timers come to rest");
            self.advance_to(due);
            self.machine.tick(self.now);
        }
        self.advance_to(end);
    }

    fn advance_to(&mut self, instant: Instant) {
        let passed = instant.saturating_duration_since(self.now.instant);
        self.now.instant += passed;
        self.now.unix += passed;
    }

    /// What peers can make this node keep.
    fn check(&mut self) {
        while let Some(event) = self.machine.next_event() {
            self.taken |= matches!(event, ChannelEvent::Message(_));
        }
        let kept = self.machine.kept();
        let payload = usize::try_from(MAX_PAYLOAD).expect("small");
        assert!(kept.acknowledgements <= STREAMS, "{kept:?}");
        assert!(kept.unfinished_bytes <= 2 * payload, "{kept:?}");
        assert!(kept.held <= STREAMS * (2 * 1024 + 256), "{kept:?}");
        assert!(kept.held_bytes <= STREAMS * 16 * 1024 * 1024, "{kept:?}");
        assert!(kept.control_bytes <= 2 * 4 * 1024 * 1024, "{kept:?}");
        // What waits in order, and for daemons that came back to either channel.
        assert!(kept.waiting <= 2 * 3 * 4096, "{kept:?}");
        assert!(kept.recent <= 2 * 4096 && kept.recent_bytes <= 2 * 4 * 1024 * 1024, "{kept:?}");
        assert!(kept.refused <= 2 * 65, "{kept:?}");
        // On either node itself and four daemons, in and outside of one group of the two channels.
        assert!(kept.let_in <= 2 * 5 * 2 * 2, "{kept:?}");
    }

    /// The peers go, and time passes.
    fn end(&mut self) {
        for second in [false, true] {
            self.session(second, 4);
        }
        self.wait(Duration::from_secs(3600));
        self.machine.tick(self.now);
        while self.machine.next_event().is_some() {}
        let kept = self.machine.kept();
        assert!(self.machine.is_idle(), "{kept:?}");
        let left = [kept.let_in, kept.unfinished_bytes, kept.recent, kept.refused];
        assert_eq!(left, [0; 4], "{kept:?}");
        assert_eq!(self.machine.ledger(), []);
    }
}

/// Of a message of a peer for this node.
fn head(what: What, number: u16) -> DataHead {
    let number = u64::from(number);
    let share = what.member(what.daemon.map(|_| daemon())).map(|member| GroupShare { member, sequence: number });
    DataHead { channel: what.feed().channel().id().0, number, reliable: true, after: None, link: None, share }
}

/// Room for one frame.
struct Sink {
    left: usize,
    records: usize,
}

impl RecordSink for Sink {
    fn room(&self) -> usize {
        self.left.saturating_sub(4).min(MAX_RECORD_BODY)
    }

    fn record(&mut self, _: Subprotocol, encode: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
        let mut body = Vec::new();
        encode(&mut body);
        if body.len() > self.room() {
            return None;
        }
        self.left -= body.len() + 4;
        self.records += 1;
        Some(body.len())
    }
}
