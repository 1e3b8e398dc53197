/** What comes back from the daemon's code: outputs, garbage, errors. */

// Not the global, which is read through a getter.
import { Buffer } from 'node:buffer';
import { types } from 'node:util';
import { DaemonError } from './errors/index';
import type { ThrownRecord } from './native';
import { MOST_OUTPUTS } from './runtime-scratch';
import { isDetached, kindOf } from './validate/index';

/** Longer texts are cut before they travel. */
const MESSAGE = 4_096;
const STACK = 16_384;

/**
 * What an event came to when it failed: the error to tell, and the same as it travels. Both are made as soon as it fails:
 * reading what was thrown may run code of the user's, which must not find a report half written.
 */
export class Failed {
  constructor(
    readonly error: DaemonError,
    readonly record: ThrownRecord,
  ) {}
}

/** The outputs of an event, which are the receiver's, or its failure. */
export type Outcome = Buffer[] | Failed;

/** What the code threw or rejected with. */
export function failedBy(thrown: unknown): Failed {
  const record = thrownRecord(thrown);
  const error = new DaemonError(`the daemon failed to process the event: ${record.message}`, {
    code: 'ERR_DAEMON_PROCESS_FAILED',
    cause: thrown,
  });
  return new Failed(error, record);
}

/** An event that failed by no fault of the daemon's code. */
export function failedWith(error: DaemonError): Failed {
  return new Failed(error, thrownRecord(error));
}

/** A copy, as `Buffer.from` makes one, in half the time. */
export function copyOf(bytes: Uint8Array): Buffer {
  const copy = Buffer.allocUnsafe(bytes.length);
  copy.set(bytes);
  return copy;
}

/** Copies what `process` returned; the daemon may use its buffers again at once. */
export function outcomeOf(returned: unknown): Outcome {
  if (returned === undefined || returned === null) return [];
  if (types.isUint8Array(returned)) return isOwn(returned) ? [copyOf(returned)] : invalid('a shared or detached');
  if (!Array.isArray(returned)) return invalid(kindOf(returned));
  const outputs: Buffer[] = [];
  for (const output of returned as unknown[]) {
    if (outputs.length === MOST_OUTPUTS) return invalidOutput(tooMany(returned.length));
    if (!types.isUint8Array(output)) return invalid(`an array with ${kindOf(output)}`);
    if (!isOwn(output)) return invalid('an array with a shared or detached');
    outputs.push(copyOf(output));
  }
  return outputs;
}

/** Whether bytes are in memory that is there and that only this thread changes. */
export function isOwn(bytes: Uint8Array): boolean {
  // The first is fast and true outside of other realms.
  if (!(bytes.buffer instanceof ArrayBuffer) && types.isSharedArrayBuffer(bytes.buffer)) return false;
  return bytes.byteLength > 0 || !isDetached(bytes.buffer);
}

function tooMany(count: number): string {
  const most = String(MOST_OUTPUTS);
  return `${count > MOST_OUTPUTS ? String(count) : `more than ${most}`} outputs of one event, of which there may be ${most}`;
}

function invalid(what: string): Failed {
  return invalidOutput(
    `process must return Uint8Arrays or nothing, got ${what}${what.endsWith('detached') ? ' Uint8Array' : ''}`,
  );
}

function invalidOutput(message: string): Failed {
  const error = new DaemonError(message, { code: 'ERR_DAEMON_INVALID_OUTPUT' });
  return new Failed(error, { invalidOutput: true, name: 'TypeError', message });
}

/** Whether a promise came back. May throw what a `then` getter throws. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}

/** Name, message and stack of anything that was thrown. */
export function thrownRecord(thrown: unknown): ThrownRecord {
  try {
    if (typeof thrown === 'object' && thrown !== null) {
      const { name, message, stack } = thrown as Partial<Error>;
      return {
        invalidOutput: false,
        name: typeof name === 'string' ? name.slice(0, 256) : 'Error',
        message: typeof message === 'string' ? message.slice(0, MESSAGE) : '',
        ...(typeof stack === 'string' ? { stack: stack.slice(0, STACK) } : {}),
      };
    }
    return { invalidOutput: false, name: 'Error', message: String(thrown).slice(0, MESSAGE) };
  } catch {
    return { invalidOutput: false, name: 'Error', message: 'something that cannot be shown was thrown' };
  }
}
