//! Drives the [membership](crate::membership) of one node: its messages inside sessions, its timers, its dials.
//!
//! [`Members`] is the handler of the subprotocol. Its locks come after all others of the mesh. What needs one of those, to
//! dial or to tell the layers above, is left to [`drive`].

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::error::{HandshakeFailure, MeshError};
use super::handler::{Loss, PeerEvent, Record, RecordSink, SubprotocolHandler};
use super::inner::Inner;
use super::table::{DialTarget, PeerRefusal, Way};
use super::{dial, relay};
use crate::identity::{Incarnation, NodeId};
use crate::membership::{Attempt, Card, Membership, Output, Standing};
use crate::wire::{Lane, Subprotocol};

/// Packets that wait for one peer; those beyond are lost, as packets may be.
const MOST_WAITING: usize = 64;
/// Pauses between attempts to reach a seed: the first, and the longest, which is also how often one is looked after that
/// was reached.
const SEED_PAUSE: Duration = Duration::from_millis(250);
const SEED_CHECK: Duration = Duration::from_secs(15);

/// The membership of one node and what it has to say.
pub(super) struct Members {
    inner: Weak<Inner>,
    state: Mutex<State>,
    /// Messages for each peer. Apart from the rest, which checks signatures: frames are filled without waiting for that.
    waiting: Mutex<BTreeMap<NodeId, Waiting>>,
    /// There are dials, news or a sooner deadline for [`drive`].
    stir: Notify,
    /// How far this node has come with joining, as the layers above were told.
    standing: watch::Sender<Standing>,
}

/// What waits for one peer.
#[derive(Default)]
struct Waiting {
    /// Said once in a session, so it is never lost; a newer one says all that an older one did.
    hello: Option<Vec<u8>>,
    packets: VecDeque<Vec<u8>>,
}

impl Waiting {
    fn first(&self) -> Option<&Vec<u8>> {
        self.hello.as_ref().or_else(|| self.packets.front())
    }

    fn pop_first(&mut self) {
        if self.hello.take().is_none() {
            self.packets.pop_front();
        }
    }
}

struct State {
    machine: Membership,
    dials: Vec<(NodeId, Vec<SocketAddr>)>,
    changed: bool,
}

impl State {
    /// Sorts what the machine wants; gives who is to be woken.
    fn sort_out(&mut self, waiting: &Mutex<BTreeMap<NodeId, Waiting>>) -> Vec<NodeId> {
        let mut wakes = Vec::new();
        while let Some(output) = self.machine.take_output() {
            match output {
                Output::Hello { to, body } => {
                    waiting.lock().entry(to).or_default().hello = Some(body);
                    wakes.push(to);
                }
                Output::Send { to, body } => {
                    let mut waiting = waiting.lock();
                    let packets = &mut waiting.entry(to).or_default().packets;
                    if packets.len() < MOST_WAITING {
                        packets.push_back(body);
                        wakes.push(to);
                    }
                }
                Output::Dial { node, addrs } => self.dials.push((node, addrs)),
                Output::Changed => self.changed = true,
            }
        }
        wakes
    }

    fn keepers(&self) -> Vec<NodeId> {
        if !self.machine.takes_part() {
            return Vec::new();
        }
        let all = self.machine.members().chain([self.machine.card()]);
        let mut keepers: Vec<_> = all.filter(|card| card.directory).map(Card::node).collect();
        keepers.sort_unstable();
        keepers
    }
}

impl Members {
    pub(super) fn new(inner: Weak<Inner>, machine: Membership) -> Arc<Self> {
        let state = Mutex::new(State { machine, dials: Vec::new(), changed: false });
        let standing = watch::Sender::new(Standing::default());
        Arc::new(Self { inner, state, waiting: Mutex::default(), stir: Notify::new(), standing })
    }

    /// Does something with the machine, and sees to what it wants. May be called from a handler.
    fn with<T>(&self, act: impl FnOnce(&mut Membership, Instant) -> T) -> T {
        let (result, wakes, stir) = {
            let mut state = self.state.lock();
            let before = state.machine.next_deadline();
            let result = act(&mut state.machine, Instant::now());
            let wakes = state.sort_out(&self.waiting);
            let stir = state.changed || !state.dials.is_empty() || state.machine.next_deadline() != before;
            (result, wakes, stir)
        };
        if let Some(inner) = self.inner.upgrade() {
            for link in wakes.into_iter().filter_map(|node| inner.link(node)) {
                link.wake();
            }
        }
        if stir {
            self.stir.notify_one();
        }
        result
    }

