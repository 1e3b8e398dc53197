// Budget 7: how long a caller waits, at most, while the daemon that it calls moves from one other process to another. With
// larger states it is shown, not limited: the pause is then that of reading, moving and restoring them.

import { Identity } from 'mesh-daemon';
import { Holder } from '../holder';
import { quantile, type Benchmark, type Line } from '../measure';
import { PAYLOAD, checkEcho } from '../local';
import { startPeers } from '../peers';
import { Steward } from '../steward';

const CALLS = 300;
/** Moves in a round: with seven rounds enough for a 99th of 100. */
const MOVES = 15;
const KIB = 1024;
const MIB = 1024 * KIB;

export const pause = pauseWith('7 longest call during a move, 1 KiB', KIB, { atMost: 20 });
export const pauses: readonly Benchmark[] = [
  pauseWith('15 longest call during a move, 1 MiB', MIB, null),
  pauseWith('16 longest call during a move, 64 MiB', 64 * MIB, null),
];

function pauseWith(name: string, stateBytes: number, limit: Benchmark['limit']): Benchmark {
  return {
    name,
    reference: 'median call to that process',
    limit,
    samplesPerRound: MOVES,
    start: () => movingDaemon(stateBytes),
  };
}

async function movingDaemon(stateBytes: number): Promise<Line> {
  const { runtime, peers, end } = await startPeers(2);
  const holder = new Holder(Buffer.alloc(stateBytes, 1));
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
}
