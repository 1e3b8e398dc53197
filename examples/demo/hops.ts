// Moves the word counter back and forth between the two hosts while lines are in flight. It lives on neither end of the
// move that this process drives: the hosts let this one move their daemons (`orchestrators` in host.ts).

import { setTimeout as rest } from 'node:timers/promises';
import type { DaemonRuntime } from 'mesh-daemon';
import type { Host } from './hosts';
import type { LineStream } from './stream';

/** Fewer hops would prove little. */
export const ENOUGH_HOPS = 10;

/** How long the counter stays on a host before it moves on. */
const STAY_MS = 100;

export class Hops {
  readonly #runtime: DaemonRuntime;
  readonly #counter: bigint;
  #hosts: readonly [current: Host, other: Host];
  #live = 0;

  constructor(runtime: DaemonRuntime, counter: bigint, hosts: readonly [current: Host, other: Host]) {
    this.#runtime = runtime;
    this.#counter = counter;
    this.#hosts = hosts;
  }

  /** The counter's host. */
  get current(): Host {
    return this.#hosts[0];
  }

  /** Moves that began and ended with lines in flight. */
  get live(): number {
    return this.#live;
  }

  /** Moves the counter again and again until `over` is aborted. */
  async run(stream: LineStream, over: AbortSignal): Promise<void> {
    while (!over.aborted) {
      const inFlight = stream.inFlight > 0;
      await this.#hop();
      if (inFlight && stream.inFlight > 0) this.#live += 1;
      await rest(STAY_MS, undefined, { signal: over }).catch(() => undefined);
    }
  }

  async #hop(): Promise<void> {
    const [current, other] = this.#hosts;
    const migration = await this.#runtime.migrate(this.#counter, other.nodeId);
    await migration.wait();
    this.#hosts = [other, current];
  }
}
