/**
 * The two buffers of a runtime in which events and outputs cross in bulk; `src/runtime/scratch.rs` has the other end.
 *
 * The inbox is written by the native part, the outbox by this one, each only until the next native call. Where what is, the native part says.
 */

import { markAsUntransferable } from 'node:worker_threads';
import { native } from './binding';

const layout = native.scratchLayout();
/** Bytes of the header of either buffer. */
export const HEADER = layout.header;
/** Bytes of one event's fixed fields in the inbox. */
export const EVENT = layout.event;
/** Most outputs of one event: their number and lengths have room before {@link OUTPUT_BYTES}. */
export const MOST_OUTPUTS = layout.mostOutputs;
/** Where the bytes of outputs begin in the outbox. */
const OUTPUT_BYTES = layout.outputBytes;
const { inbox: INBOX, outbox: OUTBOX, failed: FAILED, large: LARGE } = layout;
/** Bytes of a link. */
const LINK = 32;
/** Larger outputs cross as they are. */
const SMALL_OUTPUT = 32 * 1024;

/** A copy of a part of the inbox. Views of it belong to whoever gets them. */
export interface Block {
  readonly buffer: ArrayBuffer;
  readonly longs: BigUint64Array;
  readonly words: Uint32Array;
  /** Payloads that did not fit, by their number, which counts from 1. */
  readonly large: readonly Buffer[];
  readonly channels: readonly string[];
}

export class Scratch {
  readonly inbox = new Uint8Array(INBOX);
  readonly outbox = new Uint8Array(OUTBOX);
  readonly inLongs = new BigUint64Array(this.inbox.buffer);
  readonly inFloats = new Float64Array(this.inbox.buffer);
  readonly inWords = new Uint32Array(this.inbox.buffer);
  readonly #outLongs = new BigUint64Array(this.outbox.buffer);
  readonly #outWords = new Uint32Array(this.outbox.buffer);
  #word = 0;
  #byte = 0;
  #large: Uint8Array[] | undefined;

  /** Copies the first `length` bytes of the inbox. */
  block(length: number, large: readonly Buffer[], channels: readonly string[]): Block {
    const buffer = this.inbox.buffer.slice(0, (length + 7) & ~7);
    // Many receivers have views of it; none may take it away from the others.
    markAsUntransferable(buffer);
    return { buffer, longs: new BigUint64Array(buffer), words: new Uint32Array(buffer), large, channels };
  }

  /** Names the emitter, number and destination of an event. */
  address(origin: bigint, sequence: bigint, destination: bigint): void {
    this.#outLongs[4] = origin;
    this.#outLongs[5] = sequence;
    this.#outLongs[6] = destination;
  }

  /** Begins a list of outcomes. */
  begin(): void {
    this.#word = HEADER / 4;
    this.#byte = OUTPUT_BYTES;
    this.#large = undefined;
  }

  /** Whether the outputs of one more event surely fit. */
  fits(outputs: readonly Uint8Array[]): boolean {
    if ((this.#word + outputs.length + 1) * 4 > OUTPUT_BYTES) return false;
    let bytes = this.#byte;
    for (const output of outputs) if (output.length <= SMALL_OUTPUT) bytes += output.length;
    return bytes <= OUTBOX;
  }

  /** Enters an event that failed. */
  failed(): void {
    this.#put(FAILED);
  }

  /** Enters the outputs of an event; the bytes are copied. */
  outputs(outputs: readonly Uint8Array[]): void {
    this.#put(outputs.length);
    for (const output of outputs) {
      const length = output.length;
      if (length > SMALL_OUTPUT || this.#byte + length > OUTBOX) {
        this.#large ??= [];
        this.#put((LARGE | this.#large.length) >>> 0);
        this.#large.push(output);
      } else {
        this.#put(length);
        this.outbox.set(output, this.#byte);
        this.#byte += length;
      }
    }
  }

  /** Never into the bytes of outputs, which come behind. */
  #put(word: number): void {
    if (this.#word >= OUTPUT_BYTES / 4) throw new RangeError('more lengths of outputs than have room');
    this.#outWords[this.#word++] = word;
  }

  /** The links of so many outputs that ran here, four numbers each; `beyond` has those for which the inbox has no room. */
  links(count: number, beyond: BigUint64Array | null): BigUint64Array {
    return beyond ?? this.inLongs.slice(0, (LINK / 8) * count);
  }

  /** Outputs that did not fit. */
  get large(): Uint8Array[] | undefined {
    return this.#large;
  }

  /** Fills in what the outcomes belong to. */
  report(slot: number, generation: number, batch: number, count: number, rest: number, locals: number, links: boolean) {
    const words = this.#outWords;
    words[0] = slot;
    words[1] = generation;
    words[2] = batch;
    words[3] = count;
    words[4] = rest;
    words[5] = locals;
    words[6] = links ? 1 : 0;
    words[7] = this.#byte;
  }
}
