/**
 * The public API of mesh-daemon.
 *
 * @packageDocumentation
 */

import { loadNative } from './load';

const native = loadNative();

/** The version of the package and of its native code. */
export function version(): string {
  return native.version();
}
