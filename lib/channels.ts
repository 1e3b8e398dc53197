/** Channels of a node: what is published, and what is subscribed to. */

import { native } from './binding';
import { readChannelConfig, readChannelName } from './channel-config';
import { queueGroup } from './channel-name';
import { errorFromNative, type ErrorRecord } from './errors/from-native';
import type { PublishSettings, ReadMessage } from './native';
import { onNotice } from './notices';
import { operation } from './operations';
import { readTokenLike } from './token';
import type {
  ChannelConfig,
  ChannelMessage,
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

/** Subscriptions that may get messages, by node and reader. */
const live = new Map<string, ChannelSubscription>();

onNotice('readable', ({ mesh, reader }) => {
  live.get(keyOf(mesh, reader))?.news();
});

/** Makes a channel of a node. */
export function registerChannel(mesh: number, config: ChannelConfig, checkLive: CheckLive): void {
  const read = readChannelConfig(config);
  checkLive();
  native.channelRegister(mesh, read);
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
  const reliability = choice(channelArea, 'options.reliability', read.reliability ?? 'fire_and_forget', [
    'reliable',
    'fire_and_forget',
  ]);
  const onFailure = choice(channelArea, 'options.onFailure', read.onFailure ?? 'best_effort', [
    'best_effort',
    'fail_fast',
    'collect',
  ]);
  const maxInflight = integer(channelArea, 'options.maxInflight', read.maxInflight ?? 32, { min: 1 });
  const signal = readSignal(channelArea, 'options.signal', read.signal);
  return { name, content, settings: { reliable: reliability === 'reliable', onFailure, maxInflight }, signal };
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

interface Waiter {
  readonly resolve: (result: IteratorResult<ChannelMessage, undefined>) => void;
  readonly reject: (error: Error) => void;
}

/** A reader of a channel. Messages wait in the native part, and cross in batches when they are read. */
class ChannelSubscription implements Subscription {
  readonly ready: Promise<void>;
  readonly #mesh: number;
  readonly #asked: Asked;
  #reader = 0n;
  #dropped = 0n;
  readonly #read: ChannelMessage[] = [];
  readonly #waiters: Waiter[] = [];
  /** No more comes after what was read. */
  #ended = false;
  #failure: ErrorRecord | undefined;
  #stopped: Promise<void> | undefined;
  readonly #onAbort = (): void => {
    this.stop().catch(() => undefined);
  };

  constructor(mesh: number, asked: Asked) {
    this.#mesh = mesh;
    this.#asked = asked;
    this.ready = operation<undefined>(
      (op) => {
        this.#reader = native.channelOpen(op, mesh, asked.publisher, asked.channel, asked.queueGroup, asked.token);
        live.set(keyOf(mesh, this.#reader), this);
      },
      { signal: asked.signal },
    );
    // Whoever iterates hears of it too.
    this.ready.catch(() => undefined);
    asked.signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  get dropped(): bigint {
    return this.#ended ? this.#dropped : native.channelDropped(this.#mesh, this.#reader);
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  [Symbol.asyncIterator](): AsyncIterator<ChannelMessage, undefined> {
    return {
      next: () =>
        new Promise((resolve, reject) => {
          this.#waiters.push({ resolve, reject });
          this.#pump();
        }),
      return: () => Promise.resolve({ value: undefined, done: true }),
    };
  }

  /** There is something to read, or no more comes. What nobody has read by then goes along, so that nothing is left behind. */
  news(): void {
    if (native.channelIsOver(this.#mesh, this.#reader)) while (!this.#ended) this.#readMore();
    this.#pump();
  }

  /** Gives those who wait what there is. */
  #pump(): void {
    for (;;) {
      const waiter = this.#waiters[0];
      if (waiter === undefined) return;
      const message = this.#read.shift();
      if (message !== undefined) {
        this.#waiters.shift();
        waiter.resolve({ value: message, done: false });
      } else if (this.#ended) {
        this.#waiters.shift();
        const failure = this.#failure;
        this.#failure = undefined;
        if (failure === undefined) waiter.resolve({ value: undefined, done: true });
        else waiter.reject(errorFromNative(failure));
      } else if (!this.#readMore()) return;
    }
  }

  #readMore(): boolean {
    const { messages, ended, failure, dropped } = native.channelRead(this.#mesh, this.#reader);
    for (const message of messages) this.#read.push(this.#messageOf(message));
    if (ended) {
      this.#end(dropped);
      this.#failure = failure;
    }
    return ended || messages.length > 0;
  }

  #messageOf({ sequence, payload, receivedAt }: ReadMessage): ChannelMessage {
    const { publisher, channel } = this.#asked;
    return { publisher, channel, sequence, payload, receivedAt };
  }

  #end(dropped: bigint): void {
    this.#dropped = dropped;
    this.#ended = true;
    this.#asked.signal?.removeEventListener('abort', this.#onAbort);
    live.delete(keyOf(this.#mesh, this.#reader));
  }

  async #stop(): Promise<void> {
    this.#read.length = 0;
    if (!live.has(keyOf(this.#mesh, this.#reader))) return;
    this.#end(this.dropped);
    this.#pump();
    await operation<undefined>((op) => {
      const { publisher, channel, queueGroup } = this.#asked;
      native.channelClose(op, this.#mesh, this.#reader, publisher, channel, queueGroup);
    });
  }
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

function keyOf(mesh: number, reader: bigint): string {
  return `${String(mesh)}:${String(reader)}`;
}
