/**
 * Joins one native runtime with the daemons of this environment.
 *
 * All work is pulled: {@link Dispatcher.drain} takes it until there is none, for a slice of a turn at a time. It runs after
 * calls from here that may leave work, and when the native part says that work has come from outside.
 */

// Not the global, which is read through a getter.
import { Buffer } from 'node:buffer';
import { native } from './binding';
import type { Publishing } from './channels';
import { publishAs } from './daemon-channels';
import { abort, Event, type ContextHost } from './daemon-event';
import { thrownRecord } from './daemon-outputs';
import { Direct, shuttingDown } from './dispatcher-direct';
import { Life, type Instance } from './dispatcher-life';
import type { DaemonRecord } from './dispatcher-record';
import { CAUSAL, OTHER, OUTPUTS, Tickets, type Shape } from './dispatcher-tickets';
import { deliverMany } from './dispatcher-many';
import { resolveOutputs, Runner } from './dispatcher-run';
import { hasTime, nextTurn } from './dispatcher-turn';
import { DaemonError } from './errors/index';
import { errorFromNative, type ErrorRecord } from './errors/from-native';
import type {
  DaemonNotice,
  GateNotice,
  MigrationNotice,
  MoveNotice,
  RareWork,
  SettleWork,
  SubscriptionNotice,
} from './runtime-work';
import { CALL, DELIVER, Journal, NO_TIMEOUT, SEND, SMALL } from './runtime-journal';
import { Scratch } from './runtime-scratch';
import type { PublishReport } from './types/channels';
import type { MigrationRequest } from './types/migration';

const CALL_TIMEOUT_MS = 60_000;
/** So many events to deliver are told at once. */
const TELL_AT = 128;

const NOTHING_LARGE: readonly Buffer[] = [];
const NO_CHANNELS: readonly string[] = [];

/** What the dispatcher tells its runtime. */
export interface Audience {
  daemon(notice: DaemonNotice): void;
  subscription(notice: SubscriptionNotice): void;
  migration(notice: MigrationNotice): void;
  move(notice: MoveNotice): void;
  gate(notice: GateNotice): void;
  admit(request: MigrationRequest): boolean | Promise<boolean>;
  admitOrchestrator(nodeId: bigint): boolean | Promise<boolean>;
  /** A failure with what may have caused it, where that is known. */
  explain(failure: ErrorRecord): ErrorRecord;
}

export class Dispatcher implements ContextHost {
  /** The number of the native part, for what needs not be told first. */
  readonly nativeId: number;
  readonly scratch = new Scratch();
  readonly journal: Journal;
  readonly tickets = new Tickets();
  readonly life: Life;
  readonly runner: Runner;
  readonly #direct: Direct;
  readonly #audience: Audience;
  #scheduled = false;
  #tellArmed = false;
  #draining = false;
  /** The rest waits for the next turn: somebody must be able to listen first. */
  #paused = false;
  #closed = false;

  constructor(
    create: (wake: () => void, scratch: Scratch, journal: Journal) => number,
    maxPayload: number,
    audience: Audience,
  ) {
    this.#audience = audience;
    this.journal = new Journal(maxPayload);
    this.nativeId = create(
      () => {
        this.drain();
      },
      this.scratch,
      this.journal,
    );
    this.life = new Life(this);
    this.runner = new Runner(this);
    this.#direct = new Direct(this, maxPayload);
  }

  // Telling.

  /** The number of the native part, which by then knows everything that happened here. */
  get id(): number {
    this.tell();
    return this.nativeId;
  }

  /** Tells the native part what is in the journal, and gives back the daemons that are held. */
  tell(): void {
    if (this.#closed) return;
    const { journal, scratch } = this;
    const unused = this.#direct.release();
    if (journal.length === 0 && unused === 0) return;
    const refused = native.runtimeTold(this.nativeId, journal.length, unused);
    journal.clear();
    if (scratch.inWords[0] !== 0) this.schedule();
    if (refused === null) return;
    for (const { ticket, failure } of refused) {
      if (failure !== undefined) this.tickets.take(ticket)?.reject(errorFromNative(failure));
    }
  }

  readonly #tellLate = (): void => {
    this.#tellArmed = false;
    this.tell();
  };

  // Waiting.

  /** Starts an operation and waits for what it comes to. */
  start<T>(
    origin: bigint,
    begin: (ticket: number) => void,
    read: (work: SettleWork) => T,
    instance?: Instance,
  ): Promise<T> {
    return this.wait<T>(OTHER, origin, begin, read, instance);
  }

