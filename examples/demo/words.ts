// The text of the demo, and what a word is.

import { createReadStream, statSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** A real text of several megabytes that is there after `npm ci`: the TypeScript compiler. */
export const defaultFile = require.resolve('typescript');

/** The lines of a text of at most so many bytes are kept: to open it again takes longer than to count them. */
const SMALL = 64 * 1024;

/** The words of a line. */
export function wordsIn(line: string): string[] {
  return line.match(/[\p{L}\p{N}_]+/gu) ?? [];
}

/** What was named is no text to stream. */
export class NoText extends Error {}

/** A text file, read line by line; it may be larger than memory. */
export class Text {
  readonly file: string;
  readonly #size: number;
  #furthest = 0;
  #kept: readonly string[] | undefined;

  constructor(file: string) {
    this.file = file;
    const found = statSync(file, { throwIfNoEntry: false });
    if (found === undefined) throw new NoText(`there is no file ${file}`);
    if (!found.isFile()) throw new NoText(`${file} is no file`);
    if (found.size === 0) throw new NoText(`${file} is empty`);
    this.#size = found.size;
  }

  /** How much of it has been read at least once: 0 to 1. */
  get done(): number {
    return Math.min(1, this.#furthest / this.#size);
  }

  async *lines(): AsyncGenerator<string> {
    if (this.#kept !== undefined) {
      yield* this.#kept;
      return;
    }
    const kept: string[] = [];
    let read = 0;
    const input = createReadStream(this.file, 'utf8');
    for await (const line of createInterface({ input, crlfDelay: Infinity })) {
      if (this.#size <= SMALL) kept.push(line);
      yield line;
      read += Buffer.byteLength(line) + 1;
      this.#furthest = Math.max(this.#furthest, read);
    }
    if (this.#size <= SMALL) this.#kept = kept;
  }

  /** The straightforward count that the daemon's is compared with. */
  async count(): Promise<{ lines: number; words: Map<string, number> }> {
    const words = new Map<string, number>();
    let lines = 0;
    for await (const line of this.lines()) {
      lines += 1;
      for (const word of wordsIn(line)) words.set(word, (words.get(word) ?? 0) + 1);
    }
    return { lines, words };
  }
}
