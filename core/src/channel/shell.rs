//! The channels of a mesh node: the machine with a mesh below it, readers above it, and a clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::daemons::Attached;
use super::holding::Key;
use super::machine::{ChannelEvent, ChannelMachine, Moment, RequestId, SubscribeAs, Subscriber};
use super::port::DaemonChannelsObserver;
use super::publishing::{PublishId, PublishOptions, PublishReport};
use super::reader::{Reader, ReaderEnd, ReaderId};
use super::{ChannelConfig, ChannelError, ChannelName, Feed, Subnet};
use crate::capability::{Announced, Capabilities, CapabilityObserver};
use crate::causal::CausalLink;
use crate::identity::{EntityId, NodeId, Revocation};
use crate::mesh::{InstallError, MeshNode, PeerEvent, Record, RecordSink, SubprotocolHandler, Timed, Timer, unix_now};
use crate::wire::{Lane, Subprotocol};

mod subscribing;

const SUBPROTOCOLS: [Subprotocol; 1] = [Subprotocol::Channels];

/// Who reads channels.
pub trait ChannelObserver: Send + Sync + 'static {
    /// A reader has something to read, or has ended. Called on any thread; must not block, and must not call back.
    fn readable(&self, reader: ReaderId);
}

/// The channels of a node. Cheap to clone. No method blocks.
#[derive(Clone)]
pub struct Channels {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    mesh: MeshNode,
    observer: Arc<dyn ChannelObserver>,
    timer: Timer,
}

pub(super) struct State {
    pub(super) machine: ChannelMachine,
    /// A runtime with daemons on this node.
    pub(super) daemons: Attached,
    requests: HashMap<RequestId, Request>,
    publications: HashMap<PublishId, Published>,
    /// Publications that are over; whoever published was not told yet.
    over: Vec<(Published, PublishResult)>,
    pub(super) readers: BTreeMap<ReaderId, Reader>,
    last_reader: u64,
    /// Readers that something happened to.
    pub(super) touched: Vec<ReaderId>,
    /// Subscriptions whose readers may have another room than the machine knows.
    pub(super) stirred: BTreeSet<Key>,
    /// Those of them that have news and were not told yet.
    news: Vec<ReaderId>,
    /// The deadline that the clock knows of.
    deadline: Option<Instant>,
    /// What this node itself subscribes to.
    pub(super) own: BTreeMap<Key, Own>,
    closed: bool,
}

/// How a publication ended.
pub type PublishResult = Result<PublishReport, ChannelError>;
/// Whoever hears how a publication ended.
type Published = Box<dyn FnOnce(PublishResult) + Send>;

/// Whoever has to hear of something.
struct Told {
    wakes: BTreeSet<NodeId>,
    published: Vec<(Published, PublishResult)>,
    readers: Vec<ReaderId>,
    /// The clock has to look earlier than it thinks.
    sooner: bool,
    daemons: Option<Arc<dyn DaemonChannelsObserver>>,
}

/// A request and who waits for its answer.
struct Request {
    tell: oneshot::Sender<Result<(), ChannelError>>,
    joining: Option<Joining>,
}

/// What the node wants to be in.
#[derive(Clone)]
struct Joining {
    publisher: NodeId,
    feed: Feed,
    /// Who reads, unless that was asked for without a reader.
    reader: Option<ReaderId>,
}

/// A subscription of the node. It lasts while somebody reads it, or it was asked for without a reader. Of a queue group each
/// message is for one of its readers.
#[derive(Default)]
pub(super) struct Own {
    kept: bool,
    /// Requests that are to make it kept.
    joining: usize,
    pub(super) readers: Vec<ReaderId>,
    /// The place through which the publisher was told that everything was taken, when readers last had another room.
    pub(super) acknowledged: u64,
}

/// Whether a publisher agreed, once it has answered.
pub(super) type Answer = oneshot::Receiver<Result<(), ChannelError>>;

impl Joining {
    fn key(&self) -> Key {
        own_key(self.publisher, &self.feed)
    }
}

impl Own {
    /// Whether the node goes on being subscribed.
    pub(super) fn is_wanted(&self) -> bool {
        self.kept || self.joining > 0 || !self.readers.is_empty()
    }
}

