//! May a daemon come? Asked before it is frozen, so that a refusal costs nothing.

use std::sync::Arc;

use super::arrivals::Arrival;
use super::engine::{Engine, Lifecycle, Now};
use super::policy::ArrivalPolicy;
use super::work::{MigrationRequest, Work};
use crate::daemon::HostConfig;
use crate::identity::{EntityKeypair, NodeId};
use crate::migration::{Target, TargetState};
use crate::wire::migration::{FailureReason, MigrationMessage, MoveId};

/// A question to the embedder's policy.
pub(super) struct Question {
    from: NodeId,
    id: MoveId,
    kind: Arc<str>,
    source: NodeId,
    transport_identity: bool,
}

impl Question {
    /// Who asked.
    pub(super) fn from(&self) -> NodeId {
        self.from
    }

    /// Whether it is about this attempt of that orchestrator.
    pub(super) fn is(&self, from: NodeId, id: &MoveId) -> bool {
        self.from == from && self.id == *id
    }
}

impl Engine {
    /// An orchestrator asks whether a daemon may come.
    #[allow(clippy::too_many_arguments)] // the fields of the message
    pub(super) fn on_prepare(
        &mut self,
        from: NodeId,
        id: MoveId,
        kind: &str,
        source: NodeId,
        transport_identity: bool,
        state_bytes: u64,
        now: Now,
    ) {
        let undone = self.arrivals.get(&id.entity).is_some_and(|arrival| {
            let target = &arrival.target;
            let another = target.id.migration != id.migration || target.orchestrator != from;
            another && target.source == from && source == from
        });
        if undone {
            // A source that begins anew has not released the daemon to the copy that may still be here.
            self.arrival_input(id.entity, now, Target::called_off);
            self.arrived.forget(&id);
        }
        if let Some(arrival) = self.arrivals.get(&id.entity) {
            let target = &arrival.target;
            if target.id.migration != id.migration || target.orchestrator != from {
                return self.decline(from, id, FailureReason::AlreadyMigrating);
            }
            if target.id.attempt == id.attempt {
                return self.say(from, &MigrationMessage::Prepared { id });
            }
            if target.id.attempt > id.attempt || target.state != TargetState::Prepared {
                return;
            }
        }
        if self.arrived.of(&id).is_some() {
            // A repetition of what is over. It is not answered: the source, if it asks, has its own question.
            return;
        }
        let origin = id.entity.origin_hash();
        match self.lifecycle {
            Lifecycle::Ready => {}
            Lifecycle::Registering => {
                self.turned_away.push((from, origin, id.migration));
                return self.decline(from, id, FailureReason::NotReady);
            }
            Lifecycle::ShuttingDown => return self.decline(from, id, FailureReason::ComputeNotSupported),
        }
        if self.by_origin.contains_key(&origin) {
            return self.decline(from, id, FailureReason::AlreadyMigrating);
        }
        let not_found = FailureReason::FactoryNotFound { kind: kind.to_owned() }.bounded();
        if let Some(expected) = self.factories.expected(origin) {
            let provisioned = expected.keypair.clone();
            if expected.orchestrator.is_some_and(|bound| bound != from) {
                return self.decline(from, id, FailureReason::WrongPeer);
            }
            if *expected.kind != *kind || provisioned.as_ref().is_some_and(|key| key.entity_id() != id.entity) {
                return self.decline(from, id, not_found);
            }
            let (kind, config) = (expected.kind.clone(), expected.config.clone());
            return self.agree(from, id, kind, source, transport_identity, Some((config, provisioned)), now);
        }
        let Some(kind) = self.factories.kind(kind) else { return self.decline(from, id, not_found) };
        match self.options.arrivals {
            ArrivalPolicy::Announced => self.decline(from, id, not_found),
            ArrivalPolicy::AnyKind => self.agree(from, id, kind, source, transport_identity, None, now),
            ArrivalPolicy::Ask => {
                self.questions += 1;
                let question = self.questions;
                let request =
                    MigrationRequest { entity: id.entity, kind: kind.clone(), source, orchestrator: from, state_bytes };
                self.asked.insert(question, Question { from, id, kind, source, transport_identity });
                self.work.push(Work::Admit { question, request });
            }
        }
    }

    /// The embedder's policy decided.
    pub fn admitted(&mut self, question: u64, yes: bool, now: Now) {
        let Some(Question { from, id, kind, source, transport_identity }) = self.asked.remove(&question) else {
            return;
        };
        if !yes || self.by_origin.contains_key(&id.entity.origin_hash()) || self.arrivals.contains_key(&id.entity) {
            let kind = kind.to_string();
            self.decline(from, id, FailureReason::FactoryNotFound { kind });
        } else {
            self.agree(from, id, kind, source, transport_identity, None, now);
        }
        self.settle_own(now);
    }

    #[allow(clippy::too_many_arguments)] // the fields of the request
    fn agree(
        &mut self,
        from: NodeId,
        id: MoveId,
        kind: Arc<str>,
        source: NodeId,
        transport_identity: bool,
        announced: Option<(HostConfig, Option<EntityKeypair>)>,
        now: Now,
    ) {
        if source != from && !self.peers.is_up(source) {
            return self.decline(from, id, FailureReason::PeerLost { detail: format!("source {source}") });
        }
        let settings = &self.options.migration;
        let limits = (settings.silence, settings.handover_hold);
        let (target, actions) = Target::new(id, (from, source), limits, now.instant);
        let arrival = Arrival::new(target, kind, transport_identity, announced);
        self.arrivals.insert(id.entity, arrival);
        self.arrive(id.entity, actions, now);
    }

    fn decline(&mut self, to: NodeId, id: MoveId, reason: FailureReason) {
        self.say(to, &MigrationMessage::MigrationFailed { id, reason });
    }

    /// Those who came too early are told that this node is ready.
    pub(super) fn call_back_turned_away(&mut self) {
        for (node, origin, migration) in std::mem::take(&mut self.turned_away) {
            self.say(node, &MigrationMessage::NowReady { origin, migration });
        }
    }
}
