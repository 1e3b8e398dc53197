// Budget 12: how long the event loop is held under full load: the 99th of 100 turns, while daemons here are called without
// a pause, one by one and 1 000 at a time. What user code may take of a turn is 5 ms.

import { quantile, type Benchmark } from '../measure';
import { AsyncEcho, Echo, PAYLOAD, checkEcho, local } from '../local';
import { Identity } from 'mesh-daemon';

const SLICE_MS = 5;
const ROUND_MS = 1000;
const MANY = Array.from({ length: 1000 }, () => PAYLOAD);

export const loopDelay: Benchmark = {
  name: '12 event-loop delay under load, p99',
  reference: 'what events may take of a turn, 5 ms',
  limit: { atMost: 3 },
  start: async () => {
    const { runtime, end } = await local();
    const sync = await runtime.spawnWithDaemon(Identity.generate(), new Echo());
    const async = await runtime.spawnWithDaemon(Identity.generate(), new AsyncEcho());
    const event = { originHash: 1n, sequence: 1n, payload: PAYLOAD };
    return {
      unit: 'ms',
      end,
      round: async () => {
        const over = new AbortController();
        const oneByOne = async (): Promise<void> => {
          while (!over.signal.aborted) checkEcho(await runtime.deliver(sync.originHash, event));
        };
        const atOnce = async (): Promise<void> => {
          while (!over.signal.aborted) {
            (await Promise.all(MANY.map((payload) => runtime.call(async.originHash, payload)))).forEach(checkEcho);
          }
        };
        const load = [oneByOne(), atOnce(), atOnce()];
        const turns: number[] = [];
        const start = performance.now();
        for (let before = start; before - start < ROUND_MS;) {
          await new Promise(setImmediate);
          const now = performance.now();
          turns.push(now - before);
          before = now;
        }
        over.abort();
        await Promise.all(load);
        turns.sort((a, b) => a - b);
        return { ours: quantile(turns, 0.99), reference: SLICE_MS };
      },
    };
  },
};
