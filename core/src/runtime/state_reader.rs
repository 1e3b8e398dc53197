//! Snapshots for callers: the state is read in slices, as for a move, and assembled here.

use bytes::Bytes;

use super::engine::{Engine, Now};
use super::error::RuntimeError;
use super::work::{Settlement, Work};
use crate::daemon::{Control, DaemonHost, DaemonKey, Running, Ticket};
use crate::events::Inbound;
use crate::identity::OriginHash;
use crate::migration::{SliceHash, StateChanged, Transfer};
use crate::snapshot::{SnapshotError, SnapshotHead, SnapshotStats};
use crate::wire::events::Thrown;

/// Who gets the snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    Caller(Ticket),
    Automatic,
    /// Its caller went.
    Nobody,
}

/// A snapshot under way.
#[derive(Debug)]
pub(super) struct StateReader {
    reader: Reader,
    transfer: Transfer,
    out: Vec<u8>,
}

impl StateReader {
    /// The caller that waits for it.
    pub(super) fn waiting(&self) -> Option<Ticket> {
        match self.reader {
            Reader::Caller(ticket) => Some(ticket),
            Reader::Automatic | Reader::Nobody => None,
        }
    }
}

impl Engine {
    /// Takes a snapshot of a daemon of this node, behind the events that it accepted.
    pub fn snapshot(&mut self, ticket: Ticket, origin: OriginHash, now: Now) -> Result<(), RuntimeError> {
        self.check_ready()?;
        let key = self.local(origin)?;
        let Some(slot) = self.slot_mut(key) else { return Err(RuntimeError::NotFound(origin)) };
        slot.host.enter_control(Control::Snapshot(ticket));
        self.pump(key, now);
        Ok(())
    }

    /// The daemon gave its state of so many bytes, or has none, or failed.
    pub fn snapshot_taken(&mut self, key: DaemonKey, result: Result<Option<u64>, Thrown>, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        let Running::Control(control) = slot.host.running else { return };
        let reader = match control {
            Control::MoveSnapshot(_) => {
                slot.host.running = Running::Idle;
                return self.departure_snapshot(key, result, now);
            }
            Control::Snapshot(ticket) => Reader::Caller(ticket),
            Control::AutoSnapshot => Reader::Automatic,
            // It is over; what it came to is not read.
            Control::AbandonedSnapshot => return self.finish_snapshot(key, Reader::Nobody, Ok(None), now),
            Control::Stop(_) => return,
        };
        match result {
            Err(thrown) => self.finish_snapshot(key, reader, Err(RuntimeError::SnapshotFailed(thrown)), now),
            Ok(None) => self.finish_snapshot(key, reader, Ok(None), now),
            Ok(state_len) => {
                slot.host.stats.snapshots_taken += 1;
                let ledger = self.channel_ledger(key);
                let Some(slot) = self.slot_mut(key) else { return };
                let head = snapshot_head(&slot.host, Bytes::new(), ledger, now);
                match Transfer::new(&head, state_len) {
                    Err(error) => self.finish_snapshot(key, reader, Err(invalid(&error)), now),
                    Ok(transfer) => {
                        let capacity = usize::try_from(transfer.total()).unwrap_or(0);
                        slot.reader =
                            Some(Box::new(StateReader { reader, transfer, out: Vec::with_capacity(capacity) }));
                        self.read_on(key, now);
                    }
                }
            }
        }
    }

    /// A slice of a daemon's state.
    pub fn state_slice(&mut self, key: DaemonKey, offset: u64, result: Result<Bytes, Thrown>, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        let Some(reader) = &mut slot.reader else { return self.departure_slice(key, offset, result, now) };
        let who = reader.reader;
        match result {
            Ok(bytes) => {
                reader.transfer.slice(offset, bytes);
                self.read_on(key, now);
            }
            Err(thrown) => {
                slot.reader = None;
                self.finish_snapshot(key, who, Err(RuntimeError::SnapshotFailed(thrown)), now);
            }
        }
    }

    /// A slice of a daemon's state was looked at a second time: another than before fails the operation.
    pub fn state_checked(&mut self, key: DaemonKey, offset: u64, result: Result<SliceHash, Thrown>, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        let Some(reader) = &mut slot.reader else { return self.departure_checked(key, offset, result, now) };
        let who = reader.reader;
        let checked = result.and_then(|hash| reader.transfer.checked(offset, hash).map_err(changed));
        match checked {
            Ok(()) => self.read_on(key, now),
            Err(thrown) => {
                slot.reader = None;
                self.finish_snapshot(key, who, Err(RuntimeError::SnapshotFailed(thrown)), now);
            }
        }
    }

