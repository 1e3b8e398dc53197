/** Promises that wait for the engine, by number. Numbers are not reused soon, so a late answer finds nobody. */

import { hold, release } from './handles-in-use';
import type { SettleWork } from './runtime-work';

const SLOTS = 2 ** 22;
const GENERATIONS = 2 ** 30;

/** How outputs are handed over: as Buffers. */
export const OUTPUTS = 0;
/** With their links. */
export const CAUSAL = 1;
/** Not at all: something else is waited for. */
export const OTHER = 2;

export type Shape = typeof OUTPUTS | typeof CAUSAL | typeof OTHER;

/** Somebody who waits. */
export interface Waiter {
  ticket: number;
  readonly shape: Shape;
  /** The daemon in question. */
  readonly origin: bigint;
  readonly resolve: (value: never) => void;
  readonly reject: (error: unknown) => void;
  /** Reads what an operation other than an event came to. */
  readonly read: ((work: SettleWork) => unknown) | undefined;
}

export class Tickets {
  readonly #waiters: (Waiter | undefined)[] = [];
  readonly #free: number[] = [];
  #generation = 0;

  /** Numbers a waiter; the process stays alive until it is taken. */
  open(waiter: Waiter): number {
    const slot = this.#free.pop() ?? this.#waiters.length;
    this.#generation = (this.#generation + 1) % GENERATIONS;
    waiter.ticket = this.#generation * SLOTS + slot;
    this.#waiters[slot] = waiter;
    hold();
    return waiter.ticket;
  }

  /** Finds a waiter. */
  get(ticket: number): Waiter | undefined {
    const waiter = this.#waiters[slotOf(ticket)];
    return waiter?.ticket === ticket ? waiter : undefined;
  }

  /** Takes a waiter out. */
  take(ticket: number): Waiter | undefined {
    const slot = slotOf(ticket);
    const waiter = this.#waiters[slot];
    if (waiter?.ticket !== ticket) return undefined;
    this.#waiters[slot] = undefined;
    this.#free.push(slot);
    release();
    return waiter;
  }

  /** Takes everybody out. */
  takeAll(): Waiter[] {
    const left = this.#waiters.filter((waiter) => waiter !== undefined);
    for (const waiter of left) this.take(waiter.ticket);
    return left;
  }
}

/** The remainder, without the slow division of numbers above 32 bits. */
function slotOf(ticket: number): number {
  return ticket - Math.floor(ticket / SLOTS) * SLOTS;
}
