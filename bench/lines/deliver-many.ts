// Budget 2: `deliverMany` of 1 000 payloads to a local daemon.

import { check, rates, type Benchmark } from '../measure';
import { Echo, PAYLOAD, checkEcho, localDaemon } from '../local';
import { crossPacked, endPacked, startPacked } from '../packed';

const MANY = Array.from({ length: 1000 }, () => PAYLOAD);

export const deliverMany: Benchmark = {
  name: '2 deliverMany of 1 000',
  reference: 'packed batches of 256, one in flight',
  limit: { atLeast: 0.5 },
  start: async () => {
    const { runtime, origin, end } = await localDaemon(new Echo());
    startPacked();
    const line = await rates(
      async (n) => {
        for (let i = 0; i < n; i += 1) {
          const outputs = await runtime.deliverMany(origin, MANY);
          check(outputs.length === MANY.length, 'every payload is answered');
          outputs.forEach(checkEcho);
        }
      },
      async (n) => {
        for (let i = 0; i < n; i += 1) {
          const outputs: Buffer[][] = [];
          await crossPacked(MANY, (payload) => outputs.push([payload]));
          check(outputs.length === MANY.length, 'every payload came back');
          outputs.forEach(checkEcho);
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
