/** What daemons receive from channels, and what they publish. */

import { native } from './binding';
import { readSubscribe, readUnsubscribe, type Publishing } from './channels';
import type { Dispatcher } from './dispatcher';
import { errorFromNative } from './errors/from-native';
import { operation } from './operations';
import type { SubscriptionNotice } from './runtime-work';
import type { PublishReport, SubscribeOptions, UnsubscribeOptions } from './types/channels';
import type { DaemonSubscription, DaemonSubscriptionEvent } from './types/runtime';
import { abortable, daemonArea, u64 } from './validate/index';

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
  const { publisher: from, channel: name, queueGroup, token, signal } = readSubscribe(publisher, channel, options);
  const dispatcher = live();
  await settledBy(dispatcher, origin, signal, (ticket) => {
    native.runtimeSubscribe(dispatcher.id, ticket, origin, from, name, queueGroup, token);
  });
}

/** Has a daemon of a runtime leave a channel. */
export async function unsubscribeDaemon(
  live: Live,
  originHash: bigint,
  publisher: bigint,
  channel: string,
  options: UnsubscribeOptions | undefined,
): Promise<void> {
  const origin = u64(daemonArea, 'originHash', originHash);
  const { publisher: from, channel: name, queueGroup, signal } = readUnsubscribe(publisher, channel, options);
  const dispatcher = live();
  await settledBy(dispatcher, origin, signal, (ticket) => {
    native.runtimeUnsubscribe(dispatcher.id, ticket, origin, from, name, queueGroup);
  });
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
  const { originHash, publisher, channel, queueGroup, failure, missed } = notice;
  const of = { originHash, publisher, channel, ...(queueGroup === undefined ? {} : { queueGroup }) };
  if (failure === undefined) return { type: 'gap', ...of, missed: missed ?? 0n };
  const error = errorFromNative(failure);
  return { type: 'ended', ...of, error };
}

/** Waits for what `begin` starts, until the signal says otherwise: it goes on then, and nobody is told. */
function settledBy(
  dispatcher: Dispatcher,
  origin: bigint,
  signal: AbortSignal | undefined,
  begin: (ticket: number) => void,
): Promise<undefined> {
  let ticket = -1;
  return abortable(
    signal,
    () =>
      dispatcher.start(
        origin,
        (number) => {
          ticket = number;
          begin(number);
        },
        () => undefined,
      ),
    () => {
      dispatcher.tickets.take(ticket);
    },
  );
}
