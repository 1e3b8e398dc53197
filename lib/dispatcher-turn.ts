/**
 * The turn of the event loop.
 *
 * User code that is reached without leaving the microtask queue may take a few milliseconds of a turn; what is left goes on
 * in the next one, after timers and I/O had theirs.
 */

import { setImmediate } from 'node:timers';
import { guard } from './notices';

const SLICE_MS = 5;
/** Most things between two looks at the clock. */
const LONGEST_STRIDE = 32;

let armed = false;
let ends = 0;
let began = 0;
let later: (() => void)[] = [];

/** Whether this turn has time left. */
export function hasTime(): boolean {
  return timeLeft() > 0;
}

/** How many milliseconds of this turn are left. */
export function timeLeft(): number {
  if (armed) return ends - performance.now();
  arm();
  return SLICE_MS;
}

/**
 * Looks at the clock between quick things, each of which costs less than the look: after as many of them as take a quarter
 * of the time left, at the pace so far.
 */
export class Stride {
  #left = timeLeft();
  #until = 1;
  #done = 0;

  /** One more is done: whether this turn has time for another. */
  goesOn(): boolean {
    this.#done += 1;
    if (this.#done < this.#until) return true;
    const left = timeLeft();
    const pace = (this.#left - left) / this.#done;
    this.#until = Math.min(left / 4 / pace, LONGEST_STRIDE);
    this.#left = left;
    this.#done = 0;
    return left > 0;
  }
}

/** When this turn began, in milliseconds of unix time; after {@link hasTime} said that it has time left. */
export function turnBegan(): number {
  return began;
}

/** Calls `go` in the next turn. */
export function nextTurn(go: () => void): void {
  if (!armed) arm();
  later.push(go);
}

function arm(): void {
  armed = true;
  ends = performance.now() + SLICE_MS;
  began = Date.now();
  setImmediate(turn);
}

function turn(): void {
  armed = false;
  if (later.length === 0) return;
  const due = later;
  later = [];
  // What one of them throws is an uncaught exception, and the others go on.
  for (const go of due) guard(go, undefined);
}
