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

/// What follows the handlers that lead. These had nothing to write when they were asked; whatever they have since, and with it
/// what was asked of the others after that, waits for the next frame.
struct Following<'a> {
    frame: &'a mut FrameBuilder,
    leading: &'a [Installed],
    to: NodeId,
    lane: Lane,
}

impl RecordSink for Sink<'_> {
    fn room(&self) -> usize {
        self.0.room()
    }

    fn record(&mut self, subprotocol: Subprotocol, encode: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
        self.0.record(subprotocol, encode)
    }
}

impl RecordSink for Following<'_> {
    fn room(&self) -> usize {
        self.frame.room()
    }

    fn record(&mut self, subprotocol: Subprotocol, encode: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
        let waits = || self.leading.iter().any(|leading| leading.handler.has_for(self.to, self.lane));
        if !is_of_the_mesh(subprotocol) && waits() {
            return None;
        }
        self.frame.record(subprotocol, encode)
    }
}

impl Handlers {
    /// Whether `subprotocols` could be installed.
    pub(super) fn check(&self, subprotocols: &[Subprotocol]) -> Result<(), InstallError> {
        for &subprotocol in subprotocols {
            if is_of_the_mesh(subprotocol) {
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
            more |= installed.handler.fill(to, lane, &mut Following { frame: &mut *frame, leading, to, lane });
        }
        more
    }

    fn of(&self, subprotocol: Subprotocol) -> Option<&Installed> {
        self.installed.iter().find(|installed| installed.subprotocols.contains(&subprotocol))
    }
}

/// Whether nobody above the mesh speaks it.
const fn is_of_the_mesh(subprotocol: Subprotocol) -> bool {
    matches!(subprotocol, Subprotocol::Session | Subprotocol::Membership | Subprotocol::Relay)
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.installed.iter().map(|installed| &installed.subprotocols)).finish()
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// What waits for everybody: one word, or none.
    #[derive(Default)]
    struct Word(Mutex<Option<&'static [u8]>>);

    /// A handler of one subprotocol that has a word to write.
    struct Speaker {
        subprotocol: Subprotocol,
        word: Arc<Word>,
        /// What happens elsewhere while this one is asked to write.
        meanwhile: Option<(Arc<Word>, &'static [u8])>,
    }

    impl SubprotocolHandler for Speaker {
        fn records(&self, _: NodeId, _: Lane, _: &mut Vec<Record>) {}

        fn peer(&self, _: &PeerEvent) {}

        fn fill(&self, _: NodeId, _: Lane, sink: &mut dyn RecordSink) -> bool {
            if let Some((word, says)) = &self.meanwhile {
                word.0.lock().get_or_insert(says);
            }
            let mut word = self.word.0.lock();
            let Some(says) = *word else { return false };
            let written = sink.record(self.subprotocol, &mut |out| out.extend_from_slice(says));
            word.take_if(|_| written.is_some());
            written.is_none()
        }

        fn has_for(&self, _: NodeId, _: Lane) -> bool {
            self.word.0.lock().is_some()
        }
    }

    fn frames(handlers: &Handlers) -> Vec<Vec<u8>> {
        let frame = |_| {
            let mut frame = FrameBuilder::new();
            handlers.fill(NodeId::new(7), Lane::Fast, &mut frame, 0);
            frame.plaintext().to_vec()
        };
        (0..2).map(frame).collect()
    }

    fn says(frame: &[u8], what: &[u8]) -> bool {
        frame.windows(what.len()).any(|part| part == what)
    }

    #[test]
    fn hazard_47_what_is_announced_while_a_frame_is_filled_goes_before_what_is_asked_after_it() {
        let (announcement, question) = (Arc::<Word>::default(), Arc::<Word>::default());
        *question.0.lock() = Some(b"may I");
        let mut handlers = Handlers::default();
        let asks = Speaker {
            subprotocol: Subprotocol::Channels,
            word: question,
            meanwhile: Some((announcement.clone(), b"I can")),
        };
        handlers.install(Arc::new(asks), &[Subprotocol::Channels]);
        let announces = Speaker { subprotocol: Subprotocol::Capabilities, word: announcement, meanwhile: None };
        handlers.install(Arc::new(announces), &[Subprotocol::Capabilities]);
        let frames = frames(&handlers);
        assert!(!says(&frames[0], b"may I"), "the announcement was there before the question was written");
        assert!(says(&frames[1], b"I can"));
    }
}
