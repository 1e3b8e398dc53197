//! Channels on real nodes.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mesh_daemon_core::capability::{Capabilities, CapabilityConfig, CapabilitySet};
use mesh_daemon_core::causal::{CausalLink, HorizonBloom, ParentHash, Sequence};
use mesh_daemon_core::channel::{
    ArrivedMessage, ChannelConfig, ChannelError, ChannelEvent, ChannelObserver, Channels, DaemonChannels,
    DaemonChannelsObserver, DaemonSubscriber, Feed, MAX_UNREAD, PublishOptions, PublishReport, PublishResult,
    ReaderEnd, ReaderId, Subnet, Subscriber,
};
use mesh_daemon_core::identity::{EntityKeypair, Epoch, PermissionToken, TokenGrant, TokenScope};
use mesh_daemon_core::mesh::{MeshConfig, MeshNode};
use mesh_daemon_core::session::Psk;
use tokio::sync::{Notify, oneshot};

use crate::net::{feed, name, right};

/// Generous: only a hang reaches it.
const HANG: Duration = Duration::from_secs(60);
const MAX_PAYLOAD: u64 = 16 * 1024 * 1024;
const RELIABLE: PublishOptions = crate::net::RELIABLE;

#[derive(Default)]
struct Bell(Notify);

impl DaemonChannelsObserver for Bell {
    fn channel_news(&self) {
        self.0.notify_one();
    }
}

impl ChannelObserver for Bell {
    fn readable(&self, _: ReaderId) {
        self.0.notify_one();
    }
}

struct Node {
    mesh: MeshNode,
    capabilities: Capabilities,
    channels: Channels,
    bell: Arc<Bell>,
}

impl Node {
    async fn new() -> Self {
        let config = MeshConfig {
            max_payload: MAX_PAYLOAD,
            ..MeshConfig::new("127.0.0.1:0", Psk::new([7; 32]), EntityKeypair::generate())
        };
        let mesh = MeshNode::create(config).await.expect("a free port");
        mesh.start();
        let bell = Arc::new(Bell::default());
        let config = CapabilityConfig::default();
        let capabilities = Capabilities::create(&mesh, Subnet::default(), config).expect("the first on this node");
        let channels =
            Channels::create(&mesh, Subnet::default(), MAX_PAYLOAD, bell.clone()).expect("the first on this node");
        channels.gate_by(&capabilities);
        Self { mesh, capabilities, channels, bell }
    }

    async fn pair() -> (Self, Self) {
        let (a, b) = (Self::new().await, Self::new().await);
        a.mesh.connect(&b.mesh.local_addr().to_string(), None, None).await.expect("session");
        b.mesh.accept(a.mesh.node_id()).await.expect("session");
        (a, b)
    }

    /// Publishes on channel `a`; it begins at once.
    fn publish(&self, payload: &Bytes, options: PublishOptions) -> impl Future<Output = PublishResult> + use<> {
        self.publish_on("a", payload, options)
    }

    fn publish_on(
        &self,
        channel: &str,
        payload: &Bytes,
        options: PublishOptions,
    ) -> impl Future<Output = PublishResult> + use<> {
        let (tell, told) = oneshot::channel();
        self.channels.publish(&name(channel), payload, None, options, |result| {
            let _unheard = tell.send(result);
        });
        async move { told.await.expect("it is told") }
    }

    async fn read(&self, reader: ReaderId, count: usize) -> Vec<ArrivedMessage> {
        let mut got = Vec::new();
        let all = async {
            while got.len() < count {
                let batch = self.channels.read(reader, count - got.len(), usize::MAX);
                if batch.is_empty() {
                    self.bell.0.notified().await;
                }
                got.extend(batch);
            }
        };
        tokio::time::timeout(HANG, all).await.expect("messages come");
        got
    }

