//! Valid inputs, from which the fuzzer starts and which the tests cut and change.

use bytes::Bytes;
use mesh_daemon_core::causal::{CausalLink, ChainBuilder, Horizon, Sequence};
use mesh_daemon_core::channel::{ChannelConfig, ChannelLedger, ChannelName, DaemonSubscription, Feed, Position};
use mesh_daemon_core::directory::Claim;
use mesh_daemon_core::identity::{
    EntityId, EntityKeypair, Epoch, IdentityEnvelope, Incarnation, Lineage, MigrationId, NodeId, NodeStaticSecret,
    OriginHash, PermissionToken, Revocation, TokenChain, TokenGrant, TokenScope, channel_hash,
};
use mesh_daemon_core::snapshot::{SnapshotHead, SnapshotStats, StateSnapshot};
use mesh_daemon_core::wire::channels::{
    ChannelMessage, DaemonProof, DataHead, Fragment, GroupMember, GroupShare, RefusalReason,
};
use mesh_daemon_core::wire::codec;
use mesh_daemon_core::wire::directory::{Between, DirectoryMessage, Few, Hosted, Rival};
use mesh_daemon_core::wire::events::{
    Answers, Event, EventsMessage, Failure, FailureKind, Item, Missing, Opening, Reply, StreamId, Thrown,
};
use mesh_daemon_core::wire::frame::{lane_byte, record_header};
use mesh_daemon_core::wire::migration::{
    CopyState, FailureReason, MigrationMessage, MoveId, Stage, StagedItem, StreamMark,
};
use mesh_daemon_core::wire::relay::{CircuitId, RelayMessage};
use mesh_daemon_core::wire::session::{HandshakePayload, Refusal, SessionMessage};
use mesh_daemon_core::wire::{Lane, Subprotocol};

use super::identity::{CHANNEL, NOW, claim_body, envelope_context, keypair};

/// A valid input of a target.
pub struct Example {
    /// Which target.
    pub target: &'static str,
    /// Its file name.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
    /// The format alone does not say what it is: it has fresh random numbers, or was found by trial.
    pub varies: bool,
}

/// Valid inputs of every target whose inputs can be written down.
pub fn examples() -> Vec<Example> {
    let events: Vec<_> = events().iter().map(codec::encode).collect();
    let claim = claim();
    let migration: Vec<_> = migration(&claim).iter().map(codec::encode).collect();
    let directory: Vec<_> = [
        DirectoryMessage::Lookup { query: 1, origin: OriginHash::new(2), view: None, hosting: None },
        DirectoryMessage::Answer { query: 1, claim: None, hosts: None, settled: None, former: None, doubt: None },
        DirectoryMessage::Answer {
            query: 1,
            claim: Some(&claim),
            hosts: None,
            settled: None,
            former: None,
            doubt: None,
        },
        DirectoryMessage::Answer {
            query: 1,
            claim: None,
            hosts: None,
            settled: None,
            former: Some(&claim),
            doubt: None,
        },
        DirectoryMessage::Lookup { query: 1, origin: OriginHash::new(2), view: Some(3), hosting: Some(true) },
        DirectoryMessage::Answer {
            query: 1,
            claim: None,
            hosts: Some(Few(vec![NodeId::new(4)])),
            settled: Some(true),
            former: None,
            doubt: Some(true),
        },
        DirectoryMessage::Claim { claim: &claim },
        DirectoryMessage::Place {
            anew: true,
            hosted: vec![OriginHash::new(2)],
            gone: Vec::new(),
            settled: Some(3),
            between: Between { from: 1, to: 2 },
        },
        DirectoryMessage::Rivals { rivals: vec![Rival { origin: OriginHash::new(2), host: NodeId::new(4) }] },
        DirectoryMessage::Tally { hosted: 5, yours: true, anew: true },
        DirectoryMessage::Hosting { hosted: vec![Hosted { origin: OriginHash::new(2), epoch: Epoch::new(6) }] },
    ]
    .iter()
    .map(codec::encode)
    .collect();
    let session = session();
    let frames = vec![
        frame(Lane::Fast, Subprotocol::Events, &events),
        frame(Lane::Bulk, Subprotocol::Migration, &migration),
        frame(Lane::Fast, Subprotocol::Directory, &directory),
        frame(Lane::Fast, Subprotocol::Session, &session),
    ];
    [
        ("capabilities", super::capabilities::messages()),
        ("channels", channels()),
        ("events", events),
        ("migration", migration),
        ("directory", directory),
        ("membership", super::membership::messages()),
        ("relay", relay()),
        ("session", session),
        ("frame", frames),
        ("claim", vec![claim]),
        ("snapshot", vec![snapshot(true), snapshot(false)]),
        ("streams", vec![streams()]),
        ("envelope", vec![envelope()]),
        ("token", tokens()),
        ("revocation", vec![Revocation::issue(&keypair(1), 2).expect("a full key pair").to_bytes().to_vec()]),
        ("identity", vec![signature(), CHANNEL.as_bytes().to_vec()]),
        // Tampered with by nothing: an xor with zeros.
        ("handshake", vec![vec![0, 1, 0], vec![1, 1, 0], vec![2, 1, 0], vec![3, 0]]),
        ("transport", vec![vec![0, 1], vec![3, 1]]),
        ("engine", meaning(super::engine, 1500)),
        ("subscribers", meaning(super::subscribers, 1500)),
        ("reassembler", meaning(super::reassembler, 400)),
        ("circuits", meaning(super::circuits, 800)),
        ("peers", meaning(super::peers, 800)),
    ]
    .into_iter()
    .flat_map(|(target, inputs)| {
        inputs.into_iter().enumerate().map(move |(at, bytes)| {
            // The first snapshot has an envelope.
            let varies = match target {
                "envelope" | "token" | "engine" | "reassembler" | "circuits" | "peers" | "subscribers" => true,
                "snapshot" => at == 0,
                _ => false,
            };
            Example { target, name: format!("valid-{at}"), bytes, varies }
        })
    })
    .collect()
}

