//! What becomes of a session, and of what two nodes share in it.

use super::bounds_tests::{TIMEOUT, dial, peer, table};
use super::*;

const THERE: &str = "there";
/// The session that [`dial`] makes.
const DIALLED: SessionId = SessionId([2; 16]);

/// Everything was heard and said at that time.
struct At(Instant);

impl Activity for At {
    fn of(&self, _: ConnId) -> Option<(Instant, Instant)> {
        Some((self.0, self.0))
    }
}

fn direct() -> Way {
    Way::Direct(THERE.into())
}

fn intent(attempt: u64, after: Option<SessionId>) -> DialIntent {
    DialIntent { attempt, after, holds: Some(DIALLED), ready: true }
}

/// The peer dials, and says that it holds what began with the session that was dialled from here.
fn accept(table: &mut PeerTable, now: Instant, session: u8, attempt: u64, after: Option<SessionId>) -> Accepted {
    let name = SessionId([session; 16]);
    table.accept(now, &peer(1, 1), name, intent(attempt, after), &direct()).expect("taken")
}

#[derive(Debug, PartialEq)]
enum Told {
    Connected { resumed: bool },
    Suspected,
    Heard,
    Cut,
    Lost,
}

fn told(table: &mut PeerTable) -> Vec<Told> {
    let told = |action| match action {
        Action::Event(PeerEvent::Connected { resumed, .. }) => Some(Told::Connected { resumed }),
        Action::Event(PeerEvent::Suspected { .. }) => Some(Told::Suspected),
        Action::Event(PeerEvent::Heard { .. }) => Some(Told::Heard),
        Action::Event(PeerEvent::Cut { .. }) => Some(Told::Cut),
        Action::Event(PeerEvent::Lost { .. }) => Some(Told::Lost),
        _ => None,
    };
    table.take_actions().into_iter().filter_map(told).collect()
}

/// A peer that was dialled from here and has been silent for half of the timeout.
fn silent() -> (PeerTable, Instant, ConnId) {
    let (mut table, start) = (table(), Instant::now());
    let conn = dial(&mut table, start, &peer(1, 1));
    assert_eq!(told(&mut table), [Told::Connected { resumed: false }]);
    let now = start + TIMEOUT / 2;
    while let Some(at) = table.next_timer().filter(|at| *at <= now) {
        table.on_timer(at, &At(start));
    }
    assert_eq!(told(&mut table), [Told::Suspected]);
    (table, now, conn)
}

#[tokio::test]
async fn a_session_that_was_silent_and_stands_is_not_begun_anew() {
    let (mut table, now, conn) = silent();
    table.heard_again(now, conn);
    assert_eq!(told(&mut table), [Told::Heard], "the other side may have noticed nothing");
    assert!(table.is_connected(peer(1, 1).node));
    table.heard_again(now, conn);
    assert_eq!(told(&mut table), [], "no news");
}

#[tokio::test]
async fn a_silent_session_that_breaks_or_is_replaced_is_told_to_be_gone() {
    let (mut table, now, conn) = silent();
    table.connection_lost(now, conn, now);
    assert_eq!(told(&mut table), [Told::Cut]);
    let (mut table, now, _) = silent();
    assert!(accept(&mut table, now, 3, 1, Some(DIALLED)).resumed);
    assert_eq!(told(&mut table), [Told::Cut, Told::Connected { resumed: true }]);
    accept(&mut table, now, 4, 2, Some(DIALLED));
    assert_eq!(told(&mut table), [Told::Suspected, Told::Cut, Told::Connected { resumed: true }], "out of the blue");
}

#[tokio::test]
async fn a_peer_that_was_dialled_goes_on_being_dialled_while_a_relayed_session_stands_in() {
    let (mut table, now) = (table(), Instant::now());
    let one = peer(1, 1);
    dial(&mut table, now, &one);
    let relayed = Way::Relayed { by: NodeId::new(9) };
    // The peer lost the direct session, which is alive for all that is known here.
    table.accept(now, &one, SessionId([3; 16]), intent(1, Some(DIALLED)), &relayed).expect("taken");
    table.take_actions();
    table.on_timer(now + Duration::from_secs(1), &At(now));
    let dials = table.take_actions().into_iter().filter(|action| matches!(action, Action::Dial { .. })).count();
    assert_eq!(dials, 1);
}

