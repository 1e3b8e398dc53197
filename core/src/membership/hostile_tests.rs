//! What a member that says whatever it likes makes another one keep.

use std::time::Duration;

use foca::{Codec, Header, Member, Message};
use tokio::time::Instant;

use super::codec::{Cards, MOST_MEMBERS, PacketCodec};
use super::{Card, Membership, MembershipConfig, MembershipError, SignedCard};
use crate::identity::{EntityKeypair, Incarnation, NodeId};
use crate::wire::codec;
use crate::wire::membership::MembershipMessage;

const CONFIG: MembershipConfig =
    MembershipConfig { probe_period: Duration::from_secs(1), suspicion: Duration::from_secs(5) };
/// A few of each kind; what grows with the number of lies is far beyond.
const FEW: usize = 10;

fn card(keypair: &EntityKeypair, round: u32) -> SignedCard {
    let life = Incarnation { started_at_ms: 1, salt: 2 };
    let card = Card { entity: keypair.entity_id(), life, round, addrs: Vec::new(), directory: false };
    SignedCard::sign(card, keypair).expect("it has the key")
}

fn hello(card: &SignedCard) -> Vec<u8> {
    codec::encode(&MembershipMessage::Hello { card: &codec::encode(card), joining: false })
}

/// The node that is lied to, and the liar.
struct Scene {
    honest: Membership,
    honest_key: EntityKeypair,
    liar: EntityKeypair,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        let (honest_key, liar) = (EntityKeypair::from_seed(&[1; 32]), EntityKeypair::from_seed(&[2; 32]));
        let life = Incarnation { started_at_ms: 1, salt: 2 };
        let honest = Membership::new(honest_key.clone(), life, Vec::new(), &CONFIG, 3).expect("it has the key");
        let mut scene = Self { honest, honest_key, liar, now: Instant::now() };
        scene.connect(&scene.liar.clone());
        scene
    }

    fn connect(&mut self, keypair: &EntityKeypair) -> NodeId {
        let node = keypair.node_id();
        self.honest.connected(node);
        self.honest.ready(node);
        node
    }

    /// A packet of the liar with that card of its own.
    fn lie(
        &mut self,
        round: u32,
        message: Message<SignedCard>,
        updates: &[Member<SignedCard>],
    ) -> Result<(), MembershipError> {
        let dst = card(&self.honest_key, 0);
        self.lie_to(dst, round, message, updates)
    }

    fn lie_to(
        &mut self,
        dst: SignedCard,
        round: u32,
        message: Message<SignedCard>,
        updates: &[Member<SignedCard>],
    ) -> Result<(), MembershipError> {
        let mut codec = PacketCodec { me: self.liar.node_id(), cards: Cards::default() };
        let mut packet = Vec::new();
        let header = Header { src: card(&self.liar, round), src_incarnation: 0, dst, message };
        codec.encode_header(&header, &mut packet).expect("memory has room");
        packet.extend(u16::try_from(updates.len()).expect("few").to_be_bytes());
        for update in updates {
            codec.encode_member(update, &mut packet).expect("memory has room");
        }
        let body = codec::encode(&MembershipMessage::Packet { bytes: &packet });
        let result = self.honest.message(self.liar.node_id(), &body, self.now);
        while self.honest.take_output().is_some() {}
        result
    }

    /// Somebody new is made a member.
    fn assert_open(&mut self) {
        let newcomer = EntityKeypair::generate();
        let node = self.connect(&newcomer);
        assert_eq!(self.honest.message(node, &hello(&card(&newcomer, 0)), self.now), Ok(()));
        assert!(self.honest.members().any(|card| card.node() == node));
    }
}

#[tokio::test]
async fn a_member_that_dies_again_and_again_is_remembered_once() {
    let mut scene = Scene::new();
    scene.honest.take_part(scene.now);
    for round in 0..1000 {
        let dead = Member::down(card(&scene.liar, 2 * round + 1));
        scene.lie(2 * round, Message::Gossip, &[dead]).expect("believed, for it speaks of itself");
    }
    assert!(scene.honest.members().next().is_none(), "it is down");
    let (timers, cards) = scene.honest.kept();
    assert!(timers <= FEW && cards <= FEW, "{timers} timers, {cards} cards");
}

#[tokio::test]
async fn cards_that_come_to_nothing_do_not_close_the_membership() {
    let mut scene = Scene::new();
    scene.honest.take_part(scene.now);
    for _ in 0..MOST_MEMBERS + FEW {
        let target = card(&EntityKeypair::generate(), 0);
        scene.lie(0, Message::PingReq { target, probe_number: 1 }, &[]).expect("there is room for whatever comes");
        assert!(scene.honest.kept().1 <= MOST_MEMBERS);
    }
    scene.assert_open();
}

#[tokio::test]
async fn made_up_members_that_are_down_make_room_for_one_that_lives() {
    let mut scene = Scene::new();
    scene.honest.take_part(scene.now);
    for _ in 0..MOST_MEMBERS / 32 + FEW {
        let dead: Vec<_> = (0..32).map(|_| Member::down(card(&EntityKeypair::generate(), 0))).collect();
        let _ = scene.lie(0, Message::Gossip, &dead);
    }
    let (timers, cards) = scene.honest.kept();
    assert!(timers <= MOST_MEMBERS + FEW && cards <= MOST_MEMBERS, "{timers} timers, {cards} cards");
    scene.assert_open();
}

#[tokio::test]
async fn a_node_that_takes_no_part_keeps_nothing_of_those_that_left() {
    let mut scene = Scene::new();
    for _ in 0..100 {
        let visitor = EntityKeypair::generate();
        let node = scene.connect(&visitor);
        scene.honest.message(node, &hello(&card(&visitor, 0)), scene.now).expect("its own card");
        scene.honest.disconnected(node, None, scene.now);
    }
    assert_eq!(scene.honest.kept(), (0, 0));
}

#[tokio::test]
async fn a_packet_for_another_node_is_refused_and_nothing_of_it_is_kept() {
    let mut scene = Scene::new();
    scene.honest.take_part(scene.now);
    let other = card(&EntityKeypair::generate(), 0);
    let refused = scene.lie_to(other, 0, Message::Gossip, &[]);
    assert!(matches!(refused, Err(MembershipError::Protocol(_))), "{refused:?}");
    assert_eq!(scene.honest.kept(), (0, 0));
}

#[tokio::test]
async fn the_newest_addresses_are_said_and_those_of_the_machine_itself_last() {
    let mut scene = Scene::new();
    let addrs = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("an address")).collect::<Vec<_>>();
    for addr in addrs(&["127.0.0.1:1", "10.0.0.1:1", "127.0.0.2:1", "10.0.0.2:1", "10.0.0.3:1"]) {
        scene.honest.listens_at(addr, scene.now);
    }
    let said = addrs(&["10.0.0.3:1", "10.0.0.2:1", "10.0.0.1:1", "127.0.0.2:1"]);
    assert_eq!(scene.honest.card().addrs, said);
    for addr in addrs(&["10.0.0.4:1", "127.0.0.3:1", "10.0.0.5:1"]) {
        scene.honest.listens_at(addr, scene.now);
    }
    assert_eq!(scene.honest.card().addrs, addrs(&["10.0.0.5:1", "10.0.0.4:1", "10.0.0.3:1", "10.0.0.2:1"]));
}
