// The daemon of the demo: an ordinary class. Nothing in it knows that it moves.

import { type CausalEvent, type MeshDaemon } from 'mesh-daemon';
import { wordsIn } from './words';

/** What the daemon answers when it is asked for its report. */
export interface WordReport {
  lines: number;
  /** Line numbers that were left out. */
  lost: number;
  /** Lines whose number had been seen before. */
  repeated: number;
  words: [word: string, count: number][];
}

/** Counts words. Each event is a numbered line, `12 the text of the line`, or the word `report`. */
export class WordCount implements MeshDaemon {
  static readonly kind = 'word-count';

  static line(number: number, text: string): Buffer {
    return Buffer.from(`${number} ${text}`);
  }

  static readonly askForReport = Buffer.from('report');

  #lines = 0;
  #lost = 0;
  #repeated = 0;
  #next = 1;
  #words = new Map<string, number>();

  process({ payload }: CausalEvent): Buffer | undefined {
    const event = payload.toString();
    if (event === 'report') return this.snapshot();
    const space = event.indexOf(' ');
    this.#number(Number(event.slice(0, space)));
    this.#lines += 1;
    for (const word of wordsIn(event.slice(space + 1))) this.#words.set(word, (this.#words.get(word) ?? 0) + 1);
    return undefined;
  }

  snapshot(): Buffer {
    const report: WordReport = {
      lines: this.#lines,
      lost: this.#lost,
      repeated: this.#repeated,
      words: [...this.#words],
    };
    return Buffer.from(JSON.stringify(report));
  }

  restore(state: Buffer): void {
    const report = JSON.parse(state.toString()) as WordReport;
    this.#lines = report.lines;
    this.#lost = report.lost;
    this.#repeated = report.repeated;
    this.#next = report.lines + report.lost - report.repeated + 1;
    this.#words = new Map(report.words);
  }

  /** Lines are numbered 1, 2, 3 … by their sender and come in that order. */
  #number(number: number): void {
    if (number < this.#next) {
      this.#repeated += 1;
      return;
    }
    this.#lost += number - this.#next;
    this.#next = number + 1;
  }
}
