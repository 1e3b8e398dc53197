// Another process with many subscribers, each with a connection of its own: nodes, clients of a `ws` server, or of NATS.
//
// It is told which, and says when all of them have had as many messages as one burst has.

import { once } from 'node:events';
import { MeshNode } from 'mesh-daemon';
import WebSocket from 'ws';
import { obey, run } from './child';
import { natsConnection } from './nats';

/** Messages that are published before all subscribers are waited for: a reader keeps as many unread ones. */
export const BURST = 500;
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

/** Orders: `mesh COUNT PSK ADDR`, `ws COUNT PORT`, `nats COUNT ADDRESS`; answered when all are subscribed. */
async function main(): Promise<void> {
  await obey(async (line) => {
    const [order, number, first = '', second = ''] = line.split(' ');
    const count = Number(number);
    let heard = 0;
    const hears = (): void => {
      heard += 1;
      if (heard % (count * BURST) === 0) console.log('all');
    };
    if (order === 'mesh') await joinMesh(first, second, count, hears);
    else if (order === 'ws') await openSockets(first, count, hears);
    else await subscribeNats(first, count, hears);
    return 'subscribed';
  });
}

if (require.main === module) run(main);
