/**
 * Joins one native runtime with the daemons of this environment.
 *
 * All work is pulled: {@link Dispatcher.drain} takes it until there is none, for a slice of a turn at a time. It runs after
 * calls from here that may leave work, and when the native part says that work has come from outside.
 */

import { native } from './binding';
import { abort, Context, end, Event, type ContextHost } from './daemon-event';
import { failedBy, Failed, isThenable, outcomeOf, type Outcome } from './daemon-outputs';
import { Life, type Instance } from './dispatcher-life';
import { Batch, type DaemonRecord } from './dispatcher-record';
import { CAUSAL, OTHER, OUTPUTS, Tickets, type Shape } from './dispatcher-tickets';
import { resolveOutputs, Runner } from './dispatcher-run';
import { hasTime, nextTurn } from './dispatcher-turn';
import { DaemonError } from './errors/index';
import { errorFromNative } from './errors/from-native';
import type { GateNotice, MigrationNotice, MoveNotice, DaemonNotice, RareWork, SettleWork } from './runtime-work';
import { Scratch } from './runtime-scratch';
import type { MigrationRequest } from './types/migration';

/** Most events that run on their caller's stack, one within the other. */
const MOST_NESTED = 16;
const CALL_TIMEOUT_MS = 60_000;

const NOTHING_LARGE: readonly Buffer[] = [];
const NO_CHANNELS: readonly string[] = [];
const NOTHING = new Uint8Array(0);

/** What the dispatcher tells its runtime. */
export interface Audience {
  daemon(notice: DaemonNotice): void;
  migration(notice: MigrationNotice): void;
  move(notice: MoveNotice): void;
  gate(notice: GateNotice): void;
  admit(request: MigrationRequest): boolean | Promise<boolean>;
  admitOrchestrator(nodeId: bigint): boolean | Promise<boolean>;
}

let nested = 0;

export class Dispatcher implements ContextHost {
  readonly id: number;
  readonly scratch = new Scratch();
  readonly tickets = new Tickets();
  readonly life: Life;
  readonly runner: Runner;
  readonly #audience: Audience;
  readonly #maxPayload: number;
  #scheduled = false;
  #draining = false;
  /** The rest waits for the next turn: somebody must be able to listen first. */
  #paused = false;
  #closed = false;

  constructor(create: (wake: () => void, scratch: Scratch) => number, maxPayload: number, audience: Audience) {
    this.#audience = audience;
    this.#maxPayload = maxPayload;
    this.id = create(() => {
      this.drain();
    }, this.scratch);
    this.life = new Life(this);
    this.runner = new Runner(this);
  }

  // Waiting.

  /** Starts an operation and waits for what it comes to. */
  start<T>(
    origin: bigint,
    begin: (ticket: number) => void,
    read: (work: SettleWork) => T,
    instance?: Instance,
  ): Promise<T> {
    return this.#wait<T>(OTHER, origin, begin, read, instance);
  }