    /// How it ends; whatever it has not read is passed over.
    async fn end(&self, reader: ReaderId) -> ReaderEnd {
        let ended = async {
            loop {
                let rung = self.bell.0.notified();
                drop(self.channels.read(reader, usize::MAX, usize::MAX));
                if let Some(end) = self.channels.take_end(reader) {
                    return end;
                }
                rung.await;
            }
        };
        tokio::time::timeout(HANG, ended).await.expect("it ends")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_messages_and_a_large_one_arrive_in_order() {
    let (publisher, subscriber) = Node::pair().await;
    publisher.channels.register(ChannelConfig::new(name("a"))).expect("registered");
    let (reader, ready) = subscriber.channels.open_reader(publisher.mesh.node_id(), &feed("a"), None);
    ready.await.expect("let in");
    let large = Bytes::from(vec![9; 5_000_000]);
    let sent: Vec<_> = (0..1000_u32)
        .map(|number| {
            let payload = if number == 500 { large.clone() } else { Bytes::copy_from_slice(&number.to_le_bytes()) };
            publisher.publish(&payload, RELIABLE)
        })
        .collect();
    let got = subscriber.read(reader, 1000).await;
    for (index, message) in got.iter().enumerate() {
        assert_eq!(message.number, index as u64 + 1);
        if index == 500 {
            assert!(message.payload == large);
        } else {
            assert_eq!(message.payload, u32::try_from(index).expect("small").to_le_bytes()[..]);
        }
    }
    for report in sent {
        let report = tokio::time::timeout(HANG, report).await.expect("it ends").expect("sent");
        assert_eq!((report.attempted, report.delivered), (1, 1));
    }
    publisher.mesh.shutdown().await;
    subscriber.mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_46_the_end_of_either_side_reaches_the_other() {
    let (publisher, subscriber) = Node::pair().await;
    publisher.channels.register(ChannelConfig::new(name("a"))).expect("registered");
    let (reader, ready) = subscriber.channels.open_reader(publisher.mesh.node_id(), &feed("a"), None);
    ready.await.expect("let in");
    let third = Node::new().await;
    third.mesh.connect(&publisher.mesh.local_addr().to_string(), None, None).await.expect("session");
    third.channels.subscribe(publisher.mesh.node_id(), &feed("a"), None).await.expect("let in");
    assert_eq!(publisher.channels.look(|machine| machine.roster(&feed("a")).len()), 2);
    third.mesh.shutdown().await;
    // The goodbye is handled before anything that follows it.
    let gone = async {
        while publisher.mesh.peer_count() > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HANG, gone).await.expect("the goodbye arrives");
    let report = publisher.publish(&Bytes::new(), RELIABLE).await.expect("sent");
    assert_eq!((report.attempted, report.delivered), (1, 1));

    let node = publisher.mesh.node_id();
    publisher.mesh.shutdown().await;
    assert_eq!(subscriber.read(reader, 1).await.len(), 1, "what came before can be read");
    assert_eq!(subscriber.end(reader).await, ReaderEnd::Failed(ChannelError::PeerLost(node)));
    assert_eq!(subscriber.channels.readers(), 0, "nothing of it is left");
    subscriber.mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_leaves_with_its_last_reader_unless_it_subscribed_without_one() {
    let (publisher, subscriber) = Node::pair().await;
    let (node, a) = (publisher.mesh.node_id(), feed("a"));
    publisher.channels.register(ChannelConfig::new(name("a"))).expect("registered");
    let attempted = async || publisher.publish(&Bytes::new(), PublishOptions::default()).await.expect("sent").attempted;
    let (one, ready) = subscriber.channels.open_reader(node, &a, None);
    ready.await.expect("let in");
    let (two, ready) = subscriber.channels.open_reader(node, &a, None);
    ready.await.expect("let in");
    subscriber.channels.close_reader(one, node, &a).1.await.expect("closed");
    assert_eq!(attempted().await, 1);
    subscriber.channels.close_reader(two, node, &a).1.await.expect("closed");
    assert_eq!(attempted().await, 0);

    subscriber.channels.subscribe(node, &a, None).await.expect("let in");
    let (three, ready) = subscriber.channels.open_reader(node, &a, None);
    ready.await.expect("let in");
    subscriber.channels.close_reader(three, node, &a).1.await.expect("closed");
    assert_eq!(attempted().await, 1);
    let (four, ready) = subscriber.channels.open_reader(node, &a, None);
    ready.await.expect("let in");
    subscriber.channels.unsubscribe(node, &a).await.expect("left");
    assert_eq!(attempted().await, 0);
    assert_eq!(subscriber.end(four).await, ReaderEnd::Left, "whoever reads comes to an end");

    let pending = subscriber.channels.subscribe(node, &feed("other"), None);
    subscriber.channels.close();
    let error = pending.await.expect_err("it has ended, or there is no such channel");
    assert!(matches!(error, ChannelError::ShutDown | ChannelError::Unknown(_)));
    publisher.mesh.shutdown().await;
    subscriber.mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_refused_ends_while_another_one_reads_on() {
    for channel in ["a", "a#g"] {
        let (publisher, subscriber) = Node::pair().await;
        let (node, a) = (publisher.mesh.node_id(), feed(channel));
        let root = EntityKeypair::generate();
        let config = ChannelConfig { token_roots: vec![root.entity_id()], ..ChannelConfig::new(name("a")) };
        publisher.channels.register(config).expect("registered");
        let grant = TokenGrant {
            subject: subscriber.mesh.entity_id(),
            scope: TokenScope::SUBSCRIBE,
            channel_hash: right(channel),
            ttl_seconds: 3600,
            delegation_depth: 0,
            generation: 0,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later than 1970");
        let issue = |issuer: &EntityKeypair| PermissionToken::issue(issuer, &grant, now.as_secs());
        let good = issue(&root).expect("issuable").to_bytes();
        let bad = issue(&EntityKeypair::generate()).expect("issuable").to_bytes();
        let (good_reader, ready) = subscriber.channels.open_reader(node, &a, Some(&good));
        ready.await.expect("let in");
        let (refused, ready) = subscriber.channels.open_reader(node, &a, Some(&bad));
        let error = ready.await.expect_err("the token is another issuer's");
        assert_eq!(subscriber.end(refused).await, ReaderEnd::Failed(error));
        let attempted = async || publisher.publish(&Bytes::new(), RELIABLE).await.expect("sent").attempted;
        assert_eq!((attempted().await, subscriber.read(good_reader, 1).await.len()), (1, 1));
        // Nor does one keep the node in whose answer comes when nobody else reads.
        let (refused, ready) = subscriber.channels.open_reader(node, &a, Some(&bad));
        let (_, closed) = subscriber.channels.close_reader(good_reader, node, &a);
        let error = ready.await.expect_err("the token is another issuer's");
        closed.await.expect("closed");
        assert_eq!(subscriber.end(refused).await, ReaderEnd::Failed(error));
        let gone = async { while attempted().await > 0 {} };
        tokio::time::timeout(HANG, gone).await.expect("it leaves by itself");
        publisher.mesh.shutdown().await;
        subscriber.mesh.shutdown().await;
    }
}

fn tagged(tags: &[&str]) -> CapabilitySet {
    CapabilitySet { tags: tags.iter().map(|&tag| tag.to_owned()).collect(), ..CapabilitySet::default() }
}

/// A channel for nodes with the tag `gpu`.
fn for_gpus() -> ChannelConfig {
    let mut config = ChannelConfig::new(name("a"));
    config.subscribe_caps.require_tags = vec!["gpu".to_owned()];
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_45_who_subscribes_right_after_connecting_is_judged_by_what_it_has_announced() {
    let publisher = Node::new().await;
    publisher.channels.register(for_gpus()).expect("registered");
    let address = publisher.mesh.local_addr().to_string();
    for trial in 0..40 {
        let subscriber = Node::new().await;
        subscriber.capabilities.announce(tagged(&["gpu"])).expect("small");
        let node = subscriber.mesh.connect(&address, None, None).await.expect("session");
        let let_in = subscriber.channels.subscribe(node, &feed("a"), None).await;
        assert_eq!(let_in, Ok(()), "trial {trial}");
        subscriber.mesh.shutdown().await;
    }
    publisher.mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hazard_45_what_a_node_announces_counts_for_what_it_asks_next_and_for_what_it_has() {
    let (publisher, subscriber) = Node::pair().await;
    publisher.channels.register(for_gpus()).expect("registered");
    let node = publisher.mesh.node_id();
    for trial in 0..40 {
        subscriber.capabilities.announce(tagged(&["gpu"])).expect("small");
        let (reader, ready) = subscriber.channels.open_reader(node, &feed("a"), None);
        assert_eq!(ready.await, Ok(()), "trial {trial}");
        subscriber.capabilities.announce(tagged(&["cpu"])).expect("small");
        let end = subscriber.end(reader).await;
        assert!(matches!(end, ReaderEnd::Failed(ChannelError::Unauthorized { .. })), "trial {trial}: {end:?}");
        assert_eq!(publisher.channels.look(|machine| machine.roster(&feed("a"))), []);
    }
    publisher.mesh.shutdown().await;
    subscriber.mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requirement_55_while_somebody_reads_a_reliable_message_is_acknowledged_when_it_has_room() {
    let (publisher, subscriber) = Node::pair().await;
    publisher.channels.register(ChannelConfig::new(name("a"))).expect("registered");
    let (reader, ready) = subscriber.channels.open_reader(publisher.mesh.node_id(), &feed("a"), None);
    ready.await.expect("let in");
    subscriber.channels.attend(reader, true);
    let count = 3 * MAX_UNREAD;
    let publish = || publisher.publish(&Bytes::from_static(b"x"), RELIABLE);
    let mut sent: Vec<_> = (0..count).map(|_| Box::pin(publish())).collect();
    for report in sent.drain(..MAX_UNREAD) {
        assert_eq!(tokio::time::timeout(HANG, report).await.expect("it ends").expect("sent").delivered, 1);
    }
    // Behind everything that was sent: the node has what it was sent, and says nothing of what it has no room for.
    publisher.channels.register(ChannelConfig::new(name("b"))).expect("registered");
    subscriber.channels.subscribe(publisher.mesh.node_id(), &feed("b"), None).await.expect("let in");
    for report in &mut sent {
        let over = tokio::time::timeout(Duration::ZERO, report).await;
        assert!(over.is_err(), "nobody has room for it");
    }
    let got: Vec<_> = subscriber.read(reader, count).await.iter().map(|message| message.number).collect();
    assert!(got == (1..=count as u64).collect::<Vec<_>>(), "each, in order");
    for report in sent {
        assert_eq!(tokio::time::timeout(HANG, report).await.expect("it ends").expect("sent").delivered, 1);
    }
    assert_eq!(subscriber.channels.dropped(reader), 0);

    // Nobody reads any more: nobody is waited for.
    subscriber.channels.attend(reader, false);
    let sent: Vec<_> = (0..count).map(|_| publish()).collect();
    for report in sent {
        assert_eq!(tokio::time::timeout(HANG, report).await.expect("it ends").expect("sent").delivered, 1);
    }
    assert_eq!(subscriber.channels.dropped(reader), count as u64 - MAX_UNREAD as u64);
    publisher.mesh.shutdown().await;
    subscriber.mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_of_a_queue_group_had_no_room_for_falls_to_the_others_when_it_leaves() {
    let (publisher, one) = Node::pair().await;
    let other = Node::new().await;
    other.mesh.connect(&publisher.mesh.local_addr().to_string(), None, None).await.expect("session");
    publisher.channels.register(ChannelConfig::new(name("a"))).expect("registered");
    let (node, group) = (publisher.mesh.node_id(), Feed::new(name("a"), Some("g")).expect("canonical"));
    let mut readers = Vec::new();
    for member in [&one, &other] {
        let (reader, ready) = member.channels.open_reader(node, &group, None);
        ready.await.expect("let in");
        member.channels.attend(reader, true);
        readers.push(reader);
    }
    let count = 4 * MAX_UNREAD;
    let mut sent: Vec<_> = (0..count).map(|_| publisher.publish(&Bytes::from_static(b"x"), RELIABLE)).collect();
    let delivered = async |report| {
        let report: Result<PublishReport, _> = tokio::time::timeout(HANG, report).await.expect("it ends");
        assert_eq!(report.expect("sent").delivered, 1);
    };
    let mut got = Vec::new();
    for report in sent.drain(..2 * MAX_UNREAD) {
        delivered(report).await;
    }
    // One of them has had room for so many, and keeps them; what comes behind them it has not taken.
    let (dropped, closed) = one.channels.close_reader(readers[0], node, &group);
    closed.await.expect("closed");
    assert_eq!(dropped, MAX_UNREAD as u64, "what it said it had taken, and nothing else");
    got.extend(other.read(readers[1], count - MAX_UNREAD).await.iter().map(|message| message.number));
    for report in sent {
        delivered(report).await;
    }
    got.sort_unstable();
    got.dedup();
    assert_eq!((got.len(), other.channels.dropped(readers[1])), (count - MAX_UNREAD, 0));
    for node in [publisher, one, other] {
        node.mesh.shutdown().await;
    }
}

/// How a full reader comes to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Over {
    Closed,
    Left,
    PutOut,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_while_nobody_read_is_read_or_counted_also_when_somebody_reads_again() {
    for (channel, over) in
        [("a", Over::Closed), ("a#g", Over::Closed), ("a", Over::Left), ("a#g", Over::Left), ("a#g", Over::PutOut)]
    {
        let (publisher, subscriber) = Node::pair().await;
        for (channel, priority) in [("a", 1), ("b", 0)] {
            publisher
                .channels
                .register(ChannelConfig { priority, ..ChannelConfig::new(name(channel)) })
                .expect("registered");
        }
        let node = publisher.mesh.node_id();
        subscriber.channels.subscribe(node, &feed("b"), None).await.expect("let in");
        let (one, feed) = (Bytes::from_static(b"x"), feed(channel));
        let (reader, ready) = subscriber.channels.open_reader(node, &feed, None);
        ready.await.expect("let in");
        subscriber.channels.attend(reader, true);
        let count = 2 * MAX_UNREAD;
        let delivered = async |report| {
            let report: PublishResult = tokio::time::timeout(HANG, report).await.expect("it ends");
            assert_eq!(report.expect("sent").delivered, 1);
        };
        let mut sent: Vec<_> = (0..count).map(|_| publisher.publish_on("a", &one, RELIABLE)).collect();
        for report in sent.drain(..MAX_UNREAD) {
            delivered(report).await;
        }
        // There is a window for the rest, and this comes behind it.
        delivered(publisher.publish_on("b", &one, RELIABLE)).await;
        subscriber.channels.attend(reader, false);
        for report in sent {
            delivered(report).await;
        }
        subscriber.channels.attend(reader, true);
        match over {
            Over::Closed => {
                let (dropped, closed) = subscriber.channels.close_reader(reader, node, &feed);
                closed.await.expect("closed");
                assert_eq!(dropped, count as u64, "{channel} {over:?}");
            }
            Over::Left => subscriber.channels.unsubscribe(node, &feed).await.expect("left"),
            Over::PutOut => assert!(publisher.channels.unregister(&name("a"))),
        }
        if over != Over::Closed {
            let ended = async {
                while !subscriber.channels.is_over(reader) {
                    subscriber.bell.0.notified().await;
                }
            };
            tokio::time::timeout(HANG, ended).await.expect("it ends");
            let got = subscriber.channels.read(reader, usize::MAX, usize::MAX);
            assert_eq!((got.len(), subscriber.channels.dropped(reader)), (count, 0), "{channel} {over:?}");
        }
        publisher.mesh.shutdown().await;
        subscriber.mesh.shutdown().await;
    }
}

/// The place of the first output of a daemon.
fn first_of(daemon: &EntityKeypair) -> CausalLink {
    CausalLink {
        origin: daemon.entity_id().origin_hash(),
        horizon: HorizonBloom::default(),
        sequence: Sequence::new(1),
        parent_hash: ParentHash::default(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_published_is_told_once_that_the_node_has_ended_before_or_after() {
    let (publisher, subscriber) = Node::pair().await;
    publisher.channels.register(ChannelConfig::new(name("a"))).expect("registered");
    let (reader, ready) = subscriber.channels.open_reader(publisher.mesh.node_id(), &feed("a"), None);
    ready.await.expect("let in");
    subscriber.channels.attend(reader, true);
    let full: Vec<_> = (0..MAX_UNREAD).map(|_| publisher.publish(&Bytes::from_static(b"x"), RELIABLE)).collect();
    for report in full {
        assert_eq!(tokio::time::timeout(HANG, report).await.expect("it ends").expect("sent").delivered, 1);
    }
    let publish = || {
        let (tell, told) = std::sync::mpsc::channel();
        publisher.channels.publish(&name("a"), &Bytes::from_static(b"x"), None, RELIABLE, move |result| {
            let _unheard = tell.send(result);
        });
        told
    };
    let before = publish();
    assert!(before.try_recv().is_err(), "nobody has room for it");
    let observer: Arc<dyn DaemonChannelsObserver> = publisher.bell.clone();
    publisher.channels.attach(Arc::downgrade(&observer));
    let port: &dyn DaemonChannels = &publisher.channels;
    let link = first_of(&EntityKeypair::generate());
    let of_daemon = port.publish(&name("a"), &Bytes::new(), &link, RELIABLE).expect("it waits");
    publisher.channels.close();
    let over = ChannelEvent::Published { id: of_daemon, result: Err(ChannelError::ShutDown) };
    assert_eq!(port.events(), [over]);
    let after = publish();
    for told in [before, after] {
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [Err(ChannelError::ShutDown)]);
    }
    publisher.mesh.shutdown().await;
    subscriber.mesh.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn daemons_of_a_node_that_was_shut_down_are_told_so_whatever_they_wait_for_or_ask() {
    let (publisher, subscriber) = Node::pair().await;
    for channel in ["a", "b"] {
        publisher.channels.register(ChannelConfig::new(name(channel))).expect("registered");
    }
    subscriber.channels.register(ChannelConfig::new(name("out"))).expect("registered");
    let news = Arc::new(Bell::default());
    let observer: Arc<dyn DaemonChannelsObserver> = news.clone();
    subscriber.channels.attach(Arc::downgrade(&observer));
    let port: &dyn DaemonChannels = &subscriber.channels;
    let (keypair, at) = (EntityKeypair::generate(), publisher.mesh.node_id());
    let daemon = DaemonSubscriber { keypair: &keypair, epoch: Epoch::FIRST, from: None };
    let settled = |events: &[ChannelEvent], asked| {
        events.iter().find_map(|event| match event {
            ChannelEvent::Settled { request, result } if *request == asked => Some(result.clone()),
            _ => None,
        })
    };
    for channel in ["a", "b"] {
        let asked = port.subscribe(at, &feed(channel), daemon, None).expect("connected");
        port.flush();
        let answered = async {
            loop {
                if let Some(result) = settled(&port.events(), asked) {
                    return result;
                }
                news.0.notified().await;
            }
        };
        tokio::time::timeout(HANG, answered).await.expect("answered").expect("let in");
    }
    // The publisher answers nothing any more, nor does it take anything.
    publisher.channels.close();
    let asked = port.subscribe(at, &feed("a#g"), daemon, None).expect("connected");
    let left = port.unsubscribe(at, &feed("b"), keypair.entity_id()).expect("asked");
    let waits = subscriber.channels.subscribe(at, &feed("a"), None);
    subscriber.channels.close();
    let events = port.events();
    let shut_down = Some(Err(ChannelError::ShutDown));
    assert_eq!((settled(&events, asked), settled(&events, left)), (shut_down.clone(), shut_down));
    let ended = events.iter().filter_map(|event| match event {
        ChannelEvent::Ended { feed, subscriber, error, .. } => Some((feed.clone(), *subscriber, error.clone())),
        _ => None,
    });
    let who = Subscriber::Daemon(keypair.entity_id());
    assert_eq!(ended.collect::<Vec<_>>(), [(feed("a"), who, ChannelError::ShutDown)], "it was leaving the other one");

    let over = ChannelError::ShutDown;
    assert_eq!(port.subscribe(at, &feed("a"), daemon, None), Err(over.clone()));
    assert_eq!(port.unsubscribe(at, &feed("a"), keypair.entity_id()), Err(over.clone()));
    assert_eq!(port.publish(&name("out"), &Bytes::new(), &first_of(&keypair), RELIABLE), Err(over.clone()));
    assert!(port.config_of(&name("out")).is_none(), "nobody is told that its outputs go anywhere");
    assert_eq!(port.open_for_outputs(ChannelConfig::new(name("new"))), Err(over.clone()));
    let channels = &subscriber.channels;
    let (reader, ready) = channels.open_reader(at, &feed("a"), None);
    let of_the_node = async {
        let (again, left) = (channels.subscribe(at, &feed("a"), None), channels.unsubscribe(at, &feed("a")));
        [waits.await, again.await, left.await, ready.await]
    };
    let of_the_node = tokio::time::timeout(HANG, of_the_node).await.expect("answered");
    assert!(of_the_node.iter().all(|result| *result == Err(over.clone())), "{of_the_node:?}");
    assert_eq!(channels.take_end(reader), Some(ReaderEnd::Failed(over)));
    publisher.mesh.shutdown().await;
    subscriber.mesh.shutdown().await;
}
