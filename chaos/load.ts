// A user who never stops: emits numbered events by every entrance, and notes what became of each.

import { DaemonError, type DaemonRuntime } from 'mesh-daemon';
import { payloadOf } from './journal';
import type { Emitted, Entrance, Fate } from './messages';
import { Pace } from './pace';

const ENTRANCES: readonly Entrance[] = ['call', 'send', 'deliver', 'deliverMany', 'call'];
const AT_ONCE = 24;
/** Events that `deliverMany` gets; one of them may take a while, or none. */
const MANY = 7;
/** Longer than anything that is allowed to happen to a call. */
const CALL_TIMEOUT_MS = 60_000;

interface Note {
  readonly number: number;
  readonly first: number;
  readonly by: Entrance;
  fate: Fate;
}

export class Load {
  readonly #notes: Note[] = [];
  readonly #runtime: DaemonRuntime;
  readonly #answered: (count: number) => void;
  readonly #pace = new Pace(AT_ONCE, 1);
  #entered = 0;
  #count = 0;

  /** `answered` hears how many events have been answered, now and then. */
  constructor(runtime: DaemonRuntime, answered: (count: number) => void) {
    this.#runtime = runtime;
    this.#answered = answered;
  }

  start(origin: bigint): void {
    this.#pace.start(() => this.#emit(origin));
  }

  /** Emits no more; resolves with all notes when nothing waits, or patience ends. */
  async settle(patienceMs: number): Promise<Emitted[]> {
    await this.#pace.rest(patienceMs);
    return this.#notes;
  }

  async #emit(origin: bigint): Promise<void> {
    this.#entered += 1;
    const by = ENTRANCES[this.#entered % ENTRANCES.length] ?? 'call';
    const first = this.#notes.length + 1;
    const numbers = Array.from({ length: by === 'deliverMany' ? MANY : 1 }, (_, at) => first + at);
    const notes = numbers.map((number): Note => ({ number, first, by, fate: { as: 'waiting' } }));
    this.#notes.push(...notes);
    await this.#enter(origin, by, numbers)
      .catch((error: unknown): Fate[] => {
        const executed = (error instanceof DaemonError && error.executed) || null;
        const code = error instanceof DaemonError ? error.code : String(error);
        return numbers.map(() => ({ as: 'failed', code, executed }));
      })
      .then((fates) => {
        for (const [at, note] of notes.entries()) {
          const fate = fates[at];
          if (fate === undefined) continue;
          note.fate = fate;
          if (fate.as === 'failed') continue;
          this.#count += 1;
          if (this.#count % 10 === 0) this.#answered(this.#count);
        }
      });
  }

  async #enter(origin: bigint, by: Entrance, numbers: readonly number[]): Promise<Fate[]> {
    const payloads = numbers.map((number) => payloadOf(number));
    const [payload = Buffer.alloc(0)] = payloads;
    switch (by) {
      case 'send':
        await this.#runtime.send(origin, payload);
        return [{ as: 'accepted' }];
      case 'call':
        return [answered(await this.#runtime.call(origin, payload, { timeoutMs: CALL_TIMEOUT_MS }))];
      case 'deliver': {
        const sequence = BigInt(numbers[0] ?? 0);
        return [answered(await this.#runtime.deliver(origin, { originHash: 1n, sequence, payload }))];
      }
      case 'deliverMany':
        return (await this.#runtime.deliverMany(origin, payloads)).map(answered);
    }
  }
}

function answered([output]: readonly Buffer[]): Fate {
  return { as: 'answered', output: String(output).trimEnd() };
}
