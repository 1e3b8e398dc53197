/** Moves that this node drives, as their callers see them. */

import { inspect, type InspectOptions } from 'node:util';
import { MigrationError } from './errors/index';
import { errorFromNative, type ErrorRecord } from './errors/from-native';
import { hold, release } from './handles-in-use';
import type { MoveNotice } from './runtime-work';
import type { MigrationPhase, MigrationProgress } from './types/migration';
import type { Millis, WaitOptions } from './types/values';
import { abortable, daemonArea, millis, options, signal as readSignal } from './validate/index';

/** Progress that nobody read yet is kept this far. */
const MOST_UNREAD = 256;
/** The longest delay of a timer. */
const LONGEST_DELAY = 2 ** 31 - 1;
/** How long the nodes may take to say what a move that timed out came to. */
const LAST_WORD_MS = 5_000;

/** Only this module can make a handle. */
const internal = Symbol('internal');

/** What a move that is over came to. */
interface Over {
  readonly failure: ErrorRecord | undefined;
}

/** What one iterator has not read. */
interface Reader<T> {
  push(value: T): void;
  end(): void;
}

/** A move, fed by notices. */
export class Move {
  phase: MigrationPhase | null = 'snapshot';
  over: Over | undefined;
  readonly phases = new Set<Reader<MigrationPhase>>();
  readonly progress = new Set<Reader<MigrationProgress>>();
  /** Whether a phase was told; until then the first one is to come. */
  told = false;
  readonly #waiters = new Set<(over: Over) => void>();
  readonly #decided = new Set<() => void>();

  constructor(
    readonly id: bigint,
    readonly originHash: bigint,
    readonly sourceNode: bigint,
    readonly targetNode: bigint,
    /** Asks the nodes to give it up; with a time limit, because of that. */
    readonly abort: (timeoutMs?: number) => void,
  ) {}

  take(notice: MoveNotice): void {
    if (this.over !== undefined) return;
    switch (notice.type) {
      case 'phase':
        if (this.told && this.phase === notice.phase) return;
        this.told = true;
        this.phase = notice.phase;
        for (const reader of this.phases) reader.push(notice.phase);
        return;
      case 'progress':
        for (const reader of this.progress) reader.push(notice.progress);
        return;
      case 'too-late':
        for (const waiter of this.#decided) waiter();
        this.#decided.clear();
        return;
      case 'over':
        this.phase = null;
        this.over = { failure: notice.failure };
        for (const reader of [...this.phases, ...this.progress]) reader.end();
        for (const waiter of this.#waiters) waiter(this.over);
        this.#waiters.clear();
        this.#decided.clear();
        return;
    }
  }

  /** Resolves when the source says that it has decided already. */
  decided(): Promise<'decided'> {
    return new Promise((resolve) => {
      this.#decided.add(() => {
        resolve('decided');
      });
    });
  }

  /**
   * Waits until it is over. Never rejects, so a failure that nobody asks for is nobody's. `leave` is given the way to stop
   * waiting, after which nothing is left of it.
   */
  end(leave: (stop: () => void) => void): Promise<Over> {
    if (this.over !== undefined) return Promise.resolve(this.over);
    hold();
    return new Promise((resolve) => {
      const waiter = (over: Over): void => {
        release();
        resolve(over);
      };
      this.#waiters.add(waiter);
      leave(() => {
        if (this.#waiters.delete(waiter)) release();
      });
    });
  }
}

/**
 * A move under way. Not a thenable: awaiting `migrate()` gives this. Dropping it changes nothing.
 *
 * @public
 */
export class MigrationHandle {
  readonly #move: Move;

  /** @internal */
  constructor(key: symbol, move: unknown) {
    if (key !== internal) throw daemonArea('use runtime.migrate() or runtime.startMigration()');
    this.#move = move as Move;
  }

  /** Which daemon. */
  get originHash(): bigint {
    return this.#move.originHash;
  }

  /** Where it lived when the move began. */
  get sourceNode(): bigint {
    return this.#move.sourceNode;
  }

  /** Where it goes. */
  get targetNode(): bigint {
    return this.#move.targetNode;
  }

  /** Where the move stands; `null` when it is over. */
  phase(): MigrationPhase | null {
    return this.#move.phase;
  }

