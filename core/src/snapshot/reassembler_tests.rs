//! Requirements 78–85, hazards 35 and 62.

use proptest::prelude::*;

use super::super::chunk::SNAPSHOT_CHUNK_LEN;
use super::super::layout::{ArrivingDigest, LEN_LEN};
use super::*;

const SILENCE: Duration = Duration::from_secs(30);
const CHUNK: u64 = SNAPSHOT_CHUNK_LEN as u64;

fn id(origin: u64, attempt: u32) -> TransferId {
    TransferId { key: TransferKey { origin: OriginHash::new(origin), migration: MigrationId::new(1) }, attempt }
}

fn content(len: u64) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i % 253).expect("below 253")).collect()
}

fn part(content: &[u8], index: u32) -> &[u8] {
    let range = chunk_range(content.len() as u64, index);
    &content[as_index(range.start)..as_index(range.end)]
}

fn reassembler(budget: u64) -> (SnapshotReassembler, Instant) {
    (SnapshotReassembler::new(budget, SILENCE), Instant::now())
}

fn feed_all(arriving: &mut SnapshotReassembler, id: TransferId, content: &[u8], now: Instant) -> Bytes {
    let total = chunk_count(content.len() as u64).expect("small");
    for index in 0..total {
        match arriving.chunk(id, index, total, part(content, index), now).expect("granted") {
            ChunkOutcome::Complete { snapshot, .. } => return snapshot,
            ChunkOutcome::Progress { .. } | ChunkOutcome::Duplicate => {}
        }
    }
    panic!("not complete after the last chunk");
}

fn events(arriving: &mut SnapshotReassembler) -> Vec<ReassemblerEvent> {
    std::iter::from_fn(|| arriving.poll_event()).collect()
}

#[test]
fn requirement_78_out_of_order_and_duplicate_chunks() {
    let (mut arriving, now) = reassembler(10 * CHUNK);
    let content = content(3 * CHUNK + 5);
    assert_eq!(arriving.reserve(id(1, 0), content.len() as u64, now), Ok(Reservation::Granted));
    for (index, received) in [(3, 1), (1, 2), (0, 3)] {
        let outcome = arriving.chunk(id(1, 0), index, 4, part(&content, index), now);
        assert_eq!(outcome, Ok(ChunkOutcome::Progress { received, total: 4 }));
        let again = arriving.chunk(id(1, 0), index, 4, part(&content, index), now);
        assert_eq!(again, Ok(ChunkOutcome::Duplicate));
    }
    // A duplicate with other bytes does not overwrite.
    let forged = vec![0xee; SNAPSHOT_CHUNK_LEN];
    assert_eq!(arriving.chunk(id(1, 0), 0, 4, &forged, now), Ok(ChunkOutcome::Duplicate));
    let last = arriving.chunk(id(1, 0), 2, 4, part(&content, 2), now).expect("granted");
    let ChunkOutcome::Complete { snapshot, .. } = last else { panic!("{last:?}") };
    assert_eq!(snapshot, content);
    assert_eq!(arriving.chunk(id(1, 0), 2, 4, part(&content, 2), now), Ok(ChunkOutcome::Duplicate));
}

#[test]
fn the_digest_is_taken_on_arrival_whatever_the_order() {
    // Only the lengths matter to the digest: a head of 100 000 bytes, a state of 100 000, then what is not covered.
    let mut content = content(250_000);
    let len = 100_000u32.to_le_bytes();
    content[10..14].copy_from_slice(&len);
    content[100_014..100_014 + LEN_LEN].copy_from_slice(&len);
    let mut expected = ArrivingDigest::default();
    expected.advance(&content);
    let expected = expected.finish(&content);
    assert_eq!(expected.as_bytes(), blake3::hash(&content[..200_018]).as_bytes());
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3]] {
        let (mut arriving, now) = reassembler(10 * CHUNK);
        arriving.reserve(id(1, 0), 250_000, now).expect("new");
        let outcome = order.map(|index| arriving.chunk(id(1, 0), index, 5, part(&content, index), now));
        let Ok(ChunkOutcome::Complete { digest, .. }) = &outcome[4] else { panic!("{outcome:?}") };
        assert_eq!(*digest, expected);
    }
}

