// Another process: a mesh node with daemons, and beside it the plain servers that ours is compared with.
//
// The pre-shared key is its argument. It prints one line of JSON (see peers.ts), then does what it is told.

import { createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { DaemonRuntime, Identity, MeshNode } from 'mesh-daemon';
import { WebSocketServer } from 'ws';
import { obey, run } from './child';
import { Holder } from './holder';
import { Echo } from './local';
import { answerNats } from './nats';
import type { PeerCard } from './peers';
import { reference } from './reference';
import { Steward } from './steward';

async function main(psk: string): Promise<void> {
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
  const runtime = DaemonRuntime.create(mesh, { acceptMigrations: true });
  runtime.registerFactory(Holder.kind, () => new Holder());
  await mesh.start();
  runtime.start();
  const echo = await runtime.spawnWithDaemon(Identity.generate(), new Echo());
  const steward = await runtime.spawnWithDaemon(Identity.generate(), new Steward(runtime));
  const card: PeerCard = {
    addr: mesh.localAddr(),
    nodeId: String(mesh.nodeId()),
    echo: String(echo.originHash),
    steward: String(steward.originHash),
    netPort: await netEcho(),
    wsPort: await webSockets(),
    noisePort: reference.noiseSink(),
  };
  console.log(JSON.stringify(card));

  await obey(async (line) => {
    const [order, address = ''] = line.split(' ');
    if (order === 'connect') await mesh.connect(address);
    else await answerNats(address);
    return 'done';
  });
}

async function netEcho(): Promise<number> {
  const server = createServer({ noDelay: true }, (socket) => socket.on('error', () => undefined).pipe(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** Echoes; on the path `/sink` it only counts, and answers a text with the count. */
async function webSockets(): Promise<number> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
  server.on('connection', (socket, request) => {
    let count = 0;
    socket.on('message', (data: Buffer, binary) => {
      if (request.url !== '/sink') socket.send(data);
      else if (binary) count += 1;
      else socket.send(String(count));
    });
  });
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

run(() => main(process.argv[2] ?? ''));
