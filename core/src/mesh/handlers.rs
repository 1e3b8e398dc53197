//! The layers above: who handles which subprotocol, who watches peers.

use std::fmt;
use std::sync::Arc;

use super::error::InstallError;
use super::handler::{PeerEvent, Record, RecordSink, SubprotocolHandler};
use crate::identity::NodeId;
use crate::membership::Standing;
use crate::session::FrameBuilder;
use crate::wire::{Lane, Subprotocol};

/// Answers a record that no handler is installed for, with the body of a record of the same subprotocol.
pub type Responder = fn(&Record) -> Option<Vec<u8>>;

/// Watches peers beside the handlers. Must not block.
pub type PeerObserver = Arc<dyn Fn(&PeerEvent) + Send + Sync>;

/// Names an observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObserverId(u64);

/// What is installed.
#[derive(Default)]
pub(super) struct Handlers {
    /// Those that [lead](Installed::leads) come first.
    installed: Vec<Installed>,
    responders: Vec<(Subprotocol, Responder)>,
    observers: Vec<(ObserverId, PeerObserver)>,
    last_observer: u64,
}

struct Installed {
    handler: Arc<dyn SubprotocolHandler>,
    subprotocols: Vec<Subprotocol>,
}

impl Installed {
    /// What others judge a node by reaches them before what they judge: this handler hears of peers before all others, and
    /// nothing is written before what it has to write.
    fn leads(&self) -> bool {
        self.subprotocols.contains(&Subprotocol::Capabilities)
    }
}

struct Sink<'a>(&'a mut FrameBuilder);

impl RecordSink for Sink<'_> {
    fn room(&self) -> usize {
        self.0.room()
    }

    fn record(&mut self, subprotocol: Subprotocol, encode: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
        self.0.record(subprotocol, encode)
    }
}

impl Handlers {
    /// Whether `subprotocols` could be installed.
    pub(super) fn check(&self, subprotocols: &[Subprotocol]) -> Result<(), InstallError> {
        for &subprotocol in subprotocols {
            if matches!(subprotocol, Subprotocol::Session | Subprotocol::Membership | Subprotocol::Relay) {
                return Err(InstallError::Reserved(subprotocol));
            }
            if self.installed.iter().any(|installed| installed.subprotocols.contains(&subprotocol)) {
                return Err(InstallError::Taken(subprotocol));
            }
        }
        Ok(())
    }

    pub(super) fn install(&mut self, handler: Arc<dyn SubprotocolHandler>, subprotocols: &[Subprotocol]) {
        self.installed.push(Installed { handler, subprotocols: subprotocols.to_vec() });
        self.installed.sort_by_key(|installed| !installed.leads());
    }

    /// Takes the handler of `subprotocols` out; what comes back is to be dropped outside of any lock.
    pub(super) fn uninstall(&mut self, subprotocols: &[Subprotocol]) -> Vec<Arc<dyn SubprotocolHandler>> {
        for installed in &mut self.installed {
            installed.subprotocols.retain(|subprotocol| !subprotocols.contains(subprotocol));
        }
        self.installed
            .extract_if(.., |installed| installed.subprotocols.is_empty())
            .map(|installed| installed.handler)
            .collect()
    }

    pub(super) fn set_responder(&mut self, subprotocol: Subprotocol, responder: Option<Responder>) {
        self.responders.retain(|(id, _)| *id != subprotocol);
        self.responders.extend(responder.map(|responder| (subprotocol, responder)));
    }

    pub(super) fn observe(&mut self, observer: PeerObserver) -> ObserverId {
        self.last_observer += 1;
        let id = ObserverId(self.last_observer);
        self.observers.push((id, observer));
        id
    }

    pub(super) fn unobserve(&mut self, id: ObserverId) -> Option<PeerObserver> {
        let at = self.observers.iter().position(|(observer, _)| *observer == id)?;
        Some(self.observers.remove(at).1)
    }

    pub(super) fn peer(&self, event: &PeerEvent) {
        for installed in &self.installed {
            installed.handler.peer(event);
        }
        for (_, observer) in &self.observers {
            observer(event);
        }
    }

    pub(super) fn members(&self, members: &[NodeId], standing: Standing) {
        for installed in &self.installed {
            installed.handler.members(members, standing);
        }
    }

    /// Hands the records of one frame on; what has no handler goes to `unhandled`, which may be given an answer.
    pub(super) fn records(
        &self,
        from: NodeId,
        lane: Lane,
        records: &mut Vec<Record>,
        mut unhandled: impl FnMut(Record, Option<Vec<u8>>),
    ) {
        while let Some(first) = records.first() {
            let Some(installed) = self.of(first.subprotocol) else {
                let nobodys = first.subprotocol;
                let responder = self.responders.iter().find(|(id, _)| *id == nobodys);
                // All in one pass: a frame has room for thousands.
                for record in records.extract_if(.., |record| record.subprotocol == nobodys) {
                    let answer = responder.and_then(|(_, respond)| respond(&record));
                    unhandled(record, answer);
                }
                continue;
            };
            let is_its = |record: &Record| installed.subprotocols.contains(&record.subprotocol);
            if records.iter().all(is_its) {
                installed.handler.records(from, lane, records);
                records.clear();
            } else {
                let mut its: Vec<_> = records.extract_if(.., |record| is_its(record)).collect();
                installed.handler.records(from, lane, &mut its);
            }
        }
    }

    /// Asks every handler for records: those that lead, then the others, beginning with number `first`; true when any has more.
    pub(super) fn fill(&self, to: NodeId, lane: Lane, frame: &mut FrameBuilder, first: usize) -> bool {
        let (leading, others) = self.installed.split_at(self.installed.partition_point(Installed::leads));
        if leading.iter().any(|installed| installed.handler.fill(to, lane, &mut Sink(frame))) {
            return true;
        }
        let mut more = false;
        for turn in 0..others.len() {
            let installed = &others[(first + turn) % others.len()];
            more |= installed.handler.fill(to, lane, &mut Sink(frame));
        }
        more
    }

    fn of(&self, subprotocol: Subprotocol) -> Option<&Installed> {
        self.installed.iter().find(|installed| installed.subprotocols.contains(&subprotocol))
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.installed.iter().map(|installed| &installed.subprotocols)).finish()
    }
}
