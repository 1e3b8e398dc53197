// A user who never stops: emits numbered events by every entrance, and notes what became of each.

import { DaemonError, type DaemonRuntime } from 'mesh-daemon';
import type { Emitted, Entrance, Fate } from './messages';

const ENTRANCES: readonly Entrance[] = ['call', 'send', 'deliver', 'call'];
const AT_ONCE = 24;
/** Longer than anything that is allowed to happen to a call. */
const CALL_TIMEOUT_MS = 60_000;

interface Note {
  readonly number: number;
  readonly by: Entrance;
  fate: Fate;
}

export class Load {
  readonly #notes: Note[] = [];
  readonly #runtime: DaemonRuntime;
  readonly #answered: (count: number) => void;
  #waiting = 0;
  #running = false;
  #count = 0;
  #rested: (() => void) | undefined;

  /** `answered` hears how many events have been answered, now and then. */
  constructor(runtime: DaemonRuntime, answered: (count: number) => void) {
    this.#runtime = runtime;
    this.#answered = answered;
  }

  start(origin: bigint): void {
    this.#running = true;
    const next = (): void => {
      if (!this.#running) return;
      if (this.#waiting < AT_ONCE) this.#emit(origin);
      setTimeout(next, 1);
    };
    next();
  }

  /** Emits no more; resolves with all notes when nothing waits, or patience ends. */
  async settle(patienceMs: number): Promise<Emitted[]> {
    this.#running = false;
    if (this.#waiting > 0) {
      await new Promise<void>((resolve) => {
        this.#rested = resolve;
        setTimeout(resolve, patienceMs);
      });
    }
    return this.#notes;
  }

  #emit(origin: bigint): void {
    const number = this.#notes.length + 1;
    const by = ENTRANCES[number % ENTRANCES.length] ?? 'call';
    const note: Note = { number, by, fate: { as: 'waiting' } };
    this.#notes.push(note);
    this.#waiting += 1;
    void this.#enter(origin, note)
      .catch((error: unknown): Fate => ({
        as: 'failed',
        code: error instanceof DaemonError ? error.code : String(error),
        executed: (error instanceof DaemonError && error.executed) || null,
      }))
      .then((fate) => {
        note.fate = fate;
        this.#waiting -= 1;
        if (fate.as !== 'failed') {
          this.#count += 1;
          if (this.#count % 10 === 0) this.#answered(this.#count);
        }
        if (this.#waiting === 0) this.#rested?.();
      });
  }

  async #enter(origin: bigint, { number, by }: Note): Promise<Fate> {
    const payload = Buffer.from(String(number));
    if (by === 'send') {
      await this.#runtime.send(origin, payload);
      return { as: 'accepted' };
    }
    const [output] =
      by === 'call'
        ? await this.#runtime.call(origin, payload, { timeoutMs: CALL_TIMEOUT_MS })
        : await this.#runtime.deliver(origin, { originHash: 1n, sequence: BigInt(number), payload });
    return { as: 'answered', output: String(output) };
  }
}
