//! What a daemon has to do with channels, as it travels in its snapshot and when it is handed over.

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::joining::MAX_PRESENTED;
use super::machine::Position;
use super::{ChannelConfig, ChannelError, ChannelName, DaemonSubscription, Feed, Visibility};
use crate::capability::CapabilityFilter;
use crate::identity::{EntityId, Incarnation, NodeId};
use crate::wire::codec;

/// Subscriptions of a daemon with how far it has taken messages, and the channel that its outputs go to.
#[derive(Clone, Debug, Default)]
pub struct ChannelLedger {
    /// What it receives.
    pub subscriptions: Vec<DaemonSubscription>,
    /// How the channel of its outputs was made.
    pub output: Option<ChannelConfig>,
}

/// The CBOR form. Numbers are never used again for something else.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Wire<'b> {
    #[b(0)]
    subscriptions: Vec<WireSubscription<'b>>,
    #[b(1)]
    output: Option<WireConfig<'b>>,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct WireSubscription<'b> {
    #[n(0)]
    publisher: NodeId,
    #[b(1)]
    channel: &'b str,
    #[n(2)]
    incarnation: Option<Incarnation>,
    #[n(3)]
    number: u64,
    #[b(4)]
    #[cbor(with = "minicbor::bytes")]
    token: Option<&'b [u8]>,
    #[b(5)]
    group: Option<&'b str>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct WireConfig<'b> {
    #[b(0)]
    name: &'b str,
    #[n(1)]
    visibility: WireVisibility,
    #[n(2)]
    reliable: bool,
    #[n(3)]
    require_token: bool,
    #[n(4)]
    token_roots: Vec<EntityId>,
    #[n(5)]
    priority: u8,
    #[n(6)]
    max_rate: Option<u32>,
    #[n(7)]
    publish_caps: Option<CapabilityFilter>,
    #[n(8)]
    subscribe_caps: Option<CapabilityFilter>,
}

#[derive(Clone, Copy, Encode, Decode)]
#[cbor(index_only)]
enum WireVisibility {
    #[n(0)]
    SubnetLocal,
    #[n(1)]
    ParentVisible,
    #[n(2)]
    Exported,
    #[n(3)]
    Global,
}

impl ChannelLedger {
    /// The encoded form; of nothing it is empty.
    pub fn encode(&self) -> Bytes {
        if self.subscriptions.is_empty() && self.output.is_none() {
            return Bytes::new();
        }
        let subscriptions = self.subscriptions.iter().map(|subscription| WireSubscription {
            publisher: subscription.publisher,
            channel: subscription.feed.channel().as_str(),
            incarnation: subscription.position.map(|position| position.incarnation),
            number: subscription.position.map_or(0, |position| position.number),
            token: subscription.token.as_deref(),
            group: subscription.feed.group(),
        });
        let output = self.output.as_ref().map(|config| WireConfig {
            name: config.name.as_str(),
            visibility: match config.visibility {
                Visibility::SubnetLocal => WireVisibility::SubnetLocal,
                Visibility::ParentVisible => WireVisibility::ParentVisible,
                Visibility::Exported => WireVisibility::Exported,
                Visibility::Global => WireVisibility::Global,
            },
            reliable: config.reliable,
            require_token: config.require_token,
            token_roots: config.token_roots.clone(),
            priority: config.priority,
            max_rate: config.max_rate,
            publish_caps: Some(&config.publish_caps).filter(|caps| !caps.is_empty()).cloned(),
            subscribe_caps: Some(&config.subscribe_caps).filter(|caps| !caps.is_empty()).cloned(),
        });
        codec::encode(&Wire { subscriptions: subscriptions.collect(), output }).into()
    }

    /// Reads what [`encode`](Self::encode) gave.
    pub fn decode(bytes: &[u8]) -> Result<Self, ChannelError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let malformed = |error: codec::DecodeError| ChannelError::InvalidArgument(error.to_string());
        let wire: Wire<'_> = codec::decode(bytes).map_err(malformed)?;
        let subscriptions = wire.subscriptions.into_iter().map(|subscription| {
            let position = |incarnation| Position { incarnation, number: subscription.number };
            if let Some(size) = subscription.token.map(<[u8]>::len).filter(|size| *size > MAX_PRESENTED) {
                return Err(ChannelError::InvalidArgument(format!(
                    "a token of {size} bytes, the most is {MAX_PRESENTED}"
                )));
            }
            Ok(DaemonSubscription {
                publisher: subscription.publisher,
                feed: Feed::new(ChannelName::new(subscription.channel)?, subscription.group)?,
                accepted: false,
                position: subscription.incarnation.map(position),
                token: subscription.token.map(Bytes::copy_from_slice),
            })
        });
        let output = wire.output.map(|config| {
            Ok(ChannelConfig {
                visibility: match config.visibility {
                    WireVisibility::SubnetLocal => Visibility::SubnetLocal,
                    WireVisibility::ParentVisible => Visibility::ParentVisible,
                    WireVisibility::Exported => Visibility::Exported,
                    WireVisibility::Global => Visibility::Global,
                },
                reliable: config.reliable,
                require_token: config.require_token,
                token_roots: config.token_roots,
                priority: config.priority,
                max_rate: config.max_rate,
                publish_caps: config.publish_caps.unwrap_or_default(),
                subscribe_caps: config.subscribe_caps.unwrap_or_default(),
                ..ChannelConfig::new(ChannelName::new(config.name)?)
            })
        });
        Ok(Self { subscriptions: subscriptions.collect::<Result<_, _>>()?, output: output.transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirement_56_a_ledger_comes_back_as_it_was_and_an_empty_one_costs_no_bytes() {
        assert!(ChannelLedger::default().encode().is_empty());
        let incarnation = Incarnation { started_at_ms: 3, salt: 4 };
        let subscription = DaemonSubscription {
            publisher: NodeId::new(7),
            feed: Feed::all(ChannelName::new("a/b").expect("canonical")),
            accepted: false,
            position: Some(Position { incarnation, number: 9 }),
            token: Some(Bytes::from_static(b"token")),
        };
        let mut config = ChannelConfig::new(ChannelName::new("out").expect("canonical"));
        config.visibility = Visibility::SubnetLocal;
        config.token_roots = vec![EntityId::from_bytes([1; 32])];
        config.max_rate = Some(5);
        config.subscribe_caps = CapabilityFilter { require_gpu: true, ..CapabilityFilter::EMPTY };
        let fresh = DaemonSubscription { position: None, token: None, ..subscription.clone() };
        let feed = Feed::new(subscription.feed.channel().clone(), Some("workers")).expect("canonical");
        let in_group = DaemonSubscription { feed, ..subscription.clone() };
        let ledger = ChannelLedger { subscriptions: vec![subscription, fresh, in_group], output: Some(config) };
        let bytes = ledger.encode();
        let back = ChannelLedger::decode(&bytes).expect("readable");
        assert_eq!(back.subscriptions, ledger.subscriptions);
        assert_eq!(back.encode(), bytes);
        let output = back.output.expect("as it was");
        assert!(output.subscribe_caps.require_gpu && output.publish_caps.is_empty());
        assert!(ChannelLedger::decode(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn requirement_123_a_token_that_no_publisher_could_be_shown_is_refused_with_the_ledger() {
        let ledger = |len| ChannelLedger {
            subscriptions: vec![DaemonSubscription {
                publisher: NodeId::new(7),
                feed: Feed::all(ChannelName::new("a").expect("canonical")),
                accepted: true,
                position: None,
                token: Some(vec![0; len].into()),
            }],
            output: None,
        };
        assert!(ChannelLedger::decode(&ledger(MAX_PRESENTED).encode()).is_ok());
        let refused = ChannelLedger::decode(&ledger(MAX_PRESENTED + 1).encode());
        assert!(matches!(refused, Err(ChannelError::InvalidArgument(_))), "{refused:?}");
    }
}
