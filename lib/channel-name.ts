/** Names of channels. */

import { native } from './binding';
import { text, type Refuse } from './validate/index';

/** A canonical channel name. */
export function channelName(refuse: Refuse, path: string, value: unknown): string {
  const name = text(refuse, path, value);
  hashOf(refuse, path, name);
  return name;
}

/** The 64-bit name of a canonical one. */
export function hashOf(refuse: Refuse, path: string, name: string): bigint {
  try {
    return native.channelHash(name);
  } catch (error) {
    throw refuse(`${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
