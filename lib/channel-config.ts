/** Checks of what a channel is made with. */

import { channelName } from './channel-name';
import type { ChannelOptions } from './native';
import type { CapabilityFilter } from './types/capabilities';
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
const CAPABILITIES: Readonly<Record<keyof CapabilityFilter, true>> = {
  requireTags: true,
  requireModels: true,
  requireTools: true,
  minMemoryGb: true,
  requireGpu: true,
  gpuVendor: true,
  minVramGb: true,
  minContextLength: true,
  requireModalities: true,
};

/** Checks everything and fills in the defaults. */
export function readChannelConfig(given: ChannelConfig | undefined): ChannelOptions {
  if (given === undefined) throw channelArea('config must be an object');
  const read = options(channelArea, 'config', given, KNOWN);
  const config: ChannelOptions = {
    name: readChannelName('config.name', read.name),
    visibility: choice(channelArea, 'config.visibility', read.visibility ?? 'global', [
      'subnet-local',
      'parent-visible',
      'exported',
      'global',
    ]),
    reliable: boolean(channelArea, 'config.reliable', read.reliable ?? false),
    requireToken: boolean(channelArea, 'config.requireToken', read.requireToken ?? false),
    tokenRoots: bytesArray(channelArea, 'config.tokenRoots', read.tokenRoots ?? [], { length: 32 }),
    priority: integer(channelArea, 'config.priority', read.priority ?? 0, { max: 255 }),
  };
  if (read.maxRatePps !== undefined) {
    config.maxRatePps = integer(channelArea, 'config.maxRatePps', read.maxRatePps, { min: 1 });
  }
  refuseCapabilities('config.publishCaps', read.publishCaps);
  refuseCapabilities('config.subscribeCaps', read.subscribeCaps);
  return config;
}

/** A canonical channel name. */
export function readChannelName(path: string, value: unknown): string {
  return channelName(channelArea, path, value);
}

/** A gate that cannot be held must not seem to be there. */
function refuseCapabilities(path: string, value: unknown): void {
  const filter = options(channelArea, path, value as CapabilityFilter | undefined, CAPABILITIES);
  for (const [key, wanted] of Object.entries(filter)) {
    if (Array.isArray(wanted) && wanted.length === 0) continue;
    throw channelArea(`${path}.${key} is not supported: there are no capabilities to check yet`);
  }
}
