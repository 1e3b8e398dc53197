/**
 * Runs events on their callers' own stacks, for a daemon that is idle.
 *
 * The native part is asked once whether a daemon may be used so, and keeps it as running from then on. What came of the
 * events is written into the journal, which is told before anything else is asked, and when the turn ends; the daemon is
 * given back with it. So a quiet stretch of events costs no call into the native part, and nobody can see that.
 */

import { native } from './binding';
import { Context, end, Event } from './daemon-event';
import { copyOf, failedBy, Failed, failedWith, isThenable, outcomeOf, type Outcome } from './daemon-outputs';
import { Batch, type DaemonRecord } from './dispatcher-record';
import { CAUSAL, OUTPUTS, type Shape } from './dispatcher-tickets';
import type { Runner } from './dispatcher-run';
import { hasTime, nextTurn } from './dispatcher-turn';
import { DaemonError } from './errors/index';
import { MOST_HELD, NO_TIMEOUT, type Journal } from './runtime-journal';
import type { Scratch } from './runtime-scratch';

/** Most events that run on their caller's stack, one within the other. */
const MOST_NESTED = 16;
/** Most events of a daemon, and numbers of this node, that are asked for at once. */
const AT_ONCE = 256;
/** How many events of many run between two looks at the clock. */
const STRIDE = 16;

interface Host {
  /** Asking by this number tells the journal first. */
  readonly id: number;
  readonly nativeId: number;
  readonly scratch: Scratch;
  readonly journal: Journal;
  readonly runner: Runner;
  readonly closed: boolean;
  tell(): void;
  wait(shape: Shape, origin: bigint, begin: (ticket: number) => void): Promise<unknown>;
}

/** The daemon's code returned a promise. */
class Suspended {
  constructor(readonly promise: PromiseLike<unknown>) {}
}

let nested = 0;

export class Direct {
  readonly #host: Host;
  readonly #maxPayload: number;
  /** Daemons that the native part takes for running. */
  #held: DaemonRecord[] = [];
  #endsArmed = false;
  /** This node as an emitter, its next number, and how many are reserved from there on. */
  #emitter = 0n;
  #number = 0n;
  #numbers = 0;

  constructor(host: Host, maxPayload: number) {
    this.#host = host;
    this.#maxPayload = maxPayload;
  }

  /** Writes that nothing is held any more, but for what is running on this stack; gives how many numbers are left over. */
  release(): number {
    if (this.#held.length > 0) {
      const held = this.#held;
      this.#held = [];
      for (const record of held) {
        if (record.running) {
          this.#held.push(record);
        } else {
          this.#host.journal.over(record);
          record.held = false;
          record.lease = 0;
        }
      }
    }
    const unused = this.#numbers;
    this.#numbers = 0;
    return unused;
  }

