//! Handshake and transport without sockets: what is proven, what is refused, what a broken peer can do.

use bytes::Bytes;
use mesh_daemon_core::identity::{EntityKeypair, Incarnation};
use mesh_daemon_core::session::{
    Answering, BULK_WINDOW, CREDIT_QUANTUM, DialIntent, Dialling, Established, FrameBuilder, HandshakeError,
    LocalIdentity, Opener, Psk, ReceiveCredit, Sealer, SendBuffer, SendCredit, SessionError, SessionId,
    check_message_len,
};
use mesh_daemon_core::wire::frame::{FrameError, MAX_MESSAGE, MAX_PLAINTEXT, MAX_RECORD_BODY, PREFIX_LEN, read_frame};
use mesh_daemon_core::wire::session::{HandshakePayload, SessionMessage, WIRE_MAJOR, WIRE_MINOR};
use mesh_daemon_core::wire::{Lane, Subprotocol, codec};
use proptest::prelude::*;

const INTENT: DialIntent =
    DialIntent { attempt: 9, after: Some(SessionId([4; 16])), holds: Some(SessionId([3; 16])), ready: true };

fn local(psk: u8) -> LocalIdentity {
    let incarnation = Incarnation { started_at_ms: 5, salt: 6 };
    LocalIdentity::new(Psk::new([psk; 32]), EntityKeypair::generate(), incarnation, 1_000, BULK_WINDOW)
        .expect("can sign")
}

fn shake_hands(dialler: &LocalIdentity, listener: &LocalIdentity) -> (Established, Established) {
    let (dialling, first) = Dialling::start(dialler).expect("starts");
    let (answering, answer) = Answering::start(listener, &first).expect("same key");
    let proven = dialling.read_answer(&answer).expect("same key");
    assert_eq!(proven.peer().entity, listener.keypair().entity_id(), "known before this side has said who it is");
    let (last, at_dialler) = proven.finish(INTENT).expect("finishes");
    let (at_listener, intent) = answering.read_last(&last).expect("same key");
    assert_eq!(intent, INTENT);
    (at_dialler, at_listener)
}

fn channel() -> (Sealer, Opener) {
    let (one, other) = shake_hands(&local(1), &local(1));
    (one.transport.split().0, other.transport.split().1)
}

fn seal(sealer: &mut Sealer, plaintext: &[u8]) -> Vec<u8> {
    let mut out = SendBuffer::new();
    sealer.seal(plaintext, &mut out).expect("seals");
    out.as_slice()[PREFIX_LEN..].to_vec()
}

#[test]
fn a_node_id_is_proven_at_the_handshake_on_both_sides() {
    let (dialler, listener) = (local(1), local(1));
    let (at_dialler, at_listener) = shake_hands(&dialler, &listener);
    assert_eq!(at_dialler.session, at_listener.session);
    for (seen, is) in [(&at_dialler.peer, &listener), (&at_listener.peer, &dialler)] {
        assert_eq!(seen.entity, is.keypair().entity_id());
        assert_eq!(seen.node, is.keypair().node_id());
        assert_eq!(&seen.static_key, is.static_secret().public());
        assert_eq!(seen.incarnation, is.incarnation());
        assert_eq!((seen.max_payload, seen.bulk_window), (1_000, BULK_WINDOW));
    }
    let again = shake_hands(&dialler, &listener).0;
    assert_ne!(again.session, at_dialler.session);
}

#[test]
fn another_psk_gets_no_answer_at_all() {
    let (_, first) = Dialling::start(&local(1)).expect("starts");
    let refused = Answering::start(&local(2), &first).err();
    assert_eq!(refused, Some(HandshakeError::NotAuthentic { ours: WIRE_MAJOR }));
}

#[test]
fn hazard_68_a_newer_minor_works_both_ways_and_another_major_fails_with_a_clear_local_error() {
    let (old, new) = (local(1), local(1).with_wire_version(WIRE_MAJOR, WIRE_MINOR + 3));
    for (dialler, listener) in [(&old, &new), (&new, &old)] {
        let (one, other) = shake_hands(dialler, listener);
        assert_eq!((one.peer.minor, other.peer.minor), (WIRE_MINOR, WIRE_MINOR));
    }
    let next = local(1).with_wire_version(WIRE_MAJOR + 1, 0);
    for (dialler, listener, ours, theirs) in
        [(&old, &next, WIRE_MAJOR + 1, WIRE_MAJOR), (&next, &old, WIRE_MAJOR, WIRE_MAJOR + 1)]
    {
        let (_, first) = Dialling::start(dialler).expect("starts");
        let refused = Answering::start(listener, &first).expect_err("another major");
        assert_eq!(refused, HandshakeError::OtherMajor { ours, theirs });
        let text = refused.to_string();
        assert!(text.contains(&ours.to_string()) && text.contains(&theirs.to_string()), "{text}");
    }
    // The other key is not taken for another version.
    let (_, first) = Dialling::start(&local(2).with_wire_version(WIRE_MAJOR + 1, 0)).expect("starts");
    assert_eq!(Answering::start(&old, &first).err(), Some(HandshakeError::NotAuthentic { ours: WIRE_MAJOR }));
}

