/**
 * Promises of operations that end on another thread.
 *
 * An operation has a number; the native function that starts it gets the number, and the outcome comes back with it, many
 * in one wake-up (`notices.ts`).
 */

import { native } from './binding';
import { errorFromNative } from './errors/from-native';
import { hold, release } from './keep-alive';
import { onNotice } from './notices';
import { abortable } from './validate/signal';

interface Pending {
  readonly resolve: (value: never) => void;
  readonly reject: (error: unknown) => void;
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

onNotice('settled', ({ operation, value, failure }) => {
  const waiter = forget(operation);
  if (failure === undefined) waiter?.resolve(value as never);
  else waiter?.reject(errorFromNative(failure));
});

/** Starts an operation and waits for what it resolves with. Never throws synchronously. */
export function operation<T>(
  start: (operation: number) => void,
  { keepsAlive = true, signal }: OperationOptions = {},
): Promise<T> {
  let id = 0;
  return abortable(
    signal,
    () =>
      new Promise<T>((resolve, reject) => {
        id = lastOperation += 1;
        start(id);
        pending.set(id, { resolve, reject, keepsAlive });
        if (keepsAlive) hold();
      }),
    () => {
      if (forget(id) !== undefined) native.abandonOperation(id);
    },
  );
}

function forget(id: number): Pending | undefined {
  const waiter = pending.get(id);
  if (waiter !== undefined && pending.delete(id) && waiter.keepsAlive) release();
  return waiter;
}
