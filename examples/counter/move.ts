// Moves a counter from one node to another. README.md shows the middle of this file; both nodes live in this process
// for brevity, the demo has processes.
//
//   npm run build && npm run build:programs && node build/examples/counter/move.js

import { Identity } from 'mesh-daemon';
import { startNode } from './counter';

async function main(): Promise<void> {
  const psk = '42'.repeat(32);
  const [a, b] = await Promise.all([startNode(psk), startNode(psk)]);
  try {
    await a.mesh.connect(b.mesh.localAddr());
    const counter = await a.runtime.spawn('counter', Identity.generate());
    await a.runtime.call(counter.originHash, Buffer.from('40'));

    const move = await a.runtime.migrate(counter.originHash, b.mesh.nodeId());
    for await (const phase of move.phases()) console.log(phase);
    await move.wait();

    const [total] = await a.runtime.call(counter.originHash, Buffer.from('2'));
    console.log(`${total?.toString() ?? ''}, counted by the other node`);

    console.log(`daemons on a: ${a.runtime.daemonCount()}, on b: ${b.runtime.daemonCount()}`);
  } finally {
    await Promise.all([a, b].map(({ runtime }) => runtime.shutdown()));
    await Promise.all([a, b].map(({ mesh }) => mesh.shutdown()));
  }
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
