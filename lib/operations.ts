/**
 * Promises of operations that end on another thread.
 *
 * An operation has a number; the native function that starts it gets the number, and the outcome comes back with it, many
 * in one wake-up (`notices.ts`).
 */

import { native } from './binding';
import { errorFromNative } from './errors/from-native';
import { hold, listen, release, unlisten } from './handles-in-use';
import { onNotice, type Settlement } from './notices';
import { abortable } from './validate/signal';

interface Pending {
  readonly resolve: (settlement: Settlement) => void;
  readonly keepsAlive: boolean;
}

/** How an operation is waited for. */
export interface OperationOptions {
  /** Whether the process stays alive until it settles. Default `true`: an awaited promise must settle. */
  readonly keepsAlive?: boolean;
  /** Stops the waiting; the native side drops the operation. */
  readonly signal?: AbortSignal | undefined;
}

const pending = new Map<number, Pending>();
let lastOperation = 0;

onNotice('settled', (settlement) => {
  forget(settlement.operation)?.resolve(settlement);
});

/** Starts an operation and waits for what it resolves with. Never throws synchronously. */
export async function operation<T>(
  start: (operation: number) => void,
  { keepsAlive = true, signal }: OperationOptions = {},
): Promise<T> {
  let id = 0;
  const { value, failure } = await abortable(
    signal,
    () =>
      new Promise<Settlement>((resolve) => {
        id = lastOperation += 1;
        // Before it starts: its outcome may come from another thread at any time.
        listen();
        try {
          start(id);
        } catch (error) {
          unlisten();
          throw error;
        }
        pending.set(id, { resolve, keepsAlive });
        if (keepsAlive) hold();
      }),
    () => {
      if (forget(id) !== undefined) native.abandonOperation(id);
    },
  );
  // Made here and not where the news came in: so its stack goes on with whoever awaits this.
  if (failure !== undefined) throw errorFromNative(failure);
  return value as T;
}

function forget(id: number): Pending | undefined {
  const waiter = pending.get(id);
  if (waiter !== undefined) {
    pending.delete(id);
    if (waiter.keepsAlive) release();
    unlisten();
  }
  return waiter;
}

/** The promise of something that is done at once: what it throws rejects. */
export function settled<T>(run: () => T): Promise<T> {
  return new Promise((resolve) => {
    resolve(run());
  });
}

/** What was thrown, as it is, from a method that returns a promise. */
export function rejected<T>(error: unknown): Promise<T> {
  // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors -- passed on
  return Promise.reject(error);
}