    /// Takes part from now on.
    fn take_part(&self) {
        self.with(Membership::take_part);
    }

    /// Records can flow from now on.
    pub(super) fn start(&self) {
        self.with(Membership::start);
    }

    /// This node joins through so many more, and tries to reach them.
    fn seek(&self, more: usize) {
        self.with(|machine, now| machine.seek(more, now));
    }

    fn attempted(&self, attempt: Attempt) {
        self.with(|machine, now| machine.attempted(attempt, now));
    }

    fn given_up(&self) {
        self.with(Membership::given_up);
    }

    /// What the layers above are told: the live members that keep claims, and what this node may make of them.
    pub(super) fn seen(&self) -> (Vec<NodeId>, Standing) {
        let state = self.state.lock();
        (state.keepers(), state.machine.standing())
    }

    /// Resolves when the node is done with joining, for better or worse; none while it does not join.
    pub(super) fn joining(self: &Arc<Self>) -> Option<impl Future<Output = ()> + Send + use<>> {
        if !self.is_joining() {
            return None;
        }
        let (mut standing, this) = (self.standing.subscribe(), Arc::downgrade(self));
        Some(async move {
            // What was told last may be from before it began.
            let is_over =
                |told: &Standing| !told.is_passing() && this.upgrade().is_none_or(|members| !members.is_joining());
            let _node_is_gone = standing.wait_for(is_over).await;
        })
    }

    fn is_joining(&self) -> bool {
        self.state.lock().machine.standing().is_passing()
    }

    /// Joins through a peer.
    pub(super) fn join_through(&self, node: NodeId) {
        self.with(|machine, now| machine.join_through(node, now));
    }

    /// This node listens there too.
    pub(super) fn listens_at(&self, addr: SocketAddr) {
        self.with(|machine, now| machine.listens_at(addr, now));
    }

    /// Whether this node keeps claims for others.
    pub(super) fn keeps_directory(&self, keeps: bool) {
        self.with(|machine, now| machine.keeps_directory(keeps, now));
        self.state.lock().changed = true;
        self.stir.notify_one();
    }

    /// The live members beside this node, sorted.
    pub(super) fn live(&self) -> Vec<NodeId> {
        let mut live: Vec<_> = self.state.lock().machine.members().map(Card::node).collect();
        live.sort_unstable();
        live
    }

    fn disconnected(&self, node: NodeId, left: Option<Incarnation>) {
        self.waiting.lock().remove(&node);
        self.with(|machine, now| machine.disconnected(node, left, now));
    }
}

/// Serves timers, dials members and tells the layers above who they are, until the node is shut down.
pub(super) async fn drive(inner: Arc<Inner>) {
    let members = inner.members.clone();
    loop {
        let stirred = members.stir.notified();
        let (deadline, dials, changed) = {
            let mut state = members.state.lock();
            let changed = std::mem::take(&mut state.changed);
            (state.machine.next_deadline(), std::mem::take(&mut state.dials), changed)
        };
        if changed {
            tell(&inner);
        }
        for (node, addrs) in dials {
            inner.tasks.spawn(dial_member(inner.clone(), node, addrs));
        }
        let sleep = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = inner.root.cancelled() => return,
            () = stirred => {}
            () = sleep => members.with(Membership::tick),
        }
    }
}

/// Tells the layers above of the members. Not to be called from a handler.
fn tell(inner: &Inner) {
    // Under `control`, as handlers are installed: none misses the newest.
    let _control = inner.control.lock();
    let (keepers, standing) = inner.members.seen();
    inner.handlers.read().members(&keepers, standing);
    inner.members.standing.send_replace(standing);
}

