//! What users of a simulated node ask of it, and how they wait.

use std::time::Duration;

use bytes::Bytes;
use mesh_daemon_core::causal::{CausalLink, Sequence};
use mesh_daemon_core::daemon::{DaemonKey, HostConfig, Ticket};
use mesh_daemon_core::directory::{Claim, ClaimBody, View};
use mesh_daemon_core::identity::{EntityKeypair, Epoch, Lineage, MigrationId, NodeId, OriginHash};
use mesh_daemon_core::membership::Standing;
use mesh_daemon_core::mesh::{Loss, Record};
use mesh_daemon_core::migration::{MigrationFailure, MigrationOptions};
use mesh_daemon_core::runtime::{DaemonEvent, Engine, Now, RuntimeError, Settlement, SpawnRequest};
use mesh_daemon_core::wire::directory::{Between, DirectoryMessage};
use mesh_daemon_core::wire::events::EventsMessage;
use mesh_daemon_core::wire::migration::MigrationMessage;
use mesh_daemon_core::wire::{Lane, Subprotocol, codec};
use rand::Rng;

use super::super::daemon::{Ledger, Request};
use super::{Trap, Wait, World};

/// The key pair of one daemon of many.
pub(crate) fn numbered_key(number: u32) -> EntityKeypair {
    let mut seed = [0x5a; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    EntityKeypair::from_seed(&seed)
}

impl World {
    pub(crate) fn ticket(&mut self, node: usize, request: Option<u64>) -> Ticket {
        self.last_ticket += 1;
        self.waits.insert(self.last_ticket, Wait { node, request, result: None });
        Ticket(self.last_ticket)
    }

    /// Does something with the engine of a node that answers through a ticket.
    pub(crate) fn act(
        &mut self,
        node: usize,
        request: Option<u64>,
        act: impl FnOnce(&mut Engine, Ticket, Now) -> Result<(), RuntimeError>,
    ) -> Ticket {
        let ticket = self.ticket(node, request);
        let now = self.present();
        if let Err(error) = act(&mut self.nodes[node].engine, ticket, now) {
            self.answered(node, ticket, Err(error));
        }
        self.settle(node);
        ticket
    }

    pub(crate) fn daemon_key(seed: u8) -> EntityKeypair {
        EntityKeypair::from_seed(&[seed; 32])
    }

    pub(crate) fn try_spawn(&mut self, node: usize, seed: u8, kind: &str, config: HostConfig) -> (OriginHash, Ticket) {
        let keypair = Self::daemon_key(seed);
        (keypair.origin_hash(), self.begin_spawn_with(node, keypair, kind, config))
    }

    fn begin_spawn_with(&mut self, node: usize, keypair: EntityKeypair, kind: &str, config: HostConfig) -> Ticket {
        let kind = Some(kind.to_owned());
        let request = SpawnRequest { kind, keypair, config, snapshot: None, instance: false };
        self.act(node, None, |engine, ticket, now| engine.spawn(ticket, request, now))
    }

    pub(crate) fn begin_spawn(&mut self, node: usize, keypair: EntityKeypair) -> Ticket {
        self.begin_spawn_with(node, keypair, "prompt", HostConfig::default())
    }

    /// Spawns one daemon of many.
    pub(crate) fn spawn_numbered(&mut self, node: usize, number: u32) -> OriginHash {
        let ticket = self.begin_spawn(node, numbered_key(number));
        match self.wait_for(ticket) {
            Ok(Settlement::Spawned(_)) => numbered_key(number).origin_hash(),
            other => panic!("spawned: {other:?}"),
        }
    }

    pub(crate) fn spawn_with(&mut self, node: usize, seed: u8, kind: &str, config: HostConfig) -> OriginHash {
        let (origin, ticket) = self.try_spawn(node, seed, kind, config);
        match self.wait_for(ticket) {
            Ok(Settlement::Spawned(_)) => origin,
            other => panic!("spawned: {other:?}"),
        }
    }

    pub(crate) fn spawn(&mut self, node: usize, seed: u8, kind: &str) -> OriginHash {
        self.spawn_with(node, seed, kind, HostConfig::default())
    }

    pub(crate) fn request(&mut self, flags: u64, answer: u64) -> Request {
        self.last_request += 1;
        Request { id: self.last_request, flags, answer }
    }

    pub(crate) fn call(&mut self, node: usize, origin: OriginHash) -> Ticket {
        let request = self.request(0, 0);
        self.call_with(node, origin, request, 0)
    }

    pub(crate) fn call_with(&mut self, node: usize, origin: OriginHash, request: Request, padding: usize) -> Ticket {
        let payload = request.encode(padding);
        self.act(node, Some(request.id), |engine, ticket, now| {
            engine.call(ticket, origin, payload, Duration::from_secs(60), now)
        })
    }

    pub(crate) fn deliver(&mut self, node: usize, origin: OriginHash, request: Request) -> Ticket {
        let payload = request.encode(0);
        let emitter = self.nodes[node].keypair.origin_hash();
        let link = CausalLink { sequence: Sequence::new(request.id), ..CausalLink::genesis(emitter) };
        self.act(node, Some(request.id), |engine, ticket, now| engine.deliver(ticket, origin, link, payload, now))
    }

    pub(crate) fn send(&mut self, node: usize, origin: OriginHash) -> Ticket {
        let request = self.request(0, 0);
        let payload = request.encode(0);
        self.act(node, Some(request.id), |engine, ticket, now| engine.send_event(ticket, origin, payload, now))
    }

    /// Begins a move in which the two lose their connection at this message, which does not arrive, until it heals.
    pub(crate) fn broken_move(
        &mut self,
        from: usize,
        origin: OriginHash,
        to: usize,
        message: &'static str,
        heal_after: Duration,
    ) -> Ticket {
        self.trap = Some(Trap { message, nth: 0, arrives: false, heal_after });
        let ticket = self.migrate(from, origin, to);
        let sprung = self.run_until(Duration::from_secs(1), |world| world.sprung);
        assert!(sprung, "the connection broke at {message}");
        ticket
    }

    pub(crate) fn migrate_with(
        &mut self,
        node: usize,
        origin: OriginHash,
        to: usize,
        options: MigrationOptions,
    ) -> Ticket {
        let target = self.id(to);
        self.act(node, None, |engine, ticket, now| engine.start_migration(ticket, origin, None, target, options, now))
    }

    pub(crate) fn migrate(&mut self, node: usize, origin: OriginHash, to: usize) -> Ticket {
        self.migrate_with(node, origin, to, MigrationOptions::default())
    }

    /// The same from a source that the caller names.
    pub(crate) fn drive(&mut self, node: usize, origin: OriginHash, from: usize, to: usize) -> Ticket {
        let (source, target) = (self.id(from), self.id(to));
        let options = MigrationOptions::default();
        self.act(node, None, |engine, ticket, now| {
            engine.start_migration(ticket, origin, Some(source), target, options, now)
        })
    }

    /// The same, and it begins.
    pub(crate) fn driving(&mut self, node: usize, origin: OriginHash, from: usize, to: usize) -> MigrationId {
        let ticket = self.drive(node, origin, from, to);
        self.migration(ticket).expect("it begins")
    }

    /// The same, and waits.
    pub(crate) fn driven(
        &mut self,
        node: usize,
        origin: OriginHash,
        from: usize,
        to: usize,
    ) -> Result<(), MigrationFailure> {
        let ticket = self.drive(node, origin, from, to);
        match self.migration(ticket) {
            Ok(migration) => self.wait_migration(node, migration),
            Err(RuntimeError::Migration(failure)) => Err(failure),
            Err(other) => panic!("migration: {other}"),
        }
    }

    /// A message that a node never meant to send.
    pub(crate) fn forge(&mut self, from: usize, to: usize, message: &MigrationMessage<'_>) {
        self.note(&format!("n{from} forges {} to n{to}", message.name()));
        self.forge_record(from, to, Subprotocol::Migration, codec::encode(message));
    }

    /// The same of a stream.
    pub(crate) fn forge_events(&mut self, from: usize, to: usize, message: &EventsMessage<'_>) {
        self.note(&format!("n{from} forges a message of {:?} to n{to}", message.stream()));
        self.forge_record(from, to, Subprotocol::Events, codec::encode(message));
    }

    fn forge_record(&mut self, from: usize, to: usize, subprotocol: Subprotocol, body: Vec<u8>) {
        let mut records = vec![Record { subprotocol, body: body.into() }];
        let (now, id) = (self.present(), self.id(from));
        self.nodes[to].engine.records(id, Lane::Fast, &mut records, now);
        self.settle(to);
    }

    /// The migration that a ticket began, or why it did not.
    pub(crate) fn migration(&self, ticket: Ticket) -> Result<MigrationId, RuntimeError> {
        match self.waits[&ticket.0].result.as_ref().expect("it was answered") {
            Ok(Settlement::Migrating(started)) => Ok(started.migration),
            Ok(other) => panic!("a migration: {other:?}"),
            Err(error) => Err(error.clone()),
        }
    }

    /// Waits until a migration is over.
    pub(crate) fn wait_migration(&mut self, node: usize, migration: MigrationId) -> Result<(), MigrationFailure> {
        let done =
            self.run_until(Duration::from_secs(1200), |world| world.nodes[node].over.contains_key(&migration.get()));
        assert!(done, "the migration came to an end");
        self.nodes[node].over[&migration.get()].clone()
    }

    /// Moves a daemon and waits.
    pub(crate) fn moved(&mut self, node: usize, origin: OriginHash, to: usize) -> Result<(), MigrationFailure> {
        let ticket = self.migrate(node, origin, to);
        let _ = self.wait_for(ticket);
        let migration = match self.migration(ticket) {
            Ok(migration) => migration,
            Err(RuntimeError::Migration(failure)) => return Err(failure),
            Err(other) => panic!("migration: {other}"),
        };
        self.wait_migration(node, migration)
    }

    pub(crate) fn dump(&self) {
        for node in &self.nodes {
            for (key, object) in &node.objects.map {
                eprintln!("{key:?}: {:?}, in work {:?}", node.engine.stats(*key), object.working);
            }
        }
    }

    pub(crate) fn is_answered(&self, ticket: Ticket) -> bool {
        self.waits[&ticket.0].result.is_some()
    }

    /// Waits for the answer to a ticket.
    pub(crate) fn wait_for(&mut self, ticket: Ticket) -> &Result<Settlement, RuntimeError> {
        let done = self.run_until(Duration::from_secs(300), |world| world.is_answered(ticket));
        if !done {
            self.dump();
        }
        assert!(done, "ticket {} was answered", ticket.0);
        self.waits[&ticket.0].result.as_ref().expect("looked above")
    }

    /// The outputs of a call.
    pub(crate) fn outputs(&mut self, ticket: Ticket) -> (u64, u64, usize) {
        match self.wait_for(ticket) {
            Ok(Settlement::Outputs(outputs)) => {
                assert_eq!(outputs.len(), 1, "one output");
                let payload: &Bytes = &outputs[0].payload;
                let word = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().expect("eight bytes"));
                (word(0), word(8), payload.len())
            }
            other => panic!("outputs: {other:?}"),
        }
    }

    pub(crate) fn failure(&mut self, ticket: Ticket) -> RuntimeError {
        match self.wait_for(ticket) {
            Err(error) => error.clone(),
            Ok(other) => panic!("a failure: {other:?}"),
        }
    }

    // Members, and their end.

    /// Kills the process of a node for good. Its peers give it up after a silence.
    pub(crate) fn kill(&mut self, index: usize) {
        self.note(&format!("n{index} dies"));
        self.lose_all(index);
        self.begin_life(index);
    }

    /// All peers of a node give it up after a silence, and it them.
    pub(crate) fn lose_all(&mut self, index: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != index) {
            self.lose(index, other, Loss::Silence);
        }
    }

    /// Tells a node who the members are.
    pub(crate) fn tell_members(&mut self, node: usize, members: &[usize]) {
        self.members[node] = members.to_vec();
        let ids: Vec<NodeId> = members.iter().map(|&member| self.id(member)).collect();
        self.note(&format!("n{node} has the members {members:?}"));
        let now = self.present();
        let standing = self.standings[node];
        self.nodes[node].engine.members(&ids, standing, now);
        self.settle(node);
    }

    /// Tells a node how far it has come with joining.
    pub(crate) fn tell_standing(&mut self, node: usize, standing: Standing) {
        self.note(&format!("n{node} is {standing:?}"));
        self.standings[node] = standing;
        let members = self.members[node].clone();
        self.tell_members(node, &members);
    }

    /// All nodes are members, and have told each other what they host.
    pub(crate) fn take_part(&mut self) {
        let all: Vec<usize> = (0..self.nodes.len()).collect();
        for &node in &all {
            self.tell_members(node, &all);
        }
        self.run_for(Duration::from_millis(100));
    }

    /// A message of the directory that a node never meant to send.
    pub(crate) fn forge_directory(&mut self, from: usize, to: usize, message: &DirectoryMessage<'_>) {
        let mut records = vec![Record { subprotocol: Subprotocol::Directory, body: codec::encode(message).into() }];
        let (now, id) = (self.present(), self.id(from));
        self.nodes[to].engine.records(id, Lane::Fast, &mut records, now);
        self.settle(to);
    }

    /// A claim that the daemon's own key has signed, at an epoch that no moves lead to, and that refuses all copies before it.
    pub(crate) fn claim_far_ahead(&self, seed: u8, lineage: Lineage, host: usize) -> Vec<u8> {
        let key = Self::daemon_key(seed);
        let (epoch, host) = (Epoch::new(1 << 40), self.nodes[host].keypair.entity_id());
        let body = ClaimBody { entity: key.entity_id(), lineage, epoch, min_epoch: epoch, host, incarnation: None };
        Claim::sign(body, &key).expect("its own key").encode()
    }

    /// A node answers whatever it is asked with a claim, before it could be heard itself.
    pub(crate) fn forge_answers(&mut self, from: usize, to: usize, claim: &[u8]) {
        for query in 0..64 {
            let (claim, hosts, settled, former, doubt) = (Some(claim), None, None, None, None);
            self.forge_directory(from, to, &DirectoryMessage::Answer { query, claim, hosts, settled, former, doubt });
        }
    }

    /// A message that names daemons to a home, or withdraws them.
    pub(crate) fn placing(hosted: Vec<OriginHash>, gone: Vec<OriginHash>) -> DirectoryMessage<'static> {
        DirectoryMessage::Place { anew: false, hosted, gone, settled: None, between: Between::default() }
    }

    /// Where a node finds a daemon.
    pub(crate) fn located(&mut self, node: usize, origin: OriginHash) -> Option<NodeId> {
        let ticket = self.act(node, None, |engine, ticket, now| engine.locate(ticket, origin, now));
        match self.wait_for(ticket) {
            Ok(Settlement::Located(found)) => *found,
            other => panic!("located: {other:?}"),
        }
    }

    // Time.

    /// The nodes on which the daemon lives, with its object.
    pub(crate) fn hosts(&self, origin: OriginHash) -> Vec<(usize, DaemonKey)> {
        (0..self.nodes.len())
            .filter_map(|node| {
                let key = self.nodes[node].engine.find(origin)?;
                Some((node, key))
            })
            .collect()
    }

    /// The nodes on which the daemon lives.
    pub(crate) fn hosting(&self, origin: OriginHash) -> Vec<usize> {
        self.hosts(origin).into_iter().map(|(node, _)| node).collect()
    }

    /// The nodes that keep the daemon's address when all are members.
    pub(crate) fn homes(&self, origin: OriginHash) -> Vec<usize> {
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.keypair.node_id()).collect();
        let homes = View::new(&ids).homes_of(origin);
        (0..ids.len()).filter(|&node| homes.contains(ids[node])).collect()
    }

    /// A daemon with such homes.
    pub(crate) fn daemon_with_homes(&self, fits: impl Fn(&[usize]) -> bool) -> u8 {
        let fits = |seed: &u8| fits(&self.homes(Self::daemon_key(*seed).origin_hash()));
        (1..=u8::MAX).find(fits).expect("one of many")
    }

    /// Where copies were fenced off, in order.
    pub(crate) fn fenced(&self) -> Vec<usize> {
        let fenced = self.daemon_events.iter().filter(|(_, event)| *event == DaemonEvent::Fenced);
        fenced.map(|(node, _)| *node).collect()
    }

    /// Everybody's call is answered.
    pub(crate) fn serves(&mut self, origin: OriginHash, callers: impl IntoIterator<Item = usize>) {
        for node in callers {
            let ticket = self.call(node, origin);
            self.outputs(ticket);
        }
    }

    pub(crate) fn ledger(&self, origin: OriginHash) -> &Ledger {
        let hosts = self.hosts(origin);
        assert_eq!(hosts.len(), 1, "one live copy: {hosts:?}");
        let (node, key) = hosts[0];
        &self.nodes[node].objects.map[&key].ledger
    }

    /// Requests that a live copy processed.
    pub(crate) fn seen(&self, origin: OriginHash) -> Vec<u64> {
        self.ledger(origin).seen.clone()
    }

    /// The operator's word on a node that the other copy of a daemon is gone.
    pub(crate) fn recover(&mut self, node: usize, origin: OriginHash) -> Result<(), RuntimeError> {
        let ticket = self.act(node, None, |engine, ticket, now| engine.recover(ticket, origin, now));
        match self.wait_for(ticket) {
            Ok(_done) => Ok(()),
            Err(error) => Err(error.clone()),
        }
    }

    /// How many events were sent.
    pub(crate) fn requests(&self) -> usize {
        self.waits.values().filter(|wait| wait.request.is_some()).count()
    }

    /// The node that made a request.
    pub(crate) fn sender_of(&self, request: u64) -> usize {
        let wait = self.waits.values().find(|wait| wait.request == Some(request));
        wait.expect("a request that was made").node
    }

    /// A number below `bound`, by chance.
    pub(crate) fn chance(&mut self, bound: u64) -> u64 {
        self.rng.random_range(0..bound)
    }
}
