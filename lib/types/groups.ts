import type { DaemonHostConfig } from './runtime';

/**
 * How a group picks the member that gets a request.
 *
 * Reserved: not used yet.
 *
 * @public
 */
export type Strategy =
  | 'round-robin'
  | 'weighted-round-robin'
  | 'least-connections'
  | 'weighted-least-connections'
  | 'random'
  | 'weighted-random'
  | 'consistent-hash'
  | 'least-latency'
  | 'least-load'
  | 'power-of-two'
  | 'adaptive';

/**
 * What routing may look at.
 *
 * Reserved: not used yet.
 *
 * @public
 */
export interface RequestContext {
  routingKey?: string;
  sessionId?: string;
  requestId?: string;
  clientZone?: string;
  requiredTags?: readonly string[];
}

/**
 * One member of a group.
 *
 * Reserved: not used yet.
 *
 * @public
 */
export interface MemberInfo {
  readonly index: number;
  readonly originHash: bigint;
  readonly nodeId: bigint;
  readonly entityId: Buffer;
  readonly healthy: boolean;
}

/**
 * How a group is.
 *
 * Reserved: not used yet.
 *
 * @public
 */
export interface GroupHealth {
  readonly status: 'healthy' | 'degraded' | 'dead';
  readonly healthy: number;
  readonly total: number;
}

/**
 * How a group of interchangeable members is made.
 *
 * Reserved: not used yet.
 *
 * @public
 */
export interface ReplicaGroupConfig {
  replicaCount: number;
  /** 32 bytes that the members' keys are derived from. */
  groupSeed: Uint8Array;
  lbStrategy: Strategy;
  hostConfig?: DaemonHostConfig;
}

/**
 * How a group of forks is made.
 *
 * Reserved: not used yet.
 *
 * @public
 */
export interface ForkGroupConfig {
  forkCount: number;
  lbStrategy: Strategy;
  hostConfig?: DaemonHostConfig;
}

/**
 * How a group of one active and several standby members is made.
 *
 * Reserved: not used yet.
 *
 * @public
 */
export interface StandbyGroupConfig {
  /** At least 2. */
  memberCount: number;
  /** 32 bytes that the members' keys are derived from. */
  groupSeed: Uint8Array;
  hostConfig?: DaemonHostConfig;
}

/**
 * Where a fork comes from.
 *
 * Reserved: not used yet.
 *
 * @public
 */
export interface ForkRecord {
  readonly index: number;
  readonly originHash: bigint;
  readonly parentOrigin: bigint;
  readonly forkSeq: bigint;
  readonly sentinel: bigint;
  /** Whether the parent signed it; `false` for a fork of an unknown parent. */
  readonly attested: boolean;
}

/**
 * What a member of a standby group is.
 *
 * Reserved: not used yet.
 *
 * @public
 */
export type StandbyRole = 'active' | 'standby';
