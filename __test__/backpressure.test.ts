// What may wait with its senders for one daemon of another node: 65 536 events, 64 MiB of them.

import { BackpressureError, Identity } from 'mesh-daemon';
import { closeAll, deferred, failure, pair, type Node } from './helpers/nodes';

afterEach(closeAll);

const MOST = 65_536;
const MIB = 1024 * 1024;

/** A daemon that runs nothing until it is let go, and whose mailbox is full: all that follows waits with its senders. */
async function stuck(): Promise<{ a: Node; b: Node; originHash: bigint; heard: number[]; go: () => void }> {
  const [a, b] = await pair();
  const { promise, resolve } = deferred();
  const heard: number[] = [];
  const { originHash } = await b.rt.spawnWithDaemon(
    Identity.generate(),
    {
      async process({ payload }) {
        await promise;
        heard.push(payload.readUInt32LE());
        return payload.subarray(0, 4);
      },
    },
    { mailboxCapacity: 1 },
  );
  // One runs, and one waits there.
  for (const number of [0, 1]) await a.rt.send(originHash, numbered(number, 4));
  return { a, b, originHash, heard, go: resolve };
}

function numbered(number: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  bytes.writeUInt32LE(number);
  return bytes;
}

/** Holds the failures of these until somebody asks. */
function entered<T>(promises: Promise<T>[]): Promise<T>[] {
  for (const promise of promises) promise.catch(() => undefined);
  return promises;
}

test('64 MiB wait for a daemon elsewhere; what goes beyond is refused at once and does not run, the others do', async () => {
  const { a, originHash, heard, go } = await stuck();
  const calls = entered(Array.from({ length: 66 }, (_, index) => a.rt.call(originHash, numbered(index + 2, MIB))));
  for (const refused of calls.splice(64)) {
    const error = await failure(refused);
    expect(error).toBeInstanceOf(BackpressureError);
    expect(error.message).toContain(String(originHash));
  }
  // It is the sender's limit, not the daemon's: another way of entering meets it as well.
  const event = { originHash: 1n, sequence: 1n, payload: numbered(0, MIB) };
  for (const late of [a.rt.send(originHash, event.payload), a.rt.deliver(originHash, event)]) {
    expect(await failure(late)).toMatchObject({ code: 'ERR_BACKPRESSURE' });
  }
  expect(heard).toEqual([]);
  go();
  const answers = await Promise.all(calls);
  expect(answers.map(([answer]) => answer?.readUInt32LE())).toEqual(calls.map((_, index) => index + 2));
  expect(heard).toEqual(Array.from({ length: 66 }, (_, number) => number));
});

test('65 536 events wait for a daemon elsewhere, the next ones are refused, and other daemons are not in the way of it', async () => {
  const { a, b, originHash } = await stuck();
  const sends = entered(Array.from({ length: MOST + 2 }, () => a.rt.send(originHash, numbered(2, 4))));
  for (const refused of sends.slice(MOST)) expect(await failure(refused)).toMatchObject({ code: 'ERR_BACKPRESSURE' });
  const other = await b.rt.spawnWithDaemon(Identity.generate(), { process: ({ payload }) => payload });
  expect(await a.rt.call(other.originHash, numbered(7, 4))).toEqual([numbered(7, 4)]);
  await a.rt.shutdown();
  for (const waited of sends.slice(0, MOST)) {
    expect(await failure(waited)).toMatchObject({ code: 'ERR_DAEMON_SHUTTING_DOWN' });
  }
});

test('deliverMany keeps within what may wait', async () => {
  const { a, originHash, go } = await stuck();
  const many = a.rt.deliverMany(
    originHash,
    Array.from({ length: 80 }, (_, index) => numbered(index, MIB)),
  );
  go();
  expect(await many).toHaveLength(80);
});
