// Budget 7: how long a caller waits, at most, while the daemon that it calls moves from one other process to another.

import { Identity } from 'mesh-daemon';
import { Holder } from '../holder';
import { quantile, type Benchmark } from '../measure';
import { PAYLOAD, checkEcho } from '../local';
import { startPeers } from '../peers';
import { Steward } from '../steward';

const STATE_BYTES = 1024;
const CALLS = 300;

export const pause: Benchmark = {
  name: '7 longest call during a move, 1 KiB',
  reference: 'median call to that process',
  limit: { atMost: 20 },
  start: async () => {
    const { runtime, peers, end } = await startPeers(2);
    const holder = new Holder(Buffer.alloc(STATE_BYTES, 1));
    const { originHash } = await runtime.spawnWithDaemon(Identity.generate(), holder, { kind: Holder.kind });
    const callOnce = async (): Promise<number> => {
      const start = performance.now();
      checkEcho(await runtime.call(originHash, PAYLOAD));
      return (performance.now() - start) * 1000;
    };

    let [here, there] = peers;
    if (here === undefined || there === undefined) throw new Error('two peers are needed');
    await (await runtime.migrate(originHash, here.nodeId)).wait();
    return {
      unit: 'µs',
      end,
      round: async () => {
        if (here === undefined || there === undefined) throw new Error('two peers are needed');
        const usual: number[] = [];
        for (let i = 0; i < CALLS; i += 1) usual.push(await callOnce());
        usual.sort((a, b) => a - b);

        const over = new AbortController();
        const move = runtime.call(here.steward, Steward.move(originHash, there.nodeId)).finally(() => {
          over.abort();
        });
        let longest = 0;
        while (!over.signal.aborted) longest = Math.max(longest, await callOnce());
        await move;
        [here, there] = [there, here];
        return { ours: longest, reference: quantile(usual, 0.5) };
      },
    };
  },
};