  /**
   * Resolves when the daemon lives on the target; rejects with a {@link MigrationError} that says where it is. Has no
   * deadline, may be called late and often.
   */
  async wait(o?: WaitOptions): Promise<void> {
    const signal = readSignal(daemonArea, 'options.signal', options(daemonArea, 'options', o, { signal: true }).signal);
    raise(await this.#ending((ended) => abortable(signal, () => ended)));
  }

  /**
   * The same with a deadline: when it passes, the move is given up everywhere, and this rejects with kind `timeout`. After
   * the hand-over nothing is given up: `outcome` is then `target` or `unknown`.
   */
  async waitWithTimeout(ms: Millis): Promise<void> {
    const limit = millis(daemonArea, 'ms', ms);
    const move = this.#move;
    const over = await this.#ending(async (ended) => {
      const first = limit > LONGEST_DELAY ? await ended : await within(limit, ended);
      if (first !== LATE) return first;
      const decided = move.decided();
      move.abort(limit);
      const last = await within(LAST_WORD_MS, Promise.race([ended, decided]));
      if (typeof last === 'object' && last.failure !== undefined) return last;
      const outcome = typeof last === 'object' ? 'target' : 'unknown';
      throw new MigrationError(`not complete within ${String(limit)} ms`, { kind: 'timeout', outcome });
    });
    raise(over);
  }

  /**
   * Gives the move up. Resolves when the daemon is live on the source again; rejects with kind `wrong-phase` when it was
   * handed over already, or the move is over, and with what {@link MigrationHandle.wait} rejects with when the move failed
   * meanwhile and nobody can say that the daemon is there.
   */
  async cancel(): Promise<void> {
    const move = this.#move;
    if (move.over !== undefined) throw tooLate('the migration is over', move.over);
    const over = await this.#ending((ended) => {
      const decided = move.decided();
      move.abort();
      return Promise.race([ended, decided]);
    });
    if (over === 'decided') throw tooLate('the daemon was handed over already', { failure: undefined });
    const outcome = over.failure?.fields?.outcome;
    if (over.failure === undefined || outcome === 'target') throw tooLate('the daemon was handed over already', over);
    if (outcome !== 'source') raise(over);
  }

  /** Does something with the end of the move, which is waited for no longer than that takes. */
  async #ending<T>(act: (ended: Promise<Over>) => Promise<T>): Promise<T> {
    let leave: (() => void) | undefined;
    const ended = this.#move.end((stop) => {
      leave = stop;
    });
    try {
      return await act(ended);
    } finally {
      leave?.();
    }
  }

  /** Each phase once, in order, from the present one on. Ends with the move and never throws. */
  phases(): AsyncIterable<MigrationPhase> {
    const move = this.#move;
    return iterable(
      move.phases,
      () => move.over !== undefined,
      () => (move.told && move.phase !== null ? [move.phase] : []),
    );
  }

  /** How far the move is, whenever that changes. Ends with the move and never throws. */
  progress(): AsyncIterable<MigrationProgress> {
    const move = this.#move;
    return iterable(
      move.progress,
      () => move.over !== undefined,
      () => [],
    );
  }

  /** What `console.log` shows. */
  [inspect.custom](depth: number, inspectOptions: InspectOptions): string {
    const { originHash, sourceNode, targetNode } = this;
    const shown = { originHash, sourceNode, targetNode, phase: this.phase() };
    return `MigrationHandle ${inspect(shown, { ...inspectOptions, depth })}`;
  }
}

/** Makes the handle of a move. */
export function handleOf(move: Move): MigrationHandle {
  return new MigrationHandle(internal, move);
}

function raise(over: Over): void {
  if (over.failure !== undefined) throw errorFromNative(over.failure);
}

function tooLate(message: string, over: Over): MigrationError {
  const outcome = (over.failure?.fields?.outcome ?? 'target') as MigrationError['outcome'];
  return new MigrationError(message, { kind: 'wrong-phase', outcome, detail: message });
}

/** What {@link within} gives when time is up. */
const LATE = Symbol('late');

async function within<T>(ms: number, promise: Promise<T>): Promise<T | typeof LATE> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<typeof LATE>((resolve) => {
    timer = setTimeout(resolve, ms, LATE);
    timer.unref();
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

/** Reads from when it is iterated. Several may read; each has its own queue. */
function iterable<T>(readers: Set<Reader<T>>, over: () => boolean, first: () => T[]): AsyncIterable<T> {
  return {
    [Symbol.asyncIterator](): AsyncIterator<T, undefined> {
      const queue = first();
      let ended = over();
      let waiting: ((result: IteratorResult<T, undefined>) => void)[] = [];
      const reader: Reader<T> = {
        push(value) {
          const next = waiting.shift();
          if (next !== undefined) next({ value, done: false });
          else {
            queue.push(value);
            if (queue.length > MOST_UNREAD) queue.shift();
          }
        },
        end() {
          ended = true;
          readers.delete(reader);
          for (const next of waiting) next({ value: undefined, done: true });
          waiting = [];
        },
      };
      if (!ended) readers.add(reader);
      return {
        next() {
          const value = queue.shift();
          if (value !== undefined) return Promise.resolve({ value, done: false });
          if (ended) return Promise.resolve({ value: undefined, done: true });
          return new Promise((resolve) => waiting.push(resolve));
        },
        return() {
          queue.length = 0;
          reader.end();
          return Promise.resolve({ value: undefined, done: true });
        },
      };
    },
  };
}
