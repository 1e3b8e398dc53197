// What only the build with test hooks can do.

import { join } from 'node:path';
import type { DaemonRuntime } from 'mesh-daemon';

interface Hooks {
  testCloseGate(runtime: number, message: string): void;
  testOpenGate(runtime: number, message: string): void;
  testCensus(runtime: number): { arrivingBytes: number };
}

// Not part of the package's interface, but of the same modules that `mesh-daemon` is made of.
const dist = join(__dirname, '..', '..', 'dist');
// eslint-disable-next-line @typescript-eslint/no-require-imports -- there are no declarations of them
const { native } = require(join(dist, 'binding')) as { native: Hooks };
// eslint-disable-next-line @typescript-eslint/no-require-imports -- as above
const { testHooks } = require(join(dist, 'runtime')) as {
  testHooks: (runtime: DaemonRuntime, onGate?: (message: string) => void) => number;
};

/** Holds messages of this name on their arrival; tells of the first one. */
export function closeGate(runtime: DaemonRuntime, message: string, reached: (message: string) => void): void {
  const id = testHooks(runtime, (name) => {
    if (name === message) reached(name);
  });
  native.testCloseGate(id, message);
}

/** Handles what was held. */
export function openGate(runtime: DaemonRuntime, message: string): void {
  native.testOpenGate(testHooks(runtime), message);
}

/** Counts of what is alive. */
export function census(runtime: DaemonRuntime): { arrivingBytes: number } {
  const { arrivingBytes } = native.testCensus(testHooks(runtime));
  return { arrivingBytes };
}
