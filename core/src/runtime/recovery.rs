//! What becomes of a daemon whose other host is gone, or says that it has nothing: taking back, taking over, and fencing the
//! copy that lived on after all.
//!
//! A takeover begins a new life of the daemon: what was handed over may have run elsewhere, so it does not run here, and its
//! callers are told that they do not know. Its claim carries a raised `min_epoch` and is told to every peer at once and to
//! every peer that comes later; whoever holds an older copy fences it.

use super::departures::Departure;
use super::elsewhere::not_lost;
use super::engine::{Engine, Now};
use super::error::{Executed, RuntimeError};
use super::timers::TimerKey;
use super::work::{DaemonEvent, Role, Settlement, StopReason, Work};
use crate::daemon::{DaemonKey, Presence, Ticket};
use crate::directory::{Claim, ClaimBody, Found};
use crate::events::{InStream, Inbound};
use crate::identity::{EntityId, Epoch, Lineage, NodeId, OriginHash};
use crate::migration::{End, MigrationFailure, Outcome, Source, Target};
use crate::wire::Subprotocol;
use crate::wire::codec;
use crate::wire::directory::DirectoryMessage;
use crate::wire::events::EventsMessage;
use crate::wire::migration::{FailureReason, MigrationMessage, Stage};

impl Engine {
    /// The operator's word that the other copy of a daemon is gone: a copy of this node that waits for that copy's host goes
    /// live as a new life, unless the daemon is found to live elsewhere; then `ticket` is settled with [`Settlement::Done`].
    /// Nothing for a daemon that lives here anyway; an error while the other host is in reach, and for a daemon of which
    /// nothing is here.
    pub fn recover(&mut self, ticket: Ticket, origin: OriginHash, now: Now) -> Result<(), RuntimeError> {
        self.check_ready()?;
        let coming = self.arrivals.entity_of(origin);
        let leaving = self.departures.of_mut(origin);
        if let Some((entity, departure)) = leaving.filter(|(_, departure)| departure.source.is_released()) {
            if !departure.source.is_in_doubt() {
                return Err(not_lost());
            }
            departure.search.wait(ticket);
            self.departure_input(entity, now, Source::recover);
        } else if self.local(origin).is_ok() {
            self.settle(ticket, Ok(Settlement::Done));
        } else if let Some(entity) = coming {
            self.check_claimable(&entity)?;
            let in_doubt = self.arrivals.get_mut(&entity).filter(|arrival| arrival.target.is_in_doubt());
            in_doubt.ok_or_else(not_lost)?.search.wait(ticket);
            self.arrival_input(entity, now, Target::recover);
        } else {
            return Err(RuntimeError::NotFound(origin));
        }
        self.settle_own(now);
        Ok(())
    }

    /// Whether this node could show that a staged copy that it takes over is its own: the source has not handed it over, so
    /// only the daemon's key can say so.
    fn check_claimable(&self, entity: &EntityId) -> Result<(), RuntimeError> {
        let Some(arrival) = self.arrivals.get(entity).filter(|arrival| arrival.target.is_in_doubt()) else {
            return Ok(());
        };
        let slot = arrival.key.and_then(|key| self.slot(key));
        if slot.is_none_or(|slot| !slot.host.keypair.is_read_only()) {
            return Ok(());
        }
        let detail = "the daemon's key is not here, so nobody would believe that it lives here".to_owned();
        let reason = FailureReason::IdentityTransportFailed { detail };
        Err(RuntimeError::Migration(MigrationFailure::Refused(reason, Outcome::Unknown)))
    }

    /// Whether a daemon was handed over by this node to a host that has not confirmed it.
    pub(super) fn is_released(&self, origin: OriginHash) -> bool {
        self.departures.of(origin).is_some_and(|departure| departure.source.is_released())
    }

    /// The target is gone with the daemon: it goes on here from its snapshot as a new life.
    pub(super) fn take_over(&mut self, entity: EntityId, now: Now) {
        let Some(Departure { source, key, ledger, search, .. }) = self.departures.remove(&entity) else { return };
        self.timers.disarm(TimerKey::Departure(entity));
        self.departed.note(&source.id, source.orchestrator, End::Kept);
        self.note_kept(&source);
        self.keep_ledger(key, ledger);
        self.work.push(Work::ReleaseState { daemon: key });
        let epoch = search.outranking(two_on(source.id.epoch));
        self.begin_new_life(key, epoch, None, now);
        self.word_is_done(search);
    }

