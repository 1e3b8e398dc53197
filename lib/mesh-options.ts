/** Checks of what a mesh node is made with. */

import { types } from 'node:util';
import type { MeshConfig } from './native';
import type { MeshNodeOptions, SubnetOptions } from './types/mesh';
import { boolean, bytes, integer, kindOf, list, meshArea, millis, options, text } from './validate/index';
import type { Refuse } from './validate/index';

const KNOWN: Readonly<Record<keyof MeshNodeOptions, true>> = {
  bindAddr: true,
  psk: true,
  identitySeed: true,
  heartbeatIntervalMs: true,
  sessionTimeoutMs: true,
  reconnect: true,
  maxPayloadBytes: true,
  maxPeers: true,
  relay: true,
  subnet: true,
  tokenClockSkewMs: true,
  seeds: true,
  capabilityGcIntervalMs: true,
  requireSignedCapabilities: true,
  numShards: true,
};

/** A shorter one would not leave room for a few heartbeats, which are sent 10 ms apart at the most often. */
const SHORTEST_SESSION_TIMEOUT_MS = 40;

/** A token that is taken so much earlier than it says is hardly bound to its beginning any more. */
const LARGEST_CLOCK_SKEW_MS = 300_000;

const DEFAULTS = {
  heartbeatIntervalMs: 5_000,
  sessionTimeoutMs: 30_000,
  maxPayloadBytes: 64 * 1024 * 1024,
  maxPeers: 1_024,
  tokenClockSkewMs: 5_000,
  capabilityGcIntervalMs: 60_000,
};

/** Checks everything and fills in the defaults. */
export function readMeshOptions(given: MeshNodeOptions | undefined): MeshConfig {
  if (given === undefined) throw meshArea('options must be an object');
  const read = options(meshArea, 'options', given, KNOWN);
  const config: MeshConfig = {
    bindAddr: readAddress('options.bindAddr', read.bindAddr),
    psk: readPsk('options.psk', read.psk),
    heartbeatIntervalMs: DEFAULTS.heartbeatIntervalMs,
    sessionTimeoutMs: DEFAULTS.sessionTimeoutMs,
    reconnect: true,
    maxPayloadBytes: DEFAULTS.maxPayloadBytes,
    maxPeers: DEFAULTS.maxPeers,
    seeds: [],
    relay: true,
    tokenClockSkewMs: DEFAULTS.tokenClockSkewMs,
    capabilityGcIntervalMs: DEFAULTS.capabilityGcIntervalMs,
  };
  if (read.identitySeed !== undefined) {
    config.identitySeed = bytes(meshArea, 'options.identitySeed', read.identitySeed, { length: 32 });
  }
  if (read.heartbeatIntervalMs !== undefined) {
    config.heartbeatIntervalMs = millis(meshArea, 'options.heartbeatIntervalMs', read.heartbeatIntervalMs);
  }
  if (read.sessionTimeoutMs !== undefined) {
    config.sessionTimeoutMs = millis(meshArea, 'options.sessionTimeoutMs', read.sessionTimeoutMs, {
      min: SHORTEST_SESSION_TIMEOUT_MS,
    });
  }
  if (read.reconnect !== undefined) config.reconnect = boolean(meshArea, 'options.reconnect', read.reconnect);
  if (read.maxPayloadBytes !== undefined) {
    config.maxPayloadBytes = integer(meshArea, 'options.maxPayloadBytes', read.maxPayloadBytes, { min: 1 });
  }
  if (read.maxPeers !== undefined) config.maxPeers = integer(meshArea, 'options.maxPeers', read.maxPeers, { min: 1 });
  if (read.relay !== undefined) config.relay = boolean(meshArea, 'options.relay', read.relay);
  const subnet = readSubnet(read.subnet as SubnetOptions | undefined);
  if (subnet !== undefined) config.subnet = subnet;
  if (read.tokenClockSkewMs !== undefined) {
    config.tokenClockSkewMs = millis(meshArea, 'options.tokenClockSkewMs', read.tokenClockSkewMs, {
      max: LARGEST_CLOCK_SKEW_MS,
    });
  }
  if (read.seeds !== undefined) {
    config.seeds = list(meshArea, 'options.seeds', read.seeds, (_, path, seed) => readAddress(path, seed));
  }
  if (read.capabilityGcIntervalMs !== undefined) {
    config.capabilityGcIntervalMs = millis(meshArea, 'options.capabilityGcIntervalMs', read.capabilityGcIntervalMs);
  }
  if (read.requireSignedCapabilities !== undefined) {
    boolean(meshArea, 'options.requireSignedCapabilities', read.requireSignedCapabilities);
  }
  if (read.numShards !== undefined) integer(meshArea, 'options.numShards', read.numShards, { min: 1 });
  return config;
}

/** `host:port`, with an IPv6 host in brackets. Whether the host exists shows when it is used. */
export function readAddress(path: string, value: unknown): string {
  const address = text(meshArea, path, value);
  const match = /^(?:\[[0-9a-fA-F:.%\w]+\]|[^:\s[\]]+):(\d{1,5})$/.exec(address);
  if (match === null) throw meshArea(`${path} must be 'host:port', got '${address}'`);
  if (Number(match[1]) > 65_535) throw meshArea(`${path} must have a port of at most 65535, got '${address}'`);
  return address;
}

/** 32 bytes in hex. */
export function readKey(path: string, value: unknown): Uint8Array {
  return fromHex(meshArea, path, text(meshArea, path, value), '64 hex characters');
}

function readPsk(path: string, value: unknown): Uint8Array {
  if (typeof value === 'string') return fromHex(meshArea, path, value, '64 hex characters or 32 bytes');
  if (value === undefined) throw meshArea(`${path} must be 64 hex characters or 32 bytes`);
  if (!types.isUint8Array(value)) {
    throw meshArea(`${path} must be 64 hex characters or 32 bytes, got ${kindOf(value)}`);
  }
  return bytes(meshArea, path, value, { length: 32 });
}

function fromHex(refuse: Refuse, path: string, hex: string, expected: string): Uint8Array {
  // The value itself is not shown: it may be a secret.
  if (!/^[0-9a-fA-F]{64}$/.test(hex)) throw refuse(`${path} must be ${expected}`);
  return Buffer.from(hex, 'hex');
}

function readSubnet(subnet: SubnetOptions | undefined): Uint8Array | undefined {
  const read = options(meshArea, 'options.subnet', subnet, { levels: true });
  if (subnet === undefined) return undefined;
  const levels = list(meshArea, 'options.subnet.levels', read.levels, (refuse, path, level) =>
    integer(refuse, path, level, { max: 255 }),
  );
  if (levels.length < 1 || levels.length > 4) {
    throw meshArea(`options.subnet.levels must have 1 to 4 levels, got ${String(levels.length)}`);
  }
  return Uint8Array.from(levels);
}
