//! What daemons receive from channels, and what they publish.

use bytes::Bytes;
use mesh_daemon_core::channel::{Channels, Feed};
use mesh_daemon_core::identity::NodeId;
use mesh_daemon_core::runtime::{Notice, RuntimeError, SubscriptionNews};
use napi::Result;
use napi::bindgen_prelude::{BigInt, Env, Object};
use napi_derive::napi;

use super::{Entry, entry, origin_from, ticket_from};
use crate::channels::{PublishSettings, channel_name, feed, publish_options, published};
use crate::convert::u64_from;
use crate::error::Failure;

/// A channel that a daemon receives.
#[napi(object, object_from_js = false)]
pub struct SubscribedChannel {
    /// Node id.
    pub publisher: BigInt,
    /// Its name.
    pub channel: String,
    /// The queue group of it.
    pub queue_group: Option<String>,
}

/// Has a daemon subscribe, or be a member of a queue group; `ticket` is settled when the publisher has agreed.
#[napi]
#[allow(clippy::too_many_arguments)] // what is asked for, flat
pub fn runtime_subscribe(
    env: Env,
    runtime: u32,
    ticket: f64,
    origin: BigInt,
    publisher: BigInt,
    channel: String,
    group: Option<String>,
    token: Option<&[u8]>,
) -> Result<()> {
    let (origin, publisher) = (origin_from(&origin)?, NodeId::new(u64_from(&publisher)?));
    let feed = feed(&env, &channel, group.as_deref())?;
    entry(&env, runtime)?
        .try_with(&env, |engine, _| engine.subscribe_channel(ticket_from(ticket), origin, publisher, &feed, token))
}

/// Has a daemon leave a queue group, or without one a channel with all its groups; `ticket` is settled when the publisher knows.
#[napi]
pub fn runtime_unsubscribe(
    env: Env,
    runtime: u32,
    ticket: f64,
    origin: BigInt,
    publisher: BigInt,
    channel: String,
    group: Option<String>,
) -> Result<()> {
    let (origin, publisher) = (origin_from(&origin)?, NodeId::new(u64_from(&publisher)?));
    let feed = feed(&env, &channel, group.as_deref())?;
    entry(&env, runtime)?
        .try_with(&env, |engine, _| engine.unsubscribe_channel(ticket_from(ticket), origin, publisher, &feed))
}

/// What a daemon has subscribed to.
#[napi]
pub fn runtime_subscriptions(env: Env, runtime: u32, origin: BigInt) -> Result<Vec<SubscribedChannel>> {
    let origin = origin_from(&origin)?;
    let all = entry(&env, runtime)?.try_with(&env, |engine, _| engine.subscriptions(origin))?;
    let named = |(publisher, feed): (NodeId, Feed)| SubscribedChannel {
        publisher: publisher.get().into(),
        channel: feed.channel().as_str().to_owned(),
        queue_group: feed.group().map(str::to_owned),
    };
    Ok(all.into_iter().map(named).collect())
}

/// Publishes for a daemon; settles with the report.
#[napi]
pub fn runtime_publish(
    env: Env,
    operation: f64,
    runtime: u32,
    emitter: BigInt,
    channel: String,
    payload: &[u8],
    settings: PublishSettings,
) -> Result<()> {
    let entry = entry(&env, runtime)?;
    let (emitter, channel) = (origin_from(&emitter)?, channel_name(&env, &channel)?);
    let options = publish_options(&settings)?;
    let channels = channels_of(&env, &entry)?;
    let link = entry.runtime.look(|engine| engine.link_of(Some(emitter)));
    channels.publish(&channel, &Bytes::copy_from_slice(payload), Some(&link), options, published(&env, operation)?);
    Ok(())
}

fn channels_of(env: &Env, entry: &Entry) -> Result<Channels> {
    entry.channels.clone().ok_or_else(|| Failure::from(RuntimeError::ShuttingDown).throw(env))
}

/// News of a subscription, for JavaScript.
pub(super) fn describe_subscription<'env>(env: &'env Env, object: &mut Object<'env>, notice: Notice) -> Result<()> {
    let Notice::Subscription { origin, publisher, feed, news } = notice else { return Ok(()) };
    object.set("type", "subscription")?;
    object.set("originHash", BigInt::from(origin.get()))?;
    object.set("publisher", BigInt::from(publisher.get()))?;
    object.set("channel", feed.channel().as_str())?;
    if let Some(group) = feed.group() {
        object.set("queueGroup", group)?;
    }
    match news {
        SubscriptionNews::Ended(error) => object.set("failure", Failure::from(error).into_record(env)?),
        SubscriptionNews::Missed(count) => object.set("missed", BigInt::from(count)),
    }
}
