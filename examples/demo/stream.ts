// The sender: numbered lines as calls, in order, many in flight.

import type { DaemonRuntime } from 'mesh-daemon';
import { WordCount } from './word-count';

/** Most lines that are sent and not yet answered. */
const WINDOW = 512;

/** Streams lines to the word counter, wherever it lives. */
export class LineStream {
  readonly #runtime: DaemonRuntime;
  readonly #counter: bigint;
  #sent = 0;
  #answered = 0;
  #failure: unknown;
  #wake: (() => void) | undefined;
  #lastAnswer = 0;
  #longestPause = 0;

  constructor(runtime: DaemonRuntime, counter: bigint) {
    this.#runtime = runtime;
    this.#counter = counter;
  }

  get sent(): number {
    return this.#sent;
  }

  get answered(): number {
    return this.#answered;
  }

  get inFlight(): number {
    return this.#sent - this.#answered;
  }

  /** Longest time, in milliseconds, in which lines were in flight and none was answered. */
  get longestPause(): number {
    return this.#longestPause;
  }

  /** Sends all lines; resolves when the last one is answered. */
  async send(lines: AsyncIterable<string>): Promise<void> {
    for await (const line of lines) {
      while (this.inFlight >= WINDOW) await this.#progress();
      this.#call(line);
    }
    while (this.inFlight > 0) await this.#progress();
  }

  #call(line: string): void {
    if (this.inFlight === 0) this.#lastAnswer = performance.now();
    this.#sent += 1;
    this.#runtime.call(this.#counter, WordCount.line(this.#sent, line)).then(
      () => {
        const now = performance.now();
        this.#longestPause = Math.max(this.#longestPause, now - this.#lastAnswer);
        this.#lastAnswer = now;
        this.#answered += 1;
        this.#wake?.();
      },
      (error: unknown) => {
        this.#failure ??= error;
        this.#wake?.();
      },
    );
  }

  /** Resolves when a line was answered, rejects when one failed. */
  async #progress(): Promise<void> {
    if (this.#failure === undefined) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#failure !== undefined) throw new Error('a line was not counted', { cause: this.#failure });
  }
}
