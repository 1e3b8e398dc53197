// Gates: hold a move at a message of the migration protocol on one node (the build with test hooks only).

import { join } from 'node:path';
import type { DaemonRuntime } from 'mesh-daemon';

interface Hooks {
  testCloseGate(runtime: number, message: string): void;
  testOpenGate(runtime: number, message: string): void;
}

// Not part of the package's interface, but of the same modules that the tests' `mesh-daemon` is made of.
const dist = join(__dirname, '..', '..', 'dist');
// eslint-disable-next-line @typescript-eslint/no-require-imports -- there are no declarations of them
const { native } = require(join(dist, 'binding')) as { native: Hooks };
// eslint-disable-next-line @typescript-eslint/no-require-imports -- as above
const { testHooks } = require(join(dist, 'runtime')) as {
  testHooks: (runtime: DaemonRuntime, onGate: (message: string) => void) => number;
};

/** Who waits for a message to be held, by its name. */
const waiting = new WeakMap<DaemonRuntime, Map<string, () => void>>();

/** Holds messages of this name from now on; several gates of a runtime may be closed at once. */
export function gate(runtime: DaemonRuntime, message: string): { reached: Promise<void>; open: () => void } {
  const watched = waiting.get(runtime) ?? new Map<string, () => void>();
  waiting.set(runtime, watched);
  const reached = new Promise<void>((resolve) => watched.set(message, resolve));
  const id = testHooks(runtime, (name) => watched.get(name)?.());
  native.testCloseGate(id, message);
  return {
    reached,
    open: () => {
      native.testOpenGate(id, message);
    },
  };
}