fn channels() -> Vec<Vec<u8>> {
    let keypair = keypair(1);
    let (request, channel, daemon) = (7, CHANNEL, keypair.entity_id());
    let signature = keypair.sign(b"statement").expect("a full key pair");
    let link = Some(CausalLink::genesis(keypair.origin_hash()).to_bytes().into());
    let member = GroupMember { group: u64::MAX, daemon: Some(daemon) };
    let share = Some(GroupShare { member, sequence: u64::MAX });
    let head = DataHead { channel: 1, number: u64::MAX, reliable: true, after: Some(7), link, share };
    let bare = DataHead { after: None, link: None, share: None, ..head };
    let revocation = Revocation::issue(&keypair, 2).expect("a full key pair").to_bytes();
    let messages = [
        ChannelMessage::Subscribe {
            request,
            channel,
            daemon: Some(DaemonProof { entity: daemon, signature, epoch: Epoch::FIRST }),
            token: Some(&[1; 169]),
            subnet: Some(&[1, 2]),
            from: Some(3),
            group: Some("workers"),
        },
        ChannelMessage::Subscribe {
            request,
            channel,
            daemon: None,
            token: None,
            subnet: None,
            from: None,
            group: None,
        },
        ChannelMessage::Subscribed { request, position: Some(3), missed: Some(2) },
        ChannelMessage::Refused { request, reason: RefusalReason::Throttled },
        ChannelMessage::Unsubscribe { request, channel, daemon: Some(daemon), group: Some("workers"), taken: Some(4) },
        ChannelMessage::Unsubscribe { request, channel, daemon: None, group: None, taken: None },
        ChannelMessage::Unsubscribed { request },
        ChannelMessage::Ended { channel: 1, daemon: None, reason: RefusalReason::Expired, group: None },
        ChannelMessage::Ended { channel: 1, daemon: Some(daemon), reason: RefusalReason::Moved, group: Some(5) },
        ChannelMessage::Data { head, payload: b"payload" },
        ChannelMessage::Data { head: bare, payload: b"payload" },
        ChannelMessage::Ack { channel: 1, through: 2, member: None },
        ChannelMessage::Ack { channel: 1, through: 2, member: Some(member) },
        ChannelMessage::NoMember { channel: 1, member: Some(member) },
        ChannelMessage::Revoked { statement: &revocation },
        ChannelMessage::WhoRevoked { issuer: daemon },
    ];
    let piece = Bytes::from_static(b"piece");
    let fragments = [Fragment::First { head, total: 100, piece: piece.clone() }, Fragment::Next(piece)];
    let fragments = fragments.iter().map(|fragment| {
        let mut bytes = Vec::new();
        fragment.encode_into(&mut bytes);
        bytes
    });
    messages.iter().map(codec::encode).chain(fragments).chain([ledger()]).collect()
}