#[tokio::test]
async fn a_peer_known_by_hearsay_that_begins_anew_is_dialled_again_however_much_later_it_breaks_off() {
    let (mut table, now) = (table(), Instant::now());
    let one = peer(1, 1);
    let target = DialTarget { way: direct(), pin_key: None, pin_node: None, hearsay: true };
    let DialDecision::Proceed { conn, .. } = table.dial_proven(now, &one, &target, None) else { panic!("refused") };
    table.dial_finished(conn, DIALLED);
    assert!(table.dial_welcomed(now, conn, false));
    let anew = DialIntent { holds: None, ..intent(1, Some(DIALLED)) };
    let conn = table.accept(now, &one, SessionId([3; 16]), anew, &direct()).expect("taken").conn;
    table.take_actions();
    let later = now + Duration::from_secs(3600);
    table.connection_lost(later, conn, later);
    table.on_timer(later + Duration::from_secs(1), &At(later));
    let dials = table.take_actions().into_iter().filter(|action| matches!(action, Action::Dial { .. })).count();
    assert_eq!(dials, 1);
}

/// The address at which a peer was dialled answers for somebody else once, while nothing else does.
fn is_dialled_again_after_another_answered_at(addr: &str) -> bool {
    let (mut table, now) = (table(), Instant::now());
    let one = peer(1, 1);
    let way = Way::Direct(addr.into());
    let target = DialTarget { way, pin_key: None, pin_node: None, hearsay: false };
    let DialDecision::Proceed { conn, .. } = table.dial_proven(now, &one, &target, None) else { panic!("refused") };
    table.dial_finished(conn, DIALLED);
    assert!(table.dial_welcomed(now, conn, false));
    table.connection_lost(now, conn, now);
    let dialled = |table: &mut PeerTable, now| {
        table.on_timer(now, &At(now));
        let dialled = |action: &Action| matches!(action, Action::Dial { .. });
        table.take_actions().iter().any(dialled)
    };
    let later = now + Duration::from_secs(1);
    assert!(dialled(&mut table, later));
    table.dial_proven(later, &peer(2, 1), &target, Some(one.node));
    table.redial_failed(later, one.node);
    let again = dialled(&mut table, later + Duration::from_secs(60));
    for minutes in [1, 20] {
        let failed = later + Duration::from_secs(60 * minutes);
        table.redial_failed(failed, one.node);
        dialled(&mut table, failed + Duration::from_secs(60));
    }
    assert!(!dialled(&mut table, later + Duration::from_secs(3600)), "it may never come back");
    again
}

#[tokio::test]
async fn a_name_that_leads_to_another_node_once_is_dialled_again_and_a_literal_address_is_not() {
    assert!(is_dialled_again_after_another_answered_at("nodes.example:4000"));
    assert!(!is_dialled_again_after_another_answered_at("192.0.2.1:4000"));
    assert!(!is_dialled_again_after_another_answered_at("[2001:db8::1]:4000"));
}

/// A dial from one table to the other, as the shell carries it out; tells on which sides what was shared goes on. The welcome
/// may be lost: then the dialler never hears of the session, and the listener soon sees it break.
fn dials(
    (dialler, listener): (&mut PeerTable, &mut PeerTable),
    now: Instant,
    number: u8,
    welcome_arrives: bool,
) -> (Option<bool>, bool) {
    let target = DialTarget { way: direct(), pin_key: None, pin_node: None, hearsay: false };
    let DialDecision::Proceed { conn, intent } = dialler.dial_proven(now, &peer(1, 1), &target, None) else {
        panic!("refused")
    };
    let session = SessionId([number; 16]);
    dialler.dial_finished(conn, session);
    let accepted = listener.accept(now, &peer(2, 1), session, intent, &direct()).expect("taken");
    let goes_on = welcome_arrives.then(|| {
        assert!(dialler.dial_welcomed(now, conn, accepted.resumed));
        told(dialler).contains(&Told::Connected { resumed: true })
    });
    for (table, conn) in [(dialler, conn), (listener, accepted.conn)] {
        table.dial_ended(now, conn);
        table.connection_lost(now, conn, now);
    }
    (goes_on, told(listener).contains(&Told::Connected { resumed: true }))
}

#[tokio::test]
async fn a_dialler_that_was_not_welcomed_does_not_go_on_with_what_the_listener_began_anew() {
    let (mut dialler, mut listener, start) = (table(), table(), Instant::now());
    assert_eq!(dials((&mut dialler, &mut listener), start, 11, true), (Some(false), false), "the first one");
    assert_eq!(dials((&mut dialler, &mut listener), start, 12, false), (None, true), "both hold what they had");
    assert_eq!(dials((&mut dialler, &mut listener), start, 13, true), (Some(true), true), "nothing began meanwhile");
    let now = start + TIMEOUT;
    listener.on_timer(now, &At(start));
    assert_eq!(told(&mut listener), [Told::Lost], "earlier than the dialler gives up");
    assert_eq!(dials((&mut dialler, &mut listener), now, 14, false), (None, false), "the listener begins anew");
    assert_eq!(
        dials((&mut dialler, &mut listener), now, 15, true),
        (Some(false), false),
        "the dialler does not know of that"
    );
    assert_eq!(dials((&mut dialler, &mut listener), now, 16, true), (Some(true), true), "both hold what began then");
}
