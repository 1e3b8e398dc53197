// The daemon of the example: it counts its calls, and its whole state is that count.

import type { MeshDaemon } from 'mesh-daemon';

/** Answers every call with how many there were so far, so that a lost or repeated one shows. */
export class Tally implements MeshDaemon {
  static readonly kind = 'tally';
  #calls = 0n;

  process(): Buffer {
    this.#calls += 1n;
    return this.snapshot();
  }

  snapshot(): Buffer {
    const state = Buffer.alloc(8);
    state.writeBigUInt64LE(this.#calls);
    return state;
  }

  restore(state: Buffer): void {
    this.#calls = state.readBigUInt64LE();
  }

  /** Reads an answer. */
  static read([answer]: Buffer[]): number {
    return Number(answer?.readBigUInt64LE() ?? 0n);
  }
}