fn ledger() -> Vec<u8> {
    let name = || ChannelName::new(CHANNEL).expect("canonical");
    let incarnation = Incarnation { started_at_ms: 3, salt: 4 };
    let subscription = |group| DaemonSubscription {
        publisher: NodeId::new(7),
        feed: Feed::new(name(), group).expect("canonical"),
        accepted: true,
        position: Some(Position { incarnation, number: 9 }),
        token: Some(Bytes::from_static(b"token")),
    };
    let output = ChannelConfig { max_rate: Some(5), ..ChannelConfig::new(name()) };
    let subscriptions = vec![subscription(None), subscription(Some("workers"))];
    ChannelLedger { subscriptions, output: Some(output) }.encode().into()
}

/// Some noise of this length that a target takes for valid.
fn meaning(target: super::Target, len: usize) -> Vec<Vec<u8>> {
    (0..2_000).map(|seed| noise(seed, len)).filter(|bytes| target(bytes)).take(4).collect()
}

/// Bytes without a meaning, for targets that make operations of whatever they are given.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed + 1;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
    .take(len)
    .collect()
}

fn stream() -> StreamId {
    StreamId {
        sender: NodeId::new(3),
        incarnation: Incarnation { started_at_ms: 4, salt: 5 },
        entity: EntityId::from_bytes([6; 32]),
        lineage: Lineage::new(7),
        opening: Opening::new(1, 2 << 64),
    }
}

fn event(payload: &[u8]) -> Event<'_> {
    Event { link: CausalLink::genesis(OriginHash::new(8)), payload }
}

fn replies() -> Vec<Reply<'static>> {
    let cause = Thrown { name: "TypeError".into(), message: "not a function".into(), stack: None };
    let failure = Failure { kind: FailureKind::ProcessFailed, message: "it threw".into(), cause: Some(cause) };
    vec![
        Reply { number: 1, result: Ok(vec![event(b"one"), event(b"two")].into()) },
        Reply { number: 2, result: Err(failure) },
        Reply { number: 3, result: Ok(Vec::new().into()) },
    ]
}

fn events() -> Vec<EventsMessage<'static>> {
    let (stream, epoch) = (stream(), Epoch::new(2));
    let items = vec![Item::Call(event(b"call")), Item::Skip, Item::Send(event(b"send"))];
    vec![
        EventsMessage::Batch { stream, epoch, hops: 0, first: 1, items, replies_through: 0 },
        EventsMessage::Accepted { stream, through: 3, hops: 0 },
        EventsMessage::Replies { stream, through: 3, replies: replies(), hops: 0 },
        EventsMessage::Await { stream, epoch, hops: 1, replies_through: 2, repeat: true },
        EventsMessage::Withdraw { stream, epoch, hops: 0, number: 3 },
        EventsMessage::Moved { stream, node: NodeId::new(9), epoch, hops: 0 },
        EventsMessage::Unknown {
            stream,
            missing: Missing::before(2),
            hops: 0,
            accepted: Some(1),
            answers: Answers::batch_to(2),
        },
        EventsMessage::Close { stream },
        EventsMessage::Again { stream, hops: 0 },
        EventsMessage::Full { stream, hops: 0 },
        EventsMessage::Astray { stream, hops: 0 },
    ]
}

