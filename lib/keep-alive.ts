/**
 * Who keeps this environment's event loop from ending: meshes that were not unref'd, and pending promises.
 *
 * Holders are counted here; the native part only switches one handle on and off.
 */

import { native } from './binding';

let holders = 0;

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