  /** Runs an event on this stack, if its daemon and the turn allow. An `emitter` of 0 is this node. */
  run(
    record: DaemonRecord,
    emitter: bigint,
    given: bigint | undefined,
    payload: Uint8Array,
    shape: Shape,
    timeoutMs: number,
    suspended?: (ticket: number) => void,
  ): Promise<unknown> | undefined {
    if (!hasTime() || !this.#enter(record, payload)) return undefined;
    const sequence = given ?? this.#nextNumber();
    const origin = given === undefined && emitter === 0n ? this.#emitter : emitter;
    const context = new Context(record);
    const outcome = this.#process(record, context, origin, sequence, payload);
    if (outcome instanceof Suspended) {
      return this.#suspend(record, context, outcome.promise, origin, sequence, shape, timeoutMs, suspended);
    }
    if (record.gone || this.#host.closed) return Promise.reject(interrupted());
    if (outcome instanceof Failed) {
      this.#note(record, origin, sequence, outcome);
      return Promise.reject(outcome.error);
    }
    if (shape !== CAUSAL && this.#note(record, origin, sequence, outcome)) return Promise.resolve(outcome);
    try {
      const links = this.#tellOutputs(record, origin, sequence, outcome, shape === CAUSAL);
      if (links === undefined) return Promise.resolve(outcome);
      return Promise.resolve(outcome.map((output, index) => Event.ofOutput(links, index, output)));
    } catch (error) {
      return Promise.reject(error instanceof Error ? error : interrupted());
    }
  }

  /** Runs as many events of this node as it may on this stack; gives their number. The last one may go on in `late`. */
  runMany(
    record: DaemonRecord,
    payloads: readonly Uint8Array[],
    from: number,
    done: Outcome[],
    late: Promise<Buffer[]>[],
  ): number {
    let index = from;
    for (; index < payloads.length; index += 1) {
      const payload = payloads[index];
      if (payload === undefined) break;
      if ((index - from) % STRIDE === 0 && !hasTime()) break;
      if (!this.#enter(record, payload)) break;
      const sequence = this.#nextNumber();
      const emitter = this.#emitter;
      const context = new Context(record);
      const outcome = this.#process(record, context, emitter, sequence, payload);
      if (outcome instanceof Suspended) {
        const { promise } = outcome;
        late.push(this.#suspend(record, context, promise, emitter, sequence, OUTPUTS, NO_TIMEOUT) as Promise<Buffer[]>);
        return index + 1 - from;
      }
      if (record.gone || this.#host.closed) {
        done.push(failedWith(interrupted()));
      } else if (this.#note(record, emitter, sequence, outcome) || outcome instanceof Failed) {
        done.push(outcome);
      } else {
        try {
          this.#tellOutputs(record, emitter, sequence, outcome, false);
          done.push(outcome);
        } catch (error) {
          done.push(failedWith(error instanceof DaemonError ? error : interrupted()));
        }
      }
    }
    return index - from;
  }

  /** Whether an event may run on this stack. */
  #enter(record: DaemonRecord, payload: Uint8Array): boolean {
    // An event before it may have shut the runtime down.
    if (record.gone || record.batch !== undefined || record.running) return false;
    if (nested >= MOST_NESTED || payload.length > this.#maxPayload) return false;
    if (record.lease > 0) return true;
    const host = this.#host;
    // What was entered before goes before.
    if (record.held || host.journal.deliveries > 0 || this.#held.length === MOST_HELD) host.tell();
    record.lease = native.runtimeDirectBegin(host.nativeId, record.slot, record.generation, AT_ONCE);
    if (record.lease === 0) return false;
    record.held = true;
    this.#held.push(record);
    if (!this.#endsArmed) {
      this.#endsArmed = true;
      nextTurn(this.#turnEnds);
    }
    return true;
  }

  readonly #turnEnds = (): void => {
    this.#endsArmed = false;
    this.#host.tell();
  };

  #nextNumber(): bigint {
    if (this.#numbers === 0) {
      const { nativeId, scratch } = this.#host;
      native.runtimeReserve(nativeId, AT_ONCE);
      this.#emitter = scratch.inLongs[0] ?? 0n;
      this.#number = scratch.inLongs[1] ?? 0n;
      this.#numbers = AT_ONCE;
    }
    this.#numbers -= 1;
    const number = this.#number;
    this.#number = number + 1n;
    return number;
  }

  #process(
    record: DaemonRecord,
    context: Context,
    emitter: bigint,
    sequence: bigint,
    payload: Uint8Array,
  ): Outcome | Suspended {
    record.context = context;
    record.lease -= 1;
    record.running = true;
    nested += 1;
    let outcome: Outcome;
    try {
      const event = new Event(null, 0, emitter, sequence, copyOf(payload));
      const returned: unknown = record.instance.process(event, context);
      if (isThenable(returned)) return new Suspended(returned);
      outcome = outcomeOf(returned);
    } catch (thrown) {
      outcome = failedBy(thrown);
    } finally {
      nested -= 1;
      record.running = false;
    }
    end(context);
    return outcome;
  }

  /** Writes down what came of an event; false when its outputs do not fit. */
  #note(record: DaemonRecord, emitter: bigint, sequence: bigint, outcome: Outcome): boolean {
    const { journal } = this.#host;
    const failed = outcome instanceof Failed;
    if (!(failed ? journal.failed(record, emitter, sequence) : journal.ran(record, emitter, sequence, outcome))) {
      this.#tellWhileRunning(record);
      if (!(failed ? journal.failed(record, emitter, sequence) : journal.ran(record, emitter, sequence, outcome))) {
        return false;
      }
    }
    if (record.lease === 0) this.#host.tell();
    return true;
  }

  /** Tells the outputs of an event by themselves, for their links or because they are large. */
  #tellOutputs(
    record: DaemonRecord,
    emitter: bigint,
    sequence: bigint,
    outputs: readonly Uint8Array[],
    wantLinks: boolean,
  ): BigUint64Array | undefined {
    const { nativeId, scratch } = this.#host;
    this.#tellWhileRunning(record);
    scratch.address(emitter, sequence, 0n);
    scratch.begin();
    scratch.outputs(outputs);
    const beyond = native.runtimeDirectRan(nativeId, record.slot, record.generation, wantLinks, scratch.large);
    const links = wantLinks ? scratch.links(outputs.length, beyond) : undefined;
    if (record.lease === 0) this.#host.tell();
    return links;
  }

  #tellWhileRunning(record: DaemonRecord): void {
    record.running = true;
    this.#host.tell();
    record.running = false;
  }

  /** The event became a batch of one. */
  #suspend(
    record: DaemonRecord,
    context: Context,
    promise: PromiseLike<unknown>,
    emitter: bigint,
    sequence: bigint,
    shape: Shape,
    timeoutMs: number,
    suspended?: (ticket: number) => void,
  ): Promise<unknown> {
    const host = this.#host;
    return host.wait(shape, record.originHash, (ticket) => {
      let id = -1;
      if (!record.gone && !host.closed) {
        this.#tellWhileRunning(record);
        host.scratch.address(emitter, sequence, 0n);
        id = native.runtimeDirectSuspend(host.nativeId, record.slot, record.generation, ticket, timeoutMs);
        record.lease = 0;
      }
      if (id < 0) {
        Promise.resolve(promise).catch(() => undefined);
        throw interrupted();
      }
      record.batch = new Batch(id, 1, null, ticket, null);
      host.runner.await(record, record.batch, context, promise);
      suspended?.(ticket);
    });
  }
}

export function shuttingDown(): DaemonError {
  return new DaemonError('the runtime is shutting down', { code: 'ERR_DAEMON_SHUTTING_DOWN' });
}

/** The runtime was shut down, or the daemon stopped, while the event ran. */
function interrupted(): DaemonError {
  const message = 'the runtime is shutting down; the event may have run';
  return new DaemonError(message, { code: 'ERR_DAEMON_SHUTTING_DOWN', executed: 'unknown' });
}