impl Channels {
    /// The channels of this node; it may have one of these at a time. `max_payload` is the largest payload it sends or takes.
    pub fn create(
        mesh: &MeshNode,
        subnet: Subnet,
        max_payload: u64,
        observer: Arc<dyn ChannelObserver>,
    ) -> Result<Self, InstallError> {
        let machine = ChannelMachine::new(mesh.entity_id(), mesh.incarnation(), subnet, max_payload);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                machine,
                requests: HashMap::new(),
                publications: HashMap::new(),
                over: Vec::new(),
                readers: BTreeMap::new(),
                last_reader: 0,
                touched: Vec::new(),
                stirred: BTreeSet::new(),
                news: Vec::new(),
                deadline: None,
                daemons: Attached::default(),
                own: BTreeMap::new(),
                closed: false,
            }),
            mesh: mesh.clone(),
            observer,
            timer: Timer::default(),
        });
        mesh.install(shared.clone(), &SUBPROTOCOLS)?;
        shared.timer.drive(mesh, &shared);
        Ok(Self { shared })
    }

    /// Has the gates of channels that ask for capabilities look at what these say. Without, nobody offers anything.
    pub fn gate_by(&self, capabilities: &Capabilities) {
        let shared: Weak<Shared> = Arc::downgrade(&self.shared);
        capabilities.observe(shared);
    }

    /// Makes a channel, or gives it another configuration.
    pub fn register(&self, config: ChannelConfig) -> Result<(), ChannelError> {
        self.shared.act(|state, now| state.open()?.register(config, now))
    }

    /// Takes a channel of this node away: all its subscribers are out. False when there is none of this name.
    pub fn unregister(&self, name: &ChannelName) -> bool {
        self.act(|state, now| state.machine.unregister(name, now))
    }

    /// Has the node leave a queue group, or without one the channel with all its groups; whoever reads that comes to an end.
    /// Not to be in it is fine.
    pub fn unsubscribe(
        &self,
        publisher: NodeId,
        feed: &Feed,
    ) -> impl Future<Output = Result<(), ChannelError>> + use<> {
        let told = self.shared.act(|state, now| {
            let mut feeds = vec![feed.clone()];
            if feed.group().is_none() {
                let groups = state.machine.feeds_of(publisher, feed.channel().id(), Subscriber::Node);
                feeds.extend(groups.into_iter().filter(|feed| feed.group().is_some()));
            }
            let leave = |feed: Feed| {
                state.end_own(own_key(publisher, &feed), &ReaderEnd::Left);
                state.leave(publisher, &feed, now)
            };
            feeds.into_iter().map(leave).collect::<Vec<_>>()
        });
        async move {
            for told in told {
                answer(Ok(told)).await?;
            }
            Ok(())
        }
    }

    /// Ends a reader, and the subscription with its last one, unless the node subscribed without a reader too. What it has not
    /// read of a queue group is for the other readers of that. Gives how many messages went unread, with those that went now;
    /// what was not acknowledged is none of them: the publisher hears that it was not taken.
    pub fn close_reader(
        &self,
        reader: ReaderId,
        publisher: NodeId,
        feed: &Feed,
    ) -> (u64, impl Future<Output = Result<(), ChannelError>> + use<>) {
        let (dropped, told) = self.shared.act(|state, now| state.close_reader(reader, publisher, feed, now));
        let closed = async move {
            match answer(Ok(told)).await {
                // Then nothing is subscribed to any more.
                Err(ChannelError::ShutDown) => Ok(()),
                result => result,
            }
        };
        (dropped, closed)
    }

    /// Publishes on a channel of this node, for a daemon when the message has a place in its chain. `published` is called once,
    /// perhaps before this returns; on any thread, so it must not block, and it must not call back.
    pub fn publish(
        &self,
        name: &ChannelName,
        payload: &Bytes,
        link: Option<&CausalLink>,
        options: PublishOptions,
        published: impl FnOnce(PublishResult) + Send + 'static,
    ) {
        self.shared.act(|state, now| {
            let published: Published = Box::new(published);
            match state.open().and_then(|machine| machine.publish(name, payload, link, options, now)) {
                Ok(id) => {
                    state.publications.insert(id, published);
                }
                Err(error) => state.over.push((published, Err(error))),
            }
        });
    }

    /// Enters a revocation, which is passed on to every peer. The future tells when it was handed to all with which the node
    /// has sessions. It begins at once, also when the future is not awaited.
    pub fn revoke(&self, revocation: &Revocation) -> impl Future<Output = Result<(), ChannelError>> + use<> {
        let told = self.shared.act(|state, now| {
            let request = state.open()?.revoke(revocation, now)?;
            Ok(state.wait(request, None))
        });
        answer(told)
    }

    /// How far clocks of issuers may be ahead of this node's, at most [`MAX_TOKEN_SKEW`](super::MAX_TOKEN_SKEW).
    pub fn set_token_skew(&self, skew: Duration) {
        self.shared.act(|state, _| state.machine.set_token_skew(skew));
    }

    /// Revokes the tokens of an issuer below a generation, for the channels of this node only.
    pub fn revoke_below(&self, issuer: EntityId, generation: u32) {
        self.shared.act(|state, now| state.machine.revoke_below(issuer, generation, now));
    }

    /// Looks at the machine.
    pub fn look<T>(&self, act: impl FnOnce(&ChannelMachine) -> T) -> T {
        act(&self.shared.state.lock().machine)
    }

    /// Does something with the state, and carries out what comes of it.
    pub(super) fn act<T>(&self, act: impl FnOnce(&mut State, Moment) -> T) -> T {
        self.shared.act(act)
    }

    /// Does something with the state; what comes of it waits for [`flush`](Self::flush).
    pub(super) fn with_state<T>(&self, act: impl FnOnce(&mut State, Moment) -> T) -> T {
        act(&mut self.shared.state.lock(), present())
    }

    pub(super) fn flush(&self) {
        let told = self.shared.state.lock().take_told();
        self.shared.tell(told);
    }

    /// Ends it: whoever waits is told, and the node stops answering for its channels. Idempotent.
    pub fn close(&self) {
        self.shared.close();
    }
}