    /// The source is gone, and this staged copy is all that is left.
    pub(super) fn take_over_staged(&mut self, entity: EntityId, now: Now) {
        let Some(mut arrival) = self.arrivals.remove(&entity) else { return };
        self.timers.disarm(TimerKey::Arrival(entity));
        let (id, key, search) = (arrival.target.id, arrival.key, std::mem::take(&mut arrival.search));
        self.arrived.note(&id, arrival.target.orchestrator, End::Arrived);
        self.note_arrival(&id, arrival.target.source, Some(Stage::Complete), None);
        self.free_room(&id, now);
        if let Some(key) = key {
            self.begin_new_life(key, search.outranking(two_on(id.epoch)), arrival.into_claim(), now);
            let about = self.slot(key).map(|slot| (slot.host.origin, slot.host.kind.clone(), key));
            if let Some(about) = about {
                self.factories.take(about.0);
                self.notice_daemon(DaemonEvent::MigratedIn, about);
            }
        }
        self.word_is_done(search);
        self.answer_early_inquiries(entity.origin_hash());
    }

    fn begin_new_life(&mut self, key: DaemonKey, epoch: Epoch, former: Option<Claim>, now: Now) {
        let lineage = Lineage::new((self.entropy)());
        let Some(slot) = self.slot(key) else { return };
        let origin = slot.host.origin;
        let former = former.or_else(|| slot.claim.clone());
        let own = self.node.keypair.entity_id();
        let claim = former.filter(|_| slot.host.keypair.is_read_only()).and_then(|former| {
            let incarnation = Some(self.node.incarnation);
            let body = ClaimBody { lineage, epoch, min_epoch: epoch, host: own, incarnation, ..*former.body() };
            former.hand_over(body, &self.node.keypair).ok()
        });
        self.pointers.forget(origin);
        let Some(slot) = self.slot_mut(key) else { return };
        let host = &mut slot.host;
        (host.epoch, host.min_epoch, host.lineage) = (epoch, epoch, lineage);
        host.withdraw(|_| true);
        host.presence = Presence::Live;
        host.progress_at = now.instant;
        slot.claim = claim;
        slot.waiting.forget_streams();
        let ended = std::mem::replace(&mut slot.inbound, Inbound::new());
        self.place(key, now);
        // First who is right, then that the streams are over: nobody is to ask again before it knows.
        self.announce(key);
        self.end_streams(ended);
        self.leave_life(origin, false);
        self.lead_home(key, now);
        self.go_on_receiving(key, true);
        self.pump(key, now);
    }

    // What ran before is answered, but for large replies, which that word may overtake; of the rest nobody knows here.
    fn end_streams(&mut self, mut ended: Inbound) {
        ended.iter_mut().for_each(InStream::repeat);
        self.say_last_replies(&mut ended);
        self.refuse_streams(&ended, |_| None);
    }

    /// The target discarded its copy though it was released: the daemon goes on here, two epochs on, with every event.
    pub(super) fn take_back(&mut self, entity: EntityId, now: Now) {
        let Some(Departure { source, key, origin, ledger, search, .. }) = self.departures.remove(&entity) else {
            return;
        };
        self.timers.disarm(TimerKey::Departure(entity));
        self.departed.note(&source.id, source.orchestrator, End::Kept);
        self.note_kept(&source);
        self.word_is_done(search);
        self.work.push(Work::ReleaseState { daemon: key });
        self.pointers.forget(origin);
        let (me, own, incarnation) = (self.me(), self.node.keypair.entity_id(), Some(self.node.incarnation));
        let epoch = two_on(source.id.epoch);
        let Some(slot) = self.slot(key) else { return };
        let claim = slot.claim.clone().filter(|_| slot.host.keypair.is_read_only()).and_then(|former| {
            let body = ClaimBody { epoch, host: own, incarnation, ..*former.body() };
            former.hand_over(body, &self.node.keypair).ok()
        });
        let Some(slot) = self.slot_mut(key) else { return };
        slot.host.epoch = epoch;
        slot.host.presence = Presence::Live;
        slot.host.progress_at = now.instant;
        slot.claim = claim;
        slot.host.ledger = ledger;
        let senders: Vec<_> = slot.inbound.iter().map(|(_, stream)| (stream.id, stream.via)).collect();
        for (stream, via) in senders.into_iter().filter(|(stream, _)| stream.sender != me) {
            let to = self.way_to(stream.sender, via);
            self.send(
                to,
                Subprotocol::Events,
                codec::encode(&EventsMessage::Moved { stream, node: me, epoch, hops: 0 }),
            );
        }
        self.lead_home(key, now);
        self.feed_all(key, now);
        self.go_on_receiving(key, true);
        self.pump(key, now);
    }

    /// What it handed over of its channels is its own again.
    fn keep_ledger(&mut self, key: DaemonKey, ledger: bytes::Bytes) {
        if let Some(slot) = self.slot_mut(key) {
            slot.host.ledger = ledger;
        }
    }

