//! What a node says that it can do, with its signature.

use std::time::Duration;

use minicbor::{Decode, Encode};

use super::set::{CapabilitySet, ListSpace, OneSet};
use super::subnet::Subnet;
use crate::identity::{EntityId, EntityKeypair, IdentityError, Incarnation, Signature};
use crate::wire::capabilities::CapabilityMessage;
use crate::wire::codec::{self, DecodeError};

/// Most bytes of an announcement, signature not counted: it fits into one record.
pub const MAX_ANNOUNCEMENT: usize = 32 * 1024;
/// No announcement is believed for longer.
pub const MAX_TTL: Duration = Duration::from_secs(3600);
const LABEL: &[u8] = b"mesh-daemon capabilities v1";

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map, context_bound = "ListSpace")]
pub struct Announcement {
    /// Its public key.
    #[n(0)]
    pub entity: EntityId,
    /// Its life.
    #[n(1)]
    pub life: Incarnation,
    /// Counts the announcements of this life.
    #[n(2)]
    pub version: u64,
    /// When it was said, in unix milliseconds by its own clock: for whoever looks at it later, nothing is decided by it.
    #[n(3)]
    pub issued_ms: u64,
    /// How long it counts from its arrival on, in milliseconds.
    #[n(4)]
    pub ttl_ms: u64,
    /// Where it is.
    #[n(5)]
    pub subnet: Subnet,
    /// What it can do.
    #[n(6)]
    pub set: CapabilitySet,
}

/// An announcement that is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnnouncementError {
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// It is too large.
    #[error("an announcement of {0} bytes, the most is {MAX_ANNOUNCEMENT}")]
    TooLarge(usize),
    /// The signature does not hold.
    #[error("an announcement whose signature does not verify")]
    BadSignature,
    /// It is not of the node whose session it came in, or of another life of that.
    #[error("an announcement of another node, or of another life of this one")]
    OtherNode,
    /// A newer one is known.
    #[error("an announcement that is older than the one that is known")]
    Older,
    /// There is no room for what yet another node says.
    #[error("more announcing nodes than are kept")]
    Full,
}

/// An announcement as it was read; nobody may have said it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unverified<'b> {
    says: Announcement,
    body: &'b [u8],
    signature: Signature,
}

impl Announcement {
    /// How long it counts.
    pub fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms).min(MAX_TTL)
    }

    /// Whether this replaces another one of the same node.
    pub fn is_newer_than(&self, life: Incarnation, version: u64) -> bool {
        (self.life, self.version) > (life, version)
    }

    /// The message that says so, signed with the node's own key.
    pub fn seal(&self, keypair: &EntityKeypair) -> Result<Vec<u8>, AnnouncementError> {
        let body = codec::encode(self);
        if body.len() > MAX_ANNOUNCEMENT {
            return Err(AnnouncementError::TooLarge(body.len()));
        }
        // A list that is too long could be read by nobody.
        codec::decode_with::<_, Self>(&body, &mut OneSet::default())?;
        let signature = keypair.sign(&signed(&body)).map_err(|_: IdentityError| AnnouncementError::BadSignature)?;
        Ok(codec::encode(&CapabilityMessage::Announce { body: &body, signature: *signature.as_bytes() }))
    }
}

impl<'b> Unverified<'b> {
    /// Reads a message of the subprotocol.
    pub fn read(message: &'b [u8]) -> Result<Self, AnnouncementError> {
        let CapabilityMessage::Announce { body, signature } = codec::decode(message)?;
        if body.len() > MAX_ANNOUNCEMENT {
            return Err(AnnouncementError::TooLarge(body.len()));
        }
        Ok(Self {
            says: codec::decode_with(body, &mut OneSet::default())?,
            body,
            signature: Signature::from_bytes(signature),
        })
    }

    /// What it says, before anything is known about who did.
    pub const fn says(&self) -> &Announcement {
        &self.says
    }

    /// Whether the node itself has said so. Fields that this version does not know are signed like all others.
    pub fn verify(self) -> Result<Announcement, AnnouncementError> {
        let verified = self.says.entity.verify(&signed(self.body), &self.signature);
        verified.map_err(|_: IdentityError| AnnouncementError::BadSignature)?;
        Ok(self.says)
    }
}

