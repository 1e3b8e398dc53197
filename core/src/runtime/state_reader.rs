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

/// A snapshot under way. Who gets it is what the daemon runs ([`Running::Control`]).
#[derive(Debug)]
pub(super) struct StateReader {
    transfer: Transfer,
    out: Vec<u8>,
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
        let Running::Control { control, timed_out } = slot.host.running else { return };
        let nobody_waits = match control {
            Control::MoveSnapshot(_) => {
                slot.host.running = Running::Idle;
                return self.departure_snapshot(key, result, now);
            }
            Control::Snapshot(_) => timed_out,
            Control::AutoSnapshot => false,
            Control::Stop(_) => return,
        };
        let state_len = match result {
            Err(thrown) => return self.finish_snapshot(key, Err(RuntimeError::SnapshotFailed(thrown)), now),
            Ok(None) => return self.finish_snapshot(key, Ok(None), now),
            // What it came to is not read.
            Ok(Some(_)) if nobody_waits => return self.finish_snapshot(key, Ok(None), now),
            Ok(Some(state_len)) => state_len,
        };
        slot.host.stats.snapshots_taken += 1;
        let ledger = self.channel_ledger(key);
        let Some(slot) = self.slot_mut(key) else { return };
        let head = snapshot_head(&slot.host, Bytes::new(), ledger, now);
        match Transfer::new(&head, Some(state_len)) {
            Err(error) => self.finish_snapshot(key, Err(invalid(&error)), now),
            Ok(transfer) => {
                let capacity = usize::try_from(transfer.total()).unwrap_or(0);
                slot.reader = Some(Box::new(StateReader { transfer, out: Vec::with_capacity(capacity) }));
                self.read_on(key, now);
            }
        }
    }

    /// A slice of a daemon's state.
    pub fn state_slice(&mut self, key: DaemonKey, offset: u64, result: Result<Bytes, Thrown>, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        let Some(reader) = &mut slot.reader else { return self.departure_slice(key, offset, result, now) };
        match result {
            Ok(bytes) => {
                reader.transfer.slice(offset, bytes);
                self.read_on(key, now);
            }
            Err(thrown) => self.finish_snapshot(key, Err(RuntimeError::SnapshotFailed(thrown)), now),
        }
    }

    /// A slice of a daemon's state was looked at a second time: another than before fails the operation.
    pub fn state_checked(&mut self, key: DaemonKey, offset: u64, result: Result<SliceHash, Thrown>, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        let Some(reader) = &mut slot.reader else { return self.departure_checked(key, offset, result, now) };
        match result.and_then(|hash| reader.transfer.checked(offset, hash).map_err(changed)) {
            Ok(()) => self.read_on(key, now),
            Err(thrown) => self.finish_snapshot(key, Err(RuntimeError::SnapshotFailed(thrown)), now),
        }
    }

    fn read_on(&mut self, key: DaemonKey, now: Now) {
        let Some(slot) = self.slot_mut(key) else { return };
        let Some(reader) = &mut slot.reader else { return };
        // Reading a large state takes its time; the daemon is not silent meanwhile.
        slot.host.progress_at = now.instant;
        loop {
            match reader.transfer.chunk() {
                Ok(Some(chunk)) => reader.out.extend_from_slice(&chunk.bytes),
                Ok(None) => break,
                Err(error) => return self.finish_snapshot(key, Err(invalid(&error)), now),
            }
        }
        if reader.transfer.seal().is_some() {
            let snapshot = std::mem::take(&mut reader.out);
            return self.finish_snapshot(key, Ok(Some(snapshot.into())), now);
        }
        let wants: Vec<_> = std::iter::from_fn(|| reader.transfer.want()).collect();
        for want in wants {
            self.work.push(Work::of_state(key, want));
        }
    }

    /// A snapshot is over: whoever waits for it gets it, and the daemon goes on.
    fn finish_snapshot(&mut self, key: DaemonKey, result: Result<Option<Bytes>, RuntimeError>, now: Now) {
        self.work.push(Work::ReleaseState { daemon: key });
        let Some(slot) = self.slot_mut(key) else { return };
        slot.reader = None;
        slot.host.progress_at = now.instant;
        if let Running::Control { control, timed_out } = std::mem::replace(&mut slot.host.running, Running::Idle) {
            match (control, result) {
                // It was told that the daemon took too long.
                (Control::Snapshot(_), _) if timed_out => {}
                (Control::Snapshot(ticket), result) => self.settle(ticket, result.map(Settlement::Snapshot)),
                (Control::AutoSnapshot, Ok(Some(snapshot))) => slot.host.last_snapshot = Some(snapshot),
                (Control::AutoSnapshot, Err(error)) => tracing::warn!(%error, "an automatic snapshot failed"),
                (Control::AutoSnapshot, Ok(None)) | (Control::MoveSnapshot(_) | Control::Stop(_), _) => {}
            }
        }
        self.pump(key, now);
    }

    /// A control operation of the daemon's own code did not settle in time. The daemon stays busy until its promise
    /// settles; only its caller is let go.
    pub(super) fn control_timed_out(&mut self, key: DaemonKey, control: Control, now: Now) {
        let Some(slot) = self.slot(key) else { return };
        let error = RuntimeError::CallbackTimeout(slot.host.config.callback_timeout);
        match control {
            Control::Snapshot(ticket) => self.settle(ticket, Err(error)),
            // Nobody waits for the first, and a move has its own deadline.
            Control::AutoSnapshot | Control::MoveSnapshot(_) | Control::Stop(_) => {}
        }
        self.stop_late(key, now);
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