/// Makes a session with a member: at one of its addresses, else through a common peer. Whoever answers proves to be it.
async fn dial_member(inner: Arc<Inner>, node: NodeId, addrs: Vec<SocketAddr>) {
    let attempt = async {
        for addr in addrs.into_iter().filter(|addr| addr.port() != 0 && !addr.ip().is_unspecified()) {
            let way = Way::Direct(addr.to_string());
            let target = DialTarget { way, pin_key: None, pin_node: Some(node), hearsay: true };
            match dial::connect(inner.clone(), target).await {
                Ok(_) => return,
                Err(error) => tracing::debug!(member = %node, %error, "cannot dial a member"),
            }
        }
        if let Err(error) = relay::reach(inner.clone(), node).await {
            tracing::debug!(member = %node, %error, "cannot reach a member");
        }
    };
    tokio::select! {
        biased;
        () = inner.root.cancelled() => return,
        () = attempt => {}
    }
    inner.members.with(|machine, now| machine.dial_ended(node, now));
}

/// Joins through each of these addresses, in the background.
pub(super) fn seek(inner: &Arc<Inner>, seeds: Vec<String>) {
    if !seeds.is_empty() {
        inner.members.take_part();
        inner.members.seek(seeds.len());
        tell(inner);
    }
    for seed in seeds {
        let (root, seeking) = (inner.root.clone(), seek_one(inner.clone(), seed));
        inner.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = root.cancelled() => {}
                () = seeking => {}
            }
        });
    }
}

/// An attempt to join through somebody, which may be dropped. Whoever asks this node for something meanwhile learns that it
/// knows nothing yet.
pub(super) struct Seeking {
    inner: Arc<Inner>,
    attempt: Attempt,
}

impl Seeking {
    pub(super) fn begin(inner: Arc<Inner>) -> Self {
        inner.members.seek(1);
        tell(&inner);
        Self { inner, attempt: Attempt::Void }
    }

    /// There is a session with the node.
    pub(super) fn found(mut self, node: NodeId) {
        self.inner.members.join_through(node);
        self.attempt = Attempt::Reached;
    }
}

impl Drop for Seeking {
    fn drop(&mut self) {
        self.inner.members.attempted(self.attempt);
        tell(&self.inner);
    }
}

/// A session with a node at that address. One name may lead to several nodes, of which this is one: then to another one at
/// `all` that the name leads to.
async fn join_at(
    inner: &Arc<Inner>,
    addr: &str,
    all: impl Future<Output = Result<Vec<SocketAddr>, MeshError>>,
) -> Result<NodeId, MeshError> {
    let by_name = dial::connect(inner.clone(), seed(addr.to_owned(), false)).await;
    match by_name {
        Err(error) if is_myself(&error) => join_one_of(inner, all.await?, error).await,
        by_name => by_name,
    }
}

/// `myself` is what is said when all of them are this node.
async fn join_one_of(inner: &Arc<Inner>, addrs: Vec<SocketAddr>, myself: MeshError) -> Result<NodeId, MeshError> {
    let mut result = Err(myself);
    for addr in addrs {
        // The name leads there today: once that node is lost for long, the name is asked again and nobody else.
        match dial::connect(inner.clone(), seed(addr.to_string(), true)).await {
            Ok(node) => return Ok(node),
            Err(error) if is_myself(&error) => {}
            Err(error) => result = Err(error),
        }
    }
    result
}

fn seed(addr: String, hearsay: bool) -> DialTarget {
    DialTarget { way: Way::Direct(addr), pin_key: None, pin_node: None, hearsay }
}

const fn is_myself(error: &MeshError) -> bool {
    matches!(error, MeshError::HandshakeFailed { reason: HandshakeFailure::RefusedHere(PeerRefusal::Myself), .. })
}

