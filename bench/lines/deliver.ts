// Budget 1: `deliver` awaited one by one, to a local idle daemon.

import { rates, type Benchmark } from '../measure';
import { Echo, PAYLOAD, checkEcho, localDaemon } from '../local';
import { reference } from '../reference';

export const deliver: Benchmark = {
  name: '1 deliver, one by one',
  reference: 'native function → JavaScript → back, and a resolved promise',
  limit: { atLeast: 0.4 },
  start: async () => {
    const { runtime, origin, end } = await localDaemon(new Echo());
    reference.setHandler((payload) => payload);
    const event = { originHash: 1n, sequence: 1n, payload: PAYLOAD };
    const line = await rates(
      async (n) => {
        for (let i = 0; i < n; i += 1) checkEcho(await runtime.deliver(origin, event));
      },
      async (n) => {
        for (let i = 0; i < n; i += 1) checkEcho([await Promise.resolve(reference.roundTrip(PAYLOAD) as Buffer)]);
      },
    );
    return { ...line, end };
  },
};
