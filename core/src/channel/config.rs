//! What a channel is set up with.

use std::fmt;
use std::sync::Arc;

use super::ChannelError;
use crate::capability::{CapabilityFilter, Subnet};
use crate::identity::{EntityId, channel_hash};

/// A canonical channel name with its hash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName {
    text: Arc<str>,
    hash: u64,
}

/// The hash of a channel's name, which stands for it in tokens and on the wire. Within one publisher it is unique: a name
/// that collides with another is refused at registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u64);

/// A channel of this node.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// Its name.
    pub name: ChannelName,
    /// Who may see it.
    pub visibility: Visibility,
    /// Every message is acknowledged and repeated, whatever its publisher asks for.
    pub reliable: bool,
    /// Whether subscribers must present a token. Roots alone turn this on.
    pub require_token: bool,
    /// Who may issue tokens for it. Without any, only this node.
    pub token_roots: Vec<EntityId>,
    /// Higher goes first to each peer.
    pub priority: u8,
    /// Most messages per second.
    pub max_rate: Option<u32>,
    /// What this node must have announced to publish on it.
    pub publish_caps: CapabilityFilter,
    /// What the nodes of subscribers must have announced.
    pub subscribe_caps: CapabilityFilter,
}

/// Who may see a channel, by the subnet of the subscriber's node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// Only nodes of the same subnet.
    SubnetLocal,
    /// Nodes of the same subnet, or of one that contains it.
    ParentVisible,
    /// Nobody, until there is an export.
    Exported,
    /// Every node.
    #[default]
    Global,
}

impl ChannelName {
    /// Checks that the name is canonical.
    pub fn new(text: &str) -> Result<Self, ChannelError> {
        let hash = channel_hash(text).map_err(|error| ChannelError::InvalidArgument(error.to_string()))?;
        Ok(Self { text: text.into(), hash })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name, shared.
    pub fn shared(&self) -> Arc<str> {
        self.text.clone()
    }

    /// What stands for it.
    pub const fn id(&self) -> ChannelId {
        ChannelId(self.hash)
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl ChannelConfig {
    /// A channel that everybody may subscribe to.
    pub const fn new(name: ChannelName) -> Self {
        Self {
            name,
            visibility: Visibility::Global,
            reliable: false,
            require_token: false,
            token_roots: Vec::new(),
            priority: 0,
            max_rate: None,
            publish_caps: CapabilityFilter::EMPTY,
            subscribe_caps: CapabilityFilter::EMPTY,
        }
    }

    /// Whether anything is asked of subscribers that they may fail.
    pub fn is_guarded(&self) -> bool {
        self.is_gated() || !self.subscribe_caps.is_empty() || self.visibility != Visibility::Global
    }

    /// Whether subscribers need a token.
    pub const fn is_gated(&self) -> bool {
        self.require_token || !self.token_roots.is_empty()
    }
}

impl Visibility {
    /// Whether a channel of a node at `publisher` may be seen from `subscriber`.
    pub fn admits(self, publisher: &Subnet, subscriber: &Subnet) -> bool {
        match self {
            Self::SubnetLocal => publisher == subscriber,
            Self::ParentVisible => publisher == subscriber || publisher.is_within(subscriber),
            Self::Exported => false,
            Self::Global => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hazard_45_visibility_by_subnet() {
        let at = |levels: &[u8]| Subnet::new(levels).expect("1 to 4 levels");
        let publisher = at(&[1, 2]);
        for (subscriber, local, parent) in [
            (at(&[1, 2]), true, true),
            (at(&[1]), false, true),
            (at(&[1, 2, 3]), false, false),
            (at(&[1, 3]), false, false),
            (at(&[2]), false, false),
            (at(&[]), false, false),
        ] {
            assert_eq!(Visibility::SubnetLocal.admits(&publisher, &subscriber), local, "{subscriber:?}");
            assert_eq!(Visibility::ParentVisible.admits(&publisher, &subscriber), parent, "{subscriber:?}");
            assert!(Visibility::Global.admits(&publisher, &subscriber));
            assert!(!Visibility::Exported.admits(&publisher, &subscriber));
        }
        // Nodes without a subnet match each other.
        assert!(Visibility::SubnetLocal.admits(&at(&[]), &at(&[])));
        assert!(Visibility::ParentVisible.admits(&at(&[]), &at(&[])));
        assert!(!Visibility::SubnetLocal.admits(&at(&[]), &at(&[1])));
    }
}
