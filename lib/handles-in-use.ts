/**
 * Who needs this environment's native handles.
 *
 * Two of them, each there only while somebody needs it, so that an idle environment has none: one keeps the event loop from
 * ending (for nodes that were not unref'd, and pending promises), one lets the native part say that there is news (for
 * nodes, pending promises and a logger) and keeps nothing alive. Holders are counted here.
 */

import { native } from './binding';

let holders = 0;
let listeners = 0;

/** The event loop must not end from now on. Each call needs one {@link release}. */
export function hold(): void {
  holders += 1;
  if (holders === 1) native.keepAlive(true);
}

/** Takes one {@link hold} back. */
export function release(): void {
  holders -= 1;
  if (holders === 0) native.keepAlive(false);
}

/** Notices are wanted from now on. Each call needs one {@link unlisten}. */
export function listen(): void {
  listeners += 1;
  if (listeners === 1) native.listen(true);
}

/** Takes one {@link listen} back. */
export function unlisten(): void {
  listeners -= 1;
  if (listeners === 0) native.listen(false);
}
