/** What a daemon is given: events, and the context of each. Both read their parts when they are asked for. */

// Not the global, which is read through a getter.
import { Buffer } from 'node:buffer';
import { inspect, type InspectOptions } from 'node:util';
import { readPublish, type Publishing } from './channels';
import { turnBegan } from './dispatcher-turn';
import { DaemonError } from './errors/index';
import { EVENT, HEADER, type Block } from './runtime-scratch';
import type { PublishOptions, PublishReport } from './types/channels';
import type { CausalEvent, DaemonContext } from './types/daemon';
import { bytes, daemonArea, u64 } from './validate/index';

/** An event, either packed in a block or made here. */
export class Event implements CausalEvent {
  readonly #block: Block | null;
  readonly #index: number;
  #origin: bigint | undefined;
  #sequence: bigint | undefined;
  #parent: bigint | undefined;
  #horizon: bigint | undefined;
  #received: bigint | number | undefined;
  #payload: Buffer | undefined;

  constructor(block: Block | null, index: number, origin?: bigint, sequence?: bigint, payload?: Buffer) {
    this.#block = block;
    this.#index = index;
    this.#origin = origin;
    this.#sequence = sequence;
    this.#payload = payload;
    if (block === null) this.#received = turnBegan();
  }

  /** An output with its link, of which `links` has the four numbers at `index`. */
  static ofOutput(links: BigUint64Array, index: number, payload: Buffer): Event {
    const event = new Event(null, 0, links[4 * index], links[4 * index + 1], payload);
    event.#received = Date.now();
    event.#parent = links[4 * index + 2];
    event.#horizon = links[4 * index + 3];
    return event;
  }

  get originHash(): bigint {
    return (this.#origin ??= this.#long(0));
  }

  get sequence(): bigint {
    return (this.#sequence ??= this.#long(1));
  }

  get parentHash(): bigint {
    return (this.#parent ??= this.#long(2));
  }

  get horizon(): bigint {
    return (this.#horizon ??= this.#long(3));
  }

  get receivedAt(): bigint {
    const received = this.#received ?? this.#long(4);
    // A number is of milliseconds.
    const exact = typeof received === 'number' ? BigInt(received) * 1_000_000n : received;
    this.#received = exact;
    return exact;
  }

  get payload(): Buffer {
    return (this.#payload ??= this.#view());
  }

  get channel(): string | null {
    if (this.#block === null) return null;
    const number = this.#block.words[(HEADER + this.#index * EVENT) / 4 + 15] ?? 0;
    return number === 0 ? null : (this.#block.channels[number - 1] ?? null);
  }

  [inspect.custom](depth: number, options: InspectOptions): string {
    const { originHash, sequence, parentHash, horizon, payload, receivedAt, channel } = this;
    const shown = { originHash, sequence, parentHash, horizon, payload, receivedAt, channel };
    return `CausalEvent ${inspect(shown, { ...options, depth })}`;
  }

  #long(field: number): bigint {
    return this.#block?.longs[(HEADER + this.#index * EVENT) / 8 + field] ?? 0n;
  }

  #view(): Buffer {
    const block = this.#block;
    if (block === null) return Buffer.alloc(0);
    const at = (HEADER + this.#index * EVENT) / 4 + 12;
    const large = block.words[at + 2] ?? 0;
    if (large !== 0) return block.large[large - 1] ?? Buffer.alloc(0);
    return Buffer.from(block.buffer, block.words[at], block.words[at + 1]);
  }
}

/** What a context may do with its daemon; the dispatcher has it. */
export interface ContextHost {
  callAs(emitter: bigint, origin: bigint, payload: Uint8Array): Promise<Buffer[]>;
  sendAs(emitter: bigint, origin: bigint, payload: Uint8Array): Promise<void>;
  publishAs(emitter: bigint, asked: Publishing): Promise<PublishReport>;
  signAs(slot: number, generation: number, message: Uint8Array): Buffer | null;
}

/** Which daemon a context is of. */
export interface ContextDaemon {
  readonly host: ContextHost;
  readonly slot: number;
  readonly generation: number;
  readonly originHash: bigint;
  readonly entityId: Buffer;
  /** How many events of its contexts are on their way. */
  sent: number;
  /** One of them arrived, or will not. */
  arrived(): void;
}

let endContext: (context: Context) => void;
let abortContext: (context: Context, reason: unknown) => void;

/** The context of one event. */
export class Context implements DaemonContext {
  readonly #daemon: ContextDaemon;
  #alive = true;
  #controller: AbortController | undefined;
  #aborted: { readonly reason: unknown } | undefined;

  static {
    endContext = (context) => {
      context.#alive = false;
    };
    abortContext = (context, reason) => {
      context.#alive = false;
      context.#aborted ??= { reason };
      context.#controller?.abort(reason);
    };
  }

  constructor(daemon: ContextDaemon) {
    this.#daemon = daemon;
  }

  get originHash(): bigint {
    return this.#daemon.originHash;
  }

  get entityId(): Buffer {
    return Buffer.from(this.#daemon.entityId);
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted.reason);
    }
    return this.#controller.signal;
  }

  async call(originHash: bigint, payload: Uint8Array): Promise<Buffer[]> {
    const origin = u64(daemonArea, 'originHash', originHash);
    const checked = bytes(daemonArea, 'payload', payload);
    this.#checkAlive();
    const daemon = this.#daemon;
    const asked = daemon.host.callAs(daemon.originHash, origin, checked);
    // What waits in its own mailbox moves with it.
    return await (origin === daemon.originHash ? asked : onItsWay(daemon, asked));
  }

  async send(originHash: bigint, payload: Uint8Array): Promise<void> {
    const origin = u64(daemonArea, 'originHash', originHash);
    const checked = bytes(daemonArea, 'payload', payload);
    this.#checkAlive();
    await onItsWay(this.#daemon, this.#daemon.host.sendAs(this.#daemon.originHash, origin, checked));
  }

  async publish(channel: string, payload: Uint8Array, options?: PublishOptions): Promise<PublishReport> {
    const asked = readPublish(channel, payload, options);
    this.#checkAlive();
    return await this.#daemon.host.publishAs(this.#daemon.originHash, asked);
  }

  sign(message: Uint8Array): Buffer {
    const checked = bytes(daemonArea, 'message', message);
    this.#checkAlive();
    const signature = this.#daemon.host.signAs(this.#daemon.slot, this.#daemon.generation, checked);
    if (signature === null) throw dead();
    return signature;
  }

  #checkAlive(): void {
    if (!this.#alive) throw dead();
  }
}

/** Its daemon does not leave meanwhile. */
async function onItsWay<T>(daemon: ContextDaemon, event: Promise<T>): Promise<T> {
  daemon.sent += 1;
  try {
    return await event;
  } finally {
    daemon.arrived();
  }
}

function dead(): DaemonError {
  return new DaemonError('the event of this context is over', { code: 'ERR_DAEMON_SHUTTING_DOWN' });
}

/** The event of a context settled. */
export function end(context: Context): void {
  endContext(context);
}

/** The event of a context is not waited for any more. */
export function abort(context: Context, reason: unknown): void {
  abortContext(context, reason);
}
