// A chat room, two or more processes. The first one opens the room and prints how others come in:
//
//   npm run build && npm run build:programs
//   node build/examples/chat/main.js ALICE
//   CHAT_PSK=… node build/examples/chat/main.js BOB 127.0.0.1:PORT ROOM

import { randomBytes } from 'node:crypto';
import { createInterface } from 'node:readline';
import { DaemonRuntime, Identity, MeshNode, type MeshDaemon } from 'mesh-daemon';
import { decode, encode, type ToMember } from './messages';
import { Room } from './room';

async function main([name = 'somebody', addr, room]: string[]): Promise<void> {
  const psk = process.env.CHAT_PSK || randomBytes(32).toString('hex');
  // Whatever happens, the node says goodbye; without that it would keep the process alive. On Ctrl-C `exit` does.
  process.once('SIGINT', () => process.exit(130));
  await using mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
  await using runtime = DaemonRuntime.create(mesh);
  await mesh.start();
  runtime.start();
  if (addr !== undefined) await mesh.connect(addr);
  const origin = room === undefined ? await openRoom(mesh, runtime, psk) : BigInt(room);

  const me: MeshDaemon = {
    process: ({ payload }) => {
      console.log((decode(payload) as ToMember).line);
    },
  };
  const { originHash } = await runtime.spawnWithDaemon(Identity.generate(), me);
  await runtime.call(origin, encode({ type: 'join', name, member: String(originHash) }));
  for await (const text of createInterface({ input: process.stdin })) {
    await runtime.call(origin, encode({ type: 'say', name, text }));
  }
}

async function openRoom(mesh: MeshNode, runtime: DaemonRuntime, psk: string): Promise<bigint> {
  const { originHash } = await runtime.spawnWithDaemon(Identity.generate(), new Room());
  console.log(`CHAT_PSK=${psk} node ${process.argv[1] ?? ''} NAME ${mesh.localAddr()} ${originHash}`);
  return originHash;
}

main(process.argv.slice(2)).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
