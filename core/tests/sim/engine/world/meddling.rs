//! Single messages of migrations that are lost, repeated, held up or forged on the network, and a record of all of them.

use std::time::Duration;

use mesh_daemon_core::identity::Epoch;
use mesh_daemon_core::mesh::Record;
use mesh_daemon_core::wire::directory::DirectoryMessage;
use mesh_daemon_core::wire::events::{EventsMessage, StreamId};
use mesh_daemon_core::wire::{Lane, Subprotocol, codec};

use super::frames::name_of;
use super::{Event, World};

/// What happens to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It never arrives, though the connection holds.
    Lose,
    /// It arrives twice.
    Duplicate,
    /// It arrives so much later, behind others.
    Delay(Duration),
    /// That node sends a copy of it first.
    Forge {
        /// Which node.
        by: usize,
    },
}

/// Meddles with the `nth` message of a name.
#[derive(Clone, Debug)]
pub(crate) struct Meddler {
    pub(crate) message: &'static str,
    pub(crate) nth: usize,
    pub(crate) how: How,
}

/// When a connection is to break: at the `nth` message of this name.
#[derive(Clone, Debug)]
pub(crate) struct Trap {
    pub(crate) message: &'static str,
    pub(crate) nth: usize,
    /// Whether the message still arrives.
    pub(crate) arrives: bool,
    pub(crate) heal_after: Duration,
}

/// A message of a migration as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) name: &'static str,
    pub(crate) lane: Lane,
    pub(crate) record: Record,
}

/// What a message of a stream was seen to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spied {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) stream: StreamId,
    /// Whether it asks to begin again.
    pub(crate) again: bool,
    /// Whether it says that the stream leads nowhere.
    pub(crate) refusal: bool,
    /// Of events: how often they were sent on, the highest epoch that anyone on the way knew, and the first number.
    pub(crate) events: Option<(u8, Epoch, u64)>,
}

/// Puts a message on the network when another one is sent.
#[derive(Clone, Debug)]
pub(crate) struct Intruder {
    /// At the first message of this name.
    pub(crate) at: &'static str,
    pub(crate) message: Sent,
}

impl World {
    /// Records what is sent, and does to it what a test asked for.
    pub(super) fn meddle(
        &mut self,
        (from, to): (usize, usize),
        session: u64,
        lane: Lane,
        records: Vec<Record>,
    ) -> Vec<Record> {
        let mut passed = Vec::with_capacity(records.len());
        for record in records {
            if record.subprotocol == Subprotocol::Directory {
                self.directory_messages += 1;
                let tally = matches!(codec::decode(&record.body), Ok(DirectoryMessage::Tally { .. }));
                self.tallies += usize::from(tally);
            }
            let Some(name) = name_of(&record, lane) else {
                if self.spying && lane == Lane::Fast && record.subprotocol == Subprotocol::Events {
                    let message =
                        codec::decode::<EventsMessage<'_>>(&record.body).expect("nodes send what they can read");
                    let again = matches!(message, EventsMessage::Again { .. });
                    let refusal = matches!(message, EventsMessage::Unknown { .. });
                    let events = if let EventsMessage::Batch { hops, epoch, first, .. } = message {
                        Some((hops, epoch, first))
                    } else {
                        None
                    };
                    self.streams.push(Spied { from, to, stream: *message.stream(), again, refusal, events });
                }
                passed.push(record);
                continue;
            };
            self.sent.push(Sent { from, to, name, lane, record: record.clone() });
            if self.intruder.as_ref().is_some_and(|intruder| intruder.at == name)
                && let Some(Intruder { message, .. }) = self.intruder.take()
            {
                self.meddled += 1;
                self.intrude(&message, message.from);
            }
            if self.mute == Some((from, to)) {
                continue;
            }
            let due = match &mut self.meddler {
                Some(meddler) if meddler.message == name && meddler.nth == 0 => self.meddler.take(),
                Some(meddler) if meddler.message == name => {
                    meddler.nth -= 1;
                    None
                }
                Some(_) | None => None,
            };
            let Some(Meddler { how, .. }) = due else {
                passed.push(record);
                continue;
            };
            self.meddled += 1;
            self.note(&format!("{how:?} {name} from n{from} to n{to}"));
            match how {
                How::Lose => {}
                How::Duplicate => passed.extend([record.clone(), record]),
                How::Delay(time) => {
                    let records = vec![record];
                    self.at(time, Event::Frame { from, to, session, lane, records, counted: false });
                }
                How::Forge { by } => {
                    self.intrude(&Sent { from, to, name, lane, record: record.clone() }, by);
                    passed.push(record);
                }
            }
        }
        passed
    }

    /// Has a node send a message that is not its own, or not due.
    pub(crate) fn intrude(&mut self, message: &Sent, by: usize) {
        let Sent { to, name, lane, ref record, .. } = *message;
        let session = self.sessions.get(&super::pair(by, to)).copied();
        self.note(&format!("n{by} intrudes {name} on n{to}"));
        if let Some(session) = session {
            let records = vec![record.clone()];
            self.at(Duration::ZERO, Event::Frame { from: by, to, session, lane, records, counted: false });
        }
    }
}
