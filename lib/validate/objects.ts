/** Checks of strings, functions, choices and option objects. */

import type { Refuse } from './area';
import { kindOf } from './kind';

/** A string. */
export function text(refuse: Refuse, path: string, value: unknown): string {
  if (typeof value !== 'string') throw refuse(`${path} must be a string, got ${kindOf(value)}`);
  return value;
}

/** A string that is not empty. */
export function name(refuse: Refuse, path: string, value: unknown): string {
  const checked = text(refuse, path, value);
  if (checked === '') throw refuse(`${path} must not be empty`);
  return checked;
}

export function boolean(refuse: Refuse, path: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw refuse(`${path} must be a boolean, got ${kindOf(value)}`);
  return value;
}

/** Anything that can be called. */
export function callable<F>(refuse: Refuse, path: string, value: F): F {
  if (typeof value !== 'function') throw refuse(`${path} must be a function, got ${kindOf(value)}`);
  return value;
}

/** One of a few strings. */
export function choice<const C extends string>(refuse: Refuse, path: string, value: unknown, choices: readonly C[]): C {
  if (!choices.includes(value as C)) {
    throw refuse(`${path} must be one of ${choices.map((one) => `'${one}'`).join(', ')}`);
  }
  return value as C;
}

/** An array of whatever `item` checks. */
export function list<T>(
  refuse: Refuse,
  path: string,
  value: unknown,
  item: (refuse: Refuse, path: string, value: unknown) => T,
): T[] {
  if (!Array.isArray(value)) throw refuse(`${path} must be an array, got ${kindOf(value)}`);
  return Array.from(value, (one, index) => item(refuse, `${path}[${String(index)}]`, one));
}

/**
 * An options object of which each property was read once; those that are `undefined` are left out. `undefined` stands
 * for no options, keys that nobody knows are refused.
 */
export function options<T extends object>(
  refuse: Refuse,
  path: string,
  value: T | null | undefined,
  known: Readonly<Record<keyof T, true>>,
): Partial<Record<keyof T, unknown>> {
  if (value === undefined) return {};
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw refuse(`${path} must be an object, got ${kindOf(value)}`);
  const read: Partial<Record<keyof T, unknown>> = {};
  for (const key of Object.keys(value)) {
    if (!Object.hasOwn(known, key)) {
      throw refuse(`unknown option '${key}' in ${path}; there are ${Object.keys(known).join(', ')}`);
    }
  }
  // Read by known name, so that accessors and inherited properties of a class instance count too.
  for (const key of Object.keys(known) as (keyof T)[]) {
    const found: unknown = value[key];
    if (found !== undefined) read[key] = found;
  }
  return read;
}