#[test]
fn requirement_79_generations_never_mix_and_newer_evicts_older() {
    let (mut arriving, now) = reassembler(10 * CHUNK);
    let (old, new) = (vec![1; SNAPSHOT_CHUNK_LEN * 2], vec![2; SNAPSHOT_CHUNK_LEN * 2]);
    arriving.reserve(id(1, 4), 2 * CHUNK, now).expect("new");
    arriving.chunk(id(1, 4), 0, 2, part(&old, 0), now).expect("granted");
    // A chunk of an attempt that reserved nothing does not count for the one that did.
    assert_eq!(arriving.chunk(id(1, 5), 1, 2, part(&new, 1), now), Err(ReassembleError::NotGranted));
    assert_eq!(arriving.reserve(id(1, 5), 2 * CHUNK, now), Ok(Reservation::Granted));
    assert_eq!(arriving.live_bytes(), 2 * CHUNK, "the older one's room is free again");
    let stale = ReassembleError::Stale { attempt: 4, newest: 5 };
    assert_eq!(arriving.chunk(id(1, 4), 1, 2, part(&old, 1), now), Err(stale));
    assert_eq!(arriving.reserve(id(1, 4), 2 * CHUNK, now), Err(stale));
    assert_eq!(feed_all(&mut arriving, id(1, 5), &new, now), new);
}

#[test]
fn requirement_79_older_and_equal_attempts_are_refused_after_the_end() {
    let content = content(CHUNK);
    let completed: fn(&mut SnapshotReassembler, &[u8], Instant) = |arriving, content, now| {
        feed_all(arriving, id(1, 5), content, now);
        assert!(arriving.release(id(1, 5)));
    };
    let cancelled: fn(&mut SnapshotReassembler, &[u8], Instant) = |arriving, _, _| {
        assert!(arriving.release(id(1, 5)));
    };
    let swept: fn(&mut SnapshotReassembler, &[u8], Instant) = |arriving, _, now| {
        arriving.sweep(now + SILENCE);
        assert_eq!(events(arriving), [ReassemblerEvent::Dropped(id(1, 5))]);
    };
    for end in [completed, cancelled, swept] {
        let (mut arriving, now) = reassembler(10 * CHUNK);
        arriving.reserve(id(1, 5), CHUNK, now).expect("new");
        end(&mut arriving, &content, now);
        assert_eq!(arriving.live_bytes(), 0);
        assert!(arriving.is_empty());
        for attempt in [4, 5] {
            let stale = ReassembleError::Stale { attempt, newest: 5 };
            assert_eq!(arriving.reserve(id(1, attempt), CHUNK, now), Err(stale));
            assert_eq!(arriving.chunk(id(1, attempt), 0, 1, &content, now), Err(stale));
        }
        assert_eq!(arriving.reserve(id(1, 6), CHUNK, now), Ok(Reservation::Granted));
    }
}

