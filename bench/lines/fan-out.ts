// Messages of 64 bytes on a channel, to subscribers that each have a connection of their own, all in one other process. A
// burst of messages is over when every subscriber has had all of it; of a reliable one, also when each has acknowledged it,
// which nothing in the references does.

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { MeshNode, type PublishOptions } from 'mesh-daemon';
import { WebSocketServer } from 'ws';
import { CHANNEL } from '../audience';
import { startChild, type Child } from '../child';
import { PAYLOAD } from '../local';
import { check, rates, type Benchmark } from '../measure';
import { natsConnection, natsMissing, startNats } from '../nats';

/** Deliveries that make a burst, and most messages of one: a reader keeps more than those unread. */
const DELIVERIES = 10_000;
const MOST_MESSAGES = 500;

/** Who sends bursts to an audience. */
interface Publisher {
  burst: () => Promise<void>;
  end: () => Promise<void>;
}

/** Who listens to one burst after another. */
interface Audience {
  child: Child;
  subscribers: number;
  /** Messages in a burst. */
  messages: number;
}

type Publishes = (audience: Audience) => Promise<Publisher>;

type Reliability = NonNullable<PublishOptions['reliability']>;

export const fanOuts: readonly Benchmark[] = (['fire_and_forget', 'reliable'] as const).flatMap((reliability) =>
  [1, 10, 100].flatMap((subscribers) => [
    fanOut(subscribers, reliability, 'ws, to as many connections', throughWebSockets),
    { ...fanOut(subscribers, reliability, 'nats, to as many connections', throughNats), missing: natsMissing },
  ]),
);

function fanOut(subscribers: number, reliability: Reliability, reference: string, baseline: Publishes): Benchmark {
  return {
    name: `17 channel, ${reliability === 'reliable' ? 'reliable, ' : ''}fan-out to ${subscribers}`,
    reference,
    limit: null,
    start: async () => {
      const child = startChild(join(__dirname, '..', 'audience.js'));
      const messages = Math.min(MOST_MESSAGES, DELIVERIES / subscribers);
      const audience: Audience = { child, subscribers, messages };
      const ours = await throughMesh(audience, reliability);
      const theirs = await baseline(audience);
      const bursts =
        ({ burst }: Publisher) =>
        async (n: number): Promise<void> => {
          for (let i = 0; i < n; i += 1) {
            await burst();
            check((await child.next()) === 'all', 'every subscriber had every message');
          }
        };
      const { round } = await rates(bursts(ours), bursts(theirs));
      return {
        unit: 'messages/s',
        round: async () => {
          const sample = await round();
          return { ours: messages * sample.ours, reference: messages * sample.reference };
        },
        end: async () => {
          await child.end();
          await ours.end();
          await theirs.end();
        },
      };
    },
  };
}

async function throughMesh(audience: Audience, reliability: Reliability): Promise<Publisher> {
  const psk = randomBytes(32).toString('hex');
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
  mesh.registerChannel({ name: CHANNEL });
  await mesh.start();
  await subscribe(audience, 'mesh', `${psk} ${mesh.localAddr()}`);
  return {
    burst: async () => {
      const reports = await Promise.all(
        Array.from({ length: audience.messages }, () => mesh.publish(CHANNEL, PAYLOAD, { reliability })),
      );
      const took =
        reliability === 'reliable' ? 'every subscriber acknowledged the message' : 'every session took the message';
      for (const { delivered, errors } of reports) {
        check(delivered === audience.subscribers && errors.length === 0, took);
      }
    },
    end: () => mesh.shutdown(),
  };
}

async function throughWebSockets(audience: Audience): Promise<Publisher> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
  await once(server, 'listening');
  await subscribe(audience, 'ws', String((server.address() as AddressInfo).port));
  check(server.clients.size === audience.subscribers, 'every subscriber is connected');
  return {
    burst: () => {
      for (let i = 0; i < audience.messages; i += 1) for (const client of server.clients) client.send(PAYLOAD);
      return Promise.resolve();
    },
    end: async () => {
      server.close();
      await once(server, 'close');
    },
  };
}

async function throughNats(audience: Audience): Promise<Publisher> {
  const server = await startNats();
  const connection = await natsConnection(server.address);
  await subscribe(audience, 'nats', server.address);
  return {
    burst: () => {
      for (let i = 0; i < audience.messages; i += 1) connection.publish(CHANNEL, PAYLOAD);
      return Promise.resolve();
    },
    end: async () => {
      await connection.close();
      await server.end();
    },
  };
}

async function subscribe({ child, subscribers, messages }: Audience, how: string, where: string): Promise<void> {
  check((await child.ask(`${how} ${subscribers} ${messages} ${where}`)) === 'subscribed', 'the audience is there');
}
