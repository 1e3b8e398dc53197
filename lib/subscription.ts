/** Reading a channel: what `messages()` gives back. */

import { native } from './binding';
import type { Asked } from './channels';
import { errorFromNative, type ErrorRecord } from './errors/from-native';
import type { ReadMessage } from './native';
import { onNotice } from './notices';
import { operation } from './operations';
import type { ChannelMessage, Subscription } from './types/channels';
import { onAbort } from './validate/signal';

/** How often a loop that is busy with what was handed out before says that it goes on, in milliseconds. */
const SIGN_OF_LIFE = 1000;

/** Subscriptions that may get messages, by node and reader. */
const live = new Map<string, ChannelSubscription>();

onNotice('readable', ({ mesh, reader }) => {
  live.get(keyOf(mesh, reader))?.news();
});

type Result = IteratorResult<ChannelMessage, undefined>;

/** A call of `next()` that nothing was there for. */
interface Waiter {
  readonly of: Reading;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: Error) => void;
}

/** A reader of a channel. Messages wait in the native part, and cross in batches when they are read. */
export class ChannelSubscription implements Subscription {
  readonly ready: Promise<void>;
  readonly #mesh: number;
  readonly #asked: Asked;
  #reader = 0n;
  #dropped = 0n;
  readonly #read: ChannelMessage[] = [];
  #waiters: Waiter[] = [];
  /** Iterators that have begun and are not over. While there are any, publishers of reliable messages wait for room. */
  readonly #readings = new Set<Reading>();
  /** When the native part last heard from a loop. */
  #lastSign = 0;
  /** No more comes after what was read. */
  #ended = false;
  #failure: ErrorRecord | undefined;
  #stopped: Promise<void> | undefined;
  #forgetSignal: () => void = () => undefined;

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
    if (asked.signal !== undefined && !asked.signal.aborted) {
      this.#forgetSignal = onAbort(asked.signal, () => {
        this.stop().catch(() => undefined);
      });
    }
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
    return new Reading(
      (waiter) => {
        this.#begin(waiter.of);
        this.#waiters.push(waiter);
        this.#pump();
      },
      (reading) => {
        this.#leave(reading);
      },
    );
  }

  /** There is something to read, or no more comes. What nobody has read by then goes along, so that nothing is left behind. */
  news(): void {
    if (native.channelIsOver(this.#mesh, this.#reader)) while (!this.#ended) this.#readMore();
    this.#pump();
  }

  /** An iterator is asked for a message: from now on it holds publishers up. */
  #begin(reading: Reading): void {
    if (this.#readings.has(reading)) return;
    this.#readings.add(reading);
    if (this.#readings.size === 1) this.#attend(true);
  }

  /** An iterator is over: whoever waits for its next message gets none. */
  #leave(reading: Reading): void {
    const left = this.#waiters.filter((waiter) => waiter.of === reading);
    this.#waiters = this.#waiters.filter((waiter) => waiter.of !== reading);
    if (this.#readings.delete(reading) && this.#readings.size === 0) this.#attend(false);
    for (const waiter of left) waiter.resolve({ value: undefined, done: true });
  }

  #attend(attended: boolean): void {
    if (this.#ended) return;
    this.#lastSign = performance.now();
    native.channelAttend(this.#mesh, this.#reader, attended);
  }

  /** Gives those who wait what there is. */
  #pump(): void {
    for (;;) {
      const waiter = this.#waiters[0];
      if (waiter === undefined) return;
      const message = this.#read.shift();
      if (message !== undefined) {
        this.#waiters.shift();
        if (performance.now() - this.#lastSign > SIGN_OF_LIFE) this.#attend(true);
        waiter.resolve({ value: message, done: false });
      } else if (this.#ended) {
        this.#waiters.shift();
        if (this.#failure !== undefined) waiter.reject(errorFromNative(this.#failure));
        else waiter.resolve({ value: undefined, done: true });
        waiter.of.over();
      } else if (!this.#readMore()) return;
    }
  }

  #readMore(): boolean {
    this.#lastSign = performance.now();
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
    this.#forgetSignal();
    live.delete(keyOf(this.#mesh, this.#reader));
  }

  async #stop(): Promise<void> {
    const left = BigInt(this.#read.length);
    this.#read.length = 0;
    if (!live.has(keyOf(this.#mesh, this.#reader))) {
      this.#dropped += left;
      return;
    }
    await operation<undefined>((op) => {
      const { publisher, channel, queueGroup } = this.#asked;
      const dropped = native.channelClose(op, this.#mesh, this.#reader, publisher, channel, queueGroup);
      this.#end(dropped + left);
      this.#pump();
    });
  }
}

/** One iterator. It is over once it was left, or has told of the end. */
class Reading implements AsyncIterator<ChannelMessage, undefined> {
  readonly #wait: (waiter: Waiter) => void;
  readonly #leave: (reading: Reading) => void;
  #isOver = false;

  constructor(wait: (waiter: Waiter) => void, leave: (reading: Reading) => void) {
    this.#wait = wait;
    this.#leave = leave;
  }

  next(): Promise<Result> {
    if (this.#isOver) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve, reject) => {
      this.#wait({ of: this, resolve, reject });
    });
  }

  return(): Promise<Result> {
    this.over();
    return Promise.resolve({ value: undefined, done: true });
  }

  over(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#leave(this);
  }
}

function keyOf(mesh: number, reader: bigint): string {
  return `${String(mesh)}:${String(reader)}`;
}