#[test]
fn requirement_80_bad_chunks_are_refused_without_a_change() {
    let (mut arriving, now) = reassembler(10 * CHUNK);
    let content = content(2 * CHUNK + 10);
    assert_eq!(arriving.reserve(id(1, 0), 0, now), Err(ReassembleError::EmptyTotal));
    arriving.reserve(id(1, 0), content.len() as u64, now).expect("new");
    let full = part(&content, 0);
    let oversized = [full, &[0]].concat();
    let due = SNAPSHOT_CHUNK_LEN;
    for (index, total, bytes, error) in [
        (0, 0, full, ReassembleError::WrongTotal { expected: 3, got: 0 }),
        (0, 1, full, ReassembleError::WrongTotal { expected: 3, got: 1 }),
        (0, 4, full, ReassembleError::WrongTotal { expected: 3, got: 4 }),
        (0, u32::MAX, full, ReassembleError::WrongTotal { expected: 3, got: u32::MAX }),
        (3, 3, full, ReassembleError::IndexOutOfRange { index: 3, total: 3 }),
        (u32::MAX, 3, full, ReassembleError::IndexOutOfRange { index: u32::MAX, total: 3 }),
        (0, 3, &[][..], ReassembleError::WrongLength { expected: due, got: 0 }),
        (0, 3, &oversized, ReassembleError::WrongLength { expected: due, got: due + 1 }),
        (0, 3, &full[1..], ReassembleError::WrongLength { expected: due, got: due - 1 }),
        (2, 3, full, ReassembleError::WrongLength { expected: 10, got: due }),
    ] {
        assert_eq!(arriving.chunk(id(1, 0), index, total, bytes, now), Err(error));
    }
    assert_eq!(feed_all(&mut arriving, id(1, 0), &content, now), content);
}

#[test]
fn requirement_80_a_reserved_length_does_not_change() {
    let (mut arriving, now) = reassembler(10 * CHUNK);
    arriving.reserve(id(1, 0), CHUNK, now).expect("new");
    let changed = ReassembleError::LengthChanged { reserved: CHUNK, got: CHUNK + 1 };
    assert_eq!(arriving.reserve(id(1, 0), CHUNK + 1, now), Err(changed));
    assert_eq!(arriving.reserve(id(1, 0), CHUNK, now), Ok(Reservation::Granted), "asking again is harmless");
    assert_eq!(arriving.live_bytes(), CHUNK);
}

#[test]
fn requirement_81_the_budget_holds_and_repetition_is_not_counted_twice() {
    let (mut arriving, now) = reassembler(3 * CHUNK);
    let too_large = Reservation::TooLarge { size: 3 * CHUNK + 1, max: 3 * CHUNK };
    assert_eq!(arriving.reserve(id(1, 0), 3 * CHUNK + 1, now), Ok(too_large));
    assert!(arriving.is_empty());
    let unlimited = SnapshotReassembler::new(u64::MAX, SILENCE).reserve(id(1, 0), u64::MAX, now);
    assert_eq!(unlimited, Ok(Reservation::TooLarge { size: u64::MAX, max: u64::MAX }));

    let content = content(2 * CHUNK);
    for _ in 0..3 {
        assert_eq!(arriving.reserve(id(1, 0), 2 * CHUNK, now), Ok(Reservation::Granted));
        arriving.chunk(id(1, 0), 0, 2, part(&content, 0), now).expect("granted");
        assert_eq!(arriving.live_bytes(), 2 * CHUNK);
    }
    let snapshot = feed_all(&mut arriving, id(1, 0), &content, now);
    assert_eq!(arriving.live_bytes(), 2 * CHUNK, "the owner still has the bytes");
    assert_eq!(arriving.reserve(id(2, 0), 2 * CHUNK, now), Ok(Reservation::Waiting));
    drop(snapshot);
    assert!(arriving.release(id(1, 0)));
    assert!(!arriving.release(id(1, 0)), "only once");
    assert_eq!(events(&mut arriving), [ReassemblerEvent::Granted(id(2, 0))]);
    assert_eq!(arriving.live_bytes(), 2 * CHUNK);
}

#[test]
fn a_complete_snapshot_counts_until_released_even_when_a_newer_attempt_comes() {
    let (mut arriving, now) = reassembler(3 * CHUNK);
    let content = content(2 * CHUNK);
    arriving.reserve(id(1, 0), 2 * CHUNK, now).expect("new");
    feed_all(&mut arriving, id(1, 0), &content, now);
    assert_eq!(arriving.reserve(id(1, 1), 2 * CHUNK, now), Ok(Reservation::Waiting));
    assert!(arriving.release(id(1, 0)));
    assert_eq!(events(&mut arriving), [ReassemblerEvent::Granted(id(1, 1))]);
}

