/**
 * A duration in milliseconds.
 *
 * @public
 */
export type Millis = number | bigint;

/**
 * What methods with a `signal` in their options accept.
 *
 * @public
 */
export interface WaitOptions {
  /** Stops the waiting; the promise then rejects with `signal.reason`, also when it was aborted before the call. */
  signal?: AbortSignal;
}

/**
 * What `setLogger` passes on: one event of the native part.
 *
 * @public
 */
export interface LogRecord {
  readonly level: LogLevel;
  /** The part of the system that speaks, for example `mesh_daemon_core::mesh`. */
  readonly target: string;
  readonly message: string;
  /**
   * What it is about, by name. 64-bit numbers are bigints, addresses of daemons and nodes their decimal digits. What is said of
   * a move has `origin` (the daemon), `migration` (32 hexadecimal digits, the same on every node) and `role` (`source`, `target` or
   * `orchestrator`: this node's part in it).
   */
  readonly fields: Readonly<Record<string, string | number | bigint | boolean>>;
}

/**
 * How urgent a log record is; each level includes those before it.
 *
 * @public
 */
export type LogLevel = 'error' | 'warn' | 'info' | 'debug' | 'trace';

/**
 * Receives log records.
 *
 * @public
 */
export type Logger = (record: LogRecord) => void;
