// The part of the two child processes: a node of the mesh that hosts the word counter while it is here.
//
// Standard input and output carry only what is needed to meet on the mesh (see hosts.ts). A host lives until its input
// ends, and that happens too when the first process dies, however it dies.

import { createInterface } from 'node:readline';
import { DaemonRuntime, Identity, MeshNode } from 'mesh-daemon';
import type { Hello, HostCard, Sibling } from './hosts';
import { WordCount } from './word-count';

/** Joins a mesh as one of the two hosts; with `withCounter`, the word counter starts its life here. */
export async function runHost(withCounter: boolean): Promise<void> {
  // Ctrl-C reaches all processes of a terminal. The first one decides and then closes our input.
  process.on('SIGINT', () => undefined);

  const input = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const hello = await input.next();
  if (hello.done === true) return;
  const { psk, lead } = JSON.parse(hello.value) as Hello;

  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
  try {
    // The other host, once it is known.
    let sibling = 0n;
    const runtime = DaemonRuntime.create(mesh, {
      // Only word counters, and only from the other host.
      acceptMigrations: ({ kind, sourceNode }) => kind === WordCount.kind && sourceNode === sibling,
      // The first process may move what lives here.
      orchestrators: [BigInt(lead)],
    });
    runtime.registerFactory(WordCount.kind, () => new WordCount());
    await mesh.start();
    runtime.start();

    const counter = withCounter ? await runtime.spawn(WordCount.kind, Identity.generate()) : undefined;
    print({
      addr: mesh.localAddr(),
      publicKey: mesh.publicKey(),
      nodeId: String(mesh.nodeId()),
      ...(counter && { counter: String(counter.originHash) }),
    } satisfies HostCard);

    const second = await input.next();
    if (second.done === true) return;
    const { addr, publicKey } = JSON.parse(second.value) as Sibling;
    sibling = await mesh.connect(addr, publicKey);
    print('ready');

    // Nothing else to do: daemons work when events come. The input ends when the demo is over.
    await input.next();
    await runtime.shutdown();
  } finally {
    await mesh.shutdown();
  }
}

function print(line: unknown): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
