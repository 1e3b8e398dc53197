//! Channels of mesh nodes. Readers are named by numbers within their node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh_daemon_core::channel::{
    ArrivedMessage, ChannelConfig, ChannelError, ChannelName, ChannelObserver, Channels, Denial, Feed, OnFailure,
    PublishOptions, PublishResult, ReaderEnd, ReaderId, Visibility,
};
use mesh_daemon_core::identity::{EntityId, NodeId, Revocation};
use mesh_daemon_core::mesh::MeshError;
use napi::bindgen_prelude::{BigInt, Buffer, Env, Object, Uint8Array};
use napi::{Result, Status};
use napi_derive::napi;

use crate::capabilities::{FilterOptions, filter_from};
use crate::convert::{array_from, u64_from};
use crate::env::EnvState;
use crate::error::{ErrorCode, Failure, Field};
use crate::operation::{self, OperationId, Value};
use crate::outbox::Outbox;
use crate::token::revocation;

/// Messages that cross at once.
const BATCH: usize = 64;
/// Bytes of them; one of any size crosses.
const BATCH_BYTES: usize = 1024 * 1024;

/// Tells JavaScript of readers that have something to read.
pub(crate) struct Readers {
    /// Whose readers.
    pub(crate) mesh: u32,
    /// Where they are told of.
    pub(crate) outbox: Arc<Outbox>,
}

impl ChannelObserver for Readers {
    fn readable(&self, reader: ReaderId) {
        self.outbox.readable(self.mesh, reader);
    }
}

impl From<ChannelError> for Failure {
    fn from(error: ChannelError) -> Self {
        let code = match &error {
            ChannelError::Revocation(error) => return Self::from(*error),
            ChannelError::Identity(error) => return Self::from(error.clone()),
            ChannelError::Unauthorized { why, .. } => {
                let kind = match why {
                    Denial::NotAuthorized | Denial::Incapable => "not_authorized",
                    Denial::NotYetValid => "not_yet_valid",
                    Denial::Expired => "expired",
                    Denial::Revoked => "revoked",
                };
                return Self::new(ErrorCode::ChannelUnauthorized, &error).with("kind", Field::Text(kind.into()));
            }
            ChannelError::InvalidArgument(_) => ErrorCode::ChannelInvalidArgument,
            ChannelError::Unknown(_) => ErrorCode::ChannelUnknown,
            ChannelError::Throttled(_) => ErrorCode::ChannelThrottled,
            ChannelError::RateLimited { .. } => ErrorCode::ChannelRateLimited,
            ChannelError::PayloadTooLarge { .. } => ErrorCode::ChannelPayloadTooLarge,
            ChannelError::PeerLost(_) | ChannelError::Left(_) | ChannelError::Moved(_) => ErrorCode::ChannelPeerLost,
            ChannelError::Unsubscribed(_) => ErrorCode::ChannelUnsubscribed,
            ChannelError::Stalled => ErrorCode::ChannelStalled,
            ChannelError::Backpressure(_) => ErrorCode::Backpressure,
            ChannelError::NotConnected(_) => ErrorCode::NotConnected,
            ChannelError::ShutDown => ErrorCode::MeshShutDown,
        };
        Self::new(code, error)
    }
}

/// What a channel is made with; `lib` has checked it.
#[napi(object, object_to_js = false)]
pub struct ChannelOptions {
    /// Its name.
    pub name: String,
    /// Who may see it.
    #[napi(ts_type = "import('./types/channels').ChannelVisibility")]
    pub visibility: String,
    /// Whether every message is acknowledged.
    pub reliable: bool,
    /// Whether subscribers need a token.
    pub require_token: bool,
    /// 32-byte public keys of who may issue them.
    pub token_roots: Vec<Uint8Array>,
    /// Higher goes first.
    pub priority: u8,
    /// Most messages per second.
    pub max_rate_pps: Option<u32>,
    /// What this node must have announced.
    pub publish_caps: Option<FilterOptions>,
    /// What nodes of subscribers must have announced.
    pub subscribe_caps: Option<FilterOptions>,
}

/// How a message is published.
#[napi(object, object_to_js = false)]
pub struct PublishSettings {
    /// Whether it is to be acknowledged.
    pub reliable: bool,
    /// `best_effort`, `fail_fast` or `collect`.
    pub on_failure: String,
    /// To how many peers it may be under way at once.
    pub max_inflight: u32,
}

/// A message of a channel.
#[napi(object, object_from_js = false)]
pub struct ReadMessage {
    /// Its number in the channel.
    pub sequence: BigInt,
    /// What it says.
    pub payload: Buffer,
    /// Unix time of arrival in nanoseconds.
    pub received_at: BigInt,
}

/// What a reader had not read.
#[napi(object, object_from_js = false)]
pub struct ReadBatch<'env> {
    /// Messages, in order.
    pub messages: Vec<ReadMessage>,
    /// Whether there will be no more.
    pub ended: bool,
    /// Why, when that was not asked for.
    #[napi(ts_type = "import('./errors/from-native').ErrorRecord")]
    pub failure: Option<Object<'env>>,
    /// How many messages it did not read in time.
    pub dropped: BigInt,
}