impl State {
    /// The machine, unless the node is shut down: whoever was told that by then is told nothing more.
    pub(super) fn open(&mut self) -> Result<&mut ChannelMachine, ChannelError> {
        if self.closed { Err(ChannelError::ShutDown) } else { Ok(&mut self.machine) }
    }

    fn join(&mut self, joining: &Joining, token: Option<&[u8]>, now: Moment) -> Result<Answer, ChannelError> {
        let request = self.open()?.subscribe(joining.publisher, &joining.feed, SubscribeAs::Node, token, now)?;
        Ok(self.wait(request, Some(joining.clone())))
    }

    pub(super) fn leave(&mut self, publisher: NodeId, feed: &Feed, now: Moment) -> Answer {
        match self.open() {
            Ok(machine) => {
                let request = machine.unsubscribe(publisher, feed, Subscriber::Node, now);
                self.wait(request, None)
            }
            Err(error) => settled(Err(error)),
        }
    }

    fn wait(&mut self, request: RequestId, joining: Option<Joining>) -> Answer {
        let (tell, told) = oneshot::channel();
        self.requests.insert(request, Request { tell, joining });
        told
    }

    /// Carries out what the machine tells.
    pub(super) fn take_events(&mut self, now: Moment) {
        self.take_machine_events(now);
        // What is acknowledged on this very node may bring more.
        while let Some(key) = self.stirred.pop_first() {
            self.settle_readers(key, now);
            self.take_machine_events(now);
        }
        for id in std::mem::take(&mut self.touched) {
            if self.readers.get_mut(&id).is_some_and(Reader::is_news) {
                self.news.push(id);
            }
        }
    }

    fn take_machine_events(&mut self, now: Moment) {
        while let Some(event) = self.machine.next_event() {
            match event {
                ChannelEvent::Settled { request, result } => {
                    let Some(waiting) = self.requests.remove(&request) else {
                        self.daemons.keep(ChannelEvent::Settled { request, result });
                        continue;
                    };
                    if let Some(joining) = waiting.joining {
                        self.joined(&joining, result.as_ref().err(), now);
                    }
                    // Nobody has to wait for it.
                    let _unheard = waiting.tell.send(result);
                }
                ChannelEvent::Published { id, result } => {
                    let Some(published) = self.publications.remove(&id) else {
                        self.daemons.keep(ChannelEvent::Published { id, result });
                        continue;
                    };
                    self.over.push((published, result));
                }
                ChannelEvent::Message(message) => self.deliver(&message),
                ChannelEvent::Ended { publisher, feed, subscriber: Subscriber::Node, error } => {
                    self.end_own(own_key(publisher, &feed), &ReaderEnd::Failed(error));
                }
                event @ (ChannelEvent::Ended { subscriber: Subscriber::Daemon(_), .. }
                | ChannelEvent::Ready(_)
                | ChannelEvent::Missed { .. }) => self.daemons.keep(event),
            }
        }
    }

    /// Whoever has to hear of what was done, once nothing is locked.
    fn take_told(&mut self) -> Told {
        let before = self.deadline;
        self.deadline = self.machine.next_deadline();
        let sooner = self.deadline.is_some_and(|after| before.is_none_or(|before| after < before));
        let (wakes, readers) = (self.machine.take_wakes(), std::mem::take(&mut self.news));
        Told { wakes, published: std::mem::take(&mut self.over), readers, sooner, daemons: self.daemons.to_tell() }
    }

