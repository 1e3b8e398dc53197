/**
 * What the native part is told without being asked for an answer; `src/runtime/journal.rs` has the other end and the layout.
 *
 * Entries gather in a buffer and cross together.
 */

import type { DaemonRecord } from './dispatcher-record';

/** Most daemons that are held at a time: there is always room to give them all back. */
export const MOST_HELD = 64;
const BYTES = 128 * 1024;
const OVER_BYTES = 16;
/** Where entries other than the last ones end. */
const ROOM = BYTES - MOST_HELD * OVER_BYTES;
/** Larger payloads and outputs cross by themselves. */
export const SMALL = 4096;

/** Instead of how many milliseconds somebody waits: as long as it takes. */
export const NO_TIMEOUT = -1;
/** The same, for room in a mailbox of this runtime too. `src/runtime/calls.rs` has the same. */
export const IN_TURN = -2;

const RAN = 1;
const FAILED = 2;
const OVER = 3;
/** Deliver with a number. */
export const DELIVER = 4;
/** Call with a timeout in milliseconds, {@link NO_TIMEOUT} or {@link IN_TURN}. */
export const CALL = 5;
/** Send. */
export const SEND = 6;

export class Journal {
  readonly buffer = new Uint8Array(BYTES);
  readonly #words = new Uint32Array(this.buffer.buffer);
  readonly #longs = new BigUint64Array(this.buffer.buffer);
  readonly #floats = new Float64Array(this.buffer.buffer);
  readonly #largest: number;
  #end = 0;
  #deliveries = 0;

  constructor(maxPayload: number) {
    this.#largest = Math.min(SMALL, maxPayload);
  }

  /** How many bytes are written. */
  get length(): number {
    return this.#end;
  }

  /** How many events to deliver are in it. */
  get deliveries(): number {
    return this.#deliveries;
  }

  clear(): void {
    this.#end = 0;
    this.#deliveries = 0;
  }

  /** An event ran directly; its outputs are copied. False when they do not fit. */
  ran(daemon: DaemonRecord, emitter: bigint, sequence: bigint, outputs: readonly Uint8Array[]): boolean {
    const at = this.#end;
    const count = outputs.length;
    let next = at + 32 + 4 * count;
    if (next > ROOM) return false;
    for (let index = 0; index < count; index += 1) {
      const output = outputs[index];
      if (output === undefined) return false;
      const { length } = output;
      if (length > this.#largest || next + length > ROOM - 8) return false;
      this.#words[at / 4 + 8 + index] = length;
      next += length;
    }
    next = at + 32 + 4 * count;
    for (let index = 0; index < count; index += 1) {
      const output = outputs[index];
      if (output === undefined) return false;
      this.buffer.set(output, next);
      next += output.length;
    }
    this.#daemon(RAN, count, daemon);
    this.#longs[at / 8 + 2] = emitter;
    this.#longs[at / 8 + 3] = sequence;
    this.#end = (next + 7) & ~7;
    return true;
  }

  /** An event ran directly and failed. False when there is no room. */
  failed(daemon: DaemonRecord, emitter: bigint, sequence: bigint): boolean {
    const at = this.#end;
    if (at + 32 > ROOM) return false;
    this.#daemon(FAILED, 0, daemon);
    this.#longs[at / 8 + 2] = emitter;
    this.#longs[at / 8 + 3] = sequence;
    this.#end = at + 32;
    return true;
  }

  /** No more events of this daemon run directly. There is room for as many as are held. */
  over(daemon: DaemonRecord): void {
    this.#daemon(OVER, 0, daemon);
    this.#end += OVER_BYTES;
  }

  /** An event is to be delivered. False when it does not fit. */
  deliver(
    kind: typeof DELIVER | typeof CALL | typeof SEND,
    ticket: number,
    emitter: bigint,
    number: bigint,
    timeoutMs: number,
    destination: bigint,
    payload: Uint8Array,
  ): boolean {
    const at = this.#end;
    const { length } = payload;
    if (length > SMALL || at + 40 + length > ROOM - 8) return false;
    this.#words[at / 4] = kind;
    this.#words[at / 4 + 1] = length;
    this.#floats[at / 8 + 1] = ticket;
    this.#longs[at / 8 + 2] = emitter;
    if (kind === CALL) this.#floats[at / 8 + 3] = timeoutMs;
    else this.#longs[at / 8 + 3] = number;
    this.#longs[at / 8 + 4] = destination;
    this.buffer.set(payload, at + 40);
    this.#end = (at + 40 + length + 7) & ~7;
    this.#deliveries += 1;
    return true;
  }

  #daemon(kind: number, count: number, { slot, generation }: DaemonRecord): void {
    const at = this.#end / 4;
    this.#words[at] = kind;
    this.#words[at + 1] = count;
    this.#words[at + 2] = slot;
    this.#words[at + 3] = generation;
  }
}
