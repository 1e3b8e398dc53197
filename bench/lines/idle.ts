// Budget 13: how often an idle node with 1 000 daemons and 10 sessions wakes up, compared with one that has the sessions
// only, whose heartbeats are all there is to do. Both are processes of their own and are watched at the same time.

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { DaemonRuntime, Identity, MeshNode } from 'mesh-daemon';
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
    const hosting = startNode(psk, DAEMONS);
    const bare = startNode(psk, 0);
    for (const { ready } of [hosting, bare]) {
      const addr = await ready;
      for (const peer of peers) await peer.connect(addr);
    }
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    return {
      unit: '1/s',
      round: async () => {
        const [ours, reference] = await Promise.all([hosting.watch(), bare.watch()]);
        check(reference > 0, 'the sessions have heartbeats');
        return { ours, reference };
      },
      end: async () => {
        await Promise.all([hosting.end(), bare.end(), ...peers.map((peer) => peer.shutdown())]);
      },
    };
  },
};

function startNode(psk: string, daemons: number) {
  const child = spawn(process.execPath, [__filename, psk, String(daemons)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => String((await lines.next()).value);
  return {
    ready: next(),
    watch: async (): Promise<number> => {
      child.stdin.write('\n');
      return Number(await next());
    },
    end: async (): Promise<void> => {
      child.stdin.end();
      await once(child, 'exit');
    },
  };
}

/** Prints its address, then for each line that it is given how often per second it woke up. */
async function beIdle(psk: string, daemons: number): Promise<void> {
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
  const runtime = DaemonRuntime.create(mesh);
  await mesh.start();
  runtime.start();
  for (let i = 0; i < daemons; i += 1) await runtime.spawnWithDaemon(Identity.generate(), new Echo());
  console.log(mesh.localAddr());
  for await (const line of createInterface({ input: process.stdin })) {
    check(line === '', 'only empty lines are sent');
    const before = process.resourceUsage().voluntaryContextSwitches;
    await new Promise((resolve) => setTimeout(resolve, WINDOW_MS));
    console.log((1000 * (process.resourceUsage().voluntaryContextSwitches - before)) / WINDOW_MS);
  }
  process.exit();
}

if (require.main === module) {
  beIdle(process.argv[2] ?? '', Number(process.argv[3])).catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
}
