//! What very many questions to the directory at once cost: they are asked, asked again by whoever waits beside, and answered
//! one after another. Twice as many should take twice as long.
//!
//! `cargo run --release -p mesh-daemon-core --example lookup_cost`

use mesh_daemon_core::daemon::Ticket;
use mesh_daemon_core::identity::{EntityKeypair, Incarnation, NodeStaticSecret, OriginHash, RuntimeLife};
use mesh_daemon_core::mesh::{PeerEvent, PeerIdentity, Record};
use mesh_daemon_core::runtime::{Engine, NodeSelf, Now, RuntimeOptions};
use mesh_daemon_core::wire::codec;
use mesh_daemon_core::wire::directory::DirectoryMessage;
use mesh_daemon_core::wire::{Lane, Subprotocol};
use tokio::time::Instant;

const LIFE: Incarnation = Incarnation { started_at_ms: 1, salt: 1 };

fn secret(keypair: &EntityKeypair) -> NodeStaticSecret {
    NodeStaticSecret::derive(keypair).expect("a full key pair")
}

fn measure(count: u64) {
    let now = Now { instant: Instant::now(), unix_ns: 0 };
    let (own, other) = (EntityKeypair::from_seed(&[1; 32]), EntityKeypair::from_seed(&[2; 32]));
    let node = NodeSelf { static_secret: secret(&own), keypair: own, incarnation: LIFE, runtime: RuntimeLife::FIRST };
    let mut engine = Engine::new(node, RuntimeOptions::default(), Box::new(|| 1));
    engine.start(now).expect("it was not shut down");
    let (peer, static_key) = (other.node_id(), *secret(&other).public());
    let identity =
        PeerIdentity { node: peer, entity: other.entity_id(), incarnation: LIFE, static_key, max_payload: 1 << 20 };
    engine.peer(&PeerEvent::Connected { peer: identity, resumed: false }, now);
    engine.peer(&PeerEvent::Ready { node: peer }, now);

    let began = Instant::now();
    for round in 0..2 {
        for number in 0..count {
            let ticket = Ticket(round * count + number);
            engine.locate(ticket, OriginHash::new(number + 1), now).expect("it is ready");
        }
    }
    let asked = began.elapsed();
    let began = Instant::now();
    for query in 1..=count {
        let body = codec::encode(&DirectoryMessage::Answer {
            query,
            claim: None,
            hosts: None,
            settled: None,
            former: None,
            doubt: None,
        });
        let mut records = vec![Record { subprotocol: Subprotocol::Directory, body: body.into() }];
        engine.records(peer, Lane::Fast, &mut records, now);
    }
    let answered = began.elapsed();
    let settled = std::iter::from_fn(|| engine.next_work(now)).count() as u64;
    assert_eq!(settled, 2 * count, "everybody heard that there is no such daemon");
    println!("{count} questions: asked twice in {asked:?}, answered in {answered:?}");
}

fn main() {
    for count in [5_000, 10_000, 20_000] {
        measure(count);
    }
}