/// Makes a channel, or gives it another configuration.
#[napi]
pub fn channel_register(env: Env, mesh: u32, options: ChannelOptions) -> Result<()> {
    let channels = channels(&env, mesh)?;
    let mut config = ChannelConfig::new(channel_name(&env, &options.name)?);
    config.visibility = match options.visibility.as_str() {
        "subnet-local" => Visibility::SubnetLocal,
        "parent-visible" => Visibility::ParentVisible,
        "exported" => Visibility::Exported,
        "global" => Visibility::Global,
        _ => return Err(napi::Error::new(Status::InvalidArg, "no such visibility")),
    };
    config.reliable = options.reliable;
    config.require_token = options.require_token;
    config.token_roots =
        options.token_roots.iter().map(|root| array_from(root).map(EntityId::from_bytes)).collect::<Result<_>>()?;
    config.priority = options.priority;
    config.max_rate = options.max_rate_pps;
    config.publish_caps = options.publish_caps.map(filter_from).transpose()?.unwrap_or_default();
    config.subscribe_caps = options.subscribe_caps.map(filter_from).transpose()?.unwrap_or_default();
    channels.register(config).map_err(|error| Failure::from(error).throw(&env))
}

/// Takes a channel away; false when there is none of this name.
#[napi]
pub fn channel_unregister(env: Env, mesh: u32, channel: String) -> Result<bool> {
    Ok(channels(&env, mesh)?.unregister(&channel_name(&env, &channel)?))
}

/// Has the node subscribe, or be a member of a queue group; settles when the publisher has agreed.
#[napi]
pub fn channel_subscribe(
    env: Env,
    operation: f64,
    mesh: u32,
    publisher: BigInt,
    channel: String,
    group: Option<String>,
    token: Option<&[u8]>,
) -> Result<()> {
    let channels = channels(&env, mesh)?;
    let told = channels.subscribe(NodeId::new(u64_from(&publisher)?), &feed(&env, &channel, group.as_deref())?, token);
    operation::spawn(&env, operation, async move { told.await.map(|()| Value::Nothing).map_err(Failure::from) })
}

/// Has the node leave a queue group, or without one a channel with all its groups; settles when the publisher knows.
#[napi]
pub fn channel_unsubscribe(
    env: Env,
    operation: f64,
    mesh: u32,
    publisher: BigInt,
    channel: String,
    group: Option<String>,
) -> Result<()> {
    let channels = channels(&env, mesh)?;
    let (publisher, feed) = (NodeId::new(u64_from(&publisher)?), feed(&env, &channel, group.as_deref())?);
    let told = channels.unsubscribe(publisher, &feed);
    operation::spawn(&env, operation, async move { told.await.map(|()| Value::Nothing).map_err(Failure::from) })
}

/// Subscribes with a reader, whose number is given back; settles when the publisher has agreed.
#[napi]
pub fn channel_open(
    env: Env,
    operation: f64,
    mesh: u32,
    publisher: BigInt,
    channel: String,
    group: Option<String>,
    token: Option<&[u8]>,
) -> Result<BigInt> {
    let channels = channels(&env, mesh)?;
    let (reader, told) =
        channels.open_reader(NodeId::new(u64_from(&publisher)?), &feed(&env, &channel, group.as_deref())?, token);
    operation::spawn(&env, operation, async move { told.await.map(|()| Value::Nothing).map_err(Failure::from) })?;
    Ok(reader.0.into())
}

/// Takes what a reader has not read. With its end, of which this tells once, it is forgotten.
#[napi]
pub fn channel_read(env: &Env, mesh: u32, reader: BigInt) -> Result<ReadBatch<'_>> {
    let reader = ReaderId(u64_from(&reader)?);
    let Some(channels) = EnvState::of(env)?.layers.channels(mesh) else {
        return Ok(ReadBatch { messages: Vec::new(), ended: true, failure: None, dropped: 0_u64.into() });
    };
    let messages = channels.read(reader, BATCH, BATCH_BYTES).into_iter().map(ReadMessage::from).collect();
    let dropped = channels.dropped(reader).into();
    let (ended, failure) = match channels.take_end(reader) {
        None => (false, None),
        Some(ReaderEnd::Left) => (true, None),
        Some(ReaderEnd::Failed(error)) => (true, Some(Failure::from(error).into_record(env)?)),
    };
    Ok(ReadBatch { messages, ended, failure, dropped })
}

/// Somebody reads from now on or reads on, or nobody does any more.
#[napi]
pub fn channel_attend(env: Env, mesh: u32, reader: BigInt, attended: bool) -> Result<()> {
    let reader = ReaderId(u64_from(&reader)?);
    if let Some(channels) = EnvState::of(&env)?.layers.channels(mesh) {
        channels.attend(reader, attended);
    }
    Ok(())
}

/// Whether no more messages come for a reader than it has to read.
#[napi]
pub fn channel_is_over(env: Env, mesh: u32, reader: BigInt) -> Result<bool> {
    let reader = ReaderId(u64_from(&reader)?);
    Ok(EnvState::of(&env)?.layers.channels(mesh).is_none_or(|channels| channels.is_over(reader)))
}

