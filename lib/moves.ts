/** The moves that a runtime began, and the parts that its node has in moves: what native notices become. */

import { native } from './binding';
import { DaemonError, MigrationError } from './errors/index';
import { errorFromNative, type ErrorRecord } from './errors/from-native';
import type { Move } from './migration';
import type { MigrationNotice, MoveNotice } from './runtime-work';
import type { MigrationEvent, MigrationPhase } from './types/migration';

/** Gives a failure of a move between these nodes with what may have caused it. */
export type Explain = (failure: ErrorRecord, nodes: readonly bigint[]) => ErrorRecord;

export class Moves {
  readonly #explain: Explain;
  readonly #begun = new Map<bigint, Move>();
  /** How far parts of this node in moves were when they were last heard of. */
  readonly #phases = new Map<string, MigrationPhase>();

  constructor(explain: Explain) {
    this.#explain = explain;
  }

  /** A move that somebody here holds a handle of. */
  began(move: Move): void {
    this.#begun.set(move.id, move);
  }

  /** News for the handle of a move. */
  take(notice: MoveNotice): void {
    const move = this.#begun.get(notice.migration);
    if (move === undefined) return;
    if (notice.type === 'over' && notice.failure !== undefined) {
      const failure = this.#explain(notice.failure, [move.sourceNode, move.targetNode]);
      move.take({ ...notice, failure });
    } else {
      move.take(notice);
    }
    if (notice.type === 'over') this.#begun.delete(notice.migration);
  }

  /** What listeners are told of a part of this node. A failure comes without its phase: it is the last one heard of. */
  event({ role, originHash, sourceNode, targetNode, attempt, phase, failure }: MigrationNotice): MigrationEvent {
    const part = `${role} ${String(originHash)}`;
    const known = phase ?? this.#phases.get(part) ?? 'snapshot';
    if (failure === undefined && known !== 'complete') this.#phases.set(part, known);
    else this.#phases.delete(part);
    const info = { originHash, role, sourceNode, targetNode, phase: known, attempt };
    return failure === undefined
      ? { type: 'phase', ...info }
      : { type: 'failed', ...info, error: migrationError(this.#explain(failure, [sourceNode, targetNode])) };
  }

  /** The runtime is shut down: every handle ends. */
  end(): void {
    const failure = {
      code: 'ERR_MIGRATION_CANCELLED',
      message: 'the runtime was shut down',
      // The native part tells of every move that it knows; of any other one nothing is known.
      fields: { outcome: 'unknown' },
    };
    for (const move of this.#begun.values()) move.take({ type: 'over', migration: move.id, failure });
    this.#begun.clear();
    this.#phases.clear();
  }
}

/** Has a runtime take a daemon over. Where there is nothing to take over, the error says what is left to do. */
export function recover(runtime: number, ticket: number, origin: bigint): void {
  try {
    native.runtimeRecover(runtime, ticket, origin);
  } catch (error) {
    if (!(error instanceof DaemonError) || error.code !== 'ERR_DAEMON_NOT_FOUND') throw error;
    const message = `no move left a copy of daemon ${String(origin)} here; one that died with its host lives on in snapshots only`;
    throw new DaemonError(message, { code: error.code });
  }
}

/** The error of a move that failed. */
export function migrationError(record: ErrorRecord): MigrationError {
  const error = errorFromNative(record);
  return error instanceof MigrationError ? error : new MigrationError(error.message, { cause: error });
}