    /// A publisher has answered. When that leaves the node outside, nothing of the attempt is kept; when the node is in already,
    /// nothing of this one.
    fn joined(&mut self, joining: &Joining, error: Option<&ChannelError>, now: Moment) {
        let key = joining.key();
        let own = self.own.get_mut(&key).filter(|_| joining.reader.is_none());
        if let Some(own) = own {
            own.joining = own.joining.saturating_sub(1);
            own.kept |= error.is_none();
        }
        let Some(error) = error else { return };
        let how = ReaderEnd::Failed(error.clone());
        if !self.machine.is_joining(key, Subscriber::Node) {
            return self.end_own(key, &how);
        }
        if let Some(reader) = joining.reader {
            self.dismiss(key, reader, how);
        }
        if self.own.get(&key).is_some_and(|own| !own.is_wanted()) {
            self.own.remove(&key);
            drop(self.leave(joining.publisher, &joining.feed, now));
        }
    }
}

impl Shared {
    fn act<T>(&self, act: impl FnOnce(&mut State, Moment) -> T) -> T {
        let now = present();
        let (result, told) = {
            let mut state = self.state.lock();
            let result = act(&mut state, now);
            state.take_events(now);
            (result, state.take_told())
        };
        self.tell(told);
        result
    }

    fn tell(&self, told: Told) {
        for node in told.wakes {
            self.mesh.wake(node);
        }
        if told.sooner {
            self.timer.sooner();
        }
        for (published, result) in told.published {
            published(result);
        }
        for reader in told.readers {
            self.observer.readable(reader);
        }
        if let Some(daemons) = told.daemons {
            daemons.channel_news();
        }
    }

    fn close(&self) {
        if !self.timer.stop() {
            return;
        }
        self.mesh.uninstall(&SUBPROTOCOLS);
        let mut state = self.state.lock();
        state.closed = true;
        state.requests.clear();
        let keys: Vec<_> = state.own.keys().copied().collect();
        for key in keys {
            // Asked for, so a reader just comes to its end.
            state.end_own(key, &ReaderEnd::Left);
        }
        state.machine.shut_down();
        state.take_events(present());
        let told = state.take_told();
        drop(state);
        self.tell(told);
    }
}

impl SubprotocolHandler for Shared {
    fn records(&self, from: NodeId, lane: Lane, records: &mut Vec<Record>) {
        let bulk: usize = match lane {
            Lane::Bulk => records.iter().map(|record| record.body.len()).sum(),
            Lane::Fast => 0,
        };
        self.act(|state, now| state.machine.records(from, lane, records, now));
        if bulk > 0 {
            // At most one message per peer is being put together, so its credit returns as soon as it is taken in.
            self.mesh.consumed(from, bulk);
        }
    }

    fn peer(&self, event: &PeerEvent) {
        self.act(|state, now| state.machine.peer(event, now));
    }

    fn fill(&self, to: NodeId, lane: Lane, sink: &mut dyn RecordSink) -> bool {
        self.act(|state, now| state.machine.fill(to, lane, sink, now))
    }
}

impl CapabilityObserver for Shared {
    fn changed(&self, node: NodeId, look: &dyn Fn() -> Option<Announced>) {
        self.act(|state, now| state.machine.announced(node, look(), now));
    }
}

impl Timed for Shared {
    fn next_deadline(&self) -> Option<Instant> {
        self.state.lock().machine.next_deadline()
    }

    fn on_deadline(&self) {
        self.act(|state, now| state.machine.tick(now));
    }
}

/// Waits for an answer that comes unless the node ends first.
async fn answer<T>(told: Result<oneshot::Receiver<Result<T, ChannelError>>, ChannelError>) -> Result<T, ChannelError> {
    told?.await.unwrap_or(Err(ChannelError::ShutDown))
}

pub(super) fn own_key(publisher: NodeId, feed: &Feed) -> Key {
    (publisher, feed.stream(Subscriber::Node))
}

/// An answer that is here.
pub(super) fn settled(result: Result<(), ChannelError>) -> Answer {
    let (tell, told) = oneshot::channel();
    let _heard = tell.send(result);
    told
}

fn present() -> Moment {
    Moment { instant: Instant::now(), unix: unix_now() }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels").field("node", &self.shared.mesh.node_id()).finish_non_exhaustive()
    }
}