#[test]
fn hazard_62_grants_are_whole_and_first_come_first_served() {
    let (mut arriving, now) = reassembler(4 * CHUNK);
    assert_eq!(arriving.reserve(id(1, 0), 3 * CHUNK, now), Ok(Reservation::Granted));
    assert_eq!(arriving.reserve(id(2, 0), 4 * CHUNK, now), Ok(Reservation::Waiting));
    // It would fit beside the first, but it came after the second.
    assert_eq!(arriving.reserve(id(3, 0), CHUNK, now), Ok(Reservation::Waiting));
    assert_eq!(arriving.reserve(id(4, 0), CHUNK, now), Ok(Reservation::Waiting));
    let waiting = arriving.chunk(id(3, 0), 0, 1, &content(CHUNK), now);
    assert_eq!(waiting, Err(ReassembleError::NotGranted));
    arriving.release(id(1, 0));
    assert_eq!(events(&mut arriving), [ReassemblerEvent::Granted(id(2, 0))]);
    arriving.release(id(2, 0));
    assert_eq!(events(&mut arriving), [ReassemblerEvent::Granted(id(3, 0)), ReassemblerEvent::Granted(id(4, 0))]);
    assert_eq!(arriving.live_bytes(), 2 * CHUNK);
}

#[test]
fn hazard_62_a_newer_attempt_keeps_its_place_in_the_queue() {
    let (mut arriving, now) = reassembler(2 * CHUNK);
    arriving.reserve(id(1, 0), 2 * CHUNK, now).expect("new");
    arriving.reserve(id(2, 0), 2 * CHUNK, now).expect("new");
    arriving.reserve(id(3, 0), CHUNK, now).expect("new");
    assert_eq!(arriving.reserve(id(2, 1), 2 * CHUNK, now), Ok(Reservation::Waiting));
    arriving.release(id(1, 0));
    assert_eq!(events(&mut arriving), [ReassemblerEvent::Granted(id(2, 1))]);
}

#[test]
fn a_cancelled_waiter_lets_the_next_one_pass() {
    let (mut arriving, now) = reassembler(2 * CHUNK);
    arriving.reserve(id(1, 0), CHUNK, now).expect("new");
    arriving.reserve(id(2, 0), 2 * CHUNK, now).expect("new");
    arriving.reserve(id(3, 0), CHUNK, now).expect("new");
    assert!(!arriving.release(id(2, 7)), "another attempt");
    assert!(arriving.release(id(2, 0)));
    assert_eq!(events(&mut arriving), [ReassemblerEvent::Granted(id(3, 0))]);
}

#[test]
fn requirement_82_the_silent_are_swept_and_those_that_progress_are_kept() {
    let (mut arriving, start) = reassembler(10 * CHUNK);
    let content = content(2 * CHUNK);
    for origin in 1..=3 {
        arriving.reserve(id(origin, 0), 2 * CHUNK, start).expect("new");
    }
    let later = start + SILENCE / 2;
    arriving.chunk(id(1, 0), 0, 2, part(&content, 0), later).expect("granted");
    arriving.touch(id(2, 0), later);
    assert_eq!(arriving.next_deadline(), Some(start + SILENCE));
    arriving.sweep(start + SILENCE);
    assert_eq!(events(&mut arriving), [ReassemblerEvent::Dropped(id(3, 0))]);
    assert_eq!(arriving.live_bytes(), 4 * CHUNK);
    assert_eq!(arriving.next_deadline(), Some(later + SILENCE));
}

#[test]
fn requirement_82_feeding_sweeps_too_but_not_the_one_that_is_fed() {
    let (mut arriving, start) = reassembler(4 * CHUNK);
    let content = content(2 * CHUNK);
    arriving.reserve(id(1, 0), 2 * CHUNK, start).expect("new");
    arriving.reserve(id(2, 0), 2 * CHUNK, start).expect("new");
    arriving.reserve(id(3, 0), CHUNK, start).expect("new");
    let late = start + SILENCE;
    arriving.touch(id(3, 0), late);
    arriving.chunk(id(1, 0), 0, 2, part(&content, 0), late).expect("kept");
    let happened = [ReassemblerEvent::Dropped(id(2, 0)), ReassemblerEvent::Granted(id(3, 0))];
    assert_eq!(events(&mut arriving), happened);
}

