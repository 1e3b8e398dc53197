/** Checks of what runtimes, daemons and moves are set up with. */

import { totalmem } from 'node:os';
import { readChannelName } from './channel-config';
import type { HostOptions, RuntimeConfig } from './native';
import type { MigrationOptions, MigrationRequest } from './types/migration';
import type { DaemonHostConfig, DaemonInstanceConfig, DaemonRuntimeOptions } from './types/runtime';
import { boolean, byteSize, daemonArea, integer, list, millis, name, options, text, u64 } from './validate/index';

const RUNTIME: Readonly<Record<keyof DaemonRuntimeOptions, true>> = {
  acceptMigrations: true,
  orchestrators: true,
  recoverLost: true,
  freezeTimeoutMs: true,
  silenceMs: true,
  handoverHoldMs: true,
  arrivalBudgetBytes: true,
};
const HOST: Readonly<Record<keyof DaemonInstanceConfig, true>> = {
  autoSnapshotInterval: true,
  maxLogEntries: true,
  callbackTimeoutMs: true,
  mailboxCapacity: true,
  mailboxBytes: true,
  outputChannel: true,
  kind: true,
};

/** A shorter one would end moves between two messages. */
const SHORTEST_SILENCE_MS = 50;

/** Decides whether a daemon may come. */
export type Admission = (request: MigrationRequest) => boolean | Promise<boolean>;

/** Decides whether a node may move daemons that live here. */
export type OrchestratorAdmission = (nodeId: bigint) => boolean | Promise<boolean>;

/** What a runtime is made with. */
export interface RuntimeSetup {
  readonly config: RuntimeConfig;
  readonly admit: Admission;
  readonly admitOrchestrator: OrchestratorAdmission;
}

export function readRuntimeOptions(given: DaemonRuntimeOptions | undefined, maxPayload: number): RuntimeSetup {
  const read = options(daemonArea, 'options', given, RUNTIME);
  const duration = (key: 'freezeTimeoutMs' | 'silenceMs' | 'handoverHoldMs', standard: number, min: number): number =>
    read[key] === undefined ? standard : millis(daemonArea, `options.${key}`, read[key], { min });
  const { acceptMigrations = false } = read;
  if (typeof acceptMigrations !== 'boolean' && typeof acceptMigrations !== 'function') {
    throw daemonArea('options.acceptMigrations must be a boolean or a function');
  }
  const orchestrators = readOrchestrators(read.orchestrators);
  const recoverLost =
    read.recoverLost === undefined ? false : boolean(daemonArea, 'options.recoverLost', read.recoverLost);
  const config: RuntimeConfig = {
    arrivals: typeof acceptMigrations === 'function' ? 'ask' : acceptMigrations ? 'any' : 'announced',
    orchestrators: typeof orchestrators === 'function' ? 'ask' : orchestrators === 'any' ? 'any' : 'listed',
    listedOrchestrators: Array.isArray(orchestrators) ? orchestrators : [],
    freezeTimeoutMs: duration('freezeTimeoutMs', 10_000, 1),
    silenceMs: duration('silenceMs', 15_000, SHORTEST_SILENCE_MS),
    handoverHoldMs: duration('handoverHoldMs', 600_000, 1),
    recoverLost,
    arrivalBudgetBytes:
      read.arrivalBudgetBytes === undefined
        ? BigInt(Math.floor(totalmem() / 4))
        : byteSize(daemonArea, 'options.arrivalBudgetBytes', read.arrivalBudgetBytes),
    maxPayloadBytes: maxPayload,
  };
  const admit = typeof acceptMigrations === 'function' ? (acceptMigrations as Admission) : () => acceptMigrations;
  const admitOrchestrator = typeof orchestrators === 'function' ? orchestrators : () => false;
  return { config, admit, admitOrchestrator };
}

function readOrchestrators(given: unknown): 'any' | bigint[] | OrchestratorAdmission {
  if (given === undefined) return [];
  if (given === 'any') return 'any';
  if (typeof given === 'function') return given as OrchestratorAdmission;
  if (!Array.isArray(given)) {
    throw daemonArea("options.orchestrators must be 'any', an array of node ids or a function");
  }
  return list(daemonArea, 'options.orchestrators', given, u64);
}

/** Settings of one daemon, with the defaults filled in. */
export function readHostConfig(given: DaemonHostConfig | undefined, kind = false): HostOptions & { kind?: string } {
  const { kind: _, ...plain } = HOST;
  const read = options<DaemonInstanceConfig>(
    daemonArea,
    'config',
    given,
    kind ? HOST : (plain as Readonly<Record<keyof DaemonInstanceConfig, true>>),
  );
  const config: HostOptions & { kind?: string } = {
    callbackTimeoutMs: 60_000,
    mailboxCapacity: 4_096,
    mailboxBytes: 16 * 1024 * 1024,
  };
  if (read.autoSnapshotInterval !== undefined) {
    config.autoSnapshotInterval = u64(daemonArea, 'config.autoSnapshotInterval', read.autoSnapshotInterval);
  }
  if (read.maxLogEntries !== undefined) integer(daemonArea, 'config.maxLogEntries', read.maxLogEntries);
  if (read.callbackTimeoutMs !== undefined) {
    config.callbackTimeoutMs = millis(daemonArea, 'config.callbackTimeoutMs', read.callbackTimeoutMs, { min: 1 });
  }
  if (read.mailboxCapacity !== undefined) {
    config.mailboxCapacity = integer(daemonArea, 'config.mailboxCapacity', read.mailboxCapacity, { min: 1 });
  }
  if (read.mailboxBytes !== undefined) {
    const max = Number.MAX_SAFE_INTEGER;
    config.mailboxBytes = integer(daemonArea, 'config.mailboxBytes', read.mailboxBytes, { min: 1, max });
  }
  if (read.outputChannel !== undefined) {
    const given = text(daemonArea, 'config.outputChannel', read.outputChannel);
    config.outputChannel = readChannelName('config.outputChannel', given);
  }
  if (read.kind !== undefined) config.kind = name(daemonArea, 'config.kind', read.kind);
  return config;
}

/** How a daemon is moved, with the defaults filled in. */
export function readMigrationOptions(given: MigrationOptions | undefined): {
  transportIdentity: boolean;
  retryNotReadyMs: number;
} {
  if (given === undefined) throw daemonArea('opts must be an object, got undefined');
  const known = { transportIdentity: true, retryNotReadyMs: true } as const;
  const read = options(daemonArea, 'opts', given, known);
  return {
    transportIdentity:
      read.transportIdentity === undefined
        ? true
        : boolean(daemonArea, 'opts.transportIdentity', read.transportIdentity),
    retryNotReadyMs:
      read.retryNotReadyMs === undefined ? 30_000 : millis(daemonArea, 'opts.retryNotReadyMs', read.retryNotReadyMs),
  };
}
