// What users do meanwhile: they call.

import type { DaemonRuntime } from 'mesh-daemon';
import { Tally } from './tally';

const NOTHING = Buffer.of();

/** Calls every tally again and again, one call of each at a time, and checks each answer. */
export class Load {
  answered = 0;
  /** The longest that a caller waited, in milliseconds. */
  longest = 0;
  readonly failures: string[] = [];
  #over = false;
  readonly #callers: Promise<void>[];

  constructor(runtime: DaemonRuntime, tallies: readonly bigint[]) {
    this.#callers = tallies.map((origin) => this.#call(runtime, origin));
  }

  /** Stops when the calls under way have ended. */
  async stop(): Promise<void> {
    this.#over = true;
    await Promise.all(this.#callers);
  }

  async #call(runtime: DaemonRuntime, origin: bigint): Promise<void> {
    for (let due = 1; !this.#over; due += 1) {
      const begun = performance.now();
      try {
        const count = Tally.read(await runtime.call(origin, NOTHING));
        this.answered += 1;
        // The daemon's own count tells of calls that were lost, or ran twice.
        if (count !== due) this.failures.push(`tally ${String(origin)} counted ${String(count)} of ${String(due)}`);
      } catch (error) {
        this.failures.push(String(error));
        return;
      }
      this.longest = Math.max(this.longest, performance.now() - begun);
    }
  }
}