#[test]
fn requirement_83_daemons_and_migrations_coexist() {
    let (mut arriving, now) = reassembler(10 * CHUNK);
    let one = id(1, 0);
    let other = TransferId { key: TransferKey { migration: MigrationId::new(2), ..one.key }, attempt: 0 };
    let contents = [vec![1; SNAPSHOT_CHUNK_LEN + 1], vec![2; SNAPSHOT_CHUNK_LEN + 2]];
    for (id, content) in [one, other].into_iter().zip(&contents) {
        arriving.reserve(id, content.len() as u64, now).expect("new");
        arriving.chunk(id, 0, 2, part(content, 0), now).expect("granted");
    }
    assert_eq!(feed_all(&mut arriving, other, &contents[1], now), contents[1]);
    assert_eq!(feed_all(&mut arriving, one, &contents[0], now), contents[0]);
}

#[test]
fn hazard_35_many_half_finished_transfers_stay_within_the_bounds() {
    let (mut arriving, now) = reassembler(4 * CHUNK);
    let content = content(2 * CHUNK);
    let mut granted = 0;
    for origin in 0..MAX_TRANSFERS as u64 {
        if arriving.reserve(id(origin, 0), 2 * CHUNK, now) == Ok(Reservation::Granted) {
            arriving.chunk(id(origin, 0), 0, 2, part(&content, 0), now).expect("granted");
            granted += 1;
        }
    }
    assert_eq!((granted, arriving.live_bytes()), (2, 4 * CHUNK));
    let one_more = arriving.reserve(id(u64::MAX, 0), CHUNK, now);
    assert_eq!(one_more, Err(ReassembleError::TooManyTransfers(MAX_TRANSFERS)));
    arriving.sweep(now + SILENCE);
    assert_eq!((arriving.len(), arriving.live_bytes()), (0, 0));
    assert_eq!(arriving.next_deadline(), None);
}

#[test]
fn what_is_remembered_of_finished_transfers_is_bounded() {
    let (mut arriving, now) = reassembler(CHUNK);
    for origin in 0..=MAX_TRANSFERS as u64 {
        arriving.reserve(id(origin, 0), CHUNK, now).expect("new");
        arriving.release(id(origin, 0));
    }
    assert_eq!(arriving.over.newest.len(), MAX_TRANSFERS);
    assert_eq!(arriving.over.order.len(), MAX_TRANSFERS);
    assert_eq!(arriving.reserve(id(0, 0), CHUNK, now), Ok(Reservation::Granted), "the oldest is forgotten");
    arriving.release(id(0, 0));
    assert!(arriving.reserve(id(2, 0), CHUNK, now).is_err());
}

