// Starts other processes and joins them to a mesh with this one.

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DaemonRuntime, MeshNode } from 'mesh-daemon';
import { Holder } from './holder';

/** What a peer process prints (64-bit numbers as strings). */
export interface PeerCard {
  addr: string;
  nodeId: string;
  echo: string;
  steward: string;
  netPort: number;
  wsPort: number;
  noisePort: number;
}

/** Another process, connected. */
export interface Peer {
  nodeId: bigint;
  echo: bigint;
  steward: bigint;
  netPort: number;
  wsPort: number;
  noisePort: number;
}

export interface Mesh {
  runtime: DaemonRuntime;
  peers: Peer[];
  end: () => Promise<void>;
}

/** A node in this process and `count` others in processes of their own, all connected to each other. */
export async function startPeers(count: number): Promise<Mesh> {
  const psk = randomBytes(32).toString('hex');
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
  const runtime = DaemonRuntime.create(mesh);
  runtime.registerFactory(Holder.kind, () => new Holder());
  await mesh.start();
  runtime.start();

  const processes = Array.from({ length: count }, () => startProcess(psk));
  const cards: PeerCard[] = [];
  for (const { next, say } of processes) {
    const card = JSON.parse(await next()) as PeerCard;
    await mesh.connect(card.addr);
    for (const { addr } of cards) {
      say(addr);
      await next();
    }
    cards.push(card);
  }
  return {
    runtime,
    peers: cards.map((card) => ({
      ...card,
      nodeId: BigInt(card.nodeId),
      echo: BigInt(card.echo),
      steward: BigInt(card.steward),
    })),
    end: async () => {
      await Promise.all(processes.map(({ end }) => end()));
      await runtime.shutdown();
      await mesh.shutdown();
    },
  };
}

function startProcess(psk: string) {
  const child = spawn(process.execPath, [join(__dirname, 'peer.js')], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const say = (line: string): void => void child.stdin.write(`${line}\n`);
  say(psk);
  return {
    say,
    next: async (): Promise<string> => {
      const line = await lines.next();
      if (line.done === true) throw new Error('a peer process ended');
      return line.value;
    },
    end: async (): Promise<void> => {
      const gone = once(child, 'exit');
      child.stdin.end();
      await gone;
    },
  };
}
