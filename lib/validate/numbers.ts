/** Checks of numbers. Each returns the checked value, or throws the area's error; messages begin with the path. */

import type { Refuse } from './area';
import { kindOf } from './kind';

const U64_MAX = 2n ** 64n - 1n;
/** The largest number that `integer` accepts unless told otherwise. */
const U32_MAX = 2 ** 32 - 1;

/** A `bigint` within u64. */
export function u64(refuse: Refuse, path: string, value: unknown): bigint {
  if (typeof value !== 'bigint') throw refuse(`${path} must be a bigint, got ${kindOf(value)}`);
  return withinU64(refuse, path, value);
}

/** A whole `number`, by default from 0 to the largest u32. */
export function integer(
  refuse: Refuse,
  path: string,
  value: unknown,
  { min = 0, max = U32_MAX }: { min?: number; max?: number } = {},
): number {
  const checked = wholeNumber(refuse, path, value);
  if (checked < 0 && min === 0) throw refuse(`${path} must be non-negative`);
  if (checked < min) throw refuse(`${path} must be at least ${String(min)}`);
  if (checked > max) throw refuse(`${path} must be at most ${String(max)}`);
  return checked;
}

/**
 * A duration as a `number` of milliseconds. A `bigint` may be as large as a u64: no clock lives to see the rounding.
 */
export function millis(
  refuse: Refuse,
  path: string,
  value: unknown,
  { min = 0, max = Infinity }: { min?: number; max?: number } = {},
): number {
  if (typeof value !== 'bigint' && typeof value !== 'number')
    throw refuse(`${path} must be a number or a bigint, got ${kindOf(value)}`);
  const checked = typeof value === 'bigint' ? Number(withinU64(refuse, path, value)) : wholeNumber(refuse, path, value);
  if (checked < 0) throw refuse(`${path} must be non-negative`);
  if (checked < min) throw refuse(`${path} must be at least ${String(min)}`);
  if (checked > max) throw refuse(`${path} must be at most ${String(max)}`);
  return checked;
}

/** A size in bytes, as a `bigint`. */
export function byteSize(refuse: Refuse, path: string, value: unknown): bigint {
  if (typeof value === 'bigint') return withinU64(refuse, path, value);
  if (typeof value !== 'number') throw refuse(`${path} must be a number or a bigint, got ${kindOf(value)}`);
  return BigInt(integer(refuse, path, value, { max: Number.MAX_SAFE_INTEGER }));
}

/** A finite `number`. */
export function finite(refuse: Refuse, path: string, value: unknown): number {
  if (typeof value !== 'number') throw refuse(`${path} must be a number, got ${kindOf(value)}`);
  if (!Number.isFinite(value)) throw refuse(`${path} must be finite`);
  return value;
}

function wholeNumber(refuse: Refuse, path: string, value: unknown): number {
  const checked = finite(refuse, path, value);
  if (!Number.isInteger(checked)) throw refuse(`${path} must be an integer`);
  if (Math.abs(checked) > Number.MAX_SAFE_INTEGER) throw refuse(`${path} must be a safe integer`);
  return checked;
}

function withinU64(refuse: Refuse, path: string, value: bigint): bigint {
  if (value < 0n) throw refuse(`${path} must be non-negative`);
  if (value > U64_MAX) throw refuse(`${path} must be within u64 range`);
  return value;
}
