// Starts other processes and joins them to a mesh with this one.

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { DaemonRuntime, MeshNode } from 'mesh-daemon';
import { startChild } from './child';
import { Holder } from './holder';
import { check } from './measure';

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
  /** Has it answer at a nats-server. */
  answerNats: (address: string) => Promise<void>;
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

  const children = Array.from({ length: count }, () => startChild(join(__dirname, 'peer.js'), psk));
  const peers: Peer[] = [];
  const addresses: string[] = [];
  for (const { next, ask } of children) {
    const { addr, ...card } = JSON.parse(await next()) as PeerCard;
    const told = async (order: string): Promise<void> => {
      check((await ask(order)) === 'done', 'a peer did what it was told');
    };
    await mesh.connect(addr);
    for (const address of addresses) await told(`connect ${address}`);
    addresses.push(addr);
    peers.push({
      ...card,
      nodeId: BigInt(card.nodeId),
      echo: BigInt(card.echo),
      steward: BigInt(card.steward),
      answerNats: (address) => told(`nats ${address}`),
    });
  }
  return {
    runtime,
    peers,
    end: async () => {
      await Promise.all(children.map(({ end }) => end()));
      await runtime.shutdown();
      await mesh.shutdown();
    },
  };
}
