import type { MigrationError } from '../errors/classes';
import type { Millis, WaitOptions } from './values';

/**
 * Where a move stands.
 *
 * @public
 */
export type MigrationPhase = 'snapshot' | 'transfer' | 'restore' | 'replay' | 'cutover' | 'complete';

/**
 * What this node does in a move.
 *
 * @public
 */
export type MigrationRole = 'source' | 'target' | 'orchestrator';

/**
 * How a daemon is moved.
 *
 * @public
 */
export interface MigrationOptions {
  /**
   * Moves the daemon's key, sealed to the target. Default `true`. With `false` the daemon has at the target the key that
   * {@link DaemonRuntime.registerMigrationTargetIdentity} gave it there. With none it runs, but cannot sign or subscribe
   * (`ERR_IDENTITY_READ_ONLY`), and moves on only with `false` again, at most 16 times after each other until a target has its key; the
   * next move fails with `identity-transport-failed`.
   */
  transportIdentity?: boolean;
  /** For how long a target that is not ready, or has no room, is asked again. Default 30 000; 0 never asks again. */
  retryNotReadyMs?: Millis;
}

/**
 * A daemon asks to come in; see {@link DaemonRuntimeOptions.acceptMigrations}.
 *
 * @public
 */
export interface MigrationRequest {
  readonly originHash: bigint;
  readonly entityId: Buffer;
  readonly kind: string;
  readonly sourceNode: bigint;
  readonly orchestrator: bigint;
  /**
   * Size of its state, as far as it is known: that of its newest snapshot, `0n` when none was taken yet. When the state that
   * is about to come turns out to be over 64 KiB larger than that, the predicate is asked again, with its real size, before
   * any of it arrives.
   */
  readonly stateBytes: bigint;
}

/**
 * A move that this node takes part in.
 *
 * @public
 */
export interface MigrationInfo {
  readonly originHash: bigint;
  readonly role: MigrationRole;
  readonly sourceNode: bigint;
  readonly targetNode: bigint;
  readonly phase: MigrationPhase;
  readonly attempt: number;
}

/**
 * How far a move got.
 *
 * @public
 */
export interface MigrationProgress {
  readonly phase: MigrationPhase;
  readonly bytesSent: bigint;
  readonly bytesTotal: bigint;
  readonly eventsBuffered: bigint;
  readonly eventsReplayed: bigint;
  readonly elapsedMs: number;
}

/**
 * Something happened to a move that this node takes part in. A node that drives the move of a daemon of its own takes part twice,
 * and tells each phase once for each `role`. A target whose source is lost says `failed` with the outcome `'unknown'`, for the source
 * may go on behind a broken network. With the `phase` `'cutover'`, the source may have released the daemon to it: its copy is in
 * doubt and kept, the logger is warned, and what becomes of it follows as another event. With an earlier one nothing was handed
 * over and nothing is kept. The same, with `nodeId`, is published on the `node:diagnostics_channel` named `mesh-daemon:migration`.
 *
 * @public
 */
export type MigrationEvent =
  | (MigrationInfo & { readonly type: 'phase' })
  | (MigrationInfo & { readonly type: 'failed'; readonly error: MigrationError });

/**
 * Options of `drain`.
 *
 * @public
 */
export interface DrainOptions extends WaitOptions {
  /** How long all moves together may take. Default: as long as they take. */
  timeoutMs?: Millis;
}

/**
 * What `drain` did with one daemon.
 *
 * @public
 */
export interface DrainReport {
  readonly originHash: bigint;
  readonly outcome: MigrationOutcome;
  /** Where it went, or may have gone. */
  readonly targetNode?: bigint;
  /** Why it did not surely go: what the last attempt came to, or that there was none. */
  readonly error?: MigrationError;
}

/**
 * Where the daemon is after a move that failed: on the source (still, or again), on the target, lost with its host, or unknown: a
 * peer was lost at the instant of the hand-over, or a source that is silent cannot say that it has the daemon. Silence does not
 * tell a process that was killed from one behind a broken network, so a source that is killed before the hand-over leaves
 * `'unknown'` as well. `'lost'` takes proof: a goodbye, or that its node started again under its `identitySeed`.
 *
 * @public
 */
export type MigrationOutcome = 'source' | 'target' | 'unknown' | 'lost';