  #wait<T>(
    shape: Shape,
    origin: bigint,
    begin: (ticket: number) => void,
    read?: (work: SettleWork) => T,
    instance?: Instance,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const ticket = this.tickets.open({ ticket: 0, shape, origin, resolve, reject, read });
      if (instance !== undefined) this.life.bring(ticket, instance);
      try {
        begin(ticket);
      } catch (error) {
        this.tickets.take(ticket);
        if (instance !== undefined) this.life.forget(ticket);
        throw error;
      }
      this.schedule();
    });
  }

  /** Has what waits drained soon. */
  schedule(): void {
    if (this.#scheduled || this.#draining) return;
    this.#scheduled = true;
    if (hasTime()) queueMicrotask(this.#drainScheduled);
    else nextTurn(this.#drainScheduled);
  }

  readonly #drainScheduled = (): void => {
    this.#scheduled = false;
    this.drain();
  };

  /** Takes work until there is none or the slice is over. */
  drain(toTheEnd = false): void {
    if (this.#draining || this.#closed) return;
    if (!toTheEnd && !hasTime()) {
      this.schedule();
      return;
    }
    this.#draining = true;
    let more = true;
    try {
      while (more && (toTheEnd || (hasTime() && !this.#paused))) more = this.#step();
    } finally {
      this.#draining = false;
    }
    if (this.#paused) {
      this.#paused = false;
      this.#scheduled = true;
      nextTurn(this.#drainScheduled);
    } else if (more) {
      this.schedule();
    }
  }

  #step(): boolean {
    switch (native.runtimeTakeWork(this.id)) {
      case 0:
        return false;
      case 1:
        this.runner.take();
        return true;
      case 2:
        this.#settlePacked();
        return true;
      default: {
        const work = native.runtimeTakenWork(this.id);
        if (work !== null) this.#rare(work);
        return true;
      }
    }
  }

  #rare(work: RareWork): void {
    switch (work.type) {
      case 'settle':
        this.#settleRare(work);
        return;
      case 'yield':
      case 'abort': {
        const record = this.life.find(work);
        if (record !== undefined) this.runner.giveBack(record, work.type === 'abort');
        return;
      }
      case 'retire': {
        const record = this.life.find(work);
        if (record !== undefined) {
          this.runner.forget(record);
          const code = 'ERR_DAEMON_SHUTTING_DOWN';
          if (record.context) abort(record.context, new DaemonError(`the daemon is ${work.reason}`, { code }));
          this.life.retire(record, work.reason);
        }
        return;
      }
      case 'admit':
        this.#admit(work.question, () => this.#audience.admit(work.request));
        return;
      case 'admit-orchestrator':
        this.#admit(work.question, () => this.#audience.admitOrchestrator(work.nodeId));
        return;
      case 'daemon':
        this.#audience.daemon(work);
        return;
      case 'migration':
        this.#audience.migration(work);
        return;
      case 'phase':
      case 'progress':
      case 'too-late':
      case 'over':
        this.#audience.move(work);
        return;
      case 'gate':
        this.#audience.gate(work);
        return;
      case 'construct':
      case 'restore':
      case 'snapshot':
      case 'read-state':
      case 'release-state':
        this.life.work(work);
        return;
    }
  }

  #admit(question: number, ask: () => boolean | Promise<boolean>): void {
    const decide = (yes: unknown): void => {
      if (this.#closed) return;
      native.runtimeAdmitted(this.id, question, yes === true);
      this.schedule();
    };
    try {
      const answer = ask();
      if (typeof answer === 'boolean') decide(answer);
      else
        Promise.resolve(answer).then(decide, () => {
          decide(false);
        });
    } catch {
      decide(false);
    }
  }

  // Settlements.

  #settlePacked(): void {
    const [count = 0, size = 0] = this.scratch.inWords;
    const block = this.scratch.block(size, NOTHING_LARGE, NO_CHANNELS);
    const floats = new Float64Array(block.buffer);
    const { longs, words } = block;
    let at = 8;
    for (let index = 0; index < count; index += 1) {
      const ticket = floats[at] ?? -1;
      const code = words[2 * at + 2];
      const outputs = words[2 * at + 3] ?? 0;
      at += 2;
      const waiter = this.tickets.take(ticket);
      if (code === 0) {
        if (waiter !== undefined)
          (waiter.resolve as (value: unknown) => void)(waiter.read?.({ type: 'settle', ticket }));
        continue;
      }
      const values: (Buffer | Event)[] = [];
      for (let output = 0; output < outputs; output += 1) {
        const length = words[2 * at + 8] ?? 0;
        const payload = Buffer.from(block.buffer, (at + 5) * 8, length);
        values.push(waiter?.shape === CAUSAL ? Event.ofOutput(longs.subarray(at, at + 4), 0, payload) : payload);
        at += 5 + ((length + 7) >>> 3);
      }
      (waiter?.resolve as ((value: unknown) => void) | undefined)?.(values);
    }
  }

  #settleRare(work: SettleWork): void {
    const waiter = this.tickets.take(work.ticket);
    const brought = this.life.forget(work.ticket);
    if (waiter === undefined) return;
    // The phases of a move come behind its handle.
    this.#paused = work.migration !== undefined;
    if (work.failure !== undefined) {
      const thrown = brought?.thrown ?? this.life.thrownBy(waiter.origin, work.failure.code);
      waiter.reject(errorFromNative(work.failure, thrown?.value));
    } else if (waiter.shape === OTHER) {
      try {
        (waiter.resolve as (value: unknown) => void)(waiter.read?.(work));
      } catch (error) {
        waiter.reject(error);
      }
    } else {
      resolveOutputs(waiter, work.outputs ?? [], work.links);
    }
  }

  // Ways of events in.

  /** Delivers an event whose emitter and number are given. */
  deliver(origin: bigint, emitter: bigint, sequence: bigint, payload: Uint8Array, shape: Shape): Promise<unknown> {
    const record = this.life.at(origin);
    if (record !== undefined) {
      const direct = this.#direct(record, emitter, sequence, payload, shape, -1);
      if (direct !== undefined) return direct;
    }
    return this.#wait(shape, origin, (ticket) => {
      this.scratch.address(emitter, sequence, origin);
      native.runtimeDeliver(this.id, ticket, payload);
    });
  }

  /** Calls a daemon on any node; `emitter` 0 stands for this node. `cancel` is given the way to stop waiting. */
  call(
    emitter: bigint,
    origin: bigint,
    payload: Uint8Array,
    timeoutMs: number,
    cancel?: (stop: () => void) => void,
  ): Promise<Buffer[]> {
    const record = this.life.at(origin);
    const withdraw = (ticket: number): void => {
      if (this.tickets.take(ticket) === undefined || this.#closed) return;
      native.runtimeWithdraw(this.id, ticket, origin);
      this.schedule();
    };
    if (record !== undefined) {
      const direct = this.#direct(
        record,
        emitter,
        undefined,
        payload,
        OUTPUTS,
        timeoutMs,
        cancel === undefined
          ? undefined
          : (ticket) => {
              cancel(() => {
                withdraw(ticket);
              });
            },
      );
      if (direct !== undefined) return direct as Promise<Buffer[]>;
    }
    return this.#wait(OUTPUTS, origin, (ticket) => {
      this.scratch.address(emitter, 0n, origin);
      native.runtimeCall(this.id, ticket, payload, timeoutMs);
      cancel?.(() => {
        withdraw(ticket);
      });
    });
  }

  /** Sends to a daemon on any node. */
  send(emitter: bigint, origin: bigint, payload: Uint8Array): Promise<void> {
    return this.#wait(OTHER, origin, (ticket) => {
      this.scratch.address(emitter, 0n, origin);
      native.runtimeSend(this.id, ticket, payload);
    });
  }

  callAs(emitter: bigint, origin: bigint, payload: Uint8Array): Promise<Buffer[]> {
    return this.call(emitter, origin, payload, CALL_TIMEOUT_MS);
  }

  sendAs(emitter: bigint, origin: bigint, payload: Uint8Array): Promise<void> {
    return this.send(emitter, origin, payload);
  }

  signAs(slot: number, generation: number, message: Uint8Array): Buffer | null {
    return native.runtimeSign(this.id, slot, generation, message);
  }

  /** Delivers many events of this node to one daemon, in order. */
  async deliverMany(origin: bigint, payloads: readonly Uint8Array[]): Promise<Buffer[][]> {
    const results: Promise<Buffer[]>[] = [];
    const done: (Buffer[] | Failed)[] = [];
    let index = 0;
    while (index < payloads.length) {
      const record = results.length === 0 ? this.life.at(origin) : undefined;
      const ran = record === undefined ? 0 : this.#directMany(record, payloads, index, done, results);
      if (ran > 0) {
        index += ran;
      } else {
        const payload = payloads[index] ?? NOTHING;
        results.push(this.call(0n, origin, payload, CALL_TIMEOUT_MS));
        index += 1;
      }
    }
    // All of them run, whatever becomes of one; then the first failure is told.
    const late = results.length === 0 ? [] : await Promise.allSettled(results);
    for (const outcome of done) if (outcome instanceof Failed) throw outcome.error;
    return [
      ...(done as Buffer[][]),
      ...late.map((result) => {
        if (result.status === 'rejected') throw result.reason;
        return result.value;
      }),
    ];
  }

  /** Runs an event on this stack, if its daemon and the turn allow. */
  #direct(
    record: DaemonRecord,
    emitter: bigint,
    number: bigint | undefined,
    payload: Uint8Array,
    shape: Shape,
    timeoutMs: number,
    suspended?: (ticket: number) => void,
  ): Promise<unknown> | undefined {
    if (record.batch !== undefined || nested >= MOST_NESTED || payload.length > this.#maxPayload || !hasTime()) {
      return undefined;
    }
    const { scratch } = this;
    const { slot, generation } = record;
    let sequence: bigint;
    if (number === undefined) {
      if (!native.runtimeDirectBeginOwn(this.id, slot, generation, 1)) return undefined;
      if (emitter === 0n) emitter = scratch.inLongs[0] ?? 0n;
      sequence = scratch.inLongs[1] ?? 0n;
    } else {
      if (!native.runtimeDirectBegin(this.id, slot, generation)) return undefined;
      sequence = number;
    }
    const context = new Context(record);
    record.context = context;
    let outcome: Outcome;
    nested += 1;
    try {
      const event = new Event(null, 0, emitter, sequence, Buffer.from(payload));
      const returned: unknown = record.instance.process(event, context);
      if (isThenable(returned)) {
        return this.#suspend(record, context, returned, emitter, sequence, shape, timeoutMs, suspended);
      }
      outcome = outcomeOf(returned);
    } catch (thrown) {
      outcome = failedBy(thrown);
    } finally {
      nested -= 1;
    }
    end(context);
    if (record.gone || this.#closed) return Promise.reject(this.#shuttingDown());
    scratch.address(emitter, sequence, 0n);
    if (outcome instanceof Failed) {
      native.runtimeDirectFailed(this.id, slot, generation);
      this.schedule();
      return Promise.reject(outcome.error);
    }
    try {
      scratch.begin();
      scratch.outputs(outcome);
      const causal = shape === CAUSAL;
      if (native.runtimeDirectEnd(this.id, slot, generation, causal, scratch.large)) this.schedule();
      if (!causal) return Promise.resolve(outcome);
      const links = scratch.inLongs.slice(0, 4 * outcome.length);
      return Promise.resolve(outcome.map((output, index) => Event.ofOutput(links, index, output)));
    } catch (error) {
      this.schedule();
      return Promise.reject(error instanceof Error ? error : this.#shuttingDown());
    }
  }

  /** A direct event became a batch of one. */
  #suspend(
    record: DaemonRecord,
    context: Context,
    promise: PromiseLike<unknown>,
    emitter: bigint,
    sequence: bigint,
    shape: Shape,
    timeoutMs: number,
    suspended: ((ticket: number) => void) | undefined,
  ): Promise<unknown> {
    return this.#wait(shape, record.originHash, (ticket) => {
      let id = -1;
      if (!record.gone && !this.#closed) {
        this.scratch.address(emitter, sequence, 0n);
        id = native.runtimeDirectSuspend(this.id, record.slot, record.generation, ticket, timeoutMs);
      }
      if (id < 0) {
        Promise.resolve(promise).catch(() => undefined);
        throw this.#shuttingDown();
      }
      record.batch = new Batch(id, 1, null, ticket, null);
      this.runner.await(record, record.batch, context, promise);
      suspended?.(ticket);
    });
  }

  /** Runs as many events as it may on this stack; gives their number. */
  #directMany(
    record: DaemonRecord,
    payloads: readonly Uint8Array[],
    from: number,
    done: Outcome[],
    results: Promise<Buffer[]>[],
  ): number {
    const most = Math.min(256, payloads.length - from);
    if (record.batch !== undefined || nested >= MOST_NESTED || !hasTime()) return 0;
    const { scratch } = this;
    const { slot, generation } = record;
    if (!native.runtimeDirectBeginOwn(this.id, slot, generation, most)) return 0;
    const emitter = scratch.inLongs[0] ?? 0n;
    const first = scratch.inLongs[1] ?? 0n;
    const outcomes: Outcome[] = [];
    let pending: { promise: PromiseLike<unknown>; context: Context } | undefined;
    nested += 1;
    try {
      for (let index = 0; index < most; index += 1) {
        const payload = payloads[from + index] ?? NOTHING;
        if (payload.length > this.#maxPayload && index > 0) break;
        const context = new Context(record);
        record.context = context;
        try {
          const sequence = first + BigInt(index);
          const returned: unknown = record.instance.process(
            new Event(null, 0, emitter, sequence, Buffer.from(payload)),
            context,
          );
          if (isThenable(returned)) {
            pending = { promise: returned, context };
            break;
          }
          outcomes.push(outcomeOf(returned));
        } catch (thrown) {
          outcomes.push(failedBy(thrown));
        }
        end(context);
        if (record.gone || (index % 16 === 15 && !hasTime())) break;
      }
    } finally {
      nested -= 1;
    }
    scratch.address(emitter, first, 0n);
    scratch.begin();
    for (const outcome of outcomes) {
      if (outcome instanceof Failed) scratch.failed();
      else scratch.outputs(outcome);
    }
    const over = pending === undefined;
    if (native.runtimeDirectEndAll(this.id, slot, generation, outcomes.length, over, scratch.large)) this.schedule();
    if (pending !== undefined) {
      const sequence = first + BigInt(outcomes.length);
      const { context, promise } = pending;
      results.push(
        this.#suspend(record, context, promise, emitter, sequence, OUTPUTS, CALL_TIMEOUT_MS, undefined) as Promise<
          Buffer[]
        >,
      );
    }
    for (const outcome of outcomes) done.push(outcome);
    return outcomes.length + (over ? 0 : 1);
  }

  #shuttingDown(): DaemonError {
    return new DaemonError('the runtime is shutting down', { code: 'ERR_DAEMON_SHUTTING_DOWN' });
  }

  /** Nothing is taken any more; whoever still waits is told. */
  close(): void {
    this.#closed = true;
    for (const waiter of this.tickets.takeAll()) waiter.reject(this.#shuttingDown());
    this.life.clear();
  }

  get closed(): boolean {
    return this.#closed;
  }
}
