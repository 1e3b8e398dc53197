/** Checks of bytes. */

import { types } from 'node:util';
import type { Refuse } from './area';
import { kindOf } from './kind';

/** What bytes must be like. */
export interface BytesShape {
  /** Their exact number. */
  length?: number;
}

/**
 * A `Uint8Array` (so a `Buffer` too) over memory that only this thread changes. The native part copies it before it
 * returns.
 */
export function bytes(refuse: Refuse, path: string, value: unknown, { length }: BytesShape = {}): Uint8Array {
  // Not `instanceof`: Jest and `vm` contexts have classes of their own.
  if (!types.isUint8Array(value)) {
    const how = typeof value === 'string' ? '; Buffer.from(text) makes one' : '';
    throw refuse(`${path} must be a Uint8Array, got ${kindOf(value)}${how}`);
  }
  if (!(value.buffer instanceof ArrayBuffer)) {
    const memory: unknown = value.buffer;
    if (types.isSharedArrayBuffer(memory)) throw refuse(`${path} must not be backed by a SharedArrayBuffer`);
    // One without its prototype has no length either.
    if (!types.isArrayBuffer(memory)) throw refuse(`${path} must be a Uint8Array with the properties of one`);
  }
  if (value.byteLength === 0 && isDetached(value.buffer)) throw refuse(`${path} must not be detached`);
  if (length !== undefined && value.byteLength !== length) {
    throw refuse(`${path} must be ${String(length)} bytes, got ${String(value.byteLength)}`);
  }
  return value;
}

/** An array of {@link bytes}. */
export function bytesArray(refuse: Refuse, path: string, value: unknown, shape: BytesShape = {}): Uint8Array[] {
  if (!Array.isArray(value)) throw refuse(`${path} must be an array, got ${kindOf(value)}`);
  const items: unknown[] = value;
  const checked: Uint8Array[] = [];
  for (let index = 0; index < items.length; index += 1) {
    const item = items[index];
    // The path is made only for what is wrong with one.
    checked.push(isPlain(item, shape) ? item : bytes(refuse, `${path}[${String(index)}]`, item, shape));
  }
  return checked;
}

/** Surely right; what is not may be right all the same. */
function isPlain(value: unknown, { length }: BytesShape): value is Uint8Array {
  return (
    types.isUint8Array(value) && value.byteLength > 0 && length === undefined && value.buffer instanceof ArrayBuffer
  );
}

/** Node 20 has no `ArrayBuffer.prototype.detached`; a view over a detached buffer cannot be made. */
export function isDetached(buffer: ArrayBufferLike): boolean {
  try {
    new Uint8Array(buffer);
    return false;
  } catch {
    return true;
  }
}
