/** The handle of a daemon of this runtime. */

import { inspect, type InspectOptions } from 'node:util';
import { native } from './binding';
import { DaemonError } from './errors/index';
import type { DaemonRuntime } from './runtime';
import type { CallOptions, DaemonStats } from './types/runtime';
import { daemonArea } from './validate/index';

/** Only a runtime can make a handle. */
export const internal = Symbol('internal');

/** Where a daemon lives in the native part. */
export interface Place {
  /** Throws when the runtime is shut down: its number may be another one's by now. */
  readonly live: () => void;
  readonly host: { readonly id: number };
  readonly slot: number;
  readonly generation: number;
  readonly originHash: bigint;
  readonly entityId: Buffer;
}

/**
 * A daemon that was spawned here. Calls follow it when it moves; what only its host knows is gone with it.
 *
 * @public
 */
export class DaemonHandle {
  readonly #runtime: DaemonRuntime;
  readonly #place: Place;

  /** @internal */
  constructor(key: symbol, runtime: DaemonRuntime, place: unknown) {
    if (key !== internal) throw daemonArea('use runtime.spawn()');
    this.#runtime = runtime;
    this.#place = place as Place;
  }

  /** Its address. */
  get originHash(): bigint {
    return this.#place.originHash;
  }

  /** Its 32-byte public key; a copy. */
  get entityId(): Buffer {
    return Buffer.from(this.#place.entityId);
  }

  /** Its counters. Throws a {@link DaemonError} once it is gone from here. */
  stats(): DaemonStats {
    const { live, host, slot, generation } = this.#place;
    live();
    const stats = native.runtimeStats(host.id, slot, generation);
    if (stats === null) throw this.#gone();
    return stats;
  }

  /** An encoded snapshot behind the events that it accepted; `null` of a stateless daemon. */
  async snapshot(): Promise<Buffer | null> {
    this.stats();
    return await this.#runtime.snapshot(this.originHash);
  }

  /** The newest snapshot that `autoSnapshotInterval` took; `null` before the first. Throws, as `stats()`, once it is gone. */
  lastSnapshot(): Buffer | null {
    this.stats();
    const { host, slot, generation } = this.#place;
    return native.runtimeLastSnapshot(host.id, slot, generation);
  }

  /** Calls it, wherever it lives now. */
  async call(payload: Uint8Array, options?: CallOptions): Promise<Buffer[]> {
    return await this.#runtime.call(this.originHash, payload, options);
  }

  /** Sends to it, wherever it lives now. */
  async send(payload: Uint8Array): Promise<void> {
    await this.#runtime.send(this.originHash, payload);
  }

  /** Stops it behind the events that it accepted. */
  async stop(): Promise<void> {
    this.stats();
    await this.#runtime.stop(this.originHash);
  }

  /** What `console.log` shows. */
  [inspect.custom](depth: number, inspectOptions: InspectOptions): string {
    return `DaemonHandle ${inspect({ originHash: this.originHash }, { ...inspectOptions, depth })}`;
  }

  #gone(): DaemonError {
    return new DaemonError(`daemon ${String(this.originHash)} was not found`, {
      code: 'ERR_DAEMON_NOT_FOUND',
    });
  }
}
