//! Codecs of messages between runtimes: what is written is read back, what is cut, changed or made up is refused, and
//! nothing is allocated for a claimed length.

use mesh_daemon_core::causal::{CausalLink, HorizonBloom, ParentHash, Sequence};
use mesh_daemon_core::directory::{Claim, ClaimBody, ClaimError};
use mesh_daemon_core::identity::{
    EntityId, EntityKeypair, Epoch, Incarnation, Lineage, MigrationId, NodeId, OriginHash,
};
use mesh_daemon_core::wire::codec::{self, DecodeError};
use mesh_daemon_core::wire::directory::DirectoryMessage;
use mesh_daemon_core::wire::events::{
    Answers, Event, EventsMessage, Failure, FailureKind, Item, LAST_NUMBER, MAX_FAILURE_TEXT, MOST_OUTPUTS, Missing,
    Opening, Reply, StreamId, Thrown,
};
use mesh_daemon_core::wire::migration::{
    FailureReason, MOST_HANDED_STREAMS, MOST_KINDS, MOST_STAGED_TOGETHER, MigrationMessage, MoveId, StagedItem,
    StreamMark, Unwelcome,
};
use mesh_daemon_core::wire::relay::{CircuitId, DATA_OVERHEAD, RelayMessage};
use proptest::prelude::*;

fn stream(seed: u64) -> StreamId {
    StreamId {
        sender: NodeId::new(seed),
        incarnation: Incarnation { started_at_ms: seed, salt: !seed },
        entity: EntityId::from_bytes([seed.to_le_bytes()[0]; 32]),
        lineage: Lineage::new(u128::from(seed) << 64),
        opening: Opening::new(seed, u128::from(!seed) << 64),
    }
}

fn event(seed: u64, payload: &[u8]) -> Event<'_> {
    let link = CausalLink {
        origin: OriginHash::new(seed),
        horizon: HorizonBloom::new(seed.rotate_left(7)),
        sequence: Sequence::new(seed),
        parent_hash: ParentHash::new(!seed),
    };
    Event { link, payload }
}

fn move_id(seed: u64) -> MoveId {
    let entity = EntityId::from_bytes([1; 32]);
    MoveId { entity, migration: MigrationId::new(u128::from(seed)), attempt: 1, epoch: Epoch::new(seed) }
}

fn batch(seed: u64, payloads: &[Vec<u8>]) -> EventsMessage<'_> {
    let items = payloads
        .iter()
        .enumerate()
        .map(|(at, payload)| match at % 3 {
            0 => Item::Call(event(seed, payload)),
            1 => Item::Send(event(seed, payload)),
            _ => Item::Skip,
        })
        .collect();
    let epoch = Epoch::new(seed);
    EventsMessage::Batch { stream: stream(seed), epoch, hops: 3, first: seed, items, replies_through: seed }
}

fn replies<'a>(seed: u64, payloads: &'a [Vec<u8>], text: &str) -> EventsMessage<'a> {
    let failure = Failure {
        kind: FailureKind::ProcessFailed,
        message: text.to_owned(),
        cause: Some(Thrown { name: "TypeError".into(), message: text.to_owned(), stack: None }),
    };
    let answered = Reply { number: seed, result: Ok(payloads.iter().map(|payload| event(seed, payload)).collect()) };
    let failed = Reply { number: seed.wrapping_add(1), result: Err(failure) };
    EventsMessage::Replies { stream: stream(seed), through: seed, replies: vec![answered, failed], hops: 0 }
}

fn buffered(seed: u64, payloads: &[Vec<u8>]) -> MigrationMessage<'_> {
    let items = payloads
        .iter()
        .map(|payload| StagedItem {
            stream: 0,
            number: seed,
            item: Item::Call(event(seed, payload)),
            received_at: seed,
            channel: payload.first().map(|_| "a/channel"),
        })
        .collect();
    let marks = vec![StreamMark { stream: stream(seed), next: seed }];
    MigrationMessage::BufferedEvents {
        id: move_id(seed),
        first: seed,
        streams: vec![stream(seed)],
        items,
        total: Some(seed),
        marks,
        ledger: payloads.first().map(Vec::as_slice),
    }
}

fn read_everything(bytes: &[u8]) {
    // Whatever they say of these bytes, they say it without a panic.
    let _ = codec::decode::<EventsMessage<'_>>(bytes);
    let _ = codec::decode::<MigrationMessage<'_>>(bytes);
    let _ = codec::decode::<DirectoryMessage<'_>>(bytes);
    let _ = codec::decode::<RelayMessage<'_>>(bytes);
    let _ = Claim::decode(bytes);
}

