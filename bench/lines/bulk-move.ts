// Budget 8: a daemon with 256 MiB of state moves to another process, in at most 1.6 times the time that its bytes alone take:
// its rate is that share of theirs.

import { Identity } from 'mesh-daemon';
import { Holder } from '../holder';
import { check, type Benchmark } from '../measure';
import { startPeers } from '../peers';
import { reference } from '../reference';
import { Steward } from '../steward';

const STATE_MIB = 256;
const STATE_BYTES = STATE_MIB * 1024 * 1024;

export const bulkMove: Benchmark = {
  name: '8 rate of a move of 256 MiB',
  reference: 'the same bytes through Noise over TCP',
  limit: { atLeast: 1 / 1.6 },
  start: async () => {
    const { runtime, peers, end } = await startPeers(1);
    const [peer] = peers;
    if (peer === undefined) throw new Error('there is no peer');
    const state = Buffer.alloc(STATE_BYTES, 'state');

    const move = async (): Promise<number> => {
      const config = { kind: Holder.kind };
      const { originHash } = await runtime.spawnWithDaemon(Identity.generate(), new Holder(state), config);
      const start = performance.now();
      await (await runtime.migrate(originHash, peer.nodeId)).wait();
      const seconds = (performance.now() - start) / 1000;
      const [size] = await runtime.call(originHash, Buffer.of());
      check(size?.toString() === String(STATE_BYTES), 'the state arrived');
      await runtime.call(peer.steward, Steward.stop(originHash));
      return STATE_MIB / seconds;
    };
    const push = async (): Promise<number> => {
      const start = performance.now();
      await reference.noisePush(peer.noisePort, state);
      return (STATE_MIB * 1000) / (performance.now() - start);
    };
    // Warm-up.
    await move();
    await push();
    return { unit: 'MiB/s', end, round: async () => ({ ours: await move(), reference: await push() }) };
  },
};
