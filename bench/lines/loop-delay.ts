// Budget 12: how long the event loop is held under full load: the 99th of 100 turns, while daemons here are called without
// a pause, one by one and 1 000 at a time. Events may take 5 ms of a turn.

import { quantile, type Benchmark } from '../measure';
import { AsyncEcho, Echo, PAYLOAD, checkEcho, local } from '../local';
import { Identity } from 'mesh-daemon';

const SLICE_MS = 5;
const ROUND_MS = 2000;
const MANY = Array.from({ length: 1000 }, () => PAYLOAD);

export const loopDelay: Benchmark = {
  name: '12 event-loop delay under load, p99',
  reference: 'turns of 5 ms of plain work',
  limit: { atMost: 3 },
  start: async () => {
    const { runtime, end } = await local();
    const sync = await runtime.spawnWithDaemon(Identity.generate(), new Echo());
    const async = await runtime.spawnWithDaemon(Identity.generate(), new AsyncEcho());
    const event = { originHash: 1n, sequence: 1n, payload: PAYLOAD };
    const oneByOne = async (signal: AbortSignal): Promise<void> => {
      while (!signal.aborted) checkEcho(await runtime.deliver(sync.originHash, event));
    };
    const atOnce = async (signal: AbortSignal): Promise<void> => {
      while (!signal.aborted) {
        (await Promise.all(MANY.map((payload) => runtime.call(async.originHash, payload)))).forEach(checkEcho);
      }
    };
    // On a machine that others use too the same holds up both.
    const slices = async (signal: AbortSignal): Promise<void> => {
      while (!signal.aborted) {
        const ends = performance.now() + SLICE_MS;
        while (performance.now() < ends);
        await nextTurn();
      }
    };
    return {
      unit: 'ms',
      end,
      round: async () => ({
        ours: await longTurn([oneByOne, atOnce, atOnce]),
        reference: await longTurn([slices]),
      }),
    };
  },
};

/** The 99th of 100 turns under a load. */
async function longTurn(load: ((signal: AbortSignal) => Promise<void>)[]): Promise<number> {
  const over = new AbortController();
  const running = load.map((run) => run(over.signal));
  const turns: number[] = [];
  const start = performance.now();
  for (let before = start; before - start < ROUND_MS;) {
    await nextTurn();
    const now = performance.now();
    turns.push(now - before);
    before = now;
  }
  over.abort();
  await Promise.all(running);
  turns.sort((a, b) => a - b);
  return quantile(turns, 0.99);
}

function nextTurn(): Promise<void> {
  return new Promise(setImmediate);
}