#[test]
fn a_listener_that_does_not_know_the_psk_is_found_out() {
    let (dialling, first) = Dialling::start(&local(1)).expect("starts");
    // A man in the middle answers with his own key.
    let (_, theirs) = Dialling::start(&local(2)).expect("starts");
    let (_, answer) = Answering::start(&local(2), &theirs).expect("same key");
    assert!(matches!(dialling.read_answer(&answer), Err(HandshakeError::Malformed(_))));
    // His answer to the real first message would need the key.
    assert!(Answering::start(&local(2), &first).is_err());
}

#[test]
fn a_replayed_last_message_proves_nothing() {
    let (dialler, listener) = (local(1), local(1));
    let (dialling, first) = Dialling::start(&dialler).expect("starts");
    let (_, answer) = Answering::start(&listener, &first).expect("same key");
    let (last, _) = dialling.read_answer(&answer).expect("same key").finish(INTENT).expect("finishes");
    // The same first message again: the listener answers with a new ephemeral key, so the old last message is void.
    let (again, _) = Answering::start(&listener, &first).expect("same key");
    assert!(again.read_last(&last).is_err());
}

#[test]
fn every_changed_byte_of_every_handshake_message_is_refused() {
    let (dialler, listener) = (local(1), local(1));
    let (_, first) = Dialling::start(&dialler).expect("starts");
    for at in 0..first.len() {
        let mut bad = first.clone();
        bad[at] ^= 1;
        assert!(Answering::start(&listener, &bad).is_err(), "first message, byte {at}");
    }
    let (dialling, first) = Dialling::start(&dialler).expect("starts");
    let (answering, mut answer) = Answering::start(&listener, &first).expect("same key");
    let (last, _) = dialling.read_answer(&answer).expect("same key").finish(INTENT).expect("finishes");
    let mut cut = last.clone();
    cut.pop();
    assert!(answering.read_last(&cut).is_err());
    for at in [0, 31, 32, 40, answer.len() / 2, answer.len() - 1] {
        let (dialling, _) = Dialling::start(&dialler).expect("starts");
        answer[at] ^= 0x80;
        assert!(dialling.read_answer(&answer).is_err(), "answer, byte {at}");
        answer[at] ^= 0x80;
    }
}

#[test]
fn a_payload_skips_unknown_fields_and_refuses_missing_ones_and_trailing_bytes() {
    let payload = HandshakePayload {
        entity: [1; 32],
        incarnation: [2; 16],
        signature: [3; 64],
        minor: 4,
        features: 5,
        max_payload: 6,
        bulk_window: 7,
        attempt: None,
        after: None,
        ready: None,
        holds: None,
    };
    let bytes = codec::encode(&payload);
    assert_eq!(codec::decode::<HandshakePayload>(&bytes), Ok(payload.clone()));
    // One more field, of a newer minor version: a map of n + 1 entries.
    let mut newer = bytes.clone();
    assert_eq!(newer[0] & 0xe0, 0xa0, "a small map");
    newer[0] += 1;
    newer.extend([0x18, 99, 0x63, b'n', b'e', b'w']);
    assert_eq!(codec::decode::<HandshakePayload>(&newer), Ok(payload.clone()));
    // A dialler of an earlier build said that it held something, and not what.
    let mut earlier = bytes.clone();
    earlier[0] += 1;
    earlier.extend([0x09, 0xf5]);
    assert_eq!(codec::decode::<HandshakePayload>(&earlier), Ok(payload));
    let mut trailing = bytes.clone();
    trailing.push(0);
    assert!(codec::decode::<HandshakePayload>(&trailing).is_err());
    assert!(codec::decode::<HandshakePayload>(&[0xa0]).is_err());
}

#[test]
fn frames_of_all_sizes_open_as_they_were_sealed() {
    let (mut sealer, mut opener) = channel();
    for len in [1, 2, 100, 16_384, MAX_PLAINTEXT - 1, MAX_PLAINTEXT] {
        let plaintext = vec![7; len];
        let message = seal(&mut sealer, &plaintext);
        check_message_len(message.len()).expect("a length that exists");
        assert_eq!(opener.open(&message), Ok(Bytes::from(plaintext)));
    }
    let mut out = SendBuffer::new();
    assert_eq!(sealer.seal(&[], &mut out), Err(SessionError::BadLength(0)));
    assert_eq!(sealer.seal(&vec![0; MAX_PLAINTEXT + 1], &mut out), Err(SessionError::BadLength(MAX_PLAINTEXT + 1)));
    assert!(out.is_empty());
    for len in [0, 1, 16, MAX_MESSAGE + 1] {
        assert!(check_message_len(len).is_err());
    }
}

