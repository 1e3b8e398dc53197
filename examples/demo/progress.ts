// Shows how far the demo is: a bar on a terminal, a line each second elsewhere.

import { ENOUGH_HOPS, type Hops } from './hops';
import type { LineStream } from './stream';
import type { Text } from './words';

const BAR = 24;

/** Shows progress from its creation to `end`. */
export class Progress {
  readonly #text: Text;
  readonly #stream: LineStream;
  readonly #hops: Hops;
  readonly #start = performance.now();
  readonly #terminal = process.stdout.isTTY;
  readonly #timer: NodeJS.Timeout;

  constructor(text: Text, stream: LineStream, hops: Hops) {
    this.#text = text;
    this.#stream = stream;
    this.#hops = hops;
    const everyMs = this.#terminal ? 100 : 1000;
    this.#timer = setInterval(() => {
      this.#show();
    }, everyMs);
  }

  end(): void {
    clearInterval(this.#timer);
    this.#show();
    if (this.#terminal) process.stdout.write('\n');
  }

  /** The demo is over when the text was read and the counter has moved often enough. */
  get #done(): number {
    return Math.min(this.#text.done, this.#hops.live / ENOUGH_HOPS);
  }

  #show(): void {
    const { answered } = this.#stream;
    const seconds = (performance.now() - this.#start) / 1000;
    const done = `${Math.floor(this.#done * 100)} %`.padStart(5);
    const state =
      `${done}  ${number(answered)} lines  ${number(answered / seconds)} lines/s  ` +
      `${this.#hops.live} hops  on ${this.#hops.current.name}`;
    if (!this.#terminal) {
      console.log(state);
      return;
    }
    // A line that wraps would not be written over.
    const bar = Math.max(0, Math.min(BAR, process.stdout.columns - state.length - 1));
    const full = Math.round(this.#done * bar);
    process.stdout.write(`\r\x1b[K${'█'.repeat(full)}${'░'.repeat(bar - full)}${state}`);
  }
}

/** Rounded, with spaces between thousands. */
export function number(value: number): string {
  return Math.round(value).toLocaleString('en').replaceAll(',', ' ');
}
