// The daemon of the trials. It remembers the number of every event and of every message of the channel that it ran, in its
// state and in a file that all its lives append to: whatever ran twice, out of order, or on two nodes, stands there.

import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import type { CausalEvent, MeshDaemon } from 'mesh-daemon';
import type { Remembered } from './messages';

/** Asks for everything that the state remembers. */
export const DUMP = 'dump';

/** Each so many events and messages, and outputs of events, are too large for one frame. */
const LARGE_EVERY = 16;
const LARGE_BYTES = 60_000;

/** What is sent with a number, or answered: the number, a colon, and more. */
export function payloadOf(number: number, more = ''): Buffer {
  const text = Buffer.from(`${number}:${more}`);
  return number % LARGE_EVERY === 0 ? Buffer.concat([text, Buffer.alloc(LARGE_BYTES, ' ')]) : text;
}

/** Runs numbered events and messages; each tenth one takes a while. */
export class Journal implements MeshDaemon {
  static readonly kind = 'journal';
  #ran: { events: number[]; messages: number[] } = { events: [], messages: [] };
  #ballast: Buffer;
  readonly #file: number;

  constructor(
    path: string,
    readonly node: string,
    ballastBytes = 0,
  ) {
    this.#file = openSync(path, 'a');
    this.#ballast = Buffer.alloc(ballastBytes, 7);
  }

  process(event: CausalEvent): Buffer | Promise<Buffer> {
    const text = event.payload.toString();
    if (text === DUMP) return Buffer.from(JSON.stringify(this.#ran));
    const [number, of] = [Number.parseInt(text), event.channel === null ? 'events' : 'messages'] as const;
    return number % 10 === 0
      ? new Promise((resolve) => {
          setTimeout(() => {
            resolve(this.#run(of, number));
          }, 2);
        })
      : this.#run(of, number);
  }

  // The file first: what is answered stands there.
  #run(of: keyof Remembered, number: number): Buffer {
    writeSync(this.#file, `${of} ${number} ${this.node} ${process.pid}\n`);
    this.#ran[of].push(number);
    return payloadOf(number, String(this.#ran[of].length));
  }

  snapshot(): Buffer {
    const ran = Buffer.from(JSON.stringify(this.#ran));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(ran.length);
    return Buffer.concat([length, ran, this.#ballast]);
  }

  restore(state: Buffer): void {
    const end = 4 + state.readUInt32LE();
    this.#ran = JSON.parse(state.subarray(4, end).toString()) as { events: number[]; messages: number[] };
    this.#ballast = Buffer.from(state.subarray(end));
  }

  onStop(): void {
    closeSync(this.#file);
  }
}

/** One line of the file. */
export interface Entry {
  readonly of: keyof Remembered;
  readonly number: number;
  readonly node: string;
  readonly pid: number;
}

/** What ran, in the order in which it did, on whatever node. */
export function readJournal(path: string): Entry[] {
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => {
    const [of = '', number = '', node = '', pid = ''] = line.split(' ');
    if (of !== 'events' && of !== 'messages') throw new Error(`the journal has the line ${line}`);
    return { of, number: Number(number), node, pid: Number(pid) };
  });
}