    fn note_kept(&mut self, source: &Source) {
        let reason = FailureReason::lost("target", source.target);
        let failure = MigrationFailure::Refused(reason, Outcome::Source);
        self.note_migration(Role::Source, &source.id, (self.me(), source.target), None, Some(failure));
    }

    /// Nodes whose loss was declared, where that counts as the operator's word.
    pub(super) fn declared_lost(&mut self, node: NodeId, now: Now) {
        if self.options.recover_lost && self.is_ready() {
            let leaving: Vec<EntityId> = self.departures.keys().copied().collect();
            for entity in leaving {
                self.departure_input(entity, now, |source| source.declared_lost(node, now.instant));
            }
        }
    }

    /// A session with a node shows which life it is in: what was agreed with an earlier one died with it.
    pub(super) fn met(&mut self, peer: &crate::mesh::PeerIdentity, now: Now) {
        let earlier = |claim: Option<&Claim>| {
            claim.is_some_and(|claim| {
                let body = claim.body();
                body.host == peer.entity && body.incarnation.is_some_and(|life| life < peer.incarnation)
            })
        };
        let mut gone: Vec<EntityId> = self
            .departures
            .iter()
            .filter(|(_, departure)| departure.source.is_released() && earlier(departure.claim.as_ref()))
            .map(|(entity, _)| *entity)
            .collect();
        gone.sort_unstable();
        for entity in gone {
            self.departure_input(entity, now, |source| source.peer_lost(peer.node, true));
        }
        let mut gone: Vec<EntityId> = self
            .arrivals
            .iter()
            .filter(|(_, arrival)| arrival.target.source == peer.node && earlier(arrival.source_claim()))
            .map(|(entity, _)| *entity)
            .collect();
        gone.sort_unstable();
        for entity in gone {
            self.arrival_input(entity, now, |target| target.source_cut_off(true, now.instant));
        }
    }

    /// Tells every peer who hosts a daemon that was taken over.
    pub(super) fn announce(&mut self, key: DaemonKey) {
        let peers: Vec<NodeId> = self.peers.connected().map(|(peer, _)| peer).collect();
        for peer in peers {
            self.announce_to(key, peer);
        }
    }

    pub(super) fn announce_to(&mut self, key: DaemonKey, peer: NodeId) {
        match self.claim_of(key) {
            Ok(claim) => self.say_claim(peer, &claim),
            Err(error) => tracing::warn!(%error, "cannot claim a daemon that was taken over"),
        }
    }

    pub(super) fn say_claim(&mut self, to: NodeId, claim: &Claim) {
        let body = codec::encode(&DirectoryMessage::Claim { claim: &claim.encode() });
        self.send(to, Subprotocol::Directory, body);
    }

    /// A peer says that a daemon was taken over, or that a later copy than the one that was announced exists.
    pub(super) fn on_claim(&mut self, from: NodeId, claim: &[u8], now: Now) {
        let claim = match Claim::decode(claim) {
            Ok(claim) => claim,
            Err(error) => return self.refuse(from, "claim", &error),
        };
        self.compare_claims(from, claim, now);
    }

    /// A peer's claim against what is known here: the later one is right.
    pub(super) fn compare_claims(&mut self, from: NodeId, claim: Claim, now: Now) {
        let body = *claim.body();
        let origin = body.entity.origin_hash();
        if body.host == self.node.keypair.entity_id() {
            return;
        }
        if self.is_dead(&claim) {
            // Of a host that is proven dead: it outranks nobody who lives, however late it is shown.
            return;
        }
        let known = self.known_claim(origin);
        if let Some(known) = &known
            && known.body().entity == body.entity
        {
            if known.body().epoch.is_far_behind(body.epoch) {
                return self.refuse(from, "claim", &"its epoch is too far ahead");
            }
            if known.beats(&claim) {
                // No copy ends for the sake of one that is out of reach here; whoever meets that one compares.
                let host = known.body().node();
                if host == self.me() || self.peers.get(host).is_some() {
                    self.say_claim(from, known);
                }
                return;
            }
        }
        self.supersede(&claim, from, now);
        let stale = self.routes.get(&origin).and_then(|route| route.stream.as_ref()).is_some_and(|stream| {
            stream.id.entity == body.entity && stream.id.lineage != body.lineage && stream.epoch < body.min_epoch
        });
        if stale {
            self.leave_life(origin, false);
            let found = Found { claim: claim.clone(), by: from };
            self.route_to(origin, &found, now);
        }
        let shown_by_host = body.node() == from;
        if shown_by_host {
            self.lookups.volunteered(from, &claim);
        }
        // The older copy speaks for itself as well: nobody here is to be led to it by its word.
        if !self.by_origin.contains_key(&origin) {
            self.pointers.told(claim, from, now.instant);
            self.timers.sweep_later(now);
        }
        if shown_by_host {
            self.check_lookups(now);
        }
        // They wait for one that ended here before it had wholly arrived.
        self.answer_early_inquiries(origin);
        self.settle_own(now);
    }

