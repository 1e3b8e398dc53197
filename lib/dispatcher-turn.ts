/**
 * The turn of the event loop.
 *
 * User code that is reached without leaving the microtask queue may take a few milliseconds of a turn; what is left goes on
 * in the next one, after timers and I/O had theirs.
 */

import { setImmediate } from 'node:timers';

const SLICE_MS = 5;

let armed = false;
let ends = 0;
let began = 0;
let later: (() => void)[] = [];

/** Whether this turn has time left. */
export function hasTime(): boolean {
  if (armed) return performance.now() < ends;
  arm();
  return true;
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
  for (const go of due) go();
}
