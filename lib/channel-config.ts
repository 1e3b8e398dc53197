/** Checks of what a channel is made with. */

import { readCapabilityFilter } from './capabilities';
import { channelName } from './channel-name';
import type { ChannelOptions } from './native';
import type { ChannelConfig } from './types/channels';
import { boolean, bytesArray, channelArea, choice, integer, options } from './validate/index';

const KNOWN: Readonly<Record<keyof ChannelConfig, true>> = {
  name: true,
  visibility: true,
  reliable: true,
  requireToken: true,
  tokenRoots: true,
  priority: true,
  maxRatePps: true,
  publishCaps: true,
  subscribeCaps: true,
};

/** Checks everything and fills in the defaults. */
export function readChannelConfig(given: ChannelConfig | undefined): ChannelOptions {
  if (given === undefined) throw channelArea('config must be an object');
  const read = options(channelArea, 'config', given, KNOWN);
  // `null` is no default.
  const { visibility = 'global', reliable = false, requireToken = false, priority = 0 } = read;
  const config: ChannelOptions = {
    name: readChannelName('config.name', read.name),
    visibility: choice(channelArea, 'config.visibility', visibility, [
      'subnet-local',
      'parent-visible',
      'exported',
      'global',
    ]),
    reliable: boolean(channelArea, 'config.reliable', reliable),
    requireToken: boolean(channelArea, 'config.requireToken', requireToken),
    tokenRoots: readTokenRoots('config.tokenRoots', read.tokenRoots),
    priority: integer(channelArea, 'config.priority', priority, { max: 255 }),
  };
  if (read.maxRatePps !== undefined) {
    config.maxRatePps = integer(channelArea, 'config.maxRatePps', read.maxRatePps, { min: 1 });
  }
  if (read.publishCaps !== undefined) {
    config.publishCaps = readCapabilityFilter(channelArea, 'config.publishCaps', read.publishCaps);
  }
  if (read.subscribeCaps !== undefined) {
    config.subscribeCaps = readCapabilityFilter(channelArea, 'config.subscribeCaps', read.subscribeCaps);
  }
  return config;
}

/** An empty list would leave open what was to be gated. */
function readTokenRoots(path: string, value: unknown): Uint8Array[] {
  if (value === undefined) return [];
  const roots = bytesArray(channelArea, path, value, { length: 32 });
  if (roots.length === 0) {
    throw channelArea(`${path} must not be empty; requireToken alone asks for tokens of this node`);
  }
  return roots;
}

/** A canonical channel name. */
export function readChannelName(path: string, value: unknown): string {
  return channelName(channelArea, path, value);
}
