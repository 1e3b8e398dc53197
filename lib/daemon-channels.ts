/** What daemons receive from channels, and what they publish. */

import { native } from './binding';
import { readSubscribe, type Publishing } from './channels';
import { readChannelName } from './channel-config';
import type { Dispatcher } from './dispatcher';
import { errorFromNative } from './errors/from-native';
import { ChannelError } from './errors/index';
import { operation } from './operations';
import type { SubscriptionNotice } from './runtime-work';
import type { PublishReport, SubscribeOptions } from './types/channels';
import type { DaemonSubscription, DaemonSubscriptionEvent } from './types/runtime';
import type { WaitOptions } from './types/values';
import {
  abortable,
  channelArea,
  daemonArea,
  options as readOptions,
  signal as readSignal,
  u64,
} from './validate/index';

/** Gives the dispatcher, or throws when the runtime is shut down. */
type Live = () => Dispatcher;

/** Has a daemon of a runtime subscribe. */
export async function subscribeDaemon(
  live: Live,
  originHash: bigint,
  publisher: bigint,
  channel: string,
  options: SubscribeOptions | undefined,
): Promise<void> {
  const origin = u64(daemonArea, 'originHash', originHash);
  const asked = readSubscribe(publisher, channel, options);
  const dispatcher = live();
  await abortable(asked.signal, () =>
    settledBy(dispatcher, origin, (ticket) => {
      native.runtimeSubscribe(dispatcher.id, ticket, origin, asked.publisher, asked.channel, asked.token);
    }),
  );
}

/** Has a daemon of a runtime leave a channel. */
export async function unsubscribeDaemon(
  live: Live,
  originHash: bigint,
  publisher: bigint,
  channel: string,
  options: WaitOptions | undefined,
): Promise<void> {
  const origin = u64(daemonArea, 'originHash', originHash);
  const from = u64(channelArea, 'publisher', publisher);
  const name = readChannelName('channel', channel);
  const read = readOptions(channelArea, 'options', options, { signal: true });
  const signal = readSignal(channelArea, 'options.signal', read.signal);
  const dispatcher = live();
  await abortable(signal, () =>
    settledBy(dispatcher, origin, (ticket) => {
      native.runtimeUnsubscribe(dispatcher.id, ticket, origin, from, name);
    }),
  );
}

/** What a daemon of a runtime has subscribed to. */
export function subscriptionsOf(live: Live, originHash: bigint): DaemonSubscription[] {
  const origin = u64(daemonArea, 'originHash', originHash);
  return native.runtimeSubscriptions(live().id, origin);
}

/** Publishes for a daemon. */
export async function publishAs(runtime: number, emitter: bigint, asked: Publishing): Promise<PublishReport> {
  return await operation<PublishReport>(
    (op) => {
      native.runtimePublish(op, runtime, emitter, asked.name, asked.content, asked.settings);
    },
    { signal: asked.signal },
  );
}

/** What listeners are told. */
export function subscriptionEvent(notice: SubscriptionNotice): DaemonSubscriptionEvent {
  const { originHash, publisher, channel, failure, missed } = notice;
  if (failure === undefined) return { type: 'gap', originHash, publisher, channel, missed: missed ?? 0n };
  const cause = errorFromNative(failure);
  const error = cause instanceof ChannelError ? cause : new ChannelError(cause.message, { cause });
  return { type: 'ended', originHash, publisher, channel, error };
}

function settledBy(dispatcher: Dispatcher, origin: bigint, begin: (ticket: number) => void): Promise<undefined> {
  return dispatcher.start(origin, begin, () => undefined);
}