fn migration(claim: &[u8]) -> Vec<MigrationMessage<'_>> {
    let entity = EntityId::from_bytes([6; 32]);
    let id = MoveId { entity, migration: MigrationId::new(10), attempt: 1, epoch: Epoch::new(2) };
    let item = Item::Call(event(b"staged"));
    let item = StagedItem { stream: 0, number: 4, item, received_at: 11, channel: Some(CHANNEL) };
    let node = NodeId::new(12);
    vec![
        MigrationMessage::Prepare { id, kind: "counter", source: node, transport_identity: true, state_bytes: 99 },
        MigrationMessage::Prepared { id },
        MigrationMessage::TakeSnapshot { id, target: node, transport_identity: true },
        MigrationMessage::Reserve { id, total: 99, claim, orchestrator: NodeId::new(3) },
        MigrationMessage::Reserved { id },
        MigrationMessage::Chunk { id, index: 0, total: 1, bytes: b"chunk" },
        MigrationMessage::SnapshotReady { id, digest: [1; 32], signature: [2; 64], envelope: Some(b"sealed") },
        MigrationMessage::RestoreComplete { id },
        MigrationMessage::BufferedEvents {
            id,
            first: 0,
            streams: vec![stream()],
            items: vec![item],
            total: Some(1),
            marks: vec![StreamMark { stream: stream(), next: 5 }],
            ledger: Some(b"ledger"),
        },
        MigrationMessage::ReplayComplete { id, staged: 1, head: 3, complete: true },
        MigrationMessage::CutoverNotify { id },
        MigrationMessage::ActivateTarget { id, claim },
        MigrationMessage::ActivateAck { id },
        MigrationMessage::CleanupComplete { id },
        MigrationMessage::MigrationFailed { id, reason: FailureReason::SnapshotTooLarge { size: 2, max: 1 } },
        MigrationMessage::Status { id, stage: Stage::Transfer, bytes_sent: 1, bytes_total: 2, events: 3 },
        MigrationMessage::StatusQuery { id },
        MigrationMessage::StatusAnswer { id, copy: CopyState::Active },
        MigrationMessage::StatusAnswer { id, copy: CopyState::Gone },
        MigrationMessage::Cancel { id, reason: FailureReason::Timeout { detail: "late".into() } },
        MigrationMessage::TooLate { id },
        MigrationMessage::InDoubt { id },
        MigrationMessage::Inquire {
            origin: OriginHash::new(13),
            migration: MigrationId::new(10),
            attempt: 1,
            target: node,
            transport_identity: true,
        },
        MigrationMessage::Described { id, kind: "counter", state_bytes: 99 },
        MigrationMessage::Declined {
            origin: OriginHash::new(13),
            migration: MigrationId::new(10),
            attempt: 1,
            reason: FailureReason::NotAuthorized,
            moved: Some(node),
        },
        MigrationMessage::CanHost { query: 14, kinds: vec!["counter", "chat"] },
        MigrationMessage::Hosts { query: 14, kinds: vec![0, 1], open: true, daemons: 15 },
        MigrationMessage::NowReady { origin: OriginHash::new(13), migration: MigrationId::new(10) },
    ]
}

fn relay() -> Vec<Vec<u8>> {
    let (node, circuit) = (NodeId::new(1), CircuitId { opener: NodeId::new(2), number: 3 });
    let messages = [
        RelayMessage::Ask { node },
        RelayMessage::Answer { node, yes: true },
        RelayMessage::Open { circuit, to: node },
        RelayMessage::Incoming { circuit },
        RelayMessage::Accepted { circuit },
        RelayMessage::Data { circuit, bytes: b"ciphertext" },
        RelayMessage::Credit { circuit, bytes: 4 },
        RelayMessage::Close { circuit },
    ];
    messages.iter().map(codec::encode).collect()
}

fn session() -> Vec<Vec<u8>> {
    let payload = HandshakePayload {
        entity: [1; 32],
        incarnation: [2; 16],
        signature: [3; 64],
        minor: 0,
        features: 0,
        max_payload: 4,
        bulk_window: 5,
        attempt: Some(6),
        after: Some([7; 16]),
        ready: Some(true),
        holds: Some([8; 16]),
    };
    let messages = [
        SessionMessage::Welcome { resumed: true, ready: Some(true) },
        SessionMessage::Refused(Refusal::Duplicate),
        SessionMessage::Ready,
        SessionMessage::Ping(8),
        SessionMessage::Pong(8),
        SessionMessage::Credit(9),
        SessionMessage::Goodbye,
    ];
    messages.iter().map(codec::encode).chain([codec::encode(&payload)]).collect()
}