#[test]
fn rekeying_by_frames_and_by_bytes_is_not_noticed() {
    let (mut sealer, mut opener) = channel();
    for number in 0..140_000_u32 {
        let message = seal(&mut sealer, &number.to_le_bytes());
        assert_eq!(opener.open(&message).expect("opens")[..], number.to_le_bytes());
    }
    let full = vec![1; MAX_PLAINTEXT];
    let mut out = SendBuffer::new();
    for _ in 0..17_000 {
        out.clear();
        sealer.seal(&full, &mut out).expect("seals");
        assert_eq!(opener.open(&out.as_slice()[PREFIX_LEN..]).expect("opens").len(), full.len());
    }
}

#[test]
fn first_bad_tag_ends_the_session_for_good() {
    let (mut sealer, mut opener) = channel();
    let (good, mut bad) = (seal(&mut sealer, b"1"), seal(&mut sealer, b"2"));
    let right = bad.clone();
    bad[0] ^= 1;
    assert!(opener.open(&good).is_ok());
    assert_eq!(opener.open(&bad), Err(SessionError::BadTag));
    assert_eq!(opener.open(&right), Err(SessionError::BadTag), "even what would open");
}

#[test]
fn a_replayed_dropped_or_reordered_frame_is_a_bad_tag() {
    let (mut sealer, mut opener) = channel();
    let (one, two, three) = (seal(&mut sealer, b"1"), seal(&mut sealer, b"2"), seal(&mut sealer, b"3"));
    assert!(opener.open(&one).is_ok() && opener.open(&two).is_ok());
    assert_eq!(opener.open(&two), Err(SessionError::BadTag));
    drop(three);
    let (mut sealer, mut opener) = channel();
    let (_, two) = (seal(&mut sealer, b"1"), seal(&mut sealer, b"2"));
    assert_eq!(opener.open(&two), Err(SessionError::BadTag));
}

#[test]
fn a_frame_holds_records_up_to_its_size_and_takes_back_what_does_not_fit() {
    let mut frame = FrameBuilder::new();
    frame.reset(Lane::Bulk);
    assert_eq!(frame.room(), MAX_RECORD_BODY);
    let too_large = vec![0; MAX_RECORD_BODY + 1];
    assert_eq!(frame.record(Subprotocol::Events, &mut |out| out.extend(&too_large)), None);
    assert!(frame.is_empty());
    let largest = vec![5; MAX_RECORD_BODY];
    assert_eq!(frame.record(Subprotocol::Events, &mut |out| out.extend(&largest)), Some(MAX_RECORD_BODY));
    assert_eq!((frame.room(), frame.plaintext().len(), frame.bodies()), (0, MAX_PLAINTEXT, MAX_RECORD_BODY));
    assert_eq!(frame.record(Subprotocol::Events, &mut |_| {}), None);
    let (lane, records) = read_frame(Bytes::copy_from_slice(frame.plaintext())).expect("a frame");
    assert_eq!(lane, Lane::Bulk);
    let records: Vec<_> = records.collect::<Result<_, _>>().expect("records");
    assert_eq!(records, [(Subprotocol::Events.id(), Bytes::from(largest))]);
}

#[test]
fn small_records_are_coalesced_into_one_frame_until_it_is_full_enough() {
    let mut frame = FrameBuilder::new();
    let mut count = 0;
    while frame.record(Subprotocol::Directory, &mut |out| out.extend([count; 64])).is_some() {
        count = count.wrapping_add(1);
    }
    let (_, records) = read_frame(Bytes::copy_from_slice(frame.plaintext())).expect("a frame");
    let records: Vec<_> = records.collect::<Result<_, _>>().expect("records");
    assert!((700..=800).contains(&records.len()), "{}", records.len());
    for (number, (_, body)) in records.iter().enumerate() {
        assert!(body.iter().all(|&byte| usize::from(byte) == number % 256));
    }
}