    fn read_on(&mut self, key: DaemonKey, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        let Some(reader) = &mut slot.reader else { return };
        // Reading a large state takes its time; the daemon is not silent meanwhile.
        slot.host.progress_at = now.instant;
        let who = reader.reader;
        loop {
            match reader.transfer.chunk() {
                Ok(Some(chunk)) => reader.out.extend_from_slice(&chunk.bytes),
                Ok(None) => break,
                Err(error) => {
                    slot.reader = None;
                    return self.finish_snapshot(key, who, Err(invalid(&error)), now);
                }
            }
        }
        let wants: Vec<_> = std::iter::from_fn(|| reader.transfer.want()).collect();
        if reader.transfer.seal().is_some() {
            let snapshot = std::mem::take(&mut reader.out);
            slot.reader = None;
            self.finish_snapshot(key, who, Ok(Some(snapshot.into())), now);
        }
        for want in wants {
            self.work.push(Work::of_state(key, want));
        }
    }

    fn finish_snapshot(
        &mut self,
        key: DaemonKey,
        reader: Reader,
        result: Result<Option<Bytes>, RuntimeError>,
        now: Now,
    ) {
        self.work.push(Work::ReleaseState { daemon: key });
        if let Some(slot) = self.slot_mut(key) {
            slot.host.running = Running::Idle;
            slot.host.progress_at = now.instant;
            if let (Reader::Automatic, Ok(Some(snapshot))) = (reader, &result) {
                slot.host.last_snapshot = Some(snapshot.clone());
            }
        }
        match reader {
            Reader::Caller(ticket) => self.settle(ticket, result.map(Settlement::Snapshot)),
            Reader::Automatic => {
                if let Err(error) = result {
                    tracing::warn!(%error, "an automatic snapshot failed");
                }
            }
            Reader::Nobody => {}
        }
        self.pump(key, now);
    }

    /// A control operation of the daemon's own code did not settle in time.
    pub(super) fn control_timed_out(&mut self, key: DaemonKey, control: Control, now: Now) {
        let Some(slot) = self.slot(key) else { return };
        let error = RuntimeError::CallbackTimeout(slot.host.config.callback_timeout);
        match control {
            Control::Snapshot(ticket) => {
                // The daemon stays busy until its promise settles; only its caller is let go.
                self.settle(ticket, Err(error));
                if let Some(slot) = self.slot_mut(key) {
                    slot.host.running = Running::Control(Control::AbandonedSnapshot);
                    if let Some(reader) = &mut slot.reader {
                        reader.reader = Reader::Nobody;
                    }
                }
            }
            // A move has its own deadline.
            Control::AutoSnapshot | Control::MoveSnapshot(_) | Control::AbandonedSnapshot | Control::Stop(_) => {}
        }
        let stop = self.slot(key).and_then(|slot| slot.host.waiting_stop());
        if let Some(ticket) = stop {
            self.stop_now(key, ticket, now);
        }
    }
}

/// What stands in a snapshot beside the state.
pub(super) fn snapshot_head(host: &DaemonHost, streams: Bytes, ledger: Bytes, now: Now) -> SnapshotHead {
    SnapshotHead {
        kind: host.kind.clone(),
        entity: host.entity(),
        lineage: host.lineage,
        epoch: host.epoch,
        chain: *host.chain.head(),
        horizon: host.horizon.clone(),
        stats: SnapshotStats {
            events_processed: host.stats.events_processed,
            events_emitted: host.stats.events_emitted,
            errors: host.stats.errors,
            snapshots_taken: host.stats.snapshots_taken,
        },
        streams,
        ledger,
        created_at_ns: now.unix_ns,
    }
}

/// The streams of a daemon as they travel.
pub(super) fn encode_streams(inbound: &Inbound) -> Bytes {
    inbound.encode().into()
}

fn changed(error: StateChanged) -> Thrown {
    Thrown { name: "Error".to_owned(), message: error.to_string(), stack: None }
}

fn invalid(error: &SnapshotError) -> RuntimeError {
    RuntimeError::SnapshotInvalid(error.to_string())
}
