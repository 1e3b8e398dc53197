// The smallest daemon: answers every event with its payload.
//
//   npm run build && npm run build:programs && node build/examples/echo/main.js

import { DaemonRuntime, Identity, MeshNode, type MeshDaemon } from 'mesh-daemon';

/** Any object with a `process` method is a daemon. */
const echo: MeshDaemon = { process: ({ payload }) => payload };

async function main(): Promise<void> {
  await using mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: '42'.repeat(32) });
  await using runtime = DaemonRuntime.create(mesh);
  runtime.start();

  const daemon = await runtime.spawnWithDaemon(Identity.generate(), echo);
  const [answer] = await daemon.call(Buffer.from('Is anybody there?'));
  console.log(answer?.toString());
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
