// Lets the time of a runtime pass without waiting (the build with test hooks only).

import { join } from 'node:path';
import type { DaemonRuntime } from 'mesh-daemon';

// Not part of the package's interface, but of the same modules that the tests' `mesh-daemon` is made of.
const dist = join(__dirname, '..', '..', 'dist');
// eslint-disable-next-line @typescript-eslint/no-require-imports -- there are no declarations of them
const { native } = require(join(dist, 'binding')) as { native: { testPassTime(runtime: number, ms: number): void } };
// eslint-disable-next-line @typescript-eslint/no-require-imports -- as above
const { testHooks } = require(join(dist, 'runtime')) as { testHooks: (runtime: DaemonRuntime) => number };

/** Ends whatever would end within so many milliseconds. */
export function passTime(runtime: DaemonRuntime, ms: number): void {
  native.testPassTime(testHooks(runtime), ms);
}
