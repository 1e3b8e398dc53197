// Counts, takes a snapshot, stops the daemon, and goes on from the snapshot.
//
//   npm run build && npm run build:programs && node build/examples/counter/main.js

import { Identity } from 'mesh-daemon';
import { startNode } from './counter';

async function main(): Promise<void> {
  const { mesh, runtime } = await startNode('42'.repeat(32));
  try {
    const identity = Identity.generate();
    const counter = await runtime.spawn('counter', identity);
    for (const amount of ['1', '20', '300']) {
      const [total] = await counter.call(Buffer.from(amount));
      console.log(`+ ${amount} = ${total?.toString() ?? ''}`);
    }

    const snapshot = await counter.snapshot();
    await counter.stop();
    if (snapshot === null) throw new Error('a counter has state');
    console.log(`stopped with a snapshot; ${runtime.daemonCount()} daemons live here`);

    // The same identity, so the same address.
    const again = await runtime.spawnFromSnapshot('counter', identity, snapshot);
    const [total] = await again.call(Buffer.from('4000'));
    console.log(`restored, + 4000 = ${total?.toString() ?? ''}`);
  } finally {
    await runtime.shutdown();
    await mesh.shutdown();
  }
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
