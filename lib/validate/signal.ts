/** Waiting that an AbortSignal can stop. */

import { guard } from '../notices';
import type { Refuse } from './area';
import { kindOf } from './kind';

/** An `AbortSignal`, or nothing. */
export function signal(refuse: Refuse, path: string, value: unknown): AbortSignal | undefined {
  if (value === undefined) return undefined;
  // Not `instanceof`: signals of other realms and of polyfills do as well.
  if (
    typeof value !== 'object' ||
    value === null ||
    typeof (value as AbortSignal).aborted !== 'boolean' ||
    typeof (value as AbortSignal).addEventListener !== 'function'
  ) {
    throw refuse(`${path} must be an AbortSignal, got ${kindOf(value)}`);
  }
  return value as AbortSignal;
}

/** What is to happen when a signal aborts, and the one listener that sees to it, by signal. */
const waiting = new WeakMap<AbortSignal, { readonly acts: Set<() => void>; readonly listener: () => void }>();

/**
 * Has something happen when a signal that was not aborted is; the result takes that back. A signal has one listener of ours
 * however many wait for it, as Node warns of more than ten.
 */
export function onAbort(abort: AbortSignal, act: () => void): () => void {
  // Each has its own place, also when the same function comes twice.
  const entry = (): void => {
    act();
  };
  const { acts, listener } = waiting.get(abort) ?? listenTo(abort);
  acts.add(entry);
  return () => {
    if (acts.delete(entry) && acts.size === 0) {
      abort.removeEventListener('abort', listener);
      waiting.delete(abort);
    }
  };
}

function listenTo(abort: AbortSignal): { readonly acts: Set<() => void>; readonly listener: () => void } {
  const acts = new Set<() => void>();
  const listener = (): void => {
    for (const act of [...acts]) guard(act, undefined);
  };
  const listening = { acts, listener };
  waiting.set(abort, listening);
  abort.addEventListener('abort', listener, { once: true });
  return listening;
}

/**
 * Starts something and waits for it until `signal` says otherwise: then the promise rejects with `signal.reason` and
 * `stop` is called. Nothing is started when the signal was aborted before. The listener goes when the promise settles.
 */
export function abortable<T>(
  abort: AbortSignal | undefined,
  start: () => Promise<T>,
  stop: () => void = () => undefined,
): Promise<T> {
  if (abort === undefined) return start();
  return new Promise<T>((resolve, reject) => {
    if (abort.aborted) {
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- the reason is the caller's own value
      reject(abort.reason);
      return;
    }
    const forget = onAbort(abort, () => {
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- as above
      reject(abort.reason);
      stop();
    });
    start().then(resolve, reject).finally(forget);
  });
}