/// How many messages a reader did not read in time.
#[napi]
pub fn channel_dropped(env: Env, mesh: u32, reader: BigInt) -> Result<BigInt> {
    let reader = ReaderId(u64_from(&reader)?);
    Ok(EnvState::of(&env)?.layers.channels(mesh).map_or(0, |channels| channels.dropped(reader)).into())
}

/// Ends a reader, and gives how many messages went unread in it; settles when the publisher knows, if it has to. With its node
/// it has ended.
#[napi]
pub fn channel_close(
    env: Env,
    operation: f64,
    mesh: u32,
    reader: BigInt,
    publisher: BigInt,
    channel: String,
    group: Option<String>,
) -> Result<BigInt> {
    let (reader, publisher) = (ReaderId(u64_from(&reader)?), NodeId::new(u64_from(&publisher)?));
    let feed = feed(&env, &channel, group.as_deref())?;
    let channels = EnvState::of(&env)?.layers.channels(mesh);
    let (dropped, told) = channels.map(|channels| channels.close_reader(reader, publisher, &feed)).unzip();
    operation::spawn(&env, operation, async move {
        if let Some(told) = told {
            told.await?;
        }
        Ok(Value::Nothing)
    })?;
    Ok(dropped.unwrap_or_default().into())
}

/// Publishes; settles with the report.
#[napi]
pub fn channel_publish(
    env: Env,
    operation: f64,
    mesh: u32,
    channel: String,
    payload: &[u8],
    settings: PublishSettings,
) -> Result<()> {
    let channels = channels(&env, mesh)?;
    let options = publish_options(&settings)?;
    let (channel, payload) = (channel_name(&env, &channel)?, Bytes::copy_from_slice(payload));
    channels.publish(&channel, &payload, None, options, published(&env, operation)?);
    Ok(())
}

/// How many readers the native part of a node knows of.
#[cfg(feature = "test-hooks")]
#[napi(skip_typescript)]
pub fn test_readers(env: Env, mesh: u32) -> Result<u32> {
    let count = EnvState::of(&env)?.layers.channels(mesh).map_or(0, |channels| channels.readers());
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Enters a revocation; settles when it was handed to every peer to which there is a way.
#[napi]
pub fn channel_revoke(env: Env, operation: f64, mesh: u32, bytes: &[u8]) -> Result<()> {
    let told = channels(&env, mesh)?.revoke(&revocation(&env, bytes)?);
    operation::spawn(&env, operation, async move { told.await.map(|()| Value::Nothing).map_err(Failure::from) })
}

/// The wire forms of the revocations that a node holds.
#[napi]
pub fn channel_revocations(env: Env, mesh: u32) -> Result<Vec<Buffer>> {
    let held =
        channels(&env, mesh)?.look(|machine| machine.revocations().map(Revocation::to_bytes).collect::<Vec<_>>());
    Ok(held.into_iter().map(|bytes| bytes.to_vec().into()).collect())
}

/// Settles an operation with the report of a publication.
pub(crate) fn published(env: &Env, operation: OperationId) -> Result<impl FnOnce(PublishResult) + Send + 'static> {
    let outbox = EnvState::of(env)?.outbox()?;
    Ok(move |result: PublishResult| outbox.settle(operation, result.map(Value::Report).map_err(Failure::from)))
}

/// How a message is published; `lib` has checked it.
pub(crate) fn publish_options(settings: &PublishSettings) -> Result<PublishOptions> {
    Ok(PublishOptions {
        reliable: settings.reliable,
        on_failure: match settings.on_failure.as_str() {
            "best_effort" => OnFailure::BestEffort,
            "fail_fast" => OnFailure::FailFast,
            "collect" => OnFailure::Collect,
            _ => return Err(napi::Error::new(Status::InvalidArg, "no such way to fail")),
        },
        max_inflight: settings.max_inflight,
        all_or_none: false,
    })
}

impl From<ArrivedMessage> for ReadMessage {
    fn from(message: ArrivedMessage) -> Self {
        Self {
            sequence: message.number.into(),
            payload: Vec::from(message.payload).into(),
            received_at: nanos(message.received_at).into(),
        }
    }
}

fn nanos(since: Duration) -> u64 {
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn channels(env: &Env, mesh: u32) -> Result<Channels> {
    EnvState::of(env)?.layers.channels(mesh).ok_or_else(|| Failure::from(MeshError::ShutDown).throw(env))
}

/// A canonical channel name.
pub(crate) fn channel_name(env: &Env, text: &str) -> Result<ChannelName> {
    ChannelName::new(text).map_err(|error| Failure::from(error).throw(env))
}

/// A channel, or a queue group of it.
pub(crate) fn feed(env: &Env, channel: &str, group: Option<&str>) -> Result<Feed> {
    ChannelName::new(channel)
        .and_then(|channel| Feed::new(channel, group))
        .map_err(|error| Failure::from(error).throw(env))
}
