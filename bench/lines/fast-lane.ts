// Budget 9: calls to another daemon of the same session while a state of 1 GiB moves over it. They are made on a schedule,
// whatever is outstanding: a stall is met by as many of them as it lasts.

import { Identity } from 'mesh-daemon';
import { Holder } from '../holder';
import { check, quantile, type Benchmark, type Line } from '../measure';
import { PAYLOAD, checkEcho } from '../local';
import { startPeers } from '../peers';
import { Steward } from '../steward';

const STATE_BYTES = 1024 * 1024 * 1024;
const CALLS = 2000;
const EVERY_MS = 1;

export const fastLanes: readonly Benchmark[] = [
  {
    name: '9 p99 of calls while 1 GiB moves',
    reference: 'p99 of calls without a move',
    limit: { atMost: 2 },
    start: () => callsBesideMove(0.99),
  },
  {
    name: '9 median call while 1 GiB moves',
    reference: 'median call without a move',
    limit: null,
    start: () => callsBesideMove(0.5),
  },
];

async function callsBesideMove(q: number): Promise<Line> {
  const { runtime, peers, end } = await startPeers(1);
  const [peer] = peers;
  if (peer === undefined) throw new Error('there is no peer');
  const state = Buffer.alloc(STATE_BYTES, 'state');
  // No two parts of it are the same, so none can take the place of another.
  for (let at = 0; at < STATE_BYTES; at += 1024) state.writeUInt32LE(at, at);
  const digest = Holder.digestOf(state);

  const callAt = async (start: number): Promise<number> => {
    checkEcho(await runtime.call(peer.echo, PAYLOAD));
    return (performance.now() - start) * 1000;
  };
  /** How long the calls take that are due until it is over. */
  const calls = async (over: (made: number) => boolean): Promise<number[]> => {
    const made: Promise<number>[] = [];
    for (let due = performance.now(); !over(made.length); due += EVERY_MS) {
      const early = due - performance.now();
      if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
      // Timers are a little late; what a stall of this process holds back is late by whole calls.
      const now = performance.now();
      const call = callAt(now - due < EVERY_MS ? now : due);
      // Told below.
      call.catch(() => undefined);
      made.push(call);
    }
    return Promise.all(made);
  };
  const slow = (times: number[]): number =>
    quantile(
      times.sort((a, b) => a - b),
      q,
    );

  return {
    unit: 'µs',
    end,
    round: async () => {
      const quiet = await calls((made) => made === CALLS);

      const config = { kind: Holder.kind };
      const { originHash } = await runtime.spawnWithDaemon(Identity.generate(), new Holder(state), config);
      const over = new AbortController();
      const move = runtime
        .migrate(originHash, peer.nodeId)
        .then((handle) => handle.wait())
        .finally(() => {
          over.abort();
        });
      const busy = await calls(() => over.signal.aborted);
      await move;
      check(busy.length > 100, 'there were calls during the move');
      const [arrived] = await runtime.call(originHash, Holder.DIGEST);
      check(String(arrived) === digest, 'what arrived is what was sent');
      await runtime.call(peer.steward, Steward.stop(originHash));
      return { ours: slow(busy), reference: slow(quiet) };
    },
  };
}