#[derive(Clone, Debug)]
enum Step {
    Reserve { origin: u64, attempt: u32, chunks: u64 },
    Chunk { origin: u64, attempt: u32, index: u32, total: u32 },
    Release { origin: u64, attempt: u32 },
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4u64, 0..3u32, 1..4u64).prop_map(|(origin, attempt, chunks)| Step::Reserve { origin, attempt, chunks }),
        (0..4u64, 0..3u32, 0..4u32, 0..4u32).prop_map(|(origin, attempt, index, total)| Step::Chunk {
            origin,
            attempt,
            index,
            total
        }),
        (0..4u64, 0..3u32).prop_map(|(origin, attempt)| Step::Release { origin, attempt }),
        (0..20u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_comes_the_budget_holds_and_nothing_is_left_behind(steps in steps()) {
        let (mut arriving, mut now) = reassembler(4 * CHUNK);
        let mut complete = Vec::new();
        for step in steps {
            match step {
                Step::Reserve { origin, attempt, chunks } => {
                    let _ = arriving.reserve(id(origin, attempt), chunks * CHUNK, now);
                }
                Step::Chunk { origin, attempt, index, total } => {
                    // Each attempt has bytes of its own: a mixture would show.
                    let mark = u8::try_from(attempt).expect("small") + 1;
                    let outcome =
                        arriving.chunk(id(origin, attempt), index, total, &vec![mark; SNAPSHOT_CHUNK_LEN], now);
                    if let Ok(ChunkOutcome::Complete { snapshot, .. }) = outcome {
                        prop_assert!(snapshot.iter().all(|&byte| byte == mark));
                        prop_assert_eq!(snapshot.len(), as_index(u64::from(total) * CHUNK));
                        complete.push(id(origin, attempt));
                    }
                }
                Step::Release { origin, attempt } => {
                    arriving.release(id(origin, attempt));
                    complete.retain(|&held| held != id(origin, attempt));
                }
                Step::Wait(seconds) => {
                    now += Duration::from_secs(seconds);
                }
            }
            let receiving: u64 = arriving
                .transfers
                .values()
                .filter(|transfer| matches!(transfer.progress, Progress::Receiving(_)))
                .map(|transfer| transfer.total_len)
                .sum();
            prop_assert_eq!(arriving.live_bytes(), receiving + arriving.held.values().sum::<u64>());
            prop_assert!(arriving.live_bytes() <= 4 * CHUNK);
            let waiting =
                arriving.transfers.values().filter(|transfer| matches!(transfer.progress, Progress::Waiting)).count();
            prop_assert_eq!(arriving.queue.len(), waiting);
        }
        arriving.sweep(now + SILENCE);
        arriving.sweep(now + SILENCE);
        for held in complete {
            prop_assert!(arriving.release(held));
        }
        prop_assert_eq!(arriving.live_bytes(), 0);
        prop_assert!(arriving.is_empty());
    }
}

#[test]
fn chunks_that_are_placed_elsewhere_make_the_same_snapshot() {
    let (mut arriving, now) = reassembler(10 * CHUNK);
    let content = content(250_000);
    arriving.reserve(id(1, 0), 250_000, now).expect("new");
    let accept = |arriving: &mut SnapshotReassembler, index| {
        arriving.accept(id(1, 0), index, 5, part(&content, index).len(), now).expect("granted")
    };
    let placements: Vec<_> = (0..5).map(|index| accept(&mut arriving, index).expect("new")).collect();
    assert!(accept(&mut arriving, 3).is_none(), "accepted, though not in its place yet");
    assert_eq!(arriving.take_whole(id(1, 0)), None);
    let whole = std::thread::scope(|threads| {
        let place = |(placement, index): (Placement, u32)| {
            let content = &content;
            threads.spawn(move || placement.place(part(content, index)))
        };
        let placed: Vec<_> = placements.into_iter().zip(0..).map(place).collect();
        placed.into_iter().map(|thread| thread.join().expect("no panic")).filter(|whole| *whole).count()
    });
    assert_eq!(whole, 1, "one of them is the last");
    let (snapshot, _) = arriving.take_whole(id(1, 0)).expect("whole");
    assert_eq!(snapshot, content);
    assert!(arriving.accept(id(1, 0), 0, 5, part(&content, 0).len(), now).expect("over").is_none());
    assert_eq!(arriving.live_bytes(), 250_000);
}

#[test]
fn a_transfer_that_was_given_up_is_not_made_whole_by_a_late_placement() {
    let (mut arriving, now) = reassembler(10 * CHUNK);
    let content = content(100);
    arriving.reserve(id(1, 0), 100, now).expect("new");
    let placement = arriving.accept(id(1, 0), 0, 1, 100, now).expect("granted").expect("new");
    assert!(arriving.release(id(1, 0)));
    assert!(placement.place(&content));
    assert_eq!(arriving.take_whole(id(1, 0)), None);
    assert_eq!((arriving.live_bytes(), arriving.len()), (0, 0));
}