fn signed(body: &[u8]) -> Vec<u8> {
    [LABEL, body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::{Accelerator, Gpu, Hardware, MAX_ITEMS, Model, NamedVersion, Software, Tool};

    fn announcement(keypair: &EntityKeypair) -> Announcement {
        Announcement {
            entity: keypair.entity_id(),
            life: Incarnation { started_at_ms: 1, salt: 2 },
            version: 3,
            issued_ms: 4,
            ttl_ms: 5,
            subnet: Subnet::new(&[1, 2]).expect("two levels"),
            set: CapabilitySet { tags: vec!["gpu".to_owned()], ..CapabilitySet::default() },
        }
    }

    #[test]
    fn hazard_47_nobody_can_alter_what_another_node_announces() {
        let keypair = EntityKeypair::generate();
        let announcement = announcement(&keypair);
        let message = announcement.seal(&keypair).expect("it has the key");
        let read = Unverified::read(&message).expect("as it was written");
        assert_eq!(read.verify(), Ok(announcement.clone()));
        for at in 0..message.len() {
            let mut altered = message.clone();
            altered[at] ^= 1;
            assert_ne!(Unverified::read(&altered).and_then(Unverified::verify), Ok(announcement.clone()), "byte {at}");
        }
        let forged = announcement.seal(&EntityKeypair::generate()).expect("it has a key");
        let verified = Unverified::read(&forged).and_then(Unverified::verify);
        assert_eq!(verified, Err(AnnouncementError::BadSignature), "the key of another");
        // The same bytes under another label are no announcement.
        let body = codec::encode(&announcement);
        let signature = *keypair.sign(&body).expect("it has the key").as_bytes();
        let unlabelled = codec::encode(&CapabilityMessage::Announce { body: &body, signature });
        let verified = Unverified::read(&unlabelled).and_then(Unverified::verify);
        assert_eq!(verified, Err(AnnouncementError::BadSignature));
    }

    #[test]
    fn an_announcement_is_bounded_and_nothing_may_follow_it() {
        let keypair = EntityKeypair::generate();
        let mut large = announcement(&keypair);
        large.set.tags = vec!["x".repeat(MAX_ANNOUNCEMENT)];
        assert!(matches!(large.seal(&keypair), Err(AnnouncementError::TooLarge(_))));
        let body = vec![0; MAX_ANNOUNCEMENT + 1];
        let message = codec::encode(&CapabilityMessage::Announce { body: &body, signature: [0; 64] });
        assert_eq!(Unverified::read(&message), Err(AnnouncementError::TooLarge(MAX_ANNOUNCEMENT + 1)));
        let mut body = codec::encode(&announcement(&keypair));
        body.push(0);
        let message = codec::encode(&CapabilityMessage::Announce { body: &body, signature: [0; 64] });
        let trailing = AnnouncementError::Malformed(DecodeError::TrailingBytes(1));
        assert_eq!(Unverified::read(&message), Err(trailing));
    }

    #[test]
    fn what_takes_little_on_the_wire_takes_little_in_memory_too() {
        let keypair = EntityKeypair::generate();
        let with = |models: usize, modalities: usize| {
            let model = Model { modalities: vec![String::new(); modalities], ..Model::default() };
            let set = CapabilitySet { models: vec![model; models], ..CapabilitySet::default() };
            Announcement { set, ..announcement(&keypair) }
        };
        // As many bytes as are allowed, of which nearly all are an element of their own.
        let many = with(100, MAX_ITEMS);
        assert!(codec::encode(&many).len() < MAX_ANNOUNCEMENT);
        assert!(matches!(many.seal(&keypair), Err(AnnouncementError::Malformed(_))));
        let body = codec::encode(&many);
        let message = codec::encode(&CapabilityMessage::Announce { body: &body, signature: [0; 64] });
        assert!(matches!(Unverified::read(&message), Err(AnnouncementError::Malformed(_))));
        // All lists that are in no other one may be full, and the others hold some thousand.
        let full = CapabilitySet {
            models: with(MAX_ITEMS, 8).set.models,
            tools: vec![Tool::default(); MAX_ITEMS],
            tags: vec![String::new(); MAX_ITEMS],
            metadata: vec![NamedVersion::default(); MAX_ITEMS],
            hardware: Some(Hardware {
                additional_gpus: vec![Gpu::default(); MAX_ITEMS],
                accelerators: vec![Accelerator::default(); MAX_ITEMS],
                ..Hardware::default()
            }),
            software: Some(Software {
                runtimes: vec![NamedVersion::default(); MAX_ITEMS],
                frameworks: vec![NamedVersion::default(); MAX_ITEMS],
                drivers: vec![NamedVersion::default(); MAX_ITEMS],
                ..Software::default()
            }),
            limits: None,
        };
        let message = Announcement { set: full, ..announcement(&keypair) }.seal(&keypair).expect("within the bounds");
        assert!(Unverified::read(&message).is_ok());
    }

    #[test]
    fn a_newer_life_counts_more_than_a_higher_version() {
        let one = announcement(&EntityKeypair::generate());
        let (life, later) = (one.life, Incarnation { started_at_ms: 2, salt: 0 });
        assert!(one.is_newer_than(life, 2));
        assert!(!one.is_newer_than(life, 3));
        assert!(!one.is_newer_than(later, 0));
        assert!(Announcement { life: later, version: 0, ..one }.is_newer_than(life, 9));
    }
}
