/** Channels of a node: what is published, and what is subscribed to. */

import { native } from './binding';
import { readChannelConfig, readChannelName } from './channel-config';
import { queueGroup } from './channel-name';
import type { PublishSettings } from './native';
import { operation } from './operations';
import { ChannelSubscription } from './subscription';
import { readTokenLike } from './token';
import type {
  ChannelConfig,
  PublishOptions,
  PublishReport,
  SubscribeOptions,
  Subscription,
  UnsubscribeOptions,
} from './types/channels';
import {
  bytes,
  channelArea,
  choice,
  integer,
  options as readOptions,
  signal as readSignal,
  u64,
} from './validate/index';

/** Throws when the node was shut down. */
type CheckLive = () => void;

/** Makes a channel of a node. */
export function registerChannel(mesh: number, config: ChannelConfig, checkLive: CheckLive): void {
  const read = readChannelConfig(config);
  checkLive();
  native.channelRegister(mesh, read);
}

/** Takes a channel of a node away. */
export function unregisterChannel(mesh: number, name: string, checkLive: CheckLive): boolean {
  const read = readChannelName('name', name);
  checkLive();
  return native.channelUnregister(mesh, read);
}

/** Subscribes a node. */
export async function subscribe(
  mesh: number,
  publisher: bigint,
  channel: string,
  options: SubscribeOptions | undefined,
  checkLive: CheckLive,
): Promise<void> {
  const asked = readSubscribe(publisher, channel, options);
  checkLive();
  await operation<undefined>(
    (op) => {
      native.channelSubscribe(op, mesh, asked.publisher, asked.channel, asked.queueGroup, asked.token);
    },
    { signal: asked.signal },
  );
}

/** Ends the subscription of a node. */
export async function unsubscribe(
  mesh: number,
  publisher: bigint,
  channel: string,
  options: UnsubscribeOptions | undefined,
  checkLive: CheckLive,
): Promise<void> {
  const asked = readUnsubscribe(publisher, channel, options);
  checkLive();
  await operation<undefined>(
    (op) => {
      native.channelUnsubscribe(op, mesh, asked.publisher, asked.channel, asked.queueGroup);
    },
    { signal: asked.signal },
  );
}

/** Publishes on a channel of a node. */
export async function publish(
  mesh: number,
  channel: string,
  payload: Uint8Array,
  options: PublishOptions | undefined,
  checkLive: CheckLive,
): Promise<PublishReport> {
  const { name, content, settings, signal } = readPublish(channel, payload, options);
  checkLive();
  return await operation<PublishReport>(
    (op) => {
      native.channelPublish(op, mesh, name, content, settings);
    },
    { signal },
  );
}

/** What is to be published, checked. */
export interface Publishing {
  readonly name: string;
  readonly content: Uint8Array;
  readonly settings: PublishSettings;
  readonly signal: AbortSignal | undefined;
}

export function readPublish(channel: string, payload: Uint8Array, options: PublishOptions | undefined): Publishing {
  const name = readChannelName('channel', channel);
  const content = bytes(channelArea, 'payload', payload);
  const read = readOptions(channelArea, 'options', options, {
    reliability: true,
    onFailure: true,
    maxInflight: true,
    signal: true,
  });
  // `null` is no default.
  const { reliability = 'fire_and_forget', onFailure = 'best_effort', maxInflight = 32 } = read;
  const settings: PublishSettings = {
    reliable: choice(channelArea, 'options.reliability', reliability, ['reliable', 'fire_and_forget']) === 'reliable',
    onFailure: choice(channelArea, 'options.onFailure', onFailure, ['best_effort', 'fail_fast', 'collect']),
    maxInflight: integer(channelArea, 'options.maxInflight', maxInflight, { min: 1 }),
  };
  return { name, content, settings, signal: readSignal(channelArea, 'options.signal', read.signal) };
}

/** Subscribes a node and reads. */
export function openSubscription(
  mesh: number,
  publisher: bigint,
  channel: string,
  options: SubscribeOptions | undefined,
  checkLive: CheckLive,
): Subscription {
  const asked = readSubscribe(publisher, channel, options);
  checkLive();
  return new ChannelSubscription(mesh, asked);
}

/** What is to be subscribed to, checked. */
export interface Asked extends Leaving {
  readonly token: Uint8Array | undefined;
}

/** What is to be left, checked. */
export interface Leaving {
  readonly publisher: bigint;
  readonly channel: string;
  readonly queueGroup: string | undefined;
  readonly signal: AbortSignal | undefined;
}

export function readSubscribe(publisher: bigint, channel: string, options: SubscribeOptions | undefined): Asked {
  const from = u64(channelArea, 'publisher', publisher);
  const name = readChannelName('channel', channel);
  const read = readOptions(channelArea, 'options', options, { token: true, queueGroup: true, signal: true });
  const token = read.token === undefined ? undefined : readTokenLike('options.token', read.token);
  const group = queueGroup(channelArea, 'options.queueGroup', name, read.queueGroup);
  const signal = readSignal(channelArea, 'options.signal', read.signal);
  return { publisher: from, channel: name, queueGroup: group, token, signal };
}

export function readUnsubscribe(publisher: bigint, channel: string, options: UnsubscribeOptions | undefined): Leaving {
  const from = u64(channelArea, 'publisher', publisher);
  const name = readChannelName('channel', channel);
  const read = readOptions(channelArea, 'options', options, { queueGroup: true, signal: true });
  const group = queueGroup(channelArea, 'options.queueGroup', name, read.queueGroup);
  const signal = readSignal(channelArea, 'options.signal', read.signal);
  return { publisher: from, channel: name, queueGroup: group, signal };
}
