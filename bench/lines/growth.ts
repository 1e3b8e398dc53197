// Budget 14: an event costs the same among many daemons as among few, and on a node with many sessions as with one. The
// events go to the same few daemons on both sides: it is the tables that grow, not what fits the processor's caches.

import { randomBytes } from 'node:crypto';
import { DaemonRuntime, Identity, MeshNode } from 'mesh-daemon';
import { obey, run, startChild } from '../child';
import { times, type Benchmark, type Work } from '../measure';
import { Echo, PAYLOAD, checkEcho, local, type Local } from '../local';

const FEW = 10;
const DAEMONS = 100_000;
const NODES = 64;

export const growthDaemons: Benchmark = {
  name: '14 deliver among 100 000 daemons',
  reference: 'among 10',
  limit: { atMost: 1.3 },
  start: async () => {
    const [large, small] = [await local(), await local()];
    const line = await times(await deliverAmong(large, DAEMONS), await deliverAmong(small, FEW));
    return {
      ...line,
      end: async () => {
        await large.end();
        await small.end();
      },
    };
  },
};

async function deliverAmong({ runtime }: Local, daemons: number): Promise<Work> {
  const origins: bigint[] = [];
  for (let i = 0; i < daemons; i += 1) {
    const { originHash } = await runtime.spawnWithDaemon(Identity.generate(), new Echo());
    if (i % (daemons / FEW) === 0) origins.push(originHash);
  }
  const event = { originHash: 1n, sequence: 1n, payload: PAYLOAD };
  return async (n) => {
    for (let i = 0; i < n; i += 1) checkEcho(await runtime.deliver(origins[i % FEW] ?? 0n, event));
  };
}

export const growthNodes: Benchmark = {
  name: '14 calls to 64 nodes in turn',
  reference: 'to the only one',
  limit: { atMost: 1.3 },
  start: async () => {
    const psk = randomBytes(32).toString('hex');
    const child = startChild(__filename, psk);
    const peers = JSON.parse(await child.next()) as Card[];
    const [large, small] = [await connected(psk, peers), await connected(psk, peers.slice(0, 1))];
    const line = await times(large.work, small.work);
    return {
      ...line,
      end: async () => {
        await Promise.all([large.end(), small.end()]);
        await child.end();
      },
    };
  },
};

interface Card {
  addr: string;
  echo: string;
}

async function connected(psk: string, peers: Card[]): Promise<{ work: Work; end: () => Promise<void> }> {
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
  const runtime = DaemonRuntime.create(mesh);
  await mesh.start();
  runtime.start();
  for (const { addr } of peers) await mesh.connect(addr);
  const echoes = peers.map(({ echo }) => BigInt(echo));
  let turn = 0;
  return {
    work: async (n) => {
      for (let i = 0; i < n; i += 1) {
        turn = (turn + 1) % echoes.length;
        checkEcho(await runtime.call(echoes[turn] ?? 0n, PAYLOAD));
      }
    },
    end: async () => {
      await runtime.shutdown();
      await mesh.shutdown();
    },
  };
}

async function beMany(psk: string): Promise<void> {
  const cards: Card[] = [];
  for (let i = 0; i < NODES; i += 1) {
    const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
    const runtime = DaemonRuntime.create(mesh);
    await mesh.start();
    runtime.start();
    const { originHash } = await runtime.spawnWithDaemon(Identity.generate(), new Echo());
    cards.push({ addr: mesh.localAddr(), echo: String(originHash) });
  }
  console.log(JSON.stringify(cards));
  await obey((order) => Promise.reject(new Error(`nobody gives orders here: ${order}`)));
}

if (require.main === module) run(() => beMany(process.argv[2] ?? ''));
