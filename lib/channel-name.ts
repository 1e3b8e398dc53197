/** Names of channels. */

import { native } from './binding';
import { text, type Refuse } from './validate/index';

/** A canonical channel name. */
export function channelName(refuse: Refuse, path: string, value: unknown): string {
  const name = text(refuse, path, value);
  hashOf(refuse, path, name);
  return name;
}

/** The name of a queue group of a channel; none is fine. */
export function queueGroup(refuse: Refuse, path: string, channel: string, value: unknown): string | undefined {
  if (value === undefined) return undefined;
  const group = text(refuse, path, value);
  hashOf(refuse, path, channel, group);
  return group;
}

/** The 64-bit name of a canonical one, or of a queue group of it. */
export function hashOf(refuse: Refuse, path: string, name: string, group?: string): bigint {
  try {
    return native.channelHash(name, group);
  } catch (error) {
    throw refuse(`${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