fn frame(lane: Lane, subprotocol: Subprotocol, bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut plaintext = vec![lane_byte(lane)];
    for body in bodies {
        let len = u16::try_from(body.len()).expect("a short message");
        plaintext.extend_from_slice(&record_header(subprotocol.id(), len));
        plaintext.extend_from_slice(body);
    }
    plaintext
}

fn claim() -> Vec<u8> {
    let first = Claim::sign(claim_body(&keypair(2), 1), &keypair(1)).expect("the key is at hand");
    first.hand_over(claim_body(&keypair(3), 2), &keypair(2)).expect("the holder names the next").encode()
}

/// Marks and kept replies, in the form in which they travel.
fn streams() -> Vec<u8> {
    #[derive(minicbor::Encode)]
    #[cbor(array)]
    struct Saved {
        #[n(0)]
        id: StreamId,
        #[n(1)]
        next: u64,
        #[n(2)]
        replies: Vec<Reply<'static>>,
    }
    codec::encode(&vec![Saved { id: stream(), next: 4, replies: replies() }])
}

fn snapshot(stateful: bool) -> Vec<u8> {
    let daemon = keypair(1);
    let mut horizon = Horizon::new();
    let mut chain = ChainBuilder::new(daemon.origin_hash());
    for emitter in 1..4 {
        horizon.observe(OriginHash::new(emitter), Sequence::new(emitter + 10));
        chain.append(b"output", horizon.summary()).expect("a young chain");
    }
    let head = SnapshotHead {
        kind: Some("counter".into()),
        entity: daemon.entity_id(),
        lineage: Lineage::new(1),
        epoch: Epoch::new(2),
        chain: *chain.head(),
        horizon,
        stats: SnapshotStats { events_processed: 3, events_emitted: 3, errors: 0, snapshots_taken: 1 },
        streams: Bytes::from(streams()),
        ledger: Bytes::from_static(b"ledger"),
        created_at_ns: 5,
    };
    let envelope = stateful.then(|| IdentityEnvelope::from_bytes(&envelope()).expect("well formed"));
    let state = stateful.then(|| Bytes::from_static(b"{\"count\":3}"));
    StateSnapshot { head, state, envelope }.encode().expect("encodable").to_vec()
}

fn envelope() -> Vec<u8> {
    let target = NodeStaticSecret::derive(&keypair(2)).expect("a full key pair");
    let sealed = IdentityEnvelope::seal(&keypair(1), target.public(), &envelope_context()).expect("a full key pair");
    sealed.to_bytes().to_vec()
}

fn tokens() -> Vec<Vec<u8>> {
    let grant = |subject: &EntityKeypair, scope| TokenGrant {
        subject: subject.entity_id(),
        scope,
        channel_hash: channel_hash(CHANNEL).expect("a canonical name"),
        ttl_seconds: 3600,
        delegation_depth: 2,
        generation: 1,
    };
    let scope = TokenScope::PUBLISH.union(TokenScope::DELEGATE);
    let root = PermissionToken::issue(&keypair(1), &grant(&keypair(2), scope), NOW).expect("a full key pair");
    let single = TokenChain::new(vec![root]).expect("one token");
    let longer = single
        .delegate(&keypair(2), keypair(3).entity_id(), scope, NOW)
        .and_then(|chain| chain.delegate(&keypair(3), keypair(4).entity_id(), TokenScope::PUBLISH, NOW))
        .expect("may be passed on");
    vec![single.to_bytes(), longer.to_bytes()]
}

fn signature() -> Vec<u8> {
    let keypair = keypair(1);
    let signature = keypair.sign(b"text").expect("a full key pair");
    [keypair.entity_id().as_bytes().as_slice(), signature.as_bytes(), b"text"].concat()
}