    /// The best that this node itself knows of a daemon's host.
    fn known_claim(&mut self, origin: OriginHash) -> Option<Claim> {
        match self.local(origin) {
            Ok(key) => self.claim_of(key).ok(),
            Err(_) => self.pointers.claim(origin).filter(|known| !self.is_dead(known)).cloned(),
        }
    }

    /// Another node hosts the daemon at a later epoch than whatever is here.
    fn supersede(&mut self, claim: &Claim, from: NodeId, now: Now) {
        let body = claim.body();
        let (entity, origin) = (body.entity, body.entity.origin_hash());
        let here = self.by_origin.get(&origin).copied().filter(|key| {
            self.slot(*key).is_some_and(|slot| slot.host.entity() == entity && slot.host.epoch < body.epoch)
        });
        let claimed = self.local(origin).is_ok() || self.is_spawning(origin);
        let tied = self.by_origin.get(&origin).copied().filter(|key| {
            claimed && self.slot(*key).is_some_and(|slot| slot.host.entity() == entity && slot.host.epoch == body.epoch)
        });
        if let Some(key) = here.or(tied) {
            match self.slot(key).map(|slot| slot.host.presence) {
                None => {}
                Some(Presence::Starting) => self.fail_spawn(key, RuntimeError::AlreadyRegistered(origin), now),
                Some(Presence::Arriving(_)) => self.yield_arrival(entity, now),
                Some(Presence::Released(_)) => self.hear_of_target(claim, from, now),
                Some(Presence::Live | Presence::Freezing(_) | Presence::Frozen(_) | Presence::Closed(_)) => {
                    self.fence(key, now);
                }
            }
        }
    }

    /// A claim for a daemon that this node has handed over. It went live there when its host says so itself, or the claim is a
    /// later one: then the frozen copy is the former one. The claim of the hand-over was made here, and shows nothing when
    /// others repeat it.
    fn hear_of_target(&mut self, claim: &Claim, from: NodeId, now: Now) {
        let body = claim.body();
        let handed = self.departures.get(&body.entity).and_then(|departure| departure.claim.as_ref());
        if from == body.node() || handed.is_none_or(|handed| body.epoch > handed.body().epoch) {
            self.departure_input(body.entity, now, Source::activated);
        }
    }

    /// A copy with a higher epoch exists: this one ends.
    fn fence(&mut self, key: DaemonKey, now: Now) {
        let Some(entity) = self.slot(key).map(|slot| slot.host.entity()) else { return };
        self.end_departure(entity, outdone());
        if let Some(arrival) = self.arrivals.remove(&entity) {
            self.timers.disarm(TimerKey::Arrival(entity));
            self.arrived.note(&arrival.target.id, arrival.target.orchestrator, End::Arrived);
            self.free_room(&arrival.target.id, now);
        }
        self.remove_daemon(key, StopReason::Fenced, DaemonEvent::Fenced, now);
    }

    /// A daemon ends here that is about to leave: there is nothing to be moved any more.
    pub(super) fn end_departure(&mut self, entity: EntityId, reason: FailureReason) {
        let Some(Departure { source, origin, held, .. }) = self.departures.remove(&entity) else { return };
        self.timers.disarm(TimerKey::Departure(entity));
        self.departed.note(&source.id, source.orchestrator, End::Kept);
        let message = MigrationMessage::MigrationFailed { id: source.id, reason: reason.clone() };
        self.say(source.target, &message);
        self.say(source.orchestrator, &message);
        let failure = MigrationFailure::Refused(reason, Outcome::Unknown);
        self.note_migration(Role::Source, &source.id, (self.me(), source.target), None, Some(failure));
        for outgoing in held {
            self.settle(outgoing.ticket, Err(peer_lost(origin, false)));
        }
    }
}

pub(super) fn outdone() -> FailureReason {
    FailureReason::PeerLost { detail: "a copy with a higher epoch exists".to_owned(), node: None }
}

fn two_on(epoch: Epoch) -> Epoch {
    epoch.next().and_then(Epoch::next).unwrap_or(epoch)
}

pub(super) fn peer_lost(origin: OriginHash, maybe: bool) -> RuntimeError {
    RuntimeError::PeerLost { origin, executed: Executed::of(maybe) }
}
