//! Frames on the simulated network, and what is recognised in them.

use mesh_daemon_core::mesh::{Record, RecordSink};
use mesh_daemon_core::wire::migration::MigrationMessage;
use mesh_daemon_core::wire::{Lane, Subprotocol, codec};

/// Room for one frame.
pub(super) struct Sink {
    pub(super) left: usize,
    pub(super) records: Vec<Record>,
}

impl RecordSink for Sink {
    fn room(&self) -> usize {
        self.left.saturating_sub(4)
    }

    fn record(&mut self, subprotocol: Subprotocol, encode: &mut dyn FnMut(&mut Vec<u8>)) -> Option<usize> {
        let mut body = Vec::new();
        encode(&mut body);
        if body.len() > self.room() {
            return None;
        }
        self.left -= body.len() + 4;
        let len = body.len();
        self.records.push(Record { subprotocol, body: body.into() });
        Some(len)
    }
}

/// The name of a message of migrations that is whole in a record.
pub(super) fn name_of(record: &Record, lane: Lane) -> Option<&'static str> {
    let body = match (record.subprotocol, lane) {
        (Subprotocol::Migration, _) => record.body.clone(),
        // A message in fragments: the first one begins with its length and its subprotocol.
        (Subprotocol::Events, Lane::Bulk) => {
            let header = u64::from_le_bytes(record.body.get(..8)?.try_into().ok()?);
            let whole = header & ((1 << 48) - 1) == record.body.len() as u64 - 8;
            if !whole || header >> 48 != u64::from(Subprotocol::Migration.id()) {
                return None;
            }
            record.body.slice(8..)
        }
        _ => return None,
    };
    codec::decode::<MigrationMessage<'_>>(&body).ok().map(|message| message.name())
}
