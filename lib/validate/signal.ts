/** Waiting that an AbortSignal can stop. */

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
    const onAbort = (): void => {
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- the reason is the caller's own value
      reject(abort.reason);
      stop();
    };
    if (abort.aborted) {
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- as above
      reject(abort.reason);
      return;
    }
    abort.addEventListener('abort', onAbort, { once: true });
    start()
      .then(resolve, reject)
      .finally(() => {
        abort.removeEventListener('abort', onAbort);
      });
  });
}
