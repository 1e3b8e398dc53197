// Budget 10: a daemon is spawned and stopped.

import { Identity } from 'mesh-daemon';
import { check, rates, type Benchmark } from '../measure';
import { Echo, local } from '../local';

export const spawn: Benchmark = {
  name: '10 spawn and stop',
  reference: 'the object and its ed25519 key',
  limit: { atLeast: 0.3 },
  start: async () => {
    const { runtime, end } = await local();
    runtime.registerFactory('echo', () => new Echo());
    const line = await rates(
      async (n) => {
        for (let i = 0; i < n; i += 1) await (await runtime.spawn('echo', Identity.generate())).stop();
        check(runtime.daemonCount() === 0, 'all daemons were stopped');
      },
      async (n) => {
        let made = 0;
        for (let i = 0; i < n; i += 1) {
          const daemon = await Promise.resolve({ echo: new Echo(), identity: Identity.generate() });
          if (daemon.identity.originHash !== 0n) made += 1;
        }
        check(made === n, 'all have a key');
      },
    );
    return { ...line, end };
  },
};