async fn seek_one(inner: Arc<Inner>, addr: String) {
    let mut found = None;
    let mut told = None;
    let mut pause = SEED_PAUSE;
    let mut first = true;
    // Counted among those to join through.
    let mut counted = true;
    loop {
        if !found.is_some_and(|node| inner.has_session(node)) {
            let attempt = match join_at(&inner, &addr, dial::resolve(&addr)).await {
                Ok(node) => {
                    inner.members.join_through(node);
                    found = Some(node);
                    told = None;
                    pause = SEED_CHECK;
                    Attempt::Reached
                }
                // One list of seeds serves all nodes.
                Err(error) if is_myself(&error) => Attempt::Void,
                Err(error) => {
                    // A seed may come later; one that is there and refuses is a mistake of somebody's. Both are told once.
                    let refuses = matches!(error, MeshError::HandshakeFailed { .. });
                    match (told == Some(refuses), refuses) {
                        (true, _) => tracing::debug!(%addr, %error, "a seed cannot be reached"),
                        (false, true) => tracing::warn!(%addr, %error, "a seed cannot be joined"),
                        (false, false) => tracing::info!(%addr, %error, "a seed cannot be reached yet"),
                    }
                    told = Some(refuses);
                    pause = (2 * pause).min(SEED_CHECK);
                    Attempt::Failed
                }
            };
            if std::mem::take(&mut first) {
                inner.members.attempted(attempt);
            } else if attempt == Attempt::Void && counted {
                inner.members.given_up();
            }
            if attempt == Attempt::Void {
                if Way::Direct(addr.clone()).leads_to_one() {
                    return;
                }
                // A name that leads to this node alone now may lead to others another time, as it did.
                counted = false;
                pause = SEED_CHECK;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

impl SubprotocolHandler for Arc<Members> {
    fn records(&self, from: NodeId, _lane: Lane, records: &mut Vec<Record>) {
        self.with(|machine, now| {
            for record in records.drain(..) {
                if let Err(error) = machine.message(from, &record.body, now) {
                    tracing::debug!(peer = %from, %error, "membership message refused");
                }
            }
        });
    }

    fn peer(&self, event: &PeerEvent) {
        match event {
            PeerEvent::Connected { peer, resumed: _ } => {
                self.waiting.lock().remove(&peer.node);
                self.with(|machine, _| machine.connected(peer.node));
            }
            PeerEvent::Ready { node } => self.with(|machine, _| machine.ready(*node)),
            PeerEvent::Suspected { .. } | PeerEvent::Heard { .. } => {}
            PeerEvent::Cut { node } => self.with(|machine, _| machine.cut(*node)),
            PeerEvent::Lost { node, incarnation, how } => match how {
                Loss::Goodbye => self.disconnected(*node, Some(*incarnation)),
                Loss::NewerIncarnation | Loss::Silence => self.disconnected(*node, None),
            },
        }
    }

    fn fill(&self, to: NodeId, lane: Lane, sink: &mut dyn RecordSink) -> bool {
        if lane == Lane::Bulk {
            return false;
        }
        let mut all = self.waiting.lock();
        let Some(waiting) = all.get_mut(&to) else { return false };
        while let Some(body) = waiting.first() {
            if sink.record(Subprotocol::Membership, &mut |out| out.extend_from_slice(body)).is_none() {
                return true;
            }
            waiting.pop_first();
        }
        all.remove(&to);
        false
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::identity::EntityKeypair;
    use crate::mesh::{MeshConfig, MeshNode};
    use crate::session::Psk;

    fn config(bind: &str) -> MeshConfig {
        MeshConfig::new(bind, Psk::new([1; 32]), EntityKeypair::generate())
    }

    #[tokio::test]
    async fn who_is_met_is_waited_for_before_anybody_was_told_that_the_node_joins() {
        let node = MeshNode::create(config("127.0.0.1:0")).await.expect("bound");
        node.start();
        assert!(node.inner().members.joining().is_none(), "nobody told it to");
        node.inner().members.seek(1);
        let mut joining = Box::pin(node.inner().members.joining().expect("it joins"));
        let over = tokio::time::timeout(Duration::ZERO, &mut joining).await;
        assert!(over.is_err(), "what was told last is from before");
        node.inner().members.attempted(Attempt::Void);
        joining.await;
        node.shutdown().await;
    }

    #[tokio::test]
    async fn a_join_begins_at_once_and_ends_with_its_future() {
        let node = MeshNode::create(config("127.0.0.1:0")).await.expect("bound");
        node.start();
        let joined = node.join("127.0.0.1:1");
        assert!(node.inner().members.joining().is_some(), "what is asked now waits");
        drop(joined);
        assert!(node.inner().members.joining().is_none(), "it was given up");
        node.shutdown().await;
    }

    #[tokio::test]
    async fn a_hello_has_room_however_many_packets_wait_and_goes_first() {
        let node = MeshNode::create(config("127.0.0.1:0")).await.expect("bound");
        let members = &node.inner().members;
        let to = NodeId::new(7);
        members.with(|machine, _| {
            for number in 0..=u8::try_from(MOST_WAITING).expect("small") {
                machine.put_out(Output::Send { to, body: vec![number] });
            }
            machine.put_out(Output::Hello { to, body: b"older".to_vec() });
            machine.put_out(Output::Hello { to, body: b"hello".to_vec() });
        });
        let mut frame = Written(Vec::new());
        assert!(!members.fill(to, Lane::Fast, &mut frame));
        assert_eq!((frame.0.len(), frame.0[0].as_slice()), (1 + MOST_WAITING, &b"hello"[..]));
        node.shutdown().await;
    }

    struct Written(Vec<Vec<u8>>);

    impl RecordSink for Written {
        fn room(&self) -> usize {
            usize::MAX
        }

        fn record(&mut self, _: Subprotocol, encode: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
            let mut body = Vec::new();
            encode(&mut body);
            self.0.push(body);
            self.0.last().map(Vec::len)
        }
    }

    #[tokio::test]
    async fn a_seed_that_turns_out_to_be_the_node_itself_only_later_is_given_up_all_the_same() {
        let early = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let seed = early.local_addr().expect("bound").to_string();
        let node = MeshNode::create(MeshConfig { seeds: vec![seed], ..config("127.0.0.1:0") }).await.expect("bound");
        let itself = node.local_addr();
        tokio::spawn(async move {
            drop(early.accept().await.expect("it is dialled"));
            while let Ok((mut dialled, _)) = early.accept().await {
                let mut there = TcpStream::connect(itself).await.expect("it listens");
                let _over = tokio::io::copy_bidirectional(&mut dialled, &mut there).await;
            }
        });
        node.start();
        let mut standing = node.inner().members.standing.subscribe();
        let settled = standing.wait_for(|standing| *standing == Standing::Settled);
        // It begins as one that nobody told to join.
        assert_eq!(node.inner().members.seen().1, Standing::Seeking);
        let settled = tokio::time::timeout(Duration::from_secs(30), settled).await.is_ok();
        assert!(settled, "there is nobody to join");
        node.shutdown().await;
    }

    #[tokio::test]
    async fn of_several_nodes_behind_one_name_another_one_is_joined_and_none_is_nobody_while_one_is_out_of_reach() {
        let [node, other] = [(), ()].map(|()| MeshNode::create(config("127.0.0.1:0")));
        let (node, other) = (node.await.expect("bound"), other.await.expect("bound"));
        let inner = &node.inner().members.inner.upgrade().expect("it lives");
        let own = node.local_addr();
        // The first one that the name leads to is the node itself.
        let join = async |all: Vec<SocketAddr>| join_at(inner, &own.to_string(), async { Ok(all) }).await;
        let nobody = join(vec![own, own]).await.expect_err("all of them");
        assert!(is_myself(&nobody), "it is given up");
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let gone = closed.local_addr().expect("bound");
        drop(closed);
        for addrs in [vec![gone, own], vec![own, gone]] {
            let error = join(addrs).await.expect_err("nobody is there");
            assert!(!is_myself(&error), "it may come: {error}");
        }
        let joined = join(vec![own, gone, other.local_addr()]).await.expect("a session");
        assert_eq!(joined, other.node_id());
        node.shutdown().await;
        other.shutdown().await;
    }

    #[tokio::test]
    async fn strangers_do_not_choose_the_addresses_that_a_node_tells_others() {
        let node = MeshNode::create(config("0.0.0.0:0")).await.expect("bound");
        let said = || node.inner().members.state.lock().machine.card().addrs.clone();
        let addr = SocketAddr::from(([127, 0, 0, 1], node.local_addr().port()));
        let mut stranger = TcpStream::connect(addr).await.expect("it listens");
        stranger.write_all(&[3, 0, 1, 2, 3]).await.expect("taken");
        assert_eq!(stranger.read(&mut [0; 8]).await.unwrap_or(0), 0, "turned away");
        assert_eq!(said(), []);
        let peer = MeshNode::create(config("127.0.0.1:0")).await.expect("bound");
        peer.connect(&addr.to_string(), None, None).await.expect("a session");
        assert_eq!(said(), [addr]);
        peer.shutdown().await;
        node.shutdown().await;
    }
}
