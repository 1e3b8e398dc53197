//! Frames, and the messages of each subprotocol: whatever is read can be written, and is then read as the same.

use std::fmt::Debug;

use bytes::Bytes;
use mesh_daemon_core::channel::ChannelLedger;
use mesh_daemon_core::directory::Claim;
use mesh_daemon_core::wire::Subprotocol;
use mesh_daemon_core::wire::channels::{ChannelMessage, Fragment};
use mesh_daemon_core::wire::codec;
use mesh_daemon_core::wire::directory::DirectoryMessage;
use mesh_daemon_core::wire::events::EventsMessage;
use mesh_daemon_core::wire::frame::{MAX_PLAINTEXT, lane_byte, read_frame, record_header};
use mesh_daemon_core::wire::migration::MigrationMessage;
use mesh_daemon_core::wire::relay::RelayMessage;
use mesh_daemon_core::wire::session::{HandshakePayload, SessionMessage};

/// Evaluates to whether `$data` is a message of this type. A macro, because the decoded value borrows from its input.
macro_rules! round_trip {
    ($type:ty, $data:expr) => {
        match codec::decode::<$type>($data) {
            Ok(message) => {
                let written = codec::encode(&message);
                same(&codec::decode::<$type>(&written), &Ok(message));
                true
            }
            Err(_) => false,
        }
    };
}

fn same<T: Debug + PartialEq>(read: &T, written: &T) {
    assert_eq!(read, written, "a message is read as it was written");
}

/// A message of the event streams.
pub fn events(data: &[u8]) -> bool {
    round_trip!(EventsMessage<'_>, data)
}

/// A message of a migration.
pub fn migration(data: &[u8]) -> bool {
    round_trip!(MigrationMessage<'_>, data)
}

/// A message of the directory, with the claim inside.
pub fn directory(data: &[u8]) -> bool {
    if let Ok(DirectoryMessage::Answer { claim: Some(claim), .. }) = codec::decode(data) {
        let _ = Claim::decode(claim);
    }
    round_trip!(DirectoryMessage<'_>, data)
}

/// A message of a circuit through a common peer.
pub fn relay(data: &[u8]) -> bool {
    round_trip!(RelayMessage<'_>, data)
}

/// A message of channels, a fragment of a large one, or what a daemon that moves brings along of them.
pub fn channels(data: &[u8]) -> bool {
    let ledger = ChannelLedger::decode(data);
    if let Ok(ledger) = &ledger {
        let written = ledger.encode();
        let read = ChannelLedger::decode(&written).map(|ledger| ledger.encode());
        assert_eq!(read.as_ref(), Ok(&written), "a ledger is read as it was written");
    }
    let fragment = Fragment::decode(&Bytes::copy_from_slice(data));
    if let Ok(fragment) = &fragment {
        let mut written = Vec::new();
        fragment.encode_into(&mut written);
        same(&Fragment::decode(&written.into()), &Ok(fragment.clone()));
    }
    round_trip!(ChannelMessage<'_>, data) | fragment.is_ok() | ledger.is_ok()
}

/// A message of the session itself, or the payload of a handshake.
pub fn session(data: &[u8]) -> bool {
    round_trip!(SessionMessage, data) | round_trip!(HandshakePayload, data)
}

/// The plaintext of a frame, with the messages inside.
pub fn frame(data: &[u8]) -> bool {
    if data.len() > MAX_PLAINTEXT {
        return false;
    }
    let Ok((lane, records)) = read_frame(Bytes::copy_from_slice(data)) else { return false };
    let mut written = vec![lane_byte(lane)];
    for record in records {
        let Ok((id, body)) = record else {
            assert!(data.starts_with(&written), "the records before a broken one are as they were");
            return false;
        };
        let len = u16::try_from(body.len()).expect("a record is within its frame");
        written.extend_from_slice(&record_header(id, len));
        written.extend_from_slice(&body);
        match Subprotocol::from_id(id) {
            Some(Subprotocol::Session) => session(&body),
            Some(Subprotocol::Events) => events(&body),
            Some(Subprotocol::Migration) => migration(&body),
            Some(Subprotocol::Directory) => directory(&body),
            Some(Subprotocol::Membership) => super::membership(&body),
            Some(Subprotocol::Relay) => relay(&body),
            Some(Subprotocol::Channels) => channels(&body),
            Some(Subprotocol::Capabilities) => super::capabilities(&body),
            Some(Subprotocol::Groups) | None => false,
        };
    }
    assert_eq!(written, data, "a frame is its records and nothing else");
    true
}
