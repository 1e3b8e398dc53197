// Another process with many subscribers, each with a connection of its own: nodes, clients of a `ws` server, or of NATS.
//
// It is told which, and says whenever all of them have had a burst of messages.

import { once } from 'node:events';
import { MeshNode } from 'mesh-daemon';
import WebSocket from 'ws';
import { obey, run } from './child';
import { natsConnection } from './nats';

export const CHANNEL = 'news';

type Hears = () => void;

async function joinMesh(psk: string, addr: string, count: number, hears: Hears): Promise<void> {
  for (let i = 0; i < count; i += 1) {
    const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
    await mesh.start();
    const publisher = await mesh.connect(addr);
    const messages = mesh.messages(publisher, CHANNEL);
    await messages.ready;
    void (async () => {
      for await (const message of messages) if (message.payload.length > 0) hears();
    })();
  }
}

async function openSockets(port: string, count: number, hears: Hears): Promise<void> {
  for (let i = 0; i < count; i += 1) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}`, { perMessageDeflate: false });
    await once(socket, 'open');
    socket.on('message', (data: Buffer) => {
      if (data.length > 0) hears();
    });
  }
}

async function subscribeNats(address: string, count: number, hears: Hears): Promise<void> {
  for (let i = 0; i < count; i += 1) {
    const connection = await natsConnection(address);
    connection.subscribe(CHANNEL, {
      callback: (_, { data }) => {
        if (data.length > 0) hears();
      },
    });
    await connection.flush();
  }
}

/** Orders: `mesh COUNT BURST PSK ADDR`, `ws COUNT BURST PORT`, `nats COUNT BURST ADDRESS`; answered when all are subscribed. */
async function main(): Promise<void> {
  await obey(async (line) => {
    const [order, number, burst, first = '', second = ''] = line.split(' ');
    const count = Number(number);
    const all = count * Number(burst);
    let heard = 0;
    const hears = (): void => {
      heard += 1;
      if (heard % all === 0) console.log('all');
    };
    if (order === 'mesh') await joinMesh(first, second, count, hears);
    else if (order === 'ws') await openSockets(first, count, hears);
    else await subscribeNats(first, count, hears);
    return 'subscribed';
  });
}

if (require.main === module) run(main);
