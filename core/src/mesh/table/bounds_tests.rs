//! How many peers there may be; what is kept of those that are lost, and for how long.

use super::peers::MOST_LOST;
use super::*;
use crate::identity::EntityKeypair;

pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

struct Silence;

impl Activity for Silence {
    fn of(&self, _: ConnId) -> Option<(Instant, Instant)> {
        None
    }
}

pub(super) fn table() -> PeerTable {
    with_room(1024)
}

fn with_room(max_peers: usize) -> PeerTable {
    let config = TableConfig {
        heartbeat: Duration::from_secs(5),
        session_timeout: TIMEOUT,
        reconnect: true,
        max_peers,
        backoff: Backoff::new(1),
    };
    let mut table = PeerTable::new(EntityKeypair::from_seed(&[9; 32]).entity_id(), config);
    table.start(Instant::now());
    table
}

/// A peer in the life that began at that time.
pub(super) fn peer(number: u32, started_at_ms: u64) -> ProvenPeer {
    let mut entity = [0; 32];
    entity[..4].copy_from_slice(&number.to_le_bytes());
    let entity = EntityId::from_bytes(entity);
    ProvenPeer {
        entity,
        node: entity.node_id(),
        incarnation: Incarnation { started_at_ms, salt: 0 },
        static_key: [0; 32],
        max_payload: 0,
        bulk_window: 0,
        minor: 0,
        features: 0,
    }
}

fn accept(table: &mut PeerTable, now: Instant, peer: &ProvenPeer) -> Result<Accepted, PeerRefusal> {
    let intent = DialIntent { attempt: 1, after: None, holds: None, ready: true };
    table.accept(now, peer, SessionId([1; 16]), intent, &Way::Direct("somewhere".into()))
}

/// A session dialled from here.
pub(super) fn dial(table: &mut PeerTable, now: Instant, peer: &ProvenPeer) -> ConnId {
    let target = DialTarget { way: Way::Direct("there".into()), pin_key: None, pin_node: None, hearsay: false };
    let DialDecision::Proceed { conn, .. } = table.dial_proven(now, peer, &target, None) else { panic!("refused") };
    table.dial_finished(conn, SessionId([2; 16]));
    assert!(table.dial_welcomed(now, conn, false));
    conn
}

/// Lets time pass in which no dial from here finds anybody.
fn pass(table: &mut PeerTable, from: Instant, time: Duration) -> Instant {
    let end = from + time;
    while let Some(at) = table.next_timer().filter(|at| *at <= end) {
        table.on_timer(at, &Silence);
        for action in table.take_actions() {
            if let Action::Dial { node, .. } = action {
                table.redial_failed(at, node);
            }
        }
    }
    end
}

fn remembers(table: &PeerTable, peer: &ProvenPeer) -> bool {
    table.peers().any(|known| known.identity.node == peer.node)
}

#[tokio::test]
async fn lost_peers_are_remembered_up_to_a_bound_and_the_longest_lost_are_forgotten_first() {
    let (mut table, mut now) = (table(), Instant::now());
    let mine = peer(u32::MAX, 1);
    let conn = dial(&mut table, now, &mine);
    table.connection_lost(now, conn, now);
    let more = u32::try_from(MOST_LOST).expect("small") + 100;
    for number in 0..more {
        now += Duration::from_millis(1);
        let conn = accept(&mut table, now, &peer(number, 5)).expect("room").conn;
        table.goodbye(now, conn);
        table.take_actions();
    }
    assert_eq!(table.peers().count(), MOST_LOST + 1);
    assert!(!remembers(&table, &peer(0, 5)) && remembers(&table, &peer(more - 1, 5)));
    assert_eq!(accept(&mut table, now, &peer(more - 1, 4)), Err(PeerRefusal::OlderIncarnation));
    assert!(remembers(&table, &mine), "it is still dialled");
    pass(&mut table, now, 30 * TIMEOUT);
    assert_eq!(table.peers().map(|known| known.identity.node).collect::<Vec<_>>(), [mine.node]);
}

#[tokio::test]
async fn a_node_whose_clock_was_set_back_is_let_in_again_by_those_that_dial_it_for_ever() {
    let (mut table, start) = (table(), Instant::now());
    let (later, earlier) = (peer(1, 2_000), peer(1, 1_000));
    let conn = dial(&mut table, start, &later);
    assert_eq!(accept(&mut table, start, &earlier), Err(PeerRefusal::OlderIncarnation), "the later one lives");
    table.connection_lost(start, conn, start);
    let now = pass(&mut table, start, 2 * TIMEOUT);
    assert_eq!(accept(&mut table, now, &earlier), Err(PeerRefusal::OlderIncarnation), "it may come back");
    let now = pass(&mut table, now, 20 * TIMEOUT);
    assert!(remembers(&table, &later), "it is dialled");
    accept(&mut table, now, &earlier).expect("so long nothing lives on");
    assert_eq!(accept(&mut table, now, &peer(1, 999)), Err(PeerRefusal::OlderIncarnation));
}

#[tokio::test]
async fn a_listener_cannot_go_on_with_what_the_dialler_does_not_hold() {
    let (mut table, now) = (table(), Instant::now());
    let target = DialTarget { way: Way::Direct("there".into()), pin_key: None, pin_node: None, hearsay: false };
    let proven = table.dial_proven(now, &peer(1, 1), &target, None);
    let DialDecision::Proceed { conn, intent } = proven else { panic!("refused") };
    assert_eq!(intent.holds, None);
    table.dial_finished(conn, SessionId([2; 16]));
    assert!(!table.dial_welcomed(now, conn, true));
    table.dial_ended(now, conn);
    assert!(table.take_actions().is_empty(), "nobody hears of such a session");
    assert_eq!((table.connections(), table.peers().count()), (0, 0));
}

#[tokio::test]
async fn dials_under_way_do_not_lead_to_more_peers_than_there_may_be() {
    let (mut table, now) = (with_room(1), Instant::now());
    let target = DialTarget { way: Way::Direct("there".into()), pin_key: None, pin_node: None, hearsay: false };
    let first = table.dial_proven(now, &peer(1, 1), &target, None);
    assert!(matches!(first, DialDecision::Proceed { .. }));
    assert_eq!(table.dial_proven(now, &peer(2, 1), &target, None), DialDecision::Refused(PeerRefusal::Full));
    assert_eq!(accept(&mut table, now, &peer(3, 1)), Err(PeerRefusal::Full));
    assert!(accept(&mut table, now, &peer(1, 2)).is_ok(), "the place is its own");
    assert_eq!(table.present(), 1);
}
