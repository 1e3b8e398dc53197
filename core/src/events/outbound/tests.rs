use std::time::Duration;

use bytes::Bytes;

use super::super::cost::ratio;
use super::super::some_stream;
use super::*;
use crate::causal::CausalLink;

/// A stream with calls, whose tickets are their numbers.
fn calls(count: u64) -> OutStream {
    let id = some_stream();
    let mut stream = OutStream::new(id, OriginHash::new(1), NodeId::new(2), Epoch::FIRST, 1);
    for number in 1..=count {
        assert_eq!(stream.push(call(number)), number);
    }
    stream
}

fn call(ticket: u64) -> Outgoing {
    let (link, payload) = (CausalLink::genesis(OriginHash::new(1)), Bytes::new());
    Outgoing { link, payload, ticket: Ticket(ticket), call: true, expires: None }
}

/// Has most of so many callers give up, and tells how long that took for each of them.
fn many_give_up(count: usize) -> Duration {
    let count = count as u64;
    let mut stream = calls(count);
    stream.sent(count / 64);
    stream.accepted(count / 65, |_| {});
    let began = Instant::now();
    let mut found = 0;
    for number in (1..=count).rev().filter(|number| number % 3 != 0) {
        assert_eq!(stream.find(Ticket(number)), Some(number));
        stream.give_up(number);
        assert_eq!(stream.find(Ticket(number)), None, "it does not wait any more");
        found += 1;
    }
    let each = began.elapsed() / found;
    assert_eq!(stream.find(Ticket(count + 1)), None);
    assert_eq!(stream.find(Ticket(3)), Some(3));
    each
}

/// Looking at all of them for each would take a hundred times longer.
#[test]
fn whoever_waits_is_found_as_fast_however_many_give_up_at_once() {
    let ratio = ratio(650, 65_000, many_give_up);
    assert!(ratio < 20.0, "each takes {ratio:.1} times longer");
}

#[test]
fn whoever_asked_what_became_of_an_event_hears_of_a_refusal_of_its_stream() {
    let mut stream = calls(3);
    stream.sent(3);
    stream.withdraw(2, Expiry { at: Instant::now(), timeout: Duration::ZERO });
    let left: Vec<Ticket> = stream.take_not_run(true).into_iter().map(|outgoing| outgoing.ticket).collect();
    assert_eq!(left, [Ticket(1), Ticket(3)]);
    assert_eq!(stream.end(true), [(Ticket(2), false)], "it did not run, and is told");
}

#[test]
fn a_ticket_that_is_used_again_is_found_where_it_waits_now() {
    let mut stream = calls(10);
    stream.sent(10);
    stream.accepted(10, |_| {});
    assert_eq!(stream.find(Ticket(4)), Some(4));
    assert_eq!(stream.replied(4), Some(Ticket(4)));
    assert_eq!(stream.find(Ticket(4)), None);
    assert_eq!(stream.push(call(4)), 11);
    assert_eq!(stream.find(Ticket(4)), Some(11));
    // What was handed over stands before what was not accepted.
    let handed = OutItem::Awaiting { ticket: Ticket(20), expires: None, emitter: OriginHash::new(1) };
    stream.hand_over([handed, OutItem::Done].into_iter());
    assert_eq!((stream.find(Ticket(20)), stream.find(Ticket(4))), (Some(11), Some(13)));
}

#[test]
fn a_large_event_goes_alone_also_behind_a_small_one_that_it_would_fit_with() {
    let mut stream = calls(0);
    for (ticket, len) in [(1, 0), (2, 10), (3, LARGE + 1), (4, 10), (5, LARGE)] {
        stream.push(Outgoing { payload: Bytes::from(vec![0; len]), ..call(ticket) });
    }
    for (first, count) in [(1, 2), (3, 1), (4, 2)] {
        let (number, items) = stream.batch(60_000);
        // Whoever writes an event that is large takes it out of its batch.
        let count_of = if stream.next_len().is_some_and(|len| len > LARGE) { 1 } else { items.len() };
        assert_eq!((number, count_of), (first, count));
        stream.sent(count as u64);
    }
}
