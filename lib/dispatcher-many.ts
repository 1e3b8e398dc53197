/**
 * Many events of this node for one daemon, in order.
 *
 * As many as may run on their caller's stack; then as many as the mailbox, what holds events during a hand-over, or the stream to
 * another node has room for. The rest follows as there is room again: a batch may be larger than a mailbox, and takes as long as
 * it takes. A mailbox that others keep full refuses all of it or nothing.
 */

import { native } from './binding';
import { copyOf, Failed, type Outcome } from './daemon-outputs';
import type { Direct } from './dispatcher-direct';
import type { Life } from './dispatcher-life';
import { DaemonError } from './errors/index';
import { IN_TURN, NO_TIMEOUT } from './runtime-journal';

/** So many are waited for together, and so many of their bytes; one of any size. A hand-over holds no fewer. */
const PIECE: Room = { events: 1_024, bytes: 16 * 1024 * 1024 };
/** What may be on its way to another node; the native part takes more than that. */
const ELSEWHERE: Room = { events: 16_384, bytes: 16 * 1024 * 1024 };

interface Host {
  /** Asking by this number tells the journal first. */
  readonly id: number;
  readonly life: Life;
  call(emitter: bigint, origin: bigint, payload: Uint8Array, timeoutMs: number): Promise<Buffer[]>;
}

/** What a mailbox, or the way to another node, takes. */
interface Room {
  readonly events: number;
  readonly bytes: number;
}

/** Events that were entered together. */
interface Piece extends Room {
  readonly results: Promise<Results>;
}

type Results = PromiseSettledResult<Buffer[]>[];

/** All of them run, whatever becomes of one; then the first failure is told. */
export async function deliverMany(
  host: Host,
  direct: Direct,
  origin: bigint,
  payloads: readonly Uint8Array[],
): Promise<Buffer[][]> {
  const done: Outcome[] = [];
  const suspended: Promise<Buffer[]>[] = [];
  let index = 0;
  while (index < payloads.length && suspended.length === 0) {
    const record = host.life.at(origin);
    const ran = record === undefined ? 0 : direct.runMany(record, payloads, index, done, suspended);
    if (ran === 0) break;
    index += ran;
  }
  const first = Promise.allSettled(suspended);
  const rest = await feed(host, origin, payloads, index);
  for (const outcome of done) if (outcome instanceof Failed) throw outcome.error;
  const outputs = done as Buffer[][];
  for (const result of [...(await first), ...rest]) {
    if (result.status === 'rejected') throw result.reason;
    outputs.push(result.value);
  }
  return outputs;
}

async function feed(host: Host, origin: bigint, given: readonly Uint8Array[], from: number): Promise<Results> {
  const pieces: Piece[] = [];
  let payloads = given;
  let index = from;
  let settled = 0;
  let copied = false;
  const enter = (count: number, patience: number): Promise<Results> => {
    const piece = payloads.slice(index, index + count);
    const results = Promise.allSettled(piece.map((payload) => host.call(0n, origin, payload, patience)));
    pieces.push({ events: count, bytes: piece.reduce((sum, payload) => sum + payload.length, 0), results });
    index += count;
    return results;
  };
  const keep = (): void => {
    // From here on the caller may use its memory again.
    if (!copied) payloads = payloads.map((payload, at) => (at < index ? payload : copyOf(payload)));
    copied = true;
  };
  while (index < payloads.length) {
    const room = native.runtimeMailboxRoom(host.id, origin) ?? elsewhere(pieces.slice(settled));
    const count = fitting(payloads, index, room);
    const oldest = pieces[settled];
    if (count > 0) {
      void enter(count, IN_TURN);
    } else if (oldest !== undefined) {
      keep();
      await oldest.results;
      settled += 1;
    } else if (index > 0) {
      // What is before it is in: it waits for room with those of other nodes.
      void enter(1, IN_TURN);
    } else {
      // It is taken, or its refusal says why not, and then nothing of the batch runs.
      const head = enter(1, NO_TIMEOUT);
      keep();
      const [first] = await head;
      if (first?.status === 'rejected' && isRefusal(first.reason)) throw first.reason;
    }
  }
  return (await Promise.all(pieces.map(({ results }) => results))).flat();
}

function isRefusal(reason: unknown): boolean {
  return reason instanceof DaemonError && reason.code === 'ERR_DAEMON_MAILBOX_FULL';
}

/** What may follow these to another node. */
function elsewhere(underWay: readonly Piece[]): Room {
  return underWay.reduce(
    (room, piece) => ({ events: room.events - piece.events, bytes: room.bytes - piece.bytes }),
    ELSEWHERE,
  );
}

/** How many from `index` on fit the room, a piece at most. */
function fitting(payloads: readonly Uint8Array[], index: number, room: Room): number {
  const most = Math.min(payloads.length - index, room.events, PIECE.events);
  let bytes = 0;
  for (let count = 0; count < most; count += 1) {
    bytes += payloads[index + count]?.length ?? 0;
    if (bytes > room.bytes || (count > 0 && bytes > PIECE.bytes)) return count;
  }
  return Math.max(most, 0);
}