proptest! {
    #[test]
    fn messages_are_read_as_they_were_written(
        seed in 0..LAST_NUMBER,
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
        text in ".{0,200}",
    ) {
        for message in [batch(seed, &payloads), replies(seed, &payloads, &text)] {
            let bytes = codec::encode(&message);
            prop_assert_eq!(codec::decode::<EventsMessage<'_>>(&bytes), Ok(message));
        }
        let message = buffered(seed, &payloads);
        let bytes = codec::encode(&message);
        prop_assert_eq!(codec::decode::<MigrationMessage<'_>>(&bytes), Ok(message));
    }

    #[test]
    fn relay_messages_are_read_as_they_were_written(
        seed in any::<u64>(),
        number in any::<u64>(),
        bytes in prop::collection::vec(any::<u8>(), 0..70_000),
    ) {
        let (circuit, node) = (CircuitId { opener: NodeId::new(seed), number }, NodeId::new(!seed));
        let messages = [
            RelayMessage::Ask { node },
            RelayMessage::Answer { node, yes: seed % 2 == 0 },
            RelayMessage::Open { circuit, to: node },
            RelayMessage::Incoming { circuit },
            RelayMessage::Accepted { circuit },
            RelayMessage::Data { circuit, bytes: &bytes },
            RelayMessage::Credit { circuit, bytes: number },
            RelayMessage::Close { circuit },
        ];
        for message in messages {
            let written = codec::encode(&message);
            prop_assert_eq!(codec::decode::<RelayMessage<'_>>(&written), Ok(message));
            prop_assert!(codec::decode::<RelayMessage<'_>>(&written[..written.len() - 1]).is_err());
        }
        let data = codec::encode(&RelayMessage::Data { circuit, bytes: &bytes });
        prop_assert!(data.len() <= bytes.len() + DATA_OVERHEAD);
    }

    #[test]
    fn arbitrary_bytes_are_refused_quietly(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_everything(&bytes);
    }

    #[test]
    fn changed_and_cut_messages_are_refused_or_read_quietly(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
    ) {
        let messages = [
            codec::encode(&batch(9, &payloads)),
            codec::encode(&replies(9, &payloads, "text")),
            codec::encode(&buffered(9, &payloads)),
        ];
        for mut bytes in messages {
            let at = at.index(bytes.len());
            read_everything(&bytes[..at]);
            prop_assert!(codec::decode::<EventsMessage<'_>>(&bytes[..at]).is_err());
            bytes[at] = byte;
            read_everything(&bytes);
        }
    }
}

#[test]
fn requirement_72_bytes_behind_a_message_are_refused() {
    let mut bytes = codec::encode(&MigrationMessage::Prepared { id: move_id(1) });
    bytes.extend_from_slice(&[0, 0]);
    assert_eq!(codec::decode::<MigrationMessage<'_>>(&bytes), Err(DecodeError::TrailingBytes(2)));
}

#[test]
fn requirement_71_a_claimed_count_is_checked_before_anything_is_allocated() {
    // An events batch whose items claim to be four thousand million: the array's header alone.
    let mut bytes = codec::encode(&batch(1, &[]));
    let at = bytes.iter().rposition(|byte| *byte == 0x80).expect("the empty array of items");
    bytes.splice(at..=at, [0x9a, 0xff, 0xff, 0xff, 0xff]);
    assert!(matches!(codec::decode::<EventsMessage<'_>>(&bytes), Err(DecodeError::Malformed(_))));
}

#[test]
fn requirement_71_a_message_brings_no_more_outputs_than_one_event_may_have() {
    let reply = |number, outputs: u64| Reply { number, result: Ok((0..outputs).map(|_| event(1, &[])).collect()) };
    let message = |replies| {
        let message = EventsMessage::Replies { stream: stream(1), through: 9, replies, hops: 0 };
        codec::encode(&message)
    };
    for most in [vec![reply(1, MOST_OUTPUTS)], vec![reply(1, MOST_OUTPUTS - 1), reply(2, 1), reply(3, 0)]] {
        assert!(codec::decode::<EventsMessage<'_>>(&message(most)).is_ok());
    }
    for more in [vec![reply(1, MOST_OUTPUTS + 1)], vec![reply(1, MOST_OUTPUTS), reply(2, 1)]] {
        assert!(codec::decode::<EventsMessage<'_>>(&message(more)).is_err());
    }
}

#[test]
fn requirement_71_messages_of_migrations_hold_no_more_than_they_may() {
    let skips = |count: usize| {
        let item = StagedItem { stream: 0, number: 1, item: Item::Skip, received_at: 0, channel: None };
        let (streams, items) = (vec![stream(1); count.min(1)], vec![item; count]);
        let (id, marks) = (move_id(1), Vec::new());
        MigrationMessage::BufferedEvents { id, first: 0, streams, items, total: None, marks, ledger: None }
    };
    let streams = |count: usize| {
        let (id, streams, marks) = (move_id(1), vec![stream(1); count], Vec::new());
        MigrationMessage::BufferedEvents { id, first: 0, streams, items: Vec::new(), total: None, marks, ledger: None }
    };
    let marks = |count: usize| {
        let (id, marks) = (move_id(1), vec![StreamMark { stream: stream(1), next: 1 }; count]);
        let (streams, items) = (Vec::new(), Vec::new());
        MigrationMessage::BufferedEvents { id, first: 0, streams, items, total: Some(0), marks, ledger: None }
    };
    let asks = |count: usize| MigrationMessage::CanHost { query: 1, kinds: vec![""; count] };
    let answers = |count: usize| MigrationMessage::Hosts { query: 1, kinds: vec![0; count], open: true, daemons: 0 };
    let messages: [(usize, &dyn Fn(usize) -> MigrationMessage<'static>); 5] = [
        (MOST_STAGED_TOGETHER, &skips),
        (MOST_STAGED_TOGETHER, &streams),
        (MOST_HANDED_STREAMS, &marks),
        (MOST_KINDS, &asks),
        (MOST_KINDS, &answers),
    ];
    for (most, message) in messages {
        let bytes = codec::encode(&message(most));
        assert!(codec::decode::<MigrationMessage<'_>>(&bytes).is_ok());
        let bytes = codec::encode(&message(most + 1));
        assert!(matches!(codec::decode::<MigrationMessage<'_>>(&bytes), Err(DecodeError::Malformed(_))));
    }
}

#[test]
fn requirement_70_texts_are_cut_when_written_and_refused_when_too_long() {
    let long = "ä".repeat(MAX_FAILURE_TEXT);
    let reason = FailureReason::StateFailed { detail: long.clone() }.bounded();
    assert!(matches!(&reason, FailureReason::StateFailed { detail } if detail.len() <= MAX_FAILURE_TEXT));
    let bytes = codec::encode(&replies(1, &[], &long));
    assert!(codec::decode::<EventsMessage<'_>>(&bytes).is_err());
    let kind = long;
    let why = Unwelcome::NoFactory;
    let message = |reason| codec::encode(&MigrationMessage::MigrationFailed { id: move_id(1), reason });
    let bytes = message(FailureReason::FactoryNotFound { kind, why });
    assert!(codec::decode::<MigrationMessage<'_>>(&bytes).is_err());
    assert!(codec::decode::<MigrationMessage<'_>>(&message(reason)).is_ok());
}

#[test]
fn requirement_71_a_number_that_nothing_can_be_added_to_is_refused() {
    let item = StagedItem { stream: 0, number: u64::MAX, item: Item::Skip, received_at: 0, channel: None };
    let mark = StreamMark { stream: stream(1), next: u64::MAX };
    assert!(codec::decode::<StagedItem<'_>>(&codec::encode(&item)).is_err());
    assert!(codec::decode::<StreamMark>(&codec::encode(&mark)).is_err());
    let (streams, items, marks) = (vec![stream(1)], vec![StagedItem { number: 1, ..item }], Vec::new());
    let (id, first) = (move_id(1), u64::MAX);
    let staged = MigrationMessage::BufferedEvents { id, first, streams, items, total: None, marks, ledger: None };
    assert!(codec::decode::<MigrationMessage<'_>>(&codec::encode(&staged)).is_err());
    for number in [LAST_NUMBER + 1, u64::MAX] {
        let bytes = codec::encode(&batch(number, &[Vec::new(), Vec::new()]));
        assert!(codec::decode::<EventsMessage<'_>>(&bytes).is_err());
        let bytes = codec::encode(&EventsMessage::Accepted { stream: stream(1), through: number, hops: 0 });
        assert!(codec::decode::<EventsMessage<'_>>(&bytes).is_err());
    }
}

#[test]
fn a_refusal_of_a_stream_says_in_numbers_what_is_missing_and_what_it_answers_and_0_for_neither() {
    const NULL: u8 = 0xf6;
    let refusals = [
        (Missing::Daemon, None, Answers::Nothing, [0, 0, NULL, 0]),
        (Missing::before(7), Some(5), Answers::batch_to(9), [7, 0, 5, 9]),
    ];
    for (missing, accepted, answers, written) in refusals {
        let message = EventsMessage::Unknown { stream: stream(1), missing, hops: 0, accepted, answers };
        let bytes = codec::encode(&message);
        assert!(bytes.ends_with(&written), "{bytes:?}");
        assert_eq!(codec::decode::<EventsMessage<'_>>(&bytes), Ok(message));
    }
}

#[test]
fn an_unknown_message_type_is_refused() {
    // The form of a variant: an array of its number and its fields.
    assert!(codec::decode::<MigrationMessage<'_>>(&[0x82, 0x18, 0xff, 0xa0]).is_err());
}

fn body(daemon: &EntityKeypair, host: &EntityKeypair, epoch: u64) -> ClaimBody {
    ClaimBody {
        entity: daemon.entity_id(),
        lineage: Lineage::new(5),
        epoch: Epoch::new(epoch),
        min_epoch: Epoch::FIRST,
        host: host.entity_id(),
        incarnation: None,
    }
}

#[test]
fn a_claim_holds_by_the_daemons_key_or_by_a_chain_of_hand_overs() {
    let (daemon, first, second) = (EntityKeypair::generate(), EntityKeypair::generate(), EntityKeypair::generate());
    let claim = Claim::sign(body(&daemon, &first, 1), &daemon).expect("the key is at hand");
    let next = claim.hand_over(body(&daemon, &second, 2), &first).expect("the holder names the next");
    assert_eq!(Claim::decode(&next.encode()).as_ref(), Ok(&next));
    assert!(next.beats(&claim) && !claim.beats(&next));
}

#[test]
fn hazard_66_a_claim_by_anybody_else_is_refused() {
    let (daemon, first, thief) = (EntityKeypair::generate(), EntityKeypair::generate(), EntityKeypair::generate());
    let claim = Claim::sign(body(&daemon, &first, 1), &daemon).expect("the key is at hand");
    assert!(claim.hand_over(body(&daemon, &thief, 2), &thief).is_err(), "only the holder names the next");
    let mut bytes = claim.encode();
    let at = bytes.len() - 1;
    bytes[at] ^= 1;
    assert!(Claim::decode(&bytes).is_err());
    assert!(Claim::sign(body(&daemon, &thief, 1), &daemon.to_public()).is_err());
}

#[test]
fn a_chain_of_hand_overs_keeps_to_its_length_and_its_daemon() {
    let (daemon, host) = (EntityKeypair::generate(), EntityKeypair::generate());
    let mut claim = Claim::sign(body(&daemon, &host, 1), &daemon).expect("the key is at hand");
    let mut epoch = 1;
    let refused = loop {
        epoch += 1;
        match claim.hand_over(body(&daemon, &host, epoch), &host) {
            Ok(next) => claim = next,
            Err(error) => break error,
        }
    };
    assert_eq!(epoch, 17, "sixteen links: {refused}");
    let other = EntityKeypair::generate();
    let foreign = Claim::sign(body(&daemon, &host, 1), &daemon)
        .and_then(|claim| claim.hand_over(body(&other, &host, 2), &host))
        .expect("it is made");
    assert!(Claim::decode(&foreign.encode()).is_err());
}

#[test]
fn a_hand_over_goes_on_in_epoch_and_life_and_takes_nothing_back() {
    let (daemon, first, second) = (EntityKeypair::generate(), EntityKeypair::generate(), EntityKeypair::generate());
    let held = ClaimBody { min_epoch: Epoch::new(4), ..body(&daemon, &first, 5) };
    let next = |epoch: u64, min_epoch: u64, lineage: u128| {
        let body = ClaimBody {
            min_epoch: Epoch::new(min_epoch),
            lineage: Lineage::new(lineage),
            ..body(&daemon, &second, epoch)
        };
        let claim = Claim::sign(held, &daemon).and_then(|claim| claim.hand_over(body, &first)).expect("it is made");
        Claim::decode(&claim.encode())
    };
    let broken = Err(ClaimError::BrokenChain);
    for (epoch, min_epoch, lineage, why) in [
        (6, 4, 5, "the next epoch"),
        (6, 6, 5, "which refuses all before"),
        (6, 6, 9, "and begins a new life, as a takeover does"),
        (5 + (1 << 32), 4, 5, "the furthest that is believed"),
    ] {
        assert!(next(epoch, min_epoch, lineage).is_ok(), "{why}");
    }
    for (epoch, min_epoch, lineage, why) in [
        (5, 4, 5, "no later"),
        (4, 4, 5, "earlier"),
        (6, 3, 5, "copies are let in again"),
        (6, 7, 5, "it refuses itself"),
        (6, 4, 9, "another life that does not refuse the one before"),
        (7, 6, 9, "nor all of it"),
        (5 + (1 << 32) + 1, 4, 5, "no number of moves leads there"),
    ] {
        assert_eq!(next(epoch, min_epoch, lineage), broken, "{why}");
    }
}