  /** The same; `shape` says how outputs are wanted. */
  wait<T>(
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
      // Also after an error of somebody's: until there is no more work, the native part does not say that there is some.
      this.#draining = false;
      if (this.#paused) {
        this.#paused = false;
        this.#scheduled = true;
        nextTurn(this.#drainScheduled);
      } else if (more) {
        this.schedule();
      }
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
        } else {
          this.life.abandon(work);
        }
        return;
      }
      case 'admit':
        this.#admit('acceptMigrations', work.question, () => this.#audience.admit(work.request));
        return;
      case 'admit-orchestrator':
        this.#admit('orchestrators', work.question, () => this.#audience.admitOrchestrator(work.nodeId));
        return;
      case 'daemon':
        this.#audience.daemon(work);
        return;
      case 'subscription':
        this.#audience.subscription(work);
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
      case 'hush':
      case 'snapshot':
      case 'read-state':
      case 'check-state':
      case 'release-state':
        this.life.work(work);
        return;
    }
  }

  #admit(policy: string, question: number, ask: () => boolean | Promise<boolean>): void {
    const decide = (yes: unknown): void => {
      if (this.#closed) return;
      native.runtimeAdmitted(this.id, question, yes === true);
      this.schedule();
    };
    const failed = (thrown: unknown): void => {
      native.logPolicyFailure(policy, thrownRecord(thrown));
      decide(false);
    };
    let answer: boolean | Promise<boolean>;
    try {
      answer = ask();
      if (typeof answer !== 'boolean') {
        Promise.resolve(answer).then(decide, failed);
        return;
      }
    } catch (thrown) {
      failed(thrown);
      return;
    }
    decide(answer);
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
      // What else may be asked for is asked of this node.
      const failure = waiter.read === undefined ? this.explain(work.failure) : work.failure;
      waiter.reject(errorFromNative(failure, thrown?.value));
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

  /** A failure with what may have caused it, where that is known. */
  explain(failure: ErrorRecord): ErrorRecord {
    return this.#audience.explain(failure);
  }

  // Ways of events in.

  /** Delivers an event whose emitter and number are given. */
  deliver(origin: bigint, emitter: bigint, sequence: bigint, payload: Uint8Array, shape: Shape): Promise<unknown> {
    const record = this.life.at(origin);
    if (record !== undefined) {
      const direct = this.#direct.run(record, emitter, sequence, payload, shape, NO_TIMEOUT);
      if (direct !== undefined) return direct;
    }
    return this.#submit(DELIVER, shape, record, emitter, sequence, 0, origin, payload);
  }

  /** Calls a daemon on any node; `emitter` 0 stands for this node, {@link NO_TIMEOUT} and {@link IN_TURN} for as long as it takes. `cancel` is given the way to stop waiting. */
  call(
    emitter: bigint,
    origin: bigint,
    payload: Uint8Array,
    timeoutMs: number,
    cancel?: (stop: () => void) => void,
  ): Promise<Buffer[]> {
    const begun =
      cancel &&
      ((ticket: number): void => {
        cancel(() => {
          if (this.tickets.take(ticket) === undefined || this.#closed) return;
          native.runtimeWithdraw(this.id, ticket, origin);
          this.schedule();
        });
      });
    const record = this.life.at(origin);
    if (record !== undefined) {
      const direct = this.#direct.run(record, emitter, undefined, payload, OUTPUTS, timeoutMs, begun);
      if (direct !== undefined) return direct as Promise<Buffer[]>;
    }
    return this.#submit(CALL, OUTPUTS, record, emitter, 0n, timeoutMs, origin, payload, begun);
  }

  /** Sends to a daemon on any node. */
  send(emitter: bigint, origin: bigint, payload: Uint8Array): Promise<void> {
    return this.#submit(SEND, OTHER, this.life.at(origin), emitter, 0n, 0, origin, payload);
  }

  /** Enters an event for a mailbox or a stream. Those of one stretch of code cross together behind it. */
  #submit<T>(
    kind: typeof DELIVER | typeof CALL | typeof SEND,
    shape: Shape,
    record: DaemonRecord | undefined,
    emitter: bigint,
    number: bigint,
    timeoutMs: number,
    origin: bigint,
    payload: Uint8Array,
    begun?: (ticket: number) => void,
  ): Promise<T> {
    // What comes later must not go before it.
    if (record !== undefined) record.lease = 0;
    if (payload.length > SMALL) {
      return this.wait(shape, origin, (ticket) => {
        this.tell();
        this.scratch.address(emitter, number, origin);
        if (kind === DELIVER) native.runtimeDeliver(this.nativeId, ticket, payload);
        else if (kind === CALL) native.runtimeCall(this.nativeId, ticket, payload, timeoutMs);
        else native.runtimeSend(this.nativeId, ticket, payload);
        begun?.(ticket);
      });
    }
    return new Promise<T>((resolve, reject) => {
      if (this.#closed) {
        reject(shuttingDown());
        return;
      }
      const ticket = this.tickets.open({ ticket: 0, shape, origin, resolve, reject, read: undefined });
      const { journal } = this;
      if (!journal.deliver(kind, ticket, emitter, number, timeoutMs, origin, payload)) {
        this.tell();
        journal.deliver(kind, ticket, emitter, number, timeoutMs, origin, payload);
      }
      begun?.(ticket);
      if (journal.deliveries >= TELL_AT) {
        // The first of many are on their way while the others are made.
        this.tell();
      } else if (!this.#tellArmed) {
        this.#tellArmed = true;
        queueMicrotask(this.#tellLate);
      }
    });
  }

  callAs(emitter: bigint, origin: bigint, payload: Uint8Array): Promise<Buffer[]> {
    return this.call(emitter, origin, payload, CALL_TIMEOUT_MS);
  }

  sendAs(emitter: bigint, origin: bigint, payload: Uint8Array): Promise<void> {
    return this.send(emitter, origin, payload);
  }

  publishAs(emitter: bigint, asked: Publishing): Promise<PublishReport> {
    return publishAs(this.id, emitter, asked);
  }

  signAs(slot: number, generation: number, message: Uint8Array): Buffer | null {
    return native.runtimeSign(this.id, slot, generation, message);
  }

  /** Delivers many events of this node to one daemon, in order. */
  deliverMany(origin: bigint, payloads: readonly Uint8Array[]): Promise<Buffer[][]> {
    return deliverMany(this, this.#direct, origin, payloads);
  }

  /** Nothing is taken any more; whoever still waits is told. */
  close(): void {
    this.#closed = true;
    for (const waiter of this.tickets.takeAll()) waiter.reject(shuttingDown());
    this.journal.clear();
    this.life.clear();
  }

  get closed(): boolean {
    return this.#closed;
  }
}
