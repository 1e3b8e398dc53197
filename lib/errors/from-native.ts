/** Makes instances of the error classes from what the native part reports. */

import * as classes from './classes';
import { rowOfCode } from './codes';

/** A failure as the native part reports it. */
export interface ErrorRecord {
  readonly code: string;
  readonly message: string;
  readonly fields?: Readonly<Record<string, bigint | number | string>>;
  /** The daemon's own error, when it was thrown on another node. */
  readonly cause?: { readonly name: string; readonly message: string; readonly stack?: string | null };
}

type AnyErrorClass = new (message: string, options: Record<string, unknown>) => classes.MeshDaemonError;

/**
 * Makes the error of a record. `cause`, when given, is the very error that the daemon threw in this process and goes
 * before what the record tells of it.
 */
export function errorFromNative(record: ErrorRecord, cause?: unknown): classes.MeshDaemonError {
  const row = rowOfCode(record.code);
  const ErrorClass = classes[row?.class ?? 'MeshDaemonError'] as AnyErrorClass;
  const told = cause ?? (record.cause && remoteError(record.cause));
  return new ErrorClass(record.message, {
    ...record.fields,
    code: record.code,
    ...(row?.kind === undefined ? {} : { kind: row.kind }),
    ...(told === undefined ? {} : { cause: told }),
  });
}

/** An error with the name, message and stack of one that was thrown on another node. */
function remoteError(told: NonNullable<ErrorRecord['cause']>): Error {
  const error = new Error(told.message);
  Object.defineProperty(error, 'name', { value: told.name, configurable: true, writable: true });
  error.stack = told.stack ?? `${told.name}: ${told.message}\n    at another node`;
  return error;
}