#[test]
fn credit_is_spent_given_back_in_quanta_and_neither_forged_nor_overrun() {
    let body = MAX_RECORD_BODY as u64;
    let (mut sender, mut receiver) = (SendCredit::new(BULK_WINDOW), ReceiveCredit::new(BULK_WINDOW));
    let mut in_flight = 0;
    while sender.has_room() {
        sender.spend(body);
        receiver.arrived(body).expect("within the window");
        in_flight += body;
    }
    assert!(in_flight > BULK_WINDOW / 2 && in_flight <= BULK_WINDOW);
    assert_eq!(receiver.used(), in_flight);
    assert_eq!(receiver.take_owed(), None, "nothing consumed");
    let mut messages = 0;
    for _ in 0..8 * (in_flight / body) {
        if receiver.consumed(body / 8) {
            let owed = receiver.take_owed().expect("worth a message");
            sender.refill(owed).expect("spent before");
            messages += 1;
        }
    }
    assert!(messages <= in_flight / CREDIT_QUANTUM, "{messages}");
    assert!(sender.has_room(), "what is held back for coalescing never starves the sender");
    assert!(matches!(sender.refill(BULK_WINDOW), Err(SessionError::CreditForged(_))));
    let free = BULK_WINDOW - receiver.used();
    assert_eq!(receiver.arrived(free + 1), Err(SessionError::CreditOverrun(1)));
    assert!(!receiver.consumed(0) || receiver.take_owed().is_some_and(|owed| owed <= BULK_WINDOW));
}

#[test]
fn consuming_more_than_arrived_gives_no_more_back() {
    let mut receiver = ReceiveCredit::new(BULK_WINDOW);
    receiver.arrived(BULK_WINDOW / 2).expect("within the window");
    assert!(receiver.consumed(u64::MAX / 2));
    assert_eq!(receiver.take_owed(), Some(BULK_WINDOW / 2));
    assert_eq!((receiver.used(), receiver.take_owed()), (0, None));
}

#[test]
fn who_has_no_window_for_a_record_of_the_bulk_lane_gets_no_session() {
    let with_window = |bulk_window| {
        let incarnation = Incarnation { started_at_ms: 5, salt: 6 };
        LocalIdentity::new(Psk::new([1; 32]), EntityKeypair::generate(), incarnation, 1_000, bulk_window)
            .expect("can sign")
    };
    let narrowest = CREDIT_QUANTUM + MAX_RECORD_BODY as u64;
    shake_hands(&with_window(narrowest), &with_window(narrowest));
    let (listener, narrow) = (local(1), with_window(narrowest - 1));
    let (dialling, first) = Dialling::start(&narrow).expect("starts");
    let (answering, answer) = Answering::start(&listener, &first).expect("same key");
    let (last, _) = dialling.read_answer(&answer).expect("a wide one").finish(INTENT).expect("finishes");
    assert!(matches!(answering.read_last(&last), Err(HandshakeError::Malformed(_))));
    let (dialling, first) = Dialling::start(&listener).expect("starts");
    let (_, answer) = Answering::start(&narrow, &first).expect("same key");
    assert!(matches!(dialling.read_answer(&answer), Err(HandshakeError::Malformed(_))));
}

#[test]
fn requirement_26_secrets_do_not_show() {
    let local = LocalIdentity::new(
        Psk::new([0xAB; 32]),
        EntityKeypair::from_seed(&[0xCD; 32]),
        Incarnation { started_at_ms: 1, salt: 2 },
        1,
        1,
    )
    .expect("can sign");
    let text = format!("{local:?}").to_lowercase();
    assert!(
        !text.contains("abab") && !text.contains("171, 171") && !text.contains("cdcd") && !text.contains("205, 205")
    );
}

proptest! {
    #[test]
    fn garbage_never_opens_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let listener = local(1);
        prop_assert!(Answering::start(&listener, &bytes).is_err());
        let (_, mut opener) = channel();
        prop_assert!(opener.open(&bytes).is_err());
        let _ = codec::decode::<SessionMessage>(&bytes);
        let _ = codec::decode::<HandshakePayload>(&bytes);
    }

    #[test]
    fn records_of_a_frame_never_exceed_it(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let len = bytes.len();
        match read_frame(Bytes::from(bytes)) {
            Err(FrameError::Empty) => prop_assert_eq!(len, 0),
            Err(FrameError::UnknownLane(lane)) => prop_assert!(lane > 1),
            Err(FrameError::Truncated) => prop_assert!(false, "records are read one by one"),
            Ok((_, records)) => {
                let sum: usize = records.filter_map(Result::ok).map(|(_, body)| body.len() + 4).sum();
                prop_assert!(sum < len);
            }
        }
    }

    #[test]
    fn session_messages_survive_their_encoding(number in any::<u64>(), resumed in any::<bool>()) {
        for message in [
            SessionMessage::Welcome { resumed, ready: Some(!resumed) },
            SessionMessage::Ready,
            SessionMessage::Ping(number),
            SessionMessage::Pong(number),
            SessionMessage::Credit(number),
            SessionMessage::Goodbye,
        ] {
            prop_assert_eq!(codec::decode::<SessionMessage>(&codec::encode(&message)), Ok(message));
        }
    }
}
