// Budget 13: how often an idle node with 1 000 daemons and 10 sessions wakes up, compared with one that has the sessions
// only, whose heartbeats are all there is to do. Both are processes of their own and are watched at the same time.

import { randomBytes } from 'node:crypto';
import { DaemonRuntime, Identity, MeshNode } from 'mesh-daemon';
import { obey, run, startChild, type Child } from '../child';
import { check, type Benchmark } from '../measure';
import { Echo } from '../local';

const DAEMONS = 1000;
const SESSIONS = 10;
const WINDOW_MS = 10_000;
/** Until what the start left behind is over: garbage, tasks of the runtime below. */
const SETTLE_MS = 3000;

export const idle: Benchmark = {
  name: '13 wake-ups of an idle node, 1 000 daemons',
  reference: 'the same sessions without daemons',
  limit: { atMost: 1.2 },
  start: async () => {
    const psk = randomBytes(32).toString('hex');
    const peers = await Promise.all(
      Array.from({ length: SESSIONS }, () => MeshNode.create({ bindAddr: '127.0.0.1:0', psk })),
    );
    await Promise.all(peers.map((peer) => peer.start()));
    const [hosting, bare] = [startChild(__filename, psk, String(DAEMONS)), startChild(__filename, psk, '0')];
    for (const { next } of [hosting, bare]) {
      const addr = await next();
      for (const peer of peers) await peer.connect(addr);
    }
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    return {
      unit: '1/s',
      round: async () => {
        const [ours, reference] = await Promise.all([wakeUps(hosting), wakeUps(bare)]);
        check(reference > 0, 'the sessions have heartbeats');
        return { ours, reference };
      },
      end: async () => {
        await Promise.all([hosting.end(), bare.end(), ...peers.map((peer) => peer.shutdown())]);
      },
    };
  },
};

async function wakeUps({ ask }: Child): Promise<number> {
  return Number(await ask(''));
}

/** Prints its address, then for each line that it is given how often per second it woke up. */
async function beIdle(psk: string, daemons: number): Promise<void> {
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
  const runtime = DaemonRuntime.create(mesh);
  await mesh.start();
  runtime.start();
  for (let i = 0; i < daemons; i += 1) await runtime.spawnWithDaemon(Identity.generate(), new Echo());
  console.log(mesh.localAddr());
  await obey(async () => {
    const before = process.resourceUsage().voluntaryContextSwitches;
    await new Promise((resolve) => setTimeout(resolve, WINDOW_MS));
    return String((1000 * (process.resourceUsage().voluntaryContextSwitches - before)) / WINDOW_MS);
  });
}

if (require.main === module) run(() => beIdle(process.argv[2] ?? '', Number(process.argv[3])));
