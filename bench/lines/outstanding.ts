// Budget 3: 1 000 `deliver` outstanding, to a local daemon; sync and async `process`.

import type { MeshDaemon } from 'mesh-daemon';
import { check, rates, type Benchmark } from '../measure';
import { AsyncEcho, Echo, PAYLOAD, checkEcho, localDaemon } from '../local';
import { crossPacked, endPacked, startPacked } from '../packed';

const MANY = Array.from({ length: 1000 }, () => PAYLOAD);

export const outstandingSync = outstanding('3 deliver, 1 000 outstanding, sync', 0.5, () => new Echo());
export const outstandingAsync = outstanding('3 deliver, 1 000 outstanding, async', 0.25, () => new AsyncEcho());

function outstanding(name: string, atLeast: number, daemon: () => MeshDaemon): Benchmark {
  return {
    name,
    reference: 'packed batches of 256 that settle promises',
    limit: { atLeast },
    start: async () => {
      const { runtime, origin, end } = await localDaemon(daemon());
      startPacked();
      const event = { originHash: 1n, sequence: 1n, payload: PAYLOAD };
      const line = await rates(
        async (n) => {
          for (let i = 0; i < n; i += 1) {
            const outputs = await Promise.all(MANY.map(() => runtime.deliver(origin, event)));
            outputs.forEach(checkEcho);
          }
        },
        async (n) => {
          for (let i = 0; i < n; i += 1) {
            const waiting: ((outputs: Buffer[]) => void)[] = [];
            const promises = MANY.map(
              () =>
                new Promise<Buffer[]>((resolve) => {
                  waiting.push(resolve);
                }),
            );
            let settled = 0;
            await crossPacked(MANY, (payload) => waiting[settled++]?.([payload]));
            check(settled === MANY.length, 'every promise is settled');
            (await Promise.all(promises)).forEach(checkEcho);
          }
        },
        '1000/s',
      );
      return {
        ...line,
        end: async () => {
          endPacked();
          await end();
        },
      };
    },
  };
}
