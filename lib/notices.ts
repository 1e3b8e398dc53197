/**
 * What the native part has to tell: settled operations, peers whose state changed, log records.
 *
 * It comes in batches, on this thread. Nothing in here throws: a listener that does is reported as an uncaught exception,
 * like one of an EventEmitter, and does not stop the others.
 */

import type { ErrorRecord } from './errors/from-native';
import type { PeerState } from './types/mesh';
import type { LogRecord } from './types/values';

/** An operation ended. */
export interface Settlement {
  readonly operation: number;
  readonly value?: unknown;
  readonly failure?: ErrorRecord;
}

/** A peer's state changed. */
export interface PeerChange {
  readonly mesh: number;
  readonly type: PeerState;
  readonly nodeId: bigint;
}

/** A reader of a channel has something to read. */
export interface ReaderNews {
  readonly mesh: number;
  readonly reader: bigint;
}

/** A batch of news. */
export interface Notices {
  readonly settled: readonly Settlement[];
  readonly peers: readonly PeerChange[];
  readonly readable: readonly ReaderNews[];
  readonly lines: readonly LogRecord[];
  readonly linesDropped: number;
}

/** Who takes which kind of news. */
interface Receivers {
  settled: (settlement: Settlement) => void;
  peer: (change: PeerChange) => void;
  readable: (news: ReaderNews) => void;
  line: (line: LogRecord) => void;
}

const receivers: Receivers = { settled: ignore, peer: ignore, readable: ignore, line: ignore };

/** Says who takes one kind of news. */
export function onNotice<K extends keyof Receivers>(kind: K, receiver: Receivers[K]): void {
  receivers[kind] = receiver;
}

/** Hands a batch out. */
export function receiveNotices(notices: Notices): void {
  for (const settlement of notices.settled) guard(receivers.settled, settlement);
  for (const change of notices.peers) guard(receivers.peer, change);
  for (const news of notices.readable) guard(receivers.readable, news);
  for (const line of notices.lines) guard(receivers.line, line);
  if (notices.linesDropped > 0) {
    guard(receivers.line, {
      level: 'warn',
      target: 'mesh_daemon::logger',
      message: 'log records were dropped because the event loop was busy',
      fields: { dropped: notices.linesDropped },
    });
  }
}

/** Calls a function of the user's that nobody waits for. */
export function guard<T>(call: (value: T) => void, value: T): void {
  try {
    call(value);
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}

function ignore(): void {
  // Nobody asked for this kind of news yet.
}
