/** Bytes of tokens and revocations that a user gives: what is none is an error that names the argument. */

import { bytes, tokenArea } from './validate/index';

/** What `parse`, which looks at the format only, reads of them. */
export function readWireForm<T>(path: string, value: unknown, parse: (wire: Uint8Array) => T): T {
  const wire = bytes(tokenArea, path, value);
  try {
    return parse(wire);
  } catch (cause) {
    throw tokenArea(`${path}: ${(cause as Error).message}`);
  }
}
