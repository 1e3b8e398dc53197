/** What the native part asks for as objects, because it is rare: `src/runtime/work.rs` makes them. */

import type { ErrorRecord } from './errors/from-native';
import type { StopReason } from './types/daemon';
import type {
  DrainReport,
  MigrationPhase,
  MigrationProgress,
  MigrationRequest,
  MigrationRole,
} from './types/migration';
import type { DaemonLifeEvent } from './types/runtime';

interface OfDaemon {
  readonly slot: number;
  readonly generation: number;
}

/** Make the object. Its public key is in the inbox until the next call. */
export interface ConstructWork extends OfDaemon {
  readonly type: 'construct';
  readonly originHash: bigint;
  /** Empty for an instance without a kind. */
  readonly kind: string;
  /** The spawn's ticket; negative for an arrival. */
  readonly ticket: number;
  readonly arrival: boolean;
}

/** Give the object its state. */
export interface RestoreWork extends OfDaemon {
  readonly type: 'restore';
  readonly state: Buffer;
}

/** Read a slice of what `snapshot` returned, or see whether one that was read has changed. */
export interface ReadStateWork extends OfDaemon {
  readonly type: 'read-state' | 'check-state';
  readonly offset: number;
  readonly length: number;
}

/** Let the object go. */
export interface RetireWork extends OfDaemon {
  readonly type: 'retire';
  readonly reason: StopReason;
}

/** Something of a daemon that needs no more than its name. */
export interface PlainWork extends OfDaemon {
  readonly type: 'yield' | 'abort' | 'hush' | 'snapshot' | 'release-state';
}

/** Ask the policy. */
export interface AdmitWork {
  readonly type: 'admit';
  readonly question: number;
  readonly request: MigrationRequest;
}

/** Ask the policy whether a node may move daemons of this one. */
export interface AdmitOrchestratorWork {
  readonly type: 'admit-orchestrator';
  readonly question: number;
  readonly nodeId: bigint;
}

/** Somebody's wait is over. Which fields there are depends on what was waited for. */
export interface SettleWork extends Partial<OfDaemon> {
  readonly type: 'settle';
  readonly ticket: number;
  readonly failure?: ErrorRecord;
  readonly outputs?: Buffer[];
  readonly links?: BigUint64Array;
  readonly snapshot?: Buffer | null;
  readonly node?: bigint | null;
  readonly migration?: bigint;
  readonly originHash?: bigint;
  readonly sourceNode?: bigint;
  readonly targetNode?: bigint;
  readonly drained?: DrainedDaemon[];
}

/** What became of a daemon that was to go. */
export interface DrainedDaemon extends Omit<DrainReport, 'error'> {
  readonly failure?: ErrorRecord;
}

/** Something happened to a daemon. */
export interface DaemonNotice extends OfDaemon {
  readonly type: 'daemon';
  readonly event: DaemonLifeEvent['type'];
  readonly originHash: bigint;
  readonly kind: string;
}

/** A subscription of a daemon ended by itself (`failure`), or has a gap (`missed`). */
export interface SubscriptionNotice {
  readonly type: 'subscription';
  readonly originHash: bigint;
  readonly publisher: bigint;
  readonly channel: string;
  readonly queueGroup?: string;
  readonly failure?: ErrorRecord;
  readonly missed?: bigint;
}

/** A move that this node drives went on or ended. */
export type MoveNotice =
  | { readonly type: 'phase'; readonly migration: bigint; readonly phase: MigrationPhase }
  | { readonly type: 'progress'; readonly migration: bigint; readonly progress: MigrationProgress }
  | { readonly type: 'too-late'; readonly migration: bigint }
  | { readonly type: 'over'; readonly migration: bigint; readonly failure?: ErrorRecord };

/** Any part of this node in a move. */
export interface MigrationNotice {
  readonly type: 'migration';
  readonly role: MigrationRole;
  readonly originHash: bigint;
  readonly sourceNode: bigint;
  readonly targetNode: bigint;
  readonly attempt: number;
  readonly phase?: MigrationPhase;
  readonly failure?: ErrorRecord;
}

/** A message arrived at a gate that a test closed. */
export interface GateNotice {
  readonly type: 'gate';
  readonly message: string;
}

export type RareWork =
  | ConstructWork
  | RestoreWork
  | ReadStateWork
  | RetireWork
  | PlainWork
  | AdmitWork
  | AdmitOrchestratorWork
  | SettleWork
  | DaemonNotice
  | SubscriptionNotice
  | MoveNotice
  | MigrationNotice
  | GateNotice;
