// Events with very many outputs: each of these arrives as it is, wherever the caller is, up to the most there may be.

import { Identity, type CausalEvent, type MeshDaemon } from 'mesh-daemon';
import { any, closeAll, failure, node, pair } from './helpers/nodes';

afterEach(closeAll);

/** The most of one event. */
const MOST = 65_536;
/** Around how many lengths fit 64 KiB with a header, and the most. */
const COUNTS = [16_366, 16_367, 16_368, MOST];

const asked = (count: number): Buffer => Buffer.from(String(count));
const numbered = (index: number): Buffer => Buffer.from(`${String(index)}.`);

/** Gives as many outputs as an event asks for, each with its own number in it. */
const ways: Readonly<Record<string, MeshDaemon>> = {
  'at once': { process: ({ payload }) => Array.from({ length: Number(payload) }, (_, index) => numbered(index)) },
  later: {
    process: ({ payload }) => Promise.resolve(Array.from({ length: Number(payload) }, (_, index) => numbered(index))),
  },
};

/** The first output that is not as it was given, if any. */
function firstWrong(outputs: readonly Uint8Array[], count: number): string | null {
  if (outputs.length !== count) return `${String(outputs.length)} outputs`;
  const wrong = outputs.findIndex((output, index) => !numbered(index).equals(output));
  return wrong < 0 ? null : `output ${String(wrong)}`;
}

/** The first link that does not follow the one before it. */
function firstBroken(events: readonly CausalEvent[], originHash: bigint): number {
  return events.findIndex(
    (event, index) => event.originHash !== originHash || event.sequence !== (events[0]?.sequence ?? 0n) + BigInt(index),
  );
}

describe.each(Object.entries(ways))('outputs that come %s', (_, daemon) => {
  test.each(COUNTS)('%d of them reach a caller here, with their links', async (count) => {
    const { rt } = await node();
    const { originHash } = await rt.spawnWithDaemon(Identity.generate(), daemon);
    expect(firstWrong(await rt.call(originHash, asked(count)), count)).toBe(null);
    const event = { originHash: 1n, sequence: 1n, payload: asked(count) };
    const events = await rt.deliverCausal(originHash, event);
    expect([
      firstWrong(
        events.map(({ payload }) => payload),
        count,
      ),
      firstBroken(events, originHash),
    ]).toEqual([null, -1]);
    const [many, few] = await rt.deliverMany(originHash, [asked(count), asked(2)]);
    expect([firstWrong(many!, count), firstWrong(few!, 2)]).toEqual([null, null]);
  });

  test.each(COUNTS)('%d of them reach a caller on another node', async (count) => {
    const [a, b] = await pair();
    const { originHash } = await b.rt.spawnWithDaemon(Identity.generate(), daemon);
    // The one behind it is told of together with it.
    const both = await Promise.all([count, 2].map((outputs) => a.rt.call(originHash, asked(outputs))));
    expect([firstWrong(both[0]!, count), firstWrong(both[1]!, 2)]).toEqual([null, null]);
  });

  test('one more than there may be is an invalid output, here and on another node', async () => {
    const [a, b] = await pair();
    const { originHash } = await b.rt.spawnWithDaemon(Identity.generate(), daemon);
    for (const rt of [a.rt, b.rt]) {
      const error = await failure(rt.call(originHash, asked(MOST + 1)));
      expect(error).toMatchObject({ code: 'ERR_DAEMON_INVALID_OUTPUT' });
      expect(error.message).toContain(`of which there may be ${String(MOST)}`);
    }
    expect(firstWrong(await a.rt.call(originHash, asked(3)), 3)).toBe(null);
  });

  test.each([16_368, MOST])('%d of them are published in order, whoever asked for them', async (count) => {
    const [a, b] = await pair();
    const { originHash } = await b.rt.spawnWithDaemon(Identity.generate(), daemon, { outputChannel: 'out' });
    const messages = a.mesh.messages(b.id, 'out');
    await messages.ready;
    for (const { rt } of [a, b]) {
      const outputs: Buffer[] = [];
      // Without somebody who iterates, the oldest would go.
      const asking = rt.call(originHash, asked(count));
      for await (const { payload } of messages) if (outputs.push(payload) === count) break;
      expect(firstWrong(outputs, count)).toBe(null);
      await asking;
    }
  });
});

test('outputs of an array that gives more than its length says are counted as they come', async () => {
  const { rt } = await node();
  const endless = Object.defineProperty([], Symbol.iterator, {
    *value() {
      for (;;) yield numbered(1);
    },
  });
  const { originHash } = await rt.spawnWithDaemon(Identity.generate(), { process: () => any(endless) });
  expect(await failure(rt.call(originHash, asked(1)))).toMatchObject({ code: 'ERR_DAEMON_INVALID_OUTPUT' });
});

test('5 000 outputs of events that need few bytes and of one that needs many have their links', async () => {
  const { rt } = await node();
  const large = Buffer.alloc(40_000, 1);
  const { originHash } = await rt.spawnWithDaemon(Identity.generate(), {
    process: ({ payload }) =>
      Array.from({ length: 5_000 }, (_, index) => (index % 1_000 === Number(payload) ? large : numbered(index))),
  });
  let next = 1n;
  for (const which of ['-1', '7']) {
    const events = await rt.deliverCausal(originHash, { originHash: 1n, sequence: next, payload: Buffer.from(which) });
    expect([events.length, firstBroken(events, originHash), events[0]?.sequence]).toEqual([5_000, -1, next]);
    next += 5_000n;
  }
});
