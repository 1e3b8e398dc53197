// Budgets 4, 5 and 6: `call` and `send` to a daemon in another process, 64 bytes.

import { check, rates, times, type Benchmark, type Line } from '../measure';
import { PAYLOAD, checkEcho } from '../local';
import { startPeers, type Mesh, type Peer } from '../peers';
import { netClient, webSocketClient, webSocketSink } from '../sockets';

const OUTSTANDING = 1000;
const MANY = Array.from({ length: OUTSTANDING }, () => PAYLOAD);

export const call: Benchmark = {
  name: '4 call to another process, one by one',
  reference: 'node:net echo between the same processes',
  limit: { atMost: 2 },
  start: () =>
    withPeer(async ({ runtime }, peer) => {
      const net = await netClient(peer.netPort);
      const line = await times(
        async (n) => {
          for (let i = 0; i < n; i += 1) checkEcho(await runtime.call(peer.echo, PAYLOAD));
        },
        async (n) => {
          for (let i = 0; i < n; i += 1) await net.echo(PAYLOAD, 1);
        },
      );
      return [line, net];
    }),
};

export const callOutstanding: Benchmark = {
  name: '5 call to another process, 1 000 outstanding',
  reference: 'ws echo between the same processes',
  limit: { atLeast: 5 },
  start: () =>
    withPeer(async ({ runtime }, peer) => {
      const ws = await webSocketClient(peer.wsPort);
      const line = await rates(
        async (n) => {
          for (let i = 0; i < n; i += 1) {
            (await Promise.all(MANY.map((payload) => runtime.call(peer.echo, payload)))).forEach(checkEcho);
          }
        },
        async (n) => {
          for (let i = 0; i < n; i += 1) await ws.echo(PAYLOAD, OUTSTANDING);
        },
        '1000/s',
      );
      return [line, ws];
    }),
};

export const sendOneWay: Benchmark = {
  name: '6 send to another process, 1 000 outstanding',
  reference: 'ws, one way, one answer per 1 000',
  limit: { atLeast: 10 },
  start: () =>
    withPeer(async ({ runtime }, peer) => {
      const ws = await webSocketSink(peer.wsPort);
      const line = await rates(
        async (n) => {
          for (let i = 0; i < n; i += 1) {
            // Each promise resolves when the other process has the event in the daemon's mailbox.
            const sent = await Promise.all(MANY.map((payload) => runtime.send(peer.echo, payload)));
            check(sent.length === OUTSTANDING, 'every event was sent');
          }
        },
        async (n) => {
          for (let i = 0; i < n; i += 1) await ws.sink(PAYLOAD, OUTSTANDING);
        },
        '1000/s',
      );
      return [line, ws];
    }),
};

async function withPeer(start: (mesh: Mesh, peer: Peer) => Promise<[Line, client: { end(): void }]>): Promise<Line> {
  const mesh = await startPeers(1);
  const [peer] = mesh.peers;
  if (peer === undefined) throw new Error('there is no peer');
  const [line, client] = await start(mesh, peer);
  return {
    ...line,
    end: async () => {
      client.end();
      await mesh.end();
    },
  };
}
